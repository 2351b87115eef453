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


def uniform_pair(bits: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two numbers of each hash: one above 0, one from 0, neither above 1."""
    first = (shift_right(bits, 32).to(dtype) + 0.5) / 2**32
    return first, (bits & 0xFFFFFFFF).to(dtype) / 2**32


def normal_pair(bits: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two independent standard normal numbers of each hash (Box and Muller 1958)."""
    first, second = uniform_pair(bits, dtype)
    radius, angle = first.log_().mul_(-2).sqrt_(), second.mul_(2 * math.pi)
    return radius * torch.cos(angle), radius * torch.sin(angle)
