"""The command `atlas unit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from featviz.draw.drawing import Drawing

from ..unit import draw_card
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work
from .report import opened, report

_DRAWING = Drawing()


@takes_network
def unit_command(
    unit: Annotated[str, typer.Argument(help="blocks.5:12, blocks.5:12@center, class:tabby, -blocks.5:12")],
    network: Network = NETWORK,
    images: options.Images = "photos",
    out: options.Out = Path("unit-out"),
    overwrite: options.Overwrite = False,
    k: Annotated[int, typer.Option("--exemplars", help="Strongest and weakest images; nine fit on the card.")] = 9,
    steps: Annotated[int, typer.Option("--steps", help="Optimisation steps of the superstimuli.")] = _DRAWING.steps,
    similarity: Annotated[
        str | None, typer.Option("--similarity", help="Network whose features judge how interpretable the unit is.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    engine: options.Engine = "local",
    workers: options.Workers = None,
    threads: options.Threads = 0,
    gpus: options.Gpus = 0.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show on one card what one unit responds to.

    Its superstimulus and that of its opposite, its strongest and weakest images and where in them, how its values are
    distributed, the class it prefers against chance, its tuning to synthetic stimuli, the channels that go with it.

    Example: atlas unit blocks.5:12 --images my-photos --out unit-12
    """
    if unit.startswith("--"):
        raise typer.BadParameter(f"No such option: {unit}")
    loaded = network.load(device=device, quiet=quiet)
    source = opened(images, loaded, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        draw_card(
            loaded,
            unit,
            out=out,
            images=source,
            drawing=Drawing(steps=steps, seed=seed),
            k=k,
            similarity=similarity,
            overwrite=overwrite,
            workers=workers,
            engine=where,
            progress=progress,
        )
    card = {"unmoved": None, **json.loads((out / "card.json").read_text(encoding="utf-8"))}
    told = [f"{card['name']}: {card['unmoved']}"] if card["unmoved"] else []
    report(card, told, out, as_json=as_json, quiet=quiet)
