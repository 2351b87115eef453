"""What an image is: training, packing and inspecting name the same files, whatever decoder is installed."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline import GlobalOrder, TrainLoader, open_source
from data_pipeline.errors import DatasetError
from data_pipeline.images.decode import decode_image
from data_pipeline.images.formats import format_of, other_format
from data_pipeline.images.soundness import damage
from data_pipeline.inspection.inspect import inspect_dataset
from data_pipeline.loader.loader import DecoderName
from data_pipeline.pack.pack import pack

PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
).resize((112, 112), Image.Resampling.BICUBIC)  # fmt: skip
NAMES = {"GIF": "a GIF", "AVIF": "an AVIF"}


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, form)
    return buffer.getvalue()


def folder_of(path: Path, forms: list[str]) -> Path:
    """Ten images an identity, all of them called .jpg."""
    contents = {form: encoded(form) for form in set(forms)}
    for number, form in enumerate(forms):
        person = path / f"{number // 10:02}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{number % 10}.jpg").write_bytes(contents[form])
    return path


def named_by_inspect(folder: Path) -> set[Path]:
    damaged = inspect_dataset(folder, num_threads=1).damaged
    assert all(" it is a" in record.reason for record in damaged)
    return {record.origin.file for record in damaged}


def named_by_pack(folder: Path, out: Path) -> set[Path]:
    skipped = pack(folder, out, workers=1).skipped
    assert all(" it is a" in reason for _, reason in skipped)
    return {path for path, _ in skipped}


def named_by_training(folder: Path, decoder: DecoderName) -> set[Path]:
    source = open_source([folder])
    order = GlobalOrder(source.num_images, 0)
    with TrainLoader(source, order, batch_size=20, max_damaged=0.5, decoder=decoder) as batches:
        for _ in range(source.num_images // 20):
            next(batches)
        assert all(" it is a" in reason for reason in batches.damaged.reasons.values())
        return {source.origin(index).file for index in batches.damaged.reasons}


@pytest.mark.parametrize("decoder", [pytest.param("dali", marks=pytest.mark.dali), "opencv"])
@pytest.mark.parametrize("form", NAMES)
def test_one_among_two_hundred_is_named_by_all_three(tmp_path: Path, form: str, decoder: DecoderName) -> None:
    folder = folder_of(tmp_path / "set", ["JPEG"] * 137 + [form] + ["JPEG"] * 62)
    expected = {folder / "13" / "7.jpg"}
    assert named_by_inspect(folder) == expected
    assert named_by_pack(folder, tmp_path / "packed") == expected
    assert named_by_training(folder, decoder) == expected


@pytest.mark.parametrize("form", NAMES)
def test_a_folder_of_nothing_else_is_refused_and_listed(tmp_path: Path, form: str) -> None:
    folder = folder_of(tmp_path / "set", [form] * 20)
    every = set(folder.rglob("*.jpg"))
    reason = f"its image cannot be decoded: it is {NAMES[form]}, neither JPEG, PNG"
    with pytest.raises(DatasetError) as told:
        open_source([folder])
    first = re.escape(f"{folder}: none of 20 images looked at can be used: {folder}/00/0.jpg: {reason}")
    assert re.match(first, str(told.value))
    assert "\n" not in str(told.value)
    assert str(told.value).endswith("; and 17 more; `cosface inspect` lists all")
    with pytest.raises(DatasetError):
        pack(folder, tmp_path / "packed", workers=1)
    report = inspect_dataset(folder, num_threads=1)
    assert report.refusal == str(told.value)
    assert {record.origin.file for record in report.damaged} == every
    assert {record.reason.partition(", WebP")[0] for record in report.damaged} == {reason}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_what_is_an_image(form: str) -> None:
    content = encoded(form)
    assert format_of(content) == {"PPM": "pnm", "JPEG2000": "jp2"}.get(form, form.lower())
    assert damage(np.frombuffer(content, dtype=np.uint8)) is None
    assert decode_image(content) is not None


@pytest.mark.parametrize("form", ["GIF", "AVIF", "ICO", "TGA", "PCX", "DDS", "SGI"])
def test_what_is_none(form: str) -> None:
    content = encoded(form)
    assert format_of(content) is None
    assert other_format(content) == NAMES.get(form)
    assert decode_image(content) is None
    told = damage(np.frombuffer(content, dtype=np.uint8))
    assert told is not None
    assert "neither JPEG, PNG, WebP, BMP, TIFF, PNM nor JPEG 2000" in told


@pytest.mark.parametrize("head", [b"", b"\xff", b"B", b"P6", b"P7 1", b"P0 ", b"RIFF", b"Photo", b"hello"])
def test_a_few_bytes_are_none(head: bytes) -> None:
    assert format_of(head) is None
    assert other_format(head) is None


def test_a_picture_too_large_for_one_is_too_large_for_all(tmp_path: Path) -> None:
    """A PNM states what its pixels are and has none of them."""
    folder = folder_of(tmp_path / "set", ["JPEG"] * 20)
    (folder / "00" / "4.jpg").write_bytes(b"P6 12000 12000 255\n" + bytes(1000))
    told = "12000 x 12000 pixels, more than 100 megapixels"
    assert [reason for _, reason in pack(folder, tmp_path / "packed", workers=1).skipped] == [told]
    inspected = inspect_dataset(folder, num_threads=1).damaged
    assert [(record.origin.key, record.reason.partition(": ")[2]) for record in inspected] == [(4, told)]
    source = open_source([folder])
    with TrainLoader(source, GlobalOrder(20, 0), batch_size=20, max_damaged=1) as batches:
        next(batches)
        assert {key: reason.partition(": ")[2] for key, reason in batches.damaged.reasons.items()} == {
            4: told
        }
