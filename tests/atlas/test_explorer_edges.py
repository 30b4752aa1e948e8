"""Where pages are odd: empty levels, maps of other networks, no names, keys and focus, several pages in a notebook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Opened, write_page
from painted import CLASSES, color, painted_atlas

from atlas import result
from atlas.explorer import Book, Leaf, join_books, make_book, viewer_page
from featviz.errors import UserError


def _open(browser: Any, folder: Path, book: Book, state: str = "") -> Opened:
    file = folder / "page.html"
    file.write_text(viewer_page(book), encoding="utf-8")
    return Opened(browser, file.as_uri() + state)


def test_a_level_without_a_cell_is_an_empty_map(browser: Any, tmp_path: Path) -> None:
    built = painted_atlas()
    built = replace(built, settings=replace(built.settings, grid=(4, 8, 64)))
    found = _open(browser, tmp_path, make_book([Leaf("x", built)], title="x", facts={}), "#level=64")
    assert found.pixels().min() > 245
    found.do(lambda page: page.get_by_label("grid").select_option("8"))
    x, y = found.place(8, 1, 6)
    assert np.abs(found.pixels()[round(y), round(x)] - color(8, 1, 6)).max() <= 12
    assert not found.complaints
    found.context.close()


def test_a_map_of_another_network_keeps_its_own_classes_and_is_not_filtered_by_the_pages(
    browser: Any, tmp_path: Path
) -> None:
    other = painted_atlas(classes=("cat", "dog", "mouse"))
    book = make_book([Leaf("many", painted_atlas()), Leaf("few", other)], title="x", facts={})
    found = _open(browser, tmp_path, book, "#map=1&cell=8/1/6&class=3&labels=false")
    assert set(found.page.locator(".aa-class .aa-name").all_inner_texts()) == {"cat", "dog", "mouse"}
    x, y = found.place(8, 5, 2)
    assert np.abs(found.pixels()[round(y), round(x)] - color(8, 5, 2)).max() <= 12
    assert "not kept in this page" in found.page.locator(".aa-through").inner_text()
    found.context.close()


def test_classes_without_names_have_numbers_and_filter_the_map(browser: Any, tmp_path: Path) -> None:
    built = replace(painted_atlas(), classes=())
    found = _open(browser, tmp_path, make_book([Leaf("x", built)], title="x", facts={}), "#cell=8/1/6")
    found.do(lambda page: page.locator(".aa-class").first.click())
    label = int(found.page.locator(".aa-class .aa-name").first.inner_text().removeprefix("class "))
    assert f"class={label}" in found.address
    assert found.page.locator(".aa-search input").input_value() == f"class {label}"
    found.context.close()


def test_another_map_does_not_tell_of_the_cell_that_was_pointed_at(browser: Any, tmp_path: Path) -> None:
    leaves = [Leaf(name, painted_atlas(layer=name)) for name in ("a", "b")]
    found = _open(browser, tmp_path, make_book(leaves, title="x", facts={}))
    found.do(lambda page: page.locator(".aa-map").focus(), lambda page: page.keyboard.press("ArrowRight"))
    assert "Row" in found.panel
    found.do(lambda page: page.keyboard.press("]"))
    assert "Point at a cell" in found.panel
    found.do(lambda page: page.get_by_label("beside it").select_option("0"))
    found.do(lambda page: page.locator(".aa-map-button").first.click())
    assert "map=0" in found.address
    assert "beside=1" in found.address
    found.context.close()


def test_pinning_in_the_map_beside_leaves_the_others_channel_behind(browser: Any, tmp_path: Path) -> None:
    leaves = [Leaf(name, painted_atlas(layer=name)) for name in ("a", "b")]
    found = _open(browser, tmp_path, make_book(leaves, title="x", facts={}), "#map=0&beside=1&channel=3")
    box = found.page.locator(".aa-map").bounding_box()
    side = 0.94 * min(box["width"] / 2, box["height"])
    x = box["width"] * 3 / 4 + (6.5 / 8 - 0.5) * side
    y = box["height"] / 2 + (1.5 / 8 - 0.5) * side
    found.do(lambda page: page.locator(".aa-map").click(position={"x": x, "y": y}))
    assert "map=1" in found.address
    assert "channel" not in found.address
    assert "Row 1, column 6" in found.panel
    found.context.close()


def test_keys_work_at_once_and_focus_stays_where_it_was(browser: Any, tmp_path: Path) -> None:
    found = _open(browser, tmp_path, make_book([Leaf("x", painted_atlas())], title="x", facts={}))
    found.do(lambda page: page.keyboard.press("?"))
    assert found.page.get_by_role("dialog", name="help").is_visible()
    found.do(lambda page: page.keyboard.press("Escape"))
    found.click(8, 1, 6)
    bar = found.page.locator(".aa-class").nth(1)
    label = bar.get_attribute("data-class")
    bar.focus()
    found.do(lambda page: page.keyboard.press("Enter"))
    assert found.page.evaluate("document.activeElement.dataset.class") == label
    found.do(lambda page: page.keyboard.press("Escape"))
    assert "cell=" not in found.address
    found.context.close()


def test_a_click_on_a_cell_at_the_edge_keeps_the_map_where_it_is(browser: Any, tmp_path: Path) -> None:
    found = Opened(browser, write_page(tmp_path, painted_atlas()))
    found.click(8, 0, 3)
    assert "x=0.50000&y=0.50000" in found.address
    assert "Row 0, column 3" in found.panel
    found.context.close()


def test_very_long_names_of_maps_do_not_widen_the_page(browser: Any, tmp_path: Path) -> None:
    leaves = [Leaf(name * 100, painted_atlas(), ends=(name * 90, "b")) for name in ("abc", "x y")]
    for width in (390, 1200):
        page = tmp_path / f"{width}.html"
        page.write_text(viewer_page(make_book(leaves, title="x", facts={})), encoding="utf-8")
        found = Opened(browser, page.as_uri(), viewport={"width": width, "height": 800})
        assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found.context.close()


def test_pages_of_one_layer_are_told_apart_and_those_of_other_formats_joined_or_refused(tmp_path: Path) -> None:
    facts = {"model": "net", "vectors": 3}
    books = [make_book([Leaf("blocks.5", painted_atlas())], title="x", facts=facts) for _ in range(3)]
    for about in (books[0].manifest["maps"][0], books[0].manifest["maps"][0]["levels"][0]):
        about.pop("cards", None)
        about.pop("flow", None)
    books[0].manifest.pop("reports")
    joined = join_books([books[1], books[0], books[2]], title="x").manifest
    assert [each["name"] for each in joined["maps"]] == ["blocks.5", "blocks.5 (net)", "blocks.5 (2)"]
    assert len(joined["facts"]) == 6
    books[2].manifest["format"] = 99
    with pytest.raises(UserError, match="later version"):
        join_books(books, title="x")


def test_a_notebook_gets_no_page_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "NOTEBOOK_LIMIT", 1000)
    shown = painted_atlas()._repr_html_()
    assert len(shown) < 1000
    assert "too large for a notebook" in shown


def test_names_that_are_no_utf_8_are_written_with_question_marks(browser: Any, tmp_path: Path) -> None:
    names = tuple(f"caf\udce9-{number}.png" for number in range(9))
    address = write_page(tmp_path, painted_atlas(names=names, classes=CLASSES))
    found = Opened(browser, address + "#cell=8/1/6")
    assert found.page.locator(".aa-photos figcaption").first.inner_text().startswith("caf\ufffd-")
    found.context.close()


def test_a_cell_says_what_its_colour_is_and_no_map_stands_beside_itself(browser: Any, tmp_path: Path) -> None:
    made = painted_atlas((4,), each=9)
    tint = {cell.key: (cell.col - 1.5) / 10 for cell in made.cells}
    leaves = [Leaf("a or b", made, ends=("cat", "dog"), tint=tint), Leaf("b", made, tint=tint)]
    page = tmp_path / "page.html"
    page.write_text(viewer_page(make_book(leaves, title="x", facts={})), encoding="utf-8")
    found = Opened(browser, page.as_uri())
    found.click(4, 0, 3)
    assert "Effect on dog less effect on cat: 0.15" in found.panel
    shown = """() => [...document.querySelector("[aria-label='beside it']").options]
        .filter((option) => !option.hidden).map((option) => option.textContent)"""
    assert found.page.evaluate(shown) == ["alone", "beside b"]
    found.context.close()


def test_the_page_writes_the_labels_that_its_leaf_is_to_have(browser: Any, tmp_path: Path) -> None:
    made = painted_atlas((4,), each=9)
    named = replace(made, manifest={**made.manifest, "names": {"by": "labels", "chosen_on": 2, "checked_on": 3}})
    for leaf, word in ((Leaf("m", named), ""), (Leaf("m", named, labelled_by="classes"), "speaks most for")):
        page = tmp_path / "page.html"
        page.write_text(viewer_page(make_book([leaf], title="x", facts={})), encoding="utf-8")
        found = Opened(browser, page.as_uri())
        found.click(4, 0, 3)
        beside = "() => [...document.querySelectorAll('.aa-panel button[aria-label]')].map((each) => each.ariaLabel)"
        said = [each for each in found.page.evaluate(beside) if each.startswith("Row")]
        assert said
        assert all(("speaks most for" in each) == bool(word) for each in said)
        found.context.close()
