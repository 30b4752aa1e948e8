"""The command `atlas build`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from featviz.errors import UserError

from ..build import build
from ..settings import Settings
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work, numbers
from .report import opened, report

_DEFAULTS = Settings(layer="")


@takes_network
def build_command(
    layer: Annotated[
        str | None, typer.Argument(help="Dotted name, as `atlas layers` lists them. Default: the model's own choice.")
    ] = None,
    network: Network = NETWORK,
    images: options.Images = "photos",
    out: options.Out = Path("atlas-out"),
    overwrite: options.Overwrite = False,
    grid: Annotated[str, typer.Option("--grid", help="Cells per side; several with commas: 20,40.")] = ",".join(
        map(str, _DEFAULTS.grid)
    ),
    icon: options.Icon = _DEFAULTS.icon,
    steps: options.Steps = _DEFAULTS.steps,
    samples: options.Samples = _DEFAULTS.samples,
    per_image: options.PerImage = _DEFAULTS.per_image,
    min_count: Annotated[
        int, typer.Option("--min-count", help="Cells with fewer activations stay empty.")
    ] = _DEFAULTS.min_count,
    reducer: options.Reducer = _DEFAULTS.reducer,
    attempts: Annotated[int, typer.Option("--attempts", help="Draw each icon so often, keep the best.")] = 1,
    effects: Annotated[
        bool, typer.Option(help="Work out each activation's effect on every class: labels, and analysis later.")
    ] = True,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Show the atlas through this class, too: by effect.")
    ] = None,
    tiles: Annotated[
        str, typer.Option("--tiles", help="What a cell shows: icons, photos (the nearest part of one), or both.")
    ] = _DEFAULTS.tiles,
    cards: Annotated[
        bool, typer.Option("--cards", help="Draw the channels that stand out in cells, for their cards on the page.")
    ] = _DEFAULTS.cards,
    store: Annotated[
        str | None, typer.Option("--store", help="Where the vectors go: any fsspec address. Default: OUT/store.")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, or bfloat16: autocast, faster on GPUs.")
    ] = _DEFAULTS.precision,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: a minute, then faster on GPUs.")
    ] = _DEFAULTS.compiled,
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
    """Draw the activation atlas of a layer: what it represents, laid out by similarity.

    Samples activations over the images, lays them out with UMAP, averages them on grids and draws each cell's icon.
    OUT gets index.html, atlas.png, cells.json, icons/, store/ and, last of all, manifest.json.

    Example: atlas build blocks.5 --images my-photos --grid 20,40 --class tabby --out my-atlas
    """
    wanted = numbers(grid, "--grid")
    if store is not None and store.startswith("memory:"):
        raise UserError("--store memory: lies in this process alone and would be gone with it; give another address.")
    loaded = network.load(device=device, quiet=quiet)
    source = opened(images, loaded, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        made = build(
            loaded,
            layer,
            source,
            out=out,
            overwrite=overwrite,
            workers=workers,
            engine=where,
            progress=progress,
            grid=wanted,
            icon=icon,
            steps=steps,
            samples=samples,
            per_image=per_image,
            min_count=min_count,
            reducer=reducer,
            attempts=attempts,
            effects=effects,
            classes=classes or [],
            tiles=tiles,
            cards=cards,
            store=store,
            precision=precision,
            compiled=compiled,
            seed=seed,
        )
    report({"out": str(out), **made.manifest}, _found(made.manifest), out, as_json=as_json, quiet=quiet)


def _found(manifest: Mapping[str, Any]) -> list[str]:
    lines = [f"{count} of {level} x {level} cells drawn" for level, count in manifest["cells"].items()]
    if manifest["median_score"] is not None:
        lines.append(f"median score {manifest['median_score']:.2f}")
    skipped = manifest["images"]["skipped"]
    if skipped:
        lines.append(f"{len(skipped)} image(s) skipped, see manifest.json; the first: {skipped[0]['name']}")
    return lines
