"""Random bits as a function of counters: the same on every rank, in every order, without any state."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer: splitmix64's increment
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def shift_right(bits: Tensor, count: int) -> Tensor:
    """Logical shift of int64 bits; torch's own is arithmetic."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014): every input bit changes every output bit."""
    bits = (bits ^ shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ shift_right(bits, 27)) * _MIX_2
    return bits ^ shift_right(bits, 31)


def hash_pair(seed: int, first: int | Tensor, second: Tensor) -> Tensor:
    """Uniform int64 bits of (seed, first, second); `first` and `second` are broadcast."""
    key = _mix(torch.tensor(seed, device=second.device) * _GOLDEN + 1)
    if isinstance(first, int):
        first = torch.tensor(first, device=second.device)
    return _mix(_mix(first * _GOLDEN ^ key) + (second + 1) * _GOLDEN)


def uniform_pair(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Two float64 numbers of each hash: one above 0 and below 1, one from 0 and below 1."""
    return (shift_right(bits, 32).double() + 0.5) / 2**32, (bits & 0xFFFFFFFF).double() / 2**32


def normal_pair(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal float64 numbers of each hash (Box and Muller 1958)."""
    first, second = uniform_pair(bits)
    radius, angle = torch.sqrt(-2 * torch.log(first)), 2 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)
