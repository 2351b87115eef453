"""Who came to an exchange that failed.

Where an exchange fails, nothing goes over its own connections any more. So each rank that is there says so
on a board beside them, and the ranks that say nothing within a short grace are those that did not come.
As long as exchanges succeed nothing is written; a rank that waits long reads whether another has given up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from partial_fc.errors import CollectiveError

LOOK_EVERY_S = 1.0
GRACE_S = 4.0
"""Longer than LOOK_EVERY_S by what a busy machine may need: whoever waits has looked and answered by then."""

_Answer = TypeVar("_Answer")


class Board(Protocol):
    """What all ranks can write to and read, one for each communicator. Any call may fail or hang."""

    holder: str
    """Whose end takes the board along, as words."""

    def post(self, rank: int, exchange: int) -> None:
        """Say that this rank came to that exchange, counted from 1."""
        ...

    def is_empty(self) -> bool:
        """Whether nobody has posted."""
        ...

    def read(self) -> dict[int, int]:
        """The exchange that each rank has posted."""
        ...


class Presence:
    """One rank's view of who is there. board: None where there is none; user: whose exchanges they are."""

    def __init__(self, rank: int, world_size: int, board: Board | None, user: str = "the head") -> None:
        self._user = user
        self._rank, self._world_size, self._board = rank, world_size, board
        self._exchange = 0
        self._began = 0.0
        self._answers = True

    def begin(self) -> None:
        """Count one more exchange."""
        self._exchange += 1
        self._began = time.monotonic()
        self._answers = True

    @property
    def waited_s(self) -> float:
        """Seconds since the exchange began."""
        return time.monotonic() - self._began

    def given_up(self) -> bool:
        """Whether another rank has failed in an exchange, so that this one cannot succeed."""
        if not self._answers or self._board is None:
            return False
        try:
            return not within(GRACE_S, self._board.is_empty)
        except Exception:  # not asked again in this exchange, whose own deadline remains
            self._answers = False
            return False

    def failure(self, exchange: str, reason: Exception, *, looked: bool = True) -> CollectiveError:
        """The error of this rank's exchange, naming the ranks that did not come; takes some seconds at most.

        looked: whether the ranks that wait in this exchange ask `given_up`; else nobody can be named.
        """
        who = self._who(self._board if looked else None)
        first_line = next(iter(str(reason).splitlines()), type(reason).__name__)
        text = first_line.split(". ")[0]  # less gloo's advice
        return CollectiveError(
            f"rank {self._rank} of {self._world_size}: the {exchange} of {self._user} failed "
            f"at its exchange {self._exchange}: {who}: {text}"
        )

    def _who(self, board: Board | None) -> str:
        if board is None:
            return "a rank is gone or did not come in time, which one is not known here"
        try:
            absent = within(GRACE_S + LOOK_EVERY_S, lambda: self._absent(board))
        except Exception:
            return f"a rank is gone or did not come in time, which one is not known without {board.holder}"
        if not absent:
            return "every rank came, but too late or over a broken connection"
        names = ", ".join(map(str, absent))
        return f"rank{'s' if len(absent) > 1 else ''} {names} did not come within {self.waited_s:.0f} s"

    def _absent(self, board: Board) -> list[int]:
        absent: list[int] = []
        board.post(self._rank, self._exchange)
        end = time.monotonic() + GRACE_S
        while True:
            try:
                posted = board.read()
            except Exception:  # the board's holder may itself be done waiting, and leave
                if time.monotonic() < end - GRACE_S / 2:
                    raise
                return absent
            absent = [r for r in range(self._world_size) if posted.get(r, 0) < self._exchange]
            if not absent or time.monotonic() > end:
                return absent
            time.sleep(0.1)


def within(seconds: float, function: Callable[[], _Answer]) -> _Answer:
    """What the function returns or raises; TimeoutError where it takes longer, and it is left behind."""
    answers: list[_Answer] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(function())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]
