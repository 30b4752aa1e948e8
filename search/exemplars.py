"""The images that excite each unit the most and the least, and where in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from featviz.errors import UserError, unknown
from featviz.layers import OUTPUT, find_layers
from featviz.models import Model
from featviz.objectives import Place, look
from featviz.output import OutputFolder
from featviz.progress import Progress, silent
from featviz.trunk import Trunk

from .correlations import ChannelCorrelations
from .decode import Box, central_box, cut
from .distribution import ChannelStatistics
from .images import Images, open_images
from .keep import Keep, keep_nothing, kept_scan
from .receptive import ReceptiveFields, effective_size, receptive_fields
from .scan import Batch, Scanned, Skipped, scan
from .topk import Ranking, RunningTopK

Reduce = Literal["max", "mean"]
# Images per shard: what a stopped run loses at most.
SHARD = 2048


class TopExemplars:
    """Consumer: each channel's k strongest and k weakest images by the maximum or the mean of its map.

    The position is that of the map's maximum, as row * columns + column. place: look there in the map alone, at a
    neuron; sign: -1 ranks what excites the channels' opposites.
    """

    def __init__(
        self, layer: str, k: int, reduce: Reduce = "max", *, place: Place = None, sign: Literal[1, -1] = 1
    ) -> None:
        self.layer, self.reduce, self.place, self.sign = layer, reduce, place, sign
        self.top, self.bottom = RunningTopK(k), RunningTopK(k, largest=False)
        self.statistics, self.correlations = ChannelStatistics(), ChannelCorrelations()

    def update(self, batch: Batch) -> None:
        central = batch.view == 0
        maps = batch.activations[self.layer]
        index = batch.index
        if not bool(central.all()):
            maps, index = maps[central.to(maps.device)], index[central]
        if not len(index):
            return
        columns = maps.shape[3]
        if self.place is not None:
            values = look(maps, self.place) * self.sign
        elif self.reduce == "mean":
            values = maps.mean((2, 3)) * self.sign
        else:
            values = maps.amax((2, 3)) if self.sign > 0 else -maps.amin((2, 3))

        def position(rows: Tensor, units: Tensor) -> Tensor:
            if self.place is not None:
                row, column = (maps.shape[2] // 2, columns // 2) if self.place == "center" else self.place
                return torch.full_like(rows, row * columns + column)
            return (maps[rows, units] * self.sign).flatten(1).argmax(1)

        self.top.update(values, index, position)
        self.bottom.update(values, index, position)
        self.statistics.add(values)
        self.correlations.add(values)

    def merge(self, other: TopExemplars) -> None:
        self.top.merge(other.top)
        self.bottom.merge(other.bottom)
        self.statistics.merge(other.statistics)
        self.correlations.merge(other.correlations)

    def state(self) -> dict[str, Tensor]:
        return {f"{name} {key}": value for name, part in self._parts().items() for key, value in part.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, part in self._parts().items():
            own = {key: value for key, value in state.items() if key.startswith(f"{name} ")}
            part.load({key.removeprefix(f"{name} "): value for key, value in own.items()})

    def _parts(self) -> dict[str, RunningTopK | ChannelStatistics | ChannelCorrelations]:
        return {
            "top": self.top,
            "bottom": self.bottom,
            "statistics": self.statistics,
            "correlations": self.correlations,
        }


@dataclass(frozen=True)
class Exemplar:
    """One image of a unit: `image`, its number; `name`, `label`; `value`; `row`, `column` in the map.

    `box`: left, top, right, bottom in pixels of the original, all that the position can depend on, None where that is
    the network saw; `effective_box`: where, on average, nine tenths of what moves it lie.
    """

    image: int
    name: str
    label: int
    value: float
    row: int
    column: int
    box: Box | None
    effective_box: Box


@dataclass(frozen=True)
class LayerExemplars:
    """A layer's rankings, statistics, correlations and receptive fields.

    `grid`: (rows, columns) of its map; `extent`: (height, width) of the effective receptive field, in input pixels.
    """

    top: Ranking
    bottom: Ranking
    statistics: ChannelStatistics
    correlations: ChannelCorrelations
    fields: ReceptiveFields
    grid: tuple[int, int]
    extent: tuple[float, float]


@dataclass(frozen=True)
class Exemplars:
    """What `exemplars` finds: `layers` by name; `images`, `model`, `skipped` say of what.

    `place`, `sign`: as `TopExemplars` takes them.
    """

    model: Model
    images: Images
    layers: Mapping[str, LayerExemplars]
    skipped: tuple[Skipped, ...]
    k: int
    reduce: Reduce
    place: Place = None
    sign: Literal[1, -1] = 1

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """(layer, channel) of every unit."""
        for layer, found in self.layers.items():
            for channel in range(len(found.top.values)):
                yield layer, channel

    def __len__(self) -> int:
        return sum(len(found.top.values) for found in self.layers.values())

    def __getitem__(self, unit: tuple[str, int]) -> list[Exemplar]:
        """The unit's strongest images, best first."""
        return self.of(*unit)

    def of(self, layer: str, channel: int, *, weakest: bool = False) -> list[Exemplar]:
        """The unit's strongest images, or its weakest, best first; raises `UserError` for a unit there is not."""
        if layer not in self.layers:
            raise unknown("layer", layer, list(self.layers))
        found = self.layers[layer]
        if not 0 <= channel < len(found.top.values):
            raise UserError(f"{layer} has channels 0 to {len(found.top.values) - 1}; got {channel}.")
        ranking = found.bottom if weakest else found.top
        rows = zip(ranking.values[channel], ranking.index[channel], ranking.position[channel], strict=True)
        return [self._exemplar(found, *(entry.item() for entry in row)) for row in rows if row[1] >= 0]

    def view(self, image: int) -> Box:
        """The part of an image, in its pixels, that the network saw."""
        if image not in self._views:
            self._views[image] = central_box(self.images.size(image), self.model.preprocess)
        return self._views[image]

    @cached_property
    def _views(self) -> dict[int, Box]:
        return {}

    def sheet(self, unit: tuple[str, int]) -> Image.Image:
        """The unit's contact sheet: the part of each image that moves it, and the whole."""
        from .sheet import unit_sheet  # it takes exemplars apart, so it comes after them

        return unit_sheet(self, *unit)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write exemplars.json, weakest.json, statistics.json and a sheet per layer into a new or empty folder."""
        from .report import write

        about = {
            "command": "exemplars",
            "weights": self.model.fingerprint,
            "preprocess": asdict(self.model.preprocess),
            "images": self.images.fingerprint,
        }
        settings = {"layers": list(self.layers), "k": self.k, "reduce": self.reduce}
        out = OutputFolder.claim(folder, {**about, **settings, "saved from": "Python"}, overwrite=overwrite)
        if not out.finished:
            write(self, out)
            out.finish({**settings, "command": "exemplars", "model": self.model.name})
        return out.path

    def _exemplar(self, found: LayerExemplars, value: float, image: float, position: float) -> Exemplar:
        number = int(image)
        row, column = divmod(int(position), found.grid[1])
        view = self.view(number)
        fields = found.fields
        box = None if fields.is_global else fields.in_image(fields.box(row, column), view)
        effective = fields.in_image(fields.effective_box(row, column, found.extent), view)
        name, label = self.images.names[number], self.images.labels[number]
        return Exemplar(number, name, label, float(value), row, column, box, effective)


def exemplars(
    model: Model,
    images: str | Images,
    layers: str | Sequence[str],
    *,
    k: int = 9,
    reduce: Reduce = "max",
    batch: int | None = None,
    shard: int = SHARD,
    workers: int | None = None,
    keep: Keep = keep_nothing,
    progress: Progress = silent,
) -> Exemplars:
    """Find, in one pass, the k strongest and weakest images of every channel of the layers, and where in them.

    layers: names or globs; `output` is the network's own answer, for a classifier its logits. reduce: what a channel's
    map counts for, its `max` or its `mean`. k larger than the number of images gives what there is. shard: images
    after which what was found goes through `keep(name, compute)`, which may store it for a later run.

    Raises `UserError` for a layer that the network does not have and for settings out of range.
    """
    against = open_images(images)
    if reduce not in get_args(Reduce):
        raise unknown("reduction", reduce, list(get_args(Reduce)))
    if k < 1 or shard < 1:
        raise UserError(f"k and the shard start at 1; got {k} and {shard}.")
    k = min(k, len(against))  # more would be empty places that cost memory all the same
    names = layer_list(model, [layers] if isinstance(layers, str) else layers)
    consumers = {layer: TopExemplars(layer, k, reduce) for layer in names}
    trunk = Trunk(model, names)
    skipped: list[Skipped] = []
    for first in range(0, len(against), shard):
        numbers = range(first, min(first + shard, len(against)))
        parts = {layer: TopExemplars(layer, k, reduce) for layer in names}

        def run(numbers: range = numbers, parts: Mapping[str, TopExemplars] = parts) -> Scanned:
            def report(stage: str, done: int, total: int) -> None:
                progress(stage, numbers.start + done, len(against))

            return scan(
                model, against, names, list(parts.values()), numbers=numbers, batch=batch, workers=workers,
                trunk=trunk, progress=report,
            )  # fmt: skip

        skipped += kept_scan(keep, f"shard-{first:09d}-{numbers.stop:09d}", parts, run)
        for layer, part in parts.items():
            consumers[layer].merge(part)
    if len(skipped) == len(against):
        raise UserError(f"not one of the {len(against)} images of {against.source!r} could be decoded.")
    return assemble(model, against, consumers, skipped, k=k, reduce=reduce)


def assemble(
    model: Model,
    images: Images,
    consumers: Mapping[str, TopExemplars],
    skipped: Sequence[Skipped],
    *,
    k: int,
    reduce: Reduce,
) -> Exemplars:
    """What consumers, one for each layer, found in the images, with the layers' receptive fields."""
    fields = receptive_fields(model, list(consumers))
    views = _some_views(model, images, {entry.name for entry in skipped})
    trunk = Trunk(model, list(consumers), fold=False)
    found = {}
    first = next(iter(consumers.values()))
    for layer, consumer in consumers.items():
        _, rows, columns = trunk.map_size(layer)
        found[layer] = LayerExemplars(
            consumer.top.ranking(),
            consumer.bottom.ranking(),
            consumer.statistics,
            consumer.correlations,
            fields[layer],
            (rows, columns),
            effective_size(model, layer, views),
        )
    return Exemplars(model, images, found, tuple(skipped), k, reduce, first.place, first.sign)


def _some_views(model: Model, images: Images, bad: set[str], count: int = 8) -> Tensor:
    """Central views of the first images, (up to count, channels, h, w) in [0, 1]."""
    numbers = [number for number, name in enumerate(images.names) if name not in bad][:count]
    opened = [images.open(number) for number in numbers]
    how = model.preprocess
    return torch.stack([cut(image, central_box(image.size, how), how) for image in opened]).float() / 255


def layer_list(model: Model, patterns: Sequence[str]) -> list[str]:
    """The layers that names and globs mean, each once; raises `UserError` for what means none."""
    found: list[str] = []
    for pattern in patterns:
        found += [OUTPUT] if pattern == OUTPUT else find_layers(model.network, pattern)
    if not found:
        raise UserError("name at least one layer, such as blocks.5.")
    return list(dict.fromkeys(found))
