from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from painted import painted_atlas
from toys import conv_net, noise_folder, toy_model
from typer.testing import CliRunner

import atlas
from atlas.class_atlas import chosen_channels, labelled_by, linear_head, within_channels
from atlas.cli import app
from atlas.explorer import Leaf, make_book, read_book
from atlas.icons import draw_icons, whitener
from atlas.sample import revisit
from atlas.settings import Settings
from atlas.stages import Stages
from featviz.errors import UserError
from featviz.network.classifier import feature_layer, find_classifier
from featviz.network.effects import ClassEffects
from featviz.network.models import Model
from search.images.images import Images, open_images

SMALL: dict[str, Any] = {"grid": (3,), "icon": 16, "steps": 2, "samples": 96, "per_image": 4, "reducer": "pca"}
LAST = "5"


def _stages(model: Model, images: Path) -> Stages:
    return Stages(model, open_images(images), Settings(layer=LAST, samples=96, per_image=4, reducer="pca", grid=(3,)))


@pytest.mark.parametrize("by", ["rank", "magnitude", "both"])
def test_a_class_atlas_holds_the_activations_that_speak_for_the_class(noise_images: Path, by: str) -> None:
    whole = atlas.build(toy_model(), LAST, noise_images, effects=True, **SMALL)
    made = atlas.class_atlas(toy_model(), LAST, "a", noise_images, by=by, count=30, **SMALL)
    assert whole.effects is not None
    panel = made.panels[0]
    expected = set(np.argsort(-whole.effects[:, 0])[:30].tolist()) if by != "rank" else set()
    expected = {row for row in expected if whole.effects[row, 0] > 0}
    if by != "magnitude":
        expected |= set(np.flatnonzero(whole.effects.argmax(1) == 0).tolist())
    assert set(panel.rows.tolist()) == expected
    assert np.array_equal(made.atlas.sample.vectors, whole.sample.vectors[panel.rows])
    assert sum(cell.count for cell in made.atlas.cells) <= len(expected)
    for cell in made.atlas.cells:
        numbers = np.floor(np.minimum(made.atlas.xy * 3, 2.999)).astype(int)
        inside = (numbers == [cell.col, cell.row]).all(1)
        assert panel.tint[cell.key] == pytest.approx(whole.effects[panel.rows[inside], 0].mean(), rel=1e-4)


def test_whitening_is_by_all_vectors_not_by_the_class_alone(noise_images: Path) -> None:
    model = toy_model()
    whole = atlas.build(model, LAST, noise_images, **SMALL)
    made = atlas.class_atlas(model, LAST, "a", noise_images, count=30, **SMALL).atlas
    cells = [replace(cell, score=None) for cell in made.cells]
    by_all, by_class = (
        draw_icons(model, LAST, cells, whitener(vectors), icon=16, steps=2, lr=0.16)[0]
        for vectors in (whole.sample.vectors, made.sample.vectors)
    )
    assert np.array_equal(made.pictures, by_all)
    assert not np.array_equal(made.pictures, by_class)


def test_restricted_effects_sum_over_the_chosen_channels_only_by_weights_as_by_the_network(noise_images: Path) -> None:
    model = toy_model()
    run = _stages(model, noise_images)
    whole, _ = run.sample()
    weight = find_classifier(model).weight.numpy()
    chosen, others = [0, 2, 5], [1, 3, 4]
    assert linear_head(model, LAST) is not None
    part, rest = within_channels(run, whole, chosen), within_channels(run, whole, others)
    usual = run.usual()
    own = whole.vectors[:, chosen] - usual.numpy()[chosen]
    assert np.allclose(part.effects, own @ weight[:, chosen].T / 64, atol=1e-6)
    assert whole.effects is not None
    assert part.effects is not None
    assert rest.effects is not None
    assert np.allclose(part.effects + rest.effects, whole.effects, atol=1e-5)
    found = ClassEffects(model, LAST, usual, channels=chosen)
    again, rows = revisit(model, LAST, run.images, whole, (8, 8), effects=found)
    assert rows.tolist() == list(range(len(whole)))
    assert np.allclose(again.effects, part.effects, atol=1e-5)
    made = atlas.class_atlas(model, LAST, "c", noise_images, channels=chosen, count=30, **SMALL)
    for cell in made.atlas.cells:
        own = made.atlas.cell_effects(cell.top[0][0])[cell.key]
        assert cell.top[0][1] == pytest.approx(own, rel=1e-4)
        assert cell.mean.shape == (3,)


