"""The command `atlas classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..class_atlas import CONFUSING, DEFAULTS, DISCRIMINATIVE
from ..class_folder import class_atlas
from ..files import load
from ..settings import Settings
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work, numbers
from .report import opened, report

_SETTINGS = Settings(layer="", **DEFAULTS)


@takes_network
def classes_command(
    layer: Annotated[str, typer.Argument(help="Dotted name, as `atlas layers` lists them; a late one says the most.")],
    label: Annotated[str, typer.Argument(metavar="CLASS", help="Name or index of a class.")],
    network: Network = NETWORK,
    images: options.Images = "photos",
    out: options.Out = Path("classes-out"),
    overwrite: options.Overwrite = False,
    by: options.By = "both",
    count: options.Count = None,
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels", help="Within these alone: discriminative, confusing (last feature map), or 3,17,40."
        ),
    ] = None,
    sample_of: options.From = None,
    grid: Annotated[int, typer.Option("--grid", help="Cells per side.")] = _SETTINGS.grid[0],
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
    """Draw a class atlas: the activations that speak for a class, each cell tinted by how much.

    With --channels, within some channels alone, beside random ones of the same number. OUT gets index.html, atlas.png,
    cells.json, icons/, store/ (further panels in folders of their own) and, last of all, manifest.json.

    Example: atlas classes blocks.6 "grey whale" --images my-photos --out whale
    """
    loaded = network.load(device=device, quiet=quiet)
    source = opened(images, loaded, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        made = class_atlas(
            loaded,
            layer,
            label,
            source,
            by=by,
            count=count,
            channels=_channels(channels),
            sample_of=load(sample_of) if sample_of else None,
            out=out,
            overwrite=overwrite,
            reducer=reducer,
            workers=workers,
            engine=where,
            progress=progress,
            grid=(grid,),
            icon=icon,
            steps=steps,
            samples=samples,
            per_image=per_image,
            min_count=min_count,
            seed=seed,
        )
    report({"out": str(out), **made.manifest}, made.manifest["conclusion"], out, as_json=as_json, quiet=quiet)


def _channels(text: str | None) -> str | list[int] | None:
    if text in (None, DISCRIMINATIVE, CONFUSING) or not text or not text[0].isdigit():
        return text
    return [int(each) for each in numbers(text, "--channels")]
