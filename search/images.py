"""A folder or a named data set -> images with names and labels, in a stable order."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from featviz.errors import UserError, closest

from .decode import open_upright

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2 .avif".split())

# EXIF's tag for how a camera was held, and its values for a quarter turn.
_ORIENTATION, _ON_ITS_SIDE = 0x0112, frozenset({5, 6, 7, 8})

# The colour photographs that the demo's packages ship: (package, folder inside it, file names or a pattern).
_PHOTOS = (
    ("skimage", "data", r"(astronaut|chelsea|coffee|hubble_deep_field|ihc|motorcycle_left|retina|rocket)\.(png|jpg)"),
    ("sklearn", "datasets/images", r"(china|flower)\.jpg"),
    ("foolbox", "data", r"imagenet_\d+_(?P<label>\d+)\.(jpg|png)"),
)


@dataclass(frozen=True)
class Images:
    """Images in a stable order: `names[i]`, `labels[i]` (-1 where unknown), `class_names[i]` belong together.

    `source`: a folder's path or a data set's name; `files`: the files, where there are; `dataset`: else the map-style
    data set behind it, whose items begin with an image; `notes`: what is odd about the source.
    """

    source: str
    names: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    dataset: Any = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int) -> Image.Image:
        """Image `index` as upright 8-bit RGB; raises what Pillow raises where it cannot be decoded."""
        if self.files:
            return open_upright(self.files[index])
        item = self.dataset[index]
        return open_upright(item[0] if isinstance(item, (tuple, list)) else item)

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of image `index`, upright; of a file, its header alone is read."""
        if not self.files:
            return self.open(index).size
        with Image.open(self.files[index]) as image:
            # A PNG without EXIF data would be decoded to its end in search of some.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
            return (image.size[1], image.size[0]) if turned else image.size

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, labels and file sizes, first 16 hexadecimal digits: changes when images come or go."""
        digest = hashlib.sha256()
        for number, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            size = self.files[number].stat().st_size if self.files and self.files[number].exists() else -1
            digest.update(f"{name}\0{label}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def open_images(source: str | Path | Images) -> Images:
    """Images of a folder (recursive, sorted), `photos` (embedded photographs) or a torchvision data set by name.

    A folder's classes come from its labels.csv (columns `file` and `class_index`, optionally `name`), else from the
    sub-folders, else there are none. Raises `UserError` for a source that does not exist or holds no image.
    """
    if isinstance(source, Images):
        return source
    name = str(source)
    if name == "photos":
        return _photos()
    if name in _DATASETS:
        return _torchvision(name)
    folder = Path(source)
    if folder.is_dir():
        return _folder(folder)
    near = ", ".join(map(repr, closest(name, ["photos", *_DATASETS])))
    what = "is a file" if folder.exists() else "does not exist"
    raise UserError(f"--images takes a folder or a data set's name; {name!r} {what}. Known names close to it: {near}.")


def _folder(folder: Path) -> Images:
    files = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not files:
        raise UserError(f"the folder {str(folder)!r} holds no images ({', '.join(sorted(SUFFIXES))}).")
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    table = folder / "labels.csv"
    if table.is_file():
        labels, class_names, notes = _labels_csv(table, names)
    else:
        labels, class_names, notes = _labels_from_folders(names)
    return Images(str(folder), names, labels, class_names, tuple(files), notes=notes)


def _labels_csv(table: Path, names: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    try:
        with table.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            rows = {row["file"]: row for row in reader if row.get("file")}
    except csv.Error as error:
        raise UserError(f"{table} cannot be read as a table: {error}.") from error
    if "file" not in columns or "class_index" not in columns:
        raise UserError(f"{table} needs the columns file and class_index (name is optional); it has {columns}.")
    missing = len(rows.keys() - set(names))
    notes = (f"labels.csv names {missing} file(s) that are not there",) if missing else ()
    numbers = [str((rows.get(name) or {}).get("class_index") or "") for name in names]
    labels = tuple(int(number) if number.strip().isdecimal() else -1 for number in numbers)
    class_names = tuple(str((rows.get(name) or {}).get("name") or "") for name in names)
    return labels, class_names, notes


def _labels_from_folders(names: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    parents = [name.rpartition("/")[0].split("/")[0] for name in names]
    classes = sorted({parent for parent in parents if parent})
    labels = tuple(classes.index(parent) if parent else -1 for parent in parents)
    return labels, tuple(parents), ()


def _photos() -> Images:
    found: list[tuple[str, Path, int]] = []
    for package, inner, pattern in _PHOTOS:
        spec = importlib.util.find_spec(package)  # finds the files without importing the package
        for root in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted((Path(root) / inner).iterdir()):
                match = re.fullmatch(pattern, path.name)
                if match:
                    found.append((f"{package}/{path.name}", path, int(match.groupdict().get("label") or -1)))
    if len(found) < 10:
        raise UserError(f"only {len(found)} embedded photographs are installed: pip install 'activation-atlas[demo]'")
    names, files, labels = zip(*found, strict=True)
    return Images("photos", names, labels, ("",) * len(names), files)


# Name -> (class in torchvision.datasets, its arguments). Downloads go to the user's cache folder on first use.
_DATASETS: dict[str, tuple[str, dict[str, Any]]] = {
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


def _torchvision(name: str) -> Images:
    from torchvision import datasets

    class_name, arguments = _DATASETS[name]
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


def from_dataset(dataset: Any, name: str = "dataset") -> Images:
    """Images of any map-style data set whose items are an image or begin with one (and its integer label)."""
    targets = next((getattr(dataset, key) for key in ("targets", "_labels", "labels") if hasattr(dataset, key)), None)
    if targets is None and hasattr(dataset, "_samples"):  # Imagenette: pairs of file and label
        targets = [label for _, label in dataset._samples]
    count = len(dataset)
    labels = tuple(int(target) for target in targets) if targets is not None else (-1,) * count
    classes = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in getattr(dataset, "classes", [])]
    class_names = tuple(classes[label] if 0 <= label < len(classes) else "" for label in labels)
    return Images(name, tuple(f"{name}/{index:06d}" for index in range(count)), labels, class_names, dataset=dataset)
