"""What tells two classes apart: the activations that speak for one of them and not for the other.

python examples/two_classes.py --images my-photos --out classes-out
python examples/two_classes.py --quick                          a glance, for tests
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import atlas
import featviz


def study(images: str, out: Path, *, samples: int = 20_000, **settings: Any) -> atlas.Comparison:
    """Grey whale and great white shark at `blocks.6`, from one sample of activations."""
    model = featviz.load_model("efficientnet_lite0")
    everything = atlas.build(model, "blocks.6", images, samples=samples, tiles="photos")
    pair = atlas.compare(
        model, "blocks.6", "grey whale", "great white shark", images, sample_of=everything, out=out, **settings
    )
    for telling in pair.telling[:5]:
        print(telling.cell, telling.difference, telling.images)
    pair.classes_figure().savefig(out / "both.png")
    return pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="photos", help="a folder, or photos: those that come with the demo")
    parser.add_argument("--out", type=Path, default=Path("classes-out"))
    parser.add_argument("--quick", action="store_true", help="few activations, cells and steps")
    arguments = parser.parse_args()
    quick = {"samples": 200, "grid": (2,), "gradient": 2, "icon": 32, "steps": 2, "count": 30, "reducer": "pca"}
    study(arguments.images, arguments.out, **(quick if arguments.quick else {}))
    print("open", arguments.out / "index.html")


if __name__ == "__main__":
    main()
