"""One tile of centres and its logits: what both passes of tiles.py begin with.

z = inputs·w / ‖w‖ + b is made of the centres as they lie in memory: 1/‖w‖ is a factor a row, folded into the
logits before exp and into the exponentials after it, so that no centre is ever copied to be normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from partial_fc.batch import Batch, Shard
from partial_fc.kernels.rows import rows_for
from partial_fc.numerics import FURTHEST

BLOCK_IMAGES = 512


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
        self.inputs = batch.inputs.to(dtype).contiguous()
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

    @cached_property
    def targets_of_images(self) -> Tensor:
        """[G] int64: the place of each image's own class among those drawn, −1 where it is not here."""
        found = self.places.new_full((self.inputs.shape[0],), -1)
        found[self.batch.owned[self._order]] = self.places
        return found

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
        self,
        shard: Shard,
        drawn: Tensor | None,
        normalised: bool,
        classes: int,
        dtype: torch.dtype,
        known: Tensor | None = None,
    ) -> None:
        """classes: of a tile; drawn: [S] int64 ascending, None for all; dtype: to multiply centres in.

        known: 1/‖w‖ of all drawn centres, where it was found before.
        """
        self._shard, self._drawn, self._classes, self._normalised = shard, drawn, classes, normalised
        self._count = shard.num_classes if drawn is None else drawn.shape[0]
        self._functions = rows_for(shard.weight)
        size, weight = classes * shard.centres_per_class, shard.weight
        # float32 centres are multiplied as they lie, unless they have to be picked.
        as_they_lie = dtype == torch.float32 and drawn is None
        self._factors = None if as_they_lie else weight.new_empty(size, weight.shape[1], dtype=dtype)
        self._inverses = weight.new_empty(size)
        self._known = known
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
        inverse: Tensor | None
        if self._known is not None:
            inverse = self._known[first * per_class : last * per_class]
            return Tile(number, first, last, classes, rows, size, self._inverses[:0], inverse)
        inverse = self._inverses[:size] if self._normalised else None
        if with_factors and self._factors is not None and inverse is not None:
            factors = self._factors[:size]
            self._functions.inverse_norms_and_round(shard.weight, rows, inverse, factors)
            return Tile(number, first, last, classes, rows, size, factors, inverse)
        if inverse is not None:
            self._functions.inverse_norms(shard.weight, rows, inverse)
        factors = self._inverses[:0]
        if with_factors:
            factors = shard.weight[rows]
            factors = factors if self._factors is None else self._factors[:size].copy_(factors)
        return Tile(number, first, last, classes, rows, size, factors, inverse)


@dataclass
class Logits:
    """The logits of a tile with a block of images, −inf where a class is undrawn or the image's own."""

    values: Tensor
    """[classes, images]: z·‖w‖ where there is `inverse`, as it was multiplied; else z, float32."""
    inverse: Tensor | None
    """[R]: 1/‖w‖, still to be applied."""
    slopes: Tensor | None = None
    """[R, images]: d z / d (inputs·w) of plain logits' others, where it is not 1/‖w‖."""

    def largest(self) -> Tensor:
        """[images] float32: over the classes, −inf where there is none that counts."""
        z = self.values
        if self.inverse is not None:
            z = (z * self.inverse[:, None]).masked_fill_(z == -torch.inf, -torch.inf)
        return z.amax(dim=0).float().clamp_max_(FURTHEST)

    def factors(self, reference: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """P = exp(z − reference) · d z / d (inputs·w), and Σ_classes exp(z − reference).

        reference: [images] float32; out: [R, images] float32 or bfloat16, where P comes to lie; `values`
        may lie there. Returns it, and the sums, [images] float64.
        """
        sums = torch.zeros_like(reference, dtype=torch.float64)
        exponentials = self.values if self.slopes is not None else out
        rows_for(out).exponentials(self.values, self.inverse, reference, exponentials, sums)
        if self.slopes is not None:
            per_class = out.shape[0] // exponentials.shape[0]
            out.copy_(self.slopes.mul_(exponentials.repeat_interleave(per_class, dim=0)))
        return out, sums


def logits(shard: Shard, plan: Plan, tile: Tile, block: slice, dots: Tensor) -> Logits:
    """The logits of a tile; dots: [R, images], where products are made, and plain logits stay."""
    torch.mm(tile.factors, plan.inputs[block].T, out=dots)
    made = Logits(dots, tile.inverse)
    if not shard.is_plain(plan.batch):
        made = _special(shard, plan, tile, block, dots)
    if plan.mask is not None:
        made.values[plan.mask[tile.first : tile.last]] = -torch.inf
    targets, classes = plan.targets(tile.number)
    if targets.numel():
        images = plan.batch.owned[targets] - block.start
        inside = (images >= 0) & (images < dots.shape[1])
        made.values[classes[inside], images[inside]] = -torch.inf
    return made


def _special(shard: Shard, plan: Plan, tile: Tile, block: slice, dots: Tensor) -> Logits:
    """With sub-centres, a margin that changes negatives, or a bias."""
    batch = plan.batch
    z = dots.float()
    slopes = None if tile.inverse is None else tile.inverse[:, None].expand_as(z).contiguous()
    if tile.inverse is not None:
        z.mul_(tile.inverse[:, None])
    if shard.centres_per_class > 1:
        of_class = z.view(-1, shard.centres_per_class, z.shape[1])
        z, nearest = of_class.max(dim=1)
        chosen = torch.zeros_like(of_class).scatter_(1, nearest[:, None, :], 1.0).flatten(0, 1)
        slopes = chosen if slopes is None else slopes.mul_(chosen)
    if batch.negatives is not None:
        z.mul_(1 / batch.scale)
        changed = batch.negatives(z, block).repeat_interleave(shard.centres_per_class, dim=0)
        z.mul_(batch.scale)
        slopes = changed if slopes is None else slopes.mul_(changed)
    if shard.bias is not None:
        z.add_(shard.bias[tile.classes][:, None])
    return Logits(z, None, slopes)
