"""In a folder that others may write to, nobody can lay a link in the way of what is written there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.files.atomic import leftovers
from data_pipeline.pairs.bin_file import write_pickle
from data_pipeline.records.writer import RecordWriter
from data_pipeline.sets.table import ImageTable
from data_pipeline.sets.table_store import write_table
from data_pipeline.sets.writer import FaceDatasetWriter
from launch.demo import Progress
from trainer.evaluation.report import write_json
from trainer.run_directory import RunDirectory
from trainer.run_files import Status

ROOT = Path(__file__).parents[1]


def _write_records(folder: Path) -> None:
    with RecordWriter(folder / "a.rec", folder / "a.idx") as out:
        out.write(0, label=1.0, id=0, payload=b"face")


def _write_table(folder: Path) -> None:
    import numpy as np

    column = np.zeros(1, np.int64)
    table = ImageTable(column, column.astype(np.int32), column.astype(np.uint32), 1, (8, 8))
    write_table(folder / "t.table", {"set": [], "files": []}, table)


WRITERS: list[tuple[Callable[[Path], object], list[str], list[str]]] = [
    (_write_records, ["a.rec", "a.idx"], [".a.rec.{pid}.tmp", ".a.idx.{pid}.tmp"]),
    (_write_table, ["t.table"], [".t.table.{pid}.tmp"]),
    (lambda folder: write_pickle(folder / "p.bin", [b"x"], []), ["p.bin"], [".p.bin.{pid}.tmp"]),
    (lambda folder: write_json({}, folder / "r.json"), ["r.json"], [".r.json.{pid}.part"]),
    (
        lambda folder: RunDirectory(folder).write_status(Status("running", 1)),
        ["status.json"],
        [".status.json.tmp"],
    ),
    (lambda folder: Progress(folder, "faces").save(), ["demo.json"], [".demo.json.tmp"]),
]


@pytest.mark.parametrize(("write", "made", "in_the_way"), WRITERS)
def test_a_link_under_the_name_of_old_is_not_written_through(
    tmp_path: Path, write: Callable[[Path], object], made: list[str], in_the_way: list[str]
) -> None:
    folder, victim = tmp_path / "shared", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("mine")
    links = [name.format(pid=os.getpid()) for name in in_the_way]
    for link in links:
        (folder / link).symlink_to(victim)
    write(folder)
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*made, *links])
    assert all(not (folder / name).is_symlink() for name in made)


def test_a_folder_under_the_name_of_old_is_left_alone(tmp_path: Path) -> None:
    old = tmp_path / f".set.{os.getpid()}.tmp"
    old.mkdir()
    (old / "precious").write_text("mine")
    with FaceDatasetWriter(tmp_path / "set", 1, (8, 8)) as out:
        assert leftovers(tmp_path, "set") == [out.temporary]
        out.add(0, b"face")
    assert (old / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [old.name, "set"]


def test_records_that_the_disk_does_not_take_leave_the_pair_that_was_there(tmp_path: Path) -> None:
    _write_records(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("a.rec", "a.idx")]
    # The last bytes are still to be written when the writer is closed; the limit refuses them.
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "from data_pipeline import RecordWriter;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "folder = Path(sys.argv[1])\n"
        "try:\n with RecordWriter(folder / 'a.rec', folder / 'a.idx') as out:\n"
        "  out.write(0, label=1.0, id=0, payload=b'x' * 2000)\n"
        "except OSError as error: print(error.strerror)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "File too large\n"
    assert [(tmp_path / name).read_bytes() for name in ("a.rec", "a.idx")] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.idx", "a.rec"]
