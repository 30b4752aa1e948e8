"""Several pages -> one: the maps of several layers or classes, with all that their pages hold."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from featviz.errors import UserError

from .book import PER_SHEET, Book

_MANIFEST = re.compile(r'<script type="application/json" id="manifest">(.*?)</script>', re.DOTALL)
_BLOCK = re.compile(r'<script type="application/x-block" data-name="([^"]*)">(.*?)</script>', re.DOTALL)


def read_book(page: Path) -> Book:
    """What an explorer's page holds; a `UserError` for a file that is none."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    found = _MANIFEST.search(text)
    if found is None:
        raise UserError(
            f"{str(page)!r} is no page of the explorer: `atlas build` and `atlas compare` write such pages."
        )
    return Book(json.loads(found[1]), {unescape(name): block for name, block in _BLOCK.findall(text)})


def join_books(books: Sequence[Book], *, title: str) -> Book:
    """All maps of the books in one, in their order; each keeps its own facts under its map's name.

    Raises `UserError` where the books are of networks with different classes.
    """
    classes = max((book.manifest["classes"] for book in books), key=len)
    if any(book.manifest["classes"] not in ([], classes) for book in books):
        raise UserError("these pages are of networks with different classes: they cannot share one search.")
    maps: list[dict[str, Any]] = []
    blocks: dict[str, str] = {}
    images: list[str] = []
    facts: dict[str, str] = {}
    sheets = 0
    for book in books:
        own = book.manifest
        for name, block in book.blocks.items():
            first, _, rest = name.partition("/")
            blocks[f"thumbs/{int(rest) + sheets}" if first == "thumbs" else f"{int(first) + len(maps)}/{rest}"] = block
        for each in own["maps"]:
            levels = [_moved(level, sheets * PER_SHEET, len(images)) for level in each["levels"]]
            maps.append({**each, "levels": levels})
        facts |= {f"{own['maps'][0]['name']}: {name}": value for name, value in own["facts"].items()}
        images += own["images"]
        sheets += -(-own["thumb_count"] // PER_SHEET)
    first_manifest = books[0].manifest
    manifest = {
        **first_manifest,
        "title": title,
        "facts": facts,
        "notes": [note for book in books for note in book.manifest["notes"]],
        "links": [],
        "start": "",
        "classes": classes,
        "images": images,
        "thumb_count": sheets * PER_SHEET,
        "maps": maps,
    }
    return Book(manifest, blocks)


def _moved(level: dict[str, Any], thumbs: int, images: int) -> dict[str, Any]:
    """A level whose photographs are so much further on."""
    if "seen" not in level:
        return level
    seen = [[[thumb + thumbs, box, name + images] for thumb, box, name in cell] for cell in level["seen"]]
    return {**level, "seen": seen}
