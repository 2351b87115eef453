"""Evaluate embeddings made elsewhere on a list of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_pipeline.pairs.reading import read_list
from trainer.errors import TrainerInputError
from trainer.evaluation.embeddings_file import load_embeddings
from trainer.evaluation.folds import possible_folds
from trainer.evaluation.image_rows import ImageRows
from trainer.evaluation.verification import VerificationResult, cosine_scores, evaluate_scores


def evaluate_embeddings(embeddings: Path, paths: Path, pairs: Path) -> VerificationResult:
    """The figures of LFW's View 2, or of any list that `cosface pairs` reads, by the list's own folds.

    embeddings: `.npy` of [n, dim] floats of any precision, not necessarily of length 1; paths: text of n
    lines, line k the image of row k (`NAME/NAME_0001.jpg`; folders in front and ending do not matter); pairs:
    the list. Cosines are taken in float64.
    Raises TrainerInputError (PairSetError for the list of pairs) naming file and line.
    """
    rows = load_embeddings(embeddings)
    image_rows = ImageRows(paths)
    if image_rows.count != len(rows):
        raise TrainerInputError(
            f"{paths} has {image_rows.count} lines and {embeddings} {len(rows)} rows; expected as many"
        )
    listed = read_list(pairs, image_rows)
    index = [(image_rows.find(pair.first), image_rows.find(pair.second)) for pair in listed]
    same = np.array([pair.same for pair in listed], dtype=bool)
    folds = np.array([pair.fold for pair in listed], dtype=np.int64)
    split = folds if len(np.unique(folds)) > 1 else possible_folds(same)
    try:
        return evaluate_scores(cosine_scores(rows, index), same, split)
    except TrainerInputError as error:
        raise TrainerInputError(f"{embeddings} with {pairs}: {error}") from None
