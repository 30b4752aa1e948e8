"""Pages of several folders as one, and pages too large for one file."""

from __future__ import annotations

import shutil
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Opened, write_page
from painted import CLASSES, Photos, color, painted_atlas
from typer.testing import CliRunner

from atlas.cli import app
from atlas.explorer import Leaf, Report, join_books, make_book, read_book, viewer_page, write_viewer
from featviz.errors import UserError
from featviz.run.output import OutputFolder


def test_several_pages_become_one_with_all_their_maps_and_photographs(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for number, layer in enumerate(("blocks.3", "blocks.5")):
        folders.append(tmp_path / layer)
        folders[-1].mkdir()
        names = tuple(f"{layer}-{each}.png" for each in range(9))
        built = painted_atlas(layer=layer, seed=number, names=names)
        write_page(folders[-1], replace(built, pictures=built.pictures[..., ::-1].copy()) if number else built)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))  # type: ignore[func-returns-value]
    done = CliRunner().invoke(app, ["open", *map(str, folders), "--together", str(tmp_path / "both.html")])
    assert done.exit_code == 0, done.output
    assert opened == [(tmp_path / "both.html").as_uri()]
    found = Opened(browser, opened[0] + "#map=1&labels=false")
    assert found.page.locator(".aa-map-button").all_inner_texts() == ["blocks.3", "blocks.5"]
    x, y = found.place(8, 1, 6)
    assert np.abs(found.pixels()[round(y), round(x)] - color(8, 1, 6)[::-1]).max() <= 12
    found.click(8, 1, 6)
    (cell,) = (cell for cell in painted_atlas(layer="blocks.5", seed=1).cells if cell.key == "8/1/6")
    shown = found.page.locator(".aa-photos figcaption").all_inner_texts()
    assert shown == [f"blocks.5-{image}.png" for image, _, _ in cell.exemplars[:3]]
    data = found.page.evaluate(
        "() => [...document.querySelector('.aa-photos canvas').getContext('2d').getImageData(20, 20, 1, 1).data]"
    )
    assert np.abs(np.array(data[:3]) - (20 * cell.exemplars[0][0], 100, 200)).max() <= 12
    assert not found.complaints
    found.context.close()
    for named in (folders[0], folders[0] / "index.html"):
        single = CliRunner().invoke(app, ["open", str(named)])
        assert single.exit_code == 0
        assert opened.pop() == (folders[0] / "index.html").as_uri()
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    for named, told in ((tmp_path, "not finished"), (tmp_path / "x", "no such folder"), (folders[0], "no browser")):
        assert told in str(CliRunner().invoke(app, ["open", str(named)]).exception)


def test_pages_of_other_classes_or_no_pages_are_not_joined(tmp_path: Path) -> None:
    for name, classes in (("a", CLASSES), ("b", tuple("uvwxyz"))):
        (tmp_path / name).mkdir()
        write_page(tmp_path / name, painted_atlas(classes=classes))
    books = [read_book(tmp_path / name / "index.html") for name in "ab"]
    with pytest.raises(UserError, match="different classes"):
        join_books(books, title="x")
    (tmp_path / "plain.html").write_text("<p>no atlas</p>", encoding="utf-8")
    with pytest.raises(UserError, match="no page of the explorer"):
        read_book(tmp_path / "plain.html")


def test_a_missing_picture_is_said_in_its_cells_and_the_rest_works(browser: Any, tmp_path: Path) -> None:
    write_page(tmp_path, painted_atlas())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    start = page.index('data-name="0/1/icons/0">')
    damaged = page[: start + 24] + "AAAA" + page[page.index("<", start + 24) :]
    (tmp_path / "index.html").write_text(damaged, encoding="utf-8")
    found = Opened(browser, (tmp_path / "index.html").as_uri() + "#level=8&labels=false")
    x, y = found.place(8, 1, 6)
    assert np.ptp(found.pixels()[round(y) - 3 : round(y) + 3, round(x) - 3 : round(x) + 3]) < 60
    found.click(8, 1, 6)
    assert "Row 1, column 6" in found.panel
    found.do(lambda page: page.get_by_label("grid").select_option("4"))
    x, y = found.place(4, 1, 2)
    assert np.abs(found.pixels()[round(y), round(x)] - color(4, 1, 2)).max() <= 12
    found.context.close()


