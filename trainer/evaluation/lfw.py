"""Evaluate embeddings made elsewhere on LFW's list of pairs."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from data_pipeline.pairs import read_lfw_pairs
from trainer.errors import TrainerInputError
from trainer.evaluation.embeddings_file import load_embeddings
from trainer.evaluation.verification import VerificationResult, cosine_scores, evaluate_scores


def evaluate_embeddings(embeddings: Path, paths: Path, pairs: Path) -> VerificationResult:
    """The figures of LFW's View 2 (or of any list in its form) by the list's own folds.

    embeddings: `.npy` of [n, dim] floats of any precision, not necessarily of length 1; paths: text of n
    lines, line k the image of row k (`NAME/NAME_0001.jpg`; folder and ending do not matter); pairs: LFW's
    `pairs.txt`. Cosines are taken in float64.
    Raises TrainerInputError (PairSetError for the list of pairs) naming file and line.
    """
    rows = load_embeddings(embeddings)
    row_of = read_paths(paths)
    if len(row_of) != len(rows):
        raise TrainerInputError(
            f"{paths} has {len(row_of)} lines and {embeddings} {len(rows)} rows; expected as many"
        )
    listed = read_lfw_pairs(pairs)
    index = np.empty((len(listed), 2), dtype=np.int64)
    same = np.empty(len(listed), dtype=bool)
    folds = np.empty(len(listed), dtype=np.int64)
    for place, pair in enumerate(listed):
        ends = ((pair.first_name, pair.first_number), (pair.second_name, pair.second_number))
        for side, (name, number) in enumerate(ends):
            image = f"{name}_{number:04d}"
            if image not in row_of:
                # LFW's list has one line of numbers before its pairs.
                raise TrainerInputError(f"{pairs}: line {place + 2}: {image} is not in {paths}")
            index[place, side] = row_of[image]
        same[place], folds[place] = pair.same, pair.fold
    split = folds if len(np.unique(folds)) > 1 else 10
    try:
        return evaluate_scores(cosine_scores(rows, index), same, split)
    except TrainerInputError as error:
        raise TrainerInputError(f"{embeddings} with {pairs}: {error}") from None


def read_paths(file: Path) -> dict[str, int]:
    """Image name (`NAME_0001`) to row, from a text file of one path a line.

    Raises TrainerInputError, also for an image listed twice or an empty line in between.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainerInputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise TrainerInputError(f"{file}: byte {error.start}: is not UTF-8 text") from None
    row_of: dict[str, int] = {}
    for row, line in enumerate(lines):
        image = PurePosixPath(line.strip().replace("\\", "/")).stem
        if not image:
            raise TrainerInputError(f"{file}: line {row + 1}: is empty; expected an image's path")
        if image in row_of:
            raise TrainerInputError(f"{file}: line {row + 1}: {image} is already on line {row_of[image] + 1}")
        row_of[image] = row
    return row_of
