"""A tiny set of noisy colour patterns, and runs on it that take seconds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

from data_pipeline import write_dataset
from tests.ranks import these_ranks
from tests.waiting import patience_s, until
from trainer.config import load_config
from trainer.errors import TrainerInputError, TrainingFailed
from trainer.loop import train
from trainer.ranks import FailedElsewhere, Ranks
from trainer.stop import StopRequest

CLASSES, IMAGES = 21, 168
# A scale at which rounding is not blown up within 20 steps: at 64 a change of one part in 10^8 of the first
# weights already moves this set's loss by 1e-3.
SETTINGS = {
    "model.backbone": "sphereface4",
    "model.embedding-dim": "32",
    "head.scale": "16",
    "optim.lr": "0.05",
    "optim.schedule": "constant",
    "optim.warmup-steps": "0",
    "training.steps": "20",
    "training.clip-norm": "0",
    "device": "cpu",
    "deadlines.step": "3000",
}
# Losses that refuse a scale.
WITHOUT_SCALE = {"softmax", "lsoftmax", "sphereface", "none"}
# For a run that is to be interrupted: on a fast machine 20 steps are over before the signal arrives. The
# schedule is constant, so that its losses are those of a run that was to end sooner.
ENDLESS = ("--training.steps", "1000000")


def write_tiny_set(folder: Path, size: int = 32) -> Path:
    """21 classes of 8 images each."""
    rng = np.random.default_rng(0)

    def images() -> Iterator[tuple[int, bytes]]:
        for label in range(CLASSES):
            pattern = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            for _ in range(IMAGES // CLASSES):
                noise = rng.integers(-30, 30, (size, size, 3))
                image = np.clip(cv2.resize(pattern, (size, size)).astype(int) + noise, 0, 255)
                yield label, cv2.imencode(".jpg", image.astype(np.uint8))[1].tobytes()

    write_dataset(folder, images(), CLASSES, (size, size))
    return folder


def arguments(run: Path, data: Path, batch_size: int, *more: str) -> list[str]:
    settings = {"run": run, "data.train": data, "data.batch-size": batch_size} | SETTINGS
    if WITHOUT_SCALE & set(more):
        del settings["head.scale"]
    return [*(word for name, value in settings.items() for word in (f"--{name}", str(value))), *more]


def events(run: Path) -> list[dict[str, Any]]:
    file = run / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in events(run) if "loss" in event]


def start(
    world_size: int,
    argv: list[str],
    *command: str,
    of_rank: Mapping[int, list[str]] | None = None,
    environments: Mapping[int, dict[str, str]] | None = None,
) -> list[subprocess.Popen[str]]:
    """Start `python -m trainer` on so many ranks, with torchrun's variables.

    command: what stands in its place, behind python -m; of_rank: a rank's own further arguments;
    environments: its own variables.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(world_size):
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        env |= (environments or {}).get(rank, {})
        own = (of_rank or {}).get(rank, [])
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-m", *(command or ("trainer",)), *argv, *own],
                env=env,
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return ranks


def finish(ranks: list[subprocess.Popen[str]], but: tuple[int, ...] = ()) -> list[tuple[int, str]]:
    """Exit code and standard error of every rank; those of `but` are killed when the others have ended."""
    ended = {}
    try:
        for number, rank in enumerate(ranks):
            if number not in but:
                _, error = rank.communicate(timeout=patience_s())
                ended[number] = (rank.returncode, error)
    finally:
        for rank in ranks:
            rank.kill()
    for number in but:
        _, error = ranks[number].communicate()
        ended[number] = (ranks[number].returncode, error)
    return [ended[number] for number in range(len(ranks))]


def wait_for_step(run: Path, step: int) -> None:
    until(lambda: any(event["step"] >= step for event in events(run)), f"step {step}")


def alone(argv: list[str]) -> str:
    # As for the ranks of `start`: another number of threads adds in another order.
    torch.set_num_threads(1)
    with patch.dict(os.environ, OMP_NUM_THREADS="1"):
        return train(load_config(argv), Ranks(), torch.device("cpu"), StopRequest())


def train_rank(argv: list[str]) -> str:
    try:
        return train(load_config(argv), these_ranks(), torch.device("cpu"), StopRequest())
    except (TrainerInputError, TrainingFailed, FailedElsewhere) as error:
        return f"{type(error).__name__}: {error}"
