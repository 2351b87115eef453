"""What the tiles do beside the plain step: threads, blocks of images, micro-batches, memory, optimisers."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from partial_fc import (
    SGD,
    AdaFace,
    AdamW,
    ArcFace,
    CosFace,
    CurricularFace,
    MagFace,
    Margin,
    PartialFC,
    Softmax,
)
from partial_fc.errors import HeadInputError
from partial_fc.kernels.arena import Arena
from partial_fc.kernels.workers import Workers
from tests.partial_fc.test_exactness import MARGINS

DIM = 16
Result = tuple[list[float], Tensor, Tensor]


def data(images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, DIM, generator=generator) * 4
    return x, torch.randint(-1, classes, (images,), generator=generator)


def run(
    margin: Margin, classes: int, x: Tensor, y: Tensor, steps: int = 2, parts: int = 1, **options: Any
) -> Result:
    """Losses, embedding gradient of the last step, centres after it."""
    head = PartialFC(classes, DIM, margin, seed=1, **options)
    head.local_weight.mul_(10)
    losses = []
    gradient = torch.zeros_like(x)
    for _ in range(steps):
        own = x.clone().requires_grad_()
        for part in torch.arange(len(x)).chunk(parts):
            loss = head(own[part], y[part])
            (loss / parts).backward()
            losses.append(loss.item())
        head.step(0.1)
        assert own.grad is not None
        gradient = own.grad
    return losses, gradient, head.local_weight


def assert_like(found: Result, expected: Result) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert ((one - other).norm() / other.norm()).item() < 1e-4


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


class Dense:
    """The same loss by autograd over a dense weight, and an optimiser of torch's."""

    def __init__(self, weight: Tensor, make: Any) -> None:
        self.weight = weight.clone().requires_grad_()
        self.optimiser = make([self.weight])

    def step(self, x: Tensor, y: Tensor, factor: float = 1.0) -> None:
        x, w = torch.nn.functional.normalize(x), torch.nn.functional.normalize(self.weight)
        one_hot = torch.nn.functional.one_hot(y, len(w))
        loss = torch.nn.functional.cross_entropy(32 * (x @ w.T - 0.2 * one_hot), y)
        self.optimiser.zero_grad()
        (factor * loss).backward()
        self.optimiser.step()


@pytest.mark.parametrize("workspace", [512.0, 0.0])
def test_the_optimisers_are_torchs(workspace: float) -> None:
    x, y = data(30, 3000)
    y = y.clamp_min(0)
    pairs = [
        (
            SGD(momentum=0.8, weight_decay=1e-3),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=1e-3),
        ),
        (
            AdamW(weight_decay=0.1, betas=(0.8, 0.95)),
            lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1, betas=(0.8, 0.95)),
        ),
    ]
    for optimiser, make in pairs:
        head = PartialFC(3000, DIM, CosFace(32.0, 0.2), optimiser=optimiser, workspace_mib=workspace)
        dense = Dense(head.local_weight.double(), make)
        for _ in range(4):
            (head(x.clone().requires_grad_(), y) * 8).backward()  # a loss scaler's 8, undone by the step
            head.step(0.1, gradient_scale=1 / 8)
            dense.step(x.double(), y)
        moved = dense.weight.detach() - PartialFC(3000, DIM, CosFace()).local_weight
        difference = head.local_weight - dense.weight.detach()
        # Adam divides by the root of tiny second moments: what float32 rounds is blown up there.
        assert (difference.norm() / moved.norm()).item() < (1e-5 if isinstance(optimiser, SGD) else 1e-3)


def test_a_row_limit_shortens_a_centres_gradient() -> None:
    x, y = data(30, 200)
    moved = []
    for limit in (math.inf, 1e-3):
        head = PartialFC(200, DIM, CosFace(), optimiser=SGD(0.0, limit))
        before = head.local_weight.clone()
        head(x.clone().requires_grad_(), y).backward()
        head.step(1.0)
        moved.append(head.local_weight - before)
    lengths = moved[0].norm(dim=1)
    assert lengths.max() > 2e-3
    expected = moved[0] * (1e-3 / lengths).clamp_max(1.0)[:, None]
    torch.testing.assert_close(moved[1], expected, rtol=1e-3, atol=1e-8)


