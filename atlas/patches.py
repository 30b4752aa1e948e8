"""Paste a square into images and count how often a network changes its mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from featviz.errors import UserError
from featviz.network.layers import OUTPUT
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.progress import Progress, silent
from featviz.seeds import generator_for
from search.images.decode import cut, in_unit
from search.images.images import Images
from search.images.pictures import Picture
from search.scan.scan import CPU_BATCH, GPU_BATCH, Batch, scan

CORNERS = ("top left", "top right", "bottom left", "bottom right")
SIZES = (0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class Views:
    """n views of images: `pixels` (n, channels, h, w) in [0, 1]; `image` (n,) their images' numbers."""

    pixels: Tensor
    image: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, rows: NDArray[np.int64] | slice) -> Views:
        """Some of them."""
        return Views(self.pixels[rows], self.image[rows])


@dataclass(frozen=True)
class Outcome:
    """What a network says of n views with a patch in them.

    `top1`: (sizes, corners, n) the most probable class; `probability`: (sizes, corners, n, 2) of source and target.
    """

    source: int
    target: int
    sizes: tuple[float, ...]
    top1: NDArray[np.int64]
    probability: NDArray[np.float32]

    @property
    def to_target(self) -> NDArray[np.bool_]:
        """(sizes, corners, n) whether a view, rightly classified before, is taken for the target."""
        hits: NDArray[np.bool_] = self.top1 == self.target
        return hits

    @property
    def to_anything(self) -> NDArray[np.bool_]:
        """(sizes, corners, n) whether it is taken for anything but the source."""
        hits: NDArray[np.bool_] = self.top1 != self.source
        return hits

    @property
    def fixed(self) -> tuple[int, int]:
        """The size and the corner, by their places, that flip the most views; of equals the smallest."""
        counts = self.to_target.sum(2)
        size, corner = np.unravel_index(int(counts.argmax()), counts.shape)
        return int(size), int(corner)

    @property
    def flips_fixed(self) -> int:
        """Views taken for the target with that one size and corner."""
        return int(self.to_target[self.fixed].sum())

    @property
    def flips_best(self) -> int:
        """Views taken for the target with any of the sizes and corners, each view's best."""
        return int(self.to_target.any((0, 1)).sum())


def outcome(
    model: Model,
    views: Views,
    patch: Tensor,
    source: int,
    target: int,
    *,
    sizes: Sequence[float] = SIZES,
    corners: Sequence[str] = CORNERS,
    trunk: Trunk | None = None,
) -> Outcome:
    """Paste a patch (channels, h, w) in [0, 1] into every view, at all sizes and corners, and classify."""
    trunk = trunk or Trunk(model, [OUTPUT])
    top1 = np.empty((len(sizes), len(corners), len(views)), np.int64)
    probability = np.empty((*top1.shape, 2), np.float32)
    for row, size in enumerate(sizes):
        for column, corner in enumerate(corners):
            found = probabilities(trunk, paste(views.pixels, patch, size, corner))
            top1[row, column] = found.argmax(1).numpy()
            probability[row, column] = found[:, [source, target]].numpy()
    return Outcome(source, target, tuple(sizes), top1, probability)


def paste(views: Tensor, patch: Tensor, size: float, corner: str) -> Tensor:
    """Views (n, channels, h, w) with a square patch (channels, side, side) in a corner, hard-edged.

    size: the square's side as a share of the views' shorter side. Carter et al. 2019: the article's examples.
    """
    height, width = views.shape[2:]
    side = max(1, int(size * min(height, width)))
    square = torch.nn.functional.interpolate(patch[None], size=(side, side), mode="bilinear", antialias=True)[0]
    top = 0 if corner.startswith("top") else height - side
    left = 0 if corner.endswith("left") else width - side
    pasted = views.clone()
    pasted[:, :, top : top + side, left : left + side] = square.clamp(0, 1)
    return pasted


def probabilities(trunk: Trunk, pixels: Tensor) -> Tensor:
    """(n, classes) softmax of the network's logits for views (n, channels, h, w) in [0, 1]."""
    found = []
    with torch.inference_mode():
        for part in torch.split(pixels, CPU_BATCH if trunk.device.type == "cpu" else GPU_BATCH):
            logits = trunk(part.to(trunk.device))[OUTPUT].flatten(1).float()
            found.append(logits.softmax(1).cpu())
    return torch.cat(found)


