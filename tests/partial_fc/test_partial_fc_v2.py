"""The head beside insightface's PartialFC_V2 (arcface_torch), whose runs people come from.

Its facts, written down again in float64: a rank's shard of classes, normalised products cut off at ±1,
CosFace's s (cos θ − m), ArcFace's cos(arccos(cos θ) + m) put in where no gradient is recorded, a softmax with
maximum and sum all-reduced, probabilities of 1e-30 at least, the embeddings' gradient summed and times the
number of ranks, and torch's SGD on the shard's dense gradient.
"""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from partial_fc import ArcFace, CosFace, Margin, PartialFC, class_range
from tests.ranks import run_ranks

SCALE, BATCH, DIM, CLASSES, STEPS = 64.0, 6, 8, 17, 2
NEAR, FAR = 1.5, 0.3
"""How much of its class's centre an embedding has: FAR has losses above −log 1e-30 = 69.08."""
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
COSFACE, ARCFACE = CosFace(SCALE, 0.35), ArcFace(SCALE, 0.5, straight_through=True)
CHECKOUT = os.environ.get("COSFACE_ARCFACE_TORCH", "")
Result = dict[str, np.ndarray]


class GatherRows(torch.autograd.Function):
    """[batch, D] of every rank as [G, D]; the gradients of all ranks come back summed, times their number."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()] * dist.get_world_size()


class ShardedCrossEntropy(torch.autograd.Function):
    """logits, targets: [G, C of this rank]; targets is 1 at an image's class, 0 elsewhere. The mean loss."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        largest = logits.amax(dim=1)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        exponentials = torch.exp(logits - largest[:, None])
        total = exponentials.sum(dim=1)
        dist.all_reduce(total)
        probabilities = exponentials / total[:, None]
        own = (probabilities * targets).sum(dim=1)
        dist.all_reduce(own)
        ctx.save_for_backward((probabilities - targets) / len(logits))
        return -torch.log(own.clamp_min(1e-30)).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * gradients[0], None


