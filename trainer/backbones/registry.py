"""The table of names, and how a name becomes a network."""

from __future__ import annotations

import torch
from torch import nn

from trainer.backbones.iresnet import IRESNET_SHAPES, IResNet
from trainer.backbones.sphereface import SPHEREFACE_UNITS, SphereFaceNet

BACKBONES = (*SPHEREFACE_UNITS, *IRESNET_SHAPES)


def make_backbone(name: str, embedding_dim: int, image_size: tuple[int, int], seed: int) -> nn.Module:
    """A new network on the CPU: images [n, 3, H, W] float32 to embeddings [n, embedding_dim].

    name: one of BACKBONES. image_size: (H, W) in pixels. The weights depend on the arguments alone. Raises
    KeyError for a name that is not in the table.
    """
    # Without storage at first: torch would draw weights from the global generator that are then replaced.
    network: SphereFaceNet | IResNet
    with torch.device("meta"):
        if name in SPHEREFACE_UNITS:
            network = SphereFaceNet(SPHEREFACE_UNITS[name], embedding_dim, image_size)
        else:
            network = IResNet(IRESNET_SHAPES[name], embedding_dim, image_size)
    network.to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))
    return network
