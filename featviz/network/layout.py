"""How a layer's output holds space and channels: every way that it could be read, and the one that was found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ..errors import UserError

Grid = tuple[int, int]
Kind = Literal["nchw", "nhwc", "tokens", "columns", "vector"]
# No published network is known to put more than 16 tokens beside its patches (registers and class together).
MOST_BESIDE = 16
HOW_TO_STATE = "Model.wrap(tokens=(rows, columns, prefix)) says how its tokens lie."


class UndecidedError(UserError):
    """What a layer puts out could be read in several ways, or in none."""


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds space and channels.

    `kind`: `nchw`, `nhwc`, `tokens` (n, prefix + h * w + others, c), `columns` (n, c, prefix + h * w + others) or
    `vector` (n, c). `prefix`: how many class and register tokens stand before the patch tokens; `grid`: (h, w) of the
    patch tokens. `batch`: the dimension that counts the images, 1 where a sequence comes first. `part`: where the
    tensor lies in an output of several, keys and numbers from outside in; () for the first. `found`: how that is known.
    """

    kind: Kind
    prefix: int = 0
    grid: Grid = (1, 1)
    batch: int = 0
    part: tuple[str | int, ...] = ()
    found: str = field(default="", compare=False)

    def maps(self, output: Any) -> Tensor:
        """The output as (n, c, h, w); class and register tokens are left out, a vector becomes 1 x 1."""
        tensor = self._tensor(output)
        if self.kind == "nchw":
            return tensor
        if self.kind == "nhwc":
            return tensor.permute(0, 3, 1, 2)
        if self.kind == "vector":
            return tensor[:, :, None, None]
        patches = self._tokens(tensor)[:, self.prefix : self.prefix + self.grid[0] * self.grid[1]]
        return patches.transpose(1, 2).reshape(patches.shape[0], patches.shape[2], *self.grid)

    def beside(self, output: Any) -> Tensor:
        """(n, c, prefix) the tokens before the patches: class and registers; none of a map."""
        tensor = self._tensor(output)
        if self.kind not in ("tokens", "columns"):
            return tensor.new_zeros((tensor.shape[0], 0, 0))
        return self._tokens(tensor)[:, : self.prefix].transpose(1, 2)

    def _tensor(self, output: Any) -> Tensor:
        tensor = tensor_at(output, self.part)
        return tensor.transpose(0, self.batch) if self.batch else tensor

    def _tokens(self, tensor: Tensor) -> Tensor:
        return tensor if self.kind == "tokens" else tensor.transpose(1, 2)

    def __str__(self) -> str:
        if self.kind not in ("tokens", "columns"):
            return {"nchw": "(n, c, h, w)", "nhwc": "(n, h, w, c)", "vector": "(n, c)"}[self.kind]
        rows, columns = self.grid
        tokens = f"{self.prefix} + {rows} x {columns}" if self.prefix else f"{rows} x {columns}"
        return f"(n, {tokens}, c)" if self.kind == "tokens" else f"(n, c, {tokens})"


def tensor_at(output: Any, part: tuple[str | int, ...] = ()) -> Tensor:
    """The tensor at `part` of an output; without one, itself, or the first in a tuple, list or mapping."""
    for key in part:
        output = _inside(output, key)
    return first_tensor(output)


def _inside(output: Any, key: Any) -> Any:
    return output[key] if isinstance(output, (Mapping, tuple, list)) else getattr(output, str(key))


def first_tensor(output: Any) -> Tensor:
    """The tensor itself, or the first one in a tuple, list, mapping or data class, however deep."""
    found = next((tensor for _, tensor in tensors(output)), None)
    if found is None:
        raise UserError(f"the layer returns {type(output).__name__}, which holds no tensor.")
    return found


def tensors(output: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Tensor]]:
    """Every tensor of an output with its place in it, in order."""
    if isinstance(output, Tensor):
        yield path, output
        return
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(output, Mapping):
        parts = output.items()
    elif isinstance(output, (tuple, list)):
        parts = enumerate(output)
    elif hasattr(output, "__dataclass_fields__"):
        parts = ((name, getattr(output, name)) for name in output.__dataclass_fields__)
    for key, value in parts:
        yield from tensors(value, (*path, key))


