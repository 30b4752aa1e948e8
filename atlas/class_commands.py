"""The commands that compare: `atlas classes`, `atlas compare`, `atlas patch`, `atlas align`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from featviz.models import DEFAULT_MODEL, load_model
from featviz.progress import bars

from .align import DEFAULTS as ALIGN_DEFAULTS
from .align import align
from .class_atlas import CONFUSING, DEFAULTS, DISCRIMINATIVE
from .class_folder import class_atlas
from .compare import GRADIENT_GRID, compare
from .options import (
    DebugOption,
    DeviceOption,
    IconOption,
    ImagesOption,
    JsonOption,
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
    WeightsOption,
    WorkersOption,
    numbers,
)  # fmt: skip
from .patch_folder import AUTO, patch_test
from .patches import SIZES
from .result import Atlas, load
from .settings import Settings

_SETTINGS = Settings(layer="", **DEFAULTS)
_ALIGNED = Settings(layer="", **ALIGN_DEFAULTS)

ByOption = Annotated[
    str,
    typer.Option("--by", help="rank: the class is the strongest; magnitude: among the strongest of it; both."),
]
CountOption = Annotated[
    int | None, typer.Option("--count", help="Activations by magnitude. Default: 2,000, at most one in 40.")
]
FromOption = Annotated[
    Path | None, typer.Option("--from", help="Use the activations of an atlas that `atlas build` made.")
]
MinCountOption = Annotated[
    int, typer.Option("--min-count", help="Cells with fewer activations stay empty; 0: by how many there are.")
]


def register(app: typer.Typer) -> None:
    """Give the commands to the application."""
    app.command("classes")(classes_command)
    app.command("compare")(compare_command)
    app.command("patch")(patch_command)
    app.command("align")(align_command)


def classes_command(
    layer: Annotated[str, typer.Argument(help="Dotted name, as `atlas layers` lists them; a late one says the most.")],
    label: Annotated[str, typer.Argument(metavar="CLASS", help="Name or index of a class.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: ImagesOption = "photos",
    out: OutOption = Path("classes-out"),
    overwrite: OverwriteOption = False,
    by: ByOption = "both",
    count: CountOption = None,
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels", help="Within these alone: discriminative, confusing (last feature map), or 3,17,40."
        ),
    ] = None,
    sample_of: FromOption = None,
    grid: Annotated[int, typer.Option("--grid", help="Cells per side.")] = _SETTINGS.grid[0],
    icon: IconOption = _SETTINGS.icon,
    steps: StepsOption = _SETTINGS.steps,
    samples: SampleOption = _SETTINGS.samples,
    per_image: PerImageOption = _SETTINGS.per_image,
    min_count: MinCountOption = _SETTINGS.min_count,
    reducer: ReducerOption = "tsne",
    relax_pools: RelaxOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw a class atlas: the activations that speak for a class, each cell tinted by how much.

    With --channels, within some channels alone, beside random ones of the same number. OUT gets index.html, atlas.png,
    cells.json, icons/, store/ (further panels in folders of their own) and, last of all, manifest.json.

    Example: atlas classes blocks.6 "grey whale" --images my-photos --out whale
    """
    with bars(quiet=quiet) as progress:
        made = class_atlas(
            load_model(model, weights=weights, device=device),
            layer,
            label,
            images,
            by=by,
            count=count,
            channels=_channels(channels),
            sample_of=_atlas(sample_of),
            out=out,
            overwrite=overwrite,
            reducer=reducer,
            workers=workers,
            progress=progress,
            grid=(grid,),
            icon=icon,
            steps=steps,
            samples=samples,
            per_image=per_image,
            min_count=min_count,
            relax_pools=relax_pools,
            seed=seed,
        )
    _report(made.manifest, out, as_json=as_json, quiet=quiet)


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
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare two classes: what speaks for one and not for the other, from A on the left to B on the right.

    OUT gets index.html, atlas.png (from A to B), telling.png and telling.json (the cells that tell them apart, with
    photographs), classes.png (the two class atlases), cells.json, icons/, store/ and, last of all, manifest.json.

    Example: atlas compare blocks.6 "grey whale" "great white shark" --images my-photos --out whale-shark
    """
    with bars(quiet=quiet) as progress:
        made = compare(
            load_model(model, weights=weights, device=device),
            layer,
            a,
            b,
            images,
            by=by,
            count=count,
            gradient=gradient,
            sample_of=_atlas(sample_of),
            out=out,
            overwrite=overwrite,
            reducer=reducer,
            workers=workers,
            progress=progress,
            **{
                "grid": (grid,), "icon": icon, "steps": steps, "samples": samples, "per_image": per_image,
                "min_count": min_count, "relax_pools": relax_pools, "seed": seed,
            },
        )  # fmt: skip
    _report(made.manifest, out, as_json=as_json, quiet=quiet)


def patch_command(
    source: Annotated[str, typer.Argument(help="Class that the images show: name or index.")],
    target: Annotated[str, typer.Argument(help="Class that they are to be taken for.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    images: ImagesOption = "photos",
    patch: Annotated[
        str, typer.Option("--patch", help="An image file; or auto: search parts of photographs for the best.")
    ] = AUTO,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Where auto looks for what tells the classes apart.")
    ] = None,
    out: OutOption = Path("patch-out"),
    overwrite: OverwriteOption = False,
    sizes: Annotated[str, typer.Option("--sizes", help="Sides of the patch as shares of the image's.")] = ",".join(
        map(str, SIZES)
    ),
    views: Annotated[int, typer.Option("--views", help="Images of the source, or seeded crops of fewer.")] = 50,
    sample_of: FromOption = None,
    samples: SampleOption = _SETTINGS.samples,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Paste a patch into images of one class and count how many are then taken for another.

    At several sizes, in every corner, beside patches of noise and of random photographs. OUT gets patches.json,
    patch.png, strip.png, sweep.png, index.html and, last of all, manifest.json.

    Example: atlas patch "grey whale" "great white shark" --images my-labelled-photos --patch baseball.jpg
    """
    wanted = numbers(sizes, "--sizes", float)
    with bars(quiet=quiet) as progress:
        made = patch_test(
            load_model(model, weights=weights, device=device),
            source,
            target,
            images,
            patch=patch,
            layer=layer,
            sizes=wanted,
            views=views,
            sample_of=_atlas(sample_of),
            out=out,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
            samples=samples,
            seed=seed,
        )
    _report(made.manifest, out, as_json=as_json, quiet=quiet)


