"""The margins by themselves: their values, slopes, memory and refusals, without a head around them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from partial_fc.errors import HeadInputError
from partial_fc.margins import (
    MARGINS,
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CosineMargin,
    CurricularFace,
    ElasticFace,
    Facts,
    LSoftmax,
    MagFace,
    Margin,
    NormalizedSoftmax,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
    Targets,
    make_margin,
)
from partial_fc.margins.base import SMALLEST_SINE, cosine_of_sum, monotone_sum, sine
from partial_fc.margins.multiplicative import psi
from tests.partial_fc import oracle

EXAMPLES: list[Margin] = [
    Softmax(),
    Softmax(3.0, bias=False),
    NormalizedSoftmax(30.0),
    CosFace(64.0, 0.35),
    CosFace(1.0, 0.0),
    ArcFace(64.0, 0.5),
    ArcFace(10.0, 0.0),
    ArcFace(10.0, 2.3),
    ArcFace(32.0, 0.5, straight_through=True),
    CombinedMargin(64.0, 1.0, 0.3, 0.2),
    CombinedMargin(64.0, 1.2, 0.4, 0.1),
    CombinedMargin(1.0, 3.7, 3.1, 0.0),
    CombinedMargin(1.0, 2.0, 0.0, 0.0),
    ElasticFace(64.0, 0.5, 0.0125),
    ElasticFace(64.0, 0.3, 0.3),
    ElasticFace(64.0, 0.35, 0.05, "cosine"),
    *(SphereFace(margin=times) for times in (1, 2, 3, 4)),
    *(SphereFace(2.0, times, 0.0, 0.0) for times in (1, 2, 3, 4)),
    *(SphereFaceNormFea(64.0, times, 10.0, 0.5, 1.0) for times in (1, 2, 3, 4)),
    *(LSoftmax(margin=times) for times in (1, 2, 3, 4)),
    *(LSoftmax(0.5, times, 0.0, 0.0) for times in (1, 2, 3, 4)),
    AdaFace(64.0),
    AdaFace(64.0, 1.5, 10.0),
    MagFace(64.0),
    MagFace(32.0, 0.0, 2.3, 20.0, 30.0),
    CurricularFace(64.0, 0.5),
]
INSIDE = torch.cat(
    (
        torch.linspace(-0.999, 0.999, 400, dtype=torch.float64),
        torch.tensor([0.0, 1e-9, -1e-9, 1 - 1e-6, 1e-6 - 1, 1 - 1e-9, 1e-9 - 1], dtype=torch.float64),
    )
)
# Slopes are compared no nearer to ±1 than this; there all must be finite and their values right.
ENDS = torch.tensor(
    [sign * (1 - gap) for gap in (0.0, 1e-16, 2e-16, 1e-14, 4e-13, 6e-13, 1e-11) for sign in (1, -1)],
    dtype=torch.float64,
)
ANGLES = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)


def lengths_of(margin: Margin, norms: Tensor, centre_norms: Tensor) -> Tensor:
    """What x̃·w̃ is when cos θ = 1."""
    lengths = torch.ones_like(norms)
    if not margin.normalises_embeddings:
        lengths = lengths * norms
    if not margin.normalises_centres:
        lengths = lengths * centre_norms
    return lengths


def facts(
    images: int = 1,
    *,
    norms: Tensor | None = None,
    labelled: Tensor | None = None,
    target_cosines: Tensor | None = None,
    noise: Tensor | None = None,
    step: int = 0,
    state: dict[str, float] | None = None,
) -> Facts:
    zeros = torch.zeros(images, dtype=torch.float64)
    return Facts(
        zeros + 1 if norms is None else norms,
        torch.ones(images, dtype=torch.bool) if labelled is None else labelled,
        zeros if target_cosines is None else target_cosines,
        zeros if noise is None else noise,
        step,
        {} if state is None else state,
    )


@dataclasses.dataclass
class Answer:
    """Logits and their slopes, [T] each."""

    logit: Tensor
    by_dot: Tensor
    by_norm: Tensor
    by_centre: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.logit, self.by_dot, self.by_norm, self.by_centre]


def differentiated(function, dots: Tensor, norms: Tensor, centre_norms: Tensor) -> Answer:
    variables = [tensor.clone().requires_grad_() for tensor in (dots, norms, centre_norms)]
    logits = function(*variables)
    slopes = torch.autograd.grad(logits.sum(), variables, allow_unused=True)
    return Answer(logits.detach(), *(torch.zeros_like(dots) if one is None else one for one in slopes))


def ask(
    margin: Margin,
    cosines: Tensor,
    norms: Tensor | None = None,
    centre_norms: Tensor | None = None,
    *,
    noise: Tensor | None = None,
    state: dict[str, float] | None = None,
    step: int = 0,
) -> Answer:
    """What the margin says for targets of these cosines."""
    norms = torch.ones_like(cosines) if norms is None else norms
    centre_norms = torch.ones_like(cosines) if centre_norms is None else centre_norms
    known = facts(len(cosines), norms=norms, noise=noise, step=step, state=state or margin.first_state())
    images = torch.arange(len(cosines))
    return differentiated(
        lambda dot, norm, centre: margin.target_logit(Targets(dot, norm, centre, images), known),
        cosines * lengths_of(margin, norms, centre_norms),
        norms,
        centre_norms,
    )


def ask_definition(
    margin: Margin,
    cosines: Tensor,
    norms: Tensor,
    centre_norms: Tensor,
    noise: Tensor,
    state: dict[str, float],
    step: int,
) -> Answer:
    def logit(dot: Tensor, norm: Tensor, centre: Tensor) -> Tensor:
        lengths = lengths_of(margin, norm, centre)
        function = oracle.target_function(margin, dot / lengths, norm, noise, state, step)
        return margin.scale * lengths * function

    return differentiated(logit, cosines * lengths_of(margin, norms, centre_norms), norms, centre_norms)


def falls(values: Tensor) -> bool:
    return bool((values.diff() <= 1e-12 * values.abs().max()).all())


# ---- every margin ----


@pytest.mark.parametrize("margin", EXAMPLES, ids=str)
def test_values_and_slopes_are_the_definitions(margin: Margin) -> None:
    generator = torch.Generator().manual_seed(3)
    state = {"mean": 40.0, "std": 15.0} if isinstance(margin, AdaFace) else margin.first_state()
    for step in (0, 1, 100):
        for cosines in (INSIDE, ENDS):
            norms, centre_norms = (
                torch.rand(len(cosines), generator=generator, dtype=torch.float64) * span + 2.0
                for span in (150.0, 3.0)
            )
            noise = torch.randn(len(cosines), generator=generator, dtype=torch.float64)
            found = ask(margin, cosines, norms, centre_norms, noise=noise, state=state, step=step)
            expected = ask_definition(margin, cosines, norms, centre_norms, noise, state, step)
            lengths = margin.scale * lengths_of(margin, norms, centre_norms)
            off = ((found.logit - expected.logit) / lengths).abs().max()
            if cosines is INSIDE:
                assert off < 1e-12
                for one, other in zip(found.tensors(), expected.tensors(), strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
            else:
                assert off < 4 * SMALLEST_SINE, "no sine is smaller, times m1"
                assert all(one.isfinite().all() for one in found.tensors())
                assert found.by_dot.abs().max() <= margin.scale * 4 / SMALLEST_SINE


@pytest.mark.parametrize("margin", EXAMPLES, ids=str)
def test_the_targets_logit_falls_in_the_angle(margin: Margin) -> None:
    cosines = torch.cos(ANGLES)
    for norm in (1.0, 25.0, 60.0, 200.0):
        for noise in (-2.0, 0.0, 2.0):
            found = ask(
                margin,
                cosines,
                torch.full_like(cosines, norm),
                noise=torch.full_like(cosines, noise),
                state={"mean": 40.0, "std": 5.0} if isinstance(margin, AdaFace) else None,
            )
            assert falls(found.logit)
            # At θ = 0 and π themselves the sine's share of the slope, which is infinite, is left out.
            assert found.by_dot[1:-1].min() >= -1e-9
            assert (
                found.logit.max() <= margin.scale * (norm if not margin.normalises_embeddings else 1) + 1e-9
            )


OPTIONS: dict[type[Margin], dict[str, st.SearchStrategy[object]]] = {
    Softmax: {"bias": st.booleans()},
    NormalizedSoftmax: {},
    CosFace: {"margin": st.floats(0, 10)},
    ArcFace: {"margin": st.floats(0, math.pi, exclude_max=True), "straight_through": st.booleans()},
    CombinedMargin: {
        "m1": st.floats(1, 10),
        "m2": st.floats(0, math.pi, exclude_max=True),
        "m3": st.floats(0, 10),
    },
    ElasticFace: {
        "margin": st.floats(0, math.pi, exclude_max=True),
        "std": st.floats(0, 1),
        "on": st.sampled_from(["angle", "cosine"]),
    },
    **{
        kind: {
            "margin": st.integers(1, 4),
            "lambda_first": st.floats(0, 1e6),
            "lambda_least": st.floats(0, 1e6),
            "lambda_falls": st.floats(0, 10),
        }
        for kind in (SphereFace, SphereFaceNormFea, LSoftmax)
    },
    AdaFace: {"margin": st.floats(0, 1.57), "h": st.floats(1e-6, 1e6), "forgets": st.floats(1e-6, 1)},
    MagFace: {
        "margin_low": st.floats(0, 1),
        "margin_high": st.floats(1, math.pi, exclude_max=True),
        "norm_low": st.floats(1e-3, 10),
        "norm_high": st.floats(11, 1e6),
        "weight": st.floats(0, 1e3),
    },
    CurricularFace: {
        "margin": st.floats(0, math.pi, exclude_max=True),
        "forgets": st.floats(0, 1, exclude_min=True),
    },
}
COSINES = st.one_of(
    st.floats(-1, 1),
    st.sampled_from([1.0, -1.0, 0.0, 1 - 1e-16, 1e-16 - 1, 1 - 1e-12, 1e-12 - 1, 5e-324]),
)
LENGTHS = st.floats(-30, 30).map(lambda exponent: 10.0**exponent)


@pytest.mark.parametrize("name", MARGINS)
def test_all_stays_finite_for_any_cosine_and_length(name: str) -> None:
    kind = MARGINS[name]
    options: dict[str, st.SearchStrategy[object]] = {"scale": st.floats(1e-3, 1e3), **OPTIONS[kind]}
    if issubclass(kind, CosineMargin):
        options["filter_above"] = st.none() | st.floats(0, 1, exclude_min=True)

    @settings(max_examples=150, deadline=None)
    @given(
        margin=st.builds(kind, **options),
        images=st.lists(st.tuples(COSINES, LENGTHS, LENGTHS, st.floats(-9, 9)), min_size=1, max_size=6),
        step=st.integers(0, 10**9),
    )
    def check(margin: Margin, images: list[tuple[float, ...]], step: int) -> None:
        cosines, norms, centre_norms, noise = torch.tensor(images, dtype=torch.float64).unbind(1)
        known = facts(len(images), norms=norms, target_cosines=cosines, state=margin.first_state())
        state = margin.next_state(known)
        assert all(map(math.isfinite, state.values()))
        found = ask(margin, cosines, norms, centre_norms, noise=noise, state=state, step=step)
        assert all(one.isfinite().all() for one in found.tensors())
        assert found.by_dot.abs().max() <= margin.scale * 11 / SMALLEST_SINE
        norms = norms.requires_grad_()
        penalty = margin.penalty(norms)
        if penalty is not None:
            (slope,) = torch.autograd.grad(penalty.sum(), norms)
            assert penalty.isfinite().all()
            assert slope.isfinite().all()
        if margin.changes_negatives:
            dots = cosines.float()[:, None].repeat(1, len(images))
            slopes = margin.negatives(dots, cosines.float(), state)
            assert dots.isfinite().all()
            assert slopes.isfinite().all()

    check()


# ---- angles from cosines ----


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


# ---- added margins ----


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


# ---- multiplied margins ----


@pytest.mark.parametrize(("step", "weight"), [(0, 1000.0), (10, 500.0), (990, 10.0), (10**7, 5.0)])
def test_annealing_goes_from_the_cosine_to_psi(step: int, weight: float) -> None:
    # λ = max(5, 1000 / (1 + 0.1 step)); z = ‖·‖ (λ cos θ + ψ) / (1 + λ), at θ = π with ψ = 1 − 2m.
    opposite = torch.tensor([-1.0], dtype=torch.float64)
    expected = (-weight - 7) / (1 + weight)
    norms, centre_norms = torch.full_like(opposite, 7.0), torch.full_like(opposite, 3.0)
    for margin, length in ((SphereFace(), 7.0), (SphereFaceNormFea(64.0), 64.0), (LSoftmax(), 21.0)):
        found = ask(margin, opposite, norms, centre_norms, step=step).logit.item()
        assert found == pytest.approx(length * expected)


def test_sphereface_scales_with_the_embedding_and_lsoftmax_with_the_centre_too() -> None:
    # θ = π/2: mθ = 2π, k = 2, ψ = cos 2π − 4 = −3, whose slope in θ is 0. So z = −3 ‖x‖ has the slope −3 in
    # ‖x‖ at a fixed angle; x̃·w̃ = 0 then does not change with ‖x‖.
    right = torch.zeros(1, dtype=torch.float64)
    norms, centre_norms = torch.full_like(right, 7.0), torch.full_like(right, 2.0)
    found = ask(SphereFace(1.0, 4, 0.0, 0.0), right, norms, centre_norms)
    assert [one.item() for one in found.tensors()] == pytest.approx([-21, 0, -3, 0])
    found = ask(LSoftmax(1.0, 4, 0.0, 0.0), right, norms, centre_norms)
    assert [one.item() for one in found.tensors()] == pytest.approx([-42, 0, -6, -21])
    found = ask(SphereFaceNormFea(64.0, 4, 0.0, 0.0), right, norms, centre_norms)
    assert [one.item() for one in found.tensors()] == pytest.approx([-192, 0, 0, 0])


def test_embeddings_and_centres_without_length_have_a_cosine_of_zero() -> None:
    nothing = torch.zeros(2, dtype=torch.float64)
    for margin in (SphereFace(), LSoftmax()):
        found = ask(margin, nothing, nothing, torch.tensor([0.0, 1.0], dtype=torch.float64))
        assert found.logit.tolist() == [0, 0]
        assert all(one.isfinite().all() for one in found.tensors())


# ---- margins that depend on the image ----


def test_adaface_goes_from_arcface_over_cosface_to_easy_images() -> None:
    # z = s (cos(θ − m q) − m (1 + q)): q = −1 is s cos(θ + m), q = 0 is s (cos θ − m), q = 1 is
    # s (cos(θ − m) − 2m). q is −1, 0, 1 at norms of μ − σ/h, μ, μ + σ/h and clipped beyond.
    state = {"mean": 20.0, "std": 3.0 - 1e-3}
    margin = AdaFace(64.0, 0.4, h=0.3)
    angles = torch.linspace(0.5, 2.5, 50, dtype=torch.float64)
    for norm, q in ((1.0, -1), (10.0, -1), (20.0, 0), (25.0, 0.5), (30.0, 1), (99.0, 1), (1e9, 1)):
        found = ask(margin, torch.cos(angles), torch.full_like(angles, norm), state=state)
        expected = 64 * (torch.cos(angles - 0.4 * q) - 0.4 * (1 + q))
        torch.testing.assert_close(found.logit, expected, rtol=1e-10, atol=1e-10)
        assert (found.by_norm == 0).all()


def test_adaface_keeps_the_turned_angle_between_0_and_pi() -> None:
    state = {"mean": 20.0, "std": 1.0}
    angles = torch.tensor([0.1, math.pi - 0.1], dtype=torch.float64)
    low = ask(AdaFace(1.0, 0.4, 1.0), torch.cos(angles), torch.full_like(angles, 1.0), state=state)
    assert low.logit.tolist() == pytest.approx([math.cos(0.5), -1.0])
    assert low.by_dot.tolist() == pytest.approx([math.sin(0.5) / math.sin(0.1), 0.0])
    high = ask(AdaFace(1.0, 0.4, 1.0), torch.cos(angles), torch.full_like(angles, 99.0), state=state)
    assert high.logit.tolist() == pytest.approx([1 - 0.8, math.cos(math.pi - 0.5) - 0.8])
    assert high.by_dot.tolist() == pytest.approx([0.0, math.sin(math.pi - 0.5) / math.sin(math.pi - 0.1)])


def test_adaface_remembers_the_norms_of_labelled_images() -> None:
    # μ ← (1 − a) μ + a mean, σ ← (1 − a) σ + a std, std with n − 1; norms kept within [0.001, 100].
    margin = AdaFace(forgets=0.25)
    assert margin.first_state() == {"mean": 20.0, "std": 100.0}
    norms = torch.tensor([10.0, 777.0, 1e6, 0.0], dtype=torch.float64)
    labelled = torch.tensor([True, False, True, True])
    seen = margin.next_state(facts(4, norms=norms, labelled=labelled, state=margin.first_state()))
    mean = (10 + 100 + 1e-3) / 3
    std = (((10 - mean) ** 2 + (100 - mean) ** 2 + (1e-3 - mean) ** 2) / 2) ** 0.5
    assert seen == pytest.approx({"mean": 15 + mean / 4, "std": 75 + std / 4})
    for count in (0, 1):
        few = torch.arange(4) < count
        assert margin.next_state(facts(4, norms=norms, labelled=few, state=seen)) == seen
    assert AdaFace(forgets=1.0).next_state(
        facts(3, norms=torch.tensor([2.0, 4.0, 6.0]).double(), state=seen)
    ) == pytest.approx({"mean": 4.0, "std": 2.0})


def test_magface_gives_long_embeddings_a_larger_margin() -> None:
    # m(a) = 0.45 + (0.8 − 0.45) (a − 10) / 100 between 10 and 110. d/da s cos(θ + m(a)) = −s sin(θ + m) m'.
    margin = MagFace(64.0)
    norms = torch.tensor([1.0, 10.0, 60.0, 110.0, 500.0], dtype=torch.float64)
    angles = torch.full_like(norms, 1.0)
    found = ask(margin, torch.cos(angles), norms)
    margins = torch.tensor([0.45, 0.45, 0.625, 0.8, 0.8], dtype=torch.float64)
    torch.testing.assert_close(found.logit, 64 * torch.cos(angles + margins))
    slope = -64 * math.sin(1.625) * 0.0035
    assert found.by_norm[[0, 2, 4]].tolist() == pytest.approx([0, slope, 0])


def test_magface_wants_norms_of_its_upper_border() -> None:
    # g(a) = 1/a + a/u², g'(a) = −1/a² + 1/u²: 0 at a = u, below it negative.
    margin = MagFace(weight=35.0)
    norms = torch.tensor([1.0, 10.0, 50.0, 109.0, 110.0, 200.0], dtype=torch.float64).requires_grad_()
    found = margin.penalty(norms)
    assert found is not None
    kept = [10, 10, 50, 109, 110, 110]
    assert found.tolist() == pytest.approx([35 * (1 / a + a / 110**2) for a in kept])
    assert found.argmin().item() in (4, 5)
    (slopes,) = torch.autograd.grad(found.sum(), norms)
    assert slopes.tolist() == pytest.approx(
        [0, *(35 * (1 / 110**2 - 1 / a**2) for a in (10, 50, 109)), 0, 0], abs=1e-15
    )
    assert (oracle.magface_g(margin, norms) * 35).tolist() == pytest.approx(found.tolist())
    assert all(one.penalty(norms) is None for one in EXAMPLES if not isinstance(one, MagFace))


def test_curricularface_remembers_the_mean_cosine_of_the_targets() -> None:
    margin = CurricularFace(forgets=0.1)
    assert margin.sees_targets
    assert margin.first_state() == {"t": 0.0}
    cosines = torch.tensor([0.5, 0.0, 0.7], dtype=torch.float64)
    labelled = torch.tensor([True, False, True])
    seen = margin.next_state(facts(3, target_cosines=cosines, labelled=labelled, state={"t": 0.2}))
    assert seen == pytest.approx({"t": 0.9 * 0.2 + 0.1 * 0.6})
    nobody = facts(3, target_cosines=cosines, labelled=torch.zeros(3, dtype=torch.bool), state=seen)
    assert margin.next_state(nobody) == seen


def test_margins_without_memory_keep_an_empty_one() -> None:
    for margin in EXAMPLES:
        if not isinstance(margin, AdaFace | CurricularFace):
            assert margin.first_state() == {}
            assert margin.next_state(facts(2, state={})) == {}


# ---- negatives ----


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


# ---- making one ----


def test_every_margin_is_made_by_its_name() -> None:
    assert len(MARGINS) == 12
    assert {type(one) for one in EXAMPLES} == set(MARGINS.values())
    for name, kind in MARGINS.items():
        assert make_margin(name) == kind()
        assert make_margin(name, scale=8.0) == kind(scale=8.0)
        assert make_margin(name, scale=None) == kind(), "None keeps the default"
        assert kind.__name__.lower() == name
        assert kind().has_bias == (kind is Softmax)
        assert hash(kind()) == hash(kind())
    found = make_margin("cosface", margin=0.4, centres_per_class=3, filter_above=0.5)
    assert found == CosFace(64.0, 0.4, centres_per_class=3, filter_above=0.5)
    assert not Softmax(bias=False).has_bias


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cosfaces", {}, "unknown loss 'cosfaces': .*cosface"),
        ("ArcFace", {}, "unknown loss 'ArcFace': .*arcface"),
        ("", {}, "unknown loss '': .*softmax"),
        ("cosface", {"margn": 0.3}, "CosFace has no option margn: did you mean margin?"),
        ("magface", {"norm_hi": 0.3}, "MagFace has no option norm_hi: did you mean norm_high?"),
        ("softmax", {"zzz": 1}, "Softmax has no option zzz: it has scale, bias"),
        ("softmax", {"margin": 0.3}, "Softmax has no option margin"),
        ("sphereface", {"centres_per_class": 2}, "SphereFace has no option centres_per_class"),
    ],
)
def test_unknown_names_and_options_are_refused_naming_the_nearest(
    name: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(HeadInputError, match=said):
        make_margin(name, **options)


def test_a_part_of_a_centre_is_refused() -> None:
    with pytest.raises(HeadInputError, match="centres_per_class"):
        make_margin("cosface", centres_per_class=1.5)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        *((name, "scale", [0, -1.0, NAN, INF]) for name in MARGINS),
        *(
            (name, option, values)
            for name, kind in MARGINS.items()
            if issubclass(kind, CosineMargin)
            for option, values in (("centres_per_class", [0, -1]), ("filter_above", [0, -0.1, 1.01, NAN]))
        ),
        ("cosface", "margin", [-0.1, NAN, INF]),
        ("arcface", "margin", [-0.1, math.pi, NAN]),
        ("curricularface", "margin", [-0.1, math.pi, NAN]),
        ("curricularface", "forgets", [0, 1.1, NAN]),
        ("combinedmargin", "m1", [0.99, -1, INF, NAN]),
        ("combinedmargin", "m2", [-0.1, math.pi, NAN]),
        ("combinedmargin", "m3", [-0.1, INF, NAN]),
        ("elasticface", "margin", [-0.1, math.pi, NAN]),
        ("elasticface", "std", [-0.1, 1.1, NAN]),
        ("elasticface", "on", ["angles", "", 3]),
        *((name, "margin", [0, 5, 1.5, NAN]) for name in ("sphereface", "spherefacenormfea", "lsoftmax")),
        *(
            (name, option, [-1, INF, NAN])
            for name in ("sphereface", "spherefacenormfea", "lsoftmax")
            for option in ("lambda_first", "lambda_least", "lambda_falls")
        ),
        ("adaface", "margin", [-0.1, math.pi / 2, NAN]),
        ("adaface", "h", [0, -1, INF, NAN]),
        ("adaface", "forgets", [0, 1.1, NAN]),
        ("magface", "norm_low", [0, -1, 110.0, NAN]),
        ("magface", "norm_high", [10.0, INF, NAN]),
        ("magface", "margin_low", [-0.1, 0.81, NAN]),
        ("magface", "margin_high", [0.44, math.pi, NAN]),
        ("magface", "weight", [-1, INF, NAN]),
    ],
)
def test_values_out_of_range_are_refused_naming_the_option(
    name: str, option: str, values: list[object]
) -> None:
    for value in values:
        with pytest.raises(HeadInputError, match=rf"\b{option}\b.*, got "):
            make_margin(name, **{option: value})
