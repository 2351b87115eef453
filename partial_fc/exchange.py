"""The exchanges of a step: gather the images, merge the softmax, scatter the gradient back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.communicator import Communicator
from partial_fc.errors import HeadInputError, require

REFUSED = -1
"""The size of a batch that its rank cannot use."""
ALIKE = ("num_classes", "embedding_dim", "wire_dtype's bytes")


@dataclass(frozen=True)
class Layout:
    """Whose images lie where: every rank has `capacity` places, of which the first `sizes[r]` are filled."""

    sizes: list[int]
    capacity: int

    def own(self, rank: int) -> slice:
        """A rank's images among all."""
        start = sum(self.sizes[:rank])
        return slice(start, start + self.sizes[rank])


@dataclass(frozen=True)
class Gathered:
    """The G images of all ranks, in rank order."""

    embeddings: Tensor
    """[G, dim] float32."""
    labels: Tensor
    """[G] int64."""
    layout: Layout
    own: slice
    """This rank's among them."""


def gather_images(
    communicator: Communicator, embeddings: Tensor, labels: Tensor, wire: torch.dtype, num_classes: int = 0
) -> Gathered:
    """embeddings: [batch, dim] float32; labels: [batch] int64; batches may differ between ranks.

    wire: float32 or bfloat16, what the embeddings travel as. Labels travel as the bits of a few numbers
    behind each embedding: one exchange carries both.
    Raises HeadInputError on every rank alike if one has refused its batch or was made differently.
    """
    batch, dim = embeddings.shape
    layout = _agree(communicator, (batch, num_classes, dim, wire.itemsize), embeddings.device)
    bits = labels.contiguous().view(-1, 1).view(wire)
    packed = embeddings.new_zeros(layout.capacity, dim + bits.shape[1], dtype=wire)
    packed[:batch, :dim] = embeddings
    packed[:batch, dim:] = bits
    everyone = communicator.all_gather(packed)
    filled = torch.cat([part[:count] for part, count in zip(everyone, layout.sizes, strict=True)])
    # Into memory of its own: 8 bytes may not begin where a slice of a row does.
    found = filled.new_empty(filled.shape[0], bits.shape[1]).copy_(filled[:, dim:])
    all_labels = found.view(torch.int64).view(-1)
    return Gathered(filled[:, :dim].float(), all_labels, layout, layout.own(communicator.rank))


def refuse_images(communicator: Communicator, device: torch.device) -> None:
    """Come to `gather_images` without a usable batch: it raises HeadInputError on every rank."""
    _agree(communicator, (REFUSED, 0, 0, 0), device)


def _agree(communicator: Communicator, own: tuple[int, int, int, int], device: torch.device) -> Layout:
    """own: this rank's images, or REFUSED, and what must be ALIKE on every rank."""
    rows = communicator.all_gather(torch.tensor(own, device=device)).tolist()
    sizes = [row[0] for row in rows]
    if REFUSED in sizes:
        raise HeadInputError(
            f"rank {sizes.index(REFUSED)}'s embeddings or labels were refused there: see its error"
        )
    for rank, row in enumerate(rows):
        for name, first, found in zip(ALIKE, rows[0][1:], row[1:], strict=True):
            expected = f"the same on every rank, {first} as on rank 0"
            require(found == first, name, expected, f"{found} on rank {rank}")
    return Layout(sizes, max(sizes))


def merge_softmax(
    communicator: Communicator, reference: Tensor, total: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Each rank's reference, sum and target logit (−inf where not owned) of G images, all [G] float64.

    Returns the log-sum-exp over all ranks' negatives and the target logits, both [G] and the same bits on
    every rank. Each rank merges an equal share of the images and hands the result round, so the wire
    carries five numbers an image whatever the number of ranks.
    """
    packed = _shares(communicator, torch.stack((reference, total, target), dim=1), -torch.inf)
    references, totals, targets = communicator.all_to_all(packed).unbind(dim=2)
    largest = references.amax(dim=0)
    common = torch.where(largest.isneginf(), 0.0, largest)
    summed = (totals * torch.exp(references - common)).sum(dim=0)
    merged = torch.stack((common + torch.log(summed), targets.amax(dim=0)), dim=1)
    everyone = communicator.all_gather(merged).view(-1, 2)[: reference.shape[0]]
    return everyone[:, 0].contiguous(), everyone[:, 1].contiguous()


def add_up(communicator: Communicator, values: Tensor) -> Tensor:
    """values: [G], each number of one rank alone and 0 on the others. Returns all of them on every rank."""
    shares = communicator.all_to_all(_shares(communicator, values[:, None], 0.0)).sum(dim=0)
    return communicator.all_gather(shares).view(-1)[: values.shape[0]]


def scatter_gradient(
    communicator: Communicator, gradient: Tensor, layout: Layout, wire: torch.dtype
) -> Tensor:
    """gradient: [G, dim], this rank's part for everybody's images. Returns its own [batch, dim], summed."""
    if communicator.world_size == 1:
        return gradient
    places = gradient.new_zeros(communicator.world_size, layout.capacity, gradient.shape[1], dtype=wire)
    for place, part in zip(places, torch.split(gradient, layout.sizes), strict=True):
        place[: part.shape[0]] = part
    parts = communicator.all_to_all(places)
    return parts.sum(dim=0, dtype=torch.float32)[: layout.sizes[communicator.rank]]


def _shares(communicator: Communicator, rows: Tensor, filler: float) -> Tensor:
    """[G, n] cut into an equal share for each rank, [ranks, share, n], the last filled up."""
    ranks = communicator.world_size
    share = -(-rows.shape[0] // ranks)
    padded = rows.new_full((ranks * share, rows.shape[1]), filler)
    padded[: rows.shape[0]] = rows
    return padded.view(ranks, share, rows.shape[1])
