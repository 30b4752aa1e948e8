"""Networks for images of one size, made ready for smaller ones: the same weights, positions resampled."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Fewer patches a side than this show a network next to nothing.
_LEAST = 3


def patched_size(network: nn.Module, size: tuple[int, int], own: tuple[int, int]) -> tuple[int, int] | None:
    """The size nearest to `size` that is whole patches of the network, None where it has none or gains nothing.

    own: the size that the network was made for; a size with as many pixels or more is none.
    """
    patch = next((patch for _, patch, _ in _transformers(network)), None)
    if patch is None:
        return None
    found = tuple(max(_LEAST, round(side / each)) * each for side, each in zip(size, patch, strict=True))
    return (found[0], found[1]) if found[0] * found[1] < own[0] * own[1] else None


def resized(network: nn.Module, size: tuple[int, int]) -> nn.Module:
    """A twin of the network for images of `size` (height, width): it shares all weights, positions are resampled.

    The network itself stays as it is. Raises `ValueError` where the twin cannot be had.
    """
    shared: dict[int, Any] = {id(each): each for each in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    for module, _, change in list(_transformers(twin)):
        change(module, size)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return twin


Change = Callable[[Any, tuple[int, int]], None]


def _transformers(network: nn.Module) -> Iterator[tuple[nn.Module, tuple[int, int], Change]]:
    """The parts of a network that hold positions: each with its patches' (height, width) and what changes its size."""
    for module in network.modules():
        change = _change(module)
        patch = None if change is None else _patch(module)
        if change is not None and patch is not None:
            yield module, patch, change


def _change(module: Any) -> Change | None:
    if callable(change := getattr(module, "set_input_size", None)) and hasattr(module, "patch_embed"):
        # Windows that change with the input make another network of it.
        return None if "window_size" in inspect.signature(change).parameters else _timm
    if isinstance(getattr(getattr(module, "encoder", None), "pos_embedding", None), Tensor):
        return _torchvision if hasattr(module, "image_size") and hasattr(module, "patch_size") else None
    if callable(getattr(module, "interpolate_pos_encoding", None)):
        return _transformers_library
    if isinstance(getattr(module, "positional_embedding", None), Tensor) and hasattr(module, "class_embedding"):
        return _clip if isinstance(getattr(module, "conv1", None), nn.Conv2d) else None
    return None


def _patch(module: Any) -> tuple[int, int] | None:
    """(height, width) of a patch: by the grid that it says, by what the libraries call it, else by the convolution."""
    embedding = getattr(module, "patch_embed", None)
    whole, grid = getattr(embedding, "img_size", None), getattr(embedding, "grid_size", None)
    if whole and grid:  # behind convolutions, a patch of the image is more than one of the map
        return whole[0] // grid[0], whole[1] // grid[1]
    for owner in (module, getattr(module, "patch_embed", None), getattr(module, "patch_embeddings", None)):
        said = getattr(owner, "patch_size", None)
        if isinstance(said, int) and said > 0:
            return said, said
        if isinstance(said, (tuple, list)) and len(said) == 2:
            return int(said[0]), int(said[1])
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.stride == part.kernel_size and min(part.stride) > 1:
            return part.stride[0], part.stride[-1]
    return None


def _timm(module: Any, size: tuple[int, int]) -> None:
    if getattr(module, "dynamic_img_size", False):
        return
    module.set_input_size(img_size=size)


def _torchvision(module: Any, size: tuple[int, int]) -> None:
    if size[0] != size[1]:
        raise ValueError("torchvision's vision transformers take squares.")
    grid = (size[0] // module.patch_size, size[1] // module.patch_size)
    encoder = module.encoder
    encoder.pos_embedding = nn.Parameter(_resampled(encoder.pos_embedding, grid, align_corners=True))
    module.image_size = size[0]


def _clip(module: Any, size: tuple[int, int]) -> None:
    grid = (size[0] // module.conv1.stride[0], size[1] // module.conv1.stride[1])
    whole = _resampled(module.positional_embedding[None], grid, align_corners=False)[0]
    module.positional_embedding = nn.Parameter(whole)


def _transformers_library(module: Any, size: tuple[int, int]) -> None:
    """Networks of `transformers` resample by themselves where they are told to."""
    told = "interpolate_pos_encoding"
    if told not in inspect.signature(module.forward).parameters:
        return  # always does

    def tell(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, told: True}

    module.register_forward_pre_hook(tell, with_kwargs=True)


def _resampled(positions: Tensor, grid: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Positions (1, 1 + n * n, c) of a class token and a square of patches, for another grid of patches."""
    token, patches = positions.detach()[:, :1], positions.detach()[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise ValueError(f"{positions.shape[1]} positions are no class token and a square of patches.")
    square = patches.transpose(1, 2).reshape(1, -1, side, side)
    other = F.interpolate(square.float(), grid, mode="bicubic", align_corners=align_corners).to(positions)
    return torch.cat([token, other.flatten(2).transpose(1, 2)], 1)
