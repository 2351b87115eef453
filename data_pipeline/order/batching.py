"""What a global step takes of the order, which part of it a rank has, and what becomes of an epoch's end.

A step at position p takes [p, p + G), G = batch_size · world_size, and rank r the r-th part of batch_size;
the next position is the same on all ranks. Where fewer than G positions are left of the epoch (the tail),
`last` says what happens:

across  the step runs on into the next epoch; nothing is left out and every batch is full
drop    the tail is skipped: a random choice of less than G images, another one each epoch
pad     the tail, filled up with what follows in the next epoch, labelled -1 here; that is read again there
short   the tail, split over the ranks as evenly as can be. A tail with fewer than two images for every rank
        is skipped, since batch normalisation needs two

Nothing depends on where the steps before began, so a run may go on at any position, on any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from data_pipeline.order.whole_set import Order

Last = Literal["across", "drop", "pad", "short"]
_LEAST_IMAGES = 2


@dataclass(frozen=True)
class Share:
    """One rank's part of a step: positions [start, start + count), of which the first `labelled` count.

    The others get label -1. next_position is the global position after the step.
    """

    start: int
    count: int
    labelled: int
    next_position: int


class Batching:
    """Rank `rank`'s share of each step, with batches of `batch_size` images on each of `world_size` ranks.

    Raises ValueError if batch_size is below 1 or no multiple of the order's group, for a rank outside
    [0, world_size), for an unknown `last`, if a global batch is larger than an epoch (across: an image would
    come twice in it; drop: no step would ever be taken) and if all of an epoch is a tail too short to take
    (short). Larger batches are all right for pad, and for short, where a step is then a whole epoch.
    """

    def __init__(self, order: Order, batch_size: int, rank: int, world_size: int, last: Last) -> None:
        if last not in get_args(Last):
            raise ValueError(f"last must be one of {', '.join(get_args(Last))}, got {last!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be between 0 and {world_size - 1}, got {rank}")
        if batch_size % order.group:
            raise ValueError(
                f"batches of {batch_size} images are no multiple of the {order.group} images of one identity "
                "that stay together"
            )
        self._epoch_length, self._group = order.epoch_length, order.group
        self._batch_size, self._rank, self._world_size, self._last = batch_size, rank, world_size, last
        self.global_batch = batch_size * world_size
        if self.global_batch > self._epoch_length and (
            last in ("across", "drop") or not self._steps_in(self._epoch_length)
        ):
            raise ValueError(
                f"{world_size} rank(s) with batches of {batch_size} images take {self.global_batch} images a "
                f"step, an epoch has {self._epoch_length}"
            )

    def share(self, position: int) -> Share:
        """This rank's part of the step at a global position.

        Raises ValueError for a negative position and for one inside a group.
        """
        position = self._first_taken(position)
        size = self.global_batch
        end = self._epoch_end(position)
        start = position + self._rank * self._batch_size
        if self._last == "across":
            return Share(start, self._batch_size, self._batch_size, position + size)
        if self._last == "pad":
            labelled = min(max(end - start, 0), self._batch_size)
            return Share(start, self._batch_size, labelled, min(position + size, end))
        if end - position >= size:
            return Share(start, self._batch_size, self._batch_size, self._first_taken(position + size))
        each, more = divmod((end - position) // self._group, self._world_size)
        before = self._rank * each + min(self._rank, more)
        count = (each + (self._rank < more)) * self._group
        return Share(position + before * self._group, count, count, end)

    def images(self, position: int) -> int:
        """Labelled images of the step at a global position, on all ranks together; raises as `share` does."""
        position = self._first_taken(position)
        if self._last == "across":
            return self.global_batch
        return min(self.global_batch, self._epoch_end(position) - position)

    def steps_until(self, position: int, end_position: int) -> int:
        """Steps from `position` until the position has reached `end_position`; in O(1)."""
        position = self._first_taken(position)
        if position >= end_position:
            return 0
        if self._last == "across":
            return -(-(end_position - position) // self.global_batch)
        end = self._epoch_end(position)
        if end_position <= end:
            return min(-(-(end_position - position) // self.global_batch), self._steps_in(end - position))
        epochs, rest = divmod(end_position - end, self._epoch_length)
        whole = self._steps_in(self._epoch_length)
        partly = min(-(-rest // self.global_batch), whole)
        return self._steps_in(end - position) + epochs * whole + partly

    def _epoch_end(self, position: int) -> int:
        return (position // self._epoch_length + 1) * self._epoch_length

    def _first_taken(self, position: int) -> int:
        """Where the step at this position really starts: after the tail, if that is skipped."""
        if position < 0 or position % self._group:
            raise ValueError(
                f"a position is at least 0 and a multiple of the {self._group} images that stay together, "
                f"got {position}"
            )
        end = self._epoch_end(position)
        return position if self._last == "across" or self._steps_in(end - position) else end

    def _steps_in(self, left: int) -> int:
        """How many steps the last `left` positions of an epoch give, unless steps run across its end."""
        whole, tail = divmod(left, self.global_batch)
        if self._last == "drop":
            return whole
        if self._last == "short":
            least = tail // self._group // self._world_size * self._group
            return whole + (least >= _LEAST_IMAGES)
        return whole + (tail > 0)
