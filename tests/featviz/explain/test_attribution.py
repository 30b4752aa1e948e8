from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import toy_model

from featviz.errors import UserError
from featviz.explain.attribution import METHODS, attribute, attribution
from featviz.explain.target import Target
from featviz.network.models import Model
from featviz.network.units import Unit

CLASS = Unit("output", 1)
# Those for networks without attention; of the others, `test_attention.py`.
OF_MAPS = [name for name in METHODS if name not in ("rollout", "attention")]
UNITS = [Unit("3", 2), Unit("3", 2, (1, 4)), Unit("4", 0, "center"), Unit("output", 1, sign=-1)]


def _image(seed: int = 0) -> Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", OF_MAPS)
def test_every_method_gives_a_finite_map_of_the_input_and_leaves_the_network_alone(method: str) -> None:
    model = toy_model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    target = Target(model, CLASS)
    found = attribution(target, _image(), method)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in target.trunk.network.modules())
    assert found.map.shape == (32, 32)
    assert found.map.isfinite().all()
    assert found.map.abs().max() > 0
    assert found.signed or found.map.min() >= 0
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    again = attribute(model, _image(), CLASS, method)
    assert torch.equal(again.raw, found.raw)


@pytest.mark.parametrize("method", [name for name in OF_MAPS if name not in ("cam", "probability")])
@pytest.mark.parametrize("unit", UNITS)
def test_units_of_any_layer_can_be_explained(method: str, unit: Unit) -> None:
    found = attribute(toy_model(), _image(), unit, method)
    assert found.map.isfinite().all()
    if method in ("saliency", "integrated", "occlusion"):
        assert found.map.abs().max() > 0


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="the closest are 'gradcam'"):
        attribute(toy_model(), _image(), CLASS, "gradcan")
    with pytest.raises(UserError, match="explains classes"):
        attribute(toy_model(), _image(), Unit("3", 2), "cam")
    with pytest.raises(UserError, match="only such a class has a probability"):
        attribute(toy_model(), _image(), Unit("3", 2), "probability")
    flat = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 3)), size=32)
    with pytest.raises(UserError, match=r"Grad-CAM \(gradcam\) does without"):
        attribute(flat, _image(), CLASS, "cam")
    with pytest.raises(UserError, match=r"takes images of \(3, 32, 32\)"):
        attribute(toy_model(), torch.rand(3, 16, 16), CLASS, "saliency")
    with pytest.raises(UserError, match="has channels 0 to 3"):
        attribute(toy_model(), _image(), Unit("output", 4), "saliency")
