from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline import FaceDataset
from data_pipeline.errors import DatasetError
from data_pipeline.images.align import TEMPLATE_112, similarity
from data_pipeline.images.decode import decode_image
from data_pipeline.images.landmarks import Landmarks, LandmarksError
from data_pipeline.pack.pack import pack

IMAGES = Path("faces")


def _face(seed: int) -> np.ndarray:
    """Five points of a face somewhere in a picture, a little off the template."""
    random = np.random.default_rng(seed)
    angle, scale = random.uniform(-0.5, 0.5), random.uniform(0.5, 3)
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return np.asarray((TEMPLATE_112 + random.normal(0, 3, (5, 2))) @ turn.T + random.uniform(50, 200, 2))


FACES = [_face(seed) for seed in range(6)]


def _row(points: np.ndarray, by_coordinate: bool = False) -> list[str]:
    return [f"{value:.2f}" for value in (points.T if by_coordinate else points).reshape(-1)]


def _file(tmp_path: Path, lines: list[str]) -> Path:
    (tmp_path / "points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "points.txt"


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", "])
@pytest.mark.parametrize("by_coordinate", [False, True])
@pytest.mark.parametrize(
    "header", [[], ["path" + ",number" * 10], ["202599", "lefteye_x lefteye_y righteye_x"]]
)
def test_both_orders_and_every_separator(
    tmp_path: Path, separator: str, by_coordinate: bool, header: list[str]
) -> None:
    lines = [
        separator.join([f"p/{number}.jpg", *_row(face, by_coordinate)]) for number, face in enumerate(FACES)
    ]
    points = Landmarks(_file(tmp_path, header + lines))
    assert (len(points), points.by_coordinate) == (len(FACES), by_coordinate)
    for number, face in enumerate(FACES):
        found = points.find(IMAGES, IMAGES / "p" / f"{number}.jpg")
        assert found is not None
        np.testing.assert_allclose(found, face, atol=0.01)
    assert points.find(IMAGES, IMAGES / "p" / "9.jpg") is None


@pytest.mark.parametrize(
    "name",
    ["p/1.jpg", "./p/1.jpg", "faces/p/1.jpg", "1.jpg", str(Path("faces/p/1.jpg").absolute()), "p\\1.jpg"],
)
def test_a_file_is_found_by_each_of_its_names(tmp_path: Path, name: str) -> None:
    points = Landmarks(_file(tmp_path, [" ".join([name, *_row(FACES[0])])]))
    assert points.find(IMAGES, IMAGES / "p" / "1.jpg") is not None


def test_labels_and_boxes_between_path_and_points_are_passed_over(tmp_path: Path) -> None:
    lines = [
        " ".join(["my people/ann 1/a b.jpg", "17", "0.99", "1", "2", "3", "4", *_row(FACES[0])]),
        ",".join(['"c, d.jpg"', "5", *_row(FACES[1])]),
    ]
    points = Landmarks(_file(tmp_path, lines))
    for path, face in (("my people/ann 1/a b.jpg", FACES[0]), ("c, d.jpg", FACES[1])):
        found = points.find(IMAGES, IMAGES / path)
        assert found is not None
        np.testing.assert_allclose(found, face, atol=0.01)


