"""The command `atlas dissect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..dissect import conclusion, dissect
from . import options
from .network import NETWORK, Network, takes_network
from .report import report


@takes_network
def dissect_command(
    unit: Annotated[str, typer.Argument(help="A channel of a convolution: conv_stem:3.")],
    image: Annotated[Path, typer.Argument(help="An image file.")],
    rows: Annotated[int, typer.Option("--rows", help="Input channels that the figure shows.")] = 12,
    network: Network = NETWORK,
    out: options.Out = Path("dissect-out"),
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Take one channel of a convolution apart on one image: what each input channel adds to it.

    OUT gets dissection.png, dissection.json (every channel's share), contributions.npy, index.html and, last of all,
    manifest.json.

    Example: atlas dissect blocks.1.0.conv_pw:7 cat.jpg --out channel-7
    """
    found = dissect(network.load(device=device, quiet=quiet), unit, image, rows=rows, out=out, overwrite=overwrite)
    about = json.loads((out / "dissection.json").read_text(encoding="utf-8"))
    report(about, conclusion(found), out, as_json=as_json, quiet=quiet)
