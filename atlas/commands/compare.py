"""The command `atlas compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featviz.models import DEFAULT_MODEL, load_model

from ..class_atlas import DEFAULTS
from ..compare import GRADIENT_GRID, compare
from ..result import load
from ..settings import Settings
from .options import (
    ByOption,
    CountOption,
    DebugOption,
    DeviceOption,
    EngineOption,
    FromOption,
    GpusOption,
    IconOption,
    ImagesOption,
    JsonOption,
    MinCountOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    PerImageOption,
    QuietOption,
    ReducerOption,
    RelaxOption,
    SampleOption,
    SeedOption,
    StepsOption,
    ThreadsOption,
    WeightsOption,
    WorkersOption,
    at_work,
)
from .report import opened, report

_SETTINGS = Settings(layer="", **DEFAULTS)


def compare_command(
    layer: Annotated[str, typer.Argument(help="Dotted name, as `atlas layers` lists them; a late one says the most.")],
    a: Annotated[str, typer.Argument(help="Name or index of a class, to the left.")],
    b: Annotated[str, typer.Argument(help="Another one, to the right.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: ImagesOption = "photos",
    out: OutOption = Path("compare-out"),
    overwrite: OverwriteOption = False,
    by: ByOption = "both",
    count: CountOption = None,
    sample_of: FromOption = None,
    gradient: Annotated[
        int, typer.Option("--gradient", help="Cells per side of the layout from A to B.")
    ] = GRADIENT_GRID,
    grid: Annotated[int, typer.Option("--grid", help="Cells per side of the two class atlases.")] = _SETTINGS.grid[0],
    icon: IconOption = _SETTINGS.icon,
    steps: StepsOption = _SETTINGS.steps,
    samples: SampleOption = _SETTINGS.samples,
    per_image: PerImageOption = _SETTINGS.per_image,
    min_count: MinCountOption = _SETTINGS.min_count,
    reducer: ReducerOption = "tsne",
    relax_pools: RelaxOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    threads: ThreadsOption = 0,
    gpus: GpusOption = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare two classes: what speaks for one and not for the other, from A on the left to B on the right.

    OUT gets index.html, atlas.png (from A to B), telling.png and telling.json (the cells that tell them apart, with
    photographs), classes.png (the two class atlases), cells.json, icons/, store/ and, last of all, manifest.json.

    Example: atlas compare blocks.6 "grey whale" "great white shark" --images my-photos --out whale-shark
    """
    loaded = load_model(model, weights=weights, device=device)
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
                "min_count": min_count, "relax_pools": relax_pools, "seed": seed,
            },
        )  # fmt: skip
    report({"out": str(out), **made.manifest}, made.manifest["conclusion"], out, as_json=as_json, quiet=quiet)
