"""The command `atlas dissect`: a convolution's channel on an image, taken apart input channel by input channel."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featviz.errors import UserError
from featviz.explain.dissection import Dissection
from featviz.explain.dissection import dissect as take_apart
from featviz.network.models import Model
from featviz.network.units import parse_units
from featviz.run.output import OutputFolder
from search.images.decode import central_view

from .claim import claim, identify
from .dissect_figure import describe, dissection_figure
from .explain import image_digest, open_image
from .explorer import Report, make_book, write_viewer
from .figure import save_figure
from .stages import versions

# Rows of a figure that can still be looked at, and be shown on a page.
_MOST = 100


def dissect(
    model: Model,
    unit: str,
    image: str | Path | Image.Image,
    *,
    rows: int = 12,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Dissection:
    """Take a channel of a convolution apart on an image; the input channels that matter the most come first.

    unit: one channel, `conv_stem:3`. image: a file or an opened image. rows: how many input channels the figure shows.
    With `out`, dissection.png, dissection.json (every channel's share), contributions.npy, index.html, manifest.json.
    Raises `UserError` as `dissect` does, and for a file that is no image.
    """
    if not 1 <= rows <= _MOST:
        raise UserError(f"--rows lies between 1 and {_MOST} (dissection.json holds every channel); got {rows}.")
    units = parse_units(unit, model)
    if len(units) != 1:
        raise UserError(f"{unit!r} names {len(units)} units: `atlas dissect` takes one channel, such as conv_stem:3.")
    view = central_view(open_image(image, model.preprocess), model.preprocess)
    found = take_apart(model, units[0], view).strongest_first()
    if out is not None:
        identity = identify("dissect", model, None, unit=str(units[0]), rows=rows, image=image_digest(view))
        folder = claim(out, identity, model, None, overwrite=overwrite)
        if not folder.finished:
            _write(found, folder, model, Path(str(getattr(image, "filename", image))).name, rows, identity)
    return found


def conclusion(found: Dissection) -> list[str]:
    """What was found, in words."""
    row, column = found.place
    value, shares = float(found.output[row, column]), found.at_place
    whole = float(shares.abs().sum()) or 1.0
    half = int((shares.abs().cumsum(0) < whole / 2).sum()) + 1
    most = zip(found.channels[:3].tolist(), shares[:3].tolist(), strict=True)
    first = ", ".join(f"{channel} ({share:+.3g})" for channel, share in most)
    error = float((found.running_sums()[-1] - found.output).abs().max())
    return [
        f"{found.unit} is {value:.4g} where it is the largest, row {row}, column {column}: its bias is "
        f"{found.bias:.4g}, and {len(shares)} input channels add {float(shares.sum()):.4g}.",
        f"The most comes from {first}; {half} of {len(shares)} make half of all that is added and taken away.",
        f"Bias and contributions add up to the layer's real output within {error:.1g}.",
    ]


def _write(
    found: Dissection, folder: OutputFolder, model: Model, image: str, rows: int, identity: dict[str, Any]
) -> None:
    title = f"{found.unit} on {image}: {model.name}"
    figure = dissection_figure(found, model, rows=rows, title=title)
    png = folder.write("dissection.png", partial(save_figure, figure)).read_bytes()
    table = [
        {
            "channel": int(channel),
            "description": describe(found, number, model),
            "at the largest": round(float(found.at_place[number]), 6),
            "mean": round(float(found.contributions[number].mean()), 6),
        }
        for number, channel in enumerate(found.channels)
    ]
    lines = conclusion(found)
    about = {"unit": str(found.unit), "bias": found.bias, "place": list(found.place), "channels": table}
    folder.write_json("dissection.json", about)
    folder.write("contributions.npy", partial(_save, found.contributions.numpy()))
    report = Report(title, lines, {"Input channels, those that matter the most first": png}, table)
    facts = {"model": model.name, "unit": str(found.unit), "image": image}
    write_viewer(make_book([], title=title, facts=facts, reports=[report]), folder)
    folder.finish(
        {
            "command": "dissect", "model": model.name, "image": image, "versions": versions(), "conclusion": lines,
            "identity": identity,
        }
    )  # fmt: skip


def _save(values: Any, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, values)
