"""First weights from a generator of their own: the same on every rank, whatever else drew numbers before."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def normal(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """Fill with normal numbers of this standard deviation."""
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) * std)


def fan_in_normal(weight: Tensor, generator: torch.Generator, slope: float = 1.0) -> None:
    """Normal numbers that keep the signal's variance through a layer and the PReLU of this slope after it.

    weight: [out, in, …]. variance = 2 / ((1 + slope²) · fan_in) (He et al. 2015); slope 1 is no PReLU.
    """
    fan_in = weight[0].numel()
    normal(weight, math.sqrt(2.0 / ((1.0 + slope**2) * fan_in)), generator)


def constants(module: nn.Module) -> None:
    """What no generator draws: biases 0, PReLU slopes 0.25, batch norm the identity."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.reset_running_stats()
                part.weight.fill_(1.0)
                part.bias.fill_(0.0)
            elif isinstance(part, nn.PReLU):
                part.weight.fill_(0.25)
            elif isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
                part.bias.fill_(0.0)
