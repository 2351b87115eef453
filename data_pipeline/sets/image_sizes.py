"""The size of a set's images, where nothing states it: what their headers say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data_pipeline.errors import DatasetError, RecordError
from data_pipeline.images.decode import decode_image
from data_pipeline.images.header import read_header
from data_pipeline.records.file import RecordFile
from data_pipeline.records.reader import Ints
from data_pipeline.sets.source import Payloads

Size = tuple[int, int]

USUAL_SIZE = (112, 112)
_CHUNK = 1 << 14
# The headers of nearly all images end before, and a page is what a disk is asked for.
_FIRST_BYTES = 4096


def count_sizes(file: RecordFile, offsets: Ints) -> Counter[Size]:
    """How many images have which (height, width), of the records at these offsets.

    Of each image its first page is read. Damaged ones are left out.
    """
    sizes: Counter[Size] = Counter()
    for start in range(0, len(offsets), _CHUNK):
        for payload in _readable(file, offsets[start : start + _CHUNK]):
            size = _size(payload.data)
            if size is not None:
                sizes[size] += 1
    return sizes


def size_to_train_at(sizes: Counter[Size], rec: Path) -> tuple[Size, bool]:
    """(height, width), and whether all images have it; others are brought to it.

    It is what most images have, if more than half do, and else 112 × 112, as for folders of images. Raises
    DatasetError if there is no size at all.
    """
    if not sizes:
        raise DatasetError(f"{rec}: none of its images can be decoded; JPEG or PNG is expected")
    (size, count) = sizes.most_common(1)[0]
    return (size if 2 * count > sizes.total() else USUAL_SIZE), len(sizes) == 1


def _readable(file: RecordFile, offsets: Ints) -> Payloads:
    try:
        return file.payloads(offsets)
    except RecordError:
        if len(offsets) == 1:
            return []
        middle = len(offsets) // 2
        return _readable(file, offsets[:middle]) + _readable(file, offsets[middle:])


def _size(payload: memoryview) -> Size | None:
    header = read_header(bytes(payload[:_FIRST_BYTES]))
    if header is not None and (header.plain or header.width == header.height):
        return header.height, header.width
    image = decode_image(payload)  # its header lies further back, or it may be shown turned
    return None if image is None else (image.shape[0], image.shape[1])
