"""A network as a file of settings, `model.toml`: what it is built from, its weights, how images enter it."""

from __future__ import annotations

import inspect
import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown
from .label_file import read_labels
from .models import Model, Origin, Preprocess

_OWN = ("network", "weights")
_WIDTH = 100


@dataclass(frozen=True)
class Spec:
    """What a file of settings says: the `network`'s name and its `weights` as `load_model` takes them, and the rest."""

    network: str
    weights: Path | None
    how: Mapping[str, Any]


def arguments() -> list[str]:
    """What may be stated of a network: the arguments of `Model.wrap` but the module."""
    return list(inspect.signature(Model.wrap).parameters)[1:]


def check_stated(how: Mapping[str, Any], where: str) -> None:
    """A `UserError` naming the closest for what `Model.wrap` does not take."""
    for key in how:
        if key not in arguments():
            raise unknown(f"setting of {where}", key, [*_OWN, *arguments()])


def restate(model: Model, how: Mapping[str, Any]) -> Model:
    """The same network with other things stated of it: what `how` lacks stays."""
    if not how:
        return model
    stated = {name: value for name, value in stated_of(model).items() if name not in how}
    changed = Model.wrap(model.network, **stated, **how)
    unstated = [each.name for each in fields(Model) if each.name not in (*arguments(), "network", "preprocess")]
    seen = [each.name for each in fields(Preprocess) if each.name not in arguments()]
    enters = replace(changed.preprocess, **{name: getattr(model.preprocess, name) for name in seen})
    return replace(changed, preprocess=enters, **{name: getattr(model, name) for name in unstated})


def stated_of(model: Model) -> dict[str, Any]:
    """What is stated of a model, by the arguments of `Model.wrap`."""
    known = {each.name: getattr(model.preprocess, each.name) for each in fields(Preprocess)}
    known |= {each.name: getattr(model, each.name) for each in fields(Model)}
    return {name: known[name] for name in arguments() if name in known}


def read_spec(file: Path) -> Spec:
    """What a model.toml says; paths in it are relative to its folder.

    Raises `UserError` for a file that is not there or no TOML, for settings that are unknown (naming the closest), and
    where `network` is missing.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"no file {str(file)!r}.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{file} cannot be read as TOML: {error}.") from error
    check_stated({key: value for key, value in content.items() if key not in _OWN}, str(file))
    network, weights = content.pop("network", None), content.pop("weights", None)
    if not isinstance(network, str) or not network:
        raise UserError(f'{file} needs the line network = "...", such as "net.py:make" or "timm/resnet18".')
    if weights is not None and not isinstance(weights, str):
        raise UserError(f"{file}: weights is the path of a file; got {weights!r}.")
    how = {key: _plain(value) for key, value in content.items()}
    if "labels" in how:
        how["labels"] = _labels(how["labels"], file)
    if isinstance(how.get("size"), str):
        how["size"] = read_size(str(how["size"]), f"{file}: size")
    return Spec(network, None if weights is None else file.parent / weights, how)


def read_size(text: str, option: str) -> int | tuple[int, int]:
    """`224`, or `256x128`: height, then width, in pixels; a `UserError` naming the option for anything else."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and 0 < int(part) < 100_000 for part in parts):
        raise UserError(f"{option} takes pixels: 224, or HEIGHTxWIDTH such as 256x128; got {text!r}.")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def write_spec(model: Model, file: Path, *, network: str | None, weights: str | Path | None) -> Path:
    """Write a model's settings as TOML (see `Model.save_spec`); paths are written as seen from the file's folder."""
    origin = model.origin
    if network is None and origin is None:
        raise UserError(
            f"{model.name} was wrapped from a module, so that it has no name to be built from: give network=, such as "
            "'net.py:make'."
        )
    origin = origin or Origin(str(network))
    found = origin.weights if weights is None and network in (None, origin.network) else weights
    lines = [f"network = {_written(_from(network or origin.network, file))}"]
    if found is not None:
        lines.append(f"weights = {_written(_path_from(Path(found), file))}")
    for name, value in stated_of(model).items():
        if _is_plain(value):
            lines += [] if value is None or value == () else [f"{name} = {_written(value)}"]
        elif name in origin.stated or network is not None or model.origin is None:
            raise UserError(
                f"{name} is {type(value).__name__}, which TOML cannot hold: let the function that makes the network "
                f"return Model.wrap(..., {name}=...), and give it as network=."
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _labels(value: Any, file: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        return read_labels(file.parent / value)
    if isinstance(value, tuple) and all(isinstance(name, str) for name in value):
        return value
    raise UserError(f"{file}: labels is a file of names or a list of names.")


def _plain(value: Any) -> Any:
    """Lists as tuples, as Python's own calls have them."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(each) and each is not None for each in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _written(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's strings are TOML's, but for one sign
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        parts = [_written(each) for each in value]
        line = f"[{', '.join(parts)}]"
        return line if len(line) < _WIDTH else "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value)


def _path_from(path: Path, file: Path) -> str:
    """A path as seen from the folder of `file`."""
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()


def _from(network: str, file: Path) -> str:
    """A network's name, the path in it as seen from the folder of `file`."""
    place, colon, name = network.rpartition(":")
    if colon and place.endswith(".py"):
        return f"{_path_from(Path(place), file)}:{name}"
    kind, _, rest = network.partition(":")
    if kind == "hf" and Path(rest).is_dir():
        return f"hf:{_path_from(Path(rest), file)}"
    if kind == "open_clip" and "@" in rest:
        known, _, folder = rest.partition("@")
        return f"open_clip:{known}@{_path_from(Path(folder), file)}"
    return network
