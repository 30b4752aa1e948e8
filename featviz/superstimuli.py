"""Many units -> pictures of what excites each the most, with evidence of how well they do; resumable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .canvas import CANVASES, DECAY, CanvasMaker, Fourier, canvas_maker
from .certificate import Certificate, Reference, certificate_trunk, certify
from .errors import UserError, unknown
from .layers import OUTPUT
from .maximize import DEFAULT_TRANSFORM, Pictures, chunk_for, maximize, over_grey, whole_groups
from .mis import features, mechanistic_interpretability
from .models import Model
from .objectives import Objective, diverse
from .output import Arrays, OutputFolder
from .path_similarity import path_layers
from .progress import Progress, silent
from .spectrum import Spectrum
from .transforms import Affine
from .trunk import Precision, Trunk
from .units import Unit, objective

Transparency = Literal["none", "learned", "importance"]
# Importance above this share of a picture's largest is opaque: a few pixels would otherwise leave nothing else to see.
OPAQUE = 0.3
# The exponent of 1 / f for classes: with DECAY their objects drown in large blotches.
CLASS_DECAY = 1.3


@dataclass(frozen=True)
class Drawing:
    """How superstimuli are drawn.

    `size` 0: the network's own input size for classes and neurons, 128 for channels; `lr` 0: the canvas's own;
    `diversity`: so many pictures per unit, unlike each other; `transparency`: `learned`, an opacity is drawn with the
    picture, or `importance`, what moved the unit is opaque; `start`: an image file to begin at; `precision` and
    `compiled`: see `Trunk`. The other fields are `maximize`'s.
    """

    canvas: str = "fourier"
    size: int = 0
    steps: int = 256
    lr: float = 0.0
    attempts: int = 1
    diversity: int = 1
    transparency: Transparency = "none"
    start: str = ""
    settle: float = 0.0
    precision: Precision = "float32"
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size and self.size < 16:
            raise UserError(f"--size starts at 16, or is 0 for the default; got {self.size}.")
        if self.steps < 1 or self.attempts < 1:
            raise UserError(f"--steps and --attempts start at 1; got {self.steps} and {self.attempts}.")
        if not 0 <= self.lr < 10:
            raise UserError(f"--lr lies between 0 (the canvas's own) and 10; got {self.lr}.")
        if self.canvas not in CANVASES:
            raise unknown("canvas", self.canvas, list(CANVASES))
        if self.canvas == "cppn" and self.start:
            raise UserError("the canvas cppn cannot begin at an image; fourier, pixel and maco can.")
        if not 1 <= self.diversity <= 16:
            raise UserError(f"--diversity lies between 1 and 16; got {self.diversity}.")
        if self.transparency not in get_args(Transparency):
            raise unknown("transparency", self.transparency, list(get_args(Transparency)))
        if self.precision not in get_args(Precision):
            raise unknown("precision", self.precision, list(get_args(Precision)))
        if not 0 <= self.settle <= 1:
            raise UserError(f"--settle is a share of the steps, from 0 to 1; got {self.settle}.")

    def pixels(self, unit: Unit, model: Model) -> tuple[int, int]:
        """(height, width) of the unit's picture."""
        if self.size:
            return (self.size, self.size)
        return model.preprocess.size if unit.position is not None or unit.is_class else (128, 128)

    def transform(self, unit: Unit, model: Model) -> Affine:
        """What the unit's picture must survive.

        A class is one thing of any size anywhere, so it is looked at from near and far; a channel repeats itself.
        """
        if not unit.is_class:
            return DEFAULT_TRANSFORM
        return Affine(shift=min(self.pixels(unit, model)) / 5, scale=(0.6, 1.4), degrees=15)

    def maker(self, unit: Unit, spectrum: Spectrum | None = None) -> CanvasMaker:
        """The canvas that `canvas` names; `maco` takes a spectrum."""
        if self.canvas == "fourier":
            return partial(Fourier, decay=CLASS_DECAY if unit.is_class else DECAY)
        return canvas_maker(self.canvas, spectrum)


def check(model: Model, units: Sequence[Unit], drawing: Drawing) -> None:
    """Raise `UserError` for units that cannot be drawn so, before anything is drawn or read."""
    for group in _groups(units, drawing, model):
        unit, size = group[0], drawing.pixels(group[0], model)
        if drawing.diversity > 1:
            _layer_with_texture(model, unit.layer)
        if isinstance(unit.position, tuple):
            trunk = Trunk(model, [unit.layer], fold=False)
            own, drawn = (trunk.map_size(unit.layer, each)[1:] for each in (model.preprocess.size, size))
            if own != drawn:
                raise UserError(
                    f"{unit} is a place in a map of {own[0]} x {own[1]}; that of a picture of {size[0]} x {size[1]} "
                    f"pixels is {drawn[0]} x {drawn[1]}: draw it at {model.preprocess.size[0]} pixels."
                )


