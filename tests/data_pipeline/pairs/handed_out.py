"""One list of 20 pairs, 10 of them same, in two folds, in every form that the field hands lists out in."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

PEOPLE = [
    *("Ann_Lee", "Bo", "Cy_Ng", "Di_Ray", "Ed_Fox", "Flo", "Gus_Van", "Hal", "Ida", "Jo_Ann", "Kim", "Lou"),
]
FACES = 5
Named = tuple[str, int, str, int, bool, int]
"""name, number, name, number, same, fold"""

Expected = list[tuple[str, str, bool, int]]
"""path, path, same, fold"""


def pairs() -> list[Named]:
    listed: list[Named] = []
    for fold in (1, 2):
        own = PEOPLE[6 * (fold - 1) : 6 * fold]
        listed += [(name, 1, name, 2 + place % 4, True, fold) for place, name in enumerate(own[:5])]
        listed += [(name, 1, own[place + 1], 3, False, fold) for place, name in enumerate(own[:5])]
    return listed


def path(name: str, number: int, suffix: str = ".jpg") -> str:
    return f"{name}/{name}_{number:04d}{suffix}"


def expected(folds: bool = True) -> Expected:
    return [
        (path(first, n1), path(second, n2), same, fold if folds else 0)
        for first, n1, second, n2, same, fold in pairs()
    ]


def make_images(folder: Path, suffix: str = ".jpg") -> Path:
    encoded = cv2.imencode(suffix.lower(), np.zeros((16, 16, 3), dtype=np.uint8))[1].tobytes()
    for name in PEOPLE:
        (folder / name).mkdir(parents=True)
        for number in range(1, FACES + 1):
            (folder / path(name, number, suffix)).write_bytes(encoded)
    return folder


def table(rows: Iterable[Sequence[object]], separator: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def lfw(separator: str = "\t", header: str = "2\t5\n") -> str:
    lines = [[n1, a, b] if same else [n1, a, n2, b] for n1, a, n2, b, same, _ in pairs()]
    return header + "".join(separator.join(map(str, line)) + "\n" for line in lines)


def kaggle(kinds: tuple[bool, ...] = (True, False), *, empty: bool = True) -> list[list[object]]:
    return [
        ([n1, a, b, ""] if empty else [n1, a, b]) if same else [n1, a, n2, b]
        for n1, a, n2, b, same, _ in pairs()
        if same in kinds
    ]


def labelled(same: object = 1, different: object = 0, header: Sequence[str] = ()) -> list[list[object]]:
    rows: list[list[object]] = [list(header)] if header else []
    return rows + [[a, b, same if kind else different] for a, b, kind, _ in expected()]


def card(columns: Sequence[str], **words: object) -> str:
    values: list[dict[str, object]] = [
        {
            "pair_id": f"pair_{place:05}",
            "fold_id": fold,
            "pair_in_fold": place % 10,
            "is_same": words.get("same", 1) if same else words.get("different", 0),
            "identity_a": n1,
            "identity_b": n2,
            "image_a": a,
            "image_b": b,
            "image_a_path": path(n1, a),
            "image_b_path": path(n2, b),
        }
        for place, (n1, a, n2, b, same, fold) in enumerate(pairs())
    ]
    return table([columns, *([value[column] for column in columns] for value in values)])


CARD = (
    *("pair_id", "fold_id", "pair_in_fold", "is_same", "identity_a", "identity_b", "image_a", "image_b"),
    *("image_a_path", "image_b_path"),
)


def indexed(rows: Sequence[Sequence[object]], header: bool = True) -> list[list[object]]:
    """As pandas' to_csv writes it."""
    first, rest = (rows[:1], rows[1:]) if header else ([], rows)
    return [["", *row] for row in first] + [[place, *row] for place, row in enumerate(rest)]


def _two_lines(line: Callable[[str, bool], str]) -> str:
    return "".join(line(a, same) + line(b, same) for a, b, same, _ in expected())


# The text, and whether it tells the folds.
FORMS: dict[str, tuple[str, bool]] = {
    "LFW": (lfw(), True),
    "LFW, spaces": (lfw(" ", "2 5\n"), True),
    "LFW, blank lines": (lfw().replace("\n", "\n\n"), True),
    "RFW, no header": (lfw(header=""), True),
    "RFW, Windows": (lfw(header="").replace("\n", " \r\n"), True),
    "Kaggle's pairs.csv": (table([["name", "imagenum1", "imagenum2", ""], *kaggle()]), True),
    "Kaggle's pairs.csv by pandas": (
        table(indexed([["name", "imagenum1", "imagenum2", "Unnamed: 3"], *kaggle()])).replace(
            ",3\n", ",3.0\n"
        ),
        True,
    ),
    "Kaggle's match… and mismatch… joined": (
        table([["name", "imagenum1", "imagenum2"], *kaggle((True,), empty=False)])
        + table([["name", "imagenum1", "name", "imagenum2"], *kaggle((False,))]),
        False,
    ),
    "card": (card(CARD), True),
    "card, other order": (card(CARD[::-1]), True),
    "card, True and False": (card(CARD[2:] + CARD[:2], same="True", different="False"), True),
    "card, few columns": (card(["is_same", "image_b_path", "image_a_path"]), False),
    "pandas' index": (table(indexed(labelled(header=["first", "second", "same"]))), False),
    "pandas' index, unnamed columns": (table(indexed(labelled(header=["0", "1", "2"]))), False),
    "pandas' index, no header": (table(indexed(labelled(), header=False)), False),
    "pandas' index, label first": (
        table(indexed([[row[2], *row[:2]] for row in labelled()], header=False)),
        False,
    ),
    "R's table": (
        '"path1" "path2" "label"\n'
        + "".join(f'"{n}" "{a}" "{b}" {int(s)}\n' for n, (a, b, s, _) in enumerate(expected(), 1)),
        False,
    ),
    "1.0 and 0.0": (table(labelled("1.0", "0.0"), " "), False),
    "1.0 and -1.0": (table(labelled("1.0", "-1.0"), "\t"), False),
    "same and different": (table(labelled("same", "different", ["img1", "img2", "label"])), False),
    "same and different, no header": (table(labelled("Same", "Different")), False),
    "yes and no": (table(labelled("yes", "no"), " "), False),
    "true and false": (table(labelled("TRUE", "FALSE"), ";"), False),
    "a column of what is different": (table(labelled(0, 1, ["path_a", "path_b", "is_different"])), False),
    "a header of words": (table(labelled("1", "0", ["left picture", "right one", "same"])), False),
    "blank lines": (table(labelled(), " ").replace("\n", "\n\n \n"), False),
    "a count before": ("20\n" + table(labelled(), " "), False),
    "fold behind": (table([[a, b, int(same), fold] for a, b, same, fold in expected()]), True),
    "fold before, as YTF's": (
        table([[fold, n % 10, a, b, int(same)] for n, (a, b, same, fold) in enumerate(expected())]).replace(
            ",", ", "
        ),
        True,
    ),
    "CALFW": (_two_lines(lambda name, same: f"{name} {int(same)}\n"), False),
    "FGLFW": (_two_lines(lambda name, same: f"{name}\n"), True),
    "FGLFW, a header": ("path\n" + _two_lines(lambda name, same: f"{name}\n"), True),
}
