"""The command `atlas render`: units -> superstimuli, certificates, a contact sheet and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from featviz.draw.certificate import Certificate, from_json
from featviz.draw.drawing import EXEMPLAR, Drawing
from featviz.draw.mis import feature_extractor
from featviz.draw.superstimuli import Start, check, render
from featviz.errors import UserError
from featviz.network.bands import told_bands
from featviz.network.models import Model, Preprocess
from featviz.network.units import Unit, parse_units
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.output import OutputFolder
from search.exemplars.reference import natural_spectrum, references, strongest_parts, strongest_views
from search.images.decode import cut, in_unit
from search.images.images import Images, open_images
from search.images.pictures import open_picture
from search.scan.loading import Skipped

from .claim import claim, file_digest, identify
from .explorer import render_page
from .figure import PER_SHEET, save_figure, superstimuli_figure
from .stages import Clock, versions


def render_units(
    model: Model,
    units: Sequence[str | Unit],
    *,
    out: str | Path,
    images: str | Path | Images | None = None,
    drawing: Drawing | None = None,
    pairs: bool = False,
    similarity: str | Model | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> list[Certificate]:
    """Draw units' superstimuli into a folder: PNGs, superstimuli.png, units.json, index.html and manifest.json.

    units: `Unit` or words that `parse_units` reads. images: a data set to compare the pictures with; the canvas `maco`
    takes its spectrum from it too, else from the embedded photographs. pairs: draw every unit's opposite beside it.
    similarity: a network, or its name, whose features judge how interpretable a pair of pictures makes its unit (needs
    images). Work that an interrupted run of the same settings left is not done again; a folder with other settings is
    refused.
    """
    run = _Run.of(model, units, drawing or Drawing(), images, pairs, similarity)
    folder = claim(out, run.identity, model, run.images, overwrite=overwrite)
    if folder.finished:
        stored = json.loads((folder.path / "units.json").read_text(encoding="utf-8"))
        return [from_json(entry) for entry in stored]
    clock = Clock()
    found, spectrum = None, None
    if run.images is not None:
        found = references(
            model, run.units, run.images, similarity=run.similarity, seed=run.drawing.seed, workers=workers,
            keep=folder, engine=engine, progress=progress,
        )  # fmt: skip
        spectrum = found.spectrum
    elif run.natural is not None:
        spectrum = natural_spectrum(model, run.natural, workers=workers, progress=progress)
    start: Start = run.start
    photographs = {}
    if found is not None and run.images is not None and (run.drawing.like or run.drawing.start == EXEMPLAR):
        photographs = strongest_views(model, run.images, found.units)
        if run.drawing.start == EXEMPLAR:
            start = strongest_parts(model, photographs)
    clock.lap("images")
    certificates = render(
        model,
        run.units,
        folder,
        run.drawing,
        references=None if found is None else found.units,
        spectrum=spectrum,
        start=start,
        photographs=photographs,
        similarity=run.similarity,
        engine=engine,
        progress=progress,
    )
    clock.lap("pictures")
    _finish(folder, run, certificates, () if found is None else found.skipped, clock)
    return certificates


@dataclass(frozen=True)
class _Run:
    """What one command is to do, checked."""

    model: Model
    units: list[Unit]
    drawing: Drawing
    images: Images | None
    natural: Images | None
    similarity: Model | None
    start: Tensor | None
    pairs: bool

    @classmethod
    def of(
        cls,
        model: Model,
        units: Sequence[str | Unit],
        drawing: Drawing,
        images: str | Path | Images | None,
        pairs: bool,
        similarity: str | Model | None,
    ) -> _Run:
        wanted = [unit for word in units for unit in ([word] if isinstance(word, Unit) else parse_units(word, model))]
        if pairs:
            wanted = [each for unit in wanted for each in (unit, replace(unit, sign=-unit.sign))]
        if not wanted:
            raise UserError("name at least one unit, such as blocks.5:12 or class:tabby.")
        if similarity is not None and images is None:
            raise UserError("the interpretability score is measured on photographs: give --images too.")
        if images is None and (drawing.like or drawing.start == EXEMPLAR):
            raise UserError("--like photographs and --start exemplar take those of a data set: give --images.")
        check(model, wanted, drawing)
        judge = feature_extractor(similarity, device=str(model.device)) if isinstance(similarity, str) else similarity
        file = drawing.start not in ("", EXEMPLAR)
        start = _start(drawing.start, model.preprocess) if file else None
        against = None if images is None else open_images(images, model.preprocess)
        # Without images of the user's, the canvas maco takes its spectrum from the embedded photographs.
        natural = against or (_photographs(model) if drawing.canvas == "maco" else None)
        return cls(model, list(dict.fromkeys(wanted)), drawing, against, natural, judge, start, pairs)

    @property
    def columns(self) -> int:
        """Pictures side by side: a unit's facets and its opposite's share a row where they fit."""
        together = self.drawing.diversity * (2 if self.pairs else 1)
        return together if 4 <= together <= 10 else max(1, 8 // together) * together

    @property
    def identity(self) -> dict[str, Any]:
        vectors = sorted({unit.vectors for unit in self.units if unit.vectors})
        start = file_digest(self.drawing.start) if self.start is not None else self.drawing.start
        return identify(
            "render", self.model, self.images,
            units=[str(unit) for unit in self.units],
            directions={file: file_digest(file) for file in vectors},
            settings={**asdict(self.drawing), "start": start},
            similarity=None if self.similarity is None else self.similarity.fingerprint,
        )  # fmt: skip


def _photographs(model: Model) -> Images:
    """The embedded photographs, whose spectrum the canvas `maco` takes where no images are given."""
    if model.preprocess.channels not in (1, 3):
        raise UserError(
            f"the canvas maco takes its spectrum from images, and no images of {told_bands(model.preprocess)} are "
            "embedded: give --images."
        )
    return open_images("photos")


def _start(file: str, how: Preprocess) -> Tensor:
    """The largest central part of an image file of the network's proportions, (channels, h, w) in [0, 1]."""
    try:
        image = open_picture(Path(file), how)
    except OSError as error:
        raise UserError(f"--start takes an image file; {file!r} cannot be read: {error}.") from error
    side = min(image.size[0] / how.size[1], image.size[1] / how.size[0])
    width, height = how.size[1] * side, how.size[0] * side
    left, top = (image.size[0] - width) / 2, (image.size[1] - height) / 2
    return in_unit(cut(image, (left, top, left + width, top + height), how))


