"""Which classes take part in a step: the batch's own and a uniform sample of the others.

An et al., "Killing Two Birds with One Stone", CVPR 2022. A class that is not drawn keeps its centre, its
momentum and its decay bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from partial_fc.batch import Shard
from partial_fc.hashing import hash_pair


def sample_classes(shard: Shard, own: Tensor, rate: float, seed: int, step: int) -> Tensor | None:
    """The classes of the shard that take part, ascending int64 [S]; None for all of them.

    own: [T] int64, the batch's own classes, counted from the shard's first. `rate` of the rank's classes in
    all, the batch's own first; the others by the smallest hash of (seed, step, class), so that a step draws
    the same classes whenever it is run again.
    """
    count = shard.num_classes
    if rate >= 1 or count == 0:
        return None
    own = torch.unique(own)
    classes = torch.arange(shard.first, shard.last, device=shard.weight.device)
    keys = hash_pair(seed, step, classes)
    keys[own] = torch.iinfo(torch.int64).min
    drawn = max(round(rate * count), 1, own.numel())
    return torch.topk(keys, drawn, largest=False, sorted=False).indices.sort().values
