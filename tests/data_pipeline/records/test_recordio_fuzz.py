"""Short runs of the fuzzer, in a process of its own: a crash there is a failure here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data_pipeline.records import fuzz_records
from tests.data_pipeline.records.fuzz_ways import WAYS, Wrong
from tests.data_pipeline.records.naive_records import Naive, base_folders
from tests.waiting import patience_s


def fuzz(*options: str, timeout_s: float) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.data_pipeline.records.fuzz_records", *options],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=patience_s(timeout_s),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("other outcomes: none\n")
    return done.stdout


def test_damaged_files_end_in_the_right_bytes_or_a_record_error() -> None:
    table = fuzz("--inputs", "1000", timeout_s=200)
    # Every way of reading met whole files and damaged ones.
    for way in WAYS:
        counts = re.search(rf"^{re.escape(way)} +([\d,]+) +([\d,]+)", table, re.MULTILINE)
        assert counts is not None
        assert all(int(count.replace(",", "")) > 20 for count in counts.groups())


def test_files_cut_at_every_place() -> None:
    assert "1,280 inputs" in fuzz("--every-truncation", timeout_s=200)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_more_damaged_files() -> None:
    fuzz("--inputs", "30000", "--seed", "1", timeout_s=1500)


def test_undamaged_folders_are_read_in_every_way(tmp_path: Path) -> None:
    for folder in base_folders():
        folder.write(tmp_path)
        naive = Naive(folder.rec, folder.idx)
        for way, look in WAYS.items():
            if way != "FaceDataset" or folder is not base_folders()[2]:
                assert look(tmp_path, naive) == "read"


def test_the_fuzzer_notices_wrong_bytes(tmp_path: Path) -> None:
    """What it compares with must be able to disagree."""
    folder = base_folders()[0]
    folder.write(tmp_path)
    other = bytearray(folder.rec)
    # The last byte of the payload of image 8, which no padding follows.
    other[folder.starts[8] + 8 + 24 + 32] ^= 1
    for way, look in WAYS.items():
        if way != "scan":
            with pytest.raises(Wrong):
                look(tmp_path, Naive(bytes(other), folder.idx))


def test_an_input_depends_on_its_number_alone() -> None:
    some = {number: folder for number, _, folder, _ in fuzz_records.inputs(3, 0, 50)}
    assert {number: folder for number, _, folder, _ in fuzz_records.inputs(3, 40, 10)} == {
        number: some[number] for number in range(40, 50)
    }
