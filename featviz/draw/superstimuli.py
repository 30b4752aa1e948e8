"""Many units -> pictures of what excites each the most, with evidence of how well they do; resumable."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial, reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..network.batch_size import chunk_for, whole_groups
from ..network.gradients import gradients_on
from ..network.layers import OUTPUT
from ..network.models import Model
from ..network.trunk import Trunk
from ..network.units import Unit
from ..progress import Progress, silent
from ..run.engine import LOCAL, Engine, Place, Report, Work, shares
from ..run.keep import NOWHERE, Arrays, Keep
from ..run.output import OutputFolder
from .ascent import over_grey
from .certificate import Certificate, Reference, certificate_trunk, certify
from .drawing import FAMILIARITY, LIKENESS, Drawing
from .likeness import likeness
from .maximize import Pictures, maximize
from .mis import features, mechanistic_interpretability
from .noise import noise_limit
from .norms import familiarity
from .objectives import Objective, diversity, of_units
from .path_similarity import path_layers
from .picture import write_picture
from .spectrum import Spectrum
from .transforms import NOISE

# Importance above this share of a picture's largest is opaque: a few pixels would otherwise leave nothing else to see.
OPAQUE = 0.3
# Where pictures begin: one image for all units, one for each, or noise.
Start = Tensor | Mapping[Unit, Tensor] | None


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


@gradients_on()
def render(
    model: Model,
    units: Sequence[Unit],
    folder: OutputFolder,
    drawing: Drawing,
    *,
    references: Mapping[Unit, Reference] | None = None,
    spectrum: Spectrum | None = None,
    start: Start = None,
    photographs: Mapping[Unit, Tensor] | None = None,
    similarity: Model | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> list[Certificate]:
    """Draw every unit's superstimuli into a claimed folder and certify them.

    A unit's pictures depend on (weights, unit, drawing, spectrum, start) alone: not on what else is drawn, nor on
    interruptions. What a stopped run left is not drawn again. references: what a data set says about each unit.
    spectrum: for the canvas `maco`. start: (channels, h, w) in [0, 1] to begin at, resized to the pictures' size, one
    for all or one for each unit. photographs: (k, channels, h, w) in [0, 1] of each unit, to be drawn like. similarity:
    a network whose output is its features, for the interpretability score of units drawn with their opposites. engine:
    where the pictures are drawn.

    Olah, Mordvintsev and Schubert 2017, "Feature Visualization"; activation on the saved picture: ours.
    """
    units = list(dict.fromkeys(units))
    drawn = draw(
        model, units, drawing, spectrum=spectrum, start=start, photographs=photographs, keep=folder, engine=engine,
        progress=progress,
    )  # fmt: skip
    certificates = _certify(model, units, drawn, folder, drawing, references or {}, progress)
    if similarity is not None:
        certificates = _interpretability(units, certificates, drawn, references or {}, similarity)
    folder.write_json("units.json", [asdict(certificate) for certificate in certificates])
    return certificates


@gradients_on()
def draw(
    model: Model,
    units: Sequence[Unit],
    drawing: Drawing,
    *,
    spectrum: Spectrum | None = None,
    start: Start = None,
    photographs: Mapping[Unit, Tensor] | None = None,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> dict[Unit, Arrays]:
    """Each unit's `pictures` (facets, channels, h, w) in 8 bits, how often each was `rescued`, and its `alpha` if any.

    As `render` takes them, without a certificate; each unit's are kept once they are drawn.
    """
    units = list(dict.fromkeys(units))
    drawn: dict[Unit, Arrays] = {}
    for group in _groups(units, drawing, model):
        how = _GroupDrawing(model, tuple(group), drawing, spectrum, start, photographs or {})
        drawn |= _draw_group(how, keep, engine, len(drawn), len(units), progress)
    return {unit: drawn[unit] for unit in units}


def _draw_group(
    how: _GroupDrawing, keep: Keep, engine: Engine, before: int, of: int, progress: Progress
) -> dict[Unit, Arrays]:
    """The pictures of units that one objective holds, micro-batch by micro-batch, each unit's kept once it is drawn."""
    names = {unit: file_name(unit).removesuffix(".png") for unit in how.group}
    drawn = {unit: keep.arrays(name, dict) for unit, name in names.items() if keep.has(name)}
    missing = [number for number, unit in enumerate(how.group) if unit not in drawn]
    jobs = [missing[start : start + how.block] for start in range(0, len(missing), how.block)]

    def told(stage: str, done: int, total: int) -> None:
        progress(stage, before + len(how.group) - total + done, of)

    report = shares(told, "drawing", [len(job) for job in jobs])
    for job, arrays in zip(jobs, engine.map(how, jobs, report), strict=True):
        for place, number in enumerate(job):
            unit, own = how.group[number], {key: values[place] for key, values in arrays.items()}
            drawn[unit] = keep.arrays(names[unit], partial(dict, own))
    progress("drawing", before + len(how.group), of)
    return drawn


