"""Synthetic stimuli -> tuning: what a channel does as one property of a picture is turned up and down.

Every stimulus is drawn in continuous coordinates, with soft edges one pixel wide, on grey, about `middle`: by default
the middle of the image, else what the map's middle position looks at (`ReceptiveFields.middle`). Angles are in degrees:
0 is horizontal, 90 vertical, growing counter-clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from featviz.draw.objectives import look
from featviz.errors import UserError, unknown
from featviz.network.models import Model
from featviz.network.trunk import Trunk

from ..scan.readout import Readout

GREY = 0.5
# (row, column) in pixels, None for the image's own.
Middle = tuple[float, float] | None


@dataclass(frozen=True)
class Stimuli:
    """A family of stimuli: `images` (n, 3, h, w) in [0, 1]; `parameters`: name -> (n,) the value in each image.

    `along`: the parameter that a tuning curve runs along; the others are what it takes the best over.
    """

    name: str
    images: Tensor
    parameters: dict[str, Tensor]
    along: str


@dataclass(frozen=True)
class Tuning:
    """Responses of a layer's channels to a family, at the middle of the map, less the response to plain grey.

    `values`: (points,) of the parameter `along`; `responses`: (points, channels), each the best over the other
    parameters; `best`: (channels,) number of the image that a channel answers most.
    """

    name: str
    along: str
    values: Tensor
    responses: Tensor
    best: Tensor


def bars(
    size: tuple[int, int], extent: float, *, middle: Middle = None, orientations: int = 16, width: float = 0.15
) -> Stimuli:
    """Bright and dark bars through the middle: `orientation` from 0 to 180, `contrast` 1 or -1.

    extent: length in pixels; width: as a share of it.
    """
    angles = torch.arange(orientations) * 180 / orientations
    grid = _grid(angles, torch.tensor([1.0, -1.0]))
    x, y = _turned(size, grid[0], middle)
    shape = _within(y.abs(), width * extent / 2) * _within(x.abs(), extent / 2)
    return _grey_family("bars", shape * grid[1][:, None, None] * 0.5, {"orientation": grid[0], "contrast": grid[1]})


def edges(size: tuple[int, int], extent: float, *, middle: Middle = None, orientations: int = 16) -> Stimuli:
    """Bright on one side, dark on the other, in a disc of diameter `extent`: `orientation` from 0 to 360."""
    angles = torch.arange(orientations) * 360 / orientations
    x, y = _turned(size, angles, middle)
    disc = _within((x.square() + y.square()).sqrt(), extent / 2)
    sides = (y.clamp(-0.5, 0.5) * 2) * 0.5
    return _grey_family("edges", disc * sides, {"orientation": angles})


def gratings(
    size: tuple[int, int],
    extent: float,
    *,
    middle: Middle = None,
    orientations: int = 8,
    frequencies: Sequence[float] = (),
    phases: int = 4,
) -> Stimuli:
    """Sine gratings in a Gaussian window: `frequency` in cycles per pixel, `orientation`, `phase` in degrees.

    frequencies: default, half octaves from one cycle per extent up to 0.35 cycles per pixel.
    """
    lowest = 1 / max(extent, 4)
    count = max(2, int(math.log2(0.35 / lowest) * 2) + 1)
    waves = torch.tensor(list(frequencies)) if frequencies else lowest * 2 ** (torch.arange(count) / 2)
    angles = torch.arange(orientations) * 180 / orientations
    grid = _grid(waves, angles, torch.arange(phases) * 360 / phases)
    x, y = _turned(size, grid[1], middle)
    window = torch.exp(-(x.square() + y.square()) / (2 * (extent / 4) ** 2))
    wave = torch.sin(2 * math.pi * grid[0][:, None, None] * y + torch.deg2rad(grid[2])[:, None, None])
    found = {"frequency": grid[0], "orientation": grid[1], "phase": grid[2]}
    return _grey_family("gratings", window * wave * 0.5, found, along="frequency")


def curves(
    size: tuple[int, int],
    extent: float,
    *,
    middle: Middle = None,
    orientations: int = 16,
    curvatures: Sequence[float] = (0.0, 0.5, 1.0, 1.5),
) -> Stimuli:
    """Bright arcs through the middle: `orientation` is where they bulge to, 0 to 360; `curvature` = extent / radius.

    Cammarata et al. 2020, "Curve Detectors".
    """
    angles = torch.arange(orientations) * 360 / orientations
    grid = _grid(angles, torch.tensor(list(curvatures)) / extent)
    x, y = _turned(size, grid[0] - 90, middle)  # y now points to where the arc bulges
    bend = grid[1][:, None, None]
    radius = 1 / bend.clamp(min=1e-9)
    # Distance from the circle whose top is the middle of the image; from the line y = 0 where it does not bend.
    circle = ((x.square() + (y + radius).square()).sqrt() - radius).abs()
    away = torch.where(bend > 1e-8, circle, y.abs())
    inside = _within((x.square() + y.square()).sqrt(), extent / 2)
    shape = _within(away, 0.06 * extent) * inside
    found = {"orientation": grid[0], "curvature": grid[1] * extent}
    return _grey_family("curves", shape * 0.5, found)


def dots(size: tuple[int, int], extent: float, *, middle: Middle = None, steps: int = 8) -> Stimuli:
    """Bright and dark discs: `diameter` in pixels, from a sixteenth of the extent to all of it; `contrast` 1 or -1."""
    diameters = extent * 2 ** torch.linspace(-4, 0, steps)
    grid = _grid(diameters, torch.tensor([1.0, -1.0]))
    x, y = _turned(size, torch.zeros(len(grid[0])), middle)
    shape = _within((x.square() + y.square()).sqrt(), grid[0][:, None, None] / 2)
    found = {"diameter": grid[0], "contrast": grid[1]}
    return _grey_family("dots", shape * grid[1][:, None, None] * 0.5, found, along="diameter")


def colors(size: tuple[int, int], extent: float, *, middle: Middle = None, hues: int = 12) -> Stimuli:
    """Discs of saturated colour, as bright as the grey around them or bright: `hue` in degrees, 0 red, 120 green."""
    angles = torch.arange(hues) * 360 / hues
    grid = _grid(angles, torch.tensor([0.35, 0.5]))
    # A circle about grey in the plane of equal sums, so that hues differ and brightness does not.
    turn = torch.deg2rad(grid[0][:, None] - torch.tensor([0.0, 120.0, 240.0]))
    rgb = (GREY + grid[1][:, None] * torch.cos(turn)).clamp(0, 1)
    x, y = _turned(size, torch.zeros(len(grid[0])), middle)
    disc = _within((x.square() + y.square()).sqrt(), extent / 2)[:, None]
    images = GREY + disc * (rgb[:, :, None, None] - GREY)
    return Stimuli("colors", images, {"hue": grid[0], "saturation": grid[1]}, "hue")


class Family(Protocol):
    """Draws a family of stimuli for images of (height, width), as large as a field of so many pixels about a middle."""

    def __call__(self, size: tuple[int, int], extent: float, *, middle: Middle = None) -> Stimuli: ...


FAMILIES: dict[str, Family] = {
    "bars": bars,
    "edges": edges,
    "gratings": gratings,
    "curves": curves,
    "dots": dots,
    "colors": colors,
}


def tuning(
    model: Model,
    layer: str | Readout,
    stimuli: Stimuli,
    *,
    sign: Literal[1, -1] = 1,
    trunk: Trunk | None = None,
    batch: int = 16,
) -> Tuning:
    """The tuning curves of all units of a layer, or of a readout, for a family of stimuli of the model's input size.

    sign: -1 for the curves of the channels' opposites.
    """
    readout = Readout(layer) if isinstance(layer, str) else layer
    trunk = trunk or Trunk(model, [readout.layer])

    def middle(images: Tensor) -> Tensor:
        return look(readout.maps(trunk(_channels(images, model).to(trunk.device))[readout.layer]), "center")

    if tuple(stimuli.images.shape[2:]) != model.preprocess.size:
        raise UserError(
            f"the stimuli are {tuple(stimuli.images.shape[2:])} pixels, the model takes {model.preprocess.size}."
        )
    grey = torch.full((1, 3, *model.preprocess.size), GREY)
    with torch.inference_mode():
        rest = middle(grey)
        parts = [middle(part) - rest for part in torch.split(stimuli.images, batch)]
    responses = torch.cat(parts).float().cpu() * sign
    values, place = torch.unique(stimuli.parameters[stimuli.along], return_inverse=True)
    best = torch.stack([responses[place == number].amax(0) for number in range(len(values))])
    return Tuning(stimuli.name, stimuli.along, values, best, responses.argmax(0))


def orientation_selectivity(found: Tuning, *, period: float = 180.0) -> tuple[Tensor, Tensor]:
    """(channels,) preferred orientation in degrees and its selectivity, from 0 (all alike) to 1 (one alone).

    One less the circular variance of the responses above the smallest one; period: 180 where turning by half a circle
    changes nothing, 360 for edges and curves. Ringach et al. 2002, "Orientation selectivity in macaque V1".
    """
    if found.along != "orientation":
        raise unknown("parameter of an orientation tuning", found.along, ["orientation"])
    weight = found.responses - found.responses.amin(0)
    turn = torch.exp(2j * math.pi * found.values / period)
    total = (weight * turn[:, None]).sum(0)
    strength = total.abs() / weight.sum(0).clamp(min=1e-12)
    return torch.rad2deg(total.angle()) * period / 360 % period, strength


def _grid(*axes: Tensor) -> list[Tensor]:
    """Every combination of the axes' values, one flat tensor per axis."""
    return [axis.flatten() for axis in torch.meshgrid(*(axis.float() for axis in axes), indexing="ij")]


