from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_pipeline.order.identities as identity_order
from data_pipeline.order.identities import IdentityOrder

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@given(labels=LABELS, each=st.integers(1, 6), least=st.integers(1, 3), ascend=st.booleans())
@settings(max_examples=120, deadline=None)
def test_rounds_groups_and_turns(labels: list[int], each: int, least: int, ascend: bool) -> None:
    array = np.array(sorted(labels) if ascend else labels)
    counts = np.bincount(array)
    taken = np.flatnonzero(counts >= least)
    if not len(taken):
        with pytest.raises(ValueError, match=f"has at least {least} images"):
            IdentityOrder(array, 3, each, least)
        return
    order = IdentityOrder(array, 3, each, least)
    rounds = 7
    assert order.num_images == len(labels)
    assert order.num_identities == len(taken)
    assert order.num_left_out == np.count_nonzero(counts) - len(taken)
    assert order.epoch_length == len(taken) * each
    numbers, images = order.slice(0, rounds * order.epoch_length)
    groups = array[images].reshape(rounds, len(taken), each)
    # One identity a group, every identity once a round.
    assert (groups == groups[..., :1]).all()
    assert np.array_equal(np.sort(groups[..., 0], axis=1), np.tile(taken, (rounds, 1)))
    for identity in taken.tolist():
        mine = array[images] == identity
        turns, of_mine = numbers[mine], images[mine]
        # Its sequence goes through all its images before it begins anew; the number says how often it has.
        assert turns.tolist() == [place // counts[identity] for place in range(rounds * each)]
        for turn in range(turns[-1]):
            assert np.array_equal(np.sort(of_mine[turns == turn]), np.flatnonzero(array == identity))
        seen = np.bincount(of_mine, minlength=len(array))[array == identity]
        assert seen.max() - seen.min() <= 1
    # So that an image never comes twice with the same number.
    assert len(set(zip(numbers.tolist(), images.tolist(), strict=True))) == len(images)


@given(labels=LABELS, each=st.integers(1, 6), position=st.integers(0, 500), count=st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_a_slice_is_a_part_of_the_sequence(labels: list[int], each: int, position: int, count: int) -> None:
    order = IdentityOrder(np.array(labels), 3, each)
    whole, part = order.slice(0, position + count), order.slice(position, count)
    for all_of_it, found in zip(whole, part, strict=True):
        assert found.dtype == np.int64
        assert found.tolist() == all_of_it[position:].tolist()


def test_storage_by_identity_or_not_is_the_same_up_to_names() -> None:
    rng = np.random.default_rng(0)
    ascending = np.sort(rng.integers(0, 50, 1000))
    places = rng.permutation(1000)
    sorted_order = IdentityOrder(ascending, 8, 4)
    mixed_order = IdentityOrder(ascending[places].astype(np.int32), 8, 4)
    first, second = sorted_order.slice(100, 400)[1], mixed_order.slice(100, 400)[1]
    assert np.array_equal(ascending[first], ascending[places][second])
    # By a stable sort: the k-th image of an identity here is its k-th there.
    assert np.array_equal(np.argsort(ascending[places], kind="stable")[first], second)


def test_borders_between_pieces_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.repeat(np.arange(40), np.random.default_rng(1).integers(1, 6, 40))
    expected = IdentityOrder(labels, 8, 4).slice(0, 500)[1]
    for chunk in (1, 2, 3, 7, len(labels) - 1, len(labels)):
        monkeypatch.setattr(identity_order, "_CHUNK", chunk)
        order = IdentityOrder(labels, 8, 4)
        assert order._images is None
        assert np.array_equal(order.slice(0, 500)[1], expected)
        swapped = labels.copy()
        swapped[[-1, 0]] = swapped[[0, -1]]
        assert IdentityOrder(swapped, 8, 4)._images is not None


def test_memory_is_what_it_says() -> None:
    labels = np.repeat(np.arange(10_000), 10)
    assert len(pickle.dumps(IdentityOrder(labels, 1, 4))) < 16 * 10_000 + 1000
    mixed = np.random.default_rng(0).permutation(labels)
    assert len(pickle.dumps(IdentityOrder(mixed, 1, 4))) < 16 * 10_000 + 4 * 100_000 + 1000


def test_rounds_and_seeds_differ_and_threads_and_copies_agree() -> None:
    labels = np.repeat(np.arange(500), 20)
    order = IdentityOrder(labels, 1, 4)
    first, second = labels[order.slice(0, 4000)[1]].reshape(2, 500, 4)[..., 0]
    other = labels[IdentityOrder(labels, 2, 4).slice(0, 2000)[1]].reshape(500, 4)[:, 0]
    assert (first == second).sum() < 10
    assert (first == other).sum() < 10
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda step: order.slice(step * 64, 64)[1], range(60)))
    copy = pickle.loads(pickle.dumps(order))
    assert np.concatenate(parts).tolist() == copy.slice(0, 3840)[1].tolist()


@pytest.mark.parametrize(
    ("labels", "each", "least", "message"),
    [
        ([], 2, 1, "at least one"),
        ([0, -1], 2, 1, "none negative"),
        ([0, 1], 0, 1, "at least 1, got 0 and 1"),
        ([0, 1], 2, 0, "at least 1, got 2 and 0"),
        ([0, 1, 2], 2, 2, "none of 3 identities has at least 2 images"),
    ],
)
def test_wrong_arguments(labels: list[int], each: int, least: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IdentityOrder(np.array(labels, dtype=np.int64), 0, each, least)


def test_a_negative_position() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1 and 3"):
        IdentityOrder(np.zeros(5, dtype=np.int64), 0, 2).slice(-1, 3)
