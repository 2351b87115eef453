from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.inspection.image_header import is_cut_off, read_header


def encoded(extension: str, height: int, width: int, *options: int) -> bytes:
    image = np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(extension, image, list(options))[1].tobytes()


def view(payload: bytes) -> np.ndarray:
    return np.frombuffer(payload, dtype=np.uint8)


def with_thumbnail(payload: bytes) -> bytes:
    """A JPEG with a whole other one inside a segment of its header."""
    thumbnail = encoded(".jpg", 8, 9)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    return payload[:2] + segment + payload[2:]


KINDS = {
    "baseline": ("jpeg", encoded(".jpg", 37, 50)),
    "progressive": ("jpeg", encoded(".jpg", 37, 50, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "restarts": ("jpeg", encoded(".jpg", 37, 50, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    "thumbnail": ("jpeg", with_thumbnail(encoded(".jpg", 37, 50))),
    "fill": ("jpeg", b"\xff\xd8\xff\xff\xff" + encoded(".jpg", 37, 50)[3:]),
    "png": ("png", encoded(".png", 37, 50)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_format_and_size(kind: str) -> None:
    name, payload = KINDS[kind]
    assert cv2.imdecode(view(payload), cv2.IMREAD_COLOR).shape == (37, 50, 3)
    header = read_header(view(payload))
    assert header is not None
    assert (header.format, (header.height, header.width)) == (name, (37, 50))


@every_kind
def test_every_cut_is_noticed_and_what_follows_the_end_is_none(kind: str) -> None:
    _, payload = KINDS[kind]
    assert not is_cut_off(view(payload))
    assert not is_cut_off(view(payload + b"\0\1\2"))
    # From the first bytes by which the format is known; in the thumbnail's own end nobody can tell.
    inner = payload.index(b"\xff\xd9") + 2 if kind == "thumbnail" else -1
    for length in range(8 if kind == "png" else 3, len(payload)):
        assert is_cut_off(view(payload[:length])) or length == inner
        assert is_cut_off(view(payload[:length] + b"\0\0\0"))


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"\xff\xd8", b"\x89PNG", b"BM" + bytes(60), b"no image at all"]
)
def test_what_is_neither(payload: bytes) -> None:
    assert read_header(view(payload)) is None
    assert is_cut_off(view(payload)) == (payload == b"\xff\xd8")


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=20),
    st.integers(0, 4000),
)
def test_mutated_bytes_raise_nothing(kind: str, changes: list[tuple[int, int]], length: int) -> None:
    payload = bytearray(KINDS[kind][1])
    for place, value in changes:
        payload[place % len(payload)] = value
    for part in (bytes(payload), bytes(payload[: length % len(payload)])):
        header = read_header(view(part))
        assert header is None or header.format in ("jpeg", "png")
        assert is_cut_off(view(part)) in (True, False)
