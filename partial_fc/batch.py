"""What a rank holds (its classes) and what it has gathered (everybody's images)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from partial_fc.errors import HeadInputError

Negatives = Callable[[Tensor, slice], Tensor]
"""Changes the dot products of a tile with the images of a slice; returns their slopes."""


@dataclass
class Shard:
    """One rank's classes and their optimiser state: C classes of K centres each."""

    first: int
    """The first class of this rank."""
    weight: Tensor
    """[C·K, dim] float32: the class centres, K rows for each class."""
    moments: dict[str, Tensor]
    """[C·K, dim] float32 or bfloat16: what the optimiser remembers of each centre."""
    centres_per_class: int = 1
    bias: Tensor | None = None
    """[C] float32, for the losses that have one."""
    bias_moments: dict[str, Tensor] = field(default_factory=dict)
    """[C] float32."""

    @property
    def num_classes(self) -> int:
        """C, of this rank."""
        return self.weight.shape[0] // self.centres_per_class

    @property
    def last(self) -> int:
        """One past the last class of this rank."""
        return self.first + self.num_classes

    def is_plain(self, batch: Batch) -> bool:
        """Whether the logits are nothing but products of images and centres."""
        return self.centres_per_class == 1 and self.bias is None and batch.negatives is None

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name, as views whose row j belongs to class `first + j`."""
        width = self.centres_per_class * self.weight.shape[1]
        rows = {"weight": self.weight, **self.moments}
        named = {name: tensor.view(self.num_classes, width) for name, tensor in rows.items()}
        if self.bias is not None:
            named["bias"] = self.bias
            named |= {f"bias_{name}": values for name, values in self.bias_moments.items()}
        return named

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy tensors of `tensors`' form into this shard's. Raises HeadInputError if they do not fit."""
        own = self.tensors()
        if own.keys() != state.keys():
            raise HeadInputError(f"the head's state has {sorted(own)}, the one given has {sorted(state)}")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                expected, found = tuple(tensor.shape), tuple(state[name].shape)
                raise HeadInputError(f"the head's {name} is {expected}, the one given is {found}")
        for name, tensor in own.items():
            tensor.copy_(state[name])


@dataclass
class Batch:
    """The gathered images of all ranks as one rank's kernels see them: G images, T of them with a class here.

    The logit of image i and the centre w_j is z_ij = inputs_i·w_j / ‖w_j‖ + b_j, without the division where
    the margin does not normalise centres; a class's logit is the largest of its centres'.
    """

    inputs: Tensor
    """[G, dim] float32: s x̃, the embeddings times the scale, of unit length before where normalised."""
    normalises_centres: bool
    owned: Tensor
    """[T] int64: the images whose class lies in this rank's shard, ascending."""
    classes: Tensor
    """[T] int64: those classes, counted from the shard's first."""
    selected: Tensor | None = None
    """[S] int64, ascending: the classes that take part, the images' own among them; None for all."""
    scale: float = 1.0
    """s, which `negatives` wants out of the dot products."""
    negatives: Negatives | None = None
    """What the margin does to dot products with other classes than the target's."""


@dataclass
class NegativeSums:
    """A rank's part of the softmax's denominator, without the targets'. G images."""

    reference: Tensor
    """[G] float32: what was taken from the logits before exp; −inf where there was no negative."""
    total: Tensor
    """[G] float32: Σ exp(logit − reference)."""
    weighted: Tensor | None
    """[G, dim] float32: Σ exp(logit − reference) · d logit / d input, None if it was not asked for."""
    kept: Any = None
    """What the kernel has kept for the update; it is the kernel's."""


@dataclass
class Backpropagated:
    """What the update needs to know of one batch that was backpropagated."""

    batch: Batch
    log_sum: Tensor
    """[G] float64: the log-sum-exp of each image's logits over all classes of all ranks but its own."""
    pull: Tensor
    """[G] float32: d loss / d (that log-sum-exp); 0 for unlabelled images."""
    rows: Tensor
    """[T] int64: the rows of the shard that the owned images' targets are."""
    push: Tensor
    """[T, dim] float32: d loss / d (the target's w̃), w̃ being what the margin makes of the centre."""
    bias_push: Tensor | None
    """[T] float32: d loss / d (the target's bias)."""
    kept: Any = None

    def scaled(self, factor: Tensor) -> Backpropagated:
        """The same with every gradient times `factor`, a scalar."""
        bias_push = None if self.bias_push is None else self.bias_push * factor
        return Backpropagated(
            self.batch, self.log_sum, self.pull * factor, self.rows, self.push * factor, bias_push, self.kept
        )


def owned_images(labels: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """labels: [G] int64. The images whose class this shard has [T], and that class within it [T]."""
    owned = torch.nonzero((labels >= shard.first) & (labels < shard.last)).view(-1)
    return owned, labels[owned] - shard.first
