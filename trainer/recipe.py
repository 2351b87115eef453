"""The defaults that depend on the run: those of configs/cosface_sphereface64.toml, scaled to it.

The recipe has a learning rate of 0.1 for 512 images a step on all ranks together, 1,000 steps of warm-up and
a backbone's gradient of norm 5 at most. The same rate for 32 images moves centres and weights sixteen times
as far an image: with s = 64 the loss rises far above that of chance and stays there. So it is taken in
proportion to the images of a step (Goyal et al. 2017, section 2.1), and a short run's warm-up is a part of
the run.
"""

from __future__ import annotations

from dataclasses import replace

from trainer.schedule import OptimConfig
from trainer.settings import Config

RECIPE = "configs/cosface_sphereface64.toml"
LR = 0.1
IMAGES = 512
WARMUP_STEPS = 1000
WARMUP_PART = 0.1


def settled(optim: OptimConfig, images_a_step: int, total_steps: int) -> OptimConfig:
    """The settings with learning rate and warm-up filled in where they were not given.

    images_a_step: of all ranks together. Raises ValueError if a final_lr is above the rate that comes of it.
    """
    lr, warmup = optim.lr, optim.warmup_steps
    if lr is None:
        lr = LR * min(1.0, images_a_step / IMAGES)
    if warmup is None:
        warmup = min(WARMUP_STEPS, round(WARMUP_PART * total_steps))
    return replace(optim, lr=lr, warmup_steps=warmup)


def told(config: Config, images_a_step: int, total_steps: int) -> str | None:
    """Which settings that decide whether a run converges are defaults, and where they are from."""
    used = settled(config.optim, images_a_step, total_steps)
    defaults = []
    if config.optim.lr is None:
        defaults.append(f"--optim.lr {used.lr:.4g} ({LR} for {IMAGES} images a step, here {images_a_step})")
    if config.optim.warmup_steps is None:
        defaults.append(
            f"--optim.warmup-steps {used.warmup_steps} ({WARMUP_STEPS}, at most a tenth of the run)"
        )
    if config.training.clip_norm == type(config.training).clip_norm:
        defaults.append(f"--training.clip-norm {config.training.clip_norm:g}")
    return f"by default, after {RECIPE}: {', '.join(defaults)}" if defaults else None
