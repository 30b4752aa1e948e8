"""Canvas: what is optimised. Its parameters become images (n, channels, h, w) in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..errors import UserError, unknown
from . import color
from .spectrum import Spectrum, before_sigmoid

Generators = Sequence[torch.Generator]


class Canvas(Protocol):
    """Pictures under optimisation; every tensor in `parameters` has one row per picture."""

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimiser moves, each (n, ...) and requiring a gradient."""

    @property
    def lr(self) -> float:
        """The peak learning rate that suits the parameters."""

    def images(self) -> Tensor:
        """The pictures as they are now: (n, channels, h, w) in [0, 1]."""

    def begin_at(self, images: Tensor) -> None:
        """Set the parameters so that `images` (n, channels, h, w) come out, as nearly as the canvas can.

        Raises `UserError` where it cannot.
        """


# A canvas of one picture per generator: canvas(generators, channels, (h, w), device).
CanvasMaker = Callable[[Generators, int, tuple[int, int], torch.device], Canvas]


# The exponent of 1 / f that icons and superstimuli use: 1 leaves them more fine texture, 1.6 large blotches.
DECAY = 1.3


class Fourier:
    """Pictures by their spectrum, so that every frequency learns at the pace natural images suggest (1 / f).

    `sd`: standard deviation of the initial noise per coefficient; `decay`: the exponent of 1 / f. More than 1 favours
    shapes over fine texture; four cycles per picture keep their pace whatever the decay. Olah et al. 2017, "Feature
    Visualization".
    """

    lr = 0.2

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
        self.spectrum = (_noise(generators, shape) * sd).to(device).requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return [self.spectrum]

    def images(self) -> Tensor:
        coefficients = torch.view_as_complex(self.spectrum) * self.scale
        return color.to_rgb(torch.fft.irfft2(coefficients, s=self.size, norm="ortho")).sigmoid()

    def begin_at(self, images: Tensor) -> None:
        coefficients = torch.fft.rfft2(before_sigmoid(images), norm="ortho") / self.scale
        _overwrite(self.spectrum, torch.view_as_real(coefficients))


class Pixels:
    """Pictures by their pixels, before colour decorrelation and sigmoid: the plainest canvas, and the noisiest."""

    lr = 0.1

    def __init__(
        self, generators: Generators, channels: int, size: tuple[int, int], device: torch.device, *, sd: float = 0.01
    ) -> None:
        self.values = (_noise(generators, (channels, *size)) * sd).to(device).requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return [self.values]

    def images(self) -> Tensor:
        return color.to_rgb(self.values).sigmoid()

    def begin_at(self, images: Tensor) -> None:
        _overwrite(self.values, before_sigmoid(images))


class Maco:
    """Pictures by their phase alone: every frequency keeps the strength that it has in natural images.

    `spectrum`: that of the user's images or of photographs, with as many channels as the pictures. What the network
    cannot do is make any frequency louder, so the pictures keep the contrast of photographs and nothing burns. Fel et
    al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization". The paper
    standardises the image at each step; measured in the canvas's own coordinates, the amplitude says it all.
    """

    lr = 0.5

    def __init__(
        self,
        generators: Generators,
        channels: int,
        size: tuple[int, int],
        device: torch.device,
        *,
        spectrum: Spectrum,
    ) -> None:
        if spectrum.amplitude.shape[0] != channels:
            raise UserError(f"a spectrum of {spectrum.amplitude.shape[0]} channels does not fit images of {channels}.")
        self.size = size
        self.amplitude = spectrum.at(size).to(device)
        self.mean = spectrum.mean[:, None, None].to(device)
        shape = tuple(self.amplitude.shape)
        self.phase = (_noise(generators, shape, uniform=True) * math.pi).to(device).requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return [self.phase]

    def images(self) -> Tensor:
        coefficients = torch.polar(self.amplitude.expand_as(self.phase), self.phase)
        decorrelated = torch.fft.irfft2(coefficients, s=self.size, norm="ortho") + self.mean
        return color.to_rgb(decorrelated).sigmoid()

    def begin_at(self, images: Tensor) -> None:
        """Takes the images' phases; their amplitudes stay those of the spectrum."""
        _overwrite(self.phase, torch.fft.rfft2(before_sigmoid(images), norm="ortho").angle())


