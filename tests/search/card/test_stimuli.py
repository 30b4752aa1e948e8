from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.network.models import Model
from search.card.stimuli import (
    FAMILIES,
    Tuning,
    bars,
    colors,
    curves,
    dots,
    edges,
    gratings,
    orientation_selectivity,
    tuning,
)

SIZE = (65, 65)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_lies_in_range_about_grey_and_says_what_it_shows(name: str) -> None:
    found = FAMILIES[name](SIZE, 32)
    assert found.name == name
    assert found.images.shape[1:] == (3, *SIZE)
    assert 0 <= found.images.min() < found.images.max() <= 1
    assert torch.allclose(found.images[:, :, 0, 0], torch.full((len(found.images), 3), 0.5), atol=1e-2)
    assert all(len(values) == len(found.images) for values in found.parameters.values())
    assert found.along in found.parameters
    combinations = set(zip(*(values.tolist() for values in found.parameters.values()), strict=True))
    assert len(combinations) == len(found.images)


def test_a_horizontal_bar_is_a_row_and_a_vertical_one_a_column() -> None:
    found = bars(SIZE, 33, orientations=4, width=0.2)
    images = {
        (angle, contrast): image[0]
        for image, angle, contrast in zip(
            found.images, found.parameters["orientation"].tolist(), found.parameters["contrast"].tolist(), strict=True
        )
    }
    assert images[0.0, 1.0][32, 18:47].min() == 1
    assert images[0.0, 1.0][18:28, 32].max() == 0.5
    assert torch.allclose(images[90.0, 1.0], images[0.0, 1.0].T, atol=1e-5)
    assert torch.allclose(images[0.0, -1.0], 1 - images[0.0, 1.0])
    # 45 degrees counter-clockwise: up to the right.
    assert images[45.0, 1.0][32 - 8, 32 + 8] == 1
    assert images[45.0, 1.0][32 + 8, 32 + 8] == 0.5


def test_an_edge_is_bright_to_the_left_of_its_direction() -> None:
    found = edges(SIZE, 40, orientations=4)
    east, north = found.images[0, 0], found.images[1, 0]
    assert (east[20, 32], east[44, 32]) == (1, 0)
    assert (north[32, 20], north[32, 44]) == (1, 0)


def test_a_grating_has_its_frequency() -> None:
    found = gratings((64, 64), 64, orientations=2, frequencies=[0.125, 0.25], phases=2)
    for image, frequency, angle in zip(
        found.images, found.parameters["frequency"].tolist(), found.parameters["orientation"].tolist(), strict=True
    ):
        spectrum = torch.fft.rfft2(image[0] - image[0].mean()).abs()
        row, column = divmod(int(spectrum.argmax()), spectrum.shape[1])
        across = (0, frequency * 64) if angle == 90 else (frequency * 64, 0)
        assert (min(row, 64 - row), column) == pytest.approx(across)


def test_a_curve_bulges_to_where_it_says() -> None:
    found = curves((129, 129), 80, orientations=4, curvatures=[1.0])
    for image, angle in zip(found.images[:, 0], found.parameters["orientation"].tolist(), strict=True):
        rows, columns = ((image - 0.5) > 0.2).nonzero(as_tuple=True)
        middle = (rows.float().mean() - 64, columns.float().mean() - 64)  # away from the bulge, as the ends bend back
        toward = (-math.sin(math.radians(angle)), math.cos(math.radians(angle)))
        assert middle[0] * toward[0] + middle[1] * toward[1] < -3
        assert image[64, 64] == 1


