"""Evaluate a network on verification pair sets (insightface's `.bin` files)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data_pipeline.pairs import PairSet, read_bin
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.evaluation.embed import Embed, embed_images
from trainer.evaluation.folds import assign_folds, possible_folds
from trainer.evaluation.verification import VerificationResult, cosine_scores, evaluate_scores
from trainer.ranks import Ranks


def evaluate_sets(
    embed: Embed,
    files: Sequence[Path],
    image_size: tuple[int, int],
    device: torch.device,
    ranks: Ranks | None = None,
    batch_size: int = 64,
) -> dict[str, VerificationResult]:
    """The figures of each `.bin` file by its name (see `set_names`), the same on every rank.

    embed: [b, 3, H, W] float32 on ``device`` to [b, dim], already in evaluation mode; image_size: (H, W).
    Every rank calls this together and embeds its slice of each set.
    Raises PairSetError for a file that is no pair set, TrainerInputError for pairs that cannot be evaluated,
    TrainingFailed for an embedding that is zero or not finite; each names the file. No rank raises alone.
    """
    ranks = ranks or Ranks()
    results = {}
    for name, file in zip(set_names(files), files, strict=True):
        with ranks.agreed():
            pair_set = read_bin(file)
        try:
            embeddings = embed_images(embed, pair_set.images, image_size, device, ranks, batch_size)
            pairs = np.arange(len(pair_set.images)).reshape(-1, 2)
            scores = cosine_scores(embeddings.numpy(), pairs)
            results[name] = evaluate_scores(scores, pair_set.same, _folds(pair_set))
        except (TrainerInputError, TrainingFailed) as error:
            raise type(error)(f"{file}: {error}") from None
    return results


def check_pair_sets(files: Sequence[Path]) -> None:
    """Refuse before a run what would stop its evaluation: raises as `evaluate_sets` does."""
    for file in files:
        pair_set = read_bin(file)
        try:
            assign_folds(pair_set.same, _folds(pair_set))
        except TrainerInputError as error:
            raise TrainerInputError(f"{file}: {error}") from None


def _folds(pair_set: PairSet) -> int:
    """Ten, fewer where the set has fewer pairs of a kind: each fold needs both."""
    return possible_folds(pair_set.same, pair_set.folds)


def set_names(files: Sequence[Path]) -> list[str]:
    """A name for each file: its stem; with the folder before it where stems repeat; then numbered."""
    stems = Counter(file.stem for file in files)
    names: list[str] = []
    for file in files:
        name = file.stem if stems[file.stem] == 1 else f"{file.absolute().parent.name}/{file.stem}"
        number = 2
        while name in names:
            name, number = f"{name.removesuffix(f' ({number - 1})')} ({number})", number + 1
        names.append(name)
    return names
