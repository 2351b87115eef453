"""Verification figures against scikit-learn and a naive float64 oracle."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import KFold

from trainer.errors import TrainerInputError
from trainer.evaluation.folds import assign_folds, best_threshold, possible_folds
from trainer.evaluation.verification import (
    VerificationResult,
    cosine_scores,
    evaluate_scores,
    roc_corners,
)


def drawn(pairs: int, seed: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    same = random.permutation(pairs) % 2 == 0
    scores = np.tanh(random.normal(size=pairs) + np.where(same, 0.9, -0.3))
    return (scores if decimals is None else scores.round(decimals)), same


def naive_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    distinct = sorted(set(scores.tolist()))
    candidates = [distinct[0] - 2.0]
    candidates += [(low + high) / 2 for low, high in pairwise(distinct)]
    candidates += [distinct[-1] + 2.0]
    right = [sum((s >= t) == k for s, k in zip(scores, same, strict=True)) for t in candidates]
    return float(candidates[right.index(max(right))])


def naive_eer(scores: np.ndarray, same: np.ndarray) -> float:
    points = [(0.0, 1.0)]
    for t in sorted(set(scores.tolist()), reverse=True):
        points.append((np.mean(scores[~same] >= t), np.mean(scores[same] < t)))
    for (far0, frr0), (far1, frr1) in pairwise(points):
        if far1 >= frr1:
            share = (frr0 - far0) / ((far1 - far0) - (frr1 - frr0))
            return far0 + share * (far1 - far0)
    raise AssertionError


def naive_tar(scores: np.ndarray, same: np.ndarray, far: float) -> float | None:
    if (~same).sum() * far < 1 - 1e-9:
        return None
    thresholds = [*scores.tolist(), np.inf]
    allowed = [t for t in thresholds if np.mean(scores[~same] >= t) <= far + 1e-12]
    return max(float(np.mean(scores[same] >= t)) for t in allowed)


@pytest.mark.parametrize("pairs", [60, 203, 400])
@pytest.mark.parametrize("decimals", [None, 1])
def test_figures_equal_the_naive_ones(pairs: int, decimals: int | None) -> None:
    scores, same = drawn(pairs, seed=pairs, decimals=decimals)
    result = evaluate_scores(scores, same)
    expected, thresholds = [], []
    for train, test in KFold(10).split(scores):
        threshold = naive_threshold(scores[train], same[train])
        thresholds.append(threshold)
        expected.append(np.mean((scores[test] >= threshold) == same[test]))
    assert result.fold_accuracies == pytest.approx(expected, abs=1e-15)
    assert result.thresholds == pytest.approx(thresholds, abs=1e-15)
    assert result.accuracy == pytest.approx(np.mean(expected), abs=1e-15)
    assert result.accuracy_std == pytest.approx(np.std(expected), abs=1e-15)
    assert result.accuracy_standard_error == pytest.approx(np.std(expected, ddof=1) / np.sqrt(10), abs=1e-15)
    assert result.eer == pytest.approx(naive_eer(scores, same), abs=1e-12)
    for key, tar in result.tar_at_far.items():
        assert tar == naive_tar(scores, same, float(key))


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=80).filter(
        lambda pairs: len({kind for _, kind in pairs}) == 2
    )
)
@settings(max_examples=150, deadline=None)
def test_auc_and_roc_equal_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 4 for score, _ in pairs])
    same = np.array([kind for _, kind in pairs])
    folds = np.where(same, np.cumsum(same), np.cumsum(~same)) % 2  # any folds whose complement has both kinds
    if any(len(set(same[folds != fold])) < 2 for fold in (0, 1)):
        return
    result = evaluate_scores(scores, same, folds)
    assert result.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(result.roc_far, far, atol=1e-15)
    np.testing.assert_allclose(result.roc_tar, tar, atol=1e-15)


def test_perfect_and_reversed_scores() -> None:
    same = np.arange(40) % 2 == 0
    perfect = evaluate_scores(np.where(same, 0.9, 0.1), same)
    assert (perfect.accuracy, perfect.auc, perfect.eer) == (1.0, 1.0, 0.0)
    assert perfect.tar_at_far == {"0.1": 1.0, "0.01": None, "0.001": None}
    reversed_ = evaluate_scores(np.where(same, 0.1, 0.9), same)
    assert (reversed_.auc, reversed_.eer) == (0.0, 1.0)
    constant = evaluate_scores(np.zeros(40), same)
    assert (constant.accuracy, constant.auc, constant.eer) == (0.5, 0.5, 0.5)
    assert constant.tar_at_far["0.1"] == 0.0


@pytest.mark.parametrize(("different", "key"), [(10, "0.1"), (100, "0.01"), (1000, "0.001")])
def test_a_far_below_one_pair_is_none(different: int, key: str) -> None:
    for count, there in ((different, True), (different - 1, False)):
        same = np.arange(count + 20) < 20
        result = evaluate_scores(np.linspace(1, -1, count + 20), same, np.arange(count + 20) % 2)
        assert (result.tar_at_far[key] is not None) is there


def test_neighbouring_floats_are_told_apart() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1))
    threshold = best_threshold(np.array([low, high]), np.array([False, True]))
    assert low < threshold <= high


def test_contiguous_folds_as_kfold_when_they_hold_both_kinds() -> None:
    _, same = drawn(203, seed=5)
    expected = np.empty(203, dtype=int)
    for fold, (_, test) in enumerate(KFold(10).split(same)):
        expected[test] = fold
    np.testing.assert_array_equal(assign_folds(same), expected)


def test_one_fold_of_lfw_is_split_by_kind() -> None:
    same = np.arange(600) < 300
    folds = assign_folds(same)
    assert np.bincount(folds).tolist() == [60] * 10
    assert np.bincount(folds[same]).tolist() == [30] * 10


def test_uneven_stratified_folds_hold_both_kinds() -> None:
    same = np.arange(47) < 34
    folds = assign_folds(same)
    assert np.bincount(folds[same]).tolist() == [4] * 4 + [3] * 6
    assert np.bincount(folds[~same]).tolist() == [2] * 3 + [1] * 7


@pytest.mark.parametrize(
    ("same", "different", "folds"),
    [(300, 300, 10), (10, 10, 10), (6, 300, 6), (300, 2, 2), (1, 5, 2)],
)
def test_folds_are_as_many_as_the_rarer_kind_allows(same: int, different: int, folds: int) -> None:
    assert possible_folds([True] * same + [False] * different) == folds


@pytest.mark.parametrize(
    ("scores", "same", "folds", "words"),
    [
        ([0.1, 0.2], [True, True], 2, "none of them different"),
        ([0.1, 0.2], [False, False], 2, "none of them same"),
        ([0.1, float("nan")], [True, False], 2, "pair 1 is nan"),
        ([0.1, 0.2, 0.3], [True, False, True], 10, "too few for 10 folds"),
        ([0.1, 0.2, 0.3], [True, False], 2, "one score for each pair"),
        ([0.1, 0.2], [True, False], [0, 0], "one fold"),
        ([0.1, 0.2], [True, False], [0, 1], "only one kind"),
        ([0.1, 0.2], [True, False], [0], "fold numbers"),
        ([0.1, 0.2], [True, False], 1, "at least 2"),
    ],
)
def test_input_without_meaning_is_refused(scores: object, same: object, folds: object, words: str) -> None:
    with pytest.raises(TrainerInputError, match=words) as caught:
        evaluate_scores(scores, same, folds)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_cosines_and_the_embeddings_without_direction() -> None:
    rows = np.array([[3.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    np.testing.assert_allclose(
        cosine_scores(rows, [(0, 1), (0, 2), (2, 2)]), [0, np.sqrt(0.5), 1], atol=1e-15
    )
    with pytest.raises(TrainerInputError, match="embedding 1 is zero"):
        cosine_scores([[1.0, 0.0], [0.0, 0.0]], [(0, 1)])
    with pytest.raises(TrainerInputError, match="embedding 0 is not finite"):
        cosine_scores([[np.inf, 0.0], [1.0, 0.0]], [(0, 1)])


def test_a_row_that_no_pair_needs_changes_nothing() -> None:
    rows = np.array([[3.0, 1.0], [0.0, 0.0], [5.0, 5.0], [np.nan, np.inf], [1.0, 2.0]], dtype=np.float16)
    pairs = [(4, 0), (0, 2), (2, 2)]
    clean = rows[[0, 2, 4]]
    np.testing.assert_array_equal(cosine_scores(rows, pairs), cosine_scores(clean, [(2, 0), (0, 1), (1, 1)]))
    with pytest.raises(TrainerInputError, match=r"embedding 3 is not finite \(1 of the 2 that"):
        cosine_scores(rows, [(4, 3)])


def test_json_round_trip_keeps_the_curve() -> None:
    scores, same = drawn(400, seed=1)
    result = evaluate_scores(scores, same)
    assert "roc" not in result.to_json()
    back = VerificationResult.from_json(json.loads(json.dumps(result.to_json(curve=True), allow_nan=False)))
    assert back.to_json() == result.to_json()
    area = np.trapezoid(back.roc_tar, back.roc_far)
    assert area == pytest.approx(result.auc, abs=1e-12)
    assert back.roc_far.size < result.roc_far.size
    with pytest.raises(TrainerInputError, match="roc"):
        VerificationResult.from_json(result.to_json())
    for name, value in (("accuracy", None), ("eer", "0.1"), ("fold_accuracies", "0.5"), ("same_pairs", 2.5)):
        with pytest.raises(TrainerInputError, match=rf"a wrong value \({name}.*is expected, got ") as caught:
            VerificationResult.from_json({**result.to_json(curve=True), name: value})
        assert "\n" not in str(caught.value)


def test_corners_of_a_short_curve() -> None:
    assert roc_corners(np.array([0.0, 1.0]), np.array([0.0, 1.0])).tolist() == [0, 1]
