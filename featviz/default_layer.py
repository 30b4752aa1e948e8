"""The layer that is looked at where nobody names one: late enough to hold objects, early enough to have places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


def default_layer(network: nn.Module, feature_info: Sequence[Mapping[str, Any]]) -> str | None:
    """The last stage but one, by what timm says of a network's stages or by its longest row of parts; None without any.

    feature_info: timm's, whose names are not always those of modules that are there and run.
    """
    modules = dict(network.named_modules())
    stages = [str(entry["module"]) for entry in feature_info if entry.get("module")]
    if len(stages) > 1 and stages[-2] in modules:
        return _that_runs(stages[-2], modules[stages[-2]])
    rows = {
        name: list(module.named_children())
        for name, module in modules.items()
        if name.count(".") <= 1 and isinstance(module, (nn.ModuleList, nn.Sequential))
    }
    longest = max(rows, key=lambda name: len(rows[name]), default="")
    if not longest or len(rows[longest]) < 2:
        return None
    inner, module = rows[longest][-2]
    return _that_runs(f"{longest}.{inner}", module)


def _that_runs(name: str, module: nn.Module) -> str:
    """The module itself, or the last of a list of them, which is never called as a whole."""
    while isinstance(module, nn.ModuleList) and len(module):
        name, module = f"{name}.{len(module) - 1}", module[len(module) - 1]
    return name
