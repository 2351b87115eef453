"""Margins that are added to the cosine or the angle, by hand-made numbers."""

from __future__ import annotations

import math

import pytest
import torch

from partial_fc.margins import (
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CurricularFace,
    ElasticFace,
    LSoftmax,
    MagFace,
    NormalizedSoftmax,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
    Targets,
)
from partial_fc.margins.multiplicative import psi
from tests.partial_fc.asking import ANGLES, ENDS, INSIDE, ask, facts


def test_without_a_margin_the_logit_is_the_scaled_product() -> None:
    norms, centre_norms = torch.full_like(INSIDE, 7.0), torch.full_like(INSIDE, 3.0)
    for margin, expected in (
        (Softmax(), INSIDE * 21),
        (Softmax(2.0), INSIDE * 42),
        (NormalizedSoftmax(30.0), INSIDE * 30),
        (CosFace(30.0, 0.0), INSIDE * 30),
        (ArcFace(30.0, 0.0), INSIDE * 30),
        (CombinedMargin(30.0, 1.0, 0.0, 0.0), INSIDE * 30),
        (ElasticFace(30.0, 0.0, 0.0), INSIDE * 30),
        (MagFace(30.0, 0.0, 0.0), INSIDE * 30),
        (AdaFace(30.0, 0.0), INSIDE * 30),
        (CurricularFace(30.0, 0.0), INSIDE * 30),
        # ψ of m = 1 is cos θ, however λ weighs the two.
        (SphereFaceNormFea(30.0, 1), INSIDE * 30),
        (SphereFace(margin=1), INSIDE * 7),
        (LSoftmax(margin=1), INSIDE * 21),
    ):
        found = ask(margin, INSIDE, norms, centre_norms, step=7)
        torch.testing.assert_close(found.logit, expected, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(found.by_dot, torch.full_like(INSIDE, margin.scale), rtol=1e-9, atol=0)


def test_cosface_takes_its_margin_off_the_cosine() -> None:
    # z_y = s (cos θ − m): a constant, so the slope in cos θ is s.
    found = ask(CosFace(64.0, 0.35), INSIDE)
    torch.testing.assert_close(found.logit, 64 * INSIDE - 22.4)
    assert (found.by_dot == 64).all()


def test_arcface_is_the_combined_margin_of_one_angle() -> None:
    # cos(1 · θ + m) − 0.
    every = torch.cat((INSIDE, ENDS))
    one, other = ask(ArcFace(64.0, 0.5), every), ask(CombinedMargin(64.0, 1.0, 0.5, 0.0), every)
    assert all(torch.equal(*pair) for pair in zip(one.tensors(), other.tensors(), strict=True))
    # And 1 · θ + 0, less m3, is CosFace's.
    one, other = ask(CosFace(64.0, 0.4), every), ask(CombinedMargin(64.0, 1.0, 0.0, 0.4), every)
    torch.testing.assert_close(one.logit, other.logit)
    # Hand-made: θ = π/3, m = π/6 give cos(π/2).
    assert ask(ArcFace(64.0, math.pi / 6), torch.tensor([0.5]).double()).logit.item() == pytest.approx(
        0, abs=1e-13
    )


def test_a_combined_margin_that_multiplies_goes_on_falling_as_psi_does() -> None:
    # With m2 = m3 = 0 and a whole m1 it is SphereFace's ψ; with m2, φ = m1 θ + m2 ends beyond π and the piece
    # (−1)^k cos φ − 2k takes over.
    for times in (2, 3, 4):
        found = ask(CombinedMargin(1.0, float(times), 0.0, 0.0), torch.cos(ANGLES))
        torch.testing.assert_close(found.logit, psi(torch.cos(ANGLES), times), rtol=0, atol=2e-6 * times)
    found = ask(CombinedMargin(10.0, 1.5, 0.25, 0.1), torch.tensor([0.0, -1.0]).double())
    quarter, half = 1.5 * math.pi / 2 + 0.25, 1.5 * math.pi + 0.25
    expected = [10 * (math.cos(quarter) - 0.1), 10 * (-math.cos(half) - 2 - 0.1)]
    assert found.logit.tolist() == pytest.approx(expected, abs=2e-5)


def test_straight_through_has_arcfaces_value_and_the_plain_slope() -> None:
    every = torch.cat((INSIDE, ENDS))
    found, arcface = ask(ArcFace(32.0, 0.5, straight_through=True), every), ask(ArcFace(32.0, 0.5), every)
    torch.testing.assert_close(found.logit, arcface.logit)
    assert (found.by_dot == 32).all()
    # cos(θ + m) = cos θ cos m − sin θ sin m has the slope cos m + sin m cos θ / sin θ in cos θ.
    inside = every[(every.abs() < 1 - 1e-10) & (every > -math.cos(0.5))]
    slope = 32 * (math.cos(0.5) + math.sin(0.5) * inside / (1 - inside**2).sqrt())
    torch.testing.assert_close(ask(ArcFace(32.0, 0.5), inside).by_dot, slope)


@pytest.mark.parametrize("on", ["angle", "cosine"])
def test_elasticface_draws_a_margin_for_each_image(on: str) -> None:
    # m_i = m + σ n_i, n_i the standard normal number of the image that the target belongs to.
    margin = ElasticFace(16.0, 0.5, 0.1, on)
    noise = torch.tensor([0.0, 1.0, -2.0, 3.0], dtype=torch.float64)
    images = torch.tensor([3, 1, 1])
    cosines = torch.tensor([0.2, 0.9, -0.3], dtype=torch.float64)
    ones = torch.ones_like(cosines)
    found = margin.target_logit(Targets(cosines, ones, ones, images), facts(4, noise=noise))
    drawn = [0.8, 0.6, 0.6]
    plain = [ArcFace(16.0, m) if on == "angle" else CosFace(16.0, m) for m in drawn]
    expected = [ask(one, cosines[[place]]).logit.item() for place, one in enumerate(plain)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_elasticface_on_the_angle_draws_none_below_zero() -> None:
    cosines = torch.cos(ANGLES)
    found = ask(ElasticFace(1.0, 0.1, 0.2), cosines, noise=torch.full_like(cosines, -3.0))
    torch.testing.assert_close(found.logit, cosines)
    found = ask(ElasticFace(1.0, 0.1, 0.2, "cosine"), cosines, noise=torch.full_like(cosines, -3.0))
    torch.testing.assert_close(found.logit, cosines + 0.5)
