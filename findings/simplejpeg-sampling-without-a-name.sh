#!/usr/bin/env bash
# simplejpeg refuses valid baseline JPEGs whose colours are sampled in a way that TurboJPEG has no name for.
#
# Seen with simplejpeg 1.9.0 on 2026-11-28, Python 3.11, Linux x86-64: decode_jpeg and decode_jpeg_header raise
# ValueError "Could not determine subsampling level of JPEG image" for every combination of the components'
# sampling factors beyond the usual ones (4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1, 4:4:1 and grey). The standard
# (ITU-T T.81, A.1.1) allows factors 1 to 4 for each component; Pillow and OpenCV read all files made here.
# Whoever checks a set with it takes such images for damaged.
#
# Ends with 0 and prints what was seen if it is still so, with 1 if the behaviour has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93 simplejpeg==1.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import itertools
import struct
import sys

import cv2
import numpy as np
import simplejpeg
from PIL import Image

HEIGHT, WIDTH = 40, 56


def usual_tables() -> bytes:
    """The quantisation and Huffman segments of an ordinary file."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    data, at, found = out.getvalue(), 2, b""
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0xC4, 0xDB):
            found += data[at : at + length]
        at += length
    return found


def grey_picture(factors: list[tuple[int, int]]) -> bytes:
    """A baseline JPEG of three components with these (across, down) factors; every block is empty."""
    frame = struct.pack(">BHHB", 8, HEIGHT, WIDTH, 3)
    scan = b"\3"
    for number, (across, down) in enumerate(factors, start=1):
        frame += bytes((number, across << 4 | down, 0))
        scan += bytes((number, 0))
    scan += bytes((0, 63, 0))
    units = [-(-side // (8 * max(pair[axis] for pair in factors))) for axis, side in ((0, WIDTH), (1, HEIGHT))]
    blocks = units[0] * units[1] * sum(across * down for across, down in factors)
    # Table 0's codes: 00, no difference of the mean; 1010, no further coefficient.
    bits = "001010" * blocks
    bits += "1" * (-len(bits) % 8)
    entropy = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    segment = lambda marker, body: bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body  # noqa: E731
    return b"\xff\xd8" + usual_tables() + segment(0xC0, frame) + segment(0xDA, scan) + entropy + b"\xff\xd9"


choices = [(1, 1), (2, 1), (1, 2), (2, 2)]
read, refused, others = [], [], 0
for factors in itertools.product(choices, repeat=3):
    if sum(across * down for across, down in factors) > 10:
        continue  # more blocks in a unit than the standard allows
    data = grey_picture(list(factors))
    with Image.open(io.BytesIO(data)) as image:
        assert np.asarray(image.convert("RGB")).shape == (HEIGHT, WIDTH, 3)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (HEIGHT, WIDTH, 3)
    try:
        simplejpeg.decode_jpeg(data)
        read.append(factors)
    except ValueError as error:
        others += "subsampling" not in str(error)
        refused.append(factors)
print(f"of {len(read) + len(refused)} valid files Pillow and OpenCV read all, simplejpeg {len(read)}")
print("refused, for example:", refused[:3])
still_so = len(read) == 8 and not others
if not still_so:
    print("the behaviour has changed")
sys.exit(not still_so)
PYTHON
