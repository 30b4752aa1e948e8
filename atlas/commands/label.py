"""The command `atlas label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featviz.progress import bars

from ..label import label_folder
from ..result import Atlas
from . import options
from .network import ATLAS_S_OWN, Network, takes_network
from .report import report


@takes_network
def label_command(
    folder: Annotated[Path, typer.Argument(help="A finished folder of `atlas build`.")],
    images: Annotated[
        str, typer.Option("--images", help="Photographs whose names are known: those of the atlas, or others.")
    ],
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Who says what they show: labels, classes (what the atlas's network takes them for), another network, "
            "such as timm/resnet50, or open_clip:NAME/PRETRAINED with --words.",
        ),
    ] = "labels",
    hierarchy: Annotated[
        str,
        typer.Option(
            "--hierarchy", help="What lies above the classes: wordnet, none, a CSV of name and parents, or auto."
        ),
    ] = "auto",
    words: Annotated[
        Path | None, typer.Option("--words", help="With --by open_clip:NAME/PRETRAINED: a word on each line.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option("--check", help="Other photographs to check names by. Default: three fifths of --images."),
    ] = None,
    network: Network = ATLAS_S_OWN,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    workers: options.Workers = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Name the cells and regions of an atlas that exists, with evidence; nothing is drawn again.

    A name is chosen on some of the photographs and checked on others. Where none holds, there is none.

    FOLDER gets cells.json (with names), regions.json, atlas.png, index.html and manifest.json anew.

    Example: atlas label atlas-out --images my-photos
    """
    own = network.load(device=device, quiet=quiet) if network.given else None
    with bars(quiet=quiet) as progress:
        made = label_folder(
            folder, images, by=by, hierarchy=hierarchy, words=words, check=check, model=own, seed=seed, workers=workers,
            progress=progress,
        )  # fmt: skip
    report({"out": str(folder), **made.manifest["names"]}, _lines(made), folder, as_json=as_json, quiet=quiet)


def _lines(made: Atlas) -> list[str]:
    about = made.manifest["names"]
    cells = ", ".join(f"{of['named']} of {of['cells']} ({level} × {level})" for level, of in about["cells"].items())
    regions = [region for region in made.regions if region.level == 0]
    return [
        f"cells with a name: {cells}",
        "regions from afar: " + (", ".join(region.name.text for region in regions) or "none"),
        f"names: {made.names_told}",
    ]
