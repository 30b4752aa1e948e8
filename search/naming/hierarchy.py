"""A taxonomy: nodes with names and what lies above each of them, and which node a class is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from featviz.errors import UserError, unknown

from ..images.classes import WORDNET_FILE
from ..images.image_set import class_number, readable
from ..images.tables import Row, read_table

WORDNET = "wordnet"
_WANTED = (
    "a UTF-8 text with commas and the columns name and parents (names, with ; between them), or also id, which "
    "parents then gives with spaces between them; class_index is optional"
)
# WordNet's nodes that say nothing to a reader, or less than the plainer word right beside them does.
_WORDNET_SILENT = frozenset(
    ("entity", "physical entity", "abstraction", "object", "whole", "living thing", "organism", "chordate", "placental",
     "diapsid", "causal agent", "unit")
)  # fmt: skip
# Of the nodes' names, the share of a data set's classes that have to agree before they are taken for ImageNet's.
_AGREE = 0.9


@dataclass(frozen=True)
class Hierarchy:
    """Nodes: `names`; `parents`: of each node, others; `classes`: class index -> node; `source`: where it is from.

    `silent`: nodes that are never given as a name, though what lies below them is.
    """

    source: str
    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    classes: Mapping[int, int]
    silent: frozenset[int] = frozenset()

    @classmethod
    def wordnet(cls) -> Hierarchy:
        """WordNet 3.0's hypernyms of the thousand classes of ImageNet: 1,860 nodes."""
        found = cls.read(WORDNET_FILE)
        silent = frozenset(node for node, name in enumerate(found.names) if name in _WORDNET_SILENT)
        return cls(WORDNET, found.names, found.parents, found.classes, silent)

    @classmethod
    def read(cls, file: str | Path) -> Hierarchy:
        """The hierarchy of a CSV file with the columns `name` and `parents`, and `id` and `class_index` if it likes.

        Raises `UserError` for a file that is no such table, for a parent that is no node, for one node with two names,
        and for a circle.
        """
        file = Path(file)
        columns, rows = read_table(file, _WANTED)
        key = next((column for column in ("id", "synset") if column in columns), "name")
        if not {"name", "parents"} <= set(columns) or not rows:
            raise UserError(f"{file} should be {_WANTED}; it has {[readable(str(column)) for column in columns[:9]]}.")
        by_key = _by_key(rows, key, file)
        numbers = {name: number for number, name in enumerate(by_key)}
        parents = tuple(_parents(row, key, numbers, file) for row in by_key.values())
        labels = [class_number(row.get("class_index") or "") for row in by_key.values()]
        classes = {label: node for node, label in enumerate(labels) if label >= 0}
        found = cls(file.name, tuple(readable(row["name"].strip()) for row in by_key.values()), parents, classes)
        _ = found.lines  # a circle is found now
        return found

    @cached_property
    def lines(self) -> tuple[frozenset[int], ...]:
        """Of each node: itself and all that lies above it; raises `UserError` for a circle."""
        try:
            order = list(TopologicalSorter(dict(enumerate(self.parents))).static_order())
        except CycleError as error:
            circle = " -> ".join(self.names[node] for node in error.args[1])
            raise UserError(f"the hierarchy {self.source} goes in a circle: {circle}.") from error
        lines: dict[int, frozenset[int]] = {}
        for node in order:
            lines[node] = frozenset((node,)).union(*(lines[parent] for parent in self.parents[node]))
        return tuple(lines[node] for node in range(len(self.names)))

    def node(self, label: int, name: str) -> int | None:
        """The node of a class; None where it is none.

        By its name; where nodes have classes' numbers and no node of a class has the name, by its number (-1: none is
        stated).
        """
        if not self.classes:
            return self._by_name.get(name)
        stated, plain = self.classes.get(label), _plain(name)
        if stated is not None and self.names[stated] == plain:
            return stated
        nodes = self._by_class_name.get(plain, ())
        return nodes[0] if len(nodes) == 1 else stated

    @cached_property
    def _by_class_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for node in self.classes.values():
            found.setdefault(self.names[node], []).append(node)
        return found

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: node for node, name in enumerate(self.names)}


def open_hierarchy(wanted: str | Path | Hierarchy | None, names: Mapping[int, str]) -> Hierarchy | None:
    """The hierarchy of a word: `wordnet`, `none`, a CSV file, or `auto`: WordNet's for the classes of ImageNet.

    names: class index -> name of the classes that it is to be about. Raises `UserError` for a file that does not exist
    and for a hierarchy that knows none of the classes.
    """
    if isinstance(wanted, Hierarchy):
        found = wanted
    elif wanted is None or wanted == "none":
        return None
    elif wanted == "auto":
        found = Hierarchy.wordnet()
        return found if _is_of(found, names) else None
    elif wanted == WORDNET:
        found = Hierarchy.wordnet()
    elif Path(wanted).is_file():
        found = Hierarchy.read(wanted)
    else:
        raise unknown("hierarchy", str(wanted), ["auto", "none", WORDNET], "It may also be a CSV file.")
    if names and all(found.node(label, name) is None for label, name in names.items()):
        some = ", ".join(f"{label} ({name})" for label, name in list(names.items())[:3])
        raise UserError(f"the hierarchy {found.source} knows none of the classes, such as {some}.")
    return found


def _is_of(found: Hierarchy, names: Mapping[int, str]) -> bool:
    """Whether classes are ImageNet's: by their names, since other data sets have a class 3, too."""
    nodes = [(found.node(label, name), _plain(name)) for label, name in names.items()]
    agreeing = sum(node is not None and found.names[node] == name for node, name in nodes)
    return bool(names) and agreeing >= _AGREE * len(names)


def _plain(name: str) -> str:
    """A class's name without its synonyms and what stands in brackets behind it."""
    return name.partition(",")[0].partition(" (")[0]


def _by_key(rows: Sequence[Row], key: str, file: Path) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        own, name = (row.get(key) or "").strip(), (row.get("name") or "").strip()
        if not own or not name:
            raise UserError(f"{file} has a node without {'a name' if own else f'its {key}'}.")
        if own in found and dict(found[own]) != dict(row):
            names = sorted({readable(found[own]["name"]), readable(row["name"])})
            told = f"two names, {names[0]!r} and {names[1]!r}" if len(names) > 1 else "two lines that differ"
            raise UserError(f"{file} gives the node {readable(own)!r} {told}.")
        found[own] = row
    return found


def _parents(row: Row, key: str, numbers: Mapping[str, int], file: Path) -> tuple[int, ...]:
    text = row.get("parents") or ""
    given = [part.strip() for part in text.split(";")] if key == "name" else text.split()
    missing = [part for part in given if part and part not in numbers]
    if missing:
        own = readable(row["name"])
        raise unknown(f"node for the parent of {own!r} in {file}:", readable(missing[0]), list(numbers))
    return tuple(numbers[part] for part in given if part)
