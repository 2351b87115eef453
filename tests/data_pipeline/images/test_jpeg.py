"""JPEG files read with libjpeg's warnings heard, and PNG files read without a line on standard error."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_pipeline import FaceDataset
from data_pipeline.images.decode import decode_image
from data_pipeline.images.jpeg import JpegHeader, decode_strictly, jpeg_header, missing_data
from data_pipeline.images.png import png_damage, without_profile
from data_pipeline.images.soundness import damage
from data_pipeline.inspection.look import decode_all, look_at
from data_pipeline.rendered import render_face

FACE = Image.fromarray(render_face(0, 0, size=112))
END = b"\xff\xd9"


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def view(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, dtype=np.uint8)


WHOLE = encoded(FACE, "JPEG")
PNG = encoded(FACE, "PNG")
SCAN = WHOLE.index(b"\xff\xda") + 14


def grey_in_colours(sampling: list[tuple[int, int]], size: tuple[int, int] = (37, 50)) -> bytes:
    """A valid file whose every block is empty, its colours sampled (across, down) in any way.

    Its blocks are the code of no difference (00) and of no more coefficients (1010) in the usual tables.
    """
    tables, at = b"", 2
    while WHOLE[at + 1] != 0xDA:
        length = int.from_bytes(WHOLE[at + 2 : at + 4], "big") + 2
        tables += WHOLE[at : at + length] if WHOLE[at + 1] in (0xC4, 0xDB) else b""
        at += length
    count, (height, width) = len(sampling), size
    frame = struct.pack(">HBHHB", 8 + 3 * count, 8, height, width, count)
    frame += b"".join(bytes((n + 1, a << 4 | b, 0)) for n, (a, b) in enumerate(sampling))
    scan = struct.pack(">HB", 6 + 2 * count, count) + b"".join(bytes((n + 1, 0)) for n in range(count))
    across, down = (8 * max(pair[side] for pair in sampling) for side in (0, 1))
    blocks = -(-width // across) * -(-height // down) * sum(a * b for a, b in sampling)
    bits = "001010" * blocks
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"\xff\xd8" + tables + b"\xff\xc0" + frame + b"\xff\xda" + scan + b"\0\x3f\0" + data + END


@pytest.mark.parametrize(
    "sampling",
    [
        [(1, 1)],
        [(1, 1), (1, 1), (1, 1)],
        [(2, 2), (1, 1), (1, 1)],
        [(1, 2), (1, 1), (1, 1)],
        [(4, 1), (1, 1), (1, 1)],
        [(1, 1), (2, 1), (1, 2)],
        [(2, 2), (1, 1), (2, 1)],
        [(1, 1), (2, 2), (2, 2)],
    ],
)
def test_colours_sampled_in_any_way_are_no_damage(sampling: list[tuple[int, int]]) -> None:
    """For the last three simplejpeg has no name."""
    content = grey_in_colours(sampling)
    header = jpeg_header(content)
    assert (header[:2], damage(view(content)), missing_data(content)) == ((37, 50), None, None)
    image, expected = decode_strictly(content), decode_image(content)
    assert expected is not None
    assert np.array_equal(image, expected)
    # And with something behind, where the close look is taken.
    assert damage(view(content + b"behind")) is None
    assert damage(view(content[:-40] + b"behind")) is not None


@pytest.mark.parametrize(("mode", "colours"), [("L", "Gray"), ("RGB", "YCbCr"), ("CMYK", "CMYK")])
def test_the_header(mode: str, colours: str) -> None:
    assert jpeg_header(encoded(FACE.convert(mode).crop((0, 0, 70, 90)), "JPEG")) == JpegHeader(
        90, 70, colours
    )


def test_pixels_are_opencvs_and_turned_as_exif_says() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        content = encoded(FACE.crop((0, 0, 70, 90)), "JPEG", exif=exif)
        assert np.array_equal(decode_all(view(content)), decode_image(content))  # type: ignore[arg-type]
    for mode in ("L", "CMYK"):
        content = encoded(FACE.convert(mode), "JPEG", quality=90)
        assert np.array_equal(decode_all(view(content)), decode_image(content))  # type: ignore[arg-type]


def test_bytes_between_the_last_block_and_the_end_change_no_pixel() -> None:
    content = WHOLE[:-2] + bytes(range(1, 60)) + END
    assert missing_data(content) is None
    told = look_at(view(content)).problem
    assert told is not None
    assert re.fullmatch(r"libjpeg says: Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9", told)


@pytest.mark.parametrize("behind", [b"", b"\xff\xff"])
def test_a_size_that_a_header_states_is_not_set_aside(behind: bytes) -> None:
    frame = WHOLE.index(b"\xff\xc0")
    content = WHOLE[: frame + 5] + struct.pack(">HH", 65500, 65500) + WHOLE[frame + 9 :] + behind
    told = "65500 x 65500 pixels, more than 100 megapixels"
    assert decode_strictly(content) == told
    assert look_at(view(content)).problem == f"its image cannot be decoded: {told}"


@pytest.mark.real_faces
def test_damage_in_real_faces_is_found_as_often_as_libjpeg_tells(shared_data: Path) -> None:
    with FaceDataset.open(shared_data / "fiw") as dataset:
        images = np.linspace(0, dataset.num_images - 1, 40).astype(np.int64)
        faces = [bytes(payload) for payload in dataset.payloads(images)]
    random = np.random.default_rng(0)

    def found(contents: list[bytes]) -> int:
        return sum(isinstance(decode_strictly(content), str) for content in contents)

    def place(face: bytes, length: int) -> int:
        return int(random.integers(face.index(b"\xff\xda") + 14, len(face) - 2 - length))

    def zeroed(face: bytes) -> bytes:
        at = place(face, 200)
        return face[:at] + bytes(200) + face[at + 200 :]

    def turned(face: bytes) -> bytes:
        changed = bytearray(face)
        for _ in range(5):
            changed[place(face, 1)] ^= 1 << int(random.integers(8))
        return bytes(changed)

    assert found(faces) == 0
    assert found([face[: len(face) * 2 // 3] for face in faces]) == 40
    assert found([face[: len(face) * 2 // 3] + END for face in faces]) == 40
    assert found([zeroed(face) for face in faces]) >= 25
    assert found([turned(face) for face in faces]) >= 20


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """Behind the header of PNG."""
    return PNG[:33] + chunk(kind, body) + PNG[33:]


def test_png_checksums() -> None:
    assert png_damage(PNG) is None
    assert png_damage(PNG + b"behind") is None
    at = PNG.index(b"IDAT") + 100
    for place in (20, at, len(PNG) - 2):
        content = bytearray(PNG)
        content[place] ^= 1
        assert "checksum" in str(png_damage(bytes(content)))
    for length in range(8, len(PNG), 97):
        assert png_damage(PNG[:length]) is not None
    comment = bytearray(with_chunk(b"tEXt", b"a\0comment"))
    comment[45] ^= 1
    assert png_damage(bytes(comment)) is None


def test_a_damaged_png_and_an_odd_profile_write_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    damaged = bytearray(PNG)
    damaged[PNG.index(b"IDAT") + 100] ^= 1
    assert "checksum" in str(look_at(view(bytes(damaged))).problem)
    odd = with_chunk(b"iCCP", b"no\0\0profile")
    assert without_profile(odd) == PNG
    assert without_profile(PNG) is PNG
    assert look_at(view(odd)).pixel_hash == look_at(view(PNG)).pixel_hash
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [PNG[:8], PNG[:8] + b"iCCP", PNG[:8] + b"\xff\xff\xff\xffiCCP" + PNG[8:]])
def test_a_profile_without_sense_does_no_harm(content: bytes) -> None:
    assert isinstance(without_profile(content), bytes)
    assert decode_image(content) is None
