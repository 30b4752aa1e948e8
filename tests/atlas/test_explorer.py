"""The page in a real browser, from a file, without a network."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Opened, write_page
from painted import CLASSES, color, painted_atlas
from PIL import Image

from atlas import result
from atlas.explorer import Leaf, Report, leaf, make_book, viewer_page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with two maps of two levels each."""
    other = painted_atlas(layer="blocks.6", seed=1)
    swapped = other.pictures[..., ::-1].copy()
    return write_page(tmp_path_factory.mktemp("page"), painted_atlas(), replace(other, pictures=swapped))


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    found = Opened(browser, address)
    yield found
    assert not found.complaints
    assert all(url.startswith(("file:", "data:", "blob:")) for url in found.requests)
    found.context.close()


def test_the_page_opens_from_a_file_without_a_network_or_a_complaint(opened: Opened) -> None:
    assert opened.page.title() == "Painted"
    assert len(opened.requests) == 1
    assert opened.requests[0].startswith("file:")
    policy = opened.page.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("level", [4, 8])
def test_pixels_at_the_middles_of_cells_are_their_icons_colours(
    browser: Any, address: str, ratio: int, level: int
) -> None:
    found = Opened(browser, f"{address}#level={level}&labels=false", device_scale_factor=ratio)
    pixels = found.pixels()
    for row in range(level):
        for col in range(level):
            x, y = found.place(level, row, col)
            seen = pixels[round(y * ratio), round(x * ratio)]
            wanted = (255, 255, 255) if level == 8 and row == col else color(level, row, col)
            assert np.abs(seen - wanted).max() <= 12, (row, col)  # WebP loses a little
    found.context.close()


def test_the_grid_follows_the_zoom_and_what_lies_under_the_pointer_stays(opened: Opened) -> None:
    root = opened.page.locator(".aa")
    assert root.get_attribute("data-level") == "8"
    opened.do(lambda page: page.keyboard.press("Tab"))
    x, y = opened.place(8, 2, 5)
    before = opened.pixels()[round(y), round(x)]
    box = opened.page.locator(".aa-map").bounding_box()
    opened.do(lambda page: page.mouse.move(box["x"] + x, box["y"] + y), lambda page: page.mouse.wheel(0, -300))
    assert opened.page.evaluate("document.querySelector('.aa').dataset.level") == "8"
    assert np.abs(opened.pixels()[round(y), round(x)] - before).max() <= 12
    assert not opened.page.locator(".aa-mini").is_hidden()
    opened.do(lambda page: page.mouse.wheel(0, 3000))
    assert float(re.findall(r"zoom=([\d.]+)", opened.address)[0]) == pytest.approx(0.6)
    opened.do(lambda page: page.get_by_role("button", name="All", exact=True).click())
    assert opened.page.locator(".aa-mini").is_hidden()


def test_pointing_tells_of_a_cell_and_a_click_keeps_it(opened: Opened) -> None:
    built = painted_atlas()
    box = opened.page.locator(".aa-map").bounding_box()
    x, y = opened.place(8, 1, 6)
    opened.do(lambda page: page.mouse.move(box["x"] + x, box["y"] + y))
    (cell,) = (cell for cell in built.cells if cell.key == "8/1/6")
    assert "Row 1, column 6" in opened.panel
    assert f"{cell.count} activations" in opened.panel
    names = opened.page.locator(".aa-class .aa-name").all_inner_texts()
    assert names == [CLASSES[label] for label, _ in cell.top]
    values = [float(text) for text in opened.page.locator(".aa-class .aa-value").all_inner_texts()]
    assert values == pytest.approx([effect for _, effect in cell.top], rel=5e-3)
    opened.click(8, 1, 6)
    opened.do(lambda page: page.mouse.move(box["x"] + 5, box["y"] + 5))
    assert "Row 1, column 6" in opened.panel
    assert "pinned" in opened.panel
    photographs = opened.page.locator(".aa-photos figcaption").all_inner_texts()
    assert photographs == [built.names[image] for image, _, _ in cell.exemplars[:3]]
    mean, spread = built.sample.vectors.mean(0), built.sample.vectors.std(0)
    strongest = int(((cell.mean - mean) / spread).argmax())
    assert opened.page.locator(".aa-unit").first.inner_text() == f"blocks.5:{strongest}"
    opened.do(lambda page: page.locator(".aa-neighbours button").first.click())
    assert "Row 0, column 5" in opened.panel
    opened.do(lambda page: page.keyboard.press("Escape"))
    assert "Point at a cell" in opened.panel