def _turned(size: tuple[int, int], degrees: Tensor, middle: Middle) -> tuple[Tensor, Tensor]:
    """Coordinates (n, h, w) in pixels about the middle, x along each angle and y to the left of it."""
    across, down = (size[1] / 2, size[0] / 2) if middle is None else (middle[1], middle[0])
    rows = torch.arange(size[0]) + 0.5 - down
    columns = torch.arange(size[1]) + 0.5 - across
    up, right = torch.meshgrid(-rows, columns, indexing="ij")
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    x = right * cos[:, None, None] + up * sin[:, None, None]
    return x, up * cos[:, None, None] - right * sin[:, None, None]


def _within(distance: Tensor, limit: Tensor | float) -> Tensor:
    """1 where the distance is below the limit, 0 above it, with a ramp one pixel wide between."""
    return (limit - distance + 0.5).clamp(0, 1)


def _grey_family(name: str, contrast: Tensor, parameters: dict[str, Tensor], along: str = "orientation") -> Stimuli:
    images = (GREY + contrast).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)
    return Stimuli(name, images, parameters, along)


def _channels(images: Tensor, model: Model) -> Tensor:
    """Images with as many channels as the network takes."""
    count = model.preprocess.channels
    return images if count == images.shape[1] else images.mean(1, keepdim=True).expand(-1, count, -1, -1)