def test_a_rate_that_changes_with_the_steps() -> None:
    x, y = data(10, 1000)
    head = PartialFC(1000, DIM, CosFace(), sample_rate=lambda step: 0.1 if step < 1 else 1.0)
    drawn = []
    for _ in range(2):
        head(x.clone().requires_grad_(), y).backward()
        selected = head._backpropagated[0].batch.selected
        drawn.append(1000 if selected is None else len(selected))
        head.step(0.1)
    assert drawn == [100, 1000]
    with pytest.raises(HeadInputError, match="sample_rate must be above 0 and at most 1, got 2"):
        PartialFC(10, DIM, CosFace(), sample_rate=lambda step: 2.0)


def test_a_batch_that_is_forgotten_frees_its_exponentials() -> None:
    x, y = data(10, 1000)
    head = PartialFC(1000, DIM, CosFace(), workspace_mib=1000 * 10 * 4 / 2**20)  # as much as one batch needs
    gc.disable()  # by reference counts alone, no cycle is left
    try:
        losses = []
        for _ in range(3):
            loss = head(x.clone().requires_grad_(), y)
            kept = loss.grad_fn.done[0].passed.kept  # type: ignore[union-attr]
            assert kept is not None
            watched = weakref.ref(kept.loan)
            del kept
            losses.append(loss.item())
            del loss
            assert watched() is None
    finally:
        gc.enable()
    assert len(set(losses)) == 1


def test_the_arena_lends_no_more_than_its_budget_and_no_memory_twice() -> None:
    arena = Arena(100, torch.device("cpu"))
    first = arena.lend(10, torch.float32)
    second = arena.lend(30, torch.bfloat16)
    assert first is not None
    assert second is not None
    assert arena.lend(1, torch.float32) is None
    first.memory.fill_(1.0)
    second.memory.fill_(2.0)
    assert first.memory.sum().item() == 10
    del first
    third = arena.lend(10, torch.float32)
    assert third is not None
    third.memory.fill_(3.0)
    assert second.memory.float().sum().item() == 60


def test_evaluating_moves_nothing() -> None:
    x, y = data(10, 100)
    head = PartialFC(100, DIM, CurricularFace())
    before = head.local_weight.clone()
    with torch.no_grad():
        head(x, y)
    head.step(0.1)
    assert torch.equal(head.local_weight, before)
    assert head.margin_state == {"t": 0.0}


def test_two_heads_in_one_process() -> None:
    x, y = data(10, 100)
    alone = [run(margin, 100, x, y) for margin in (CosFace(32.0, 0.2), MagFace())]
    heads = [PartialFC(100, DIM, margin, seed=1) for margin in (CosFace(32.0, 0.2), MagFace())]
    for head in heads:
        head.local_weight.mul_(10)
    for _ in range(2):
        own = x.clone().requires_grad_()
        (heads[0](own, y) + heads[1](own, y)).backward()
        for head in heads:
            head.step(0.1)
    for head, (_, _, weight) in zip(heads, alone, strict=True):
        assert torch.equal(head.local_weight, weight)


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


def test_workers_multiply_on_one_thread_each() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = Workers().run(lambda first, last: torch.get_num_threads(), 8, 1)
        assert found == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_plain_loop_keeps_in_the_same_memory() -> None:
    x, y = data(10, 1000)
    head = PartialFC(1000, DIM, CosFace(), workspace_mib=1000 * 10 * 4 / 2**20)
    places = set()
    for _ in range(4):
        loss = head(x.clone().requires_grad_(), y)  # while the one before is still held
        kept = loss.grad_fn.done[0].passed.kept  # type: ignore[union-attr]
        places.add(kept.loan.memory.data_ptr())
        del kept
        loss.backward()
        head.step(0.1)
    assert len(places) == 1


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


