"""What to paste: parts of photographs that speak for one class against another, and which of them flips the most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from featviz.layers import OUTPUT
from featviz.models import Model
from featviz.progress import Progress, silent
from featviz.trunk import Trunk
from search.decode import Box

from .class_folder import whole_sample
from .classes import gradient_layout, members, telling_cells
from .grid import bin_cells
from .patches import CORNERS, Views, as_patch, outcome
from .photos import Photographs
from .project import tsne_line
from .result import Atlas
from .stages import Stages

# The gradient's cells that candidates come from, photographs of each, and how far around what the position sees.
_CELLS, _EACH, _AROUND = 16, 3, (1.0, 1.6)
# The first round, on all candidates: one size, two corners, so many views; how many go on to the second.
_FIRST_SIZE, _FIRST_CORNERS, _FIRST_VIEWS, _KEPT = 0.4, ("top left", "bottom right"), 10, 8
_GRID = 10


@dataclass(frozen=True)
class Candidate:
    """A part of a photograph: `patch` (channels, side, side) in [0, 1]; `image`, its number; `box` in its pixels.

    `cell`: the cell of the comparison it is nearest to; `other`: the class, other than the two, that the cell affects
    the most; `difference`: how much the cell speaks for the target against the source.
    """

    patch: Tensor
    image: int
    box: Box
    cell: str
    other: int
    difference: float


def candidates(run: Stages, source: int, target: int, sample_of: Atlas | None = None) -> list[Candidate]:
    """Parts of photographs, of neither class, behind the cells that speak most for the target against the source.

    The comparison's layout without its icons (`compare`). Photographs labelled with either class are left out: a shark
    pasted into a picture makes it one of a shark, which says nothing about the network.
    """
    whole, _ = whole_sample(run, sample_of)
    assert whole.effects is not None
    rows = np.union1d(*(members(whole.effects, label) for label in (source, target)))
    labels = np.array(run.images.labels)[whole.image[rows]]
    rows = rows[(labels != source) & (labels != target)]
    part = whole.part(rows)
    assert part.effects is not None
    line = run.keep("line", lambda: {"y": tsne_line(part.vectors, run.settings.seed)})["y"]
    xy, _ = gradient_layout(part.effects, source, target, lambda: line)
    cells = bin_cells(xy, part.vectors, part.image, part.position, levels=[_GRID], min_count=2, effects=part.effects)
    photographs = Photographs.of(run.model, run.settings.layer, run.images, part, seed=run.settings.seed)
    found, seen = [], set[tuple[int, Box]]()
    for cell in [row for row in telling_cells(cells, part, xy, source, target) if row.difference > 0][:_CELLS]:
        for each in cell.nearest[:_EACH]:
            image = run.images.open(int(part.image[each]))
            for factor in _AROUND:
                box = _around(photographs.box(each), factor, image.size)
                if (int(part.image[each]), box) not in seen:
                    seen.add((int(part.image[each]), box))
                    patch = as_patch(run.model, image, box)
                    other = cell.top[0][0]
                    found.append(Candidate(patch, int(part.image[each]), box, cell.cell, other, cell.difference))
    return found


def best_of(
    model: Model,
    found: list[Candidate],
    views: Views,
    source: int,
    target: int,
    *,
    sizes: tuple[float, ...],
    progress: Progress = silent,
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The candidate that flips the most views with one size and corner, and how far each came; of equals, the likelier.

    All candidates in few ways on few views, then the best of them in every way on all of them.
    """
    trunk = Trunk(model, [OUTPUT])
    few = views.part(slice(0, _FIRST_VIEWS))

    def first(number: int) -> tuple[float, float]:
        progress("trying patches", number, len(found) + _KEPT)
        tried = outcome(
            model, few, found[number].patch, source, target, sizes=[_FIRST_SIZE], corners=_FIRST_CORNERS, trunk=trunk
        )
        return (float(tried.to_target.mean()), float(tried.probability[..., 1].mean()))

    def second(number: int) -> tuple[float, float]:
        tried = outcome(model, views, found[number].patch, source, target, sizes=sizes, corners=CORNERS, trunk=trunk)
        return (tried.flips_fixed / len(views), float(tried.probability[..., 1].mean((1, 2)).max()))

    early = [first(number) for number in range(len(found))]
    kept = sorted(range(len(found)), key=lambda number: early[number], reverse=True)[:_KEPT]
    late = {}
    for place, number in enumerate(kept, 1):
        late[number] = second(number)
        progress("trying patches", len(found) + place, len(found) + len(kept))
    best = max(kept, key=lambda number: late[number])
    rows = [
        {
            "image": found[number].image,
            "box": [round(side, 1) for side in found[number].box],
            "cell": found[number].cell,
            "first_round": round(early[number][0], 4),
            "second_round": round(late[number][0], 4) if number in late else None,
        }
        for number in sorted(
            range(len(found)), key=lambda number: (late.get(number, (-1, 0)), early[number]), reverse=True
        )
    ]
    return found[best], rows


def _around(box: Box, factor: float, size: tuple[int, int]) -> Box:
    """A square about a box, `factor` times as long as its longer side, kept inside an image of (width, height)."""
    side = min(factor * max(box[2] - box[0], box[3] - box[1]), *size)
    left = min(max((box[0] + box[2] - side) / 2, 0.0), size[0] - side)
    top = min(max((box[1] + box[3] - side) / 2, 0.0), size[1] - side)
    return (left, top, left + side, top + side)


def thumbnail(patch: Tensor) -> Image.Image:
    """A patch as a picture."""
    pixels = (patch.expand(3, -1, -1) if len(patch) == 1 else patch[:3]).permute(1, 2, 0).mul(255).round()
    return Image.fromarray(pixels.to(torch.uint8).numpy())
