"""Every margin on every kernel, on one to four ranks, against the dense float64 definition."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from partial_fc import (
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    LSoftmax,
    MagFace,
    Margin,
    NormalizedSoftmax,
    PartialFC,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
)
from partial_fc.communicator import Communicator, default_communicator
from partial_fc.hashing import hash_pair, normal_pair
from partial_fc.loss import NOISE
from tests.partial_fc.oracle import dense_step
from tests.ranks import run_ranks

MARGINS: list[Margin] = [
    Softmax(),
    Softmax(bias=False),
    NormalizedSoftmax(30.0),
    CosFace(64.0, 0.35),
    CosFace(1.0, 0.1),
    CosFace(32.0, 0.2, centres_per_class=3),
    CosFace(32.0, 0.2, filter_above=0.4),
    ArcFace(64.0, 0.5),
    ArcFace(32.0, 0.5, straight_through=True),
    CombinedMargin(32.0, 1.0, 0.3, 0.2),
    CombinedMargin(32.0, 1.3, 0.2, 0.1),
    ElasticFace(32.0),
    ElasticFace(32.0, on="cosine"),
    SphereFace(),
    SphereFace(margin=3, lambda_first=0.0, lambda_least=0.0),
    SphereFaceNormFea(32.0, margin=2),
    LSoftmax(margin=2),
    AdaFace(32.0),
    AdaFace(32.0, forgets=1.0, centres_per_class=2),
    MagFace(32.0, weight=2.0),
    CurricularFace(32.0, forgets=0.5),
    CurricularFace(16.0, centres_per_class=2, filter_above=0.6),
]
SMOOTH = [margin for margin in MARGINS if getattr(margin, "filter_above", None) is None]
KERNELS = [
    {"kernels": "reference"},
    {"kernels": "tiles"},
    {"kernels": "tiles", "workspace_mib": 0.0},  # exponentials made again instead of kept
]
# (classes, dim, local batch of up to four ranks): uneven shards and batches; ranks with no class and with no
# image; several tiles; one class.
SHAPES = [
    (17, 8, (5, 3, 6, 2)),
    (2, 4, (2, 0, 3, 1)),
    (2500, 16, (4, 4, 4, 4)),
    (1, 3, (2, 1, 1, 1)),
]
SEED, STEPS = 5, 2


@dataclass
class Case:
    """A margin, a kernel, and the data."""

    margin: Margin
    options: dict[str, Any]
    batches: tuple[int, ...]
    embeddings: np.ndarray
    labels: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def __str__(self) -> str:
        return f"{self.margin} {self.options} {self.weight.shape} {self.batches}"


def make_case(margin: Margin, options: dict[str, Any], shape: tuple[Any, ...], world_size: int) -> Case:
    classes, dim, batches = shape
    rng = np.random.default_rng(classes + world_size)
    batches = batches[:world_size]
    total = sum(batches)
    # Norms from 10 to 40, which MagFace tells apart; for products that are not normalised small centres.
    embeddings = (rng.normal(size=(total, dim)) * 25 / dim**0.5).astype(np.float32)
    labels = rng.integers(0, classes, size=total)
    labels[0] = -1 if total > 1 else labels[0]
    rows = classes * getattr(margin, "centres_per_class", 1)
    weight = (rng.normal(size=(rows, dim)) * 0.1).astype(np.float32)
    bias = (rng.normal(size=classes) * 0.1).astype(np.float32)
    return Case(margin, options, batches, embeddings, labels, weight, bias)


def noise(images: int, step: int) -> np.ndarray:
    return normal_pair(hash_pair(SEED ^ NOISE, step, torch.arange(images)))[0].numpy()


def train(cases: list[Case], steps: int, communicator: Communicator | None = None) -> list[dict[str, Any]]:
    """Every case on this rank."""
    communicator = communicator or default_communicator()
    rank = communicator.rank
    results = []
    for case in cases:
        per_class = getattr(case.margin, "centres_per_class", 1)
        options = {"seed": SEED, "communicator": communicator} | case.options
        head = PartialFC(len(case.bias), case.weight.shape[1], case.margin, **options)
        first, last = head.class_range
        head.local_weight.copy_(torch.from_numpy(case.weight[first * per_class : last * per_class]))
        state = head.sharded_state()
        if case.margin.has_bias:
            state["bias"].copy_(torch.from_numpy(case.bias[first:last]))
        own = slice(sum(case.batches[:rank]), sum(case.batches[: rank + 1]))
        x = torch.from_numpy(case.embeddings[own]).requires_grad_()
        kept: dict[str, Any] = {}
        for step in range(steps):
            x.grad = None
            loss = head(x, torch.from_numpy(case.labels[own]))
            loss.backward()
            if step == 0:
                assert x.grad is not None
                kept = {"loss": loss.item(), "gradient": x.grad.numpy().copy()}
            head.step(0.1)
        results.append(
            kept
            | {
                "range": head.class_range,
                "weight": head.local_weight.numpy(),
                "bias": state["bias"].numpy() if case.margin.has_bias else None,
                "state": head.margin_state,
            }
        )
    return results


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-6))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_every_margin_on_every_kernel_is_the_definition(world_size: int) -> None:
    cases = [
        make_case(margin, options, shape, world_size)
        for margin, shape, options in itertools.product(MARGINS, SHAPES, KERNELS)
    ]
    by_rank = run_ranks(world_size, train, cases, STEPS) if world_size > 1 else [train(cases, STEPS)]
    assert_exact(cases, by_rank)


def assert_exact(cases: list[Case], by_rank: list[list[dict[str, Any]]]) -> None:
    """What `train` has returned of STEPS steps, by rank, against the definition."""
    world_size = len(by_rank)
    for number, case in enumerate(cases):
        parts = [results[number] for results in by_rank]
        loss, gradient, after, bias_after = dense_step(
            case.embeddings,
            case.labels,
            case.weight,
            case.bias if case.margin.has_bias else None,
            case.margin,
            steps=STEPS,
            noise=partial(noise, len(case.labels)),
        )
        losses = {part["loss"] for part in parts}
        assert len(losses) == 1, f"{case}: every rank has the same loss, to the bit"
        assert losses.pop() == pytest.approx(loss, rel=1e-5, abs=1e-7), str(case)
        found = np.concatenate([part["gradient"] for part in parts]) / world_size
        assert relative(found, gradient) < 1e-4, str(case)
        borders = [0, *(part["range"][1] for part in parts)]
        assert [part["range"] for part in parts] == list(itertools.pairwise(borders))
        assert borders[-1] == len(case.bias)
        assert relative(np.concatenate([part["weight"] for part in parts]), after) < 1e-4, str(case)
        if bias_after is not None:
            assert relative(np.concatenate([part["bias"] for part in parts]), bias_after) < 1e-4, str(case)
        assert all(part["state"] == parts[0]["state"] for part in parts), str(case)


@pytest.mark.parametrize("world_size", [1, 2])
def test_bfloat16_stays_close_to_the_definition(world_size: int) -> None:
    shape = (3000, 128, (16, 16))
    options = [
        {"compute_dtype": torch.bfloat16},
        {"compute_dtype": torch.bfloat16, "workspace_mib": 0.0, "wire_dtype": torch.bfloat16},
        {"compute_dtype": torch.bfloat16, "moment_dtype": torch.bfloat16},
    ]
    cases = [make_case(margin, one, shape, world_size) for margin in SMOOTH for one in options]
    by_rank = run_ranks(world_size, train, cases, 1) if world_size > 1 else [train(cases, 1)]
    assert_close(cases, by_rank)


def assert_close(cases: list[Case], by_rank: list[list[dict[str, Any]]]) -> None:
    """What `train` has returned of one step in bfloat16, by rank, against the definition."""
    for number, case in enumerate(cases):
        parts = [results[number] for results in by_rank]
        bias = case.bias if case.margin.has_bias else None
        draws = partial(noise, len(case.labels))
        loss, gradient, after, _ = dense_step(
            case.embeddings, case.labels, case.weight, bias, case.margin, noise=draws
        )
        assert parts[0]["loss"] == pytest.approx(loss, rel=1e-3), str(case)
        found = np.concatenate([part["gradient"] for part in parts])
        weight = np.concatenate([part["weight"] for part in parts])
        for seen, expected in ((found, gradient), (weight - case.weight, after - case.weight)):
            cosine = (seen * expected).sum() / np.linalg.norm(seen) / np.linalg.norm(expected)
            assert cosine > 0.9999, str(case)
