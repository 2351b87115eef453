"""Run a job's ranks under torchrun's agent, inside this process, and say how they ended.

The agent starts the ranks, watches them and stops all when one fails. Around it stands what a person needs:
requests to stop that reach the ranks as what they are, so that their exit codes say what became of them; one
plain line for a failure instead of the agent's report, exit codes that mean something, and ranks that know
who started them (COSFACE_LAUNCHER_PID), so that they die with the launcher even when it is killed with -9.
(The agent gives them sessions of their own: no signal of the terminal reaches them, and nothing ends them by
itself.)
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

from torch.distributed.elastic.agent.server.api import WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs

from launch import loopback
from launch.job import Job
from launch.requests import Requests

EXIT_DONE, EXIT_FAILED, EXIT_INPUT, EXIT_STOPPED = 0, 1, 2, 75
# A rank that has just been started dies of a request to stop, and loses nothing.
_BY_REQUEST = {EXIT_STOPPED, -signal.SIGTERM, -signal.SIGINT, -signal.SIGUSR1, -signal.SIGUSR2}


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended: `code` is its exit code, or minus the signal that killed it."""

    rank: int
    code: int
    time_s: int


def run(job: Job, run_folder: Path) -> int:
    """Start the job's ranks, wait for them and return the job's exit code: 0, 1, 2 or 75.

    run_folder: where the ranks write checkpoints, which a request to stop that failed is told with. To be
    called in the main thread. Raises LaunchInputError if the port is in use.
    """
    _hush_agent()
    before = _checkpoints(run_folder)
    with loopback.listen(job.port) as listener, tempfile.TemporaryDirectory(prefix="cosface-launch-") as logs:
        port, run_id = listener.getsockname()[1], f"cosface-{os.getpid()}"
        # The agent expands ${local_rank} and the like in arguments; a user's path may hold a dollar sign.
        arguments = [argument.replace("$", "$$") for argument in job.command[1:]]
        spec = WorkerSpec(
            role="rank",
            local_world_size=job.processes,
            rdzv_handler=loopback.LoopbackRendezvous(run_id, port, listener.detach()),
            entrypoint=job.command[0],
            args=tuple(arguments),
            max_restarts=0,
            monitor_interval=0.1,
            local_addr=loopback.ADDRESS,
        )
        agent = LocalElasticAgent(spec, DefaultLogsSpecs(log_dir=logs))
        requests = Requests(lambda: [w.id for w in agent.get_worker_group().workers if w.id is not None])
        with requests.heard(), _environment(job.environment):
            result = agent.run()
    if not result.is_failed():
        return EXIT_DONE
    ends = _ends(result.failures)
    if requests.first:
        return _after_request(requests.first, ends, _checkpoints(run_folder) - before)
    return _verdict(ends)


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """The agent hands its own environment on to the ranks; afterwards it is as it was."""
    before = os.environ.copy()
    # The agent would answer signals by ending the ranks: they are for `Requests`.
    os.environ.update(added, COSFACE_LAUNCHER_PID=str(os.getpid()), TORCHELASTIC_SIGNALS_TO_HANDLE="")
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
    if EXIT_STOPPED in codes and codes <= _BY_REQUEST:
        return EXIT_STOPPED
    print(f"cosface: {describe(culprit(ends))}; the other ranks were stopped", file=sys.stderr)
    return EXIT_FAILED


def culprit(ends: list[RankEnd]) -> RankEnd:
    """Return the rank that failed of itself, rather than by the agent's SIGTERM or for the loss of a peer.

    Of those that ended within a second of the first, a killed rank explains the others' lost connections.
    """
    first_s = min(end.time_s for end in ends)
    early = [end for end in ends if end.time_s <= first_s + 1]
    return min(early, key=lambda end: (end.code in _BY_REQUEST, end.code > 0, end.rank))


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


def _after_request(name: signal.Signals, ends: list[RankEnd], written: set[tuple[str, int]]) -> int:
    """Return the job's exit code after the launcher was asked to stop; written: the start's checkpoints."""
    codes = {end.code for end in ends}
    if codes <= _BY_REQUEST:
        return EXIT_STOPPED
    if EXIT_INPUT in codes:
        return EXIT_INPUT  # the rank has said its line
    if written:
        what = f"{describe(culprit(ends))}; {max(written)[0]} is what this start wrote last"
        print(f"cosface: stopped by {name.name}, and {what}", file=sys.stderr)
    else:
        what = "before a checkpoint of this start was written"
        print(f"cosface: stopped by {name.name} {what}", file=sys.stderr)
    return EXIT_FAILED


def _checkpoints(run_folder: Path) -> set[tuple[str, int]]:
    """Return the finished checkpoints of a run, each with what changes when it is written anew."""
    found = (run_folder / "checkpoints").glob("step-*")
    return {(str(folder), folder.stat().st_mtime_ns) for folder in found}


def _hush_agent() -> None:
    """Silence the agent's own log: what it has to say about a failed rank is said in one line here."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
