from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atlas.figure import SMALLEST_SIDE, atlas_figure, icon_sides, mosaic, save_figure
from atlas.grid import Cell


def _cell(row: int, col: int, count: int, level: int = 4) -> Cell:
    return Cell(level, row, col, count, (0.0, 0.0), np.zeros(1, np.float32))


def test_icon_area_grows_with_the_count_up_to_the_average() -> None:
    sides = icon_sides([_cell(0, 0, count) for count in (4, 8, 16, 36)])
    assert sides[1] ** 2 == pytest.approx(2 * sides[0] ** 2)
    assert sides.tolist()[2:] == [1.0, 1.0]
    assert icon_sides([_cell(0, 0, 1), _cell(0, 0, 10_000)])[0] == SMALLEST_SIDE


def test_the_mosaic_has_column_0_left_and_row_0_top() -> None:
    icons = np.stack([np.full((10, 10, 3), shade, np.uint8) for shade in (10, 20)])
    picture = mosaic([_cell(0, 3, 5), _cell(2, 0, 5)], icons, 4)
    assert picture.shape == (40, 40, 3)
    assert picture[5, 35].tolist() == [10] * 3
    assert picture[25, 5].tolist() == [20] * 3
    assert picture[5, 5].tolist() == [255] * 3


def test_a_cell_with_fewer_vectors_is_drawn_smaller_in_the_middle_of_its_place() -> None:
    icons = np.zeros((2, 20, 20, 3), np.uint8)
    picture = mosaic([_cell(0, 0, 1), _cell(0, 1, 3)], icons, 4)
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
    cells = [_cell(number, level - 1 - number, 5, level) for number in range(3)]
    icons = rng.integers(0, 255, (3, size, size, 3), dtype=np.uint8)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        save_figure(atlas_figure(cells, icons, level, title="Title", caption="one line\nand another"), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[0]) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    wanted = mosaic(cells, icons, level).astype(int)
    height, width = wanted.shape[:2]
    found = any(
        np.array_equal(drawn[top : top + height, left : left + width], wanted)
        for top in range(len(drawn) - height + 1)
        for left in range((drawn.shape[1] - width) // 2 - 2, (drawn.shape[1] - width) // 2 + 3)
    )
    assert found


def test_labels_lie_in_their_cells_and_none_over_another() -> None:
    cells = [_cell(row, col, 10 - row) for row in range(4) for col in range(4)]
    icons = np.zeros((16, 40, 40, 3), np.uint8)
    labels = {cell.key: "a rather long name" if cell.col == 0 else "owl" for cell in cells}
    figure = atlas_figure(cells, icons, 4, title="t", caption="c", labels=labels)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert 4 <= len(boxes) < 16  # the long ones leave no room for their neighbours
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = figure.axes[0].get_window_extent(renderer)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 + 1 for box in boxes)
    assert not list(atlas_figure(cells, icons, 4, title="t", caption="c").axes[0].texts)
