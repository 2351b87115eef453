"""A run's data settings: sets, orders, ends of epochs, decoders, and damaged images of all ranks together."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from data_pipeline import FaceDataset, write_dataset
from data_pipeline.loader.damaged import TooManyDamaged
from tests.ranks import run_ranks, these_ranks
from tests.trainer.tiny import (
    CLASSES,
    ENDLESS,
    IMAGES,
    alone,
    arguments,
    events,
    finish,
    losses,
    start,
    train_rank,
    wait_for_step,
    write_tiny_set,
)
from tests.waiting import patience_s
from trainer.checkpoint import checkpoint_steps
from trainer.config import load_config
from trainer.errors import TrainerInputError
from trainer.loop import train
from trainer.ranks import FailedElsewhere
from trainer.stop import StopRequest

pytestmark = pytest.mark.dali


def spoil(folder: Path, images: list[int]) -> Path:
    """Overwrite these images' JPEG with text, in place."""
    with FaceDataset.open(folder) as dataset:
        offsets = [dataset.offset(image) for image in images]
    with (folder / "train.rec").open("r+b") as file:
        for offset in offsets:
            file.seek(offset + 32)  # behind the record's header and mxnet's
            file.write(b"no image any more")
    return folder


def damaged_table(run: Path) -> list[dict[str, str]]:
    with (run / "damaged.csv").open() as file:
        return list(csv.DictReader(file))


def test_damaged_images_are_replaced_listed_once_and_counted(tmp_path: Path) -> None:
    images = [3, 50, 99, 160]
    data = spoil(write_tiny_set(tmp_path / "set"), images)
    more = ["--data.max-damaged", "0.03", "--training.epochs", "2", "--training.steps", "None"]
    assert run_ranks(2, train_rank, arguments(tmp_path / "two", data, 8, *more)) == ["finished"] * 2
    alone(arguments(tmp_path / "one", data, 16, *more))
    for run in (tmp_path / "one", tmp_path / "two"):
        table = damaged_table(run)
        assert sorted(int(row["key"]) for row in table) == [image + 1 for image in images]
        assert all(row["reason"].startswith("its image cannot be decoded: it is neither") for row in table)
        assert {row["file"] for row in table} == {str(data / "train.rec")}
        counts = [event["damaged"] for event in events(run)]
        assert counts[-1] == 4
        assert counts == sorted(counts)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    # Going on finds them again and lists none twice.
    alone(arguments(tmp_path / "one", data, 16, *more, "--training.epochs", "3"))
    assert len(damaged_table(tmp_path / "one")) == 4


def train_and_tell(argv: list[str]) -> str:
    try:
        return train(load_config(argv), these_ranks(), ranks_device(), StopRequest())
    except (TooManyDamaged, FailedElsewhere) as error:
        return f"{type(error).__name__}: {error}"


def ranks_device():  # type: ignore[no-untyped-def]
    import torch

    return torch.device("cpu")


def test_too_many_damaged_images_of_all_ranks_stop_the_run_with_the_list(tmp_path: Path) -> None:
    images = list(range(0, IMAGES, 8))
    data = spoil(write_tiny_set(tmp_path / "set"), images)
    run = tmp_path / "run"
    # Each rank alone meets about half of them, which would be few enough.
    argv = arguments(run, data, 4, "--data.max-damaged", str(15.5 / IMAGES), "--training.steps", "60")
    first, second = run_ranks(2, train_and_tell, argv)
    assert first.startswith("TooManyDamaged: ")
    assert "data.max-damaged allows 15 of this set" in first
    assert second == "FailedElsewhere: rank 0 failed"
    assert len(damaged_table(run)) >= 16
    # What was learnt until then is kept.
    assert list(checkpoint_steps(run)) == [events(run)[-1]["step"]]


