"""The command `atlas explain`: where in an image lies what excites a unit, by every method, each map checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from featviz.attribution import METHODS, Attribution, attribution
from featviz.errors import UserError, unknown
from featviz.localisation import Box, strongest_box
from featviz.models import Model
from featviz.output import OutputFolder
from featviz.progress import Progress, silent
from featviz.target import Target
from featviz.trust import Curve, Randomisation, deletion, insertion, randomisation
from featviz.units import Unit, parse_units
from search.decode import central_view, open_upright

from .explain_figure import curves_figure, likeness_figure, overlay, sheet_figure
from .explorer import Report, make_book, write_viewer
from .figure import save_figure
from .stages import Clock, versions

ALL = "all"
# Methods whose map is of places, in which the thing itself can be boxed.
_BOXED = ("cam", "gradcam", "gradcampp", "smoothgradcampp", "occlusion")


@dataclass(frozen=True)
class ExplainSettings:
    """How maps are worked out: of class activation maps the `layer` ('' for the last with a map); of occlusion, `size`,
    `stride` (0: a sixth of the input, and half of that) and `fill`; `trust`: whether maps are checked.
    """

    layer: str = ""
    size: int = 0
    stride: int = 0
    fill: str = "mean"
    trust: bool = True
    seed: int = 0

    def options(self, method: str) -> dict[str, Any]:
        """What a method takes of them."""
        if method in ("occlusion", "probability"):
            return {"size": self.size, "stride": self.stride, "fill": self.fill}
        if method in ("gradcam", "gradcampp"):
            return {"layer": self.layer}
        return {"layer": self.layer, "seed": self.seed} if method == "smoothgradcampp" else {}


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
    for a class.
    """

    view: Tensor
    unit: Unit
    name: str
    value: float
    probability: float | None
    found: dict[str, Explained]
    left_out: dict[str, str]


def explain(
    model: Model,
    image: str | Path | Image.Image,
    unit: str | None = None,
    *,
    methods: str | Sequence[str] = ALL,
    settings: ExplainSettings | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Explanation:
    """Show where in an image lies what excites a unit, by some methods or all of them, and how far to trust each map.

    image: a file or an opened image. unit: one, as `parse_units` reads it (`class:tabby`, `blocks.5:12`); None: the
    class that the network takes the image for. methods: names of `METHODS`, or `all`, of which those are left out that
    the network does not allow. With `out`, sheet.png, a picture and a .npy file for each, explain.json, index.html and
    manifest.json. Raises `UserError` for a file that is no image, an unknown class, unit or method, and for a method
    asked for by name that the network does not allow.
    """
    settings = settings or ExplainSettings()
    names = list(METHODS) if methods == ALL else [methods] if isinstance(methods, str) else list(methods)
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, [*METHODS, ALL])
    view = central_view(open_image(image), model.preprocess)
    target = Target(model, _unit(model, view, unit))
    identity = {
        "command": "explain",
        "unit": str(target.unit),
        "methods": names,
        "settings": asdict(settings),
        "weights": model.fingerprint,
        "image": image_digest(view),
    }
    folder = None if out is None else OutputFolder.claim(out, identity, overwrite=overwrite)
    clock, found, left_out = Clock(), dict[str, Explained](), dict[str, str]()
    for number, name in enumerate(names, 1):
        try:
            found[name] = _explained(target, view, name, settings)
        except UserError as error:
            if methods != ALL:
                raise
            left_out[name] = str(error)
        clock.lap(name)
        progress("explaining", number, len(names))
    probability = target.probabilities(view[None])
    made = Explanation(
        view, target.unit, _name(model, target.unit), float(target.values(view[None])),
        None if probability is None else float(probability), found, left_out,
    )  # fmt: skip
    if folder is not None and not folder.finished:
        about = {"image": Path(str(getattr(image, "filename", image))).name, "seconds": clock.laps}
        _write(made, folder, model, {**about, "settings": asdict(settings), "identity": identity})
    return made


def _explained(target: Target, view: Tensor, name: str, settings: ExplainSettings) -> Explained:
    options, seed = settings.options(name), settings.seed
    made = attribution(target, view, name, **options)
    box = strongest_box(made.map) if name in _BOXED else None
    if not settings.trust:
        return Explained(made, box, None, None, None)
    return Explained(
        made,
        box,
        deletion(target, view, made.raw, seed=seed),
        insertion(target, view, made.raw, seed=seed),
        randomisation(target, lambda other: attribution(other, view, name, **options).raw, seed=seed),
    )


