"""The command `atlas ald`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featviz.progress import bars

from ..ald_folder import AldSettings, study_weights
from . import options
from .network import NETWORK, Network, takes_network
from .report import opened, report

_ALD = AldSettings()


@takes_network
def ald_command(
    classes: Annotated[list[str], typer.Argument(help="Names or indices of classes; `all`; `report`: all, and tests.")],
    network: Network = NETWORK,
    image: Annotated[Path | None, typer.Option("--image", help="Show each node of the trees on this image.")] = None,
    images: Annotated[
        str | None, typer.Option("--images", help="Labelled images for `report` (else photos), and for neurons.")
    ] = None,
    out: options.Out = Path("ald-out"),
    overwrite: options.Overwrite = False,
    full: Annotated[bool, typer.Option("--full", help="Every branch of the tree, not the pure chains alone.")] = False,
    neurons: Annotated[
        bool, typer.Option(help="Without an image: draw what excites each terminal neuron the most.")
    ] = True,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", help="Samples behind a p-value; 0 for none.")
    ] = _ALD.bootstrap,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Other networks to set the fits beside.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    workers: options.Workers = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Study the final layer's weights: their distribution, and the split into discriminative and confusing features.

    OUT gets ald.json (of the classes, or of all), figures, a tree per class, index.html with a conclusion in plain
    words and, last of all, manifest.json. `report` also tests on labelled images whether terminal features matter.

    Example: atlas ald tabby --image cat.jpg --out tabby; atlas ald report --images my-labelled-photos --out report
    """
    loaded = network.load(device=device, quiet=quiet)
    source = None if images is None else opened(images, loaded, quiet=quiet)
    with bars(quiet=quiet) as progress:
        manifest = study_weights(
            loaded,
            classes,
            out=out,
            image=image,
            images=source,
            settings=AldSettings(full, bootstrap, tuple(against or ()), neurons, seed=seed),
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    report(manifest, manifest["conclusion"], out, as_json=as_json, quiet=quiet)
