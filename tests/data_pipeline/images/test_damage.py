"""Damage by kind: what the check for every image, a libjpeg whose warnings count, OpenCV and DALI say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from data_pipeline import FaceDataset
from data_pipeline.images.decode import decode_image
from data_pipeline.images.jpeg import decode_strictly
from data_pipeline.images.soundness import _look_closely, damage, damages, is_usual_jpeg
from data_pipeline.inspection.look import decode_all, look_at

Payload = npt.NDArray[np.uint8]
random = np.random.default_rng(4)
COARSE = random.integers(0, 256, (14, 14, 3), dtype=np.uint8)
IMAGE = cv2.resize(COARSE, (112, 112), interpolation=cv2.INTER_CUBIC)


def encoded(kind: str = ".jpg", image: npt.NDArray[np.uint8] = IMAGE, *options: int) -> bytes:
    return bytes(cv2.imencode(kind, image, list(options))[1].tobytes())


WHOLE = encoded()
PROGRESSIVE = encoded(".jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encoded(".jpg", IMAGE, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
GREY = encoded(".jpg", cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY))
FULL_COLOUR = encoded(".jpg", IMAGE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
SCAN = WHOLE.index(b"\xff\xda") + 14
HALF = (SCAN + len(WHOLE)) // 2
FRAME = WHOLE.index(b"\xff\xc0")
END = b"\xff\xd9"


def with_frame(place: int, *values: int) -> bytes:
    """The whole file with other bytes from `place` of its frame header on."""
    return WHOLE[: FRAME + place] + bytes(values) + WHOLE[FRAME + place + len(values) :]


# name: bytes, what the check for every image says, or a reading of all data where that finds nothing.
SOUND = {
    "whole": WHOLE,
    "progressive": PROGRESSIVE,
    "with restarts": RESTARTS,
    "grey": GREY,
    "full colour": FULL_COLOUR,
    "junk behind": WHOLE + b"junk",
    "zeros behind": WHOLE + bytes(100),
    "png": encoded(".png"),
    "webp": encoded(".webp"),
    "bmp": encoded(".bmp"),
    "tiff": encoded(".tiff"),
    "ppm": encoded(".ppm"),
    "jpeg 2000": encoded(".jp2"),
}
SEEN_AT_ONCE = {
    "empty": (b"", "holds no image"),
    "text": (b"hello world, no image", "neither JPEG, PNG"),
    "two bytes": (WHOLE[:2], "header cannot be read"),
    "head alone": (WHOLE[:SCAN], "Premature end of JPEG file"),
    "no end marker": (WHOLE[:-2], "Premature end of JPEG file"),
    "half an end marker": (WHOLE[:-1], "Premature end of JPEG file"),
    "cut off": (WHOLE[:HALF], "Premature end of JPEG file"),
    "cut off, zeros": (WHOLE[:HALF] + bytes(len(WHOLE) - HALF), "Corrupt JPEG data|Premature end"),
    "progressive, cut off": (PROGRESSIVE[: len(PROGRESSIVE) // 2], "Premature end of JPEG file"),
    "head of zeros": (WHOLE[:20] + bytes(200) + WHOLE[220:], "header cannot be read"),
    "12 bits": (with_frame(4, 12), "header cannot be read|precision"),
    "lossless": (with_frame(1, 0xC3), "libjpeg says|header cannot be read"),
    "height 0": (with_frame(5, 0, 0), "header cannot be read"),
    "huge": (with_frame(5, 0xFF, 0xFF, 0xFF, 0xFF), "header cannot be read|65535 x 65535 pixels"),
    "too large": (with_frame(5, 0x40, 0, 0x40, 0), "16384 x 16384 pixels, more than 100 megapixels"),
    "too large for its bytes": (with_frame(5, 0x20, 0, 0x20, 0), "Premature end|Corrupt JPEG data"),
    "png, cut off": (encoded(".png")[:3000], "PNG file is cut off"),
    "webp, cut off": (encoded(".webp")[:300], "WebP file is cut off"),
}
SEEN_IN_THE_DATA = {
    "cut off, end marker": (WHOLE[:HALF] + END, "premature end of data segment"),
    "zeros, end marker": (WHOLE[:HALF] + bytes(500) + END, "Corrupt JPEG data"),
    "no data": (WHOLE[:SCAN] + END, "premature end of data segment"),
    "a marker inside": (WHOLE[:HALF] + b"\xff\xd3" + WHOLE[HALF:], "premature end of data segment"),
    "bytes inserted": (WHOLE[:-2] + bytes(range(1, 60)) + END, "extraneous bytes before marker 0xd9"),
    "a restart lost": (RESTARTS.replace(b"\xff\xd1", b"\x12\x34", 1), "Corrupt JPEG data"),
}


def payload(data: bytes) -> Payload:
    return np.frombuffer(data, dtype=np.uint8)


@contextmanager
def quiet() -> Iterator[None]:
    """libjpeg and DALI write to the file behind standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@pytest.mark.parametrize("name", list(SOUND))
