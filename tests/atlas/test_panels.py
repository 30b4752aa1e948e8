from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atlas.figure import save_figure
from atlas.grid import Cell
from atlas.panels import SMALLEST_SIDE, Panel, icon_sides, mosaic, panels_figure


def _cell(row: int, col: int, count: int = 5) -> Cell:
    return Cell(2, row, col, count, (0.0, 0.0), np.zeros(1, np.float32))


def _at(row: int, col: int, count: int, level: int = 4) -> Cell:
    return Cell(level, row, col, count, (0.0, 0.0), np.zeros(1, np.float32))


def _grey(count: int) -> np.ndarray:
    return np.full((count, 40, 40, 3), 128, np.uint8)


def test_a_tint_is_red_for_and_blue_against_and_white_at_zero_around_the_icon() -> None:
    cells = [_cell(0, 0), _cell(0, 1), _cell(1, 0)]
    picture = mosaic(Panel(cells, _grey(3), 2, tint={"2/0/0": 2.0, "2/0/1": -2.0, "2/1/0": 0.0}), limit=2.0)
    (red, _, blue), (red2, _, blue2) = picture[1, 1].astype(int), picture[1, 78].astype(int)
    assert red > blue + 50
    assert blue2 > red2 + 50
    assert picture[41, 1].min() > 240
    assert picture[20, 20].tolist() == [128] * 3


def test_opacity_fades_an_icon_to_white() -> None:
    cells = [_cell(0, 0), _cell(0, 1), _cell(1, 0)]
    picture = mosaic(
        Panel(cells, np.zeros((3, 40, 40, 3), np.uint8), 2, opacity={"2/0/0": 0, "2/0/1": 0.5, "2/1/0": 1})
    )
    assert picture[20, 20].tolist() == [255] * 3
    assert picture[20, 60, 0] == pytest.approx(127, abs=2)
    assert picture[60, 20].tolist() == [0] * 3


def test_panels_share_one_scale_whose_ends_are_equally_far_from_zero() -> None:
    weak, strong = (Panel([_cell(0, 0)], _grey(1), 2, tint={"2/0/0": value}) for value in (0.5, -2.0))
    figure = panels_figure([weak, strong], title="t", caption="c", tint="effect")
    bar = figure.axes[-1]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["-2", "0", "2"]
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2]]
    assert np.array_equal(shown[0], mosaic(weak, limit=2.0))
    assert not np.array_equal(shown[0], mosaic(weak, limit=0.5))


def test_photographs_under_icons_make_cells_twice_as_high() -> None:
    cells = [_cell(0, 0), _cell(1, 1)]
    both = np.concatenate([np.zeros((2, 40, 40, 3), np.uint8), np.full((2, 40, 40, 3), 200, np.uint8)], 1)
    picture = mosaic(Panel(cells, both, 2))
    assert picture.shape == (160, 80, 3)
    assert picture[20, 20].tolist() == [0] * 3
    assert picture[60, 20].tolist() == [200] * 3
    assert picture[100, 60].tolist() == [0] * 3


def test_labels_with_signs_of_mathematics_are_written_as_they_are() -> None:
    panel = Panel([_cell(1, 0)], _grey(1), 2, labels={"2/1/0": "a_b^c $x$ <i>"})
    figure = panels_figure([panel], title="t", caption="c")
    figure.canvas.draw()  # type: ignore[no-untyped-call]
    assert [text.get_text() for text in figure.axes[0].texts] == ["a_b^c $x$ <i>"]


def test_icon_area_grows_with_the_count_up_to_the_average() -> None:
    sides = icon_sides([_at(0, 0, count) for count in (4, 8, 16, 36)])
    assert sides[1] ** 2 == pytest.approx(2 * sides[0] ** 2)
    assert sides.tolist()[2:] == [1.0, 1.0]
    assert icon_sides([_at(0, 0, 1), _at(0, 0, 10_000)])[0] == SMALLEST_SIDE


def test_the_mosaic_has_column_0_left_and_row_0_top() -> None:
    icons = np.stack([np.full((10, 10, 3), shade, np.uint8) for shade in (10, 20)])
    picture = mosaic(Panel([_at(0, 3, 5), _at(2, 0, 5)], icons, 4))
    assert picture.shape == (40, 40, 3)
    assert picture[5, 35].tolist() == [10] * 3
    assert picture[25, 5].tolist() == [20] * 3
    assert picture[5, 5].tolist() == [255] * 3


def test_a_cell_with_fewer_vectors_is_drawn_smaller_in_the_middle_of_its_place() -> None:
    icons = np.zeros((2, 20, 20, 3), np.uint8)
    picture = mosaic(Panel([_at(0, 0, 1), _at(0, 1, 3)], icons, 4))
    small = picture[:20, :20, 0] < 128
    rows, columns = np.nonzero(small)
    assert small.sum() == pytest.approx(400 * 1 / 2, rel=0.1)
    assert abs(rows.mean() - 9.5) <= 0.5
    assert abs(columns.mean() - 9.5) <= 0.5


@pytest.mark.parametrize(("level", "size"), [(3, 16), (12, 64)])
def test_the_figure_shows_the_mosaic_pixel_for_pixel_and_its_bytes_repeat(
    tmp_path: Path, level: int, size: int
) -> None:
    rng = np.random.default_rng(0)
    cells = [_at(number, level - 1 - number, 5, level) for number in range(3)]
    icons = rng.integers(0, 255, (3, size, size, 3), dtype=np.uint8)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        save_figure(panels_figure([Panel(cells, icons, level)], title="Title", caption="one line\nand another"), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[0]) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    wanted = mosaic(Panel(cells, icons, level)).astype(int)
    height, width = wanted.shape[:2]
    found = any(
        np.array_equal(drawn[top : top + height, left : left + width], wanted)
        for top in range(len(drawn) - height + 1)
        for left in range((drawn.shape[1] - width) // 2 - 2, (drawn.shape[1] - width) // 2 + 3)
    )
    assert found


def test_labels_lie_in_their_cells_and_none_over_another() -> None:
    cells = [_at(row, col, 10 - row) for row in range(4) for col in range(4)]
    icons = np.zeros((16, 40, 40, 3), np.uint8)
    labels = {cell.key: "a rather long name" if cell.col == 0 else "owl" for cell in cells}
    figure = panels_figure([Panel(cells, icons, 4, labels=labels)], title="t", caption="c")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert 4 <= len(boxes) < 16  # the long ones leave no room for their neighbours
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = figure.axes[0].get_window_extent(renderer)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 + 1 for box in boxes)
    assert not list(panels_figure([Panel(cells, icons, 4)], title="t", caption="c").axes[0].texts)
