"""The images that excite each unit the most and the least, and where in them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image
from torch import Tensor

from featviz.errors import UserError, unknown
from featviz.network.layers import OUTPUT
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.network.units import Place
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE, Keep
from featviz.run.output import OutputFolder

from ..images.decode import Box, central_box
from ..images.image_set import first_views
from ..images.images import Images, open_images
from ..scan.loading import Skipped
from ..scan.matrix import MatrixFile, claim_matrix
from ..scan.readout import Readout, readouts
from ..scan.receptive import effective_size, receptive_fields
from ..scan.record import Record, Reduce
from ..scan.shards import STEP, Blank, ShardedScan, fill
from .layer_exemplars import Exemplar, LayerExemplars

if TYPE_CHECKING:
    from .diverse import DiverseExemplars
    from .names import UnitName

Diverse = Literal["no", "images", "classes"]
# Images whose gradients say how far a position sees.
_MEASURED = 8
# Exemplars found for each that is shown where near-duplicates are passed over.
_POOL = 6


@dataclass(frozen=True)
class Exemplars:
    """What `exemplars` finds: `layers` by the readouts' names; `images`, `model`, `skipped` say of what.

    `k`: how many images of each unit were asked for, of which no two are alike where `diverse` says so (see
    `search.diverse`); `records`: what the pass wrote down, by the readouts' names; `numbers`: of which images.
    """

    model: Model
    images: Images
    layers: Mapping[str, LayerExemplars]
    skipped: tuple[Skipped, ...]
    k: int
    reduce: Reduce
    diverse: Diverse
    records: Mapping[str, Record] = field(repr=False)
    numbers: tuple[range, ...]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """(layer, channel) of every unit."""
        for layer, found in self.layers.items():
            for channel in range(len(found)):
                yield layer, channel

    def __len__(self) -> int:
        return sum(len(found) for found in self.layers.values())

    def __getitem__(self, unit: tuple[str, int]) -> list[Exemplar]:
        """The unit's k strongest images, best first; with `diverse` those that differ."""
        from .diverse import chosen  # it takes exemplars apart, so it comes after them

        return list(chosen(self, *unit).exemplars)

    def of(self, layer: str, channel: int, *, weakest: bool = False, label: int | None = None) -> list[Exemplar]:
        """All that were found of the unit's strongest images, or its weakest, or one class's strongest, best first.

        With `diverse` more than k of them, alike or not. Raises `UserError` for a unit there is not, and for a class
        where the pass did not look at classes.
        """
        found = self.layer(layer, channel)
        ranking = found.bottom if weakest else found.top
        if label is not None:
            if label not in found.classes:
                raise UserError(
                    f"no exemplars of class {label} by itself: ask with per_class, for a class that was seen."
                )
            ranking = found.classes[label]
        rows = zip(ranking.values[channel], ranking.index[channel], ranking.position[channel], strict=True)
        return [self.exemplar(layer, *(entry.item() for entry in row)) for row in rows if row[1] >= 0]

    @property
    def place(self) -> Place:
        """Where in the maps the pass looked, as `Record` takes it."""
        return next(iter(self.records.values())).place

    @property
    def sign(self) -> Literal[1, -1]:
        """-1 where the units' opposites were ranked."""
        return next(iter(self.records.values())).sign

    def layer(self, name: str, channel: int = 0) -> LayerExemplars:
        """What was found about a readout; raises `UserError` where there is none of the name, or no such unit in it."""
        if name not in self.layers:
            raise unknown("layer", name, list(self.layers))
        found = self.layers[name]
        if not 0 <= channel < len(found):
            raise UserError(f"{name} has channels 0 to {len(found) - 1}; got {channel}.")
        return found

    def labels_of(self, layer: str, channel: int) -> list[tuple[int, int]]:
        """The classes of the unit's strongest images and how many are of each, the most frequent first."""
        return Counter(entry.label for entry in self[layer, channel] if entry.label >= 0).most_common()

    def name_of(self, layer: str, channel: int) -> str:
        """How a unit is called: `blocks.5:12` and its name where one holds, or a class by its name."""
        labels = self.model.labels
        if layer == OUTPUT and channel < len(labels):
            return f"class {channel}: {labels[channel]}"
        address, found = self.layer(layer, channel).readout.unit(channel), self.called.get((layer, channel))
        return address if found is None or found.name is None else f"{address}, {found.name.told}"

    def view(self, image: int) -> Box:
        """The part of an image, in its pixels, that the network saw."""
        if image not in self._views:
            self._views[image] = central_box(self.images.size(image), self.model.preprocess)
        return self._views[image]

    def trunk(self, layer: str) -> Trunk:
        """What runs the network up to the readout's layer, made once."""
        name = self.layer(layer).readout.layer
        if name not in self._trunks:
            self._trunks[name] = Trunk(self.model, [name])
        return self._trunks[name]

    def exemplar(self, layer: str, value: float, image: float, position: float) -> Exemplar:
        """An image of a unit, by the place of its value in the map: row * columns + column."""
        found, number = self.layer(layer), int(image)
        row, column = divmod(int(position), found.grid[1])
        view = self.view(number)
        fields = found.fields
        box = None if fields.is_global else fields.in_image(fields.box(row, column), view)
        effective = fields.in_image(fields.effective_box(row, column, found.extent), view)
        name, label = self.images.names[number], self.images.labels[number]
        return Exemplar(number, name, label, float(value), row, column, box, effective)

    @cached_property
    def thumbnails(self) -> dict[int, Tensor]:
        """What `search.diverse` compares images by, as far as it was worked out."""
        return {}

    @cached_property
    def called(self) -> dict[tuple[str, int], UnitName]:
        """What units are called by the images' labels (`search.names`); empty where too few images have any."""
        from ..naming.vocabulary import Labels
        from .names import enough, names  # they take exemplars apart, so they come after them

        seen = next(iter(self.layers.values())).sampled.tolist()
        known = enough([self.images.labels[number] for number in seen])
        return names(self, vocabulary=Labels()) if self.sign > 0 and known else {}

    @cached_property
    def choices(self) -> dict[tuple[str, int], DiverseExemplars]:
        """What `search.diverse` chose of units, as far as it was asked."""
        return {}

    @cached_property
    def _views(self) -> dict[int, Box]:
        return {}

    @cached_property
    def _trunks(self) -> dict[str, Trunk]:
        return {}

    def sheet(self, unit: tuple[str, int]) -> Image.Image:
        """The unit's contact sheet: the part of each image that moves it, and the whole."""
        from .sheet import unit_sheet  # it takes exemplars apart, so it comes after them

        return unit_sheet(self, *unit)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write exemplars.json and the like, a sheet per layer and the index into a new or empty folder."""
        from .index import write_index
        from .report import write

        about = {
            "command": "exemplars",
            "weights": self.model.fingerprint,
            "preprocess": asdict(self.model.preprocess),
            "images": self.images.fingerprint,
        }
        settings = {
            "readouts": {name: found.readout.fingerprint for name, found in self.layers.items()},
            **{"k": self.k, "reduce": self.reduce, "diverse": self.diverse, "place": self.place, "sign": self.sign},
            "per_class": max(len(found.classes) for found in self.layers.values()),
            "numbers": [[part.start, part.stop] for part in self.numbers],
        }
        out = OutputFolder.claim(folder, {**about, **settings, "saved from": "Python"}, overwrite=overwrite)
        if not out.finished:
            write(self, out)
            write_index(self, out)
            out.finish({**settings, "command": "exemplars", "model": self.model.name})
        return out.path


def exemplars(
    model: Model,
    images: str | Path | Images,
    layers: str | Readout | Sequence[str | Readout],
    *,
    k: int = 9,
    reduce: Reduce = "max",
    diverse: Diverse = "no",
    per_class: int = 0,
    matrix: str | Path | None = None,
    part: tuple[int, int] = (1, 1),
    batch: int | None = None,
    shard: int = STEP,
    workers: int | None = None,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> Exemplars:
    """Find, in one pass, the k strongest and weakest images of every unit of the layers, and where in them.

    layers: names or globs; `output` is the network's own answer, for a classifier its logits; LAYER:FILE.npy or a
    `Readout` ranks a layer's products with directions. reduce: what a unit's map counts for, its `max` or its `mean`. k
    larger than the number of images gives what there is. diverse: pass over near-duplicates (`images`), and all but one
    image of a class (`classes`). per_class: keep each class's strongest so many images too. matrix: a folder for every
    unit's value on every image (`open_matrix` reads it). part: (i, n) looks at the i-th of n parts of the images alone,
    which `load_exemplars` joins. shard: images after which what was found is kept, from which a later run goes on.
    engine: where the images are looked at.

    Raises `UserError` for a layer that the network does not have and for settings out of range.
    """
    against = open_images(images, model.preprocess)
    check_settings(k=k, reduce=reduce, diverse=diverse, per_class=per_class, shard=shard, part=part)
    mine = _part(len(against), part)
    if not mine:
        raise UserError(f"part {part[0]}/{part[1]} of {len(against)} images holds none: take fewer parts.")
    wanted = readouts(model, [layers] if isinstance(layers, (str, Readout)) else layers)
    # More than there are images would be empty places that cost memory all the same.
    ranks = min(k if diverse == "no" else k * _POOL, len(against))
    folder = None if matrix is None else Path(matrix).absolute()
    records = {
        each.name: Record(
            each, ranks, reduce, per_class=min(per_class, len(against)),
            matrix=None if folder is None else MatrixFile(folder, each.name, len(against)),
        )
        for each in wanted
    }  # fmt: skip
    if folder is not None:
        claim_matrix(folder, _matrix_identity(model, against, wanted, reduce), against.labels, against.names)
        for each in wanted:
            MatrixFile(folder, each.name, len(against)).begin(each.count(model))
    names = list(dict.fromkeys(each.layer for each in wanted))
    what = ShardedScan(
        model, against, tuple(names), Blank(copy.deepcopy(records)), batch=batch, decoders=workers
    )  # fmt: skip
    skipped = fill(
        records, what, mine, name="exemplars", step=shard, keep=keep, engine=engine, progress=progress
    )  # fmt: skip
    return assemble(
        model, against, records, skipped, k=min(k, len(against)), reduce=reduce, diverse=diverse, numbers=[mine]
    )


def _matrix_identity(model: Model, images: Images, wanted: Sequence[Readout], reduce: Reduce) -> dict[str, Any]:
    return {
        "weights": model.fingerprint,
        "preprocess": asdict(model.preprocess),
        "images": images.fingerprint,
        "readouts": {each.name: each.fingerprint for each in wanted},
        "reduce": reduce,
    }


def _part(count: int, part: tuple[int, int]) -> range:
    """The i-th of n consecutive parts of so many images."""
    number, parts = part
    return range(count * (number - 1) // parts, count * number // parts)


def check_settings(
    *, k: int, reduce: str, diverse: str, per_class: int, shard: int, part: tuple[int, int] = (1, 1)
) -> None:
    """Raise `UserError` for settings of `exemplars` out of range."""
    if reduce not in get_args(Reduce):
        raise unknown("reduction", reduce, list(get_args(Reduce)))
    if diverse not in get_args(Diverse):
        raise unknown("diversity of exemplars", diverse, list(get_args(Diverse)))
    if k < 1 or shard < 1 or per_class < 0:
        raise UserError(f"k and the shard start at 1, per class at 0; got {k}, {shard} and {per_class}.")
    if not 1 <= part[0] <= part[1]:
        raise UserError(f"a part is (i, n), the i-th of n, such as 2/3; got {part[0]}/{part[1]}.")


def assemble(
    model: Model,
    images: Images,
    records: Mapping[str, Record],
    skipped: Sequence[Skipped],
    *,
    k: int,
    reduce: Reduce,
    diverse: Diverse = "no",
    numbers: Sequence[range] | None = None,
) -> Exemplars:
    """What records, one for each readout, found in the images, with the layers' receptive fields.

    numbers: which images they saw, by default all.
    """
    layers = list(dict.fromkeys(record.readout.layer for record in records.values()))
    fields = receptive_fields(model, layers)
    looked_at = (range(len(images)),) if numbers is None else tuple(numbers)
    views = first_views(images, model.preprocess, _MEASURED, chain(*looked_at))
    trunk = Trunk(model, layers, fold=False)
    extents = {layer: effective_size(model, layer, views) for layer in layers}
    found = {}
    for name, record in records.items():
        layer = record.readout.layer
        _, rows, columns = trunk.map_size(layer)
        sample = record.sample.state()
        found[name] = LayerExemplars(
            record.readout,
            record.top.ranking(),
            record.bottom.ranking(),
            record.statistics,
            record.positions,
            sample["values"],
            sample["index"],
            record.classes.rankings() if record.classes else {},
            fields[layer],
            (rows, columns),
            extents[layer],
        )
    return Exemplars(model, images, found, tuple(skipped), k, reduce, diverse, records, looked_at)
