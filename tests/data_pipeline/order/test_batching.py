from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.order.batching import Batching, Last, Share
from data_pipeline.order.blocks import BlockOrder
from data_pipeline.order.identities import IdentityOrder
from data_pipeline.order.whole_set import GlobalOrder, Order

POLICIES: tuple[Last, ...] = get_args(Last)
# Primes, powers of two, fewer than ranks, and others.
SIZES = [1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 64, 97, 101, 128, 210]


def _orders(size: int) -> list[Order]:
    labels = np.arange(size) * 3 // 10
    return [GlobalOrder(size, 5), BlockOrder(size, 5, block=4, window=3), IdentityOrder(labels, 5, 3)]


def _refused(order: Order, batch_size: int, world_size: int, last: Last) -> bool:
    """What the docstring says is refused, in other words."""
    if batch_size % order.group:
        return True
    if batch_size * world_size <= order.epoch_length:
        return False
    groups_for_two = 1 if order.group > 1 else 2
    return {
        "across": True,
        "drop": True,
        "pad": False,
        "short": order.epoch_length // order.group < groups_for_two * world_size,
    }[last]


def _step(order: Order, position: int, batch_size: int, world_size: int, last: Last) -> list[Share]:
    shares = [
        Batching(order, batch_size, rank, world_size, last).share(position) for rank in range(world_size)
    ]
    assert len({share.next_position for share in shares}) == 1
    return shares


def _skippable(order: Order, batch_size: int, world_size: int, last: Last, left: int) -> bool:
    if last == "drop":
        return left < batch_size * world_size
    groups_for_two = 1 if order.group > 1 else 2
    return (
        last == "short"
        and left < batch_size * world_size
        and left // order.group < groups_for_two * world_size
    )


