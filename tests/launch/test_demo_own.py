"""How the demo splits the user's own faces: who is held out, which pairs are made, what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import FaceDataset
from data_pipeline.pairs import read_bin
from launch import demo_own
from launch.demo_own import draw_pairs, hold_out, part_of, write_own
from launch.errors import LaunchInputError


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def write_people(folder: Path, counts: list[int]) -> Path:
    """A folder of images, person p's all of brightness 10 p + 5."""
    for person, count in enumerate(counts):
        (folder / f"person{person:02}").mkdir(parents=True)
        for number in range(count):
            image = np.full((32, 32, 3), (10 * person + 5) % 256, np.uint8)
            cv2.imwrite(str(folder / f"person{person:02}" / f"{number}.png"), image)
    return folder


def person_of(payload: bytes) -> int:
    image = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return int(image.mean()) // 10


def test_held_out_people_are_in_no_training_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_own, "choose_alignment", lambda paths: "none")
    counts = [4, 1, 5, 3, 6, 1, 4, 4, 5, 3, 2, 4]
    data = write_people(tmp_path / "people", counts)
    (data / "person00" / "notes.txt").write_text("no image")
    folder, train, pairs = tmp_path / "demo", tmp_path / "demo" / "train", tmp_path / "demo" / "unseen.bin"
    says = write_own(data, folder, train, pairs)
    pair_set = read_bin(pairs)
    tested = {person_of(payload) for payload in pair_set.images}
    with FaceDataset.open(train) as dataset:
        trained = {person_of(bytes(dataset.payload(index))) for index in range(dataset.num_images)}
        assert dataset.num_classes == len(trained)
    assert not tested & trained
    assert not tested & {1, 5}, "a person with one image makes no pair"
    assert tested | trained == set(range(12))
    assert f"trained on {len(trained)} people" in says
    people = [person_of(payload) for payload in pair_set.images]
    assert pair_set.same == [one == other for one, other in zip(people[::2], people[1::2], strict=True)]
    assert sum(pair_set.same) * 2 == len(pair_set)
    assert write_own(data, folder, train, pairs) == says, "a second start finds everything there"


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([5] * 7, "images of 7 people; the demo needs 8 or more"),
        ([1] * 30, "0 people have two images or more, which makes 0 pairs of one person"),
        ([2] * 10, "10 people have two images or more, which makes 3 pairs of one person"),
    ],
)
def test_too_small_a_set_is_refused_and_nothing_left(tmp_path: Path, counts: list[int], says: str) -> None:
    data = write_people(tmp_path / "people", counts)
    with pytest.raises(LaunchInputError, match=says):
        write_own(data, tmp_path / "demo", tmp_path / "demo" / "train", tmp_path / "demo" / "unseen.bin")
    assert not (tmp_path / "demo").exists()


def test_a_tenth_is_held_out_and_more_only_for_pairs() -> None:
    data = Path("faces")
    assert len(hold_out([30] * 100, random(), data)) == 10
    assert len(hold_out([3] * 1000, random(), data)) == 100
    assert len(hold_out([2] * 1000, random(), data)) == 300
    assert hold_out([3] * 100, random(), data) == hold_out([3] * 100, random(), data)


def test_pairs_are_half_same_and_of_two_images() -> None:
    drawn = draw_pairs([[0, 1, 2], [3, 4], [5, 6, 7, 8]], random())
    owner = [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert [same for *_, same in drawn] == [True, False] * 10
    assert all(first != second for first, second, _ in drawn)
    assert all((owner[first] == owner[second]) == same for first, second, same in drawn)


def test_a_part_of_a_large_set_prefers_people_with_two_images() -> None:
    counts = {f"one{number}": 1 for number in range(50)} | {f"three{number}": 3 for number in range(10)}
    chosen = part_of(counts, 20)
    assert sum(counts[name] for name in chosen) == 20
    assert sum(name.startswith("three") for name in chosen) == 6
    assert part_of(counts, 1000) == sorted(counts)