def _finish(
    folder: OutputFolder, run: _Run, certificates: Sequence[Certificate], skipped: Sequence[Skipped], clock: Clock
) -> None:
    gains = [entry.gain for entry in certificates if entry.gain is not None]
    source = None if run.images is None else Path(run.images.source).name
    settings = {**asdict(run.drawing), "start": Path(run.drawing.start).name}
    chosen = {
        "size": settings["size"] or "the input's, of channels at most 224",
        "lr": settings["lr"] or "the canvas's own",
        "start": settings["start"] or "noise",
    }
    facts: dict[str, Any] = {
        "model": run.model.name,
        **settings,
        **chosen,
        "compared with": source or "nothing (--images)",
    }
    if run.similarity is not None:
        facts["similarity"] = run.similarity.name
    if gains:
        facts["median gain over the data set's maximum"] = f"{np.median(gains):.2f}"
        facts["dead"] = sum(bool(entry.dead) for entry in certificates)
    title = f"Superstimuli of {run.model.name}"
    for number, start in enumerate(range(0, len(certificates), PER_SHEET), 1):
        part = certificates[start : start + PER_SHEET]
        figure = superstimuli_figure(folder.path, part, title=title, columns=run.columns)
        name = "superstimuli.png" if number == 1 else f"superstimuli-{number}.png"
        folder.write(name, partial(save_figure, figure))
    page = render_page(title=title, certificates=certificates, folder=folder.path, facts=facts)
    folder.write_text("index.html", page)
    folder.finish(
        {
            "command": "render",
            "model": run.model.name,
            "settings": settings,
            "versions": versions(),
            "images": None if source is None else {"source": source, "skipped": [asdict(entry) for entry in skipped]},
            "similarity": None if run.similarity is None else run.similarity.name,
            "units": len(run.units),
            "pictures": len(certificates),
            "median_gain": float(np.median(gains)) if gains else None,
            "seconds": clock.laps,
        }
    )
