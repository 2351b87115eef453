"""The tile passes against the reference: blocks of images, micro-batches, threads, many classes."""

from __future__ import annotations

import math

import pytest
import torch

from partial_fc import ArcFace, CosFace, CurricularFace, Margin, PartialFC, Softmax
from partial_fc.kernels.workers import Workers
from tests.partial_fc.running import DIM, assert_like, data, run

SPECIAL: list[Margin] = [
    CosFace(32.0, 0.2),
    ArcFace(32.0, 0.4, centres_per_class=3),
    Softmax(),
    CurricularFace(32.0, filter_above=0.9),
]


@pytest.mark.parametrize("margin", SPECIAL, ids=str)
@pytest.mark.parametrize("workspace", [512.0, 0.0])
@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_many_images_and_many_tiles(margin: Margin, workspace: float, rate: float) -> None:
    x, y = data(600, 2500)  # two blocks of images
    options = {"sample_rate": rate, "workspace_mib": workspace}
    expected = run(margin, 2500, x, y, kernels="reference", sample_rate=rate)
    assert_like(run(margin, 2500, x, y, **options), expected)


@pytest.mark.parametrize("margin", SPECIAL, ids=str)
@pytest.mark.parametrize("workspace", [512.0, 0.5])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_micro_batches_kept_and_not(margin: Margin, workspace: float, rate: float) -> None:
    x, y = data(60, 2500)
    expected = run(margin, 2500, x, y, parts=3, kernels="reference", sample_rate=rate)
    assert_like(run(margin, 2500, x, y, parts=3, sample_rate=rate, workspace_mib=workspace), expected)


def test_a_sampled_and_a_whole_batch_in_one_step() -> None:
    x, y = data(30, 2500)
    results = []
    for kernels in ("reference", "tiles"):
        head = PartialFC(2500, DIM, CosFace(32.0, 0.2), sample_rate=0.3, kernels=kernels)
        head.local_weight.mul_(10)
        head(x.clone().requires_grad_(), y).backward()
        head.sample_rate = 1.0
        head(x.clone().requires_grad_(), y).backward()
        head.step(0.1)
        results.append(head.local_weight)
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_threads_change_no_more_than_the_order_of_additions_and_each_number_of_them_nothing() -> None:
    x, y = data(40, 30_000)
    before = torch.get_num_threads()
    try:
        results = {}
        for threads in (1, 3, 3):
            torch.set_num_threads(threads)
            results.setdefault(threads, []).append(run(CosFace(32.0, 0.2), 30_000, x, y, steps=3))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_like(results[3][0], results[1][0])
    for one, other in zip(results[3][0], results[3][1], strict=True):
        assert one == other if isinstance(one, list) else torch.equal(one, other)


def test_workers_multiply_on_one_thread_each() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = Workers().run(lambda first, last: torch.get_num_threads(), 8, 1)
        assert found == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("largest", [2.0, 1e15])
def test_a_reference_that_moves_changes_nothing(largest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partial_fc.kernels.sums.LARGEST_SUM", largest)
    x, y = data(40, 6000)
    expected = run(CosFace(64.0, 0.2), 6000, x, y, kernels="reference")
    assert_like(run(CosFace(64.0, 0.2), 6000, x, y), expected)


@pytest.mark.parametrize("classes", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_the_margin_is_inside_the_sum_of_a_million_classes(classes: int) -> None:
    # A million random centres of 512 numbers, s = 64, m = 0.4, a target's cosine of 0.5: the log of the sum
    # of all e^(s cos) is about 17.8, the target's logit 6.4. A margin put on afterwards gives 0.00 in
    # float32.
    generator = torch.Generator().manual_seed(0)
    head = PartialFC(classes, 512, CosFace(64.0, 0.4))
    head.local_weight.normal_(generator=generator)
    unit = torch.nn.functional.normalize(head.local_weight[0].double(), dim=0)
    across = torch.randn(512, generator=generator).double()
    across = torch.nn.functional.normalize(across - across @ unit * unit, dim=0)
    x = (0.5 * unit + math.sqrt(0.75) * across).float()
    with torch.no_grad():
        loss = head(x[None], torch.tensor([0])).item()
    cosines = (
        torch.cat(
            [
                part.double() @ x.double() / part.double().norm(dim=1)
                for part in head.local_weight.split(50_000)
            ]
        )
        / x.double().norm()
    )
    target = 64 * (cosines[0] - 0.4)
    expected = torch.nn.functional.softplus(torch.logsumexp(64 * cosines[1:], dim=0) - target).item()
    assert loss == pytest.approx(expected, rel=1e-5)
    if classes == 1_000_000:
        assert loss == pytest.approx(11.41, abs=0.1)
