"""What a margin may say. Everything else about a loss is the head's, and the same for all of them.

The head makes the logits z_ij = s · x̃_i·w̃_j (+ b_j), x̃ and w̃ being embedding and class centre, of unit
length where the margin wants them so. A margin says how the target's logit differs: a differentiable
function of three numbers an image. The head asks for a few hundred of them and lets torch find the slopes,
so the kernels, which make millions of logits, never learn which margin runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from partial_fc.margins.options import check_options, option
from partial_fc.numerics import inverse_norms

SMALLEST_SINE = 1e-6
"""Below it a sine has no slope: the true one is infinite at cos θ = ±1, where embedding and centre leave no
direction to turn to."""


@dataclass(frozen=True)
class Facts:
    """What every rank knows of a batch of G images before its logits are made, the same on all of them."""

    norms: Tensor
    """[G] float64: ‖x‖."""
    labelled: Tensor
    """[G] bool."""
    target_cosines: Tensor
    """[G] float64, 0 where unlabelled; empty for margins that do not set `sees_targets`."""
    noise: Tensor
    """[G] float64: standard normal numbers, functions of (seed, step, image)."""
    step: int
    """Updates before this batch."""
    state: dict[str, float]
    """What the margin remembers of the batches before, this one already counted; see `next_state`."""


@dataclass(frozen=True)
class Targets:
    """What the target's logit may depend on, for T images with their own class centres; float64."""

    dot: Tensor
    """[T]: x̃·w̃, the cosine where both are normalised."""
    embedding_norm: Tensor
    """[T]: ‖x‖."""
    centre_norm: Tensor
    """[T]: ‖w‖."""
    images: Tensor
    """[T] int64: their places among the G images of the Facts."""


@dataclass(frozen=True)
class Margin:
    """The base of all margins. `scale` is s, what every dot product is multiplied with to give a logit."""

    normalises_embeddings: ClassVar[bool] = True
    normalises_centres: ClassVar[bool] = True
    sees_targets: ClassVar[bool] = False
    """Whether the target's cosines must be known to all ranks before logits are made: one more exchange."""
    is_published_with_scale: ClassVar[bool] = True
    """Whether the paper has s. Where it has none, `scale` is 1, and other numbers are for comparisons with
    other code."""

    scale: float = field(default=64.0, metadata=option("s, which cosines are multiplied by", above=0))

    def __post_init__(self) -> None:
        """Raise HeadInputError naming the first option of a wrong type or out of its range."""
        check_options(self)

    @property
    def has_bias(self) -> bool:
        """Whether every class has a bias that is added to its logits."""
        return False

    @property
    def sub_centres(self) -> int:
        """K, the centres of a class."""
        return 1

    @property
    def changes_negatives(self) -> bool:
        """Whether `negatives` must be called for every tile of dot products."""
        return False

    def target_logit(self, targets: Targets, facts: Facts) -> Tensor:
        """[T] float64: the targets' logits before any bias; differentiable in dot and the two norms."""
        return self.scale * targets.dot

    def negatives(self, dots: Tensor, target_cosines: Tensor, state: dict[str, float]) -> Tensor:
        """Change dot products with classes that are not the target; a function of the two cosines alone.

        dots: [classes, images] float32, changed in place. target_cosines: [images] float32.
        Returns d changed / d dot, [classes, images].
        """
        raise NotImplementedError

    def penalty(self, norms: Tensor) -> Tensor | None:
        """norms: [G] float64, ‖x‖. Returns what is added to each labelled image's loss, None for nothing."""
        return None

    def first_state(self) -> dict[str, float]:
        """What the margin remembers before the first batch."""
        return {}

    def next_state(self, facts: Facts) -> dict[str, float]:
        """What it remembers once it has seen a batch of training; `facts.state` is from before it."""
        return facts.state

    def cosine(self, targets: Targets) -> Tensor:
        """[T]: cos θ between embedding and centre, whichever of them the margin normalises."""
        cosine = targets.dot
        if not self.normalises_embeddings:
            cosine = cosine * inverse_norms(targets.embedding_norm)
        if not self.normalises_centres:
            cosine = cosine * inverse_norms(targets.centre_norm)
        return cosine.clamp(-1.0, 1.0)


@dataclass(frozen=True)
class CosineMargin(Margin):
    """The base of the margins on the cosine of normalised embeddings and centres."""

    centres_per_class: int = field(
        default=1,
        kw_only=True,
        metadata=option(
            "K centres a class, of which the nearest counts (Deng et al., ECCV 2020)", at_least=1
        ),
    )
    filter_above: float | None = field(
        default=None,
        kw_only=True,
        metadata=option(
            "negatives with a larger cosine are taken for wrong labels, their logit is 0 and they get no "
            "gradient (An et al., CVPR 2022)",
            above=0,
            at_most=1,
        ),
    )

    @property
    def sub_centres(self) -> int:
        """See Margin."""
        return self.centres_per_class

    @property
    def changes_negatives(self) -> bool:
        """See Margin."""
        return self.filter_above is not None

    def negatives(self, dots: Tensor, target_cosines: Tensor, state: dict[str, float]) -> Tensor:
        """See Margin."""
        assert self.filter_above is not None
        kept = (dots <= self.filter_above).to(dots.dtype)
        dots *= kept
        return kept


def sine(cosine: Tensor) -> Tensor:
    """sin θ of an angle from 0 to π, with a bounded slope. Never by arccos: its slope is infinite at ±1."""
    square, floor = 1 - cosine * cosine, SMALLEST_SINE**2
    flat = torch.sqrt(square.detach().clamp_min(0.0))  # the value stays true where the slope is dropped
    return torch.where(square > floor, torch.sqrt(square.clamp_min(floor)), flat)


def cosine_of_sum(cosine: Tensor, added: Tensor | float) -> Tensor:
    """cos(θ + added), from cos θ; θ from 0 to π, `added` in radians."""
    added = torch.as_tensor(added, dtype=cosine.dtype)
    return cosine * torch.cos(added) - sine(cosine) * torch.sin(added)


def monotone_sum(cosine: Tensor, added: Tensor | float) -> Tensor:
    """cos(θ + added) up to θ + added = π, then the line cos θ − added · sin(added): always falling in θ.

    The continuation that every published ArcFace has (Deng et al., CVPR 2019, its code); for margins above
    2.33, where that line would begin higher than −1, it begins at −1.
    """
    added = torch.as_tensor(added, dtype=cosine.dtype)
    beyond = cosine - torch.maximum(added * torch.sin(added), 1 - torch.cos(added))
    return torch.where(cosine > -torch.cos(added), cosine_of_sum(cosine, added), beyond)
