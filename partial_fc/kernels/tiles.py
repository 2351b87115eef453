"""The two passes over the class centres, tile by tile: nothing of size [G, C] or [C, dim] is formed.

With inputs x_i, centres w_j (of unit length where the margin normalises) and z_ij = s w_j·x_i + b_j:

    forward   N_i = log Σ_{j≠y_i} exp z_ij      U_i = Σ_{j≠y_i} exp(z_ij − max_i) w_j
    update    ∂L/∂z_ij = a_i exp(z_ij − N_i) for j ≠ y_i, −a_i at the target (times the margin's slope)

where a_i = σ(N_i − t_i) / (labelled images) is the loss's pull on image i. The targets' own terms never
enter the sums: loss_i = log(1 + exp(N_i − t_i)) then keeps all its digits when it is nearly 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.margins import Margin
from partial_fc.numerics import project, unit_rows
from partial_fc.optim import SGD, sgd_update
from partial_fc.shard import Backpropagated, Batch, Shard

TILE_CLASSES = 1024
"""Centres a tile: a tile of 1,024 × 512 float32 is 2 MiB, its logits for 512 images as much."""


@dataclass
class NegativeSums:
    """A rank's part of the softmax's denominator, without the targets. G images."""

    maximum: Tensor
    """[G]: the largest logit, −inf where the rank has no class but the target's."""
    total: Tensor
    """[G]: Σ exp(logit − maximum)."""
    weighted: Tensor | None
    """[G, dim]: Σ exp(logit − maximum) · centre, the numerator of d loss / d input; None if not wanted."""


@dataclass
class _Tile:
    rows: slice | Tensor  # which rows of the shard, a tensor where classes are sampled
    centres: Tensor  # [tile, dim], unit vectors where the margin normalises
    inverse: Tensor | None  # [tile]: 1 / norm of the centres
    logits: Tensor  # [G, tile]; −inf at the targets
    targets: Tensor  # positions in batch.owned whose class lies in this tile
    target_rows: Tensor  # [targets]: their rows within this tile


