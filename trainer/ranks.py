"""The ranks of a run: who this process is, and the small exchanges by which all of them agree.

Every exchange is over CPU tensors, goes through a communicator of their own and has a deadline; what fails on
one rank is known to all before anyone goes on, so that nobody waits for a rank that has left and one rank
alone says what was wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from data_pipeline.errors import DataInputError
from partial_fc.communicator import Patient
from partial_fc.errors import HeadInputError
from trainer.errors import TrainerInputError
from trainer.stop import EXIT_STOPPED, EvaluationStopped, StopAsked

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
INPUT_ERRORS = (TrainerInputError, DataInputError, HeadInputError)


class FailedElsewhere(Exception):
    """Another rank failed and says why; this one ends with the same exit code and without a word."""

    def __init__(self, rank: int, exit_code: int) -> None:
        super().__init__(f"rank {rank} failed")
        self.rank = rank
        self.exit_code = exit_code


@dataclass(frozen=True)
class Ranks:
    """This process among the `world_size` of the run; `local_…` count those of this machine.

    communicator: how they exchange; None where there is one rank, or before they have met (`joined`).
    Every exchange raises CollectiveError, which names the ranks that did not come, if one does not.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    communicator: Patient | None = field(default=None, compare=False)

    @classmethod
    def over(cls, communicator: Patient, local_rank: int = 0, local_world_size: int = 1) -> Ranks:
        """The ranks of a communicator."""
        return cls(communicator.rank, communicator.world_size, local_rank, local_world_size, communicator)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes and prints for all."""
        return self.rank == 0

    def maximum(self, value: int) -> int:
        """The largest of the ranks' values."""
        return int(self.stack(torch.tensor(value)).max())

    def stack(self, tensor: Tensor) -> Tensor:
        """tensor: [*shape] on the CPU, the same shape on every rank. Returns [world_size, *shape]."""
        if self.world_size == 1:
            return tensor.unsqueeze(0)
        if self.communicator is None:
            raise RuntimeError(f"rank {self.rank} of {self.world_size} has not met the others")
        return self.communicator.all_gather(tensor)

    def gather(self, value: Any) -> list[Any]:
        """What every rank passed in, in rank order: anything that JSON can say."""
        if self.world_size == 1:
            return [value]
        words = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        longest = self.maximum(len(words))
        padded = torch.full((longest,), ord(" "), dtype=torch.uint8)
        padded[: len(words)] = words
        return [json.loads(part.numpy().tobytes()) for part in self.stack(padded)]

    def slice_of(self, count: int) -> tuple[int, int]:
        """First and last (exclusive) of ``count`` things that are this rank's; sizes differ by at most 1."""
        return count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[None]:
        """Exchanges in the block wait so long for the other ranks."""
        if self.communicator is None:
            yield
            return
        before, self.communicator.deadline_s = self.communicator.deadline_s, seconds
        try:
            yield
        finally:
            self.communicator.deadline_s = before

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Go on only if the block went well on every rank; it must not exchange anything itself.

        The error of the first rank that failed is raised there, FailedElsewhere on all others.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        self.agree_on(error)

    def agree_on(self, error: Exception | None, wish: int = 0) -> int:
        """Raise if a rank passes in an error, as `agreed` does; else, the largest wish of any, below 256.

        Who passes in FailedElsewhere repeats what it was told: the rank that failed speaks for all.
        """
        # One number says it all: below 256 all is well, and from 256 on the lowest rank that failed.
        own = wish
        if isinstance(error, FailedElsewhere):
            own = (self.world_size - error.rank) * 256 + error.exit_code
        elif error is not None:
            own = (self.world_size - self.rank) * 256 + exit_code(error)
        worst = self.maximum(own)
        if worst < 256:
            return worst
        first = self.world_size - worst // 256
        if first == self.rank and error is not None:
            raise error
        raise FailedElsewhere(first, worst % 256)


def exit_code(error: BaseException) -> int:
    """2 for what the user can put right, 75 for a request to stop, 1 for everything else."""
    if isinstance(error, FailedElsewhere):
        return error.exit_code
    if isinstance(error, StopAsked | EvaluationStopped):
        return EXIT_STOPPED
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_INPUT if isinstance(error, INPUT_ERRORS) else EXIT_FAILED


def ranks_from_environment() -> Ranks:
    """What torchrun's variables say; one rank alone where there are none. Raises TrainerInputError."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, world_size, local_rank, local_world_size = (
            int(os.environ.get(name, default)) for name, default in zip(names, (0, 1, 0, 1), strict=True)
        )
    except ValueError as error:
        raise TrainerInputError(f"one of the variables {', '.join(names)} is no number: {error}") from None
    if not 0 <= rank < world_size:
        raise TrainerInputError(f"RANK is {rank}, it must be between 0 and WORLD_SIZE - 1 = {world_size - 1}")
    return Ranks(rank, world_size, local_rank, local_world_size)
