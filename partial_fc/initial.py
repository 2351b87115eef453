"""First class centres: a class's centre depends on (seed, class) alone, never on the number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from partial_fc.hashing import hash_pair, normal_pair


def fill_initial_centres(out: Tensor, first: int, seed: int, std: float, tile: int = 128) -> None:
    """Fill `out` [centres, dim] float with N(0, std²) for the centres of all ranks from `first` on, in place.

    One hash of (seed, class, pair) gives two uniform numbers and, by Box and Muller, two normal ones.
    """
    dim = out.shape[1]
    pairs = torch.arange((dim + 1) // 2, device=out.device)
    for start in range(0, out.shape[0], tile):
        rows = out[start : start + tile]
        classes = torch.arange(first + start, first + start + rows.shape[0], device=out.device)
        even, odd = normal_pair(hash_pair(seed, classes[:, None], pairs), torch.float32)
        torch.mul(even, std, out=rows[:, 0::2])
        torch.mul(odd[:, : dim // 2], std, out=rows[:, 1::2])
