"""A folder or a name becomes images in a stable order, each with its own name, label and class name."""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import MNIST, Imagenette
from toys import noise_folder

from featviz.errors import UserError
from search.images.images import Images, from_dataset, open_images


def _draw(file: Path, shade: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (shade, 20, 200)).save(file)


def _folder(folder: Path, names: Iterable[str]) -> Path:
    """A folder of images: the n-th of `names` has the shade n."""
    for shade, name in enumerate(names):
        _draw(folder / name, shade)
    return folder


def _shade(images: Images, index: int) -> int:
    return int(np.asarray(images.open(index))[0, 0, 0])


def _table(folder: Path, rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> None:
    with (folder / "labels.csv").open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream).writerows(rows)


# Folders


def test_a_folder_is_read_recursively_and_sorted_by_path(tmp_path: Path) -> None:
    # "-" sorts before "/": whole paths are compared, not folder by folder.
    names = ["B/x.png", "a-b/c.png", "a/b/c/d.png", "a/z.png", "b.png", "b/é.png", "b10.png", "b9.png"]
    shuffled = random.Random(0).sample(names, len(names))
    images = open_images(_folder(tmp_path, shuffled))
    assert list(images.names) == sorted(names)
    assert len(images) == len(names)
    assert [file.relative_to(tmp_path).as_posix() for file in images.files] == list(images.names)
    assert [_shade(images, index) for index in range(len(images))] == [shuffled.index(name) for name in images.names]


def test_a_folder_may_be_given_as_text_or_path_and_is_read_the_same_each_time(tmp_path: Path) -> None:
    _folder(tmp_path, ["c.png", "a.png", "d/b.png"])
    assert open_images(tmp_path) == open_images(str(tmp_path)) == open_images(tmp_path)
    assert open_images(tmp_path).source == str(tmp_path)


def test_images_that_are_open_already_are_given_back_as_they_are(tmp_path: Path) -> None:
    images = open_images(_folder(tmp_path, ["a.png"]))
    assert open_images(images) is images


def test_the_suffix_may_be_in_any_case(tmp_path: Path) -> None:
    names = ["A.JPG", "b.Jpeg", "c.PNG", "d.tIFF", "e.webp", "f.GIF", "g.bmp"]
    assert list(open_images(_folder(tmp_path, names)).names) == names


def test_only_images_are_taken(tmp_path: Path) -> None:
    _folder(tmp_path, ["a.png", "b/c.jpg"])
    (tmp_path / "folder.png").mkdir()
    for name in ["notes.txt", "labels.json", "b/Thumbs.db", "png", "a.png.part", "weights.pth", "no-suffix"]:
        (tmp_path / name).write_text("not a picture")
    assert open_images(tmp_path).names == ("a.png", "b/c.jpg")


def test_a_damaged_image_keeps_its_place_and_raises_when_it_is_opened(tmp_path: Path) -> None:
    _folder(tmp_path, ["a.png", "c.png"])
    (tmp_path / "b.png").write_text("not a picture")
    images = open_images(tmp_path)
    assert images.names == ("a.png", "b.png", "c.png")
    with pytest.raises(OSError, match="cannot identify"):
        images.open(1)
    assert _shade(images, 2) == 1


