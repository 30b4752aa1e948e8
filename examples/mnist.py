"""How a small network tells digits apart: trained, looked into, pruned to its essence, and built by hand.

    python examples/mnist.py --out mnist-out            about three minutes on two cores
    python examples/mnist.py --out mnist-out --quick    a glance, for tests

Trains a network of three convolutions and two linear layers on digits, shows its weights, what it makes of a digit and
of lines, superstimuli and the orientation that each channel of the first layer prefers; leaves out the channels with
the least evidence in seven rounds, retrained after each; asks whether a convolution only copies what it is given; and
builds the same network by hand from lines and edges. The digits are the 5,000 of MNIST that the `demo` extra ships; all
of them with `--images mnist`, where there is a network.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from atlas.explorer import Report, make_book, write_viewer
from atlas.figure import save_figure
from atlas.network_figure import maps_figure, tiles_figure, weights_figure
from featviz.draw.maximize import maximize
from featviz.draw.objectives import channel
from featviz.explain.pruning import copies, evidence, prune
from featviz.network.models import Model
from featviz.run.output import OutputFolder
from search.card.stimuli import Tuning, bars, edges, orientation_selectivity, tuning
from search.images.images import open_images

MEAN, STD, SIDE = 0.1307, 0.3081, 28
CONVOLUTIONS = ("conv1", "conv2", "conv3")


class SimpleConvNet(nn.Module):
    """Three times convolution, ReLU and max pooling, then two linear layers and log-softmax."""

    def __init__(self, widths: Sequence[int] = (16, 32, 48), hidden: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 5, padding=2)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5, padding=2)
        self.conv3 = nn.Conv2d(widths[1], widths[2], 5, padding=2)
        self.fc4, self.fc5 = nn.Linear(widths[2] * 9, hidden), nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for convolution in (self.conv1, self.conv2, self.conv3):
            maps = F.max_pool2d(convolution(maps).relu(), 2)
        return F.log_softmax(self.fc5(self.fc4(maps.flatten(1)).relu()), 1)


@dataclass(frozen=True)
class Digits:
    """Digits (n, 1, 28, 28) in [0, 1] and what they are, to train on and held out."""

    images: Tensor
    labels: Tensor
    held_images: Tensor
    held_labels: Tensor
    note: str


def load_digits(images: str, *, seed: int = 0, most: int = 60_000) -> Digits:
    """A fifth is held out."""
    source = open_images(images)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:most].tolist()
    pixels = torch.stack([torch.from_numpy(np.array(source.open(number).convert("L"))) for number in order])
    images, labels = pixels[:, None].float() / 255, torch.tensor([source.labels[number] for number in order])
    first = len(order) // 5
    return Digits(images[first:], labels[first:], images[:first], labels[:first], " ".join(source.notes))


def wrapped(network: nn.Module) -> Model:
    """The network with how digits enter it."""
    return Model.wrap(network.eval(), name="digits", size=SIDE, mean=(MEAN,), std=(STD,), labels=list("0123456789"))


def train(network: nn.Module, digits: Digits, *, epochs: int, seed: int = 0, rate: float = 2e-3) -> None:
    """Adam over shuffled batches of 64, the rate falling to nothing."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    steps = max(1, epochs * -(-len(digits.images) // 64))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    network.train()
    for _ in range(epochs):
        for part in torch.split(torch.randperm(len(digits.images), generator=generator), 64):
            optimiser.zero_grad()
            loss = F.nll_loss(network((digits.images[part] - MEAN) / STD), digits.labels[part])
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def accuracy(network: nn.Module, digits: Digits) -> float:
    """On the digits held out."""
    with torch.inference_mode():
        guesses = torch.cat([network((part - MEAN) / STD) for part in torch.split(digits.held_images, 250)]).argmax(1)
    return float((guesses == digits.held_labels).float().mean())


def widths(network: nn.Module) -> list[int]:
    return [network.get_submodule(name).out_channels for name in CONVOLUTIONS]


Rows = list[dict[str, Any]]


def pruned(network: nn.Module, digits: Digits, *, rounds: int, epochs: int, share: float) -> tuple[nn.Module, Rows]:
    """Each round the share of every convolution's channels with the least evidence goes, and the rest is retrained."""

    def row(number: int, before: float | None) -> dict[str, Any]:
        right = None if before is None else f"{before:.2%}"
        return {
            "round": number,
            "channels": str(widths(network)),
            "pruned": right,
            "retrained": f"{accuracy(network, digits):.2%}",
        }

    table = [row(0, None)]
    seen = digits.images[:200]
    for number in range(1, rounds + 1):
        model = wrapped(network)
        for layer in CONVOLUTIONS:
            found = evidence(model, layer, seen, steps=32)
            count = len(found.ranks)
            kept = found.ranks.argsort(descending=True)[: max(4, round(count * (1 - share)))]
            model = prune(model, layer, kept.tolist())
        before = accuracy(model.network, digits)
        for parameter in model.network.parameters():
            parameter.requires_grad_(True)
        train(model.network, digits, epochs=epochs, seed=number)
        network = model.network
        table.append(row(number, before))
    return network, table


