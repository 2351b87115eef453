from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_pipeline
from data_pipeline.order.hashing import hash_words
from data_pipeline.order.permutation import EIGHT_ROUNDS, ROUNDS_BY_SIZE, Ints, permute, place_of
from data_pipeline.order.permutation_loop import LARGE
from data_pipeline.order.whole_set import GlobalOrder

_MASK = (1 << 64) - 1
_PLANS = [EIGHT_ROUNDS, ROUNDS_BY_SIZE, (2, 2), (3, 5)]
_SIZES = [*range(1, 40), 97, 1023, 1024, 1025, 65536, 10**6 + 3, 10**12, 2**53 + 1, 2**60 - 1, 2**62 - 1]


def _mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _MASK
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)


def _unmix(word: int) -> int:
    def unshift(value: int, bits: int) -> int:
        result = value
        for _ in range(64 // bits):
            result = value ^ (result >> bits)
        return result

    word = unshift(word, 31) * pow(0x94D049BB133111EB, -1, 1 << 64) & _MASK
    word = unshift(word, 27) * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & _MASK
    return (unshift(word, 30) - 0x9E3779B97F4A7C15) & _MASK


def _naive(place: int, size: int, key: int, rounds: int) -> int:
    """The docstring's formula with Python's numbers."""
    width = math.isqrt(size - 1) + 1 if size > 1 else 1
    height = -(-size // width)
    number = place
    while True:
        sizes = (height, width)
        left, right = divmod(number, width)
        for step in range(rounds):
            left, right = right, (left + _mix(right ^ _mix(key ^ step))) % sizes[0]
            sizes = sizes[::-1]
        number = left * sizes[1] + right
        if number < size:
            return number


@pytest.mark.parametrize("rounds", _PLANS)
@pytest.mark.parametrize("size", _SIZES)
def test_the_loops_are_the_formula(size: int, rounds: tuple[int, int]) -> None:
    rng = np.random.default_rng(size)
    places = np.unique(np.concatenate([[0, size - 1], rng.integers(0, size, 20)]))
    key = hash_words(5, size)
    found = permute(places, size, key, rounds)
    used = rounds[size < LARGE]
    assert found.tolist() == [_naive(place, size, int(key[0]), used) for place in places.tolist()]
    assert np.array_equal(place_of(found, size, key, rounds), places)


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, _MASK), st.integers(0, _MASK)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_element_has_its_own_size_and_key(elements: list[tuple[int, int, int]]) -> None:
    sizes = np.array([size for size, _, _ in elements], dtype=np.int64)
    keys = np.array([key for _, key, _ in elements], dtype=np.uint64)
    places = np.array([place % size for size, _, place in elements], dtype=np.int64)
    found = permute(places, sizes, keys)
    one_by_one = [int(permute(places[[i]], int(sizes[i]), keys[[i]])[0]) for i in range(len(elements))]
    assert found.tolist() == one_by_one
    assert np.array_equal(place_of(found, sizes, keys), places)


def test_a_sum_that_would_run_over_is_still_a_permutation() -> None:
    # A round whose random number is 2**64 - 1: added to a left half before the reduction it wraps around,
    # which 30 x 30, unlike 32 x 32, does not forgive.
    size, step, right = 900, 3, 7
    key = np.array([_unmix(_unmix(_MASK) ^ right) ^ step], dtype=np.uint64)
    assert _mix(right ^ _mix(int(key[0]) ^ step)) == _MASK
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@pytest.mark.parametrize("size", [40_000_000, 10**12])
def test_samples_of_large_sets_stay_apart_and_come_back(size: int) -> None:
    places = np.unique(np.random.default_rng(0).integers(0, size, 20_000))
    found = permute(places, size, hash_words(1, 2))
    assert found.min() >= 0
    assert found.max() < size
    assert len(np.unique(found)) == len(places)
    assert np.array_equal(place_of(found, size, hash_words(1, 2)), places)


@pytest.mark.parametrize(("places", "size", "wrong"), [([0, 5], 5, 5), ([-1], 3, -1), ([2, 2], [3, 2], 2)])
def test_places_outside_are_refused(places: list[int], size: int | list[int], wrong: int) -> None:
    sizes: int | Ints = size if isinstance(size, int) else np.array(size)
    for function in (permute, place_of):
        with pytest.raises(ValueError, match=f"below the set's size, got {wrong}"):
            function(np.array(places), sizes, hash_words(1))


def test_where_nothing_can_be_kept_the_loops_are_compiled_anew(tmp_path: Path) -> None:
    # Of numba's places the one that NUMBA_CACHE_DIR names is the only one left, and nothing names it.
    program = "from data_pipeline import GlobalOrder as G; print(G(1000, 3).slice(998, 4)[1].tolist())"
    nowhere = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(data_pipeline.__file__).parents[1],
        env=nowhere | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"},
    )
    assert result.stdout.strip() == str(GlobalOrder(1000, 3).slice(998, 4)[1].tolist())
