"""Cards of channels: reached from a cell, left again, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Opened
from painted import Photos, color, painted_atlas

from atlas.explorer import Leaf, make_book, viewer_page
from atlas.result import Atlas

CELL = (8, 1, 6)


def _drawn() -> Atlas:
    """An atlas with superstimuli of one colour each of some channels."""
    drawn = {channel: np.full((64, 64, 3), 30 * channel, np.uint8) for channel in (1, 3, 5)}
    return replace(painted_atlas(), superstimuli=drawn)


def _page(folder: Path, built: Atlas, **more: Any) -> str:
    leaf = Leaf("blocks.5", built, photographs=Photos(built.sample, built.names), **more)  # type: ignore[arg-type]
    file = folder / "index.html"
    file.write_text(viewer_page(make_book([leaf], title="Cards", facts={})), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    found = Opened(browser, _page(tmp_path, _drawn()))
    yield found
    assert not found.complaints
    found.context.close()


def test_a_cells_channel_opens_its_card_by_keyboard_and_leads_back_to_the_cell(opened: Opened) -> None:
    opened.do(lambda page: page.locator(".aa-map").focus())
    for key in ("ArrowRight", "ArrowUp", "Enter"):
        opened.do(lambda page, key=key: page.keyboard.press(key))
    before = opened.panel
    place = opened.page.locator(".aa-panel h2").inner_text()
    name = opened.page.locator(".aa-unit").first.inner_text()
    for _ in range(20):
        if opened.page.evaluate("document.activeElement.className") == "aa-unit":
            break
        opened.do(lambda page: page.keyboard.press("Tab"))
    opened.do(lambda page: page.keyboard.press("Enter"))
    assert opened.page.locator(".aa-panel h2").inner_text() == name
    assert f"atlas unit {name}" in opened.panel
    assert opened.page.evaluate("document.activeElement.textContent") == f"← {place}"
    opened.do(lambda page: page.keyboard.press("Enter"))
    assert opened.panel == before
    opened.do(lambda page: page.go_back())
    assert opened.page.locator(".aa-panel h2").inner_text() == name
    opened.do(lambda page: page.locator(".aa-map").focus(), lambda page: page.keyboard.press("Escape"))
    assert "Point at a cell" in opened.panel


def test_a_card_shows_the_map_by_how_far_the_channel_is_above_its_mean(opened: Opened) -> None:
    built = painted_atlas()
    opened.click(*CELL)
    opened.do(lambda page: page.locator(".aa-unit").first.click(), lambda page: page.get_by_label("labels").uncheck())
    channel = int(opened.page.locator(".aa-panel h2").inner_text().split(":")[1])
    assert f"channel={channel}" in opened.address
    above = {cell.key: cell.mean[channel] - built.sample.vectors[:, channel].mean() for cell in built.cells}
    most = max(abs(value) for key, value in above.items() if key.startswith("8/"))
    pixels = opened.pixels()
    for cell in built.cells:
        if cell.level == 8:
            x, y = opened.place(8, cell.row, cell.col)
            alpha = max(0.0, above[cell.key] / most)
            wanted = 255 + alpha * (np.array(color(8, cell.row, cell.col)) - 255)
            assert np.abs(pixels[round(y), round(x)] - wanted).max() <= 20, cell.key
    opened.do(lambda page: page.locator(".aa-strongest button").first.click())
    best = max((key for key in above if key.startswith("8/")), key=lambda key: above[key])
    assert f"Row {best.split('/')[1]}, column {best.split('/')[2]}" in opened.panel


def test_a_card_shows_the_superstimulus_and_the_strongest_photographs_one_of_each(browser: Any, tmp_path: Path) -> None:
    built = _drawn()
    address = _page(tmp_path, built)
    values = built.sample.vectors[:, 3]
    best = dict.fromkeys(int(built.sample.image[row]) for row in np.argsort(-values, kind="stable"))
    found = Opened(browser, f"{address}#channel=3")
    names = found.page.locator(".aa-photos figcaption").all_inner_texts()
    assert names == [built.names[image] for image in list(best)[:6]]
    script = (
        "() => [...document.querySelector('.aa-cell-head canvas').getContext('2d').getImageData(99, 99, 1, 1).data]"
    )
    assert np.abs(np.array(found.page.evaluate(script))[:3] - 90).max() <= 6
    heights = found.page.evaluate("[...document.querySelectorAll('.aa-histogram span')].map(x => x.style.height)")
    counts, _ = np.histogram(values, bins=24)
    assert [float(each[:-1]) for each in heights] == pytest.approx(
        (100 * np.sqrt(counts / counts.max())).tolist(), abs=0.1
    )
    again = Opened(browser, f"{address}#channel=2")
    assert again.page.locator(".aa-cell-head canvas").count() == 0
    assert "No superstimulus was drawn" in again.panel
    for page in (found, again):
        page.context.close()


def test_within_some_channels_cells_and_cards_name_the_networks_own_numbers(browser: Any, tmp_path: Path) -> None:
    built = painted_atlas()
    own = (4, 9, 16, 25, 36, 49, 64)
    found = Opened(browser, _page(tmp_path, built, channels=own) + "#cell=8/1/6")
    (cell,) = (cell for cell in built.cells if cell.key == "8/1/6")
    above = (cell.mean - built.sample.vectors.mean(0)) / built.sample.vectors.std(0)
    wanted = [f"blocks.5:{own[column]}" for column in np.argsort(-above)[:5]]
    assert found.page.locator(".aa-unit").all_inner_texts() == wanted
    found.do(lambda page: page.locator(".aa-unit").first.click())
    assert found.page.locator(".aa-panel h2").inner_text() == wanted[0]
    found.context.close()