def test_an_empty_folder_is_refused_with_the_kinds_of_file_that_would_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError, match="holds no images") as caught:
        open_images(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert {".jpg", ".png", ".webp"} <= set(re.findall(r"\.\w+", str(caught.value)))


@pytest.mark.parametrize(
    ("given", "possible"),
    [
        ("nowhere/at/all", "photos|imagenette|mnist|cifar10|flowers102|food101"),
        ("photo", "'photos'"),
        ("imagenett", "'imagenette'"),
        ("CIFAR-10", "'cifar10'"),
        ("cifar", "'cifar10', 'cifar100'"),
        ("fashion_mnist", "'fashion-mnist'"),
        ("oxford pets", "'oxford-pets'"),
    ],
)
def test_a_source_that_is_not_there_is_refused_with_the_closest_names(given: str, possible: str) -> None:
    with pytest.raises(UserError, match=possible) as caught:
        open_images(given)
    assert repr(given) in str(caught.value)
    assert "does not exist" in str(caught.value)


def test_a_file_is_refused_as_a_file(tmp_path: Path) -> None:
    _draw(tmp_path / "a.png")
    with pytest.raises(UserError, match="is a file"):
        open_images(tmp_path / "a.png")


# Labels


def test_images_without_classes_have_the_label_minus_one(tmp_path: Path) -> None:
    images = open_images(_folder(tmp_path, ["a.png", "b.png"]))
    assert images.labels == (-1, -1)
    assert images.class_names == ("", "")
    assert images.notes == ()


def test_sub_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    names = ["Zebra/1.png", "cat/1.png", "cat/deep/2.png", "dog/1.png", "loose.png"]
    images = open_images(_folder(tmp_path, names))
    assert list(zip(images.names, images.labels, images.class_names, strict=True)) == [
        ("Zebra/1.png", 0, "Zebra"),
        ("cat/1.png", 1, "cat"),
        ("cat/deep/2.png", 1, "cat"),
        ("dog/1.png", 2, "dog"),
        ("loose.png", -1, ""),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_csv_names_the_classes_with_or_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    names = ['a, "b".png', "it's.png", "sub/ü.png", "zz.png"]
    _folder(tmp_path, names)
    rows = [
        ["file", "class_index", "synset", "name"],
        ["sub/ü.png", 4, "n4", "crane, the bird"],
        ['a, "b".png', 812, "n812", 'a "space" shuttle'],
        ["it's.png", 0, "n0", "tench"],
    ]
    _table(tmp_path, rows, encoding)
    images = open_images(tmp_path)
    assert list(zip(images.names, images.labels, images.class_names, strict=True)) == [
        ('a, "b".png', 812, 'a "space" shuttle'),
        ("it's.png", 0, "tench"),
        ("sub/ü.png", 4, "crane, the bird"),
        ("zz.png", -1, ""),
    ]
    assert images.notes == ()


def test_labels_csv_goes_before_the_sub_folders(tmp_path: Path) -> None:
    _folder(tmp_path, ["cat/1.png", "dog/1.png"])
    _table(tmp_path, [["file", "class_index"], ["dog/1.png", 7]])
    images = open_images(tmp_path)
    assert images.labels == (-1, 7)
    assert images.class_names == ("", "")


def test_files_that_labels_csv_names_but_are_not_there_are_noted(tmp_path: Path) -> None:
    _folder(tmp_path, ["a.png"])
    _table(tmp_path, [["file", "class_index"], ["gone.png", 1], ["a.png", 2], ["lost.png", 3]])
    images = open_images(tmp_path)
    assert images.names == ("a.png",)
    assert images.labels == (2,)
    (note,) = images.notes
    assert "labels.csv" in note
    assert " 2 " in note


@pytest.mark.parametrize("cell", ["", "-1", "cat", "²"])
def test_a_class_that_is_no_number_is_unknown(tmp_path: Path, cell: str) -> None:
    _folder(tmp_path, ["a.png", "b.png"])
    _table(tmp_path, [["file", "class_index"], ["a.png", cell], ["b.png", " 5 "]])
    assert open_images(tmp_path).labels == (-1, 5)


def test_ragged_and_empty_rows_of_labels_csv_do_no_harm(tmp_path: Path) -> None:
    _folder(tmp_path, ["a.png", "b.png", "c.png"])
    _table(tmp_path, [["file", "class_index"], ["a.png"], [], ["", 9], ["b.png", 3, "and", "more"]])
    images = open_images(tmp_path)
    assert images.labels == (-1, 3, -1)
    assert images.notes == ()


@pytest.mark.parametrize("header", [["file", "label"], ["path", "class_index"], ["file;class_index"], []])
def test_labels_csv_without_its_columns_is_refused_with_the_columns_it_has(tmp_path: Path, header: list[str]) -> None:
    _folder(tmp_path, ["a.png"])
    _table(tmp_path, [header, ["a.png", 3]])
    with pytest.raises(UserError, match="columns file and class_index") as caught:
        open_images(tmp_path)
    assert str(header) in str(caught.value)


def test_labels_csv_that_is_no_table_is_refused(tmp_path: Path) -> None:
    _folder(tmp_path, ["a.png"])
    endless = "x" * (csv.field_size_limit() + 1)  # what one unclosed quote makes of a long file
    (tmp_path / "labels.csv").write_text(f'file,class_index\n"a.png,3\n{endless}')
    with pytest.raises(UserError, match=r"labels\.csv"):
        open_images(tmp_path)


# Fingerprints


def _labelled(folder: Path) -> Path:
    _folder(folder, ["a.png", "b.png", "sub/c.png"])
    _table(folder, [["file", "class_index"], ["a.png", 1], ["b.png", 2], ["sub/c.png", 3]])
    return folder


def test_a_copy_of_a_folder_has_its_fingerprint(tmp_path: Path) -> None:
    here = _labelled(tmp_path / "here")
    there = Path(shutil.copytree(here, tmp_path / "else" / "where"))
    os.utime(there / "a.png", (0, 0))
    assert open_images(here).fingerprint == open_images(there).fingerprint
    assert len(open_images(here).fingerprint) == 16


def test_the_fingerprint_changes_when_an_image_comes_goes_or_changes_its_name_label_or_size(tmp_path: Path) -> None:
    def add(folder: Path) -> None:
        _draw(folder / "d.png")

    def remove(folder: Path) -> None:
        (folder / "b.png").unlink()

    def rename(folder: Path) -> None:
        (folder / "b.png").rename(folder / "bb.png")

    def label(folder: Path) -> None:
        _table(folder, [["file", "class_index"], ["a.png", 1], ["b.png", 2], ["sub/c.png", 4]])

    def unlabel(folder: Path) -> None:
        (folder / "labels.csv").unlink()

    def swap(folder: Path) -> None:
        _table(folder, [["file", "class_index"], ["a.png", 2], ["b.png", 1], ["sub/c.png", 3]])

    def grow(folder: Path) -> None:
        Image.effect_noise((60, 60), 90).save(folder / "b.png")

    seen = {open_images(_labelled(tmp_path / "before")).fingerprint}
    for number, change in enumerate([add, remove, rename, label, unlabel, swap, grow], 1):
        folder = _labelled(tmp_path / str(number))
        change(folder)
        seen.add(open_images(folder).fingerprint)
        assert len(seen) == number + 1, change.__name__


def test_the_fingerprint_is_given_even_where_a_file_has_gone_since(tmp_path: Path) -> None:
    images = open_images(_labelled(tmp_path))
    before = images.fingerprint
    (tmp_path / "a.png").unlink()
    assert images.fingerprint != before


# Photographs


def test_photos_are_at_least_28_photographs_in_colour() -> None:
    images = open_images("photos")
    assert len(images) >= 28
    assert len(set(images.names)) == len(images)
    for index in range(len(images)):
        pixels = np.asarray(images.open(index)).astype(float)
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= 200
        assert pixels.std() > 10
        assert np.ptp(pixels, axis=2).mean() > 5, f"{images.names[index]} is grey"


def test_photos_hold_foolboxs_twenty_with_their_imagenet_labels() -> None:
    images = open_images("photos")
    labels = {
        name: label for name, label in zip(images.names, images.labels, strict=True) if name.startswith("foolbox/")
    }
    # As foolbox.utils.samples(dataset="imagenet", batchsize=20) gives them.
    published = [243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305]
    assert list(labels.values()) == published
    others = [label for name, label in zip(images.names, images.labels, strict=True) if name not in labels]
    assert set(others) == {-1}


def test_photos_are_found_without_importing_foolbox() -> None:
    program = (
        "import sys\n"
        "from search import open_images\n"
        "images = open_images('photos')\n"
        "size = images.open(len(images) - 1).size\n"
        "print(len(images), min(size), 'foolbox' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, side, imported = ran.stdout.split()
    assert int(count) >= 28
    assert int(side) >= 200
    assert imported == "False"


# Data sets


class _Painted:
    """A map-style data set of flat images: item i has the shade i."""

    def __init__(self, count: int, *, paired: bool = True) -> None:
        self.count = count
        self.paired = paired

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int] | Image.Image:
        image = Image.new("RGB", (8, 8), (index, 0, 0))
        return (image, index % 3) if self.paired else image


class _Classified(_Painted):
    classes = ("red", ("green", "verdant"), "blue")

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.targets = [index % 3 for index in range(count)]


def test_a_map_style_data_set_gives_its_images_labels_and_class_names() -> None:
    images = from_dataset(_Classified(5), "painted")
    assert images.source == "painted"
    assert images.names == tuple(f"painted/{index:06d}" for index in range(5))
    assert images.labels == (0, 1, 2, 0, 1)
    assert images.class_names == ("red", "green", "blue", "red", "green")
    assert [_shade(images, index) for index in range(5)] == [0, 1, 2, 3, 4]


def test_a_data_set_may_hold_nothing_but_images() -> None:
    images = from_dataset(_Painted(3, paired=False))
    assert images.labels == (-1, -1, -1)
    assert images.class_names == ("", "", "")
    assert [_shade(images, index) for index in range(3)] == [0, 1, 2]


def test_the_images_of_a_data_set_arrive_as_upright_rgb() -> None:
    grey = [(Image.new("L", (5, 7), 9), 1)]
    image = from_dataset(grey).open(0)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (9, 9, 9)


def test_the_fingerprint_of_a_data_set_depends_on_its_labels() -> None:
    relabelled = _Classified(5)
    relabelled.targets[2] = 0
    assert from_dataset(_Classified(5)).fingerprint == from_dataset(_Classified(5)).fingerprint
    assert len({from_dataset(data).fingerprint for data in (_Classified(5), _Classified(6), relabelled)}) == 3


def _at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))