class Cppn:
    """Pictures as a small network from a pixel's place to its colour: smooth, and sharp at any size.

    Eight layers of 24 units; each passes on atan and its square, both scaled to like spread. Mordvintsev et al. 2018,
    "Differentiable Image Parameterizations"; Stanley 2007, "Compositional Pattern Producing Networks".
    """

    lr = 0.01

    def __init__(
        self,
        generators: Generators,
        channels: int,
        size: tuple[int, int],
        device: torch.device,
        *,
        layers: int = 8,
        width: int = 24,
    ) -> None:
        self.size = size
        # Coordinates with a standard deviation near 1 along the longer side.
        extent = math.sqrt(3)
        rows = torch.linspace(-1, 1, size[0]) * extent * size[0] / max(size)
        columns = torch.linspace(-1, 1, size[1]) * extent * size[1] / max(size)
        self.places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1).to(device)
        widths = [2] + [width] * layers
        self.weights: list[Tensor] = []
        for number, outputs in enumerate(widths[1:]):
            inputs = widths[number] * (1 if number == 0 else 2)
            noise = _noise(generators, (outputs, inputs)) / math.sqrt(inputs)
            self.weights.append(noise.to(device).requires_grad_())
        # The last layer starts at nothing: the first picture is grey, whatever the network before it draws.
        last = torch.zeros(len(generators), channels, 2 * width, device=device)
        self.weights.append(last.requires_grad_())

    @property
    def parameters(self) -> list[Tensor]:
        return self.weights

    def images(self) -> Tensor:
        signal = self.places.expand(len(self.weights[0]), -1, -1)
        for weight in self.weights[:-1]:
            turned = torch.atan(weight @ signal)
            signal = torch.cat([turned / 0.67, turned.square() / 0.6], 1)
        drawn: Tensor = self.weights[-1] @ signal
        return color.to_rgb(drawn.reshape(*drawn.shape[:2], *self.size)).sigmoid()

    def begin_at(self, images: Tensor) -> None:
        raise UserError("the canvas cppn cannot begin at an image; fourier, pixel and maco can.")


class Calm:
    """A canvas whose border stays calm, so that a picture has figure and ground: what is meant lies in the middle.

    Towards the edges the picture fades into its own mean colour; `edge`: what is left there of its contrast.
    """

    def __init__(self, inner: Canvas, size: tuple[int, int], device: torch.device, *, edge: float) -> None:
        self.inner, self.lr = inner, inner.lr
        rows, columns = (torch.linspace(-1, 1, length, device=device) for length in size)
        # 1 within half of the way to the edge, then down along a cosine.
        away = torch.maximum(rows.abs()[:, None], columns.abs()[None])
        fade = 0.5 + 0.5 * torch.cos(math.pi * ((away - 0.5) / 0.5).clamp(min=0))
        self.window = edge + (1 - edge) * fade

    @property
    def parameters(self) -> list[Tensor]:
        return self.inner.parameters

    def images(self) -> Tensor:
        images = self.inner.images()
        mean = images.mean((2, 3), keepdim=True)
        return mean + (images - mean) * self.window

    def begin_at(self, images: Tensor) -> None:
        """Takes the images as they are: they fade, too."""
        self.inner.begin_at(images)


def calm(maker: CanvasMaker, *, edge: float = 0.6) -> CanvasMaker:
    """The same canvas with a calm border."""

    def make(generators: Generators, channels: int, size: tuple[int, int], device: torch.device) -> Calm:
        return Calm(maker(generators, channels, size, device), size, device, edge=edge)

    return make


class WithAlpha:
    """A canvas with an opacity: images (n, channels + 1, h, w), the last channel from 0, transparent, to 1, opaque."""

    def __init__(self, colors: Canvas, opacity: Canvas) -> None:
        self.colors, self.opacity = colors, opacity
        self.lr = colors.lr

    @property
    def parameters(self) -> list[Tensor]:
        return self.colors.parameters + self.opacity.parameters

    def images(self) -> Tensor:
        return torch.cat([self.colors.images(), self.opacity.images()], 1)

    def begin_at(self, images: Tensor) -> None:
        """Takes colours; the opacity begins as it is."""
        self.colors.begin_at(images)


def with_alpha(maker: CanvasMaker) -> CanvasMaker:
    """The same canvas with an opacity beside it, drawn by its spectrum."""

    def make(generators: Generators, channels: int, size: tuple[int, int], device: torch.device) -> WithAlpha:
        opacity = Fourier(generators, 1, size, device, decay=DECAY)
        colors = maker(generators, channels, size, device)
        # One optimiser moves both at the colours' rate; the opacity is to move at its own.
        opacity.scale = opacity.scale * (opacity.lr / colors.lr)
        return WithAlpha(colors, opacity)

    return make


# The canvases by name; `maco` takes a spectrum besides, see `canvas_maker`.
CANVASES: Mapping[str, Callable[..., Canvas]] = {"fourier": Fourier, "pixel": Pixels, "maco": Maco, "cppn": Cppn}


def canvas_maker(canvas: str | CanvasMaker, spectrum: Spectrum | None = None) -> CanvasMaker:
    """The canvas of this name, or the given maker itself.

    Raises `UserError` for an unknown name and for `maco` without a spectrum.
    """
    if not isinstance(canvas, str):
        return canvas
    if canvas not in CANVASES:
        raise unknown("canvas", canvas, list(CANVASES))
    if canvas != "maco":
        return CANVASES[canvas]
    if spectrum is None:
        raise UserError("the canvas maco takes the spectrum of images: Spectrum.of(images), or partial(Maco, "
                        "spectrum=...) as the canvas.")  # fmt: skip
    return partial(Maco, spectrum=spectrum)


def _noise(generators: Generators, shape: tuple[int, ...], *, uniform: bool = False) -> Tensor:
    """(n, *shape): normal noise, or uniform in [-1, 1]; each picture's from its own generator."""
    if uniform:
        return torch.stack([torch.rand(shape, generator=generator) * 2 - 1 for generator in generators])
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def _overwrite(parameter: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values.to(parameter))
