"""Damaged images in training: named, replaced by the next of the order, the same whoever finds them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data_pipeline import FaceDataset, write_dataset
from data_pipeline.augment.settings import Augmentation
from data_pipeline.loader.damaged import DamagedImages, TooManyDamaged, allowed_damaged
from data_pipeline.loader.loader import Batch, TrainLoader
from data_pipeline.order.whole_set import GlobalOrder
from trainer.settings import DataConfig

pytestmark = pytest.mark.dali

SIZE = (112, 112)
IMAGES, CLASSES = 60, 6
ALL = Augmentation(shift=4, rotation=10, brightness=0.2, erase=0.5, low_resolution=0.3)


def jpeg(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image)[1].tobytes()


Damage = Callable[[bytes], bytes]
UNDECODABLE = "its image cannot be decoded"
DAMAGE: dict[str, tuple[Damage, str]] = {
    "cut off": (lambda data: data[: len(data) // 2], UNDECODABLE),
    "text": (lambda data: b"hello world, no image", UNDECODABLE),
    "empty": (lambda data: b"", UNDECODABLE),
    "one byte": (lambda data: b"\xff", UNDECODABLE),
    "no frame header": (lambda data: data[:20] + bytes(200) + data[220:], UNDECODABLE),
    "smaller": (lambda data: jpeg(1, (90, 112)), "its image has 90 x 112 pixels, not 112 x 112"),
    "larger": (lambda data: jpeg(1, (130, 140)), "its image has 130 x 140 pixels, not 112 x 112"),
}


def spoilt(folder: Path, damage: dict[int, Damage]) -> FaceDataset:
    """A set of sixty images, ten a class, those of the given indices damaged."""
    faces = [(index // 10, damage.get(index, bytes)(jpeg(index))) for index in range(IMAGES)]
    write_dataset(folder, faces, CLASSES, SIZE)
    return FaceDataset.open(folder)


def loader(dataset: FaceDataset, batch_size: int, **settings: Any) -> TrainLoader:
    settings = {"max_damaged": 0.5, "seed": 9} | settings
    return TrainLoader(dataset, GlobalOrder(dataset.num_images, 1), batch_size=batch_size, **settings)


def take(batches: TrainLoader, steps: int) -> list[Batch]:
    return [next(batches) for _ in range(steps)]


def replaced(dataset: FaceDataset, damaged: set[int], position: int, count: int) -> list[int]:
    """The oracle: at every position the first image from there on that is whole."""
    order = GlobalOrder(dataset.num_images, 1)
    images = []
    for at in range(position, position + count):
        while (image := int(order.slice(at, 1)[1][0])) in damaged:
            at += 1
        images.append(image)
    return images


# OpenCV's worker processes take seconds to start.
@pytest.mark.parametrize(
    ("case", "decoder"), [*((case, "dali") for case in DAMAGE), ("cut off", "opencv"), ("smaller", "opencv")]
)
def test_a_damaged_image_is_replaced_by_the_next_and_named(
    tmp_path: Path, case: str, decoder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage, reason = DAMAGE[case]
    dataset = spoilt(tmp_path / "set", {15: damage})
    with loader(dataset, 12, decoder=decoder) as batches:
        read = take(batches, 11)  # more than two epochs
        assert list(batches.damaged.reasons) == [15]
        told = batches.damaged.describe(15)
    assert told.startswith(f"{dataset.file}: byte {dataset.offset(15)}: record 16 of class 1: {reason}")
    assert "\n" not in told
    indices = [int(index) for batch in read for index in batch.indices]
    assert indices == replaced(dataset, {15}, 0, 132)
    for batch in read:
        assert batch.labels.tolist() == (batch.indices // 10).tolist()
    assert capfd.readouterr() == ("", "")


def damaged_in_many_ways(folder: Path) -> tuple[FaceDataset, set[int]]:
    cases = [damage for damage, _ in DAMAGE.values()]
    damage = {3 + 7 * place: case for place, case in enumerate(cases)}
    return spoilt(folder, damage), set(damage)


@pytest.mark.parametrize(("world_size", "decoder"), [(1, "dali"), (2, "dali"), (3, "dali"), (2, "opencv")])
def test_the_sequence_is_the_same_for_every_number_of_ranks_and_after_a_stop(
    tmp_path: Path, world_size: int, decoder: str
) -> None:
    dataset, damaged = damaged_in_many_ways(tmp_path / "set")
    with loader(dataset, 12, augmentation=ALL, decoder=decoder) as batches:
        whole = take(batches, 8)
    pixels = torch.cat([batch.images for batch in whole])
    expected = replaced(dataset, damaged, 0, 96)
    assert torch.cat([torch.from_numpy(batch.indices) for batch in whole]).tolist() == expected
    stop, each = 24, 12 // world_size
    ranks = [
        loader(
            dataset, each, rank=rank, world_size=world_size, position=stop, augmentation=ALL, decoder=decoder
        )
        for rank in range(world_size)
    ]
    for step in range(3):
        parts = [next(rank) for rank in ranks]
        first = stop + 12 * step
        assert torch.equal(torch.cat([part.images for part in parts]), pixels[first : first + 12])
        assert [int(i) for part in parts for i in part.indices] == expected[first : first + 12]
    for rank in ranks:
        rank.close()


def test_a_damaged_record_is_replaced_too(tmp_path: Path) -> None:
    dataset = spoilt(tmp_path / "set", {})
    offset = dataset.offset(15)
    dataset.close()
    with dataset.file.open("r+b") as file:
        file.seek(offset + 4)
        file.write(struct.pack("<I", 0x1FFFFFFF))
    dataset = FaceDataset.open(tmp_path / "set")
    with loader(dataset, 12) as batches:
        read = take(batches, 5)
        assert "runs past the end of the file" in batches.damaged.describe(15)
    assert [int(i) for batch in read for i in batch.indices] == replaced(dataset, {15}, 0, 60)


def test_too_many_end_the_reading(tmp_path: Path) -> None:
    dataset, _ = damaged_in_many_ways(tmp_path / "set")
    for allowed in (0, 2, 6):
        batches = loader(dataset, 6, max_damaged=allowed / IMAGES)
        with pytest.raises(
            TooManyDamaged, match=rf"data\.max-damaged allows {allowed} of this set: "
        ) as told:
            take(batches, 12)
        assert str(dataset.file) in str(told.value)
        assert "\n" not in str(told.value)
    for enough in (7 / IMAGES, 7, 60):
        with loader(dataset, 6, max_damaged=enough) as batches:
            take(batches, 12)


@pytest.mark.parametrize(
    ("max_damaged", "images", "allowed"),
    [
        (0, 10**9, 0),
        *((1e-4, images, 1) for images in (1, 80, 9_999, 10_000, 19_999)),
        (1e-4, 20_000, 2),
        (0.29, 100, 29),
        (0.5, 3, 1),
        (1, 80, 1),
        (12, 10**6, 12),
    ],
)
def test_a_part_of_a_small_set_is_one_image_and_a_whole_number_is_a_number(
    max_damaged: float, images: int, allowed: int
) -> None:
    assert allowed_damaged(max_damaged, images) == allowed


def test_one_damaged_image_of_a_small_set_does_not_end_a_run_of_the_default(tmp_path: Path) -> None:
    dataset = spoilt(tmp_path / "set", {15: DAMAGE["cut off"][0]})
    with loader(dataset, 12, max_damaged=DataConfig(train=("set",)).max_damaged) as batches:
        take(batches, 6)
        assert list(batches.damaged.reasons) == [15]


@pytest.mark.parametrize("decoder", ["dali", "opencv"])
def test_a_set_of_nothing_but_damage_ends(tmp_path: Path, decoder: str) -> None:
    dataset = spoilt(tmp_path / "set", dict.fromkeys(range(IMAGES), DAMAGE["text"][0]))
    batches = loader(dataset, 6, max_damaged=1.0, decoder=decoder)
    with pytest.raises(TooManyDamaged, match="60 damaged images"):
        next(batches)


@pytest.mark.parametrize("case", ["no frame header", "larger"])
def test_what_another_rank_found_while_it_was_decoded_here_is_replaced_too(tmp_path: Path, case: str) -> None:
    """It is no news then, yet DALI stops at it; a broken table of codes is what only DALI finds."""
    broken = bytearray(jpeg(15))
    at = broken.index(b"\xff\xc4") + 5
    broken[at : at + 16] = b"\xff" * 16
    damage = {15: (lambda data: bytes(broken)) if case == "no frame header" else DAMAGE[case][0]}
    dataset = spoilt(tmp_path / "set", damage)
    order = GlobalOrder(dataset.num_images, 1)
    due = next(step for step in range(10) if 15 in order.slice(6 * step, 6)[1])
    assert due >= 1
    with loader(dataset, 6) as batches:
        read = take(batches, due - 1)
        batches.damaged.take_in([(15, "found elsewhere")])
        read += take(batches, 10 - len(read))
    assert [int(i) for batch in read for i in batch.indices] == replaced(dataset, {15}, 0, 60)


def test_what_ranks_found_becomes_the_same_on_all(tmp_path: Path) -> None:
    dataset = spoilt(tmp_path / "set", {})
    ranks = [DamagedImages(dataset) for _ in range(3)]
    ranks[0].add(4, "a")
    ranks[2].add(9, "b")
    ranks[2].add(4, "a, too")
    for _ in range(2):
        found = [news for rank in ranks for news in rank.news()]
        ranks[1].add(30, "found in the meantime")
        new = [rank.take_in(found) for rank in ranks]
        assert new[0] == new[1] == new[2]
    assert new[0] == [30]
    assert [rank.reasons for rank in ranks] == [{4: "a", 9: "b", 30: "found in the meantime"}] * 3
    assert not any(rank.news() for rank in ranks)
