"""`cosface launch local` with real training: killed launchers and ranks, requests to stop, resumed runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.commands import launch_local
from tests.launch.test_torchrun import alive
from tests.trainer.tiny import CLASSES, ENDLESS, arguments, losses, wait_for_step, write_tiny_set
from tests.waiting import patience_s, until
from trainer.checkpoint import checkpoint_steps
from trainer.stop import SIGNALS

pytestmark = pytest.mark.dali


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run of two ranks that nothing happens to."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    code, _, complaint = outcome(start(2, run, data))
    assert code == 0, complaint
    return run


def start(processes: int, run: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    settings = arguments(run, data, 16 // processes, "--checkpoint.every", "4", *more)
    command = ["-m", "launch.cli", "launch", "local", "--processes", str(processes), "--", *settings]
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def outcome(launcher: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, complaint = launcher.communicate(timeout=patience_s(120))
    return launcher.returncode, said, complaint


def ranks_of(launcher: subprocess.Popen[str], count: int) -> list[int]:
    """The process ids of the launcher's ranks, as soon as so many are there."""
    children: list[str] = []

    def are_there() -> bool:
        assert launcher.poll() is None, launcher.communicate()
        children[:] = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        return len(children) >= count

    until(are_there, "the ranks' start")
    return [int(child) for child in children]


def assert_gone(pids: list[int]) -> None:
    until(lambda: not any(map(alive, pids)), f"the end of {pids}")


def test_two_ranks_own_all_classes_between_them(whole_run: Path) -> None:
    told = json.loads((whole_run / "ranks.json").read_text())
    (first, border), (also_border, last) = (rank["classes"] for rank in told["ranks"])
    assert (first, last) == (0, CLASSES)
    assert border == also_border
    assert json.loads((whole_run / "status.json").read_text())["status"] == "finished"


def test_a_killed_launcher_takes_its_ranks_along_and_the_run_goes_on_to_the_same_bits(
    tmp_path: Path, data: Path, launched: list[subprocess.Popen[str]]
) -> None:
    run, untouched = tmp_path / "run", tmp_path / "untouched"
    launched.append(launcher := start(2, run, data, *ENDLESS))
    ranks = ranks_of(launcher, 2)
    wait_for_step(run, 6)
    launcher.kill()
    assert_gone(ranks)
    saved = max(checkpoint_steps(run))
    assert saved >= 4
    for folder in (run, untouched):
        launched.append(launcher := start(2, folder, data, "--training.steps", str(saved + 10)))
        code, _, complaint = outcome(launcher)
        assert code == 0, complaint
    assert losses(run) == losses(untouched)


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 1.0])
def test_ranks_that_are_still_starting_die_with_the_launcher(
    tmp_path: Path, data: Path, launched: list[subprocess.Popen[str]], after_s: float
) -> None:
    launched.append(launcher := start(2, tmp_path / "run", data))
    ranks_of(launcher, 1)
    time.sleep(after_s)
    ranks = ranks_of(launcher, 1)
    launcher.kill()
    assert_gone(ranks)


def test_a_killed_rank_ends_the_job_with_a_line_that_names_it(
    tmp_path: Path, data: Path, launched: list[subprocess.Popen[str]]
) -> None:
    launched.append(launcher := start(2, tmp_path / "run", data, *ENDLESS))
    ranks = ranks_of(launcher, 2)
    wait_for_step(tmp_path / "run", 2)
    environment = Path(f"/proc/{ranks[1]}/environ").read_text().split("\0")
    os.kill(ranks[1], signal.SIGKILL)
    code, _, complaint = outcome(launcher)
    assert code == 1
    (rank,) = (word.partition("=")[2] for word in environment if word.startswith("RANK="))
    assert complaint.splitlines()[-1].startswith(f"cosface: rank {rank} was killed by SIGKILL")
    assert "Traceback" not in complaint
    assert_gone(ranks)


def test_a_request_to_stop_is_75_and_one_rank_can_go_on(
    tmp_path: Path, data: Path, launched: list[subprocess.Popen[str]]
) -> None:
    run = tmp_path / "run"
    launched.append(launcher := start(2, run, data, *ENDLESS))
    wait_for_step(run, 2)
    launcher.send_signal(signal.SIGTERM)
    code, _, complaint = outcome(launcher)
    assert code == 75, complaint
    stopped_at = len(losses(run))
    assert list(checkpoint_steps(run))[-1] == stopped_at
    launched.append(alone := start(1, run, data, "--training.steps", str(stopped_at + 10)))
    assert outcome(alone)[0] == 0
    assert len(losses(run)) == stopped_at + 10


def test_wrong_input_is_one_line_and_leaves_no_run(
    tmp_path: Path, data: Path, launched: list[subprocess.Popen[str]]
) -> None:
    launched.append(launcher := start(2, tmp_path / "run", data, "--data.batch-size", "1000"))
    code, said, complaint = outcome(launcher)
    assert (code, said, complaint.count("\n")) == (2, "", 1)
    assert complaint.startswith(
        "cosface: --data.batch-size 1000: 2 rank(s) with batches of 1000 images take 2000 "
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_request_to_stop_in_the_checks_starts_no_rank(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("trainer.config.check", lambda *args, **more: os.kill(os.getpid(), number))
    monkeypatch.setattr("launch.torchrun.run", lambda *args, **more: pytest.fail("ranks were started"))
    assert launch_local(["--processes", "2", "--", *arguments(tmp_path / "run", data, 8)]) == 75
    assert not (tmp_path / "run").exists()
