"""Real faces all the way: packed, inspected, read back, loaded for training, trained on, evaluated."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import FaceDataset, GlobalOrder, TrainLoader
from data_pipeline.images.decode import decode_image
from data_pipeline.inspection.inspect import inspect_dataset
from data_pipeline.pairs import read_bin
from tests.test_real_faces import cosface

pytestmark = [pytest.mark.real_faces, pytest.mark.mtcnn, pytest.mark.dali]


def _lfw_part(lfw: Path, folder: Path) -> Path:
    """The first people of LFW who have three images or more, and one who has one."""
    people = sorted(path for path in (lfw / "images").iterdir() if len(list(path.iterdir())) >= 3)[:24]
    folder.mkdir()
    for person in [*people, lfw / "images" / "Abdul_Rahman"]:
        (folder / person.name).symlink_to(person)
    return folder


def _att_pairs(att: Path, table: Path) -> None:
    """40 subjects' first two images against each other, and against their neighbours': a plain list."""
    lines = []
    for subject in range(1, 41):
        lines.append(f"s{subject}/1.pgm,s{subject}/2.pgm,1")
        lines.append(f"s{subject}/1.pgm,s{subject % 40 + 1}/2.pgm,0")
    table.write_text("first,second,same\n" + "\n".join(lines))


def _check_reading(folder: Path, num_images: int, num_classes: int) -> None:
    """What inspection, the data set and the loader make of a packed folder agree."""
    report = inspect_dataset(folder)
    assert not report.damaged
    assert (report.num_images, report.num_classes, report.image_size) == (num_images, num_classes, (112, 112))
    with FaceDataset.open(folder) as dataset:
        assert dataset.class_counts().sum() == num_images
        assert dataset.class_counts().min() > 0
        batch = next(iter(TrainLoader(dataset, GlobalOrder(num_images, 0), batch_size=16)))
        assert tuple(batch.images.shape) == (16, 3, 112, 112)
        # A face has light and dark parts: an image that went wrong on the way has one grey.
        assert float(batch.images.std(dim=(1, 2, 3)).min()) > 0.1
        means = batch.images.mean(dim=(1, 2, 3)).sort().values.numpy() * 128 + 127.5
        stored = [decode_image(dataset.payload(index)) for index in batch.indices]
        np.testing.assert_allclose(
            means, sorted(image.mean() for image in stored if image is not None), atol=1
        )


def test_real_sets_go_all_the_way(shared_data: Path, tmp_path: Path) -> None:
    part = _lfw_part(shared_data / "lfw", tmp_path / "lfw-part")
    glint, att, run = tmp_path / "glint", tmp_path / "att", tmp_path / "run"
    # Images to records: unaligned colour, aligned records by way of files, unaligned grey.
    cosface("pack", part, tmp_path / "lfw", "--align", "mtcnn", "--min-images", 2, "--workers", 2)
    cosface("unpack", shared_data / "glint16", tmp_path / "glint-files")
    cosface("pack", tmp_path / "glint-files", glint, "--workers", 1)
    cosface("pack", shared_data / "att_faces", att, "--workers", 1)
    num_lfw = sum(len(list(person.iterdir())) for person in part.iterdir()) - 1
    _check_reading(tmp_path / "lfw", num_lfw, 24)
    _check_reading(glint, 3678, 16)
    _check_reading(att, 400, 40)
    assert "fewer than 2 images" in (tmp_path / "lfw" / "skipped.csv").read_text()

    # Lists of pairs to sets: pairs from a packed part, a plain list, and a set by way of files.
    people = sorted(path.name for path in part.iterdir() if path.name != "Abdul_Rahman")
    same = [f"{name}/{name}_0001.jpg {name}/{name}_0002.jpg 1" for name in people]
    different = [f"{a}/{a}_0001.jpg {b}/{b}_0002.jpg 0" for a, b in combinations(people, 2)][: len(people)]
    lines = [line for both in zip(same, different, strict=True) for line in both]
    (tmp_path / "lfw.txt").write_text("\n".join(lines))
    cosface("pairs", tmp_path / "lfw.txt", part, tmp_path / "lfw.bin", "--workers", 2)
    _att_pairs(shared_data / "att_faces", tmp_path / "att.csv")
    cosface("pairs", tmp_path / "att.csv", shared_data / "att_faces", tmp_path / "att.bin", "--align", "none")
    cosface("unpack", shared_data / "glint4.bin", tmp_path / "glint4")
    again = tmp_path / "glint4-again.bin"
    cosface("pairs", tmp_path / "glint4" / "pairs.txt", tmp_path / "glint4", again, "--align", "none")
    assert read_bin(again).images == read_bin(shared_data / "glint4.bin").images

    # A short run on one of them, evaluated on all.
    settings = [
        *("--run", run, "--data.train", tmp_path / "lfw", "--data.batch-size", 32, "--device", "cpu"),
        *("--data.image-size", 32, 32, "--model.backbone", "sphereface4", "--model.embedding-dim", 32),
        *("--head.scale", 16, "--training.steps", 3, "--optim.lr", 0.05, "--optim.schedule", "constant"),
    ]
    cosface("train", *settings)
    sets = [tmp_path / "lfw.bin", tmp_path / "att.bin", shared_data / "glint4.bin", again]
    cosface("evaluate", "--run", run, "--verification", *sets, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"lfw", "att", "glint4", "glint4-again"}
    assert figures["glint4"] == figures["glint4-again"]
    # Even an untrained network tells ORL's neighbours from the same person, taken in the same light, apart.
    assert figures["att"]["auc"] > 0.7
