from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchcam.methods import SmoothGradCAMpp

from atlas.node_maps import node_views
from atlas.tree import Node
from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model
from search.images.decode import central_view


class _Corners(nn.Module):
    """Feature 0 is the red of the left half's blocks, feature 1 that of the right half's; the rest are dim."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.maps, self.fc = nn.AvgPool2d(8), nn.Identity(), nn.Linear(50, 3)

    def forward(self, images: Tensor) -> Tensor:
        red = self.pool(images)[:, :1]
        left, right = torch.zeros_like(red), torch.zeros_like(red)
        left[..., :2], right[..., 2:] = red[..., :2] ** 3, red[..., 2:] ** 3
        maps = self.maps(torch.cat([left, right, 0.01 * red.expand(-1, 48, -1, -1)], 1))
        result: Tensor = self.fc(maps.mean((2, 3)))
        return result


def _model() -> Model:
    torch.manual_seed(0)
    return Model.wrap(_Corners().eval(), size=32, mean=(0.0,) * 3, std=(1.0,) * 3, crop=1.0)


TREE = Node("", tuple(range(50)), (Node("-", (1,)), Node("+", (0,))))


def test_a_node_looks_where_its_features_are() -> None:
    model = _model()
    image = Image.new("RGB", (32, 32), (200, 90, 90))
    views = node_views(model, find_classifier(model), TREE, image, 1)
    assert [view.node.path for view in views] == ["", "-", "+"]
    assert np.array_equal(views[0].picture, np.asarray(image))
    for view, half in ((views[1], slice(18, 32)), (views[2], slice(0, 14))):
        other = slice(0, 14) if half.start else slice(18, 32)
        assert view.map[:, half].mean() > view.map[:, other].mean() + 0.3
        assert (view.map.min(), view.map.max()) == (0, 1)
        assert np.allclose(view.picture, np.round(np.asarray(image) * view.map[..., None]), atol=1)
    with torch.no_grad():
        pixels = torch.from_numpy(views[2].picture.copy()).permute(2, 0, 1)[None] / 255
        assert views[2].probability == pytest.approx(float(model.network(pixels).softmax(1)[0, 1]), abs=0.01)


def test_the_map_is_torchcams_smooth_grad_cam_pp(lite0: Model) -> None:
    """Without noise: torchcam weighs the maps of its last noisy copy, not of the image."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 240, 3), dtype=np.uint8))
    classifier = find_classifier(lite0)
    members = tuple(range(0, 1280, 40))
    tree = Node("", tuple(range(1280)), (Node("-", tuple(range(1, 1280, 2))), Node("+", members)))
    view = node_views(lite0, classifier, tree, image, 1)[2]

    class Sum(nn.Module):
        """The sum of the node's features."""

        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(lite0.network)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.network.forward_features(images)  # type: ignore[operator]
            result: Tensor = maps.mean((2, 3))[:, list(members)].sum(1, keepdim=True)
            return result

    seen = lite0.preprocess.normalize(central_view(image, lite0.preprocess)[None]).requires_grad_()
    network = Sum().eval()
    with SmoothGradCAMpp(network, "network.bn2.act", num_samples=4, std=1e-6, input_shape=(3, 224, 224)) as extractor:
        found = extractor(class_idx=0, scores=network(seen))[0]
    expected = F.interpolate(found[None].float(), (224, 224), mode="bicubic")[0, 0]
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert np.abs(view.map - expected.numpy()).max() < 1e-3


def test_features_without_a_map_are_refused() -> None:
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3 * 64, 60), nn.ReLU(), nn.Linear(60, 4))
    model = Model.wrap(network.eval(), size=32)
    with pytest.raises(UserError, match="no means of a map"):
        node_views(model, find_classifier(model), TREE, Image.new("RGB", (32, 32)), 0)