@dataclass(frozen=True)
class _GroupDrawing:
    """Draws units that one objective holds, for a worker anywhere."""

    model: Model
    group: tuple[Unit, ...]
    drawing: Drawing
    spectrum: Spectrum | None
    start: Start
    photographs: Mapping[Unit, Tensor]

    @property
    def size(self) -> tuple[int, int]:
        return self.drawing.pixels(self.group[0], self.model)

    def starts(self, facets: int) -> Tensor | None:
        """Where the pictures begin: one image for all, or one for each."""
        if self.start is None or isinstance(self.start, Tensor):
            return None if self.start is None else _resized(self.start, self.size)
        each = torch.stack([_resized(self.start[unit], self.size) for unit in self.group])
        return each.flatten(0, 1).repeat_interleave(facets, 0)

    @cached_property
    def block(self) -> int:
        """Units of one micro-batch."""
        unit = self.group[0]
        trunk = Trunk(self.model, [unit.layer], fold=False, resizes=not isinstance(unit.position, tuple))
        size = trunk.input_size(self.size)
        facets = self.drawing.diversity
        return whole_groups(chunk_for(size, self.model.device), facets) // facets

    def __call__(self, place: Place) -> Work:
        model = self.model if place.device is None else self.model.to(place.device)
        wish, prior, trunk = _objective(model, self.group, self.drawing, self.photographs)
        facets, block = self.drawing.diversity, self.block
        noise = noise_limit(trunk, self.group[0].layer, self.size, most=NOISE, at=self.group[0].position)

        def work(jobs: Sequence[Sequence[int]], report: Report) -> Iterator[Arrays]:
            for number, units in enumerate(jobs):
                pictures = self._drawn(model, wish, prior, trunk, units, block * facets, noise, partial(report, number))
                rows = [slice(place * facets, (place + 1) * facets) for place in range(len(units))]
                each = [{**_as_arrays(pictures, part), "noise": np.array(noise)} for part in rows]
                yield {key: np.stack([arrays[key] for arrays in each]) for key in each[0]}

        return work

    def _drawn(
        self,
        model: Model,
        wish: Objective,
        prior: Objective | None,
        trunk: Trunk,
        units: Sequence[int],
        chunk: int,
        noise: float,
        told: Callable[[float], None],
    ) -> Pictures:
        drawing, unit, facets = self.drawing, self.group[0], self.drawing.diversity
        return maximize(
            model,
            wish,
            keys=[_key(unit, facet) for unit in self.group for facet in range(facets)],
            pictures=[number * facets + facet for number in units for facet in range(facets)],
            size=self.size,
            steps=drawing.steps,
            lr=drawing.lr or None,
            attempts=drawing.attempts,
            canvas=drawing.maker(self.spectrum),
            transform=drawing.transform(unit, model, noise),
            start=self.starts(facets),
            alpha=drawing.transparency == "learned",
            importance=drawing.transparency == "importance",
            starts=drawing.starts(unit),
            prior=prior,
            seed=drawing.seed,
            chunk=chunk,
            trunk=trunk,
            progress=lambda stage, done, total: told(done / total),
        )


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image[None], size, mode="bicubic", antialias=True).clamp(0, 1)


def _objective(
    model: Model, group: Sequence[Unit], drawing: Drawing, photographs: Mapping[Unit, Tensor]
) -> tuple[Objective, Objective | None, Trunk]:
    """What excites each of the group's units, `diversity` pictures for each; the prior; and the trunk for both."""
    layer = group[0].layer
    # On a vector of logits there is no texture to tell apart; the layer before them has one.
    texture = layer if drawing.diversity == 1 else _layer_with_texture(model, layer)
    each = [unit for unit in group for _ in range(drawing.diversity)]
    known = familiarity(model, [layer])
    terms = [] if known is None else [FAMILIARITY * known]
    if drawing.like:
        terms.append(LIKENESS * likeness(model, layer, [photographs[unit] for unit in each]))
    if drawing.diversity > 1:
        terms.append(diversity(texture, drawing.diversity))
    prior = reduce(operator.add, terms) if terms else None
    layers = dict.fromkeys([*(prior.layers if prior else ()), texture, layer])
    # A place by its row and column is one of the map of the size that the network was made for.
    free = not isinstance(group[0].position, tuple)
    trunk = Trunk(model, list(layers), precision=drawing.precision, compiled=drawing.compiled, resizes=free)
    return of_units(each, trunk), prior, trunk


def _layer_with_texture(model: Model, layer: str) -> str:
    """The layer itself where its map has several places, else the model's default layer or the last one with a map."""
    _, rows, columns = Trunk(model, [layer], fold=False).map_size(layer)
    if rows * columns > 1:
        return layer
    before = path_layers(model, layer)[:-1]
    if model.default_layer is None and not before:
        raise UserError(f"--diversity compares textures, and no layer of {model.name} before {layer} has one.")
    return model.default_layer or before[-1]


def class_label(unit: Unit, model: Model) -> str:
    """The class's name, where the unit is a class that has one, else ''."""
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


def _groups(units: Sequence[Unit], drawing: Drawing, model: Model) -> list[list[Unit]]:
    """Units that one objective can hold, in order of appearance."""
    groups: dict[Any, list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.layer, unit.position, drawing.pixels(unit, model)), []).append(unit)
    return list(groups.values())


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
            free = not isinstance(unit.position, tuple)
            trunk, read = certificate_trunk(model, unit.layer, path, resizes=free), (unit.layer, path)
        arrays = drawn[unit]
        for number, picture in enumerate(torch.from_numpy(arrays["pictures"])):
            alpha = torch.from_numpy(arrays["alpha"][number]) if "alpha" in arrays else None
            file = file_name(unit, number + 1)
            write_picture(folder, file, picture, alpha, model.preprocess)
            certificates.append(
                certify(
                    unit,
                    picture if alpha is None else over_grey(picture[None], alpha[None])[0],
                    trunk,
                    file=file,
                    label=class_label(unit, model),
                    seed=drawing.seed,
                    facet=number + 1,
                    rescued=int(arrays["rescued"][number]),
                    # Of pictures that an earlier version has kept, it is not known.
                    noise=round(float(arrays["noise"]), 3) if "noise" in arrays else None,
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
