"""Class names from a file: text, JSON or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError

_NAMES = ("name", "class_name", "label", "class", "category")
_NUMBERS = ("class_index", "index", "id", "number")


def read_labels(file: str | Path) -> tuple[str, ...]:
    """Class names in the order of the network's outputs.

    `file`: one name a line; .json with a list, with {"0": name} or {name: 0}; or .csv with a column called name (or
    label, class, category), in order of the column class_index (or index, id) where there is one.

    Raises `UserError` for a file that cannot be read so, with a gap or without a name.
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
    return _numbered(((int(key), str(value).strip()) for key, value in pairs), where)


def _numbered(pairs: Iterable[tuple[int, str]], where: str) -> list[str]:
    known = dict(sorted(pairs))
    if gap := next((number for number in range(len(known)) if number not in known), None):
        raise UserError(f"{where} has no name for class {gap}: classes are counted from 0.")
    if known and 0 not in known:
        raise UserError(f"{where} has no name for class 0: classes are counted from 0.")
    return list(known.values())


def _of_csv(file: Path, text: str) -> list[str]:
    rows = list(csv.DictReader(text.splitlines()))
    columns = list(rows[0]) if rows else []
    by_name = {str(column).strip().lower(): column for column in columns}
    name = next((by_name[each] for each in _NAMES if each in by_name), None)
    if name is None:
        raise UserError(f"{file} needs a column called name; it has {', '.join(map(str, columns)) or 'no rows'}.")
    number = next((by_name[each] for each in _NUMBERS if each in by_name), None)
    if number is None:
        return [(row[name] or "").strip() for row in rows]
    if not all(_is_number(row[number]) for row in rows):
        raise UserError(f"{file} needs a number in each row of the column {number}.")
    return _numbered(((int(row[number]), (row[name] or "").strip()) for row in rows), str(file))


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.strip().isdigit()
    )
