"""What is shown of long work: on a terminal a bar, elsewhere lines whose distance grows."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest

import data_pipeline.files.progress as progress
from data_pipeline.files.progress import Display, clock, track
from trainer.progress import ProgressDisplay


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0:00"), (61, "1:01"), (3723, "1:02:03"), (360000, "100:00:00")]
)
def test_the_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_lines_come_further_and_further_apart(now: list[float]) -> None:
    out = io.StringIO()
    shown = []

    def items() -> list[int]:
        return list(range(1, 4001))

    for item in track(items(), total=4000, description="packing", stream=out):
        now[0] += 1.0
        if len(out.getvalue().splitlines()) > len(shown):
            shown.append(item)
    lines = out.getvalue().splitlines()
    gaps = [b - a for a, b in pairwise(shown)]
    assert gaps[:3] == [5, 5, 5]
    assert max(gaps) == 60
    assert all(later >= earlier for earlier, later in pairwise(gaps))
    assert lines[0] == "packing 5/4000  1 images/s  1:06:35 left"
    assert lines[-1] == "packing: 4000 of 4000 images in 4000.0 s, 1 images/s"


def test_what_was_done_before_is_no_part_of_the_rate(now: list[float]) -> None:
    out = io.StringIO()
    for _ in track(range(10), total=110, description="packing", done=100, unit="files", stream=out):
        now[0] += 2.0
    assert out.getvalue().splitlines() == [
        "packing 103/110  0 files/s  0:14 left",
        "packing 106/110  0 files/s  0:08 left",
        "packing 109/110  0 files/s  0:02 left",
        "packing: 110 of 110 files (100 before) in 20.0 s, 0 files/s",
    ]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = _Terminal()
    with Display(10, "step", stream=out) as display:
        display.say("a [line] above")
        display.show(3, "loss 1.5")
    text = out.getvalue()
    assert "a [line] above" in text
    assert "step 3/10" in text
    assert "loss 1.5" in text
    assert "━" in text


def test_a_run_shows_its_first_and_last_step(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(30, 10, shown=True) as display:
        for step in range(11, 31):
            now[0] += 1.0
            display.step(step, 3.5, 0.1, 1234.0)
    lines = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["step 11/30", "step 16/30", "step 21/30", "step 26/30", "step 30/30"]
