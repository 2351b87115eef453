"""Runs that go on: with another set, from an older checkpoint, with another schedule, after a failed save."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import FaceDataset, write_dataset
from data_pipeline.pairs import PairSet, write_bin
from tests.ranks import run_ranks
from tests.trainer.tiny import CLASSES, alone, arguments, events, losses, train_rank
from trainer.checkpoint import checkpoint_steps, read_state
from trainer.errors import TrainerInputError
from trainer.run_files import read_status

pytestmark = pytest.mark.dali


def steps(number: int) -> list[str]:
    return ["--training.steps", str(number)]


def repacked(data: Path, out: Path, order: slice | list[int]) -> Path:
    """The tiny set's images in another order, each still of its class."""
    with FaceDataset.open(data) as dataset:
        images = [(int(label), bytes(dataset.payload(index))) for index, label in enumerate(dataset.labels)]
    write_dataset(
        out, images[order] if isinstance(order, slice) else [images[k] for k in order], CLASSES, (32, 32)
    )
    return out


def pair_set(data: Path, file: Path) -> Path:
    with FaceDataset.open(data) as dataset:
        images = [bytes(dataset.payload(index)) for index in range(80)]
    pairs = [(2 * k, 2 * k + 1) if k % 2 else (k, 79 - k) for k in range(40)]
    write_bin(file, PairSet([images[i] for pair in pairs for i in pair], [bool(k % 2) for k in range(40)]))
    return file


def spoil(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-5] + bytes(byte ^ 1 for byte in content[-5:]))


# --- another set -------------------------------------------------------------------------------------------


def test_sets_in_another_order_are_another_set(tmp_path: Path, data: Path) -> None:
    other = repacked(data, tmp_path / "other", slice(None, None, -1))
    both, swapped = [str(data), str(other)], [str(other), str(data)]
    run = tmp_path / "run"
    alone(arguments(run, data, 16, "--data.train", *both, *steps(1)))
    with pytest.raises(TrainerInputError) as caught:
        alone(arguments(run, data, 16, "--data.train", *swapped, *steps(2)))
    assert str(caught.value) == (
        f"--run {run}: its checkpoint step-00000001 is of another set: the order of the sets is "
        f"{' '.join(both)} there and {' '.join(swapped)} here; give the same set, or say "
        "--resume-with-other-data to go on with this one"
    )
    assert [event["step"] for event in events(run)] == [1]


