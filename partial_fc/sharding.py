"""Which rank owns which classes: contiguous ranges whose sizes differ by at most one."""

from __future__ import annotations

from partial_fc.errors import HeadInputError


def class_range(num_classes: int, rank: int, world_size: int) -> tuple[int, int]:
    """The classes of one rank: (first, last), first inclusive, last exclusive.

    The first `num_classes % world_size` ranks own one class more; with fewer classes than ranks the last
    ranks own none. Raises HeadInputError when there is no such rank or no class.
    """
    if num_classes < 1:
        raise HeadInputError(f"num_classes must be at least 1, got {num_classes}")
    if not 0 <= rank < world_size:
        raise HeadInputError(f"rank must be in [0, {world_size}), got {rank}")
    size, larger = divmod(num_classes, world_size)
    first = rank * size + min(rank, larger)
    return first, first + size + (rank < larger)
