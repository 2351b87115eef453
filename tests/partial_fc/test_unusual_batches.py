"""Batches out of the ordinary: evaluations, no images, strange labels, no numbers, extreme ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_fc import AdaFace, CosFace, CurricularFace, MagFace, PartialFC
from partial_fc.errors import HeadInputError
from tests.partial_fc.running import DIM, data, run
from tests.partial_fc.test_exactness import MARGINS


def test_evaluating_moves_nothing() -> None:
    x, y = data(10, 100)
    head = PartialFC(100, DIM, CurricularFace())
    before = head.local_weight.clone()
    with torch.no_grad():
        head(x, y)
    head.step(0.1)
    assert torch.equal(head.local_weight, before)
    assert head.margin_state == {"t": 0.0}


def test_an_evaluation_is_over_all_classes_whatever_the_rate() -> None:
    x, y = data(30, 500)
    with torch.no_grad():
        whole, sampled = (PartialFC(500, DIM, CosFace(), sample_rate=rate)(x, y) for rate in (1.0, 0.1))
    assert torch.equal(whole, sampled)


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


def test_the_largest_embeddings_are_as_good_as_their_directions() -> None:
    x, y = data(10, 100)
    head = PartialFC(100, DIM, CosFace())
    expected = head(x / x.norm(dim=1, keepdim=True), y)
    largest = (x / x.abs().amax()) * 1e37
    assert head(largest, y).item() == pytest.approx(expected.item(), rel=1e-5)
