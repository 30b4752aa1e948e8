"""Data sets that are no folder of images: torchvision's, Hugging Face's, WebDataset shards, streams."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from featviz.errors import UserError

from .decode import MOST_BYTES, open_upright, opened
from .folder import from_folder
from .image_set import PHOTOGRAPHS, Images, class_number
from .torch_datasets import from_dataset

# Name -> (class in torchvision.datasets, its arguments). Downloads go to the user's cache folder on first use.
TORCHVISION: dict[str, tuple[str, dict[str, Any]]] = {
    "imagenette": ("Imagenette", {"split": "train", "size": "320px"}),
    "cifar10": ("CIFAR10", {"train": True}),
    "cifar100": ("CIFAR100", {"train": True}),
    "stl10": ("STL10", {"split": "train"}),
    "food101": ("Food101", {"split": "train"}),
    "flowers102": ("Flowers102", {"split": "train"}),
    "oxford-pets": ("OxfordIIITPet", {"split": "trainval"}),
    "mnist": ("MNIST", {"train": True}),
    "fashion-mnist": ("FashionMNIST", {"train": True}),
}
# Where a stream's items keep the image and the label.
_IMAGE_KEYS = ("image", "jpg", "jpeg", "png", "webp", "img")
_LABEL_KEYS = ("label", "cls", "labels", "fine_label")


def from_torchvision(name: str) -> Images:
    """One of torchvision's data sets, downloaded on first use; raises `UserError` where that fails."""
    from torchvision import datasets

    class_name, arguments = TORCHVISION[name]
    root = Path.home() / ".cache" / "activation-atlas" / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            dataset = getattr(datasets, class_name)(root, **arguments, download=False)
        except RuntimeError:  # torchvision's way to say that it is not there yet
            dataset = getattr(datasets, class_name)(root, **arguments, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"the data set {name!r} is not in {root} and could not be downloaded: {error}") from error
    return from_dataset(dataset, name)


def from_huggingface(dataset: Any, name: str = "dataset", *, image: str = "", label: str = "") -> Images:
    """Images of a Hugging Face `datasets.Dataset`.

    image, label: its columns; by default the first that holds images and the first of classes. Of several splits,
    `train`. Raises `UserError` for a
    data set without images, and for one that streams: give that to `from_stream`.
    """
    if isinstance(dataset, dict):
        if "train" not in dataset:
            raise UserError(f"{name} has the splits {', '.join(map(repr, dataset))}: give one of them.")
        dataset = dataset["train"]
    if not hasattr(dataset, "__len__"):
        raise UserError(f"{name} streams: from_stream(dataset, folder) keeps its images, so that they can be shown.")
    kinds = {column: type(feature).__name__ for column, feature in dataset.features.items()}
    image = image or next((column for column, kind in kinds.items() if kind == "Image"), "")
    label = label or next((column for column, kind in kinds.items() if kind == "ClassLabel"), "")
    if image not in kinds or (label and label not in kinds):
        raise UserError(f"{name} has no column {image or 'of images'!r} or {label!r}; its columns: {kinds}.")
    labels = tuple(-1 if value is None else int(value) for value in dataset[label]) if label else (-1,) * len(dataset)
    classes = list(getattr(dataset.features[label], "names", [])) if label else []
    content = str(getattr(dataset, "_fingerprint", ""))
    return _indexed(name, labels, classes, _Column(dataset, image), content)


def load_huggingface(source: str | Path) -> Images:
    """`hf:NAME` or `hf:NAME@SPLIT` from the Hugging Face hub (its split `train`), or a folder that it saved."""
    try:
        import datasets
    except ImportError as error:
        raise UserError("Hugging Face data sets need an extra: pip install 'activation-atlas[datasets]'.") from error
    try:
        if isinstance(source, Path):
            return from_huggingface(datasets.load_from_disk(str(source)), str(source))
        name, _, split = source.removeprefix("hf:").partition("@")
        return from_huggingface(datasets.load_dataset(name, split=split or "train"), source)
    except UserError:
        raise
    except Exception as error:  # what it raises ranges from ConnectionError to its own and pyarrow's kinds
        raise UserError(f"the Hugging Face data set {str(source)!r} could not be opened: {error}") from error


def from_shards(pattern: str) -> Images:
    """Images in WebDataset shards on disk: `shards-{000..009}.tar`, or a glob of .tar files.

    A sample is the files that share a name up to its first dot: an image, and its class in `.cls` or in the field
    `label` or `cls` of `.json`. Shards are indexed once and then read at any place, without a stream's order. Raises
    `UserError` for shards that are not there, cannot be read or hold no image.
    """
    paths = [Path(path) for word in _braces(pattern) for path in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
    samples: list[_Sample] = []
    for path in paths:
        try:
            samples += _samples(path)
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"the shard {str(path)!r} cannot be read: {error}") from error
    if not samples:
        raise UserError(f"the shards {pattern!r} hold no images ({', '.join(sorted(PHOTOGRAPHS))}).")
    content = hashlib.sha256(repr([(sample.name, sample.size) for sample in samples]).encode()).hexdigest()
    names, labels = tuple(sample.name for sample in samples), tuple(sample.label for sample in samples)
    return Images(
        pattern, names, labels, ("",) * len(names), dataset=_Shards(tuple(samples)), content=content,
        archives=tuple(paths),
    )  # fmt: skip


