"""What a loss over all ranks accepts: embeddings and labels of a rank, and labels that are classes."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from partial_fc.communicator import Communicator
from partial_fc.errors import CollectiveError, HeadInputError, LabelError, require
from partial_fc.exchange import Gathered, refuse_images


def check_batch(
    embeddings: Tensor,
    labels: Tensor,
    dim: int | None,
    communicator: Communicator,
    device: torch.device | None = None,
) -> None:
    """embeddings: [batch, dim] float, dim None for any; labels: [batch] int64; both on the device, None: any.

    Raises HeadInputError or LabelError unless they are; the other ranks do in `gather_images`, all at once.
    """
    try:
        _check_own(embeddings, labels, dim, device)
    except HeadInputError:
        place = device or (embeddings.device if isinstance(embeddings, Tensor) else torch.device("cpu"))
        with suppress(HeadInputError, CollectiveError):  # what is wrong counts here, not who heard of it
            refuse_images(communicator, place)
        raise


def check_classes(gathered: Gathered, num_classes: int) -> None:
    """Raise LabelError, on every rank alike, for a label that is no class and not -1."""
    labels, sizes = gathered.labels, gathered.layout.sizes
    wrong = torch.nonzero((labels < -1) | (labels >= num_classes)).view(-1)
    if wrong.numel():
        place, rank = int(wrong[0]), 0
        while place >= sizes[rank]:
            place, rank = place - sizes[rank], rank + 1
        raise LabelError(
            f"rank {rank}: label {int(labels[wrong[0]])} of image {place} in its batch is no class: "
            f"expected 0 to {num_classes - 1}, or -1 for none"
        )


def _check_own(embeddings: Tensor, labels: Tensor, dim: int | None, device: torch.device | None) -> None:
    for name, given in (("embeddings", embeddings), ("labels", labels)):
        require(isinstance(given, Tensor), name, "a tensor", type(given).__name__)
        fits = given.device == (device or embeddings.device)
        require(fits, name, f"on {device or embeddings.device}", given.device)
    shape = tuple(embeddings.shape)
    fits = len(shape) == 2 and dim in (None, shape[1])
    require(fits, "embeddings", f"[batch, {'dim' if dim is None else dim}]", shape)
    require(embeddings.is_floating_point(), "embeddings", "floating point", embeddings.dtype)
    if labels.dtype != torch.int64:
        raise LabelError(f"labels must be int64, got {labels.dtype}")
    if labels.shape != embeddings.shape[:1]:
        expected, found = tuple(embeddings.shape[:1]), tuple(labels.shape)
        raise LabelError(f"labels must be {expected} beside these embeddings, got {found}")
