"""Map-style data sets as people have them: wrapped, split, joined, of tensors, with labels of any kind."""

from __future__ import annotations

import hashlib
import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from featviz.errors import UserError

from .image_set import Images, class_number, readable
from .pictures import image_of

# Items of a data set without a fingerprint of its own that are looked at to tell it from another.
_LOOKED_AT = 8
# Where data sets keep the labels of their items, and the pairs of file and label.
_TARGETS, _PAIRS = ("targets", "_labels", "labels", "y"), ("_samples", "samples", "imgs")


def from_dataset(dataset: Any, name: str = "dataset") -> Images:
    """Images of any map-style data set whose items are an image or begin with one (and its integer label).

    An image is one of Pillow's, an array or a tensor: of 8 bits, or floats in [0, 1], as `ToTensor` makes them without
    `Normalize`. Labels are looked for in the data set, through `Subset`, `random_split` and `ConcatDataset`; those that
    are no class's number (of a regression, of several classes at once, files of boxes) are left out, with a note.
    Raises `UserError` for a `DataLoader` and for what cannot be opened at any place.
    """
    check_map_style(dataset)
    count = len(dataset)
    known = _labels(dataset, count)
    names = tuple(f"{Path(name).name}/{index:06d}" for index in range(count))
    return Images(
        name, names, known.labels, known.names, dataset=dataset, content=_content(dataset, count), notes=known.notes
    )  # fmt: skip


def from_files(files: Sequence[str | Path]) -> Images:
    """Images of a list of files, in its order, without labels; raises `UserError` for a file that is not there."""
    if not files:
        raise UserError("the list of images is empty.")
    paths = [Path(file).absolute() for file in files]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        what = "is a folder" if missing.is_dir() else "does not exist"
        raise UserError(f"a list of images holds files; {str(missing)!r} {what}.")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    unknown = (-1,) * len(names)
    return Images(readable(str(root)), names, unknown, ("",) * len(names), tuple(paths))


def from_list(items: Sequence[Any]) -> Images:
    """Images of a list: of files, of open images, arrays or tensors, or of pairs of these and a label."""
    if all(isinstance(item, (str, Path)) for item in items):
        return from_files(items)
    if not all(isinstance(image_of(item), (Image.Image, np.ndarray, torch.Tensor)) for item in items):
        odd = next(item for item in items if not isinstance(image_of(item), (Image.Image, np.ndarray, torch.Tensor)))
        raise UserError(f"a list of images holds files, or images, arrays or tensors; got {type(odd).__name__}.")
    return from_dataset(_Listed(tuple(items)), "list")


def is_dataset(source: Any) -> bool:
    """Whether something is a data set, a loader of one or anything else with numbered items."""
    return isinstance(source, (Dataset, DataLoader)) or (hasattr(source, "__getitem__") and hasattr(source, "__len__"))


def check_map_style(dataset: Any) -> None:
    """Raise `UserError` unless the items of a data set can be opened at any place."""
    if isinstance(dataset, DataLoader):
        raise UserError(
            "images are opened again by number, which a DataLoader shuffles and batches: give the data set that it "
            "loads, loader.dataset."
        )
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise UserError(
            f"{type(dataset).__name__} streams: from_stream(dataset, folder) keeps its images, so that they can be "
            "shown."
        )


@dataclass(frozen=True)
class _Listed:
    """A list of images, or of pairs of an image and a label, as a data set."""

    items: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]

    @property
    def targets(self) -> list[Any] | None:
        pairs = all(isinstance(item, (tuple, list)) and len(item) > 1 for item in self.items)
        return [item[1] for item in self.items] if pairs else None


