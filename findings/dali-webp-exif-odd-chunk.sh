#!/usr/bin/env bash
# DALI on a CPU refuses a valid lossless WebP with EXIF whenever the image chunk before it has an odd length.
#
# Seen with nvidia-dali-cuda130 2.4.0 (CPU, no GPU) on 2026-11-27, Python 3.11, Linux x86-64:
# RIFF chunks of odd length are padded by a byte that the length does not count. Pillow and OpenCV step over
# it and read every file; fn.decoders.image raises RuntimeError for the files whose VP8L chunk is odd, about
# half of them, and reads the others. Without EXIF it reads all.
# Whoever trains on WebP as phones and galleries write it loses half of the images, or the whole batch.
#
# Ends with 0 and prints what was seen if it is still so, with 1 if the behaviour has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93 nvidia-dali-cuda130==2.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
from nvidia.dali import fn, pipeline_def, types
from PIL import Image


def webp(seed: int, exif: bool) -> bytes:
    """A lossless WebP of 48x48 smooth noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((48, 48))
    note = Image.Exif()
    note[0x010E] = "a face"  # ImageDescription
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=True, **({"exif": note} if exif else {}))
    return out.getvalue()


def chunks(data: bytes) -> dict[str, int]:
    """The file's chunks and their lengths."""
    found, at = {}, 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found[data[at : at + 4].decode()] = length
        at += 8 + length + length % 2
    return found


@pipeline_def(batch_size=1, num_threads=1, device_id=None)
def decoding(data: bytes):
    encoded = fn.external_source(lambda: [np.frombuffer(data, np.uint8)])
    return fn.decoders.image(encoded, device="cpu", output_type=types.RGB)


def dali_reads(data: bytes) -> bool:
    pipeline = decoding(data)
    pipeline.build()
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True


unexpected = 0
for exif in (False, True):
    counts = {"odd": [0, 0], "even": [0, 0]}
    for seed in range(20):
        data = webp(seed, exif)
        Image.open(io.BytesIO(data)).load()
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
        odd = chunks(data)["VP8L"] % 2 == 1
        read = dali_reads(data)
        counts["odd" if odd else "even"][0] += 1
        counts["odd" if odd else "even"][1] += read
        unexpected += read != (not (exif and odd))
    words = ", ".join(f"{name}: {read} of {total} read" for name, (total, read) in counts.items())
    print(f"{'with' if exif else 'without'} EXIF, image chunk {words}; Pillow and OpenCV read all")
if unexpected:
    print(f"the behaviour has changed: {unexpected} of 40 files are read otherwise than described")
sys.exit(unexpected > 0)
PYTHON
