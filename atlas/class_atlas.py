"""Class atlases: the activations that speak for one class, laid out, drawn and tinted by how much they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from featviz.errors import UserError, unknown
from featviz.network.classifier import feature_layer, find_classifier
from featviz.network.effects import ClassEffects
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.run.keep import Under
from featviz.seeds import generator_for

from .classes import members
from .label import named
from .panels import Panel, panels_figure
from .project import Floats, Reducer, vectors_needed
from .result import Atlas
from .sample import Sample, revisit
from .settings import LabelledBy
from .stages import Stages
from .tree import MINUS, PLUS, terminals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE, DISCRIMINATIVE, CONFUSING, RANDOM, CHOSEN = "whole", "discriminative", "confusing", "random", "chosen"
# 8 x 8 cells, as in the article, and so few that each can be drawn large and long; many vectors, since few belong to
# one class; the least number in a cell by how many there are (0). The rate: at 0.15 late layers' icons burn (2 % of
# their pixels black or white, against none) and score less.
DEFAULTS: dict[str, Any] = {"grid": (8,), "samples": 20_000, "min_count": 0, "icon": 112, "steps": 160, "lr": 0.16}
_LEAST = 5
RULES = {
    "rank": "those that affect the class the most of all",
    "magnitude": "those with the largest effect on it",
    "both": "those that affect the class the most of all, or that affect it the most",
}


@dataclass(frozen=True)
class ClassPanel:
    """One class atlas.

    `name`: whole, or which channels it is restricted to; `label`: the class; `atlas`: its cells, icons, and its part of
    the sample, of whose vectors and effects `channels` alone count (None: all); `rows`: which rows of the whole sample;
    `winners`: how many of all activations have their strongest effect on the class, within the channels; `recall`: of
    those that do over all channels, the share that does within these; `precision`: of those that do within these, the
    share that does over all.
    """

    name: str
    label: int
    atlas: Atlas
    rows: NDArray[np.int64]
    channels: tuple[int, ...] | None
    winners: int
    recall: float | None
    precision: float | None

    @property
    def tint(self) -> dict[str, float]:
        """Cell key -> mean effect on the class."""
        return self.atlas.cell_effects(self.label)

    @property
    def own_cells(self) -> float:
        """The share of the cells that have their largest effect on the class (the confusing: their most negative)."""
        return float(np.mean([cell.top[0][0] == self.label for cell in self.atlas.cells]))

    def panel(self, labels: LabelledBy) -> Panel:
        """For a figure: tinted by the effect on the class."""
        name = self.atlas.class_name(self.label)
        heading = name if self.channels is None else f"{self.name}: {len(self.channels)} channels"
        return self.atlas.panel(heading=heading, tint=self.tint, labelled_by=labels)


@dataclass(frozen=True)
class ClassAtlas:
    """The atlas of a class, `panels[0]`; beside it, where it is restricted to channels, what it is to be held against.

    `by`: how its activations are chosen (`members`); `manifest`: how it was made.
    """

    label: int
    by: str
    panels: tuple[ClassPanel, ...]
    manifest: dict[str, Any]

    @property
    def atlas(self) -> Atlas:
        """The class's atlas itself."""
        return self.panels[0].atlas

    @property
    def name(self) -> str:
        """The class's name."""
        return self.atlas.class_name(self.label)

    @property
    def labelled_by(self) -> LabelledBy:
        """What the cells of all its panels are labelled with."""
        return labelled_by(*(panel.atlas for panel in self.panels))

    def figure(self) -> Figure:
        """All panels side by side on one scale."""
        settings = self.atlas.settings
        caption = (
            f"{', '.join(f'{len(panel.rows):,}' for panel in self.panels)} of {self.manifest['vectors']:,} activations "
            f"of {self.manifest['images']['used']:,} images: {RULES[self.by]}; {settings.reducer}\n"
            "colour: mean effect on the class"
        )
        labels = self.labelled_by
        told = self.atlas.labels_told(labels)
        caption += f"; {told}" * bool(told)
        title = f"{self.name} in {settings.layer} of {self.manifest['model']}"
        return panels_figure(
            [panel.panel(labels) for panel in self.panels]
            if len(self.panels) > 1
            else [replace(self.panels[0].panel(labels), heading="")],
            title=title,
            caption=caption,
            tint=f"effect on {self.name}",
        )


def labelled_by(*atlases: Atlas) -> LabelledBy:
    """What the cells of atlases of classes that are seen together are labelled with, in figures and on pages alike.

    The class that each changes most, which is what such atlases are about, where that means anything in all of them;
    else names.
    """
    return "classes" if all(atlas.speaks_for for atlas in atlases) else "names"


