"""A rank of a run with something wrong: python -m tests.trainer.faulty_rank FAULT RANK TRAINING OPTIONS.

FAULT: an entry of FAULTS, which is what happens on rank RANK before its third step, or `reading`: it does not
come to an end of reading the set, which it says by making the file FAULT_FILE.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as trainer.__main__ does, which is too late here

import torch

from trainer.data import open_set
from trainer.job import Job


def fail(error: Exception) -> None:
    raise error


FAULTS: dict[str, Callable[[], object]] = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "memory": lambda: fail(torch.OutOfMemoryError("out of memory. Tried to allocate 9 GiB.\nmore")),
    "unknown": lambda: fail(RuntimeError("DataLoader timed out after 600 seconds, says gloo")),
    "interrupted": lambda: os.kill(os.getpid(), signal.SIGUSR1),
}


def main(fault: str, rank: str) -> int:
    plain = Job._train_step

    def step(job: Job, batch: Any) -> Any:
        if job.step == 2 and rank == os.environ["RANK"]:
            FAULTS.get(fault, lambda: None)()
        return plain(job, batch)

    def read(config: Any) -> Any:
        if fault == "reading" and rank == os.environ["RANK"]:
            Path(os.environ["FAULT_FILE"]).touch()
            while True:
                time.sleep(1)
        return open_set(config)

    from trainer.__main__ import main as run

    with patch.object(Job, "_train_step", step), patch("trainer.job.open_set", read):
        return run()


if __name__ == "__main__":
    fault, rank = sys.argv[1:3]
    del sys.argv[1:3]
    sys.exit(main(fault, rank))
