from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from atlas.node_maps import node_views
from atlas.tree import Node
from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model


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


def test_a_seed_repeats_the_maps_and_leaves_the_global_one_alone() -> None:
    model, image = _model(), Image.new("RGB", (32, 32), (200, 90, 90))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = node_views(model, find_classifier(model), TREE, image, 0, seed=3)
    assert torch.equal(torch.rand(1), expected)
    again = node_views(model, find_classifier(model), TREE, image, 0, seed=3)
    assert all(np.array_equal(a.map, b.map) for a, b in zip(first, again, strict=True))


def test_features_without_a_map_are_refused() -> None:
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3 * 64, 60), nn.ReLU(), nn.Linear(60, 4))
    model = Model.wrap(network.eval(), size=32)
    with pytest.raises(UserError, match="no means of a map"):
        node_views(model, find_classifier(model), TREE, Image.new("RGB", (32, 32)), 0)