def render(
    model: Model,
    units: Sequence[Unit],
    folder: OutputFolder,
    drawing: Drawing,
    *,
    references: Mapping[Unit, Reference] | None = None,
    spectrum: Spectrum | None = None,
    start: Tensor | None = None,
    similarity: Model | None = None,
    progress: Progress = silent,
) -> list[Certificate]:
    """Draw every unit's superstimuli into a claimed folder and certify them.

    A unit's pictures depend on (weights, unit, drawing, spectrum, start) alone: not on what else is drawn, nor on
    interruptions. What a stopped run left is not drawn again. references: what a data set says about each unit.
    spectrum: for the canvas `maco`. start: (channels, h, w) in [0, 1] to begin at, resized to the pictures' size.
    similarity: a network whose output is its features, for the interpretability score of units drawn with their
    opposites.

    Olah, Mordvintsev and Schubert 2017, "Feature Visualization"; activation on the saved picture: ours.
    """
    units = list(dict.fromkeys(units))
    drawn: dict[Unit, Arrays] = {}
    for group in _groups(units, drawing, model):
        _draw_group(model, group, folder, drawing, spectrum, start, drawn, len(units), progress)
    certificates = _certify(model, units, drawn, folder, drawing, references or {}, progress)
    if similarity is not None:
        certificates = _interpretability(units, certificates, drawn, references or {}, similarity)
    folder.write_json("units.json", [asdict(certificate) for certificate in certificates])
    return certificates


def _draw_group(
    model: Model,
    group: list[Unit],
    folder: OutputFolder,
    drawing: Drawing,
    spectrum: Spectrum | None,
    start: Tensor | None,
    drawn: dict[Unit, Arrays],
    total: int,
    progress: Progress,
) -> None:
    """Add the pictures of units that one objective holds, micro-batch by micro-batch, each kept once it is drawn."""
    facets = drawing.diversity
    wanted, trunk = _objective(model, group, drawing)
    size = drawing.pixels(group[0], model)
    kept = {unit for unit in group if _draft(folder, unit).is_file()}
    missing = [number for number, unit in enumerate(group) if unit not in kept]
    chunk = whole_groups(chunk_for(trunk.input_size(size), trunk.device), facets)
    block = chunk // facets
    for first in range(0, len(missing), block):
        numbers = missing[first : first + block]
        before = len(drawn) + len(kept) + first

        def report(stage: str, step: int, steps: int, before: int = before, now: int = len(numbers)) -> None:
            progress("drawing", before + now * step // steps, total)

        pictures = maximize(
            model,
            wanted,
            keys=[_key(unit, facet) for unit in group for facet in range(facets)],
            pictures=[number * facets + facet for number in numbers for facet in range(facets)],
            size=size,
            steps=drawing.steps,
            lr=drawing.lr or None,
            attempts=drawing.attempts,
            canvas=drawing.maker(group[0], spectrum),
            transform=drawing.transform(group[0], model),
            start=None if start is None else _resized(start, size),
            alpha=drawing.transparency == "learned",
            importance=drawing.transparency == "importance",
            settle=drawing.settle,
            seed=drawing.seed,
            chunk=chunk,
            trunk=trunk,
            progress=report,  # type: ignore[arg-type]  # its two further arguments have defaults
        )
        for place, number in enumerate(numbers):
            rows = slice(place * facets, (place + 1) * facets)
            folder.arrays(_draft(folder, group[number]).stem, partial(_as_arrays, pictures, rows))
    for unit in group:
        drawn[unit] = folder.arrays(_draft(folder, unit).stem, dict)
    progress("drawing", len(drawn), total)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size, mode="bicubic", antialias=True).clamp(0, 1)


def _objective(model: Model, group: list[Unit], drawing: Drawing) -> tuple[Objective, Trunk]:
    """What excites each of the group's units, `diversity` pictures for each, and the trunk that reads it."""
    layer = group[0].layer
    # On a vector of logits there is no texture to tell apart; the layer before them has one.
    texture = layer if drawing.diversity == 1 else _layer_with_texture(model, layer)
    layers = list(dict.fromkeys([texture, layer]))
    trunk = Trunk(model, layers, precision=drawing.precision, compiled=drawing.compiled)
    if drawing.diversity == 1:
        return objective(group, trunk), trunk
    each = [unit for unit in group for _ in range(drawing.diversity)]
    return diverse(objective(each, trunk), texture, drawing.diversity), trunk


def _layer_with_texture(model: Model, layer: str) -> str:
    """The layer itself where its map has several places, else the model's default layer or the last one with a map."""
    _, rows, columns = Trunk(model, [layer], fold=False).map_size(layer)
    if rows * columns > 1:
        return layer
    before = path_layers(model, layer)[:-1]
    if model.default_layer is None and not before:
        raise UserError(f"--diversity compares textures, and no layer of {model.name} before {layer} has one.")
    return model.default_layer or before[-1]


