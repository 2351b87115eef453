"""The targets' logits with the margin inside, and their slopes: T images, in float64, by autograd.

With x̃ and w̃ as the margin wants them, its logit is a function f(x̃·w̃, ‖x‖, ‖w‖), so

    d logit / d x̃ = f₁ w̃, and along x itself f₂ x/‖x‖;      d logit / d w̃ = f₁ x̃, and along w itself f₃ w/‖w‖.

Nothing of size [T, dim] is kept, and float64 only for a block of images at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.batch import Shard
from partial_fc.margins import Facts, Margin, Targets
from partial_fc.numerics import inverse_norms, row_norms

_BLOCK = 1024


@dataclass(frozen=True)
class Owned:
    """T images, each with the centre of its own class; all [T]."""

    images: Tensor
    """int64: their places among the gathered images."""
    rows: Tensor
    """int64: the centres' rows in the shard; of K sub-centres the nearest."""
    dots: Tensor
    """float64: x̃·w̃, within ±1 where it is a cosine."""
    embedding_norms: Tensor
    """float64."""
    centre_norms: Tensor
    """float64."""


@dataclass(frozen=True)
class TargetLogits:
    """What the margin made of them; all [T] float64."""

    logits: Tensor
    """The bias added."""
    by_dot: Tensor
    """f₁."""
    by_embedding_norm: Tensor
    """f₂."""
    by_centre_norm: Tensor
    """f₃."""


def owned_targets(
    shard: Shard, margin: Margin, embeddings: Tensor, norms: Tensor, images: Tensor, classes: Tensor
) -> Owned:
    """embeddings: [G, dim] float32; norms: [G] float64; images, classes: [T] int64."""
    blocks = [
        _nearest(shard, margin, embeddings[some], norms[some], own)
        for some, own in zip(torch.split(images, _BLOCK), torch.split(classes, _BLOCK), strict=True)
    ]
    rows, dots, centre_norms = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return Owned(images, rows, dots, norms[images], centre_norms)


def target_logits(owned: Owned, shard: Shard, margin: Margin, facts: Facts) -> TargetLogits:
    """Ask the margin for the logits and torch for their slopes."""
    with torch.inference_mode(False), torch.enable_grad():
        variables = [
            tensor.clone().requires_grad_()
            for tensor in (owned.dots, owned.embedding_norms, owned.centre_norms)
        ]
        dots, embedding_norms, centre_norms = variables
        targets = Targets(dots, embedding_norms, centre_norms, owned.images)
        logits = margin.target_logit(targets, facts)
        slopes = torch.autograd.grad(logits.sum(), variables, allow_unused=True)
    logits = logits.detach()
    if shard.bias is not None:
        logits = logits + shard.bias[owned.rows].double()
    return TargetLogits(
        logits,
        *(
            torch.zeros_like(variable) if slope is None else slope
            for slope, variable in zip(slopes, variables, strict=True)
        ),
    )


def _nearest(
    shard: Shard, margin: Margin, embeddings: Tensor, norms: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, dot products and norms of the centres nearest to these images, among their own class's."""
    per_class = shard.centres_per_class
    inputs = embeddings.double()
    if margin.normalises_embeddings:
        inputs = inputs * inverse_norms(norms)[:, None]
    rows = classes[:, None] * per_class + torch.arange(per_class, device=classes.device)
    centres = shard.weight[rows].double()  # [images, K, dim]
    centre_norms = row_norms(centres.flatten(0, 1)).view(rows.shape)
    if margin.normalises_centres:
        centres = centres * inverse_norms(centre_norms)[:, :, None]
    dots, nearest = torch.linalg.vecdot(centres, inputs[:, None, :]).max(dim=1)
    if margin.normalises_embeddings and margin.normalises_centres:
        dots = dots.clamp(-1.0, 1.0)
    every = torch.arange(classes.shape[0], device=classes.device)
    return rows[every, nearest], dots, centre_norms[every, nearest]
