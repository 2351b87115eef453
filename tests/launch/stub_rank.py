"""A rank as the launcher sees one: dies with its launcher and does what it is told.

Usage: stub_rank.py FOLDER ACTION…, one action per rank: `exit CODE`, `kill SIGNAL`, `wait` (until asked to
stop: then exit 75), `stubborn` (then exit 1), `deaf` (notes the request in FOLDER/asked-R and goes on) or
`unready` (no handler for signals is installed yet). Writes FOLDER/rank-R.json with its pid and environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(os.environ["COSFACE_LAUNCHER_PID"]):
        return 1
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    total = meet() if os.environ.get("STUB_MEET") else 0
    asked: list[int] = []
    action, _, value = sys.argv[2 + rank].partition(" ")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        if action != "unready":
            signal.signal(number, lambda number, _: asked.append(number))
    report(folder, rank, total=total)
    if action == "exit":
        time.sleep(0.3)
        return int(value)
    if action == "kill":
        os.kill(os.getpid(), int(value))
    while not asked:
        time.sleep(0.02)
    if action == "deaf":
        (folder / f"asked-{rank}").touch()
        while True:
            time.sleep(1)
    return 1 if action == "stubborn" else 75


def meet() -> int:
    """All-reduce a one over the ranks (torch takes seconds to import: only where that is the point)."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.ones(1)
    dist.all_reduce(total)
    dist.destroy_process_group()
    return int(total)


def report(folder: Path, rank: int, **more: object) -> None:
    facts = {
        "pid": os.getpid(),
        "world_size": int(os.environ["WORLD_SIZE"]),
        "arguments": sys.argv[1:],
        **more,
    }
    (folder / f"rank-{rank}.new").write_text(json.dumps(facts))
    (folder / f"rank-{rank}.new").rename(folder / f"rank-{rank}.json")


if __name__ == "__main__":
    sys.exit(main())
