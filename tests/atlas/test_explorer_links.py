"""Two maps beside each other: a cell of one marks the cells of the other that hold the same activations."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
from browsing import Opened
from painted import painted_atlas

from atlas.explorer import Leaf, join_books, make_book, viewer_page
from atlas.explorer.flow import flows


def _leaves() -> list[Leaf]:
    """The same activations twice, the second time mirrored, in a coarser grid."""
    fine, coarse = painted_atlas((8,)), painted_atlas((4,), each=12)
    ids = np.arange(len(fine.xy))
    # Each coarse cell holds 12 activations at its middle: they are given the numbers of the mirrored fine ones.
    numbers = (fine.xy * 4).astype(int)
    mirrored = (3 - numbers[:, 0]) + 4 * numbers[:, 1]
    order = np.argsort(mirrored, kind="stable")
    places = np.repeat(np.arange(16), 12)[: len(order)]
    taken = np.full(len(coarse.xy), -1)
    for place in range(16):
        mine = order[mirrored[order] == place]
        rows = np.flatnonzero(np.repeat(np.arange(16), 12) == place)
        taken[rows[: len(mine)]] = ids[mine]
    assert len(places) == len(order)
    return [
        Leaf("fine", fine, ids=ids),
        Leaf("coarse", coarse, ids=np.where(taken < 0, 10_000 + np.arange(192), taken)),
    ]


def test_a_cell_is_linked_with_the_cells_that_hold_most_of_its_activations() -> None:
    leaves = _leaves()
    found = flows(leaves, 0, 8)["1"]
    assert found["grid"] == 4
    cells = np.frombuffer(b64decode(found["cells"]), "<i4").reshape(-1, 3)
    shown = [leaves[0].atlas.cells[number] for number in leaves[0].shown(8)]
    others = [leaves[1].atlas.cells[number] for number in leaves[1].shown(4)]
    for cell, linked in zip(shown, cells, strict=True):
        assert linked.tolist()[1:] == [-1, -1]
        other = others[linked[0]]
        assert (other.row, other.col) == (cell.row // 2, 3 - cell.col // 2)
    assert flows([leaves[0], Leaf("strange", leaves[1].atlas)], 0, 8) == {}


def test_pointing_at_a_cell_marks_its_cells_in_the_map_beside(browser: Any, tmp_path: Path) -> None:
    book = make_book(_leaves(), title="Linked", facts={}, start="#map=0&beside=1&labels=false")
    # Joined behind another page, its maps have other numbers, and are linked all the same.
    joined = join_books([make_book([Leaf("x", painted_atlas())], title="x", facts={}), book], title="joined")
    for name, page, first in (("own", book, 0), ("joined", joined, 1)):
        file = tmp_path / f"{name}.html"
        file.write_text(viewer_page(page), encoding="utf-8")
        found = Opened(browser, f"{file.as_uri()}#map={first}&beside={first + 1}&labels=false")
        before = found.pixels()
        box = found.page.locator(".aa-map").bounding_box()
        half = box["width"] / 2
        side = 0.94 * min(half, box["height"])
        left, top = (half - side) / 2, (box["height"] - side) / 2
        x, y = left + (6 + 0.5) / 8 * side, top + (1 + 0.5) / 8 * side
        found.do(lambda page, x=x, y=y, box=box: page.mouse.move(box["x"] + x, box["y"] + y))
        changed = np.abs(found.pixels() - before).max(2) > 40
        for row in range(4):
            for col in range(4):
                across, down = half + left + (col + 0.5) / 4 * side, top + row / 4 * side
                seen = changed[round(down) - 2 : round(down) + 3, round(across)].any()
                # The cell (0, 0), and the one below it, which shares an edge with it.
                assert seen == ((row, col) in ((0, 0), (1, 0))), (name, row, col)
        assert not found.complaints
        found.context.close()
