"""How a rank leaves a run that fails: one rank says what was wrong, all others end without a word.

What was agreed on (`Ranks.agreed`) is known to all. Anything else that a rank meets alone it puts on the
board, and whoever then waits for it in vain finds it there. Whether an exchange failed because a rank is lost
is told by a roll call, not by an error's words: every process that lives answers, from a thread of its own.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from contextlib import suppress

import torch.distributed as dist

from partial_fc.communicator.presence import within
from partial_fc.errors import CollectiveError
from trainer.board import Board
from trainer.errors import RankLost, StepFailed
from trainer.lookout import Lookout
from trainer.ranks import FailedElsewhere, Ranks, exit_code
from trainer.stop import StopRequest
from trainer.store import StoreServer

ROLL_CALL_S = 8.0
"""How long a living process may take to answer."""
_BOARD_S = ROLL_CALL_S + 10.0
_LINGER_S = 60.0
_ADVICE = "the same command goes on from the newest checkpoint"


def is_uncertain(error: BaseException) -> bool:
    """Whether an error may come of another rank's absence: gloo's are RuntimeError and nothing narrower."""
    if isinstance(error, StepFailed) and error.__cause__ is not None:
        error = error.__cause__
    return type(error) is RuntimeError or isinstance(error, CollectiveError | dist.DistError)


def speaks_alone(ranks: Ranks, *, rank_0_is_gone: bool) -> bool:
    """Whether this rank speaks where no other can be asked: one of every machine does."""
    on_first_machine = ranks.rank == ranks.local_rank
    return ranks.local_rank == (1 if on_first_machine and rank_0_is_gone else 0)


class Leaving:
    """One rank's way out; server: of the store in which the board lies."""

    def __init__(
        self, ranks: Ranks, board: Board, lookout: Lookout, server: StoreServer, stop: StopRequest
    ) -> None:
        self._ranks, self._board, self._lookout = ranks, board, lookout
        self._server, self._stop = server, stop
        self._silent: list[int] = []

    def well(self) -> None:
        """The run is over on this rank."""
        self._lookout.end()
        with suppress(Exception):
            within(_BOARD_S, self._part)

    def verdict(self, error: BaseException) -> BaseException:
        """What this rank is to raise, having met an error: the error itself, another, or FailedElsewhere."""
        try:
            return within(_BOARD_S, lambda: self._verdict(error))
        except Exception:
            return self._without_board(error)
        finally:
            self._lookout.end()

    def end_process(self, code: int) -> None:
        """Have the process end when its line is said: an exchange under way would hold it back."""

        def leave() -> None:
            if self._server.held:
                with suppress(Exception):
                    self._linger()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

        atexit.register(leave)

    def _verdict(self, error: BaseException) -> BaseException:
        board, own, code = self._board, self._ranks.rank, exit_code(error)
        if isinstance(error, FailedElsewhere):
            self._part()
            return error
        uncertain = is_uncertain(error)
        board.fail(code)
        board.answer()
        if uncertain and not self._roll_call():
            self._part()
            return FailedElsewhere(own, code)  # the launcher says it
        speaker = board.speak()
        self._part()
        if speaker != own:
            return FailedElsewhere(speaker, board.failures().get(speaker, code))
        if self._silent:
            return RankLost(
                f"{board.places(self._silent)} did not answer within {ROLL_CALL_S:g} s: gone or stopped; "
                f"{_ADVICE}"
            )
        return RankLost(str(error)) if isinstance(error, CollectiveError) else error

    def _roll_call(self) -> bool:
        """Find out which ranks do not answer; False where the launcher knows already and will say it."""
        end = time.monotonic() + ROLL_CALL_S
        while silent := self._board.silent():
            if time.monotonic() > end or self._board.speaker() is not None:
                break
            # It ends the others when it has seen one die.
            if self._stop.requested and "COSFACE_LAUNCHER_PID" in os.environ:
                return False
            time.sleep(0.1)
        self._silent = silent
        return True

    def _part(self) -> None:
        self._board.answer()
        self._board.done()

    def _without_board(self, error: BaseException) -> BaseException:
        """The same without the store, whose holder is gone."""
        if heard := self._lookout.heard:
            return heard
        if isinstance(error, FailedElsewhere) or not is_uncertain(error):
            return error
        ranks, by_rank_0 = self._ranks, self._server.by_rank_0
        if not speaks_alone(ranks, rank_0_is_gone=by_rank_0):
            return FailedElsewhere(0, exit_code(error))
        who = "rank 0 is gone or stopped" if by_rank_0 else "torchrun's agent there is gone or stopped"
        return RankLost(
            f"rank {ranks.rank} of {ranks.world_size}: {self._server.address} does not answer: {who}; "
            f"{_ADVICE}"
        )

    def _linger(self) -> None:
        """The board goes with this process: wait until the others have read it."""
        end = time.monotonic() + _LINGER_S
        while set(self._board.not_done()) - set(self._silent) and time.monotonic() < end:
            time.sleep(0.1)