def class_panel(
    run: Stages,
    whole: Sample,
    label: int,
    reduce: Reducer,
    about: dict[str, Any],
    *,
    by: str = "both",
    count: int | None = None,
    name: str = WHOLE,
    channels: Sequence[int] | None = None,
) -> ClassPanel:
    """The atlas of one class from a whole sample with effects, within channels where they are given.

    The confusing channels' is of the activations that speak against the class the most. Whitening is by all vectors of
    the sample. about: what the atlas's figures and pages are to say of how it was made. Raises `UserError` where too
    few activations belong to the class.
    """
    assert whole.effects is not None
    seen = whole if channels is None else within_channels(run, whole, channels)
    assert seen.effects is not None
    effects = -seen.effects if name == CONFUSING else seen.effects
    rows = members(effects, label, by=by, count=count)
    settings = run.settings
    check_enough(rows, effects, run.model, label, by, settings.reducer)
    level = settings.grid[0]
    least = settings.min_count or min(_LEAST, max(1, len(rows) // (2 * level**2)))
    own = replace(
        run, settings=replace(settings, min_count=least), keep=Under(f"{name}-{label}", run.keep), workers=run.workers
    )
    part = seen.part(rows)
    shown = replace(part, effects=effects[rows])
    xy = own.layout(part, reduce)
    cells, pictures = own.icons(own.cells(shown, xy), seen.vectors, channels=channels)
    if name == CONFUSING:
        cells = tuple(replace(cell, top=tuple((each, -value) for each, value in cell.top)) for cell in cells)
    atlas = Atlas(own.settings, cells, pictures, part, xy, run.images.names, about, run.model.labels)
    atlas = named(atlas, run.model, run.images, whole=seen, workers=run.workers, progress=run.progress)
    winners = effects.argmax(1) == label
    wanted = whole.effects.argmax(1) == label
    held = channels is not None and name != CONFUSING
    recall = float(winners[wanted].mean()) if held and wanted.any() else None
    precision = float(wanted[winners].mean()) if held and winners.any() else None
    kept = None if channels is None else tuple(channels)
    return ClassPanel(name, label, atlas, rows, kept, int(winners.sum()), recall, precision)


def check_enough(rows: NDArray[np.int64], effects: Floats, model: Model, label: int, by: str, reducer: str) -> None:
    """Raise `UserError` unless a class has enough activations for a layout."""
    needed = vectors_needed(reducer)
    if len(rows) >= needed:
        return
    positive = int((effects[:, label] > 0).sum())
    raise UserError(
        f"by {by}, {len(rows)} of {len(effects):,} activations belong to {model.class_name(label)!r} (it is the "
        f"strongest class of {int((effects.argmax(1) == label).sum())}, {positive:,} speak for it); a class atlas "
        f"takes {needed}. Use more images of it, raise --samples, or choose --by magnitude."
    )


def within_channels(run: Stages, whole: Sample, channels: Sequence[int]) -> Sample:
    """The sample in the subspace of some channels: their values alone, and what they alone do to each class."""
    wanted = list(channels)
    model, layer = run.model, run.settings.layer
    _, rows, columns = Trunk(model, [layer], fold=False).map_size(layer)
    classifier, usual = linear_head(model, layer), run.usual()
    if classifier is not None:
        # Features are the map's means, so each position's share of a logit is its product with the weights.
        own = whole.vectors[:, wanted] - usual.numpy()[wanted]
        effects = own @ classifier[:, wanted].T / (rows * columns)
        return replace(whole, vectors=whole.vectors[:, wanted], effects=effects.astype(np.float32))
    found = ClassEffects(model, layer, usual, channels=wanted)
    again, kept = revisit(
        model, layer, run.images, whole, (rows, columns), effects=found, workers=run.workers, progress=run.progress
    )
    if len(kept) != len(whole):
        raise UserError(f"{len(whole) - len(kept)} activations could not be read again: have the images changed?")
    return replace(whole, vectors=whole.vectors[:, wanted], effects=again.effects)


def linear_head(model: Model, layer: str) -> NDArray[np.float32] | None:
    """(classes, channels) the classifier's weights where the layer is the last feature map, else None."""
    try:
        classifier = find_classifier(model)
        if feature_layer(model, classifier) != layer:
            return None
    except UserError:
        return None
    return classifier.weight.numpy()


def chosen_channels(
    model: Model, layer: str, label: int, channels: str | Sequence[int], *, seed: int
) -> dict[str, tuple[int, ...]]:
    """Name -> channels of the panels: those asked for first, random ones of the same number last.

    channels: `discriminative` or `confusing`, the class's terminal features of the asymmetric-Laplace split
    (arXiv 2205.11908), at the last feature map; or numbers. Raises `UserError` for a layer or channels that are none.
    """
    size, _, _ = Trunk(model, [layer], fold=False).map_size(layer)
    if isinstance(channels, str):
        panels = _terminal(model, layer, label, channels)
    else:
        panels = {CHOSEN: tuple(dict.fromkeys(channels))}
    first = next(iter(panels.values()))
    if len(first) < 2 or min(first) < 0 or max(first) >= size:
        raise UserError(f"an atlas takes two or more channels; {layer!r} has 0 to {size - 1}, got {list(first)[:9]}.")
    order = torch.randperm(size, generator=generator_for(seed, "random channels")).tolist()
    return {**panels, RANDOM: tuple(sorted(order[: len(first)]))}


def _terminal(model: Model, layer: str, label: int, wanted: str) -> dict[str, tuple[int, ...]]:
    sides = {DISCRIMINATIVE: PLUS, CONFUSING: MINUS}
    if wanted not in sides:
        raise unknown("kind of channels", wanted, list(sides))
    classifier = find_classifier(model)
    last = feature_layer(model, classifier)
    if last is None:
        raise UserError(f"the features of {model.name} are no means of a map: {wanted} channels have no positions.")
    if layer != last:
        raise UserError(f"{wanted} channels are those of the last feature map: give the layer {last!r}, not {layer!r}.")
    weights = classifier.weight[label : label + 1].double().numpy()
    found = {name: tuple(sorted(terminals(weights, sign).members[0])) for name, sign in sides.items()}
    return {wanted: found.pop(wanted), **found}
