"""Whole runs on a tiny set: one and two ranks, killed and resumed, refused and failed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.ranks import run_ranks
from tests.trainer.tiny import (
    CLASSES,
    arguments,
    events,
    finish,
    losses,
    start,
    wait_for_step,
    write_tiny_set,
)
from trainer.checkpoint import checkpoint_steps, latest_checkpoint, read_state
from trainer.commands import train as train_command
from trainer.config import load_config
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.loop import train
from trainer.ranks import FailedElsewhere, Ranks
from trainer.run_directory import RunDirectory
from trainer.stop import StopRequest

pytestmark = pytest.mark.dali


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def two_rank_run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "two"
    assert run_ranks(2, train_rank, arguments(run, data, 8)) == ["finished", "finished"]
    return run


@pytest.fixture(scope="module")
def one_rank_run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    assert alone(arguments(run, data, 16)) == "finished"
    return run


def alone(argv: list[str]) -> str:
    torch.set_num_threads(1)
    return train(load_config(argv), Ranks(), torch.device("cpu"), StopRequest())


def train_rank(argv: list[str]) -> str:
    world_size = dist.get_world_size()
    ranks = Ranks(dist.get_rank(), world_size, dist.get_rank(), world_size)
    try:
        return train(load_config(argv), ranks, torch.device("cpu"), StopRequest())
    except (TrainerInputError, TrainingFailed, FailedElsewhere) as error:
        return f"{type(error).__name__}: {error}"


def test_two_ranks_train_like_one(one_rank_run: Path, two_rank_run: Path) -> None:
    one, two = losses(one_rank_run), losses(two_rank_run)
    assert len(one) == len(two) == 20
    assert one == pytest.approx(two, abs=1e-4)
    assert one[-1] < 0.9 * one[0]


def test_every_step_is_logged(two_rank_run: Path) -> None:
    lines = events(two_rank_run)
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert all({"epoch", "loss", "lr", "images_per_second", "seconds"} <= line.keys() for line in lines)
    assert {"data", "forward", "head", "backward", "step"} <= lines[0]["seconds"].keys()
    assert lines[-1]["epoch"] == pytest.approx(20 * 16 / 168, abs=1e-3)


def test_ranks_own_all_classes_between_them(two_rank_run: Path) -> None:
    told = json.loads((two_rank_run / "ranks.json").read_text())
    assert told["num_classes"] == CLASSES
    assert [rank["classes"] for rank in told["ranks"]] == [[0, 11], [11, 21]]


def test_killed_ranks_resume_to_the_same_bits(tmp_path: Path, data: Path, two_rank_run: Path) -> None:
    argv = arguments(tmp_path / "run", data, 8, "--checkpoint.every", "3")
    ranks = start(2, argv)
    wait_for_step(tmp_path / "run", 5)
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
    finish(ranks)
    done = max(checkpoint_steps(tmp_path / "run"))
    assert 3 <= done < 20
    assert [code for code, _ in finish(start(2, argv))] == [0, 0]
    assert losses(tmp_path / "run") == losses(two_rank_run)

    # And one rank goes on from what two have written.
    more = arguments(tmp_path / "run", data, 16, "--training.steps", "22")
    assert alone(more) == "finished"
    assert len(losses(tmp_path / "run")) == 22
    assert read_state(checkpoint_steps(tmp_path / "run")[22]).position == 22 * 16


def test_a_request_to_stop_leaves_a_checkpoint(tmp_path: Path, data: Path, one_rank_run: Path) -> None:
    run = tmp_path / "run"
    argv = arguments(run, data, 16)
    ranks = start(1, argv)
    wait_for_step(run, 2)
    ranks[0].send_signal(signal.SIGTERM)
    assert [code for code, _ in finish(ranks)] == [75]
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "stopped"
    assert list(checkpoint_steps(run)) == [status["step"]]
    assert alone(argv) == "finished"
    assert losses(run) == losses(one_rank_run)


def test_a_finished_run_says_so(one_rank_run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = events(one_rank_run)
    assert train_command(arguments(one_rank_run, data, 16)) == 0
    assert "had finished already" in capsys.readouterr().out
    assert events(one_rank_run) == before


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--model.embedding-dim", "16"], "model.embedding-dim is 32 there and 16 here"),
        (["--model.backbone", "sphereface10"], "model.backbone is sphereface4 there"),
        (["--head.loss", "softmax"], "head.loss is cosface there and softmax here"),
        (["--data.image-size", "32", "24"], "image size is 32×32 there and 32×24 here"),
        (["--resume", "never"], "--resume is never"),
        (["--data.batch-size", "169"], "holds 168"),
    ],
)
def test_what_is_refused(one_rank_run: Path, data: Path, more: list[str], complaint: str) -> None:
    with pytest.raises(TrainerInputError) as caught:
        alone(arguments(one_rank_run, data, 16, *more))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_run_directory_is_named(one_rank_run: Path, data: Path) -> None:
    ended = finish(start(1, arguments(one_rank_run, data, 16, "--training.seed", "1")))
    assert ended[0][0] == 2
    assert ended[0][1].startswith(f"cosface: --run {one_rank_run}: ")
    assert ended[0][1].count("\n") == 1


def test_a_loss_that_is_no_number_stops_all_ranks(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    argv = arguments(run, data, 8, "--optim.lr", "3e38", "--checkpoint.every", "1")
    first, second = run_ranks(2, train_rank, argv)
    assert first.startswith("TrainingFailed: step ")
    assert "not finite" in first or "no longer finite" in first
    assert "no checkpoint had been written" in first
    assert second == "FailedElsewhere: rank 0 failed"
    assert latest_checkpoint(run) is None


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
    ended = finish(start(2, arguments(tmp_path / "run", data, 8)))
    assert [code for code, _ in ended] == [2, 2]
    told = [line for _, error in ended for line in error.splitlines() if line.startswith("cosface: ")]
    assert len(told) == 1
    assert str(rec) in told[0]
    assert "Traceback" not in ended[0][1] + ended[1][1]


def test_a_run_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.run_directory._LOCK_WAIT_S", 0.3)
    with (
        RunDirectory(tmp_path / "run"),
        pytest.raises(TrainerInputError, match=r"process \d+ on .* is writing"),
        RunDirectory(tmp_path / "run"),
    ):
        pass
    with RunDirectory(tmp_path / "run"):
        pass


def test_average_and_precision_train_and_resume(tmp_path: Path, data: Path) -> None:
    more = ["--training.average", "0.9", "--training.precision", "bfloat16", "--training.clip-norm", "1"]
    alone(arguments(tmp_path / "a", data, 16, *more, "--training.steps", "4"))
    alone(arguments(tmp_path / "b", data, 16, *more, "--training.steps", "2"))
    alone(arguments(tmp_path / "b", data, 16, *more, "--training.steps", "4"))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert all(event["gradient_norm"] > 0 for event in events(tmp_path / "a"))
    states = [
        (tmp_path / run / "checkpoints/step-00000004/backbone.safetensors").read_bytes() for run in "ab"
    ]
    assert states[0] == states[1]
