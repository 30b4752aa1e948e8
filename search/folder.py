"""A folder of image files, labelled by a table or by its sub-folders."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from featviz.errors import UserError

from .image_set import SUFFIXES, Images


def from_folder(folder: Path) -> Images:
    """The images of a folder, recursively, sorted by name; raises `UserError` where there are none.

    Classes come from its labels.csv (columns `file` and `class_index`, optionally `name`), else from the sub-folders,
    else there are none.
    """
    files = image_files(folder)
    if not files:
        raise UserError(f"the folder {str(folder)!r} holds no images ({', '.join(sorted(SUFFIXES))}).")
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    table = folder / "labels.csv"
    if table.is_file():
        labels, class_names, notes = _labels_csv(table, names)
    else:
        labels, class_names, notes = _labels_from_folders(names)
    return Images(str(folder), names, labels, class_names, tuple(files), notes=notes)


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by name."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


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