def test_a_dot_covers_its_area_and_colours_are_as_bright_as_their_ground() -> None:
    found = dots(SIZE, 40)
    for image, diameter in zip(found.images[:, 0], found.parameters["diameter"].tolist(), strict=True):
        covered = ((image - 0.5).abs() / 0.5).sum().item()
        assert covered == pytest.approx(math.pi * diameter**2 / 4, rel=0.1, abs=3)
    shown = colors(SIZE, 40)
    for rgb, hue in zip(shown.images[:, :, 32, 32], shown.parameters["hue"].tolist(), strict=True):
        if hue % 120 == 0:
            assert int(rgb.argmax()) == round(hue / 120)
    quiet = shown.parameters["saturation"] < 0.4
    assert torch.allclose(shown.images[quiet].mean(1), torch.full((1,), 0.5), atol=1e-3)


class _Filters(nn.Module):
    """One channel per orientation: the match with a bar's own picture, at one position."""

    def __init__(self, patterns: Tensor) -> None:
        super().__init__()
        self.patterns, self.out = patterns - 0.5, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.out(torch.einsum("nchw,kchw->nk", images - 0.5, self.patterns))
        return result


def test_a_channel_that_matches_a_bar_prefers_its_orientation() -> None:
    found = bars(SIZE, 40, orientations=8)
    bright = found.parameters["contrast"] > 0
    model = Model.wrap(_Filters(found.images[bright]), size=65, mean=(0.0,) * 3, std=(1.0,) * 3)
    answer = tuning(model, "out", found)
    assert answer.responses.shape == (8, 8)
    assert answer.responses.argmax(0).tolist() == list(range(8))
    assert torch.equal(found.parameters["orientation"][answer.best], found.parameters["orientation"][bright])
    preferred, strength = orientation_selectivity(answer)
    away = (preferred - torch.arange(8) * 22.5 + 90) % 180 - 90
    assert away.abs().max() < 3
    assert strength.min() > 0.3


def test_selectivity_is_one_for_a_single_orientation_and_nothing_for_all_alike() -> None:
    responses = torch.zeros(6, 2)
    responses[2, 0], responses[:, 1] = 3, 3
    found = Tuning("bars", "orientation", torch.arange(6) * 30.0, responses, torch.zeros(2))
    preferred, strength = orientation_selectivity(found)
    assert preferred[0] == pytest.approx(60, abs=1e-3)
    assert strength.tolist() == pytest.approx([1, 0], abs=1e-6)


def test_responses_are_those_above_plain_grey_at_the_maps_middle() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 1))
    with torch.no_grad():
        network[0].weight.fill_(1 / 3)  # type: ignore[operator, union-attr]
        network[0].bias.fill_(5)  # type: ignore[operator, union-attr]
    model = Model.wrap(network, size=65, mean=(0.0,) * 3, std=(1.0,) * 3)
    answer = tuning(model, "0", dots(SIZE, 40))
    assert answer.responses.flatten().tolist() == pytest.approx([0.5] * 8, abs=1e-5)


def test_stimuli_of_another_size_and_tunings_without_orientation_are_refused() -> None:
    model = Model.wrap(nn.Sequential(nn.Conv2d(3, 1, 1)), size=32)
    with pytest.raises(UserError, match="the model takes"):
        tuning(model, "0", dots(SIZE, 40))
    found = tuning(model, "0", dots((32, 32), 20))
    with pytest.raises(UserError, match="no parameter of an orientation tuning 'diameter'"):
        orientation_selectivity(found)


def test_a_one_channel_network_sees_grey() -> None:
    model = Model.wrap(nn.Sequential(nn.Conv2d(1, 2, 3)), size=32, mean=(0.5,), std=(0.5,))
    assert tuning(model, "0", bars((32, 32), 20)).responses.shape == (16, 2)


def test_stimuli_lie_about_the_middle_that_is_asked_for() -> None:
    for family in FAMILIES.values():
        plain, moved = family((40, 40), 12.0), family((40, 40), 12.0, middle=(26.0, 17.0))
        # Six rows further down and three columns further left than the image's own middle.
        assert torch.allclose(moved.images[:, :, 12:32, 8:28], plain.images[:, :, 6:26, 11:31], atol=1e-5)
