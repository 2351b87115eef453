"""Margins that are added: to nothing, to the cosine, to the angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from partial_fc.errors import require
from partial_fc.margins.base import CosineMargin, Facts, Margin, Targets, monotone_sum, sine


@dataclass(frozen=True)
class Softmax(Margin):
    """Plain softmax, z_j = w_j·x + b_j: nothing is normalised."""

    normalises_embeddings: ClassVar[bool] = False
    normalises_centres: ClassVar[bool] = False

    scale: float = 1.0
    bias: bool = True

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

    margin: float = 0.35

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.margin < math.inf, "margin", "a finite number of at least 0", self.margin)

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s (cos θ − m)."""
        return self.scale * (targets.dot - self.margin)


@dataclass(frozen=True)
class ArcFace(CosineMargin):
    """z_y = s cos(θ_y + m) (Deng et al., CVPR 2019, eq. 3): a margin on the angle, in radians."""

    margin: float = 0.5
    straight_through: bool = False
    """Give the target the slope of s cos θ, as insightface's PartialFC_V2 does, whose margin is added
    where no gradient is recorded: for repeating its runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.margin < math.pi, "margin", "at least 0 and below π", self.margin)

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s cos(θ + m), going on as a line where θ + m > π."""
        cosine = monotone_sum(targets.dot, self.margin)
        if self.straight_through:
            cosine = targets.dot + (cosine - targets.dot).detach()
        return self.scale * cosine


@dataclass(frozen=True)
class CombinedMargin(CosineMargin):
    """z_y = s (cos(m1 θ + m2) − m3) (Deng et al., CVPR 2019, eq. 4); (1, 0.5, 0) is ArcFace."""

    m1: float = 1.0
    m2: float = 0.3
    m3: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.m1 < math.inf, "m1", "a finite number of at least 1", self.m1)
        require(0 <= self.m2 < math.pi, "m2", "at least 0 and below π", self.m2)
        require(0 <= self.m3 < math.inf, "m3", "a finite number of at least 0", self.m3)

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

    margin: float = 0.5
    std: float = 0.05
    on: str = "angle"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.margin < math.pi, "margin", "at least 0 and below π", self.margin)
        require(0 <= self.std <= 1, "std", "from 0 to 1", self.std)
        require(self.on in ("angle", "cosine"), "on", "'angle' or 'cosine'", repr(self.on))

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s cos(θ + m_i), or s (cos θ − m_i)."""
        margin = self.margin + self.std * facts.noise[targets.images]
        if self.on == "cosine":
            return self.scale * (targets.dot - margin)
        # A draw never leaves the angles for which the margin is defined.
        return self.scale * monotone_sum(targets.dot, margin.clamp(0.0, math.pi))
