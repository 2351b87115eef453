"""The optimisers of the centres against torch's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from partial_fc import SGD, AdamW, CosFace, PartialFC
from tests.partial_fc.running import DIM, data


class Dense:
    """The same loss by autograd over a dense weight, and an optimiser of torch's."""

    def __init__(self, weight: Tensor, make: Any) -> None:
        self.weight = weight.clone().requires_grad_()
        self.optimiser = make([self.weight])

    def step(self, x: Tensor, y: Tensor, factor: float = 1.0) -> None:
        x, w = torch.nn.functional.normalize(x), torch.nn.functional.normalize(self.weight)
        one_hot = torch.nn.functional.one_hot(y, len(w))
        loss = torch.nn.functional.cross_entropy(32 * (x @ w.T - 0.2 * one_hot), y)
        self.optimiser.zero_grad()
        (factor * loss).backward()
        self.optimiser.step()


@pytest.mark.parametrize("workspace", [512.0, 0.0])
def test_the_optimisers_are_torchs(workspace: float) -> None:
    x, y = data(30, 3000)
    y = y.clamp_min(0)
    pairs = [
        (
            SGD(momentum=0.8, weight_decay=1e-3),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=1e-3),
        ),
        (
            AdamW(weight_decay=0.1, betas=(0.8, 0.95)),
            lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1, betas=(0.8, 0.95)),
        ),
    ]
    for optimiser, make in pairs:
        head = PartialFC(3000, DIM, CosFace(32.0, 0.2), optimiser=optimiser, workspace_mib=workspace)
        dense = Dense(head.local_weight.double(), make)
        for _ in range(4):
            (head(x.clone().requires_grad_(), y) * 8).backward()  # a loss scaler's 8, undone by the step
            head.step(0.1, gradient_scale=1 / 8)
            dense.step(x.double(), y)
        moved = dense.weight.detach() - PartialFC(3000, DIM, CosFace()).local_weight
        difference = head.local_weight - dense.weight.detach()
        # Adam divides by the root of tiny second moments: what float32 rounds is blown up there.
        assert (difference.norm() / moved.norm()).item() < (1e-5 if isinstance(optimiser, SGD) else 1e-3)


def test_a_row_limit_shortens_a_centres_gradient() -> None:
    x, y = data(30, 200)
    moved = []
    for limit in (math.inf, 1e-3):
        head = PartialFC(200, DIM, CosFace(), optimiser=SGD(0.0, limit))
        before = head.local_weight.clone()
        head(x.clone().requires_grad_(), y).backward()
        head.step(1.0)
        moved.append(head.local_weight - before)
    lengths = moved[0].norm(dim=1)
    assert lengths.max() > 2e-3
    expected = moved[0] * (1e-3 / lengths).clamp_max(1.0)[:, None]
    torch.testing.assert_close(moved[1], expected, rtol=1e-3, atol=1e-8)


def test_adams_second_moment_is_exact() -> None:
    head = PartialFC(10, DIM, CosFace(), optimiser=AdamW(), moment_dtype=torch.bfloat16)
    dtypes = {name: tensor.dtype for name, tensor in head.sharded_state().items()}
    assert dtypes == {"weight": torch.float32, "mean": torch.bfloat16, "square": torch.float32}