@given(
    size=st.sampled_from(SIZES),
    which=st.integers(0, 2),
    last=st.sampled_from(POLICIES),
    plan=st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 30)), min_size=1, max_size=4
    ),
)
@settings(max_examples=400, deadline=None)
def test_ranks_partition_the_sequence_also_when_their_number_changes(
    size: int, which: int, last: Last, plan: list[tuple[int, int, int]]
) -> None:
    """The plan: world size, batch size, steps; then the next."""
    order = _orders(size)[which]
    position, labelled = 0, []
    skipped: list[int] = []
    for world_size, batch, steps in plan:
        batch_size = batch * order.group
        if _refused(order, batch_size, world_size, last):
            with pytest.raises(ValueError, match="a step, an epoch has"):
                Batching(order, batch_size, 0, world_size, last)
            continue
        for _ in range(steps):
            shares = _step(order, position, batch_size, world_size, last)
            places = [place for share in shares for place in range(share.start, share.start + share.labelled)]
            # In the order of ranks, without a hole; what lies before was skipped, and only a tail may be.
            assert places == list(range(places[0], places[0] + len(places)))
            end = -(-(position + 1) // order.epoch_length) * order.epoch_length
            if places[0] > position:
                assert places[0] == end
                assert _skippable(order, batch_size, world_size, last, end - position)
                skipped += range(position, end)
            labelled += places
            for share in shares:
                assert (
                    share.start % order.group
                    == share.count % order.group
                    == share.labelled % order.group
                    == 0
                )
                assert 0 <= share.labelled <= share.count
                if last in ("pad", "across", "drop"):
                    assert share.count == batch_size
                if last != "pad":
                    assert share.labelled == share.count
            if last == "short":
                counts = [share.count for share in shares]
                assert counts == sorted(counts, reverse=True)
                assert counts[0] - counts[-1] in (0, order.group)
                if batch_size > 1:
                    assert counts[-1] >= 2
            if last == "pad":
                # The padding is what really follows.
                rows = [range(share.start, share.start + share.count) for share in shares]
                assert [place for row in rows for place in row] == list(
                    range(position, position + batch_size * world_size)
                )
            after = places[-1] + 1
            position = shares[0].next_position
            if position > after:
                assert position % order.epoch_length == 0
                assert _skippable(order, batch_size, world_size, last, position - after)
                skipped += range(after, position)
    assert sorted(labelled + skipped) == list(range(position))
    if last in ("across", "pad"):
        assert not skipped
    # The same said in images: no epoch has one twice, and a whole one has all.
    images = order.slice(0, position)[1]
    for first in range(0, position, order.epoch_length):
        if isinstance(order, IdentityOrder):
            break
        here = [place for place in labelled if first <= place < first + order.epoch_length]
        seen = images[here]
        assert len(np.unique(seen)) == len(seen)
        missing = sum(first <= place < first + order.epoch_length for place in skipped)
        if first + order.epoch_length <= position:
            assert len(seen) == order.num_images - missing


@pytest.mark.parametrize("last", POLICIES)
@pytest.mark.parametrize("world_size", range(1, 9))
@pytest.mark.parametrize("size", [97, 128, 61])
def test_ranks_partition_each_epoch(size: int, world_size: int, last: Last) -> None:
    order = GlobalOrder(size, seed=5)
    for batch_size in (1, 2, 5, 7):
        position, epochs = 0, [[] for _ in range(4)]  # type: ignore[var-annotated]
        while position < 3 * size:
            for share in _step(order, position, batch_size, world_size, last):
                numbers, images = order.slice(share.start, share.labelled)
                for epoch, image in zip(numbers.tolist(), images.tolist(), strict=True):
                    epochs[epoch].append(image)
                position_after = share.next_position
            position = position_after
        tail = size % (batch_size * world_size)
        dropped = tail if last == "drop" or (last == "short" and tail < 2 * world_size) else 0
        for images in epochs[:3]:
            assert len(set(images)) == len(images) == size - dropped


@pytest.mark.parametrize("last", POLICIES)
@pytest.mark.parametrize("which", range(3))
def test_steps_are_counted_as_they_are_taken(which: int, last: Last) -> None:
    """Every start and every end within three epochs."""
    for size, world_size, batch in product((4, 7, 10, 13), (1, 2, 3), (1, 2, 3)):
        order = _orders(size)[which]
        if _refused(order, batch * order.group, world_size, last):
            continue
        batching = Batching(order, batch * order.group, world_size - 1, world_size, last)
        for start in range(0, order.epoch_length + 1, order.group):
            assert {batching.steps_until(start, end) for end in range(start + 1)} == {0}
            position, end, steps = start, start, 0
            while end < 3 * order.epoch_length:
                first, *_ = _step(order, position, batch * order.group, world_size, last)
                # A tail that is skipped before the step may reach the end already.
                while end <= first.start:
                    assert batching.steps_until(start, end) == steps
                    end += 1
                position, steps = first.next_position, steps + 1
                while end <= position:
                    assert batching.steps_until(start, end) == steps
                    end += 1


def test_many_epochs_are_counted_at_once() -> None:
    batching = Batching(GlobalOrder(10**12, 0), 100, 0, 7, "short")
    each = 10**12 // 700 + (10**12 % 700 >= 14)
    assert batching.steps_until(0, 10**15 * 10**12) == 10**15 * each


def test_the_four_ends_of_an_epoch() -> None:
    # Ten images, two ranks with batches of three: a tail of four.
    order = GlobalOrder(10, 0)
    shares = {last: [Batching(order, 3, rank, 2, last).share(6) for rank in (0, 1)] for last in POLICIES}
    assert shares == {
        "across": [Share(6, 3, 3, 12), Share(9, 3, 3, 12)],
        "drop": [Share(10, 3, 3, 20), Share(13, 3, 3, 20)],
        "pad": [Share(6, 3, 3, 10), Share(9, 3, 1, 10)],
        "short": [Share(6, 2, 2, 10), Share(8, 2, 2, 10)],
    }
    # Of three ranks with batches of three, one image is left: too few for any.
    assert Batching(order, 3, 0, 3, "short").share(0).next_position == 10
    assert Batching(order, 3, 2, 3, "short").share(7) == Share(16, 3, 3, 20)
    assert Batching(order, 3, 2, 3, "pad").share(9) == Share(15, 3, 0, 10)


def test_groups_stay_on_one_rank() -> None:
    # Seven identities of four, two ranks of two groups: the tail is three groups.
    order = IdentityOrder(np.repeat(np.arange(7), 9), 0, 4)
    shares = [Batching(order, 8, rank, 2, "short").share(16) for rank in (0, 1)]
    assert shares == [Share(16, 8, 8, 28), Share(24, 4, 4, 28)]
    with pytest.raises(ValueError, match="batches of 10 images are no multiple of the 4 images"):
        Batching(order, 10, 0, 2, "across")
    with pytest.raises(ValueError, match="multiple of the 4 images that stay together, got 6"):
        Batching(order, 8, 0, 2, "across").share(6)


def test_larger_batches_than_the_epoch() -> None:
    order = GlobalOrder(10, 0)
    for last in ("across", "drop"):
        with pytest.raises(
            ValueError, match=r"2 rank\(s\) with batches of 6 images take 12 images a step, an"
        ):
            Batching(order, 6, 0, 2, last)
    assert [Batching(order, 6, rank, 2, "pad").share(10) for rank in (0, 1)] == [
        Share(10, 6, 6, 20),
        Share(16, 6, 4, 20),
    ]
    assert [Batching(order, 6, rank, 2, "short").share(10) for rank in (0, 1)] == [
        Share(10, 5, 5, 20),
        Share(15, 5, 5, 20),
    ]
    with pytest.raises(ValueError, match="an epoch has 10"):
        Batching(order, 6, 0, 6, "short")


@pytest.mark.parametrize(
    ("batch_size", "rank", "world_size", "last", "message"),
    [
        (0, 0, 1, "across", "batch_size must be at least 1, got 0"),
        (1, 2, 2, "across", "rank must be between 0 and 1, got 2"),
        (1, -1, 2, "across", "rank must be between 0 and 1, got -1"),
        (1, 0, 1, "keep", "one of across, drop, pad, short, got 'keep'"),
    ],
)
def test_wrong_arguments(batch_size: int, rank: int, world_size: int, last: Last, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batching(GlobalOrder(10, 0), batch_size, rank, world_size, last)
    with pytest.raises(ValueError, match="got -1"):
        Batching(GlobalOrder(10, 0), 2, 0, 1, "pad").share(-1)
