"""Pages opened in a real browser, without a network."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from painted import Photos
from PIL import Image

from atlas.explorer import Leaf, make_book, viewer_page
from atlas.result import Atlas


class Opened:
    """A page, and all that it asked for or complained of."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(offline=True, **{"viewport": {"width": 1200, "height": 800}, **options})
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is drawn any more."""
        script = """() => new Promise(done => {
            const root = document.querySelector('.aa');
            let last = null, still = 0, looks = 0;
            const look = () => {
                const now = root?.dataset.drawn + root?.textContent.length + location.hash;
                still = now === last && root?.dataset.drawn ? still + 1 : 0;
                last = now;
                still >= 12 || looks++ > 400 ? done() : setTimeout(look, 25);
            };
            look();
        })"""
        self.page.evaluate(script)

    def do(self, *steps: Callable[[Any], Any]) -> None:
        for step in steps:
            step(self.page)
            self.settle()

    def pixels(self) -> np.ndarray:
        """The map's canvas in its own pixels."""
        with Image.open(io.BytesIO(self.page.locator(".aa-map").screenshot())) as picture:
            return np.asarray(picture.convert("RGB")).astype(int)

    def place(self, level: int, row: int, col: int) -> tuple[float, float]:
        """The middle of a cell in the canvas, in CSS pixels, with all of the map in view."""
        box = self.page.locator(".aa-map").bounding_box()
        side = 0.94 * min(box["width"], box["height"])
        left, top = (box["width"] - side) / 2, (box["height"] - side) / 2
        return left + (col + 0.5) / level * side, top + (row + 0.5) / level * side

    def click(self, level: int, row: int, col: int) -> None:
        x, y = self.place(level, row, col)
        self.page.locator(".aa-map").click(position={"x": x, "y": y})
        self.settle()

    @property
    def panel(self) -> str:
        return str(self.page.locator(".aa-panel").inner_text())

    @property
    def address(self) -> str:
        return str(self.page.evaluate("location.href"))


def write_page(folder: Path, *atlases: Atlas, **about: Any) -> str:
    """Write index.html of atlases into a folder; returns its address."""
    leaves = [
        Leaf(each.settings.layer, each, photographs=Photos(each.sample, each.names))  # type: ignore[arg-type]
        for each in atlases
    ]
    book = make_book(
        leaves, title=about.get("title", "Painted"), facts={"model": "painted"}, notes=about.get("notes", ())
    )
    (folder / "index.html").write_text(viewer_page(book), encoding="utf-8")
    return (folder / "index.html").as_uri()
