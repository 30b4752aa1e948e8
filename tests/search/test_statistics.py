from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from toys import conv_net, noise_folder, toy_model

from featviz.units import Unit
from search.decode import central_box, cut
from search.images import open_images
from search.scan import Batch
from search.statistics import UnitValues, unit_values

UNITS = [Unit("4", 2), Unit("4", 0, (1, 3), -1), Unit("output", 3)]


def test_values_equal_one_image_at_a_time_through_the_network_as_it_came(tmp_path: Path) -> None:
    model, images = toy_model(), open_images(noise_folder(tmp_path, 10))
    found = unit_values(model, UNITS, images)
    network = conv_net().eval()
    for number in range(10):
        picture = images.open(number)
        pixels = cut(picture, central_box(picture.size, model.preprocess), model.preprocess)
        with torch.no_grad():
            inputs = (pixels[None].float() / 255 - 0.5) / 0.5
            maps, logits = network[:5](inputs), network(inputs)
        expected = [maps[0, 2].mean(), -maps[0, 0, 1, 3], logits[0, 3]]
        assert np.allclose([found[unit][number] for unit in UNITS], expected, atol=1e-4)


def test_a_damaged_image_has_no_value(tmp_path: Path) -> None:
    images = noise_folder(tmp_path, 10)
    (images / "004.png").write_bytes(b"broken")
    assert len(unit_values(toy_model(), UNITS, open_images(images))[UNITS[0]]) == 9


def test_merged_parts_in_any_order_equal_the_whole_and_other_views_do_not_count() -> None:
    maps, logits = torch.randn(6, 6, 5, 5), torch.randn(6, 4, 1, 1)

    def batch(numbers: list[int], view: int = 0) -> Batch:
        n = len(numbers)
        seen = {"4": maps[numbers], "output": logits[numbers]}
        return Batch(seen, torch.tensor(numbers), torch.full((n,), view), torch.full((n,), -1), torch.zeros(n, 4))

    whole, first, second = UnitValues(UNITS), UnitValues(UNITS), UnitValues(UNITS)
    whole.update(batch([0, 1, 2, 3, 4, 5]))
    second.update(batch([4, 0]))
    second.update(batch([1, 2], view=1))
    first.update(batch([5, 3, 1, 2]))
    resumed = UnitValues(UNITS)
    resumed.load(first.state())
    resumed.merge(second)
    assert all(torch.equal(resumed.state()[key], whole.state()[key]) for key in ("image", "values"))
    assert UnitValues(UNITS).state()["values"].shape == (0, 3)
