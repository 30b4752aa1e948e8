"""An explained image: its maps with their checks, what they say in words, and the folder they are written to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz.explain.attribution import METHODS, Attribution, enlarged
from featviz.explain.band_evidence import BandEvidence, told_evidence
from featviz.explain.localisation import Box
from featviz.explain.trust import Curve, Randomisation
from featviz.network.bands import visible
from featviz.network.models import Model
from featviz.network.units import Unit
from featviz.run.output import OutputFolder

from .explain_figure import bands_figure, curves_figure, likeness_figure, overlay, sheet_figure
from .explorer import Report, make_book, write_viewer
from .figure import save_figure
from .stages import versions


@dataclass(frozen=True, eq=False)
class Explained:
    """One method on the image: its map, the box of what it marks (of maps of places), and its checks, where wanted."""

    map: Attribution
    box: Box | None
    deletion: Curve | None
    insertion: Curve | None
    randomisation: Randomisation | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """An image (channels, h, w) as the network sees it, and what each method says of it, by name.

    `left_out`: method -> why the network or the unit does not allow it; `value`: the unit's activation; `probability`:
    for a class; `notes`: what else is to be said; `bands`: of more bands than photographs have, which the evidence lies
    in; `show`: those that a reader sees.
    """

    view: Tensor
    unit: Unit
    name: str
    value: float
    probability: float | None
    found: dict[str, Explained]
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()
    bands: tuple[BandEvidence, ...] = ()
    show: tuple[int, ...] = ()

    @property
    def seen(self) -> Tensor:
        """(1 or 3, h, w) what a reader sees of the view."""
        return visible(self.view, self.show)


def conclusion(made: Explanation) -> list[str]:
    """What was found, in words."""
    certain = "" if made.probability is None else f", with a probability of {made.probability:.1%}"
    lines = [f"{made.name}: activation {made.value:.3g}{certain}.", *made.notes]
    if made.bands:
        lines.append(told_evidence(made.bands))
    titles = {name: METHODS[name].title for name in made.found}
    flat = [titles[name] for name, each in made.found.items() if each.deletion is not None and each.deletion.flat]
    held = {name: each for name, each in made.found.items() if each.deletion is not None and not each.deletion.flat}
    if held:
        good = [titles[name] for name, each in held.items() if each.deletion is not None and each.deletion.as_low == 0]
        lines.append(
            f"Taking away what the map marks hurts more than by each of five shuffles of that map, for {len(good)} of "
            f"{len(held)} maps: {', '.join(good) or 'none'}."
        )
        blind = [
            titles[name] for name, each in held.items() if each.randomisation and each.randomisation.ignores_weights
        ]
        slow = [
            titles[name] for name, each in held.items() if each.randomisation and each.randomisation.ignores_upper_half
        ]
        if blind:
            lines.append(
                f"Much the same map comes from a network of random weights by {', '.join(blind)}: it shows the image "
                "more than the network."
            )
        if upper := [title for title in slow if title not in blind]:
            lines.append(
                f"With the upper half of the layers random, the map by {', '.join(upper)} is still much the same: it "
                "says little of what those have learned."
            )
        if not blind and not upper:
            lines.append("No map stays as it is once the upper half of the network's layers, or all of it, is random.")
    if flat:
        lines.append(f"The map is empty, and says nothing, by {', '.join(flat)}.")
    lines += [f"{METHODS[name].title} is left out: {why}" for name, why in made.left_out.items()]
    return lines


def as_row(name: str, each: Explained) -> dict[str, Any]:
    """A method in explain.json; the box in pixels of the view, which is the network's input."""
    row: dict[str, Any] = {"method": name, "note": each.map.note, "box": each.box}
    for what, curve in (("deletion", each.deletion), ("insertion", each.insertion)):
        if curve is not None:
            row[what] = {
                "area": round(curve.area, 5), "by_chance": round(curve.by_chance, 5), "as_low": curve.as_low,
                "flat": curve.flat, "values": [round(value, 6) for value in curve.values.tolist()],
            }  # fmt: skip
    if each.randomisation is not None:
        likeness = [round(value, 4) for value in each.randomisation.likeness]
        row["randomisation"] = {"stages": list(each.randomisation.stages), "likeness": likeness}
    return row


def from_row(unit: Unit, raw: Tensor, row: dict[str, Any], view: Tensor) -> Explained:
    """What `as_row` and the raw map say."""

    def curve(told: dict[str, Any] | None) -> Curve | None:
        if told is None:
            return None
        values = torch.tensor(told["values"])
        shares = torch.linspace(0, 1, len(values))
        return Curve(shares, values, told["area"], told["by_chance"], told["as_low"], told["flat"])

    known = METHODS[row["method"]]
    made = Attribution(
        row["method"], unit, enlarged(raw, (view.shape[1], view.shape[2])), raw, known.signed, row["note"]
    )
    told = row.get("randomisation")
    random = None if told is None else Randomisation(tuple(told["stages"]), tuple(told["likeness"]))
    box = None if row["box"] is None else (row["box"][0], row["box"][1], row["box"][2], row["box"][3])
    return Explained(made, box, curve(row.get("deletion")), curve(row.get("insertion")), random)


def _table_row(name: str, each: Explained) -> dict[str, str]:
    """A method in the page's table."""
    row = {"method": METHODS[name].title, "note": each.map.note}
    for what, curve in (("deletion", each.deletion), ("insertion", each.insertion)):
        if curve is not None:
            row[what] = f"{curve.area:.3f} (shuffled {curve.by_chance:.3f})"
    if each.randomisation is not None:
        row["likeness as weights become random"] = ", ".join(f"{value:.2f}" for value in each.randomisation.likeness)
    row["box"] = "" if each.box is None else ", ".join(map(str, each.box))
    return row


def write(made: Explanation, folder: OutputFolder, model: Model, about: dict[str, Any]) -> None:
    for name, each in made.found.items():
        folder.write(f"{name}.npy", partial(save_array, each.map.raw.numpy()))
        folder.write(f"{name}.png", partial(overlay(made.seen, each.map, each.box).save, format="PNG"))
    title = f"{made.name} in {about['image']}: {model.name}"
    figures = {"Maps": sheet_figure(made, title=title)}
    if any(each.deletion is not None for each in made.found.values()):
        figures["As the marked pixels go, and come"] = curves_figure(made)
        figures["As the network forgets what it has learned"] = likeness_figure(made)
    if made.bands:
        figures["Which bands the evidence lies in"] = bands_figure(made.bands)
    names = {
        "Maps": "sheet.png",
        "As the marked pixels go, and come": "curves.png",
        "Which bands the evidence lies in": "bands.png",
    }
    pictures = {
        heading: folder.write(names.get(heading, "randomisation.png"), partial(save_figure, figure)).read_bytes()
        for heading, figure in figures.items()
    }
    rows = [as_row(name, each) for name, each in made.found.items()]
    about_bands = {"bands": [asdict(band) for band in made.bands]} if made.bands else {}
    folder.write_json(
        "explain.json", {"unit": str(made.unit), "methods": rows, "left_out": made.left_out, **about_bands}
    )
    lines = conclusion(made)
    table = [_table_row(name, each) for name, each in made.found.items()]
    report = Report(title, lines, pictures, table)
    facts = {"model": model.name, "unit": str(made.unit), **about["settings"]}
    write_viewer(make_book([], title=title, facts=facts, reports=[report]), folder)
    folder.finish({"command": "explain", "model": model.name, "versions": versions(), "conclusion": lines, **about})


def save_array(values: Any, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, values)
