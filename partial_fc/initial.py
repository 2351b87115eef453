"""First class centres: a class's centre depends on (seed, class) alone, never on the number of ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer: splitmix64's increment
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(bits: Tensor, count: int) -> Tensor:
    return (bits >> count) & ((1 << (64 - count)) - 1)  # torch shifts signed integers arithmetically


def _mix(bits: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014): every input bit changes every output bit."""
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    return bits ^ _shift_right(bits, 31)


def fill_initial_centres(out: Tensor, first_class: int, seed: int, std: float, tile: int = 4096) -> None:
    """Fill `out` [classes, dim] float with N(0, std²) for the classes from `first_class` on, in place.

    One hash of (seed, class, pair) gives two uniform numbers and, by Box and Muller, two normal ones.
    """
    dim = out.shape[1]
    pairs = torch.arange((dim + 1) // 2, device=out.device)
    key = _mix(torch.tensor(seed, device=out.device) * _GOLDEN + 1)
    for start in range(0, out.shape[0], tile):
        stop = min(start + tile, out.shape[0])
        classes = torch.arange(first_class + start, first_class + stop, device=out.device)
        bits = _mix(_mix(classes * _GOLDEN ^ key)[:, None] + (pairs + 1) * _GOLDEN)
        uniform = ((_shift_right(bits, 32)).double() + 0.5) / 2**32
        angle = (bits & 0xFFFFFFFF).double() * (2 * math.pi / 2**32)
        radius = torch.sqrt(-2 * torch.log(uniform)) * std
        normal = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=2)
        out[start:stop] = normal.flatten(1)[:, :dim].to(out.dtype)
