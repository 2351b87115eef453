from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data_pipeline.hashing import hash_words, mix, uniform
from data_pipeline.order import GlobalOrder


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


@pytest.mark.parametrize("num_images", [2, 3, 7, 24, 100])
def test_every_image_comes_as_often_at_every_place(num_images: int) -> None:
    trials = 400 * num_images
    table = np.zeros((num_images, num_images))
    for epoch in range(trials // num_images):
        images = GlobalOrder(num_images, seed=11).permute(epoch, np.arange(num_images))
        table[np.arange(num_images), images] += 1
    expected = trials / num_images / num_images
    chi_square = float(((table - expected) ** 2 / expected).sum())
    # Rows and columns are fixed, so (n-1)^2 degrees of freedom.
    assert stats.chi2.sf(chi_square, (num_images - 1) ** 2) > 1e-4


def test_permutations_of_four_are_equally_frequent() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(4800):
        key = tuple(GlobalOrder(4, seed=2).permute(epoch, np.arange(4)).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_large_sets_are_mixed_evenly() -> None:
    num_images, count = 42_474_557, 200_000
    images = GlobalOrder(num_images, seed=1).slice(num_images - 5000, count)[1]
    assert stats.kstest(images / num_images, "uniform").pvalue > 1e-4
    # Neighbours in the order are no neighbours in the set: their distance is that of two random numbers.
    distances = np.abs(np.diff(images)) / num_images
    assert stats.kstest(distances[::2], stats.triang(c=0).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 0.01
    assert len(np.unique(images[5000:])) == count - 5000


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
