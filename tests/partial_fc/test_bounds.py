"""The theory of scale and margin against optimisation on the sphere, known and constructed arrangements."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from partial_fc import CosFace, PartialFC
from partial_fc.bounds import Advice, advice, ideal_posterior, largest_margin, smallest_scale
from partial_fc.errors import HeadInputError

DIMS = st.integers(1, 4096)
CLASSES = st.integers(1, 2**63 - 1) | st.integers(1, 5000)
PROBABILITIES = st.floats(1e-6, 1 - 1e-6)


@functools.cache
def found_margin(num_classes: int, dim: int, restarts: int = 8) -> float:
    """The largest smallest 1 − cos that gradient descent on a hardening soft maximum finds."""
    generator = torch.Generator().manual_seed(num_classes * 100 + dim)
    centres = torch.randn(restarts, num_classes, dim, generator=generator, dtype=torch.float64)
    centres.requires_grad_()
    own = torch.eye(num_classes, dtype=torch.bool)

    def cosines() -> torch.Tensor:
        unit = torch.nn.functional.normalize(centres, dim=-1)
        return (unit @ unit.mT).masked_fill(own, -torch.inf).flatten(1)

    optimiser = torch.optim.Adam([centres])
    for hardness in np.geomspace(3, 3e4, 400):
        optimiser.param_groups[0]["lr"] = min(0.1, 3 / hardness)
        optimiser.zero_grad()
        (torch.logsumexp(hardness * cosines(), dim=1) / hardness).sum().backward()
        optimiser.step()
    return 1 - cosines().max(dim=1).values.min().item()


CIRCLE = [(2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2)]
SIMPLICES = [(3, 3), (4, 3), (5, 4), (6, 7), (2, 1), (1, 5)]
RIGHT_ANGLES = [(5, 3), (6, 3), (6, 4), (8, 4), (9, 5)]

# Sharp arrangements, (C, D, largest cosine), known to be the best.
SHARP = [
    *[(16, 5, 1 / 5), (27, 6, 1 / 4), (56, 7, 1 / 3), (240, 8, 1 / 2), (112, 21, 1 / 9), (162, 21, 1 / 7)],
    *[(275, 22, 1 / 6), (891, 22, 1 / 4), (552, 23, 1 / 5), (4600, 23, 1 / 3), (196_560, 24, 1 / 2)],
]
# Arrangements that exist: spheres around a sphere, and the 600-cell.
KNOWN = [
    *[(24, 4, 1 / 2), (40, 5, 1 / 2), (72, 6, 1 / 2), (126, 7, 1 / 2), (306, 9, 1 / 2), (500, 10, 1 / 2)],
    (120, 4, (1 + math.sqrt(5)) / 4),
]


@pytest.mark.parametrize(("num_classes", "dim"), CIRCLE + SIMPLICES + RIGHT_ANGLES)
def test_exact_margins_are_what_optimisation_finds(num_classes: int, dim: int) -> None:
    bound = largest_margin(num_classes, dim)
    assert bound.kind == "exact"
    assert bound.reachable == bound.value
    found = 2.0 if num_classes == 1 else found_margin(num_classes, dim)
    assert found == pytest.approx(bound.value, abs=1e-3)
    assert found <= bound.value + 1e-9


@pytest.mark.parametrize(("num_classes", "dim"), [(7, 3), (8, 3), (12, 3), (20, 3), (9, 4), (24, 4), (16, 5)])
def test_what_optimisation_finds_lies_between_the_bounds(num_classes: int, dim: int) -> None:
    bound = largest_margin(num_classes, dim)
    assert bound.kind == "upper bound"
    assert bound.reachable <= found_margin(num_classes, dim) <= bound.value + 1e-9


def test_the_icosahedron_meets_the_upper_bound() -> None:
    assert largest_margin(12, 3).value == pytest.approx(1 - 1 / math.sqrt(5), abs=1e-12)
    assert found_margin(12, 3) == pytest.approx(1 - 1 / math.sqrt(5), abs=1e-3)


@pytest.mark.parametrize(("num_classes", "dim", "cosine"), SHARP)
def test_the_upper_bound_is_that_of_known_best_arrangements(
    num_classes: int, dim: int, cosine: float
) -> None:
    bound = largest_margin(num_classes, dim)
    assert bound.value == pytest.approx(1 - cosine, abs=1e-9)
    assert bound.reachable < bound.value


@pytest.mark.parametrize(("num_classes", "dim", "cosine"), KNOWN)
def test_no_known_arrangement_is_above_the_upper_bound(num_classes: int, dim: int, cosine: float) -> None:
    assert largest_margin(num_classes, dim).value >= 1 - cosine


@pytest.mark.parametrize(("k", "modulus"), [(3, 0b1011), (5, 0b100101)])
def test_the_code_behind_the_reachable_margin(k: int, modulus: int) -> None:
    """All 2^(2k+1) centres ±(−1)^Tr(ba + ca³) in 2^k dimensions, built and compared."""

    def times(a: int, b: int) -> int:
        product = 0
        for bit in range(k):
            product ^= (a << bit) if b >> bit & 1 else 0
        for bit in range(2 * k - 2, k - 1, -1):
            product ^= modulus << (bit - k) if product >> bit & 1 else 0
        return product

    def trace(a: int) -> int:
        total = 0
        for _ in range(k):
            total, a = total ^ a, times(a, a)
        return total

    field = range(2**k)
    traces = [trace(a) for a in field]
    assert set(traces) == {0, 1}
    products = np.array([[traces[times(b, a)] for a in field] for b in field])
    cubes = products[:, [times(a, times(a, a)) for a in field]]
    half = 1 - 2 * ((products[:, None, :] + cubes[None, :, :]) % 2).reshape(-1, 2**k)
    centres = np.concatenate([half, -half]) / 2 ** (k / 2)
    cosines = centres @ centres.T - 2 * np.eye(len(centres))
    assert 1 - cosines.max() == pytest.approx(largest_margin(len(centres), 2**k).reachable, abs=1e-12)
    assert 1 - cosines.max() == pytest.approx(1 - 2 ** ((1 - k) / 2), abs=1e-12)


def test_few_dimensions_and_very_many_classes_follow_the_area_of_caps() -> None:
    """On the ordinary sphere: C caps of half-angle θ/2 fill 0.9069 of it at best (Fejes Tóth)."""
    for num_classes in (10**4, 10**6, 10**9):
        bound = largest_margin(num_classes, 3)
        hexagonal = 4 * math.pi / math.sqrt(3) / num_classes
        assert bound.reachable < hexagonal < bound.value < 1.11 * hexagonal


@settings(max_examples=100, deadline=None)
@given(CLASSES, DIMS)
@example(8, 2)
def test_margins_fall_with_classes_and_grow_with_dimensions(num_classes: int, dim: int) -> None:
    bound = largest_margin(num_classes, dim)
    assert 0 <= bound.reachable <= bound.value <= 2
    if num_classes < 2**63 - 1:
        more_classes = largest_margin(num_classes + 1, dim)
        assert more_classes.value <= bound.value + 1e-12
        assert more_classes.reachable <= bound.reachable + 1e-12
    more_dimensions = largest_margin(num_classes, dim + 1)
    assert more_dimensions.value >= bound.value - 1e-9
    assert more_dimensions.reachable >= bound.reachable - 1e-9


@pytest.mark.parametrize("dim", [3, 4, 5, 16, 512])
def test_margins_fall_across_the_borders_of_the_formulas(dim: int) -> None:
    borders = {dim + 1, 2 * dim} | {
        border
        for k in (2, 3, 4, 63, 64, 65)
        for border in (
            2 * math.comb(k + dim - 2, dim - 1),
            math.comb(k + dim - 1, dim - 1) + math.comb(k + dim - 2, dim - 1),
        )
        if border < 2**62
    }
    at = sorted({border + step for border in borders for step in (-1, 0, 1)})
    margins = [largest_margin(num_classes, dim) for num_classes in at]
    for one, next_one in itertools.pairwise(margins):
        assert next_one.value <= one.value + 1e-12
        assert next_one.reachable <= one.reachable + 1e-12


def trained_loss(num_classes: int, dim: int, scale: float, margin: float, steps: int) -> list[float]:
    """The losses on the way of gradient descent on images and centres together, one image a class."""
    generator = torch.Generator().manual_seed(num_classes + dim)
    shape = (2, num_classes, dim)  # images, centres
    vectors = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.Adam([vectors], lr=0.05)
    taken = torch.eye(num_classes, dtype=torch.float64) * margin
    losses = []
    for _ in range(steps):
        images, centres = torch.nn.functional.normalize(vectors, dim=-1)
        logits = scale * (images @ centres.T - taken)
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(num_classes))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize("margin", [0.0, 0.4])
@pytest.mark.parametrize(("num_classes", "dim"), [(2, 2), (4, 3), (5, 8), (4, 2), (7, 2), (8, 4), (12, 3)])
def test_no_training_exceeds_the_ideal_posterior(num_classes: int, dim: int, margin: float) -> None:
    scale = max(1.0, smallest_scale(num_classes, 0.9, margin))
    ideal = ideal_posterior(num_classes, scale, margin)
    losses = trained_loss(num_classes, dim, scale, margin, steps=300)
    assert min(losses) >= -math.log(ideal) - 1e-9
    if num_classes <= dim + 1:
        assert losses[-1] == pytest.approx(-math.log(ideal), rel=2e-3)
        assert math.exp(-losses[-1]) >= 0.9 * (1 - 1e-3)
    else:
        assert losses[-1] > -math.log(ideal) * 1.01


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 2**40), PROBABILITIES, st.floats(0, 0.99))
def test_the_smallest_scale_is_where_the_ideal_posterior_is_the_wanted_one(
    num_classes: int, probability: float, margin: float
) -> None:
    scale = smallest_scale(num_classes, probability, margin)
    if probability <= 1 / num_classes:
        assert scale == pytest.approx(0, abs=1e-6)
    elif scale > 1e-6:
        assert ideal_posterior(num_classes, scale, margin) == pytest.approx(probability, rel=1e-6)
        assert smallest_scale(num_classes, probability, margin + 0.005) > scale
        assert smallest_scale(num_classes, min(probability * 1.01, 0.9999999), margin) > scale


def test_the_papers_formula_and_an_independent_root() -> None:
    for num_classes, probability in ((2, 0.9), (10, 0.99), (85_000, 0.9), (10**9, 0.5)):
        formula = (num_classes - 1) / num_classes
        formula *= math.log((num_classes - 1) * probability / (1 - probability))
        assert smallest_scale(num_classes, probability) == pytest.approx(formula, rel=1e-12)

        def short(s: float, c: int = num_classes, p: float = probability) -> float:
            return math.exp(s) / (math.exp(s) + (c - 1) * math.exp(-s / (c - 1))) - p

        assert smallest_scale(num_classes, probability) == pytest.approx(brentq(short, 0, 100), rel=1e-9)


def test_the_head_s_own_loss_on_a_simplex_is_the_ideal_one() -> None:
    simplex = torch.eye(5) - 1 / 5
    head = PartialFC(num_classes=5, embedding_dim=5, margin=CosFace(scale=9.0, margin=0.3))
    with torch.no_grad():
        head.local_weight.copy_(simplex)
    loss = head(simplex, torch.arange(5)).item()
    assert math.exp(-loss) == pytest.approx(ideal_posterior(5, 9.0, 0.3), rel=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 3, 128, 512, 100_000])
@pytest.mark.parametrize("num_classes", [1, 2, 3, 1025, 85_000, 10**9, 2**63 - 1])
def test_extremes_are_finite(num_classes: int, dim: int) -> None:
    for probability in (1e-12, 0.9, 1 - 1e-12):
        found = advice(num_classes, dim, target_probability=probability)
        numbers = [found.smallest_scale, found.smallest_scale_with_margin, found.recommended_scale]
        numbers += [found.recommended_margin, found.largest_margin.value, found.ideal_posterior]
        assert all(math.isfinite(number) and number >= 0 for number in numbers)
        assert found.recommended_scale >= 1
        assert found.largest_margin.reason
        # What is recommended breaks nothing.
        pair = (found.recommended_scale, found.recommended_margin)
        again = advice(num_classes, dim, *pair, target_probability=probability)
        assert len(again.warnings) == (num_classes == 1)
        assert again.ideal_posterior >= probability * (1 - 1e-9)


def test_the_recipe_of_today_breaks_nothing() -> None:
    for num_classes in (10_572, 85_000, 93_431, 360_232, 2_000_000):
        assert advice(num_classes, 512, scale=64, margin=0.35).warnings == []
        assert advice(num_classes, 512).recommended_margin == 0.35


def warnings(*arguments: float, **options: float) -> list[str]:
    found: Advice = advice(*arguments, **options)
    return found.warnings


def test_warnings_say_what_how_much_and_what_to_do() -> None:
    (margin,) = warnings(8, 2, margin=0.5)
    assert margin.startswith("margin 0.5 is 0.207 above 0.2929, the most that 8 classes in 2 dimensions can")
    assert margin.endswith("lower it to about 0.15")
    (scale,) = warnings(85_000, 512, scale=10)
    assert scale.startswith("scale 10 is 3.55 below 13.55, the least with which images of 85,000 classes")
    assert scale.endswith("raise it to about 42")
    (both,) = warnings(85_000, 512, scale=15, margin=0.35)
    assert both.startswith("scale 15 is 5.84 below 20.84, the least with which the loss at margin 0.35 can")
    assert len(warnings(8, 2, scale=1, margin=0.5)) == 2
    assert len(warnings(8, 20, scale=1, margin=1.9)) == 2
    assert warnings(8, 2) == []
    (alone,) = warnings(1, 2, scale=1e-3, margin=5)
    assert alone.startswith("there is 1 class")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: largest_margin(0, 2), "num_classes must be at least 1 and below 2^63, got 0"),
        (lambda: largest_margin(2**63, 2), f"num_classes must be at least 1 and below 2^63, got {2**63}"),
        (lambda: largest_margin(2, 0), "embedding_dim must be at least 1, got 0"),
        (lambda: smallest_scale(2, 1.0), "target_probability must be above 0 and below 1, got 1.0"),
        (lambda: smallest_scale(2, 0.0), "target_probability must be above 0 and below 1, got 0.0"),
        (lambda: smallest_scale(2, math.nan), "target_probability must be above 0 and below 1, got nan"),
        (lambda: smallest_scale(2, 0.5, -0.1), "margin must be a finite number of at least 0, got -0.1"),
        (lambda: ideal_posterior(2, 0.0, 0.1), "scale must be a finite number above 0, got 0.0"),
        (lambda: ideal_posterior(2, 1.0, math.inf), "margin must be a finite number of at least 0, got inf"),
        (lambda: advice(2, 2, scale=-1.0), "scale must be a finite number above 0, got -1.0"),
        (lambda: advice(2, 2, margin=math.nan), "margin must be a finite number of at least 0, got nan"),
    ],
)
def test_wrong_values_are_named(call, says: str) -> None:
    with pytest.raises(HeadInputError) as caught:
        call()
    assert str(caught.value) == says


def test_a_margin_without_room_has_no_scale() -> None:
    assert smallest_scale(5, 0.9, 1.25) == math.inf
    assert smallest_scale(5, 0.1, 1.25) == 0
    assert ideal_posterior(5, 64.0, 1.25) == pytest.approx(0.2)
