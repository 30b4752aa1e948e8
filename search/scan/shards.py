"""A scan in shards: each scanned by itself, wherever an engine wants, kept, and joined in order."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from featviz.network.models import Model
from featviz.network.trunk import Precision, Trunk
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine, Place, Report, Work, kept_map, shares
from featviz.run.keep import NOWHERE, Arrays, Keep

from ..images.images import Images
from .loading import Skipped
from .pack import pack, unpack
from .scan import Consumer, Scanned, batch_for, nothing_decoded, scan_parts

# Images in a shard: on a slow machine some seconds of work, which is what a killed run loses.
SHARD = 256
# Images between two checkpoints of consumers that are kept as a whole.
STEP = 4096
# A network -> what makes the consumers of one shard, called once for each.
Fresh = Callable[[Model], Callable[[], Mapping[str, Consumer]]]


@dataclass(frozen=True)
class Blank:
    """Makes copies of consumers, by name, that have seen nothing yet."""

    consumers: Mapping[str, Consumer]

    def __call__(self, model: Model) -> Callable[[], Mapping[str, Consumer]]:
        return lambda: copy.deepcopy(dict(self.consumers))


@dataclass(frozen=True)
class ShardedScan:
    """What is scanned, and by whose consumers; picklable, since a worker elsewhere begins with it.

    `fresh(model)()` makes the consumers of a shard, which are then merged or kept by name. `views`, `seed`, `batch`:
    see `scan`; `precision` and `compiled`: see `Trunk`; `decoders`: processes that decode images, by default those that
    the worker's place has room for.
    """

    model: Model
    images: Images
    layers: tuple[str, ...]
    fresh: Fresh
    views: int = 1
    seed: int = 0
    batch: int | None = None
    decoders: int | None = None
    precision: Precision = "float32"
    compiled: bool = False

    def __call__(self, place: Place) -> Work:
        """What a worker has ready: its copy of the network, prepared once for all its shards."""
        model = self.model if place.device is None else self.model.to(place.device)
        trunk = Trunk(model, self.layers, precision=self.precision, compiled=self.compiled)
        fresh = self.fresh(model)
        batch = self.batch or batch_for(trunk)
        decoders = self.decoders if place.decoders is None else place.decoders

        def work(shards: Sequence[range | Sequence[int]], report: Report) -> Iterator[Arrays]:
            made: list[Mapping[str, Consumer]] = []

            def begin() -> list[Consumer]:
                made.append(fresh())
                return list(made[-1].values())

            for scanned in scan_parts(
                model, self.images, self.layers, begin, shards, views=self.views, seed=self.seed, batch=batch,
                workers=decoders, trunk=trunk, report=report,
            ):  # fmt: skip
                about = {"images": scanned.images, "views": scanned.views}
                yield pack(made.pop(), scanned.skipped) | {"scanned": np.array(json.dumps(about))}

        return work


def scan_shards(
    what: ShardedScan,
    numbers: Sequence[int],
    *,
    name: str,
    shard: int = SHARD,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
    before: int = 0,
) -> Iterator[tuple[int, Arrays]]:
    """Scan images in shards: after each how many images are through, and what its consumers packed, in order.

    numbers: which images. name: of the work, under which each shard is kept; shards that an earlier run kept are not
    scanned again. before: images of the same work that were through already.
    """
    parts = [numbers[start : start + shard] for start in range(0, len(numbers), shard)]
    jobs = {f"{name}-{before + number * shard:09d}": part for number, part in enumerate(parts)}
    sizes = [len(part) for part in parts]

    def told(stage: str, done: int, total: int) -> None:
        progress(stage, before + done, before + total)

    done = before
    made = kept_map(engine, keep, what, jobs, shares(told, "reading images", sizes))
    for size, (_, arrays) in zip(sizes, made, strict=True):
        done += size
        yield done, arrays


def fill(
    consumers: Mapping[str, Consumer],
    what: ShardedScan,
    numbers: range,
    *,
    name: str,
    step: int = STEP,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> tuple[Skipped, ...]:
    """Fill consumers that have seen nothing by a scan in shards; returns the images skipped.

    After every `step` images, and when the run is stopped, what was found is kept, in place of what was found before,
    so that what is kept does not grow with the images; a later run goes on from there. Raises `UserError` where not one
    image could be decoded.
    """
    found = keep.latest(name)
    start, skipped = (found[0], list(unpack(found[1], consumers))) if found else (numbers.start, [])
    kept = through = start - numbers.start
    fresh, merging = what.fresh(what.model), False

    def keep_it() -> None:
        keep.advance(name, numbers.start + through, pack(consumers, skipped))

    try:
        for done, arrays in scan_shards(
            what, range(start, numbers.stop), name=name, shard=min(step, SHARD), engine=engine, progress=progress,
            before=through,
        ):  # fmt: skip
            part, merging = fresh(), True
            skipped += unpack(arrays, part)
            for own, consumer in consumers.items():
                consumer.merge(part[own])
            through, merging = done, False
            if through // step > kept // step or through == len(numbers):
                keep_it()
                kept = through
    except BaseException:
        if through > kept and not merging:
            with suppress(OSError):  # a full disk, of which the first error may tell already
                keep_it()
        raise
    if len(skipped) == len(numbers):
        raise nothing_decoded(what.images, skipped)
    return tuple(skipped)


def scanned_of(arrays: Arrays) -> Scanned:
    """What a shard went through."""
    about = json.loads(str(arrays["scanned"]))
    return Scanned(about["images"], about["views"], unpack(arrays, {}))
