"""What the ranks of a run tell each other beside their exchanges: who is here, who has failed, who says why.

It lies in torch's key-value store, which lives with torchrun's agent, or with rank 0 where there is none; so
it is still there when an exchange has failed and nothing goes over the ranks' own connections any more.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable

from torch.distributed import distributed_c10d

from trainer.errors import TrainerInputError

NO_RANK = -1
"""Stands on the board for a process that does not know its rank."""
_HERE, _ARRIVED, _FAILED, _ANSWERS, _SPEAKER, _DONE, _STRANGERS = (
    "here",
    "arrived",
    "failed",
    "answers",
    "speaker",
    "done",
    "strangers",
)


class AnotherRun(TrainerInputError):
    """All ranks of the run that meets there have come: this process is none of them, and they go on."""


class Board:
    """One rank's hold on it. Every call raises torch's DistError where the store does not answer."""

    def __init__(self, store: distributed_c10d.Store, rank: int, world_size: int) -> None:
        self._store = distributed_c10d.PrefixStore("cosface/board", store)
        self.rank, self.world_size = rank, world_size

    def arrive(self) -> None:
        """Say that this rank is here, and where.

        Raises TrainerInputError if the ranks' numbers are wrong, AnotherRun if that concerns this one alone.
        """
        if self.all_are_here():
            raise AnotherRun(
                f"MASTER_ADDR and MASTER_PORT are those of a run whose ranks have all come, "
                f"{self.places([0])} among them; give another MASTER_PORT"
            )
        size = int(self._store.compare_set("world_size", "", str(self.world_size)))
        if size != self.world_size:
            raise TrainerInputError(f"WORLD_SIZE is {self.world_size} here and {size} on another rank")
        if self._store.add(f"times/{self.rank}", 1) > 1:
            self.is_a_stranger()
            raise TrainerInputError(f"RANK {self.rank} is given twice, also to {self.places([self.rank])}")
        here = json.dumps({"host": socket.gethostname(), "process": os.getpid()})
        self._store.set(f"{_HERE}/{self.rank}", here)
        self._store.add(_ARRIVED, 1)

    def is_a_stranger(self) -> None:
        """Say that this process has no rank's number to itself, so that one rank will not come."""
        self._store.add(_STRANGERS, 1)

    def all_are_here(self) -> bool:
        """Whether all ranks have arrived."""
        # Of another run, its number of ranks.
        size = self._store.get("world_size") if self._store.check(["world_size"]) else self.world_size
        return self._store.add(_ARRIVED, 0) >= int(size)

    def is_here(self, rank: int) -> bool:
        """Whether this rank has arrived."""
        return self._store.check([f"{_HERE}/{rank}"])

    def missing(self) -> list[int]:
        """The ranks that have not arrived."""
        return [rank for rank in range(self.world_size) if not self.is_here(rank)]

    def fail(self, code: int) -> None:
        """Say that this rank is about to leave with an exit code other than 0."""
        self._store.append(_FAILED, f"{self.rank}:{code} ")  # type: ignore[attr-defined]

    def failures(self) -> dict[int, int]:
        """The exit codes of the ranks that are about to leave, the first that said so first."""
        marks = (mark.split(":") for mark in self._words(_FAILED))
        return {int(rank): int(code) for rank, code in marks}

    def answer(self) -> None:
        """Say that this rank lives, after another has failed, or that it has left."""
        self._store.append(_ANSWERS, f"{self.rank} ")  # type: ignore[attr-defined]

    def silent(self) -> list[int]:
        """The ranks that have not answered."""
        return self._not_in(_ANSWERS)

    def done(self) -> None:
        """Say that this rank needs the board no more."""
        self._store.append(_DONE, f"{self.rank} ")  # type: ignore[attr-defined]

    def not_done(self) -> list[int]:
        """The ranks that may still need the board."""
        late = self._not_in(_DONE)
        strangers = self._store.add(_STRANGERS, 0)
        # The processes of as many ranks came under numbers that are not theirs.
        return [] if len(late) <= strangers and not any(map(self.is_here, late)) else late

    def speak(self) -> int:
        """Ask to be the rank that says what was wrong; the one that may, which is the first that asked."""
        found: bytes = self._store.compare_set(_SPEAKER, "", str(self.rank))
        return int(found)

    def speaker(self) -> int | None:
        """The rank that says what was wrong, if one has asked to."""
        return int(self._store.get(_SPEAKER)) if self._store.check([_SPEAKER]) else None

    def places(self, ranks: Iterable[int]) -> str:
        """Ranks with their hosts and processes, as words; four of them at most."""
        named = list(ranks)
        words = ", ".join(map(self._place, named[:4]))
        more = f" and {len(named) - 4} more" if len(named) > 4 else ""
        return f"{words}{more} of {self.world_size}"

    def _place(self, rank: int) -> str:
        if not self.is_here(rank):
            return f"rank {rank}"
        here = json.loads(self._store.get(f"{_HERE}/{rank}"))
        return f"rank {rank} (process {here['process']} on {here['host']})"

    def _not_in(self, key: str) -> list[int]:
        found = {int(rank) for rank in self._words(key)}
        return [rank for rank in range(self.world_size) if rank not in found]

    def _words(self, key: str) -> list[str]:
        return self._store.get(key).decode().split() if self._store.check([key]) else []
