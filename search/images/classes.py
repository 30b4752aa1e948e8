"""Classes by name: which of a network's classes an image is labelled with, however its source counts them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from featviz.errors import UserError, closest

from .image_set import Images, readable
from .tables import read_table

WORDNET_FILE = Path(__file__).parents[1] / "data" / "wordnet-imagenet.csv"
# Names that a sentence gives before it counts the rest.
_NAMED = 3


@dataclass(frozen=True)
class ClassMap:
    """Of each image the network's class, -1 where none is known.

    `unmatched`: names of classes that are none of the network's; `notes`: what a reader should know of how it was done.
    """

    labels: tuple[int, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]


def class_map(images: Images, classes: Sequence[str]) -> ClassMap:
    """Map the images' classes to a network's, `classes` by their numbers ('' or none: it names none).

    By name where both have names: in any case, `_` for a space, any of the synonyms of a label with commas, WordNet's
    number of a class of ImageNet. By number where the source states numbers and no name contradicts them: the places of
    sub-folders in the alphabet are none.
    """
    pairs = dict.fromkeys(zip(images.labels, images.class_names, strict=True))
    if not any(name for name in classes):
        return _by_number(images, pairs)
    names = Names(classes)
    found = {pair: names.find(pair[1], pair[0] if images.numbered else -1) for pair in pairs if pair[0] >= 0}
    matched = [pair for pair, label in found.items() if label >= 0]
    moved = [pair for pair in matched if images.numbered and found[pair] != pair[0]]
    called = [pair for pair in found if _is_name(pair[1])]
    # Where most names are the network's at the same numbers, the others are other names of the same classes.
    trusted = not moved and 2 * len(matched) >= len(called)

    def number(pair: tuple[int, str]) -> int:
        stated = images.numbered and (trusted or not _is_name(pair[1])) and pair[0] < len(classes)
        return pair[0] if stated else -1

    whole = {pair: label if label >= 0 else number(pair) for pair, label in found.items()}
    labels = tuple(whole.get(pair, -1) for pair in zip(images.labels, images.class_names, strict=True))
    lost = [pair for pair in called if whole[pair] < 0]
    return ClassMap(labels, tuple(dict.fromkeys(name for _, name in lost)), tuple(_notes(moved, lost, whole, classes)))


def network_images(images: Images, classes: Sequence[str], network: str) -> Images:
    """The same images with the network's classes for labels.

    Raises `UserError` where images have classes and none of them can be told to be one of the network's.
    """
    found = class_map(images, classes)
    if max(found.labels, default=-1) < 0 <= max(images.labels, default=-1):
        raise UserError(unmatched_told(images, found, classes, network))
    if found.labels == images.labels and not found.notes:
        return images
    return replace(images, labels=found.labels, notes=(*images.notes, *found.notes), numbered=True)


def unmatched_told(images: Images, found: ClassMap, classes: Sequence[str], network: str) -> str:
    """Why none of the images' classes is one of the network's, in words."""
    if not any(name for name in classes):
        return (
            f"{network} names no classes, and {images.source!r} numbers none of its own: state the numbers in a "
            "labels.csv (file,class_index), or the names with the network (labels=)."
        )
    if not found.unmatched:
        return f"{images.source!r} has classes by numbers that {network} does not have: it has 0 to {len(classes) - 1}."
    some = ", ".join(map(repr, found.unmatched[:_NAMED])) + ", ..." * (len(found.unmatched) > _NAMED)
    near = ", ".join(map(repr, closest(found.unmatched[0], classes)))
    return (
        f"of the classes of {images.source!r} none is one of {network} by name: {some}; the closest to "
        f"{found.unmatched[0]!r} are {near}. Call them as the network does, or state the network's numbers in a "
        "labels.csv (file,class_index) without names."
    )


class Names:
    """A network's classes by name."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._whole, self._synonyms = dict[str, list[int]](), dict[str, list[int]]()
        for number, label in enumerate(classes):
            whole, parts = plain(label), [plain(part) for part in label.split(",")]
            for key in dict.fromkeys((whole, parts[0])):
                self._whole.setdefault(key, []).append(number)
            for key in dict.fromkeys(parts[1:]):
                self._synonyms.setdefault(key, []).append(number)

    def find(self, name: str, stated: int = -1) -> int:
        """The number of the class that a name is of; -1 for none, and for several of which none is the `stated` one."""
        for key in _keys(name):
            for known in (self._whole, self._synonyms):
                numbers = known.get(key, ())
                if stated in numbers:
                    return stated
                if len(numbers) == 1:
                    return numbers[0]
        return -1


def plain(name: str) -> str:
    """A name as names are compared: in small letters, `_` for a space."""
    return " ".join(name.replace("_", " ").casefold().split())


def _keys(name: str) -> list[str]:
    """What a name may be in a list of classes: itself, its first synonym, the name of WordNet's number."""
    keys = [plain(name), plain(name.partition(",")[0])]
    match = re.match(r"\s*(n\d{8})(?!\d)", name)
    if match:  # also n01440764-tench
        keys += [plain(_wordnet().get(match[1], "")), plain(name[match.end() :].strip(" -_"))]
    return [key for key in dict.fromkeys(keys) if key]


@cache
def _wordnet() -> Mapping[str, str]:
    """WordNet's number of each class of ImageNet -> its name."""
    _, rows = read_table(WORDNET_FILE, "")
    return {row["synset"]: row["name"] for row in rows if row.get("class_index")}


def _is_name(name: str) -> bool:
    """Whether a name says more than a number does."""
    return bool(name.strip()) and not name.strip().isdecimal()


def _by_number(images: Images, pairs: Mapping[tuple[int, str], None]) -> ClassMap:
    if images.numbered:
        return ClassMap(images.labels, (), ())
    names = tuple(dict.fromkeys(name for label, name in pairs if label >= 0))
    return ClassMap((-1,) * len(images), names, ())


def _notes(
    moved: Sequence[tuple[int, str]],
    lost: Sequence[tuple[int, str]],
    found: Mapping[tuple[int, str], int],
    classes: Sequence[str],
) -> list[str]:
    notes = []
    if moved:
        label, name = moved[0]
        theirs = classes[label] if label < len(classes) else "no class"
        notes.append(
            f"{len(moved)} class(es) are numbered otherwise than the network's, and their names count: {label}, "
            f"{readable(name)!r}, is the network's {found[moved[0]]} (its {label} is {theirs!r})"
        )
    if lost:
        some = ", ".join(repr(readable(name)) for _, name in lost[:_NAMED]) + ", ..." * (len(lost) > _NAMED)
        near = closest(lost[0][1], classes, 1)[0]
        notes.append(
            f"{len(lost)} class(es) are none of the network's by name, and count for none: {some} (the closest to the "
            f"first is {near!r})"
        )
    return notes
