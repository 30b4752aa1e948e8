"""Find out how a network's layers hold space and channels: by what made them, and by where they change."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NetworkWarning, UserError
from .layers import OUTPUT
from .layout import (
    HOW_TO_STATE,
    MOST_BESIDE,
    Grid,
    Kind,
    Layout,
    UndecidedError,
    check_output,
    four_dimensions,
    grids,
    infer_layout,
    like,
    own_prefix,
    tensor_at,
    tensors,
    undecided_tokens,
)
from .moves import FOLLOWS, FOLLOWS_NOT, Halves
from .result import find_part
from .watching import Watched, Word, watch

Tokens = tuple[int, int, int]
# A reading that follows the image so much better than another is the right one.
_LEAD = 0.15


@dataclass(frozen=True)
class _Layer:
    """A layer that has been watched: `tensor` of two images of (height, width) = `size`."""

    name: str
    tensor: Tensor
    halves: Halves
    word: Word
    size: Grid
    part: tuple[str | int, ...] = ()
    batch: int = 0

    def score(self, layout: Layout) -> float:
        """How well a reading follows the image, 0 to 1; a half, as by chance, where it has one place alone."""
        followed = self.halves.followed(layout)
        return 0.5 if followed is None else followed

    def belied(self, layout: Layout) -> bool:
        """Whether some places change much more than others, and not those that the reading says."""
        followed = self.halves.followed(layout)
        return followed is not None and followed < FOLLOWS_NOT and self.halves.local(layout)


def find_layouts(
    network: nn.Module,
    watched: Watched,
    names: Sequence[str],
    *,
    size: Grid,
    tokens: Tokens | None = None,
    part: tuple[str | int, ...] | UserError = (),
) -> dict[str, Layout | UserError]:
    """The layout of each layer, or the error that says why it has none.

    watched: what the network did with images of (height, width) = `size`. tokens: (rows, columns, prefix) that the user
    states. part: where the logits lie in the network's result, or why that cannot be told.
    """
    found: dict[str, Layout | UserError] = {}
    for name in names:
        try:
            if name == OUTPUT and isinstance(part, UserError):
                raise part
            where = part if name == OUTPUT and not isinstance(part, UserError) else _of_images(watched.outputs[name])
            found[name] = _find(network, watched, name, size, tokens, where)
        except UserError as error:
            found[name] = error
    return found


def _find(
    network: nn.Module, watched: Watched, name: str, size: Grid, tokens: Tokens | None, part: tuple[str | int, ...]
) -> Layout:
    tensor = tensor_at(watched.outputs[name], part)
    batch = 1 if tensor.dim() == 3 and tensor.shape[0] != 2 and tensor.shape[1] == 2 else 0
    check_output(name, tensor.transpose(0, batch) if batch else tensor, 2)
    layer = _Layer(name, tensor, watched.halves[name], watched.words[name], size, part, batch)
    if tensor.dim() == 2:
        return Layout("vector", part=part, found="one number per channel")
    if tensor.dim() == 4:
        return _map(network, layer, watched.tokens)
    return _tokens(network, layer, watched.grids, tokens)


def _of_images(output: Any) -> tuple[str | int, ...]:
    """Where the first tensor with a row for each of the two images lies, where it is not the first of all."""
    paths = [path for path, tensor in tensors(output) if tensor.dim() >= 2 and tensor.shape[0] == 2]
    first = next((path for path, _ in tensors(output)), ())
    return paths[0] if paths and paths[0] != first else ()


def _map(network: nn.Module, layer: _Layer, sequences: frozenset[int]) -> Layout:
    shape = tuple(layer.tensor.shape)
    many = shape[2] * shape[3] > 1
    read = [layer.score(Layout(kind, part=layer.part)) for kind in ("nchw", "nhwc")]
    if not layer.word and many and shape[2] in sequences and max(read) < FOLLOWS:
        raise UndecidedError(
            f"layer {layer.name!r} returns {shape}: one row for each of {shape[2]} tokens, as the heads of attention "
            "do; it is no map of the image."
        )
    kinds: dict[Word, Kind] = {"first": "nchw", "last": "nhwc"}
    if layer.word:
        chosen = Layout(kinds[layer.word], part=layer.part, found="the module that makes it")
    else:
        chosen = _by_moves(network, layer)
    if layer.belied(chosen):
        raise UndecidedError(
            f"layer {layer.name!r} returns {shape}: when a half of the image changes, other places of it change than "
            "those that would show that half. Its places are in another order than the image's."
        )
    return chosen


def _by_moves(network: nn.Module, layer: _Layer) -> Layout:
    """The reading that follows the image; else the one with its proportions."""
    both = [Layout(kind, part=layer.part, found="where it changes") for kind in ("nchw", "nhwc")]
    shape = tuple(layer.tensor.shape)
    if shape[2:] != (1, 1) and shape[1:3] != (1, 1):
        (low, _), (high, best) = sorted(((layer.score(each), each) for each in both), key=lambda pair: pair[0])
        if high >= FOLLOWS and high - low >= _LEAD:
            return best
    return Layout(four_dimensions(network, layer.name, shape, layer.size), part=layer.part, found="its proportions")


def _tokens(network: nn.Module, layer: _Layer, maps: Sequence[Grid], stated: Tokens | None) -> Layout:
    shape = tuple(layer.tensor.transpose(0, layer.batch).shape)
    kinds: tuple[Kind, ...] = ("columns",) if layer.word == "first" else ("tokens",)
    if not layer.word:
        kinds = ("tokens", "columns")
    readings = [reading for kind in kinds for reading in _readings(network, layer, shape, kind, maps, stated)]
    if not readings:
        raise undecided_tokens(layer.name, shape, layer.size, [])
    scored = [(layer.score(reading), reading) for reading in readings]
    best = max(score for score, _ in scored)
    chosen = next(reading for score, reading in scored if score >= best - 0.02)
    if chosen.found == "stated":
        if layer.belied(chosen):
            raise UndecidedError(
                f"layer {layer.name!r}: the tokens stated, {chosen}, do not fit: when a half of the image changes, "
                "other tokens change than those that would show that half."
            )
        return chosen
    if best < FOLLOWS and not layer.halves.local(chosen):
        # Nothing shows where it changes, as in what attention with random weights returns.
        if chosen.found == "its patches":
            return next(reading for reading in readings if reading.kind == chosen.kind)
        if layer.word != "first" and not layer.batch:
            shaped = infer_layout(network, layer.name, layer.tensor, batch=2, size=layer.size)
            return replace(shaped, part=layer.part)
    if best < FOLLOWS:
        _refuse_turned(layer, readings)
        possible = [(each.prefix, each.grid) for each in readings if each.kind == chosen.kind]
        if len(possible) == 1:
            raise UndecidedError(
                f"layer {layer.name!r} returns {shape}, which could be {chosen} alone; but when a half of the image "
                "changes, other tokens change than those that would show that half. They are in another order than the "
                "image's, as windows are. Take a layer that returns them in order."
            )
        raise undecided_tokens(layer.name, shape, layer.size, possible)
    return chosen


def _readings(
    network: nn.Module, layer: _Layer, shape: tuple[int, ...], kind: Kind, maps: Sequence[Grid], stated: Tokens | None
) -> Iterable[Layout]:
    """Every way to read a sequence, the likeliest first: as stated, on the grid of the patches, on any other."""
    count = shape[1] if kind == "tokens" else shape[2]
    common = {"kind": kind, "part": layer.part, "batch": layer.batch}
    if stated is not None and stated[0] * stated[1] <= count - stated[2] <= stated[0] * stated[1] + MOST_BESIDE:
        return [Layout(prefix=stated[2], grid=stated[:2], found="stated", **common)]  # type: ignore[arg-type]
    of_patches = [grid for grid in maps if 0 <= count - grid[0] * grid[1] <= MOST_BESIDE]
    # The proportions of the image and no more beside it than the network says come first; of the rest, the fewest.
    own = own_prefix(network)
    of_patches.sort(key=lambda grid: (not like(grid, layer.size), count - grid[0] * grid[1]))
    found = [(grid, "its patches") for grid in of_patches] or [
        (grid, "where it changes") for grid in sorted(grids(count, layer.size), key=lambda each: -each[0] * each[1])
    ]
    return [
        Layout(prefix=prefix, grid=grid, found=how, **common)  # type: ignore[arg-type]
        for grid, how in found
        for prefix in _prefixes(count - grid[0] * grid[1], own)
    ]


def _prefixes(beside: int, own: int | None) -> list[int]:
    """How many of the tokens beside the patches may stand before them: the network's own number, all of them, fewer."""
    everything = list(range(beside, -1, -1))
    return sorted(everything, key=lambda prefix: prefix != own)


