from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import noise_folder, toy_model

from atlas.explorer.html import told
from atlas.explorer.page import evidence, facts_table
from atlas.render import render_units
from featviz.draw.certificate import Certificate
from featviz.draw.drawing import Drawing
from featviz.draw.robust import robust_views
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from search.images.image_set import first_views
from search.images.images import open_images

QUICK = Drawing(size=32, steps=4)
QUICK_SMALL = Drawing(size=16, steps=4)


def test_any_mix_of_units_becomes_pictures_certificates_and_a_page(tmp_path: Path, noise_images: Path) -> None:
    words = ["4:0-2,5", "class:b", "-4:1@center", "1:3@2,2", "4:1"]
    certificates = render_units(toy_model(), words, out=tmp_path, images=noise_images, drawing=QUICK)
    units = ["4:0", "4:1", "4:2", "4:5", "class:1", "-4:1@center", "1:3@2,2"]
    assert [certificate.unit for certificate in certificates] == units
    for certificate in certificates:
        with Image.open(tmp_path / certificate.file) as picture:
            assert picture.size == (32, 32)
        assert certificate.dataset_max is not None
        assert certificate.percentile is not None
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["command"], manifest["units"]) == ("render", 7)
    page = (tmp_path / "index.html").read_text()
    assert all(f"<b>{unit}</b>" in page for unit in units)
    assert "default-src 'none'" in page
    assert not (tmp_path / "draft").exists()


def test_a_finished_folder_is_given_back_and_other_settings_are_refused(tmp_path: Path) -> None:
    first = render_units(toy_model(), ["4:0"], out=tmp_path, drawing=QUICK)
    again = render_units(
        toy_model(), ["4:0"], out=tmp_path, drawing=QUICK, progress=lambda *_: pytest.fail("drawn again")
    )
    assert again == first
    for words, drawing in ((["4:1"], QUICK), (["4:0"], Drawing(size=32, steps=5))):
        with pytest.raises(UserError, match="--overwrite"):
            render_units(toy_model(), words, out=tmp_path, drawing=drawing)


def test_directions_that_changed_since_are_other_work(tmp_path: Path) -> None:
    file, out = tmp_path / "v.npy", tmp_path / "out"
    np.save(file, np.eye(2, 6, dtype=np.float32))
    render_units(toy_model(), [f"4:{file}#0"], out=out, drawing=QUICK)
    np.save(file, np.eye(2, 6, k=1, dtype=np.float32))
    with pytest.raises(UserError, match="other settings"):
        render_units(toy_model(), [f"4:{file}#0"], out=out, drawing=QUICK)