def test_where_the_rest_of_the_network_is_not_linear_channels_effects_come_from_the_network(noise_images: Path) -> None:
    model = toy_model()
    settings = Settings(layer="1", samples=96, per_image=4, reducer="pca", grid=(3,))
    run = Stages(model, open_images(noise_images), settings)
    whole, _ = run.sample()
    assert linear_head(model, "1") is None
    every, some = (within_channels(run, whole, channels).effects for channels in (range(8), range(4)))
    assert every is not None
    assert some is not None
    assert np.allclose(every, whole.effects, atol=1e-5)
    assert np.abs(some - every).max() > 1e-4
    assert np.abs(some).max() > 1e-4


def test_beside_chosen_channels_stand_random_ones_of_the_same_number(noise_images: Path, tmp_path: Path) -> None:
    made = atlas.class_atlas(toy_model(), LAST, "c", noise_images, channels=[0, 2, 5], count=30, out=tmp_path, **SMALL)
    assert [panel.name for panel in made.panels] == ["chosen", "random"]
    assert made.panels[0].channels == (0, 2, 5)
    assert len(made.panels[1].channels or ()) == 3
    assert (tmp_path / "random" / "cells.json").is_file()
    assert "chosen channels" in made.manifest["conclusion"][-1]
    assert "show the class" in made.manifest["conclusion"][-1]
    shown = read_book(tmp_path / "index.html").manifest["maps"][0]["cards"]
    assert {card["channel"] for card in shown} == {0, 2, 5}
    whole = atlas.build(toy_model(), LAST, noise_images, **SMALL)
    assert whole.effects is not None
    first = made.panels[0]
    weight = find_classifier(toy_model()).weight.numpy()
    usual = Stages(toy_model(), open_images(noise_images), whole.settings).usual().numpy()
    within = ((whole.sample.vectors - usual)[:, [0, 2, 5]] @ weight[:, [0, 2, 5]].T).argmax(1) == 2
    over_all = whole.effects.argmax(1) == 2
    assert first.winners == within.sum()
    assert first.recall == pytest.approx((within & over_all).sum() / over_all.sum())
    assert first.precision == pytest.approx((within & over_all).sum() / within.sum())
    loaded = atlas.class_atlas(
        toy_model(), LAST, "c", noise_images, channels=[0, 2, 5], count=30, out=tmp_path, **SMALL
    )
    for mine, theirs in zip(made.panels, loaded.panels, strict=True):
        assert np.array_equal(mine.rows, theirs.rows)
        assert np.array_equal(mine.atlas.pictures, theirs.atlas.pictures)
        assert (mine.name, mine.channels, mine.winners, mine.tint) == (
            theirs.name, theirs.channels, theirs.winners, theirs.tint,
        )  # fmt: skip


@pytest.mark.slow
def test_the_terminal_channels_of_a_real_class_are_drawn_at_the_last_feature_map(
    lite0: Model, image_sample: Path, tmp_path: Path
) -> None:
    last = feature_layer(lite0, find_classifier(lite0))
    assert last is not None
    whole = open_images(image_sample)
    # Every second class has an image; here are those of dogs and cats.
    some = [number for number, label in enumerate(whole.labels) if 200 <= label < 400]
    names, labels, class_names, files = (
        tuple(part[number] for number in some) for part in (whole.names, whole.labels, whole.class_names, whole.files)
    )
    images = Images(whole.source, names, labels, class_names, files)
    made = atlas.class_atlas(
        lite0, last, "tabby", images, channels="discriminative", out=tmp_path,
        grid=(3,), icon=32, steps=2, samples=600, per_image=6, reducer="pca",
    )  # fmt: skip
    assert [panel.name for panel in made.panels] == ["discriminative", "confusing", "random"]
    first, confusing, control = made.panels
    assert len(first.channels or ()) == len(control.channels or ())
    weight = find_classifier(lite0).weight[281]
    assert weight[list(first.channels or ())].min() > weight.quantile(0.95)
    assert weight[list(confusing.channels or ())].max() < weight.quantile(0.05)
    # What speaks against the class is what the confusing atlas shows.
    assert max(confusing.tint.values()) < 0 < min(first.tint.values())
    assert first.recall is not None
    assert control.recall is not None
    assert first.recall > control.recall
    assert first.precision is not None
    # Chosen by their weights for the class, they find it everywhere; the page says so.
    assert first.precision < 0.5
    assert "do not show the class by themselves" in made.manifest["conclusion"][-1]
    with pytest.raises(UserError, match=last):
        chosen_channels(lite0, "blocks.5", 281, "discriminative", seed=0)