def centres_of(weight: Tensor, margin: Margin, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The rows that the logits are made with, rounded to `dtype`, and the inverse norms if normalised."""
    if not margin.normalised:
        return weight.to(dtype), None
    unit, inverse = unit_rows(weight)
    return unit.to(dtype), inverse


def _tiles(
    shard: Shard, batch: Batch, margin: Margin, dtype: torch.dtype, selected: Tensor | None
) -> Iterator[_Tile]:
    """selected: [S] int64 ascending, the rows that take part and all targets among them; None for all."""
    inputs = batch.inputs.to(dtype)
    places = batch.rows if selected is None else torch.searchsorted(selected, batch.rows)
    count = shard.weight.shape[0] if selected is None else selected.shape[0]
    for start in range(0, count, TILE_CLASSES):
        rows = slice(start, start + TILE_CLASSES) if selected is None else selected[start:][:TILE_CLASSES]
        centres, inverse = centres_of(shard.weight[rows], margin, dtype)
        logits = (inputs @ centres.T).float().mul_(margin.scale)
        if shard.bias is not None:
            logits += shard.bias[rows]
        targets = torch.nonzero((places >= start) & (places < start + TILE_CLASSES)).view(-1)
        target_rows = places[targets] - start
        logits[batch.owned[targets], target_rows] = -torch.inf
        yield _Tile(rows, centres, inverse, logits, targets, target_rows)


def _leave_out_unselected(tile: _Tile, own: Tensor | None) -> None:
    """Where passes drew different classes, a pass has no gradient on those of the others."""
    if own is None or isinstance(tile.rows, slice):
        return
    places = torch.searchsorted(own, tile.rows).clamp_max(own.shape[0] - 1)
    tile.logits[:, own[places] != tile.rows] = -torch.inf


def negative_sums(
    shard: Shard,
    batch: Batch,
    margin: Margin,
    dtype: torch.dtype,
    selected: Tensor | None,
    want_weighted: bool,
) -> NegativeSums:
    """One pass with a running maximum: exact however large the scale and however small the cosines."""
    images = batch.inputs.shape[0]
    maximum = batch.inputs.new_full((images,), -torch.inf)
    total = torch.zeros_like(maximum)
    weighted = torch.zeros_like(batch.inputs) if want_weighted else None
    for tile in _tiles(shard, batch, margin, dtype, selected):
        larger = torch.maximum(maximum, tile.logits.amax(dim=1))
        reference = torch.where(larger.isfinite(), larger, 0.0)  # −inf − (−inf) would be NaN
        decay = torch.exp(maximum - reference)
        exponentials = tile.logits.sub_(reference[:, None]).exp_()
        total.mul_(decay).add_(exponentials.sum(dim=1))
        if weighted is not None:
            weighted.mul_(decay[:, None]).add_((exponentials.to(dtype) @ tile.centres).float())
        maximum = larger
    return NegativeSums(maximum, total, weighted)


def update(
    shard: Shard, margin: Margin, dtype: torch.dtype, passes: list[Backpropagated], lr: float, sgd: SGD
) -> None:
    """Add up each tile's gradient over the batches backpropagated and let SGD move its centres at once."""
    selected = _union([one.selected for one in passes])
    streams = [_tiles(shard, one.batch, margin, dtype, selected) for one in passes]
    for tiles in zip(*streams, strict=True):
        rows = tiles[0].rows
        weight, momentum = shard.weight[rows], shard.momentum[rows]  # views, copies where rows are drawn
        gradient = torch.zeros_like(weight)
        bias_gradient = gradient.new_zeros(gradient.shape[0])
        for tile, one in zip(tiles, passes, strict=True):
            _leave_out_unselected(tile, one.selected)
            _add_gradient(tile, one, margin, dtype, gradient, bias_gradient)
        if tiles[0].inverse is not None:
            gradient = project(gradient, tiles[0].centres.float(), tiles[0].inverse)
        sgd_update(weight, momentum, gradient, lr, sgd)
        moved = [(shard.weight, weight), (shard.momentum, momentum)]
        if shard.bias is not None and shard.bias_momentum is not None:
            bias, bias_momentum = shard.bias[rows], shard.bias_momentum[rows]
            sgd_update(bias, bias_momentum, bias_gradient, lr, sgd)
            moved += [(shard.bias, bias), (shard.bias_momentum, bias_momentum)]
        if not isinstance(rows, slice):
            for whole, part in moved:
                whole[rows] = part


def _union(selections: list[Tensor | None]) -> Tensor | None:
    chosen = [one for one in selections if one is not None]
    return torch.unique(torch.cat(chosen)) if len(chosen) == len(selections) else None


def _add_gradient(
    tile: _Tile,
    one: Backpropagated,
    margin: Margin,
    dtype: torch.dtype,
    gradient: Tensor,
    bias_gradient: Tensor,
) -> None:
    # d loss / d logit, [G, tile]; exp(−inf) leaves 0 at the targets, which are added on their own.
    negatives = torch.where(one.negatives.isfinite(), one.negatives, 0.0)  # −inf: no class but the target
    pulls = tile.logits.sub_(negatives[:, None]).exp_().mul_(one.pull[:, None])
    gradient.add_((pulls.to(dtype).T @ one.batch.inputs.to(dtype)).float(), alpha=margin.scale)
    bias_gradient.add_(pulls.sum(dim=0))
    images = one.batch.owned[tile.targets]
    pull = one.pull[images]
    push = (pull * one.slope[tile.targets])[:, None] * one.batch.inputs[images]
    gradient.index_add_(0, tile.target_rows, push, alpha=-1)
    bias_gradient.index_add_(0, tile.target_rows, pull, alpha=-1)
