"""Whether the orders are random: each check is done on ours, on numpy's permutation as the control, and on
orders that are wrong in a known way, which it must refuse.

A table is int64 [epochs, n]: row e has the images of epoch e in their order. A check gives a p-value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from data_pipeline.order.blocks import BlockOrder
from data_pipeline.order.hashing import hash_words
from data_pipeline.order.identities import IdentityOrder
from data_pipeline.order.permutation import EIGHT_ROUNDS, ROUNDS_BY_SIZE, permute
from data_pipeline.order.whole_set import GlobalOrder

Ints = npt.NDArray[np.int64]
Table = Callable[[int, int], Ints]
# A right order falls below the first once in ten thousand checks; a wrong one must fall below the second.
_RIGHT, _WRONG = 1e-4, 1e-9


def _network(epochs: int, n: int, rounds: tuple[int, int]) -> Ints:
    keys = np.repeat(hash_words(77, np.arange(epochs)), n)
    return permute(np.tile(np.arange(n), epochs), n, keys, rounds).reshape(epochs, n)


def global_order(epochs: int, n: int) -> Ints:
    return GlobalOrder(n, seed=11).slice(0, epochs * n)[1].reshape(epochs, n)


def one_window(epochs: int, n: int) -> Ints:
    return BlockOrder(n, seed=12, block=3, window=n).slice(0, epochs * n)[1].reshape(epochs, n)


def own_sequence(epochs: int, n: int) -> Ints:
    """One identity's images, beside another's."""
    order = IdentityOrder(np.repeat([0, 1], [2, n]), seed=13, images_per_identity=1)
    images = order.slice(0, 2 * epochs * n)[1]
    return images[images >= 2].reshape(epochs, n) - 2


def identities(epochs: int, n: int) -> Ints:
    order = IdentityOrder(np.arange(n), seed=14, images_per_identity=1)
    return order.slice(0, epochs * n)[1].reshape(epochs, n)


def many_rounds(epochs: int, n: int) -> Ints:
    return _network(epochs, n, ROUNDS_BY_SIZE)


def numpy_control(epochs: int, n: int) -> Ints:
    rng = np.random.default_rng(15)
    return np.stack([rng.permutation(n) for _ in range(epochs)])


def storage(epochs: int, n: int) -> Ints:
    return np.tile(np.arange(n), (epochs, 1))


def rotation(epochs: int, n: int) -> Ints:
    return (np.arange(n) + np.random.default_rng(0).integers(0, n, (epochs, 1))) % n


def near_shuffle(epochs: int, n: int) -> Ints:
    """Storage order, shuffled among eight neighbours: a shuffle buffer that is too small."""
    keys = np.arange(n) // 8 + np.random.default_rng(0).random((epochs, n))
    return np.argsort(keys, axis=1)


def two_rounds(epochs: int, n: int) -> Ints:
    return _network(epochs, n, (2, 2))


def one_for_all(epochs: int, n: int) -> Ints:
    return np.tile(np.random.default_rng(0).permutation(n), (epochs, 1))


def nearly_the_last(epochs: int, n: int) -> Ints:
    """A random order, a twentieth of which is drawn anew each epoch."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(n)]
    for _ in range(epochs - 1):
        moved, row = rng.choice(n, n // 20, replace=False), rows[-1].copy()
        row[moved] = row[rng.permutation(moved)]
        rows.append(row)
    return np.stack(rows)


RIGHT: list[Table] = [numpy_control, global_order, one_window, own_sequence, identities]


def places_and_images(table: Ints, bins: int = 20) -> float:
    """Chi-square of how often each part of the places has images of each part of the set."""
    epochs, n = table.shape
    counts = np.zeros((bins, bins))
    place_bins = np.broadcast_to(np.arange(n) * bins // n, table.shape)
    np.add.at(counts, (place_bins, table * bins // n), 1)
    sizes = np.bincount(np.arange(n) * bins // n, minlength=bins)
    expected = epochs * np.outer(sizes, sizes) / n
    # A permutation's rows and columns are fixed: the covariance is n/(n-1) times that of free counts.
    chi_square = float(((counts - expected) ** 2 / expected).sum()) * (n - 1) / n
    return float(stats.chi2.sf(chi_square, (bins - 1) ** 2))


def first_tenth(table: Ints) -> float:
    """Kolmogorov-Smirnov: an epoch's first tenth comes from the whole set; the worst epoch."""
    n = table.shape[1]
    # Images are whole numbers: within each, spread evenly.
    spread = np.random.default_rng(1).random(n // 10)
    values = [stats.kstest((row[: n // 10] + spread) / n, "uniform").pvalue for row in table]
    return float(min(1.0, min(values) * len(values)))


def gaps(table: Ints) -> float:
    """Kolmogorov-Smirnov: from one image to the next it is as far as between two random numbers."""
    n = table.shape[1]
    spread = np.random.default_rng(1).random(table.shape)
    numbers = (table + spread) / n
    distances = np.abs(numbers[:, 1::2] - numbers[:, ::2][:, : numbers[:, 1::2].shape[1]])
    return float(stats.kstest(distances.ravel(), stats.triang(c=0).cdf).pvalue)


def serial_correlation(table: Ints) -> float:
    """Correlation of an image with the next; a permutation's expectation is -1/(n-1)."""
    n = table.shape[1]
    centred = table - (n - 1) / 2
    products = (centred[:, :-1] * centred[:, 1:]).mean(axis=1) / centred.var()
    score = (products.mean() + 1 / (n - 1)) * math.sqrt(n * len(table))
    return float(2 * stats.norm.sf(abs(score)))


def successive_epochs(table: Ints) -> float:
    """Chi-square of an image's places in two successive epochs: as free as places and images."""
    places = np.argsort(table, axis=1)
    onward = np.stack([after[row] for after, row in zip(places[1:], table[:-1], strict=True)])
    return places_and_images(onward)


def all_permutations(table: Ints) -> float:
    """Chi-square of the frequencies of all n! permutations."""
    n = table.shape[1]
    names = table @ (n ** np.arange(n))
    found = np.unique(names, return_counts=True)[1]
    counts = np.zeros(math.factorial(n))
    counts[: len(found)] = found
    return float(stats.chisquare(counts).pvalue)


CHECKS: list[tuple[Callable[[Ints], float], int, int, list[Table]]] = [
    (places_and_images, 400, 601, [storage, near_shuffle, one_for_all]),
    (first_tenth, 20, 5000, [storage, rotation, near_shuffle]),
    (gaps, 20, 5000, [storage, rotation, near_shuffle]),
    (serial_correlation, 20, 5000, [storage, rotation, near_shuffle]),
    (successive_epochs, 100, 601, [storage, one_for_all, near_shuffle, nearly_the_last]),
    (all_permutations, 7200, 4, [storage, rotation, two_rounds]),
]


@pytest.mark.parametrize("make", RIGHT)
@pytest.mark.parametrize(("check", "epochs", "n", "wrong"), CHECKS)
def test_our_orders_are_random(
    make: Table, check: Callable[[Ints], float], epochs: int, n: int, wrong: list[Table]
) -> None:
    table = make(epochs, n)
    assert np.array_equal(np.sort(table, axis=1), storage(epochs, n))
    assert check(table) > _RIGHT


@pytest.mark.parametrize(
    ("check", "epochs", "n", "make"),
    [(check, epochs, n, make) for check, epochs, n, wrong in CHECKS for make in wrong],
)
def test_the_check_refuses_a_wrong_order(
    check: Callable[[Ints], float], epochs: int, n: int, make: Table
) -> None:
    table = make(epochs, n)
    assert np.array_equal(np.sort(table, axis=1), storage(epochs, n))
    assert check(table) < _WRONG


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_permutations_of_few_are_equally_frequent(n: int) -> None:
    epochs = 60 * math.factorial(n)
    for make in (numpy_control, many_rounds, own_sequence, identities):
        assert all_permutations(make(epochs, n)) > _RIGHT
    if n >= 5:
        # What eight rounds leave of so few (6 and 9 % total variation) shows in more epochs.
        assert all_permutations(_network(20 * epochs if n == 5 else 3 * epochs, n, EIGHT_ROUNDS)) < _WRONG


@pytest.mark.parametrize("n", [2, 3, 7, 24, 100])
def test_every_image_comes_as_often_at_every_place(n: int) -> None:
    assert places_and_images(global_order(400, n), bins=n) > _RIGHT
    assert places_and_images(storage(400, n), bins=n) < _WRONG


def test_large_sets_are_mixed_evenly() -> None:
    num_images, count = 42_474_557, 200_000
    for order in (
        GlobalOrder(num_images, seed=1),
        BlockOrder(num_images, seed=1, block=1000, window=num_images),
    ):
        images = order.slice(num_images - 5000, count)[1]
        assert stats.kstest(images / num_images, "uniform").pvalue > _RIGHT
        # Neighbours in the order are no neighbours in the set: their distance is that of two random numbers.
        distances = np.abs(np.diff(images)) / num_images
        assert stats.kstest(distances[::2], stats.triang(c=0).cdf).pvalue > _RIGHT
        assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 0.01
        assert len(np.unique(images[5000:])) == count - 5000


def test_windows_of_blocks_hold_what_they_claim() -> None:
    # Four blocks of three in two windows: which two come first, and how their six images are mixed.
    epochs, block = 14_400, 3
    table = BlockOrder(12, seed=5, block=block, window=2).slice(0, 12 * epochs)[1].reshape(epochs, 12)
    first = np.sort(table[:, :6], axis=1)
    blocks = first[:, ::block] // block
    assert np.array_equal(np.repeat(blocks, block, axis=1) * block + np.tile(np.arange(block), 2), first)
    pairs = np.unique(blocks, axis=0, return_counts=True)[1]
    assert len(pairs) == 6
    assert stats.chisquare(pairs).pvalue > _RIGHT
    for window in (table[:, :6], table[:, 6:]):
        ranks = np.argsort(np.argsort(window, axis=1), axis=1)
        assert all_permutations(ranks) > _RIGHT
    # The two windows are mixed apart from each other: rank of the first image there and there.
    both = [np.argsort(np.argsort(part, axis=1), axis=1)[:, 0] for part in (table[:, :6], table[:, 6:])]
    assert stats.chisquare(np.bincount(both[0] * 6 + both[1], minlength=36)).pvalue > _RIGHT
    # Without mixing within windows the blocks come one after the other, and the same check sees it.
    unmixed = np.concatenate([first, np.sort(table[:, 6:], axis=1)], axis=1)
    assert all_permutations(np.argsort(np.argsort(unmixed[:, :6], axis=1), axis=1)) < _WRONG


@pytest.mark.parametrize(("num_images", "block", "window"), [(24, 4, 3), (24, 4, 1), (24, 1, 4), (23, 23, 5)])
def test_an_image_of_a_block_order_comes_at_any_place(num_images: int, block: int, window: int) -> None:
    epochs = 200 * num_images
    table = BlockOrder(num_images, seed=6, block=block, window=window)
    places = np.argsort(table.slice(0, epochs * num_images)[1].reshape(epochs, num_images), axis=1)
    values = [
        stats.chisquare(np.bincount(places[:, image], minlength=num_images)).pvalue
        for image in range(num_images)
    ]
    assert min(values) * num_images > _RIGHT


def test_identities_are_mixed_apart_from_each_other() -> None:
    # Two identities of three images: their 3! · 3! joint orders.
    rounds = 3 * 3600
    order = IdentityOrder(np.repeat([0, 1], 3), seed=3, images_per_identity=1)
    images = order.slice(0, 2 * rounds)[1]
    first, second = (images[(images >= 3) == which].reshape(-1, 3) for which in (False, True))
    joint = (first @ [1, 3, 9]) * 100 + (second - 3) @ [1, 3, 9]
    counts = np.unique(joint, return_counts=True)[1]
    assert len(counts) == 36
    assert stats.chisquare(counts).pvalue > _RIGHT
