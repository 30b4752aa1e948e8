"""The command `atlas check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from featviz.progress import bars
from search.images.check import check

from . import options
from .network import NETWORK, Network, takes_network


@takes_network
def check_command(
    network: Network = NETWORK,
    images: Annotated[
        str, typer.Option("--images", help="Photographs whose classes are known: a folder with labels, or a data set.")
    ] = "photos",
    count: Annotated[int, typer.Option("--count", min=1, help="How many of them are looked at, at random.")] = 100,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Ask labelled photographs whether a network is set up rightly: its mean and deviation, its classes' names.

    A wrong mean, or names in another order, give pictures and atlases that look plausible.

    Example: atlas check --model net.py:make --labels names.txt --images my-labelled-photos
    """
    model = network.load(device=device, quiet=quiet)
    with bars(quiet=quiet or as_json) as progress:
        found = check(model, images, count=count, seed=seed, progress=progress)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    Console(soft_wrap=True, highlight=False).print(
        escape(str(found)), *([] if found.notes else ["nothing looks wrong"]), sep="\n"
    )