def open_image(image: str | Path | Image.Image) -> Image.Image:
    """One image, upright; a `UserError` for a folder and for what is none."""
    if isinstance(image, Image.Image):
        return open_upright(image)
    if Path(image).is_dir():
        raise UserError(f"{str(image)!r} is a folder; give one image.")
    if not Path(image).is_file():
        raise UserError(f"no image {str(image)!r}.")
    try:
        return open_upright(Path(image))
    except Exception as error:  # Pillow's decoders raise almost anything on what is no image
        raise UserError(f"{str(image)!r} is no image that can be read: {error}") from error


def _unit(model: Model, view: Tensor, word: str | None) -> Unit:
    if word is None:
        logits = Target(model, Unit("output", 0)).trunk(view[None])["output"].flatten()
        return Unit("output", int(logits.argmax()))
    units = parse_units(word, model)
    if len(units) != 1:
        raise UserError(f"{word!r} are {len(units)} units: name one to explain.")
    return units[0]


def _name(model: Model, unit: Unit) -> str:
    if unit.is_class and not unit.vectors and unit.channel < len(model.labels):
        return f"{'against ' * (unit.sign < 0)}{model.labels[unit.channel]}"
    return str(unit)


def image_digest(view: Tensor) -> str:
    """What tells one view from another: SHA-256 of its values, first 16 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(view.numpy()).tobytes()).hexdigest()[:16]


def _write(made: Explanation, folder: OutputFolder, model: Model, about: dict[str, Any]) -> None:
    for name, each in made.found.items():
        folder.write(f"{name}.npy", partial(_save_array, each.map.raw.numpy()))
        folder.write(f"{name}.png", partial(overlay(made.view, each.map, each.box).save, format="PNG"))
    title = f"{made.name} in {about['image']}: {model.name}"
    figures = {"Maps": sheet_figure(made, title=title)}
    if any(each.deletion is not None for each in made.found.values()):
        figures["As the marked pixels go, and come"] = curves_figure(made)
        figures["As the network forgets what it has learned"] = likeness_figure(made)
    names = {"Maps": "sheet.png", "As the marked pixels go, and come": "curves.png"}
    pictures = {
        heading: folder.write(names.get(heading, "randomisation.png"), partial(save_figure, figure)).read_bytes()
        for heading, figure in figures.items()
    }
    rows = [_row(name, each) for name, each in made.found.items()]
    folder.write_json("explain.json", {"unit": str(made.unit), "methods": rows, "left_out": made.left_out})
    lines = conclusion(made)
    report = Report(title, lines, pictures, [{key: _said(value) for key, value in row.items()} for row in rows])
    facts = {"model": model.name, "unit": str(made.unit), **about["settings"]}
    write_viewer(make_book([], title=title, facts=facts, reports=[report]), folder)
    folder.finish({"command": "explain", "model": model.name, "versions": versions(), "conclusion": lines, **about})


def conclusion(made: Explanation) -> list[str]:
    """What was found, in words."""
    certain = "" if made.probability is None else f", with a probability of {made.probability:.1%}"
    lines = [f"{made.name}: activation {made.value:.3g}{certain}."]
    checked = {name: each for name, each in made.found.items() if each.deletion and each.randomisation}
    good = [METHODS[name].title for name, each in checked.items() if each.deletion and each.deletion.below == 0]
    if checked:
        lines.append(
            f"Taking away what the map marks hurts more than taking away as much elsewhere by {len(good)} of "
            f"{len(checked)} maps: {', '.join(good) or 'none'}."
        )
        blind = [METHODS[name].title for name, each in checked.items() if each.randomisation.ignores_weights]  # type: ignore[union-attr]
        lines.append(
            f"Much the same map comes from a network of random weights by {', '.join(blind)}: it shows the image more "
            "than the network."
            if blind
            else "No map stays as it is once the network's weights are random."
        )
    lines += [f"{METHODS[name].title} is left out: {why}" for name, why in made.left_out.items()]
    return lines


def _row(name: str, each: Explained) -> dict[str, Any]:
    row: dict[str, Any] = {"method": name, "note": each.map.note, "box": each.box}
    for what, curve in (("deletion", each.deletion), ("insertion", each.insertion)):
        if curve is not None:
            row |= {what: round(curve.area, 4), f"{what}_by_chance": round(curve.by_chance, 4)}
    if each.randomisation is not None:
        row["likeness"] = [round(value, 3) for value in each.randomisation.likeness]
    return row


def _said(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(f"{each:g}" for each in value) if isinstance(value, (list, tuple)) else str(value)


def _save_array(values: Any, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, values)
