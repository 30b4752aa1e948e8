"""What people understand of pictures: blind test sheets, and the marks of those who answered them.

`write` draws the pictures and writes numbered sheets (PNG) with a question each into one folder, the key into a file
elsewhere. `mark` compares answers with the key: right of how many, with a Wilson interval, per maker and observer.
An observer sees the sheets and `questions.md` alone: neither units nor code nor key. Three tests:

`choice` (Borowski et al. 2021, "Exemplary Natural Images Explain CNN Activations Better than State-of-the-Art Feature
Visualization"): a picture that excites a channel, one that inhibits it; which of two unseen photographs excites it
more? The makers: ours; lucent, 512 steps; dreamlens; the four strongest and weakest photographs. The photographs are
split by seed into halves: one half shows, of the other the strongest and the weakest are asked about, so that no
question ever took part.
`naming`: twenty classes by seed, to be chosen out of forty names.
`icons`: an icon of an atlas and the parts of two photographs; which of them lies in the cell, the other lies in a far
one? `--atlas FOLDER` takes a finished atlas, so that an older recipe can be asked about, too.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import missing
from scipy.stats import binomtest
from sheets import QUESTIONS, TILE, Trial, as_one, write
from torch import Tensor

from atlas.files import load
from atlas.photos import Photographs
from featviz import Model, Trunk, load_model
from featviz.draw.drawing import Drawing
from featviz.draw.superstimuli import draw
from featviz.network.units import Unit
from featviz.seeds import generator_for
from search import Images, open_images
from search.images.image_set import first_views

OURS, LUCENT, DREAMLENS, PHOTOGRAPHS = "ours", "lucent", "dreamlens", "photographs"
MAKERS = (OURS, LUCENT, DREAMLENS, PHOTOGRAPHS)
LUCENT_STEPS = 512
# Pixels per side of a channel's picture.
SIDE = 128
SHOWN = 4


def choice_trials(
    model: Model,
    images: Images,
    layer: str,
    makers: Sequence[str],
    count: int,
    drawing: Drawing,
    drawn_in: Path | None = None,
) -> list[Trial]:
    """Each maker's trials on `count` random channels of a layer, the same questions for all of them.

    drawn_in: a folder that keeps what was drawn.
    """
    seed = drawing.seed
    views = first_views(images, model.preprocess, len(images))
    means = _channel_means(model, layer, views)
    order = torch.randperm(len(views), generator=generator_for(seed, "halves")).tolist()
    shows, asks = torch.tensor(sorted(order[::2])), torch.tensor(sorted(order[1::2]))
    channels = torch.randperm(means.shape[1], generator=generator_for(seed, f"channels of {layer}"))[:count].tolist()
    drawn = {
        maker: _kept(
            drawn_in, f"{maker}-{layer}-{count}-{seed}", partial(_made, maker, model, layer, channels, drawing)
        )
        for maker in makers
        if maker != PHOTOGRAPHS
    }
    trials = []
    for place, channel in enumerate(channels):
        generator = generator_for(seed, f"question {layer}:{channel}")
        ranked = asks[means[asks, channel].argsort(descending=True)]
        high, low = int(ranked[0]), int(ranked[-1])
        first = int(torch.randint(2, (1,), generator=generator))
        pair = torch.stack([views[high], views[low]][:: 1 if first == 0 else -1])
        for maker in makers:
            if maker == PHOTOGRAPHS:
                own = shows[means[shows, channel].argsort(descending=True)]
                left = torch.stack([as_one(views[own[:SHOWN]]), as_one(views[own[-SHOWN:]])])
            else:
                left = drawn[maker][place]
            trials.append(Trial(f"{maker} {layer}", "choice", f"{layer}:{channel}", first + 1, left, pair))
    return trials


def naming_trials(model: Model, count: int, drawing: Drawing) -> tuple[list[Trial], list[str]]:
    """Our pictures of `count` random classes, and twice as many names in alphabetical order."""
    order = torch.randperm(len(model.labels), generator=generator_for(drawing.seed, "classes")).tolist()
    classes, names = order[:count], sorted({model.labels[number] for number in order[: 2 * count]})
    drawn = draw(model, [Unit("output", number) for number in classes], drawing, progress=_told)
    trials = [
        Trial(OURS, "naming", model.labels[number], names.index(model.labels[number]) + 1,
              torch.from_numpy(arrays["pictures"]).float() / 255, torch.empty(0))
        for number, arrays in zip(classes, drawn.values(), strict=True)
    ]  # fmt: skip
    return trials, names


def icon_trials(folder: Path, images: Images, model: Model, count: int, seed: int) -> list[Trial]:
    """Icons of `count` random cells of a finished atlas, the part of a photograph in each and one of a far cell."""
    made = load(folder)
    level = made.levels[-1]
    numbers = [number for number, cell in enumerate(made.cells) if cell.level == level]
    generator = generator_for(seed, f"cells of {level}")
    photographs = Photographs.of(model, made.settings.layer, images, made.sample, seed=made.settings.seed)
    trials = []
    for place in torch.randperm(len(numbers), generator=generator)[:count].tolist():
        number = numbers[place]
        cell = made.cells[number]
        far = [other for other in numbers if math.dist(made.cells[other].xy, cell.xy) > 1 / 3]
        other = made.cells[far[int(torch.randint(len(far), (1,), generator=generator))]]
        first = int(torch.randint(2, (1,), generator=generator))
        parts = torch.from_numpy(photographs.of_cells((cell, other), TILE)).permute(0, 3, 1, 2).float() / 255
        pair = parts if first == 0 else parts.flip(0)
        icon = torch.from_numpy(made.pictures[number]).permute(2, 0, 1)[None].float() / 255
        trials.append(Trial(f"icons of {folder.name}", "icons", cell.key, first + 1, icon, pair))
    return trials


def _kept(folder: Path | None, name: str, make: Callable[[], Tensor]) -> Tensor:
    """What was made, from the folder where it is there already."""
    if folder is None:
        return make()
    file = folder / f"{name}.npy"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, make().numpy())
    return torch.from_numpy(np.load(file))


def _made(maker: str, model: Model, layer: str, channels: Sequence[int], drawing: Drawing) -> Tensor:
    """(channels, 2, 3, h, w): what excites and what inhibits each channel."""
    print(f"{maker}: {len(channels)} channels of {layer}", file=sys.stderr)
    units = [Unit(layer, channel, None, sign) for channel in channels for sign in (1, -1)]  # type: ignore[arg-type]
    if maker == OURS:
        drawn = draw(model, units, drawing, progress=_told)
        flat = torch.cat([torch.from_numpy(drawn[unit]["pictures"]) for unit in units]).float() / 255
    else:
        torch.manual_seed(drawing.seed)
        np.random.seed(drawing.seed)  # noqa: NPY002
        flat = _lucent(model, units) if maker == LUCENT else _dreamlens(model, units)
    return flat.reshape(len(channels), 2, *flat.shape[1:])


def _lucent(model: Model, units: Sequence[Unit]) -> Tensor:
    """Its defaults, one by one, 512 steps: pictures (n, 3, 128, 128)."""
    from lucent.optvis import objectives as wishes
    from lucent.optvis import param, render, transform

    network = copy.deepcopy(model.network)  # lucent leaves its hooks in it
    pictures = []
    for unit in units:
        wish = wishes.channel(unit.layer.replace(".", "_"), unit.channel)
        made = render.render_vis(
            network,
            wish if unit.sign > 0 else -wish,
            lambda: param.image(SIDE),
            transforms=[*transform.standard_transforms, model.preprocess.normalize],
            thresholds=(LUCENT_STEPS,),
            preprocess=False,
            fixed_image_size=0,  # 0, unlike None, leaves the size alone
            progress=False,
            show_image=False,
        )
        pictures.append(torch.from_numpy(made[-1]).permute(0, 3, 1, 2).float())
    return torch.cat(pictures)


def _dreamlens(model: Model, units: Sequence[Unit]) -> Tensor:
    """Its defaults for directions, which may be negative: pictures (n, 3, 128, 128)."""
    from dreamlens import render

    channels, _, _ = Trunk(model, [units[0].layer]).map_size(units[0].layer)
    network = copy.deepcopy(model.network)
    pictures = []
    for start in range(0, len(units), 16):
        wanted = torch.stack([unit.direction(channels) for unit in units[start : start + 16]])
        made, _ = render.render_icons(wanted, network, units[0].layer, size=SIDE, preprocess=model.preprocess.normalize)
        pictures += [torch.as_tensor(np.asarray(picture)).permute(2, 0, 1).float() for picture in made]
    return torch.stack(pictures)


def _channel_means(model: Model, layer: str, views: Tensor) -> Tensor:
    trunk = Trunk(model, [layer])
    with torch.inference_mode():
        return torch.cat([trunk(view[None])[layer].mean((2, 3)) for view in views])


def _told(stage: str, done: int, total: int) -> None:
    print(f"\r{stage} {done} of {total}", end="", file=sys.stderr)


def mark(key: Mapping[str, Any], answers: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[dict[str, Any]]:
    """Right answers by test and maker. answers: observer -> letter -> number of the task -> answer.

    A task without an answer counts as wrong.
    """
    rows = []
    for letter, own in key.items():
        right = {
            observer: sum(
                int(given[letter].get(str(number), 0)) == wanted for number, wanted in enumerate(own["answers"], 1)
            )
            for observer, given in answers.items()
            if letter in given
        }
        if not right:
            continue
        of = len(own["answers"])
        interval = binomtest(sum(right.values()), of * len(right)).proportion_ci(method="wilson")
        rows.append(
            {
                "test": own["test"],
                "maker": own["maker"],
                "right": right,
                "mean": round(sum(right.values()) / len(right), 1),
                "of": of,
                "interval": [round(float(interval.low), 3), round(float(interval.high), 3)],
            }
        )
    return sorted(rows, key=lambda row: (row["test"], row["maker"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("write", help="draw the pictures and write the sheets")
    making.add_argument("sheets", type=Path, help="a folder, for the observers")
    making.add_argument("--key", type=Path, required=True, help="a file elsewhere, for `mark`")
    making.add_argument("--images", required=True, help="a folder of photographs")
    making.add_argument("--model", default="efficientnet_lite0")
    making.add_argument("--test", action="append", choices=tuple(QUESTIONS), help="default: all")
    making.add_argument("--maker", action="append", choices=MAKERS, help="of the choice; default: all installed")
    making.add_argument("--layer", action="append", help="of the choice; default: blocks.5 and blocks.3")
    making.add_argument("--atlas", action="append", type=Path, default=[], help="a finished atlas, for the icons")
    making.add_argument("--channels", type=int, default=40)
    making.add_argument("--classes", type=int, default=20)
    making.add_argument("--cells", type=int, default=40)
    making.add_argument("--drawn", type=Path, help="a folder that keeps the pictures of the choice")
    making.add_argument("--steps", type=int, default=Drawing().steps, help="of our pictures")
    making.add_argument("--seed", type=int, default=0)
    marking = commands.add_parser("mark", help="compare answers with the key")
    marking.add_argument("key", type=Path)
    marking.add_argument("answers", type=Path, nargs="+", help='a JSON per observer: {"A": {"1": 2, ...}, ...}')
    options = parser.parse_args()
    if options.command == "mark":
        answers = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in options.answers}
        print(json.dumps(mark(json.loads(options.key.read_text(encoding="utf-8")), answers), indent=1))
    else:
        _write(options)


def _write(options: argparse.Namespace) -> None:
    if options.key.resolve().is_relative_to(options.sheets.resolve()):
        raise SystemExit("the key belongs elsewhere than the sheets: whoever sees these would see it, too.")
    model, images = load_model(options.model), open_images(options.images)
    drawing = Drawing(steps=options.steps, seed=options.seed)
    tests = options.test or list(QUESTIONS)
    peers = {LUCENT: "torch-lucent", DREAMLENS: "dreamlens"}
    makers = options.maker or [maker for maker in MAKERS if maker not in peers or missing(peers[maker]) is None]
    trials: list[Trial] = []
    names: list[str] = []
    if "choice" in tests:
        for layer in options.layer or ["blocks.5", "blocks.3"]:
            trials += choice_trials(model, images, layer, makers, options.channels, drawing, options.drawn)
    if "naming" in tests:
        found, names = naming_trials(model, options.classes, drawing)
        trials += found
    if "icons" in tests:
        for folder in options.atlas:
            trials += icon_trials(folder, images, model, options.cells, options.seed)
    write(trials, names, options.sheets, options.key, options.seed)
    print(json.dumps({"sheets": len(trials), "makers": sorted({f"{trial.test}: {trial.maker}" for trial in trials})}))


if __name__ == "__main__":
    main()
