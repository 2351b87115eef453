"""The launcher with real ranks: how they end, what it says, and that none outlives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.requests import PASSED_ON
from launch.torchrun import RankEnd, culprit, describe
from tests.waiting import patience_s, until

STUB = Path(__file__).with_name("stub_rank.py")
LAUNCHER = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
from launch.cli import guarded
from launch.job import Job
from launch.torchrun import run
folder, port, *actions = sys.argv[1:]
job = Job(len(actions), int(port), (sys.executable, {stub!r}, folder, *actions), {{"OMP_NUM_THREADS": "1"}})
sys.exit(guarded(lambda: run(job, Path(folder))))
"""


class Launcher:
    """A launcher of stub ranks in a process of its own."""

    def __init__(self, folder: Path, *actions: str, port: int = 0, **environment: str) -> None:
        self.folder, self.ranks = folder, len(actions)
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER.format(stub=str(STUB)), str(folder), str(port), *actions],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def started(self) -> list[dict[str, Any]]:
        """Wait until every rank has reported, and return the reports."""
        files = [self.folder / f"rank-{rank}.json" for rank in range(self.ranks)]

        def are_there() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return all(file.exists() for file in files)

        until(are_there, "the ranks' start")
        return [json.loads(file.read_text()) for file in files]

    def ended(self) -> tuple[int, str]:
        """Wait for the end and return exit code and standard error."""
        _, complaint = self.process.communicate(timeout=patience_s())
        return self.process.returncode, complaint


@pytest.fixture
def launchers() -> Iterator[list[Launcher]]:
    started: list[Launcher] = []
    yield started
    for launcher in started:
        launcher.process.kill()
        launcher.process.communicate()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def assert_all_gone(ranks: list[dict[str, Any]]) -> None:
    until(lambda: not any(alive(rank["pid"]) for rank in ranks), f"the end of {ranks}")


def test_ranks_meet_and_their_success_is_quiet(tmp_path: Path, launchers: list[Launcher]) -> None:
    odd = tmp_path / "${local_rank} $$ it's"
    odd.mkdir()
    launchers.append(launcher := Launcher(odd, "exit 0", "exit 0", STUB_MEET="yes"))
    assert launcher.ended() == (0, "")
    for report in (json.loads((odd / f"rank-{rank}.json").read_text()) for rank in range(2)):
        assert report["world_size"] == report["total"] == 2
        assert report["arguments"][0] == str(odd)


@pytest.mark.parametrize(
    ("actions", "code", "says"),
    [
        (("exit 2", "wait"), 2, ""),
        (("exit 75", "wait"), 75, ""),
        (("wait", "exit 1"), 1, "cosface: rank 1 failed with exit code 1 (its message is above); "),
        (("wait", "kill 9"), 1, "cosface: rank 1 was killed by SIGKILL (the system does so when memory"),
    ],
)
def test_how_ranks_end_is_how_the_job_ends(
    tmp_path: Path, launchers: list[Launcher], actions: tuple[str, ...], code: int, says: str
) -> None:
    launchers.append(launcher := Launcher(tmp_path, *actions))
    ranks = launcher.started()
    got, complaint = launcher.ended()
    assert (got, complaint.count("\n")) == (code, 1 if says else 0), complaint
    assert complaint.startswith(says)
    assert_all_gone(ranks)


@pytest.mark.parametrize("number", [*PASSED_ON, signal.SIGHUP])
def test_a_request_to_stop_is_passed_on(tmp_path: Path, launchers: list[Launcher], number: int) -> None:
    launchers.append(launcher := Launcher(tmp_path, "wait", "wait"))
    ranks = launcher.started()
    launcher.process.send_signal(number)
    assert launcher.ended() == (75, "")
    assert_all_gone(ranks)


