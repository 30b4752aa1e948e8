"""What tells a command's work from other work, and the folder that is claimed for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, overload

from featviz.network.about import stated
from featviz.network.layers import named_layers
from featviz.network.models import Model
from featviz.run.output import OutputFolder
from search.images.images import Images

_SHORT = 40


def identify(command: str, model: Model, images: Images | None, **settings: Any) -> dict[str, Any]:
    """What a command's results depend on: its settings, the weights, how images enter, and the images themselves."""
    return {
        "command": command,
        **settings,
        "weights": model.fingerprint,
        "preprocess": asdict(model.preprocess),
        "images": None if images is None else images.fingerprint,
        **_stated(model),
    }


def _stated(model: Model) -> dict[str, Any]:
    """What was stated of a network besides how images enter it, such as other names of its classes."""
    said = model.origin.stated if model.origin else {}
    return {
        name: _told(value) for name, value in said.items() if not hasattr(model.preprocess, name) and name != "name"
    }


def _told(value: Any) -> str:
    """A value in few letters that are the same in every process."""
    text = f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
    return text if len(text) <= _SHORT else hashlib.sha256(text.encode()).hexdigest()[:16]


def as_stored(identity: Any) -> Any:
    """An identity, or a part of one, as a manifest gives it back: tuples have become lists."""
    return json.loads(json.dumps(identity))


def file_digest(file: str | Path) -> str:
    """SHA-256 of a file, first 16 hexadecimal digits."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


@overload
def claim(
    out: str | Path, identity: dict[str, Any], model: Model, images: Images | None, *, overwrite: bool
) -> OutputFolder: ...


@overload
def claim(
    out: str | Path | None, identity: dict[str, Any], model: Model, images: Images | None, *, overwrite: bool
) -> OutputFolder | None: ...


def claim(
    out: str | Path | None, identity: dict[str, Any], model: Model, images: Images | None, *, overwrite: bool
) -> OutputFolder | None:
    """The folder `out`, claimed for the work that `identify` described; None for none.

    An unfinished folder has to agree in the device and in when images were changed, too.
    """
    if out is None:
        return None
    unchanged = {"device": model.device.type} | ({} if images is None else {"images last changed": images.modified})
    folder = OutputFolder.claim(out, identity, overwrite=overwrite, unchanged=unchanged)
    return replace(folder, about=lambda: {"network": stated(model, sorted(_layers(identity, model)))})


def _layers(named: Any, model: Model) -> set[str]:
    """The layers that an identity names, alone or in the address of a unit."""
    if isinstance(named, dict):
        return set[str]().union(*(_layers(each, model) for each in [*named, *named.values()]))
    if isinstance(named, (list, tuple)):
        return set[str]().union(*(_layers(each, model) for each in named))
    return {str(named).lstrip("-").rpartition(":")[0] or str(named)} & set(named_layers(model.network))