def _refuse_turned(layer: _Layer, readings: Sequence[Layout]) -> None:
    """Raise `UndecidedError` where the tokens run down the columns of the image."""
    for reading in readings:
        across = replace(reading, grid=(reading.grid[1], reading.grid[0]))
        turned = layer.halves.turned(across)
        if turned is not None and turned >= FOLLOWS:
            raise UndecidedError(
                f"layer {layer.name!r} returns its tokens column by column, not row by row: its maps would be turned. "
                "Turn them in the network's own forward, or take another layer."
            )


_UNSTEADY = (
    "layer {!r} gives another result each time for the same image: something random is left on in eval mode, such as "
    "F.dropout without training=self.training. No result of it can be repeated."
)
_TOGETHER = (
    "what layer {!r} gives for an image depends on the other images of its batch, as with a BatchNorm without running "
    "statistics. Results depend on the size of a batch and on the images' order."
)


def _told(known: list[str], names: Sequence[str], words: str) -> None:
    """Warn of the first of the names, once for a network."""
    if names and not known:
        warnings.warn(words.format(names[0]), NetworkWarning, stacklevel=2)
    known.extend(name for name in names if name not in known)


class Layouts:
    """How each layer of a network holds space and channels, found out when it is first asked for.

    channels, size: of the images that the network takes. classes: how many class names there are. tokens: (rows,
    columns, prefix), logits: where in the network's result they are; both as the user states them.
    `unsteady`, `together`: layers whose results differ from pass to pass, or depend on the rest of the batch.
    """

    def __init__(
        self,
        channels: int,
        size: Grid,
        *,
        classes: int = 0,
        tokens: Tokens | None = None,
        logits: str | int | None = None,
    ) -> None:
        self.channels, self.size, self.classes, self.tokens, self.logits = channels, size, classes, tokens, logits
        self._found: dict[tuple[Grid, str], Layout | UserError] = {}
        self.unsteady: list[str] = []
        self.together: list[str] = []

    def of(self, network: nn.Module, name: str, *, size: Grid | None = None, beside: Sequence[str] = ()) -> Layout:
        """The layout of a layer for images of `size`; raises `UserError` where it has none.

        network: where it is tried out, which comes to no harm. beside: other layers that will be asked for, so that
        they are found out in the same passes.
        """
        size = size or self.size
        if (size, name) not in self._found:
            self._look(network, list(dict.fromkeys([name, *beside])), size)
        found = self._found[size, name]
        if isinstance(found, UserError):
            raise found
        return found

    def maps(self, network: nn.Module, name: str, output: Any, *, size: Grid | None = None) -> Tensor:
        """A layer's output for any number of images of `size` as (n, c, h, w)."""
        return self.of(network, name, size=size).maps(output)

    def _look(self, network: nn.Module, names: Sequence[str], size: Grid) -> None:
        missing = [name for name in names if (size, name) not in self._found]
        if size != self.size:
            for name in list(missing):
                known = self.of(network, name, beside=missing)
                if known.kind not in ("tokens", "columns"):
                    self._found[size, name] = known
            missing = [name for name in missing if (size, name) not in self._found]
            if not missing:
                return
        watched = watch(network, missing, *self.probes(size))
        _told(self.unsteady, watched.unsteady, _UNSTEADY)
        _told(self.together, watched.together, _TOGETHER)
        tokens = self.tokens if size == self.size else None
        part: tuple[str | int, ...] | UserError = ()
        if OUTPUT in missing:
            part = self._part(watched)
        found = find_layouts(network, watched, missing, size=size, tokens=tokens, part=part)
        for name, layout in found.items():
            self._found[size, name] = self._unlike_its_own(name, layout, size)

    def _unlike_its_own(self, name: str, layout: Layout | UserError, size: Grid) -> Layout | UserError:
        """The layout, or an error where another number of tokens stands before the patches than at the own size."""
        own = self._found.get((self.size, name))
        if isinstance(layout, UserError) or not isinstance(own, Layout) or layout.prefix == own.prefix:
            return layout
        return UndecidedError(
            f"layer {name!r} returns {own} for images of {self.size[0]} x {self.size[1]} and {layout} for {size[0]} x "
            f"{size[1]}: one of them is read wrongly. {HOW_TO_STATE}"
        )

    def _part(self, watched: Watched) -> tuple[str | int, ...] | UserError:
        try:
            result = watched.outputs[OUTPUT]
            return find_part(result, watched.linear, classes=self.classes, stated=self.logits)
        except UserError as error:
            return error

    def probes(self, size: Grid) -> tuple[Tensor, Tensor]:
        """Two random images and another one, normal with a deviation of 1."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(3, self.channels, *size, generator=generator)
        return images[:2], images[2:]
