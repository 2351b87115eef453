"""One tile of centres and its logits: what both passes of tiles.py begin with.

z = inputs·w / ‖w‖ + b is made of the centres as they lie in memory: 1/‖w‖ is a factor a row, folded into the
logits before exp and into the exponentials after it, so that no centre is ever copied to be normalised.
"""

from __future__ import annotations

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
        if batch.selected is not None and batch.selected.shape[0] != self.count:
            every = torch.arange(self.count, device=places.device) if drawn is None else drawn
            self.mask = torch.isin(every, batch.selected, assume_unique=True, invert=True)

    def targets(self, number: int) -> tuple[Tensor, Tensor]:
        """The targets in a tile: their positions in `batch.owned`, their classes within the tile."""
        part = slice(self._borders[number], self._borders[number + 1])
        return self._order[part], self.places[part] - number * self._tile


@dataclass
class Tile:
    """The classes `first` to `last` of those drawn: R centres of the shard."""

    number: int
    first: int
    last: int
    classes: slice | Tensor
    rows: slice | Tensor
    size: int
    """R."""
    factors: Tensor
    """[R, dim] of the dtype that is multiplied; empty where nobody asked for them."""
    inverse: Tensor | None
    """[R] float32: 1/‖w‖."""


class Tiles:
    """Makes a shard's tiles, one after the other, in buffers that the next one takes over."""

    def __init__(
        self, shard: Shard, drawn: Tensor | None, normalised: bool, classes: int, dtype: torch.dtype
    ) -> None:
        """classes: of a tile; drawn: [S] int64 ascending, None for all; dtype: to multiply centres in."""
        self._shard, self._drawn, self._classes, self._normalised = shard, drawn, classes, normalised
        self._count = shard.num_classes if drawn is None else drawn.shape[0]
        self._functions = rows_for(shard.weight)
        size, weight = classes * shard.centres_per_class, shard.weight
        # float32 centres are multiplied as they lie, unless they have to be picked.
        as_they_lie = dtype == torch.float32 and drawn is None
        self._factors = None if as_they_lie else weight.new_empty(size, weight.shape[1], dtype=dtype)
        self._inverses = weight.new_empty(size)
        self._within = torch.arange(shard.centres_per_class, device=weight.device)

    def tile(self, number: int, with_factors: bool) -> Tile:
        """One of them; with_factors: to make logits of."""
        shard, per_class = self._shard, self._shard.centres_per_class
        first, last = number * self._classes, min((number + 1) * self._classes, self._count)
        classes: slice | Tensor = slice(first, last)
        rows: slice | Tensor = slice(first * per_class, last * per_class)
        if self._drawn is not None:
            classes = self._drawn[first:last]
            rows = (classes[:, None] * per_class + self._within).view(-1)
        size = (last - first) * per_class
        inverse = self._inverses[:size] if self._normalised else None
        factors = self._factors[:size] if self._factors is not None and with_factors else None
        if inverse is not None and factors is not None and factors.dtype != torch.float32:
            self._functions.inverse_norms_and_round(shard.weight, rows, inverse, factors)
        elif inverse is not None:
            self._functions.inverse_norms(shard.weight, rows, inverse)
        if factors is not None and (inverse is None or factors.dtype == torch.float32):
            factors.copy_(shard.weight[rows])
        if factors is None:
            factors = shard.weight[rows] if isinstance(rows, slice) else self._inverses[:0]
        return Tile(number, first, last, classes, rows, size, factors, inverse)


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
