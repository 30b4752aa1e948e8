"""Superstimuli beside lucent's: milliseconds, time to the same activation, and classes that another network names too.

Three parts, one run, one network (EfficientNet-Lite0). A table goes to standard error, JSON to standard output.

`pace`: milliseconds per icon and step for channels of blocks.3 at 128 px, lucent one by one and in one batch.
`goal`: seconds until the mean activation of the saved pictures, over robust views that neither draws in, reaches what
lucent's have after its default 512 steps in one batch, its faster way; in a clean pass beside it.
`classes`: superstimuli of ten classes; how many of the saved pictures Lite0, which drew them, and Lite1, which did not,
put first, and the share of burnt-out values. No peer takes part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import OURS, Contender, Lucent, clean_judge, judge, machine, missing, timed
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from featviz import Model, Trunk, load_model, maximize
from featviz.draw import objectives
from featviz.draw.drawing import Drawing
from featviz.draw.superstimuli import draw as draw_units
from featviz.network.units import Unit

LAYER, SIZE = "blocks.3", 128
LUCENT_STEPS = 512
NAMES = (
    "tabby", "goldfinch", "tarantula", "school bus", "daisy", "pizza", "grey whale", "castle", "strawberry", "snail",
)  # fmt: skip


def pace(
    model: Model, channels: tuple[int, ...], steps: int, repeats: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Milliseconds per icon and step by contender: the fastest of its turns, which alternate."""
    wish = objectives.channel(LAYER, channels)

    def draw(networks: Sequence[nn.Module], steps: int) -> Tensor:
        return maximize(model, wish, size=SIZE, steps=steps).images

    lucent = Lucent(model, LAYER, channels, SIZE).contenders()[:2] if missing("torch-lucent") is None else ()
    contenders = (Contender(OURS, draw, copies=0), *lucent)
    best = dict.fromkeys((contender.name for contender in contenders), float("inf"))
    for contender in contenders:
        timed(contender, model, 2)
    for repeat in range(repeats):
        for contender in contenders:
            seconds, _ = timed(contender, model, steps)
            best[contender.name] = min(best[contender.name], 1000 * seconds / (len(channels) * steps))
            say(f"pace, turn {repeat + 1}: {contender.name}: {best[contender.name]:.2f} ms")
    return {name: {"ms": round(ms, 3), "times_ours": round(ms / best[OURS], 2)} for name, ms in best.items()}


def goal(
    model: Model, channels: tuple[int, ...], ours: Sequence[int], steps: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds and mean activation, over robust views and clean, of ours by steps and of lucent's after `steps`."""
    wish = objectives.channel(LAYER, channels)
    robust, clean = judge(model, wish), clean_judge(model, wish)

    def draw(networks: Sequence[nn.Module], steps: int) -> Tensor:
        return maximize(model, wish, size=SIZE, steps=steps).images

    contenders = [(Contender(f"{OURS}, {count} steps", draw, copies=0), count) for count in ours]
    if missing("torch-lucent") is None:
        contenders += [(entry, steps) for entry in Lucent(model, LAYER, channels, SIZE).contenders()[1:2]]
    rows = {}
    for contender, count in contenders:
        seconds, images = timed(contender, model, count)
        rows[contender.name] = {
            "seconds": round(seconds, 1),
            "steps": count,
            "over_views": round(float(robust(images).mean()), 2),
            "mean": round(float(clean(images).mean()), 2),
        }
        say(f"goal: {contender.name}: {rows[contender.name]}")
    return rows


def classes(model: Model, witness: Model, names: Sequence[str], steps: int) -> dict[str, Any]:
    """How many of the classes' saved pictures each network puts first, and the share of burnt-out values."""
    indices = [model.class_index(name) for name in names]
    drawn = draw_units(model, [Unit("output", index) for index in indices], Drawing(steps=steps))
    images = torch.cat([torch.from_numpy(arrays["pictures"]) for arrays in drawn.values()])
    first = {}
    for network in (model, witness):
        trunk = Trunk(network, ["output"], fold=False)
        with torch.inference_mode():
            seen = images.to(trunk.device).float() / 255
            logits = torch.cat([trunk(image[None])["output"][:, :, 0, 0] for image in seen]).cpu()
        first[network.name] = int((logits.argmax(1) == torch.tensor(indices)).sum())
    saturated = float(((images < 2) | (images > 253)).float().mean())
    return {"classes": len(indices), "first": first, "saturated": round(saturated, 4), "steps": steps}


def tables(result: dict[str, Any]) -> list[Table]:
    """The parts as tables."""
    drawn = []
    for title in ("pace", "goal"):
        table = Table(title=title, box=box.SIMPLE)
        columns = list(next(iter(result[title].values())))
        for heading in ("", *columns):
            table.add_column(heading)
        for name, row in result[title].items():
            table.add_row(name, *(str(row[column]) for column in columns))
        drawn.append(table)
    return drawn


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Superstimuli beside lucent's, in one run (about a quarter of an hour)."
    )
    parser.add_argument("--quick", action="store_true", help="few steps and units: does it run?")
    parser.add_argument("--channels", type=int, default=32, help="of `pace` and `goal`")
    parser.add_argument("--classes", type=int, default=len(NAMES), help=f"of `classes`, {len(NAMES)} at most")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each contender of `pace`; its fastest counts")
    parser.add_argument("--json-out", type=Path, help="also write the JSON to this file")
    return parser.parse_args()


def main() -> None:
    """Run the three parts and print them."""
    options = arguments()
    console = Console(stderr=True)
    say = partial(console.print, soft_wrap=True)
    model, witness = load_model(), load_model("efficientnet_lite1")
    quick = options.quick
    channels = tuple(range(0, 6 if quick else 2 * options.channels, 2))
    ours = [2] if quick else [128, 340, 512]
    result = {
        "pace": pace(model, channels, 2 if quick else 64, max(1, options.repeats), say),
        "goal": goal(model, channels, ours, 3 if quick else LUCENT_STEPS, say),
        "classes": classes(model, witness, NAMES[: 2 if quick else options.classes], 2 if quick else Drawing().steps),
    }
    for table in tables(result):
        console.print(table)
    say(f"classes: {result['classes']}")
    text = json.dumps({**machine(model), "quick": quick, **result}, indent=2)
    print(text)
    if options.json_out:
        options.json_out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
