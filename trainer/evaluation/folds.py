"""The folds of a pair set, and the accuracy of each at the threshold found on the others.

A threshold is taken from the scores themselves, not from a grid: between two neighbouring distinct scores all
thresholds decide alike, so their midpoints, with one below and one above them all, are every choice there is.
A pair is accepted as "same" iff its score is at least the threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.errors import TrainerInputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def assign_folds(same: ArrayLike, folds: int = 10) -> Ints:
    """The fold of each pair: [P] int64, for pairs in the order of their list.

    Contiguous runs of pairs, the first ``P % folds`` of them one pair longer: insightface's split, whose
    `.bin` files are ordered so that every run holds both kinds. Where a run would hold only one kind (one
    fold of LFW's list is 300 same pairs, then 300 different ones), the same pairs and the different pairs
    are split into such runs separately, so that each fold has its share of both.
    Raises TrainerInputError with fewer than ``folds`` pairs of either kind.
    """
    kinds = np.asarray(same, dtype=bool)
    if folds < 2:
        raise TrainerInputError(f"folds must be at least 2, got {folds}")
    for name, count in (("same", int(kinds.sum())), ("different", int((~kinds).sum()))):
        if count < folds:
            raise TrainerInputError(
                f"{count} {name} pairs are too few for {folds} folds; each kind needs at least {folds}"
            )
    contiguous = _runs(kinds.size, folds)
    if all(kinds[contiguous == fold].any() and not kinds[contiguous == fold].all() for fold in range(folds)):
        return contiguous
    stratified = np.empty(kinds.size, dtype=np.int64)
    stratified[kinds] = _runs(int(kinds.sum()), folds)
    stratified[~kinds] = _runs(int((~kinds).sum()), folds)
    return stratified


def possible_folds(same: ArrayLike, folds: int = 10) -> int:
    """``folds``, or as many as there are pairs of the rarer kind where these are fewer; at least 2."""
    kinds = np.asarray(same, dtype=bool)
    same_pairs = int(kinds.sum())
    return max(2, min(folds, same_pairs, kinds.size - same_pairs))


def fold_accuracies(scores: Floats, same: Bools, fold_of: NDArray[Any]) -> tuple[Floats, Floats]:
    """Each fold's accuracy at the threshold that is best on the other folds, and that threshold.

    Candidates are the midpoints between adjacent distinct scores of the other folds, one below and one above
    all of them; of several that are best the lowest is taken.
    Raises TrainerInputError when there is one fold only, or the other folds hold only one kind of pair.
    """
    names = np.unique(fold_of)
    if names.size < 2:
        raise TrainerInputError("all pairs are in one fold; a threshold needs other folds to be found on")
    accuracies, thresholds = np.empty(names.size), np.empty(names.size)
    for position, name in enumerate(names):
        held_out = fold_of == name
        others = same[~held_out]
        if others.all() or not others.any():
            raise TrainerInputError(f"outside fold {name} there is only one kind of pair; use fewer folds")
        thresholds[position] = best_threshold(scores[~held_out], others)
        accuracies[position] = np.mean((scores[held_out] >= thresholds[position]) == same[held_out])
    return accuracies, thresholds


def best_threshold(scores: Floats, same: Bools) -> float:
    """The lowest threshold among the candidates (see `fold_accuracies`) with the most right decisions."""
    distinct, same_at, different_at = pair_counts(scores, same)
    # Candidate k lies below distinct[k] and above distinct[k - 1]: it accepts distinct[k:].
    rejected_different = np.concatenate(([0], np.cumsum(different_at)))
    rejected_same = np.concatenate(([0], np.cumsum(same_at)))
    best = int(np.argmax(rejected_different - rejected_same))
    if best == 0:
        return float(distinct[0] - 2.0)  # 2 is the width of the cosine's range: below every cosine
    if best == distinct.size:
        return float(distinct[-1] + 2.0)
    below, above = distinct[best - 1], distinct[best]
    middle = below + (above - below) / 2
    # Two neighbouring floating-point numbers have no number between them.
    return float(middle if middle > below else above)


def _runs(count: int, folds: int) -> Ints:
    """[count] int64: contiguous runs 0, 1, ..., the first ``count % folds`` one longer than the rest."""
    lengths = np.full(folds, count // folds)
    lengths[: count % folds] += 1
    return np.repeat(np.arange(folds, dtype=np.int64), lengths)


def pair_counts(scores: Floats, same: Bools) -> tuple[Floats, Ints, Ints]:
    """The distinct scores, rising, and how many same and different pairs have each: three [K] arrays."""
    distinct, place = np.unique(scores, return_inverse=True)
    place = place.reshape(-1)
    same_at = np.bincount(place[same], minlength=distinct.size)
    return distinct, same_at, np.bincount(place, minlength=distinct.size) - same_at
