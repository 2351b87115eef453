"""Angles without arccos: sines, sums of angles and ψ, from cosines alone."""

from __future__ import annotations

import math

import pytest
import torch

from partial_fc.margins import ArcFace, CombinedMargin, Margin
from partial_fc.margins.base import SMALLEST_SINE, cosine_of_sum, monotone_sum, sine
from partial_fc.margins.multiplicative import psi
from tests.partial_fc.asking import ANGLES, ENDS, ask, falls


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_psi_falls_over_all_angles_without_a_jump(times: int) -> None:
    # On [kπ/m, (k+1)π/m] mθ runs from kπ to (k+1)π, where (−1)^k cos(mθ) falls from 1 to −1; −2k puts the
    # pieces end to end: ψ(kπ/m) = 1 − 2k.
    values = psi(torch.cos(ANGLES), times)
    assert falls(values)
    assert values.diff().abs().max() < times * (ANGLES[1] - ANGLES[0]) + 1e-12, "|ψ'| is at most m"
    for k in range(times + 1):
        border = k * math.pi / times
        around = torch.tensor([border - 1e-9, border, border + 1e-9], dtype=torch.float64).clamp(0, math.pi)
        assert psi(torch.cos(around), times).tolist() == pytest.approx([1 - 2 * k] * 3, abs=1e-12)
    k = (ANGLES * times / math.pi).floor()
    torch.testing.assert_close(values, (-1) ** k * torch.cos(times * ANGLES) - 2 * k, rtol=0, atol=1e-11)


@pytest.mark.parametrize("added", [0.0, 0.3, 0.5, 1.0, math.pi / 2, 2.0, 2.33])
def test_the_sum_of_angles_falls_everywhere(added: float) -> None:
    # Up to θ = π − m it is cos(θ + m), which ends at −1. There the line cos θ − m sin m is at
    # −cos m − m sin m; it lies no higher while cos m + m sin m ≥ 1: for m up to 2.3311.
    angles = ANGLES
    values = monotone_sum(torch.cos(angles), added)
    assert falls(values)
    before = angles < math.pi - added - 1e-9
    torch.testing.assert_close(values[before], torch.cos(angles[before] + added), rtol=0, atol=2e-6)
    after = angles > math.pi - added + 1e-9
    line = torch.cos(angles[after]) - added * math.sin(added)
    torch.testing.assert_close(values[after], line, rtol=0, atol=1e-12)


@pytest.mark.parametrize("added", [2.34, 2.6, 3.0, 3.14])
def test_the_sum_of_angles_falls_for_every_margin_that_is_allowed(added: float) -> None:
    assert ArcFace(margin=added).margin == added
    assert falls(monotone_sum(torch.cos(ANGLES), added))


def test_cosines_of_sums_and_sines_need_no_angle() -> None:
    angles = ANGLES[1:-1]
    torch.testing.assert_close(sine(torch.cos(angles)), torch.sin(angles), rtol=1e-8, atol=0)
    for added in (-1.0, 0.0, 0.5, 3.0):
        found = cosine_of_sum(torch.cos(angles), added)
        torch.testing.assert_close(found, torch.cos(angles + added), rtol=0, atol=1e-12)
    ends = ENDS.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(sine(ends).sum(), ends)
    assert slopes.abs().max() <= 1.01 / SMALLEST_SINE
    assert sine(ENDS.float()).isfinite().all()


@pytest.mark.parametrize("margin", [ArcFace(64.0, 0.5), CombinedMargin(64.0, 1.5, 0.5, 0.0)], ids=str)
def test_the_logit_of_an_image_on_its_centre_is_exact(margin: Margin) -> None:
    # θ = 0: cos(m). A logit that is off by e makes a small loss wrong by the factor exp(e); 1e-5 is asked.
    found = ask(margin, torch.ones(1, dtype=torch.float64))
    assert found.logit.item() == pytest.approx(64 * math.cos(0.5), abs=1e-6)
    assert found.by_dot.isfinite().all()
