"""An atlas that exists and photographs with names -> the same atlas, its cells and regions named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError
from featviz.network.models import Model, load_model
from featviz.progress import Progress, silent
from featviz.run.output import OutputFolder
from search.exemplars.names import LEAST, enough
from search.images.images import Images, open_images
from search.naming.hierarchy import Hierarchy
from search.naming.naming import MOST_IMAGES, Name
from search.naming.text import Words
from search.naming.vocabulary import Concepts, Labels, Predictions, Vocabulary

from .cell_names import Floats, Seen, name_cells, nearest_cells, shared_out
from .files import load, write_again
from .grid import Cell, cell_numbers
from .regions import find_regions
from .result import Atlas
from .sample import Sample, sample

# Cells of a level, beyond which regions are those of a coarser one.
MOST_JOINED = 2500
# Who says what photographs show, besides another network's name.
SOURCES = ("labels", "classes")
# Before the name of a network of images and text.
TEXT = "open_clip:"


def label(
    atlas: Atlas,
    images: str | Path | Images,
    *,
    vocabulary: Vocabulary | None = None,
    check: str | Path | Images | None = None,
    model: Model | None = None,
    whole: Sample | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Atlas:
    """Name an atlas's cells and regions by photographs: each gets a name with its evidence, or none.

    images: those that the atlas was made of, or others. vocabulary: which names are true of them; default: their
    labels, and what lies above those in a hierarchy. check: photographs that check the names; default: three fifths of
    `images`, and the others choose. model: the atlas's network, which looks at other images than its own; default: by
    its name. whole: all activations of `images`, where the atlas holds a part of them alone, as one of a class does.
    Raises `UserError` where too few photographs have names.
    """
    how = None if model is None else model.preprocess
    source = open_images(images, how)
    checks = None if check is None else open_images(check, how)
    words = vocabulary or Labels.among([source] if checks is None else [source, checks])
    photographs = _Photographs(atlas, words, model, whole, seed, workers, progress)
    if checks is None:
        (first, second), concepts = photographs.in_two(source)
    else:
        first, concepts = photographs.all_of(source)
        second, others = photographs.all_of(checks)
        if others.names != concepts.names:
            raise UserError("the vocabulary has other names for the photographs that check than for those that choose.")
    middle = (whole or atlas.sample).vectors.mean(0, dtype=np.float64).astype(np.float32)
    named = dict[str, Name | None]()
    for level in atlas.levels:
        cells = [cell for cell in atlas.cells if cell.level == level]
        names = name_cells(cells, middle, first, second, concepts) if cells else []
        named |= {cell.key: name for cell, name in zip(cells, names, strict=True)}
    cells = [replace(cell, name=named[cell.key]) for cell in atlas.cells]
    joined = _joined(atlas)
    inside = [photographs.inside(seen, joined, middle) for seen in (first, second)]
    regions = find_regions(joined, middle, (first, second), inside, concepts)
    said = {cell.name.text for cell in cells if cell.name} | {region.name.text for region in regions}
    about = {
        "by": concepts.by,
        "chosen_on": len(first.members),
        "checked_on": len(second.members),
        "images": Path(source.source).name,
        "check": None if checks is None else Path(checks.source).name,
        "cells": {str(level): _counted(cells, level) for level in atlas.levels},
        "regions": len(regions),
        "seed": seed,
        "above": {text: list(above) for text, above in concepts.above.items() if text in said},
    }
    manifest = {name: value for name, value in atlas.manifest.items() if name != "names_refused"}
    return replace(atlas, cells=tuple(cells), regions=regions, manifest={**manifest, "names": about})


def vocabulary_of(
    by: str,
    hierarchy: str | Path | Hierarchy | None,
    images: Sequence[Images],
    model: Model | None,
    words: str | Path | None = None,
) -> Vocabulary:
    """Where names come from, by a word: `labels`, `classes` of the network itself, or another network's name.

    Also `open_clip:NAME/PRETRAINED`, which takes a file of `words`.
    Raises `UserError` for a word that is none of those.
    """
    if by == "labels":
        return Labels.among(images, hierarchy)
    if by == "classes":
        if model is None:
            raise UserError("names by classes need the atlas's network.")
        return Predictions(model, hierarchy)
    if by.startswith(TEXT):
        if words is None:
            raise UserError(f"--by {by} takes the words to choose among: --words FILE, one on each line.")
        return Words.of_file(words, by.removeprefix(TEXT))
    try:
        return Predictions(load_model(by), hierarchy)
    except UserError as error:
        raise UserError(
            f"--by takes {', '.join(SOURCES)}, {TEXT}NAME/PRETRAINED or a network's name: {error}"
        ) from error


def named(
    atlas: Atlas,
    model: Model,
    images: Images,
    *,
    whole: Sample | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Atlas:
    """The same atlas with names, where the images in it have labels enough, or else its network names classes.

    whole: all activations of the images, where the atlas holds a part of them alone. An atlas that is drawn is never
    lost for want of names.
    """
    seen = np.unique((whole or atlas.sample).image)
    if enough([images.labels[number] for number in seen.tolist()]):
        words: Vocabulary = Labels.among([images])
    elif model.labels and len(seen) >= LEAST:
        words = Predictions(model)
    else:
        return replace(atlas, manifest={**atlas.manifest, "names": None})
    seed = atlas.settings.seed
    try:
        return label(
            atlas, images, vocabulary=words, model=model, whole=whole, seed=seed, workers=workers, progress=progress
        )
    except UserError as error:
        return replace(atlas, manifest={**atlas.manifest, "names": None, "names_refused": str(error)})


def label_folder(
    folder: str | Path,
    images: str | Path | Images,
    *,
    by: str = "labels",
    hierarchy: str | Path | Hierarchy | None = "auto",
    words: str | Path | None = None,
    check: str | Path | Images | None = None,
    model: Model | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Atlas:
    """Name the atlas in a finished folder of `atlas build`, in place of what it was named before; nothing is drawn.

    by: `labels`, `classes`, the name of a network that says what photographs show, or `open_clip:NAME/PRETRAINED`
    with a file of `words`. The other arguments are those of `label` and `Labels`. cells.json, regions.json, figures,
    the page and manifest.json are written again.
    """
    out = OutputFolder.reopen(folder)
    try:
        atlas = load(out.path)
        if atlas.manifest["command"] != "build":
            raise UserError(
                f"{str(folder)!r} was made by `atlas {atlas.manifest['command']}`, which names cells as it makes them; "
                "what can be named anew is an atlas of `atlas build`."
            )
        source = open_images(images)
        checks = None if check is None else open_images(check)
        own = model
        if own is None and by == "classes":
            own = load_model(str(atlas.manifest["model"]))
        known = [source] if checks is None else [source, checks]
        vocabulary = vocabulary_of(by, hierarchy, known, own, words)
        made = label(
            atlas, source, vocabulary=vocabulary, check=checks, model=own, seed=seed, workers=workers, progress=progress
        )
        write_again(made, out)
    finally:
        out.let_go()
    return made


class _Photographs:
    """What the atlas's network does on photographs, and what is known of them."""

    def __init__(
        self,
        atlas: Atlas,
        words: Vocabulary,
        model: Model | None,
        whole: Sample | None,
        seed: int,
        workers: int | None,
        progress: Progress,
    ) -> None:
        self.atlas, self.words, self.model, self.whole, self.seed = atlas, words, model, whole, seed
        self.workers, self.progress = workers, progress

    def in_two(self, images: Images) -> tuple[tuple[Seen, Seen], Concepts]:
        """Those that choose names and those that check them."""
        found = self._sample(images)
        numbers = self._some(found, 2 * MOST_IMAGES)
        concepts = self.words.of(images, numbers.tolist(), progress=self.progress)
        return shared_out(found.vectors, found.image, numbers, concepts, self.seed), concepts

    def all_of(self, images: Images) -> tuple[Seen, Concepts]:
        found = self._sample(images)
        numbers = self._some(found, MOST_IMAGES)
        concepts = self.words.of(images, numbers.tolist(), progress=self.progress)
        kept = np.flatnonzero(concepts.known)
        return Seen.of(found.vectors, found.image, numbers[kept], concepts.members[kept]), concepts

    def inside(self, seen: Seen, cells: Sequence[Cell], middle: Floats) -> NDArray[np.int64]:
        """(n,) in which of the cells of a level each activation lies, -1 for none: on the map, or by the nearest."""
        if seen.source is not self.atlas.sample.vectors:
            return nearest_cells(seen.vectors, cells, middle)
        level = cells[0].level
        numbers = np.full(level * level, -1, dtype=np.int64)
        numbers[[cell.row * level + cell.col for cell in cells]] = np.arange(len(cells))
        found: NDArray[np.int64] = numbers[cell_numbers(self.atlas.xy[seen.rows], level)]
        return found

    def _some(self, found: Sample, most: int) -> NDArray[np.int64]:
        """The numbers of images with activations, rising; of more than so many, a seeded choice."""
        numbers = np.unique(found.image)
        return np.sort(np.random.default_rng(self.seed).permutation(numbers)[:most])

    def _sample(self, images: Images) -> Sample:
        """The atlas's own activations of its own images, those of others by its network."""
        atlas, wanted = self.atlas, self.atlas.settings
        if self.whole is not None:
            return self.whole
        if tuple(images.names) == atlas.names and images.fingerprint == atlas.manifest["identity"]["images"]:
            return atlas.sample
        model = self.model or load_model(str(atlas.manifest["model"]))
        if model.fingerprint != atlas.manifest["identity"]["weights"]:
            raise UserError(
                f"{model.name} has other weights than the network of the atlas: give that one, with --weights."
            )
        found, _, _ = sample(
            model, wanted.layer, images, samples=wanted.per_image * len(images), per_image=wanted.per_image,
            seed=self.seed, workers=self.workers, progress=self.progress,
        )  # fmt: skip
        return found


def _joined(atlas: Atlas) -> list[Cell]:
    """The cells that regions are made of: those of the finest level that is not too fine."""
    levels = sorted(atlas.levels, reverse=True)
    each = [[cell for cell in atlas.cells if cell.level == level] for level in levels]
    return next((cells for cells in each if len(cells) <= MOST_JOINED), each[-1])


def _counted(cells: Sequence[Cell], level: int) -> dict[str, int]:
    own = [cell for cell in cells if cell.level == level]
    return {"cells": len(own), "named": sum(cell.name is not None for cell in own)}
