"""A small head run for a few steps, and its results compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from partial_fc import Margin, PartialFC

DIM = 16


Result = tuple[list[float], Tensor, Tensor]


def data(images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, DIM, generator=generator) * 4
    return x, torch.randint(-1, classes, (images,), generator=generator)


def run(
    margin: Margin, classes: int, x: Tensor, y: Tensor, steps: int = 2, parts: int = 1, **options: Any
) -> Result:
    """Losses, embedding gradient of the last step, centres after it."""
    head = PartialFC(classes, DIM, margin, seed=1, **options)
    head.local_weight.mul_(10)
    losses = []
    gradient = torch.zeros_like(x)
    for _ in range(steps):
        own = x.clone().requires_grad_()
        for part in torch.arange(len(x)).chunk(parts):
            loss = head(own[part], y[part])
            (loss / parts).backward()
            losses.append(loss.item())
        head.step(0.1)
        assert own.grad is not None
        gradient = own.grad
    return losses, gradient, head.local_weight


def assert_like(found: Result, expected: Result) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert ((one - other).norm() / other.norm()).item() < 1e-4
