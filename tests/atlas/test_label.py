from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import painted_atlas
from PIL import Image
from toys import toy_model
from typer.testing import CliRunner

import atlas
from atlas.cell_names import Seen, around, nearest_cells
from atlas.cli import app
from atlas.explorer import read_book
from atlas.grid import Cell
from atlas.label import label, label_folder
from atlas.regions import NEARNESS, PURITY
from atlas.result import Atlas
from featviz.errors import UserError
from search.images.image_set import Images
from search.images.images import open_images
from search.naming.hierarchy import Hierarchy
from search.naming.vocabulary import Labels, Predictions

KINDS = ("dog", "cat", "car", "cup", "oak", "fern")
TREE = "name,parents\nanimal,\nthing,\nplant,\n" + "".join(
    f"{kind},{above}\n" for kind, above in zip(KINDS, ("animal",) * 2 + ("thing",) * 2 + ("plant",) * 2, strict=True)
)
LEVEL, EACH = 6, 4


def _tree(folder: Path) -> Hierarchy:
    file = folder / "tree.csv"
    file.write_text(TREE, encoding="utf-8")
    return Hierarchy.read(file)


def _known(*, images: int = 240, seed: int = 0) -> tuple[Atlas, Images]:
    """An atlas whose columns of cells each hold one kind of images: their activations point their own way."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % len(KINDS)
    image = np.repeat(np.arange(images), EACH)
    kind = labels[image]
    ways = np.eye(8)[:6] + 0.4 * np.eye(8)[[6, 6, 7, 7, 0, 0]]
    vectors = (5 + 2 * ways[kind] + rng.normal(size=(len(image), 8)) * 0.4).astype(np.float32)
    xy = np.stack([(kind + rng.random(len(image))) / len(KINDS), rng.random(len(image))], 1).astype(np.float32)
    like = painted_atlas((LEVEL,), names=tuple(f"{number}.png" for number in range(images)))
    found = replace(
        like.sample, vectors=vectors, image=image, position=np.ones((len(image), 2), np.int64),
        box=np.tile(np.array([0, 0, 40, 40], np.float32), (len(image), 1)), effects=None,
    )  # fmt: skip
    source = Images("known", like.names, tuple(labels.tolist()), tuple(KINDS[label] for label in labels))
    cells = atlas.grid.bin_cells(xy, vectors, image, found.position, levels=(LEVEL,))
    pictures = np.zeros((len(cells), 32, 32, 3), np.uint8)
    manifest = {**like.manifest, "identity": {"images": source.fingerprint, "weights": "x"}}
    return replace(like, cells=cells, pictures=pictures, sample=found, xy=xy, manifest=manifest), source


def test_cells_and_regions_are_called_what_their_photographs_are(tmp_path: Path) -> None:
    made, source = _known()
    named = label(made, source, vocabulary=Labels(_tree(tmp_path)))
    # Beside a column of another kind, what both are may fit better.
    above = dict(zip(KINDS, ("animal",) * 2 + ("thing",) * 2 + ("plant",) * 2, strict=True))
    called = [(cell.name.text if cell.name else "", KINDS[cell.col]) for cell in named.cells]
    assert np.mean([name in (kind, above[kind]) for name, kind in called]) > 0.9
    assert np.mean([name == kind for name, kind in called]) > 0.5
    assert all(cell.name is None or cell.name.auroc > 0.9 for cell in named.cells)
    near = {region.name.text: region for region in named.regions if region.level == len(NEARNESS) - 1}
    assert set(near) >= set(KINDS)
    for number, kind in enumerate(KINDS):
        columns = {col for _, col in near[kind].cells}
        assert columns == {number}
        assert near[kind].purity > 0.9
    assert all(region.purity >= PURITY for region in named.regions)
    assert named.manifest["names"]["above"]["dog"] == ["animal"]
    assert named.manifest["names"]["chosen_on"] + named.manifest["names"]["checked_on"] == 240


def test_two_nodes_of_one_name_of_which_one_is_of_no_photograph_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "tree.csv"
    rows = [f"{number},{kind},{'a' if number < 2 else ''}" for number, kind in enumerate(KINDS)]
    file.write_text("\n".join(["id,name,parents", "a,animal,", *rows, "x,dog,", "y,animal,"]), encoding="utf-8")
    tree = replace(Hierarchy.read(file), classes={number: number + 1 for number in range(len(KINDS))})
    made, source = _known()
    named = label(made, source, vocabulary=Labels(tree))
    far = [region.name.text for region in named.regions if region.level == 0]
    # Were "dog" as rare as the node without photographs, nothing would weigh as much as each scrap that is called so.
    assert {"car", "cup", "oak", "fern"} <= set(far)
    assert far.count("dog") <= 1


def test_names_that_differ_between_the_photographs_that_choose_and_check_are_refused(tmp_path: Path) -> None:
    images, other = _colours(tmp_path / "images", 20), _colours(tmp_path / "other", 12, seed=1)
    (other / "red").rename(other / "crimson")
    built = atlas.build(toy_model(), "5", images, **SETTINGS)
    with pytest.raises(UserError, match="other names for the photographs that check"):
        label(built, images, vocabulary=Labels(), check=other, model=toy_model())


def test_shuffled_labels_name_nothing(tmp_path: Path) -> None:
    made, source = _known()
    labels = np.random.default_rng(0).permutation(source.labels).tolist()
    shuffled = replace(source, labels=tuple(labels), class_names=tuple(KINDS[each] for each in labels))
    manifest = {**made.manifest, "identity": {"images": shuffled.fingerprint, "weights": "x"}}
    named = label(replace(made, manifest=manifest), shuffled, vocabulary=Labels(_tree(tmp_path)))
    assert sum(cell.name is not None for cell in named.cells) <= 0.05 * len(named.cells)
    assert not named.regions


def test_around_a_cell_those_beside_it_count_half_and_by_their_number() -> None:
    cells = [Cell(9, 0, 0, 4, (0, 0), np.zeros(1, np.float32)), Cell(9, 0, 1, 2, (0, 0), np.zeros(1, np.float32)),
             Cell(9, 5, 5, 7, (0, 0), np.zeros(1, np.float32))]  # fmt: skip
    weights = around(cells).toarray()
    assert weights == pytest.approx(np.array([[0.8, 0.2, 0], [0.5, 0.5, 0], [0, 0, 1]]))


@pytest.mark.parametrize("most", [True, False])
def test_values_are_the_largest_or_the_mean_cosine_of_each_image(most: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.cell_names._ROWS", 5)  # blocks smaller than an image's activations, too
    rng = np.random.default_rng(0)
    vectors, middle = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    image = rng.integers(0, 7, 40)
    numbers = np.array([1, 2, 4, 5])
    seen = Seen.of(vectors, image, numbers, np.ones((4, 1), bool))
    directions = rng.normal(size=(3, 6)).astype(np.float32)
    found = seen.values(directions, middle, most=most)
    for unit, way in enumerate(directions):
        for place, number in enumerate(numbers):
            inside = vectors[image == number] - middle
            cosines = inside @ way / np.linalg.norm(inside, axis=1) / np.linalg.norm(way)
            assert found[unit, place] == pytest.approx(cosines.max() if most else cosines.mean(), abs=1e-5)


def test_the_nearest_cell_is_the_one_whose_mean_lies_the_same_way() -> None:
    cells = [Cell(9, 0, col, 1, (0, 0), mean) for col, mean in enumerate(np.eye(3, dtype=np.float32))]
    middle = np.full(3, 1 / 3, np.float32)
    assert nearest_cells(np.eye(3, dtype=np.float32)[[2, 0, 1]] * 5, cells, middle).tolist() == [2, 0, 1]
    assert not len(nearest_cells(np.empty((0, 3), np.float32), cells, middle))


def test_too_few_labels_and_one_class_only(tmp_path: Path) -> None:
    made, source = _known(images=30)
    with pytest.raises(UserError, match="18 photographs with a name are left"):
        label(made, source, vocabulary=Labels(_tree(tmp_path)))
    made, source = _known()
    one = replace(source, labels=(0,) * 240, class_names=("dog",) * 240)
    manifest = {**made.manifest, "identity": {"images": one.fingerprint, "weights": "x"}}
    named = label(replace(made, manifest=manifest), one, vocabulary=Labels(_tree(tmp_path)))
    assert all(cell.name is None for cell in named.cells)


def _colours(folder: Path, each: int, seed: int = 0) -> Path:
    """Photographs of three classes: noise tinted red, green or blue, in folders of that name."""
    rng = np.random.default_rng(seed)
    for place, kind in enumerate(("red", "green", "blue")):
        (folder / kind).mkdir(parents=True)
        for number in range(each):
            picture = rng.integers(0, 90, (36, 36, 3))
            picture[..., place] += 150
            Image.fromarray(picture.astype(np.uint8)).save(folder / kind / f"{number}.png")
    return folder


SETTINGS: dict[str, Any] = {
    "grid": (3, 6), "icon": 16, "steps": 1, "samples": 400, "per_image": 4, "min_count": 2, "reducer": "pca",
}  # fmt: skip


def test_an_atlas_of_labelled_images_is_named_as_it_is_built_and_again_by_the_command(tmp_path: Path) -> None:
    images = _colours(tmp_path / "images", 30)
    out = tmp_path / "out"
    built = atlas.build(toy_model(), "5", images, out=out, **SETTINGS)
    assert {cell.name.text for cell in built.cells if cell.name} <= {"red", "green", "blue"}
    assert built.manifest["names"]["by"] == "labels"
    loaded = atlas.load(out)
    assert [cell.name for cell in loaded.cells] == [cell.name for cell in built.cells]
    assert loaded.regions == built.regions
    icons = (out / "icons" / "level-6.png").read_bytes()
    tree = tmp_path / "tree.csv"
    tree.write_text("name,parents\nwarm,\nred,warm\ngreen,\nblue,\n", encoding="utf-8")
    other = _colours(tmp_path / "other", 12, seed=1)
    done = CliRunner().invoke(
        app, ["label", str(out), "--images", str(images), "--hierarchy", str(tree), "--json", "--quiet", "--seed", "3"]
    )
    assert done.exit_code == 0, done.output
    about = json.loads(done.stdout)
    assert about["seed"] == 3
    again = atlas.load(out)
    assert again.manifest["names"] == {key: value for key, value in about.items() if key != "out"}
    assert not (out / "draft").exists()
    assert (out / "icons" / "level-6.png").read_bytes() == icons
    shown = read_book(out / "index.html").manifest["maps"][0]
    texts = {}
    for level in shown["levels"]:
        places = [np.frombuffer(base64.b64decode(level[key]), "<u2").tolist() for key in ("row", "col")]
        for row, col, name in zip(*places, level["names"], strict=True):
            texts[f"{level['grid']}/{row}/{col}"] = name["text"] if name else None
    assert texts == {cell.key: cell.name.text if cell.name else None for cell in again.cells}
    assert len(set(texts.values())) > 1
    with pytest.raises(UserError, match=r"'toy'"):  # other photographs take the network itself
        label_folder(out, images, check=other)
    checked = label_folder(out, images, check=other, model=toy_model())
    assert checked.manifest["names"]["checked_on"] == 36
    assert checked.manifest["names"]["chosen_on"] == 90


def test_unlabelled_images_are_named_by_what_the_network_takes_them_for(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, file in enumerate(sorted(_colours(tmp_path / "images", 20).rglob("*.png"))):
        file.rename(folder / f"{number}.png")
    built = atlas.build(toy_model(), "5", folder, **SETTINGS)
    assert built.manifest["names"]["by"] == "classes of toy"
    direct = label(built, folder, vocabulary=Predictions(toy_model()))
    assert [cell.name for cell in direct.cells] == [cell.name for cell in built.cells]
    with pytest.raises(UserError, match="has a label"):
        label(built, folder)
    few = atlas.build(replace(toy_model(), labels=()), "5", folder, **SETTINGS)
    assert few.manifest["names"] is None
    assert few.names_told == "none: too few of the photographs have a label"


@pytest.mark.parametrize("folder", ["nothing", "unfinished"])
def test_a_folder_that_holds_no_atlas_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(UserError, match="no finished folder"):
        label_folder(tmp_path / folder, "photos")


@pytest.mark.slow
def test_on_real_photographs_names_are_true_of_photographs_that_neither_chose_nor_checked_them(
    lite0: Any, image_sample: Path
) -> None:
    """Of the sample, a third judges: it takes no part, and its own activations lie in the cells."""
    images = open_images(image_sample)
    order = np.random.default_rng(0).permutation(len(images))
    judges = set(order[: len(images) // 3].tolist())
    own = replace(images, labels=tuple(-1 if number in judges else each for number, each in enumerate(images.labels)))
    built = atlas.build(lite0, "blocks.5", images, tiles="photos", grid=(20,), samples=4000, per_image=8, effects=False)
    manifest = {**built.manifest, "identity": {**built.manifest["identity"], "images": own.fingerprint}}
    named = label(replace(built, manifest=manifest), own, vocabulary=Labels.among([images]))
    truth = Labels().of(images, range(len(images)))
    columns = {text: column for column, text in enumerate(truth.names) if truth.members[:, column].any()}
    numbers = atlas.grid.cell_numbers(built.xy, 20)
    rng, right, random = np.random.default_rng(0), [], []
    with_names = [cell for cell in named.cells if cell.name]
    for cell in with_names:
        inside = set(built.sample.image[numbers == cell.row * 20 + cell.col].tolist()) & judges
        other = with_names[int(rng.integers(len(with_names)))]
        if len(inside) >= 2:
            assert cell.name is not None
            assert other.name is not None
            right.append(truth.members[sorted(inside), columns[cell.name.text]].mean() >= 0.5)
            random.append(truth.members[sorted(inside), columns[other.name.text]].mean() >= 0.5)
    assert len(with_names) >= 0.45 * len(named.cells)
    assert np.mean(right) >= 0.8
    assert np.mean(random) < 0.6


def test_name_cells_takes_any_number_of_directions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, source = _known()
    whole = label(made, source, vocabulary=Labels(_tree(tmp_path)))
    monkeypatch.setattr("atlas.cell_names._DIRECTIONS", 5)
    assert [cell.name for cell in label(made, source, vocabulary=Labels(_tree(tmp_path))).cells] == [
        cell.name for cell in whole.cells
    ]


def test_a_part_of_the_activations_is_named_by_all_of_them(tmp_path: Path) -> None:
    made, source = _known()
    assert made.sample.image is not None
    rows = np.flatnonzero(np.isin(made.sample.image % len(KINDS), (0, 1, 2)) & (np.arange(len(made.xy)) % 3 == 0))
    xy, part = made.xy[rows], made.sample.part(rows)
    cells = atlas.grid.bin_cells(xy, part.vectors, part.image, part.position, levels=(LEVEL,))
    some = replace(made, cells=cells, pictures=made.pictures[: len(cells)], sample=part, xy=xy)
    named = label(some, source, vocabulary=Labels(_tree(tmp_path)), whole=made.sample)
    about = named.manifest["names"]
    assert about["chosen_on"] + about["checked_on"] == 240
    above = {"dog": "animal", "cat": "animal", "car": "thing"}
    called = [(cell.name.text if cell.name else "", KINDS[cell.col]) for cell in named.cells]
    assert np.mean([name in (kind, above[kind]) for name, kind in called]) > 0.9


def test_two_classes_compared_are_named_as_they_are_made_and_load_so(tmp_path: Path) -> None:
    images = _colours(tmp_path / "images", 20)
    settings = {name: value for name, value in SETTINGS.items() if name != "grid"}
    given = (toy_model(), "5", "a", "d", images)
    made = atlas.compare(*given, count=60, gradient=3, out=tmp_path / "out", **settings)
    names = {cell.key: cell.name.text for cell in made.gradient.cells if cell.name}
    assert names
    assert {row.cell: row.name for row in made.telling if row.name} == names
    table = json.loads((tmp_path / "out" / "telling.json").read_text(encoding="utf-8"))
    assert {row["cell"]: row["name"] for row in table if row["name"]} == names
    assert any(name in line for name in names.values() for line in made.manifest["conclusion"])
    assert f"<td>{next(iter(names.values()))}</td>" in (tmp_path / "out" / "tables.html").read_text(encoding="utf-8")
    loaded = atlas.compare(*given, count=60, gradient=3, out=tmp_path / "out", **settings)
    assert loaded.telling == made.telling
    for one, other in ((loaded.gradient, made.gradient), (loaded.left.atlas, made.left.atlas)):
        assert one.names_told == other.names_told
        assert one.names_told.startswith("by labels")
        assert [cell.name for cell in one.cells] == [cell.name for cell in other.cells]
    with pytest.raises(UserError, match="names cells as it makes them"):
        label_folder(tmp_path / "out", images)
