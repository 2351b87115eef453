"""First class centres: a class's centre depends on (seed, class) alone, never on the number of ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from partial_fc.hashing import hash_pair, shift_right


def fill_initial_centres(out: Tensor, first_class: int, seed: int, std: float, tile: int = 4096) -> None:
    """Fill `out` [classes, dim] float with N(0, std²) for the classes from `first_class` on, in place.

    One hash of (seed, class, pair) gives two uniform numbers and, by Box and Muller, two normal ones.
    """
    dim = out.shape[1]
    pairs = torch.arange((dim + 1) // 2, device=out.device)
    for start in range(0, out.shape[0], tile):
        stop = min(start + tile, out.shape[0])
        classes = torch.arange(first_class + start, first_class + stop, device=out.device)
        bits = hash_pair(seed, classes[:, None], pairs)
        uniform = (shift_right(bits, 32).double() + 0.5) / 2**32
        angle = (bits & 0xFFFFFFFF).double() * (2 * math.pi / 2**32)
        radius = torch.sqrt(-2 * torch.log(uniform)) * std
        normal = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=2)
        out[start:stop] = normal.flatten(1)[:, :dim].to(out.dtype)
