"""On a file system without flock runs, packs and tables start, one at a time, and after a kill again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.trainer.tiny import ENDLESS, arguments, events, write_tiny_set
from tests.waiting import patience_s

ROOT = Path(__file__).parents[1]
DEADLINE_S = patience_s()
# Not one process is faked: each of them meets an fcntl whose flock says what Lustre's says.
BREAK = """
import errno, fcntl, os, sys, time
from pathlib import Path
def flock(*ignored):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
"""
COMMAND = """
import trainer.run_directory
trainer.run_directory._LOCK_WAIT_S = 0.3
from launch.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
TABLE = """
import numpy as np
from data_pipeline.sets.table import ImageTable
from data_pipeline.sets.table_store import stored_table
def build():
    with open(sys.argv[1], "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[2]))
    column = np.zeros(500, np.int64)
    return ImageTable(column, column.astype(np.int32), column.astype(np.uint32), 1, (8, 8))
state = {"set": ["/data", 0], "files": [["/data/train.rec", 1 << 30, 1]]}
assert len(stored_table(state, build, persisted_from=500)) == 500
"""


def _start(body: str, *words: object, cache: Path | None = None) -> subprocess.Popen[str]:
    more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", BREAK + body, *map(str, words)],
        env=os.environ | more | ({"COSFACE_CACHE": str(cache)} if cache else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_starts_has_one_writer_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    data, run = write_tiny_set(tmp_path / "data"), tmp_path / "run"
    words = ["train", *arguments(run, data, 16), "--checkpoint.every", "2"]
    first = _start(COMMAND, *words, *ENDLESS)
    _until(lambda: any((run / "checkpoints").glob("step-*")), first)
    second = _start(COMMAND, *words, *ENDLESS)
    _, error = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 2
    assert error.startswith(f"cosface: --run {run}: process {first.pid} on ")
    assert error.endswith(
        f"(if it is gone, remove {run}/lock.soft) is writing there; stop it or choose another folder\n"
    )
    first.send_signal(signal.SIGKILL)
    first.communicate()
    reached = events(run)[-1]["step"]
    third = _start(COMMAND, *words, "--training.steps", reached + 2)
    printed, error = third.communicate(timeout=DEADLINE_S)
    assert third.returncode == 0, error
    assert f"finished after {reached + 2}" in printed
    assert not (run / "lock.soft").exists()


def test_a_pack_starts_has_one_writer_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    for person in range(3):
        (tmp_path / "images" / f"p{person}").mkdir(parents=True)
        for view in range(20):
            picture = np.full((32, 32, 3), 40 * person + view, np.uint8)
            cv2.imwrite(str(tmp_path / "images" / f"p{person}" / f"{view}.png"), picture)
    slow = """
import data_pipeline.pack.work as pack_work
pack_work.COMMIT_INTERVAL_S = 0.0
note = pack_work.PackWork._note
def slow(work, result):
    note(work, result)
    time.sleep(1)
pack_work.PackWork._note = slow
"""
    words = ["pack", tmp_path / "images", tmp_path / "set", "--size", 32, 32, "--workers", 1]
    first = _start(slow + COMMAND, *words)
    _until((tmp_path / ".set.packing" / "committed.json").exists, first)
    second = _start(COMMAND, *words)
    _, error = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 2
    assert f"process {first.pid} on " in error
    assert ".set.packing/lock.soft) is packing into it; wait for it or name another folder" in error
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = _start(COMMAND, *words)
    printed, error = third.communicate(timeout=DEADLINE_S)
    assert third.returncode == 0, error
    assert "done before" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "set"]


def test_a_table_is_built_by_one_and_by_the_next_if_that_one_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = _start(TABLE, log, 1000, cache=tmp_path / "cache")
    _until(log.exists, killed)
    waiting = [_start(TABLE, log, 0.5, cache=tmp_path / "cache") for _ in range(3)]
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for process in waiting:
        _, error = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, error
    assert len(log.read_text().split()) == 2
    assert len(list((tmp_path / "cache").rglob("*.table"))) == 1
    assert not list((tmp_path / "cache").rglob("*.soft"))
