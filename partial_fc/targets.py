"""The targets' logits with the margin inside, and their slopes: T images in float64, by autograd.

With x̃ and w̃ as the margin wants them, its logit is a function f(x̃·w̃, ‖x‖, ‖w‖), so

    d logit / d x̃ = f₁ w̃, and along x itself f₂ x/‖x‖;      d logit / d w̃ = f₁ x̃, and along w itself f₃ w/‖w‖.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.batch import Shard
from partial_fc.margins import Facts, Margin, Targets
from partial_fc.numerics import inverse_norms, row_norms


@dataclass(frozen=True)
class Owned:
    """T images, each with the centre of its own class. All float64."""

    images: Tensor
    """[T] int64: their places among the gathered images."""
    rows: Tensor
    """[T] int64: the centres' rows in the shard; of K sub-centres the nearest."""
    inputs: Tensor
    """[T, dim]: x̃."""
    centres: Tensor
    """[T, dim]: w̃."""
    dots: Tensor
    """[T]: x̃·w̃, within ±1 where it is a cosine."""
    embedding_norms: Tensor
    """[T]"""
    centre_norms: Tensor
    """[T]"""


@dataclass(frozen=True)
class TargetLogits:
    """What the margin made of them."""

    logits: Tensor
    """[T] float64, the bias added."""
    input_slopes: Tensor
    """[T, dim] float64: d logit / d x̃."""
    norm_slopes: Tensor
    """[T] float64: d logit / d ‖x‖ that is not by x̃."""
    centre_slopes: Tensor
    """[T, dim] float64: d logit / d w̃."""


def owned_targets(
    shard: Shard, margin: Margin, embeddings: Tensor, norms: Tensor, images: Tensor, classes: Tensor
) -> Owned:
    """embeddings: [G, dim] float32; norms: [G] float64; images, classes: [T] int64."""
    per_class = shard.centres_per_class
    inputs = embeddings[images].double()
    if margin.normalises_embeddings:
        inputs = inputs * inverse_norms(norms[images])[:, None]
    rows = classes[:, None] * per_class + torch.arange(per_class, device=classes.device)
    centres = shard.weight[rows].double()  # [T, K, dim]
    centre_norms = row_norms(centres.flatten(0, 1)).view(rows.shape)
    if margin.normalises_centres:
        centres = centres * inverse_norms(centre_norms)[:, :, None]
    dots = torch.linalg.vecdot(centres, inputs[:, None, :])
    dots, nearest = dots.max(dim=1)
    if margin.normalises_embeddings and margin.normalises_centres:
        dots = dots.clamp(-1.0, 1.0)
    every = torch.arange(images.shape[0], device=images.device)
    return Owned(
        images,
        rows[every, nearest],
        inputs,
        centres[every, nearest],
        dots,
        norms[images],
        centre_norms[every, nearest],
    )


def target_logits(owned: Owned, shard: Shard, margin: Margin, facts: Facts) -> TargetLogits:
    """Ask the margin for the logits and torch for their slopes."""
    variables = [
        tensor.detach().requires_grad_() for tensor in (owned.dots, owned.embedding_norms, owned.centre_norms)
    ]
    with torch.enable_grad():
        dots, embedding_norms, centre_norms = variables
        targets = Targets(dots, embedding_norms, centre_norms, owned.images)
        logits = margin.target_logit(targets, facts)
        slopes = torch.autograd.grad(logits.sum(), variables, allow_unused=True)
    by_dot, by_norm, by_centre = (
        torch.zeros_like(variable) if slope is None else slope
        for slope, variable in zip(slopes, variables, strict=True)
    )
    logits = logits.detach()
    if shard.bias is not None:
        logits = logits + shard.bias[owned.rows].double()
    centre_slopes = by_dot[:, None] * owned.inputs
    if not margin.normalises_centres:
        along = by_centre * inverse_norms(owned.centre_norms)
        centre_slopes = centre_slopes + along[:, None] * owned.centres
    return TargetLogits(logits, by_dot[:, None] * owned.centres, by_norm, centre_slopes)
