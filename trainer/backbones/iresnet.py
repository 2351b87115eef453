"""The residual networks with batch norm that most face models of today use ("IResNet").

A unit is batch norm, 3×3 convolution, batch norm, PReLU, 3×3 convolution of the unit's stride, batch norm,
plus a shortcut (1×1 convolution and batch norm where the shape changes). The stem keeps the resolution, every
stage halves it; batch norm, one fully connected layer and batch norm without a gain end it (Deng et al.
2019, section 3.1, "improved residual unit" of Han et al. 2017).

Parameters without the classes at 112×112 and 512 numbers an embedding, in millions:

    iresnet18 24.03   iresnet34 34.14   iresnet50 43.59   iresnet100 65.16

For small sets and processors there are half as wide ones that halve the resolution in the stem already:

    iresnet10-half 3.33   iresnet14-half 3.70
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.backbones.initial import constants, fan_in_normal, normal


@dataclass(frozen=True)
class Shape:
    """Units and channels of every stage; the stem has the first stage's channels and this stride."""

    units: tuple[int, ...]
    channels: tuple[int, ...] = (64, 128, 256, 512)
    stem_stride: int = 1


IRESNET_SHAPES = {
    "iresnet10-half": Shape((1, 1, 1, 1), (32, 64, 128, 256), stem_stride=2),
    "iresnet14-half": Shape((1, 2, 2, 1), (32, 64, 128, 256), stem_stride=2),
    "iresnet18": Shape((2, 2, 2, 2)),
    "iresnet34": Shape((3, 4, 6, 3)),
    "iresnet50": Shape((3, 4, 14, 3)),
    "iresnet100": Shape((3, 13, 30, 3)),
}
_EPSILON = 1e-5
_CONVOLUTION_STD = 0.1


def _convolution(channels_in: int, channels: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, size, stride, padding=size // 2, bias=False)


class Unit(nn.Module):
    """One residual unit."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(channels_in, eps=_EPSILON),
            _convolution(channels_in, channels, 3, 1),
            nn.BatchNorm2d(channels, eps=_EPSILON),
            nn.PReLU(channels),
            _convolution(channels, channels, 3, stride),
            nn.BatchNorm2d(channels, eps=_EPSILON),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                _convolution(channels_in, channels, 1, stride), nn.BatchNorm2d(channels, eps=_EPSILON)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, channels, h / stride, w / stride]."""
        result: Tensor = self.branch(x) + self.shortcut(x)
        return result


class IResNet(nn.Module):
    """Images [n, 3, H, W] float to embeddings [n, embedding_dim], for one image size."""

    def __init__(self, shape: Shape, embedding_dim: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        channels_in = shape.channels[0]
        self.stem = nn.Sequential(
            _convolution(3, channels_in, 3, shape.stem_stride),
            nn.BatchNorm2d(channels_in, eps=_EPSILON),
            nn.PReLU(channels_in),
        )
        height, width = (-(-side // shape.stem_stride) for side in image_size)
        stages: list[nn.Module] = []
        for channels, count in zip(shape.channels, shape.units, strict=True):
            rest = [Unit(channels, channels, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(Unit(channels_in, channels, 2), *rest))
            channels_in = channels
            height, width = (height + 1) // 2, (width + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.last_norm = nn.BatchNorm2d(channels_in, eps=_EPSILON)
        self.embedding = nn.Linear(channels_in * height * width, embedding_dim)
        self.embedding_norm = nn.BatchNorm1d(embedding_dim, eps=_EPSILON)
        # The embeddings are normalised anyway: a gain here would only be a second scale.
        self.embedding_norm.weight.requires_grad = False

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, H, W] to [n, embedding_dim]."""
        features = self.last_norm(self.stages(self.stem(images)))
        embeddings: Tensor = self.embedding_norm(self.embedding(features.flatten(1)))
        return embeddings

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the first weights."""
        constants(self)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                normal(part.weight, _CONVOLUTION_STD, generator)
            elif isinstance(part, nn.Linear):
                fan_in_normal(part.weight, generator)
