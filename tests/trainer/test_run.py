"""Whole runs on a tiny set: one and two ranks, killed and resumed, refused and failed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from data_pipeline import FaceDataset
from data_pipeline.pairs import PairSet, write_bin
from partial_fc import MARGINS
from tests.ranks import run_ranks
from tests.trainer.tiny import (
    CLASSES,
    ENDLESS,
    alone,
    arguments,
    events,
    finish,
    losses,
    start,
    train_rank,
    wait_for_step,
)
from trainer.checkpoint import checkpoint_steps, read_state
from trainer.commands import train as train_command
from trainer.errors import TrainerInputError
from trainer.run_directory import RunDirectory

pytestmark = pytest.mark.dali


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


def test_killed_ranks_resume_to_the_same_bits(tmp_path: Path, data: Path) -> None:
    run, untouched = tmp_path / "run", tmp_path / "untouched"
    ranks = start(2, arguments(run, data, 8, "--checkpoint.every", "3", *ENDLESS))
    wait_for_step(run, 5)
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
    finish(ranks)
    saved = max(checkpoint_steps(run))
    assert saved >= 3
    to_step = ("--training.steps", str(saved + 10))
    assert [code for code, _ in finish(start(2, arguments(run, data, 8, *to_step)))] == [0, 0]
    assert [code for code, _ in finish(start(2, arguments(untouched, data, 8, *to_step)))] == [0, 0]
    assert losses(run) == losses(untouched)

    # And one rank goes on from what two have written.
    assert alone(arguments(run, data, 16, "--training.steps", str(saved + 12))) == "finished"
    assert len(losses(run)) == saved + 12
    assert read_state(checkpoint_steps(run)[saved + 12]).position == (saved + 12) * 16


def test_a_request_to_stop_leaves_a_checkpoint(tmp_path: Path, data: Path) -> None:
    run, untouched = tmp_path / "run", tmp_path / "untouched"
    ranks = start(1, arguments(run, data, 16, *ENDLESS))
    wait_for_step(run, 2)
    ranks[0].send_signal(signal.SIGTERM)
    assert [code for code, _ in finish(ranks)] == [75]
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "stopped"
    assert list(checkpoint_steps(run)) == [status["step"]]
    to_step = ("--training.steps", str(status["step"] + 10))
    assert alone(arguments(run, data, 16, *to_step)) == "finished"
    assert alone(arguments(untouched, data, 16, *to_step)) == "finished"
    assert losses(run) == losses(untouched)


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
        (["--data.batch-size", "169"], "an epoch has 168"),
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


def test_every_loss_trains_and_what_it_remembers_is_resumed(tmp_path: Path, data: Path) -> None:
    for loss in MARGINS:
        run = tmp_path / loss
        alone(arguments(run, data, 16, "--head.loss", loss, "--optim.lr", "0.001", "--training.steps", "2"))
        assert len(losses(run)) == 2
    more = ["--head.loss", "adaface", "--head.sub-centers", "2", "--head.filter-above", "0.9"]
    more += ["--head.precision", "bfloat16", "--head.momentum-precision", "bfloat16"]
    more += ["--head.sample-rate", "0.5"]
    for run_name, stops in (("whole", (4,)), ("parts", (2, 4))):
        for steps in stops:
            alone(arguments(tmp_path / run_name, data, 16, *more, "--training.steps", str(steps)))
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    whole, parts = (read_state(checkpoint_steps(tmp_path / name)[4]) for name in ("whole", "parts"))
    assert whole.margin_state == parts.margin_state
    assert whole.margin_state["mean"] != 20.0


def test_what_a_loss_has_not_is_refused(tmp_path: Path, data: Path) -> None:
    wrong = {
        "--head.sub-centers: softmax is no loss on normalised cosines": [
            "softmax",
            "--head.sub-centers",
            "2",
        ],
        "--head.margin must be 1, 2, 3 or 4, got 2.5 for sphereface": ["sphereface", "--head.margin", "2.5"],
    }
    for complaint, words in wrong.items():
        with pytest.raises(TrainerInputError, match=complaint):
            alone(arguments(tmp_path / "run", data, 16, "--head.loss", *words))
    assert not (tmp_path / "run").exists()


def test_pair_sets_are_evaluated_while_training(tmp_path: Path, data: Path) -> None:
    with FaceDataset.open(data) as dataset:
        images = [bytes(dataset.payload(index)) for index in range(80)]
    # Neighbours are of one class, as eight images of each follow each other; every second pair is of two.
    pairs = [(2 * k, 2 * k + 1) if k % 2 else (k, 79 - k) for k in range(40)]
    same = [bool(k % 2) for k in range(40)]
    file = tmp_path / "pairs.bin"
    write_bin(file, PairSet([images[index] for pair in pairs for index in pair], same))
    more = ["--evaluation.verification", str(file), "--evaluation.every", "2", "--training.steps", "3"]
    run = tmp_path / "run"
    alone(arguments(run, data, 16, *more))
    results = {path.name: json.loads(path.read_text()) for path in (run / "evaluation").iterdir()}
    assert sorted(results) == ["step-00000002.json", "step-00000003.json"]
    assert results["step-00000003.json"]["pairs"]["accuracy"] > 0.5
    # Evaluating changes nothing that is trained.
    alone(arguments(tmp_path / "without", data, 16, "--training.steps", "3"))
    assert losses(run) == losses(tmp_path / "without")
