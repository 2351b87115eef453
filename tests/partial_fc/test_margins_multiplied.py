"""Margins that multiply the angle: annealing, and which lengths stay in the logit."""

from __future__ import annotations

import pytest
import torch

from partial_fc.margins import LSoftmax, SphereFace, SphereFaceNormFea
from tests.partial_fc.asking import ask


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
