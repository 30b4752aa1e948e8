"""What a layer represents: its atlas, and the cells as data.

python examples/layer.py --images my-photos --out layer-out
python examples/layer.py --quick                                a glance, for tests
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import atlas
import featviz


def study(images: str, out: Path, **settings: Any) -> atlas.Atlas:
    """The atlas of `blocks.5` in a folder, and what its best cell is about."""
    model = featviz.load_model("efficientnet_lite0")
    made = atlas.build(model, "blocks.5", images, out=out, **settings)
    print("median score", made.manifest["median_score"])

    best = max(made.cells, key=lambda cell: cell.score)
    print("the best icon", best.score, "of", best.count, "activations, in row", best.row, "and column", best.col)
    for label, effect in best.top:
        print(made.class_name(label), effect)
    for image, row, column in best.exemplars:
        print(made.names[image], "at", (row, column))
    made.class_figure(model.class_index("tabby")).savefig(out / "tabby.png")

    again = atlas.load(out)  # vectors, layout and cells, without the network
    print(again.sample.vectors.shape, again.xy.shape, again.effects.shape)
    return again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="photos", help="a folder, or photos: those that come with the demo")
    parser.add_argument("--out", type=Path, default=Path("layer-out"))
    parser.add_argument("--quick", action="store_true", help="few activations, cells and steps")
    arguments = parser.parse_args()
    quick = {"grid": (2,), "icon": 32, "steps": 2, "samples": 120, "min_count": 1, "reducer": "pca"}
    study(arguments.images, arguments.out, **(quick if arguments.quick else {}))
    print("open", arguments.out / "index.html")


if __name__ == "__main__":
    main()
