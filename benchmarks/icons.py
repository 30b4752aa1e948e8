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
import copy
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from atlas.grid import Cell, bin_cells
from atlas.icons import draw_icons, whitener
from atlas.project import project
from atlas.sample import sample
from featviz import Model, Objective, Trunk, load_model, maximize, objectives
from featviz.maximize import score
from search.images import open_images

# The first four are those of which earlier figures exist; the others are arbitrary.
CHANNELS = (3, 7, 11, 19, 23, 31, 43, 59)
PEERS = {"torch-lucent": "lucent.optvis.render", "dreamlens": "dreamlens.render"}
OURS = "ours"

# Fresh copies of the network and a number of steps -> 8-bit images (n, 3, h, w).
Draw = Callable[[Sequence[nn.Module], int], Tensor]


@dataclass(frozen=True)
class Contender:
    """One way to draw the icons; `copies`: how many fresh networks it takes; `frozen`: without weight gradients."""

    name: str
    draw: Draw
    copies: int = 1
    frozen: bool = False


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
class Lucent:
    """lucent's default transforms, canvas and optimiser on channels of a layer."""

    model: Model
    layer: str
    channels: tuple[int, ...]
    size: int

    def contenders(self) -> tuple[Contender, ...]:
        """One by one, in a batch, in a batch resized by fixed_image_size, and helped by frozen weights."""
        return (
            Contender("lucent, one by one", self.one_by_one, copies=len(self.channels)),
            Contender("lucent, batched", self.batched),
            Contender("lucent, batched, resized", partial(self.batched, resize=True)),
            Contender("lucent, batched, helped", self.batched, frozen=True),
        )

    def one_by_one(self, networks: Sequence[nn.Module], steps: int) -> Tensor:
        """A call of render_vis per channel."""
        pairs = zip(networks, self.channels, strict=True)
        return torch.cat([self._render(network, (channel,), steps) for network, channel in pairs])

    def batched(self, networks: Sequence[nn.Module], steps: int, *, resize: bool = False) -> Tensor:
        """All channels in one call, an objective per image of the batch."""
        return self._render(networks[0], self.channels, steps, resize=resize)

    def _render(self, network: nn.Module, channels: tuple[int, ...], steps: int, *, resize: bool = False) -> Tensor:
        from lucent.optvis import objectives as wishes
        from lucent.optvis import param, render, transform

        layer = self.layer.replace(".", "_")
        wish = wishes.Objective.sum([wishes.channel(layer, channel, batch=i) for i, channel in enumerate(channels)])
        # lucent pads by 12 pixels. Scaled back to the size by fixed_image_size, pictures hold their features larger
        # than the network wants them and score a fifth less in a clean pass; a crop is as fast and costs them nothing.
        crop = [] if resize else [partial(center_crop, output_size=[self.size, self.size])]
        pictures = render.render_vis(
            network,
            wish,
            lambda: param.image(self.size, batch=len(channels)),
            transforms=[*transform.standard_transforms, *crop, self.model.preprocess.normalize],
            thresholds=(steps,),
            preprocess=False,
            fixed_image_size=self.size if resize else 0,  # 0, unlike None, leaves the size alone
            progress=False,
            show_image=False,
        )
        return to_bytes(pictures[-1])


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


def to_bytes(pictures: NDArray[np.floating]) -> Tensor:
    """Pictures (n, h, w, 3) in [0, 1] -> 8-bit (n, 3, h, w), rounded."""
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2) * 255).round().clamp(0, 255).to(torch.uint8)


def against_lucent(model: Model, *, quick: bool) -> Comparison:
    """Spatial means of channels of blocks.3 at 128 px."""
    layer, size = "blocks.3", 128
    wish = objectives.channel(layer, CHANNELS)

    def draw(networks: Sequence[nn.Module], steps: int) -> Tensor:
        return maximize(model, wish, size=size, steps=steps).images

    return Comparison(
        title=f"{len(CHANNELS)} channels of {layer}, {size} px",
        peer="torch-lucent",
        judged_by="spatial mean of the channel, clean pass",
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
        icons, _ = draw_icons(model, layer, cells, whitening, icon=size, steps=steps)
        return torch.from_numpy(icons).permute(0, 3, 1, 2)

    return Comparison(
        title=f"{len(cells)} directions of {layer}, {size} px",
        peer="dreamlens",
        judged_by="cosine with the whitened direction, clean pass",
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


def judge(model: Model, objective: Objective) -> Callable[[Tensor], Tensor]:
    """The objective of 8-bit images in one clean pass of the network as it came."""
    trunk = Trunk(model, objective.layers, fold=False)
    return lambda images: score(trunk, objective, images, range(len(images)))


def installed(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def missing(peer: str) -> str | None:
    """Why a peer cannot take part; None where it can."""
    if installed(peer) is None:
        return f"{peer} is not installed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(PEERS[peer])
    except ImportError as error:
        return f"{peer} cannot be imported: {error}"
    return None


def timed(contender: Contender, model: Model, steps: int) -> tuple[float, Tensor]:
    """Seconds that the contender takes on fresh copies of the network, and what it draws."""
    networks = [copy.deepcopy(model.network).to(model.device) for _ in range(contender.copies)]
    if contender.frozen:
        networks = [network.requires_grad_(False) for network in networks]
    # The peers draw from the global generators, torch's and NumPy's.
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    wait(model)
    start = time.perf_counter()
    images = contender.draw(networks, steps)
    wait(model)
    return time.perf_counter() - start, images


def wait(model: Model) -> None:
    """Let a GPU finish what was asked of it."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()


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


def machine(model: Model) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    packages = ("activation-atlas", "torch", "timm", *PEERS)
    return {
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in packages}},
        "device": torch.cuda.get_device_name() if model.device.type == "cuda" else str(model.device),
        "threads": torch.get_num_threads(),
        "model": model.name,
    }


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
