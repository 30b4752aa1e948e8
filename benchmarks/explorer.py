"""The explorer with 20 x 20, 40 x 40 and 80 x 80 icons of 64 pixels: bytes, time until it answers, frames per second.

No peer opens from a file without a network, so there is none beside it. Needs playwright and a Chromium.

    python benchmarks/explorer.py --chromium /usr/bin/chromium
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from atlas.explorer.book import Leaf, make_book
from atlas.explorer.viewer_page import viewer_page
from atlas.grid import bin_cells
from atlas.result import Atlas
from atlas.sample import Sample
from atlas.settings import Settings
from search.images.images import open_images

LEVELS, ICON, CLASSES = (20, 40, 80), 64, 1000
# Pans back and forth for two seconds and counts the frames that were painted.
_PAN = """async (frames) => {
  const root = document.querySelector('.aa'), canvas = document.querySelector('.aa-map');
  const box = canvas.getBoundingClientRect();
  const middle = box.top + box.height / 2;
  const at = (type, x) => canvas.dispatchEvent(
    new PointerEvent(type, {pointerId: 1, clientX: x, clientY: middle, bubbles: true}));
  canvas.setPointerCapture = () => {};
  at('pointerdown', box.left + 400);
  const before = Number(root.dataset.drawn), start = performance.now();
  let step = 0;
  while (performance.now() - start < 2000) {
    at('pointermove', box.left + 400 + 8 * ((step++ % 2) || -1));
    await new Promise(requestAnimationFrame);
  }
  const seconds = (performance.now() - start) / 1000;
  at('pointerup', box.left + 400);
  return (Number(root.dataset.drawn) - before) / seconds;
}"""


def full_atlas(occupied: float) -> Atlas:
    """Every level so full, with icons cut from the embedded photographs."""
    rng = np.random.default_rng(0)
    side = LEVELS[-1]
    chosen = rng.permutation(side * side)[: round(occupied * side * side)]
    xy = np.stack([(chosen % side + 0.5) / side, (chosen // side + 0.5) / side], 1).astype(np.float32)
    n = len(xy)
    effects = rng.normal(size=(n, CLASSES)).astype(np.float32)
    found = Sample(
        rng.random((n, 8), np.float32), np.zeros(n, np.int64), np.ones((n, 2), np.int64), np.zeros((n, 4), np.float32),
        effects,
    )  # fmt: skip
    cells = bin_cells(xy, found.vectors, found.image, found.position, levels=LEVELS, effects=effects)
    photographs = open_images("photos")
    sources = [np.asarray(photographs.open(number).resize((320, 240))) for number in range(len(photographs))]
    pictures = np.empty((len(cells), ICON, ICON, 3), np.uint8)
    for number in range(len(cells)):
        source = sources[number % len(sources)]
        top, left = rng.integers(0, 240 - ICON), rng.integers(0, 320 - ICON)
        pictures[number] = source[top : top + ICON, left : left + ICON]
    settings = Settings(layer="x", grid=LEVELS, icon=ICON)
    manifest: dict[str, Any] = {"model": "none", "images": {"used": 1, "source": "photos", "skipped": []}}
    return Atlas(settings, cells, pictures, found, xy, ("x",), manifest, tuple(f"class {n}" for n in range(CLASSES)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--occupied", type=float, default=1.0, help="share of the cells that hold an icon")
    arguments = parser.parse_args()
    built = full_atlas(arguments.occupied)
    page = viewer_page(make_book([Leaf("x", built)], title="benchmark", facts={}))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        file = Path(folder) / "index.html"
        file.write_text(page, encoding="utf-8")
        browser = running.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1600, "height": 900})
        start = time.monotonic()
        opened.goto(file.as_uri())
        opened.wait_for_function("document.querySelector('.aa')?.dataset.drawn > 0")
        opened.locator(".aa-map").click(position={"x": 400, "y": 400})
        interactive = time.monotonic() - start
        frames = {}
        for level in LEVELS:
            opened.goto(f"{file.as_uri()}#level={level}&zoom=1.05&labels=false")
            opened.reload()
            opened.wait_for_timeout(1500)
            frames[str(level)] = round(opened.evaluate(_PAN), 1)
        browser.close()
    visible = sum(cell.level == LEVELS[-1] for cell in built.cells)
    print(
        json.dumps(
            {
                "megabytes": round(len(page.encode()) / 1e6, 2),
                "seconds_until_a_click_is_answered": round(interactive, 2),
                "frames_per_second_while_panning": frames,
                "icons_in_view_at_80": visible,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
