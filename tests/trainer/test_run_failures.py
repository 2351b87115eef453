"""Runs that fail: numbers that are none, damaged data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist

from data_pipeline import write_dataset
from data_pipeline.loader.damaged import TooManyDamaged
from tests.ranks import run_ranks
from tests.trainer.tiny import (
    alone,
    arguments,
    events,
    finish,
    start,
    train_rank,
    write_tiny_set,
)
from trainer.checkpoint import checkpoint_steps
from trainer.errors import TrainingFailed

pytestmark = pytest.mark.dali


def test_a_loss_that_is_no_number_stops_all_ranks(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    argv = arguments(run, data, 8, "--optim.lr", "3e38", "--checkpoint.every", "1")
    first, second = run_ranks(2, train_rank, argv)
    assert first.startswith("TrainingFailed: step ")
    assert "not finite" in first or "no longer finite" in first
    assert "no checkpoint had been written" in first
    assert second == "FailedElsewhere: rank 0 failed"
    assert checkpoint_steps(run) == {}


@pytest.mark.parametrize("name", ["ranks.json", "status.json"])
def test_what_rank_0_cannot_write_ends_all_ranks(tmp_path: Path, data: Path, name: str) -> None:
    run = tmp_path / "run"
    (run / name).mkdir(parents=True)
    first, second = run_ranks(2, train_rank, arguments(run, data, 8))
    assert first.startswith(f"TrainingFailed: {run / name}: ")
    assert second == "FailedElsewhere: rank 0 failed"


def another_set_on_rank_1(run: Path, folders: list[Path]) -> str:
    return train_rank(arguments(run, folders[dist.get_rank()], 8))


def test_machines_with_different_sets_are_told_so(tmp_path: Path, data: Path) -> None:
    other = tmp_path / "other"
    write_dataset(other, list(zip([0, 1] * 20, [b"none"] * 40, strict=True)), 2, (32, 32))
    first, second = run_ranks(2, another_set_on_rank_1, tmp_path / "run", [data, other])
    assert first == "FailedElsewhere: rank 1 failed"
    assert second.startswith(
        f"TrainerInputError: --data.train {other}: holds 40 images of 2 identities here, "
    )


def test_the_last_good_checkpoint_stays(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    alone(arguments(run, data, 16, "--training.steps", "2"))
    with pytest.raises(TrainingFailed, match=r"the last good checkpoint is .*step-00000002"):
        alone(arguments(run, data, 16, "--optim.lr", "1e30"))
    assert list(checkpoint_steps(run)) == [2]


def test_a_damaged_record_ends_all_ranks_and_one_says_why(tmp_path: Path) -> None:
    data = write_tiny_set(tmp_path / "set")
    rec = data / "train.rec"
    content = bytearray(rec.read_bytes())
    at = content.index(b"\xff\xd8\xff", len(content) // 2)
    content[at : at + 4] = b"none"
    rec.write_bytes(content)
    with pytest.raises(TooManyDamaged):
        alone(arguments(tmp_path / "alone", data, 9, "--data.max-damaged", "0"))
    # No step is lost: the batches before the damaged one were trained on and saved.
    done = events(tmp_path / "alone")[-1]["step"]
    assert list(checkpoint_steps(tmp_path / "alone")) == [done]
    ended = finish(start(2, arguments(tmp_path / "run", data, 8, "--data.max-damaged", "0")))
    assert [code for code, _ in ended] == [2, 2]
    told = [line for _, error in ended for line in error.splitlines() if line.startswith("cosface: ")]
    assert len(told) == 1
    assert str(rec) in told[0]
    assert "Traceback" not in ended[0][1] + ended[1][1]
