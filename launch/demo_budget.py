"""How many steps fit into the time that the demo may take: one step is timed on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from data_pipeline import FaceDataset
from data_pipeline.files.cores import available_cores
from trainer.backbones import make_backbone
from trainer.config import load_config

IMAGE_HEIGHT = 56  # pixels; half of the field's 112, at a quarter of the time
MOST_EPOCHS = 100  # a tiny set is known by heart long before
# What a step takes beside the backbone: head, exchange, decoding, the other rank on the same memory.
OVERHEAD = 1.5
TIMED_STEPS = 2


def settings_for(config: Path, train: Path, seconds: float, ranks: int) -> list[str]:
    """The options that `config` needs for this set: image size, batch and the steps for `seconds`."""
    with FaceDataset.open(train) as dataset:
        images, (height, width) = dataset.num_images, dataset.image_size
    size = (IMAGE_HEIGHT, max(16, round(IMAGE_HEIGHT * width / height)))
    settings = ["--data.image-size", *map(str, size)]
    stated = ["--config", str(config), *settings, "--training.steps", "1"]
    model = load_config([*stated, "--run", "unused", "--data.train", str(train)])
    batch = max(2, min(model.data.batch_size, images // (2 * ranks)))
    network = make_backbone(model.model.backbone, model.model.embedding_dim, size, model.training.seed)
    step_s = OVERHEAD * time_step(network, torch.zeros(batch, 3, *size), max(1, available_cores() // ranks))
    epoch = images / (ranks * batch)
    steps = max(10, min(int(seconds / step_s), round(MOST_EPOCHS * epoch)))
    print(
        f"a step of {ranks} × {batch} images takes about {step_s:.2f} s here: "
        f"{steps} steps ({steps / epoch:.1f} epochs), {steps * step_s:.0f} s"
    )
    return [
        *settings,
        *("--data.batch-size", str(batch)),
        *("--optim.warmup-steps", str(steps // 10)),
        *("--training.steps", str(steps)),
    ]


def time_step(network: torch.nn.Module, images: torch.Tensor, threads: int) -> float:
    """Seconds of a forward and backward pass with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        network(images).sum().backward()
        begun = time.perf_counter()
        for _ in range(TIMED_STEPS):
            network(images).sum().backward()
        return (time.perf_counter() - begun) / TIMED_STEPS
    finally:
        torch.set_num_threads(before)
