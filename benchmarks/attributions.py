"""Attribution maps beside captum's and torchcam's: milliseconds per image, and the largest difference of the maps.

One run, the same photographs, each explained for the class that EfficientNet-Lite0 puts first. Both get the same
network, windows, steps and layer; they take turns, and the fastest turn of each counts. `ours` copies the network anew
for every image, as a call of `attribute` does, and knows which layers it needs from a call before; `ours, target kept`
has copied it before, as a loop over images of one class would. captum gets as many windows and steps in a pass as ours
takes, with `one by one` as it comes, and once a network with frozen weights in channels_last (`helped`).

captum and the papers know ReLU alone, and Lite0 has ReLU6: guided backpropagation and deconvolution run on Lite0 with
ReLU in its place, for every contender. What captum makes of Lite0 as it is stands beside it.
A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from common import OURS, machine, missing, take_turns
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from featviz import Model, Unit, load_model
from featviz.explain.attribution import attribute, attribution
from featviz.explain.target import BATCH, Target
from featviz.network.layers import OUTPUT
from search import open_images
from search.images.decode import central_view

CAPTUM, TORCHCAM = "captum", "torchcam"
LAST = "bn2.act"  # the last feature map of Lite0
NOISE, SAMPLES = 0.15, 16

# An image (1, channels, h, w) in [0, 1] and a class -> a map (rows, columns).
Explain = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Contest:
    """A method of ours and the peers' ways to the same map; comparable: whether the maps should be equal."""

    method: str
    model: Model
    options: Mapping[str, Any]
    peers: Mapping[str, Explain]
    comparable: bool = True

    def contenders(self, labels: Sequence[int]) -> dict[str, Explain]:
        """Ours first, in both ways."""
        targets = {label: Target(self.model, Unit(OUTPUT, label)) for label in labels}

        def whole(image: Tensor, label: int) -> Tensor:
            return attribute(self.model, image[0], Unit(OUTPUT, label), self.method, **self.options).raw

        def kept(image: Tensor, label: int) -> Tensor:
            return attribution(targets[label], image[0], self.method, **self.options).raw

        return {OURS: whole, f"{OURS}, target kept": kept, **self.peers}


class Normalized(nn.Module):
    """A copy of a model's network that takes images in [0, 1], as ours does."""

    def __init__(self, model: Model, *, helped: bool = False) -> None:
        super().__init__()
        self.network, self.how, self.helped = copy.deepcopy(model.network).eval(), model.preprocess, helped
        if helped:
            self.network.requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        inputs = self.how.normalize(images)
        logits: Tensor = self.network(inputs.contiguous(memory_format=torch.channels_last) if self.helped else inputs)
        return logits