@pytest.mark.parametrize(
    ("words", "drawing", "message"),
    [
        (["4:6"], QUICK, "channel 6: 4 has channels 0 to 5"),
        (["class:z"], QUICK, "no class 'z'; the closest are"),
        ([], QUICK, "name at least one unit"),
        (["4:0@7,7"], QUICK_SMALL, "a place in a map of 8 x 8; that of a picture of 16 x 16 pixels is 4 x 4"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_leave_no_folder(
    tmp_path: Path, words: list[str], drawing: Drawing, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        render_units(toy_model(), words, out=tmp_path / "x", drawing=drawing)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_superstimuli_of_the_real_network_beat_real_photographs_and_rank_high_in_it(
    lite0: Model, tmp_path: Path
) -> None:
    drawing = Drawing(size=112, steps=64)
    certificates = render_units(
        lite0, ["blocks.3:3,7,11,19", "class:daisy", "class:tarantula"], out=tmp_path, images="photos", drawing=drawing
    )
    gains = [certificate.gain for certificate in certificates[:4]]
    assert np.median([gain for gain in gains if gain is not None]) > 2
    # Of 1000 classes, after few steps: how many threads share a sum decides between the first and the next.
    assert all(certificate.rank is not None and certificate.rank <= 10 for certificate in certificates[4:])
    assert max(certificate.saturated for certificate in certificates) < 0.05


def test_pairs_and_a_similarity_make_an_interpretability_score(tmp_path: Path, noise_images: Path) -> None:
    judge = toy_model(seed=4)
    certificates = render_units(
        toy_model(),
        ["4:0-1"],
        out=tmp_path,
        images=noise_images,
        drawing=QUICK,
        pairs=True,
        similarity=judge,
    )
    assert [entry.unit for entry in certificates] == ["4:0", "-4:0", "4:1", "-4:1"]
    for entry in certificates:
        assert entry.mis is not None
        assert 0 <= entry.mis <= 1
        assert entry.path_similarity is not None
        assert list(entry.path_similarity)[-1] == "4"
        assert entry.slope_error is not None
    # The same two pictures on swapped sides, on the same photographs swapped: the same answer.
    assert certificates[0].mis == pytest.approx(certificates[1].mis, abs=1e-5)
    assert "MIS" in (tmp_path / "index.html").read_text()
    alone = render_units(
        toy_model(), ["4:0"], out=tmp_path / "alone", images=noise_images, drawing=QUICK, similarity=judge
    )
    assert alone[0].mis is None


def test_a_similarity_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --images too"):
        render_units(toy_model(), ["4:0"], out=tmp_path / "x", drawing=QUICK, similarity="efficientnet_lite0")
    assert not (tmp_path / "x").exists()


def test_a_start_image_is_where_every_picture_begins(tmp_path: Path, noise_images: Path) -> None:
    photograph = noise_images / "003.png"
    drawing = Drawing(size=32, steps=1, lr=1e-6, start=str(photograph))
    render_units(toy_model(), ["4:0", "class:a"], out=tmp_path / "x", drawing=drawing)
    with Image.open(photograph) as opened:
        expected = np.asarray(opened.resize((32, 32), Image.Resampling.BICUBIC), dtype=float)
    for file in ("4_0.png", "class_0.png"):
        with Image.open(tmp_path / "x" / file) as drawn:
            assert np.abs(np.asarray(drawn, dtype=float) - expected).mean() < 4
    with pytest.raises(UserError, match="--start takes an image file"):
        render_units(toy_model(), ["4:0"], out=tmp_path / "y", drawing=Drawing(start=str(tmp_path / "none.png")))


@pytest.mark.parametrize("canvas", ["pixel", "maco", "cppn"])
def test_every_canvas_by_name(tmp_path: Path, noise_images: Path, canvas: str) -> None:
    made = render_units(
        toy_model(), ["4:0"], out=tmp_path, images=noise_images, drawing=Drawing(canvas=canvas, size=32, steps=3)
    )
    with Image.open(tmp_path / made[0].file) as picture:
        assert picture.size == (32, 32)


def test_maco_without_images_takes_the_embedded_photographs(tmp_path: Path) -> None:
    made = render_units(toy_model(), ["4:0"], out=tmp_path, drawing=Drawing(canvas="maco", size=64, steps=3))
    # The photographs' amplitudes at their own frequencies make a picture with about their slope.
    assert -2.2 < made[0].slope < -0.8
    assert made[0].dataset_max is None


def test_the_contact_sheet_shows_every_picture(tmp_path: Path) -> None:
    render_units(toy_model(), ["4:*"], out=tmp_path, drawing=Drawing(size=160, steps=2))
    with Image.open(tmp_path / "superstimuli.png") as sheet:
        shown = np.asarray(sheet.convert("RGB"), dtype=float)
    for channel in range(6):
        with Image.open(tmp_path / f"4_{channel}.png") as picture:
            pixels = np.asarray(picture, dtype=float)
        left = 24 + channel * 172
        assert np.abs(shown[60:220, left : left + 160] - pixels).mean() < 2


def test_a_network_of_two_channels_shows_one_and_keeps_both(tmp_path: Path) -> None:
    certificates = render_units(toy_model(inputs=2), ["4:0"], out=tmp_path, drawing=QUICK)
    whole = np.load(tmp_path / "4_0.npy")
    with Image.open(tmp_path / certificates[0].file) as picture:
        assert (picture.size, picture.mode) == ((32, 32), "L")
        assert np.array_equal(np.asarray(picture), whole[0])


def test_directions_that_do_not_fit_are_refused_before_anything_is_claimed(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    with pytest.raises(UserError, match="vectors of 3 numbers; 4 has 6"):
        render_units(toy_model(), [f"4:{tmp_path / 'v.npy'}#0"], out=tmp_path / "x", drawing=QUICK)
    assert not (tmp_path / "x").exists()


def test_a_stopped_run_does_not_scan_its_images_again(tmp_path: Path) -> None:
    class StopRun(Exception):  # noqa: N818
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "certifying":
            raise StopRun

    def resumed(stage: str, done: int, total: int) -> None:
        # The small pass over the strongest images is done again, the pass over all of them is not.
        assert (stage, total) != ("reading images", 60)

    wishes = {"images": noise_folder(tmp_path / "images", 60), "drawing": QUICK}
    whole = render_units(toy_model(), ["4:0"], out=tmp_path / "whole", **wishes)  # type: ignore[arg-type]
    with pytest.raises(StopRun):
        render_units(toy_model(), ["4:0"], out=tmp_path / "x", progress=stop, **wishes)  # type: ignore[arg-type]
    assert render_units(toy_model(), ["4:0"], out=tmp_path / "x", progress=resumed, **wishes) == whole  # type: ignore[arg-type]


def test_the_manifest_names_what_could_not_be_read_and_the_seconds(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 12)
    (images / "003.png").write_bytes(b"broken")
    render_units(toy_model(), ["4:0"], out=tmp_path / "x", images=images, drawing=QUICK)
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["images"]["skipped"]] == ["003.png"]
    assert set(manifest["seconds"]) == {"images", "pictures"}


def test_a_sheet_of_many_pictures_goes_on_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.render.PER_SHEET", 4)
    render_units(toy_model(), ["4:*"], out=tmp_path, drawing=QUICK)
    sizes = []
    for name in ("superstimuli.png", "superstimuli-2.png"):
        with Image.open(tmp_path / name) as sheet:
            sizes.append(sheet.size)
    assert sizes[0][0] > sizes[1][0]


@pytest.mark.parametrize("canvas", ["maco", "fourier"])
def test_a_network_of_two_channels_begins_at_an_image_and_takes_a_spectrum(tmp_path: Path, canvas: str) -> None:
    (tmp_path / "images").mkdir()
    for number in range(4):
        values = np.random.default_rng(number).random((2, 40, 40), np.float32)
        np.save(tmp_path / f"images/{number}.npy", values)
    drawing = Drawing(canvas=canvas, size=32, steps=2, start=str(tmp_path / "images/1.npy"))
    render_units(toy_model(inputs=2), ["4:0"], out=tmp_path / "out", images=tmp_path / "images", drawing=drawing)
    assert np.load(tmp_path / "out/4_0.npy").shape == (2, 32, 32)


def test_pictures_begin_at_the_strongest_images_and_are_drawn_like_them(tmp_path: Path, noise_images: Path) -> None:
    how = {"size": 32, "steps": 1, "lr": 1e-6}
    made = render_units(
        toy_model(), ["4:1", "4:1@center"], out=tmp_path / "start", images=noise_images,
        drawing=Drawing(start="exemplar", **how),
    )  # fmt: skip
    model, images = toy_model(), open_images(noise_images)
    views = first_views(images, model.preprocess, len(images))
    maps = Trunk(model, ["4"], fold=False)(views)["4"]
    best = int(maps[:, 1, maps.shape[2] // 2, maps.shape[3] // 2].argmax())
    with Image.open(tmp_path / "start" / made[1].file) as picture:
        begun = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    assert torch.allclose(begun, views[best].clamp(0.01, 0.99), atol=0.02)
    with Image.open(tmp_path / "start" / made[0].file) as picture:
        assert np.asarray(picture).std() > 20
    again = render_units(
        toy_model(), ["4:1"], out=tmp_path / "like", images=noise_images,
        drawing=Drawing(like="photographs", size=32, steps=4),
    )  # fmt: skip
    assert again[0].activation is not None
    assert json.loads((tmp_path / "like" / "manifest.json").read_text())["settings"]["like"] == "photographs"


@pytest.mark.parametrize("wanted", [{"start": "exemplar"}, {"like": "photographs"}])
def test_what_takes_photographs_is_refused_without_them(tmp_path: Path, wanted: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give --images"):
        render_units(toy_model(), ["4:1"], out=tmp_path / "out", drawing=Drawing(size=32, steps=1, **wanted))


def test_a_gain_is_over_the_strongest_images_in_the_same_views(tmp_path: Path, noise_images: Path) -> None:
    model = toy_model()
    made = render_units(model, ["4:1"], out=tmp_path, images=noise_images, drawing=QUICK)[0]
    images = open_images(noise_images)
    views = first_views(images, model.preprocess, len(images))
    trunk = Trunk(model, ["4"], fold=False)
    clean = trunk(views)["4"][:, 1].mean((1, 2))
    strongest = views[clean.argsort(descending=True)[:4]]
    robust = torch.stack([trunk(view)["4"][:, 1].mean((1, 2)) for view in robust_views(strongest)]).mean(0)
    assert made.dataset_max == pytest.approx(float(robust.max()), rel=1e-3)
    assert made.activation is not None
    assert made.gain == pytest.approx(made.activation / float(robust.max()), rel=1e-3)
    lowest, highest = torch.quantile(views.flatten(2).std(2, correction=0), torch.tensor([0.05, 0.95]), dim=0)
    with Image.open(tmp_path / made.file) as picture:
        own = (torch.from_numpy(np.array(picture)).float() / 255).flatten(0, 1).std(0, correction=0)
    assert made.natural is bool(((own >= lowest) & (own <= highest)).all())
    assert made.contrast == pytest.approx(float(own.mean()), rel=1e-4)


def test_a_page_says_what_a_picture_reaches_beside_the_strongest_image_and_through_how_much_noise() -> None:
    entry = Certificate("a:0", "", "a.png", 2.0, 12.8, 0.2, None, None, 0.0, -1.0, clean_max=15.7, noise=0.2)
    told = evidence(entry)
    assert "in a clean pass 12.8, the strongest image 15.7" in told
    assert "drawn through noise up to 0.2: more would blind the network" in told
    usual = evidence(replace(entry, noise=0.4, clean_max=None))
    assert "in a clean pass 12.8" in usual
    assert not any("noise" in each for each in usual)


def test_facts_are_told_as_a_reader_wants_them() -> None:
    facts = {"value": 12.803912162780762, "path": {"a": {"picture": 0.25, "score": None}}, "none": None, "label": "",
             "grid": (20, 40), "alive": True, "seed": 0}  # fmt: skip
    assert {name: told(value) for name, value in facts.items()} == {
        "value": "12.8", "path": "a picture 0.25", "none": "", "label": "", "grid": "20, 40", "alive": "yes",
        "seed": "0",
    }  # fmt: skip
    table = facts_table(facts)
    assert "12.8" in table
    assert "none" not in table
    assert "label" not in table