def formulas(margin: Margin, weight: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """The loss of a rank's images [batch, D] by what the module's docstring says; weight: its shard."""
    everyone = [torch.empty_like(labels) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, labels)
    first, last = class_range(CLASSES, dist.get_rank(), dist.get_world_size())
    targets = one_hot(torch.cat(everyone), CLASSES)[:, first:last].double()
    cosines = (normalize(GatherRows.apply(x)) @ normalize(weight).T).clamp(-1, 1)
    if isinstance(margin, CosFace):
        logits = cosines - margin.margin * targets
    else:
        with torch.no_grad():
            moved = torch.cos(torch.arccos(cosines) + margin.margin * targets) - cosines
        logits = cosines + moved
    return ShardedCrossEntropy.apply(SCALE * logits, targets)


def data(world_size: int, near: float = NEAR) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, labels, centres; no target so far away that ArcFace's θ + m would be beyond π."""
    rng = np.random.default_rng(world_size)
    weight = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    labels = rng.integers(0, CLASSES, size=world_size * BATCH)
    x = (rng.normal(size=(len(labels), DIM)) + near * weight[labels]).astype(np.float32)
    cosines = np.sum(x * weight[labels], axis=1)
    cosines /= np.linalg.norm(x, axis=1) * np.linalg.norm(weight[labels], axis=1)
    assert np.arccos(cosines).max() + 0.5 < math.pi
    return x, labels, weight


def own_data(near: float) -> tuple[Tensor, Tensor, Tensor]:
    x, labels, weight = (torch.from_numpy(array) for array in data(dist.get_world_size(), near))
    own = slice(dist.get_rank() * BATCH, (dist.get_rank() + 1) * BATCH)
    return x[own], labels[own], weight[slice(*class_range(CLASSES, dist.get_rank(), dist.get_world_size()))]


def train_ours(margin: Margin, near: float) -> Result:
    x, labels, weight = own_data(near)
    head = PartialFC(CLASSES, DIM, margin, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    head.local_weight.copy_(weight)
    losses, gradients = [], []
    for _ in range(STEPS):
        x = x.detach().requires_grad_()
        loss = head(x, labels)
        loss.backward()
        head.step(LR)
        losses.append(loss.item())
        gradients.append(x.grad.numpy())
    return {"losses": np.array(losses), "gradients": np.stack(gradients), "weight": head.local_weight.numpy()}


def train_theirs(margin: Margin, checkout: str, near: float) -> Result:
    """By the formulas, or by the classes of a checkout of arcface_torch."""
    x, labels, shard = own_data(near)
    if checkout:
        from benchmarks.head_beside_arcface_torch import module_of

        device = torch.device("cpu")
        losses = module_of(Path(checkout) / "losses.py", device)
        source = module_of(Path(checkout) / "partial_fc_v2.py", device)
        loss_of = losses.CosFace if isinstance(margin, CosFace) else losses.ArcFace
        theirs = source.PartialFC_V2(loss_of(SCALE, margin.margin), DIM, CLASSES)
        weight = theirs.weight
        weight.data.copy_(shard)
    else:
        x, weight = x.double(), shard.double().requires_grad_()
    optimiser = torch.optim.SGD([weight], LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    losses, gradients = [], []
    for _ in range(STEPS):
        x = x.detach().requires_grad_()
        optimiser.zero_grad()
        loss = theirs(x, labels.clone()) if checkout else formulas(margin, weight, x, labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        gradients.append(x.grad.numpy())
    return {"losses": np.array(losses), "gradients": np.stack(gradients), "weight": weight.detach().numpy()}


def both(margins: list[Margin], checkout: str, near: float) -> list[tuple[Result, Result]]:
    return [(train_ours(margin, near), train_theirs(margin, checkout, near)) for margin in margins]


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)


CHECKOUTS = [
    "",
    pytest.param(
        CHECKOUT,
        marks=pytest.mark.skipif(not CHECKOUT, reason="set COSFACE_ARCFACE_TORCH to a folder arcface_torch"),
        id="checkout",
    ),
]


@pytest.mark.parametrize("checkout", CHECKOUTS)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_its_losses_gradients_and_centres_are_repeated(world_size: int, checkout: str) -> None:
    by_rank = run_ranks(world_size, both, [COSFACE, ARCFACE], checkout, NEAR)
    for ours, theirs in itertools.chain(*by_rank):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)
        assert_close(ours["gradients"], theirs["gradients"])
        assert_close(ours["weight"], theirs["weight"])


@pytest.mark.parametrize("checkout", CHECKOUTS)
def test_a_loss_that_it_cuts_off_is_whole_here_and_the_gradients_are_the_same(checkout: str) -> None:
    for ours, theirs in itertools.chain(*run_ranks(2, both, [COSFACE], checkout, FAR)):
        assert ours["losses"][0] > theirs["losses"][0] + 0.1
        assert_close(ours["gradients"], theirs["gradients"])
        assert_close(ours["weight"], theirs["weight"])


def arcface_loss(x: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """float64, by the definition."""
    angles = torch.arccos(normalize(x) @ normalize(weight).T)
    logits = SCALE * torch.cos(angles + 0.5 * one_hot(labels, CLASSES))
    return torch.nn.functional.cross_entropy(logits, labels)


def test_without_straight_through_the_gradient_is_the_losss_own() -> None:
    x, labels, weight = (torch.from_numpy(array) for array in data(1))
    generator = torch.Generator().manual_seed(0)
    straight, true = (ArcFace(SCALE, 0.5, straight_through=each) for each in (True, False))
    slopes: dict[Margin, list[tuple[float, float]]] = {straight: [], true: []}
    for margin, pairs in slopes.items():
        head = PartialFC(CLASSES, DIM, margin, momentum=0.0, weight_decay=0.0)
        head.local_weight.copy_(weight)
        own = x.clone().requires_grad_()
        head(own, labels).backward()
        head.step(1.0)
        moved = weight.double() - head.local_weight.double()  # at a rate of 1: the centres' gradient
        assert own.grad is not None
        for _ in range(8):
            along = torch.randn(x.shape, generator=generator).double(), torch.randn(weight.shape).double()
            h = 1e-6
            above, below = (
                arcface_loss(x.double() + sign * along[0], labels, weight.double() + sign * along[1])
                for sign in (h, -h)
            )
            found = (own.grad.double() * along[0]).sum() + (moved * along[1]).sum()
            pairs.append((found.item(), ((above - below) / (2 * h)).item()))
    found, expected = zip(*slopes[true], strict=True)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    found, expected = zip(*slopes[straight], strict=True)
    assert found != pytest.approx(expected, rel=0.02), "what PartialFC_V2 does is another slope"
