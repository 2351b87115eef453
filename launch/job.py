"""One description of a job: how many ranks, what each runs, and in which environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchInputError

RANKS_PER_CORE = 4  # beyond it ranks only wait for each other: a mistyped number, not a plan


@dataclass(frozen=True)
class LocalOptions:
    """Start a training run on several ranks of this machine; the training options follow after `--`."""

    processes: int = 1
    """Ranks to start (one per GPU; on CPU two or more share the cores)."""
    port: int = 0
    """Port on 127.0.0.1 where the ranks meet; 0 takes any free one."""


@dataclass(frozen=True)
class Job:
    """What to start on this machine.

    `command` is a rank's command line; `environment` is added to the launcher's own for every rank. The
    command must be one process (no shell around it): the launcher's signals and its death are for that one.
    """

    processes: int
    port: int
    command: tuple[str, ...]
    environment: dict[str, str]


def training_job(options: LocalOptions, arguments: list[str]) -> Job:
    """Return the job that runs `python -m trainer` with the training `arguments` on every rank.

    Raises LaunchInputError if the number of processes or the port is none.
    """
    cores = available_cores()
    if not 1 <= options.processes <= RANKS_PER_CORE * cores:
        raise LaunchInputError(
            f"--processes {options.processes}: expected 1 to {RANKS_PER_CORE * cores} "
            f"({RANKS_PER_CORE} for each of this machine's {cores} cores)"
        )
    if not 0 <= options.port <= 65535:
        raise LaunchInputError(f"--port {options.port}: expected 1 to 65535, or 0 for any free port")
    # -P: a folder named `trainer` where the user happens to stand must not be taken for ours.
    command = (sys.executable, "-P", "-m", "trainer", *arguments)
    packages = str(Path(__file__).resolve().parents[1])
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // options.processes)),
        # All ranks are on this machine: gloo need not look up the host's name to find an interface.
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME") or "lo",
    }
    return Job(options.processes, options.port, command, environment)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
