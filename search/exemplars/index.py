"""What a pass found, on disk: opened again, joined with what other machines found, refused when stale."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featviz.errors import UserError
from featviz.network.models import Model
from featviz.run.keep import Arrays
from featviz.run.output import OutputFolder

from ..images.images import Images, open_images
from ..scan.loading import Skipped
from ..scan.pack import pack, unpack
from ..scan.readout import Readout
from ..scan.record import Record
from .exemplars import Exemplars, assemble

INDEX = "index.npz"


def write_index(found: Exemplars, folder: OutputFolder) -> None:
    """Write index.npz: the records of a pass, and of which network, images and settings they are."""
    arrays = pack(found.records, found.skipped)
    for name, record in found.records.items():
        if record.readout.directions is not None:
            arrays[f"{name}|directions"] = record.readout.directions.numpy()
    about = {
        "weights": found.model.fingerprint,
        "preprocess": asdict(found.model.preprocess),
        "images": found.images.fingerprint,
        "settings": json.loads(json.dumps(_settings(found))),
        "readouts": [_described(record.readout) for record in found.records.values()],
        "numbers": [[part.start, part.stop] for part in found.numbers],
    }
    arrays["about"] = np.array(json.dumps(about))
    folder.write(INDEX, lambda path: _save(path, arrays))


def load_exemplars(
    folders: str | Path | Sequence[str | Path], model: Model, images: str | Path | Images, *, partial: bool = False
) -> Exemplars:
    """Exemplars as folders hold them, which `Exemplars.save` or `atlas exemplars` wrote; several are joined.

    Several: what passes over different parts of the same images found. partial: parts that leave images out will do.
    Raises `UserError` for a folder without an index, for one of another network, other preprocessing or other images,
    for parts that overlap or differ in their settings, and unless `partial` for images that no part looked at.
    """
    against = open_images(images, model.preprocess)
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, (str, Path)) else folders)]
    if not paths:
        raise UserError("name at least one folder with an index.")
    parts = [_read(path, model, against) for path in paths]
    records, about = parts[0][1], parts[0][0]
    numbers, skipped = _numbers(about), list(parts[0][2])
    for path, (other, more, also) in zip(paths[1:], parts[1:], strict=True):
        if (other["settings"], other["readouts"]) != (about["settings"], about["readouts"]):
            raise UserError(f"{str(path)!r} was made with other settings or layers than {str(paths[0])!r}.")
        if any(a.start < b.stop and b.start < a.stop for a in numbers for b in _numbers(other)):
            raise UserError(f"{str(path)!r} looked at images that another of the folders looked at, too.")
        for name, record in records.items():
            record.merge(more[name])
        numbers += _numbers(other)
        skipped += also
    numbers.sort(key=lambda part: part.start)
    left_out = _between(numbers, len(against))
    if left_out and not partial:
        raise UserError(
            f"no folder given looked at images {left_out[0].start} to {left_out[0].stop - 1} of {len(against)}: a part "
            "is missing. partial=True takes what there is."
        )
    settings = about["settings"]
    return assemble(
        model, against, records, skipped, k=settings["k"], reduce=settings["reduce"], diverse=settings["diverse"],
        numbers=numbers,
    )  # fmt: skip


def _settings(found: Exemplars) -> dict[str, Any]:
    first = next(iter(found.records.values()))
    return {
        "k": found.k,
        "ranks": first.top.k,
        "reduce": found.reduce,
        "diverse": found.diverse,
        "per_class": first.classes.k if first.classes else 0,
        "place": first.place,
        "sign": first.sign,
    }


def _described(readout: Readout) -> list[str | None]:
    """Layer, title (None for channels), and the directions' fingerprint."""
    return [readout.layer, None if readout.directions is None else readout.title, readout.fingerprint]


def _read(folder: Path, model: Model, images: Images) -> tuple[dict[str, Any], dict[str, Record], tuple[Skipped, ...]]:
    file = folder / INDEX
    if not file.is_file():
        raise UserError(f"{str(folder)!r} holds no {INDEX}; `atlas exemplars` and `Exemplars.save` write one.")
    with np.load(file, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    about: dict[str, Any] = json.loads(str(arrays["about"]))
    _refuse_stale(folder, about, model, images)
    settings = about["settings"]
    records = {}
    place = tuple(settings["place"]) if isinstance(settings["place"], list) else settings["place"]
    for layer, title, _ in about["readouts"]:
        readout = Readout(layer)
        if title is not None:
            readout = Readout(layer, torch.from_numpy(arrays[f"{layer}:{title}|directions"]), title)
        records[readout.name] = Record(
            readout, settings["ranks"], settings["reduce"], place=place, sign=settings["sign"],
            per_class=settings["per_class"],
        )  # fmt: skip
    return about, records, unpack(arrays, records)


def _refuse_stale(folder: Path, about: Mapping[str, Any], model: Model, images: Images) -> None:
    now = {
        "weights": model.fingerprint,
        "preprocess": json.loads(json.dumps(asdict(model.preprocess))),
        "images": images.fingerprint,
    }
    stale = [name for name, value in now.items() if about[name] != value]
    if stale:
        raise UserError(
            f"the index in {str(folder)!r} was made with other {', '.join(stale)}; make it anew for this network and "
            "these images."
        )


def _numbers(about: Mapping[str, Any]) -> list[range]:
    return [range(*part) for part in about["numbers"]]


def _between(numbers: Sequence[range], count: int) -> list[range]:
    """What ranges in order leave out of so many numbers."""
    ends = [0, *(part.stop for part in numbers)]
    starts = [*(part.start for part in numbers), count]
    return [range(end, start) for end, start in zip(ends, starts, strict=True) if start > end]


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
