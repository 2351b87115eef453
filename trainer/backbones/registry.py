"""The table of backbones, and how a name becomes a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from trainer.backbones.iresnet import IRESNET_SHAPES, IResNet
from trainer.backbones.sphereface import SPHEREFACE_UNITS, SphereFaceNet


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is made."""

    make: Callable[[int, tuple[int, int]], SphereFaceNet | IResNet]
    """From the numbers in an embedding and the (H, W) of the images."""
    has_batch_norm: bool
    """Whether a batch's images depend on each other while training: a batch of one is none."""


BACKBONES: dict[str, Backbone] = {
    **{
        name: Backbone(partial(SphereFaceNet, units), has_batch_norm=False)
        for name, units in SPHEREFACE_UNITS.items()
    },
    **{
        name: Backbone(partial(IResNet, shape), has_batch_norm=True) for name, shape in IRESNET_SHAPES.items()
    },
}
"""Every backbone by its name."""


def make_backbone(name: str, embedding_dim: int, image_size: tuple[int, int], seed: int) -> nn.Module:
    """A new network on the CPU: images [n, 3, H, W] float32 to embeddings [n, embedding_dim].

    name: one of BACKBONES. image_size: (H, W) in pixels. The weights depend on the arguments alone. Raises
    KeyError for a name that is not in the table.
    """
    # Without storage at first: torch would draw weights from the global generator that are then replaced.
    with torch.device("meta"):
        network = BACKBONES[name].make(embedding_dim, image_size)
    network.to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))
    return network
