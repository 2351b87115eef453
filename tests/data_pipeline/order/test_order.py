from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data_pipeline.order.hashing import hash_words, mix, uniform
from data_pipeline.order.whole_set import GlobalOrder


@pytest.mark.parametrize("num_images", [*range(1, 70), 97, 128, 1000, 4096, 4097, 12305])
def test_an_epoch_is_a_permutation(num_images: int) -> None:
    order = GlobalOrder(num_images, seed=3)
    for epoch in (0, 1, 1000):
        images = order.permute(epoch, np.arange(num_images))
        assert np.array_equal(np.sort(images), np.arange(num_images))


@given(
    num_images=st.integers(1, 400),
    seed=st.integers(-(2**63), 2**63),
    position=st.integers(0, 5000),
    count=st.integers(0, 900),
)
@settings(max_examples=50, deadline=None)
def test_a_slice_is_the_sequence_of_epochs(num_images: int, seed: int, position: int, count: int) -> None:
    order = GlobalOrder(num_images, seed)
    epochs, images = order.slice(position, count)
    places = range(position, position + count)
    assert epochs.tolist() == [place // num_images for place in places]
    one_by_one = [order.permute(place // num_images, np.array([place % num_images]))[0] for place in places]
    assert images.tolist() == one_by_one


@pytest.mark.parametrize("world_size", range(1, 9))
def test_ranks_partition_each_epoch(world_size: int) -> None:
    num_images, local_batch = 840 + 7, 6
    order = GlobalOrder(num_images, seed=5)
    global_batch = local_batch * world_size
    steps = -(-3 * num_images // global_batch)
    seen = []
    for step in range(steps):
        for rank in range(world_size):
            seen += order.slice(step * global_batch + rank * local_batch, local_batch)[1].tolist()
    for epoch in range(3):
        part = seen[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(part) == list(range(num_images))
    assert seen == order.slice(0, len(seen))[1].tolist()


def test_epochs_and_seeds_differ() -> None:
    places = np.arange(1000)
    base = GlobalOrder(1000, seed=0).permute(0, places)
    for other in (GlobalOrder(1000, 0).permute(1, places), GlobalOrder(1000, 1).permute(0, places)):
        # A random permutation leaves about one place as another has it.
        assert (base == other).sum() < 10
    assert np.array_equal(base, GlobalOrder(1000, seed=0).permute(0, places))


@pytest.mark.parametrize(
    ("num_images", "seed", "position", "images"),
    [
        (7, 0, 5, [0, 3, 6, 1, 4]),
        (1000, 3, 998, [283, 268, 658, 357, 656]),
        (500_000, 1, 123, [417336, 22534, 191607, 36848, 224932]),
        (40_000_000, -5, 79_999_998, [11301358, 21116833, 25148432, 35186806, 29611301]),
        (10**12, 2**40, 17, [612098975147, 125655782830, 395568089078, 592730024409, 47812541000]),
    ],
)
def test_the_sequence_stays_what_it_was(num_images: int, seed: int, position: int, images: list[int]) -> None:
    # A resumed run reads on where it stopped only if no later version changes these.
    assert GlobalOrder(num_images, seed).slice(position, 5)[1].tolist() == images


@given(
    num_images=st.one_of(st.integers(1, 3000), st.sampled_from([40_000_000, 10**12])),
    seed=st.integers(-(2**63), 2**63),
    epoch=st.integers(0, 10**6),
    start=st.integers(0, 10**12),
)
@settings(max_examples=60, deadline=None)
def test_images_are_found_at_their_places(num_images: int, seed: int, epoch: int, start: int) -> None:
    order = GlobalOrder(num_images, seed)
    places = np.unique((start + np.arange(50) * 7919) % num_images)
    assert np.array_equal(order.place_of(epoch, order.permute(epoch, places)), places)


@pytest.mark.parametrize("num_images", [40_000_000, 10**12])
def test_slices_of_large_sets_do_not_overlap(num_images: int) -> None:
    order = GlobalOrder(num_images, seed=4)
    parts = [
        order.slice(3 * num_images + first, 10_000)[1] for first in range(0, num_images, num_images // 9)
    ]
    images = np.concatenate(parts)[:90_000]
    assert images.min() >= 0
    assert images.max() < num_images
    assert len(np.unique(images)) == len(images)


def test_threads_and_pickled_copies_see_the_same_sequence() -> None:
    order = GlobalOrder(40_000_000, seed=4)
    pickled = pickle.dumps(order)
    assert len(pickled) < 500
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda step: order.slice(step * 64, 64)[1], range(100)))
    assert np.concatenate(parts).tolist() == pickle.loads(pickled).slice(0, 6400)[1].tolist()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="num_images must be at least 1, got 0"):
        GlobalOrder(0, seed=0)
    with pytest.raises(ValueError, match="must not be negative, got -1 and 3"):
        GlobalOrder(5, seed=0).slice(-1, 3)


def test_hashes() -> None:
    # First outputs of SplitMix64 from state 0, as its authors' program prints them.
    states = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert [hex(word) for word in mix(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
    assert hash_words(1, 2) != hash_words(2, 1)
    numbers = uniform(hash_words(7, np.arange(100_000)))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-4
