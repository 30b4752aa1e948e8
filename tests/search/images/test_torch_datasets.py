from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, random_split
from torchvision import datasets, transforms
from toys import noise_folder, toy_model

from featviz.errors import UserError
from search import exemplars, from_dataset, open_images


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pets")
    for number, name in enumerate(("cat", "dog", "owl")):
        noise_folder(root / name, 4, size=32, seed=number)
    return root


class _Told:
    """Two black images, and whatever labels are said of them."""

    def __init__(self, targets: Any, classes: Any = None) -> None:
        self.targets = targets
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> tuple[Image.Image, Any]:
        return Image.new("RGB", (40, 40)), self.targets[number]


def test_parts_of_data_sets_keep_labels_and_names(pets: Path) -> None:
    whole = datasets.ImageFolder(pets)
    part = random_split(whole, [7, 5], torch.Generator().manual_seed(0))[1]
    inner = Subset(Subset(whole, [11, 5, 0]), [2, 0])
    for dataset in (part, inner, ConcatDataset([inner, part])):
        found = from_dataset(dataset)
        items = [dataset[number][1] for number in range(len(dataset))]
        assert list(found.labels) == items
        assert list(found.class_names) == [whole.classes[label] for label in items]
        assert not found.notes


def test_data_sets_that_number_classes_differently_are_joined_by_name() -> None:
    both = ConcatDataset([_Told([0, 1], ["cat", "dog"]), _Told([0, 1], ["dog", "owl"])])  # type: ignore[list-item]
    found = from_dataset(both)
    assert found.labels == (0, 1, 1, 2)
    assert found.class_names == ("cat", "dog", "dog", "owl")
    assert "their names count" in found.notes[0]


@pytest.mark.parametrize(
    "targets",
    [
        [0.7, 3.9],
        torch.tensor([0.7, 3.9]),
        [[0, 1], [1, 1]],
        np.eye(2),
        ["a.xml", "b.xml"],
        [{"boxes": 1}, {}],
    ],
)
def test_labels_of_other_kinds_are_left_out_with_a_note(targets: Any) -> None:
    found = from_dataset(_Told(targets))
    assert found.labels == (-1, -1)
    assert "2 label(s) are no class's number and were left out, such as" in found.notes[0]


@pytest.mark.parametrize(
    ("targets", "labels"),
    [
        ([3, None], (3, -1)),
        (torch.tensor([2, 1]), (2, 1)),
        ([torch.tensor(2), np.int64(1)], (2, 1)),
        ([-1, 0], (-1, 0)),
    ],
)
def test_numbers_of_any_type_are_labels(targets: Any, labels: tuple[int, ...]) -> None:
    found = from_dataset(_Told(targets))
    assert (found.labels, found.notes) == (labels, ())


def test_tensors_show_what_the_photographs_do(pets: Path) -> None:
    as_it_is = datasets.ImageFolder(pets)
    tensors = datasets.ImageFolder(pets, transforms.ToTensor())
    eighths = TensorDataset(torch.stack([transforms.functional.pil_to_tensor(image) for image, _ in as_it_is]))
    expected = [entry.image for entry in exemplars(toy_model(), as_it_is, ["0"], k=5, workers=0)["0", 2]]
    for dataset in (tensors, eighths):
        found = exemplars(toy_model(), dataset, ["0"], k=5, workers=0)
        assert [entry.image for entry in found["0", 2]] == expected
        assert np.array_equal(np.asarray(found.images.open(3)), np.asarray(as_it_is[3][0]))
    normal = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.2] * 3)])
    with pytest.raises(UserError, match="Normalize makes: leave it out"):
        exemplars(toy_model(), datasets.ImageFolder(pets, normal), ["0"], k=1, workers=0)


def test_lists_of_files_and_of_images_are_images(pets: Path) -> None:
    files = sorted(pets.rglob("*.png"))[3:6]
    found = open_images([str(files[0]), *files[1:]])
    assert found.names == ("cat/003.png", "dog/000.png", "dog/001.png")
    opened = [found.open(number) for number in range(3)]
    listed = open_images([(image, number) for number, image in enumerate(opened)])
    assert listed.labels == (0, 1, 2)
    assert np.array_equal(np.asarray(listed.open(1)), np.asarray(opened[1]))
    with pytest.raises(UserError, match=r"gone\.png' does not exist"):
        open_images([pets / "gone.png"])
    with pytest.raises(UserError, match="empty"):
        open_images([])
    with pytest.raises(UserError, match="got int"):
        open_images([1, 2])


def test_what_cannot_be_opened_again_is_refused(pets: Path) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    with pytest.raises(UserError, match=r"loader\.dataset"):
        open_images(DataLoader(datasets.ImageFolder(pets)))
    with pytest.raises(UserError, match="from_stream"):
        open_images(Stream())
    with pytest.raises(UserError, match="got int"):
        open_images(3)
