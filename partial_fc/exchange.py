"""The three exchanges of a step: gather the images, merge the softmax, scatter the gradient back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.communicator import Communicator


@dataclass(frozen=True)
class Layout:
    """Whose images lie where: every rank has `capacity` places, of which the first `sizes[r]` are filled."""

    sizes: list[int]
    capacity: int


def gather_images(
    communicator: Communicator, embeddings: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Layout]:
    """embeddings: [batch, dim] float32; labels: [batch] int64; batches may differ between ranks.

    Returns the embeddings [G, dim] and labels [G] of all ranks in rank order, and their layout. Labels
    travel as the bits of two floats behind each embedding: one exchange carries both.
    """
    batch, dim = embeddings.shape
    size = torch.tensor([batch], device=embeddings.device)
    sizes = communicator.all_gather(size).view(-1).tolist()
    layout = Layout(sizes, max(sizes))
    packed = embeddings.new_zeros(layout.capacity, dim + 2)
    packed[:batch, :dim] = embeddings
    packed[:batch, dim:] = labels.view(-1, 1).view(torch.float32)
    everyone = communicator.all_gather(packed)
    filled = torch.cat([part[:count] for part, count in zip(everyone, sizes, strict=True)])
    return filled[:, :dim].contiguous(), filled[:, dim:].contiguous().view(torch.int64).view(-1), layout


def merge_softmax(
    communicator: Communicator, maximum: Tensor, total: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Each rank's maximum, sum and target logit (−inf where not owned) of G images, all [G].

    Returns the log-sum-exp over all ranks' negatives and the target logits, both [G] and the same bits on
    every rank. Each rank merges an equal share of the images and hands the result round, so the wire
    carries five floats an image whatever the number of ranks.
    """
    images, ranks = maximum.shape[0], communicator.world_size
    share = -(-images // ranks)
    packed = maximum.new_full((ranks * share, 3), -torch.inf)
    packed[:images] = torch.stack((maximum, total, target), dim=1)
    maxima, totals, targets = communicator.all_to_all(packed.view(ranks, share, 3)).unbind(dim=2)
    largest = maxima.amax(dim=0)
    reference = torch.where(largest.isfinite(), largest, 0.0)
    summed = (totals.clamp_min(0) * torch.exp(maxima - reference)).sum(dim=0)
    merged = torch.stack((reference + torch.log(summed), targets.amax(dim=0)), dim=1)
    everyone = communicator.all_gather(merged).view(-1, 2)[:images]
    return everyone[:, 0].contiguous(), everyone[:, 1].contiguous()


def scatter_gradient(communicator: Communicator, gradient: Tensor, layout: Layout) -> Tensor:
    """gradient: [G, dim], this rank's part for everybody's images. Returns its own [batch, dim], summed."""
    if communicator.world_size == 1:
        return gradient
    places = gradient.new_zeros(communicator.world_size, layout.capacity, gradient.shape[1])
    for place, part in zip(places, torch.split(gradient, layout.sizes), strict=True):
        place[: part.shape[0]] = part
    return communicator.all_to_all(places).sum(dim=0)[: layout.sizes[communicator.rank]]
