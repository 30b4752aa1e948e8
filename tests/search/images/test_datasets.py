from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image
from toys import noise_folder, toy_model

from featviz.errors import UserError
from search.exemplars.exemplars import exemplars
from search.images.datasets import from_dataset, from_huggingface, from_shards, from_stream
from search.images.images import Images, open_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images of three classes."""
    folder = noise_folder(tmp_path_factory.mktemp("source"), 12)
    rows = "".join(f"{number:03d}.png,{number % 3},kind {number % 3}\n" for number in range(12))
    (folder / "labels.csv").write_text(f"file,class_index,name\n{rows}")
    return folder


def _same(found: Images, folder: Path) -> None:
    """The same pixels and labels in the same order, and so the same exemplars."""
    expected = open_images(folder)
    assert found.labels == expected.labels
    for number in range(12):
        assert np.array_equal(np.asarray(found.open(number)), np.asarray(expected.open(number)))
    ours, theirs = (exemplars(toy_model(), images, "4", k=3) for images in (found, expected))
    assert [entry.image for entry in ours["4", 1]] == [entry.image for entry in theirs["4", 1]]


def _huggingface(folder: Path) -> Any:
    rows = {"picture": [str(file) for file in sorted(folder.glob("*.png"))], "kind": [n % 3 for n in range(12)]}
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_hugging_face_data_set_is_read_by_its_features(folder: Path) -> None:
    found = from_huggingface(_huggingface(folder), "mine")
    _same(found, folder)
    assert found.class_names[:4] == ("a", "b", "c", "a")
    assert found.fingerprint != from_huggingface(_huggingface(folder).shuffle(seed=0), "mine").fingerprint
    with pytest.raises(UserError, match="no column 'photo'"):
        from_huggingface(_huggingface(folder), "mine", image="photo")
    with pytest.raises(UserError, match="streams: from_stream"):
        from_huggingface(_huggingface(folder).to_iterable_dataset(), "mine")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hugging_face_data_set_saved_to_disk_is_a_folder_of_images(tmp_path: Path, folder: Path) -> None:
    _huggingface(folder).save_to_disk(str(tmp_path / "saved"))
    _same(open_images(tmp_path / "saved"), folder)
    datasets.DatasetDict({"test": _huggingface(folder).select([0]), "train": _huggingface(folder)}).save_to_disk(
        str(tmp_path / "splits")
    )
    _same(open_images(tmp_path / "splits"), folder)
    with pytest.raises(UserError, match="has the splits 'test': give one of them"):
        from_huggingface(datasets.DatasetDict({"test": _huggingface(folder)}), "mine")


def _shards(folder: Path, out: Path) -> None:
    """Two WebDataset shards, with labels as .cls in the first and in .json in the second."""
    for shard in range(2):
        with webdataset.TarWriter(str(out / f"part-{shard:03d}.tar")) as writer:
            for number in range(6 * shard, 6 * shard + 6):
                label = {"cls": number % 3} if shard == 0 else {"json": {"label": number % 3}}
                writer.write({"__key__": f"{number:03d}", "png": (folder / f"{number:03d}.png").read_bytes(), **label})


@pytest.mark.parametrize("pattern", ["part-{000..001}.tar", "part-*.tar", "", "part-00{0..1}.tar"])
def test_webdataset_shards_are_read_at_any_place(tmp_path: Path, folder: Path, pattern: str) -> None:
    _shards(folder, tmp_path)
    found = open_images(str(tmp_path / pattern))
    _same(found, folder)
    assert found.names[7] == "part-001.tar/007.png"


def test_a_damaged_image_in_a_shard_is_skipped_by_name(tmp_path: Path, folder: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "x.tar")) as writer:
        for number in range(4):
            data = b"broken" if number == 2 else (folder / f"{number:03d}.png").read_bytes()
            writer.write({"__key__": f"{number}", "png": data})
    found = exemplars(toy_model(), tmp_path / "x.tar", "4", k=9)
    assert [entry.name for entry in found.skipped] == ["x.tar/2.png"]
    assert len(found["4", 0]) == 3


def test_shards_written_anew_since_are_noticed_though_nothing_has_another_size(tmp_path: Path, folder: Path) -> None:
    _shards(folder, tmp_path)
    images = from_shards(str(tmp_path / "part-*.tar"))
    fingerprint, modified = images.fingerprint, images.modified
    os.utime(tmp_path / "part-001.tar", (1e9, 1e9))
    assert images.fingerprint == fingerprint
    assert images.modified != modified != ""


def test_shards_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        from_shards(str(tmp_path / "none.tar"))
    (tmp_path / "bad.tar").write_bytes(b"no tar at all" * 99)
    with pytest.raises(UserError, match="cannot be read"):
        from_shards(str(tmp_path / "bad.tar"))
    with webdataset.TarWriter(str(tmp_path / "text.tar")) as writer:
        writer.write({"__key__": "0", "txt": "hello"})
    with pytest.raises(UserError, match="hold no images"):
        from_shards(str(tmp_path / "text.tar"))


def _stream(folder: Path, kind: str) -> Iterator[Any]:
    for number in range(12):
        file = folder / f"{number:03d}.png"
        with Image.open(file) as image:
            image.load()
        yield {
            "pairs": (image, number % 3),
            "bytes": {"png": file.read_bytes(), "cls": str(number % 3).encode()},
            "dicts": {"image": image, "label": number % 3},
        }[kind]


@pytest.mark.parametrize("kind", ["pairs", "bytes", "dicts"])
def test_a_stream_is_kept_so_that_its_images_can_be_opened_again(tmp_path: Path, folder: Path, kind: str) -> None:
    _same(from_stream(_stream(folder, kind), tmp_path / "kept"), folder)
    # A folder that holds the whole stream is taken as it is.
    _same(from_stream(iter(()), tmp_path / "kept"), folder)
    assert len(from_stream(_stream(folder, kind), tmp_path / "some", limit=5)) == 5


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_and_hugging_face_streams_are_streams(tmp_path: Path, folder: Path) -> None:
    _shards(folder, tmp_path)
    pipeline = webdataset.WebDataset(str(tmp_path / "part-000.tar"), shardshuffle=False).to_tuple("png", "cls")
    assert from_stream(pipeline, tmp_path / "a").labels == tuple(number % 3 for number in range(6))
    stream = _huggingface(folder).rename_columns({"picture": "image", "kind": "label"}).to_iterable_dataset()
    _same(from_stream(stream, tmp_path / "b"), folder)


def test_a_stopped_stream_is_read_anew_and_items_without_an_image_are_refused(tmp_path: Path, folder: Path) -> None:
    def stops() -> Iterator[Any]:
        yield from list(_stream(folder, "pairs"))[:3]
        yield "no image"

    with pytest.raises(UserError, match="a stream gives images"):
        from_stream(stops(), tmp_path / "kept")
    _same(from_stream(_stream(folder, "pairs"), tmp_path / "kept"), folder)


def test_data_sets_of_other_pixels_have_other_fingerprints() -> None:
    dark, light = ([Image.new("RGB", (8, 8), (shade, 0, 0)) for _ in range(9)] for shade in (1, 2))
    assert from_dataset(dark).fingerprint == from_dataset(list(dark)).fingerprint != from_dataset(light).fingerprint


def test_labels_in_json_that_say_nothing_are_unknown(tmp_path: Path, folder: Path) -> None:
    data = (folder / "000.png").read_bytes()
    with webdataset.TarWriter(str(tmp_path / "x.tar")) as writer:
        for number, text in enumerate(['{"label": "cat"}', "[1]", "{", '{"cls": 2}', '{"label": -3}']):
            writer.write({"__key__": str(number), "png": data, "json": text.encode()})
    assert from_shards(str(tmp_path / "x.tar")).labels == (-1, -1, -1, 2, -1)


def test_streams_of_odd_images_are_kept_upright_in_rgb(tmp_path: Path) -> None:
    turned = Image.new("RGB", (20, 10), "red")
    turned.getexif()[0x0112] = 6
    images = [Image.new("CMYK", (8, 8)), Image.new("F", (8, 8), 0.5), turned]
    found = from_stream(images, tmp_path / "kept")
    assert [found.open(number).size for number in range(3)] == [(8, 8), (8, 8), (10, 20)]
    with pytest.raises(UserError, match="another limit"):
        from_stream(images, tmp_path / "kept", limit=2)
    with pytest.raises(UserError, match="gave no image"):
        from_stream([], tmp_path / "none")
    (tmp_path / "stopped").mkdir()
    images[0].convert("RGB").save(tmp_path / "stopped" / "000000007.png")
    assert len(from_stream(images, tmp_path / "stopped")) == 3
