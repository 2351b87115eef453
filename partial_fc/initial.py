"""First class centres: a class's centre depends on (seed, class) alone, never on the number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from partial_fc.hashing import hash_pair, normal_pair


def fill_initial_centres(out: Tensor, first: int, seed: int, std: float, tile: int = 512) -> None:
    """Fill `out` [centres, dim] float with N(0, std²) for the centres of all ranks from `first` on, in place.

    One hash of (seed, class, pair) gives two uniform numbers and, by Box and Muller, two normal ones.
    """
    dim = out.shape[1]
    pairs = torch.arange((dim + 1) // 2, device=out.device)
    for start in range(0, out.shape[0], tile):
        stop = min(start + tile, out.shape[0])
        classes = torch.arange(first + start, first + stop, device=out.device)
        bits = hash_pair(seed, classes[:, None], pairs)
        normal = torch.stack(normal_pair(bits), dim=2) * std
        out[start:stop] = normal.flatten(1)[:, :dim].to(out.dtype)
