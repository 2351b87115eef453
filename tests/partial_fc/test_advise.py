"""`cosface advise`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["advise", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_many_classes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--classes", "85000", "--embedding-dim", "512")
    assert (code, err) == (0, "")
    rows = {line[2:22].strip(): line[22:32].strip() for line in out.splitlines() if line.startswith("  ")}
    assert rows == {
        "margin, at most": "0.9589",
        "surely possible": "0.9375",
        "scale, at least": "13.55",
        "with the margin": "20.84",
        "recommended margin": "0.35",
        "recommended scale": "42",
    }
    assert out.startswith("85,000 classes, 512 dimensions\n")
    assert "Margin: at most 0.9589 by Levenshtein's bound, at least 0.9375 by a binary code.\n" in out
    assert "warning" not in out


def test_a_run_that_breaks_the_bounds_is_warned_and_not_failed(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--classes", "8", "--embedding-dim", "2", "--margin", "0.5", "--scale", "1"]
    code, out, err = run(capsys, *settings)
    assert (code, err) == (0, "")
    assert "0.2929   the largest\n" in out
    assert "With scale 1 and margin 0.5 the loss sees a posterior of at most 0.2137.\n" in out
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert [warning.split()[1] for warning in warnings] == ["margin", "scale"]


def test_a_run_within_the_bounds_is_not_warned(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--classes", "93431", "--embedding-dim", "512", "--margin", "0.35", "--scale", "64"]
    code, out, _ = run(capsys, *settings)
    assert code == 0
    assert "warning" not in out
    assert "is open" not in out
    assert "a posterior of at most 1 - " in out


def test_between_the_bounds_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--classes", "12", "--embedding-dim", "3", "--margin", "0.4")
    assert code == 0
    assert "Whether all classes can keep a margin of 0.4 is open: 0.1818 is possible, more than 0.5528" in out
    assert "warning" not in out


def test_the_wanted_posterior_moves_the_scale(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--classes", "2", "--embedding-dim", "2", "--target-probability"]
    assert "  1.099   for a posterior of 0.9" in run(capsys, *settings, "0.9")[1]
    assert "  2.298   for a posterior of 0.99" in run(capsys, *settings, "0.99")[1]


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "new" / "advice.json"
    settings = ["--classes", "10", "--embedding-dim", "20", "--margin", "1.5", "--scale", "30"]
    assert run(capsys, *settings, "--json", str(file))[0] == 0
    found = json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["num_classes"] == 10
    assert found["largest_margin"]["kind"] == "exact"
    assert found["largest_margin"]["value"] == pytest.approx(10 / 9)
    assert found["smallest_scale_with_margin"] is None
    assert found["recommended_margin"] == 0.35
    assert len(found["warnings"]) == 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--classes": "0"}, "--classes must be at least 1 and below 2^63, got 0"),
        ({"--classes": str(2**63)}, "--classes must be at least 1 and below 2^63, got "),
        ({"--classes": "many"}, "--classes: expected a whole number, got 'many'"),
        ({"--classes": None}, "--classes must be given"),
        ({"--embedding-dim": None}, "--embedding-dim must be given"),
        ({"--embedding-dim": "0"}, "--embedding-dim must be 1 or more, got 0"),
        ({"--target-probability": "1"}, "--target-probability must be above 0 and below 1, got 1"),
        ({"--target-probability": "nan"}, "--target-probability must be above 0 and below 1, got nan"),
        ({"--margin": "-1"}, "--margin must be a finite number of at least 0, got -1"),
        ({"--margin": "wide"}, "--margin: "),
        ({"--scale": "0"}, "--scale must be a finite number above 0, got 0"),
        ({"--scale": "inf"}, "--scale must be a finite number above 0, got inf"),
        ({"--clases": "3"}, "unknown setting --clases; nearest: --classes"),
    ],
)
def test_wrong_input_is_one_line(
    capsys: pytest.CaptureFixture[str], changed: dict[str, str | None], says: str
) -> None:
    given = {"--classes": "10", "--embedding-dim": "4", **changed}
    words = [word for name, value in given.items() if value is not None for word in (name, value)]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"cosface: {says}")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "--classes", "3", "--embedding-dim", "2", "--json", str(tmp_path))
    assert code == 2
    assert err == f"cosface: {tmp_path}: cannot be written: Is a directory\n"


def test_help_lists_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "  advise    what theory says of margin and scale" in capsys.readouterr().out
