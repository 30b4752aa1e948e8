"""What each node of a class's tree looks at in an image, and whether that alone still names the class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.explain.cam import plus_plus_map
from featviz.network.bands import visible
from featviz.network.classifier import Classifier, feature_layer
from featviz.network.copies import cpu_copy
from featviz.network.models import Model, Preprocess
from featviz.network.trunk import Trunk
from featviz.progress import Progress, silent
from search.images.decode import central_view
from search.images.pictures import Picture

from .tree import Node


@dataclass(frozen=True, eq=False)
class NodeView:
    """One node on one image: `map` (h, w) in [0, 1]; `picture` (h, w, 3) uint8, the image times the map.

    `probability`: the unaltered network's softmax for the class on that picture.
    """

    node: Node
    map: NDArray[np.float32]
    picture: NDArray[np.uint8]
    probability: float


def node_views(
    model: Model,
    classifier: Classifier,
    tree: Node,
    image: Picture,
    label: int,
    *,
    progress: Progress = silent,
) -> list[NodeView]:
    """Every node's view of the image, the root first, whose picture is the image itself.

    The map is Grad-CAM++ (Chattopadhay et al. 2018) of the sum of the node's features at the last feature map, resized
    to the input and scaled to [0, 1]. The features are that map's means, whose derivative is the same for every image:
    Smooth Grad-CAM++ (Omeiza et al. 2019), its mean over noisy copies, is the same map. Raises `UserError` for a
    network whose features are no means of a map.
    """
    view = central_view(image, model.preprocess)[None]
    network = cpu_copy(model.network)
    layer = _feature_layer(model, classifier)
    with torch.inference_mode():
        maps = Trunk(model, [layer], fold=False)(view.to(model.device))[layer].cpu()
    nodes = list(tree)
    everything = np.ones(model.preprocess.size, np.float32)
    pixels = partial(_pixels, how=model.preprocess)
    views = [NodeView(tree, everything, pixels(view), _probability(network, model, view, label))]
    for number, node in enumerate(nodes[1:], 1):
        derivative = torch.zeros_like(maps)
        derivative[:, list(node.members)] = 1 / (maps.shape[2] * maps.shape[3])
        found = plus_plus_map(maps, derivative)[None, None]
        map_ = _scaled(F.interpolate(found, model.preprocess.size, mode="bicubic"))[0, 0]
        masked = view * map_
        views.append(NodeView(node, map_.numpy(), pixels(masked), _probability(network, model, masked, label)))
        progress("looking through nodes", number, len(nodes) - 1)
    return views


def _feature_layer(model: Model, classifier: Classifier) -> str:
    layer = feature_layer(model, classifier)
    if layer is None:
        raise UserError(
            f"the features of {model.name} are no means of a map: there is no place in the image to show for a node."
        )
    return layer


def _probability(network: nn.Module, model: Model, view: Tensor, label: int) -> float:
    with torch.inference_mode():
        return float(network(model.preprocess.normalize(view)).softmax(1)[0, label])


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.min(), maps.max()
    return (maps - low) / (high - low) if high > low else torch.zeros_like(maps)


def _pixels(view: Tensor, how: Preprocess) -> NDArray[np.uint8]:
    """(1, channels, h, w) in [0, 1] as (h, w, 3) bytes: what a reader sees of it."""
    shown = visible(view[0], how.show).expand(3, -1, -1)
    return np.asarray((shown * 255).round().byte().permute(1, 2, 0).numpy())
