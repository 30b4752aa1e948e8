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
        if not name or (name.count(".") <= 1 and isinstance(module, (nn.ModuleList, nn.Sequential)))
    }
    # Blocks are made of parts; a row of single layers may be a classifier, and is looked at where there are no blocks.
    blocks = {name: [each for each in row if _is_block(each[1])] for name, row in rows.items()}
    # Two modules beside each other are features and a head, not two stages.
    for choice, least in ((blocks, 3), ({name: row for name, row in rows.items() if name}, 2)):
        longest = max(choice, key=lambda name: len(choice[name]), default="")
        if len(choice.get(longest, ())) >= least:
            inner, module = choice[longest][-2]
            return _that_runs(f"{longest}.{inner}".lstrip("."), module)
    return None


def _is_block(module: nn.Module) -> bool:
    """Whether a module is made of others, and is not the head that a network has for training alone."""
    return any(True for _ in module.children()) and "Aux" not in type(module).__name__


def _that_runs(name: str, module: nn.Module) -> str:
    """The module itself, or the last of a list of them, which is never called as a whole."""
    while isinstance(module, nn.ModuleList) and len(module):
        name, module = f"{name}.{len(module) - 1}", module[len(module) - 1]
    return name