def test_an_evaluation_is_over_all_classes_whatever_the_rate() -> None:
    x, y = data(30, 500)
    with torch.no_grad():
        whole, sampled = (PartialFC(500, DIM, CosFace(), sample_rate=rate)(x, y) for rate in (1.0, 0.1))
    assert torch.equal(whole, sampled)


def test_no_image_at_all_is_a_loss_of_zero() -> None:
    head = PartialFC(10, DIM, CosFace())
    x = torch.zeros(0, DIM, requires_grad=True)
    loss = head(x, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    head.step(0.1)
    assert loss.item() == 0.0


def test_labels_may_be_a_column_and_the_backbone_frozen() -> None:
    x, y = data(10, 100)
    losses = []
    for labels in (y, torch.stack((y, y), dim=1)[:, 0]):
        head = PartialFC(100, DIM, CosFace())
        before = head.local_weight.clone()
        loss = head(x, labels)
        loss.backward()
        head.step(0.1)
        assert not torch.equal(head.local_weight, before)
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_a_second_backward_of_one_loss_is_refused() -> None:
    x, y = data(10, 100)
    loss = PartialFC(100, DIM, CosFace())(x.requires_grad_(), y)
    loss.backward(retain_graph=True)
    with pytest.raises(HeadInputError, match="twice"):
        loss.backward()


@pytest.mark.parametrize("kernels", ["reference", "tiles"])
def test_what_is_no_number_is_seen_in_the_loss_and_remembered_nowhere(kernels: str) -> None:
    x, y = data(10, 3000)
    head = PartialFC(3000, DIM, AdaFace(), kernels=kernels)
    head(torch.full_like(x, math.nan).requires_grad_(), y)
    assert head.margin_state == AdaFace().first_state()
    head.local_weight[2999] = math.nan
    assert math.isnan(head(x, y.clamp_max(2000)).item())


def test_adams_second_moment_is_exact() -> None:
    head = PartialFC(10, DIM, CosFace(), optimiser=AdamW(), moment_dtype=torch.bfloat16)
    dtypes = {name: tensor.dtype for name, tensor in head.sharded_state().items()}
    assert dtypes == {"weight": torch.float32, "mean": torch.bfloat16, "square": torch.float32}


@pytest.mark.parametrize("largest", [2.0, 1e15])
def test_a_reference_that_moves_changes_nothing(largest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partial_fc.kernels.sums.LARGEST_SUM", largest)
    x, y = data(40, 6000)
    expected = run(CosFace(64.0, 0.2), 6000, x, y, kernels="reference")
    assert_like(run(CosFace(64.0, 0.2), 6000, x, y), expected)


EXTREME = st.sampled_from([0.0, 1e-30, -1e-30, 1e-3, 1.0, -1.0, 1e30, -1e30])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(EXTREME, min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.lists(EXTREME, min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([1.0, 64.0, 1000.0]),
    st.integers(0, 2**31),
    st.sampled_from(["tiles", "reference"]),
)
def test_nothing_becomes_nan_or_infinite(
    embeddings: list[list[float]], centres: list[list[float]], scale: float, seed: int, kernels: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    for margin in MARGINS:
        if not (margin.normalises_embeddings and margin.normalises_centres):
            continue  # their logits are products of what is given: 1e60 is no float32
        per_class: int = getattr(margin, "centres_per_class", 1)
        head = PartialFC(
            len(centres),
            3,
            type(margin)(scale, centres_per_class=per_class),
            kernels=kernels,  # type: ignore[call-arg]
        )
        head.local_weight.copy_(torch.tensor(centres).repeat_interleave(per_class, dim=0))
        x = torch.tensor(embeddings, requires_grad=True)
        y = torch.randint(-1, len(centres), (len(embeddings),), generator=generator)
        loss = head(x, y)
        loss.backward()
        head.step(1e-3)
        assert math.isfinite(loss.item()), margin
        assert x.grad is not None
        assert torch.isfinite(x.grad).all(), margin
        assert torch.isfinite(head.local_weight).all(), margin
