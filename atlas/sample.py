"""Activation vectors at random positions of a layer's map, of as many images as it takes: a consumer and its scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.errors import UserError
from featviz.network.effects import ClassEffects, class_effects
from featviz.network.models import Model
from featviz.network.trunk import Precision, Trunk
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE, Keep
from featviz.seeds import generator_for
from search.images.decode import Box
from search.images.images import Images
from search.scan.scan import Batch, Consumer, Scanned, nothing_decoded, scan
from search.scan.shards import ShardedScan, scan_shards, scanned_of

from .rows import Rows

# Of a sample, as a sampler's state names them.
_FIELDS = ("vectors", "image", "position", "box", "effects")


@dataclass(frozen=True)
class Sample:
    """n activation vectors of one layer and where they come from.

    `vectors`: (n, c) float32; `image`: (n,) image number; `position`: (n, 2) row and column in the layer's map;
    `box`: (n, 4) the view of the image that was shown, in pixels of the upright original (left, top, right, bottom);
    `effects`: (n, classes) float32 effect of each vector on every class, None where there are no classes.
    """

    vectors: NDArray[np.float32]
    image: NDArray[np.int64]
    position: NDArray[np.int64]
    box: NDArray[np.float32]
    effects: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fields that are known, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}

    def part(self, rows: NDArray[np.int64]) -> Sample:
        """These rows alone, in this order."""
        return Sample(**{name: values[rows] for name, values in self.arrays().items()})


class Sampler:
    """Consumer that keeps `per_image` vectors of each view at positions drawn uniformly, without repetition.

    The outermost ring of positions is left out where there is an inside, since padding shapes what happens there. The
    draws depend on (seed, image number, view number) alone. Vectors with NaN or infinite entries are counted in `bad`
    and left out. effects: also keep each vector's effect on every class.
    """

    def __init__(self, layer: str, *, per_image: int = 1, seed: int = 0, effects: ClassEffects | None = None) -> None:
        self.layer, self.per_image, self.seed, self.effects = layer, per_image, seed, effects
        self.bad = 0
        self._parts: list[dict[str, Tensor]] = []

    def update(self, batch: Batch) -> None:
        maps = batch.activations[self.layer]
        inside = inner_positions(maps.shape[2], maps.shape[3])
        kept = min(self.per_image, len(inside))
        positions = torch.stack(
            [
                inside[torch.randperm(len(inside), generator=self._generator(image, view))[:kept]]
                for image, view in zip(batch.index.tolist(), batch.view.tolist(), strict=True)
            ]
        )
        rows, columns = positions.to(maps.device).unbind(2)
        each = torch.arange(len(maps), device=maps.device)[:, None]
        vectors = maps[each, :, rows, columns].flatten(0, 1).float().cpu()
        good = vectors.isfinite().all(1)
        self.bad += int((~good).sum())
        part = {
            "vectors": vectors,
            "image": batch.index.repeat_interleave(kept),
            "view": batch.view.repeat_interleave(kept),
            "position": positions.flatten(0, 1),
            "box": batch.box.repeat_interleave(kept, 0),
        }
        if self.effects is not None:
            part["effects"] = self.effects(batch.pixels, positions).flatten(0, 1).float().cpu()
        self._parts.append({key: value[good].clone() for key, value in part.items()})

    def merge(self, other: Sampler) -> None:
        self._parts += other._parts
        self.bad += other.bad

    def state(self) -> dict[str, Tensor]:
        """Everything gathered so far, ordered by image and view, whatever the order of arrival."""
        if not self._parts:
            return {"bad": torch.tensor(self.bad)}
        joined = {key: torch.cat([part[key] for part in self._parts]) for key in self._parts[0]}
        by_view = torch.argsort(joined["view"], stable=True)
        order = by_view[torch.argsort(joined["image"][by_view], stable=True)]
        return {"bad": torch.tensor(self.bad), **{key: value[order] for key, value in joined.items()}}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.bad = int(state["bad"])
        self._parts = [{key: value for key, value in state.items() if key != "bad"}] if len(state) > 1 else []

    def _generator(self, image: int, view: int) -> torch.Generator:
        return generator_for(self.seed, f"position {image}/{view}")


class Revisitor:
    """Consumer that reads a layer at given places: `places[image, view]` is (k, 2) rows and columns of its map."""

    def __init__(
        self, layer: str, places: Mapping[tuple[int, int], Tensor], *, effects: ClassEffects | None = None
    ) -> None:
        self.layer, self.places, self.effects = layer, places, effects
        self.found: dict[tuple[int, int], dict[str, Tensor]] = {}

    def update(self, batch: Batch) -> None:
        maps = batch.activations[self.layer]
        keys = list(zip(batch.index.tolist(), batch.view.tolist(), strict=True))
        places = [self.places[key] for key in keys]
        # As many places in each view: the last one again, to be cut off below.
        most = max(len(each) for each in places)
        even = torch.stack([torch.cat([each, each[-1:].expand(most - len(each), 2)]) for each in places])
        rows, columns = even.to(maps.device).unbind(2)
        read = {"vectors": maps[torch.arange(len(maps), device=maps.device)[:, None], :, rows, columns].float().cpu()}
        if self.effects is not None:
            read["effects"] = self.effects(batch.pixels, even).float().cpu()
        for number, key in enumerate(keys):
            self.found[key] = {name: values[number, : len(places[number])].clone() for name, values in read.items()}

    def merge(self, other: Revisitor) -> None:
        self.found |= other.found

    def state(self) -> dict[str, Tensor]:
        """What was read, and of which views, ordered by image and view."""
        keys = sorted(self.found)
        names = list(self.found[keys[0]]) if keys else []
        read = {name: torch.cat([self.found[key][name] for key in keys]) for name in names}
        return {"views": torch.tensor(keys).reshape(-1, 2), **read}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.found = {}
        start = 0
        for image, view in state["views"].tolist():
            stop = start + len(self.places[image, view])
            self.found[image, view] = {name: rows[start:stop] for name, rows in state.items() if name != "views"}
            start = stop


def revisit(
    model: Model,
    layer: str,
    images: Images,
    found: Sample,
    size: tuple[int, int],
    *,
    effects: ClassEffects | None = None,
    precision: Precision = "float32",
    compiled: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> tuple[Sample, NDArray[np.int64]]:
    """Another layer, another network or other effects at the places of a sample; also which of its rows could be read.

    size: rows and columns of the map that the sample's positions are of. In a map of another size, the position at the
    same place of the view. Rows of images that cannot be decoded any more, or with non-finite values, are left out.
    """
    trunk = Trunk(model, [layer], precision=precision, compiled=compiled)
    _, rows, columns = trunk.map_size(layer)
    scaled = (found.position + 0.5) * np.array([rows, columns]) / np.array(size)
    position = np.minimum(scaled.astype(np.int64), [rows - 1, columns - 1])
    members: dict[int, dict[Box, list[int]]] = {}
    for number, (image, box) in enumerate(zip(found.image.tolist(), found.box.tolist(), strict=True)):
        members.setdefault(image, {}).setdefault(tuple(box), []).append(number)
    ordered = {(image, view): rows for image, boxes in members.items() for view, rows in enumerate(boxes.values())}
    consumer = Revisitor(
        layer, {key: torch.from_numpy(position[numbers]) for key, numbers in ordered.items()}, effects=effects
    )
    boxes = {image: list(views) for image, views in members.items()}
    scan(model, images, [layer], [consumer], boxes=boxes, workers=workers, trunk=trunk, progress=progress)
    kept = np.array([number for key in sorted(consumer.found) for number in ordered[key]], dtype=np.int64)
    state = consumer.state()
    order = np.argsort(kept)
    read = {name: state[name].numpy()[order] for name in ("vectors", "effects") if name in state}
    kept = kept[order]
    good = np.isfinite(read["vectors"]).all(1)
    kept = kept[good]
    read = {name: values[good] for name, values in read.items()}
    return Sample(image=found.image[kept], position=position[kept], box=found.box[kept], **read), kept


def inner_positions(rows: int, columns: int) -> Tensor:
    """(m, 2) row and column of every position that does not touch the border; all of them where none is inside."""
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    inside = (grid > 0).all(1) & (grid[:, 0] < rows - 1) & (grid[:, 1] < columns - 1)
    return grid[inside] if inside.any() else grid


def sample(
    model: Model,
    layer: str,
    images: Images,
    *,
    samples: int,
    per_image: int,
    seed: int = 0,
    effects: Tensor | None = None,
    precision: Precision = "float32",
    compiled: bool = False,
    workers: int | None = None,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> tuple[Sample, Scanned, int]:
    """About `samples` vectors of a layer, `per_image` from each view; also what was scanned and how many were bad.

    Few images are shown in several seeded random crops each; of many, a seeded choice is scanned. effects: where each
    vector's effects on the classes are wanted, the usual activation (c,) that they are measured against. keep: takes
    each shard of images, and has room for more vectors than memory holds. engine: where the images are scanned.

    Raises `UserError` where no finite vector is found.
    """
    _, rows, columns = Trunk(model, [layer]).map_size(layer)
    per_image = min(per_image, len(inner_positions(rows, columns)))
    wanted_views = math.ceil(samples / per_image)
    views = max(1, math.ceil(wanted_views / len(images)))
    numbers: Sequence[int] = range(len(images))
    if views == 1 and wanted_views < len(images):
        chosen = torch.randperm(len(images), generator=generator_for(seed, "choice of images"))[:wanted_views]
        numbers = sorted(chosen.tolist())
    what = ShardedScan(
        model, images, (layer,), _Samplers(layer, per_image, seed, effects), views=views, seed=seed, decoders=workers,
        precision=precision, compiled=compiled,
    )  # fmt: skip
    found, scanned, bad = Rows(keep.room("sample")), Scanned(0, 0, ()), 0
    for _, arrays in scan_shards(what, numbers, name="sample", keep=keep, engine=engine, progress=progress):
        scanned += scanned_of(arrays)
        bad += int(arrays["sampler|bad"])
        if "sampler|vectors" in arrays:
            found.add({key: arrays[f"sampler|{key}"] for key in _FIELDS if f"sampler|{key}" in arrays})
    if not scanned.images:
        raise nothing_decoded(images, scanned.skipped)
    if not len(found):
        raise UserError(f"layer {layer!r} gave no finite activation vector ({bad} with NaN or infinity).")
    return Sample(**found.arrays()), scanned, bad


@dataclass(frozen=True)
class _Samplers:
    """Makes the samplers of shards, which share what works out effects."""

    layer: str
    per_image: int
    seed: int
    effects: Tensor | None

    def __call__(self, model: Model) -> Callable[[], Mapping[str, Consumer]]:
        effects = None if self.effects is None else class_effects(model, self.layer, self.effects)
        return lambda: {"sampler": Sampler(self.layer, per_image=self.per_image, seed=self.seed, effects=effects)}


def check_spatial(trunk: Trunk, layer: str) -> tuple[int, int, int]:
    """(channels, rows, columns) of a layer's map; a `UserError` where there is one position only."""
    channels, rows, columns = trunk.map_size(layer)
    if rows * columns == 1:
        raise UserError(
            f"layer {layer!r} has no spatial positions (its map is 1 x 1): an atlas samples positions of a map. "
            "Give an earlier layer; `atlas layers` shows the size of each. Or lay out whole images: --tiles photos."
        )
    return channels, rows, columns
