"""The command `atlas patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featviz.progress import bars

from ..class_atlas import DEFAULTS
from ..files import load
from ..patch_folder import AUTO, patch_test
from ..patches import SIZES
from ..settings import Settings
from . import options
from .network import NETWORK, Network, takes_network
from .options import numbers
from .report import opened, report

_SETTINGS = Settings(layer="", **DEFAULTS)


@takes_network
def patch_command(
    source: Annotated[str, typer.Argument(help="Class that the images show: name or index.")],
    target: Annotated[str, typer.Argument(help="Class that they are to be taken for.")],
    network: Network = NETWORK,
    images: options.Images = "photos",
    patch: Annotated[
        str, typer.Option("--patch", help="An image file; or auto: search parts of photographs for the best.")
    ] = AUTO,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Where auto looks for what tells the classes apart.")
    ] = None,
    out: options.Out = Path("patch-out"),
    overwrite: options.Overwrite = False,
    sizes: Annotated[str, typer.Option("--sizes", help="Sides of the patch as shares of the image's.")] = ",".join(
        map(str, SIZES)
    ),
    views: Annotated[int, typer.Option("--views", help="Images of the source, or seeded crops of fewer.")] = 50,
    sample_of: options.From = None,
    samples: options.Samples = _SETTINGS.samples,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Paste a patch into images of one class and count how many are then taken for another.

    At several sizes, in every corner, beside patches of noise and of random photographs. OUT gets patches.json,
    patch.png, strip.png, sweep.png, index.html and, last of all, manifest.json.

    Example: atlas patch "grey whale" "great white shark" --images my-labelled-photos --patch baseball.jpg
    """
    wanted = numbers(sizes, "--sizes", float)
    loaded = network.load(device=device, quiet=quiet)
    shown = opened(images, loaded, quiet=quiet)
    with bars(quiet=quiet) as progress:
        made = patch_test(
            loaded,
            source,
            target,
            shown,
            patch=patch,
            layer=layer,
            sizes=wanted,
            views=views,
            sample_of=load(sample_of) if sample_of else None,
            out=out,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
            samples=samples,
            seed=seed,
        )
    report({"out": str(out), **made.manifest}, made.manifest["conclusion"], out, as_json=as_json, quiet=quiet)
