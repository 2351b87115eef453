"""What triton_kernels.py keeps and sums up: exponentials by blocks of classes, and their largest logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.batch import Backpropagated, Batch, NegativeSums, Shard
from partial_fc.kernels.arena import Arena, Loan
from partial_fc.kernels.tile import Plan, Tile
from partial_fc.kernels.triton_products import BLOCK_CLASSES, blocks, exponentials, pull, splits_of, weigh

_ALIGNED = 16
"""Bytes; Triton loads and stores as many at once where it may."""


@dataclass
class Exponentials:
    """P of S classes with all images, and what it refers to."""

    factors: Tensor | None
    """[S, G] float32 or bfloat16; None: only their sums are wanted."""
    maxima: Tensor
    """[blocks, G] float32."""

    @classmethod
    def empty(
        cls, classes: int, images: int, dtype: torch.dtype | None, device: torch.device
    ) -> Exponentials:
        """Room for so many. dtype: of P, None: without it."""
        factors = None if dtype is None else torch.empty(classes, images, dtype=dtype, device=device)
        maxima = torch.empty(blocks(classes, BLOCK_CLASSES), images, dtype=torch.float32, device=device)
        return cls(factors, maxima)

    def part(self, first: int, last: int) -> Exponentials:
        """Of these classes, `first` being the first of a block."""
        factors = None if self.factors is None else self.factors[first:last]
        return Exponentials(factors, self.maxima[first // BLOCK_CLASSES : blocks(last, BLOCK_CLASSES)])

    def room(self, classes: int, images: int) -> Exponentials:
        """The beginning of this memory, for as many."""
        count = blocks(classes, BLOCK_CLASSES)
        maxima = self.maxima.view(-1)[: count * images].view(count, images)
        if self.factors is None:
            return Exponentials(None, maxima)
        return Exponentials(self.factors.view(-1)[: classes * images].view(classes, images), maxima)

    def fill(self, shard: Shard, plan: Plan, tile: Tile) -> Tensor:
        """Make those of a tile. Returns the sums, [blocks, G] float32."""
        sums = torch.empty_like(self.maxima)
        bias = None if shard.bias is None else shard.bias[tile.classes]
        undrawn = None if plan.mask is None else plan.mask[tile.first : tile.last]
        exponentials(
            plan.inputs,
            tile.factors,
            tile.inverse,
            bias,
            undrawn,
            plan.targets_of_images,
            tile.first,
            self.factors,
            self.maxima,
            sums,
        )
        return sums


@dataclass
class Kept:
    """What the update would have to make again."""

    loan: Loan
    exponentials: Exponentials
    inverses: Tensor | None
    """[S] float32: 1/‖w‖, where centres are normalised."""
    version: int
    """See passes.Kept."""

    @classmethod
    def lent(
        cls, arena: Arena, shard: Shard, batch: Batch, classes: int, dtype: torch.dtype, beside: int
    ) -> Kept | None:
        """Room for all of a batch, or None where the arena has none left. beside: see Arena.lend."""
        images, normalised = batch.inputs.shape[0], batch.normalises_centres
        factors = blocks(classes * images * dtype.itemsize, _ALIGNED) * _ALIGNED
        maxima = blocks(classes, BLOCK_CLASSES) * images * 4
        inverses = classes * 4 if normalised else 0
        loan = arena.lend(factors + maxima + inverses, torch.uint8, beside)
        if loan is None:
            return None
        of_factors, of_maxima, of_inverses = torch.split(loan.memory, [factors, maxima, inverses])
        made = Exponentials(
            of_factors.view(dtype)[: classes * images].view(classes, images),
            of_maxima.view(torch.float32).view(blocks(classes, BLOCK_CLASSES), images),
        )
        of_rows = of_inverses.view(torch.float32) if normalised else None
        return cls(loan, made, of_rows, shard.weight._version)


class Running:
    """The sums of the forward pass over the chunks so far."""

    def __init__(self, inputs: Tensor, most_blocks: int, for_gradient: bool) -> None:
        """inputs: [G, dim]; most_blocks: of a chunk."""
        images, dim = inputs.shape
        self._most = most_blocks
        self._reference = inputs.new_full((images,), -torch.inf, dtype=torch.float32)
        self._total = torch.zeros(images, dtype=torch.float64, device=inputs.device)
        shape = splits_of(inputs, most_blocks), images, dim
        self._weighted = torch.zeros(shape, device=inputs.device) if for_gradient else None

    def add(self, part: Exponentials, sums: Tensor, centres: Tensor) -> None:
        """Count a chunk in. sums: [blocks, G]; centres: [classes, dim]."""
        reference = torch.maximum(self._reference, part.maxima.amax(dim=0))
        finite = torch.where(reference.isneginf(), 0.0, reference)
        decay, scales = torch.exp(self._reference - finite), torch.exp(part.maxima - finite)
        self._total = self._total * decay + (sums * scales).sum(dim=0, dtype=torch.float64)
        if self._weighted is not None and part.factors is not None:
            weigh(part.factors, centres, scales, decay, self._weighted, self._most)
        self._reference = reference

    def result(self, kept: Kept | None) -> NegativeSums:
        """All of them."""
        weighted = None if self._weighted is None else self._weighted.sum(dim=0)
        return NegativeSums(self._reference, self._total.float(), weighted, kept)


class Pass:
    """A backpropagated batch as the update's chunks want it."""

    def __init__(
        self, shard: Shard, passed: Backpropagated, drawn: Tensor | None, chunk: int, dtype: torch.dtype
    ) -> None:
        self.passed = passed
        self.plan = Plan(shard, passed.batch, drawn, chunk, dtype)
        # What was kept is of the batch's own classes.
        kept: Kept | None = passed.kept if self.plan.mask is None else None
        self.kept = kept if kept and kept.version == shard.weight._version else None
        # −inf: no class but the target, and no exponential to be taken.
        self._log_sum = torch.where(passed.log_sum.isfinite(), passed.log_sum, 0.0)

    def pull(
        self,
        shard: Shard,
        tile: Tile,
        scratch: Exponentials,
        gradient: Tensor,
        bias_gradient: Tensor,
        adds: bool,
    ) -> None:
        """Write a chunk's gradient but for the targets' part, or add it to what is there."""
        if self.kept:
            made = self.kept.exponentials.part(tile.first, tile.last)
        else:
            made = scratch.room(tile.size, self.plan.inputs.shape[0])
            made.fill(shard, self.plan, tile)
        assert made.factors is not None
        coefficients = (self.passed.pull * torch.exp(made.maxima - self._log_sum)).float()
        biases = None if shard.bias is None else bias_gradient
        pull(made.factors, self.plan.inputs, coefficients, gradient, biases, adds)
