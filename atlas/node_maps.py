"""What each node of a class's tree looks at in an image, and whether that alone still names the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.network.bands import visible
from featviz.network.classifier import Classifier, feature_layer, without_classifier
from featviz.network.copies import cpu_copy
from featviz.network.gradients import gradients_on
from featviz.network.layout import Layout
from featviz.network.models import Model, Preprocess
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


@gradients_on()
def node_views(
    model: Model,
    classifier: Classifier,
    tree: Node,
    image: Picture,
    label: int,
    *,
    samples: int = 4,
    noise: float = 0.3,
    seed: int = 0,
    progress: Progress = silent,
) -> list[NodeView]:
    """Every node's view of the image, the root first, whose picture is the image itself.

    The map is Smooth Grad-CAM++ (Omeiza et al. 2019, as torchcam has it) of the sum of the node's features at the last
    feature map, resized to the input and scaled to [0, 1]. samples, noise: noisy copies of the normalised input and
    their standard deviation. Raises `UserError` for a network whose features are no means of a map.
    """
    from torchcam.methods import SmoothGradCAMpp

    view = central_view(image, model.preprocess)[None]
    network = cpu_copy(model.network)
    layer, layout = _target(model, classifier)
    nodes = list(tree)
    scorer = _NodeScores(without_classifier(model, classifier).network.cpu(), nodes, classifier.weight.shape[1])
    everything = np.ones(model.preprocess.size, np.float32)
    pixels = partial(_pixels, how=model.preprocess)
    views = [NodeView(tree, everything, pixels(view), _probability(network, model, view, label))]
    shape = tuple(view.shape[1:])
    with (
        torch.random.fork_rng(devices=[]),
        SmoothGradCAMpp(
            scorer, f"network.{layer}", num_samples=samples, std=noise, input_shape=shape, reshape_transform=layout.maps
        ) as extractor,
    ):
        for number, node in enumerate(nodes[1:], 1):
            torch.manual_seed(seed)  # every node sees the same noise, whatever came before it
            scores = scorer(model.preprocess.normalize(view).requires_grad_())
            found = extractor(class_idx=number, scores=scores)[0]
            map_ = _scaled(F.interpolate(found[None].float(), model.preprocess.size, mode="bicubic"))[0, 0]
            masked = view * map_
            views.append(NodeView(node, map_.numpy(), pixels(masked), _probability(network, model, masked, label)))
            progress("looking through nodes", number, len(nodes) - 1)
    return views


class _NodeScores(nn.Module):
    """Features summed over each node's members: (n, nodes)."""

    def __init__(self, network: nn.Module, nodes: Sequence[Node], features: int) -> None:
        super().__init__()
        self.network = network
        members = torch.zeros(features, len(nodes))
        for number, node in enumerate(nodes):
            members[list(node.members), number] = 1
        self.register_buffer("members", members)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features.flatten(1) @ self.members  # type: ignore[operator]  # a buffer


def _target(model: Model, classifier: Classifier) -> tuple[str, Layout]:
    layer = feature_layer(model, classifier)
    if layer is None:
        raise UserError(
            f"the features of {model.name} are no means of a map: there is no place in the image to show for a node."
        )
    return layer, model.layouts.of(cpu_copy(model.network), layer)


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
