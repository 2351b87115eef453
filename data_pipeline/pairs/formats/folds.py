"""The folds of a list that writes none down: its runs of same pairs, then different ones."""

from __future__ import annotations

from collections.abc import Sequence

MAX_FOLDS = 100


def folds_by_runs(same: Sequence[bool]) -> list[int]:
    """The fold of each pair, from 1, where pairs of one kind and then of the other come in equal turns.

    LFW's list and those in its form are ten times 300 same and 300 different pairs. 0 for every pair of a
    list that has one such turn, or whose turns are of very different lengths, as mixed lists are.
    """
    folds, fold = [], 1
    for place, kind in enumerate(same):
        if place and kind == same[0] and same[place - 1] != kind:
            fold += 1
        folds.append(fold)
    lengths = [folds.count(number) for number in range(1, fold + 1)] if fold <= MAX_FOLDS else []
    if len(lengths) < 2 or max(lengths) >= 2 * min(lengths):
        return [0] * len(same)
    return folds
