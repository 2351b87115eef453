"""`python -m trainer`: a rank."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback

_PR_SET_PDEATHSIG = 1


def die_with_launcher() -> None:
    """Have the kernel kill this rank when its launcher dies, also by -9, when no agent can tell the ranks.

    torchrun's workers have sessions of their own and do not die by themselves. Linux alone has this.
    """
    launcher = os.environ.get("COSFACE_LAUNCHER_PID")
    if launcher is None and "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = str(os.getppid())
    if launcher is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if str(os.getppid()) != launcher:
        # It died before the kernel knew.
        sys.exit(1)


def main() -> int:
    """Run the rank and return its exit code: 0, 1, 2 or 75."""
    die_with_launcher()
    # After the line above: importing torch takes seconds, in which the launcher can die too.
    from trainer.commands import train
    from trainer.errors import TrainingFailed
    from trainer.ranks import INPUT_ERRORS, exit_code

    try:
        return train(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, (*INPUT_ERRORS, TrainingFailed)):
            print(f"cosface: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
