from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import toy_model
from typer.testing import CliRunner

from atlas.cli import app
from atlas.dissect import dissect
from atlas.explain import ExplainSettings, explain
from atlas.explanation import conclusion
from atlas.explorer import read_book
from featviz.errors import UserError
from featviz.explain.attribution import METHODS, attribution
from featviz.explain.target import Target
from featviz.explain.trust import deletion
from featviz.network.models import Model
from featviz.network.units import Unit
from search.images.decode import central_view
from search.images.images import open_images

# A network of convolutions has none.
ATTENTION = ("rollout", "attention")
# `atlas.explain` is the function.
MODULE = sys.modules["atlas.explain"]


@pytest.fixture
def image(noise_images: Path) -> Path:
    return sorted(noise_images.glob("*.png"))[3]


def test_a_folder_holds_every_map_and_its_checks_and_is_read_back(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = explain(toy_model(), image, out=tmp_path / "out")
    assert list(made.found) == [name for name in METHODS if name not in ATTENTION]
    assert list(made.left_out) == list(ATTENTION)
    logits = toy_model().network.eval()(toy_model().preprocess.normalize(made.view[None]))[0].detach()
    assert made.unit.channel == int(logits.argmax())
    assert made.probability == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)
    for name, each in made.found.items():
        assert np.array_equal(np.load(tmp_path / "out" / f"{name}.npy"), each.map.raw.numpy())
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.size == (224, 224)
    rows = {row["method"]: row for row in json.loads((tmp_path / "out" / "explain.json").read_text())["methods"]}
    curve = deletion(Target(toy_model(), made.unit), made.view, made.found["gradcam"].map.raw)
    assert rows["gradcam"]["deletion"]["area"] == pytest.approx(curve.area, abs=1e-4)
    assert all(len(row["randomisation"]["likeness"]) >= 2 for row in rows.values())
    (report,) = read_book(tmp_path / "out" / "index.html").manifest["reports"]
    assert report["figures"][0] == "Maps"
    assert len(report["figures"]) == 3
    assert {"sheet.png", "curves.png", "randomisation.png"} <= {file.name for file in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(MODULE, "attribution", lambda *_, **__: pytest.fail("worked out again"))
    again = explain(toy_model(), image, out=tmp_path / "out")
    assert conclusion(again) == conclusion(made)
    for name, each in again.found.items():
        assert torch.equal(each.map.map, made.found[name].map.map)
        assert each.box == made.found[name].box
    other = "class:a" if made.unit.channel != 0 else "class:b"
    with pytest.raises(UserError, match="made with other settings"):
        explain(toy_model(), image, other, methods="saliency", out=tmp_path / "out")


def test_of_all_methods_those_that_a_unit_does_not_allow_are_left_out_with_the_reason(image: Path) -> None:
    made = explain(toy_model(), image, "3:2", settings=ExplainSettings(trust=False))
    assert set(made.left_out) == {"cam", "probability", *ATTENTION}
    assert "Grad-CAM (gradcam)" in made.left_out["cam"]
    assert made.probability is None
    with pytest.raises(UserError, match=r"Grad-CAM \(gradcam\)"):
        explain(toy_model(), image, "3:2", methods="cam")


def test_what_cannot_be_is_said_before_a_folder_is_claimed(image: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", toy_model()
    for settings, methods in ((ExplainSettings(layer="77"), "all"), (ExplainSettings(size=500), "all"),
                              (ExplainSettings(fill="red"), "all"), (ExplainSettings(), "cam")):  # fmt: skip
        with pytest.raises(UserError):
            explain(model, image, "3:2", methods=methods, settings=settings, out=out)
        assert not out.exists()
    explain(model, image, "3:2", methods=["gradcam"], out=out)


def test_what_a_stopped_run_explained_is_not_explained_again(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, done = ["saliency", "guided", "gradcam"], list[str]()
    real = attribution

    def stopped(target: Target, view: torch.Tensor, name: str, **options: object) -> object:
        if name == "gradcam" and "guided" in done and "stop" not in done:
            done.append("stop")
            raise KeyboardInterrupt
        done.append(name)
        return real(target, view, name, **options)

    monkeypatch.setattr(MODULE, "attribution", stopped)
    settings = ExplainSettings(trust=False)
    monkeypatch.setattr(MODULE, "_check", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        explain(toy_model(), image, "class:a", methods=names, settings=settings, out=tmp_path / "out")
    explain(toy_model(), image, "class:a", methods=names, settings=settings, out=tmp_path / "out")
    assert done == ["saliency", "guided", "stop", "gradcam"]


def test_options_reach_their_methods(image: Path) -> None:
    settings = ExplainSettings(layer="2", size=9, stride=5, fill="black", trust=False)
    made = explain(toy_model(), image, "class:a", methods=["gradcam", "occlusion"], settings=settings)
    assert made.found["gradcam"].map.raw.shape == (16, 16)
    assert made.found["occlusion"].map.note.endswith("squares of 9 every 5 pixels, black")


def test_bad_input_is_named(image: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    for given, message in ((tmp_path, "is a folder"), (tmp_path / "none.jpg", "no image"),
                           (tmp_path / "text.jpg", "no image that can be read")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            explain(toy_model(), given)
    with pytest.raises(UserError, match="no class 'z'"):
        explain(toy_model(), image, "class:z")
    with pytest.raises(UserError, match="are 2 units"):
        explain(toy_model(), image, "3:0-1")
    with pytest.raises(UserError, match="no method 'grad'"):
        explain(toy_model(), image, methods="grad")
    with pytest.raises(UserError, match="takes one channel"):
        dissect(toy_model(), "3:0-1", image)


def test_a_dissections_folder_holds_every_channels_share(image: Path, tmp_path: Path) -> None:
    found = dissect(toy_model(), "3:2", image, rows=3, out=tmp_path / "out")
    about = json.loads((tmp_path / "out" / "dissection.json").read_text())
    assert [row["channel"] for row in about["channels"]] == found.channels.tolist()
    added = sum(row["at the largest"] for row in about["channels"]) + about["bias"]
    assert added == pytest.approx(float(found.output.max()), abs=1e-4)
    assert np.load(tmp_path / "out" / "contributions.npy").shape == tuple(found.contributions.shape)
    assert (tmp_path / "out" / "dissection.png").is_file()
    first = dissect(toy_model(), "0:1", image, out=tmp_path / "first")
    assert len(first.channels) == 3
    described = {
        row["description"] for row in json.loads((tmp_path / "first" / "dissection.json").read_text())["channels"]
    }
    assert described == {"red of the image", "green of the image", "blue of the image"}


@pytest.mark.slow
def test_the_commands_say_what_they_found(image: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["explain", str(image), "--class", "tabby", "--method", "gradcam,occlusion", "--no-trust", "--size", "80",
              "--out", str(tmp_path / "x"), "--json", "--quiet"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [row["method"] for row in json.loads(done.stdout)["methods"]] == ["gradcam", "occlusion"]
    both = CliRunner().invoke(app, ["explain", str(image), "--class", "tabby", "--unit", "blocks.3:1"])
    assert "give one" in str(both.exception)
    done = CliRunner().invoke(app, ["dissect", "blocks.1.0.conv_pw:7", str(image), "--out", str(tmp_path / "y")])
    assert done.exit_code == 0, done.output
    assert "add up to the layer's real output" in done.stderr.replace("\n", " ")


@pytest.mark.slow
def test_taking_away_what_smooth_grad_cam_marks_hurts_more_than_as_much_elsewhere(
    lite0: Model, image_sample: Path
) -> None:
    images = open_images(image_sample)
    better = 0
    for number in range(5, 300, 50):
        view = central_view(images.open(number), lite0.preprocess)
        target = Target(lite0, Unit("output", images.labels[number]))
        curve = deletion(target, view, attribution(target, view, "smoothgradcampp").raw)
        better += curve.area < curve.by_chance
    assert better >= 5  # of six
