"""A small activation atlas from start to end, ours beside dreamlens's: seconds per stage, and the icons' scores.

EfficientNet-Lite0, blocks.5, the same images, as many vectors of each, the same grid, icon size and number of steps.
Each contender has a process of its own: first with two steps, which compiles and loads what a first atlas needs, then
in earnest. A table goes to standard error, JSON to standard output.

`ours`: `atlas.build` without effects on classes, which dreamlens does not have. `dreamlens`: `collect_activations` over
all positions and its `activation_atlas` with its defaults, fed by the same decoding with a worker. `dreamlens, helped`:
with frozen weights, our settings of UMAP, and whitened means as long as its score wants them (see icons.py). All take
as many images in a pass. Layouts differ, and so does the number of cells that get an icon: hence milliseconds per icon
and step. The judge: cosine, in one clean pass, of the icon's activation with the mean of its own cell, whitened by the
contender's own vectors; since dreamlens draws plain means unless it is helped, the cosine with these stands beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from common import OURS, Decoded, judge, machine, missing, part, to_bytes
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from atlas import build
from atlas.icons import whitener
from atlas.project import MIN_DIST, NEIGHBORS
from atlas.sample import inner_positions
from featviz import Model, load_model
from featviz.draw import objectives
from search import Images, open_images
from search.scan.scan import CPU_BATCH

DREAMLENS = "dreamlens"
HELPED = "dreamlens, helped"


@dataclass(frozen=True)
class Task:
    """What every contender makes: an atlas of `count` images with `per_image` vectors of each."""

    images: str
    count: int
    grid: int
    icon: int
    steps: int
    layer: str = "blocks.5"
    per_image: int = 8
    least: int = 6  # vectors in a cell, so that it gets an icon: dreamlens's "more than 5"

    def opened(self) -> Images:
        return part(open_images(self.images), self.count)


@dataclass(frozen=True)
class Made:
    """Seconds by stage, icons (n, 3, h, w) 8-bit, the means (n, c) of their cells, all vectors."""

    seconds: dict[str, float]
    icons: Tensor
    means: Tensor
    vectors: NDArray[np.float32]


def ours(model: Model, task: Task) -> Made:
    """The whole command, without a folder."""
    start = time.perf_counter()
    built = build(
        model,
        task.layer,
        task.opened(),
        grid=(task.grid,),
        icon=task.icon,
        steps=task.steps,
        samples=task.count * task.per_image,
        per_image=task.per_image,
        min_count=task.least,
        effects=False,
        workers=1,
    )
    total = time.perf_counter() - start
    seconds = {name: float(built.manifest["seconds"][name]) for name in ("sample", "layout", "icons")}
    means = torch.from_numpy(np.stack([cell.mean for cell in built.cells]))
    icons = torch.from_numpy(built.pictures).permute(0, 3, 1, 2)
    return Made({**seconds, "all": total}, icons, means, built.sample.vectors)


def dreamlens(model: Model, task: Task, *, helped: bool) -> Made:
    """Its two functions one after the other, watched."""
    import dreamlens.atlas as theirs

    network = copy.deepcopy(model.network)
    if helped:
        network.requires_grad_(False)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    start = time.perf_counter()
    vectors = collected(model, network, task)
    sampled = time.perf_counter() - start
    more: dict[str, Any] = {"n_steps": task.steps, "preprocess": model.preprocess.normalize}
    layout = {"n_neighbors": NEIGHBORS, "min_dist": MIN_DIST} if helped else None
    if helped:
        # As long as the layer has channels: then its score is what its name says (see icons.py).
        whitened = torch.from_numpy(vectors) @ whitener(vectors)
        more["S"] = whitener(vectors) * (vectors.shape[1] / whitened.norm(dim=1).median())
    with watched(theirs, ("aligned_umap", "bin_laid_out_activations", "render_icons")) as calls:
        theirs.activation_atlas(
            network,
            task.layer,
            vectors,
            grid_size=task.grid,
            icon_size=task.icon,
            threshold=task.least - 1,
            umap_options=layout,
            render_kwargs=more,
        )
    total = time.perf_counter() - start
    seconds = {
        "sample": sampled,
        "layout": sum(taken for taken, _ in calls["aligned_umap"]),
        "icons": sum(taken for taken, _ in calls["render_icons"]),
        "all": total,
    }
    icons = np.stack([icon for _, (batch, _) in calls["render_icons"] for icon in batch])
    means = torch.from_numpy(np.stack(calls["bin_laid_out_activations"][0][1][0]))
    return Made(seconds, to_bytes(icons), means, vectors)


def collected(model: Model, network: torch.nn.Module, task: Task) -> NDArray[np.float32]:
    """`per_image` vectors of each image at random inner positions, from dreamlens's one pass over all positions."""
    from dreamlens import collect_activations

    loader = DataLoader(Decoded(model, task.opened()), batch_size=CPU_BATCH, num_workers=1)
    batches = (pixels.float() / 255 for pixels in loader)
    everything = collect_activations(
        network, task.layer, batches, preprocess=model.preprocess.normalize, spatial="all", random_seed=0
    )
    each = everything.reshape(task.count, -1, everything.shape[1])
    side = round(each.shape[1] ** 0.5)
    inside = (inner_positions(side, side) @ torch.tensor([side, 1])).numpy()
    rng = np.random.default_rng(0)
    return np.concatenate([vectors[rng.permutation(inside)[: task.per_image]] for vectors in each])


