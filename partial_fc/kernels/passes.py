"""What the update knows of a batch: its exponentials, kept by the forward pass or made again."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.batch import Backpropagated, Shard
from partial_fc.kernels.arena import Loan
from partial_fc.kernels.tile import Plan, Tile, logits


@dataclass
class Kept:
    """P of a forward pass: what the update would have to make again."""

    loan: Loan
    references: list[Tensor | None]
    """For each tile, what was taken from its logits: [G]."""
    inverses: Tensor | None
    """[S·K] float32: 1/‖w‖ of the drawn centres, where they are normalised."""
    version: int
    """torch's count of writes to the centres: what was kept is true of those alone."""

    def part(self, tile: Tile, block: slice, rows: int, per_class: int) -> Tensor:
        """Where P of a tile and a block lies: [R, images]; blocks one after the other, `rows` in each."""
        width = block.stop - block.start
        start = rows * block.start + tile.first * per_class * width
        size = (tile.last - tile.first) * per_class
        return self.loan.memory[start : start + size * width].view(size, width)


class Pass:
    """A backpropagated batch as the update's tiles want it."""

    def __init__(
        self,
        shard: Shard,
        passed: Backpropagated,
        drawn: Tensor | None,
        tile: int,
        multiply: torch.dtype,
        same_tiles: bool,
    ) -> None:
        self.plan = Plan(shard, passed.batch, drawn, tile, multiply)
        self.passed = passed
        self._multiply = multiply
        kept: Kept | None = passed.kept if same_tiles else None
        self.kept = kept if kept and kept.version == shard.weight._version else None
        """P as the forward pass left it; None: to be made again."""
        # −inf: no class but the target. Nothing is there whose exponential could be taken.
        self._log_sum = torch.where(passed.log_sum.isfinite(), passed.log_sum, 0.0)
        self._per_class = shard.centres_per_class
        self._made_again = None if self.kept else self._pulled(None)
        # Of each thread the last: neighbouring tiles mostly have the same reference.
        self._images: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def factors(
        self, shard: Shard, tile: Tile, block: slice, scratch: Tensor, bias_gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """P [R, images] and X [images, dim], whose product is the block's part of the gradient."""
        images, pulls = self._made_again or self._pulled_for(tile)
        if self.kept:
            part = self.kept.part(tile, block, self.plan.count * self._per_class, self._per_class)
        else:
            width = block.stop - block.start
            out = scratch[: tile.size * width].view(tile.size, width)
            log_sum = self._log_sum[block].float()
            part, _ = logits(shard, self.plan, tile, block, out).factors(log_sum, out)
        if shard.bias is not None:  # only where nothing is normalised: P is the bare exponentials
            bias_gradient.add_(part.float() @ pulls[block])
        return part, images[block]

    def has_targets(self, tile: Tile) -> bool:
        """Whether a class of the tile is the target of an image."""
        return self.plan.targets(tile.number)[0].numel() > 0

    def _pulled_for(self, tile: Tile) -> tuple[Tensor, Tensor]:
        assert self.kept is not None
        reference, thread = self.kept.references[tile.number], threading.get_ident()
        assert reference is not None
        found = self._images.get(thread)
        if found is None or found[0] is not reference:
            found = self._images[thread] = (reference, *self._pulled(reference))
        return found[1], found[2]

    def _pulled(self, reference: Tensor | None) -> tuple[Tensor, Tensor]:
        """X for exponentials that refer to `reference`, None: to the log-sum; and a exp(r − N)."""
        pull = self.passed.pull
        if reference is not None:
            gap = torch.where(reference.isfinite(), reference - self._log_sum, 0.0)
            pull = (pull * torch.exp(gap)).float()
        return (self.plan.batch.inputs * pull[:, None]).to(self._multiply), pull


def push_targets(
    passed: Backpropagated, plan: Plan, tile: Tile, per_class: int, gradient: Tensor, bias_gradient: Tensor
) -> None:
    """Add the targets' part to the gradient of a tile: [R, dim], and to its biases' [classes]."""
    targets, classes = plan.targets(tile.number)
    if not targets.numel():
        return
    rows = classes * per_class + passed.rows[targets] % per_class
    push = passed.push[targets]
    if tile.inverse is not None:
        push = push * tile.inverse[rows][:, None]
    # Not index_add_, which on a GPU adds to one row in any order.
    gradient.index_put_((rows,), push, accumulate=True)
    if passed.bias_push is not None:
        bias_gradient.index_put_((classes,), passed.bias_push[targets], accumulate=True)
