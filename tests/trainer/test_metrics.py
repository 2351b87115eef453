from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest

from data_pipeline.files.progress import clock
from trainer.errors import TrainingFailed
from trainer.metrics import EventLog, Stopwatch
from trainer.progress import ProgressDisplay
from trainer.run_directory import RunDirectory


def test_a_resumed_log_has_one_line_a_step(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [json.dumps({"step": step}) for step in (1, 2, 2, 3, 4)]
    file.write_text("\n".join(lines) + '\n{"step": 2, "cut o')
    log = EventLog(file, 2)
    log.write({"step": 3, "again": True})
    log.close()
    read = [json.loads(line) for line in file.read_text().splitlines()]
    assert 0 < read[-1].pop("time") <= time.time() + 0.001  # it is rounded to milliseconds
    assert read == [{"step": 1}, {"step": 2}, {"step": 2}, {"step": 3, "again": True}]


def test_a_full_disk_costs_lines_not_the_run(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", 0)
    assert log.write({"step": 1})
    kept, log._stream = log._stream, Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    assert not log.write({"step": 2})
    assert not log.write({"step": 3})
    log.close()
    log._stream = kept
    assert log.write({"step": 4})
    log.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [
        1,
        4,
    ]
    assert log.lost == 2


def test_a_line_of_which_a_part_was_taken_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file, 0)
    assert log.write({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 10, before[1]))
    try:
        assert not log.write({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert log.write({"step": 3})
    log.close()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 3]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(TrainingFailed, match=r"events\.jsonl: cannot be written: "):
        EventLog(tmp_path / "events.jsonl", 0)
    (tmp_path / "evaluation").write_text("no folder")
    with pytest.raises(TrainingFailed, match=r"evaluation/step-1\.json: cannot be written: "):
        RunDirectory(tmp_path).write("evaluation/step-1.json", "{}")


def test_the_settings_of_every_start_are_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / "run.toml").write_text("older")
    for text, step in (("a", 0), ("b", 40), ("c", 40)):
        run.keep_settings(text, step)
    assert (tmp_path / "run.toml").read_text() == "c"
    assert {file.name: file.read_text() for file in (tmp_path / "starts").iterdir()} == {
        "0000.toml": "older",
        "0001-step-00000000.toml": "a",
        "0002-step-00000040.toml": "b",
        "0003-step-00000040.toml": "c",
    }


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
