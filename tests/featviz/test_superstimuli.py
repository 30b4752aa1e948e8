from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import conv_net, toy_model

from featviz.errors import UserError
from featviz.output import OutputFolder
from featviz.superstimuli import Certificate, Drawing, certify, file_name, render, values
from featviz.trunk import Trunk
from featviz.units import Unit

QUICK = Drawing(size=32, steps=4)


def _render(folder: Path, units: list[Unit], drawing: Drawing = QUICK) -> list[Certificate]:
    model = toy_model()
    out = OutputFolder.claim(folder, {"units": [str(unit) for unit in units]})
    return render(model, units, out, drawing)


def test_a_units_bytes_are_the_same_alone_first_last_and_among_forty_others(tmp_path: Path) -> None:
    unit = Unit("4", 3)
    others = [Unit(layer, channel, place, sign) for layer in ("1", "4") for channel in range(5)
              for place in (None, "center") for sign in (1, -1)]  # fmt: skip
    others = [other for other in others if other != unit]
    assert len(others) == 39
    runs = {
        "alone": [unit],
        "first": [unit, *others],
        "last": [*others, unit],
        "middle": [*others[:20], unit, *others[20:]],
    }
    for name, units in runs.items():
        _render(tmp_path / name, units)
    pictures = {(tmp_path / name / file_name(unit)).read_bytes() for name in runs}
    assert len(pictures) == 1


def test_what_a_stopped_run_left_is_kept_and_the_rest_comes_out_the_same(tmp_path: Path) -> None:
    units = [Unit("4", channel) for channel in range(6)] + [Unit("output", 1)]

    class StopRun(Exception):  # noqa: N818
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if len(list((tmp_path / "x" / "draft").glob("*.npz"))) == 6:
            raise StopRun

    whole = _render(tmp_path / "whole", units)
    identity = {"units": [str(unit) for unit in units]}
    with pytest.raises(StopRun):
        render(toy_model(), units, OutputFolder.claim(tmp_path / "x", identity), QUICK, progress=stop)
    left = sorted((tmp_path / "x" / "draft").glob("*.npz"))
    assert len(left) == 6
    before = {file: file.stat().st_mtime_ns for file in left}
    resumed = render(toy_model(), units, OutputFolder.claim(tmp_path / "x", identity), QUICK)
    assert {file: file.stat().st_mtime_ns for file in left} == before
    assert resumed == whole
    for unit in units:
        assert (tmp_path / "x" / file_name(unit)).read_bytes() == (tmp_path / "whole" / file_name(unit)).read_bytes()


def test_the_certificate_measures_the_saved_file_on_the_network_as_it_came(tmp_path: Path) -> None:
    units = [Unit("4", 2), Unit("4", 5, "center", -1), Unit("output", 3)]
    certificates = _render(tmp_path, units)
    network = conv_net().eval()
    for unit, certificate in zip(units, certificates, strict=True):
        with Image.open(tmp_path / certificate.file) as picture:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            inputs = (pixels - 0.5) / 0.5
            maps, logits = network[:5](inputs), network(inputs)
        expected = {"4:2": maps[0, 2].mean(), "-4:5@center": -maps[0, 5, 4, 4], "class:3": logits[0, 3]}[str(unit)]
        assert certificate.activation == pytest.approx(expected.item(), rel=1e-4)
        assert certificate.dataset_max is None
        assert certificate.gain is None
        assert certificate.dead is None
    stored = json.loads((tmp_path / "units.json").read_text())
    assert [Certificate(**entry) for entry in stored] == certificates


def test_the_certificate_against_a_data_set_is_what_its_words_say() -> None:
    model = toy_model()
    trunk = Trunk(model, ["4"], fold=False)
    unit = Unit("4", 1)
    picture = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    activation = certify(unit, picture, trunk).activation
    below = np.array([activation - 3, activation - 2, activation - 1, abs(activation) * 2 + 1], np.float32)
    found = certify(unit, picture, trunk, dataset=below)
    assert found.dataset_max == pytest.approx(below.max())
    assert found.gain == pytest.approx(activation / below.max())
    assert found.percentile == 75
    assert found.dead is False
    assert certify(unit, picture, trunk, dataset=below + 100).dead is True


def test_rank_counts_the_channels_that_the_picture_excites_more() -> None:
    trunk = Trunk(toy_model(), ["4"], fold=False)
    picture = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        means = trunk(picture[None].float() / 255)["4"].mean((0, 2, 3))
    order = means.argsort(descending=True).tolist()
    assert [certify(Unit("4", channel), picture, trunk).rank for channel in order] == [1, 2, 3, 4, 5, 6]
    assert certify(Unit("4", order[-1], None, -1), picture, trunk).rank == 1


def test_saturation_is_the_share_of_burnt_values() -> None:
    picture = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    picture[:, :8], picture[:, 8:16] = 255, 1
    assert certify(Unit("4", 0), picture, Trunk(toy_model(), ["4"], fold=False)).saturated == 0.5


def test_values_equal_the_units_own_definition() -> None:
    maps = torch.randn(3, 6, 5, 5)
    assert torch.allclose(values(Unit("4", 2), maps), maps[:, 2].mean((1, 2)))
    assert torch.allclose(values(Unit("4", 2, (1, 3), -1), maps), -maps[:, 2, 1, 3])


def test_file_names_are_safe_and_differ() -> None:
    units = [
        Unit("a.b", 1),
        Unit("a.b", 1, None, -1),
        Unit("a.b", 1, (2, 3)),
        Unit("a.b", 1, "center"),
        Unit("output", 1),
    ]
    units += [Unit("a.b", 1, vectors="x/v.npy"), Unit("a.b", 1, vectors="x_v.npy")]
    names = [file_name(unit) for unit in units]
    assert len(set(names)) == len(names)
    assert all(not set(name) & set('/\\:*?"<>|') for name in names)


def test_sizes_fit_the_kind_of_unit() -> None:
    model = toy_model()
    assert Drawing().pixels(Unit("4", 0), model) == (128, 128)
    assert Drawing().pixels(Unit("4", 0, (1, 1)), model) == (32, 32)
    assert Drawing().pixels(Unit("output", 0), model) == (32, 32)
    assert Drawing(size=48).pixels(Unit("output", 0), model) == (48, 48)
    with pytest.raises(UserError, match="--size starts at 16"):
        Drawing(size=3)
