"""Robust scores: what an objective makes of pictures that are looked at as nobody drew them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..network.batch_size import whole_groups
from ..network.trunk import Trunk
from ..seeds import generator_for
from .objectives import Activations, Objective
from .transforms import Affine

# How many views a robust score is the mean over.
VIEWS = 8
# Standard deviation of the blur, as a share of the picture's side: one pixel at 128.
_BLUR = 1 / 128
# Of the JPEG files that half of the views go through, and the noise of every view: weakest and strongest.
_JPEG_QUALITY, _NOISE = 30, (0.05, 0.15)
# Rows of channels in one file of grey, of which no file may have more than 65,500.
_ROWS = 60_000


def robust_views(images: Tensor) -> list[Tensor]:
    """`VIEWS` views of each image (n, channels, h, w) in [0, 1], the same for every image, each in [0, 1].

    Every view is moved by up to a sixteenth of the side, magnified by .8 to 1.25, turned by up to 10 degrees and gets
    noise of .05 to .15 of the range; half of them are blurred before, and half have been a JPEG file of low quality.
    """
    return [_view(images, number) for number in range(VIEWS)]


def score(
    trunk: Trunk,
    objective: Objective,
    images: Tensor,
    numbers: Sequence[int],
    *,
    chunk: int = 8,
    count: int | None = None,
) -> Tensor:
    """The objective (n,) of 8-bit images (n, channels, h, w) in one pass of the images as they are.

    numbers: which picture of the objective each image is. count: how many scores are wanted, of the first (default:
    all); images behind them are looked at only where they share a pass of `chunk` with them.
    """
    return _scores(trunk, objective, images, numbers, chunk, count, lambda part: [part])


def robust_score(
    trunk: Trunk,
    objective: Objective,
    images: Tensor,
    numbers: Sequence[int],
    *,
    chunk: int = 8,
    count: int | None = None,
) -> Tensor:
    """The objective's mean (n,) over the `robust_views` of 8-bit images, as `score` takes them.

    A clean pass cannot tell a picture from texture that one network likes: what it is drawn to raise, it raises. These
    views took no part in the drawing as they are, and texture does not outlive them.
    """
    return _scores(trunk, objective, images, numbers, chunk, count, robust_views)


def _scores(
    trunk: Trunk,
    objective: Objective,
    images: Tensor,
    numbers: Sequence[int],
    chunk: int,
    count: int | None,
    views: Callable[[Tensor], list[Tensor]],
) -> Tensor:
    scores = [torch.empty(0)]
    chunk, count = whole_groups(chunk, objective.group), len(images) if count is None else count
    with torch.inference_mode():
        for start in range(0, count, chunk):
            part = images[start : start + chunk].float() / 255
            index = torch.tensor(list(numbers[start : start + chunk]), device=trunk.device)
            seen = [view.to(trunk.device) for view in views(part)]
            found = [objective(Activations(trunk(view), view, index)).float().cpu() for view in seen]
            # In order: a mean over rows may add them otherwise at another place in the batch.
            scores.append(sum(found, torch.zeros(len(part))) / len(found))
    return torch.cat(scores)[:count]


def _view(images: Tensor, number: int) -> Tensor:
    generators = [generator_for(0, f"robust view {number}") for _ in images]
    side = min(images.shape[2:])
    view = images.cpu()
    if number % 2:
        from torchvision.transforms.functional import gaussian_blur  # two seconds

        sigma = side * _BLUR
        view = gaussian_blur(view, [2 * max(1, round(3 * sigma)) + 1] * 2, [sigma] * 2)
    view = Affine(shift=side / 16, scale=(0.8, 1.25), degrees=10)(view, generators)
    if number % 4 < 2:
        view = _as_jpeg(view)
    weakest, strongest = _NOISE
    strength = weakest + (strongest - weakest) * number / (VIEWS - 1)
    noise = torch.randn(view.shape[1:], generator=generators[0])
    return (view + strength * noise).clamp(0, 1).to(images)


def _as_jpeg(images: Tensor) -> Tensor:
    """The images as they come back from a file; of neither one nor three channels, each channel for itself."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    if images.shape[1] == 3:
        back = torch.stack([torch.from_numpy(_through_file(each.permute(1, 2, 0).numpy())) for each in pixels])
        return back.permute(0, 3, 1, 2).float() / 255
    at_once = max(1, _ROWS // (images.shape[2] + 8))
    parts = torch.split(pixels.flatten(0, 1), at_once)
    return torch.cat([_grey_as_jpeg(part) for part in parts]).reshape(images.shape) / 255


def _grey_as_jpeg(pixels: Tensor) -> Tensor:
    """Channels (n, h, w) of 8 bits as a file each would give them back, by one file for all: a file costs much.

    They lie below each other, filled up to whole blocks of 8 rows as a file of one is, so that no block holds two.
    """
    height = pixels.shape[1]
    filled = F.pad(pixels[:, None].float(), (0, 0, 0, -height % 8), mode="replicate")[:, 0].to(torch.uint8)
    back = torch.from_numpy(_through_file(filled.flatten(0, 1).numpy()))
    return back.reshape(filled.shape)[:, :height].float()


def _through_file(pixels: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return np.array(Image.open(stream))
