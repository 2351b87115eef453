"""`cosface bench head`, small: what is measured is real, what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main

SMALL = [
    "bench",
    "head",
    "--embedding-dim",
    "16",
    "--batch-size",
    "8",
    "--steps",
    "1",
    "--rivals",
    "loss_parallel",
]


def test_a_small_run_measures_all_and_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "out.json", tmp_path / "out.png"
    assert main([*SMALL, "--classes", "2000", "--json", str(file), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "cosface float32, rate 0.1" in said
    rows = {row["case"]["rival"] + row["case"]["dtype"]: row for row in json.loads(file.read_text())["rows"]}
    ours, theirs = rows["cosfacefloat32"]["measured"], rows["loss_parallelfloat32"]["measured"]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=8), "the same loss on other random centres"
    # Gathered embeddings and labels, three numbers an image, scattered gradients; and the batches' sizes.
    minimum = 8 * (16 * 4 * 2 + 8 + 12)
    assert minimum < ours["wire_bytes"] < 1.5 * minimum
    assert ours["step_s"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(file.read_text())
    for row in content["rows"]:
        if row["measured"]:
            row["measured"]["floor_s"] = 1e9  # as if it had been that much nearer to the floor
    file.write_text(json.dumps(content))
    assert main([*SMALL, "--classes", "2000", "--rivals", "none", "--against", str(file)]) == 1
    assert "slower: cosface float32, 2,000 classes" in capsys.readouterr().out


def test_one_rank_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--classes", "100000", "--of-ranks", "64"]) == 0
    assert "loss_parallel" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["bench", "loader"], "unknown benchmark 'loader'"),
        ([*SMALL, "--ranks", "0"], "--ranks must be 1 or more, got 0"),
        ([*SMALL, "--rivals", "megatron"], "--rivals must be loss_parallel, metric-learning or none"),
        ([*SMALL, "--against", "/no/such.json"], "--against /no/such.json: cannot be read"),
    ],
)
def test_what_is_refused(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
