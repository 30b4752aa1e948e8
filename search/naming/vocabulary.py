"""Where names come from: labels of photographs, a hierarchy above them, or what a network takes them for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError
from featviz.network.layers import OUTPUT
from featviz.network.models import Model
from featviz.progress import Progress, silent

from ..images.images import Images
from ..scan.scan import scan
from ..scan.statistics import PooledMaps
from .hierarchy import Hierarchy, open_hierarchy

Bools = NDArray[np.bool_]
# Signs of a name that are shown; longer ones are cut.
LONGEST = 60


@dataclass(frozen=True)
class Concepts:
    """Names, and of which images they are true.

    `names`; `members`: (images, names); `known`: (images,) those of which anything is known; `by`: who says so;
    `above`: a name -> the names above it, nearest first; `graded`: (images, names) how sure, where that is known.
    """

    names: tuple[str, ...]
    members: Bools
    known: Bools
    by: str
    above: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    graded: NDArray[np.float32] | None = None


class Vocabulary(Protocol):
    """Whatever says which names are true of images. The names are the same ones, in the same order, for any images."""

    def of(self, images: Images, numbers: Sequence[int], *, progress: Progress = silent) -> Concepts:
        """The names of images by their numbers."""


@dataclass(frozen=True)
class Labels:
    """The classes of labelled images, and what a hierarchy says lies above them.

    hierarchy: as `open_hierarchy` takes it. classes: class index -> name; default: as the images name them. by_name:
    whether the images' classes are found in `classes` by name, since their numbers are others.
    """

    hierarchy: str | Path | Hierarchy | None = "auto"
    classes: Mapping[int, str] = field(default_factory=dict)
    by_name: bool = False

    @classmethod
    def among(cls, images: Sequence[Images], hierarchy: str | Path | Hierarchy | None = "auto") -> Labels:
        """Those of several sets of images, by one and the same names: each may number its sub-folders otherwise."""
        pairs = list(dict.fromkeys(pair for each in images for pair in class_names(each).items()))
        known = dict(pairs)
        # Of classes with stated numbers, two may have one name: ImageNet has two cranes.
        numbered = all(each.numbered for each in images) or len({name for _, name in pairs}) == len(pairs)
        if len(known) == len(pairs) and numbered:
            return cls(hierarchy, known)
        return cls(hierarchy, dict(enumerate(dict.fromkeys(name for _, name in pairs))), by_name=True)

    def of(self, images: Images, numbers: Sequence[int], *, progress: Progress = silent) -> Concepts:
        """Raises `UserError` for images without labels."""
        names = dict(self.classes) or class_names(images)
        if not names:
            raise UserError(
                f"no image of {images.source!r} has a label: give the folder a labels.csv, or take names from the "
                "network's own classes (--by classes)."
            )
        labels = np.array([images.labels[number] for number in numbers], dtype=np.int64)
        if self.by_name:
            own, known = class_names(images), {name: label for label, name in names.items()}
            labels = np.array([known.get(own.get(label, ""), -1) for label in labels.tolist()], dtype=np.int64)
        numbered = images.numbered and not self.by_name
        return _concepts(labels, names, open_hierarchy(self.hierarchy, names), "labels", numbered=numbered)


@dataclass(frozen=True)
class Predictions:
    """The classes that a network takes images for, and what a hierarchy says lies above them.

    model: the network that is looked into, or another; hierarchy: as `open_hierarchy` takes it.
    """

    model: Model
    hierarchy: str | Path | Hierarchy | None = "auto"

    def of(self, images: Images, numbers: Sequence[int], *, progress: Progress = silent) -> Concepts:
        """Raises `UserError` for a network without classes."""
        if not self.model.labels:
            raise UserError(f"{self.model.name} names no classes: names cannot come from what it takes images for.")
        logits = answers(self.model, images, numbers, progress=progress)
        known = np.isfinite(logits).all(1)
        labels = np.where(known, np.nan_to_num(logits, nan=-np.inf).argmax(1), -1)
        names = dict(enumerate(self.model.labels))
        found = open_hierarchy(self.hierarchy, names)
        return _concepts(labels, names, found, f"classes of {self.model.name}", None if found else logits)


def answers(
    model: Model, images: Images, numbers: Sequence[int], *, progress: Progress = silent
) -> NDArray[np.float32]:
    """(numbers, outputs) what a network answers to images; NaN for those that cannot be decoded."""
    found = PooledMaps()
    scan(model, images, [OUTPUT], [found], numbers=numbers, progress=progress)
    state = found.state()
    rows = np.full((len(numbers), state[OUTPUT].shape[1]), np.nan, np.float32)
    places = {number: place for place, number in enumerate(numbers)}
    rows[[places[number] for number in state["image"].tolist()]] = state[OUTPUT].numpy()
    return rows


def class_names(images: Images) -> dict[int, str]:
    """Class index -> name of the classes that images are of; `class 3` where it has none."""
    pairs = zip(images.labels, images.class_names, strict=True)
    return {label: name or f"class {label}" for label, name in pairs if label >= 0}


def _concepts(
    labels: NDArray[np.int64],
    names: Mapping[int, str],
    hierarchy: Hierarchy | None,
    by: str,
    graded: NDArray[np.float32] | None = None,
    *,
    numbered: bool = True,
) -> Concepts:
    """What classes of images, (images,) with -1 for none, make true. numbered: whether their numbers are a class's."""
    nodes = {
        label: None if hierarchy is None else hierarchy.node(label if numbered else -1, name)
        for label, name in names.items()
    }
    # A class that the hierarchy does not know has nothing above it.
    alone = [label for label in sorted(names) if nodes[label] is None]
    nodes_names = () if hierarchy is None else hierarchy.names
    texts = (*nodes_names, *(names[label] for label in alone))
    columns = {label: len(nodes_names) + place for place, label in enumerate(alone)}
    members = np.zeros((len(labels), len(texts)), np.bool_)
    above: dict[str, tuple[str, ...]] = {}
    for label in np.unique(labels[labels >= 0]).tolist():
        node = nodes.get(label)
        rows = np.flatnonzero(labels == label)[:, None]
        if hierarchy is None or node is None:
            members[rows, columns[label]] = True
        else:
            members[rows, list(hierarchy.lines[node])] = True
    if hierarchy is not None:
        members[:, list(hierarchy.silent)] = False
        for node in np.flatnonzero(members.any(0)).tolist():
            if node < len(nodes_names):
                line = sorted(hierarchy.lines[node] - {node}, key=lambda each: -len(hierarchy.lines[each]))
                above[texts[node]] = tuple(texts[each] for each in line if each not in hierarchy.silent)
    return Concepts(tuple(map(_short, texts)), members, labels >= 0, by, above, graded)


def _short(text: str) -> str:
    """On one line, and no longer than can be shown."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1].rstrip()}…"
