"""A pack that ends anywhere and is started again gives what one that never ended gives."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import pytest

import data_pipeline.pack.work as pack_work
from data_pipeline import DatasetError, FaceDataset
from data_pipeline.files.workers import ordered_map
from data_pipeline.pack.pack import pack
from data_pipeline.rendered import render_face
from launch.cli import main
from tests.waiting import patience_s

ROOT = Path(__file__).parents[3]
PEOPLE, VIEWS = 9, 13


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 people of 13 files each, one file in seven being none that can be used; one has two files alone."""
    folder = tmp_path_factory.mktemp("faces") / "images"
    for person in range(PEOPLE):
        (folder / f"p{person}").mkdir(parents=True)
        for view in range(2 if person == 4 else VIEWS):
            path = folder / f"p{person}" / f"{view:02}.png"
            if (person * VIEWS + view) % 7 == 3:
                path.write_text("no image")
            else:
                cv2.imwrite(str(path), render_face(person, view, size=48)[..., ::-1])
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole") / "set"
    pack(images, out, size=(48, 48), min_images=3, workers=1)
    return _hashes(out)


class _Stop(Exception):
    """Ends a pack in the test's process."""


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(images: Path, tmp_path: Path, whole: dict[str, str], workers: int) -> None:
    pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=workers)
    assert _hashes(tmp_path / "set") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_pack_that_fails_at_every_file_in_turn_comes_to_the_same_end(
    images: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_work, "COMMIT_INTERVAL_S", 0.0)
    note, starts, done = pack_work.PackWork._note, 0, False
    calls = 0

    def failing(work: pack_work.PackWork, result: int | str) -> None:
        nonlocal calls
        note(work, result)
        if work._log is not None:  # not while what was committed is read back
            calls += 1
            if calls % 7 == 0:
                raise _Stop

    monkeypatch.setattr(pack_work.PackWork, "_note", failing)
    while not done:
        starts += 1
        try:
            pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)
            done = True
        except _Stop:
            assert not (tmp_path / "set").exists()
        assert starts < 200
    assert starts > 10
    assert _hashes(tmp_path / "set") == whole


@pytest.mark.parametrize("step", ["write_tail", "publish", "write_head"])
def test_a_pack_that_fails_at_its_end_comes_to_the_same_end(
    images: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original, calls = getattr(pack_work.PackWork, step), 0

    def failing(work: pack_work.PackWork, *arguments: bytes) -> None:
        nonlocal calls
        calls += 1
        original(work, *arguments)
        if calls == (2 if step != "publish" else 1):
            raise _Stop

    monkeypatch.setattr(pack_work.PackWork, step, failing)
    with pytest.raises(_Stop):
        pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)
    if step != "publish":
        assert not (tmp_path / "set").exists()
        pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)
    assert _hashes(tmp_path / "set") == whole


def test_killed_between_the_rename_and_the_clearing_away(
    images: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(work: pack_work.PackWork) -> None:
        raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(pack_work.PackWork, "discard", killed)
        with pytest.raises(_Stop):
            pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.packing", "set"]
    report = pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert (dataset.num_images, dataset.num_classes) == (report.num_images, len(report.identities))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert _hashes(tmp_path / "set") == whole
    with pytest.raises(DatasetError, match="set: already exists"):
        pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)


SCRIPT = """
import sys, time
from pathlib import Path
import data_pipeline.pack.work as pack_work
from data_pipeline.pack.pack import pack
pack_work.COMMIT_INTERVAL_S = 0.0
note = pack_work.PackWork._note
def slow(work, result):
    note(work, result)
    time.sleep(0.004)
pack_work.PackWork._note = slow
if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]), size=(48, 48), min_images=3, workers=int(sys.argv[3]))
"""


