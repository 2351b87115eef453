"""Verification figures from pair scores: 10-fold accuracy, AUC, EER, TAR at FAR, the ROC.

Everything is counted, nothing is searched on a grid: the distinct scores, in order, with the number of
same and of different pairs at each, hold all there is to know. A pair is accepted as "same" iff its score
is at least the threshold. With S same and D different pairs, of which a(t) and b(t) are accepted at t:

    TAR(t) = a(t) / S      FAR(t) = b(t) / D      accuracy(t) = (a(t) + D - b(t)) / (S + D)
    AUC    = P(a same pair scores higher than a different one) + P(they tie) / 2        (Mann-Whitney)

Protocol of the folds: Huang et al. 2007, "Labeled Faces in the Wild", View 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from data_pipeline.files.typed_json import typed
from trainer.errors import TrainerInputError
from trainer.evaluation.folds import Bools, Floats, Ints, assign_folds, fold_accuracies, pair_counts

# One over each false acceptance rate, so that "FAR <= target" is a comparison of whole numbers.
FAR_TARGETS: dict[str, int] = {"0.1": 10, "0.01": 100, "0.001": 1000}


@dataclass(frozen=True)
class VerificationResult:
    """The figures of one pair set; rates and accuracies are fractions of 1, not percent."""

    accuracy: float
    """Mean over the folds of the accuracy at the threshold found on the other folds."""
    accuracy_std: float
    """Standard deviation of the folds' accuracies, over n and not n - 1 (what insightface prints after ±)."""
    accuracy_standard_error: float
    """Standard error of the mean as LFW's protocol has it: deviation over n - 1, divided by sqrt(folds)."""
    fold_accuracies: tuple[float, ...]
    """Accuracy of each held-out fold."""
    thresholds: tuple[float, ...]
    """The threshold of each held-out fold: the lowest of those that are best on the other folds."""
    auc: float
    """Area under the ROC, ties counted one half."""
    eer: float
    """The rate at which FAR = 1 - TAR, interpolated linearly between neighbouring ROC points."""
    tar_at_far: dict[str, float | None]
    """Largest TAR whose FAR is at most the key; None when the set has fewer than 1/FAR different pairs."""
    same_pairs: int
    """Number of pairs of one identity."""
    different_pairs: int
    """Number of pairs of two identities."""
    roc_far: Floats
    """[points] rising from 0 to 1: the ROC's horizontal axis, one point a distinct score."""
    roc_tar: Floats
    """[points] the ROC's vertical axis."""
    same_scores: Floats | None = None
    """[same_pairs] for the histogram; None when the result was read back from JSON."""
    different_scores: Floats | None = None
    """[different_pairs] for the histogram; None when the result was read back from JSON."""

    @property
    def pairs(self) -> int:
        """Number of pairs of both kinds."""
        return self.same_pairs + self.different_pairs

    def to_json(self, *, curve: bool = False) -> dict[str, Any]:
        """Plain numbers, lists and None; with ``curve`` the corners of the ROC too, for a later picture."""
        plain: dict[str, Any] = {
            "accuracy": self.accuracy,
            "accuracy_std": self.accuracy_std,
            "accuracy_standard_error": self.accuracy_standard_error,
            "auc": self.auc,
            "eer": self.eer,
            "tar_at_far": dict(self.tar_at_far),
            "pairs": self.pairs,
            "same_pairs": self.same_pairs,
            "different_pairs": self.different_pairs,
            "folds": len(self.fold_accuracies),
            "fold_accuracies": list(self.fold_accuracies),
            "thresholds": list(self.thresholds),
        }
        if curve:
            corners = roc_corners(self.roc_far, self.roc_tar)
            plain["roc"] = {"far": self.roc_far[corners].tolist(), "tar": self.roc_tar[corners].tolist()}
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> VerificationResult:
        """Read back what `to_json(curve=True)` gave; the scores themselves are not kept there.

        Raises TrainerInputError when a figure is missing.
        """
        try:
            figures = typed(plain, _Figures, more=True)
        except ValueError as error:
            raise TrainerInputError(
                f"a verification result without its curve or with a wrong value ({error}); evaluate again"
            ) from None
        numbers = {name: value for name, value in vars(figures).items() if name != "roc"}
        return cls(**numbers, roc_far=np.asarray(figures.roc.far), roc_tar=np.asarray(figures.roc.tar))


@dataclass(frozen=True)
class _Curve:
    far: tuple[float, ...]
    tar: tuple[float, ...]


@dataclass(frozen=True)
class _Figures:
    """What `VerificationResult.to_json(curve=True)` gives, as far as it is read back."""

    accuracy: float
    accuracy_std: float
    accuracy_standard_error: float
    fold_accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    auc: float
    eer: float
    tar_at_far: dict[str, float | None]
    same_pairs: int
    different_pairs: int
    roc: _Curve


