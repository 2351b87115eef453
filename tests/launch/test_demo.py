"""The demo from beginning to end on a tiny record folder, and what a second start does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from launch.demo import CONFIGS, RANKS, Progress
from launch.errors import LaunchInputError
from tests.trainer.tiny import write_tiny_set
from tests.waiting import patience_s
from trainer.config import load_config
from trainer.device import check_device


def demo(run: Path, data: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "launch.demo", "--run", str(run), "--data", str(data), "--minutes", "0.1"]
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=patience_s(200),
    )


@pytest.mark.dali
def test_the_demo_trains_shows_and_shows_again(tmp_path: Path) -> None:
    data = write_tiny_set(tmp_path / "faces")
    done = demo(tmp_path / "demo", data)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "demo" / "faces"
    shown = done.stdout[done.stdout.index("people never seen") :]
    assert "untrained" in shown
    assert "class matrix: rank 0 has classes 0–6; rank 1 has classes 7–13" in shown
    assert (folder / "report" / "roc.png").stat().st_size > 1000
    assert json.loads((folder / "run" / "status.json").read_text())["status"] == "finished"

    again = demo(tmp_path / "demo", data)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"{folder} is finished; its result again. To start over: rm -r {folder}\n")
    assert shown in again.stdout

    # Another set of the same name, and one that the demo cannot use.
    shutil.copytree(data, tmp_path / "other" / "faces")
    refused = demo(tmp_path / "demo", tmp_path / "other" / "faces")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"cosface: {folder}: holds the demo of {data}, not of ")
    assert refused.stderr.count("\n") == 1


def test_an_unusable_folder_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = demo(tmp_path / "demo", tmp_path / "empty")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"cosface: {tmp_path / 'empty'}: holds no images in sub-folders")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("text", ['{"source": null}', '{"source": "x", "settings": 3}', "[]", "{"])
def test_a_demo_json_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(LaunchInputError, match=r"^.*demo\.json: is not what the demo writes") as caught:
        Progress.of(tmp_path, "x")
    assert "\n" not in str(caught.value)


def test_what_the_demo_keeps_comes_back(tmp_path: Path) -> None:
    kept = Progress(tmp_path, "x", "about", "c.toml", ["--a", "b"], {"faces": 1.5})
    kept.save()
    assert Progress.of(tmp_path, "x") == kept


@pytest.mark.parametrize("config", ["demo.toml", "demo-own.toml"])
def test_two_ranks_start_where_there_is_one_gpu(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    words = ["--config", str(CONFIGS / config), "--run", "r", "--data.train", "d", "--training.steps", "1"]
    check_device(load_config(words), RANKS, is_launcher=True)
