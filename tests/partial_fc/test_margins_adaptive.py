"""Margins that depend on the image, and what they remember of the batches before."""

from __future__ import annotations

import math

import pytest
import torch

from partial_fc.margins import AdaFace, CurricularFace, MagFace
from tests.partial_fc import oracle
from tests.partial_fc.asking import EXAMPLES, ask, facts


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
