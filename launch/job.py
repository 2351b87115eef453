"""One description of a job: how many ranks, what each runs, and in which environment."""

from __future__ import annotations

import os
import site
import socket
import sys
import sysconfig
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
    from data_pipeline.files.cores import available_cores

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
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // options.processes))
    environment = {"OMP_NUM_THREADS": threads, **on_loopback(), **importable()}
    return Job(options.processes, options.port, command, environment)


def on_loopback() -> dict[str, str]:
    """What keeps ranks of one machine on its loopback, unless the user has chosen an interface.

    Without it gloo and NCCL listen on the interface of the host's name, for everybody who can reach that.
    """
    names = [name for _, name in socket.if_nameindex()]
    loopback = next((name for name in ("lo", "lo0") if name in names), "lo")
    variables = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    return {name: os.environ.get(name) or loopback for name in variables}


def importable() -> dict[str, str]:
    """What a child process needs to import these packages: nothing if they are installed.

    PYTHONPATH stands before the standard library, so that a folder which packages of others are installed
    into must never be on it.
    """
    packages = Path(__file__).resolve().parents[1]
    installed = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("purelib")]
    if packages in (Path(folder).resolve() for folder in installed):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))}
