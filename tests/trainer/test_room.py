"""A set whose class centres this machine has no room for, or nobody's, is refused before a rank starts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import DatasetError, FaceDataset, RecordWriter
from data_pipeline.inspection.inspect import inspect_dataset
from data_pipeline.sets.notes import notes_on
from data_pipeline.sets.open import open_source
from partial_fc.memory import Memory
from tests.trainer.tiny import alone
from trainer.check import check
from trainer.config import load_config
from trainer.errors import TrainerInputError
from trainer.room import check_room

PEOPLE, FACES = 10, 8
GIB = 1 << 30
NUMBERS = [69_003_000 + 7 * person for person in range(PEOPLE)]
# Of 28 and 21 float32 makes one number.
MERGED = sorted({int(np.float32(number)) for number in NUMBERS})


def write(folder: Path, numbers: list[int], stated: str | None = None) -> Path:
    """Eight images of each person, whose number is their label."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as out:
        for key in range(len(numbers) * FACES):
            image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            payload = cv2.imencode(".jpg", image)[1].tobytes()
            out.write(key + 1, label=float(numbers[key // FACES]), id=key + 1, payload=payload)
    if stated:
        (folder / "property").write_text(stated)
    return folder


def arguments(run: Path, data: Path | str, *more: str) -> list[str]:
    return [
        *("--run", str(run), "--data.train", str(data), "--data.batch-size", "8", "--training.steps", "2"),
        *("--model.backbone", "sphereface4", "--device", "cpu", "--data.decoder", "opencv", *more),
    ]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets what the machine has."""

    def of(total: int) -> None:
        monkeypatch.setattr("trainer.room.memory_of", lambda device: Memory(total, total))

    return of


@pytest.mark.parametrize("gib", [16, 1 << 20])
def test_peoples_numbers_are_no_classes(tmp_path: Path, memory: Callable[[int], None], gib: int) -> None:
    """However much memory there is."""
    data = write(tmp_path / "data", NUMBERS)
    memory(gib * GIB)
    with pytest.raises(TrainerInputError) as caught:
        check(load_config(arguments(tmp_path / "run", data)), 1)
    told = str(caught.value)
    assert told.startswith(f"--data.train {data}: its labels go up to 69003064 for 80 images")
    assert f"would take 263.2 GiB of this machine's {gib:,}.0 GiB; --data.min-images 1 " in told
    assert told.endswith("above 16777216, so that two people may have become one class already")
    assert "\n" not in told
    assert not (tmp_path / "run").exists()


def test_min_images_is_the_way_out_and_says_what_was_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", NUMBERS)
    assert len(MERGED) == PEOPLE - 1, "two people are one in float32"
    with FaceDataset.open(data, min_images=1) as dataset:
        assert (dataset.num_classes, dataset.num_images) == (len(MERGED), PEOPLE * FACES)
        assert dataset.class_counts().tolist().count(2 * FACES) == 1
        assert dataset.largest_stated_class() == 69_003_064
        (note,) = notes_on(dataset)
    assert note.startswith(f"{data}: its labels go up to 69003064; records keep labels as float32")
    assert "two people may have become one" in note
    assert alone(arguments(tmp_path / "run", data, "--data.min-images", "1")) == "finished"
    told = "".join(capsys.readouterr())
    assert f"{data}: 80 images of 9 identities" in told
    assert note in told


def test_numbers_that_float32_holds_are_not_called_rounded(
    tmp_path: Path, memory: Callable[[int], None]
) -> None:
    data = write(tmp_path / "data", [1_000_003 * person for person in range(PEOPLE)])
    memory(1 << 50)
    with pytest.raises(TrainerInputError, match=r"go up to 9000027 for 80 .* have images anew$"):
        check(load_config(arguments(tmp_path / "run", data)), 1)
    check(load_config(arguments(tmp_path / "run", data, "--data.min-images", "1")), 1)
    with FaceDataset.open(data, min_images=1) as dataset:
        assert dataset.num_classes == PEOPLE
        assert notes_on(dataset) == []


def test_one_of_several_sets_is_named(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", list(range(10))), write(tmp_path / "bad", NUMBERS)
    with pytest.raises(TrainerInputError, match=rf"^--data.train {bad}: its labels go up to 69003064 for 80"):
        check(load_config(arguments(tmp_path / "run", good, "--data.train", str(good), str(bad))), 1)


def test_gaps_that_cost_little_are_a_note(tmp_path: Path) -> None:
    data = write(tmp_path / "data", [100 * person for person in range(PEOPLE)])
    check(load_config(arguments(tmp_path / "run", data)), 1)
    told = f"{data}: 901 classes for 80 images; --data.min-images 1 leaves out those that have none"
    assert notes_on(open_source([data])) == [told]
    assert inspect_dataset(data, num_threads=1, depth="headers").notes == (told,)


def test_labels_beyond_31_bits_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data", [0, (1 << 31) - 128, 1 << 31])
    for least in (0, 1):
        with pytest.raises(DatasetError, match=r"record 17 .*: label 2147483648; .* below 2147483648"):
            FaceDataset.open(data, min_images=least)


@pytest.mark.parametrize(
    ("world_size", "local_ranks", "options", "fits"),
    [
        (1, 1, [], True),
        (8, 8, [], True),
        (1, 1, ["--head.optimizer", "adamw"], False),
        (2, 1, ["--head.optimizer", "adamw"], True),
        (2, 2, ["--head.optimizer", "adamw"], False),
        (1, 1, ["--head.sub-centers", "2"], False),
        (1, 1, ["--model.embedding-dim", "1024", "--head.loss", "none", "--auxiliary.loss", "center"], True),
        (1, 1, ["--model.embedding-dim", "1024"], False),
        (1, 1, ["--model.embedding-dim", "1024", "--head.momentum-precision", "bfloat16"], False),
        (1, 1, ["--model.embedding-dim", "640", "--head.momentum-precision", "bfloat16"], True),
    ],
)
def test_a_large_set_passes_where_there_is_room(
    memory: Callable[[int], None], world_size: int, local_ranks: int, options: list[str], fits: bool
) -> None:
    """Five million identities of 512 numbers: 19.1 GiB with their momentum."""
    memory(20 * GIB)
    name = "rendered:5000000x10,quick"
    config = load_config(arguments(Path("run"), name, *options))
    with closing(open_source([name])) as dataset:
        if fits:
            check_room(config, dataset, world_size, local_ranks)
            return
        with pytest.raises(TrainerInputError, match=r"centres of 5000000 .* than this machine's 20\.0"):
            check_room(config, dataset, world_size, local_ranks)


def test_a_stated_number_of_classes_is_believed_where_there_is_room(
    tmp_path: Path, memory: Callable[[int], None]
) -> None:
    data = write(tmp_path / "data", list(range(10)), "640,32,32")
    memory(GIB)
    check(load_config(arguments(tmp_path / "run", data)), 1)
