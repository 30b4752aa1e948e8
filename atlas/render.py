"""The command `atlas render`: units -> superstimuli, certificates and a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featviz.canvas import canvas_maker
from featviz.errors import UserError
from featviz.models import Model
from featviz.output import OutputFolder
from featviz.progress import Progress, silent
from featviz.superstimuli import Certificate, Drawing, render
from featviz.units import Unit, parse_units
from search.images import Images, open_images
from search.statistics import unit_values

from .build import versions
from .explorer import render_page


def render_units(
    model: Model,
    units: Sequence[str | Unit],
    *,
    out: str | Path,
    images: str | Path | Images | None = None,
    drawing: Drawing | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Certificate]:
    """Draw units' superstimuli into a folder: a PNG per unit, units.json, index.html and manifest.json.

    units: `Unit` or words that `parse_units` reads. images: a data set to compare the pictures with. Work that an
    interrupted run of the same settings left is not done again; a folder with other settings is refused.
    """
    drawing = drawing or Drawing()
    canvas_maker(drawing.canvas)
    wanted = [unit for word in units for unit in ([word] if isinstance(word, Unit) else parse_units(word, model))]
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        raise UserError("name at least one unit, such as blocks.5:12 or class:tabby.")
    against = None if images is None else open_images(images)
    identity = {
        "command": "render",
        "units": [str(unit) for unit in wanted],
        "directions": {unit.vectors: _digest(unit.vectors) for unit in wanted if unit.vectors},
        "settings": asdict(drawing),
        "weights": model.fingerprint,
        "images": None if against is None else against.fingerprint,
    }
    folder = OutputFolder.claim(out, identity, overwrite=overwrite)
    if folder.finished:
        stored = json.loads((folder.path / "units.json").read_text(encoding="utf-8"))
        return [Certificate(**entry) for entry in stored]
    dataset = None
    if against is not None:
        names = [str(unit) for unit in wanted]

        def measure() -> dict[str, Any]:
            found = unit_values(model, wanted, against, workers=workers, progress=progress)
            return {str(unit): column for unit, column in found.items()}

        kept = folder.arrays("dataset", measure)
        dataset = {unit: kept[name] for unit, name in zip(wanted, names, strict=True)}
    certificates = render(model, wanted, folder, drawing, dataset=dataset, progress=progress)
    _finish(folder, model, drawing, against, certificates, identity)
    return certificates


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def _finish(
    folder: OutputFolder,
    model: Model,
    drawing: Drawing,
    against: Images | None,
    certificates: Sequence[Certificate],
    identity: dict[str, Any],
) -> None:
    gains = [certificate.gain for certificate in certificates if certificate.gain is not None]
    source = None if against is None else Path(against.source).name
    facts: dict[str, Any] = {"model": model.name, **asdict(drawing), "compared with": source or "nothing (--images)"}
    if gains:
        facts["median gain over the data set's maximum"] = f"{np.median(gains):.2f}"
        facts["dead"] = sum(bool(certificate.dead) for certificate in certificates)
    pictures = [(folder.path / certificate.file).read_bytes() for certificate in certificates]
    page = render_page(title=f"Superstimuli of {model.name}", certificates=certificates, pictures=pictures, facts=facts)
    folder.write("index.html", lambda path: path.write_text(page, encoding="utf-8"))
    folder.finish(
        {
            "command": "render",
            "model": model.name,
            "settings": asdict(drawing),
            "versions": versions(),
            "images": source,
            "units": len(certificates),
            "median_gain": float(np.median(gains)) if gains else None,
            "identity": identity,
        }
    )
