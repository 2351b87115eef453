"""The main job on real faces: FIW as it lies on two ranks, verified on LFW's fold 10 and on Glint360K."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import patience_s

pytestmark = [pytest.mark.real_faces, pytest.mark.mtcnn, pytest.mark.dali, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[1]


def cosface(*words: object, deadline_s: float = 600) -> str:
    """Run the command as a user would and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=patience_s(deadline_s),
        check=False,
    )
    assert done.returncode == 0, f"cosface {words[0]} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def people_of_sets(people_txt: Path, wanted: set[int]) -> list[str]:
    """The people of LFW's View 2 sets (from 1) of people.txt."""
    lines = iter(people_txt.read_text().splitlines())
    people = []
    for number in range(1, int(next(lines)) + 1):
        names = [next(lines).split("\t")[0] for _ in range(int(next(lines)))]
        people += names if number in wanted else []
    return people


def test_fiw_trains_on_two_ranks_and_is_verified_on_lfw_and_glint(shared_data, tmp_path, capsys):
    lfw = shared_data / "lfw"
    images = tmp_path / "lfw-sets-9-10"
    images.mkdir()
    for name in people_of_sets(lfw / "people.txt", {9, 10}):
        (images / name).symlink_to(lfw / "images" / name)
    cosface("pack", images, tmp_path / "packed", "--align", "mtcnn", "--workers", "2")
    inspected = cosface("inspect", tmp_path / "packed")
    assert "damaged" in inspected
    cosface(
        "pairs", lfw / "pairs.txt", lfw / "images", tmp_path / "lfw10.bin", "--fold", 10, "--align", "mtcnn"
    )
    sets = [tmp_path / "lfw10.bin", shared_data / "glint4.bin"]

    run = tmp_path / "run"
    settings = [
        *("--run", run, "--data.train", shared_data / "fiw", "--data.batch-size", 64),
        *("--data.image-size", 48, 48, "--model.backbone", "iresnet10-half", "--model.embedding-dim", 128),
        *("--head.scale", 32, "--head.margin", 0.2, "--optim.lr", 0.1, "--optim.schedule", "cosine"),
        *("--optim.warmup-steps", 20, "--training.clip-norm", 5, "--checkpoint.every", 0),
        *("--evaluation.verification", *sets),
    ]
    # One step at a learning rate of nearly nothing leaves the network as it was: the figures before training.
    before = tmp_path / "before"
    untrained = ["--run", before, "--training.steps", 1, "--optim.lr", 1e-9, "--optim.warmup-steps", 0]
    cosface("launch", "local", "--processes", 2, "--", *settings, *untrained)
    cosface("launch", "local", "--processes", 2, "--", *settings, "--training.epochs", 3)

    figures = {}
    for name, folder in (("before", before), ("after", run)):
        cosface("evaluate", "--run", folder, "--verification", *sets, "--json", tmp_path / f"{name}.json")
        figures[name] = json.loads((tmp_path / f"{name}.json").read_text())
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if "loss" in event]
    ranges = json.loads((run / "ranks.json").read_text())
    with capsys.disabled():
        print(f"\nFIW, {len(losses)} steps: loss {losses[0]:.2f} → {np.mean(losses[-20:]):.2f}; {ranges}")
        for name in ("lfw10", "glint4"):
            accuracies = [f"{figures[when][name]['accuracy']:.2%}" for when in ("before", "after")]
            print(f"{name}: accuracy {accuracies[0]} before, {accuracies[1]} after")
    assert np.mean(losses[-20:]) <= 0.9 * losses[0]
    assert len(losses) == -(-3 * 12_305 // 128)
    assert figures["after"].keys() == {"lfw10", "glint4"}
