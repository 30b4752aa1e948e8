"""The command `atlas align`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..align import DEFAULTS, align
from ..settings import Settings
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work
from .report import opened, report

_SETTINGS = Settings(layer="", **DEFAULTS)


@takes_network
def align_command(
    layer: Annotated[str, typer.Argument(help="Dotted name, as `atlas layers` lists them.")],
    other: Annotated[str, typer.Argument(help="A layer of the same network, or of --other-model.")],
    network: Network = NETWORK,
    other_model: Annotated[
        str | None, typer.Option("--other-model", help="The second network; default: the same one.")
    ] = None,
    other_weights: Annotated[
        Path | None, typer.Option("--other-weights", help="Weights of the second, such as those before fine-tuning.")
    ] = None,
    images: options.Images = "photos",
    out: options.Out = Path("align-out"),
    overwrite: options.Overwrite = False,
    grid: Annotated[int, typer.Option("--grid", help="Cells per side of both.")] = _SETTINGS.grid[0],
    icon: options.Icon = _SETTINGS.icon,
    steps: options.Steps = _SETTINGS.steps,
    samples: options.Samples = _SETTINGS.samples,
    per_image: options.PerImage = _SETTINGS.per_image,
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
    """Draw the atlases of two layers, or of two networks, laid out together, to follow cells from one to the other.

    OUT gets index.html, atlas.png (both), flow.json (where each cell's activations lie in the other), cells.json,
    icons/, store/, the same of the second in other/ and, last of all, manifest.json.

    Example: atlas align blocks.4 blocks.5 --images my-photos --out aligned
    """
    first = network.load(device=device, quiet=quiet)
    second = None
    if other_model is not None or other_weights is not None:
        other_how = network.how if other_model is None else {}
        second = Network(other_model or network.name, other_weights, other_how).load(device=device, quiet=quiet)
    source = opened(images, first, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        made = align(
            first,
            layer,
            other,
            source,
            other_model=second,
            out=out,
            overwrite=overwrite,
            workers=workers,
            engine=where,
            progress=progress,
            grid=(grid,),
            icon=icon,
            steps=steps,
            samples=samples,
            per_image=per_image,
            seed=seed,
        )
    report({"out": str(out), **made.manifest}, made.manifest["conclusion"], out, as_json=as_json, quiet=quiet)
