"""The unit card as one figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featviz.draw.certificate import Certificate
from featviz.network.layers import OUTPUT

from ..exemplars.diverse import chosen
from ..exemplars.focus import activation_masks, views
from ..exemplars.layer_exemplars import Exemplar
from ..exemplars.sheet import INK, QUIET, crop, shade, whole
from ..images.blank import blank_figure
from .card import UnitCard
from .stimuli import Tuning, orientation_selectivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

    Band = Callable[[Figure, SubplotSpec], None]

BLUE = "#2f6fb3"
_TILE = 150
# Inches of the card's head, and of one share of its height.
_HEAD, _INCH = 1.45, 1.42


def draw(card: UnitCard, folder: Path) -> Figure:
    """The card as one figure; folder: where the superstimuli lie."""
    bands = _bands(card, folder)
    height = _HEAD + _INCH * sum(share for share, _ in bands)
    figure = blank_figure((14, height), color="white")
    shares = [share for share, _ in bands]
    edges = {"left": 0.045, "right": 0.975, "top": 1 - _HEAD / height, "bottom": 0.033}
    grid = figure.add_gridspec(len(bands), 1, height_ratios=shares, hspace=0.42, **edges)
    figure.text(0.045, 1 - 0.59 / height, card.name, fontsize=22, color=INK, va="center")
    figure.text(0.045, 1 - 0.98 / height, _summary(card), fontsize=11, color=QUIET, va="center")
    for number, (_, band) in enumerate(bands):
        band(figure, grid[number])
    return figure


def _bands(card: UnitCard, folder: Path) -> list[tuple[float, Band]]:
    """What the card shows from top to bottom, each with its share of the height."""
    missed = "near misses: to the layer's other channels like the strongest images, to this one below its median"
    weakest = card.exemplars.of(card.key, card.unit.channel, weakest=True)
    images: list[tuple[float, Band]] = [
        (2.5, partial(_strongest, card=card)),
        (1.1, partial(_plain_images, card=card, entries=weakest, text="weakest images")),
    ]
    bands: list[tuple[float, Band]] = [
        (3.0, partial(_superstimuli, card=card, folder=folder)),
        *([] if card.unmoved else images),
        (1.8, partial(_distribution, card=card)),
        (1.0, partial(_similar, card=card)),
        (1.5, partial(_tunings, card=card)),
    ]
    if card.missed and not card.unmoved:
        bands.insert(2, (1.1, partial(_plain_images, card=card, entries=card.missed, text=missed)))
    return bands


def _summary(card: UnitCard) -> str:
    model, images = card.exemplars.model, card.exemplars.images
    fields = card.exemplars.layers[card.key]
    reach = "reaches the whole image" if fields.fields.is_global else f"reaches {_side(card)} pixels"
    return (
        f"{model.name}, {len(card.values)} images of {Path(images.source).name}; {reach}, effectively "
        f"{fields.extent[0]:.0f} x {fields.extent[1]:.0f} of {model.preprocess.size[0]} x {model.preprocess.size[1]}"
    )


def _side(card: UnitCard) -> int:
    rows = card.exemplars.layers[card.key].fields.rows
    return int((rows[:, 1] - rows[:, 0]).max())


def _superstimuli(figure: Figure, place: SubplotSpec, card: UnitCard, folder: Path) -> None:
    inner = place.subgridspec(1, 3, width_ratios=[1, 1, 1.5], wspace=0.03)
    for number, entry in enumerate(_shown(card.certificates)):
        axes = figure.add_subplot(inner[number])
        with Image.open(folder / entry.file) as picture:
            axes.imshow(np.asarray(picture.convert("RGBA")))
        axes.set_axis_off()
        opposite = entry.unit != str(card.unit)
        axes.set_title("excites its opposite the most" if opposite else "excites it the most", fontsize=11, color=INK)
    axes = figure.add_subplot(inner[2])
    axes.set_axis_off()
    first = card.certificates[0]
    lines = [f"{name:<24}{value}" for name, value in _facts(card, first)]
    axes.text(0.08, 0.97, "\n".join(lines), fontsize=10.5, color=INK, va="top", family="monospace", linespacing=1.5)


def _shown(certificates: Sequence[Certificate]) -> list[Certificate]:
    """The first picture of the unit and the first of its opposite."""
    return list({entry.unit: entry for entry in reversed(certificates)}.values())[::-1][:2]


def _facts(card: UnitCard, entry: Certificate) -> list[tuple[str, str]]:
    path = [step.score for step in (entry.path_similarity or {}).values() if step.score is not None]
    # A channel's figures are means over its map; its strongest images, below, go by the map's largest value.
    mean = "" if card.unit.position is not None or card.unit.is_class else "mean "
    facts = [
        (f"{mean}activation", _number(entry.activation)),
        ("gain over images", _number(entry.gain)),
        ("in a clean pass", _number(entry.clean)),
        ("rank in the layer", "–" if entry.rank is None else str(entry.rank)),
        ("z in the layer", _number(entry.selectivity)),
        ("spectrum off by", _number(entry.slope_error)),
        ("path similarity", _number(float(np.mean(path)) if path else None)),
        *([] if entry.mis is None else [("interpretability", f"{entry.mis:.2f} (chance 0.50)")]),
        *([("dead", card.unmoved)] if card.unmoved else []),
        (f"images: median {mean}".strip(), _number(float(np.median(card.values)))),
        (f"images: largest {mean}".strip(), _number(float(card.values.max()))),
        (f"images: {mean}above zero", f"{(card.values > 0).mean():.0%}"),
    ]
    known = [(name, value) for name, value in facts if value != "–"]
    return known + _crop_facts(card) + _class_facts(card)


def _crop_facts(card: UnitCard) -> list[tuple[str, str]]:
    known = [(each.alone, each.without) for each in card.sufficiency if each.alone is not None]
    if not known:
        return []
    alone, without = np.median(np.array(known, dtype=float), axis=0)
    return [("crop alone keeps", f"{alone:.0%} (median)"), ("image without it", f"{without:.0%}")]


def _class_facts(card: UnitCard) -> list[tuple[str, str]]:
    known = card.selectivity
    if known is None:
        return [("preferred class", "too few images per class")]
    name = _class_name(card, known.label)
    return [
        ("preferred class", name),
        ("above the others by", f"{known.index:.2f} sd [{known.interval[0]:.2f}, {known.interval[1]:.2f}]"),
        ("by chance", f"{known.chance[0]:.2f} to {known.chance[1]:.2f} sd, p = {known.p:.3f}"),
    ]


def _class_name(card: UnitCard, label: int) -> str:
    """The images' own name for it: a folder's labels need not be the model's classes."""
    images = card.exemplars.images
    return next((images.class_names[i] for i, own in enumerate(images.labels) if own == label), "") or f"class {label}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _strongest(figure: Figure, place: SubplotSpec, card: UnitCard) -> None:
    found, channel = card.exemplars, card.unit.channel
    entries = chosen(found, card.key, channel).exemplars[:9]
    masks = activation_masks(found, card.key, channel, views(found, [entry.image for entry in entries]))
    inner = place.subgridspec(2, 9, wspace=0.05, hspace=0.05)
    for column, entry in enumerate(entries):
        image = found.images.open(entry.image)
        shaded = shade(image, masks[column], found.view(entry.image))
        for row, picture in enumerate(
            (crop(image, entry.effective_box, _TILE), whole(shaded, entry.effective_box, _TILE))
        ):
            axes = figure.add_subplot(inner[row, column])
            axes.imshow(np.asarray(picture))
            axes.set_axis_off()
            if row == 0:
                axes.set_title(f"{entry.value:.3g}", fontsize=9, color=INK, pad=3)
            else:
                text = _label(card, entry)
                axes.text(0.5, -0.04, text, transform=axes.transAxes, fontsize=8, color=QUIET, ha="center", va="top")
    value = "the largest value of the map" if card.unit.position is None and not card.unit.is_class else "its value"
    dark = "" if found.layers[card.key].grid == (1, 1) else ", dark where the unit is not active"
    _heading(figure, place, f"strongest images, by {value}: the part that moves it, and the whole image{dark}")


