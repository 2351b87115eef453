"""`python -m trainer`: a rank."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback

from trainer.stop import StopRequest

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


def rank(argv: list[str]) -> int:
    """Run the rank and return its exit code, 0 or 75 or that of another rank. Raises as trainer.commands."""
    die_with_launcher()
    # torch's own lines about a connection that is lost are pages; what they mean is said in one.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with StopRequest() as stop:
        # Within: importing torch takes seconds, in which the launcher can die and a request to stop can come.
        from trainer.commands import train

        return train(argv, stop)


def main() -> int:
    """Run the rank, say what went wrong, and return its exit code: 0, 1, 2 or 75."""
    try:
        return rank(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from trainer.errors import TrainingFailed
        from trainer.ranks import INPUT_ERRORS, exit_code

        if isinstance(error, (*INPUT_ERRORS, TrainingFailed)):
            print(f"cosface: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
