"""Run a job's ranks under torchrun's agent, inside this process, and say how they ended.

The agent starts the ranks, watches them, passes signals on and stops all when one fails. Around it stands
what a person needs: one plain line for a failure instead of the agent's report, exit codes that mean
something, and ranks that know who started them (COSFACE_LAUNCHER_PID), so that they die with the launcher
even when it is killed with -9. (The agent gives them sessions of their own: no signal of the terminal reaches
them, and nothing ends them by itself.)
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from launch import loopback
from launch.job import Job

EXIT_DONE, EXIT_FAILED, EXIT_INPUT, EXIT_STOPPED = 0, 1, 2, 75
GRACE_S = 600  # for the step under way and a checkpoint; a second signal ends the wait


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended: `code` is its exit code, or minus the signal that killed it."""

    rank: int
    code: int
    time_s: int


def run(job: Job, status_file: Path) -> int:
    """Start the job's ranks, wait for them and return the job's exit code: 0, 1, 2 or 75.

    `status_file` is where rank 0 writes {"status": "finished" | "stopped", …} when the ranks end by
    themselves or on request; it tells the two apart after a signal to the launcher. To be called in the main
    thread.
    Raises LaunchInputError if the port is in use.
    """
    _hush_agent()
    loopback.register()
    before = _stamp(status_file)
    with loopback.listen(job.port) as listener, tempfile.TemporaryDirectory(prefix="cosface-launch-") as logs:
        port = listener.getsockname()[1]
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=job.processes,
            run_id=f"cosface-{os.getpid()}",
            role="rank",
            rdzv_backend=loopback.BACKEND,
            rdzv_configs={"port": port, "listen_fd": listener.detach()},
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            local_addr=loopback.ADDRESS,
            signals_to_handle="SIGTERM,SIGINT",
            shutdown_timeout=GRACE_S,
        )
        _hang_up_is_a_request_to_stop()
        # The agent expands ${local_rank} and the like in arguments; a user's path may hold a dollar sign.
        arguments = [argument.replace("$", "$$") for argument in job.command[1:]]
        try:
            with _environment(job.environment | {"COSFACE_LAUNCHER_PID": str(os.getpid())}):
                elastic_launch(config, job.command[0])(*arguments)
        except ChildFailedError as error:
            return _verdict(_ends(error.failures))
        except SignalException as request:
            return _after_signal(signal.Signals(request.sigval), status_file, before)
    return EXIT_DONE


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """The agent hands its own environment on to the ranks; afterwards it is as it was."""
    before = os.environ.copy()
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _ends(failures: Mapping[int, Any]) -> list[RankEnd]:
    return [RankEnd(rank, failure.exitcode, int(failure.timestamp)) for rank, failure in failures.items()]


def _verdict(ends: list[RankEnd]) -> int:
    """Return the job's exit code from the ranks that ended badly; name the culprit where one is needed."""
    codes = {end.code for end in ends}
    if EXIT_INPUT in codes:
        return EXIT_INPUT  # the rank has said its line
    if EXIT_STOPPED in codes and codes <= {EXIT_STOPPED, -signal.SIGTERM}:
        return EXIT_STOPPED
    print(f"cosface: {describe(culprit(ends))}; the other ranks were stopped", file=sys.stderr)
    return EXIT_FAILED


def culprit(ends: list[RankEnd]) -> RankEnd:
    """Return the rank that failed of itself, rather than by the agent's SIGTERM or for the loss of a peer.

    Of those that ended within a second of the first, a killed rank explains the others' lost connections.
    """
    first_s = min(end.time_s for end in ends)
    early = [end for end in ends if end.time_s <= first_s + 1]
    by_request = (-signal.SIGTERM, EXIT_STOPPED)  # the agent has asked it to stop
    return min(early, key=lambda end: (end.code in by_request, end.code > 0, end.rank))


def describe(end: RankEnd) -> str:
    """Say in a few words how a rank ended, and what that usually means."""
    if end.code >= 0:
        return f"rank {end.rank} failed with exit code {end.code} (its message is above)"
    name = signal.Signals(-end.code).name
    hint = {
        "SIGKILL": " (the system does so when memory runs out)",
        "SIGBUS": " (is the disk or /dev/shm full?)",
    }
    return f"rank {end.rank} was killed by {name}{hint.get(name, '')}"


def _after_signal(name: signal.Signals, status_file: Path, before: tuple[int, int] | None) -> int:
    """Return the exit code after the launcher was asked to stop and its ranks have ended."""
    status = ""
    if _stamp(status_file) not in (None, before):
        from trainer.errors import TrainerInputError
        from trainer.run_files import read_status

        try:
            status = read_status(status_file).status
        except TrainerInputError as error:
            print(f"cosface: stopped by {name.name}: {error}", file=sys.stderr)
            return EXIT_FAILED
    if status == "finished":
        return EXIT_DONE
    if status == "stopped":
        return EXIT_STOPPED
    print(f"cosface: stopped by {name.name} before a checkpoint of this start was written", file=sys.stderr)
    return EXIT_FAILED


def _stamp(file: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None if there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _hush_agent() -> None:
    """Silence the agent's own log: what it has to say about a failed rank is said in one line here."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _hang_up_is_a_request_to_stop() -> None:
    """A closed terminal ends the run as Ctrl-C does, with a checkpoint; under nohup it stays ignored."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
