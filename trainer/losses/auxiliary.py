"""What every loss of this folder is: a function of the embeddings and labels of all ranks' images.

Where each rank has gathered all images it computes the same loss on the same numbers, so that the gradient of
its own images is complete without another exchange (`gather`); only what is sharded is exchanged again.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from partial_fc.communicator import Communicator, default_communicator
from partial_fc.exchange import gather_images
from partial_fc.inputs import check_batch
from partial_fc.numerics import inverse_norms, row_norms


class AuxiliaryLoss:
    """A loss beside or instead of the head's, called as the head is, with the head's contract.

    normalise: whether embeddings are taken at unit length.
    communicator: how ranks meet; None takes torch.distributed if it is initialised, else one rank.
    embedding_dim: length of an embedding; None for any.
    """

    def __init__(
        self, normalise: bool, communicator: Communicator | None, embedding_dim: int | None = None
    ) -> None:
        self.normalise = normalise
        self.embedding_dim = embedding_dim
        self.communicator = communicator or default_communicator()

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of the labelled images of all ranks: a float32 scalar, the same on every rank.

        embeddings: [batch, dim] float; batches may differ between ranks, 0 included.
        labels: [batch] int64, -1 = ignored. Without any term (no labelled image, no pair, no triplet) the
        loss is 0 and so is its gradient; an embedding that is not finite makes it NaN.
        After `loss.backward()`, `embeddings.grad` is the true gradient times the number of ranks, so that an
        engine which averages over ranks arrives at it.
        Raises HeadInputError or LabelError for wrong shapes, types and labels, CollectiveError when a rank
        does not come.
        """
        check_batch(embeddings, labels, self.embedding_dim, self.communicator)
        if torch.is_grad_enabled() and not embeddings.requires_grad:
            embeddings = embeddings.clone().requires_grad_()  # a frozen backbone: centres still learn
        with torch.autocast(embeddings.device.type, enabled=False):
            inputs = embeddings.float()
            if self.normalise:
                inputs = inputs * inverse_norms(row_norms(inputs)).float()[:, None]
            return self.of_inputs(inputs, labels)

    def of_inputs(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of what `__call__` has checked and normalised: inputs [batch, dim] float32."""
        raise NotImplementedError

    def step(self) -> None:
        """Move what the loss itself holds, after the batches that were backpropagated since the last step."""

    @property
    def class_range(self) -> tuple[int, int]:
        """(first, last) classes that this rank holds something of, last exclusive; (0, 0) if of none."""
        return 0, 0

    def sharded_state(self) -> dict[str, Tensor]:
        """What it holds, as views; row j of every tensor belongs to class `class_range[0] + j`."""
        return {}


def gather(communicator: Communicator, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """inputs: [batch, dim] float32; labels: [batch] int64. Those of all ranks, [G, dim] and [G].

    Differentiable for a loss that every rank computes alike: backward takes the rank's own rows of the
    gradient, times the number of ranks.
    """
    return cast(tuple[Tensor, Tensor], _Gather.apply(inputs, labels, communicator))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, labels: Tensor, communicator: Communicator
    ) -> tuple[Tensor, Tensor]:
        gathered = gather_images(communicator, inputs, labels, torch.float32)
        ctx.own, ctx.world_size = gathered.own, communicator.world_size
        ctx.mark_non_differentiable(gathered.labels)
        return gathered.embeddings, gathered.labels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.own] * ctx.world_size, None, None
