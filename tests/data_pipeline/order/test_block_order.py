from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipeline.order.blocks import BlockOrder

SHAPES = {
    "num_images": st.integers(1, 300),
    "block": st.integers(1, 70),
    "window": st.integers(1, 20),
    "seed": st.integers(-(2**63), 2**63),
}


def _blocks(order: BlockOrder, images: np.ndarray) -> set[int]:
    return set((images // order.block).tolist())


@given(**SHAPES, epoch=st.integers(0, 10**6))
@example(num_images=1, block=1, window=1, seed=0, epoch=0)
@example(num_images=7, block=70, window=20, seed=0, epoch=0)
@example(num_images=128, block=16, window=4, seed=0, epoch=0)
@example(num_images=127, block=1, window=3, seed=0, epoch=0)
@settings(max_examples=150, deadline=None)
def test_an_epoch_is_every_image_once_window_by_window(
    num_images: int, block: int, window: int, seed: int, epoch: int
) -> None:
    order = BlockOrder(num_images, seed, block, window)
    start = epoch * num_images
    epochs, images = order.slice(start, num_images)
    assert (epochs == epoch).all()
    assert np.array_equal(np.sort(images), np.arange(num_images))
    assert np.array_equal(order.place_of(epoch, images), np.arange(num_images))
    # Each window is exactly the blocks that it says it reads, no more than it may be, and all come in turn.
    windows = np.array([order.window_of(start + place) for place in range(num_images)])
    assert np.array_equal(np.unique(windows), epoch * order.num_windows + np.arange(order.num_windows))
    assert (np.diff(windows) >= 0).all()
    for number in np.unique(windows).tolist():
        read = np.sort(images[windows == number])
        assert len(read) <= order.window_images <= block * window
        assert len(_blocks(order, read)) <= window
        ranges = order.ranges(number)
        assert np.concatenate([np.arange(first, last) for first, last in ranges]).tolist() == read.tolist()
        # Neighbours are joined.
        assert all(last < first for (_, last), (first, _) in pairwise(ranges))
    assert order.upcoming(start) == order.ranges(order.window_of(start) + 1)


@given(**SHAPES, position=st.integers(0, 2000), count=st.integers(0, 900))
@settings(max_examples=60, deadline=None)
def test_a_slice_is_a_part_of_the_sequence(
    num_images: int, block: int, window: int, seed: int, position: int, count: int
) -> None:
    order = BlockOrder(num_images, seed, block, window)
    epochs, images = order.slice(position, count)
    places = range(position, position + count)
    assert epochs.tolist() == [place // num_images for place in places]
    one_by_one = [
        int(order.permute(place // num_images, np.array([place % num_images]))[0]) for place in places
    ]
    assert images.tolist() == one_by_one


def test_what_is_upcoming_is_read_next_across_the_epochs_end() -> None:
    order = BlockOrder(1003, seed=4, block=10, window=7)
    images = order.slice(0, 3 * 1003)[1]
    windows = np.array([order.window_of(position) for position in range(3 * 1003)])
    for position in range(0, 2 * 1003, 50):
        following = np.sort(images[windows == windows[position] + 1])
        ranges = order.upcoming(position)
        assert np.concatenate([np.arange(*span) for span in ranges]).tolist() == following.tolist()


def test_blocks_windows_and_images_are_drawn_anew() -> None:
    order, other = BlockOrder(1000, 0, 10, 5), BlockOrder(1000, 1, 10, 5)
    first, second = order.slice(0, 2000)[1].reshape(2, 1000)
    for different in (second, other.slice(0, 1000)[1]):
        assert (first == different).sum() < 12
    assert _blocks(order, first[:50]) != _blocks(order, second[:50])
    # Window by window another mixing: where in its window an image stands.
    offsets = [np.argsort(np.argsort(first[start : start + 50])) for start in (0, 50)]
    assert (offsets[0] == offsets[1]).sum() < 8


def test_large_sets() -> None:
    order = BlockOrder(10**12, seed=2, block=1000, window=500)
    assert order.window_images == 500_000
    images = order.slice(5 * 10**12 - 700_000, 700_000)[1]
    assert images.min() >= 0
    assert images.max() < 10**12
    assert len(np.unique(images)) == len(images)
    assert len(_blocks(order, images)) <= 1500
    places = np.arange(10**12 - 700_000, 10**12)
    assert np.array_equal(order.place_of(4, images), places)
    assert len(pickle.dumps(order)) < 500
    copy = pickle.loads(pickle.dumps(order))
    assert np.array_equal(copy.slice(12345, 100)[1], order.slice(12345, 100)[1])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="num_images must be at least 1, got 0"):
        BlockOrder(0, 0, 1, 1)
    with pytest.raises(ValueError, match="block and window must be at least 1, got 0 and 3"):
        BlockOrder(5, 0, 0, 3)
    with pytest.raises(ValueError, match="must not be negative, got 0 and -3"):
        BlockOrder(5, 0, 2, 3).slice(0, -3)