def _start(script: Path, images: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(images), str(out), str(workers)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_commit(out: Path, packing: subprocess.Popen[str], before: bytes) -> bytes:
    committed = out.with_name(f".{out.name}.packing") / "committed.json"
    end = time.monotonic() + patience_s()
    while time.monotonic() < end and packing.poll() is None:
        try:
            state = committed.read_bytes()
        except FileNotFoundError:
            state = b""
        if state not in (b"", before):
            return state
        time.sleep(0.002)
    return b""


@pytest.mark.parametrize(("workers", "times"), [(1, 3), (2, 2)])
def test_killed_and_gone_on_with(
    images: Path, tmp_path: Path, whole: dict[str, str], workers: int, times: int
) -> None:
    out, state, kills = tmp_path / "set", b"", 0
    for _ in range(times):
        packing = _start(tmp_path / "script.py", images, out, workers)
        state = _wait_for_commit(out, packing, state)
        packing.send_signal(signal.SIGKILL)
        packing.communicate()
        kills += packing.returncode == -signal.SIGKILL
    assert kills >= 1
    last = _start(tmp_path / "script.py", images, out, workers)
    printed, error = last.communicate(timeout=patience_s(120))
    assert last.returncode == 0, error
    assert "files were done before" in printed
    assert _hashes(out) == whole
    assert not out.with_name(".set.packing").exists()


def test_a_second_pack_into_the_same_folder_is_refused(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    packing = _start(tmp_path / "script.py", images, out, 1)
    try:
        assert _wait_for_commit(out, packing, b"")
        packing.send_signal(signal.SIGSTOP)
        with pytest.raises(DatasetError, match=f"set: process {packing.pid} on .* is packing into it; wait"):
            pack(images, out, size=(48, 48), min_images=3, workers=1)
    finally:
        packing.kill()
        packing.communicate()
    # The lock of a process that is gone is no obstacle.
    assert (out.with_name(".set.packing") / "lock").read_text().startswith(f"process {packing.pid} on ")
    pack(images, out, size=(48, 48), min_images=3, workers=1)


def test_ctrl_c_is_one_line_and_goes_on(images: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    packing = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("time.sleep(0.004)", "time.sleep(0.02)").split("if __name__")[0]
         + "from launch.cli import main\nsys.exit(main(sys.argv[1:]))",
         "pack", str(images), str(tmp_path / "set"), "--size", "48", "48", "--min-images", "3",
         "--workers", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    assert _wait_for_commit(tmp_path / "set", packing, b"")
    # As a terminal does: to the workers too.
    os.killpg(packing.pid, signal.SIGINT)
    printed, error = packing.communicate(timeout=patience_s())
    assert packing.returncode == 130
    assert error == ""
    assert "stopped; the same command goes on" in printed
    pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=2)
    assert _hashes(tmp_path / "set") == whole


def test_a_full_disk_is_one_line_and_goes_on(images: Path, tmp_path: Path, whole: dict[str, str]) -> None:
    # A limit on a file's size fails writes as a full disk does, at any byte.
    command = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_001, 100_001));"
        "import data_pipeline.pack.work as pack_work; pack_work.COMMIT_INTERVAL_S = 0.0;"
        "from launch.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["pack", images, tmp_path / "set", "--size", "48", "48", "--min-images", "3", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", command, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=patience_s(120),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "set: cannot be written: File too large; " in done.stderr
    assert "files are done and the same command goes on" in done.stderr
    pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=1)
    assert _hashes(tmp_path / "set") == whole


def test_a_worker_that_is_killed_is_one_line_and_goes_on(
    images: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(
        function: Callable[[object], object], items: Iterable[object], workers: int
    ) -> Iterator[object]:
        yield from map(function, islice(items, 50))
        yield from ordered_map(os._exit, [3] * 40, 2)

    with monkeypatch.context() as patch:
        patch.setattr("data_pipeline.pack.pack.ordered_map", broken)
        with pytest.raises(
            DatasetError, match=r"killed, .* soon after .*/p\d/\d\d\.png; \d\d of 106 files are done"
        ):
            pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=2)
    pack(images, tmp_path / "set", size=(48, 48), min_images=3, workers=2)
    assert _hashes(tmp_path / "set") == whole


