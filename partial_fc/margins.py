"""What distinguishes the losses: a margin says how the target's logit is made, and nothing else.

The head computes `dot`, the product of an embedding with its target's centre (a cosine where both are
normalised), for the G targets alone and asks the margin for their logits. Every other logit is
`scale · dot (+ bias)`, so the kernels never learn which margin runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from partial_fc.errors import HeadInputError


@dataclass(frozen=True)
class Margin:
    """The base of all margins: subclasses state how targets differ from the other classes."""

    normalised: ClassVar[bool] = True
    """Whether embeddings and class centres are L2-normalised, so that `dot` is their cosine."""
    has_bias: ClassVar[bool] = False
    """Whether every class has a bias that is added to its logits."""

    scale: float = 64.0
    """s: what every dot product is multiplied with to give a logit."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise HeadInputError(f"the scale must be a finite number greater than 0, got {self.scale}")

    def target_logit(self, dot: Tensor) -> Tensor:
        """The logits of the targets, before any bias; differentiable by torch.

        dot: [targets] float, the products of the embeddings with their own class centres.
        """
        return self.scale * dot


@dataclass(frozen=True)
class Softmax(Margin):
    """Plain softmax, `z_j = w_j·x + b_j`: nothing is normalised."""

    normalised: ClassVar[bool] = False
    has_bias: ClassVar[bool] = True
    scale: float = 1.0


@dataclass(frozen=True)
class NormalizedSoftmax(Margin):
    """NSL, `z_j = s cos θ_j` (Wang et al., CVPR 2018, eq. 3): normalised, without a margin."""


@dataclass(frozen=True)
class CosFace(Margin):
    """LMCL, `z_y = s (cos θ_y − m)` (Wang et al., CVPR 2018, eq. 4): an additive margin on the cosine."""

    margin: float = 0.35
    """m: what is taken from the target's cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise HeadInputError(f"the margin must be a finite number of at least 0, got {self.margin}")

    def target_logit(self, dot: Tensor) -> Tensor:
        """`s (cos θ_y − m)`."""
        return self.scale * (dot - self.margin)


MARGINS: dict[str, type[Margin]] = {
    kind.__name__.lower(): kind for kind in (Softmax, NormalizedSoftmax, CosFace)
}


def make_margin(name: str, *, scale: float | None = None, margin: float | None = None) -> Margin:
    """A margin by its class name in lower case; what is None, or unknown to that margin, keeps its default.

    Softmax has neither scale nor margin, NormalizedSoftmax no margin. Raises HeadInputError for an
    unknown name or a value out of range.
    """
    if name == "softmax":
        return Softmax()
    if name not in MARGINS:
        raise HeadInputError(f"unknown loss {name!r}: known are {', '.join(sorted(MARGINS))}")
    given = {} if scale is None else {"scale": scale}
    if name == "cosface" and margin is not None:
        given["margin"] = margin
    return MARGINS[name](**given)
