"""One tile of centres and its logits: what both passes of tiles.py begin with.

z = inputs·w / ‖w‖ + b is made of the centres as they lie in memory: 1/‖w‖ is a factor a row, folded into the
logits before exp and into the exponentials after it, so that no centre is ever copied to be normalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.batch import Batch, Shard
from partial_fc.kernels.rows import rows_for

BLOCK_IMAGES = 512
FURTHEST = 1e30
"""Logits of numbers beyond all use are kept this near to 0."""


@dataclass(frozen=True)
class Precision:
    """multiply: what matrix products are made in; keep: what exponentials are kept in. Sums are float32."""

    multiply: torch.dtype
    keep: torch.dtype


class Plan:
    """A batch as the tiles want it: rounded, in blocks of images, its targets sorted by class."""

    def __init__(
        self, shard: Shard, batch: Batch, drawn: Tensor | None, tile: int, dtype: torch.dtype
    ) -> None:
        """drawn: [S] the classes that the tiles go over, ascending; None: all of the shard."""
        self.batch = batch
        self.drawn = drawn
        self.inputs = batch.inputs.to(dtype)
        images = batch.inputs.shape[0]
        self.blocks = [slice(a, min(a + BLOCK_IMAGES, images)) for a in range(0, images, BLOCK_IMAGES)]
        self.count = shard.num_classes if drawn is None else drawn.shape[0]
        places = batch.classes if drawn is None else torch.searchsorted(drawn, batch.classes)
        self.places, self._order = torch.sort(places, stable=True)
        borders = torch.arange(0, self.count + tile, tile, device=places.device)
        self._borders = torch.searchsorted(self.places, borders).tolist()
        self._tile = tile
        self.mask: Tensor | None = None
        if drawn is not None and batch.selected is not None and batch.selected.shape != drawn.shape:
            self.mask = torch.isin(drawn, batch.selected, assume_unique=True, invert=True)

    def targets(self, number: int) -> tuple[Tensor, Tensor]:
        """The targets in a tile: their positions in `batch.owned`, their classes within the tile."""
        part = slice(self._borders[number], self._borders[number + 1])
        return self._order[part], self.places[part] - number * self._tile


@dataclass
class Tile:
    """Rows of the shard: `rows` of its centres, which are those of the classes `first` to `last` drawn."""

    number: int
    first: int
    last: int
    rows: slice | Tensor
    classes: slice | Tensor
    weight: Tensor
    """[R, dim] float32: a view, or a copy where classes are drawn."""
    factors: Tensor
    """[R, dim] of the dtype that is multiplied."""
    inverse: Tensor | None
    """[R] float32: 1/‖w‖."""


def tiles(
    shard: Shard, drawn: Tensor | None, normalised: bool, tile: int, numbers: range, dtype: torch.dtype
) -> Iterator[Tile]:
    """The tiles of these numbers, one after the other, in buffers that the next one takes over."""
    per_class, dim = shard.centres_per_class, shard.weight.shape[1]
    count = shard.num_classes if drawn is None else drawn.shape[0]
    device = shard.weight.device
    functions = rows_for(shard.weight)
    rounded = (
        torch.empty(tile * per_class, dim, dtype=dtype, device=device) if dtype != torch.float32 else None
    )
    inverses = torch.empty(tile * per_class, device=device)
    within = torch.arange(per_class, device=device)
    for number in numbers:
        first, last = number * tile, min((number + 1) * tile, count)
        classes: slice | Tensor = slice(first, last)
        rows: slice | Tensor = slice(first * per_class, last * per_class)
        if drawn is not None:
            classes = drawn[first:last]
            rows = (classes[:, None] * per_class + within).view(-1)
        weight = shard.weight[rows]
        size = weight.shape[0]
        inverse = inverses[:size] if normalised else None
        factors = weight if rounded is None else rounded[:size]
        if inverse is not None and rounded is not None:
            functions.inverse_norms_and_round(weight, inverse, factors)
        elif inverse is not None:
            functions.inverse_norms(weight, inverse)
        elif rounded is not None:
            factors.copy_(weight)
        yield Tile(number, first, last, rows, classes, weight, factors, inverse)


def logits(
    shard: Shard, plan: Plan, tile: Tile, block: slice, reference: Tensor | None, out: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The logits of a tile less the reference: [classes, images] float32, −inf at targets and undrawn ones.

    reference: [images] float32, None for 0. out: [R, images] float32, where they are made.
    Returns them, and d logit / d (inputs·w̃) [R, images] where it is not 1.
    """
    inputs = plan.inputs[block]
    if tile.factors.dtype == torch.float32:
        torch.mm(tile.factors, inputs.T, out=out)
    else:
        out.copy_(tile.factors @ inputs.T)
    slopes: Tensor | None = None
    if shard.is_plain(plan.batch):
        z = out
        if tile.inverse is not None and reference is not None:
            torch.addcmul(-reference[None, :], out, tile.inverse[:, None], out=z)
        elif tile.inverse is not None:
            z.mul_(tile.inverse[:, None])
        elif reference is not None:
            z.sub_(reference)
    else:
        z, slopes = _special_logits(shard, plan, tile, block, out)
        if reference is not None:
            z.sub_(reference)
    if plan.mask is not None:
        z[plan.mask[tile.first : tile.last]] = -torch.inf
    targets, classes = plan.targets(tile.number)
    if targets.numel():
        images = plan.batch.owned[targets] - block.start
        inside = (images >= 0) & (images < z.shape[1])
        z[classes[inside], images[inside]] = -torch.inf
    return z, slopes


def _special_logits(
    shard: Shard, plan: Plan, tile: Tile, block: slice, out: Tensor
) -> tuple[Tensor, Tensor | None]:
    """With sub-centres, a margin that changes negatives, or a bias."""
    batch, slopes = plan.batch, None
    if tile.inverse is not None:
        out.mul_(tile.inverse[:, None])
    z = out
    if shard.centres_per_class > 1:
        of_class = out.view(-1, shard.centres_per_class, out.shape[1])
        z, nearest = of_class.max(dim=1)
        slopes = torch.zeros_like(of_class).scatter_(1, nearest[:, None, :], 1.0)
    if batch.negatives is not None:
        z.mul_(1 / batch.scale)
        changed = batch.negatives(z, block)
        z.mul_(batch.scale)
        slopes = changed if slopes is None else slopes.mul_(changed[:, None, :])
    if shard.bias is not None:
        z.add_(shard.bias[tile.classes][:, None])
    return z, None if slopes is None else slopes.flatten(0, 1) if slopes.dim() == 3 else slopes


def as_factors(exponentials: Tensor, slopes: Tensor | None, tile: Tile, per_class: int) -> Tensor:
    """[classes, images] of exponentials to [R, images]: times the logits' slopes and 1/‖w‖, in place."""
    if slopes is not None:
        if per_class > 1:
            exponentials = exponentials.repeat_interleave(per_class, dim=0)
        exponentials = slopes.mul_(exponentials)
    return exponentials if tile.inverse is None else exponentials.mul_(tile.inverse[:, None])
