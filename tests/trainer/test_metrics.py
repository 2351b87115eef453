from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from trainer.errors import TrainingFailed
from trainer.metrics import EventLog, Stopwatch
from trainer.progress import ProgressDisplay, clock
from trainer.run_directory import RunDirectory


def test_a_resumed_log_has_one_line_a_step(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [json.dumps({"step": step}) for step in (1, 2, 2, 3, 4)]
    file.write_text("\n".join(lines) + '\n{"step": 2, "cut o')
    log = EventLog(file, 2)
    log.write({"step": 3, "again": True})
    log.close()
    read = [json.loads(line) for line in file.read_text().splitlines()]
    assert read == [{"step": 1}, {"step": 2}, {"step": 2}, {"step": 3, "again": True}]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 0)
    log._stream = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115 - the log closes it
    with pytest.raises(TrainingFailed, match=r"events\.jsonl: cannot be written: No space left"):
        log.write({"step": 1})
    log.close()
    (tmp_path / "evaluation").write_text("no folder")
    with pytest.raises(TrainingFailed, match=r"evaluation/step-1\.json: cannot be written: "):
        RunDirectory(tmp_path).write("evaluation/step-1.json", "{}")


def test_phases_are_counted() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.phase("sleep"):
            time.sleep(0.01)
    seconds = watch.lap()
    assert 0.02 <= seconds["sleep"] <= seconds["total"]
    assert watch.lap().keys() == {"total"}


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(30, 10, shown=True) as display:
        for step in range(11, 31):
            display.step(step, 3.5, 0.1, 1234.5)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].startswith("step 11/30  loss 3.5000  lr 0.1  1,234 images/s  0:0")
    with ProgressDisplay(30, 10, shown=False) as display:
        display.say("nothing")
    assert capsys.readouterr().out == ""


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]
