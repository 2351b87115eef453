"""A thread that looks whether another rank has failed, while this one may be waiting for it without end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from trainer.board import Board
from trainer.ranks import FailedElsewhere
from trainer.stop import EXIT_STOPPED

LOOK_EVERY_S = 1.0
LEAVE_WITHIN_S = 20.0
"""How long a rank may go on after another has failed; longer than finding out who is missing takes."""


class Lookout:
    """Answers for this rank when one has failed, and ends the process if it does not leave by itself.

    Whatever this rank waits in (a collective of GPUs, a read of a file), it is of no use to a run that one
    rank has left. The other ways out are quicker and cleaner; this one is for when they are closed.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._over = threading.Event()
        self.heard: FailedElsewhere | None = None
        """Who has failed and says why, as soon as that is known."""
        self._thread = threading.Thread(target=self._look, name="lookout", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """This rank leaves by itself: the process is not ended."""
        self._over.set()

    def _look(self) -> None:
        try:
            while not (failures := self._board.failures()):
                if self._over.wait(LOOK_EVERY_S):
                    return
            first, code = next(iter(failures.items()))
            self._board.answer()
            if code == EXIT_STOPPED:
                os.kill(os.getpid(), signal.SIGTERM)  # as if this rank had been asked as well
            self._hear(code)
            if self._over.wait(LEAVE_WITHIN_S):
                return
            if self.heard is None and self._board.speak() == self._board.rank:
                print(f"cosface: rank {first} has failed and did not say why", file=sys.stderr)
        except Exception:
            if self.heard is None or self._over.wait(LEAVE_WITHIN_S):
                return  # the store's holder has left: the exchanges' own deadlines remain
        sys.stderr.flush()
        os._exit(code)

    def _hear(self, code: int) -> None:
        end = time.monotonic() + LEAVE_WITHIN_S / 2
        while time.monotonic() < end:
            if (speaker := self._board.speaker()) is not None:
                self.heard = FailedElsewhere(speaker, code)
                self._board.done()
                return
            if self._over.wait(0.2):
                return