# By hand


def line_kernel(degrees: float, *, edge: bool) -> Tensor:
    """5 x 5: a bright line through the middle between dark ones, or bright on one side and dark on the other."""
    place = torch.arange(5) - 2.0
    up, right = torch.meshgrid(-place, place, indexing="ij")
    away = up * math.cos(math.radians(degrees)) - right * math.sin(math.radians(degrees))
    kernel = away.clamp(-1, 1) if edge else (1 - away.abs()).clamp(min=0)
    kernel = kernel * (up.square() + right.square() <= 6.3)
    kernel = kernel - kernel.mean()
    return kernel / kernel.abs().sum()


def hand_net(digits: Digits) -> SimpleConvNet:
    """The same network without training: lines and edges, sums of them, and the mean of each digit's features.

    conv1: lines and edges of four orientations. conv2 and conv3: sums over a neighbourhood of one channel, or of two
    that meet at a right angle. fc4: nearness to each digit's mean, by how features vary within digits, which is linear
    in them (Fisher's discriminant, a formula and no training); fc5 hands it on.
    """
    network = SimpleConvNet((8, 12, 12), 10)
    blur = F.pad(torch.ones(3, 3) / 9, (1, 1, 1, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for number in range(8):
            network.conv1.weight[number, 0] = line_kernel(45.0 * (number % 4), edge=number >= 4)
        for number in range(8):
            network.conv2.weight[number, number] = blur
        for number in range(4):
            for part in (number % 4, (number + 2) % 4):
                network.conv2.weight[8 + number, part + 4 * (number >= 2)] = blur / 2
        for number in range(12):
            network.conv3.weight[number, number] = blur
        features = torch.cat([_features(network, part) for part in torch.split(digits.images, 250)])
        means = torch.stack([features[digits.labels == digit].mean(0) for digit in range(10)])
        within = features - means[digits.labels]
        precision = torch.linalg.inv(within.T @ within / len(within) + 0.05 * within.var() * torch.eye(len(within.T)))
        network.fc4.weight.copy_(means @ precision)
        network.fc4.bias.copy_(-((means @ precision) * means).sum(1) / 2)
        # fc4's ReLU would cut what is below zero: all are lifted above it alike.
        network.fc4.bias.add_(1 - float((features @ network.fc4.weight.T + network.fc4.bias).min()))
        network.fc5.weight.copy_(torch.eye(10))
    return network


def _features(network: SimpleConvNet, images: Tensor) -> Tensor:
    maps = (images - MEAN) / STD
    for convolution in (network.conv1, network.conv2, network.conv3):
        maps = F.max_pool2d(convolution(maps).relu(), 2)
    return maps.flatten(1)


# Figures


def superstimuli(model: Model, layer: str, *, steps: int) -> Figure:
    count = model.network.get_submodule(layer).out_channels
    drawn = maximize(
        model, channel(layer, list(range(count))), keys=[f"{layer}:{number}" for number in range(count)],
        pictures=list(range(count)), size=SIDE, steps=steps,
    )  # fmt: skip
    tiles = [picture[0].float()[..., None].expand(-1, -1, 3) / 255 for picture in drawn.images]
    return tiles_figure(tiles, f"{layer}: superstimuli", 8)


def orientations(model: Model) -> tuple[Tuning, Tensor, Tensor]:
    """How the first layer's channels answer lines and edges as these turn: the stronger of the two for each channel."""
    found = [tuning(model, "conv1", family((SIDE, SIDE), 12.0)) for family in (bars, edges)]
    pairs = [orientation_selectivity(each, period=period) for each, period in zip(found, (180, 360), strict=True)]
    angles, strengths = zip(*pairs, strict=True)
    better = strengths[1] > strengths[0]
    return found[0], torch.where(better, angles[1] % 180, angles[0]), torch.where(better, strengths[1], strengths[0])


def star() -> Tensor:
    """Lines of four orientations about the middle of one image (1, 28, 28)."""
    found = bars((SIDE, SIDE), 24.0, orientations=4)
    angles = found.parameters["orientation"]
    brightest = [found.images[angles == angle].flatten(1).sum(1).argmax() for angle in angles.unique()]
    lines = [found.images[angles == angle][number] for angle, number in zip(angles.unique(), brightest, strict=True)]
    return torch.stack(lines).amax(0)[:1]


def orientation_figure(angles: Tensor, strengths: Tensor, when: str) -> Figure:
    figure = Figure(figsize=(5.5, 3.6), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="polar")
    axes.set_thetamin(0)
    axes.set_thetamax(180)
    for number, (angle, strength) in enumerate(zip(angles.tolist(), strengths.tolist(), strict=True)):
        axes.plot([math.radians(angle)] * 2, [0, strength], linewidth=2)
        axes.annotate(str(number), (math.radians(angle), strength), fontsize=8)
    axes.set_title(f"conv1, {when}: the orientation that each channel prefers, and how clearly", fontsize=9)
    return figure


def clear(angles: Tensor, strengths: Tensor) -> str:
    """The orientations that are preferred clearly, in words."""
    return ", ".join(f"{angle:.0f}°" for angle in sorted(angles[strengths > 0.3].tolist())) or "none"


def rounds_figure(table: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(6.5, 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    retrained = [float(row["retrained"].rstrip("%")) for row in table]
    before = [float(row["pruned"].rstrip("%")) for row in table[1:]]
    axes.plot(range(len(table)), retrained, "o-", label="after retraining")
    axes.plot(range(1, len(table)), before, "s--", label="right after pruning")
    axes.set_xticks(range(len(table)), [f"{row['round']}\n{row['channels']}" for row in table], fontsize=7)
    axes.set_ylabel("held-out accuracy, %")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def study(out: Path, *, images: str = "digits", quick: bool = False) -> dict[str, Any]:
    """Everything, into a folder: figures, a table and a page. Returns the figures in numbers."""
    folder = OutputFolder.claim(out, {"command": "mnist", "images": images, "quick": quick}, overwrite=True)
    torch.manual_seed(0)
    digits = load_digits(images, most=1000 if quick else 60_000)
    network: nn.Module = SimpleConvNet()
    train(network, digits, epochs=2 if quick else 8)
    whole = accuracy(network, digits)
    before, trained = widths(network), network
    network, table = pruned(network, digits, rounds=2 if quick else 7, epochs=1 if quick else 3, share=0.13)
    model, steps = wrapped(network), 16 if quick else 64
    _, angles, strengths = orientations(model)
    digit = digits.held_images[int((digits.held_labels == 9).nonzero()[0])]
    _, all_angles, all_strengths = orientations(wrapped(trained))
    figures = {
        "conv1: weights": weights_figure(model, "conv1"),
        "conv1: a nine": maps_figure(model, "conv1", digit, title="conv1: what it makes of a nine"),
        "conv1: lines": maps_figure(model, "conv1", star(), title="conv1: what it makes of lines"),
        "conv1: orientations": orientation_figure(all_angles, all_strengths, "as trained"),
        "conv1: orientations of those that are left": orientation_figure(angles, strengths, "after pruning"),
        **{f"{layer}: superstimuli": superstimuli(model, layer, steps=steps) for layer in CONVOLUTIONS},
        "Accuracy over the rounds": rounds_figure(table),
    }
    copied = {layer: copies(model, layer, digits.held_images[:100]) for layer in CONVOLUTIONS[1:]}
    by_hand = hand_net(digits)
    untrained = accuracy(by_hand, digits)
    train(by_hand, digits, epochs=2 if quick else 8)
    tuned = accuracy(by_hand, digits)
    names = {heading: heading.replace(": ", "-").replace(" ", "-") for heading in figures}
    pictures = {
        heading: folder.write(f"{names[heading]}.png", partial(save_figure, figure)).read_bytes()
        for heading, figure in figures.items()
    }
    last = table[-1]
    lines = [
        f"{len(digits.images)} digits to learn from, {len(digits.held_images)} held out. {digits.note}".strip(),
        f"Trained: {whole:.2%}. After {len(table) - 1} rounds of pruning, {before} channels have become "
        f"{last['channels']}, and {last['retrained']} are right.",
        *(
            f"{layer}: its channels are copies of one of their inputs by {float(found.median()):.0%} (median squared "
            f"correlation), the best by {float(found.max()):.0%}."
            for layer, found in copied.items()
        ),
        f"Of {len(all_angles)} channels of conv1 as trained, {int((all_strengths > 0.3).sum())} prefer an orientation "
        f"clearly: {clear(all_angles, all_strengths)}; of the {len(angles)} that are left: {clear(angles, strengths)}.",
        f"By hand, without training: {untrained:.2%}; fine-tuned: {tuned:.2%}; SimpleConvNet: {whole:.2%}.",
    ]
    report = Report("A network of digits, taken apart", lines, pictures, table)
    write_viewer(make_book([], title="MNIST", facts={}, reports=[report]), folder)
    found = {
        "accuracy": whole, "rounds": table, "channels_before": before, "channels_after": widths(network),
        "final": accuracy(network, digits), "by_hand": untrained, "by_hand_tuned": tuned,
        "orientations": [round(angle, 1) for angle in angles.tolist()],
        "selectivities": [round(value, 3) for value in strengths.tolist()],
        "copies": {layer: [round(value, 3) for value in each.tolist()] for layer, each in copied.items()},
    }  # fmt: skip
    folder.write_json("study.json", found)
    folder.finish({"command": "mnist", "conclusion": lines})
    return {**found, "conclusion": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("mnist-out"))
    parser.add_argument("--images", default="digits", help="digits (embedded), or mnist: all of them")
    parser.add_argument("--quick", action="store_true", help="few digits, rounds and steps")
    arguments = parser.parse_args()
    for line in study(arguments.out, images=arguments.images, quick=arguments.quick)["conclusion"]:
        print("-", line)
    print("open", arguments.out / "index.html")


if __name__ == "__main__":
    main()