def test_a_stop_without_a_checkpoint_is_a_failure(tmp_path: Path, launchers: list[Launcher]) -> None:
    (tmp_path / "status.json").write_text('{"status": "stopped"}')  # of an earlier start
    launchers.append(launcher := Launcher(tmp_path, "stubborn"))
    launcher.started()
    launcher.process.terminate()
    code, complaint = launcher.ended()
    assert code == 1
    assert complaint == "cosface: stopped by SIGTERM before a checkpoint of this start was written\n"


def test_a_stop_that_fails_after_a_checkpoint_names_it(tmp_path: Path, launchers: list[Launcher]) -> None:
    launchers.append(launcher := Launcher(tmp_path, "stubborn", "wait"))
    launcher.started()
    saved = tmp_path / "checkpoints" / "step-00000003"
    saved.mkdir(parents=True)
    launcher.process.terminate()
    code, complaint = launcher.ended()
    assert code == 1
    assert complaint == (
        "cosface: stopped by SIGTERM, and rank 0 failed with exit code 1 (its message is above); "
        f"{saved} is what this start wrote last\n"
    )


def test_a_second_signal_within_seconds_is_the_same_request_and_a_later_one_ends_the_wait(
    tmp_path: Path, launchers: list[Launcher]
) -> None:
    launchers.append(launcher := Launcher(tmp_path, "deaf", "deaf"))
    ranks = launcher.started()
    for _ in range(2):  # as Slurm's and a launcher's of its own come
        launcher.process.terminate()
    until(lambda: (tmp_path / "asked-0").exists(), "the request")
    assert all(alive(rank["pid"]) for rank in ranks)

    def asked_again_and_over() -> bool:
        if not any(alive(rank["pid"]) for rank in ranks):
            return True  # from here on the launcher may have given the signal back to the system
        launcher.process.terminate()
        return False

    until(asked_again_and_over, "the end of the wait")
    code, complaint = launcher.ended()
    assert code == 1
    assert complaint == "cosface: stopped by SIGTERM before a checkpoint of this start was written\n"
    assert_all_gone(ranks)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_ranks_that_cannot_listen_yet_lose_nothing(
    tmp_path: Path, launchers: list[Launcher], number: int
) -> None:
    launchers.append(launcher := Launcher(tmp_path, "unready", "unready"))
    launcher.started()
    launcher.process.send_signal(number)
    assert launcher.ended() == (75, "")


def test_no_rank_outlives_a_killed_launcher(tmp_path: Path, launchers: list[Launcher]) -> None:
    launchers.append(launcher := Launcher(tmp_path, "wait", "wait"))
    ranks = launcher.started()
    launcher.process.kill()
    assert_all_gone(ranks)


def test_a_port_in_use_is_refused_before_ranks_start(tmp_path: Path, launchers: list[Launcher]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        launchers.append(launcher := Launcher(tmp_path, "exit 0", port=port))
        code, complaint = launcher.ended()
    assert code == 2
    assert complaint.startswith(f"cosface: port {port} of 127.0.0.1 cannot be used (Address already in use)")
    assert complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_given_port_is_used_and_free_again(tmp_path: Path, launchers: list[Launcher]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        launchers.append(launcher := Launcher(tmp_path, "exit 0", "exit 0", port=port))
        assert launcher.ended() == (0, "")


def test_the_culprit_is_the_rank_that_failed_by_itself() -> None:
    lost_peer, killed = RankEnd(0, 1, 100), RankEnd(1, -signal.SIGKILL, 100)
    assert culprit([lost_peer, killed]) is killed
    stopped_by_agent = RankEnd(0, -signal.SIGTERM, 100)
    assert culprit([stopped_by_agent, RankEnd(1, 1, 101)]).rank == 1
    stopped_with_checkpoint = RankEnd(0, 75, 100)
    assert culprit([stopped_with_checkpoint, RankEnd(1, 1, 101)]).rank == 1
    killed_after_grace = RankEnd(1, -signal.SIGKILL, 130)
    assert culprit([lost_peer, killed_after_grace]) is lost_peer
    assert describe(RankEnd(3, -signal.SIGSEGV, 0)) == "rank 3 was killed by SIGSEGV"
