"""The command `atlas explain`: where in an image lies what excites a unit, by every method, each map checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from featviz.draw.superstimuli import class_label
from featviz.errors import UserError, unknown
from featviz.explain.attribution import METHODS, attribution
from featviz.explain.band_evidence import band_evidence
from featviz.explain.localisation import strongest_box
from featviz.explain.occlusion import check_squares, filled, square_of
from featviz.explain.target import NotAllowedError, Target
from featviz.explain.trust import deletion, insertion, randomisation
from featviz.network.answer import refuse_features
from featviz.network.gradients import GradientError
from featviz.network.layers import OUTPUT
from featviz.network.models import Model, Preprocess
from featviz.network.trunk import Trunk
from featviz.network.units import Unit, parse_units
from featviz.progress import Progress, silent
from featviz.run.keep import NOWHERE, Arrays
from featviz.run.output import OutputFolder
from search.images.decode import UndecodableError, central_view
from search.images.pictures import Picture, as_picture, open_picture

from .claim import claim, file_digest, identify
from .explanation import Explained, Explanation, as_row, from_row, write
from .stages import Clock

ALL = "all"
# Methods whose map is of places, in which the thing itself can be boxed.
_BOXED = ("cam", "gradcam", "gradcampp", "smoothgradcampp", "occlusion", "rollout", "attention")


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

    def quick_options(self, method: str, view: Tensor) -> dict[str, Any]:
        """The same for maps that are only held against each other, seven of them: coarse where one costs much."""
        if method in ("occlusion", "probability"):
            size = self.size or square_of(view)
            return {"size": size, "stride": size, "fill": self.fill}
        return {"steps": 16} if method == "integrated" else self.options(method)


def explain(
    model: Model,
    image: str | Path | Image.Image | NDArray[Any] | Tensor,
    unit: str | None = None,
    *,
    methods: str | Sequence[str] = ALL,
    settings: ExplainSettings | None = None,
    notes: Sequence[str] = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Explanation:
    """Show where in an image lies what excites a unit, by some methods or all of them, and how far to trust each map.

    image: a file, an opened image, or an array or tensor (bands, h, w). unit: one, as `parse_units` reads it
    (`class:tabby`, `blocks.5:12`); None: the class that the network takes the image for. methods: names of `METHODS`,
    or `all`, of which those are left out that the network does not allow. notes: what the page is to say besides. With
    `out`, sheet.png, a picture and a .npy file for each, explain.json, index.html and manifest.json; what a stopped run
    has explained is not explained again. Of a network of bands, how much of the evidence lies in each is told, too.
    Raises `UserError` for a file that is no image, an unknown class, unit or method, settings that cannot be, and for a
    method asked for by name that the network does not allow.
    """
    settings = settings or ExplainSettings()
    names = _named(methods)
    view = central_view(open_image(image, model.preprocess), model.preprocess)
    target = Target(model, _unit(model, view, unit))
    _check(target, view, names, settings, every=methods == ALL)
    identity = identify(
        "explain", model, None,
        unit=str(target.unit),
        methods=names,
        settings=asdict(settings),
        directions=file_digest(target.unit.vectors) if target.unit.vectors else "",
        image=image_digest(view),
    )  # fmt: skip
    folder = claim(out, identity, model, None, overwrite=overwrite)
    clock, found, left_out = Clock(), dict[str, Explained](), dict[str, str]()
    for number, name in enumerate(names, 1):
        try:
            found[name] = _explained(target, view, name, settings, folder)
        except (NotAllowedError, GradientError) as error:
            if isinstance(error, GradientError) and methods != ALL:
                raise
            left_out[name] = str(error)
        clock.lap(name)
        progress("explaining", number, len(names))
    probability = target.probabilities(view[None])
    made = Explanation(
        view, target.unit, _name(model, target.unit), float(target.values(view[None])),
        None if probability is None else float(probability), found, left_out, tuple(notes),
        () if len(view) in (1, 3) else band_evidence(target, view), model.preprocess.show,
    )  # fmt: skip
    if folder is not None and not folder.finished:
        given = getattr(image, "filename", "") if isinstance(image, Image.Image) else image
        name = Path(str(given)).name if isinstance(given, (str, Path)) else ""
        about = {"image": name or "an image", "seconds": clock.laps}
        write(made, folder, model, {**about, "settings": asdict(settings), "identity": identity})
    return made


def _named(methods: str | Sequence[str]) -> list[str]:
    names = [methods] if isinstance(methods, str) else [name.strip() for name in methods]
    if names == [ALL]:
        return list(METHODS)
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, list(METHODS))
    return list(dict.fromkeys(names))


def _check(target: Target, view: Tensor, names: Sequence[str], settings: ExplainSettings, *, every: bool) -> None:
    """Raise `UserError` for what cannot be, before anything is written: settings, and methods asked for by name."""
    if settings.layer:
        target.maps(settings.layer, view[None])
    size = min(view.shape[1:])
    check_squares(size, settings.size or square_of(view), settings.stride)
    filled(view[None], settings.fill)
    for name in names if not every else ():
        if name in ("cam", "gradcam", "gradcampp", "rollout", "attention"):
            attribution(target, view, name, **settings.options(name))
        elif name == "probability" and target.probabilities(view[None]) is None:
            attribution(target, view, name, size=size, stride=size)
        elif name == "smoothgradcampp":
            attribution(target, view, name, **{**settings.options(name), "samples": 1})


def _explained(
    target: Target, view: Tensor, name: str, settings: ExplainSettings, folder: OutputFolder | None
) -> Explained:
    """One method, from a finished folder or what a stopped run left in it, else worked out."""
    if folder is not None and folder.finished:
        rows = {row["method"]: row for row in json.loads((folder.path / "explain.json").read_text("utf-8"))["methods"]}
        if name not in rows:
            left_out = json.loads((folder.path / "explain.json").read_text("utf-8"))["left_out"]
            raise NotAllowedError(left_out[name])
        raw = torch.from_numpy(np.load(folder.path / f"{name}.npy", allow_pickle=False))
        return from_row(target.unit, raw, rows[name], view)

    def compute() -> Arrays:
        made = _worked_out(target, view, name, settings)
        return {"raw": made.map.raw.numpy(), "row": np.array(json.dumps(as_row(name, made)))}

    kept = (folder or NOWHERE).arrays(f"map-{name}", compute)
    return from_row(target.unit, torch.from_numpy(kept["raw"]), json.loads(str(kept["row"])), view)


def _worked_out(target: Target, view: Tensor, name: str, settings: ExplainSettings) -> Explained:
    options, seed = settings.options(name), settings.seed
    made = attribution(target, view, name, **options)
    quick = settings.quick_options(name, view)
    box = strongest_box(made.map) if name in _BOXED else None
    if not settings.trust:
        return Explained(made, box, None, None, None)
    return Explained(
        made,
        box,
        deletion(target, view, made.raw, seed=seed),
        insertion(target, view, made.raw, seed=seed),
        randomisation(
            target,
            lambda other: attribution(other, view, name, **quick).raw,
            real=made.raw if quick == options else None,
            seed=seed,
        ),
    )


def open_image(image: str | Path | Image.Image | NDArray[Any] | Tensor, how: Preprocess) -> Picture:
    """One image as a network is to see it; a `UserError` for a folder and for what is none."""
    if not isinstance(image, (str, Path)):
        try:
            return as_picture(image, how, "the image")
        except UndecodableError as error:
            raise UserError(f"the image cannot be read: {error}.") from error
    if Path(image).is_dir():
        raise UserError(f"{str(image)!r} is a folder; give one image.")
    if not Path(image).is_file():
        raise UserError(f"no image {str(image)!r}.")
    try:
        return open_picture(Path(image), how)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on what is no image
        raise UserError(f"{str(image)!r} is no image that can be read: {error}") from error


def _unit(model: Model, view: Tensor, word: str | None) -> Unit:
    if word is None:
        refuse_features(model, "name a unit to explain")
        trunk = Trunk(model, [OUTPUT])
        with torch.inference_mode():
            logits = trunk(view[None].to(trunk.device))[OUTPUT][0]
        if len(logits) < 2 or logits[0].numel() != 1:
            raise UserError(f"{model.name} returns no numbers of classes: name a unit to explain.")
        return Unit(OUTPUT, int(logits.flatten().argmax()))
    units = parse_units(word, model)
    if len(units) != 1:
        raise UserError(f"{word!r} are {len(units)} units: name one to explain.")
    return units[0]


def _name(model: Model, unit: Unit) -> str:
    label = class_label(unit, model)
    return f"{'against ' * (unit.sign < 0)}{label}" if label else str(unit)


def image_digest(view: Tensor) -> str:
    """What tells one view from another: SHA-256 of its values, first 16 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(view.numpy()).tobytes()).hexdigest()[:16]
