"""Many units -> a picture of what excites each the most, with evidence of how well it does; resumable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .canvas import DECAY, CanvasMaker, Fourier, canvas_maker
from .errors import UserError
from .maximize import DEFAULT_TRANSFORM, chunk_for, generator_for, maximize
from .models import Model
from .objectives import look
from .output import Arrays, OutputFolder
from .progress import Progress, silent
from .trunk import Trunk
from .units import Unit, objective

# How many transformed views the robustness is a mean over.
ROBUSTNESS_VIEWS = 8


@dataclass(frozen=True)
class Drawing:
    """How superstimuli are drawn. `size` 0: the network's own input size for classes and neurons, 128 for channels."""

    canvas: str = "fourier"
    size: int = 0
    steps: int = 256
    lr: float = 0.1
    attempts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size and self.size < 16:
            raise UserError(f"--size starts at 16, or is 0 for the default; got {self.size}.")

    def pixels(self, unit: Unit, model: Model) -> tuple[int, int]:
        """(height, width) of the unit's picture."""
        if self.size:
            return (self.size, self.size)
        return model.preprocess.size if unit.position is not None or unit.is_class else (128, 128)

    def maker(self) -> CanvasMaker:
        """The canvas that `canvas` names."""
        return partial(Fourier, decay=DECAY) if self.canvas == "fourier" else canvas_maker(self.canvas)


@dataclass(frozen=True)
class Certificate:
    """Evidence for one picture, measured on the saved 8-bit file in one clean pass of the unaltered network.

    `activation`: the unit's own activation (of a negative unit: its opposite); `robustness`: its mean over shifted,
    scaled and turned views, as a share of the activation; `rank`: the unit's place among the layer's channels on its
    picture, 1 the highest (None for directions); `saturated`: share of the values below 2 or above 253. Against a data
    set, else None: `dataset_max`; `gain`: activation / dataset_max, where that is above 0; `percentile`: share of
    images below it, in percent; `dead`: it stays below the data set's median.
    """

    unit: str
    file: str
    activation: float
    robustness: float | None
    rank: int | None
    saturated: float
    dataset_max: float | None
    gain: float | None
    percentile: float | None
    dead: bool | None
    seed: int


def render(
    model: Model,
    units: Sequence[Unit],
    folder: OutputFolder,
    drawing: Drawing,
    *,
    dataset: Mapping[Unit, NDArray[np.float32]] | None = None,
    progress: Progress = silent,
) -> list[Certificate]:
    """Draw every unit's superstimulus into a claimed folder and certify it.

    A unit's picture depends on (weights, unit, drawing) alone: not on what else is drawn, nor on interruptions. What a
    stopped run left is not drawn again. dataset: each unit's activation (images,) on a data set's images.

    Olah, Mordvintsev and Schubert 2017, "Feature Visualization"; activation on the saved picture: ours.
    """
    units = list(dict.fromkeys(units))
    pictures: dict[Unit, Tensor] = {}
    for group in _groups(units, drawing, model):
        _draw_group(model, group, folder, drawing, pictures, len(units), progress)
    return _certify(model, units, pictures, folder, drawing, dataset or {}, progress)


