"""Which classes take part in a step: the batch's own and a uniform sample of the others.

An et al., "Killing Two Birds with One Stone", CVPR 2022. A class that is not drawn keeps its centre, its
momentum and its decay bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from partial_fc.batch import Shard
from partial_fc.hashing import hash_pair

_ROUNDS = 6
_POSITIVE = (1 << 62) - 1


def sample_classes(shard: Shard, own: Tensor, rate: float, seed: int, step: int) -> Tensor | None:
    """The classes of the shard that take part, ascending int64 [S]; None for all of them.

    own: [T] int64, the batch's own classes, counted from the shard's first. `rate` of the rank's classes in
    all, the batch's own first; the others are the first of a permutation that (seed, step) and the shard's
    first class choose, so that a step draws the same classes whenever it is run again, at a cost in
    proportion to what is drawn.
    """
    count = shard.num_classes
    if rate >= 1 or count == 0:
        return None
    own = torch.unique(own)
    drawn = max(round(rate * count), 1, own.numel())
    # Of the first `drawn` places at most all of `own` are its own, and as many others come after them.
    places = torch.arange(min(drawn, count), device=shard.weight.device)
    others = permuted(places, count, seed, step, shard.first)
    others = others[torch.isin(others, own, invert=True)][: drawn - own.numel()]
    return torch.cat((own, others)).sort().values


def permuted(places: Tensor, count: int, seed: int, step: int, key: int) -> Tensor:
    """places: int64 within [0, count). Where a permutation of [0, count) chosen by the rest takes them.

    A Feistel network over the next power of 4: each round adds a hash of one half to the other, which can be
    undone, so it is one to one; what falls beyond `count` goes round again until it does not.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    result = places.clone()
    beyond = torch.arange(places.numel(), device=places.device)
    while beyond.numel():
        value = result[beyond]
        left, right = value >> half, value & mask
        for number in range(_ROUNDS):
            mixed = hash_pair(seed ^ (key * 0x9E3779B1 & _POSITIVE), step * _ROUNDS + number, right)
            left, right = right, (left ^ (mixed >> 20)) & mask
        value = (left << half) | right
        result[beyond] = value
        beyond = beyond[value >= count]
    return result
