"""`cosface bench loader`, small: every row is measured, ratios and memory are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_pipeline.rendered import write_rendered_dataset
from launch.bench.loader_rivals import RIVALS
from launch.cli import main

pytestmark = pytest.mark.dali
SMALL = ["bench", "loader", "--seconds", "0.05", "--rounds", "1", "--threads", "1", "--batch-size", "16"]


def test_every_row_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rendered_dataset(tmp_path / "set", range(16), 4, workers=1)
    file = tmp_path / "out.json"
    assert main([*SMALL, "--data", str(tmp_path / "set"), "--epochs", "3", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert [row["rival"] for row in found["rows"]] == list(RIVALS)
    assert all(row["images_per_second"][0] > 0 for row in found["rows"])
    assert all(name in said for name in RIVALS)
    assert "memory of its own, MiB, after epoch 1: " in said
    assert len(found["memory_mib_by_epoch"]) == 3


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--only", "nothing"], "--only must be of bare DALI decoder"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--data", "/missing"], "/missing: no such folder"),
    ],
)
def test_wrong_input_is_one_line(more: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, *more]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
