"""A checkout of arcface_torch is measured by a script outside the packages, which run nobody's code."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.bench.row import Case, Measured, Row
from launch.bench.show import show
from launch.cli import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "head_beside_arcface_torch.py"

# What the script takes from a checkout, of our own making: the classes' names and signatures, and a .cuda().
# Its first centres are ours, so that both must come to the same loss.
LOSSES = """
class CosFace:
    def __init__(self, s, m):
        self.s, self.m = s, m
"""
PARTIAL_FC_V2 = """
import torch
from torch import nn
import partial_fc
class PartialFC_V2(nn.Module):
    def __init__(self, margin_loss, embedding_size, num_classes, sample_rate=1.0, fp16=False):
        super().__init__()
        self.margin = margin_loss
        ours = partial_fc.PartialFC(num_classes, embedding_size, partial_fc.CosFace())
        self.weight = nn.Parameter(ours.local_weight.clone()).cuda()
    def forward(self, embeddings, labels):
        cosines = nn.functional.normalize(embeddings) @ nn.functional.normalize(self.weight).T
        target = nn.functional.one_hot(labels, len(self.weight))
        return nn.functional.cross_entropy(self.margin.s * (cosines - self.margin.m * target), labels)
"""


def test_a_checkout_is_measured_beside_ours(tmp_path: Path) -> None:
    checkout = tmp_path / "arcface_torch"
    checkout.mkdir()
    (checkout / "losses.py").write_text(LOSSES)
    (checkout / "partial_fc_v2.py").write_text(PARTIAL_FC_V2)
    words = ["--classes", "400", "--embedding-dim", "16", "--batch-size", "8", "--steps", "1", "--ranks", "1"]
    words += ["--variants", "float32", "--rivals", "none", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, SCRIPT, "--peer", checkout, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    kinds = [(row["case"]["rival"], row["case"]["dtype"]) for row in rows]
    assert kinds == [("cosface", "float32"), ("arcface_torch", "float32"), ("arcface_torch", "bfloat16")]
    assert rows[0]["measured"]["loss"] == pytest.approx(rows[1]["measured"]["loss"], rel=1e-5)
    assert all(row["measured"]["step_s"] > 0 for row in rows)
    assert "not measured" not in done.stdout


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--peer", tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == f"cosface: --peer {tmp_path}: has no partial_fc_v2.py; a folder arcface_torch has\n"


def test_the_installed_command_has_no_such_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "head", "--peer", "x"]) == 2
    assert "--peer" in capsys.readouterr().err


def test_ratios_are_to_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = Case("cosface", 100), Case("arcface_torch", 100, peer="somewhere")
    show(
        [Row(ours, Measured(0.5, 1, 0, 0.1, 0.1, 1)), Row(theirs, Measured(2.0, 1, 0, 0.1, 0.1, 1))],
        25.0,
        50.0,
    )
    assert "4.0" in capsys.readouterr().out


def test_no_package_runs_code_that_it_has_read() -> None:
    called = []
    for package in ("launch", "trainer", "partial_fc", "data_pipeline"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in ("exec", "eval", "compile", "execfile")
                ):
                    called.append(f"{file}:{node.lineno}")
    assert called == []
