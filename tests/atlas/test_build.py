from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import zarr
from numpy.typing import NDArray
from PIL import Image
from toys import Positions, noise_folder, toy_model

import atlas
from atlas.grid import cell_numbers
from atlas.stages import Stages
from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model
from search.images.images import open_images

SMALL: dict[str, Any] = {
    "grid": (2, 4), "icon": 16, "steps": 2, "samples": 96, "per_image": 4, "min_count": 2, "reducer": "pca",
}  # fmt: skip


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(noise_images: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        atlas.build(toy_model(), "4", noise_images, out=tmp_path / name, seed=seed, **SMALL)
    a, b, c = (_files(tmp_path / name) for name in "abc")
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == ["manifest.json"]  # it holds the seconds of each stage
    assert a["cells.json"] != c["cells.json"]
    assert a["atlas.png"] != c["atlas.png"]


def test_a_saved_atlas_loads_as_it_was(noise_images: Path, tmp_path: Path) -> None:
    built = atlas.build(toy_model(), "4", noise_images, **SMALL)
    built.save(tmp_path / "x")
    loaded = atlas.load(tmp_path / "x")
    assert loaded.settings == built.settings
    assert [cell.key for cell in loaded.cells] == [cell.key for cell in built.cells]
    for mine, theirs in zip(built.cells, loaded.cells, strict=True):
        assert np.array_equal(mine.mean, theirs.mean)
        assert mine.exemplars == theirs.exemplars
        assert mine.score == pytest.approx(theirs.score, abs=1e-6)
    for level in built.levels:
        assert np.array_equal(built.icons(level), loaded.icons(level))
    assert np.array_equal(built.sample.vectors, loaded.sample.vectors)
    loaded.save(tmp_path / "y")
    assert (tmp_path / "x" / "atlas.png").read_bytes() == (tmp_path / "y" / "atlas.png").read_bytes()


def test_the_store_says_of_every_vector_which_cell_shows_it(noise_images: Path, tmp_path: Path) -> None:
    built = atlas.build(toy_model(), "4", noise_images, out=tmp_path, **{**SMALL, "min_count": 6})
    store = zarr.open_group(str(tmp_path / "store"), mode="r")
    xy = np.asarray(store["xy"])
    for level in built.levels:
        numbers: NDArray[np.int64] = np.asarray(store[f"cell-{level}"])
        shown = {cell.row * level + cell.col: cell.count for cell in built.cells if cell.level == level}
        assert {number: int((numbers == number).sum()) for number in shown} == shown
        assert set(numbers.tolist()) <= {*shown, -1}
        column = np.minimum((xy[:, 0] * level).astype(int), level - 1)
        assert (numbers[numbers >= 0] % level == column[numbers >= 0]).all()
    assert (np.asarray(store["cell-4"]) == -1).any()


@pytest.mark.parametrize(("layout", "prefix"), [("nchw", 0), ("nhwc", 0), ("tokens", 2)])
def test_exemplars_name_the_position_that_the_activation_came_from(
    noise_images: Path, layout: str, prefix: int
) -> None:
    model = Model.wrap(Positions(6, 6, layout=layout, prefix=prefix), size=48)
    built = atlas.build(model, "encode", noise_images, **{**SMALL, "steps": 1, "reducer": _rows_and_columns})
    assert len({cell.key for cell in built.cells if cell.level == 4}) == 16
    for cell in built.cells:
        for _, row, column in cell.exemplars:
            assert abs(row - cell.mean[0]) <= 2
            assert abs(column - cell.mean[1]) <= 2
        # The layout is (column, row) of the map, so the cell's own column and row grow with them.
        assert cell.col == pytest.approx((cell.mean[1] - 1) / 3 * (cell.level - 1), abs=0.51)
        assert cell.row == pytest.approx((cell.mean[0] - 1) / 3 * (cell.level - 1), abs=0.51)


def _rows_and_columns(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    return vectors[:, [1, 0]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "slim", "layer", "rows"),
    [
        ("vit_tiny_patch16_224", {"depth": 5, "embed_dim": 48}, "blocks.3", 14),
        (
            "swin_tiny_patch4_window7_224",
            {"depths": (1, 1, 2, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)},
            "layers.2",
            14,
        ),
    ],
)
def test_a_vision_transformer_and_a_swin_go_through(
    name: str, slim: dict[str, Any], layer: str, rows: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, **slim)
    images = noise_folder(tmp_path / "images", 12)
    built = atlas.build(
        Model.wrap(network, size=224), layer, images, out=tmp_path / "out", **{**SMALL, "grid": (2,), "steps": 1}
    )
    assert built.sample.position.min() >= 1
    assert built.sample.position.max() == rows - 2
    channels = {"blocks.3": 48, "layers.2": 96}[layer]
    assert built.sample.vectors.shape == (96, channels)
    assert (tmp_path / "out" / "manifest.json").is_file()
    with torch.no_grad():
        features = network.forward_intermediates(
            torch.zeros(1, 3, 224, 224), indices=[int(layer[-1])], intermediates_only=True
        )
    assert features[0].shape == (1, channels, rows, rows)


def test_damaged_images_are_named_in_the_manifest(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 12)
    (images / "005.png").write_bytes((images / "005.png").read_bytes()[:50])
    atlas.build(toy_model(), "4", images, out=tmp_path / "out", **SMALL)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["images"]["skipped"]] == ["005.png"]
    assert manifest["images"]["used"] == 11
    assert str(tmp_path) not in manifest["images"]["skipped"][0]["reason"]