def test_a_photograph_shows_the_part_that_was_seen_in_a_box(opened: Opened) -> None:
    opened.click(8, 1, 6)
    data = opened.page.evaluate(
        "() => { const c = document.querySelector('.aa-photos canvas');"
        " return [...c.getContext('2d').getImageData(0, 0, 192, 192).data]; }"
    )
    pixels = np.array(data).reshape(192, 192, 4)[..., :3]
    yellow = (pixels[..., 0] > 220) & (pixels[..., 2] < 130)
    rows, columns = np.nonzero(yellow)
    assert (rows.min(), rows.max()) == pytest.approx((48, 144), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((48, 144), abs=3)


def test_a_class_found_by_typing_filters_the_map_by_its_effect(opened: Opened) -> None:
    built = painted_atlas()
    field = opened.page.get_by_role("combobox", name="show the map through a name or a class")
    opened.do(lambda page: field.fill("shark"))
    assert opened.page.get_by_role("listbox", name="classes").get_by_role("option").all_inner_texts() == [
        "great white shark",
        "tiger shark",
    ]
    opened.do(lambda page: page.keyboard.press("ArrowDown"), lambda page: page.keyboard.press("Enter"))
    assert "class=3" in opened.address
    effects = built.cell_effects(3, 8)
    most = max(map(abs, effects.values()))
    pixels = opened.pixels()
    for cell in built.cells:
        if cell.level == 8:
            x, y = opened.place(8, cell.row, cell.col)
            alpha = max(0.0, effects[cell.key] / most)
            wanted = 255 + alpha * (np.array(color(8, cell.row, cell.col)) - 255)
            assert np.abs(pixels[round(y), round(x)] - wanted).max() <= 20, cell.key
    opened.do(lambda page: page.get_by_role("button", name="for", exact=True).click())
    x, y = opened.place(8, 3, 4)  # in the class's stripe: nothing speaks against it there
    assert opened.pixels()[round(y), round(x)].min() > 245
    opened.do(lambda page: field.fill(""))
    assert "class=" not in opened.address


def test_another_map_of_the_page_is_shown_alone_or_beside(opened: Opened) -> None:
    opened.do(lambda page: page.locator(".aa-map-button").nth(1).click())
    x, y = opened.place(8, 1, 6)
    assert np.abs(opened.pixels()[round(y), round(x)] - color(8, 1, 6)[::-1]).max() <= 12
    opened.do(lambda page: page.get_by_label("beside it").select_option("0"))
    box = opened.page.locator(".aa-map").bounding_box()
    side = 0.94 * min(box["width"] / 2, box["height"])
    down = (box["height"] - side) / 2 + 1.5 / 8 * side
    across = (box["width"] / 2 - side) / 2 + 6.5 / 8 * side
    pixels = opened.pixels()
    assert np.abs(pixels[round(down), round(across)] - color(8, 1, 6)[::-1]).max() <= 12
    assert np.abs(pixels[round(down), round(across + box["width"] / 2)] - color(8, 1, 6)).max() <= 12


def test_the_copied_address_restores_what_is_seen_in_a_fresh_page(browser: Any, opened: Opened) -> None:
    opened.do(
        lambda page: page.locator(".aa-map-button").nth(1).click(),
        lambda page: page.get_by_role("combobox", name="show the map through a name or a class").fill("hen"),
        lambda page: page.keyboard.press("Enter"),
        lambda page: page.get_by_label("equal size").check(),
        lambda page: page.get_by_role("button", name="nearer").click(),
    )
    opened.click(8, 2, 5)
    opened.do(lambda page: page.mouse.move(5, 5))
    again = Opened(browser, opened.address)
    assert again.address == opened.address
    assert again.panel == opened.panel
    assert np.array_equal(again.pixels(), opened.pixels())
    again.context.close()


def test_the_back_button_goes_back_to_the_cell_before(opened: Opened) -> None:
    opened.click(8, 1, 6)
    opened.click(8, 5, 2)
    assert "Row 5, column 2" in opened.panel
    opened.do(lambda page: page.go_back())
    assert "Row 1, column 6" in opened.panel


def test_everything_can_be_reached_by_keyboard(opened: Opened) -> None:
    opened.do(
        lambda page: page.keyboard.press("Tab"), lambda page: page.locator(".aa-map").focus(),
        lambda page: page.keyboard.press("/"), lambda page: page.keyboard.type("gold"),
        lambda page: page.keyboard.press("Enter"),
    )  # fmt: skip
    assert "class=1" in opened.address
    opened.do(lambda page: page.locator(".aa-map").focus())
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        opened.page.keyboard.press(key)
        opened.settle()
    said = opened.page.locator("[aria-live]").inner_text()
    assert re.match(r"Row \d, column \d of 8: 3 activations, speaks most for ", said)
    opened.do(lambda page: page.keyboard.press("Enter"))
    assert "pinned" in opened.panel
    row, col = re.findall(r"cell=8%2F(\d)%2F(\d)", opened.address)[0]
    assert f"Row {row}, column {col}" in said
    opened.do(lambda page: page.keyboard.press("?"))
    assert opened.page.get_by_role("dialog", name="help").is_visible()
    opened.do(lambda page: page.keyboard.press("Escape"), lambda page: page.keyboard.press("]"))
    assert "map=1" in opened.address


def test_names_that_would_be_code_or_are_very_long_are_shown_as_they_are(browser: Any, tmp_path: Path) -> None:
    names = (
        "</script><img src=x onerror=alert(1)>", '"quoted" & \'so\'', "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
        "x" * 300, "<!--", "__proto__",
    )  # fmt: skip
    built = painted_atlas(classes=names, names=tuple(f"{name}.png".replace("/", "\u2215") for name in names))
    found = Opened(browser, write_page(tmp_path, built, title=names[0], notes=names))
    dialogs: list[Any] = []
    found.page.on("dialog", lambda dialog: dialogs.append(dialog))
    found.click(8, 1, 6)
    assert found.page.title() == names[0]
    assert found.page.locator("h1").inner_text() == names[0]
    assert set(found.page.locator(".aa-class .aa-name").all_text_contents()) <= set(names)
    assert found.page.locator("img").count() == 0
    assert not dialogs
    assert not found.complaints
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found.context.close()


def test_the_saved_picture_is_what_is_seen(opened: Opened) -> None:
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="PNG").click()
    with Image.open(download.value.path()) as picture:
        saved = np.asarray(picture.convert("RGB")).astype(int)
    seen = opened.pixels()
    assert saved.shape == seen.shape
    assert np.abs(saved - seen).mean() < 1
    assert download.value.suggested_filename == "blocks.5.png"


