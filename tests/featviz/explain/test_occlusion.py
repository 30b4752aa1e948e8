from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import toy_model

from featviz.errors import UserError
from featviz.explain.occlusion import filled, occlusion
from featviz.explain.target import Target
from featviz.network.units import Unit


def _image(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("probability", [False, True])
def test_occlusion_equals_a_loop_over_windows(probability: bool) -> None:
    model, image = toy_model(), _image()
    found, note = occlusion(Target(model, Unit("output", 1)), image, size=10, stride=7, probability=probability)

    def value(images: Tensor) -> float:
        logits = model.network.eval()(model.preprocess.normalize(images))[0].detach()
        return float(logits.softmax(0)[1] if probability else logits[1])

    drops, covered = torch.zeros(32, 32), torch.zeros(32, 32)
    for top in (0, 7, 14, 21, 22):
        for left in (0, 7, 14, 21, 22):
            hidden = image.clone()
            hidden[0, :, top : top + 10, left : left + 10] = image[0].mean((1, 2))[:, None, None]
            drops[top : top + 10, left : left + 10] += value(image) - value(hidden)
            covered[top : top + 10, left : left + 10] += 1
    assert torch.allclose(found, drops / covered, atol=1e-5)
    assert "squares of 10 every 7 pixels" in note


def test_occlusion_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    model, image = toy_model(), _image()
    found, _ = occlusion(Target(model, Unit("output", 1)), image, size=8, stride=4, fill="black")

    def network(images: Tensor) -> Tensor:
        result: Tensor = model.network.eval()(model.preprocess.normalize(images))
        return result

    theirs = captum.Occlusion(network).attribute(
        image, target=1, sliding_window_shapes=(3, 8, 8), strides=(3, 4, 4), baselines=0
    )
    assert torch.allclose(found, theirs[0, 0].float(), atol=1e-5)


def test_fills_are_what_they_are_called() -> None:
    image = _image()
    assert filled(image, "black").max() == 0
    assert filled(image, "white").min() == 1
    assert torch.allclose(filled(image, "mean")[0, :, 3, 5], image[0].mean((1, 2)))
    blurred = filled(image, "blur")
    assert blurred.std() < image.std() / 4
    assert blurred.mean() == pytest.approx(float(image.mean()), abs=0.02)
    with pytest.raises(UserError, match="no fill 'red'"):
        filled(image, "red")


def test_a_square_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="whose shorter side is 32; got 40"):
        occlusion(Target(toy_model(), Unit("output", 1)), _image(), size=40)
    with pytest.raises(UserError, match="so that they cover all; got 9"):
        occlusion(Target(toy_model(), Unit("output", 1)), _image(), size=8, stride=9)
