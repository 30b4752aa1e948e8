"""labels.csv: which class each image of a folder is of."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featviz.errors import UserError

from .image_set import Images, class_number, readable
from .tables import Row, read_table

_WANTED = "a UTF-8 text with commas and the columns file and class_index (name is optional)"
# Class indices, class names, notes.
Labels = tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]


def read_labels(table: Path, names: Sequence[str]) -> Labels:
    """The class index of each image, -1 where none is known, its class's name, and notes on what is odd in the table.

    A row is of the image whose name, relative to the folder, it gives (`./a.jpg` and back slashes do); nothing is ever
    opened by a row. Of contradicting rows the last one counts. Raises `UserError` for a file that is no such table.
    """
    columns, rows = read_table(table, _WANTED)
    if "file" not in columns or "class_index" not in columns:
        has = [readable(str(column))[:40] for column in columns[:20]]
        raise UserError(f"{table} needs the columns file and class_index (name is optional); it has {has}.")
    by_name, notes = _by_name(rows, set(names))
    own = [by_name.get(name, {}) for name in names]
    labels = tuple(class_number(row.get("class_index") or "") for row in own)
    wrong = [
        (name, row["class_index"])
        for name, row, label in zip(names, own, labels, strict=True)
        if label < 0 and (row.get("class_index") or "").strip() not in ("", "-1")
    ]
    if wrong:
        first = f"{readable(wrong[0][1])[:40]!r} of {readable(wrong[0][0])!r}"
        notes.append(f"labels.csv gives {len(wrong)} image(s) a class_index that is no class's number, such as {first}")
    return labels, tuple(readable(row.get("name") or "") for row in own), tuple(notes)


def note_unknown_classes(images: Images, classes: int) -> Images:
    """The same images, with a note where labels are of classes beyond those of a network (0: it names none)."""
    beyond = [number for number, label in enumerate(images.labels) if label >= classes]
    if not beyond or not classes or not images.numbered:
        return images
    first = f"{images.labels[beyond[0]]} of {readable(images.names[beyond[0]])!r}"
    note = f"{len(beyond)} image(s) are of classes that the network does not have (it has {classes}), such as {first}"
    return replace(images, notes=(*images.notes, note))


def _by_name(rows: Sequence[Row], names: set[str]) -> tuple[dict[str, Row], list[str]]:
    """The last row of each image, and notes on rows of none and on rows that contradict each other."""
    found: dict[str, Row] = {}
    missing, contradicted = dict[str, None](), dict[str, None]()
    for row in rows:
        given = row.get("file")
        if not given:
            continue
        name = next((each for each in (given, _plain(given)) if each in names), None)
        if name is None:
            missing[given] = None
            continue
        if name in found and class_number(found[name].get("class_index")) != class_number(row.get("class_index")):
            contradicted[name] = None
        found[name] = row
    notes = []
    if missing:
        notes.append(f"labels.csv names {len(missing)} file(s) that are not there, such as {_first(missing)}")
    if contradicted:
        notes.append(
            f"labels.csv gives {len(contradicted)} image(s) more than one class, such as {_first(contradicted)}: "
            "the last row counts"
        )
    return found, notes


def _plain(given: str) -> str:
    return posixpath.normpath(given.strip().replace("\\", "/"))


def _first(names: Mapping[str, None]) -> str:
    return repr(readable(next(iter(names)))[:100])
