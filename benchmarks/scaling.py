"""How much faster two workers scan than one: Ray, one thread each, on the same images, EfficientNet-Lite0.

`search.exemplars` of one layer over the images, again and again until there are enough of them. The clock starts after
a quarter of the images, when all workers are there and no shard waits for an earlier one; `from nothing` includes
starting Ray and them. Both must find the same. In turns; the fastest of each counts. A line goes to standard error,
JSON to standard output.

    python benchmarks/scaling.py my-photos
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from common import machine, part
from rich.console import Console

from featviz import Model, load_model
from featviz.run.engine import Engine, Local
from featviz.run.ray_engine import RayEngine
from search import Exemplars, Images, exemplars, open_images

LAYER = "blocks.5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default="photos")
    parser.add_argument("--count", type=int, default=2048, help="images of a scan; fewer are shown again and again")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--shard", type=int, default=64)
    wanted = parser.parse_args()
    model = load_model(device="cpu")
    images = part(open_images(wanted.images), wanted.count)
    seconds: dict[str, list[float]] = {}
    found = {}
    for _ in range(wanted.turns):
        for workers in (1, 2):
            began = time.perf_counter()
            with RayEngine(workers=workers, threads=1) as engine:
                found[workers], took = scanned(engine, model, images, wanted.shard)
            seconds.setdefault(f"{workers} workers", []).append(took)
            seconds.setdefault(f"{workers} workers, from nothing", []).append(time.perf_counter() - began)
    best = {name: min(each) for name, each in seconds.items()}
    local, _ = scanned(Local(1), model, images, wanted.shard)
    result: dict[str, Any] = {
        **machine(model),
        "images": len(images),
        "seconds": {name: round(each, 2) for name, each in best.items()},
        "two of one": round(best["2 workers"] / best["1 workers"], 3),
        "two of one, from nothing": round(best["2 workers, from nothing"] / best["1 workers, from nothing"], 3),
        "same": all(same(each, local) for each in found.values()),
    }
    Console(stderr=True).print(
        f"{len(images)} images: two workers take {result['two of one']} of the time of one, "
        f"{result['two of one, from nothing']} with their start; results the same: {result['same']}"
    )
    print(json.dumps(result, indent=1))


def scanned(engine: Engine, model: Model, images: Images, shard: int) -> tuple[Exemplars, float]:
    """What was found, and the seconds for all images at the pace of the last three quarters."""
    ends: list[tuple[int, float]] = []
    found = exemplars(
        model, images, LAYER, shard=shard, workers=0, engine=engine,
        progress=lambda stage, done, total: ends.append((done, time.perf_counter())),
    )  # fmt: skip
    first, last = next(end for end in ends if end[0] >= max(2 * shard, len(images) / 4)), ends[-1]
    return found, (last[1] - first[1]) * len(images) / (last[0] - first[0])


def same(one: Exemplars, other: Exemplars) -> bool:
    return all(one.of(*unit) == other.of(*unit) for unit in one)


if __name__ == "__main__":
    main()
