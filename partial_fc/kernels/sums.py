"""The sums of the forward pass: a worker's over its tiles, and those of all workers in one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from partial_fc.batch import NegativeSums, Shard
from partial_fc.kernels.passes import Kept
from partial_fc.kernels.tile import BLOCK_IMAGES, Plan, Tile, logits

LARGEST_SUM = 1e15
"""Of a tile's exponentials; beyond it the reference moves. No digit is lost by so large ones, and times the
inverse of the shortest norm they are still float32."""


@dataclass
class Sums:
    """What one worker has summed."""

    reference: Tensor
    total: Tensor
    weighted: Tensor | None


class Running:
    """The sums of one worker over the tiles so far."""

    def __init__(self, plan: Plan, for_gradient: bool) -> None:
        inputs = plan.batch.inputs
        self._plan = plan
        self.reference = inputs.new_full((inputs.shape[0],), -torch.inf)
        self.total = torch.zeros(inputs.shape[0], dtype=torch.float64, device=inputs.device)
        self.weighted = torch.zeros_like(inputs) if for_gradient else None
        self._settled = [False] * len(plan.blocks)  # whether every image of a block has a reference

    def add(self, shard: Shard, tile: Tile, block: slice, dots: Tensor, out: Tensor) -> Tensor:
        """Count a tile in. Returns P [R, images] as the reference is now; see tile.Logits.factors."""
        number = block.start // BLOCK_IMAGES
        made = logits(shard, self._plan, tile, block, dots)
        if self._settled[number]:
            found, sums = made.factors(self.reference[block], out)
            if float(sums.max()) < LARGEST_SUM:
                self.total[block] += sums
                return found
            made = logits(shard, self._plan, tile, block, dots)  # `out` has taken their place
        self._refer(block, made.largest())
        reference = self.reference[block]
        known = reference.isfinite()
        # To ask a GPU for a number would have it wait; the largest logits cost it little.
        self._settled[number] = out.device.type == "cpu" and bool(known.all())
        found, sums = made.factors(torch.where(known, reference, 0.0), out)
        self.total[block] += sums
        return found

    def weigh(self, block: slice, factors: Tensor, centres: Tensor) -> None:
        """weighted += factorsᵀ centres; factors: [R, images], centres: [R, dim]."""
        assert self.weighted is not None
        part = self.weighted[block]
        if centres.dtype == torch.float32:
            part.addmm_(factors.T, centres)
        else:
            part.add_(factors.T @ centres)

    def _refer(self, block: slice, largest: Tensor) -> None:
        """Let no logit lie above the reference."""
        before = self.reference[block]
        after = torch.maximum(before, largest)
        decay = torch.where(before.isneginf(), 0.0, torch.exp(before - after))
        self.total[block] *= decay
        if self.weighted is not None:
            self.weighted[block] *= decay[:, None]
        self.reference = self.reference.clone()  # what was kept before refers to the one before
        self.reference[block] = after


def merged(parts: list[Sums], kept: Kept | None) -> NegativeSums:
    """Workers' sums in one, in their order."""
    first = parts[0]
    if len(parts) == 1:
        return NegativeSums(first.reference, first.total.float(), first.weighted, kept)
    reference = torch.stack([part.reference for part in parts]).amax(dim=0)
    total = torch.zeros_like(first.total)
    for part in parts:
        decay = torch.where(part.reference.isneginf(), 0.0, torch.exp(part.reference - reference))
        total += part.total * decay
        if part.weighted is not None:
            part.weighted *= decay[:, None]
            if part is not first and first.weighted is not None:
                first.weighted += part.weighted
    return NegativeSums(reference, total.float(), first.weighted, kept)
