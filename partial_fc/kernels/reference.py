"""The passes as the formulas read, dense and in float64; everything faster is compared with this.

    N_i = log Σ_{j≠y_i} exp z_ij      ∂L/∂z_ij = a_i exp(z_ij − N_i)      z_ij = inputs_i·ŵ_j + b_j

a_i being the loss's pull on image i; the targets' part of the gradient is given (`push`).
"""

from __future__ import annotations

import torch
from torch import Tensor

import partial_fc.kernels.rows_torch as rows_torch
from partial_fc.batch import Backpropagated, Batch, NegativeSums, Shard
from partial_fc.numerics import inverse_norms, row_norms
from partial_fc.optim import Move


class ReferenceKernels:
    """See the module."""

    def forward(self, shard: Shard, batch: Batch, for_gradient: bool) -> NegativeSums:
        """See Kernels."""
        logits, slopes, centres = _negatives(shard, batch)
        if not logits.shape[1]:
            nothing = batch.inputs.new_zeros(batch.inputs.shape[0])
            return NegativeSums(nothing - torch.inf, nothing, torch.zeros_like(batch.inputs))
        reference = logits.amax(dim=1)
        exponentials = torch.exp(logits - torch.where(reference.isfinite(), reference, 0.0)[:, None])
        weighted = (exponentials[:, :, None] * slopes).flatten(1) @ centres
        return NegativeSums(reference.float(), exponentials.sum(dim=1).float(), weighted.float())

    def update(self, shard: Shard, passes: list[Backpropagated], move: Move) -> None:
        """See Kernels."""
        gradient = torch.zeros_like(shard.weight, dtype=torch.float64)
        bias_gradient = torch.zeros(shard.num_classes, dtype=torch.float64, device=shard.weight.device)
        inverse = None
        taking_part = torch.zeros(shard.num_classes, dtype=torch.bool, device=shard.weight.device)
        for one in passes:
            logits, slopes, _ = _negatives(shard, one.batch)
            log_sum = torch.where(one.log_sum.isfinite(), one.log_sum, 0.0).double()
            pulls = torch.exp(logits - log_sum[:, None]) * one.pull.double()[:, None]
            weights = (pulls[:, :, None] * slopes).flatten(1)  # [G, C·K]
            part = weights.T @ one.batch.inputs.double()
            part.index_add_(0, one.rows, one.push.double())
            if one.batch.normalises_centres:
                inverse = inverse_norms(row_norms(shard.weight.double()))
                part = part * inverse[:, None]
            gradient += part
            bias_gradient += pulls.sum(dim=0)
            if one.bias_push is not None:
                bias_gradient.index_add_(0, one.rows, one.bias_push.double())
            taking_part[slice(None) if one.batch.selected is None else one.batch.selected] = True
        drawn = taking_part.repeat_interleave(shard.centres_per_class)
        moved = [(shard.weight, shard.moments, gradient, drawn, inverse)]
        if shard.bias is not None:
            columns = {name: values[:, None] for name, values in shard.bias_moments.items()}
            moved.append((shard.bias[:, None], columns, bias_gradient[:, None], taking_part, None))
        for weight, moments, full, rows, norms in moved:
            chosen = torch.nonzero(rows).view(-1)
            inverses = None if norms is None else norms[chosen].float()
            move(rows_torch, weight, moments, chosen, full[chosen], inverses)


def _negatives(shard: Shard, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [G, C], −inf at targets and undrawn classes; slopes in inputs·w̃ [G, C, K]; w̃ [C·K, dim]."""
    centres = shard.weight.double()
    if batch.normalises_centres:
        centres = centres * inverse_norms(row_norms(centres))[:, None]
    dots = (batch.inputs.double() @ centres.T).view(
        len(batch.inputs), shard.num_classes, shard.centres_per_class
    )
    logits, nearest = dots.max(dim=2)
    slopes = torch.nn.functional.one_hot(nearest, shard.centres_per_class).double()
    if batch.negatives is not None:
        cosines = (logits / batch.scale).T.float().contiguous()
        slopes = slopes * batch.negatives(cosines, slice(0, len(logits))).T[:, :, None]
        logits = cosines.T.double() * batch.scale
    if shard.bias is not None:
        logits = logits + shard.bias.double()
    logits[batch.owned, batch.classes] = -torch.inf
    if batch.selected is not None:
        undrawn = torch.ones(shard.num_classes, dtype=torch.bool, device=logits.device)
        undrawn[batch.selected] = False
        logits[:, undrawn] = -torch.inf
    return logits, slopes, centres
