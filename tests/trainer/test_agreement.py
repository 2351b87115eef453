"""What must be the same on all ranks: settings, versions, the run's folder, what is seen in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import patch

import pytest

from data_pipeline import FaceDataset
from data_pipeline.pairs import PairSet, write_bin
from tests.ranks import run_ranks, these_ranks
from tests.trainer.tiny import arguments, finish, start, train_rank
from trainer import agreement
from trainer.agreement import check_common_folder, check_settings
from trainer.config import load_config
from trainer.errors import TrainerInputError
from trainer.ranks import FailedElsewhere

SAME = ["--run", "r", "--data.train", "d", "--training.steps", "1"]
DIFFERENT = {
    "--optim.lr": ["--optim.lr", "0.5"],
    "--training.seed": ["--training.seed", "7"],
    "--head.scale": ["--head.scale", "63"],
    "--data.augment.shift": ["--data.augment.shift", "0.125"],
    "--evaluation.verification": ["--evaluation.verification", "a.bin", "b.bin"],
}
OWN = ["--run", "elsewhere", "--data.train", "there", "--data.threads", "3", "--device", "cpu"]


def settings_compared() -> list[str]:
    ranks = these_ranks()
    told = []
    for more in [*DIFFERENT.values(), OWN, []]:
        try:
            check_settings(load_config([*SAME, *(more if ranks.rank == 1 else [])]), ranks)
            told.append("same")
        except (TrainerInputError, FailedElsewhere) as error:
            told.append(f"{type(error).__name__}: {error}")
    with patch.object(agreement.metadata, "version", lambda name: f"{name} {ranks.rank // 2}"):
        try:
            check_settings(load_config(SAME), ranks)
        except (TrainerInputError, FailedElsewhere) as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def test_the_first_setting_or_version_that_differs_is_named_with_its_rank() -> None:
    first, *others = run_ranks(3, settings_compared)
    for name, told in zip(DIFFERENT, first, strict=False):
        assert re.match(
            rf"TrainerInputError: {name} is .* on rank 1 \(\S+\) and .* on rank 0 \(\S+\); give every", told
        ), told
    assert "--optim.lr is 0.5 on rank 1" in first[0]
    assert "--evaluation.verification is a.bin b.bin on rank 1" in first[4]
    assert first[5:7] == ["same", "same"]
    assert re.search(
        r"the version of cosface is cosface 1 on rank 2 \(\S+\) and cosface 0 on rank 0", first[7]
    )
    for told in others:
        assert told == [*["FailedElsewhere: rank 0 failed"] * 5, "same", "same", *told[:1]]


def test_ranks_with_other_settings_do_not_train(tmp_path: Path, data: Path) -> None:
    own = {1: ["--optim.lr", "0.5"]}
    ended = finish(start(2, arguments(tmp_path / "run", data, 8), of_rank=own))
    assert [code for code, _ in ended] == [2, 2]
    assert re.match(
        r"cosface: --optim\.lr is 0\.5 on rank 1 \(\S+\) and 0\.05 on rank 0 \(\S+\); ", ended[0][1]
    )
    assert [error.count("\n") for _, error in ended] == [1, 0]
    assert not (tmp_path / "run").exists()


def folders_compared(folders: list[Path]) -> list[str]:
    ranks = these_ranks()
    told = []
    with patch.object(agreement, "_PATIENCE_S", 0.3):
        for folder in (folders[0], folders[ranks.rank]):
            try:
                check_common_folder(folder, ranks)
                told.append("common")
            except (TrainerInputError, FailedElsewhere) as error:
                told.append(f"{type(error).__name__}: {error}")
    return told


def test_a_rank_without_the_common_folder_is_named(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("common", "common", "other")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    first, second, third = run_ranks(3, folders_compared, folders)
    assert first == second == ["common", "FailedElsewhere: rank 2 failed"]
    assert third[0] == "common"
    assert re.match(
        rf"TrainerInputError: --run {folders[2]}: rank 2 on \S+ does not see in {folders[2]} what rank 0 ",
        third[1],
    )
    assert not any(list(folder.iterdir()) for folder in folders)


def train_where_a_view_lags(argv: list[str]) -> str:
    sees = Path.exists
    if these_ranks().rank == 0:
        return train_rank(argv)
    with patch.object(Path, "exists", lambda path: path.parent.name != "evaluation" and sees(path)):
        return train_rank(argv)


@pytest.mark.dali
def test_rank_0_decides_whether_an_evaluation_was_made(tmp_path: Path, data: Path) -> None:
    with FaceDataset.open(data) as dataset:
        images = [bytes(dataset.payload(index)) for index in range(80)]
    pairs = tmp_path / "pairs.bin"
    write_bin(pairs, PairSet(images, [k % 2 == 0 for k in range(40)]))
    argv = arguments(
        tmp_path / "run", data, 8, "--evaluation.verification", str(pairs), "--training.steps", "1"
    )
    assert run_ranks(2, train_rank, argv) == ["finished", "finished"]
    (written,) = (tmp_path / "run" / "evaluation").glob("*.json")
    before = json.loads(written.read_text()), written.stat().st_mtime_ns
    assert run_ranks(2, train_where_a_view_lags, argv) == ["finished", "finished"]
    assert (json.loads(written.read_text()), written.stat().st_mtime_ns) == before
