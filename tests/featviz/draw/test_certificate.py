from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import toy_model

from featviz.draw.certificate import Reference, certify, values
from featviz.draw.spectrum import slopes
from featviz.network.trunk import Trunk
from featviz.network.units import Unit


def _trunk() -> Trunk:
    return Trunk(toy_model(), ["4"], fold=False)


def _noise() -> Tensor:
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_against_a_data_set_it_is_what_its_words_say() -> None:
    trunk, unit = _trunk(), Unit("4", 1)
    picture = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    alone = certify(unit, picture, trunk)
    activation, robust = alone.clean, alone.activation
    assert activation is not None
    assert robust is not None
    assert robust != activation
    below = np.array([activation - 3, activation - 2, activation - 1, abs(activation) * 2 + 1], np.float32)
    found = certify(unit, picture, trunk, reference=Reference(below, slope=-1.0, robust_max=4.0))
    assert (found.dataset_max, found.clean_max) == (4.0, pytest.approx(below.max()))
    assert found.gain == pytest.approx(robust / 4)
    assert found.robustness is None or found.robustness == pytest.approx(robust / activation)
    assert found.z == pytest.approx((activation - np.median(below)) / (below.max() - np.median(below)), rel=1e-5)
    assert found.percentile == 75
    assert found.dead is False
    assert found.slope_error == pytest.approx(abs(found.slope + 1))
    assert certify(unit, picture, trunk, reference=Reference(below + 100)).dead is True
    # A unit behind a rectifier that never opened: picture, median and maximum are all 0.
    shut = certify(unit, picture, trunk, reference=Reference(np.full(4, activation, np.float32)))
    assert (shut.dead, shut.gain, shut.z) == (True, None, None)


def test_without_a_data_set_it_says_nothing_of_one() -> None:
    found = certify(Unit("4", 1), _noise(), _trunk())
    unknown = ("dataset_max", "gain", "clean_max", "z", "percentile", "dead", "slope_error", "path_similarity", "mis")
    assert all(getattr(found, field) is None for field in unknown)
    assert found.slope == pytest.approx(slopes(_noise()[None].float() / 255).item())


def test_rank_counts_the_channels_that_the_picture_excites_more() -> None:
    trunk, picture = _trunk(), _noise()
    with torch.no_grad():
        means = trunk(picture[None].float() / 255)["4"].mean((0, 2, 3))
    order = means.argsort(descending=True).tolist()
    found = [certify(Unit("4", channel), picture, trunk) for channel in order]
    assert [entry.rank for entry in found] == [1, 2, 3, 4, 5, 6]
    expected = (means[order] - means.mean()) / means.std(correction=0)
    assert [entry.selectivity for entry in found] == pytest.approx(expected.tolist(), rel=1e-4)
    assert certify(Unit("4", order[-1], None, -1), picture, trunk).rank == 1


def test_selectivity_is_measured_in_each_channels_own_deviations() -> None:
    trunk, picture = _trunk(), _noise()
    with torch.no_grad():
        means = trunk(picture[None].float() / 255)["4"].mean((0, 2, 3))
    mean, deviation = means - torch.tensor([1.0, 2, 3, 4, 5, 6]), torch.ones(6)
    reference = Reference(np.ones(3, np.float32), mean, deviation)
    found = [certify(Unit("4", channel), picture, trunk, reference=reference) for channel in range(6)]
    assert [entry.rank for entry in found] == [6, 5, 4, 3, 2, 1]
    assert found[5].selectivity == pytest.approx(2.5 / np.std([1, 2, 3, 4, 5, 6]), rel=1e-4)


def test_a_channel_that_is_never_finite_takes_no_part_in_rank_and_selectivity() -> None:
    trunk, picture = _trunk(), _noise()
    with torch.no_grad():
        means = trunk(picture[None].float() / 255)["4"].mean((0, 2, 3))
    mean, deviation = means - torch.tensor([1.0, 2, torch.nan, 4, 5, 6]), torch.tensor([1.0, 1, torch.nan, 1, 1, 1])
    reference = Reference(np.ones(3, np.float32), mean, deviation)
    found = [certify(Unit("4", channel), picture, trunk, reference=reference) for channel in range(6)]
    assert [entry.rank for entry in found] == [5, 4, None, 3, 2, 1]
    assert found[5].selectivity == pytest.approx(2.4 / np.std([1, 2, 4, 5, 6]), rel=1e-4)


def test_saturation_is_the_share_of_burnt_values() -> None:
    picture = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    picture[:, :8], picture[:, 8:16] = 255, 1
    assert certify(Unit("4", 0), picture, _trunk()).saturated == 0.5


def test_values_equal_the_units_own_definition() -> None:
    maps = torch.randn(3, 6, 5, 5)
    assert torch.allclose(values(Unit("4", 2), maps), maps[:, 2].mean((1, 2)))
    assert torch.allclose(values(Unit("4", 2, (1, 3), -1), maps), -maps[:, 2, 1, 3])


def test_an_activation_that_is_not_finite_is_dead_and_has_no_figures() -> None:
    model = toy_model()
    with torch.no_grad():
        model.network[3].bias[1] = torch.nan  # type: ignore[index]
    trunk = Trunk(model, ["3"], fold=False)
    found = certify(Unit("3", 1), _noise(), trunk, reference=Reference(np.ones(3, np.float32)))
    assert (found.activation, found.rank, found.selectivity, found.gain, found.dead) == (None, None, None, None, True)
    assert certify(Unit("3", 0), _noise(), trunk).activation is not None