def evaluate_scores(scores: ArrayLike, same: ArrayLike, folds: int | ArrayLike = 10) -> VerificationResult:
    """All figures of one set of pairs.

    scores: [P] finite, higher = more alike; same: [P] bool; folds: their number (split by `assign_folds`)
    or [P] integers, the fold of each pair.
    Raises TrainerInputError when the figures have no meaning: no pair of a kind, a score that is not
    finite, too few pairs for the folds.
    """
    values, kinds = _checked(scores, same)
    fold_of = assign_folds(kinds, folds) if isinstance(folds, int) else np.asarray(folds)
    if fold_of.shape != values.shape:
        raise TrainerInputError(
            f"{fold_of.size} fold numbers for {values.size} scores; expected one for each pair"
        )
    accuracies, thresholds = fold_accuracies(values, kinds, fold_of)
    _, same_at, different_at = pair_counts(values, kinds)
    accepted_same, accepted_different = _accepted_from_top(same_at, different_at)
    same_total, different_total = int(same_at.sum()), int(different_at.sum())
    far, tar = accepted_different / different_total, accepted_same / same_total
    return VerificationResult(
        accuracy=float(accuracies.mean()),
        accuracy_std=float(accuracies.std()),
        accuracy_standard_error=float(accuracies.std(ddof=1) / np.sqrt(accuracies.size)),
        fold_accuracies=tuple(accuracies.tolist()),
        thresholds=tuple(thresholds.tolist()),
        auc=_area(same_at, different_at),
        eer=_equal_error_rate(far, tar),
        tar_at_far={
            key: _tar_at_far(accepted_same, accepted_different, reciprocal)
            for key, reciprocal in FAR_TARGETS.items()
        },
        same_pairs=same_total,
        different_pairs=different_total,
        roc_far=far,
        roc_tar=tar,
        same_scores=values[kinds],
        different_scores=values[~kinds],
    )


def cosine_scores(embeddings: ArrayLike, pairs: ArrayLike) -> Floats:
    """Cosine of the two embeddings of each pair, in float64: [P].

    embeddings: [n, dim] floats, those that a pair needs of any length but zero; pairs: [P, 2] rows of them.
    Raises TrainerInputError naming the first row of a pair that is zero or not finite.
    """
    used, places = np.unique(np.asarray(pairs, dtype=np.int64), return_inverse=True)
    index = places.reshape(-1, 2)
    rows = np.asarray(embeddings)[used].astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        what = "zero" if lengths[bad[0]] == 0 else "not finite"
        raise TrainerInputError(
            f"embedding {used[bad[0]]} is {what} ({bad.size} of the {len(rows)} that the pairs need are zero "
            "or not finite); a cosine needs a direction"
        )
    unit = rows / lengths[:, None]
    cosines: Floats = np.einsum("pd,pd->p", unit[index[:, 0]], unit[index[:, 1]])
    return cosines


def roc_corners(far: Floats, tar: Floats) -> Ints:
    """Indices of the ROC's points without those in the middle of a horizontal or vertical run."""
    if far.size <= 2:
        return np.arange(far.size)
    far_steps, tar_steps = np.diff(far), np.diff(tar)
    straight = ((far_steps[1:] == 0) & (far_steps[:-1] == 0)) | ((tar_steps[1:] == 0) & (tar_steps[:-1] == 0))
    return np.flatnonzero(np.concatenate(([True], ~straight, [True])))


def _checked(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, Bools]:
    values, kinds = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.ndim != 1 or values.shape != kinds.shape:
        raise TrainerInputError(
            f"scores of shape {list(values.shape)} for pairs of shape {list(kinds.shape)}; "
            "expected one score for each pair"
        )
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        raise TrainerInputError(
            f"the score of pair {bad[0]} is {values[bad[0]]} ({bad.size} of {values.size} are not finite)"
        )
    if not kinds.any() or kinds.all():
        missing = "different" if kinds.any() else "same"
        raise TrainerInputError(f"{values.size} pairs, none of them {missing}; both kinds are needed")
    return values, kinds


def _accepted_from_top(same_at: Ints, different_at: Ints) -> tuple[Ints, Ints]:
    """Accepted pairs of each kind, from no pair accepted to all: two [K + 1] arrays."""
    return (
        np.concatenate(([0], np.cumsum(same_at[::-1]))),
        np.concatenate(([0], np.cumsum(different_at[::-1]))),
    )


def _area(same_at: Ints, different_at: Ints) -> float:
    below = np.cumsum(different_at) - different_at
    twice_wins = int(np.sum(same_at * (2 * below + different_at)))
    return twice_wins / (2 * int(same_at.sum()) * int(different_at.sum()))


def _equal_error_rate(far: Floats, tar: Floats) -> float:
    excess = far + tar - 1.0  # FAR - FRR: rises from -1 to 1
    after = int(np.argmax(excess >= 0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    return float(far[before] + share * (far[after] - far[before]))


def _tar_at_far(accepted_same: Ints, accepted_different: Ints, reciprocal: int) -> float | None:
    different_total, same_total = int(accepted_different[-1]), int(accepted_same[-1])
    if different_total < reciprocal:
        return None
    allowed = int(np.searchsorted(accepted_different, different_total // reciprocal, side="right")) - 1
    return int(accepted_same[allowed]) / same_total