def test_a_page_of_a_later_version_says_so(browser: Any, tmp_path: Path) -> None:
    address = write_page(tmp_path, painted_atlas())
    file = tmp_path / "index.html"
    file.write_text(file.read_text(encoding="utf-8").replace('"format": 1', '"format": 99'), encoding="utf-8")
    found = Opened(browser, address)
    assert "later version" in found.page.locator(".aa").inner_text()
    assert not found.complaints
    found.context.close()


def test_an_atlas_without_classes_scores_or_photographs_says_what_it_knows(browser: Any, tmp_path: Path) -> None:
    built = painted_atlas()
    cells = tuple(replace(cell, top=(), score=None) for cell in built.cells)
    bare = replace(built, cells=cells, sample=replace(built.sample, effects=None), classes=())
    book = make_book([Leaf("x", bare)], title="Bare", facts={})
    (tmp_path / "index.html").write_text(viewer_page(book), encoding="utf-8")
    found = Opened(browser, (tmp_path / "index.html").as_uri())
    found.click(8, 1, 6)
    assert "3 activations averaged" in found.panel
    assert "score" not in found.panel
    assert "Speaks for" not in found.panel
    assert "not kept at this grid" in found.panel
    assert found.page.get_by_role("combobox", name="show the map through a name or a class").count() == 0
    assert not found.complaints
    found.context.close()


def test_finer_levels_without_values_of_their_own_take_those_of_the_cell_around(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaf, "MOST_VALUES", 16 * len(CLASSES))
    built = painted_atlas()
    assert built.effects is not None
    own = built.effects.copy()
    own[:, 3] = 0.3 * built.xy[:, 0] + 0.7 * built.xy[:, 1]
    built = replace(built, sample=replace(built.sample, effects=own))
    found = Opened(browser, write_page(tmp_path, built) + "#level=8&class=3&labels=false")
    effects = built.cell_effects(3, 4)
    most = max(map(abs, effects.values()))
    pixels = found.pixels()
    for row, col in ((1, 6), (1, 4), (6, 2)):
        x, y = found.place(8, row, col)
        alpha = max(0.0, effects[f"4/{row // 2}/{col // 2}"] / most)
        wanted = 255 + alpha * (np.array(color(8, row, col)) - 255)
        assert np.abs(pixels[round(y), round(x)] - wanted).max() <= 20
    found.context.close()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1200, 800)])