@pytest.mark.parametrize("order", ["blocks", "identities"])
def test_an_order_is_the_same_on_two_ranks_and_after_a_stop(tmp_path: Path, data: Path, order: str) -> None:
    more = ["--data.order", order, "--data.block", "8", "--data.window", "4"]
    if order == "identities":
        more += ["--auxiliary.loss", "triplet", "--auxiliary.weight", "0.1"]
    alone(arguments(tmp_path / "one", data, 16, *more, "--training.steps", "6"))
    run_ranks(2, train_rank, arguments(tmp_path / "two", data, 8, *more, "--training.steps", "3"))
    run_ranks(2, train_rank, arguments(tmp_path / "two", data, 8, *more, "--training.steps", "6"))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    with pytest.raises(TrainerInputError, match=rf"data\.order is {order} \(.*\) there and random here"):
        alone(arguments(tmp_path / "one", data, 16, *more, "--data.order", "random"))


def test_a_batch_that_is_no_multiple_of_the_group_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(
        TrainerInputError, match=r"--data\.batch-size must be a multiple of images_per_identity"
    ):
        alone(arguments(tmp_path / "run", data, 14, "--data.order", "identities"))


@pytest.mark.parametrize(("last", "steps"), [("across", 9), ("drop", 8), ("pad", 10), ("short", 10)])
def test_an_epochs_end_is_as_asked_for(tmp_path: Path, data: Path, last: str, steps: int) -> None:
    # Two epochs of 168 images in batches of 40: four and a rest of eight each.
    more = ["--data.last-batch", last, "--training.steps", "None", "--training.epochs", "2"]
    alone(arguments(tmp_path / "run", data, 40, *more))
    told = events(tmp_path / "run")
    assert len(told) == steps
    assert told[-1]["epoch"] == pytest.approx(2 if last != "across" else 360 / 168, abs=1e-3)


def test_without_dali_opencv_decodes_and_learns_the_same(tmp_path: Path, data: Path) -> None:
    for decoder in ("dali", "opencv"):
        alone(arguments(tmp_path / decoder, data, 16, "--data.decoder", decoder, "--training.steps", "5"))
    # A grey level here and there is all that may differ.
    assert losses(tmp_path / "opencv") == pytest.approx(losses(tmp_path / "dali"), abs=2e-2)


def test_several_sets_and_folders_of_images(tmp_path: Path, data: Path) -> None:
    images = tmp_path / "images"
    with FaceDataset.open(data) as dataset:
        for index in range(40):
            file = images / f"person{dataset.labels[index]}" / f"{index}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(dataset.payload(index))
    run = tmp_path / "run"
    more = ["--data.train", str(data), os.path.relpath(images), "--training.steps", "2"]
    alone(arguments(run, data, 16, *more))
    settings = tomllib.loads((run / "run.toml").read_text())
    assert [str(Path(name).resolve()) for name in settings["data"]["train"]] == [str(data), str(images)]
    assert all(Path(name).is_absolute() for name in settings["data"]["train"])
    alone(["--config", str(run / "run.toml"), "--run", str(run), "--training.steps", "3"])
    assert len(losses(run)) == 3
    ranks = (run / "ranks.json").read_text()
    assert f'"num_classes": {CLASSES + 5}' in ranks
    with pytest.raises(TrainerInputError, match="number of identities is 26 there and 21 here"):
        alone(arguments(run, data, 16, "--training.steps", "4"))


def test_small_identities_are_left_out(tmp_path: Path, data: Path) -> None:
    alone(arguments(tmp_path / "run", data, 16, "--data.min-images", "8", "--training.steps", "1"))
    assert f'"num_classes": {CLASSES}' in (tmp_path / "run" / "ranks.json").read_text()
    from data_pipeline.errors import DatasetError

    with pytest.raises(DatasetError, match=r"no identity has 9 images or more.*data\.min-images"):
        alone(arguments(tmp_path / "none", data, 16, "--data.min-images", "9"))


