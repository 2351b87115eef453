"""Having the system fetch what will be read soon, so that no decoder waits for the disk.

Windows of blocks are asked for as a whole, one window ahead. Images in random order are asked for one by one,
a few steps ahead, and the system is told not to fetch their neighbours, but only if the set is too large to
stay in memory: otherwise the neighbours are as good as read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from data_pipeline.order.batching import Share
from data_pipeline.order.blocks import BlockOrder
from data_pipeline.order.whole_set import Order
from data_pipeline.sets.source import ImageSource

STEPS_AHEAD = 4
_PART_OF_MEMORY = 0.5


def read_ahead(
    source: ImageSource, order: Order, shares: Iterator[Share], large: bool | None = None
) -> Iterator[Share]:
    """The shares, each after what comes behind it was asked for.

    large: whether the set stays in memory; found out from its size when not given.
    """
    if isinstance(order, BlockOrder):
        return _windows(source, order, shares)
    if source.stored_bytes > _PART_OF_MEMORY * _memory_bytes() if large is None else large:
        source.expect_random_reads()
        return _images(source, order, shares)
    return shares


def _windows(source: ImageSource, order: BlockOrder, shares: Iterator[Share]) -> Iterator[Share]:
    asked = -1
    for share in shares:
        window = order.window_of(share.start)
        for number in (window, window + 1):
            if number > asked:
                for first, last in order.ranges(number):
                    source.will_need(first, last)
                asked = number
        yield share


def _images(source: ImageSource, order: Order, shares: Iterator[Share]) -> Iterator[Share]:
    waiting: deque[Share] = deque()
    for share in shares:
        for image in order.slice(share.start, share.count)[1].tolist():
            source.will_need(image, image + 1)
        waiting.append(share)
        if len(waiting) > STEPS_AHEAD:
            yield waiting.popleft()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62