LEVELS = (4, 8, 16, 64)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a map with four levels."""
    folder = OutputFolder.claim(tmp_path_factory.mktemp("large") / "out", {})
    built = painted_atlas(LEVELS, each=1, icon=16)
    leaf = Leaf("blocks.5", built, photographs=Photos(built.sample, built.names))  # type: ignore[arg-type]
    report = Report("Found", ["something"])
    write_viewer(make_book([leaf], title="Large", facts={}, reports=[report]), folder)
    folder.finish({})
    return folder.path


def test_a_map_of_many_levels_loads_its_tiles_as_they_come_into_view(browser: Any, large: Path) -> None:
    tiles = {file.name for file in (large / "tiles").iterdir()}
    assert len([name for name in tiles if name.startswith("0-3-icons-")]) == 41
    found = Opened(browser, (large / "index.html").as_uri() + "#labels=false")
    loaded = {url.rpartition("/")[2] for url in found.requests if "/tiles/" in url}
    assert loaded
    assert not any(name.startswith("0-3-icons-") for name in loaded)
    for level in LEVELS:
        found.do(lambda page, level=level: page.get_by_label("grid").select_option(str(level)))
        found.page.wait_for_timeout(800)
        pixels = found.pixels()
        for row, col in ((0, level - 1), (level // 2, level // 4), (level - 1, 1)):
            x, y = found.place(level, row, col)
            assert np.abs(pixels[round(y), round(x)] - color(level, row, col)).max() <= 16, (level, row, col)
    assert all(url.startswith(("file:", "data:", "blob:")) for url in found.requests)
    assert not found.complaints
    found.context.close()


def test_zoomed_in_only_tiles_near_the_view_are_loaded(browser: Any, large: Path) -> None:
    found = Opened(browser, (large / "index.html").as_uri() + "#level=64&zoom=6&x=0.08&y=0.08")
    loaded = [url for url in found.requests if "0-3-icons-" in url]
    assert 1 <= len(loaded) <= 5
    found.context.close()


def test_a_missing_tile_is_said_in_its_cells_and_the_rest_works(browser: Any, large: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(large, folder)
    (folder / "tiles" / "0-2-icons-0.js").unlink()
    found = Opened(browser, (folder / "index.html").as_uri() + "#level=16&labels=false")
    pixels = found.pixels()
    x, y = found.place(16, 0, 5)
    assert np.ptp(pixels[round(y), round(x)]) < 12  # the grey of what is not there
    x, y = found.place(16, 12, 5)
    assert np.abs(pixels[round(y), round(x)] - color(16, 12, 5)).max() <= 16
    found.context.close()


def test_a_folder_of_tiles_is_read_back_whole_and_joins_into_one_file(
    browser: Any, large: Path, tmp_path: Path
) -> None:
    built = painted_atlas(LEVELS, each=1, icon=16)
    leaf = Leaf("blocks.5", built, photographs=Photos(built.sample, built.names))  # type: ignore[arg-type]
    whole = make_book([leaf], title="Large", facts={}, reports=[Report("Found", ["something"])])
    again = read_book(large / "index.html")
    assert again.blocks == whole.blocks
    assert again.manifest["reports"] == whole.manifest["reports"]
    page = tmp_path / "one.html"
    page.write_text(viewer_page(join_books([again, again], title="one")), encoding="utf-8")
    found = Opened(browser, page.as_uri() + "#map=1&level=64&labels=false")
    x, y = found.place(64, 40, 14)
    assert np.abs(found.pixels()[round(y), round(x)] - color(64, 40, 14)).max() <= 16
    assert len(found.requests) == 1
    found.context.close()
