"""What a data set says about units: the evidence that superstimuli are measured against."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.draw.certificate import Reference
from featviz.draw.mis import Queries
from featviz.draw.path_similarity import NaturalPath, path_layers
from featviz.draw.spectrum import Spectrum
from featviz.errors import UserError
from featviz.network.layers import OUTPUT
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.network.units import Unit
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE, Keep
from featviz.seeds import generator_for

from ..images.image_set import first_views
from ..images.images import Images
from ..scan.loading import Skipped
from ..scan.scan import Consumer, scan
from ..scan.shards import STEP, Blank, ShardedScan, fill
from ..scan.statistics import ChannelMoments, Colors, PooledMaps, RobustValues, Spectra, UnitValues

# Photographs compared on their way through the network: those that excite the unit the most, and others.
PATH_SAME, PATH_OTHER = 8, 24
# Photographs that excite a unit the most, whose robust activation its picture is measured against.
STRONGEST = 4
# Images at once under robust views.
_AT_ONCE = 8
# The part of an image that a picture begins at, as a share of its side.
PART = 0.6
# Tasks of the interpretability score (Zimmermann et al. 2024: 20).
TASKS = 20


@dataclass(frozen=True)
class DataSetReference:
    """Each unit's `Reference`; `spectrum`: the images' mean spectrum; `skipped`: what could not be decoded."""

    units: Mapping[Unit, Reference]
    spectrum: Spectrum
    skipped: tuple[Skipped, ...]


def references(
    model: Model,
    units: Sequence[Unit],
    images: Images,
    *,
    similarity: Model | None = None,
    seed: int = 0,
    also: Mapping[str, Consumer] | None = None,
    workers: int | None = None,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> DataSetReference:
    """What the images say about each unit: one pass, then one per layer over the few that excite its units the most.

    also: further consumers by name, filled in the same pass; they see the units' layers. similarity: a network whose
    output is its features, for the interpretability score (see `featviz.mis`).
    """
    units = list(dict.fromkeys(units))
    found, spectra, colors = UnitValues(units), Spectra(), Colors()
    moments = {key: ChannelMoments(*key) for key in dict.fromkeys((unit.layer, unit.position) for unit in units)}
    consumers: dict[str, Consumer] = {"values": found, "spectra": spectra, "colors": colors}
    consumers |= {f"moments {number}": each for number, each in enumerate(moments.values())}
    consumers |= dict(also or {})
    layers = list(dict.fromkeys(unit.layer for unit in units))

    what = ShardedScan(model, images, tuple(layers), Blank(copy.deepcopy(consumers)), decoders=workers)
    skipped = fill(
        consumers, what, range(len(images)), name="dataset", step=_step(len(images)), keep=keep, engine=engine,
        progress=progress,
    )  # fmt: skip
    ranked = {unit: _Ranked(numbers, values) for unit, (numbers, values) in found.by_unit().items()}
    paths = _paths(model, images, ranked, seed, workers, progress)
    robust = _robust(model, images, ranked, workers, progress)
    queries = {} if similarity is None else _queries(similarity, images, ranked, workers, progress)
    references = {}
    for unit in units:
        mean, deviation = moments[unit.layer, unit.position].moments()
        values, numbers = ranked[unit].values, ranked[unit].images
        references[unit] = Reference(
            values,
            mean,
            deviation,
            spectra.slope(),
            paths.get(unit),
            queries.get(unit),
            numbers,
            robust.get(unit),
            colors.range(),
        )
    return DataSetReference(references, spectra.spectrum(), skipped)


def _step(count: int) -> int:
    """Images between checkpoints: units' values are kept on every image, so that not too many are written."""
    return max(STEP, count // 16)


def natural_spectrum(
    model: Model, images: Images, *, workers: int | None = None, progress: Progress = silent
) -> Spectrum:
    """The images' mean spectrum, as they enter the model."""
    spectra = Spectra()
    scan(model, images, [], [spectra], workers=workers, progress=progress)
    return spectra.spectrum()


@dataclass(frozen=True)
class _Ranked:
    """A unit's activation on each image, (images,)."""

    images: NDArray[np.int64]
    values: NDArray[np.float32]

    def highest(self, count: int) -> list[int]:
        return [int(number) for number in self.images[np.argsort(-self.values, kind="stable")[:count]]]

    def lowest(self, count: int) -> list[int]:
        return [int(number) for number in self.images[np.argsort(self.values, kind="stable")[:count]]]


def _paths(
    model: Model,
    images: Images,
    ranked: Mapping[Unit, _Ranked],
    seed: int,
    workers: int | None,
    progress: Progress,
) -> dict[Unit, NaturalPath]:
    """Each unit's photographs on their way through the network; none for fewer than 4 and 4 photographs."""
    same = {unit: entry.highest(min(PATH_SAME, len(entry.images) // 2)) for unit, entry in ranked.items()}
    order = torch.randperm(len(images), generator=generator_for(seed, "other photographs")).tolist()
    other = {unit: _others(order, entry, same[unit]) for unit, entry in ranked.items()}
    numbers = sorted({number for chosen in (same, other) for each in chosen.values() for number in each})
    paths: dict[Unit, NaturalPath] = {}
    for layer in dict.fromkeys(unit.layer for unit in ranked):
        pooled = PooledMaps()
        scan(model, images, path_layers(model, layer), [pooled], numbers=numbers, workers=workers, progress=progress)
        state = pooled.state()
        for unit in (unit for unit in ranked if unit.layer == layer):
            if min(len(same[unit]), len(other[unit])) >= 4:
                paths[unit] = NaturalPath(_rows(state, same[unit]), _rows(state, other[unit]))
    return paths


def _robust(
    model: Model, images: Images, ranked: Mapping[Unit, _Ranked], workers: int | None, progress: Progress
) -> dict[Unit, float]:
    """Each unit's highest robust activation among the photographs that excite it the most; none without photographs."""
    strongest = {unit: entry.highest(STRONGEST) for unit, entry in ranked.items()}
    numbers = sorted({number for chosen in strongest.values() for number in chosen})
    if not numbers:
        return {}
    found = RobustValues(list(ranked), Trunk(model, list(dict.fromkeys(unit.layer for unit in ranked))))
    scan(model, images, [], [found], numbers=numbers, batch=_AT_ONCE, workers=workers, progress=progress)
    highest = {}
    for unit, (seen, values) in found.by_unit().items():
        own = values[np.isin(seen, strongest[unit])]
        if len(own):
            highest[unit] = float(own.max())
    return highest


def strongest_views(model: Model, images: Images, references: Mapping[Unit, Reference]) -> dict[Unit, Tensor]:
    """Each unit's strongest images, as they enter the network, (up to `STRONGEST`, channels, h, w), best first."""
    found: dict[Unit, Tensor] = {}
    for unit, reference in references.items():
        assert reference.images is not None
        numbers = _Ranked(reference.images, reference.values).highest(2 * STRONGEST)
        found[unit] = first_views(images, model.preprocess, STRONGEST, numbers)
        if not len(found[unit]):
            raise UserError(f"no image has a finite value of {unit}, to begin at or to be like.")
    return found


def strongest_parts(model: Model, views: Mapping[Unit, Tensor]) -> dict[Unit, Tensor]:
    """Of each unit's strongest image the part that excites it the most, (channels, h, w), as large as the image.

    A square of `PART` of its side around the place in the map where the channel is highest, cut at the edges; of
    classes and neurons, the whole.
    """
    parts: dict[Unit, Tensor] = {}
    trunk = Trunk(model, list(dict.fromkeys(unit.layer for unit in views)))
    for unit, own in views.items():
        image = own[0]
        if unit.position is None and not unit.is_class:
            with torch.inference_mode():
                maps = trunk(image[None].to(trunk.device))[unit.layer]
                rows, columns = maps.shape[2:]
                place = int(unit.activation(maps[0].flatten(1).T).argmax())
            row, column = (place // columns + 0.5) / rows, (place % columns + 0.5) / columns
            image = _part(image, row, column)
        parts[unit] = image
    return parts


def _part(image: Tensor, row: float, column: float) -> Tensor:
    """The part of an image (channels, h, w) around a place, in [0, 1] down and across, brought to the image's size."""
    sides = [max(1, round(PART * length)) for length in image.shape[1:]]
    places = zip((row, column), sides, image.shape[1:], strict=True)
    top, left = (min(max(round(at * length - side / 2), 0), length - side) for at, side, length in places)
    cut = image[None, :, top : top + sides[0], left : left + sides[1]]
    size = (image.shape[1], image.shape[2])
    return torch.nn.functional.interpolate(cut, size, mode="bicubic", antialias=True).clamp(0, 1)[0]


def _others(order: Sequence[int], entry: _Ranked, same: Sequence[int]) -> list[int]:
    """The first photographs of a random order that the unit has a value for and that are none of its strongest."""
    usable = {int(number) for number in entry.images} - set(same)
    return [number for number in order if number in usable][:PATH_OTHER]


def _queries(
    similarity: Model,
    images: Images,
    ranked: Mapping[Unit, _Ranked],
    workers: int | None,
    progress: Progress,
) -> dict[Unit, Queries]:
    chosen = {}
    for unit, entry in ranked.items():
        tasks = min(TASKS, len(entry.images) // 2)
        chosen[unit] = (entry.highest(tasks), entry.lowest(tasks))
    numbers = sorted({number for pair in chosen.values() for side in pair for number in side})
    pooled = PooledMaps()
    scan(similarity, images, [OUTPUT], [pooled], numbers=numbers, workers=workers, progress=progress)
    state = pooled.state()
    return {
        unit: Queries(_rows(state, high)[OUTPUT], _rows(state, low)[OUTPUT])
        for unit, (high, low) in chosen.items()
        if high
    }


def _rows(state: Mapping[str, Tensor], numbers: Sequence[int]) -> dict[str, Tensor]:
    """Layer -> (len(numbers), channels) of what `PooledMaps` kept."""
    place = {int(image): row for row, image in enumerate(state["image"].tolist())}
    rows = [place[number] for number in numbers if number in place]
    return {layer: value[rows] for layer, value in state.items() if layer != "image"}
