"""The two passes over the class centres, tile by tile: nothing of size [G, C] or [C, dim] is formed.

With z_ij the logits (see tile.py), N_i the log-sum of the negatives' and a_i the loss's pull on image i:

    forward   P_ij = exp(z_ij − r_i) / ‖w_j‖       Σ_j exp(z_ij − r_i)       U_i = Σ_{j≠y_i} P_ij w_j
    update    ∂L/∂w_j = (Σ_i P_ij X_i) without its part along w_j,  X_i = inputs_i a_i exp(r_i − N_i)

r is a reference, not the maximum: the largest logit of the first tile, moved only when a later tile's sums
leave its neighbourhood, so that no pass is spent on looking for maxima (on a GPU, which would wait for the
answer, the largest so far). P is kept for the update where the workspace allows (then X carries all
that came to be known since), else made again. The targets' own terms never enter the sums:
loss_i = log(1 + exp(N_i − t_i)) then keeps all its digits when it is nearly 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from partial_fc.batch import Backpropagated, Batch, NegativeSums, Shard
from partial_fc.kernels.arena import Arena
from partial_fc.kernels.passes import Kept, Pass, push_targets
from partial_fc.kernels.precision import precision_for
from partial_fc.kernels.rows import rows_for
from partial_fc.kernels.sums import Running, Sums, merged
from partial_fc.kernels.tile import BLOCK_IMAGES, Plan, Tile, Tiles
from partial_fc.kernels.workers import Workers
from partial_fc.optim import Move

Result = TypeVar("Result")

CPU_TILE = {torch.float32: 1024, torch.bfloat16: 2048}
"""Centres a tile, by what is multiplied: as many bytes. Smaller ones spend more on sums, larger ones leave
the caches."""
GPU_TILE = 16384
LEAST_TILES = 4
"""A thread is not woken for fewer."""


class TileKernels:
    """See the module. dtype: float32 or bfloat16, see precision.py; workspace_bytes: beyond [G, dim]."""

    def __init__(self, dtype: torch.dtype, workspace_bytes: int, device: torch.device) -> None:
        self._precision = precision_for(dtype, device)
        self._centres = CPU_TILE[self._precision.multiply] if device.type == "cpu" else GPU_TILE
        self._arena = Arena(workspace_bytes, device)
        self._workspace = workspace_bytes
        self._workers = Workers() if device.type == "cpu" else None

    def forward(self, shard: Shard, batch: Batch, for_gradient: bool) -> NegativeSums:
        """See Kernels."""
        tile = max(1, self._centres // shard.centres_per_class)
        count = shard.num_classes if batch.selected is None else batch.selected.shape[0]
        numbers = -(-count // tile)
        images = batch.inputs.shape[0]
        plan = Plan(shard, batch, batch.selected, tile, self._precision.multiply)
        rows, kept, loan = count * shard.centres_per_class, None, None
        if for_gradient:
            threads = 1 if self._workers is None else torch.get_num_threads()
            multiply, dim = self._precision.multiply, batch.inputs.shape[1]
            beside = bytes_beside(multiply, self._centres, threads, rows, images, dim)
            loan = self._arena.lend(rows * images, self._precision.keep, beside)
        if loan is not None:
            inverses = shard.weight.new_empty(rows) if batch.normalises_centres else None
            kept = Kept(loan, [None] * numbers, inverses, shard.weight._version)

        def work(first: int, last: int) -> Sums:
            with torch.no_grad():
                return self._sum(shard, plan, tile, range(first, last), kept, for_gradient)

        # Each worker sums up a [G, dim] of its own.
        most = 1 + self._workspace // (4 * max(1, batch.inputs.numel()))
        return merged(self._shared(work, numbers, most), kept)

    def update(self, shard: Shard, passes: list[Backpropagated], move: Move) -> None:
        """See Kernels."""
        tile = max(1, self._centres // shard.centres_per_class)
        drawn = union([one.batch.selected for one in passes])
        count = shard.num_classes if drawn is None else drawn.shape[0]
        whole = [one.batch.selected is None or one.batch.selected.shape[0] == count for one in passes]
        prepared = [
            Pass(shard, one, drawn, tile, self._precision.multiply, keeps_tiles)
            for one, keeps_tiles in zip(passes, whole, strict=True)
        ]

        def work(first: int, last: int) -> None:
            with torch.no_grad():
                self._move(shard, prepared, drawn, tile, range(first, last), move)

        # Each worker has images of its own for what was kept.
        copied = sum(each.plan.inputs.nbytes for each in prepared if each.kept)
        self._shared(work, -(-count // tile), 1 + self._workspace // max(1, copied) if copied else 1 << 30)

    def _shared(
        self, work: Callable[[int, int], Result], numbers: int, most_shares: int = 1 << 30
    ) -> list[Result]:
        if self._workers is None:
            return [work(0, numbers)]
        return self._workers.run(work, numbers, LEAST_TILES, most_shares)

    def _sum(
        self, shard: Shard, plan: Plan, tile: int, numbers: range, kept: Kept | None, for_gradient: bool
    ) -> Sums:
        per_class = shard.centres_per_class
        running = Running(plan, for_gradient)
        multiply = self._precision.multiply
        most = tile * per_class * min(BLOCK_IMAGES, plan.inputs.shape[0])
        scratch = torch.empty(most, device=plan.inputs.device, dtype=multiply)
        tiles = Tiles(shard, plan.drawn, plan.batch.normalises_centres, tile, multiply)
        for one in (tiles.tile(number, with_factors=True) for number in numbers):
            for block in plan.blocks:
                shape = one.size, block.stop - block.start
                dots = scratch[: shape[0] * shape[1]].view(shape)
                out = kept.part(one, block, plan.count * per_class, per_class) if kept else dots
                if out.dtype == multiply:
                    dots = out
                found = running.add(shard, one, block, dots, out)
                if for_gradient:
                    running.weigh(block, found.to(multiply), one.factors)
            if kept:
                kept.references[one.number] = running.reference
                if kept.inverses is not None and one.inverse is not None:
                    kept.inverses[one.first * per_class : one.last * per_class] = one.inverse
        return Sums(running.reference, running.total, running.weighted)

    def _move(
        self, shard: Shard, passes: list[Pass], drawn: Tensor | None, tile: int, numbers: range, move: Move
    ) -> None:
        functions, device = rows_for(shard.weight), shard.weight.device
        per_class, dim = shard.centres_per_class, shard.weight.shape[1]
        multiply = self._precision.multiply
        most_images = max(min(BLOCK_IMAGES, one.plan.batch.inputs.shape[0]) for one in passes)
        scratch = torch.empty(tile * per_class * most_images, device=device, dtype=multiply)
        gradients = torch.empty(tile * per_class, dim, device=device, dtype=torch.float32)
        normalised = passes[0].plan.batch.normalises_centres
        alone = len(passes) == 1 and len(passes[0].plan.blocks) == 1
        made_again = any(each.kept is None for each in passes)
        known = None if made_again or passes[0].kept is None else passes[0].kept.inverses
        tiles = Tiles(shard, drawn, normalised, tile, multiply, known)
        for one in (tiles.tile(number, made_again) for number in numbers):
            gradient = gradients[: one.size]
            bias_gradient = gradient.new_zeros(one.last - one.first)
            begun = False
            for each in passes:
                for block in each.plan.blocks:
                    factors, images = each.factors(shard, one, block, scratch, bias_gradient)
                    if multiply != torch.float32 and alone and not each.has_targets(one):
                        gradient = factors.to(multiply) @ images  # rounded as it is, the rows are moved by it
                    elif multiply != torch.float32:
                        product = factors.to(multiply) @ images
                        gradient = gradient.add_(product) if begun else gradient.copy_(product)
                    elif begun:
                        gradient.addmm_(factors.float(), images)
                    else:
                        torch.mm(factors.float(), images, out=gradient)
                    begun = True
            if not begun:
                gradient.zero_()
            for each in passes:
                push_targets(each.passed, each.plan, one, per_class, gradient, bias_gradient)
            move(functions, shard.weight, shard.moments, one.rows, gradient, one.inverse)
            if shard.bias is not None:
                move_bias(shard, shard.bias, one, bias_gradient, move)


def bytes_beside(multiply: torch.dtype, centres: int, threads: int, rows: int, images: int, dim: int) -> int:
    """What a step takes of its workspace beside the exponentials of `rows` centres and so many images.

    Each thread's tile of `centres`: those to multiply, their logits, their gradient; and 1/‖w‖ of all.
    """
    multiplied = multiply.itemsize * (dim + min(images, BLOCK_IMAGES))
    return threads * min(centres, rows) * (multiplied + 4 * dim) + 4 * rows


def union(selections: list[Tensor | None]) -> Tensor | None:
    """The classes that any of the selections has, ascending; None: all of the shard."""
    chosen = [one for one in selections if one is not None]
    if len(chosen) < len(selections):
        return None
    return chosen[0] if len(chosen) == 1 else torch.unique(torch.cat(chosen))


def move_bias(shard: Shard, bias: Tensor, tile: Tile, gradient: Tensor, move: Move) -> None:
    """A bias is a row of one number, not normalised."""
    columns = {name: moment[:, None] for name, moment in shard.bias_moments.items()}
    move(rows_for(bias), bias[:, None], columns, tile.classes, gradient[:, None], None)
