"""The settings `[auxiliary]`; the losses' own defaults stand with the losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

# What each loss can be told, beside the weight.
OPTIONS = {
    "none": (),
    "contrastive": ("margin", "positive_margin", "normalise"),
    "triplet": ("margin", "mining", "normalise"),
    "center": ("rate", "normalise"),
}
_WEIGHTS = {"none": 0.0, "contrastive": 1.0, "triplet": 1.0, "center": 0.003}


@dataclass(frozen=True)
class AuxiliaryConfig:
    """A loss on the embeddings of the whole batch, beside the head's or (--head.loss none) instead of it."""

    loss: Literal["none", "contrastive", "triplet", "center"] = "none"
    """The loss; docs/losses.md has the formulas. contrastive and triplet need pytorch-metric-learning."""
    weight: float | None = None
    """What it is multiplied by before it is added; by default center 0.003, the others 1."""
    margin: float | None = None
    """contrastive: how far apart two identities are to be (1). triplet: α, of squared distances (0.2)."""
    positive_margin: float | None = None
    """contrastive: how far apart two images of an identity may be (0)."""
    mining: Literal["semihard", "hard", "all"] | None = None
    """triplet: which of the triplets that violate the margin count (semihard)."""
    rate: float | None = None
    """center: how far centres move towards the mean of their images in a step (0.5)."""
    normalise: bool | None = None
    """Whether embeddings are taken at unit length (contrastive and triplet: True; center: False)."""

    def __post_init__(self) -> None:
        allowed = ("loss",) if self.loss == "none" else ("loss", "weight", *OPTIONS[self.loss])
        for option in (field.name for field in fields(self)):
            if option not in allowed and getattr(self, option) is not None:
                raise ValueError(f"{option} must be left out: --auxiliary.loss {self.loss} has none")
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be above 0, got {self.weight:g}")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ValueError(f"margin must be above 0, got {self.margin:g}")
        if self.positive_margin is not None and not 0 <= self.positive_margin < (self.margin or 1.0):
            raise ValueError(
                f"positive_margin must be at least 0 and below margin ({self.margin or 1.0:g}), "
                f"got {self.positive_margin:g}"
            )
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ValueError(f"rate must be above 0 and at most 1, got {self.rate:g}")

    @property
    def factor(self) -> float:
        """The weight that counts: the given one, or the loss's own."""
        return _WEIGHTS[self.loss] if self.weight is None else self.weight