@dataclass(frozen=True)
class _Labels:
    """Each item's class, -1 for none, and its name; what was left out."""

    labels: tuple[int, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _labels(dataset: Any, count: int) -> _Labels:
    if isinstance(dataset, Subset):
        whole = _labels(dataset.dataset, len(dataset.dataset))  # type: ignore[arg-type]  # has a length, as it is indexed
        rows = [int(row) for row in dataset.indices]
        return _Labels(
            tuple(whole.labels[row] for row in rows), tuple(whole.names[row] for row in rows), whole.notes
        )  # fmt: skip
    if isinstance(dataset, ConcatDataset):
        return _joined([_labels(part, len(part)) for part in dataset.datasets])  # type: ignore[arg-type]  # likewise
    targets = _targets(dataset)
    if targets is None or len(targets) != count:
        return _Labels((-1,) * count, ("",) * count)
    classes = [
        str(entry[0] if isinstance(entry, tuple) else entry) for entry in getattr(dataset, "classes", None) or []
    ]
    labels = tuple(_number(target, classes) for target in targets)
    names = tuple(classes[label] if 0 <= label < len(classes) else "" for label in labels)
    odd = [target for target, label in zip(targets, labels, strict=True) if label < 0 and not _says_none(target)]
    if not odd:
        return _Labels(labels, names)
    first = f"{odd[0]!r:.60} ({type(odd[0]).__name__})"
    note = f"{len(odd)} label(s) are no class's number and were left out, such as {first}"
    return _Labels(labels, names, (note,))


def _targets(dataset: Any) -> list[Any] | None:
    """What a data set says its items' labels are, in their order."""
    if isinstance(dataset, TensorDataset):
        return _listed(dataset.tensors[1]) if len(dataset.tensors) > 1 else None
    for key in _TARGETS:
        found = _listed(getattr(dataset, key, None))
        if found is not None:
            return found
    for key in _PAIRS:
        pairs = getattr(dataset, key, None)
        if isinstance(pairs, (list, tuple)) and all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
        ):
            return [label for _, label in pairs]
    return None


def _listed(found: Any) -> list[Any] | None:
    if isinstance(found, (torch.Tensor, np.ndarray)):
        # Rows stay what they are: of several classes at once.
        return list(found.tolist()) if found.ndim else None
    return list(found) if isinstance(found, (list, tuple, range)) else None


def _number(target: Any, classes: Sequence[str]) -> int:
    """A label as a class's number, -1 for any that is none."""
    if isinstance(target, (torch.Tensor, np.ndarray)) and target.ndim == 0:
        target = target.item()
    if isinstance(target, numbers.Integral) and not isinstance(target, bool):
        return class_number(int(target))
    return classes.index(target) if isinstance(target, str) and target in classes else -1


def _says_none(target: Any) -> bool:
    return target is None or (isinstance(target, numbers.Integral) and int(target) == -1)


def _joined(parts: Sequence[_Labels]) -> _Labels:
    """Labels of data sets one behind the other: by the classes' names, where the same numbers mean others."""
    pairs = [pair for part in parts for pair in zip(part.labels, part.names, strict=True)]
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    known = {pair for pair in pairs if pair[0] >= 0}
    alike = len({label for label, _ in known}) == len(known) == len({name or label for label, name in known})
    if alike or not all(name for _, name in known):
        if not alike:
            notes += ("the data sets that were joined give a class's number several meanings: the numbers count",)
        return _Labels(tuple(label for label, _ in pairs), tuple(name for _, name in pairs), notes)
    order = {name: number for number, name in enumerate(dict.fromkeys(name for label, name in pairs if label >= 0))}
    labels = tuple(order[name] if label >= 0 else -1 for label, name in pairs)
    notes += ("the data sets that were joined number their classes differently: their names count",)
    return _Labels(labels, tuple(name for _, name in pairs), notes)


def _content(dataset: Any, count: int) -> str:
    """A digest of some items, evenly spaced, of a data set that has no fingerprint of its own."""
    digest = hashlib.sha256()
    for number in sorted({place * count // _LOOKED_AT for place in range(_LOOKED_AT)} & set(range(count))):
        try:
            image = image_of(dataset[number])
            if isinstance(image, torch.Tensor):
                image = image.detach().cpu().contiguous().view(torch.uint8).numpy()
            digest.update(image.tobytes() if hasattr(image, "tobytes") else repr(image).encode())
        except Exception:  # a damaged item is told of where it is scanned
            continue
    return digest.hexdigest()
