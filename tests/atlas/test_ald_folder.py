from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toys import noise_folder
from typer.testing import CliRunner

from atlas.ald_folder import AldSettings, study_weights
from atlas.cli import app
from featviz.errors import UserError
from featviz.network.models import Model
from search.images.decode import central_view

NAMES = [f"kind {number}" for number in range(12)]
QUICK = AldSettings(bootstrap=49, steps=2)


def _model(seed: int = 0, features: int = 64) -> Model:
    """A convolution to 64 channels, their means, 12 classes."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, features, 5, 4, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 12)
    )
    return Model.wrap(network.eval(), name="toy", size=32, labels=NAMES)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = noise_folder(tmp_path_factory.mktemp("labelled"), 36)
    rows = "".join(f"{number:03d}.png,{number % 12}\n" for number in range(36))
    (folder / "labels.csv").write_text(f"file,class_index\n{rows}")
    return folder


def test_another_image_of_the_same_name_and_size_is_other_work(labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "image.bmp"
    for source in ("001.png", "002.png"):
        with Image.open(labelled / source) as image:
            image.convert("RGB").save(file)
        if source == "001.png":
            study_weights(_model(), ["kind 2"], out=tmp_path / "out", image=file, settings=QUICK)
    with pytest.raises(UserError, match="image was"):
        study_weights(_model(), ["kind 2"], out=tmp_path / "out", image=file, settings=QUICK)


def test_all_writes_every_class_figures_and_a_conclusion(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = study_weights(_model(), ["all"], out=out, settings=QUICK)
    stored = json.loads((out / "ald.json").read_text())
    assert list(stored) == NAMES
    entry = stored["kind 3"]
    assert {"zeros", "positive", "negative", "kappa", "lambda", "mean", "mle", "winner"} <= set(entry)
    assert set(entry["mle"]) == {"normal", "laplace", "asymmetric laplace", "student t"}
    assert entry["tree"]["size"] == 64
    assert any("claim" in line for line in manifest["conclusion"])
    with Image.open(out / "layer.png") as figure:
        assert figure.width > 1000
    page = (out / "index.html").read_text()
    assert "Conclusion" in page
    assert "default-src 'none'" in page
    again = study_weights(_model(), ["all"], out=out, settings=QUICK, progress=lambda *_: pytest.fail("worked again"))
    assert again == manifest
    with pytest.raises(UserError, match="other settings"):
        study_weights(_model(seed=1), ["all"], out=out, settings=QUICK)


def test_a_class_has_its_fit_its_tree_and_its_terminal_neurons(tmp_path: Path, labelled: Path) -> None:
    out = tmp_path / "out"
    study_weights(_model(), ["kind 2"], out=out, images=labelled, settings=QUICK)
    stored = json.loads((out / "ald.json").read_text())
    assert list(stored) == ["kind 2"]
    terminal = stored["kind 2"]["discriminative"] + stored["kind 2"]["confusing"]
    drawn = [entry["unit"] for entry in json.loads((out / "units.json").read_text())]
    assert sorted(drawn) == sorted(f"0:{feature}" for feature in terminal) or len(drawn) == len(terminal)
    for name in ("kind_2-fit.png", "kind_2-tree.png", "kind_2-neurons.png"):
        with Image.open(out / name) as figure:
            assert np.asarray(figure.convert("L")).std() > 10


def test_terminal_neurons_are_called_what_their_photographs_are(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    rng = np.random.default_rng(0)
    for kind, channel in (("red", 0), ("blue", 2)):
        (folder / kind).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 130
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    model = _model()
    study_weights(model, ["kind 2"], images=folder, out=tmp_path / "out", settings=QUICK)
    rows = json.loads((tmp_path / "out" / "kind_2-neurons.json").read_text(encoding="utf-8"))
    maps = torch.nn.Sequential(*list(model.network.children())[:2])
    strongest = {}
    for kind in ("red", "blue"):
        views = torch.stack([central_view(Image.open(file), model.preprocess) for file in (folder / kind).iterdir()])
        strongest[kind] = maps(model.preprocess.normalize(views)).detach().amax((2, 3)).mean(0)
    assert {row["kind"] for row in rows} == {"discriminative", "confusing"}
    named = [row for row in rows if row["name"]]
    assert named
    for row in named:
        assert row["name"] == max(strongest, key=lambda kind: float(strongest[kind][row["feature"]]))
        assert float(row["AUROC"].split()[0]) > 0.5
    assert "what its terminal neurons are called" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_on_an_image_every_node_says_how_probable_the_class_still_is(tmp_path: Path, labelled: Path) -> None:
    out = tmp_path / "out"
    study_weights(_model(), ["kind 2"], out=out, image=labelled / "002.png", settings=QUICK)
    page = (out / "index.html").read_text()
    assert page.count("p = 0.") >= 3
    assert not (out / "units.json").exists()


def test_report_tests_the_claim_on_labelled_images(tmp_path: Path, labelled: Path) -> None:
    out = tmp_path / "out"
    manifest = study_weights(_model(), ["report"], out=out, images=labelled, settings=QUICK)
    tests = json.loads((out / "tests.json").read_text())
    assert [entry["side"] for entry in tests["evidence"]] == ["discriminative", "confusing"]
    assert 0 < tests["evidence"][0]["images"] <= 36  # classes of too many terminal features are left out
    assert "Pruning on 36 images" in manifest["conclusion"][-1]
    assert (out / "tests.png").is_file()
    assert "fall of the logit" in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (["kind 77"], {}, "no class 'kind 77'; the closest are"),
        ([], {}, "name at least one class"),
        (["all"], {"image": "x.png"}, "--image shows the trees of classes"),
        (["kind 2"], {"image": "none.png"}, "'none.png' is none"),
        (["kind 2"], {"image": __file__}, "is none: .*cannot identify"),
        (["kind 2"], {"settings": AldSettings(bootstrap=-1)}, "bootstrap starts at 0"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_leave_no_folder(
    tmp_path: Path, classes: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        study_weights(_model(), classes, out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_layer_of_too_few_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 40 features"):
        study_weights(_model(features=30), ["all"], out=tmp_path / "out", settings=QUICK)


@pytest.mark.slow
def test_from_the_command_line_the_conclusion_names_where_the_normal_fits_better(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["ald", "all", "--out", str(tmp_path / "out"), "--bootstrap", "0", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert "The normal beats the asymmetric Laplace in" in done.stderr
    assert len(json.loads((tmp_path / "out" / "ald.json").read_text())) == 1000


def test_what_a_network_does_not_allow_is_said_and_the_rest_is_done(tmp_path: Path, labelled: Path) -> None:
    class Doubled(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = super().forward(images)
            return result * 2

    model = Model.wrap(Doubled(*_model().network).eval(), name="doubled", size=32, labels=NAMES)
    manifest = study_weights(model, ["kind 1", "report"], out=tmp_path / "out", images=labelled, settings=QUICK)
    text = " ".join(manifest["conclusion"])
    assert "No neurons are drawn" in text
    assert "was not tested on images" in text
    assert "(the network does more" in text
    assert (tmp_path / "out" / "kind_1-fit.png").is_file()
    study_weights(model, ["kind 1"], out=tmp_path / "image", image=labelled / "001.png", settings=QUICK)
    assert "(not on 001.png:" in (tmp_path / "image" / "index.html").read_text()


def test_too_few_labelled_classes_leave_a_report_without_tests(tmp_path: Path, noise_images: Path) -> None:
    manifest = study_weights(_model(), ["report"], out=tmp_path / "out", images=noise_images, settings=QUICK)
    assert "at least 10 of the network's classes" in manifest["conclusion"][-1]
    assert (tmp_path / "out" / "layer.png").is_file()


def test_classes_that_do_not_vary_do_not_hide_the_others(tmp_path: Path) -> None:
    model = _model()
    with torch.no_grad():
        weight = model.network.get_submodule("4").weight
        weight[0], weight[1] = 0.25, 0.0
        weight[2, :40] = 0.0
        weight[3] = weight[3].sign() * 0.1
        weight[4] = weight[4].abs().clamp(min=0.05)
    out = tmp_path / "out"
    manifest = study_weights(model, ["all", "kind 0", "kind 1", "kind 4"], out=out, settings=replace(QUICK, full=True))
    stored = json.loads((out / "ald.json").read_text())
    assert stored["kind 0"]["winner"] is stored["kind 1"]["winner"] is None
    assert stored["kind 5"]["winner"] in stored["kind 5"]["mle"]
    assert stored["kind 2"]["zeros"] == 40
    assert any("2 classes are left out" in line for line in manifest["conclusion"])


def test_classes_of_one_name_are_all_there(tmp_path: Path) -> None:
    model = replace(_model(), labels=(*NAMES[:10], "crane", "Crane"))
    study_weights(model, ["all"], out=tmp_path / "out", settings=QUICK)
    assert set(json.loads((tmp_path / "out" / "ald.json").read_text())) >= {"crane (10)", "Crane (11)"}


def test_other_networks_stand_beside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model"):
        study_weights(_model(), ["all"], out=tmp_path / "out", settings=replace(QUICK, against=("nosuch",)))
    assert not (tmp_path / "out").exists()


def test_the_pages_policy_names_its_script(tmp_path: Path) -> None:
    study_weights(_model(), ["kind 0"], out=tmp_path / "out", settings=replace(QUICK, neurons=False))
    page = (tmp_path / "out" / "index.html").read_text()
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
