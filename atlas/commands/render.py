"""The command `atlas render`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from featviz.draw.drawing import Drawing

from ..render import render_units
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work
from .report import opened, report

_DRAWING = Drawing()


@takes_network
def render_command(
    units: Annotated[
        list[str],
        typer.Argument(help="blocks.3:5, blocks.3:0-31,40, blocks.3:*, blocks.3:5@center, class:tabby"),
    ],
    network: Network = NETWORK,
    images: Annotated[
        str | None, typer.Option("--images", help="Compare with a data set: gain over its maximum, percentile, dead.")
    ] = None,
    out: options.Out = Path("superstimuli-out"),
    overwrite: options.Overwrite = False,
    canvas: Annotated[
        str, typer.Option("--canvas", help="fourier, pixel, maco (natural spectrum) or cppn.")
    ] = _DRAWING.canvas,
    size: Annotated[
        int, typer.Option("--size", help="Pixels; 0: the network's input size, of channels at most 224.")
    ] = _DRAWING.size,
    steps: Annotated[int, typer.Option("--steps", help="Optimisation steps.")] = _DRAWING.steps,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate; 0: the canvas's own.")] = _DRAWING.lr,
    attempts: Annotated[int, typer.Option("--attempts", help="Draw each so often, keep the best.")] = 1,
    diversity: Annotated[int, typer.Option("--diversity", help="Pictures per unit, unlike each other.")] = 1,
    pairs: Annotated[bool, typer.Option("--pairs", help="Draw every unit's opposite beside it.")] = False,
    similarity: Annotated[
        str | None,
        typer.Option("--similarity", help="A network whose features tell how interpretable each pair is (MIS)."),
    ] = None,
    transparency: Annotated[
        str, typer.Option("--transparency", help="none; learned: drawn too; importance: what moved the unit is opaque.")
    ] = _DRAWING.transparency,
    start: Annotated[
        str, typer.Option("--start", help="Begin at an image file, or at exemplar: what excites each unit the most.")
    ] = "",
    like: Annotated[
        str, typer.Option("--like", help="photographs: drawn like those of --images that excite the unit the most.")
    ] = "",
    precision: Annotated[str, typer.Option("--precision", help="float32, or bfloat16: faster on a GPU.")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the network: pays on a GPU.")] = False,
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
    """Draw what excites units the most, each picture with evidence of how well it does.

    OUT gets a PNG per unit, superstimuli.png, units.json, index.html and, last of all, manifest.json. A unit's picture
    does not depend on what else is drawn. A leading - asks for what excites the opposite of a unit.

    Example: atlas render blocks.5:0-15 class:tabby -blocks.5:12 --images my-photos --out superstimuli
    """
    for unit in units:
        if unit.startswith("--"):
            raise typer.BadParameter(f"No such option: {unit}")
    drawing = Drawing(
        canvas=canvas,
        size=size,
        steps=steps,
        lr=lr,
        attempts=attempts,
        diversity=diversity,
        transparency=transparency,  # type: ignore[arg-type]  # checked by Drawing
        start=start,
        like=like,  # type: ignore[arg-type]  # checked by Drawing
        precision=precision,  # type: ignore[arg-type]  # checked by Trunk
        compiled=compiled,
        seed=seed,
    )
    loaded = network.load(device=device, quiet=quiet)
    source = None if images is None else opened(images, loaded, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        certificates = render_units(
            loaded,
            units,
            out=out,
            images=source,
            drawing=drawing,
            pairs=pairs,
            similarity=similarity,
            overwrite=overwrite,
            workers=workers,
            engine=where,
            progress=progress,
        )
    gains = [certificate.gain for certificate in certificates if certificate.gain is not None]
    found = [f"median gain over the data set's maximum {median(gains):.2f}"] if gains else []
    report([asdict(certificate) for certificate in certificates], found, out, as_json=as_json, quiet=quiet)
