"""lucent's own parts, given to maximize as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import conv_net, toy_model

from featviz.draw.lucent import as_transform, from_lucent_objective, is_lucent_objective
from featviz.draw.maximize import maximize
from featviz.draw.objectives import channel
from featviz.draw.robust import score
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.seeds import generator_for

objectives = pytest.importorskip("lucent.optvis.objectives")
param = pytest.importorskip("lucent.optvis.param")
transform = pytest.importorskip("lucent.optvis.transform")


def _nested() -> Model:
    """The toy network as a part called `a.b`, so that its layers have dots: lucent's a_b_4 is a.b.4."""
    inner, outer = nn.Sequential(), nn.Sequential()
    inner.add_module("b", conv_net())
    outer.add_module("a", inner)
    return Model.wrap(outer, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)


def _scores(model: Model, objective: object, images: Tensor, batch: int = 1) -> Tensor:
    ours = from_lucent_objective(objective, model, batch=batch)  # type: ignore[arg-type]
    return score(Trunk(model, ours.layers), ours, images, range(len(images)))


def test_its_objectives_score_what_they_say_picture_by_picture() -> None:
    model = _nested()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = conv_net().eval()[:5]((images / 255 - 0.5) / 0.5)
    first, second = maps[:, 2].mean((1, 2)), maps[:, 5, 4, 4]
    wish = objectives.channel("a_b_4", 2) - 3 * objectives.neuron("a_b_4", 5)
    assert is_lucent_objective(wish)
    assert not is_lucent_objective(channel("4", 2))
    assert torch.allclose(_scores(model, wish, images), first - 3 * second, atol=1e-4)


def test_a_batch_shares_the_sum_of_its_pictures_wishes() -> None:
    model = _nested()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wish = objectives.channel("a_b_4", 2, batch=0) + objectives.channel("a_b_4", 3, batch=1)
    with torch.no_grad():
        maps = conv_net().eval()[:5]((images / 255 - 0.5) / 0.5)
    expected = maps[0, 2].mean() + maps[1, 3].mean()
    scores = _scores(model, wish, images, batch=2)
    assert scores.sum() == pytest.approx(expected.item(), rel=1e-4)


def test_objective_param_and_transforms_climb_together() -> None:
    model = _nested()
    wish = objectives.channel("a_b_4", 2, batch=0) + objectives.channel("a_b_4", 3, batch=1)
    steps = [
        transform.pad(4),
        transform.jitter(2),
        transform.random_scale([0.9, 1.1]),
        transform.random_rotate([-5, 5]),
    ]
    made = [
        maximize(model, wish, canvas=lambda: param.image(40, batch=2), transform=steps, steps=n).images for n in (1, 60)
    ]
    assert made[0].shape == (2, 3, 40, 40)
    ours = channel("a.b.4", [2, 3])
    before, after = (score(Trunk(model, ours.layers), ours, images, range(2)) for images in made)
    assert (after > before).all()


def test_its_cppn_is_a_canvas() -> None:
    wish = objectives.channel("a_b_4", 2)
    made = [maximize(_nested(), wish, canvas=lambda: param.cppn(24), steps=n, lr=5e-3).scores for n in (1, 40)]
    assert made[1] > made[0]


def test_its_parts_and_ours_mix() -> None:
    model = toy_model()
    made = maximize(model, objectives.channel("4", 2), count=2, size=32, steps=3)
    assert made.images.shape == (2, 3, 32, 32)
    again = maximize(model, objectives.channel("4", 2), count=2, size=32, steps=3)
    assert torch.equal(made.images, again.images)
    assert maximize(model, channel("4", [1]), canvas=lambda: param.image(36), steps=2).images.shape == (1, 3, 36, 36)


def test_its_random_numbers_are_seeded_and_the_global_ones_put_back() -> None:
    jitter = as_transform([transform.jitter(8), transform.random_scale([0.8, 0.9, 1.0, 1.1])])
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    first = jitter(images, [generator_for(0, "a")])
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[arg-type]  # noqa: NPY002
    np.random.seed(4)  # noqa: NPY002
    assert torch.equal(jitter(images, [generator_for(0, "a")]), first)


def test_an_unknown_layer_names_the_closest() -> None:
    with pytest.raises(UserError, match="no layer 'a_b_44'; the closest are 'a_b_4'"):
        maximize(_nested(), objectives.channel("a_b_44", 2), steps=1)


def test_what_is_no_objective_is_refused() -> None:
    with pytest.raises(UserError, match="got function"):
        maximize(toy_model(), lambda maps: maps, steps=1)


def test_a_partial_is_a_param_f_and_what_works_picture_by_picture_is_refused() -> None:
    from functools import partial

    canvas = partial(param.image, 32)
    assert maximize(toy_model(), objectives.channel("4", 2), canvas=canvas, steps=2).images.shape == (1, 3, 32, 32)
    for option in ({"clip": 1.0}, {"patience": 3}, {"alpha": True}):
        with pytest.raises(UserError, match="picture by picture"):
            maximize(toy_model(), channel("4", 2), canvas=canvas, steps=2, **option)  # type: ignore[arg-type]
