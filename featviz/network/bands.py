"""Networks of any number of input bands: what is said of the bands, and which of them a reader is shown."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown

if TYPE_CHECKING:
    from .models import Preprocess

Range = tuple[float, float]
# Names of bands that a sentence gives.
_NAMED = 12


def checked_bands(
    channels: int,
    bands: Sequence[str] = (),
    show: Sequence[int | str] = (),
    range: Sequence[float] | None = None,  # noqa: A002
) -> tuple[tuple[str, ...], tuple[int, ...], Range | None]:
    """What `Preprocess` keeps of bands, shown bands and range, for a network of so many input channels.

    bands: a name for each channel, or none. show: one band or three, by number from 0 or by name. range: the stored
    numbers that mean 0 and 1. Raises `UserError` for anything else.
    """
    given = None if isinstance(bands, str) or not isinstance(bands, Iterable) else list(bands)
    if given is None or not all(isinstance(name, str) and name.strip() for name in given):
        raise UserError(f"bands takes a name for each input channel, such as ('red', 'green'); got {bands!r}.")
    names = tuple(name.strip() for name in given)
    if names and len(names) != channels:
        raise UserError(f"bands takes a name for each of the {channels} input channels; got {len(names)}.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two bands are called {twice!r}: each needs a name of its own.")
    if isinstance(show, str) or not isinstance(show, Iterable):
        raise UserError(f"show takes one band or three, by number or by name, such as (3, 2, 1); got {show!r}.")
    shown = tuple(_number(band, channels, names) for band in show)
    if len(shown) not in (0, 1, 3):
        raise UserError(f"show takes one band (as grey) or three (as red, green and blue); got {len(shown)}.")
    return names, shown, _checked_range(range)


def _number(band: object, channels: int, names: tuple[str, ...]) -> int:
    if isinstance(band, str):
        if band not in names:
            raise unknown("band", band, names) if names else UserError(f"show names {band!r}, and no band has a name.")
        return names.index(band)
    number = int(band) if isinstance(band, numbers.Integral) and not isinstance(band, bool) else -1
    if not 0 <= number < channels:
        raise UserError(f"show takes bands 0 to {channels - 1}; got {band!r}.")
    return number


def _checked_range(given: Sequence[float] | None) -> Range | None:
    if given is None:
        return None
    try:
        low, high = (float(end) for end in given)
    except (TypeError, ValueError) as error:
        raise UserError(f"range takes the numbers that mean 0 and 1, such as (0, 10000); got {given!r}.") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"range takes two finite numbers, the smaller first; got ({low:g}, {high:g}).")
    return low, high


def shown_bands(how: Preprocess) -> tuple[int, ...]:
    """The bands that a picture shows: three as red, green and blue, or one as grey."""
    if how.show:
        return how.show
    return (0, 1, 2) if how.channels >= 3 else (0,)


def visible(pictures: Tensor, show: Sequence[int] = ()) -> Tensor:
    """Pictures (..., channels, h, w) -> what a reader sees of them, (..., 1 or 3, h, w).

    show: the bands to see; none: all of one or three, of others the first three or the first.
    """
    channels = pictures.shape[-3]
    if not show and channels in (1, 3):
        return pictures
    chosen = list(show) or ([0, 1, 2] if channels > 3 else [0])
    return pictures[..., chosen, :, :]


def told_bands(how: Preprocess) -> str:
    """What a network takes, in words: `7 bands (B1, B2, ...)`."""
    some = ", ".join(how.bands[:_NAMED]) + ", ..." * (len(how.bands) > _NAMED)
    return f"{how.channels} band{'s' * (how.channels != 1)}" + f" ({some})" * bool(how.bands)


def band_name(how: Preprocess, number: int) -> str:
    """What a band is called; `band 4` where it has no name."""
    return how.bands[number] if how.bands else f"band {number}"


def refuse_volumes(module: nn.Module, channels: int, size: tuple[int, int]) -> None:
    """Raise `UserError` for a network of volumes or video, which no image (n, channels, h, w) can enter.

    A network that makes volumes of images by itself is none of those.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((name for name, part in module.named_modules() if isinstance(part, kinds)), None)
    if first is None or not isinstance(module.get_submodule(first), nn.Conv3d):
        return
    seen: list[int] = []

    class _SeenError(Exception):
        pass

    def look(part: nn.Module, inputs: Any) -> None:
        seen.append(inputs[0].dim())
        raise _SeenError

    try:
        twin = copy.deepcopy(module).eval()
        twin.get_submodule(first).register_forward_pre_hook(look)
        like = next(twin.parameters())
        with torch.inference_mode():
            twin(torch.zeros(2, channels, *size, device=like.device, dtype=like.dtype))
    except Exception:  # whatever a network raises on what it was not made for
        if seen != [5]:
            where = f", {first!r}," if first else ""
            raise UserError(
                f"the first convolution{where} is a Conv3d: the network takes volumes or video, and only networks of "
                "images are shown here."
            ) from None