def test_of_two_faces_in_one_image_the_first_counts(tmp_path: Path) -> None:
    points = Landmarks(_file(tmp_path, [" ".join(["a.jpg", *_row(face)]) for face in FACES[:2]]))
    found = points.find(IMAGES, IMAGES / "p" / "a.jpg")
    assert found is not None
    np.testing.assert_allclose(found, FACES[0], atol=0.01)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([""], "no line has a path and ten numbers"),
        (["a.jpg 1 2 3"], "no line has a path and ten numbers"),
        ([" ".join(["a.jpg", *_row(FACES[0])]), "b.jpg 1 2 3"], "line 2: expected a path and ten n"),
        (["x", "y", "z", " ".join(["a.jpg", *_row(FACES[0])])], "line 3: expected a path"),
        ([" ".join(["a.jpg", *_row(FACES[0])[:9], "nan"])] * 3, "line 3: expected a path"),
        ([" ".join(["a.jpg", *["5"] * 10])], "the points are no faces"),
        # Left and right exchanged.
        ([" ".join(["a.jpg", *_row(face[[1, 0, 2, 4, 3]])]) for face in FACES], "the points are no faces"),
        # Upside down would be turned: the mouth first is not.
        ([" ".join(["a.jpg", *_row(face[[3, 4, 2, 0, 1]])]) for face in FACES], "the points are no faces"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_points_is_one_line(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(LandmarksError, match=reason) as caught:
        Landmarks(_file(tmp_path, lines))
    assert str(caught.value).startswith(f"{tmp_path / 'points.txt'}: ")
    assert "\n" not in str(caught.value)


def test_binary_files_and_missing_ones_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(LandmarksError, match=r"points\.txt: cannot be read: No such file"):
        Landmarks(tmp_path / "points.txt")
    (tmp_path / "points.txt").write_bytes(np.random.default_rng(0).bytes(300_000))
    with pytest.raises(LandmarksError, match="points"):
        Landmarks(tmp_path / "points.txt")


@pytest.mark.parametrize("size", [(112, 112), (112, 96)])
def test_listed_points_come_onto_the_template(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = tmp_path / "faces" / "ann"
    folder.mkdir(parents=True)
    lines = ["path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"]
    for number, face in enumerate(FACES[:4]):
        # A disk of its own colour at each point.
        image = np.zeros((700, 700, 3), dtype=np.uint8)
        for point in face:
            cv2.circle(image, tuple(np.rint(point).astype(int).tolist()), 9, (0, 255, 0), -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        if number < 3:
            lines.append(",".join([f"ann/{number}.png", *_row(face)]))
    report = pack(tmp_path / "faces", tmp_path / "out", align="landmarks",
                  landmarks=_file(tmp_path, lines), size=size, workers=1)  # fmt: skip
    assert [(path.name, reason) for path, reason in report.skipped] == [
        ("3.png", "no line in the landmarks file")
    ]
    expected = TEMPLATE_112 - ((112 - size[1]) / 2, 0)
    with FaceDataset.open(tmp_path / "out") as dataset:
        assert dataset.image_size == size
        for index in range(3):
            image = decode_image(dataset.payload(index))
            assert image is not None
            assert image.shape == (*size, 3)
            for x, y in expected:
                # The faces are off the template by about three pixels a point.
                around = image[max(0, int(y) - 6) : int(y) + 7, max(0, int(x) - 6) : int(x) + 7]
                assert around[..., 1].max() > 128


def test_points_that_know_none_of_the_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "faces" / "ann").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "faces" / "ann" / "1.png"), np.zeros((50, 50, 3), np.uint8))
    file = _file(tmp_path, [" ".join(["b/2.png", *_row(FACES[0])])])
    with pytest.raises(DatasetError, match=r"none of its 1 paths is one of .*faces, such as ann/1\.png"):
        pack(tmp_path / "faces", tmp_path / "out", align="landmarks", landmarks=file, workers=1)
    with pytest.raises(DatasetError, match="go together"):
        pack(tmp_path / "faces", tmp_path / "out", align="landmarks", workers=1)
    assert not (tmp_path / "out").exists()


def _turned(yaw: float, seed: int) -> np.ndarray:
    """The points of a face turned by `yaw` degrees: at 60 and more, in profile."""
    random = np.random.default_rng(seed)
    depth = np.array((0, 0, 18, 2, 2))
    flat = TEMPLATE_112 - (56, 72)
    turned = flat * (np.cos(np.radians(yaw)), 1)
    turned[:, 0] += depth * np.sin(np.radians(yaw))
    return np.asarray(
        (turned + random.normal(0, 0.5, (5, 2))) * random.uniform(0.5, 3) + random.uniform(90, 200, 2)
    )


def _box(face: np.ndarray) -> list[str]:
    return [f"{value:.0f}" for value in (*face.min(0) - 20, *face.max(0) + 20)]


OTHERS = {
    "a score": lambda number, face: ["0.95"],
    "two scores": lambda number, face: ["0.95", f"{0.9 + number / 100:.2f}"],
    "a class": lambda number, face: [str(number // 8)],
    "a large class": lambda number, face: [str(69_003_000 + 7 * number)],
    "an age": lambda number, face: [str(20 + number)],
    "angles": lambda number, face: [f"{number - 20}", f"{5 - number / 3:.2f}", "0.0"],
    "a box": lambda number, face: _box(face),
    "a box and a score": lambda number, face: [*_box(face), "0.998"],
    "a word": lambda number, face: ["frontal" if number % 2 else "profile"],
}  # fmt: skip


@pytest.mark.parametrize("by_coordinate", [False, True])
@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("yaw", [0, 70])
def test_the_columns_that_are_faces_are_found_among_others(
    tmp_path: Path, other: str, behind: bool, by_coordinate: bool, yaw: float
) -> None:
    faces = [_turned(yaw if number % 2 else -yaw, number) for number in range(40)]
    lines = []
    for number, face in enumerate(faces):
        more, row = OTHERS[other](number, face), _row(face, by_coordinate)
        if other == "a word" and not behind:
            more = []  # it would be taken for the path's end
        lines.append(" ".join([f"p/{number}.jpg", *(row + more if behind else more + row)]))
    points = Landmarks(_file(tmp_path, lines))
    assert points.by_coordinate == by_coordinate
    for number, face in enumerate(faces):
        found = points.find(IMAGES, IMAGES / "p" / f"{number}.jpg")
        assert found is not None
        np.testing.assert_allclose(found, face, atol=0.006)


def test_profiles_pass_that_lie_as_far_off_the_template_as_wrong_orders_do(tmp_path: Path) -> None:
    faces = [_turned(yaw, number) for number, yaw in enumerate((65, -65, 70, -70, 75, -75, 80, -80))]
    eyes = np.linalg.norm(TEMPLATE_112[1] - TEMPLATE_112[0])
    for face in faces:
        matrix = similarity(face, TEMPLATE_112)
        placed = face @ matrix[:, :2].T + matrix[:, 2]
        assert 0.27 < np.sqrt(((placed - TEMPLATE_112) ** 2).sum(axis=1).mean()) / eyes < 0.42
    points = Landmarks(_file(tmp_path, [" ".join([f"{k}.jpg", *_row(face)]) for k, face in enumerate(faces)]))
    assert not points.by_coordinate
    found = points.find(IMAGES, IMAGES / "p" / "3.jpg")
    assert found is not None
    np.testing.assert_allclose(found, faces[3], atol=0.006)


@pytest.mark.parametrize("other", [None, *OTHERS])
@pytest.mark.parametrize("by_coordinate", [False, True])
@pytest.mark.parametrize(
    ("order", "seen"),
    [
        ([2, 0, 1, 3, 4], "nose, left_eye, right_eye, mouth_left, mouth_right"),
        ([0, 1, 2, 4, 3], "left_eye, right_eye, nose, mouth_right, mouth_left"),
        ([1, 0, 2, 4, 3], "right_eye, left_eye, nose, mouth_right, mouth_left"),
        ([0, 1, 3, 4, 2], "left_eye, right_eye, mouth_left, mouth_right, nose"),
    ],
)
def test_points_in_another_order_are_refused_and_the_order_is_named(
    tmp_path: Path, order: list[int], seen: str, by_coordinate: bool, other: str | None
) -> None:
    lines = []
    for number in range(30):
        face = _turned(3 * number - 45, number)
        more = OTHERS[other](number, face) if other else []
        lines.append(" ".join([f"p/{number}.jpg", *_row(face[order], by_coordinate), *more]))
    with pytest.raises(LandmarksError, match=r"points\.txt: the points are no faces") as caught:
        Landmarks(_file(tmp_path, lines))
    assert f"(they look like {seen})" in str(caught.value)


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, list[tuple[str, np.ndarray]]]:
    """A folder of three people's photographs, and the points in each."""
    listed = []
    random = np.random.default_rng(0)
    for number in range(12):
        name = f"n{number // 4:06}/{number % 4:04}_01.jpg"
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(small, (300, 300)))
        listed.append((name, _turned(4 * number - 20, number) * 0.6))
    return tmp_path / "faces", listed


LISTS = {
    "a score behind": lambda name, row, turned: " ".join([name, *row, "0.95"]),
    "VGGFace2's": lambda name, row, turned: ",".join([f'"{name[:-4]}"', *row]),
    "insightface's .lst": lambda name, row, turned: "\t".join(
        ["0", f"faces/{name}", str(int(name[1:7])), "10", "20", "250", "260", *turned]
    ),
    "insightface's .lst, absolute": lambda name, row, turned: "\t".join(
        ["0", f"ROOT/faces/{name}", str(int(name[1:7])), "10", "20", "250", "260", *turned]
    ),
    "another suffix": lambda name, row, turned: " ".join([name.replace(".jpg", ".png"), *row]),
    "a suffix in capitals": lambda name, row, turned: " ".join([name.replace(".jpg", ".JPG"), *row]),
    "a number in front": lambda name, row, turned: " ".join(["17", name, *row]),
    "semicolons and a box": lambda name, row, turned: ";".join([name, "1", "2", "290", "295", *row]),
}  # fmt: skip


@pytest.mark.parametrize("form", LISTS)
def test_lists_as_they_are_handed_out_give_the_records_of_the_plain_one(
    tmp_path: Path, photographs: tuple[Path, list[tuple[str, np.ndarray]]], form: str
) -> None:
    images, listed = photographs
    plain = [" ".join([name, *_row(face)]) for name, face in listed]
    handed_out = [
        LISTS[form](name, _row(face), _row(face, by_coordinate=True)).replace("ROOT", str(tmp_path))
        for name, face in listed
    ]
    if form == "VGGFace2's":
        handed_out.insert(
            0, "NAME_ID," + ",".join(f"P{point}{axis}" for point in range(1, 6) for axis in "XY")
        )
    records = []
    for place, lines in enumerate((plain, handed_out)):
        report = pack(
            images, tmp_path / f"out{place}", align="landmarks", landmarks=_file(tmp_path, lines), workers=1
        )
        assert (report.num_images, report.skipped) == (12, [])
        records.append((tmp_path / f"out{place}" / "train.rec").read_bytes())
    assert records[0] == records[1]


def test_a_bare_file_name_that_several_images_have_is_refused(
    tmp_path: Path, photographs: tuple[Path, list[tuple[str, np.ndarray]]]
) -> None:
    images, listed = photographs
    file = _file(tmp_path, [" ".join([Path(name).name, *_row(face)]) for name, face in listed[:4]])
    with pytest.raises(
        DatasetError, match=r"points\.txt: .*0000_01\.jpg.* and .*0000_01\.jpg.*from .*faces on"
    ):
        pack(images, tmp_path / "out", align="landmarks", landmarks=file, workers=1)


def test_a_file_of_another_suffix_beside_the_listed_one_is_not_given_its_points(
    tmp_path: Path, photographs: tuple[Path, list[tuple[str, np.ndarray]]]
) -> None:
    images, listed = photographs
    beside = images / listed[0][0].replace(".jpg", ".png")
    cv2.imwrite(str(beside), np.zeros((50, 50, 3), np.uint8))
    file = _file(tmp_path, [" ".join([name, *_row(face)]) for name, face in listed])
    report = pack(images, tmp_path / "out", align="landmarks", landmarks=file, workers=1)
    assert report.skipped == [(beside, "no line in the landmarks file")]
