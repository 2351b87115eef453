"""Margins that change the logits of other classes: hard negatives, filtered ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from partial_fc.margins import ArcFace, CosFace, CurricularFace, Margin, NormalizedSoftmax, Softmax
from tests.partial_fc import oracle


def changed(
    margin: Margin, dots: Tensor, target_cosines: Tensor, state: dict[str, float]
) -> tuple[Tensor, ...]:
    """Changed products and their slopes; the argument itself is left alone."""
    copy = dots.clone()
    slopes = margin.negatives(copy, target_cosines, state)
    return copy, slopes


@pytest.mark.parametrize(
    ("margin", "state"),
    [
        (CosFace(filter_above=0.4), {}),
        (NormalizedSoftmax(filter_above=1.0), {}),
        (CurricularFace(), {"t": 0.0}),
        (CurricularFace(margin=0.3), {"t": 0.37}),
        (CurricularFace(margin=0.3), {"t": -0.2}),
        (CurricularFace(margin=0.5, filter_above=0.6), {"t": 0.37}),
    ],
    ids=str,
)
def test_changed_negatives_and_their_slopes(margin: Margin, state: dict[str, float]) -> None:
    assert margin.changes_negatives
    targets = torch.linspace(-1, 1, 11, dtype=torch.float64)
    # No product within 1e-4 of a border, where the change may jump.
    dots = torch.linspace(-1, 1, 2000, dtype=torch.float64)[:, None].repeat(1, len(targets))
    borders = torch.cos(torch.arccos(targets) + getattr(margin, "margin", 0.0))
    near = (dots - borders).abs() < 1e-4
    near |= (dots - (getattr(margin, "filter_above", None) or 2.0)).abs() < 1e-4
    found, slopes = changed(margin, dots, targets, state)
    expected = oracle.negative_function(margin, dots, targets, state)
    torch.testing.assert_close(found[~near], expected[~near], rtol=0, atol=1e-14)
    h = 1e-6
    above, _ = changed(margin, dots + h, targets, state)
    below, _ = changed(margin, dots - h, targets, state)
    torch.testing.assert_close(slopes[~near], ((above - below) / (2 * h))[~near], rtol=0, atol=1e-8)
    single, single_slopes = changed(margin, dots.float(), targets.float(), state)
    assert single.dtype == single_slopes.dtype == torch.float32
    torch.testing.assert_close(single[~near], found[~near].float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(single_slopes[~near], slopes[~near].float(), rtol=0, atol=1e-6)


def test_curricularface_raises_the_hard_negatives_alone() -> None:
    # Hard: cos θ_j > cos(θ_y + m). N = cos θ_j (t + cos θ_j) has the slope t + 2 cos θ_j.
    margin, target = CurricularFace(margin=0.5), torch.tensor([math.cos(1.0)])
    dots = torch.tensor([[math.cos(1.5) - 0.01], [math.cos(1.5) + 0.01], [0.9]])
    found, slopes = changed(margin, dots, target, {"t": 0.3})
    hard = math.cos(1.5) + 0.01
    easy = math.cos(1.5) - 0.01
    assert found.flatten().tolist() == pytest.approx([easy, hard * (0.3 + hard), 0.9 * 1.2], rel=1e-5)
    assert slopes.flatten().tolist() == pytest.approx([1.0, 0.3 + 2 * hard, 2.1], rel=1e-5)


def test_filtered_negatives_have_a_logit_of_0_and_no_slope() -> None:
    dots = torch.tensor([[0.39], [0.4], [0.41], [-1.0], [1.0]])
    for margin in (CosFace(filter_above=0.4), ArcFace(filter_above=0.4)):
        found, slopes = changed(margin, dots, torch.tensor([0.1]), {})
        assert found.flatten().tolist() == pytest.approx([0.39, 0.4, 0, -1, 0])
        assert slopes.flatten().tolist() == [1, 1, 0, 1, 0]
    assert not CosFace().changes_negatives
    assert not Softmax().changes_negatives
