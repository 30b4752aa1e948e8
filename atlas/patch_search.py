"""What to paste: parts of photographs that speak for one class against another, and which of them flips the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from featviz.errors import UserError
from featviz.network.bands import visible
from featviz.network.layers import OUTPUT
from featviz.network.trunk import Trunk
from search.images.decode import Box

from .class_folder import whole_sample
from .classes import gradient_layout, members, telling_cells
from .grid import bin_cells
from .patches import CORNERS, Views, as_patch, outcome
from .photos import Photographs
from .project import Floats, tsne_line
from .result import Atlas
from .sample import Sample
from .stages import Stages

# The gradient's cells that candidates come from, photographs of each; single activations beside them, the one that
# speaks the most of each image; how far around what the position sees; and photographs as a whole.
_CELLS, _EACH, _SINGLE, _AROUND, _WHOLE = 16, 3, 40, (1.0, 1.6), 80
# Activations below which there is nothing to lay out.
_FEW = 4
# The first round, on all candidates: one size, two corners, so many views; how many go on to the second.
_FIRST_SIZE, _FIRST_CORNERS, _FIRST_VIEWS, _KEPT = 0.4, ("top left", "bottom right"), 10, 8
# Around the best of these: shifted by a quarter, smaller and larger.
_REFINED = ((0.25, 0, 1), (-0.25, 0, 1), (0, 0.25, 1), (0, -0.25, 1), (0, 0, 0.7), (0, 0, 1.4), (0, 0, 2))
_GRID = 10
# Of the views, how many a patch flips, and the target's mean probability, both in the best size and corner.
Share = tuple[float, float]


@dataclass(frozen=True)
class Candidate:
    """A part of a photograph: `patch` (channels, side, side) in [0, 1]; `image`, its number; `box` in its pixels.

    `cell`: the cell of the comparison it is nearest to, empty where it speaks for itself; `other`: the class, other
    than the two, that the cell affects the most; `difference`: how much it speaks for the target against the source.
    """

    patch: Tensor
    image: int
    box: Box
    cell: str
    other: int
    difference: float


def candidates(run: Stages, source: int, target: int, sample_of: Atlas | None = None) -> list[Candidate]:
    """Parts of photographs, of neither class, behind what speaks most for the target against the source.

    The cells of the comparison's layout (without its icons: `compare`), single activations, whole photographs.
    Photographs labelled with either class are left out: a shark pasted into a picture makes it one of a shark, which
    says nothing about the network.
    """
    whole, _ = whole_sample(run, sample_of)
    assert whole.effects is not None
    rows = np.union1d(*(members(whole.effects, label) for label in (source, target)))
    labels = np.array(run.images.labels)[whole.image]
    others = np.flatnonzero((labels != source) & (labels != target))
    rows = np.intersect1d(rows, others)
    if len(rows) < _FEW:  # of neither class hardly anything speaks for either
        rows = others
    if len(rows) < _FEW:
        raise UserError(
            "a patch is sought in photographs of neither class; of those there are too few: give more images, or a "
            "patch of your own (--patch FILE)."
        )
    part = whole.part(rows)
    assert part.effects is not None
    line = run.keep.arrays("line", lambda: {"y": tsne_line(part.vectors, run.settings.seed)})["y"]
    xy, _ = gradient_layout(part.effects, source, target, lambda: line)
    cells = bin_cells(xy, part.vectors, part.image, part.position, levels=[_GRID], min_count=2, effects=part.effects)
    photographs = Photographs.of(run.model, run.settings.layer, run.images, part, seed=run.settings.seed)
    difference = part.effects[:, target] - part.effects[:, source]
    wanted = [
        (row, cell.cell, cell.top[0][0])
        for cell in [each for each in telling_cells(cells, part, xy, source, target) if each.difference > 0][:_CELLS]
        for row in cell.nearest[:_EACH]
    ]
    wanted += [(row, "", _other(part.effects[row], source, target)) for row in _strongest(difference, part.image)]
    found: dict[tuple[int, Box], Candidate] = {}
    for row, cell_key, other in wanted:
        number = int(part.image[row])
        image = run.images.picture(number, run.model.preprocess)
        for factor in _AROUND:
            box = _around(photographs.box(row), factor, image.size)
            patch = as_patch(run.model, image, box)
            found.setdefault((number, box), Candidate(patch, number, box, cell_key, other, float(difference[row])))
    for number, speaks in _whole_images(whole, run.images.labels, source, target):
        image = run.images.picture(number, run.model.preprocess)
        box = _around((0.0, 0.0, *image.size), 1.0, image.size)
        other = _other(whole.effects[whole.image == number].mean(0), source, target)
        found.setdefault((number, box), Candidate(as_patch(run.model, image, box), number, box, "", other, speaks))
    return list(found.values())


def _whole_images(whole: Sample, labels: Sequence[int], source: int, target: int) -> list[tuple[int, float]]:
    """The images, of neither class, whose activations speak the most for the target against the source on average."""
    assert whole.effects is not None
    difference = whole.effects[:, target].astype(np.float64) - whole.effects[:, source]
    counts = np.bincount(whole.image, minlength=len(labels))
    mean = np.bincount(whole.image, weights=difference, minlength=len(labels)) / counts.clip(1)
    order = [int(number) for number in np.argsort(-mean, kind="stable") if counts[number] and mean[number] > 0]
    return [(number, float(mean[number])) for number in order if labels[number] not in (source, target)][:_WHOLE]


def _strongest(difference: Floats, image: NDArray[np.int64]) -> list[int]:
    """The activations that speak the most for the target against the source, one of each image."""
    order = np.argsort(-difference, kind="stable")
    first = sorted(np.unique(image[order], return_index=True)[1])[:_SINGLE]
    return [int(row) for row in order[first] if difference[row] > 0]


def _other(effects: Floats, source: int, target: int) -> int:
    """The class, other than the two, that an activation has the largest effect on."""
    return next(int(label) for label in np.argsort(-effects, kind="stable") if label not in (source, target))


def best_of(
    run: Stages, found: list[Candidate], views: Views, source: int, target: int, *, sizes: tuple[float, ...]
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The candidate that flips the most views with one size and corner, and how far each came; of equals, the likelier.

    All candidates in few ways on few views; the best of them in every way on all of them; then the parts of the same
    photograph around the best one.
    """
    trunk = Trunk(run.model, [OUTPUT])
    few = views.part(slice(0, _FIRST_VIEWS))
    work, done = len(found) + _KEPT + len(_REFINED), 0

    def tried(candidate: Candidate, quick: bool = False) -> Share:
        nonlocal done
        ways: dict[str, Any] = {"sizes": sizes, "corners": CORNERS}
        if quick:
            ways = {"sizes": [_FIRST_SIZE], "corners": _FIRST_CORNERS}
        shown = few if quick else views
        result = outcome(run.model, shown, candidate.patch, source, target, trunk=trunk, **ways)
        done += 1
        run.progress("trying patches", min(done, work), work)
        return (result.flips_fixed / len(shown), float(result.probability[..., 1].mean(2).max()))

    early = [tried(each, quick=True) for each in found]
    kept = sorted(range(len(found)), key=lambda number: early[number], reverse=True)[:_KEPT]
    entries: list[tuple[Candidate, Share | None, Share | None]] = [
        (found[number], early[number], tried(found[number])) for number in kept
    ]
    best = max(entries, key=lambda entry: entry[2] or (0, 0))[0]
    entries += [(each, None, tried(each)) for each in _refined(run, best)]
    entries.sort(key=lambda entry: entry[2] or (0, 0), reverse=True)
    entries += [(found[number], early[number], None) for number in range(len(found)) if number not in kept]
    return entries[0][0], [_row(*entry) for entry in entries]


