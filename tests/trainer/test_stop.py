"""Requests to stop: which signals, heard where, and that nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from data_pipeline import FaceDataset
from data_pipeline.pairs import PairSet, write_bin
from tests.ranks import run_ranks, these_ranks
from tests.trainer.tiny import alone, arguments, finish, losses, start
from tests.waiting import until
from trainer import stop as stop_module
from trainer.checkpoint import checkpoint_steps
from trainer.config import load_config
from trainer.job import Job
from trainer.loop import train
from trainer.ranks import Ranks
from trainer.stop import SIGNALS, StopAsked, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_these_signals_ask_to_stop(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
    assert signal.getsignal(number) == before


def test_a_second_signal_counts_after_some_seconds_and_not_under_an_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert stop.requested
        monkeypatch.setattr(stop_module, "SECOND_AFTER_S", -1.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_where_nothing_can_be_lost_it_is_heard_at_once() -> None:
    with StopRequest() as stop:
        for _ in range(2):  # asked in the block, and asked before it
            with pytest.raises(StopAsked), stop.heard_at_once():
                os.kill(os.getpid(), signal.SIGUSR1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    with FaceDataset.open(data) as dataset:
        images = [bytes(dataset.payload(index)) for index in range(160)]
    file = tmp_path_factory.mktemp("pairs") / "pairs.bin"
    write_bin(file, PairSet(images, [k % 2 == 0 for k in range(80)]))
    return file


def asked_in_an_evaluation(argv: list[str], on_rank: int) -> str:
    """Train, asked to stop by the first image that is evaluated on that rank."""
    import torch.distributed as dist

    ranks = these_ranks() if dist.is_initialized() else Ranks()
    plain = Job.evaluating

    def evaluating(job: Job):  # type: ignore[no-untyped-def]
        if ranks.rank == on_rank:
            os.kill(os.getpid(), signal.SIGUSR1)
        return plain(job)

    with StopRequest() as stop, patch.object(Job, "evaluating", evaluating):
        return train(load_config(argv), ranks, torch.device("cpu"), stop)


@pytest.mark.dali
@pytest.mark.parametrize("every", ["2", "0"])
def test_it_is_heard_in_an_evaluation_on_any_rank(
    tmp_path: Path, data: Path, pairs: Path, every: str
) -> None:
    more = ["--evaluation.verification", str(pairs), "--evaluation.every", every, "--training.steps", "4"]
    run, argv = tmp_path / "run", arguments(tmp_path / "run", data, 8, *more)
    assert run_ranks(2, asked_in_an_evaluation, argv, 1) == ["stopped", "stopped"]
    at = 2 if every == "2" else 4
    assert list(checkpoint_steps(run)) == [at]
    assert json.loads((run / "status.json").read_text())["status"] == "stopped"
    assert not list(run.glob("evaluation/*.json"))
    # The same command does what is left, the evaluation too.
    assert alone(arguments(run, data, 16, *more)) == "finished"
    assert len(losses(run)) == 4
    assert [file.name for file in run.glob("evaluation/*.json")][-1] == "step-00000004.json"


@pytest.mark.dali
def test_in_the_first_reading_it_is_heard_at_once_by_all_ranks(tmp_path: Path, data: Path) -> None:
    run, reading = tmp_path / "run", tmp_path / "reading"
    environments = {1: {"FAULT_FILE": str(reading)}}
    argv = arguments(run, data, 8, "--deadlines.start", "3000")
    command = ("tests.trainer.faulty_rank", "reading", "1")
    ranks = start(2, argv, *command, environments=environments)
    until(reading.exists, "the first reading")
    ranks[0].send_signal(signal.SIGUSR1)
    assert finish(ranks) == [(75, ""), (75, "")]
    assert json.loads((run / "status.json").read_text())["status"] == "stopped"
    assert not checkpoint_steps(run)
    assert alone(arguments(run, data, 16, "--training.steps", "2")) == "finished"
    assert len(losses(run)) == 2


@pytest.mark.dali
def test_one_rank_that_is_asked_stops_all_with_a_checkpoint(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    ended = finish(start(2, arguments(run, data, 8), "tests.trainer.faulty_rank", "interrupted", "1"))
    assert ended == [(75, ""), (75, "")]
    assert list(checkpoint_steps(run)) == [3]
    assert len(losses(run)) == 3