def captums(model: Model, relu: Model, window: int, steps: int) -> dict[str, dict[str, Explain]]:
    """captum's ways by method."""
    if missing(CAPTUM) is not None:
        return {}
    from captum import attr

    plain, helped, rectified = Normalized(model), Normalized(model, helped=True), Normalized(relu)
    square = {"sliding_window_shapes": (3, window, window), "strides": (3, window // 2, window // 2), "baselines": 0}
    way = {"n_steps": steps, "method": "riemann_middle", "baselines": 0}

    def occlude(network: nn.Module, at_once: int, image: Tensor, label: int) -> Tensor:
        return attr.Occlusion(network).attribute(image, target=label, perturbations_per_eval=at_once, **square)[0, 0]

    def integrate(network: nn.Module, image: Tensor, label: int) -> Tensor:
        found = attr.IntegratedGradients(network).attribute(image, target=label, internal_batch_size=BATCH, **way)
        return found[0].sum(0)

    def slope(kind: Any, network: nn.Module, image: Tensor, label: int) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Setting backward hooks on ReLU activations"
            return kind(network).attribute(image.clone().requires_grad_(), target=label)[0].abs().amax(0)

    def grad_cam(network: Normalized, image: Tensor, label: int) -> Tensor:
        layer = network.network.get_submodule(LAST)
        return attr.LayerGradCam(network, layer).attribute(image, target=label, relu_attributions=True)[0, 0]

    both = {CAPTUM: plain, f"{CAPTUM}, helped": helped}
    return {
        "occlusion": {
            f"{CAPTUM}, one by one": partial(occlude, plain, 1),
            **{name: partial(occlude, network, BATCH) for name, network in both.items()},
        },
        "integrated": {name: partial(integrate, network) for name, network in both.items()},
        "saliency": {name: partial(slope, attr.Saliency, network) for name, network in both.items()},
        "guided": {CAPTUM: partial(slope, attr.GuidedBackprop, rectified)},
        "deconv": {CAPTUM: partial(slope, attr.Deconvolution, rectified)},
        "gradcam": {name: partial(grad_cam, network) for name, network in both.items()},
    }


def torchcams(model: Model) -> dict[str, dict[str, Explain]]:
    """torchcam's ways by method."""
    if missing(TORCHCAM) is not None:
        return {}
    from torchcam import methods

    network = copy.deepcopy(model.network).eval()

    def explain(kind: Any, options: Mapping[str, Any], image: Tensor, label: int) -> Tensor:
        with kind(network, LAST, **options) as extractor:
            scores = network(model.preprocess.normalize(image).requires_grad_())
            return extractor(label, scores, normalized=False)[0][0].detach()

    # torchcam's noise is of the normalised image, whose range is that of [0, 1] divided by the deviation.
    noisy = {"num_samples": SAMPLES, "std": NOISE / model.preprocess.std[0]}
    return {
        "cam": {TORCHCAM: partial(explain, methods.CAM, {"fc_layer": "classifier"})},
        "gradcam": {TORCHCAM: partial(explain, methods.GradCAM, {})},
        "gradcampp": {TORCHCAM: partial(explain, methods.GradCAMpp, {})},
        "smoothgradcampp": {TORCHCAM: partial(explain, methods.SmoothGradCAMpp, noisy)},
    }


def with_relu(model: Model) -> Model:
    """The model with ReLU where it has ReLU6."""
    network = copy.deepcopy(model.network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU6):
            network.set_submodule(name, nn.ReLU())
    return replace(model, network=network)


def contests(model: Model, window: int, steps: int) -> list[Contest]:
    """All methods that a peer has, too."""
    relu = with_relu(model)
    peers = captums(model, relu, window, steps)
    for method, ways in torchcams(model).items():
        peers[method] = {**peers.get(method, {}), **ways}
    options: dict[str, dict[str, Any]] = {
        "occlusion": {"size": window, "stride": window // 2, "fill": "black"},
        "integrated": {"steps": steps},
        "gradcam": {"layer": LAST},
        "gradcampp": {"layer": LAST},
        "smoothgradcampp": {"layer": LAST, "samples": SAMPLES, "noise": NOISE},
    }
    return [
        Contest(
            method,
            relu if method in ("guided", "deconv") else model,
            options.get(method, {}),
            ways,
            comparable=method != "smoothgradcampp",  # each draws its own noise
        )
        for method, ways in peers.items()
    ]


def measured(
    contest: Contest, images: Sequence[Tensor], labels: Sequence[int], repeats: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Each contender's milliseconds per image and how far its maps are from ours, as a share of our largest value."""
    contenders = contest.contenders(labels)
    for explain in contenders.values():
        explain(images[0], labels[0])

    def run(explain: Explain) -> list[Tensor]:
        return [explain(image, label).detach() for image, label in zip(images, labels, strict=True)]

    works = {name: partial(run, explain) for name, explain in contenders.items()}
    turns, maps = take_turns(works, repeats, lambda line: say(f"{contest.method}, {line}"))
    each = {name: [1000 * seconds / len(images) for seconds in taken] for name, taken in turns.items()}
    return {
        name: {
            "ms": round(min(taken), 2),
            "median_ms": round(statistics.median(taken), 2),
            "times_ours": round(min(taken) / min(each[OURS]), 3),
            "largest_difference": difference(contest.method, maps[OURS], maps[name]) if contest.comparable else None,
        }
        for name, taken in each.items()
    }


def difference(method: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest between two contenders' maps, as a share of the image's largest value."""
    pairs = [(one, other.relu() if method == "cam" else other) for one, other in zip(ours, theirs, strict=True)]
    if method == "cam":  # torchcam keeps what is positive
        pairs = [(one.relu(), other) for one, other in pairs]
    return max(float((one - other).abs().max() / one.abs().max().clamp(min=1e-12)) for one, other in pairs)


def on_relu6(model: Model, image: Tensor, label: int) -> float | None:
    """How far captum's guided backpropagation on Lite0 as it is lies from the plain derivative; 0: it is that."""
    if missing(CAPTUM) is not None:
        return None
    ways = captums(model, model, 56, 1)
    return difference("guided", [ways["saliency"][CAPTUM](image, label)], [ways["guided"][CAPTUM](image, label)])


def table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """A row per method and contender."""
    drawn = Table(box=box.SIMPLE, caption="ms: per image; difference: the largest, of our map's largest value")
    for heading in ("method", "", "ms", "times ours", "difference"):
        drawn.add_column(heading)
    for method, contenders in rows.items():
        for name, row in contenders.items():
            far = row["largest_difference"]
            apart = "–" if far is None else f"{far:.1e}"
            drawn.add_row(method, name, f"{row['ms']:.1f}", f"{row['times_ours']:.2f}", apart)
    return drawn


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="Attribution maps beside captum's and torchcam's.")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--count", type=int, default=4, help="how many images")
    parser.add_argument("--window", type=int, default=56, help="side of the occluding square, moved on by half of it")
    parser.add_argument("--steps", type=int, default=32, help="of integrated gradients")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each contender; its fastest counts")
    options = parser.parse_args()
    console, model, source = Console(stderr=True), load_model(device="cpu"), open_images(options.images)
    say = partial(console.print, soft_wrap=True)
    images = [central_view(source.open(number), model.preprocess)[None] for number in range(options.count)]
    with torch.inference_mode():
        labels = [int(model.network(model.preprocess.normalize(image)).argmax()) for image in images]
    rows = {
        contest.method: measured(contest, images, labels, options.repeats, say)
        for contest in contests(model, options.window, options.steps)
        if not options.methods or contest.method in options.methods
    }
    console.print(table(rows))
    result = {
        **machine(model),
        "images": len(images),
        "window": options.window,
        "steps": options.steps,
        "missing": {peer: reason for peer in (CAPTUM, TORCHCAM) if (reason := missing(peer)) is not None},
        "methods": rows,
        "captum_guided_on_relu6_from_plain": on_relu6(model, images[0], labels[0]),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
