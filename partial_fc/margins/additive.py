"""Margins that are added: to nothing, to the cosine, to the angle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from partial_fc.margins.base import CosineMargin, Facts, Margin, Targets, monotone_sum, sine
from partial_fc.margins.options import option

_ANGLE = option("m, added to the angle, radians", at_least=0, below=math.pi)


@dataclass(frozen=True)
class Softmax(Margin):
    """Plain softmax, z_j = w_j·x + b_j: nothing is normalised."""

    is_published_with_scale: ClassVar[bool] = False
    normalises_embeddings: ClassVar[bool] = False
    normalises_centres: ClassVar[bool] = False

    scale: float = field(default=1.0, metadata=option("what logits are multiplied by", above=0))
    bias: bool = field(default=True, metadata=option("whether each class has a bias b"))

    @property
    def has_bias(self) -> bool:
        """As chosen by `bias`."""
        return self.bias


@dataclass(frozen=True)
class NormalizedSoftmax(CosineMargin):
    """NSL, z_j = s cos θ_j (Wang et al., CVPR 2018, eq. 3): normalised, without a margin."""


@dataclass(frozen=True)
class CosFace(CosineMargin):
    """LMCL, z_y = s (cos θ_y − m) (Wang et al., CVPR 2018, eq. 4): a margin on the cosine."""

    margin: float = field(default=0.35, metadata=option("m, taken from the cosine", at_least=0))

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s (cos θ − m)."""
        return self.scale * (targets.dot - self.margin)


@dataclass(frozen=True)
class ArcFace(CosineMargin):
    """z_y = s cos(θ_y + m) (Deng et al., CVPR 2019, eq. 3): a margin on the angle, in radians."""

    margin: float = field(default=0.5, metadata=_ANGLE)
    straight_through: bool = field(
        default=False,
        metadata=option(
            "gives the target the slope of s cos θ, for repeating runs of insightface's PartialFC_V2, whose "
            "margin is added where no gradient is recorded"
        ),
    )

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s cos(θ + m), going on as a line where θ + m > π."""
        cosine = monotone_sum(targets.dot, self.margin)
        if self.straight_through:
            cosine = targets.dot + (cosine - targets.dot).detach()
        return self.scale * cosine


@dataclass(frozen=True)
class CombinedMargin(CosineMargin):
    """z_y = s (cos(m1 θ + m2) − m3) (Deng et al., CVPR 2019, eq. 4); (1, 0.5, 0) is ArcFace."""

    m1: float = field(
        default=1.0, metadata=option("what the angle is multiplied by", at_least=1, is_margin=True)
    )
    m2: float = field(
        default=0.3,
        metadata=option("added to the angle, radians", at_least=0, below=math.pi, is_margin=True),
    )
    m3: float = field(default=0.2, metadata=option("taken from the cosine", at_least=0, is_margin=True))

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s (ψ − m3), ψ = cos(m1 θ + m2); beyond π, where that would rise again, it goes on falling."""
        if self.m1 == 1:
            return self.scale * (monotone_sum(targets.dot, self.m2) - self.m3)
        # atan2 of a sine with a bounded slope has one too, arccos has not.
        angle = self.m1 * torch.atan2(sine(targets.dot), targets.dot) + self.m2
        turns = torch.floor(angle.detach() / math.pi)
        falling = torch.cos(angle) * (1 - 2 * torch.remainder(turns, 2)) - 2 * turns
        return self.scale * (falling - self.m3)


@dataclass(frozen=True)
class ElasticFace(CosineMargin):
    """A margin drawn anew for each image and step, m ~ N(margin, std²) (Boutros et al., CVPRW 2022).

    on: "angle" is ElasticFace-Arc, s cos(θ + m); "cosine" ElasticFace-Cos, s (cos θ − m).
    """

    margin: float = field(
        default=0.5,
        metadata=option("the mean of m, radians (on=angle) or a cosine", at_least=0, below=math.pi),
    )
    std: float = field(default=0.05, metadata=option("the deviation of m", at_least=0, at_most=1))
    on: str = field(
        default="angle", metadata=option("what m is added to or taken from", one_of=("angle", "cosine"))
    )

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s cos(θ + m_i), or s (cos θ − m_i)."""
        margin = self.margin + self.std * facts.noise[targets.images]
        if self.on == "cosine":
            return self.scale * (targets.dot - margin)
        # A draw never leaves the angles for which the margin is defined.
        return self.scale * monotone_sum(targets.dot, margin.clamp(0.0, math.pi))
