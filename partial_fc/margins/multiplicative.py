"""Margins that multiply the angle: cos(m θ), with ψ to make it fall over all of [0, π]."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from partial_fc.margins.base import CosineMargin, Facts, Margin, Targets
from partial_fc.margins.options import option


def psi(cosine: Tensor, times: int) -> Tensor:
    """ψ(θ) = (−1)^k cos(m θ) − 2k for θ in [kπ/m, (k+1)π/m] (Liu et al., ICML 2016, eq. 6).

    cos(m θ) is Chebyshev's polynomial T_m(cos θ): no angle is ever computed.
    """
    before, chebyshev = torch.ones_like(cosine), cosine
    for _ in range(int(times) - 1):
        before, chebyshev = chebyshev, 2 * cosine * chebyshev - before
    borders = torch.cos(
        torch.arange(1, int(times), dtype=cosine.dtype, device=cosine.device) * math.pi / times
    )
    k = (cosine.detach()[:, None] < borders).sum(dim=1)
    return chebyshev * (1 - 2 * (k % 2)) - 2 * k


@dataclass(frozen=True)
class Annealed:
    """An integer margin that starts softly: z_y = ‖·‖ (λ cos θ + ψ(θ)) / (1 + λ), λ falling with the steps.

    λ = max(least, first / (1 + falls · step)), as in the code of Liu et al., CVPR 2017; first = least = 0
    is the bare ψ.
    """

    margin: int = field(
        default=4, metadata=option("m, which the angle is multiplied by", one_of=(1, 2, 3, 4))
    )
    lambda_first: float = field(default=1000.0, metadata=option("λ of the first step", at_least=0))
    lambda_least: float = field(default=5.0, metadata=option("the least λ", at_least=0))
    lambda_falls: float = field(default=0.1, metadata=option("how fast λ falls with the steps", at_least=0))

    def softened(self, cosine: Tensor, step: int) -> Tensor:
        """(λ cos θ + ψ(θ)) / (1 + λ)."""
        weight = max(self.lambda_least, self.lambda_first / (1 + self.lambda_falls * step))
        return (weight * cosine + psi(cosine, self.margin)) / (1 + weight)


@dataclass(frozen=True)
class SphereFace(Annealed, Margin):
    """A-Softmax, z_j = ‖x‖ cos θ_j and z_y = ‖x‖ ψ(θ_y) (Liu et al., CVPR 2017, eq. 7)."""

    is_published_with_scale: ClassVar[bool] = False
    normalises_embeddings: ClassVar[bool] = False

    scale: float = field(default=1.0, metadata=option("what logits are multiplied by", above=0))

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """‖x‖ ψ(θ), annealed."""
        return self.scale * targets.embedding_norm * self.softened(self.cosine(targets), facts.step)


@dataclass(frozen=True)
class SphereFaceNormFea(Annealed, CosineMargin):
    """A-Softmax with normalised features, z_y = s ψ(θ_y) (Wang et al., CVPR 2018, section 4.1)."""

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """s ψ(θ), annealed."""
        return self.scale * self.softened(targets.dot, facts.step)


@dataclass(frozen=True)
class LSoftmax(Annealed, Margin):
    """Large-margin softmax, z_j = ‖w_j‖‖x‖ cos θ_j and z_y = ‖w_y‖‖x‖ ψ(θ_y) (Liu et al., ICML 2016)."""

    is_published_with_scale: ClassVar[bool] = False
    normalises_embeddings: ClassVar[bool] = False
    normalises_centres: ClassVar[bool] = False

    scale: float = field(default=1.0, metadata=option("what logits are multiplied by", above=0))

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """‖w‖‖x‖ ψ(θ), annealed."""
        length = targets.centre_norm * targets.embedding_norm
        return self.scale * length * self.softened(self.cosine(targets), facts.step)