def _plain_images(figure: Figure, place: SubplotSpec, card: UnitCard, entries: Sequence[Exemplar], text: str) -> None:
    """Whole images in a row."""
    inner = place.subgridspec(1, 9, wspace=0.05)
    for column, entry in enumerate(entries[:9]):
        axes = figure.add_subplot(inner[column])
        image = card.exemplars.images.open(entry.image)
        axes.imshow(np.asarray(crop(image, (0, 0, *image.size), _TILE)))
        axes.set_axis_off()
        axes.set_title(f"{entry.value:.3g}", fontsize=9, color=INK, pad=3)
    _heading(figure, place, text)


def _label(card: UnitCard, entry: Exemplar) -> str:
    text = card.exemplars.images.class_names[entry.image] or entry.name
    return text if len(text) <= 18 else f"{text[:17]}…"


def _distribution(figure: Figure, place: SubplotSpec, card: UnitCard) -> None:
    """How often each activation occurs, and how much it adds to the mean: x p(x)."""
    inner = place.subgridspec(1, 2, wspace=0.16)
    activations = card.values[np.isfinite(card.values)].astype(np.float64)
    varies = np.ptp(activations) > 1e-6 * (np.abs(activations).max() + 1e-12)
    counts, bounds = np.histogram(activations, bins=min(60, max(8, len(activations) // 8)) if varies else 1)
    middle = (bounds[:-1] + bounds[1:]) / 2
    width = bounds[1] - bounds[0]
    density = counts / counts.sum() / width
    what = "activation" if card.unit.position is not None or card.unit.is_class else "activation (mean over the map)"
    panels = (
        (density, f"how often each {what} occurs; the median dotted"),
        (middle * density, "what each adds to the mean: x p(x)"),
    )
    for column, (heights, text) in enumerate(panels):
        axes = figure.add_subplot(inner[column])
        axes.bar(middle, heights, width=width, color=BLUE, linewidth=0)
        axes.axvline(float(np.median(card.values)), color=INK, linewidth=1, linestyle=":")
        axes.set_title(text, fontsize=10, color=INK, loc="left")
        _plain(axes)


def _similar(figure: Figure, place: SubplotSpec, card: UnitCard) -> None:
    inner = place.subgridspec(1, 5, wspace=0.08)
    alike = [pair for pair in card.similar if pair[1] > 0][:5]
    for column, (channel, correlation) in enumerate(alike):
        entries = card.exemplars.of(card.key, channel)[:3]
        strip = Image.new("RGB", (3 * 84 - 4, 80), "white")
        for number, entry in enumerate(entries):
            picture = crop(card.exemplars.images.open(entry.image), entry.effective_box, 80)
            strip.paste(picture, (number * 84, 0))
        axes = figure.add_subplot(inner[column])
        axes.imshow(np.asarray(strip))
        axes.set_axis_off()
        axes.set_title(f"{_channel_name(card, channel)}, r = {correlation:.2f}", fontsize=9, color=INK)
    _heading(figure, place, "channels whose values go with it over the images")


def _channel_name(card: UnitCard, channel: int) -> str:
    """A class by its name; else a unit by its number, since the layer is the card's own and its name may be long."""
    labels = card.exemplars.model.labels
    if card.key != OUTPUT or channel >= len(labels):
        unit = card.exemplars.layers[card.key].readout.unit(channel)
        return unit if len(card.key) <= 15 else f"…:{channel}"
    return labels[channel] if len(labels[channel]) <= 20 else f"{labels[channel][:19]}…"


def _tunings(figure: Figure, place: SubplotSpec, card: UnitCard) -> None:
    inner = place.subgridspec(1, len(card.tunings), wspace=0.32)
    for column, found in enumerate(card.tunings):
        axes = figure.add_subplot(inner[column])
        curve = found.responses[:, card.unit.channel]
        axes.plot(found.values, curve, color=BLUE, linewidth=1.6, marker="o", markersize=2.5)
        axes.axhline(0, color=QUIET, linewidth=0.6)
        if found.along in ("frequency", "diameter"):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
        axes.set_title(_tuning_title(found, card.unit.channel), fontsize=9, color=INK)
        axes.set_xlabel(_UNITS[found.along], fontsize=8)
        _plain(axes)
    _heading(
        figure, place, "answers to synthetic stimuli at the middle of the map, less the answer to grey", lift=0.022
    )


_UNITS = {
    "orientation": "degrees",
    "frequency": "cycles per pixel",
    "diameter": "pixels",
    "hue": "degrees",
}


def _tuning_title(found: Tuning, channel: int) -> str:
    if found.along != "orientation":
        return found.name
    preferred, strength = orientation_selectivity(found, period=180 if found.name == "bars" else 360)
    return f"{found.name}: {preferred[channel]:.0f}°, OSI {strength[channel]:.2f}"


def _heading(figure: Figure, place: SubplotSpec, text: str, *, lift: float = 0.014) -> None:
    box = place.get_position(figure)
    figure.text(box.x0, box.y1 + lift, text, fontsize=11, color=INK, va="bottom")


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
