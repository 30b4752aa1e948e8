"""Milliseconds per icon and step, ours beside the peers': one network, one layer, one size, one run.

Two comparisons: channels of blocks.3 against lucent (the package torch-lucent), whitened directions of blocks.5 against
dreamlens. A table goes to standard error, JSON to standard output.

The peers get what speaks for them. Every run starts on a fresh copy of the network, made outside the timing, because
lucent leaves its hooks on the network and both add up gradients in its weights. lucent's resampling of small images is
switched off; its pictures are cropped to the size that ours have. Ours is timed with all that it does beside the steps:
copying and folding the network, and scoring the result. Rows marked "helped" go beyond what a peer does by itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import OURS, Contender, Lucent, judge, machine, missing, timed, to_bytes
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atlas.grid import Cell, bin_cells
from atlas.icons import draw_icons, whitener
from atlas.project import project
from atlas.sample import sample
from featviz import Model, load_model, maximize
from featviz.draw import objectives
from search.images.images import open_images

# The first four are those of which earlier figures exist; the others are arbitrary.
CHANNELS = (3, 7, 11, 19, 23, 31, 43, 59)


@dataclass(frozen=True)
class Comparison:
    """Contenders, ours first, that draw the same `icons` icons; `judge`: 8-bit images -> (icons,) scores."""

    title: str
    peer: str
    judged_by: str
    icons: int
    steps: int
    judge: Callable[[Tensor], Tensor]
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class Dreamlens:
    """dreamlens' render_icons with its defaults, one attempt as in its own atlas, on whitened means of cells."""

    model: Model
    layer: str
    means: Tensor
    whitening: Tensor
    size: int

    def contenders(self) -> tuple[Contender, ...]:
        """As its documentation has it, and helped by frozen weights and longer directions."""
        return (
            Contender("dreamlens", self.plain),
            Contender("dreamlens, helped", self.helped, frozen=True),
        )

    def plain(self, networks: Sequence[nn.Module], steps: int) -> Tensor:
        """Means and the whitening matrix as its argument S."""
        return self._render(networks[0], self.means, self.whitening, steps)

    def helped(self, networks: Sequence[nn.Module], steps: int) -> Tensor:
        """Whitened directions as long as the layer has channels.

        Its dot product is a mean over the channels and its cosine is not divided by the direction's length: at this
        length both are what their names say, and the penalty on the border no longer outweighs them.
        """
        directions = torch.nn.functional.normalize(self.means @ self.whitening, dim=1) * self.means.shape[1]
        return self._render(networks[0], directions, None, steps)

    def _render(self, network: nn.Module, directions: Tensor, whitening: Tensor | None, steps: int) -> Tensor:
        from dreamlens.render import render_icons

        pictures, _ = render_icons(
            directions,
            network,
            self.layer,
            size=self.size,
            n_steps=steps,
            S=whitening,
            num_attempts=1,
            preprocess=self.model.preprocess.normalize,
        )
        return to_bytes(np.stack(pictures))


def against_lucent(model: Model, *, quick: bool) -> Comparison:
    """Spatial means of channels of blocks.3 at 128 px."""
    layer, size = "blocks.3", 128
    wish = objectives.channel(layer, CHANNELS)

    def draw(networks: Sequence[nn.Module], steps: int) -> Tensor:
        return maximize(model, wish, size=size, steps=steps).images

    return Comparison(
        title=f"{len(CHANNELS)} channels of {layer}, {size} px",
        peer="torch-lucent",
        judged_by="spatial mean of the channel, over robust views",
        icons=len(CHANNELS),
        steps=4 if quick else 64,
        judge=judge(model, wish),
        contenders=(Contender(OURS, draw, copies=0), *Lucent(model, layer, CHANNELS, size).contenders()),
    )


def against_dreamlens(model: Model, *, quick: bool) -> Comparison:
    """Whitened means of an atlas's cells at blocks.5, 96 px."""
    layer, size = "blocks.5", 96
    cells, whitening = directions(model, layer, samples=1000 if quick else 2000, count=8 if quick else 16)
    means = torch.from_numpy(np.stack([cell.mean for cell in cells]))

    def draw(networks: Sequence[nn.Module], steps: int) -> Tensor:
        icons, _, _ = draw_icons(model, layer, cells, whitening, icon=size, steps=steps)
        return torch.from_numpy(icons).permute(0, 3, 1, 2)

    return Comparison(
        title=f"{len(cells)} directions of {layer}, {size} px",
        peer="dreamlens",
        judged_by="cosine with the whitened direction, over robust views",
        icons=len(cells),
        steps=4 if quick else 128,
        judge=judge(model, objectives.cosine(layer, means @ whitening)),
        contenders=(Contender(OURS, draw, copies=0), *Dreamlens(model, layer, means, whitening, size).contenders()),
    )