def test_a_class_with_too_few_vectors_says_how_many_there_are_and_how_many_it_takes(noise_images: Path) -> None:
    settings = {**SMALL, "reducer": "umap"}
    with pytest.raises(UserError, match=r"10 of 96 activations belong to 'a'.*takes 22.*--samples"):
        atlas.class_atlas(toy_model(), LAST, "a", noise_images, by="magnitude", count=10, **settings)


def test_a_network_without_class_logits_is_refused(noise_images: Path) -> None:
    model = Model.wrap(conv_net()[:6], size=32)
    with pytest.raises(UserError, match="no logits of classes"):
        atlas.class_atlas(model, "4", 0, noise_images, **SMALL)


def test_channels_that_are_none_are_refused(noise_images: Path) -> None:
    for channels, said in (([0, 6], "0 to 5"), ([1], "two or more"), ("discriminating", "discriminative")):
        with pytest.raises(UserError, match=said):
            atlas.class_atlas(toy_model(), LAST, "a", noise_images, channels=channels, **SMALL)


def test_the_activations_of_an_atlas_already_built_serve_too_but_not_those_of_another_network(
    noise_images: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "min_count": 1}
    base = atlas.build(toy_model(), LAST, noise_images, out=tmp_path / "base", **settings)
    again = atlas.load(tmp_path / "base")
    anew = atlas.class_atlas(toy_model(), LAST, "a", noise_images, count=30, **settings)
    for lender in (base, again, atlas.build(toy_model(), LAST, noise_images, **settings)):
        reused = atlas.class_atlas(toy_model(), LAST, "a", noise_images, count=30, sample_of=lender, **settings)
        assert np.array_equal(anew.atlas.pictures, reused.atlas.pictures)
    with pytest.raises(UserError, match="it holds a part of a layer's activations"):
        atlas.class_atlas(toy_model(), LAST, "b", noise_images, sample_of=anew.atlas, **settings)
    atlas.class_atlas(toy_model(), LAST, "a", noise_images, count=30, out=tmp_path / "a", **settings)
    with pytest.raises(UserError, match="it holds what `atlas classes` chose"):
        atlas.compare(toy_model(), LAST, "a", "b", noise_images, sample_of=atlas.load(tmp_path / "a"), **settings)
    with pytest.raises(UserError, match="other weights"):
        atlas.class_atlas(toy_model(seed=1), LAST, "a", noise_images, sample_of=again, **settings)
    others, out = noise_folder(tmp_path / "others", 5), tmp_path / "refused"
    with pytest.raises(UserError, match=f"its images, '{noise_images.name}', are not those of '{others}'"):
        atlas.class_atlas(toy_model(), LAST, "a", others, sample_of=again, out=out, **settings)
    assert not out.exists()
    with pytest.raises(UserError, match="its layer is"):
        atlas.class_atlas(toy_model(), "1", "a", noise_images, sample_of=again, **settings)


