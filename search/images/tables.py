"""A CSV file from anybody -> its columns and rows, or an error that says what it should be."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from featviz.errors import UserError

# A line of a table is shorter than this; a file without line ends is none.
_LONGEST = 2**20
Row = Mapping[str, str]


def read_table(table: Path, wanted: str) -> tuple[list[str], list[Row]]:
    """The columns and rows of a CSV file; raises `UserError` for a file that is none.

    wanted: what the table should be, in words.
    """
    if not table.is_file():
        raise UserError(f"{table} is no file; it should be {wanted}, or not be there.")
    try:
        # As names of files have them: bytes that are not UTF-8 may be so in both.
        with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
            reader = csv.DictReader(_lines(stream, table, wanted))
            return list(reader.fieldnames or []), list(reader)
    except OSError as error:
        raise UserError(f"{table} cannot be read: {error.strerror}.") from error
    except csv.Error as error:
        raise UserError(f"{table} cannot be read as a table: {error}; it should be {wanted}.") from error


def _lines(stream: TextIO, table: Path, wanted: str) -> Iterator[str]:
    while line := stream.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise UserError(f"{table} cannot be read as a table: it has a line of {_LONGEST:,} signs or more.")
        if "\0" in line:
            raise UserError(f"{table} holds NUL bytes, as UTF-16 text does; it should be {wanted}.")
        yield line
