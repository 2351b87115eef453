"""insightface's `.bin`: read without being unpickled, written as it is read there."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.errors import PairSetError
from data_pipeline.images.decode import decode_image
from data_pipeline.pairs import PairSet, read_bin, write_bin

IMAGES = [bytes([255, 216, number]) * 5 for number in range(8)]
SAME = [True, False, True, False]


def _bin(tmp_path: Path, value: object, protocol: int) -> Path:
    path = tmp_path / "set.bin"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("bools", ["list", "numpy", "numbers"])
def test_real_forms_are_read(tmp_path: Path, protocol: int, as_array: bool, bools: str) -> None:
    images = [np.frombuffer(image, dtype=np.uint8) for image in IMAGES] if as_array else IMAGES
    same: object = {"list": SAME, "numpy": np.array(SAME), "numbers": [np.bool_(value) for value in SAME]}[
        bools
    ]
    pairs = read_bin(_bin(tmp_path, (images, same), protocol))
    assert (pairs.images, pairs.same, pairs.folds) == (IMAGES, SAME, 4)


FLAGS: dict[str, object] = {
    "whole numbers of numpy": [np.int64(1), np.int32(0), np.uint8(1), np.int8(0)],
    "an array of whole numbers": np.array([1, 0, 1, 0]),
    "an array in the other byte order": np.array([1, 0, 1, 0], dtype=">i4"),
    "an array of floats": np.array([1, 0, 1, 0], dtype=np.float32),
    "floats": [1.0, 0.0, 1.0, 0.0],
    "floats of numpy": [np.float64(1), np.float32(0), np.float16(1), np.float64(0)],
    "one and minus one": [1, -1, 1, -1],
    "an array of one and minus one": np.array([1, -1, 1, -1], dtype=np.int8),
    "floats of one and minus one": (1.0, -1.0, np.float64(1), np.int64(-1)),
    "arrays without a dimension": [np.array(value) for value in SAME],
    "arrays of one number": [np.array([value], dtype=np.int64) for value in (1, 0, 1, 0)],
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", FLAGS)
def test_flags_are_numbers_of_any_kind(tmp_path: Path, protocol: int, kind: str) -> None:
    assert read_bin(_bin(tmp_path, (IMAGES, FLAGS[kind]), protocol)).same == SAME


def test_columns_of_one_row_are_read(tmp_path: Path) -> None:
    images = [cv2.imencode(".jpg", np.full((8, 8, 3), number, dtype=np.uint8))[1] for number in range(2)]
    shaped = [image.reshape(-1, 1) for image in images]
    pairs = read_bin(_bin(tmp_path, [shaped, [False]], 4))
    assert pairs.images == [image.tobytes() for image in images]


def test_python_2_strings_are_read(tmp_path: Path) -> None:
    # Protocol 2 of Python 2: images are BINSTRINGs, which hold bytes.
    strings = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in IMAGES)
    (tmp_path / "set.bin").write_bytes(b"\x80\x02](" + strings + b"e](\x88\x89\x88\x89e\x86.")
    assert read_bin(tmp_path / "set.bin").images == IMAGES


def test_what_is_written_insightface_reads(tmp_path: Path) -> None:
    write_bin(tmp_path / "new" / "set.bin", PairSet(IMAGES, SAME))
    with (tmp_path / "new" / "set.bin").open("rb") as file:
        assert pickle.load(file, encoding="bytes") == (IMAGES, SAME)
    assert read_bin(tmp_path / "new" / "set.bin").images == IMAGES
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set.bin"]


@pytest.mark.real_faces
def test_the_fields_own_file_is_read(shared_data: Path) -> None:
    pairs = read_bin(shared_data / "glint4.bin")
    assert (len(pairs), sum(pairs.same), pairs.folds) == (600, 300, 10)
    image = decode_image(pairs.images[0])
    assert image is not None
    assert image.shape == (112, 112, 3)
    with (shared_data / "glint4.bin").open("rb") as file:
        images, same = pickle.load(file, encoding="bytes")  # the project's own data, known to be harmless
    assert (pairs.images, pairs.same) == (images, same)


class _Evil:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def test_foreign_names_are_never_called(tmp_path: Path) -> None:
    mark = tmp_path / "called"
    for evil in (_Evil(Path.touch, (mark,)), _Evil(print, ("called",)), _Evil(bytearray, (1 << 40,))):
        for protocol in (0, 2, 4):
            path = _bin(tmp_path, (IMAGES, [evil] * 4), protocol)
            with pytest.raises(PairSetError, match=r"set\.bin: not a pair set: it names "):
                read_bin(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "pickle exhausted|EOF|ended"),
        (b"no pickle at all", "not a pair set"),
        (pickle.dumps((IMAGES, SAME))[:-20], "not a pair set"),
        (pickle.dumps((IMAGES, SAME)) + b"more", "4 bytes after its end"),
        (pickle.dumps({"a": 1}), "opcode EMPTY_DICT"),
        (pickle.dumps((IMAGES, SAME, 1)), "no pair of lists"),
        (pickle.dumps((IMAGES, 7)), "bools are no list"),
        (pickle.dumps((IMAGES, SAME[:3])), "8 images for 3 pairs"),
        (pickle.dumps(([], [])), "no pair"),
        (pickle.dumps(([*IMAGES[:7], "text"], SAME)), "image 7 is no encoded image"),
        (pickle.dumps((IMAGES, [True, 2, True, True])), "pair 1 is marked neither"),
        (pickle.dumps((IMAGES, [1.0, 0.5, 1.0, 1.0])), "pair 1 is marked neither"),
        (pickle.dumps((IMAGES, [1.0, float("nan"), 1.0, 1.0])), "pair 1 is marked neither"),
        (pickle.dumps((IMAGES, np.array([1, 0, 1, -2]))), "pair 3 is marked neither"),
        (pickle.dumps((IMAGES, [np.zeros(4)] * 4)), "pair 0 is marked neither"),
        (pickle.dumps((IMAGES, [1, 0, 1, -1])), "marked with 0 and with -1"),
        (pickle.dumps((IMAGES, np.array([1j] * 4))), "numpy array of 'c16'"),
        (pickle.dumps((IMAGES, np.array(SAME, dtype=object))), "numpy array of 'O8'"),
        (pickle.dumps(([np.zeros(4)] * 8, SAME)), "numpy array of 'f8'"),
        (pickle.dumps(([np.zeros((4, 4), dtype=np.uint8)] * 8, SAME)), "one dimension"),
        # A memo index that would make the unpickler allocate 32 GB.
        (b"\x80\x02]r\xff\xff\xff\xff.", "memo index"),
        # State for a stand-in, for a list, and a call of no function.
        (b"\x80\x02c_codecs\nencode\n]b.", "state for a function"),
        (b"\x80\x02]]b.", "not a pair set"),
        (b"\x80\x02])R.", "not a pair set"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "other than latin1"),
        (b"(" * 200_000 + b"t" * 200_000 + b".", "not a pair set"),
    ],
)
def test_what_is_no_pair_set_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "set.bin"
    path.write_bytes(content)
    with pytest.raises(PairSetError, match=reason) as caught:
        read_bin(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_one_text_does_not_become_many_bytes(tmp_path: Path) -> None:
    text = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000
    call = b"c_codecs\nencode\nq\x00"
    again = b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R"
    path = tmp_path / "set.bin"
    path.write_bytes(b"\x80\x02" + text + b"q\x010" + call + b"0](" + again * 50 + b"e](e\x86.")
    with pytest.raises(PairSetError, match=f"it makes more bytes than its own {path.stat().st_size};"):
        read_bin(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PairSetError, match=r"set\.bin: cannot be read: No such file"):
        read_bin(tmp_path / "set.bin")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), protocol=st.sampled_from([0, 2, 4]))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, place: int, byte: int, protocol: int) -> None:
    content = bytearray(
        pickle.dumps(([np.frombuffer(image, dtype=np.uint8) for image in IMAGES], SAME), protocol)
    )
    content[place % len(content)] = byte
    (tmp_path / "set.bin").write_bytes(content)
    try:
        pairs = read_bin(tmp_path / "set.bin")
    except PairSetError:
        return
    assert len(pairs.images) == 2 * len(pairs)
