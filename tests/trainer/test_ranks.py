from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_pipeline.errors import DataInputError
from tests.ranks import run_ranks, these_ranks
from tests.trainer.tiny import finish, start
from trainer.deadlines import DeadlinesConfig
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.meeting import joined
from trainer.ranks import FailedElsewhere, Ranks, ranks_from_environment


def exchanges() -> list[object]:
    ranks = these_ranks()
    told: list[object] = [
        ranks.maximum(ranks.rank * 2),
        ranks.gather({"rank": ranks.rank, "text": "é" * ranks.rank}),
    ]
    told.append(ranks.agree_on(None, wish=ranks.rank == 1))
    told.append(ranks.agree_on(None))
    try:
        with ranks.agreed():
            if ranks.rank:
                raise DataInputError(f"damage on {ranks.rank}")
    except DataInputError as error:
        told.append(str(error))
    except FailedElsewhere as error:
        told.append(error.exit_code)
    try:
        ranks.agree_on(TrainingFailed("all of us"))
    except TrainingFailed as error:
        told.append(str(error))
    except FailedElsewhere as error:
        told.append(error.exit_code)
    return told


def test_ranks_agree() -> None:
    gathered = [{"rank": rank, "text": "é" * rank} for rank in range(3)]
    common = [4, gathered, True, False]
    assert run_ranks(3, exchanges) == [
        [*common, 2, "all of us"],
        [*common, "damage on 1", 1],
        [*common, 2, 1],
    ]


def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    with (
        pytest.raises(TrainingFailed, match=r"rank 0: could not meet the other 1 within 1 s"),
        joined(Ranks(0, 2), torch.device("cpu"), DeadlinesConfig(start=1.0)),
    ):
        pass


def test_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks_from_environment() == Ranks()
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(TrainerInputError, match="RANK is 2"):
        ranks_from_environment()
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(TrainerInputError, match="is no number"):
        ranks_from_environment()


def test_wrong_settings_are_told_by_one_rank(tmp_path: Path) -> None:
    ended = finish(start(2, ["--run", str(tmp_path), "--data.trian", "x"]))
    assert [code for code, _ in ended] == [2, 2]
    assert [error for _, error in ended] == [
        "cosface: unknown setting --data.trian; nearest: --data.train\n",
        "",
    ]