def test_what_an_interrupted_run_left_is_not_done_again(noise_images: Path, tmp_path: Path) -> None:
    class StopRun(Exception):  # noqa: N818
        pass

    def stop_at(stage: str) -> Any:
        def progress(name: str, done: int, total: int) -> None:
            if name == stage:
                raise StopRun

        return progress

    whole = tmp_path / "whole"
    atlas.build(toy_model(), "4", noise_images, out=whole, **SMALL)
    out = tmp_path / "out"
    for stage in ("reading images", "layout (pca)", "drawing icons"):
        with pytest.raises(StopRun):
            atlas.build(toy_model(), "4", noise_images, out=out, progress=stop_at(stage), **SMALL)
        assert not (out / "manifest.json").exists()
    seen: list[str] = []
    atlas.build(toy_model(), "4", noise_images, out=out, progress=lambda name, done, total: seen.append(name), **SMALL)
    assert "reading images" not in seen
    expected, found = _files(whole), _files(out)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == ["manifest.json"]


def test_a_finished_atlas_is_given_back_and_other_settings_are_refused(noise_images: Path, tmp_path: Path) -> None:
    atlas.build(toy_model(), "4", noise_images, out=tmp_path, **SMALL)
    before = _files(tmp_path)
    again = atlas.build(
        toy_model(), "4", noise_images, out=tmp_path, progress=lambda *_: pytest.fail("worked again"), **SMALL
    )
    assert len(again.cells) > 0
    for other in ({"seed": 1}, {"steps": 3}, {"grid": (2,)}):
        with pytest.raises(UserError, match="--overwrite"):
            atlas.build(toy_model(), "4", noise_images, out=tmp_path, **{**SMALL, **other})
    with pytest.raises(UserError, match="the network's weights are others"):
        atlas.build(toy_model(seed=1), "4", noise_images, out=tmp_path, **SMALL)
    assert _files(tmp_path) == before
    atlas.build(toy_model(), "4", noise_images, out=tmp_path, overwrite=True, **{**SMALL, "grid": (3,)})
    assert not (tmp_path / "icons" / "level-4.png").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": ()}, "--grid takes sizes"),
        ({"grid": (0,)}, "--grid takes sizes"),
        ({"icon": 4}, "--icon starts at 16"),
        ({"steps": 0}, "--steps starts at 1"),
        ({"per_image": 0}, "--per-image starts at 1"),
        ({"reducer": "umpa"}, "no reducer 'umpa'; the closest are 'umap'"),
        ({"min_count": 1000}, "no cell holds 1000 vectors"),
        ({"samples": 12, "per_image": 4, "reducer": "umap"}, "umap needs at least 22 activation vectors; there are 12"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_any_picture(
    noise_images: Path, wrong: dict[str, Any], message: str
) -> None:
    def no_icons(stage: str, done: int, total: int) -> None:
        assert stage != "drawing icons"

    with pytest.raises(UserError, match=message):
        atlas.build(toy_model(), "4", noise_images, progress=no_icons, **{**SMALL, **wrong})


def test_an_unknown_layer_and_a_layer_without_positions_say_so(noise_images: Path) -> None:
    with pytest.raises(UserError, match=r"no layer 'blocks\.5'; the closest are"):
        atlas.build(toy_model(), "blocks.5", noise_images, **SMALL)
    with pytest.raises(UserError, match="has no spatial positions"):
        atlas.build(toy_model(), "8", noise_images, **SMALL)
    with pytest.raises(UserError, match="toy has no default layer: name one, such as 3"):
        atlas.build(toy_model(), None, noise_images, **SMALL)


def test_a_level_that_is_not_there_names_those_that_are(noise_images: Path) -> None:
    built = atlas.build(toy_model(), "4", noise_images, **SMALL)
    with pytest.raises(UserError, match="no level 3; it has 2, 4"):
        built.icons(3)
    assert built.figure().get_axes()
    with pytest.raises(UserError, match="no finished atlas"):
        atlas.load(noise_images)


def test_the_page_fetches_nothing_and_shows_names_as_text(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 12)
    evil = "<img src=x onerror=alert(1)>&'\".png"
    (images / "003.png").rename(images / evil)
    atlas.build(toy_model(), "4", images, out=tmp_path / "out", **{**SMALL, "grid": (1,)})
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "<img src=x" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "\\u003cimg src=x onerror=alert(1)>" in page


def test_grey_networks_give_grey_icons(noise_images: Path) -> None:
    built = atlas.build(toy_model(inputs=1), "4", noise_images, **SMALL)
    assert (np.ptp(built.pictures.astype(int), axis=3) == 0).all()


@pytest.mark.slow
def test_real_weights_and_the_embedded_photographs_give_icons_that_do_their_job(lite0: Model, tmp_path: Path) -> None:
    built = atlas.build(
        lite0, None, "photos", out=tmp_path, grid=(3,), icon=64, steps=48, samples=600, per_image=4, effects=False,
        cards=False,
    )  # fmt: skip
    assert built.settings.layer == "blocks.5"
    assert len(built.cells) >= 6
    assert built.manifest["median_score"] > 0.15  # few steps; noise has none of it
    with Image.open(tmp_path / "icons" / "level-3.png") as sheet:
        picture = np.asarray(sheet)
    shown = picture[..., 3] == 255
    colours = picture[..., :3][shown].astype(float)
    assert colours.std() > 30  # not grey
    assert ((colours < 2) | (colours > 253)).mean() < 0.1  # not burnt


def test_effects_are_stored_per_vector_averaged_per_cell_and_named(noise_images: Path, tmp_path: Path) -> None:
    model = toy_model()
    built = atlas.build(model, "5", noise_images, out=tmp_path / "x", **SMALL)
    assert built.effects is not None
    # At the last feature map, of 8 x 8 positions, the logits are linear: an effect is the share of what is unusual.
    weight = find_classifier(model).weight.numpy()
    usual = Stages(model, open_images(noise_images), built.settings).usual().numpy()
    assert np.allclose(built.effects, (built.sample.vectors - usual) @ weight.T / 64, atol=1e-6)
    for level in built.levels:
        numbers = cell_numbers(built.xy, level)
        for cell in (cell for cell in built.cells if cell.level == level):
            mean = built.effects[numbers == cell.row * level + cell.col].mean(0)
            order = np.argsort(-mean)[:4]
            assert [label for label, _ in cell.top] == order.tolist()
            assert [effect for _, effect in cell.top] == pytest.approx(mean[order].tolist(), abs=1e-5)
    loaded = atlas.load(tmp_path / "x")
    assert np.array_equal(loaded.effects, built.effects)
    assert [cell.top for cell in loaded.cells] == [
        tuple((label, round(effect, 6)) for label, effect in cell.top) for cell in built.cells
    ]
    assert [loaded.class_name(label) for label in (0, 3, 4)] == ["a", "d", "class 4"]
    assert json.loads((tmp_path / "x" / "classes.json").read_text()) == ["a", "b", "c", "d"]


def test_without_effects_or_without_classes_nothing_is_said_of_them(noise_images: Path, tmp_path: Path) -> None:
    network = torch.nn.Sequential(*list(toy_model().network.children())[:6])
    headless = Model.wrap(network, name="headless", size=32)
    for name, model, wanted in (("off", toy_model(), False), ("headless", headless, True)):
        built = atlas.build(model, "4", noise_images, out=tmp_path / name, effects=wanted, **SMALL)
        assert built.effects is None
        assert all(cell.top == () for cell in built.cells)
        assert not (tmp_path / name / "classes.json").exists()
        assert atlas.load(tmp_path / name).effects is None


def test_class_names_cannot_break_the_page(noise_images: Path, tmp_path: Path) -> None:
    model = replace(toy_model(), labels=("a, b", 'the "c"', "<script>alert(1)</script>", "d & e"))
    atlas.build(model, "5", noise_images, out=tmp_path, **SMALL)
    page = (tmp_path / "index.html").read_text()
    assert "<script>alert" not in page
    assert "\\u003cscript>alert(1)\\u003c/script>" in page


def test_vectors_may_live_at_any_address_that_fsspec_knows(noise_images: Path, tmp_path: Path) -> None:
    made = atlas.build(toy_model(), "4", noise_images, out=tmp_path / "away", store="memory://atlas", **SMALL)
    atlas.build(toy_model(), "4", noise_images, out=tmp_path / "here", **SMALL)
    assert not (tmp_path / "away" / "store").exists()
    away, here = atlas.load(tmp_path / "away"), atlas.load(tmp_path / "here")
    assert np.array_equal(away.sample.vectors, here.sample.vectors)
    assert np.array_equal(away.xy, made.xy)
    assert away.cells == here.cells


@pytest.mark.parametrize("address", ["file://{}/vectors", "{}/new/vectors", "vectors"])
def test_a_store_on_this_machine_is_found_again_from_anywhere(
    address: str, noise_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = atlas.build(toy_model(), "4", noise_images, out="out", store=address.format(tmp_path), **SMALL)
    monkeypatch.chdir("/")
    assert np.array_equal(atlas.load(tmp_path / "out").xy, made.xy)


def test_an_address_that_nothing_knows_is_named(noise_images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the store 'nowhere://x' cannot be opened"):
        atlas.build(toy_model(), "4", noise_images, out=tmp_path / "out", store="nowhere://x", **SMALL)


def test_more_vectors_than_a_chunk_holds_are_written_and_read_whole(
    noise_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.store._CHUNK", 512)
    made = atlas.build(toy_model(), "4", noise_images, out=tmp_path / "out", **SMALL)
    assert np.array_equal(atlas.load(tmp_path / "out").sample.vectors, made.sample.vectors)


def test_atlases_of_two_networks_are_two_works_whenever_they_are_saved(noise_images: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        made = atlas.build(toy_model(seed=seed), "4", noise_images, **SMALL)
        assert made.manifest["identity"]["weights"] == toy_model(seed=seed).fingerprint
        if seed == 0:
            made.save(tmp_path / "out")
    with pytest.raises(UserError, match="the network's weights are others"):
        made.save(tmp_path / "out")
    part = atlas.class_atlas(toy_model(), "4", "a", noise_images, count=30, **{**SMALL, "grid": (3,)})
    with pytest.raises(UserError, match=r"part of another result.* writes it, with `out`"):
        part.atlas.save(tmp_path / "part")


def test_a_store_that_is_taken_is_refused_before_overwrite_removes_anything(noise_images: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", str(tmp_path / "store")
    atlas.build(toy_model(), "4", noise_images, out=out, store=store, **SMALL)
    before = (out / "cells.json").read_bytes()
    with pytest.raises(UserError, match="holds something else already"):
        atlas.build(toy_model(), "4", noise_images, out=out, store=store, overwrite=True, **{**SMALL, "seed": 1})
    assert (out / "cells.json").read_bytes() == before
    with pytest.raises(UserError, match="give --out too"):
        atlas.build(toy_model(), "4", noise_images, store=store, **SMALL)


def test_an_atlas_larger_than_memory_is_loaded_as_a_mapped_file(
    noise_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas.store._CHUNK", 512)
    monkeypatch.setattr("atlas.store._IN_MEMORY", 100)
    made = atlas.build(toy_model(), "4", noise_images, out=tmp_path / "out", **SMALL)
    again = atlas.load(tmp_path / "out")
    assert isinstance(again.sample.vectors, np.memmap)
    for name, values in made.sample.arrays().items():
        assert np.array_equal(values, again.sample.arrays()[name])
    assert np.array_equal(made.xy, again.xy)
    assert all(np.array_equal(cell.mean, own.mean) for cell, own in zip(again.cells, made.cells, strict=True))


def test_a_store_never_replaces_what_lies_at_its_address(noise_images: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(UserError, match=r"the store .* cannot be opened|holds something else already"):
        atlas.build(toy_model(), "4", noise_images, out=tmp_path / "a", store=str(tmp_path / "photos"), **SMALL)
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"dear"
    store = str(tmp_path / "store")
    made = atlas.build(toy_model(), "4", noise_images, out=tmp_path / "b", store=store, **SMALL)
    with pytest.raises(UserError, match="holds something else already"):
        atlas.build(toy_model(), "4", noise_images, out=tmp_path / "c", store=store, **{**SMALL, "seed": 1})
    copy = atlas.load(made.save(tmp_path / "copy"))
    assert (tmp_path / "copy" / "store").is_dir()
    assert np.array_equal(copy.sample.vectors, atlas.load(tmp_path / "b").sample.vectors)


def test_the_same_weights_that_see_images_otherwise_are_another_atlas(noise_images: Path, tmp_path: Path) -> None:
    model = toy_model()
    atlas.build(model, "4", noise_images, out=tmp_path / "out", **SMALL)
    closer = replace(model, preprocess=replace(model.preprocess, crop=0.5))
    with pytest.raises(UserError, match="crop was"):
        atlas.build(closer, "4", noise_images, out=tmp_path / "out", **SMALL)
