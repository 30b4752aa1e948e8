"""A folder of image files, labelled by a table or by its sub-folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featviz.errors import UserError

from .image_set import SUFFIXES, Images, class_number, readable
from .labels import read_labels

# Names that a note gives before it counts the rest.
_NAMED = 5


def from_folder(folder: Path) -> Images:
    """The images of a folder, recursively, sorted by name; raises `UserError` where there are none.

    Classes come from its labels.csv (columns `file` and `class_index`, optionally `name`), else from the sub-folders,
    else there are none. Sub-folders that are all called by numbers state their classes' numbers. Links to files are
    followed wherever they lead: whoever filled the folder put them there. Links to folders are not, and the notes name
    them; so a link in a circle does no harm.
    """
    found = _listed(folder)
    if not found.names:
        more = f" {'; '.join(found.notes)}." if found.notes else ""
        raise UserError(f"the folder {str(folder)!r} holds no images ({', '.join(sorted(SUFFIXES))}).{more}")
    table = folder / "labels.csv"
    numbered = True
    if os.path.lexists(table):
        labels, class_names, notes = read_labels(table, found.names)
    else:
        labels, class_names, notes, numbered = _labels_from_folders(found.names)
    # Absolute: a worker elsewhere works in another folder.
    files = tuple(folder.absolute() / name for name in found.names)
    return Images(
        readable(str(folder)), found.names, labels, class_names, files, notes=(*found.notes, *notes), numbered=numbered
    )  # fmt: skip


def image_files(folder: Path) -> list[Path]:
    """Whatever below a folder has an image's name and is no folder, sorted by name."""
    return [folder / name for name in _listed(folder).names]


@dataclass(frozen=True)
class _Listing:
    """Names below a folder, sorted, and what is not entered or taken for what it is called."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def _listed(folder: Path) -> _Listing:
    """What has an image's name, be it a FIFO or a link to nothing: whatever cannot be read is skipped by name later."""
    names: list[str] = []
    odd: dict[str, list[str]] = {"linked": [], "folder": [], "closed": []}
    waiting = [""]
    while waiting:  # no recursion: folders may be nested more deeply than calls
        inner = waiting.pop()
        try:
            with os.scandir(folder / inner) as entries:
                found = [(f"{inner}{entry.name}", entry) for entry in entries]
        except OSError as error:
            odd["closed"].append(f"{inner} ({error.strerror})")
            continue
        for name, entry in found:
            image = name.lower().endswith(tuple(SUFFIXES))
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{name}/")
                odd["folder"] += [name] * image
            elif entry.is_symlink() and _leads_to_a_folder(entry):
                odd["linked"].append(name)
            elif image:
                names.append(name)
    notes = (
        _note(odd["linked"], "link(s) to folders were not followed"),
        _note(odd["folder"], "folder(s) called like an image were read as folders"),
        _note(odd["closed"], "folder(s) could not be read"),
    )
    return _Listing(tuple(sorted(names)), tuple(note for note in notes if note))


def _leads_to_a_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _note(names: Sequence[str], what: str) -> str:
    some = ", ".join(repr(readable(name)) for name in sorted(names)[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {what}: {some}{more}" if names else ""


def _labels_from_folders(
    names: Sequence[str],
) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...], bool]:
    """Labels, class names, notes, and whether the numbers are stated: sub-folders called by numbers state them."""
    parents = [name.rpartition("/")[0].split("/")[0] for name in names]
    folders = sorted({parent for parent in parents if parent})
    classes, notes = {folder: number for number, folder in enumerate(folders)}, list[str]()
    stated = {folder: class_number(folder) for folder in folders}
    numbered = min(stated.values(), default=-1) >= 0 and len(set(stated.values())) == len(folders)
    if numbered and stated != classes:
        notes.append("the sub-folders are called by numbers, which are taken for the numbers of their classes")
    classes = stated if numbered else classes
    labels = tuple(classes.get(parent, -1) for parent in parents)
    return labels, tuple(map(readable, parents)), tuple(notes), numbered
