"""The commands that say what there is: `atlas models`, `atlas layers`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from featviz.errors import UserError
from featviz.network.copies import cpu_copy
from featviz.network.layers import as_network, layer_names, named_layers, read
from featviz.network.models import DEFAULT_MODEL, Model, model_names

from . import options
from .network import NETWORK, Network, takes_network


def models_command(
    pattern: Annotated[str, typer.Argument(help="Show names with this in them; or what net.py:make is.")] = "",
    as_json: options.Json = False,
) -> None:
    """List the networks that --model takes by name; or say what is known of one of your own.

    Example: atlas models resnet50
    """
    if Path(pattern).suffix in (".toml", ".py") or ":" in pattern:
        about = _described(pattern)
        print(json.dumps(about) if as_json else "\n".join(f"{key}: {value}" for key, value in about.items()))
        return
    names = [name for name in model_names() if pattern.lower() in name.lower()]
    print(json.dumps(names) if as_json else "\n".join(names))


@takes_network
def layers_command(
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="What --model takes, here without the option's name.")
    ] = None,
    network: Network = NETWORK,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List a network's layers: name, kind, channels and map size for its own input size.

    Example: atlas layers efficientnet_lite0
    """
    if name is not None and network.name not in (DEFAULT_MODEL, name):
        raise UserError(f"MODEL and --model name two networks, {name} and {network.name}: give one.")
    model = replace(network, name=name or network.name).load(device="cpu", quiet=quiet)
    rows = _layer_table(model)
    if as_json:
        print(json.dumps(rows))
        return
    _show(str(model), rows)


def _show(about: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print what a network is and its layers; why some hold no map stands below, once for all that share the reason."""
    table = Table(Column("layer", overflow="fold"), "kind", "channels", "map", Column("read as", overflow="fold"))
    reasons: dict[str, int] = {}
    for row in rows:
        place = f"{row['rows']} x {row['columns']}" if row["channels"] else ""
        told = row.get("read as", "")
        if "why not" in row:
            reason = row["why not"].removeprefix(f"layer {row['layer']!r} ")
            told = f"not read ({reasons.setdefault(reason, len(reasons) + 1)})"
        table.add_row(escape(row["layer"]), row["kind"], str(row["channels"] or ""), place, escape(told))
    console = Console()
    if not console.is_terminal:  # a name that is cut in two is no use to the program that reads it
        console = Console(width=max(console.width, Console(width=10_000).measure(table).maximum))
    console.print(escape(about), table)
    for reason, number in reasons.items():
        console.print(escape(f"({number}) {reason}"))


def _described(name: str) -> dict[str, Any]:
    """What a network is, for a reader: its size, its classes, how images enter it."""
    model = Network(name).load(device="cpu")
    how = model.preprocess
    return {
        "name": model.name,
        "network": type(model.network).__name__,
        "parameters": sum(each.numel() for each in model.network.parameters()),
        "size": "{} x {}".format(*how.size),
        "mean": list(how.mean),
        "std": list(how.std),
        "interpolation": how.interpolation,
        "crop": how.crop,
        "classes": len(model.labels) or None,
        "default layer": model.default_layer,
        "weights": model.fingerprint,
    }


def _layer_table(model: Model) -> list[dict[str, Any]]:
    height, width = model.preprocess.size
    names = layer_names(model.network)
    network = cpu_copy(model.network)
    with torch.inference_mode(), read(network, names) as outputs:
        network(as_network(torch.zeros(1, model.preprocess.channels, height, width), network))
    rows = []
    for layer, module in named_layers(network).items():
        row: dict[str, Any] = {"layer": layer, "kind": type(module).__name__, "channels": None}
        if layer in outputs:
            try:
                layout = model.layouts.of(network, layer, beside=list(outputs))
                _, row["channels"], row["rows"], row["columns"] = layout.maps(outputs[layer]).shape
                row["read as"], row["by"] = str(layout), layout.found
            except UserError as error:
                row["why not"] = str(error)
        rows.append(row)
    return rows