def test_sound_images(name: str) -> None:
    data = payload(SOUND[name])
    assert damage(data) is None
    image, expected = decode_all(data), decode_image(data.data)
    assert expected is not None
    assert not isinstance(image, str)
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("name", list(SEEN_AT_ONCE))
def test_what_the_structure_shows(name: str) -> None:
    data, reason = SEEN_AT_ONCE[name]
    with pytest.raises(ValueError, match=f"its image cannot be decoded: .*{reason}"):
        raise ValueError(damage(payload(data)))
    assert look_at(payload(data)).problem == (damage(payload(data)) if data else "the record holds no image")


@pytest.mark.parametrize("name", list(SEEN_IN_THE_DATA))
def test_what_the_coded_data_show(name: str) -> None:
    data, reason = SEEN_IN_THE_DATA[name]
    assert damage(payload(data)) is None
    with pytest.raises(ValueError, match=reason):
        raise ValueError(decode_all(payload(data)))
    # libjpeg makes an image of it all the same.
    with quiet():
        assert decode_image(data) is not None


@pytest.mark.dali
def test_dali_and_opencv_agree_on_every_case() -> None:
    from data_pipeline.loader.dali.pipeline import decodes

    cases = {
        **SOUND,
        **{name: case[0] for name, case in SEEN_AT_ONCE.items()},
        **{name: case[0] for name, case in SEEN_IN_THE_DATA.items()},
    }
    # OpenCV and DALI would set aside up to 768 MiB for these and fill them with grey.
    del cases["too large"], cases["too large for its bytes"]
    with quiet():
        found = {
            name: (decodes(payload(data)), decode_image(data) is not None) for name, data in cases.items()
        }
    # Zeros behind may decode as blocks, right or wrong: then both make an image of half a file.
    assert len(set(found.pop("cut off, zeros"))) == 1
    refused = set(SEEN_AT_ONCE)
    assert found == {name: (name not in refused, name not in refused) for name in found}


def test_a_batch_names_its_places() -> None:
    cases = [WHOLE, b"", PROGRESSIVE, WHOLE[:-2]]
    assert list(damages([payload(data) for data in cases])) == [1, 3]


def warned(data: bytes, capfd: pytest.CaptureFixture[str]) -> bool:
    image = decode_image(data)
    return image is None or bool(capfd.readouterr().err)


def mutated(data: bytes, kind: int, at: float) -> bytes:
    scan = data.index(b"\xff\xda") + 14
    place = scan + int(at * (len(data) - scan - 40))
    changes: list[Callable[[], bytes]] = [
        lambda: data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :],
        lambda: data[:place] + END,
        lambda: data[:place] + bytes(30) + data[place + 30 :],
        lambda: data[:place] + data[place + 1 + place % 5 :],
    ]
    return changes[kind]()


def test_whatever_libjpeg_warns_of_is_found(capfd: pytest.CaptureFixture[str]) -> None:
    numbers = np.random.default_rng(0)
    warnings = 0
    for turn in range(400):
        data = mutated((WHOLE, RESTARTS, GREY, FULL_COLOUR)[turn % 4], turn // 4 % 4, float(numbers.random()))
        if warned(data, capfd):
            warnings += 1
            assert isinstance(decode_strictly(payload(data)), str) or damage(payload(data)), turn
    assert warnings > 150


def test_the_close_look_finds_fault_only_with_data_where_the_quick_one_finds_none_and_neither_crashes() -> (
    None
):
    numbers = np.random.default_rng(0)
    for turn in range(3000):
        data = bytearray((WHOLE, RESTARTS, GREY, PROGRESSIVE)[turn % 4])
        for _ in range(1 + turn % 3):
            data[int(numbers.integers(len(data) if turn % 2 else 620))] = int(numbers.integers(256))
        data = data[: int(numbers.integers(len(data)))] if turn % 7 == 0 else data
        quick, close = is_usual_jpeg(payload(bytes(data))), _look_closely(bytes(data))
        # What follows the headers the quick look leaves to whoever reads everything.
        if quick and close:
            with quiet():
                assert close.startswith("libjpeg says: ") or decode_image(bytes(data)) is None, (turn, close)


@pytest.mark.real_faces
def test_real_sets_are_sound(shared_data: Path) -> None:
    with FaceDataset.open(shared_data / "glint16") as dataset:
        payloads = dataset.payloads(np.arange(dataset.num_images))
        assert damages(payloads) == {}
        assert not [each for each in map(decode_strictly, payloads) if isinstance(each, str)]