def _draw_group(
    model: Model,
    group: list[Unit],
    folder: OutputFolder,
    drawing: Drawing,
    pictures: dict[Unit, Tensor],
    total: int,
    progress: Progress,
) -> None:
    """Add the pictures of units that one objective holds, micro-batch by micro-batch, each kept once it is drawn."""
    trunk = Trunk(model, [group[0].layer])
    wanted = objective(group, trunk)
    size = drawing.pixels(group[0], model)
    kept = [number for number, unit in enumerate(group) if _draft(folder, unit).is_file()]
    missing = [number for number in range(len(group)) if number not in set(kept)]
    block = chunk_for(size, trunk.device)
    for start in range(0, len(missing), block):
        numbers = missing[start : start + block]
        before = len(pictures) + len(kept) + start

        def report(stage: str, step: int, steps: int, before: int = before, now: int = len(numbers)) -> None:
            progress("drawing", before + now * step // steps, total)

        drawn = maximize(
            model,
            wanted,
            keys=[str(unit) for unit in group],
            pictures=numbers,
            size=size,
            steps=drawing.steps,
            lr=drawing.lr,
            attempts=drawing.attempts,
            canvas=drawing.maker(),
            seed=drawing.seed,
            chunk=block,
            trunk=trunk,
            progress=report,  # type: ignore[arg-type]  # its two further arguments have defaults
        )
        for number, picture in zip(numbers, drawn.images, strict=True):
            folder.arrays(_draft(folder, group[number]).stem, partial(_as_arrays, picture))
    for unit in group:
        pictures[unit] = torch.from_numpy(folder.arrays(_draft(folder, unit).stem, dict)["picture"])
    progress("drawing", len(pictures), total)


def file_name(unit: Unit) -> str:
    """The unit's file name: its address with every sign that a file system may refuse replaced.

    A direction's name also holds a digest of its address, since two files' names may differ in such a sign alone.
    """
    digest = f"-{hashlib.sha256(str(unit).encode()).hexdigest()[:8]}" if unit.vectors else ""
    return re.sub(r"[^\w.,@+-]", "_", str(unit)) + digest + ".png"


def values(unit: Unit, maps: Tensor) -> Tensor:
    """The unit's activation (n,) in maps (n, c, h, w)."""
    h = look(maps, unit.position)
    return h @ unit.direction(h.shape[1]).to(h)


def _groups(units: Sequence[Unit], drawing: Drawing, model: Model) -> list[list[Unit]]:
    """Units that one objective can hold, in order of appearance."""
    groups: dict[Any, list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.layer, unit.position, drawing.pixels(unit, model)), []).append(unit)
    return list(groups.values())


def _draft(folder: OutputFolder, unit: Unit) -> Any:
    return folder.draft / f"{file_name(unit)}.npz"


def _as_arrays(picture: Tensor) -> Arrays:
    return {"picture": picture.numpy()}


def _certify(
    model: Model,
    units: Sequence[Unit],
    pictures: Mapping[Unit, Tensor],
    folder: OutputFolder,
    drawing: Drawing,
    dataset: Mapping[Unit, NDArray[np.float32]],
    progress: Progress,
) -> list[Certificate]:
    trunks = {layer: Trunk(model, [layer], fold=False) for layer in dict.fromkeys(unit.layer for unit in units)}
    certificates = []
    for done, unit in enumerate(units, 1):
        picture = pictures[unit]
        pixels = picture[0] if len(picture) == 1 else picture[:3].permute(1, 2, 0)
        folder.write(file_name(unit), partial(Image.fromarray(pixels.contiguous().numpy()).save, format="PNG"))
        certificates.append(certify(unit, picture, trunks[unit.layer], drawing.seed, dataset.get(unit)))
        progress("certifying", done, len(units))
    folder.write_json("units.json", [asdict(certificate) for certificate in certificates])
    return certificates


def certify(
    unit: Unit, picture: Tensor, trunk: Trunk, seed: int = 0, dataset: NDArray[np.float32] | None = None
) -> Certificate:
    """The certificate of a unit's 8-bit picture (channels, h, w).

    trunk: reads the unit's layer, unfolded. dataset: the unit's activation (images,) on a data set.
    """
    image = picture[None].to(trunk.device).float() / 255
    with torch.inference_mode():
        maps = trunk(image)[unit.layer]
        activation = float(values(unit, maps))
        generators = [generator_for(seed, f"robustness {number}") for number in range(ROBUSTNESS_VIEWS)]
        views = DEFAULT_TRANSFORM(image.expand(ROBUSTNESS_VIEWS, -1, -1, -1), generators)
        robust = float(values(unit, trunk(views)[unit.layer]).mean())
        every = look(maps, unit.position)[0] * unit.sign
    known = dataset is not None and len(dataset) > 0
    highest = float(dataset.max()) if dataset is not None and known else None
    return Certificate(
        unit=str(unit),
        file=file_name(unit),
        activation=activation,
        robustness=robust / activation if activation > 0 else None,
        rank=None if unit.vectors else int((every > every[unit.channel]).sum()) + 1,
        saturated=float(((picture < 2) | (picture > 253)).float().mean()),
        dataset_max=highest,
        gain=activation / highest if highest is not None and highest > 0 else None,
        percentile=float((dataset < activation).mean() * 100) if dataset is not None and known else None,
        dead=bool(activation < np.median(dataset)) if dataset is not None and known else None,
        seed=seed,
    )