def _interrupted(images: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pack_work, "COMMIT_INTERVAL_S", 0.0)
        add, calls = pack_work.PackWork.add_record, 0

        def failing(work: pack_work.PackWork, record: bytes) -> None:
            nonlocal calls
            calls += 1
            if calls == 20:
                raise _Stop
            add(work, record)

        patch.setattr(pack_work.PackWork, "add_record", failing)
        with pytest.raises(_Stop):
            pack(images, out, size=(48, 48), min_images=3, workers=1)


def test_other_settings_or_images_do_not_go_on(
    images: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    _interrupted(images, out, monkeypatch)
    with pytest.raises(DatasetError, match=r"--quality 95 \(now 90\).*--fresh to start again") as caught:
        pack(images, out, size=(48, 48), min_images=3, quality=90, workers=1)
    assert "--size" not in str(caught.value)
    changed = images / "p8" / "00.png"
    times = changed.stat().st_atime_ns, changed.stat().st_mtime_ns
    os.utime(changed, ns=(0, 0))
    try:
        with pytest.raises(DatasetError, match="other images"):
            pack(images, out, size=(48, 48), min_images=3, workers=1)
    finally:
        os.utime(changed, ns=times)
    report = pack(images, out, size=(48, 48), min_images=1, workers=1, fresh=True)
    assert "p4" in report.identities
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_flag_that_is_advised_works_as_it_is_typed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    _interrupted(images, out, monkeypatch)
    command = ["pack", str(images), str(out), "--size", "48", "48", "--quality", "90", "--workers", "1"]
    assert main(command) == 2
    (advised,) = re.findall(r"give (--\S+) to start again", capsys.readouterr().err)
    assert main([*command, advised]) == 0


def test_a_damaged_work_folder_is_started_again(
    images: Path, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (
        ("results", b"7\nx"),
        ("committed.json", b"{}"),
        ("committed.json", b'{"files": 99, "results": 3, "records": 4}'),
        ("manifest.json", b"{"),
        ("set/train.rec", b"short"),
        ("set/train.rec", None),
    ):
        out = tmp_path / "set"
        _interrupted(images, out, monkeypatch)
        if content is None:
            shutil.rmtree(tmp_path / ".set.packing" / "set")
        else:
            (tmp_path / ".set.packing" / name).write_bytes(content)
        pack(images, out, size=(48, 48), min_images=3, workers=1)
        assert _hashes(out) == whole
        for path in out.iterdir():
            path.unlink()


def test_small_identities_are_left_out_and_listed(images: Path, tmp_path: Path) -> None:
    report = pack(images, tmp_path / "set", size=(48, 48), min_images=12, workers=1)
    counts = {
        person: sum((person * VIEWS + view) % 7 != 3 for view in range(2 if person == 4 else VIEWS))
        for person in range(PEOPLE)
    }
    kept = [person for person in range(PEOPLE) if counts[person] >= 12]
    assert 0 < len(kept) < PEOPLE - 1
    assert report.identities == [f"p{person}" for person in kept]
    assert report.num_images == sum(counts[person] for person in kept)
    # Every file is an image of the set or a line of the list.
    assert report.num_images + len(report.skipped) == sum(1 for _ in images.rglob("*.png"))
    assert {reason for path, reason in report.skipped if path.parent.name == "p4"} == {
        "its identity has fewer than 12 images that can be used"
    }
    with FaceDataset.open(tmp_path / "set") as dataset:
        assert dataset.class_counts().tolist() == [counts[person] for person in kept]


def test_the_lock_is_let_go_of(images: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b.jpg").write_text("no image")
    for _ in range(2):
        with pytest.raises(DatasetError, match="none of"):
            pack(tmp_path / "in", tmp_path / "set", workers=1)
    folder = tmp_path / ".set.packing"
    folder.mkdir()
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another process is packing into it"):
            pack(images, tmp_path / "set", workers=1)
