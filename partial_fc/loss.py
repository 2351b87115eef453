"""One batch through the head: from everybody's embeddings to the loss and everybody's gradient.

    loss_i = log(1 + exp(N_i − t_i)) + penalty_i,   N_i = log Σ_{j≠y_i} exp z_ij,   t_i the target's logit

The margin is in t_i alone, and t_i never in a sum: no digit is lost however small a loss is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from partial_fc.batch import Backpropagated, Batch, Shard, owned_images
from partial_fc.communicator import Communicator
from partial_fc.exchange import Gathered, add_up, merge_softmax
from partial_fc.hashing import hash_pair, normal_pair
from partial_fc.kernels import Kernels
from partial_fc.margins import Facts, Margin
from partial_fc.numerics import inverse_norms, project, row_norms
from partial_fc.sampling import sample_classes
from partial_fc.targets import Owned, TargetLogits, owned_targets, target_logits

NOISE = 0x6E6F697365  # sets these draws apart from those of the classes


@dataclass(frozen=True)
class Draw:
    """What chance in a step depends on."""

    seed: int
    step: int
    part: int
    """Which of the batches before the step's update."""


@dataclass
class Outcome:
    """What the backward pass needs of a batch. Not the loss: it would hold itself by way of its graph."""

    gradient: Tensor
    """[G, dim] float32: this rank's part of d loss / d embeddings."""
    own_gradient: Tensor | None
    """[batch, dim]: what this rank adds for its own images alone (the penalty's)."""
    passed: Backpropagated


def run_batch(
    shard: Shard,
    margin: Margin,
    kernels: Kernels,
    communicator: Communicator,
    gathered: Gathered,
    state: dict[str, float],
    draw: Draw,
    rate: float | None,
) -> tuple[Tensor, dict[str, float], Outcome | None]:
    """state: what the margin remembers; rate: the part of the classes that takes part.

    No rate: an evaluation, over all classes and without a gradient.
    Returns the loss, a float32 scalar with the same bits on every rank, and what the margin remembers now.
    """
    embeddings, training = gathered.embeddings, rate is not None
    norms = row_norms(embeddings)
    images, classes = owned_images(gathered.labels, shard)
    selected = None if rate is None else sample_classes(shard, classes, rate, draw.seed, draw.step)
    owned = owned_targets(shard, margin, embeddings, norms, images, classes)
    facts = _facts(margin, communicator, owned, norms, gathered.labels, state, draw, training)
    targets = target_logits(owned, shard, margin, facts)

    inverse = inverse_norms(norms).float()
    # One factor a row: large embeddings times the scale could be Inf before they are made small.
    inputs = embeddings * (inverse[:, None] * margin.scale if margin.normalises_embeddings else margin.scale)
    batch = Batch(inputs, margin.normalises_centres, images, classes, selected, margin.scale)
    if margin.changes_negatives:
        cosines = facts.target_cosines.float()
        batch.negatives = lambda dots, block: margin.negatives(dots, cosines[block], facts.state)
    sums = kernels.forward(shard, batch, training)

    target = torch.full_like(norms, -torch.inf)
    target[images] = targets.logits
    log_sum, target = merge_softmax(communicator, sums.reference.double(), sums.total.double(), target)
    count = facts.labelled.sum().clamp_min(1)
    surplus = torch.where(facts.labelled, log_sum - target, -torch.inf)
    loss = torch.nn.functional.softplus(surplus).sum() / count
    pull = torch.sigmoid(surplus) / count

    own_gradient = None
    penalty, penalty_slope = _penalty(margin, norms)
    if penalty is not None and penalty_slope is not None:
        weights = facts.labelled / count
        loss = loss + (penalty * weights).sum()
        own = gathered.own
        directions = embeddings[own] * inverse[own, None]
        own_gradient = directions * (penalty_slope * weights)[own, None].float()

    if sums.weighted is None:  # an evaluation, which no gradient is asked of
        return loss.float(), facts.state, None
    pulls = _TargetPulls.of(margin, shard, inputs, pull, owned, targets)
    gap = sums.reference.double() - log_sum
    gap = torch.where(gap.isnan(), -torch.inf, gap)  # no negative anywhere: both are −inf
    gradient = sums.weighted.mul_((pull * torch.exp(gap) * margin.scale).float()[:, None])
    gradient.index_add_(0, images, pulls.on_inputs)
    if margin.normalises_embeddings:
        gradient = project(gradient, embeddings * inverse[:, None], inverse)
    along = (inverse[images] * pulls.on_norms)[:, None]
    gradient.index_add_(0, images, embeddings[images].mul_(along))
    bias_push = None if shard.bias is None else -pull[images].float()
    passed = Backpropagated(batch, log_sum, pull.float(), owned.rows, pulls.on_centres, bias_push, sums.kept)
    return loss.float(), facts.state, Outcome(gradient, own_gradient, passed)


def _facts(
    margin: Margin,
    communicator: Communicator,
    owned: Owned,
    norms: Tensor,
    labels: Tensor,
    state: dict[str, float],
    draw: Draw,
    training: bool,
) -> Facts:
    cosines = torch.zeros_like(norms)
    if margin.sees_targets:
        cosines[owned.images] = owned.dots
        cosines = add_up(communicator, cosines)
    places = torch.arange(norms.shape[0], device=norms.device)
    noise = normal_pair(hash_pair(draw.seed ^ NOISE, draw.step, places + (draw.part << 40)))[0]
    facts = Facts(norms, labels >= 0, cosines, noise, draw.step, state)
    moved = margin.next_state(facts) if training else state
    # One batch of numbers that are none must not stay in memory.
    return replace(facts, state=moved) if all(map(math.isfinite, moved.values())) else facts


def _penalty(margin: Margin, norms: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """[G] and its slope in the norms [G]."""
    with torch.inference_mode(False), torch.enable_grad():
        variable = norms.clone().requires_grad_()
        penalty = margin.penalty(variable)
        if penalty is None:
            return None, None
        (slope,) = torch.autograd.grad(penalty.sum(), variable)
    return penalty.detach(), slope


@dataclass
class _TargetPulls:
    """d loss / d what the targets' logits are made of, float32."""

    on_inputs: Tensor
    """[T, dim]: x̃."""
    on_norms: Tensor
    """[T]: ‖x‖ itself."""
    on_centres: Tensor
    """[T, dim]: w̃."""

    @classmethod
    def of(
        cls, margin: Margin, shard: Shard, inputs: Tensor, pull: Tensor, owned: Owned, targets: TargetLogits
    ) -> _TargetPulls:
        """inputs: [G, dim] s x̃; pull: [G]. See targets.py for the formulas."""
        pull = -pull[owned.images]
        by_dot = (pull * targets.by_dot).float()[:, None]
        centres = shard.weight[owned.rows]
        on_centres = inputs[owned.images].mul_(by_dot / margin.scale)
        inverse = inverse_norms(owned.centre_norms)
        if margin.normalises_centres:
            centres.mul_(inverse.float()[:, None])
        else:
            on_centres.addcmul_(centres, (pull * targets.by_centre_norm * inverse).float()[:, None])
        on_norms = (pull * targets.by_embedding_norm).float()
        return cls(centres.mul_(by_dot), on_norms, on_centres)