def test_an_interrupted_class_atlas_goes_on_and_ends_in_the_same_bytes(noise_images: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "drawing icons" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atlas.class_atlas(toy_model(), LAST, "a", noise_images, out=tmp_path / "x", progress=stop, **SMALL)
    assert (tmp_path / "x" / "draft" / "sample-000000000.npz").is_file()
    for name in ("x", "y"):
        atlas.class_atlas(toy_model(), LAST, "a", noise_images, out=tmp_path / name, **SMALL)
    for file in ("atlas.png", "cells.json", "icons/level-3.png"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_class_names_with_commas_quotes_and_angle_brackets_do_no_harm(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images")
    names = ('<b>"rock", roll & co</b>', "it's, so", "c/../d", "$x_1$")
    model = replace(toy_model(), labels=names)
    made = atlas.class_atlas(model, LAST, names[0], images, count=30, out=tmp_path / "classes", **SMALL)
    assert made.name == names[0]
    both = atlas.compare(model, LAST, names[2], names[3], images, count=30, gradient=3, out=tmp_path / "both", **SMALL)
    assert both.names == (names[2], names[3])
    for folder in ("classes", "both"):
        page = (tmp_path / folder / "index.html").read_text(encoding="utf-8")
        assert "<b>" not in page
        assert "<b>" not in (tmp_path / folder / "tables.html").read_text(encoding="utf-8")
        assert json.loads((tmp_path / folder / "classes.json").read_text(encoding="utf-8")) == list(names)
    atlas.build(model, LAST, images, classes=names, out=tmp_path / "atlas", **{**SMALL, "min_count": 1})
    assert len(list((tmp_path / "atlas").glob("class-*.png"))) == 4


def test_the_command_draws_a_class_atlas_with_everything_that_an_atlas_has(noise_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ["--images", str(noise_images), "--out", str(out), "--samples", "60", "--steps", "1", "--icon", "16"]
    done = CliRunner().invoke(
        app, ["classes", "blocks.5", "tabby", *common, "--grid", "2", "--reducer", "pca", "--by", "magnitude",
              "--count", "20", "--json", "--quiet"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)
    assert manifest["class"] == {"index": 281, "name": "tabby"}
    assert manifest["panels"][0]["vectors"] == 20
    cells = json.loads((out / "cells.json").read_text(encoding="utf-8"))
    assert {"level", "row", "col", "count", "xy", "top", "exemplars", "score"} <= set(cells[0])
    store = zarr.open_group(str(out / "store"), mode="r")
    assert store["effects"].shape == (20, 1000)  # type: ignore[union-attr]
    assert store["cell-2"].shape == (20,)  # type: ignore[union-attr]
    assert atlas.load(out).settings.layer == "blocks.5"


def test_class_atlases_are_labelled_by_effects_where_these_mean_anything_in_all_of_them_else_by_names() -> None:
    made = painted_atlas((4,), each=9)
    assert labelled_by(made) == "classes"
    assert made.panel(labelled_by="classes").labels == made.speaks_for
    assert set(made.speaks_for) == {cell.key for cell in made.cells}
    assert made.labels_told("classes").startswith("labels: the class that half of a cell's images change most; of ")
    effects = np.random.default_rng(0).normal(size=(len(made.xy), 200)).astype(np.float32)
    by_chance = replace(made, sample=replace(made.sample, effects=effects))
    assert by_chance.speaks_for == {}
    # One figure has labels of one kind.
    assert labelled_by(by_chance) == labelled_by(made, by_chance) == "names"
    assert by_chance.labels_told("names") == ""
    named = replace(by_chance, manifest={**made.manifest, "names": {"by": "labels", "chosen_on": 2, "checked_on": 3}})
    assert named.labels_told("names") == "names: by labels, chosen on 2 photographs and checked on 3 others"


def test_the_page_labels_cells_as_the_figure_does() -> None:
    made = painted_atlas((4,), each=9)
    assert Leaf("map", made).labels == "classes"
    named = replace(made, manifest={**made.manifest, "names": {"by": "labels", "chosen_on": 2, "checked_on": 3}})
    assert Leaf("map", named).labels == "names"
    assert Leaf("map", named, labelled_by="classes").labels == "classes"
    # Numbers of classes that have no names are no labels.
    assert Leaf("map", replace(made, classes=())).labels == ""
    shown = make_book([Leaf("map", named, labelled_by="classes")], title="t", facts={}).manifest["maps"][0]
    assert shown["labels"] == "classes"
