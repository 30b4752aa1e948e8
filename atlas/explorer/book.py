"""Atlases and reports -> what a page of the explorer holds: a manifest, and inert blocks of arrays and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from ..channels import named_channels
from .blocks import picture, sheets
from .cards import channel_cards
from .flow import flows
from .html import cell_text, told
from .leaf import Leaf, level_of
from .names import add_names
from .thumbs import THUMB, Thumbs

# The page's format; a viewer says so when a page is of a later one.
FORMAT = 1
_FIGURE_QUALITY = 88


@dataclass(frozen=True)
class Report:
    """What a test or a study found: `lines` in words, `figures`: heading -> PNG, `table`: rows of the same fields."""

    title: str
    lines: Sequence[str]
    figures: Mapping[str, bytes] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()


@dataclass
class Book:
    """What a page holds: `manifest`, and `blocks`: name -> base64 text."""

    manifest: dict[str, Any]
    blocks: dict[str, str] = field(default_factory=dict)


def make_book(
    leaves: Sequence[Leaf],
    *,
    title: str,
    facts: Mapping[str, Any],
    notes: Sequence[str] = (),
    reports: Sequence[Report] = (),
    links: Mapping[str, str] | None = None,
    start: str = "",
) -> Book:
    """The maps' cells, icons, effects on all classes, channels and nearest photographs, as far as a page can hold them.

    facts, notes: how it was made and what was found, in words. links: what lies beside the page, text -> file. start:
    the state that the page opens in, as its address would say it.
    """
    thumbs, blocks, classes = Thumbs(), dict[str, str](), tuple[str, ...]()
    for leaf in leaves:
        classes = max(classes, leaf.class_names, key=len)
    maps = [_map(leaves, number, classes, thumbs, blocks) for number in range(len(leaves))]
    # All cells' photographs come before those of cards, should the page not hold all.
    for number, leaf in enumerate(leaves):
        maps[number]["cards"] = channel_cards(str(number), leaf, maps[number].pop("columns"), thumbs, blocks)
    blocks.update(sheets(thumbs.pictures, "thumbs", columns=10))
    manifest = {
        "format": FORMAT,
        "title": title,
        "facts": {name: text for name, value in facts.items() if (text := told(value))},
        "notes": list(notes),
        "reports": [_report(number, each, blocks) for number, each in enumerate(reports)],
        "links": list((links or {}).items()),
        "start": start,
        "classes": list(classes),
        "images": thumbs.names,
        "thumb_side": THUMB,
        "thumb_count": len(thumbs.pictures),
        "maps": maps,
    }
    return Book(manifest, blocks)


def _map(
    leaves: Sequence[Leaf], number: int, classes: tuple[str, ...], thumbs: Thumbs, blocks: dict[str, str]
) -> dict[str, Any]:
    leaf = leaves[number]
    columns = named_channels(leaf.atlas.cells, leaf.atlas.sample.vectors)
    levels = []
    for place, level in enumerate(sorted(leaf.atlas.levels)):
        about = level_of(f"{number}/{place}", leaf, level, columns, thumbs, blocks)
        levels.append({**about, "flow": flows(leaves, number, level)})
    shown: dict[str, Any] = {
        "name": leaf.name,
        "layer": leaf.atlas.settings.layer,
        # Of which network: channels of the same name are the same ones.
        "model": leaf.atlas.manifest.get("model", ""),
        # Where they are not the page's: the search is for the page's classes alone.
        "names": None if leaf.class_names in ((), classes) else list(leaf.class_names),
        "ends": leaf.ends,
        "levels": levels,
        "columns": columns,
        "speaking": _speaking(leaf),
    }
    add_names(shown, leaf.atlas)
    shown["labels"] = leaf.labels
    return shown


def _speaking(leaf: Leaf) -> dict[str, Any] | None:
    """How far the classes that cells change most can be trusted; None without effects."""
    found = leaf.atlas.speaking
    return None if found is None else {**asdict(found), "worth": found.worth_saying, "told": found.told}


def _report(number: int, report: Report, blocks: dict[str, str]) -> dict[str, Any]:
    for place, png in enumerate(report.figures.values()):
        with Image.open(BytesIO(png)) as figure:
            blocks[f"report/{number}/{place}"] = picture(figure.convert("RGB"), quality=_FIGURE_QUALITY)
    table = [{key: cell_text(value) for key, value in row.items()} for row in report.table]
    return {"title": report.title, "lines": list(report.lines), "figures": list(report.figures), "table": table}