def from_stream(stream: Iterable[Any], folder: str | Path, *, limit: int | None = None) -> Images:
    """Images of anything that can only be gone through once, kept in a folder: exemplars must be opened again.

    stream: a WebDataset pipeline, a Hugging Face data set that streams, any iterable of images, of (image, label) or of
    dicts with such fields; an image is one of Pillow's or an encoded file's bytes. limit: stop after so many. A folder
    that holds a whole stream already is taken as it is. Raises `UserError` for items without an image.
    """
    folder = Path(folder)
    table, known = folder / "labels.csv", folder / "stream.json"
    about = {"limit": limit}
    if table.is_file():
        if known.is_file() and json.loads(known.read_text(encoding="utf-8")) != about:
            raise UserError(f"{str(folder)!r} holds a stream kept with another limit: give a new folder.")
        return from_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("[0-9]" * 9 + ".*"):  # of an attempt that was stopped
        left.unlink()
    rows = []
    for number, item in enumerate(stream):
        if number == limit:
            break
        image, label = _image_and_label(item)
        file = folder / f"{number:09d}.{_suffix(image) if isinstance(image, bytes) else 'png'}"
        if isinstance(image, bytes):
            file.write_bytes(image)
        else:
            open_upright(image).save(file, compress_level=1)
        rows.append((file.name, label))
    if not rows:
        raise UserError("the stream gave no image.")
    known.write_text(json.dumps(about), encoding="utf-8")
    draft = folder / ".labels.csv"
    with draft.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("file", "class_index"), *rows])
    draft.replace(table)
    return from_folder(folder)


def _indexed(name: str, labels: tuple[int, ...], classes: list[str], dataset: Any, content: str) -> Images:
    class_names = tuple(classes[label] if 0 <= label < len(classes) else "" for label in labels)
    names = tuple(f"{Path(name).name}/{index:06d}" for index in range(len(labels)))
    return Images(name, names, labels, class_names, dataset=dataset, content=content)


@dataclass(frozen=True)
class _Column:
    """The images of a Hugging Face data set."""

    dataset: Any
    image: str

    def __getitem__(self, number: int) -> Any:
        return self.dataset[number][self.image]


@dataclass(frozen=True)
class _Sample:
    """An image in a shard: where its bytes lie."""

    path: Path
    name: str
    start: int
    size: int
    label: int


@dataclass(frozen=True)
class _Shards:
    samples: tuple[_Sample, ...]

    def __getitem__(self, number: int) -> Image.Image:
        sample = self.samples[number]
        with sample.path.open("rb") as file:
            file.seek(sample.start)
            return open_upright(BytesIO(file.read(min(sample.size, MOST_BYTES))))


def _samples(path: Path) -> Iterator[_Sample]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    with tarfile.open(path, "r:") as shard:
        for member in shard:
            parent, _, base = member.name.rpartition("/")
            stem, _, kind = base.partition(".")
            key = f"{parent}/{stem}" if parent else stem
            if not member.isfile() or not stem:
                continue
            if f".{kind.rpartition('.')[2].lower()}" in PHOTOGRAPHS:
                images.setdefault(key, member)
            elif kind in ("cls", "json"):
                opened = shard.extractfile(member)
                labels[key] = _label(kind, opened.read() if opened else b"") if key not in labels else labels[key]
    for key, member in images.items():
        yield _Sample(path, f"{path.name}/{member.name}", member.offset_data, member.size, labels.get(key, -1))


def _label(kind: str, text: bytes) -> int:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return -1
    if kind == "json":
        found = next((found[key] for key in _LABEL_KEYS if key in found), -1) if isinstance(found, dict) else -1
    return class_number(found)


def _braces(pattern: str) -> list[str]:
    """The words that `a{00..03}b` stands for; any number of braces."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not match:
        return [pattern]
    first, last = match[1], match[2]
    words = (
        f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}"
        for number in range(int(first), int(last) + 1)
    )
    return [each for word in words for each in _braces(word)]


def _image_and_label(item: Any) -> tuple[Image.Image | bytes, int]:
    label: Any = -1
    if isinstance(item, dict):
        label = next((item[key] for key in _LABEL_KEYS if key in item), -1)
        item = next((item[key] for key in _IMAGE_KEYS if key in item), None)
    elif isinstance(item, (tuple, list)):
        label = item[1] if len(item) > 1 else -1
        item = item[0]
    if not isinstance(item, (Image.Image, bytes)):
        raise UserError(
            f"a stream gives images, (image, label) or dicts with one of {', '.join(_IMAGE_KEYS)}; got {type(item)}."
        )
    return item, class_number(label.decode(errors="replace") if isinstance(label, bytes) else str(label))


def _suffix(data: bytes) -> str:
    """The ending of an encoded image's file; Pillow tells the kind by its content, so one of those known will do."""
    try:
        with opened(BytesIO(data)) as image:
            kind = str(image.format).lower()
    except OSError:  # a damaged file, which the scan will name
        kind = "jpg"
    return kind if f".{kind}" in PHOTOGRAPHS else "jpg"
