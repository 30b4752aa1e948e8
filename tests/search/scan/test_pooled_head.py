from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toys import noise_folder

from atlas.explain import ExplainSettings, explain
from featviz.errors import UserError
from featviz.network.classifier import feature_layer, find_classifier
from featviz.network.models import Model
from search.scan.pooled_head import pooled_head


class Flat(nn.Module):
    """A head that flattens, as VGG's does: class activation maps do not apply."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Linear(16 * 64, 3)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.head(self.second(self.first(images).relu()).relu().flatten(1))
        return result


KINDS = ["kind 0", "kind 1", "kind 2"]


def _model() -> Model:
    return Model.wrap(Flat().eval(), name="flat", size=32, mean=(0.5,) * 3, std=(0.5,) * 3, labels=KINDS)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of noise; of each label in another corner a bright square of its own colour."""
    folder = noise_folder(tmp_path_factory.mktemp("shapes"), 60, size=32)
    rows = ["file,class_index,name"]
    for number, file in enumerate(sorted(folder.glob("*.png"))):
        pixels = np.array(Image.open(file)) // 3
        label = number % 3
        pixels[20:28, 4:12, label] = 255
        Image.fromarray(pixels).save(file)
        rows.append(f"{file.name},{label},kind {label}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_flat_head_becomes_one_that_class_activation_maps_explain(shapes: Path) -> None:
    model = _model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    found = pooled_head(model, shapes, workers=0)
    assert found.layer == "second"
    assert (found.images, found.held_out) == (48, 12)
    assert found.accuracy >= 0.9
    assert found.original is not None
    assert found.model.labels == ("kind 0", "kind 1", "kind 2")
    assert f"{found.accuracy:.1%} rightly, the whole network's own head {found.original:.1%}" in found.line
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    classifier = find_classifier(found.model)
    assert classifier.exact
    assert feature_layer(found.model, classifier) is not None
    images = torch.rand(4, 3, 32, 32)
    maps = model.network.second(model.network.first(images).relu())  # type: ignore[union-attr, operator]
    expected = maps.mean((2, 3)) @ classifier.weight.T + classifier.bias
    assert torch.allclose(found.model.network(images), expected, atol=1e-4)
    with pytest.raises(UserError, match=r"Grad-CAM \(gradcam\)"):
        explain(model, shapes / "001.png", "class:kind 1", methods="cam")
    made = explain(
        found.model, shapes / "001.png", "class:kind 1", methods="cam", settings=ExplainSettings(trust=False)
    )
    strongest = made.found["cam"].map.map.argmax()
    row, column = divmod(int(strongest), 32)
    assert 14 <= row <= 31
    assert 0 <= column <= 17


def test_a_new_head_needs_labels(noise_images: Path) -> None:
    with pytest.raises(UserError, match="two or more classes of 5 labelled images"):
        pooled_head(_model(), noise_images, workers=0)