def align_command(
    layer: Annotated[str, typer.Argument(help="Dotted name, as `atlas layers` lists them.")],
    other: Annotated[str, typer.Argument(help="A layer of the same network, or of --other-model.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    other_model: Annotated[
        str | None, typer.Option("--other-model", help="The second network; default: the same one.")
    ] = None,
    other_weights: Annotated[
        Path | None, typer.Option("--other-weights", help="Weights of the second, such as those before fine-tuning.")
    ] = None,
    images: ImagesOption = "photos",
    out: OutOption = Path("align-out"),
    overwrite: OverwriteOption = False,
    grid: Annotated[int, typer.Option("--grid", help="Cells per side of both.")] = _ALIGNED.grid[0],
    icon: IconOption = _ALIGNED.icon,
    steps: StepsOption = _ALIGNED.steps,
    samples: SampleOption = _ALIGNED.samples,
    per_image: PerImageOption = _ALIGNED.per_image,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the atlases of two layers, or of two networks, laid out together, to follow cells from one to the other.

    OUT gets index.html, atlas.png (both), flow.json (where each cell's activations lie in the other), cells.json,
    icons/, store/, the same of the second in other/ and, last of all, manifest.json.

    Example: atlas align blocks.4 blocks.5 --images my-photos --out aligned
    """
    first = load_model(model, weights=weights, device=device)
    second = None
    if other_model is not None or other_weights is not None:
        second = load_model(other_model or model, weights=other_weights, device=device)
    with bars(quiet=quiet) as progress:
        made = align(
            first,
            layer,
            other,
            images,
            other_model=second,
            out=out,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
            grid=(grid,),
            icon=icon,
            steps=steps,
            samples=samples,
            per_image=per_image,
            seed=seed,
        )
    _report(made.manifest, out, as_json=as_json, quiet=quiet)


def _channels(text: str | None) -> str | list[int] | None:
    if text in (None, DISCRIMINATIVE, CONFUSING) or not text or not text[0].isdigit():
        return text
    return [int(each) for each in numbers(text, "--channels")]


def _atlas(folder: Path | None) -> Atlas | None:
    return None if folder is None else load(folder)


def _report(manifest: Mapping[str, Any], out: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json.dumps({"out": str(out), **manifest}, indent=1))
    elif not quiet:
        console = Console(stderr=True, soft_wrap=True)
        for line in manifest["conclusion"]:
            console.print(f"- {escape(line)}", highlight=False)
        console.print(f"open {escape(str(out / 'index.html'))}")