def directions(model: Model, layer: str, *, samples: int, count: int) -> tuple[list[Cell], Tensor]:
    """`count` cells spread evenly over a small atlas of the embedded photographs, and its whitening matrix."""
    found, _, _ = sample(model, layer, open_images("photos"), samples=samples, per_image=8)
    layout = project(found.vectors, "pca")
    cells = bin_cells(layout, found.vectors, found.image, found.position, levels=[8], min_count=5)
    places = np.linspace(0, len(cells) - 1, min(count, len(cells))).round().astype(int)
    return [cells[place] for place in places], whitener(found.vectors)


def race(comparison: Comparison, model: Model, repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Each contender's figures by name; they take turns, and the fastest turn of each counts."""
    absent = missing(comparison.peer)
    contenders = [entry for entry in comparison.contenders if absent is None or entry.name == OURS]
    for contender in contenders:
        timed(contender, model, 2)
    turns: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    images: dict[str, Tensor] = {}
    for repeat in range(repeats):
        for contender in contenders:
            seconds, images[contender.name] = timed(contender, model, comparison.steps)
            turns[contender.name].append(1000 * seconds / (comparison.icons * comparison.steps))
            say(f"{comparison.title}, turn {repeat + 1}: {contender.name}: {turns[contender.name][-1]:.2f} ms")
    ours = min(turns[OURS])
    rows = {name: figures(each, ours, images[name], comparison.judge(images[name])) for name, each in turns.items()}
    return {
        "title": comparison.title,
        "icons": comparison.icons,
        "steps": comparison.steps,
        "score": comparison.judged_by,
        "missing": absent,
        "rows": rows,
    }


def figures(turns: Sequence[float], ours: float, images: Tensor, scores: Tensor) -> dict[str, Any]:
    """A row: milliseconds per icon and step, ours in relation to it, scores, colourfulness."""
    each = [round(value, 4) for value in scores.tolist()]
    return {
        "ms": round(min(turns), 3),
        "turns_ms": [round(turn, 3) for turn in turns],
        "ours_over_this": round(ours / min(turns), 3),
        "score_mean": round(statistics.fmean(each), 4),
        "score_median": round(statistics.median(each), 4),
        "scores": each,
        "saturation": round(saturation(images), 4),
    }


def saturation(images: Tensor) -> float:
    """Mean of the largest less the smallest of a pixel's colours, in [0, 1]: 0 is grey."""
    pixels = images.float() / 255
    return float((pixels.amax(1) - pixels.amin(1)).mean())


def table(result: Mapping[str, Any]) -> Table:
    """A comparison's rows, ours first."""
    drawn = Table(
        title=f"{result['title']}, {result['steps']} steps",
        caption=f"ms: per icon and step; mean, median: {result['score']}",
        box=box.SIMPLE,
    )
    drawn.add_column("")
    for heading in ("ms", "ours / this", "mean", "median", "saturation"):
        drawn.add_column(heading, justify="right")
    for name, row in result["rows"].items():
        cells = (row["ms"], row["ours_over_this"], row["score_mean"], row["score_median"], row["saturation"])
        drawn.add_row(name, *(f"{cell:.2f}" for cell in cells))
    if result["missing"]:
        drawn.add_row(result["missing"], *["–"] * 5)
    return drawn


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Milliseconds per icon and step, ours beside the peers'.")
    parser.add_argument(
        "--quick", action="store_true", help="few steps and icons: does it run? The figures say nothing"
    )
    parser.add_argument("--repeats", type=int, default=2, help="turns of each contender; its fastest counts")
    parser.add_argument("--json-out", type=Path, help="also write the JSON to this file")
    return parser.parse_args()


def main() -> None:
    """Run both comparisons and print them."""
    options = arguments()
    console = Console(stderr=True)
    say = partial(console.print, soft_wrap=True)
    model = load_model()
    results = [
        race(compare(model, quick=options.quick), model, max(1, options.repeats), say)
        for compare in (against_lucent, against_dreamlens)
    ]
    for result in results:
        console.print(table(result))
    text = json.dumps({**machine(model), "quick": options.quick, "comparisons": results}, indent=2)
    print(text)
    if options.json_out:
        options.json_out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
