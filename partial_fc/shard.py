"""What a rank holds (its classes) and what it has gathered (everybody's images)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.margins import Margin


@dataclass
class Shard:
    """One rank's classes and their optimiser state. C is the number of classes of this rank."""

    first: int
    """The first class of this rank; row j of every tensor belongs to class first + j."""
    weight: Tensor
    """[C, dim] float32: the class centres."""
    momentum: Tensor
    """[C, dim] float32: SGD's velocity."""
    bias: Tensor | None = None
    """[C] float32, for the losses that have one."""
    bias_momentum: Tensor | None = None

    @property
    def last(self) -> int:
        """One past the last class of this rank."""
        return self.first + self.weight.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name; row j of each belongs to class first + j."""
        named = {
            "weight": self.weight,
            "momentum": self.momentum,
            "bias": self.bias,
            "bias_momentum": self.bias_momentum,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}


@dataclass
class Batch:
    """The gathered images of all ranks as this rank's kernels see them. G images in all."""

    inputs: Tensor
    """[G, dim] float32: the embeddings, unit vectors where the margin normalises."""
    owned: Tensor
    """[T] int64: the images whose class lies in this rank's shard, ascending."""
    rows: Tensor
    """[T] int64: the rows of the shard that those images belong to."""

    @classmethod
    def of(cls, inputs: Tensor, labels: Tensor, shard: Shard) -> Batch:
        """inputs: [G, dim]; labels: [G] int64, -1 for images without a label."""
        owned = torch.nonzero((labels >= shard.first) & (labels < shard.last)).view(-1)
        return cls(inputs, owned, labels[owned] - shard.first)


@dataclass
class Targets:
    """The owned images' targets: T of them."""

    logits: Tensor
    """[T]: with the margin inside."""
    slope: Tensor
    """[T]: d logit / d dot, dot being the product of the embedding with its class centre."""


@dataclass
class Backpropagated:
    """What the update needs to know of one batch that was backpropagated."""

    batch: Batch
    negatives: Tensor
    """[G]: the log-sum-exp of each image's logits over all classes of all ranks but its own."""
    selected: Tensor | None
    """[S] int64: the rows of the shard that took part, ascending; None for all."""
    pull: Tensor
    """[G]: d loss / d (that log-sum-exp); minus d loss / d (target logit). 0 for unlabelled images."""
    slope: Tensor
    """[T]: as in Targets."""


def target_logits(shard: Shard, batch: Batch, margin: Margin, centres: Tensor) -> Targets:
    """centres: [T, dim], the owned images' centres, unit vectors where the margin normalises.

    The margin is a function of T numbers, so torch differentiates it and no kernel has to know it.
    """
    dot = (batch.inputs[batch.owned] * centres).sum(dim=1)
    if margin.normalised:
        dot = dot.clamp(-1.0, 1.0)
    with torch.enable_grad():
        dot.requires_grad_()
        logits = margin.target_logit(dot)
        (slope,) = torch.autograd.grad(logits.sum(), dot)
    logits = logits.detach()
    if shard.bias is not None:
        logits = logits + shard.bias[batch.rows]
    return Targets(logits, slope)
