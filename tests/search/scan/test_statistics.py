from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from toys import conv_net, noise_folder, toy_model

from featviz.draw.spectrum import Spectrum, slopes
from featviz.network.units import Unit
from search.images.decode import central_box, cut
from search.images.images import Images, open_images
from search.scan.scan import Batch, scan
from search.scan.statistics import ChannelMoments, PooledMaps, Spectra, UnitValues

UNITS = [Unit("4", 2), Unit("4", 0, (1, 3), -1), Unit("output", 3)]


def _views(images: Images) -> Tensor:
    """Every image's central view, (n, 3, 32, 32) in [0, 1], one by one."""
    how = toy_model().preprocess
    opened = [images.open(number) for number in range(len(images))]
    return torch.stack([cut(image, central_box(image.size, how), how).float() / 255 for image in opened])


def test_all_consumers_equal_one_image_at_a_time_through_the_network_as_it_came(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path, 10))
    values, pooled, spectra = UnitValues(UNITS), PooledMaps(), Spectra()
    channels, neurons = ChannelMoments("4"), ChannelMoments("4", (1, 3))
    consumers = [values, pooled, spectra, channels, neurons]
    scan(toy_model(), images, ["4", "output"], consumers, batch=4)

    views, network = _views(images), conv_net().eval()
    with torch.no_grad():
        inputs = (views - 0.5) / 0.5
        maps, logits = network[:5](inputs), network(inputs)
    found = values.by_unit()
    expected = [maps[:, 2].mean((1, 2)), -maps[:, 0, 1, 3], logits[:, 3]]
    for unit, column in zip(UNITS, expected, strict=True):
        numbers, activations = found[unit]
        assert numbers.tolist() == list(range(10))
        assert np.allclose(activations, column, atol=1e-4)
    state = pooled.state()
    assert torch.allclose(state["4"], maps.mean((2, 3)), atol=1e-4)
    assert torch.allclose(state["output"], logits, atol=1e-4)
    for consumer, seen in ((channels, maps.mean((2, 3))), (neurons, maps[:, :, 1, 3])):
        mean, deviation = consumer.moments()
        assert torch.allclose(mean, seen.mean(0), atol=1e-4)
        assert torch.allclose(deviation, seen.std(0, correction=0), atol=1e-4)
    assert torch.allclose(spectra.spectrum().amplitude, Spectrum.of(views).amplitude, atol=1e-4)
    assert torch.allclose(spectra.spectrum().mean, Spectrum.of(views).mean, atol=1e-4)
    assert np.isclose(spectra.slope(), slopes(views).mean(), atol=1e-4)


def test_a_damaged_image_has_no_value(tmp_path: Path) -> None:
    images = noise_folder(tmp_path, 10)
    (images / "004.png").write_bytes(b"broken")
    values = UnitValues(UNITS)
    scan(toy_model(), open_images(images), ["4", "output"], [values])
    assert values.by_unit()[UNITS[0]][0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_merged_parts_in_any_order_equal_the_whole_and_other_views_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, logits = torch.randn(6, 6, 5, 5, generator=generator), torch.randn(6, 4, 1, 1, generator=generator)
    pixels = torch.rand(6, 3, 32, 32, generator=generator)

    def batch(numbers: list[int], view: int = 0) -> Batch:
        n = len(numbers)
        seen = {"4": maps[numbers], "output": logits[numbers]}
        return Batch(
            seen,
            torch.tensor(numbers),
            torch.full((n,), view),
            torch.full((n,), -1),
            torch.zeros(n, 4),
            pixels[numbers],
        )

    makers = [lambda: UnitValues(UNITS), PooledMaps, Spectra, lambda: ChannelMoments("4")]
    for make in makers:
        whole, first, second, resumed = (make() for _ in range(4))
        whole.update(batch([0, 1, 2, 3, 4, 5]))
        second.update(batch([4, 0]))
        second.update(batch([1, 2], view=1))
        first.update(batch([5, 3, 1, 2]))
        resumed.load(make().state())
        resumed.load(first.state())
        resumed.merge(second)  # type: ignore[arg-type]
        resumed.merge(make())  # type: ignore[arg-type]
        state = whole.state()
        assert state
        assert all(torch.allclose(resumed.state()[key], value) for key, value in state.items())


def test_values_that_are_not_finite_are_left_out() -> None:
    maps = torch.zeros(3, 6, 2, 2)
    maps[1, 2] = torch.nan
    values, moments = UnitValues([Unit("4", 2), Unit("4", 3)]), ChannelMoments("4")
    seen = Batch(
        {"4": maps}, torch.arange(3), torch.zeros(3), torch.full((3,), -1), torch.zeros(3, 4), torch.zeros(3, 3, 8, 8)
    )
    values.update(seen)
    moments.update(seen)
    assert [numbers.tolist() for numbers, _ in values.by_unit().values()] == [[0, 2], [0, 1, 2]]
    assert moments.moments()[0].isfinite().all()
    maps = torch.randn(3, 6, 2, 2)
    maps[:, 2], maps[1, 4] = torch.nan, torch.inf
    one, two = ChannelMoments("4"), ChannelMoments("4")
    one.update(dataclasses.replace(seen, activations={"4": maps}))
    two.merge(one)
    mean, deviation = two.moments()
    means = maps.mean((2, 3))
    others = [0, 1, 3, 5]
    assert mean[2].isnan()
    assert torch.allclose(mean[others], means[:, others].mean(0))
    assert torch.allclose(mean[4], means[[0, 2], 4].mean())
    assert torch.allclose(deviation[others], means[:, others].std(0, correction=0), atol=1e-6)
