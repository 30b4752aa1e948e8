"""Names of cells and regions on the page, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Opened, write_page
from painted import color, painted_atlas

from atlas.regions import Region
from atlas.result import Atlas
from search.naming.naming import Name

# Records every text that is written on the map, with its box, from one drawing to the next.
_RECORD = """() => {
    const pen = CanvasRenderingContext2D.prototype, fill = pen.fillText;
    window.written = [];
    pen.fillText = function (text, x, y) {
        const size = Number(/(\\d+)px/.exec(this.font)[1]);
        window.written.push({ text, x, y: y - size, width: this.measureText(text).width, height: size });
        fill.call(this, text, x, y);
    };
}"""


def _name(text: str, low: float = 0.8) -> Name:
    return Name(text, 0.9, low, 0.97, 0.00002, 12, 0.7, "labels")


def _named() -> Atlas:
    """Left half dogs, of which the first column are terriers; right half cars, nothing in the last two columns."""
    made = painted_atlas((4, 8))
    kinds = {0: "terrier", 1: "dog", 2: "dog", 3: "dog", 4: "car", 5: "car"}
    cells = tuple(
        replace(cell, name=_name(kinds[cell.col * 8 // cell.level]) if cell.col * 8 // cell.level in kinds else None)
        for cell in made.cells
    )
    left = tuple((row, col) for row in range(8) for col in range(4) if row != col)
    regions = tuple(Region(level, 8, left, (0.25, 0.5), 0.5, 0.9, _name("dog")) for level in range(3))
    about = {
        "by": "labels",
        "chosen_on": 40,
        "checked_on": 60,
        "above": {"terrier": ["dog", "animal"], "dog": ["animal"]},
    }
    return replace(made, cells=cells, regions=regions, manifest={**made.manifest, "names": about})


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("page"), _named())


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    found = Opened(browser, address)
    yield found
    assert not found.complaints
    found.context.close()


def test_the_panel_says_what_a_cell_is_called_and_what_bears_it_out(opened: Opened) -> None:
    opened.click(8, 5, 4)
    assert "car\n" in opened.panel
    for told in ("in 90 % of pairs", "80 % to 97 %", "p < 0.001", "ten that excite it most, 7 are", "12 photographs"):
        assert told in opened.panel
    opened.click(8, 5, 7)
    assert "no name holds here" in opened.panel


def test_a_word_finds_the_cells_called_so_and_all_that_lies_below_it(
    browser: Any, opened: Opened, address: str
) -> None:
    box = opened.page.get_by_role("combobox", name="show the map through a name or a class")
    opened.do(lambda page: page.get_by_label("labels").uncheck(), lambda page: box.fill("ani"))
    opened.do(lambda page: page.keyboard.press("Enter"))
    assert "name=animal" in opened.address
    again = Opened(browser, opened.address)
    for found in (opened, again):
        pixels = found.pixels()
        for row, col, inside in ((5, 0, True), (5, 3, True), (5, 4, False), (5, 7, False)):
            x, y = found.place(8, row, col)
            near = np.abs(pixels[round(y), round(x)] - color(8, row, col)).max() <= 12
            assert near == inside, (row, col)
    again.context.close()
    assert "28 of 56 cells are called animal" in opened.page.locator(".aa-live").inner_text()
    opened.do(lambda page: page.get_by_role("button", name="show the whole map").click())
    assert "name=" not in opened.address


@pytest.mark.parametrize("zoom", [1, 3])
def test_no_name_lies_over_another_and_what_stands_over_a_region_does_not_stand_in_its_cells(
    opened: Opened, zoom: int
) -> None:
    opened.page.evaluate(_RECORD)
    for _ in range(zoom - 1):
        opened.do(lambda page: page.get_by_role("button", name="nearer").click())
    opened.page.evaluate("window.written = []")
    opened.do(lambda page: page.get_by_label("equal size").click())
    written = opened.page.evaluate("window.written")
    frames = opened.page.evaluate("window.written.filter(({ text }) => text === 'dog').length")
    assert frames >= 1
    last = written[len(written) - len(written) // frames :] if frames > 1 else written
    texts = [each["text"] for each in last]
    assert texts.count("dog") == 1
    assert "car" in texts
    assert zoom > 1 or "terrier" in texts
    for number, one in enumerate(last):
        for other in last[:number]:
            apart = (
                one["x"] >= other["x"] + other["width"] or other["x"] >= one["x"] + one["width"]
                or one["y"] >= other["y"] + other["height"] or other["y"] >= one["y"] + one["height"]
            )  # fmt: skip
            assert apart, (one, other)


def test_where_classes_mean_nothing_none_are_listed_or_searched(browser: Any, tmp_path: Path) -> None:
    made = painted_atlas((4, 8))
    rng = np.random.default_rng(0)
    effects = rng.normal(size=made.effects.shape if made.effects is not None else 0).astype(np.float32)
    found = Opened(browser, write_page(tmp_path, replace(made, sample=replace(made.sample, effects=effects))))
    found.click(8, 5, 4)
    assert "Classes are not listed" in found.panel
    assert "Speaks for" not in found.panel
    assert not found.page.get_by_role("combobox", name="show the map through a name or a class").count()
    found.context.close()
