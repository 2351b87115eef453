"""Every kind of wait for another rank has its own deadline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from partial_fc.errors import CollectiveError
from tests.ranks import run_ranks, these_ranks
from tests.trainer.tiny import arguments, train_rank
from tests.waiting import until
from trainer import checkpoint, job
from trainer.config import load_config
from trainer.deadlines import DeadlinesConfig
from trainer.errors import SettingsError
from trainer.report import Report

WORDS = ["--run", "r", "--data.train", "d", "--training.steps", "1"]


def test_they_are_settings_and_one_number_is_all_of_them() -> None:
    assert load_config(WORDS).waits == DeadlinesConfig(1800, 120, 1800, 1800)
    assert load_config([*WORDS, "--deadlines.save", "7"]).waits == DeadlinesConfig(1800, 120, 7, 1800)
    assert load_config([*WORDS, "--training.deadline", "9"]).waits == DeadlinesConfig(9, 9, 9, 9)
    with pytest.raises(SettingsError, match=r"step must be above 0 seconds and below a million, got 0"):
        load_config([*WORDS, "--deadlines.step", "0"])


def come_too_late(folder: Path) -> str:
    ranks = these_ranks()
    if ranks.rank == 1:
        until((folder / "given up").exists, "the end of the other's wait")
        return ""
    try:
        with ranks.waiting(0.5):
            ranks.gather("here")
    except CollectiveError as error:
        return str(error)
    finally:
        (folder / "given up").touch()
    return "came"


def test_who_does_not_come_within_the_block_is_named(tmp_path: Path) -> None:
    said = run_ranks(2, come_too_late, tmp_path)[0]
    assert re.match(
        r"rank 0 of 2: the all-gather of the test failed at its exchange \d+: rank 1 did not ", said
    )


def deadlines_seen(argv: list[str]) -> dict[str, list[float]]:
    """The deadline that holds in each part of a run on this rank."""
    ranks = these_ranks()
    seen: dict[str, list[float]] = {}

    def noting(name: str, plain: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            seen.setdefault(name, []).append(ranks.communicator.deadline_s)
            return plain(*args, **more)

        return call

    with (
        patch("tests.trainer.tiny.these_ranks", lambda: ranks),
        patch.object(job.Job, "train_step", noting("step", job.Job.train_step)),
        patch.object(job, "save_checkpoint", noting("save", checkpoint.save_checkpoint)),
        patch.object(Report, "evaluate", noting("evaluate", Report.evaluate)),
    ):
        assert train_rank(argv) == "finished"
    return seen


@pytest.mark.dali
def test_each_part_of_a_run_waits_as_long_as_its_own(tmp_path: Path, data: Path) -> None:
    more = ["--deadlines.step", "1001", "--deadlines.save", "1002", "--deadlines.evaluation", "1003"]
    argv = arguments(tmp_path / "run", data, 8, *more, "--training.steps", "3", "--checkpoint.every", "2")
    start = float("inf")  # that of the test's group
    expected = {"step": [start, 1001, 1001], "save": [1002, 1002], "evaluate": [1003]}
    assert run_ranks(2, deadlines_seen, argv) == [expected, expected]
