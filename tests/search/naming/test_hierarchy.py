from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import noise_folder, toy_model

from featviz.errors import UserError
from search.images.image_set import Images
from search.images.images import open_images
from search.naming.hierarchy import Hierarchy, open_hierarchy
from search.naming.vocabulary import LONGEST, Labels, Predictions

_ANIMALS = "name,parents\nanimal,\npet,\ndog,animal;pet\nterrier,dog\ncar,\n"


def _file(folder: Path, text: str) -> Path:
    file = folder / "tree.csv"
    file.write_text(text, encoding="utf-8")
    return file


def _images(classes: tuple[str, ...], labels: tuple[int, ...]) -> Images:
    names = tuple(f"{number}.png" for number in range(len(labels)))
    return Images("x", names, labels, tuple(classes[label] if label >= 0 else "" for label in labels))


def test_wordnet_knows_the_thousand_classes_and_what_lies_above_them() -> None:
    found = Hierarchy.wordnet()
    assert len(found.names) == 1860
    assert sorted(found.classes) == list(range(1000))
    tabby = found.lines[found.classes[281]]
    assert {"cat", "carnivore", "mammal", "animal"} <= {found.names[node] for node in tabby}
    assert {found.names[node] for node in found.silent} >= {"entity", "chordate", "placental"}


def test_what_says_nothing_is_never_a_name_though_what_lies_below_it_is() -> None:
    concepts = Labels("wordnet").of(Images("x", ("0.png",), (281,), ("tabby",)), [0])
    true = {concepts.names[column] for column in np.flatnonzero(concepts.members[0])}
    assert {"tabby", "cat", "animal", "vertebrate"} <= true
    assert not {"entity", "chordate", "placental", "organism"} & true
    assert "chordate" not in concepts.above["tabby"]


def test_a_hierarchy_of_names_joins_two_parents_and_is_that_of_a_slow_walk(tmp_path: Path) -> None:
    found = Hierarchy.read(_file(tmp_path, _ANIMALS))

    def walk(node: int) -> set[int]:
        return {node}.union(*(walk(parent) for parent in found.parents[node]))

    assert [set(line) for line in found.lines] == [walk(node) for node in range(5)]
    assert {found.names[node] for node in found.lines[3]} == {"terrier", "dog", "animal", "pet"}
    concepts = Labels(found).of(_images(("terrier", "car", "tree"), (0, 1, 2, -1)), range(4))
    true = [{concepts.names[column] for column in np.flatnonzero(row)} for row in concepts.members]
    assert true == [{"terrier", "dog", "animal", "pet"}, {"car"}, {"tree"}, set()]
    assert concepts.known.tolist() == [True, True, True, False]
    assert concepts.above["terrier"] == ("dog", "animal", "pet")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,parents\na,b\nb,c\nc,a\n", "circle: .*a"),
        ("name,parents\na,zebr\nzebra,\n", "parent of 'a'.*'zebr'.*'zebra'"),
        ("id,name,parents\n1,a,\n1,b,\n", "node '1' two names, 'a' and 'b'"),
        ("name,parents\na,\na,b\nb,\n", "two lines that differ"),
        ("word,above\na,\n", "columns name and parents"),
        ("name,parents\n,\n", "without its name"),
        ("name,parents\n", "columns name and parents"),
    ],
)
def test_what_is_no_hierarchy_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Hierarchy.read(_file(tmp_path, text))


def test_names_of_any_signs_and_any_length_are_names(tmp_path: Path) -> None:
    odd = ('a, "b"', "כלב קטן", "x" * 300, "two\nlines")
    rows = "".join('"{}",\n'.format(name.replace('"', '""')) for name in odd)
    found = Hierarchy.read(_file(tmp_path, f"name,parents\n{rows}"))
    concepts = Labels(found).of(_images(odd, (0, 1, 2, 3)), range(4))
    assert concepts.members[:, :4].sum() == 4
    assert concepts.names[:2] == odd[:2]
    assert len(concepts.names[2]) == LONGEST
    assert concepts.names[3] == "two lines"


def test_wordnet_is_taken_for_the_classes_of_imagenet_alone() -> None:
    assert open_hierarchy("auto", {0: "tench", 281: "tabby, tabby cat"}) is not None
    assert open_hierarchy("auto", {0: "cat", 1: "dog"}) is None
    assert open_hierarchy("none", {0: "tench"}) is None
    with pytest.raises(UserError, match="no hierarchy 'wordnetz'; the closest are 'wordnet'"):
        open_hierarchy("wordnetz", {0: "tench"})


def test_a_hierarchy_that_knows_none_of_the_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tree.csv knows none of the classes, such as 0 \(spoon\)"):
        open_hierarchy(_file(tmp_path, _ANIMALS), {0: "spoon"})


def test_images_without_labels_have_no_names_by_labels_but_by_what_a_network_takes_them_for(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path / "images"))
    assert set(images.labels) == {-1}
    with pytest.raises(UserError, match=r"no image .* has a label"):
        Labels().of(images, range(len(images)))
    model = toy_model()
    concepts = Predictions(model).of(images, range(len(images)))
    assert concepts.names == model.labels
    assert concepts.by == f"classes of {model.name}"
    assert (concepts.members.sum(1) == 1).all()
    assert concepts.graded is not None
    assert (concepts.graded.argmax(1) == concepts.members.argmax(1)).all()