def _label(unit: Unit, model: Model) -> str:
    """The class's name, where the unit is a class that has one."""
    return model.labels[unit.channel] if unit.is_class and not unit.vectors and unit.channel < len(model.labels) else ""


def _key(unit: Unit, facet: int) -> str:
    return str(unit) if facet == 0 else f"{unit} facet {facet + 1}"


def file_name(unit: Unit, facet: int = 1) -> str:
    """The unit's file name: its address with every sign that a file system may refuse replaced; `~2` the second facet.

    A direction's name also holds a digest of its address, since two files' names may differ in such a sign alone.
    """
    digest = f"-{hashlib.sha256(str(unit).encode()).hexdigest()[:8]}" if unit.vectors else ""
    number = "" if facet == 1 else f"~{facet}"
    return re.sub(r"[^\w.,@+-]", "_", str(unit)) + digest + number + ".png"


def as_png(picture: Tensor, alpha: Tensor | None = None) -> Image.Image:
    """An 8-bit picture (channels, h, w) and its opacity (h, w) as an image that holds every channel.

    One channel is grey, three are RGB, either with opacity; other numbers of channels lie side by side in grey.
    """
    channels = len(picture)
    if channels not in (1, 3):  # the opacity is left out
        return Image.fromarray(torch.cat(list(picture), 1).contiguous().numpy())
    if alpha is not None:
        picture = torch.cat([picture, alpha[None]])
    pixels = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def _groups(units: Sequence[Unit], drawing: Drawing, model: Model) -> list[list[Unit]]:
    """Units that one objective can hold, in order of appearance."""
    groups: dict[Any, list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.layer, unit.position, drawing.pixels(unit, model)), []).append(unit)
    return list(groups.values())


def _draft(folder: OutputFolder, unit: Unit) -> Any:
    return folder.draft / f"{file_name(unit)}.npz"


def _as_arrays(pictures: Pictures, rows: slice) -> Arrays:
    """A unit's pictures (facets, channels, h, w), where asked for their opacity, and how often they were rescued."""
    arrays = {"pictures": pictures.images[rows].numpy(), "rescued": pictures.rescued[rows].numpy()}
    if pictures.alpha is not None:
        arrays["alpha"] = pictures.alpha[rows].numpy()
    if pictures.importance is not None:
        share = (pictures.importance[rows] / OPAQUE).clamp(max=1).sqrt()
        arrays["alpha"] = (share * 255).round().to(torch.uint8).numpy()
    return arrays


def _certify(
    model: Model,
    units: Sequence[Unit],
    drawn: Mapping[Unit, Arrays],
    folder: OutputFolder,
    drawing: Drawing,
    references: Mapping[Unit, Reference],
    progress: Progress,
) -> list[Certificate]:
    """Save every picture and measure what was saved."""
    trunk, read = None, None  # one at a time: each is a copy of the network
    certificates = []
    for done, unit in enumerate(units, 1):
        reference = references.get(unit)
        path = list(reference.path.same) if reference is not None and reference.path is not None else []
        if trunk is None or read != (unit.layer, path):
            trunk, read = certificate_trunk(model, unit.layer, path), (unit.layer, path)
        arrays = drawn[unit]
        for number, picture in enumerate(torch.from_numpy(arrays["pictures"])):
            alpha = torch.from_numpy(arrays["alpha"][number]) if "alpha" in arrays else None
            file = file_name(unit, number + 1)
            folder.write(file, partial(as_png(picture, alpha).save, format="PNG"))
            certificates.append(
                certify(
                    unit,
                    picture if alpha is None else over_grey(picture[None], alpha[None])[0],
                    trunk,
                    file=file,
                    label=_label(unit, model),
                    seed=drawing.seed,
                    facet=number + 1,
                    rescued=int(arrays["rescued"][number]),
                    reference=reference,
                )
            )
        progress("certifying", done, len(units))
    return certificates


def _interpretability(
    units: Sequence[Unit],
    certificates: list[Certificate],
    drawn: Mapping[Unit, Arrays],
    references: Mapping[Unit, Reference],
    similarity: Model,
) -> list[Certificate]:
    """The certificates with the interpretability score of every unit that was drawn with its opposite."""
    extractor = Trunk(similarity, [OUTPUT])
    seen = {
        unit: features(extractor, torch.from_numpy(arrays["pictures"]).float() / 255) for unit, arrays in drawn.items()
    }
    scores = {}
    for unit in units:
        opposite = replace(unit, sign=-unit.sign)
        reference = references.get(unit)
        if opposite in seen and reference is not None and reference.queries is not None:
            scores[str(unit)] = mechanistic_interpretability(reference.queries, seen[unit], seen[opposite])
    return [
        replace(entry, mis=scores[entry.unit][0], mis_accuracy=scores[entry.unit][1]) if entry.unit in scores else entry
        for entry in certificates
    ]
