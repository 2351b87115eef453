"""One holder at a time, with flock and without, whatever happens to the holder."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_pipeline.files.lock import HeldByAnother, ProcessLock
from tests.waiting import patience_s

ROOT = Path(__file__).parents[4]
DEADLINE_S = patience_s()

# How a process of a test sees the file system: with flock, without it, and without exchanging names as well.
KINDS = {
    "flock": "",
    "ENOSYS": "break_flock(errno.ENOSYS)",
    "ENOTSUP": "break_flock(errno.ENOTSUP)",
    "ENOLCK": "break_flock(errno.ENOLCK)",
    "no exchange": "break_flock(errno.ENOSYS); filelock._soft.exchange_names = lambda *names: False",
}
HEAD = """
import errno, fcntl, os, sys, time
from pathlib import Path
import filelock._soft
from data_pipeline.files.lock import HeldByAnother, ProcessLock
def break_flock(code):
    def flock(*ignored):
        raise OSError(code, os.strerror(code))
    fcntl.flock = flock
"""
HOLD = """
with ProcessLock(Path(sys.argv[1])) as lock:
    print("held", lock.is_soft, flush=True)
    sys.stdin.read()
"""
# Adds to a number in a file, forty times, of which two processes at once would lose some.
COUNT = """
file = Path(sys.argv[2])
print("counting", flush=True)
for _ in range(40):
    with ProcessLock(Path(sys.argv[1]), patience_s=300):
        number = int(file.read_text())
        time.sleep(0.001)
        file.write_text(str(number + 1))
"""


def _start(kind: str, body: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + KINDS[kind] + body, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _holding(kind: str, file: Path) -> Iterator[subprocess.Popen[str]]:
    holder = _start(kind, HOLD, file)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == f"held {kind != 'flock'}\n"
        yield holder
    finally:
        holder.kill()
        holder.wait(DEADLINE_S)
        for stream in (holder.stdin, holder.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same file system for this process."""
    name: str = request.param
    if name != "flock":
        code = getattr(errno, name if name.startswith("E") else "ENOSYS")

        def flock(*ignored: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("fcntl.flock", flock)
    if name == "no exchange":
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False)
    return name


def test_who_holds_it_is_named(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "work" / "lock"
    with _holding(kind, file) as holder, pytest.raises(HeldByAnother) as caught:
        ProcessLock(file).acquire()
    words = (
        rf"process {holder.pid} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    )
    advice = "" if kind == "flock" else rf" \(if it is gone, remove {re.escape(str(file))}\.soft\)"
    assert re.fullmatch(words + advice, caught.value.holder)


def test_a_holder_that_ends_or_is_killed_leaves_it_free(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    for end in ("close", "kill"):
        with _holding(kind, file) as holder:
            assert holder.stdin is not None
            holder.send_signal(signal.SIGKILL) if end == "kill" else holder.stdin.close()
            holder.wait(DEADLINE_S)
            with ProcessLock(file) as mine:
                assert mine.is_soft == (kind != "flock")
                with pytest.raises(HeldByAnother, match=f"process {os.getpid()} on"):
                    ProcessLock(file).acquire()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert file.read_text() == ""


def test_two_processes_are_never_in_it_at_once(kind: str, tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    # One is killed while it has it, with the others waiting: one of them takes it over.
    with _holding(kind, tmp_path / "lock") as holder:
        counting = [_start(kind, COUNT, tmp_path / "lock", tmp_path / "number") for _ in range(3)]
        for process in counting:
            assert process.stdout is not None
            assert process.stdout.readline() == "counting\n"
        holder.send_signal(signal.SIGKILL)
    for process in counting:
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
    assert (tmp_path / "number").read_text() == "120"


def test_a_marker_of_another_host_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*ignored: object) -> None:
        raise OSError(errno.ENOSYS, "")

    monkeypatch.setattr("fcntl.flock", flock)
    file = tmp_path / "lock"
    file.write_text("process 3999999 on elsewhere since 2026-11-01 00:00:00\n")
    marker = tmp_path / "lock.soft"
    marker.write_text("3999999\nelsewhere\n")
    with pytest.raises(HeldByAnother, match=r"^process 3999999 on elsewhere since .*remove .*lock\.soft\)$"):
        ProcessLock(file).acquire()
    assert marker.read_text() == "3999999\nelsewhere\n"
    marker.unlink()
    ProcessLock(file).acquire()


def test_it_waits_as_long_as_it_is_told(kind: str, tmp_path: Path) -> None:
    first = ProcessLock(tmp_path / "lock")
    first.acquire()
    timer = threading.Timer(0.3, first.release)
    timer.start()
    with ProcessLock(tmp_path / "lock", patience_s=DEADLINE_S):
        timer.join()
        assert not first._lock.is_locked


def test_the_wait_can_be_interrupted(tmp_path: Path) -> None:
    main = threading.main_thread().ident
    assert main is not None
    with _holding("flock", tmp_path / "lock"):
        threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            ProcessLock(tmp_path / "lock", patience_s=DEADLINE_S).acquire()


def test_the_holder_may_remove_the_folder(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    lock = ProcessLock(folder / "lock")
    for _ in range(2):
        lock.acquire()
        shutil.rmtree(folder)
        other = ProcessLock(folder / "lock")
        other.acquire()
        lock.release()
        assert (folder / "lock").read_text().startswith(f"process {os.getpid()} on")
        other.release()
    assert (folder / "lock").read_text() == ""


def test_where_nothing_can_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file"):
        ProcessLock(tmp_path / "file" / "lock").acquire()


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    # A worker that outlives the process that holds the lock must not hold it on.
    lock = ProcessLock(tmp_path / "lock")
    lock.acquire()
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    lock.release()
    try:
        ProcessLock(tmp_path / "lock").acquire()
    finally:
        os.close(write)
        os.waitpid(child, 0)
