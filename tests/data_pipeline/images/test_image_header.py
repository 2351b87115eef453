from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.images.header import read_header
from data_pipeline.images.soundness import damage
from data_pipeline.inspection.look import look_at


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
    header = read_header(payload)
    assert header is not None
    assert (header.format, (header.height, header.width)) == (name, (37, 50))


@every_kind
def test_every_cut_is_noticed_and_what_follows_the_end_is_none(kind: str) -> None:
    _, payload = KINDS[kind]
    assert damage(view(payload)) is None
    assert damage(view(payload + b"\0\1\2")) is None
    for length in range(1, len(payload)):
        assert damage(view(payload[:length])) is not None
        assert damage(view(payload[:length] + b"\0\0\0")) is not None


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"\xff\xd8", b"\x89PNG", b"BM" + bytes(10), b"no image at all"]
)
def test_what_is_neither(payload: bytes) -> None:
    assert read_header(payload) is None
    assert damage(view(payload)) is not None


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=20),
    st.integers(0, 4000),
)
def test_mutated_bytes_raise_nothing(kind: str, changes: list[tuple[int, int]], length: int) -> None:
    payload = bytearray(KINDS[kind][1])
    for place, value in changes:
        # The first bytes say what it is.
        payload[max(place % len(payload), 8)] = value
    for part in (bytes(payload), bytes(payload[: length % len(payload)])):
        header = read_header(part)
        assert header is None or header.format == KINDS[kind][0]
        for depth in ("headers", "pixels"):
            look = look_at(view(part), depth)
            assert (look.size is None) == (look.problem is not None)
            assert "\n" not in (look.problem or "")
