"""The command `atlas exemplars`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from featviz.errors import UserError

from ..exemplars import find_exemplars
from . import options
from .network import NETWORK, Network, takes_network
from .options import at_work
from .report import opened, report


@takes_network
def exemplars_command(
    layers: Annotated[list[str], typer.Argument(help="Dotted names or globs; output is the classes' logits.")],
    network: Network = NETWORK,
    images: options.Images = "photos",
    out: options.Out = Path("exemplars-out"),
    overwrite: options.Overwrite = False,
    k: Annotated[int, typer.Option("-k", help="Strongest and weakest images of each unit.")] = 9,
    reduce: Annotated[str, typer.Option("--reduce", help="What a channel's map counts for: max or mean.")] = "max",
    diverse: Annotated[
        str, typer.Option("--diverse", help="Pass over near-duplicates (images), or all but one of a class (classes).")
    ] = "no",
    per_class: Annotated[
        int, typer.Option("--per-class", help="Also each class's strongest so many images: classes.json.")
    ] = 0,
    units: Annotated[
        list[str] | None, typer.Option("--units", help="Units with a sheet of their own, such as blocks.5:0-9.")
    ] = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Keep every unit's value on every image: matrix/, for search.open_matrix.")
    ] = False,
    part: Annotated[
        str, typer.Option("--part", help="2/3: the second third of the images alone; search.load_exemplars joins them.")
    ] = "1/1",
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Also exemplars.parquet and statistics.parquet (extra: parquet).")
    ] = False,
    device: options.Device = "auto",
    engine: options.Engine = "local",
    workers: options.Workers = None,
    threads: options.Threads = 0,
    gpus: options.Gpus = 0.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Find the images that excite every unit of layers the most, and where in them, in one pass.

    LAYERS may be directions too: blocks.5:pca.npy, a file of vectors (n, channels). OUT gets exemplars.json,
    weakest.json, quantiles.json (ordinary images), statistics.json, a sheet per layer and per unit asked for,
    index.html and, last of all, manifest.json.

    Example: atlas exemplars blocks.3 blocks.5 --images my-photos --units blocks.5:0-9 --out exemplars
    """
    loaded = network.load(device=device, quiet=quiet)
    source = opened(images, loaded, quiet=quiet)
    with at_work(engine, workers=workers, threads=threads, gpus=gpus, quiet=quiet) as (progress, where):
        manifest = find_exemplars(
            loaded,
            layers,
            out=out,
            images=source,
            k=k,
            reduce=reduce,  # type: ignore[arg-type]  # checked there
            diverse=diverse,  # type: ignore[arg-type]  # likewise
            per_class=per_class,
            matrix=matrix,
            parquet=parquet,
            part=_part(part),
            units=units or [],
            overwrite=overwrite,
            workers=workers,
            engine=where,
            progress=progress,
        )
    more = [note for note in manifest["images"]["notes"] if note not in source.notes]
    report(manifest, more, out, as_json=as_json, quiet=quiet)


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise UserError(f"--part takes a part such as 2/3, the second of three; got {text!r}.")
    return (int(match[1]), int(match[2]))
