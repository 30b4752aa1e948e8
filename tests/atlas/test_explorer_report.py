"""Reports: what a test found, on a page of its own or behind maps."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from browsing import Opened
from painted import painted_atlas
from PIL import Image

from atlas.explorer import Leaf, Report, join_books, make_book, viewer_page


def _report(width: int = 300) -> Report:
    stream = BytesIO()
    Image.new("RGB", (width, 100), (200, 40, 40)).save(stream, "PNG")
    table = [{"size": 0.2, "flips": 3, "by": {"noise": 1}}, {"size": 0.4, "flips": None, "by": {}}]
    return Report("A patch & <its> flips", ["36 of 44 flip.", "Noise: 0."], {"One view": stream.getvalue()}, table)


def test_a_page_without_a_map_shows_what_was_found(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        viewer_page(make_book([], title="Patch", facts={"views": 50}, reports=[_report()])), encoding="utf-8"
    )
    found = Opened(browser, (tmp_path / "index.html").as_uri())
    text = found.page.locator(".aa").inner_text()
    assert all(part in text for part in ("A patch & <its> flips", "36 of 44 flip.", "One view", "views", "50"))
    size = "() => { const i = document.querySelector('.aa-report img'); return [i.naturalWidth, i.naturalHeight]; }"
    assert found.page.evaluate(size) == [300, 100]
    found.page.locator("summary").click()
    assert found.page.locator("td").all_inner_texts() == ["0.2", "3", "noise 1", "0.4", "–", ""]
    assert len(found.requests) == 1
    assert not found.complaints
    found.context.close()


def test_joined_with_an_atlas_a_report_opens_over_the_map_and_is_in_the_address(browser: Any, tmp_path: Path) -> None:
    atlas = make_book([Leaf("blocks.5", painted_atlas())], title="Atlas", facts={})
    patch = make_book([], title="Patch", facts={"views": 50}, reports=[_report()])
    (tmp_path / "both.html").write_text(viewer_page(join_books([patch, atlas], title="Both")), encoding="utf-8")
    found = Opened(browser, (tmp_path / "both.html").as_uri())
    found.do(lambda page: page.get_by_role("button", name="A patch & <its> flips").click())
    assert found.page.get_by_role("dialog", name="report").is_visible()
    again = Opened(browser, found.address)
    assert "36 of 44 flip." in again.page.get_by_role("dialog", name="report").inner_text()
    again.do(lambda page: page.keyboard.press("Escape"))
    assert "report=" not in again.address
    assert again.page.get_by_role("dialog", name="report").count() == 0
    assert "Patch: views" in again.panel
    for page in (found, again):
        assert not page.complaints
        page.context.close()


def test_each_of_several_reports_keeps_its_figures(browser: Any, tmp_path: Path) -> None:
    books = [make_book([], title="Patch", facts={}, reports=[_report(width)]) for width in (300, 200, 150)]
    (tmp_path / "all.html").write_text(viewer_page(join_books(books, title="All")), encoding="utf-8")
    found = Opened(browser, (tmp_path / "all.html").as_uri())
    widths = found.page.evaluate("[...document.querySelectorAll('.aa-report img')].map(each => each.naturalWidth)")
    assert widths == [300, 200, 150]
    found.context.close()
