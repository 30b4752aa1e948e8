"""Any name of a network -> the `Model`: of a library, of the user's own file, of settings in a file, of a hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from .checkpoints import Saved, fill, match
from .models import Model, Origin
from .own import Address, make
from .spec import check_stated, read_spec, restate


def load(name: str, *, weights: str | Path | None = None, how: Mapping[str, Any], folder: Path | None = None) -> Model:
    """The model of that name (see `models.load_model`), on no device yet.

    `how`: what is stated of it, by the arguments of `Model.wrap`, over what the name says; `folder`: where relative
    paths in the name begin, default the current one.
    """
    check_stated(how, "load_model")
    given = {key: value for key, value in how.items() if value is not None}
    if name.endswith(".toml") and folder is None:
        return _of_spec(Path(name), weights, given)
    file = None if weights is None else Path(weights)
    model = _built(name, file, given, folder)
    origin = Origin(_placed(name, folder), None if file is None else str(file), given)
    return replace(model, origin=origin)


def _of_spec(file: Path, weights: str | Path | None, how: Mapping[str, Any]) -> Model:
    said = read_spec(file)
    if said.network.endswith(".toml"):
        raise UserError(f"{file}: network names another file of settings, {said.network}; name what builds it.")
    stated = {"name": str(file), **said.how, **how}
    try:
        return load(said.network, weights=weights or said.weights, how=stated, folder=file.parent)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _built(name: str, weights: Path | None, how: Mapping[str, Any], folder: Path | None) -> Model:
    kind, _, rest = name.partition(":")
    if kind in ("hf", "open_clip"):
        from .hub import load_hf, load_open_clip  # needs extras

        model = _filled((load_hf if kind == "hf" else load_open_clip)(rest, folder), weights)
    elif address := Address.parse(name):
        return _filled(_own(name, address, how, folder), weights)
    else:
        model = _of_zoo(name, weights)
    _check_labels(model, how)
    return restate(model, how)


def _own(name: str, address: Address, how: Mapping[str, Any], folder: Path | None) -> Model:
    placed = replace(address, file=address.file and (folder or Path()) / address.file)
    made = make(placed, folder)
    if isinstance(made, Model):
        return restate(made, how)
    model = Model.wrap(made, **{"name": name, **how})
    usual = {
        "size": f"{model.preprocess.size[0]} x {model.preprocess.size[1]} pixels",
        "mean": "ImageNet's mean",
        "std": "ImageNet's deviation",
    }
    unsaid = [key for key in usual if key not in how]
    if not unsaid:
        return model
    taken = ", ".join(usual[key] for key in unsaid)
    note = f"{', '.join(unsaid)} of {name} {'is' if len(unsaid) == 1 else 'are'} not stated: {taken} taken."
    return replace(model, notes=(*model.notes, note))


def _filled(model: Model, weights: Path | None) -> Model:
    if weights is None:
        return model
    notes = fill(model.network, Saved.read(weights, model.name), model.name)
    return replace(model, notes=(*model.notes, *notes))


def _of_zoo(name: str, weights: Path | None) -> Model:
    from . import zoo  # what it imports takes longer than all the rest

    _check_no_file(name)
    build = zoo.builder(name)
    if weights is None:
        try:
            return build(True, None)
        except (OSError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            reason = f"the weights of {name!r} could not be had: {_first_lines(error)}."
            raise UserError(f"{reason} --weights takes a local file.") from error
    saved = Saved.read(weights, name)
    model, notes = build(False, None), list[str]()
    for _ in range(3):  # another number of classes, then what that has built anew
        found, _ = match(model.network, saved)
        if zoo.drop_auxiliary(model.network, found.missing):
            continue
        if found.heads is not None:
            theirs, ours = found.heads
            notes = [f"{weights.name} is for {theirs} classes, not {ours}: so is the head now; --labels names them."]
            model = build(False, theirs)
        elif not found.unexpected and not found.shapes and zoo.headless(model.network, found.missing):
            notes = [f"{weights.name} has no head: the network gives features, no classes."]
            model = build(False, 0)
        else:
            break
    return replace(model, notes=(*notes, *fill(model.network, saved, name)))


def _check_no_file(name: str) -> None:
    """A path is no name: say what to do with it."""
    path = Path(name)
    if path.suffix in (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".onnx", ".h5"):
        raise UserError(f"--model names a network, and {name} holds weights: --model NAME --weights {name}.")
    if path.is_dir() and (path / "config.json").is_file():
        raise UserError(f"{name} is a folder as transformers saves them: --model hf:{name}.")
    if path.is_dir() and (specs := sorted(path.glob("*.toml"))):
        raise UserError(f"{name} is a folder; it holds settings: --model {specs[0]}.")


def _check_labels(model: Model, how: Mapping[str, Any]) -> None:
    """As many names as classes, where their number is known."""
    labels = how.get("labels")
    known = getattr(model.network, "num_classes", len(model.labels))
    if labels and isinstance(known, int) and known > 0 and len(labels) != known:
        raise UserError(f"the labels name {len(labels)} classes; {model.name} has {known}.")


def _placed(name: str, folder: Path | None) -> str:
    """The name with its path as seen from the current folder."""
    if folder is None:
        return name
    kind, _, given = name.partition(":")
    known, at, inside = given.partition("@")
    place, colon, made = name.rpartition(":")
    if kind == "hf" and (folder / given).exists():
        return f"hf:{folder / given}"
    if kind == "open_clip" and at:
        return f"open_clip:{known}@{folder / inside}"
    return f"{folder / place}:{made}" if colon and place.endswith(".py") else name


def _first_lines(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(line.strip() for line in lines[:2]) if lines else type(error).__name__
