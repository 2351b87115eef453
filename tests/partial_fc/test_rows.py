"""The compiled row functions against torch's, which are their definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from partial_fc.kernels import rows as chooser
from partial_fc.kernels import rows_numba, rows_torch

DTYPES = [torch.float32, torch.bfloat16]
ROWS = [slice(1, 8), torch.tensor([6, 0, 3, 9])]


def made(dtype: torch.dtype, seed: int, size: tuple[int, int] = (10, 37)) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(found: Tensor, expected: Tensor) -> None:
    # A float32 that was added in another order may round to the next bfloat16.
    tolerance = 1e-5 if found.dtype == torch.float32 else 1e-2
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * 1e-1)


@pytest.mark.parametrize("rows", ROWS, ids=["slice", "numbers"])
def test_norms_and_rounding(rows: Any) -> None:
    weight = made(torch.float32, 0)
    weight[3] *= 1e30
    weight[6] *= 1e-18
    weight[2] = 0.0
    weight[5, 3] = math.nan
    count = weight[rows].shape[0]
    found = torch.empty(2, count), torch.empty(count, 37, dtype=torch.bfloat16)
    expected = torch.empty(count), torch.empty(count, 37, dtype=torch.bfloat16)
    rows_numba.inverse_norms(weight, rows, found[0][0])
    rows_numba.inverse_norms_and_round(weight, rows, found[0][1], found[1])
    rows_torch.inverse_norms_and_round(weight, rows, *expected)
    for one in found[0]:
        torch.testing.assert_close(one, expected[0], rtol=1e-6, atol=0.0, equal_nan=True)
    numbers = ~expected[1].isnan()
    assert torch.equal(found[1][numbers], expected[1][numbers]), "the same bits"
    assert found[1][~numbers].isnan().all()


@pytest.mark.parametrize("taken", DTYPES)
@pytest.mark.parametrize("kept", DTYPES)
@pytest.mark.parametrize("normalised", [False, True])
def test_exponentials(taken: torch.dtype, kept: torch.dtype, normalised: bool) -> None:
    dots = (made(torch.float32, 1, (150, 37)) * 8).to(taken)
    dots[3] = -math.inf
    dots[5] = 0.0
    dots[:, 7] = -math.inf
    dots[4, 8], dots[6, 9], dots[2, 10] = math.nan, math.inf, 1e30
    dots[8, 11], dots[9, 12] = -80.0, -200.0
    inverse = made(torch.float32, 2, (150, 1)).abs().view(-1) + 0.2 if normalised else None
    if inverse is not None:
        inverse[5] = 0.0
    reference = made(torch.float32, 3, (37, 1)).view(-1)
    results = []
    for module, place in ((rows_torch, "other"), (rows_numba, "other"), (rows_numba, "same")):
        own = dots.clone()
        out = own if place == "same" and kept == taken else torch.empty(150, 37, dtype=kept)
        sums = torch.ones(37, dtype=torch.float64)
        module.exponentials(own, inverse, reference, out, sums)
        results.append((out, sums))
    (expected, expected_sums), *others = results
    tolerance = 2e-6 if kept == torch.float32 else 1e-2
    for out, sums in others:
        torch.testing.assert_close(out, expected, rtol=tolerance * 3, atol=1e-37, equal_nan=True)
        torch.testing.assert_close(sums, expected_sums, rtol=1e-5, atol=0.0, equal_nan=True)
    assert sums[8].isnan()
    assert sums[9].isinf()
    assert sums[7] == 1, "nothing counts"


@pytest.mark.parametrize("rows", ROWS, ids=["slice", "numbers"])
@pytest.mark.parametrize("moment", DTYPES)
@pytest.mark.parametrize("gradient", DTYPES)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("limit", [math.inf, 3.0])
def test_updates(
    rows: Any, moment: torch.dtype, gradient: torch.dtype, normalised: bool, limit: float
) -> None:
    results = []
    for module in (rows_numba, rows_torch):
        weight, first, second = made(torch.float32, 1), made(moment, 2), made(moment, 3).abs()
        count = weight[rows].shape[0]
        g = made(gradient, 4, (count, 37))
        inverse = torch.empty(count) if normalised else None
        if inverse is not None:
            module.inverse_norms(weight, rows, inverse)
        module.sgd(weight, first, rows, g, inverse, 0.1, 0.9, 5e-4, limit)
        after_sgd = weight.clone(), first.clone()
        module.adamw(weight, first, second, rows, g, inverse, 0.01, (0.9, 0.999), 1e-8, 0.05, 3, limit)
        results.append((*after_sgd, weight, first, second))
    for found, expected in zip(*results, strict=True):
        close(found, expected)
    untouched = torch.ones(10, dtype=torch.bool)
    untouched[rows] = False
    assert torch.equal(results[0][2][untouched], made(torch.float32, 1)[untouched])


def test_without_numba_torch_does_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chooser, "_chosen", {})
    monkeypatch.setitem(__import__("sys").modules, "partial_fc.kernels.rows_numba", None)
    monkeypatch.delattr("partial_fc.kernels.rows_numba", raising=False)
    with pytest.warns(UserWarning, match="pip install numba"):
        assert chooser.rows_for(torch.zeros(1)) is rows_torch
    assert chooser.rows_for(torch.zeros(1)) is rows_torch, "and only once"
