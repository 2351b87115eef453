"""The losses that pytorch-metric-learning has too: the same numbers, one step of each.

Theirs keep the centres as a matrix [dim, classes] on one device (here in float64) and know no label of −1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from partial_fc import ArcFace, CosFace, LSoftmax, Margin, NormalizedSoftmax, PartialFC, SphereFace

pytestmark = pytest.mark.metric_learning
IMAGES, CLASSES, DIM = 40, 23, 12
BARE_PSI = {"lambda_first": 0.0, "lambda_least": 0.0}


@dataclass(frozen=True)
class Pair:
    """One loss by both libraries' names."""

    margin: Margin
    theirs: str
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.theirs}-{self.options}"


PAIRS = [
    # No difference.
    Pair(CosFace(64.0, 0.35), "CosFaceLoss", {"margin": 0.35, "scale": 64}),
    Pair(CosFace(16.0, 0.1), "CosFaceLoss", {"margin": 0.1, "scale": 16}),
    # Their margin is in degrees.
    Pair(ArcFace(64.0, 0.5), "ArcFaceLoss", {"margin": 28.64788975654116, "scale": 64}),
    Pair(ArcFace(16.0, 2.0), "ArcFaceLoss", {"margin": 114.59155902616465, "scale": 16}),
    # In degrees; a class's sub-centres lie side by side in both.
    Pair(
        ArcFace(32.0, 0.5, centres_per_class=3),
        "SubCenterArcFaceLoss",
        {"margin": 28.64788975654116, "scale": 32, "sub_centers": 3},
    ),
    # Their temperature is 1/s.
    Pair(NormalizedSoftmax(30.0), "NormalizedSoftmaxLoss", {"temperature": 1 / 30}),
    # Theirs has no annealing: λ = 0. Both keep ‖x‖ and leave ‖w‖ out.
    *(Pair(SphereFace(1.0, m, **BARE_PSI), "SphereFaceLoss", {"margin": m}) for m in (1, 2, 3, 4)),
    # λ = 0 again. Both keep both norms.
    *(
        Pair(LSoftmax(0.5, m, **BARE_PSI), "LargeMarginSoftmaxLoss", {"margin": m, "scale": 0.5})
        for m in (2, 4)
    ),
]


def their_step(pair: Pair, x: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Loss, and gradients of embeddings and centres, in float64."""
    from pytorch_metric_learning import losses

    loss_of = getattr(losses, pair.theirs)(num_classes=CLASSES, embedding_size=DIM, **pair.options)
    loss_of.W.data = weight.double().T.contiguous()
    x = x.double().requires_grad_()
    loss = loss_of(x, labels)
    loss.backward()
    assert x.grad is not None
    return loss.detach(), x.grad, loss_of.W.grad.T


def our_step(margin: Margin, x: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    head = PartialFC(CLASSES, DIM, margin, momentum=0.0, weight_decay=0.0)
    head.local_weight.copy_(weight)
    x = x.clone().requires_grad_()
    loss = head(x, labels)
    loss.backward()
    head.step(lr=1.0)  # without momentum and decay: a centre moves by its gradient
    assert x.grad is not None
    return loss.detach(), x.grad, weight - head.local_weight


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_loss_and_gradients_are_theirs(pair: Pair) -> None:
    generator = torch.Generator().manual_seed(4)
    rows = CLASSES * getattr(pair.margin, "centres_per_class", 1)
    weight = torch.randn(rows, DIM, generator=generator)
    x = torch.randn(IMAGES, DIM, generator=generator) * 2
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    ours = our_step(pair.margin, x, labels, weight)
    theirs = their_step(pair, x, labels, weight)
    assert ours[0].item() == pytest.approx(theirs[0].item(), rel=1e-5)
    for own, expected in zip(ours[1:], theirs[1:], strict=True):
        assert ((own - expected).norm() / expected.norm()).item() < 1e-4
