"""Lists of pairs in the forms in which the field hands them out: which one a list has, and its pairs.

lfw: names and numbers. list: two paths and a label, in any columns. calfw: an image and a number a line, two
lines a pair. fglfw: a path a line, two lines a pair. cfp: CFP's folder of splits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from data_pipeline.errors import PairSetError
from data_pipeline.pairs.finder import ImageFinder
from data_pipeline.pairs.formats import calfw, cfp, fglfw, lfw, table
from data_pipeline.pairs.pair import ImagePair, Lookup, NamedPair, Nothing
from data_pipeline.pairs.rows import Row, read_rows, shown

PairFormat = Literal["auto", "lfw", "cfp", "list", "calfw", "fglfw"]

_SAMPLE = 20
_GUESSES: dict[PairFormat, Callable[[Path, list[Row], Lookup], tuple[float, list[NamedPair]]]] = {
    "lfw": lfw.guess,
    "list": table.guess,
    "calfw": calfw.guess,
    "fglfw": fglfw.guess,
}
_PARSERS: dict[PairFormat, Callable[[Path, list[Row], Lookup], list[NamedPair]]] = {
    "lfw": lfw.parse,
    "list": table.parse,
    "calfw": calfw.parse,
    "fglfw": fglfw.parse,
}
_LOOKED_FOR = (
    "expected LFW's header 'folds pairs', lines 'name n1 n2' and 'name1 n1 name2 n2' (--format lfw), two "
    "columns of paths and one of 1 (same) or 0 (different) (list), 'image number' on two lines a pair "
    "(calfw), a path alone on two lines a pair (fglfw) or CFP's folder Protocol/Split/FP (cfp)"
)


def read_pairs(
    pairs: Path, images: Path, form: PairFormat = "auto", *, outside: bool = False
) -> list[ImagePair]:
    """The pairs of a list as files, in the order in which folds are runs of them.

    outside: files that do not lie in `images` are taken too. Raises PairSetError, naming file and line, for a
    list that is none and for an image that is not there.
    """
    finder = ImageFinder(images, outside=outside)
    return [
        ImagePair(finder.find(pair.first), finder.find(pair.second), pair.same, pair.fold)
        for pair in read_list(pairs, finder, form)
    ]


def read_list(pairs: Path, lookup: Lookup, form: PairFormat = "auto") -> list[NamedPair]:
    """The pairs of a list by name, in the order in which folds are runs of them.

    lookup: where their images are, by which a header is told from a pair and one format from another.
    Raises PairSetError naming file and line.
    """
    if form == "cfp" or (form == "auto" and pairs.is_dir()):
        return cfp.read_cfp_pairs(pairs)
    rows = read_rows(pairs)
    if form == "auto":
        form = _detect(pairs, rows, lookup)
    listed = _PARSERS[form](pairs, rows, lookup) if rows else []
    if not listed:
        raise PairSetError(f"{pairs}: holds no pair; {_LOOKED_FOR}")
    return listed


def detect_format(pairs: Path, lookup: Lookup | None = None) -> PairFormat:
    """Which format a file or folder has. Raises PairSetError if it has none."""
    return "cfp" if pairs.is_dir() else _detect(pairs, read_rows(pairs), lookup or Nothing())


def _detect(pairs: Path, rows: list[Row], lookup: Lookup) -> PairFormat:
    """The format by which most images are found and, of equal ones, which understands most of the rows."""
    best: tuple[float, float] = (0.0, 0.0)
    chosen: PairFormat | None = None
    for form, guess in _GUESSES.items():
        understood, listed = guess(pairs, rows, lookup)
        if understood < 0.5:
            continue
        sample = listed[:: max(1, len(listed) // _SAMPLE)]
        ends = [image for pair in sample for image in (pair.first, pair.second)]
        found = sum(lookup.lookup(image) is not None for image in ends) / max(1, len(ends))
        if (round(found, 1), understood) > best:
            best, chosen = (round(found, 1), understood), form
    if chosen is None:
        line = (
            f"line {rows[0].line}: no list of pairs that is known, got {shown(rows[0].fields)}"
            if rows
            else ""
        )
        raise PairSetError(f"{pairs}: {line or 'holds no pair'}; {_LOOKED_FOR}")
    return chosen
