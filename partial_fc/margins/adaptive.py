"""Margins that depend on the image: on its embedding's norm, or on how hard its negatives are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from partial_fc.margins.base import CosineMargin, Facts, Targets, cosine_of_sum, monotone_sum, sine
from partial_fc.margins.options import option


@dataclass(frozen=True)
class AdaFace(CosineMargin):
    """z_y = s (cos(θ_y − m q) − m (1 + q)), q = clip(h (‖x‖ − μ) / σ, ±1) (Kim et al., CVPR 2022, eq. 17–20).

    q tells an image's quality from its embedding's norm; μ and σ are running figures of all ranks' norms.
    No gradient goes into q. θ − m q stays between 0 and π.
    """

    margin: float = field(
        default=0.4, metadata=option("m, radians and cosine", at_least=0, below=math.pi / 2)
    )
    h: float = field(default=0.333, metadata=option("how strongly the norm tells the quality", above=0))
    forgets: float = field(
        default=0.01, metadata=option("the part of μ and σ that each batch replaces", above=0, at_most=1)
    )

    def first_state(self) -> dict[str, float]:
        """The published code's first guess."""
        return {"mean": 20.0, "std": 100.0}

    def next_state(self, facts: Facts) -> dict[str, float]:
        """Move μ and σ towards this batch's; one image has no σ and moves nothing."""
        norms = self._safe(facts.norms[facts.labelled])
        if norms.numel() < 2:
            return facts.state
        found = {"mean": float(norms.mean()), "std": float(norms.std())}
        return {name: old + self.forgets * (found[name] - old) for name, old in facts.state.items()}

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """See the class."""
        norms = self._safe(targets.embedding_norm.detach())
        quality = (self.h * (norms - facts.state["mean"]) / (facts.state["std"] + 1e-3)).clamp(-1.0, 1.0)
        added = -self.margin * quality
        turned = cosine_of_sum(targets.dot, added)
        # The published code keeps θ − m q within [0, π]: beyond it the cosine is that of the border.
        below = (added < 0) & (targets.dot > torch.cos(added))
        above = (added > 0) & (targets.dot < -torch.cos(added))
        turned = torch.where(below, 1.0, torch.where(above, -1.0, turned))
        return self.scale * (turned - self.margin * (1 + quality))

    @staticmethod
    def _safe(norms: Tensor) -> Tensor:
        return norms.clamp(1e-3, 100.0)


@dataclass(frozen=True)
class MagFace(CosineMargin):
    """z_y = s cos(θ_y + m(a)), a = ‖x‖, plus λ g(a) for each image (Meng et al., CVPR 2021, eq. 4).

    m rises linearly from `margin_low` at a = `norm_low` to `margin_high` at `norm_high`, a being kept
    between the two; g(a) = 1/a + a / norm_high² wants a long embedding. Both have gradients in a.
    """

    margin_low: float = field(
        default=0.45,
        metadata=option("m of a short embedding, radians", at_least=0, below=math.pi, is_margin=True),
    )
    margin_high: float = field(
        default=0.8,
        metadata=option("m of a long one, radians", at_least="margin_low", below=math.pi, is_margin=True),
    )
    norm_low: float = field(default=10.0, metadata=option("the length a that counts as short", above=0))
    norm_high: float = field(
        default=110.0, metadata=option("the length that counts as long", above="norm_low")
    )
    weight: float = field(default=35.0, metadata=option("λ, of the penalty g", at_least=0))

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """See the class."""
        rises = (self.margin_high - self.margin_low) / (self.norm_high - self.norm_low)
        norms = targets.embedding_norm.clamp(self.norm_low, self.norm_high)
        return self.scale * monotone_sum(targets.dot, self.margin_low + rises * (norms - self.norm_low))

    def penalty(self, norms: Tensor) -> Tensor | None:
        """λ g(a)."""
        kept = norms.clamp(self.norm_low, self.norm_high)
        return self.weight * (1 / kept + kept / self.norm_high**2)


@dataclass(frozen=True)
class CurricularFace(CosineMargin):
    """ArcFace whose hard negatives count more as training goes on (Huang et al., CVPR 2020, eq. 5–8).

    A negative with cos θ_j > cos(θ_y + m) has the logit s cos θ_j (t + cos θ_j); t is a running mean of the
    targets' cosines. No gradient goes into t.
    """

    sees_targets: ClassVar[bool] = True

    margin: float = field(
        default=0.5, metadata=option("m, added to the angle, radians", at_least=0, below=math.pi)
    )
    forgets: float = field(
        default=0.01, metadata=option("the part of t that each batch replaces", above=0, at_most=1)
    )

    @property
    def changes_negatives(self) -> bool:
        """Always: see the class."""
        return True

    def first_state(self) -> dict[str, float]:
        """Easy negatives first."""
        return {"t": 0.0}

    def next_state(self, facts: Facts) -> dict[str, float]:
        """Move t towards the mean cosine of this batch's targets."""
        cosines = facts.target_cosines[facts.labelled]
        if not cosines.numel():
            return facts.state
        t = facts.state["t"]
        return {"t": t + self.forgets * (float(cosines.mean()) - t)}

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """ArcFace's."""
        return self.scale * monotone_sum(targets.dot, self.margin)

    def negatives(self, dots: Tensor, target_cosines: Tensor, state: dict[str, float]) -> Tensor:
        """cos θ_j (t + cos θ_j) and its slope t + 2 cos θ_j where a negative is hard."""
        t = state["t"]
        border = target_cosines * math.cos(self.margin) - sine(target_cosines) * math.sin(self.margin)
        hard = dots > border
        kept = super().negatives(dots, target_cosines, state) if self.filter_above is not None else None
        slope = torch.where(hard, 2 * dots + t, 1.0)
        torch.where(hard, dots * (dots + t), dots, out=dots)
        return slope if kept is None else slope * kept
