"""The command `atlas explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from featviz.errors import UserError
from featviz.explain.attribution import METHODS
from featviz.progress import bars
from search.scan.pooled_head import pooled_head

from ..explain import ALL, ExplainSettings, explain
from ..explanation import conclusion
from . import options
from .network import NETWORK, Network, takes_network
from .report import opened, report

_DEFAULTS = ExplainSettings()


@takes_network
def explain_command(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    label: Annotated[
        str | None, typer.Option("--class", help="The class to explain. Default: what the network takes it for.")
    ] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="Or a unit: blocks.5:12, blocks.5:12@center.")] = None,
    method: Annotated[str, typer.Option("--method", help=f"Several with commas, or all: {', '.join(METHODS)}.")] = ALL,
    layer: Annotated[
        str, typer.Option("--layer", help="Of Grad-CAM and its kin. Default: the last with a map.")
    ] = _DEFAULTS.layer,
    size: Annotated[int, typer.Option("--size", help="Of occlusion: side in pixels; 0: a sixth.")] = _DEFAULTS.size,
    stride: Annotated[
        int, typer.Option("--stride", help="Of occlusion: pixels between squares; 0: half their side.")
    ] = _DEFAULTS.stride,
    fill: Annotated[str, typer.Option("--fill", help="Of occlusion: mean, black, white or blur.")] = _DEFAULTS.fill,
    pool_head: Annotated[
        str | None,
        typer.Option("--pool-head", help="First give the network a head on means, trained on these labelled images."),
    ] = None,
    trust: Annotated[bool, typer.Option(help="Check each map: deletion, insertion, random weights.")] = True,
    network: Network = NETWORK,
    out: options.Out = Path("explain-out"),
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show where in an image lies what excites a class or a unit, by twelve methods, and how far to trust each.

    A network whose head flattens its maps, as VGG's does, has no class activation map: --pool-head trains one that has.
    OUT gets sheet.png, a picture and a .npy map for each method, curves.png, randomisation.png, explain.json,
    index.html and, last of all, manifest.json.

    Example: atlas explain cat.jpg --class tabby --out tabby; atlas explain cat.jpg --unit blocks.5:12 --method gradcam
    """
    if label is not None and unit is not None:
        raise UserError("--class and --unit name two things to explain: give one.")
    word = f"class:{label}" if label is not None else unit
    loaded, notes = network.load(device=device, quiet=quiet), list[str]()
    labelled = None if pool_head is None else opened(pool_head, loaded, quiet=quiet)
    with bars(quiet=quiet) as progress:
        if labelled is not None:
            pooled = pooled_head(loaded, labelled, layer=layer or None, seed=seed, progress=progress)
            loaded, layer, notes = pooled.model, "", [pooled.line]
        made = explain(
            loaded,
            image,
            word,
            methods=method if method == ALL else method.split(","),
            settings=ExplainSettings(layer, size, stride, fill, trust, seed),
            notes=notes,
            out=out,
            overwrite=overwrite,
            progress=progress,
        )
    found = json.loads((out / "explain.json").read_text(encoding="utf-8"))
    report(found, conclusion(made), out, as_json=as_json, quiet=quiet)
