from __future__ import annotations

import io
import math
import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from data_pipeline.files.progress import track
from data_pipeline.files.workers import ordered_map


def test_results_come_in_the_items_order() -> None:
    items = list(range(150))
    assert list(ordered_map(math.sqrt, items, 2)) == [math.sqrt(item) for item in items]
    assert list(ordered_map(math.sqrt, items, 1)) == [math.sqrt(item) for item in items]
    assert list(ordered_map(math.sqrt, [], 2)) == []


def test_a_failure_is_raised_here() -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(ordered_map(math.sqrt, [1.0] * 40 + [-1.0], 2))


def test_a_worker_that_dies_is_no_hang() -> None:
    with pytest.raises(BrokenProcessPool):
        list(ordered_map(os._exit, [3] * 40, 2))


def test_progress_off_a_terminal_is_plain_lines() -> None:
    stream = io.StringIO()
    assert list(track([1, 2, 3], total=3, description="packing", stream=stream)) == [1, 2, 3]
    line = stream.getvalue()
    assert line.startswith("packing: 3 of 3 images in ")
    assert line.count("\n") == 1
    assert "\x1b" not in line
