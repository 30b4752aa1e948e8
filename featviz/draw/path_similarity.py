"""Does the network process a picture as it processes the photographs that excite the same unit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..network.layers import OUTPUT, outputs_at, read
from ..network.models import Model
from ..network.trunk import Trunk

# So many layers are looked at, the unit's own the last.
LAYERS = 5
# Photographs that excite a unit have to be so much more alike than others before the score divides by it.
SMALLEST_DIFFERENCE = 0.05


@dataclass(frozen=True)
class NaturalPath:
    """Photographs on their way through the network, layer -> (photographs, channels), each map's spatial mean.

    `same`: those that excite the unit the most; `other`: others.
    """

    same: Mapping[str, Tensor]
    other: Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One layer of a picture's path: mean Spearman correlations, in [-1, 1], and what they come to.

    `picture`: of the picture with the photographs that excite the unit; `same`: of these with each other; `other`: of
    these with other photographs. `score`: (picture - other) / (same - other), 1 where the network treats the picture
    like those photographs, 0 like other photographs, below 0 like neither; None where same and other hardly differ.
    """

    picture: float
    same: float
    other: float
    score: float | None


def path_similarity(picture: Mapping[str, Tensor], natural: NaturalPath) -> dict[str, Step]:
    """Layer by layer, how like the path of photographs that excite the unit the picture's own is.

    picture: layer -> (channels,), its map's spatial mean. Geirhos et al. 2023, "Don't trust your eyes", who compare
    whole maps of images of one size; means over the map serve pictures of any size.
    """
    found: dict[str, Step] = {}
    for layer, vector in picture.items():
        same, other = natural.same[layer], natural.other[layer]
        within = spearman(same, same)
        count = len(same)
        alike = float((within.sum() - within.diagonal().sum()) / max(count * (count - 1), 1))
        apart = float(spearman(same, other).mean())
        drawn = float(spearman(vector[None], same).mean())
        score = (drawn - apart) / (alike - apart) if alike - apart >= SMALLEST_DIFFERENCE else None
        found[layer] = Step(drawn, alike, apart, score)
    return found


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlations (n, m), in [-1, 1], of the rows of (n, c) with those of (m, c); equal values share a rank."""
    return _standard(_ranks(first)) @ _standard(_ranks(second)).T


def _ranks(rows: Tensor) -> Tensor:
    """Each value's rank in its row, the mean rank where several are equal."""
    ordered = rows.sort(dim=1).values.contiguous()
    before = torch.searchsorted(ordered, rows.contiguous(), side="left")
    until = torch.searchsorted(ordered, rows.contiguous(), side="right")
    return (before + until).double() / 2


def _standard(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    unit: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit


def path_layers(model: Model, layer: str, count: int = LAYERS) -> list[str]:
    """Up to `count` layers on the way to `layer`, evenly spaced in the order in which they run, `layer` the last.

    They are parts of the network of at most two name components, such as `blocks.3`, that give a map.
    """
    trunk = Trunk(model, [layer], fold=False)
    order: list[str] = []
    handles = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() in (3, 4) and name not in order:
                order.append(name)

        return hook

    size = model.preprocess.size
    images = torch.full((1, model.preprocess.channels, *size), 0.5, device=trunk.device)
    try:
        for name, module in trunk.network.named_modules():
            if name and name.count(".") <= 1:
                handles.append(module.register_forward_hook(watch(name)))
        with torch.inference_mode():
            outputs_at(trunk.network, model.preprocess.normalize(images), [layer])
    finally:
        for handle in handles:
            handle.remove()
    before = [name for name in _that_give_maps(trunk, order, images) if name != layer]
    places = torch.linspace(0, len(before) - 1, min(count - 1, len(before))).round().long().tolist() if before else []
    return [*(before[place] for place in dict.fromkeys(places)), layer]


def _that_give_maps(trunk: Trunk, names: Sequence[str], images: Tensor) -> list[str]:
    found = []
    with torch.inference_mode(), read(trunk.network, list(names)) as outputs:
        trunk.network(trunk.preprocess.normalize(images))
    for name in names:
        try:
            layout = trunk.layouts.of(trunk.network, name, beside=names)
        except ValueError:
            continue
        if layout.maps(outputs[name])[0, 0].numel() > 1:
            found.append(name)
    parts = [name for name in found if name != OUTPUT]
    # A part that holds others ends where its last one does.
    return [name for name in parts if not any(other.startswith(f"{name}.") for other in parts)]