def test_nothing_is_wider_than_the_screen_and_dark_follows_the_system(
    browser: Any, address: str, width: int, height: int
) -> None:
    found = Opened(
        browser, address, viewport={"width": width, "height": height}, color_scheme="dark", reduced_motion="reduce"
    )
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert found.pixels()[2, 2].max() < 60
    found.context.close()


def test_a_notebook_shows_the_page_in_a_frame_that_works_and_stays_small(browser: Any, tmp_path: Path) -> None:
    built = painted_atlas()
    (tmp_path / "notebook.html").write_text(f"<p>before</p>{built._repr_html_()}<p>after</p>", encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.get_by_role("combobox", name="show the map through a name or a class").fill("tiger")
    frame.get_by_role("option", name="tiger shark").click()
    assert frame.locator(".aa-filter").is_visible()
    assert not complaints
    context.close()
    assert built._repr_png_().startswith(b"\x89PNG")


def test_a_widget_tells_python_what_is_looked_at_and_moves_where_python_says(browser: Any, tmp_path: Path) -> None:
    widget = painted_atlas().widget()
    assert (widget.view, widget.selected_cell) == ("", None)
    held = json.dumps({"manifest": widget.manifest, "blocks": widget.blocks, "view": ""}).replace("<", "\\u003c")
    # The front end of a notebook in small: a model that is told and tells, as anywidget hands it over.
    (tmp_path / "host.html").write_text(
        f"""<style>{widget._css}</style><div id="el"></div><script type="module">
        {widget._esm.replace("export default", "const given =")}
        const held = {held}, heard = {{}};
        window.told = held;
        const model = {{
            get: (name) => held[name], set: (name, value) => {{ held[name] = value; }}, save_changes() {{}},
            on: (name, act) => {{ heard[name] = act; }}, off() {{}} }};
        window.say = (view) => {{ held.view = view; heard["change:view"](); }};
        given.render({{ model, el: document.getElementById("el") }});
        </script>""",
        encoding="utf-8",
    )
    found = Opened(browser, (tmp_path / "host.html").as_uri())
    found.click(8, 1, 6)
    assert found.page.evaluate("told.selected_cell") == "8/1/6"
    assert "cell=8%2F1%2F6" in found.page.evaluate("told.view")
    found.do(lambda page: page.evaluate("say('#cell=8/5/2&class=1')"))
    assert "Row 5, column 2" in found.panel
    assert found.page.get_by_role("combobox", name="show the map through a name or a class").input_value() == "goldfish"
    assert found.page.evaluate("location.hash") == ""  # the notebook's own
    assert not found.complaints
    found.context.close()


def test_of_a_page_too_large_for_a_notebook_the_finest_levels_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    built = painted_atlas()
    whole = len(built._repr_html_())
    monkeypatch.setattr(result, "NOTEBOOK_LIMIT", whole - 4000)
    assert "&quot;grid&quot;: 4" in built._repr_html_()
    assert "&quot;grid&quot;: 8" not in built._repr_html_()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["", "#cell=8/1/6", "#channel=3&from=8/1/6", "#report=0", "#class=1&map=0&beside=1"])
def test_axe_finds_nothing_serious(browser: Any, tmp_path: Path, scheme: str, state: str) -> None:
    script = os.environ.get("ACTIVATION_ATLAS_AXE")
    if not script:
        pytest.skip("ACTIVATION_ATLAS_AXE names no axe.min.js (npm: axe-core)")
    leaves = [Leaf(layer, painted_atlas(layer=layer)) for layer in ("blocks.5", "blocks.6")]
    report = Report("A patch", ["36 of 44 flip."], table=[{"size": 0.2, "flips": 3}])
    book = make_book(leaves, title="Painted", facts={"model": "painted"}, reports=[report])
    (tmp_path / "index.html").write_text(viewer_page(book), encoding="utf-8")
    # The page's own policy lets no other script run: axe is given to it from outside.
    found = Opened(browser, (tmp_path / "index.html").as_uri() + state, color_scheme=scheme, bypass_csp=True)
    assert state[1:].partition("=")[0] in found.address
    found.page.evaluate(Path(script).read_text(encoding="utf-8"))
    violations = found.page.evaluate("axe.run().then(result => result.violations)")
    told = [(each["id"], each["impact"], [node["html"][:120] for node in each["nodes"]]) for each in violations]
    assert not [each for each in told if each[1] in ("serious", "critical")]
    found.context.close()
