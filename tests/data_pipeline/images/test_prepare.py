"""Files of every kind that lie about in image folders."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.images.decode import decode_image
from data_pipeline.images.header import read_header
from data_pipeline.images.prepare import Preparation, prepare_file
from data_pipeline.pack.pack import pack
from data_pipeline.rendered import render_face
from tests.waiting import patience_s

HEIGHT, WIDTH = 40, 60
RED = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
RED[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)  # red at the top left, black elsewhere


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


PICTURE = Image.fromarray(RED)
FORMS = {
    "jpeg": _encoded(PICTURE, "JPEG", quality=95),
    "progressive": _encoded(PICTURE, "JPEG", quality=95, progressive=True),
    "cmyk": _encoded(PICTURE.convert("CMYK"), "JPEG", quality=95),
    "png": _encoded(PICTURE, "PNG"),
    "rgba": _encoded(PICTURE.convert("RGBA"), "PNG"),
    "palette": _encoded(PICTURE.convert("P"), "PNG"),
    "webp": _encoded(PICTURE, "WEBP", quality=95),
    "lossless webp": _encoded(PICTURE, "WEBP", lossless=True),
    "animated webp": _encoded(
        PICTURE, "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(255 - RED)]
    ),
    "bmp": _encoded(PICTURE, "BMP"),
    "ppm": _encoded(PICTURE, "PPM"),
    "tiff": _encoded(PICTURE, "TIFF"),
    "jpeg 2000": _encoded(PICTURE, "JPEG2000"),
    "jpeg 2000 without a box": _encoded(PICTURE, "JPEG2000", no_jp2=True),
    "16 bits": cv2.imencode(".png", RED[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_rgb_of_8_bits(tmp_path: Path, form: str) -> None:
    (tmp_path / "image").write_bytes(FORMS[form])
    result = prepare_file(Preparation(size=(HEIGHT, WIDTH), quality=100, keep=()), tmp_path / "image")
    assert result.problem is None
    assert result.payload is not None
    image = decode_image(result.payload)
    assert image is not None
    assert np.abs(image[5:15, 5:20].astype(int) - (255, 0, 0)).max() < 12
    assert image[25:].max() < 12


@pytest.mark.parametrize("form", FORMS)
def test_a_header_says_the_size(form: str) -> None:
    header = read_header(FORMS[form])
    assert header is not None
    assert (header.height, header.width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_stays_grey(tmp_path: Path, mode: str) -> None:
    (tmp_path / "image").write_bytes(_encoded(PICTURE.convert(mode), "PNG"))
    result = prepare_file(Preparation(size=(HEIGHT, WIDTH)), tmp_path / "image")
    assert result.payload is not None
    image = decode_image(result.payload)
    assert image is not None
    assert np.ptp(image.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = PICTURE if orientation in (1, 2, 3, 4) else PICTURE.transpose(Image.Transpose.TRANSPOSE)
    # The oracle: Pillow's own turning of the same file.
    from PIL import ImageOps

    content = _encoded(PICTURE, "JPEG", quality=100, exif=_turned(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert expected.shape[:2] == (upright.height, upright.width)
    (tmp_path / "image.jpg").write_bytes(content)
    # Under --align none a file of the size is kept byte for byte, but not one that has to be turned.
    size = (expected.shape[0], expected.shape[1])
    result = prepare_file(Preparation(size=size, quality=100), tmp_path / "image.jpg")
    assert result.payload is not None
    # Whoever reads the set need not know of EXIF.
    image = cv2.imdecode(
        np.frombuffer(result.payload, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )
    assert np.abs(image[..., ::-1].astype(int) - expected).mean() < 3


def test_what_has_the_size_is_kept_byte_for_byte(tmp_path: Path) -> None:
    size = (HEIGHT, WIDTH)
    grey = _encoded(PICTURE.convert("L"), "JPEG")
    for content, keep, kept in (
        (FORMS["jpeg"], ("jpeg",), True),
        (grey, ("jpeg",), True),
        (FORMS["png"], ("jpeg",), False),
        (FORMS["png"], ("jpeg", "png"), True),
        (FORMS["jpeg"], (), False),
        (FORMS["cmyk"], ("jpeg",), False),
        (FORMS["rgba"], ("png",), False),
        (FORMS["palette"], ("png",), False),
        (FORMS["16 bits"], ("png",), False),
    ):
        (tmp_path / "image").write_bytes(content)
        result = prepare_file(Preparation(size=size, keep=keep), tmp_path / "image")
        assert (result.payload == content) == kept
        assert result.payload is not None
    (tmp_path / "image").write_bytes(FORMS["jpeg"])
    other_size = prepare_file(Preparation(size=(HEIGHT, HEIGHT)), tmp_path / "image")
    assert other_size.payload != FORMS["jpeg"]


def _png_bomb(side: int) -> bytes:
    """A grey PNG of side × side black pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compressobj(9)
    row = bytes(side + 1)
    pixels = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_bomb(12_000))
    assert (tmp_path / "bomb.png").stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = prepare_file(Preparation(), tmp_path / "bomb.png")
    assert (result.payload, result.problem) == (None, "12000 x 12000 pixels, more than 100 megapixels")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB; decoded: 420,000


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    form=st.sampled_from(sorted(FORMS)),
    place=st.integers(0, 200),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_header_is_a_size_or_none(form: str, place: int, byte: int, cut: bool) -> None:
    content = bytearray(FORMS[form])
    content[place % len(content)] = byte
    header = read_header(bytes(content[: place + 1] if cut else content))
    assert header is None or (header.width >= 0 and header.height >= 0)


def test_what_lies_about_neither_hangs_nor_stops_a_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    folder = images / "ann"
    folder.mkdir(parents=True)
    face = cv2.imencode(".png", render_face(0, 0, size=64)[..., ::-1])[1].tobytes()
    (folder / "with a space.png").write_bytes(face)
    not_utf8 = os.fsencode(folder) + b"/caf\xe9.png"
    Path(os.fsdecode(not_utf8)).write_bytes(face)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(FORMS["jpeg"][:-40])
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "inside").symlink_to(folder, target_is_directory=True)
    (images / "around").symlink_to(images, target_is_directory=True)
    (images / "self").symlink_to("self")
    report = pack(images, tmp_path / "out", size=(64, 64), workers=1)
    assert report.num_images == 2
    reasons = {os.fsencode(path.name): reason for path, reason in report.skipped}
    assert reasons.pop(b"inside").startswith("a linked folder inside")
    assert reasons.pop(b"around").startswith("a link to a folder that it lies in")
    assert reasons == {
        b"\xff.txt": "no image that can be decoded",
        b"empty.jpg": "no image that can be decoded",
        b"cut.jpg": "no image that can be decoded",
        b"pipe.jpg": "no regular file",
        b"broken.jpg": "No such file or directory",
        b"self": "not in an identity's folder",
    }
    assert b"caf" not in (tmp_path / "out" / "skipped.csv").read_bytes()
    assert b"/\xff.txt" in (tmp_path / "out" / "skipped.csv").read_bytes()


def test_names_that_are_not_utf8_can_be_printed(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "ann"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "1.png"), render_face(0, 0, size=64))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("no image")
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "pack", str(tmp_path / "images"), str(tmp_path / "out")],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        timeout=patience_s(120),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/\\xff.txt: no image that can be decoded" in done.stdout