def grids(tokens: int, size: Grid) -> list[Grid]:
    """Every (rows, columns) of at most so many tokens, at most 16 fewer, that square patches of an image give.

    size: (height, width) of the image. Patches of p pixels, each s from the next (overlapping or not), with padding of
    a on both sides give (side + 2 * a - p) // s + 1 of them.
    """
    found = set[Grid]()
    usual = math.sqrt(size[0] * size[1] / max(tokens, 1))
    for stride in range(max(1, int(usual / 2)), int(usual * 2) + 2):
        # What patch and padding add to a side, in pixels: from all of two strides less to nothing.
        for more in range(-2 * stride, 1):
            rows, columns = ((side + more) // stride + 1 for side in size)
            if rows >= 1 and columns >= 1 and 0 <= tokens - rows * columns <= MOST_BESIDE:
                found.add((rows, columns))
    return sorted(found)


def partitions(grid: Grid, size: Grid) -> bool:
    """Whether a grid cuts an image of (height, width) into square patches with nothing left."""
    return size[0] % grid[0] == 0 and size[1] % grid[1] == 0 and size[0] // grid[0] == size[1] // grid[1]


def like(grid: Grid, size: Grid) -> bool:
    """Whether a grid has the proportions of an image, to within half a place of its shorter side."""
    return abs(math.log(grid[0] / grid[1] * size[1] / size[0])) <= math.log1p(0.5 / min(grid))


def infer_layout(network: object, name: str, output: Any, *, batch: int, size: Grid) -> Layout:
    """What the shape alone of `output` of layer `name` says of how it is laid out; see `find_layout` for all else.

    batch: the number of images; size: their (height, width). Four dimensions: the pair that has the input's
    proportions is space; timm's own word (`output_fmt`) decides a draw. Three: the one grid of square patches that
    leaves at most 16 tokens beside it. Raises `UndecidedError` where several readings remain, `UserError` for an
    output that holds no maps.
    """
    tensor = first_tensor(output)
    check_output(name, tensor, batch)
    shape = tuple(tensor.shape)
    if tensor.dim() == 2:
        return Layout("vector", found="one number per channel")
    if tensor.dim() == 4:
        return Layout(four_dimensions(network, name, shape, size), found="the input's proportions")
    prefix, grid = _tokens(network, name, shape, size)
    return Layout("tokens", prefix, grid, found="the number of tokens")


def check_output(name: str, tensor: Tensor, batch: int) -> None:
    """Raise `UserError` for an output that is no map, no tokens and no vector of each image."""
    if tensor.dim() not in (2, 3, 4) or tensor.shape[0] != batch or not tensor.is_floating_point():
        raise UserError(
            f"layer {name!r} returns {tensor.dtype} {tuple(tensor.shape)} for {batch} image(s); it takes a "
            "floating-point output of shape (n, c, h, w), (n, h, w, c), (n, tokens, c) or (n, c) with "
            f"n = {batch}."
        )


def four_dimensions(network: object, name: str, shape: tuple[int, ...], size: Grid) -> Literal["nchw", "nhwc"]:
    """Which of (n, c, h, w) and (n, h, w, c) a shape has, by the proportions of the input and timm's own word."""
    if shape[2:] == (1, 1):
        return "nchw"
    if shape[1:3] == (1, 1):
        return "nhwc"
    fits = [kind for kind, grid in (("nchw", shape[2:]), ("nhwc", shape[1:3])) if like((grid[0], grid[1]), size)]
    if len(fits) == 1:
        return "nchw" if fits == ["nchw"] else "nhwc"
    own_word = getattr(network, "output_fmt", None)
    if fits and own_word is not None:
        return "nhwc" if str(own_word).endswith("NHWC") else "nchw"
    raise UndecidedError(
        f"layer {name!r} returns {shape} for images of {size[0]} x {size[1]}: which dimension holds its channels "
        "cannot be told from that. Take the layer before it or behind it."
    )


def own_prefix(network: object) -> int | None:
    """How many tokens the network itself says stand before its patches; None where it does not."""
    count = getattr(network, "num_prefix_tokens", None)
    if isinstance(count, int):
        return count
    return 1 if isinstance(getattr(network, "class_token", None), Tensor) else None


def _tokens(network: object, name: str, shape: tuple[int, ...], size: Grid) -> tuple[int, Grid]:
    found = [(shape[1] - grid[0] * grid[1], grid) for grid in grids(shape[1], size)]
    own = own_prefix(network)
    if own is not None:
        found = [(prefix, grid) for prefix, grid in found if prefix == own]
    # A partition counts for more than overlapping patches, but for those that leave fewer tokens beside them.
    exact = [(prefix, grid) for prefix, grid in found if partitions(grid, size)]
    least = min(exact, default=None)
    if least is not None and all(prefix > least[0] for prefix, grid in found if (prefix, grid) not in exact):
        return least
    if len(found) == 1:
        return found[0]
    raise undecided_tokens(name, shape, size, found)


def undecided_tokens(name: str, shape: tuple[int, ...], size: Grid, found: list[tuple[int, Grid]]) -> UndecidedError:
    """The error for tokens that could lie on several grids, or on none."""
    readings = ", ".join(f"{prefix} + {rows} x {columns}" for prefix, (rows, columns) in found[:4])
    told = f"could be {readings}" if found else "form no grid of square patches"
    return UndecidedError(
        f"layer {name!r} returns {shape} for images of {size[0]} x {size[1]}: its {shape[1]} tokens {told}. "
        f"{HOW_TO_STATE}"
    )