def _refined(run: Stages, best: Candidate) -> list[Candidate]:
    """Parts of the same photograph around a candidate, each once."""
    image = run.images.picture(best.image, run.model.preprocess)
    side = best.box[2] - best.box[0]
    boxes = []
    for across, down, factor in _REFINED:
        left, top = best.box[0] + across * side, best.box[1] + down * side
        boxes.append(_around((left, top, left + side, top + side), factor, image.size))
    new = [box for box in dict.fromkeys(boxes) if box != best.box]
    return [replace(best, patch=as_patch(run.model, image, box), box=box) for box in new]


def _row(candidate: Candidate, early: Share | None, late: Share | None) -> dict[str, Any]:
    """A candidate in patches.json: the share of views that it flipped in the rounds that it was in."""
    return {
        "image": candidate.image,
        "box": [round(side, 1) for side in candidate.box],
        "cell": candidate.cell or None,
        "first_round": None if early is None else round(early[0], 4),
        "second_round": None if late is None else round(late[0], 4),
    }


def _around(box: Box, factor: float, size: tuple[int, int]) -> Box:
    """A square about a box, `factor` times as long as its longer side, kept inside an image of (width, height)."""
    side = min(factor * max(box[2] - box[0], box[3] - box[1]), *size)
    left = min(max((box[0] + box[2] - side) / 2, 0.0), size[0] - side)
    top = min(max((box[1] + box[3] - side) / 2, 0.0), size[1] - side)
    return (left, top, left + side, top + side)


def thumbnail(patch: Tensor, show: Sequence[int] = ()) -> Image.Image:
    """A patch as a picture. show: which of its bands, of more than three."""
    pixels = visible(patch, show).expand(3, -1, -1).permute(1, 2, 0).mul(255).round()
    return Image.fromarray(pixels.to(torch.uint8).numpy())
