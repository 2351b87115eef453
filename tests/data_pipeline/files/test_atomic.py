"""What is at a path is the old content or the new one, whole, and nothing else stays."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_pipeline.files.atomic import leftovers, replacing, replacing_folder, write_file

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_takes_the_place_at_the_end(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        with replacing(path, durable=durable) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == content
    write_file(path, "\u00fc\udce9")
    assert path.read_bytes() == "\u00fc".encode() + b"\xe9"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_at_the_last_byte_leaves_what_was_there(tmp_path: Path) -> None:
    # The last bytes are written when the file is closed: a limit on its size
    # refuses them as a full disk does.
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "from data_pipeline.files.atomic import replacing;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10));"
        "path = Path(sys.argv[1])\n"
        "try:\n with replacing(path) as file: file.write(b'x' * 100)\n"
        "except OSError as error: print(error.strerror)"
    )
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "File too large\n"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_names_cannot_be_guessed_and_are_known_as_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "a.b"
    names = set()
    for _ in range(3):
        with replacing(path) as file:
            names.add(Path(file.name).name)
            assert leftovers(tmp_path) == leftovers(tmp_path, "a.b") == [Path(file.name)]
            assert leftovers(tmp_path, "a") == []
    assert len(names) == 3
    assert all(re.fullmatch(r"\.a\.b\.[0-9a-f]{16}\.tmp", name) for name in names)
    for name in (".a.tmp", "a.0123456789abcdef.tmp", ".step-00000002.tmp"):
        (tmp_path / name).write_text("")
    assert leftovers(tmp_path) == []


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Even who knew the name could not have another file written to.
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".file.0000000000000000.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(tmp_path / "file"):
        pass
    assert victim.read_text() == "mine"
    assert not (tmp_path / "file").exists()


def test_the_mode_is_what_the_umask_makes_of_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", "x")
        with replacing_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_devices_pipes_and_folders_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    for name, words in (("pipe", "no ordinary"), ("folder", "Is a directory"), ("device", "no ordinary")):
        with pytest.raises(OSError, match=words):
            write_file(tmp_path / name, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "folder", "pipe"]
    assert (tmp_path / "device").is_symlink()


@pytest.mark.parametrize("durable", [False, True])
def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "set"

    def fail() -> None:
        with replacing_folder(path, durable=durable) as folder:
            (folder / "half").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(path.parent.iterdir()) == []
    path.mkdir()  # an empty one is in nobody's way
    with replacing_folder(path, durable=durable) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("whole")
        assert leftovers(path.parent, "set") == [folder]
    assert (path / "sub" / "file").read_text() == "whole"
    with pytest.raises(OSError), replacing_folder(path, durable=durable) as folder:  # noqa: PT011
        (folder / "other").write_text("x")
    assert [entry.name for entry in path.iterdir()] == ["sub"]
    assert list(path.parent.iterdir()) == [path]


def test_many_writers_at_once_leave_one_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(letter: str) -> None:
        for _ in range(20):
            write_file(path, letter * 10_000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            text = path.read_text()
            seen.add((len(text), len(set(text))))
    for writer in writers:
        writer.join()
    assert seen <= {(10_000, 1)}
    assert list(tmp_path.iterdir()) == [path]


def test_who_is_killed_leaves_a_leftover_and_the_old_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from data_pipeline.files.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as file: os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(leftovers(tmp_path, "file")) == 1
