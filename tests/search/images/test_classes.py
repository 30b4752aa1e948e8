from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featviz.errors import UserError
from search.images.classes import class_map, network_images
from search.images.image_set import Images
from search.images.images import open_images
from search.naming.hierarchy import Hierarchy
from search.naming.vocabulary import Labels

FISH = ("tench, Tinca tinca", "goldfish, Carassius auratus", "espresso maker", "crane", "crane", "10", "2")


def _folders(root: Path, *names: str) -> Images:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / "x.png")
    return open_images(root)


def _table(*rows: tuple[int, str], numbered: bool = True) -> Images:
    labels, names = zip(*rows, strict=True)
    return Images("table", tuple(map(str, range(len(rows)))), labels, names, numbered=numbered)


@pytest.mark.parametrize(
    ("name", "number"),
    [("tench", 0), ("Tench, Tinca tinca", 0), ("carassius_auratus", 1), ("Espresso_Maker", 2), ("n01443537", 1),
     ("n01440764-tench", 0), ("2", 6), ("crane", -1), ("shark", -1)],
)  # fmt: skip
def test_sub_folders_are_the_networks_classes_by_name(tmp_path: Path, name: str, number: int) -> None:
    images = _folders(tmp_path, "aardvark", name)
    found = class_map(images, FISH)
    assert found.labels[[file.partition("/")[0] for file in images.names].index(name)] == number
    assert "aardvark" in found.unmatched
    assert (name in found.unmatched) == (number < 0)


def test_sub_folders_called_by_numbers_are_of_these_classes(tmp_path: Path) -> None:
    images = _folders(tmp_path, "0", "1", "10", "2")
    assert images.labels == (0, 1, 10, 2)
    assert images.notes == ("the sub-folders are called by numbers, which are taken for the numbers of their classes",)
    letters = [f"class {letter}" for letter in "abcdefghijkl"]
    assert class_map(images, letters).labels == (0, 1, 10, 2)
    # Classes that are themselves called by numbers, in the alphabet's order.
    assert class_map(images, sorted(map(str, range(12)))).labels == (0, 1, 2, 4)


def test_names_count_where_they_contradict_numbers() -> None:
    """A network of dogs counts its own classes: ImageNet's numbers are no classes of its."""
    dogs = ("Chihuahua", "Japanese spaniel", "Maltese dog")
    found = class_map(_table((151, "Chihuahua"), (153, "Maltese dog"), (0, "tench"), (-1, "")), dogs)
    assert found.labels == (0, 2, -1, -1)
    assert found.unmatched == ("tench",)
    assert "2 class(es) are numbered otherwise than the network's" in found.notes[0]
    assert "151, 'Chihuahua', is the network's 0" in found.notes[0]


def test_numbers_count_where_they_are_stated_and_no_name_contradicts() -> None:
    assert class_map(_table((0, ""), (2, "")), FISH).labels == (0, 2)
    assert class_map(_table((0, "tench"), (1, "goldfish"), (2, "coffee pot")), FISH).labels == (0, 1, 2)
    assert class_map(_table((3, "crane"), (4, "crane")), FISH).labels == (3, 4)
    assert class_map(_table((0, "x"), (1, "y")), ()).labels == (0, 1)
    assert class_map(_table((0, "x"), (1, "y"), numbered=False), ()).labels == (-1, -1)
    same = _table((0, "tench"), (2, "espresso maker"))
    assert network_images(same, FISH, "fish") is same


def test_classes_that_are_none_of_the_networks_are_an_error_that_names_the_closest() -> None:
    with pytest.raises(UserError, match="none is one of fish by name: 'Schleie', 'gold fish'; the closest"):
        network_images(_table((0, "Schleie"), (1, "gold fish"), numbered=False), FISH, "fish")
    with pytest.raises(UserError, match="names no classes"):
        network_images(_table((0, "x"), numbered=False), (), "nameless")
    nothing = _table((-1, ""))
    assert network_images(nothing, FISH, "fish") is nothing


def test_two_folders_that_number_their_classes_otherwise_share_names(tmp_path: Path) -> None:
    first, second = _folders(tmp_path / "a", "cat", "dog", "owl"), _folders(tmp_path / "b", "dog", "owl")
    cranes = _table((134, "crane"), (517, "crane"), (3, "owl"))
    assert Labels.among([cranes, cranes]).classes == {134: "crane", 517: "crane", 3: "owl"}
    assert Labels.among([second, second]).classes == {0: "dog", 1: "owl"}
    words = Labels.among([first, second], hierarchy=None)
    one, two = (words.of(images, range(len(images))) for images in (first, second))
    assert one.names == two.names == ("cat", "dog", "owl")
    assert np.array_equal(one.members[1:], two.members)


def test_names_above_sub_folders_go_by_their_names() -> None:
    wordnet = Hierarchy.wordnet()
    assert wordnet.names[wordnet.node(0, "espresso maker") or 0] == "espresso maker"
    assert wordnet.node(-1, "nothing of the kind") is None
    assert wordnet.names[wordnet.node(0, "another name") or 0] == "tench"
