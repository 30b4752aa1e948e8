"""A patch test as figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from featviz.network.models import Model
from search.images.images import Images

from .patch_figure import Step
from .patch_search import Candidate
from .patches import CORNERS, Outcome, Views, wilson


@dataclass(frozen=True)
class Tested:
    """What a patch does to `views`, n of them rightly classified before, of `tried`.

    `outcome`: the patch's; `noise`: those of patches of noise; `photos`: those of random parts of photographs;
    `found`: where the patch comes from, if it was searched for; `before`: (n, classes) probabilities without a patch;
    `steps`: one view with the patch at every size.
    """

    patch: Tensor
    views: Views
    tried: int
    outcome: Outcome
    noise: tuple[Outcome, ...]
    photos: tuple[Outcome, ...]
    found: Candidate | None
    before: Tensor
    steps: tuple[Step, ...]
    names: tuple[str, str]

    @property
    def photos_flips(self) -> NDArray[np.int64]:
        """(photographs, sizes) views that each of the random photographs' parts flips in its own best corner."""
        return np.array([each.to_target.sum(2).max(1) for each in self.photos], np.int64).reshape(
            -1, len(self.outcome.sizes)
        )


def _share(hits: int, count: int) -> dict[str, Any]:
    low, high = wilson(hits, count)
    return {"flipped": hits, "of": count, "share": round(hits / count, 4), "interval": [round(low, 4), round(high, 4)]}


def summary(made: Tested) -> dict[str, Any]:
    """What patches.json holds: per size and corner, and in sum; the same for noise and random photographs."""
    own, count = made.outcome, len(made.views)
    size, corner = own.fixed
    rows = [
        {
            "size": each,
            "corner": name,
            "tried": made.tried,
            "correct_before": count,
            "flipped_to_target": int(own.to_target[row, column].sum()),
            "flipped_to_anything": int(own.to_anything[row, column].sum()),
            "mean_probability_of_target": round(float(own.probability[row, column, :, 1].mean()), 4),
            "noise_to_target": _mean([int(other.to_target[row, column].sum()) for other in made.noise]),
            "noise_to_anything": _mean([int(other.to_anything[row, column].sum()) for other in made.noise]),
        }
        for row, each in enumerate(own.sizes)
        for column, name in enumerate(CORNERS)
    ]
    photos = made.photos_flips
    best = photos.max(0, initial=0)
    return {
        "source": made.names[0],
        "target": made.names[1],
        "views": made.tried,
        "images": len(np.unique(made.views.image)),
        "correct_before": count,
        "fixed": {"size": own.sizes[size], "corner": CORNERS[corner], **_share(own.flips_fixed, count)},
        "best_of_all": _share(own.flips_best, count),
        "noise_fixed": _share(max((each.flips_fixed for each in made.noise), default=0), count),
        "noise_best_of_all": _share(max((each.flips_best for each in made.noise), default=0), count),
        "photos_fixed_best": _share(int(best[size]), count),
        "photos_fixed": photos[:, size].tolist(),
        "by_size": [
            {"size": each, "flipped": int(own.to_target[row].sum(1).max()), "best_photo": int(best[row])}
            for row, each in enumerate(own.sizes)
        ],
        "sizes": rows,
    }


def _mean(counts: Sequence[int]) -> float:
    return round(float(np.mean(counts)), 3) if counts else 0.0


def lines(made: Tested, images: Images, model: Model) -> list[str]:
    """What is found, in words."""
    found = summary(made)
    source, target = made.names
    fixed, best = found["fixed"], found["best_of_all"]
    of_images = f"{found['correct_before']} views of {found['images']} image{'s' * (found['images'] != 1)}"
    photos = [_percent(found[key]["share"]) for key in ("noise_fixed", "noise_best_of_all", "photos_fixed_best")]
    mean = _mean(found["photos_fixed"]) / found["correct_before"]
    lines = [
        f"In the {fixed['corner']} corner at {fixed['size']:.0%} of the side, the patch turns {fixed['share']:.0%} "
        f"({_interval(fixed)}) of {of_images} from {source} into {target}; with each view's best size and corner "
        f"{best['share']:.0%} ({_interval(best)}).",
        f"The best of {len(made.noise)} patches of noise: {photos[0]}, and {photos[1]}. The best of {len(made.photos)} "
        f"random parts of photographs at that size: {photos[2]}; their mean {_percent(mean)}.",
    ]
    if made.found is not None:
        other = model.class_name(made.found.other)
        lines.insert(
            0,
            f"The patch is a part of {images.names[made.found.image]}: what the network sees there speaks for {target} "
            f"against {source}, and for {other}. It was chosen on other views.",
        )
    twice = [row for row in found["by_size"] if row["flipped"] >= 2 * max(1, row["best_photo"])]
    if twice:
        told = ", ".join(f"{row['flipped']} against {row['best_photo']} at {row['size']:.0%}" for row in twice)
        lines.append(f"It turns at least twice as many views as the best of the random parts of the same size: {told}.")
    else:
        lines.append("At no size does it turn twice as many views as the best of the random parts of the same size.")
    if found["images"] < 10:
        lines.append(
            f"All views are of {found['images']} image{'s' * (found['images'] != 1)}: the intervals say how sure the "
            "shares are for views of these, not for the class."
        )
    return lines


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _interval(share: dict[str, Any]) -> str:
    return f"95 % interval {share['interval'][0]:.0%} to {share['interval'][1]:.0%}"
