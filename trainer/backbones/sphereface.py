"""The plain residual CNNs of the SphereFace and CosFace papers: 3×3 convolutions, PReLU, no batch norm.

Four stages of 64, 128, 256 and 512 channels. A stage begins with a convolution of stride 2 and goes on with
residual units of two convolutions; one fully connected layer makes the embedding (Liu et al. 2017, table 2;
CosFace uses the 64-layer one: Wang et al. 2018, section 4.1). The names count convolutions.

Parameters without the classes, 512 numbers an embedding, in millions:

    layers   residual units of the stages   112×96   112×112
       4        0 0 0 0                     12.56    14.40
      10        0 1 2 0                     15.22    17.05
      20        1 2 4 1                     22.67    24.51
      36        2 4 8 2                     32.78    34.61
      64        3 8 16 3                    48.20    50.04
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.backbones.initial import constants, fan_in_normal, normal

# Residual units in each of the four stages.
SPHEREFACE_UNITS = {
    "sphereface4": (0, 0, 0, 0),
    "sphereface10": (0, 1, 2, 0),
    "sphereface20": (1, 2, 4, 1),
    "sphereface36": (2, 4, 8, 2),
    "sphereface64": (3, 8, 16, 3),
}
CHANNELS = (64, 128, 256, 512)
# The papers' own start of the residual units: so small that a unit begins near the identity.
_RESIDUAL_STD = 0.01


class Convolution(nn.Sequential):
    """A 3×3 convolution with its PReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(channels_in, channels, 3, stride, padding=1), nn.PReLU(channels))


class ResidualUnit(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(Convolution(channels, channels), Convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same shape."""
        result: Tensor = x + self.convolutions(x)
        return result


class SphereFaceNet(nn.Module):
    """Images [n, 3, H, W] float to embeddings [n, embedding_dim], for one image size."""

    def __init__(self, units: tuple[int, ...], embedding_dim: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        stages: list[nn.Module] = []
        channels_in = 3
        for channels, count in zip(CHANNELS, units, strict=True):
            residual = [ResidualUnit(channels) for _ in range(count)]
            stages.append(nn.Sequential(Convolution(channels_in, channels, stride=2), *residual))
            channels_in = channels
            height, width = (height + 1) // 2, (width + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.embedding = nn.Linear(channels_in * height * width, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, H, W] to [n, embedding_dim]."""
        embeddings: Tensor = self.embedding(self.stages(images).flatten(1))
        return embeddings

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the first weights."""
        constants(self)
        inside_units = {
            id(part) for unit in self.modules() if isinstance(unit, ResidualUnit) for part in unit.modules()
        }
        for part in self.modules():
            if isinstance(part, nn.Conv2d) and id(part) in inside_units:
                normal(part.weight, _RESIDUAL_STD, generator)
            elif isinstance(part, nn.Conv2d):
                fan_in_normal(part.weight, generator, slope=0.25)
            elif isinstance(part, nn.Linear):
                fan_in_normal(part.weight, generator)
