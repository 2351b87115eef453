"""Every margin against its definition, falling in the angle and finite whatever it is asked."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from partial_fc.margins import (
    MARGINS,
    AdaFace,
    ArcFace,
    CombinedMargin,
    CosFace,
    CosineMargin,
    CurricularFace,
    ElasticFace,
    LSoftmax,
    MagFace,
    Margin,
    NormalizedSoftmax,
    Softmax,
    SphereFace,
    SphereFaceNormFea,
)
from partial_fc.margins.base import SMALLEST_SINE
from tests.partial_fc import oracle
from tests.partial_fc.asking import (
    ANGLES,
    ENDS,
    EXAMPLES,
    INSIDE,
    Answer,
    ask,
    differentiated,
    facts,
    falls,
    lengths_of,
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
