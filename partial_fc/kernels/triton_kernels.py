"""The two passes for GPUs: Triton makes exponentials of logits while these are in registers.

tiles.py reads and writes its logits several times on the way; here they reach memory as P alone. Each block
of 64 classes refers to its own largest logit, so no pass looks for maxima, the host waits for none, and sums
are exact however far logits lie apart. With r the largest logit so far, Z the sum beside it, and m, s and P
of a block b (see triton_products.py), a chunk of classes is taken in by

    r' = max(r, max_b m_b)      Z' = Z exp(r − r') + Σ_b exp(m_b − r') s_b
                                U' = U exp(r − r') + Σ_b exp(m_b − r') Σ_{j∈b} P_j w_j

and the update multiplies a block's P by a exp(m_b − N), a and N being the loss's pull on an image and its
log-sum. P and m are kept for that where the workspace allows, else made again, chunk by chunk.

The centres' gradient exists for one chunk at a time, about as large as a GPU's second cache, and goes from
there into the optimiser in one pass over the rows (rows_triton.py). It is not fused into the product: a
program would hold whole rows of it in registers, which bounds dim, and there would be a kernel for each
optimiser and number of micro-batches.
"""

from __future__ import annotations

import torch

import partial_fc.kernels.rows_triton as rows_triton
from partial_fc.batch import Backpropagated, Batch, NegativeSums, Shard
from partial_fc.kernels.arena import Arena
from partial_fc.kernels.passes import push_targets
from partial_fc.kernels.tile import Plan, Tiles
from partial_fc.kernels.tiles import TileKernels, move_bias, union
from partial_fc.kernels.triton_blocks import Exponentials, Kept, Pass, Running
from partial_fc.kernels.triton_parts import check_device
from partial_fc.kernels.triton_products import BLOCK_CLASSES, blocks
from partial_fc.optim import Move

CHUNK_NUMBERS = 1 << 23
"""Of a chunk's exponentials and of its gradient, whichever is larger: 32 MiB of float32."""


class TritonKernels:
    """See the module. Raises HeadInputError where Triton does not run."""

    def __init__(self, dtype: torch.dtype, workspace_bytes: int, device: torch.device) -> None:
        check_device(device)
        self._dtype = dtype
        self._arena = Arena(workspace_bytes, device)
        self._tiles = TileKernels(dtype, workspace_bytes, device)

    def forward(self, shard: Shard, batch: Batch, for_gradient: bool) -> NegativeSums:
        """See Kernels."""
        if not _is_ours(shard, batch):
            return self._tiles.forward(shard, batch, for_gradient)
        count = shard.num_classes if batch.selected is None else batch.selected.shape[0]
        images, dim = batch.inputs.shape
        chunk = _chunk(count, images, dim)
        normalised = batch.normalises_centres
        plan = Plan(shard, batch, batch.selected, chunk, self._dtype)
        tiles = Tiles(shard, batch.selected, normalised, chunk, self._dtype)
        beside = chunk * dim * (4 + self._dtype.itemsize)  # a chunk's gradient, and its centres to multiply
        kept = Kept.lent(self._arena, shard, batch, count, self._dtype, beside) if for_gradient else None
        dtype = self._dtype if for_gradient else None
        scratch = Exponentials.empty(0 if kept else chunk, images, dtype, batch.inputs.device)
        running = Running(batch.inputs, blocks(chunk, BLOCK_CLASSES), for_gradient)
        for number in range(blocks(count, chunk)):
            tile = tiles.tile(number, with_factors=True)
            part = kept.exponentials.part(tile.first, tile.last) if kept else scratch.room(tile.size, images)
            running.add(part, part.fill(shard, plan, tile), tile.factors)
            if kept and kept.inverses is not None and tile.inverse is not None:
                kept.inverses[tile.first : tile.last] = tile.inverse
        return running.result(kept)

    def update(self, shard: Shard, passes: list[Backpropagated], move: Move) -> None:
        """See Kernels."""
        if not all(_is_ours(shard, one.batch) for one in passes):
            self._tiles.update(shard, passes, move)
            return
        drawn = union([one.batch.selected for one in passes])
        count = shard.num_classes if drawn is None else drawn.shape[0]
        largest = max((one.batch.inputs for one in passes), key=len)
        chunk = _chunk(count, *largest.shape)
        prepared = [Pass(shard, one, drawn, chunk, self._dtype) for one in passes]
        made_again = any(each.kept is None for each in prepared)
        known = None if made_again or prepared[0].kept is None else prepared[0].kept.inverses
        scratch = Exponentials.empty(chunk if made_again else 0, len(largest), self._dtype, largest.device)
        tiles = Tiles(shard, drawn, passes[0].batch.normalises_centres, chunk, self._dtype, known)
        gradients = shard.weight.new_empty(chunk, shard.weight.shape[1])
        for number in range(blocks(count, chunk)):
            tile = tiles.tile(number, with_factors=made_again)
            gradient = gradients[: tile.size]
            bias_gradient = gradient.new_zeros(tile.size)
            for place, each in enumerate(prepared):
                each.pull(shard, tile, scratch, gradient, bias_gradient, adds=place > 0)
            for each in prepared:
                push_targets(each.passed, each.plan, tile, 1, gradient, bias_gradient)
            move(rows_triton, shard.weight, shard.moments, tile.rows, gradient, tile.inverse)
            if shard.bias is not None:
                move_bias(shard, shard.bias, tile, bias_gradient, move)


def _is_ours(shard: Shard, batch: Batch) -> bool:
    """Whether a logit is a product of an image and a centre, with a bias at most; all else tiles.py does."""
    return shard.centres_per_class == 1 and batch.negatives is None


def _chunk(count: int, images: int, dim: int) -> int:
    """Classes of a chunk: whole blocks, no more than there are."""
    fitting = max(1, CHUNK_NUMBERS // (max(images, dim) * BLOCK_CLASSES))
    return BLOCK_CLASSES * max(1, min(fitting, blocks(count, BLOCK_CLASSES)))
