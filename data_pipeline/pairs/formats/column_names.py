"""What the columns of a table of pairs are called, in data sets' cards and in people's own files."""

from __future__ import annotations

import re

_SAME = (
    *("is_same", "same", "issame", "actual_issame", "is_match", "match", "same_person", "is_same_person"),
    *(
        "same_identity",
        "is_same_identity",
        "is_genuine",
        "genuine",
        "label",
        "labels",
        "pair_label",
        "target",
    ),
    *("ground_truth", "gt", "y"),
)
_DIFFERENT = (
    *("different", "is_different", "diff", "is_diff", "not_same", "mismatch", "is_mismatch", "impostor"),
    *("is_impostor", "imposter", "is_imposter", "negative", "is_negative"),
)
_FOLD = (
    "fold",
    "folds",
    "fold_id",
    "fold_index",
    "fold_idx",
    "fold_number",
    "fold_no",
    "cv_fold",
    "split_number",
)
_ORDINALS = (
    ("a", "b"),
    ("1", "2"),
    ("0", "1"),
    ("left", "right"),
    ("first", "second"),
    ("one", "two"),
    ("l", "r"),
)
# Of several columns that come in twos, the images rather than the persons.
_PREFERRED = ("path", "file", "filename", "image", "img", "photo", "face", "")


def label_column(header: list[str]) -> tuple[int, bool] | None:
    """(column, whether it tells same pairs and not different ones) by its name; None: no name tells it."""
    names = ["_".join(_words(name)) for name in header]
    for wanted in _SAME + _DIFFERENT:
        if wanted in names:
            return names.index(wanted), wanted in _SAME
    return None


def fold_column(header: list[str]) -> int | None:
    """The column of folds by its name."""
    names = ["_".join(_words(name)) for name in header]
    return next((names.index(wanted) for wanted in _FOLD if wanted in names), None)


def path_columns(header: list[str]) -> list[tuple[int, int]]:
    """Columns whose names differ in first and second alone, those that are called paths or images first."""
    words = [_words(name) for name in header]
    found = []
    for first, own in enumerate(words):
        for second, other in enumerate(words):
            differing = [pair for pair in zip(own, other, strict=False) if pair[0] != pair[1]]
            if len(own) == len(other) and len(differing) == 1 and differing[0] in _ORDINALS:
                rest = [word for word in own if word != differing[0][0]]
                rank = min(
                    (_PREFERRED.index(word) for word in rest if word in _PREFERRED), default=len(_PREFERRED)
                )
                found.append((rank if rest else len(_PREFERRED) - 1, first, second))
    return [(first, second) for _, first, second in sorted(found)]


def _words(name: str) -> list[str]:
    """image_a_path, imageAPath, Image A path -> image, a, path; path1 -> path, 1."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[a-z]+|\d+", spaced.lower())