class _Gathered:
    """Consumer that keeps the views themselves, and the network's first choice for each."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Tensor]] = []

    def update(self, batch: Batch) -> None:
        first = batch.activations[OUTPUT].flatten(1).argmax(1)
        part = {"pixels": batch.pixels, "image": batch.index, "view": batch.view, "first": first}
        self.parts.append({name: values.cpu().clone() for name, values in part.items()})

    def merge(self, other: _Gathered) -> None:
        self.parts += other.parts

    def state(self) -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in self.parts]) for name in self.parts[0]}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.parts = [dict(state)]


def right_views(
    model: Model,
    images: Images,
    label: int,
    count: int,
    *,
    skip: int = 0,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> tuple[Views, int]:
    """Of `count` views of images labelled with a class, those that the network gives it; and how many were seen.

    One view of each image where there are enough, else several seeded crops of each. skip: leave out so many views
    before. Raises `UserError` where no image has the label.
    """
    own = [number for number, each in enumerate(images.labels) if each == label]
    if not own:
        known = "none is labelled" if max(images.labels, default=-1) < 0 else "others are labelled"
        raise UserError(
            f"not one of the {len(images)} images is labelled {model.class_name(label)!r} ({known}): a patch is tested "
            "on images of the source class, from a folder with labels.csv or sub-folders by class."
        )
    each = ceil((skip + count) / len(own))
    gathered = _Gathered()
    scan(
        model, images, [OUTPUT], [gathered], views=each, numbers=own, seed=seed, workers=workers, progress=progress
    )  # fmt: skip
    state = gathered.state()
    # View by view, so that the first views are of as many images as can be.
    order = torch.from_numpy(np.lexsort([state["image"].numpy(), state["view"].numpy()]))[skip : skip + count]
    right = order[state["first"][order] == label]
    return Views(state["pixels"][right], state["image"][right].numpy()), len(order)


def noise_patches(model: Model, count: int, *, side: int = 64, seed: int = 0) -> list[Tensor]:
    """Squares of uniform noise, the control that any patch has to beat."""
    generator = generator_for(seed, "noise patches")
    return [torch.rand(model.preprocess.channels, side, side, generator=generator) for _ in range(count)]


def photo_patches(model: Model, images: Images, count: int, *, without: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Random square parts of random photographs that are not of the classes `without`, an image once while there are.

    A part's side is a quarter to all of the photograph's shorter side.
    """
    generator = generator_for(seed, "patches of photographs")
    order = [n for n in torch.randperm(len(images), generator=generator).tolist() if images.labels[n] not in without]
    patches: list[Tensor] = []
    for number in order * -(-count // max(1, len(order))):
        if len(patches) == count:
            break
        share, across, down = torch.rand(3, generator=generator).tolist()
        try:
            image = images.picture(number, model.preprocess)
        except Exception:  # Pillow's decoders raise almost anything on a damaged file
            continue
        side = (0.25 + 0.75 * share) * min(image.size)
        left, top = across * (image.size[0] - side), down * (image.size[1] - side)
        patches.append(as_patch(model, image, (left, top, left + side, top + side)))
    return patches


def as_patch(model: Model, image: Picture, box: tuple[float, float, float, float] | None = None) -> Tensor:
    """A part of an upright image, or all of it, as a square patch (channels, side, side) in [0, 1]."""
    side = min(model.preprocess.size)
    if not isinstance(image, Image.Image):
        return image.cut(box or (0, 0, *image.size), replace(model.preprocess, size=(side, side)))
    square = cut(image.resize((side, side), Image.Resampling.LANCZOS, box=box), (0, 0, side, side), model.preprocess)
    return torch.nn.functional.interpolate(in_unit(square)[None], size=(side, side), mode="nearest")[0]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson 1927. Of no trials, anything."""
    if not count:
        return (0.0, 1.0)
    z = 1.959964
    share, scale = hits / count, 1 + z**2 / count
    middle = (share + z**2 / (2 * count)) / scale
    half = z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / scale
    return (max(0.0, middle - half), min(1.0, middle + half))