def test_a_list_that_cannot_be_written_ends_all_ranks_with_what_was_learnt(tmp_path: Path) -> None:
    data = spoil(write_tiny_set(tmp_path / "set"), list(range(0, IMAGES, 12)))
    run = tmp_path / "run"
    (run / "damaged.csv").mkdir(parents=True)
    argv = arguments(run, data, 2, "--data.max-damaged", "0.5", "--training.steps", "60")
    first, second = run_ranks(2, train_rank, argv)
    assert first.startswith(f"TrainingFailed: {run / 'damaged.csv'}: ")
    assert second == "FailedElsewhere: rank 0 failed"
    steps = [event["step"] for event in events(run)]
    assert list(checkpoint_steps(run)) == steps[-1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_stops_a_run_with_worker_processes(
    tmp_path: Path, data: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    argv = arguments(run, data, 16, "--data.decoder", "opencv", "--data.threads", "2", *ENDLESS)
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *argv],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_step(run, 2)
        os.killpg(process.pid, number)
        _, error = process.communicate(timeout=patience_s())
    finally:
        process.kill()
    assert (process.returncode, error) == (75, "")
    assert list(checkpoint_steps(run)) == [events(run)[-1]["step"]]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--data.image-size", "8", "8"], "image_size must be at least 16 16"),
        (["--data.threads", "0"], "threads must be 1 or more"),
        (["--data.max-damaged", "1.5"], "max.damaged must be a part of the images .* or their number"),
        (["--data.preset", "light", "--data.augment.grey", "0.1"], "preset must be left alone"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, data: Path, more: list[str], complaint: str) -> None:
    with pytest.raises(TrainerInputError) as caught:
        alone(arguments(tmp_path / "run", data, 16, *more))
    assert re.search(complaint.replace("_", "."), str(caught.value))


def test_images_that_opencv_decodes_in_dalis_place_are_told_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = FaceDataset.open(write_tiny_set(tmp_path / "set"))
    images = [source.payload(index) for index in range(IMAGES)]
    with_more_behind = [
        bytes(image) + (b"more" if place in (3, 90) else b"") for place, image in enumerate(images)
    ]
    labels = source.labels.tolist()
    data = tmp_path / "other"
    write_dataset(data, list(zip(labels, with_more_behind, strict=True)), CLASSES, source.image_size)
    more = ["--training.epochs", "1", "--training.steps", "None"]
    alone(arguments(tmp_path / "one", data, 16, *more))
    told = capsys.readouterr().out
    assert told.count("a JPEG of an unusual structure: OpenCV decodes it; further ones are counted") == 1
    assert events(tmp_path / "one")[-1]["decoded_by_opencv"] == 2
    assert not (tmp_path / "one" / "damaged.csv").exists()
    alone(arguments(tmp_path / "two", tmp_path / "set", 16, *more))
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


def _write_folders(folder: Path) -> Path:
    """The tiny set as a folder a person, under names that sort as its classes do."""
    write_tiny_set(folder.with_suffix(".packed"))
    with FaceDataset.open(folder.with_suffix(".packed")) as dataset:
        for image in range(IMAGES):
            person = folder / f"p{dataset.labels[image]:02}"
            person.mkdir(parents=True, exist_ok=True)
            (person / f"{image:03}.jpg").write_bytes(bytes(dataset.payload(image)))
    return folder


def test_a_folder_with_side_files_trains_as_without_and_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = _write_folders(tmp_path / "set")
    steps = ("--training.steps", "12")
    assert alone(arguments(tmp_path / "without", data, 16, *steps)) == "finished"
    assert "left out" not in capfd.readouterr().out
    for person in range(CLASSES):
        for name in ("Thumbs.db", "desktop.ini", "notes.txt", "points.csv"):
            (data / f"p{person:02}" / name).write_text("no image")
    assert alone(arguments(tmp_path / "with", data, 16, *steps)) == "finished"
    printed = capfd.readouterr().out
    assert printed.count("left out") == 1
    assert f"left out: {4 * CLASSES} × no image that can be decoded (such as p00/Thumbs.db)" in printed
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    assert not (tmp_path / "with" / "damaged.csv").exists()


def test_races_in_place_of_people_are_one_line_and_2(tmp_path: Path) -> None:
    data = _write_folders(tmp_path / "set")
    for race, people in (("African", range(9)), ("Asian", range(9, CLASSES))):
        (data / race).mkdir()
        for person in people:
            (data / f"p{person:02}").rename(data / race / f"p{person:02}")
    ((code, error),) = finish(start(1, arguments(tmp_path / "run", data, 16)))
    assert code == 2
    assert error.count("\n") == 1
    assert f"--data.train {data}/African {data}/Asian" in error
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").glob("step-*"))
