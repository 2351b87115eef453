"""Embeddings over ranks, and pair sets evaluated from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.errors import PairSetError
from data_pipeline.images.decode import decode_images, normalise
from data_pipeline.pairs import PairSet, write_bin
from tests.ranks import run_ranks, these_ranks
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.evaluation.embed import embed_images
from trainer.evaluation.run import check_pair_sets, evaluate_sets, set_names

SIZE = (16, 12)
CPU = torch.device("cpu")


def project(images: Tensor) -> Tensor:
    """[b, 3, H, W] to [b, 5]: fixed random directions, so that image and mirror differ."""
    weights = torch.randn(images[0].numel(), 5, generator=torch.Generator().manual_seed(3))
    return images.flatten(1) @ weights


def pictures(count: int, seed: int = 0) -> list[bytes]:
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    return [cv2.imencode(".png", image)[1].tobytes() for image in drawn]


def pair_file(file: Path, pairs: int, seed: int = 0) -> Path:
    """Pairs whose same ones are one picture, a little noisy, and whose different ones are two."""
    random = np.random.default_rng(seed)
    images: list[bytes] = []
    same = [pair % 2 == 0 for pair in range(pairs)]
    for is_same in same:
        first = random.integers(0, 256, (*SIZE, 3))
        second = first + random.normal(0, 8, first.shape) if is_same else random.integers(0, 256, (*SIZE, 3))
        for image in (first, second):
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            images.append(cv2.imencode(".png", pixels)[1].tobytes())
    write_bin(file, PairSet(images, same))
    return file


def test_image_and_mirror_side_by_side() -> None:
    payloads = pictures(7)
    embeddings = embed_images(project, payloads, SIZE, CPU, batch_size=3)
    images = normalise(decode_images(payloads, SIZE))
    expected = torch.cat([project(images), project(images.flip(3))], dim=1)
    torch.testing.assert_close(embeddings, expected)
    assert not torch.allclose(embeddings[:, :5], embeddings[:, 5:])


def _embed_on_rank(lists: list[list[bytes]]) -> Any:
    ranks = these_ranks()
    returned: list[Any] = []
    for payloads in lists:
        try:
            returned.append(embed_images(project, payloads, SIZE, CPU, ranks, batch_size=2).numpy())
        except TrainerInputError as error:
            returned.append(str(error))
    return returned


def test_ranks_agree_with_one_rank_and_about_a_damaged_image() -> None:
    few, many = pictures(2), pictures(7)
    damaged = [*many[:4], b"no image", many[5]]
    # More ranks than images; uneven slices; a damaged image that one rank alone meets; on as before.
    for returned in run_ranks(3, _embed_on_rank, [few, many, damaged, few]):
        for place, payloads in ((0, few), (1, many), (3, few)):
            expected = embed_images(project, payloads, SIZE, CPU).numpy()
            np.testing.assert_allclose(returned[place], expected, rtol=1e-5, atol=1e-5)
        assert returned[2].startswith("image 4 of 6 cannot be decoded")


def _fail_on_rank(file: Path) -> list[str]:
    ranks = these_ranks()

    def exhausted(images: Tensor) -> Tensor:
        if ranks.rank == 1:
            raise MemoryError("no memory on rank 1")
        return project(images)

    told = []
    for embed, own in ((exhausted, file), (project, file if ranks.rank != 1 else file.with_name("gone.bin"))):
        try:
            # As a run does, which tells the ranks apart once more.
            with ranks.agreed():
                evaluate_sets(embed, [own], SIZE, CPU, ranks)
        except Exception as error:
            told.append(f"{type(error).__name__}: {error} {getattr(error, 'exit_code', '')}")
    return told


def test_what_one_rank_meets_it_tells_alone(tmp_path: Path) -> None:
    first, second = run_ranks(2, _fail_on_rank, pair_file(tmp_path / "set.bin", 40))
    assert first == ["FailedElsewhere: rank 1 failed 1", "FailedElsewhere: rank 1 failed 2"]
    assert second[0].startswith("MemoryError: no memory on rank 1")
    assert second[1].startswith("PairSetError: ")


@pytest.mark.parametrize(("value", "word"), [(0.0, "zero"), (float("nan"), "not finite")])
def test_embeddings_without_direction_are_named(value: float, word: str) -> None:
    def broken(images: Tensor) -> Tensor:
        return torch.where(torch.arange(len(images))[:, None] == 1, value, project(images))

    with pytest.raises(TrainingFailed, match=f"image 1 of 4 is {word}"):
        embed_images(broken, pictures(4), SIZE, CPU)


def test_sets_by_name_and_perfect_pairs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = [pair_file(tmp_path / "easy.bin", 40), pair_file(tmp_path / "a" / "other.bin", 30, seed=1)]
    check_pair_sets(files)
    results = evaluate_sets(project, files, SIZE, CPU, batch_size=16)
    assert list(results) == ["easy", "other"]
    assert [result.pairs for result in results.values()] == [40, 30]
    assert results["easy"].auc > 0.95


def test_names_that_repeat_get_their_folder_then_a_number() -> None:
    files = [Path("/x/lfw.bin"), Path("/y/lfw.bin"), Path("/z/cfp.bin"), Path("/x/lfw.bin")]
    assert set_names(files) == ["x/lfw", "y/lfw", "cfp", "x/lfw (2)"]


def test_fewer_pairs_of_a_kind_than_ten_make_fewer_folds(tmp_path: Path) -> None:
    few = pair_file(tmp_path / "few.bin", 12)
    check_pair_sets([few])
    result = evaluate_sets(project, [few], SIZE, CPU)["few"]
    assert (result.same_pairs, result.different_pairs, len(result.fold_accuracies)) == (6, 6, 6)


def test_errors_name_the_file(tmp_path: Path) -> None:
    few = pair_file(tmp_path / "few.bin", 3)
    for work in (
        lambda: check_pair_sets([few]),
        lambda: evaluate_sets(project, [few], SIZE, CPU),
    ):
        with pytest.raises(TrainerInputError, match=r"few\.bin: 1 different pairs are too few for 2 folds"):
            work()
    damaged = tmp_path / "damaged.bin"
    write_bin(damaged, PairSet([*pictures(39), b"x"], [pair % 2 == 0 for pair in range(20)]))
    with pytest.raises(TrainerInputError, match=r"damaged\.bin: image 39 of 40"):
        evaluate_sets(project, [damaged], SIZE, CPU)
    (tmp_path / "text.bin").write_text("no pickle")
    with pytest.raises(PairSetError, match=r"text\.bin"):
        check_pair_sets([tmp_path / "text.bin"])
