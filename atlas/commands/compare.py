"""The command `atlas compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..class_atlas import DEFAULTS
from ..compare import GRADIENT_GRID, compare
from ..files import load
from ..settings import Settings
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work
from .report import opened, report

_SETTINGS = Settings(layer="", **DEFAULTS)


@takes_network
def compare_command(
    layer: Annotated[str, typer.Argument(help="Dotted name, as `atlas layers` lists them; a late one says the most.")],
    a: Annotated[str, typer.Argument(help="Name or index of a class, to the left.")],
    b: Annotated[str, typer.Argument(help="Another one, to the right.")],
    network: Network = NETWORK,
    images: options.Images = "photos",
    out: options.Out = Path("compare-out"),
    overwrite: options.Overwrite = False,
    by: options.By = "both",
    count: options.Count = None,
    sample_of: options.From = None,
    gradient: Annotated[
        int, typer.Option("--gradient", help="Cells per side of the layout from A to B.")
    ] = GRADIENT_GRID,
    grid: Annotated[int, typer.Option("--grid", help="Cells per side of the two class atlases.")] = _SETTINGS.grid[0],
    icon: options.Icon = _SETTINGS.icon,
    steps: options.Steps = _SETTINGS.steps,
    samples: options.Samples = _SETTINGS.samples,
    per_image: options.PerImage = _SETTINGS.per_image,
    min_count: options.MinCount = _SETTINGS.min_count,
    reducer: options.Reducer = "tsne",
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
    """Compare two classes: what speaks for one and not for the other, from A on the left to B on the right.

    OUT gets index.html, atlas.png (from A to B), telling.png and telling.json (the cells that tell them apart, with
    photographs), classes.png (the two class atlases), cells.json, icons/, store/ and, last of all, manifest.json.

    Example: atlas compare blocks.6 "grey whale" "great white shark" --images my-photos --out whale-shark
    """
    loaded = network.load(device=device, quiet=quiet)
    source = opened(images, loaded, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        made = compare(
            loaded,
            layer,
            a,
            b,
            source,
            by=by,
            count=count,
            gradient=gradient,
            sample_of=load(sample_of) if sample_of else None,
            out=out,
            overwrite=overwrite,
            reducer=reducer,
            workers=workers,
            engine=where,
            progress=progress,
            **{
                "grid": (grid,), "icon": icon, "steps": steps, "samples": samples, "per_image": per_image,
                "min_count": min_count, "seed": seed,
            },
        )  # fmt: skip
    report({"out": str(out), **made.manifest}, made.manifest["conclusion"], out, as_json=as_json, quiet=quiet)
