"""The command `atlas unit`: everything known of one unit, on one card."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from featviz.draw.drawing import Drawing
from featviz.draw.mis import feature_extractor
from featviz.draw.superstimuli import check, render
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.units import Unit, parse_units
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from search.card.card import UnitCard, as_json, unit_card
from search.card.card_figure import draw
from search.exemplars.exemplars import assemble
from search.exemplars.reference import references
from search.exemplars.report import entries_json
from search.images.images import Images, open_images
from search.scan.readout import Readout, readouts
from search.scan.record import Record

from .claim import claim, identify
from .explorer import sheets_page
from .figure import save_figure
from .stages import Clock, versions


def draw_card(
    model: Model,
    word: str | Unit,
    *,
    out: str | Path,
    images: str | Path | Images,
    drawing: Drawing | None = None,
    k: int = 9,
    similarity: str | Model | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> UnitCard | None:
    """Find out what one unit responds to: card.png, card.json, exemplars.json, superstimuli, index.html, manifest.json.

    word: one unit, as `parse_units` reads it. similarity: a network, or its name, whose features judge how
    interpretable the pictures make the unit. Returns the card, None where a finished folder held it already. Work that
    a stopped run of the same settings left is not done again.
    """
    drawing = drawing or Drawing()
    unit = _one(word, model)
    both = [unit, replace(unit, sign=-unit.sign)]
    check(model, both, drawing)
    if k < 1:
        raise UserError(f"--exemplars starts at 1; got {k}.")
    against = open_images(images, model.preprocess)
    judge = feature_extractor(similarity, device=str(model.device)) if isinstance(similarity, str) else similarity
    readout = _readout(model, unit)
    identity = identify(
        "unit", model, against,
        unit=str(unit),
        directions=readout.fingerprint,
        similarity=None if judge is None else judge.fingerprint,
        k=k,
        settings=asdict(drawing),
    )  # fmt: skip
    folder = claim(out, identity, model, against, overwrite=overwrite)
    if folder.finished:
        return None
    clock = Clock()
    record = Record(readout, min(k, len(against)), place=unit.position, sign=unit.sign)
    found = references(
        model, both, against, also={"exemplars": record}, similarity=judge, seed=drawing.seed, workers=workers,
        keep=folder, engine=engine, progress=progress,
    )  # fmt: skip
    clock.lap("images")
    certificates = render(
        model, both, folder, drawing, references=found.units, spectrum=found.spectrum, similarity=judge,
        engine=engine, progress=progress,
    )  # fmt: skip
    clock.lap("pictures")
    exemplars = assemble(model, against, {readout.name: record}, found.skipped, k=k, reduce="max")
    card = unit_card(model, unit, certificates, exemplars, found.units[unit], seed=drawing.seed)
    folder.write_json("card.json", as_json(card))
    strongest = entries_json(exemplars, exemplars.of(readout.name, unit.channel))
    folder.write_json("exemplars.json", {readout.name: {str(unit.channel): strongest}})
    sheet = folder.write("card.png", partial(save_figure, draw(card, folder.path)))
    page = sheets_page(title=card.name, sheets={"card.png": sheet.read_bytes()}, facts=_facts(card))
    folder.write_text("index.html", page)
    clock.lap("card")
    folder.finish(
        {
            "command": "unit",
            "model": model.name,
            "unit": str(unit),
            "settings": asdict(drawing),
            "versions": versions(),
            "images": {
                "source": Path(against.source).name,
                "used": len(card.values),
                "skipped": [asdict(entry) for entry in found.skipped],
            },
            "seconds": clock.laps,
        }
    )
    return card


def _one(word: str | Unit, model: Model) -> Unit:
    units = [word] if isinstance(word, Unit) else parse_units(word, model)
    if len(units) != 1:
        raise UserError(f"a card shows one unit; {word!r} names {len(units)}. `atlas render` draws many.")
    return units[0]


def _readout(model: Model, unit: Unit) -> Readout:
    return readouts(model, [f"{unit.layer}:{unit.vectors}" if unit.vectors else unit.layer])[0]


def _facts(card: UnitCard) -> dict[str, Any]:
    first = card.certificates[0]
    return {"model": card.exemplars.model.name, "images": len(card.values), **asdict(first)}
