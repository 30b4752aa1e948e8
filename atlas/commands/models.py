"""The commands that say what there is: `atlas models`, `atlas layers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from featviz.copies import cpu_copy
from featviz.errors import UserError
from featviz.layers import as_network, layer_names, named_layers, read
from featviz.models import DEFAULT_MODEL, load_model, model_names

from . import options


def models_command(
    pattern: Annotated[str, typer.Argument(help="Show names that contain this.")] = "", as_json: options.Json = False
) -> None:
    """List the networks that --model takes.

    Example: atlas models resnet50
    """
    names = [name for name in model_names() if pattern.lower() in name.lower()]
    print(json.dumps(names) if as_json else "\n".join(names))


def layers_command(
    model: Annotated[str, typer.Argument(help="A name that `atlas models` lists.")] = DEFAULT_MODEL,
    weights: options.Weights = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List a network's layers: name, kind, channels and map size for its own input size.

    Example: atlas layers efficientnet_lite0
    """
    rows = _layer_table(model, weights)
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("layer", "kind", "channels", "map")
    for row in rows:
        place = f"{row['rows']} x {row['columns']}" if row["channels"] else ""
        table.add_row(row["layer"], row["kind"], str(row["channels"] or ""), place)
    Console().print(table)


def _layer_table(name: str, weights: Path | None) -> list[dict[str, Any]]:
    model = load_model(name, weights=weights, device="cpu")
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