def test_a_repacked_set_is_another_one_and_a_moved_set_is_not(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    alone(arguments(run, data, 16, *steps(1)))
    alone(arguments(run, Path(shutil.copytree(data, tmp_path / "moved")), 16, *steps(2)))
    other = repacked(data, tmp_path / "other", slice(None, None, -1))
    with pytest.raises(TrainerInputError, match=rf"{other} differs in the images or the order of them; give"):
        alone(arguments(run, other, 16, *steps(3)))
    capsys.readouterr()
    alone(arguments(run, other, 16, "--resume-with-other-data", "True", *steps(3)))
    assert "note: it goes on with another set than that of step-00000002: " in capsys.readouterr().out
    assert len(losses(run)) == 3
    # From then on this is its set.
    alone(arguments(run, other, 16, *steps(4)))
    with pytest.raises(TrainerInputError, match="is of another set"):
        alone(arguments(run, data, 16, *steps(5)))


def test_other_data_may_have_another_size_but_not_other_classes(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    alone(arguments(run, data, 16, *steps(1)))
    fewer = repacked(data, tmp_path / "fewer", [k for k in range(168) if k % 8])
    with pytest.raises(TrainerInputError, match="number of images is 168 there and 147 here; give the same"):
        alone(arguments(run, fewer, 16, *steps(2)))
    alone(arguments(run, fewer, 16, "--resume-with-other-data", "True", *steps(2)))
    assert read_state(checkpoint_steps(run)[2]).model.num_images == 147
    more = ["--data.train", "rendered:5x30,quick,size=32", "--resume-with-other-data", "True"]
    with pytest.raises(TrainerInputError, match="number of identities is 21 there and 5 here"):
        alone(arguments(run, data, 16, *more, *steps(3)))


def test_a_renamed_identity_is_another_set(tmp_path: Path, data: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "set"))
    names = [f"{label},person {label}" for label in range(CLASSES)]
    (copy / "identities.csv").write_text("class,folder\n" + "\n".join(names) + "\n")
    run = tmp_path / "run"
    alone(arguments(run, copy, 16, *steps(1)))
    (copy / "identities.csv").write_text("class,folder\n" + "\n".join([*names[:-1], "20,somebody"]) + "\n")
    with pytest.raises(TrainerInputError, match="differs in the names of the identities; give the same set"):
        alone(arguments(run, copy, 16, *steps(2)))


def test_a_checkpoint_that_names_no_set_is_gone_on_from(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    alone(arguments(run, data, 16, *steps(1)))
    file = checkpoint_steps(run)[1] / "state.json"
    older: dict[str, Any] = json.loads(file.read_text())
    del older["data"], older["rate"]
    file.write_text(json.dumps(older))
    alone(arguments(run, data, 16, *steps(2)))
    assert "note: step-00000001 does not say which set it was trained on" in capsys.readouterr().out
    assert read_state(checkpoint_steps(run)[2]).data is not None


def swapped_on_rank_1(run: Path, sets: list[Path]) -> str:
    from tests.ranks import these_ranks

    names = [str(name) for name in (sets if these_ranks().rank == 0 else sets[::-1])]
    return train_rank(arguments(run, sets[0], 8, "--data.train", *names))


def test_a_rank_with_another_set_of_the_same_size_is_refused(tmp_path: Path, data: Path) -> None:
    other = repacked(data, tmp_path / "other", slice(None, None, -1))
    first, second = run_ranks(2, swapped_on_rank_1, tmp_path / "run", [data, other])
    assert first == "FailedElsewhere: rank 1 failed"
    assert second == (
        f"TrainerInputError: --data.train {other} {data}: the order of the sets is {data} {other} on rank 0 "
        f"and {other} {data} here; give every machine the same set, in the same order"
    )


# --- a damaged checkpoint ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["backbone.safetensors", "state.json"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tmp_path: Path, data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, untouched = tmp_path / "run", tmp_path / "untouched"
    alone(arguments(run, data, 16, "--checkpoint.every", "2", *steps(4)))
    damaged = checkpoint_steps(run)[4] / name
    spoil(damaged)
    content = damaged.read_bytes()
    capsys.readouterr()
    alone(arguments(run, data, 16, "--checkpoint.every", "3", *steps(6)))
    told = capsys.readouterr().out
    assert f"note: {damaged}: the checkpoint is damaged: " in told
    assert "; step 4 is passed over\n" in told
    assert "goes on from step 2 of 6" in told
    alone(arguments(untouched, data, 16, *steps(6)))
    assert losses(run) == losses(untouched)
    # The run came by step 4 without a checkpoint of its own there; step 3 is the one before the last.
    assert list(checkpoint_steps(run)) == [3, 6]
    assert not damaged.exists()
    assert content


# --- a disk that is full, an evaluation that fails ---------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB, of which a checkpoint takes 12."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"needs leave to mount a file system: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until the disk takes no more."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="No space left on device"):
            write_for_ever(descriptor)
    finally:
        os.close(descriptor)


def write_for_ever(descriptor: int) -> None:
    while True:
        os.write(descriptor, bytes(1 << 12))


def test_a_full_disk_costs_a_checkpoint_not_the_run(
    small_disk: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_disk / "run"
    small = ["--model.embedding-dim", "8", "--checkpoint.every", "2", "--checkpoint.keep", "1"]
    alone(arguments(run, data, 16, *small, *steps(2)))
    filler = small_disk / "filler"
    kept = list(checkpoint_steps(run)[2].iterdir())

    import trainer.report

    real = trainer.report.Report.step

    def step(report: Any, result: Any) -> None:
        """The disk fills up during step 3 and has room again during step 5."""
        number = report._job.step
        if number == 3:
            fill(filler)
        if number == 5:
            filler.unlink()
        real(report, result)

    monkeypatch.setattr(trainer.report.Report, "step", step)
    capsys.readouterr()
    assert alone(arguments(run, data, 16, *small, *steps(7))) == "finished"
    told = capsys.readouterr().out
    assert "step 4: the checkpoint failed, the run goes on without: the checkpoint " in told
    assert "No space left on device" in told
    assert "1 checkpoints could not be written on the way" in told
    assert list(checkpoint_steps(run)) == [7]
    assert all(not file.exists() for file in kept)
    assert read_status(run / "status.json").failed_saves == 1
    assert not list((run / "checkpoints").glob(".*"))
    # Whole lines only; those of the full disk's time may be missing.
    assert {1, 2, 6, 7} <= {event["step"] for event in events(run)}


def test_a_full_disk_at_the_last_step_fails_the_command(
    small_disk: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.errors import TrainingFailed

    run = small_disk / "run"
    alone(arguments(run, data, 16, "--model.embedding-dim", "8", *steps(1)))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(free - (1 << 16)))
    with pytest.raises(TrainingFailed, match=r"step-00000002 could not be written: .*No space left"):
        alone(arguments(run, data, 16, "--model.embedding-dim", "8", *steps(2)))
    assert list(checkpoint_steps(run)) == [1]
    assert read_state(checkpoint_steps(run)[1]).step == 1


def evaluating(run: Path, data: Path, file: Path, last: int) -> list[str]:
    more = ["--evaluation.verification", str(file), "--evaluation.every", "2", *steps(last)]
    return arguments(run, data, 8, *more)


def without_its_pairs_from_step_3(run: Path, data: Path, file: Path) -> str:
    """The pair set is removed while the run goes on, and there again for the last evaluation."""
    import trainer.report
    from tests.ranks import these_ranks

    real, first = trainer.report.Report.step, these_ranks().rank == 0

    def step(report: Any, result: Any) -> None:
        if first and report._job.step == 3:
            file.rename(file.with_suffix(".away"))
        if first and report._job.step == 5:
            file.with_suffix(".away").rename(file)
        real(report, result)

    trainer.report.Report.step = step  # type: ignore[method-assign]
    return train_rank(evaluating(run, data, file, 6))


def test_an_evaluation_that_fails_is_passed_over_by_all_ranks(tmp_path: Path, data: Path) -> None:
    run, file = tmp_path / "run", pair_set(data, tmp_path / "pairs.bin")
    assert run_ranks(2, without_its_pairs_from_step_3, run, data, file) == ["finished"] * 2
    told = [(event["step"], "failed" in event) for event in events(run) if "loss" not in event]
    assert told == [(2, False), (4, True), (6, False)]
    failed = next(event for event in events(run) if "failed" in event)
    assert failed["failed"] == "evaluation"
    assert failed["reason"].startswith(f"{file}: ")
    assert sorted(entry.name for entry in (run / "evaluation").iterdir()) == [
        "step-00000002.json",
        "step-00000006.json",
    ]
    assert read_status(run / "status.json").failed_evaluations == 1
    assert len(losses(run)) == 6


def test_the_last_evaluation_fails_the_command(tmp_path: Path, data: Path) -> None:
    from data_pipeline.errors import DataInputError

    run, file = tmp_path / "run", pair_set(data, tmp_path / "pairs.bin")
    alone(evaluating(run, data, file, 1))
    file.unlink()
    with pytest.raises((DataInputError, TrainerInputError), match=r"pairs\.bin: "):
        alone(evaluating(run, data, file, 1) + steps(2))


def test_evaluations_without_pair_sets_save_nothing(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    more = ["--evaluation.every", "1", "--checkpoint.every", "0", "--checkpoint.keep", "9"]
    alone(arguments(run, data, 16, *more, *steps(3)))
    assert list(checkpoint_steps(run)) == [3]


# --- rates, times, counts ----------------------------------------------------------------------------------


def test_a_longer_run_says_where_its_rate_goes(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    cosine = ["--optim.schedule", "cosine", "--optim.lr", "0.04"]
    alone(arguments(run, data, 16, *cosine, *steps(4)))
    rate = read_state(checkpoint_steps(run)[4]).rate
    assert rate is not None
    assert (round(rate.last, 6), rate.next, rate.total_steps) == (0.005858, 0.0, 4)
    capsys.readouterr()
    alone(arguments(run, data, 16, *cosine, *steps(8)))
    told = capsys.readouterr().out
    assert (
        "note: the learning rate goes from 0.005858 in step 4 to 0.02 in step 5: its schedule spans 8 steps "
        "now, 4 before"
    ) in told
    assert [round(event["lr"], 6) for event in events(run)][3:5] == [0.005858, 0.02]
    alone(arguments(run, data, 16, *cosine, *steps(9), "--optim.lr", "0.01"))
    assert "note: the learning rate goes from " in capsys.readouterr().out


def test_a_rate_that_goes_on_as_it_was_is_not_mentioned(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone(arguments(tmp_path / "run", data, 16, *steps(2)))
    alone(arguments(tmp_path / "run", data, 16, *steps(4)))  # constant, longer
    assert "the learning rate goes" not in capsys.readouterr().out
    alone(arguments(tmp_path / "run", data, 16, *steps(5), "--optim.lr", "0.01"))
    assert (
        "the learning rate goes from 0.05 in step 4 to 0.01 in step 5: the settings of --optim are others "
        "than before"
    ) in capsys.readouterr().out


def test_a_rate_that_stays_where_it_would_have_fallen_is_told_as_that(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    falling = ["--optim.schedule", "step"]
    alone(arguments(tmp_path / "run", data, 16, *falling, *steps(4)))
    alone(arguments(tmp_path / "run", data, 16, *falling, *steps(6)))
    assert (
        "note: the learning rate stays at 0.005 in step 5, where it would have been 0.0005: its schedule "
        "spans 6 steps now, 4 before"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("last", ["across", "short", "pad"])
def test_images_per_second_counts_images_that_count(tmp_path: Path, data: Path, last: str) -> None:
    more = ["--data.last-batch", last, "--training.steps", "None", "--training.epochs", "1"]
    alone(arguments(tmp_path / "run", data, 40, *more))
    told = events(tmp_path / "run")
    images = [event["images_per_second"] * event["seconds"]["total"] for event in told]
    # An epoch of 168 in batches of 40 leaves eight.
    assert images == pytest.approx([40] * 4 + [40 if last == "across" else 8], rel=1e-2)


def test_every_line_has_its_time_and_saves_and_evaluations_their_seconds(tmp_path: Path, data: Path) -> None:
    run, file = tmp_path / "run", pair_set(data, tmp_path / "pairs.bin")
    alone(evaluating(run, data, file, 3))
    told = events(run)
    assert [event["time"] for event in told] == sorted(event["time"] for event in told)
    assert [("loss" in event, event["step"]) for event in told] == [
        (True, 1),
        (True, 2),
        (False, 2),
        (True, 3),
        (False, 3),
    ]
    assert [event["seconds"].get("save", 0) > 0 for event in told if "loss" in event] == [False, True, True]
    assert all(event["seconds"]["evaluate"] > 0 for event in told if "loss" not in event)
    assert all(0.0 <= event["evaluation"]["pairs"] <= 1.0 for event in told if "loss" not in event)
    assert read_status(run / "status.json").saved_step == 3


def test_each_starts_settings_are_kept(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    for number in (1, 2):
        alone(arguments(run, data, 16, *steps(number)))
    kept = {file.name: tomllib.loads(file.read_text()) for file in (run / "starts").iterdir()}
    assert {name: settings["training"]["steps"] for name, settings in kept.items()} == {
        "0001-step-00000000.toml": 1,
        "0002-step-00000001.toml": 2,
    }
