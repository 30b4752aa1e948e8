from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import conv_net, toy_model

from featviz.draw.certificate import Certificate, from_json
from featviz.draw.drawing import Drawing, Transparency
from featviz.draw.picture import as_png
from featviz.draw.superstimuli import file_name, render
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.units import Unit
from featviz.run.output import OutputFolder

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
        assert certificate.clean == pytest.approx(expected.item(), rel=1e-4)
    stored = json.loads((tmp_path / "units.json").read_text())
    assert [from_json(entry) for entry in stored] == certificates


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
    assert Drawing().pixels(Unit("4", 0), model) == (32, 32)
    large = Model.wrap(conv_net(), size=448, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert Drawing().pixels(Unit("4", 0), large) == (224, 224)
    assert Drawing().pixels(Unit("output", 0), large) == (448, 448)
    assert Drawing().pixels(Unit("4", 0, (1, 1)), model) == (32, 32)
    assert Drawing().pixels(Unit("output", 0), model) == (32, 32)
    assert Drawing(size=48).pixels(Unit("output", 0), model) == (48, 48)
    with pytest.raises(UserError, match="--size starts at 16"):
        Drawing(size=3)


def test_a_class_has_several_starts_unless_it_begins_at_an_image_and_a_neuron_keeps_its_place() -> None:
    model, picture, generators = toy_model(), torch.rand(1, 3, 32, 32), [torch.Generator().manual_seed(0)]
    assert Drawing().starts(Unit("output", 0)) > 1
    assert Drawing().starts(Unit("4", 0)) == Drawing(start="cat.png").starts(Unit("output", 0)) == 1
    assert Drawing().transform(Unit("4", 0, (1, 1)), model)(picture, generators).shape == picture.shape
    assert Drawing().transform(Unit("4", 0), model)(picture, generators).shape[2] < 32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "--steps and --attempts start at 1"),
        ({"attempts": 0}, "--steps and --attempts start at 1"),
        ({"lr": 20.0}, "--lr lies between"),
        ({"canvas": "oil"}, "no canvas 'oil'"),
        ({"canvas": "cppn", "start": "x.png"}, "cannot begin at an image"),
        ({"diversity": 0}, "--diversity lies between 1 and 16"),
        ({"transparency": "glass"}, "no transparency 'glass'"),
        ({"precision": "float8"}, "no precision 'float8'"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Drawing(**wrong)  # type: ignore[arg-type]


def test_facets_are_pictures_of_their_own_and_the_same_in_any_company(tmp_path: Path) -> None:
    drawing = Drawing(size=32, steps=12, diversity=3)
    units = [Unit("4", channel) for channel in range(4)]
    certificates = _render(tmp_path / "all", units, drawing)
    assert [(entry.unit, entry.facet) for entry in certificates[:4]] == [("4:0", 1), ("4:0", 2), ("4:0", 3), ("4:1", 1)]
    _render(tmp_path / "alone", [units[2]], drawing)
    files = [file_name(units[2], facet) for facet in (1, 2, 3)]
    assert files == ["4_2.png", "4_2~2.png", "4_2~3.png"]
    alone = [(tmp_path / "alone" / file).read_bytes() for file in files]
    assert alone == [(tmp_path / "all" / file).read_bytes() for file in files]
    assert len(set(alone)) == 3


def test_facets_of_a_class_are_told_apart_by_the_default_layer(tmp_path: Path) -> None:
    drawing = Drawing(size=32, steps=4, diversity=2)
    pictures = []
    for number, layer in enumerate((None, "5", "1")):  # without a default, the last layer that has a map: 5
        model = replace(toy_model(), default_layer=layer)
        out = OutputFolder.claim(tmp_path / str(number), {})
        certificates = render(model, [Unit("output", 1)], out, drawing)
        assert [(entry.label, entry.facet) for entry in certificates] == [("b", 1), ("b", 2)]
        pictures.append((out.path / "class_1~2.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize("transparency", ["learned", "importance"])
def test_a_transparent_picture_is_a_png_with_an_opacity(tmp_path: Path, transparency: Transparency) -> None:
    _render(tmp_path, [Unit("4", 1)], Drawing(size=32, steps=8, transparency=transparency))
    with Image.open(tmp_path / "4_1.png") as picture:
        assert picture.mode == "RGBA"
        assert np.asarray(picture)[..., 3].std() > 0


@pytest.mark.parametrize(
    ("channels", "show", "mode", "held"),
    [(1, (), "L", [0]), (3, (), "RGB", [0, 1, 2]), (2, (), "L", [0]), (5, (), "RGB", [0, 1, 2]),
     (5, (3, 2, 1), "RGB", [3, 2, 1]), (5, (4,), "L", [4])],
)  # fmt: skip
def test_a_png_shows_the_bands_that_are_to_be_seen(
    channels: int, show: tuple[int, ...], mode: str, held: list[int]
) -> None:
    picture = torch.randint(0, 256, (channels, 6, 8), dtype=torch.uint8)
    image = as_png(picture, show=show)
    assert (image.size, image.mode) == ((8, 6), mode)
    pixels = torch.from_numpy(np.array(image)).reshape(6, 8, -1).permute(2, 0, 1)
    assert torch.equal(pixels, picture[held])