def _idx(file: Path, values: np.ndarray) -> None:
    """The file format of MNIST: magic number, dimensions, bytes."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + values.astype(np.uint8).tobytes())


def test_mnist_by_name_is_torchvisions_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _at_home(monkeypatch, tmp_path)
    root = tmp_path / ".cache" / "activation-atlas" / "mnist"
    digits, labels = np.random.default_rng(0).integers(0, 256, (6, 28, 28)), np.array([5, 0, 4, 1, 9, 2])
    for part in ("train", "t10k"):
        _idx(root / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", digits)
        _idx(root / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", labels)
    images = open_images("mnist")
    twin = MNIST(root)
    assert images.source == "mnist"
    assert images.labels == (5, 0, 4, 1, 9, 2)
    assert images.class_names[0] == twin.classes[5]
    for index in range(6):
        np.testing.assert_array_equal(np.asarray(images.open(index)), np.asarray(twin[index][0].convert("RGB")))


def test_imagenette_by_name_has_the_labels_of_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _at_home(monkeypatch, tmp_path)
    root = tmp_path / ".cache" / "activation-atlas" / "imagenette"
    for number, synset in enumerate(["n03888257", "n01440764", "n02102040"]):
        _draw(root / "imagenette2-320" / "train" / synset / f"{synset}_1.jpeg", 50 * number)
    images = open_images("imagenette")
    twin = Imagenette(root, size="320px")
    assert images.labels == tuple(label for _, label in twin) == (0, 1, 2)
    assert images.class_names == ("tench", "English springer", "parachute")


def test_a_data_set_that_cannot_be_kept_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file where the home folder should be")
    _at_home(monkeypatch, tmp_path / "home")
    with pytest.raises(UserError, match="'cifar10'") as caught:
        open_images("cifar10")
    assert str(tmp_path / "home") in str(caught.value)


def test_a_folder_called_like_a_data_set_is_asked_about_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(open_images("photos")) > 10
    noise_folder(tmp_path / "photos", 3)
    with pytest.raises(UserError, match=r"'photos' is a data set's name, and a folder here. Write './photos'"):
        open_images("photos")
    assert len(open_images("./photos")) == len(open_images(Path("photos"))) == 3
