"""What a data set says about units: the evidence that superstimuli are measured against."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.certificate import Reference
from featviz.engine import LOCAL, Engine
from featviz.keep import NOWHERE, Keep
from featviz.layers import OUTPUT
from featviz.maximize import generator_for
from featviz.mis import Queries
from featviz.models import Model
from featviz.path_similarity import NaturalPath, path_layers
from featviz.progress import Progress, silent
from featviz.spectrum import Spectrum
from featviz.units import Unit

from .images import Images
from .loading import Skipped
from .scan import Consumer, scan
from .shards import STEP, Blank, ShardedScan, fill
from .statistics import ChannelMoments, PooledMaps, Spectra, UnitValues

# Photographs compared on their way through the network: those that excite the unit the most, and others.
PATH_SAME, PATH_OTHER = 8, 24
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
    found, spectra = UnitValues(units), Spectra()
    moments = {key: ChannelMoments(*key) for key in dict.fromkeys((unit.layer, unit.position) for unit in units)}
    consumers: dict[str, Consumer] = {"values": found, "spectra": spectra}
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
    queries = {} if similarity is None else _queries(similarity, images, ranked, workers, progress)
    references = {}
    for unit in units:
        mean, deviation = moments[unit.layer, unit.position].moments()
        values, numbers = ranked[unit].values, ranked[unit].images
        references[unit] = Reference(
            values, mean, deviation, spectra.slope(), paths.get(unit), queries.get(unit), numbers
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
