"""Names of an atlas's cells and regions -> the page's map, new or already written."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from search.naming.naming import Name

if TYPE_CHECKING:
    from ..result import Atlas


def add_names(shown: dict[str, Any], atlas: Atlas) -> None:
    """Put the names of an atlas's cells and regions into the page's map that shows it, in place of earlier ones.

    shown: a map as `make_book` makes it; its cells keep their order.
    """
    named = {cell.key: cell.name for cell in atlas.cells}
    for level in shown["levels"]:
        rows, columns = (np.frombuffer(base64.b64decode(level[key]), "<u2").tolist() for key in ("row", "col"))
        keys = [f"{level['grid']}/{row}/{column}" for row, column in zip(rows, columns, strict=True)]
        level["names"] = [_told(named.get(key)) for key in keys]
    shown["labels"] = "names"
    shown["regions"] = [{**asdict(region), "name": _told(region.name)} for region in atlas.regions]
    about = atlas.manifest.get("names") or {}
    shown["above"] = about.get("above", {})


def _told(name: Name | None) -> dict[str, Any] | None:
    if name is None:
        return None
    told = asdict(name)
    return told | {key: round(told[key], 4) for key in ("auroc", "low", "high", "share")}
