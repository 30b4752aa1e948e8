"""Class names from a file: text, JSON or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

_NAMES = ("name", "class_name", "label", "class", "category")
_NUMBERS = ("class_index", "index", "id", "number", "class_id", "label_id", "idx")
# What is called so may be either.
_EITHER = ("label", "class")


def read_labels(file: str | Path) -> tuple[str, ...]:
    """Class names in the order of the network's outputs.

    `file`: one name a line; .json with a list, with {"0": name}, {"0": [WordNet's number, name]} or {name: 0}; or .csv
    with a column called name (or label, class, category), in order of the column class_index (or index, id, class_id)
    where there is one. Beside another column with names, one called label or class is such a one where it has numbers
    alone.

    Raises `UserError` for a file that cannot be read so, with a gap, without a name or with two for one class.
    """
    file = Path(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"no file of labels {str(file)!r}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"labels come as a UTF-8 text; {file} cannot be read as one.") from error
    if file.suffix.lower() == ".json":
        names = _of_json(file, text)
    elif file.suffix.lower() == ".csv":
        names = _of_csv(file, text)
    else:
        names = [line.strip() for line in text.rstrip().splitlines()]
    if not names:
        raise UserError(f"{file} names no class.")
    if empty := [number for number, name in enumerate(names) if not name]:
        raise UserError(f"{file} has no name for class {empty[0]}: classes are counted from 0, one name a line.")
    return tuple(names)


def _of_json(file: Path, text: str) -> list[str]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}.") from error
    if isinstance(content, Mapping) and isinstance(content.get("id2label"), Mapping):
        content = content["id2label"]
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [name.strip() for name in content]
    if isinstance(content, Mapping):
        return in_order(content, str(file))
    raise UserError(f'{file} has to hold a list of names, or {{"0": name, ...}}.')


def in_order(names: Mapping[Any, Any], where: str) -> list[str]:
    """Names by their numbers, given as {number: name} or {name: number}; a `UserError` where a number lacks a name."""
    pairs = list(names.items())
    if pairs and all(_is_number(value) for _, value in pairs) and not all(_is_number(key) for key, _ in pairs):
        pairs = [(value, key) for key, value in pairs]
    if not all(_is_number(key) for key, _ in pairs):
        raise UserError(f"{where} has to give each class a number from 0 on.")
    return _numbered([(int(key), _text(value, where)) for key, value in pairs], where)


def _text(given: Any, where: str) -> str:
    """A class's name; the second of two texts, as Keras has [WordNet's number, name]."""
    if isinstance(given, (list, tuple)) and len(given) == 2 and all(isinstance(each, str) for each in given):
        given = given[1]
    if isinstance(given, str) or _is_number(given):
        return str(given).strip()
    raise UserError(f"{where} has {given!r} for the name of a class, and a name is a text.")


def _numbered(pairs: Sequence[tuple[int, str]], where: str) -> list[str]:
    known = dict(sorted(pairs))
    if twice := next(((number, name) for number, name in pairs if known[number] != name), None):
        number, name = twice
        raise UserError(f"{where} gives class {number} two names, {name!r} and {known[number]!r}: it takes one.")
    if gap := next((number for number in range(len(known)) if number not in known), None):
        raise UserError(f"{where} has no name for class {gap}: classes are counted from 0.")
    if known and 0 not in known:
        raise UserError(f"{where} has no name for class 0: classes are counted from 0.")
    return list(known.values())


def _of_csv(file: Path, text: str) -> list[str]:
    columns = _columns(file, text)
    named = [each for each in _NAMES if each in columns]
    if not named:
        raise UserError(f"{file} needs a column called name; it has {', '.join(columns) or 'no rows'}.")
    name = next((each for each in named if not all(map(_is_number, columns[each]))), named[0])
    number = next((each for each in _NUMBERS if each in columns), None)
    if number is not None and not all(map(_is_number, columns[number])):
        raise UserError(f"{file} needs a number in each row of the column {number}.")
    either = [each for each in _EITHER if each in columns and each != name and all(map(_is_number, columns[each]))]
    if number is None and either:
        number = either[0]
    if number is None:
        return columns[name]
    return _numbered(list(zip(map(int, columns[number]), columns[name], strict=True)), str(file))


def _columns(file: Path, text: str) -> dict[str, list[str]]:
    """The columns of a table by their headings in small letters; none of a table without rows."""
    reader = csv.DictReader(text.splitlines(), restval="", skipinitialspace=True)
    rows = list(reader)
    for row in rows:
        if any(field.strip() for field in row.pop(None, ())):
            raise UserError(
                f"{file} has more fields than columns in the row {', '.join(row.values())}, ...: put double quotes "
                "around a name with commas."
            )
    headings = reader.fieldnames or () if rows else ()
    return {heading.strip().lower(): [row[heading].strip() for row in rows] for heading in headings}


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.strip().isdecimal()
    )