@contextmanager
def watched(module: Any, names: tuple[str, ...]) -> Iterator[dict[str, list[tuple[float, Any]]]]:
    """Inside the `with`, these functions of a module write down seconds and result of every call."""
    calls: dict[str, list[tuple[float, Any]]] = {name: [] for name in names}
    originals = {name: getattr(module, name) for name in names}

    def recorder(name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = originals[name](*args, **kwargs)
            calls[name].append((time.perf_counter() - start, result))
            return result

        return record

    try:
        for name in names:
            setattr(module, name, recorder(name))
        yield calls
    finally:
        for name, function in originals.items():
            setattr(module, name, function)


def row(name: str, task: Task, warm: bool) -> dict[str, Any]:
    """A contender's figures, in a process that has run nothing before; warm: after an atlas of two steps."""
    model = load_model(device="cpu")

    def make(task: Task) -> Made:
        return ours(model, task) if name == OURS else dreamlens(model, task, helped=name == HELPED)

    first = make(replace(task, steps=2)) if warm else None
    made = make(task)
    whitened = made.means @ whitener(made.vectors)
    scores = {
        label: float(judge(model, objectives.cosine(task.layer, directions))(made.icons).median())
        for label, directions in (("whitened", whitened), ("plain", made.means))
    }
    return {
        "seconds": {stage: round(seconds, 2) for stage, seconds in made.seconds.items()},
        "first_layout": round((first or made).seconds["layout"], 2),
        "vectors": len(made.vectors),
        "icons": len(made.icons),
        "ms_per_icon_and_step": round(1000 * made.seconds["icons"] / (len(made.icons) * task.steps), 2),
        "median_score": {label: round(value, 3) for label, value in scores.items()},
    }


def apart(name: str, task: Task, warm: bool) -> dict[str, Any]:
    """The same in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(row, name, task, warm).result()


def table(rows: dict[str, dict[str, Any]], task: Task) -> Table:
    """A row per contender."""
    drawn = Table(title=f"{task.count} images, {task.grid} x {task.grid} cells, {task.steps} steps", box=box.SIMPLE)
    for heading in ("", "s", "sample", "layout", "icons", "drawn", "ms per icon and step", "whitened", "plain"):
        drawn.add_column(heading)
    for name, found in rows.items():
        seconds, scores = found["seconds"], found["median_score"]
        stages = [f"{seconds[stage]:.1f}" for stage in ("all", "sample", "layout", "icons")]
        rest = [str(found["icons"]), f"{found['ms_per_icon_and_step']:.1f}"]
        drawn.add_row(name, *stages, *rest, *(f"{scores[label]:.2f}" for label in ("whitened", "plain")))
    return drawn


def main() -> None:
    """Let each build its atlas and print the figures."""
    parser = argparse.ArgumentParser(description="A small atlas from start to end, beside dreamlens's.")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--quick", action="store_true", help="once, without help: does it run? The figures say nothing")
    parser.add_argument("--count", type=int, default=200, help="how many images")
    parser.add_argument("--grid", type=int, default=8, help="cells per side")
    parser.add_argument("--icon", type=int, default=96, help="pixels per side")
    parser.add_argument("--steps", type=int, default=64)
    options = parser.parse_args()
    console = Console(stderr=True)
    task = Task(options.images, options.count, options.grid, options.icon, options.steps)
    absent = missing(DREAMLENS)
    rows = {}
    for name in (OURS,) if absent else (OURS, DREAMLENS, HELPED):
        if options.quick and name == HELPED:
            continue
        rows[name] = apart(name, task, warm=not options.quick)
        console.print(f"{name}: {rows[name]}", soft_wrap=True)
    console.print(table(rows, task))
    asked = {key: value for key, value in asdict(task).items() if key != "images"}
    print(json.dumps({**machine(load_model(device="cpu")), "missing": absent, "task": asked, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
