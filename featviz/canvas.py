"""Canvas: what is optimised. Its parameters become images (n, channels, h, w) in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from . import color
from .errors import unknown

Generators = Sequence[torch.Generator]


class Canvas(Protocol):
    """Pictures under optimisation; every tensor in `parameters` has one row per picture."""

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimiser moves, each (n, ...) and requiring a gradient."""

    def images(self) -> Tensor:
        """The pictures as they are now: (n, channels, h, w) in [0, 1]."""


# A canvas of one picture per generator: canvas(generators, channels, (h, w), device).
CanvasMaker = Callable[[Generators, int, tuple[int, int], torch.device], Canvas]


# The exponent of 1 / f that icons and superstimuli use. At blocks.5 of EfficientNet-Lite0, 96 px, 128 steps: as high a
# score as with 1, and half the fine texture.
DECAY = 1.5


class Fourier:
    """Pictures by their spectrum, so that every frequency learns at the pace natural images suggest (1 / f).

    `sd`: standard deviation of the initial noise per coefficient; `decay`: the exponent of 1 / f. More than 1 favours
    shapes over fine texture; four cycles per picture keep their pace whatever the decay. Olah et al. 2017, "Feature
    Visualization".
    """

    def __init__(
        self,
        generators: Generators,
        channels: int,
        size: tuple[int, int],
        device: torch.device,
        *,
        sd: float = 0.01,
        decay: float = 1.0,
    ) -> None:
        self.size = size
        frequencies = torch.sqrt(torch.fft.fftfreq(size[0])[:, None] ** 2 + torch.fft.rfftfreq(size[1])[None] ** 2)
        frequencies = frequencies.clamp(min=1 / max(size))
        # Divided by 4 as in Lucid: the first images then have a standard deviation near 0.01 before the sigmoid.
        self.scale = (1 / frequencies * (4 / max(size) / frequencies) ** (decay - 1) / 4).to(device)
        shape = (channels, *frequencies.shape, 2)
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        self.spectrum = (noise * sd).to(device).requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return [self.spectrum]

    def images(self) -> Tensor:
        coefficients = torch.view_as_complex(self.spectrum) * self.scale
        return color.to_rgb(torch.fft.irfft2(coefficients, s=self.size, norm="ortho")).sigmoid()


class Pixels:
    """Pictures by their pixels, before colour decorrelation and sigmoid: the plainest canvas, and the noisiest."""

    def __init__(
        self, generators: Generators, channels: int, size: tuple[int, int], device: torch.device, *, sd: float = 0.01
    ) -> None:
        noise = torch.stack([torch.randn((channels, *size), generator=generator) for generator in generators])
        self.values = (noise * sd).to(device).requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return [self.values]

    def images(self) -> Tensor:
        return color.to_rgb(self.values).sigmoid()


CANVASES: Mapping[str, CanvasMaker] = {"fourier": Fourier, "pixel": Pixels}


def canvas_maker(canvas: str | CanvasMaker) -> CanvasMaker:
    """The canvas of this name, or the given maker itself."""
    if not isinstance(canvas, str):
        return canvas
    if canvas not in CANVASES:
        raise unknown("canvas", canvas, list(CANVASES))
    return CANVASES[canvas]
