"""Small networks whose activations are known by hand, and small image folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from featviz.network.models import Model


class Positions(nn.Module):
    """A layer whose channels 0 and 1 hold each position's row and column, channel 2 the image's mean brightness.

    `layout`: nchw, nhwc or tokens, the latter behind `prefix` tokens full of -1.
    """

    def __init__(self, rows: int, columns: int, *, layout: str = "nchw", prefix: int = 0, channels: int = 3) -> None:
        super().__init__()
        self.rows, self.columns, self.layout, self.channels = rows, columns, layout, channels
        self.num_prefix_tokens = prefix
        self.encode = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        n = len(images)
        row, column = torch.meshgrid(torch.arange(self.rows), torch.arange(self.columns), indexing="ij")
        maps = torch.zeros(n, self.channels, self.rows, self.columns)
        maps[:, 0], maps[:, 1] = row, column
        maps[:, 2] = images.mean((1, 2, 3))[:, None, None]
        if self.layout == "nhwc":
            return self.encode(maps.permute(0, 2, 3, 1))
        if self.layout == "tokens":
            prefix = -torch.ones(n, self.num_prefix_tokens, self.channels)
            return self.encode(torch.cat([prefix, maps.flatten(2).transpose(1, 2)], 1))
        return self.encode(maps)


def conv_net(channels: int = 6, *, seed: int = 0, inputs: int = 3) -> nn.Sequential:
    """Two strided convolutions with BatchNorm and in-place ReLU (names 0 to 5), pooling and a linear layer (6 to 8)."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(inputs, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, channels, 3, 2, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 4),
    )
    with torch.no_grad():
        for norm in (network[1], network[4]):
            assert isinstance(norm, nn.BatchNorm2d)
            norm.running_mean = torch.randn(norm.num_features) * 0.1
            norm.running_var = torch.rand(norm.num_features) + 0.5
            norm.weight.copy_(torch.rand(norm.num_features) + 0.5)
            norm.bias.copy_(torch.randn(norm.num_features) * 0.2)
    return network


def toy_model(*, seed: int = 0, inputs: int = 3) -> Model:
    """`conv_net` for 32 x 32 images, its classes called a to d."""
    half = (0.5,) * inputs
    return Model.wrap(conv_net(seed=seed, inputs=inputs), name="toy", size=32, mean=half, std=half, labels="abcd")


def noise_folder(folder: Path, count: int = 24, *, size: int = 40, seed: int = 0) -> Path:
    """A folder of `count` smooth random colour images, 000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        small.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
    return folder
