"""Asking a margin for the logits and slopes of targets, without a head around it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from partial_fc.margins import (
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    Facts,
    LSoftmax,
    MagFace,
    Margin,
    NormalizedSoftmax,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
    Targets,
)

EXAMPLES: list[Margin] = [
    Softmax(),
    Softmax(3.0, bias=False),
    NormalizedSoftmax(30.0),
    CosFace(64.0, 0.35),
    CosFace(1.0, 0.0),
    ArcFace(64.0, 0.5),
    ArcFace(10.0, 0.0),
    ArcFace(10.0, 2.3),
    ArcFace(32.0, 0.5, straight_through=True),
    CombinedMargin(64.0, 1.0, 0.3, 0.2),
    CombinedMargin(64.0, 1.2, 0.4, 0.1),
    CombinedMargin(1.0, 3.7, 3.1, 0.0),
    CombinedMargin(1.0, 2.0, 0.0, 0.0),
    ElasticFace(64.0, 0.5, 0.0125),
    ElasticFace(64.0, 0.3, 0.3),
    ElasticFace(64.0, 0.35, 0.05, "cosine"),
    *(SphereFace(margin=times) for times in (1, 2, 3, 4)),
    *(SphereFace(2.0, times, 0.0, 0.0) for times in (1, 2, 3, 4)),
    *(SphereFaceNormFea(64.0, times, 10.0, 0.5, 1.0) for times in (1, 2, 3, 4)),
    *(LSoftmax(margin=times) for times in (1, 2, 3, 4)),
    *(LSoftmax(0.5, times, 0.0, 0.0) for times in (1, 2, 3, 4)),
    AdaFace(64.0),
    AdaFace(64.0, 1.5, 10.0),
    MagFace(64.0),
    MagFace(32.0, 0.0, 2.3, 20.0, 30.0),
    CurricularFace(64.0, 0.5),
]


INSIDE = torch.cat(
    (
        torch.linspace(-0.999, 0.999, 400, dtype=torch.float64),
        torch.tensor([0.0, 1e-9, -1e-9, 1 - 1e-6, 1e-6 - 1, 1 - 1e-9, 1e-9 - 1], dtype=torch.float64),
    )
)


# Slopes are compared no nearer to ±1 than this; there all must be finite and their values right.
ENDS = torch.tensor(
    [sign * (1 - gap) for gap in (0.0, 1e-16, 2e-16, 1e-14, 4e-13, 6e-13, 1e-11) for sign in (1, -1)],
    dtype=torch.float64,
)


ANGLES = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)


def lengths_of(margin: Margin, norms: Tensor, centre_norms: Tensor) -> Tensor:
    """What x̃·w̃ is when cos θ = 1."""
    lengths = torch.ones_like(norms)
    if not margin.normalises_embeddings:
        lengths = lengths * norms
    if not margin.normalises_centres:
        lengths = lengths * centre_norms
    return lengths


def facts(
    images: int = 1,
    *,
    norms: Tensor | None = None,
    labelled: Tensor | None = None,
    target_cosines: Tensor | None = None,
    noise: Tensor | None = None,
    step: int = 0,
    state: dict[str, float] | None = None,
) -> Facts:
    zeros = torch.zeros(images, dtype=torch.float64)
    return Facts(
        zeros + 1 if norms is None else norms,
        torch.ones(images, dtype=torch.bool) if labelled is None else labelled,
        zeros if target_cosines is None else target_cosines,
        zeros if noise is None else noise,
        step,
        {} if state is None else state,
    )


@dataclasses.dataclass
class Answer:
    """Logits and their slopes, [T] each."""

    logit: Tensor
    by_dot: Tensor
    by_norm: Tensor
    by_centre: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.logit, self.by_dot, self.by_norm, self.by_centre]


def differentiated(function, dots: Tensor, norms: Tensor, centre_norms: Tensor) -> Answer:
    variables = [tensor.clone().requires_grad_() for tensor in (dots, norms, centre_norms)]
    logits = function(*variables)
    slopes = torch.autograd.grad(logits.sum(), variables, allow_unused=True)
    return Answer(logits.detach(), *(torch.zeros_like(dots) if one is None else one for one in slopes))


def ask(
    margin: Margin,
    cosines: Tensor,
    norms: Tensor | None = None,
    centre_norms: Tensor | None = None,
    *,
    noise: Tensor | None = None,
    state: dict[str, float] | None = None,
    step: int = 0,
) -> Answer:
    """What the margin says for targets of these cosines."""
    norms = torch.ones_like(cosines) if norms is None else norms
    centre_norms = torch.ones_like(cosines) if centre_norms is None else centre_norms
    known = facts(len(cosines), norms=norms, noise=noise, step=step, state=state or margin.first_state())
    images = torch.arange(len(cosines))
    return differentiated(
        lambda dot, norm, centre: margin.target_logit(Targets(dot, norm, centre, images), known),
        cosines * lengths_of(margin, norms, centre_norms),
        norms,
        centre_norms,
    )


def falls(values: Tensor) -> bool:
    return bool((values.diff() <= 1e-12 * values.abs().max()).all())
