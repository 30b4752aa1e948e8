"""What a channel responds to: the picture that excites it, the images that do, and where in one of them.

python examples/neuron.py --images my-photos --out neuron-out
python examples/neuron.py --quick                               a glance, for tests
"""

from __future__ import annotations

import argparse
from pathlib import Path

import atlas
import featviz
import search


def study(images: str, out: Path, *, channel: int = 12, steps: int = 256) -> search.Exemplars:
    """Superstimulus, exemplars and a map of evidence of a channel of `blocks.5`."""
    model = featviz.load_model("efficientnet_lite0")
    pictures = featviz.maximize(model, f"blocks.5:{channel}", size=128, steps=steps)
    print("the saved picture excites it by", pictures.scores[0])

    found = search.exemplars(model, images, "blocks.5", k=9)
    best = found["blocks.5", channel][0]
    print("the strongest image", found.images.names[best.image], "by", best.value, "in", best.box)
    found.sheet(("blocks.5", channel)).save(out / "sheet.png")  # strongest, ordinary, nearly, weakest
    print("goes with", found.layers["blocks.5"].correlations.similar(channel))

    why = atlas.explain(model, found.images.open(best.image), f"blocks.5:{channel}", methods="saliency")
    print("brightest at", divmod(int(why.found["saliency"].map.map.argmax()), model.preprocess.size[1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="photos", help="a folder, or photos: those that come with the demo")
    parser.add_argument("--out", type=Path, default=Path("neuron-out"))
    parser.add_argument("--channel", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="few steps")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    study(arguments.images, arguments.out, channel=arguments.channel, steps=2 if arguments.quick else 256)
    print("open", arguments.out / "sheet.png")


if __name__ == "__main__":
    main()
