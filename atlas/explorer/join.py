"""Several pages -> one: the maps and reports of several folders, with all that their pages hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featviz.errors import UserError

from .blocks import PER_SHEET
from .book import FORMAT, Book


def join_books(books: Sequence[Book], *, title: str) -> Book:
    """All maps and reports of the books in one, in their order; each keeps its own facts under its map's name.

    Raises `UserError` where the books are of networks with different classes.
    """
    for book in books:
        if book.manifest["format"] > FORMAT:
            raise UserError(f"{book.manifest['title']!r} was made by a later version: its page cannot be joined here.")
    classes = max((book.manifest["classes"] for book in books), key=len)
    if any(book.manifest["classes"] not in ([], classes) for book in books):
        raise UserError("these pages are of networks with different classes: they cannot share one search.")
    joined = Book({**books[0].manifest, "title": title, "facts": {}, "links": [], "start": "", "classes": classes})
    for name in ("notes", "reports", "images", "maps"):
        joined.manifest[name] = []
    joined.manifest["thumb_count"] = 0
    for book in books:
        _add(joined, book)
    return joined


def _add(joined: Book, book: Book) -> None:
    """Put a book's maps, reports and blocks behind those that are there, under names that are free."""
    whole, own = joined.manifest, book.manifest
    moved = {"maps": len(whole["maps"]), "report": len(whole["reports"]), "thumbs": whole["thumb_count"] // PER_SHEET}
    for name, block in book.blocks.items():
        first, _, rest = name.partition("/")
        number, _, rest = rest.partition("/") if first in moved else (first, "", rest)
        shifted = str(int(number) + moved[first if first in moved else "maps"])
        parts = [first, shifted, rest] if first in moved else [shifted, rest]
        joined.blocks["/".join(part for part in parts if part)] = block
    thumbs, images = whole["thumb_count"], len(whole["images"])
    taken = {each["name"] for each in whole["maps"]}
    maps = [_moved_map(each, moved["maps"], thumbs, images) for each in own["maps"]]
    for each in maps:
        each["name"] = _free(each["name"], own["facts"].get("model", own["title"]), taken)
    name = _free(maps[0]["name"] if maps else own["title"], "", {fact.partition(": ")[0] for fact in whole["facts"]})
    whole["maps"] += maps
    whole["facts"] |= {f"{name}: {fact}": value for fact, value in own["facts"].items()}
    whole["notes"] += own.get("notes", [])
    whole["reports"] += own.get("reports", [])
    whole["images"] += own["images"]
    # Rounded up to whole sheets, since a picture's sheet follows from its number.
    whole["thumb_count"] += -(-own["thumb_count"] // PER_SHEET) * PER_SHEET


def _free(name: str, model: str, taken: set[str]) -> str:
    """A name that no other map has: with the model's where it is taken, else with a number."""
    choices = [name, *([f"{name} ({model})"] if model else []), *(f"{name} ({number})" for number in range(2, 1000))]
    return next(choice for choice in choices if choice not in taken)


def _moved_map(own: dict[str, Any], maps: int, thumbs: int, images: int) -> dict[str, Any]:
    """A map whose neighbours, photographs and names are so much further on."""

    def moved(seen: list[Any]) -> list[Any]:
        return [[thumb + thumbs, box, name + images] for thumb, box, name in seen]

    def level(about: dict[str, Any]) -> dict[str, Any]:
        flow = {str(int(other) + maps): to for other, to in about.get("flow", {}).items()}
        return {**about, "flow": flow, **({"seen": list(map(moved, about["seen"]))} if "seen" in about else {})}

    cards = [{**card, "seen": moved(card["seen"])} for card in own.get("cards", [])]
    return {**own, "levels": list(map(level, own["levels"])), "cards": cards}
