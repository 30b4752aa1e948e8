"""Are an atlas's names true? Judged by photographs that neither chose nor checked them, beside random names.

An atlas of EfficientNet-Lite0 over a folder of labelled ImageNet photographs, two layers. In each of some splits a
third of the photographs judges: they are in the map, their labels take no part. A cell's name is true where half of its
judging photographs are of the name, or of anything near it in WordNet: below a common ancestor that a fifth of all
photographs at most lie below. `random` gives each named cell the name of another; `classes` are the labels by effect on
the logits. Also: how many cells of a network with random weights get a name, whether units of the output are called
what they are, and how long naming 1,000 units by 1,860 names on 5,000 images takes. JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import timm
import torch
from common import machine

import atlas
from atlas.grid import Cell, cell_numbers
from atlas.label import label
from atlas.result import Atlas
from featviz import Model, load_model
from search import Images, exemplars, open_images
from search.exemplars.names import names
from search.images.image_set import first_views
from search.naming.hierarchy import Hierarchy
from search.naming.naming import Evidence, name_units
from search.naming.vocabulary import Concepts, Labels, Predictions

LAYERS = ("blocks.5", "blocks.6")
GRID = 20
# Nodes with more of the photographs below them than this are near to nothing.
NEAR = 0.2


class Truth:
    """What is true of photographs, by their labels."""

    def __init__(self, images: Images) -> None:
        self.tree = Hierarchy.wordnet()
        self.members = Labels("wordnet").of(images, range(len(images))).members[:, : len(self.tree.names)]
        self.common = self.members.mean(0)

    def near(self, node: int) -> np.ndarray:
        """(images,) whether each is of a node, or of anything near it."""
        above = [each for each in self.tree.lines[node] if self.common[each] <= NEAR]
        found: np.ndarray = self.members[:, node] | self.members[:, above].any(1)
        return found

    def node(self, text: str) -> int:
        """The node of a name; of several that of most photographs."""
        nodes = [node for node, name in enumerate(self.tree.names) if name == text]
        return max(nodes, key=lambda node: self.common[node])


def judged(built: Atlas, images: Images, truth: Truth, split: int) -> dict[str, float]:
    """Of the named cells, the shares whose name, a random one, and the first class is true."""
    rng = np.random.default_rng(split)
    judges = set(rng.permutation(len(images))[: len(images) // 3].tolist())
    labels = tuple(-1 if number in judges else each for number, each in enumerate(images.labels))
    own = replace(images, labels=labels)
    identity = {**built.manifest["identity"], "images": own.fingerprint}
    named = label(replace(built, manifest={**built.manifest, "identity": identity}), own, seed=split,
                  vocabulary=Labels.among([images]))  # fmt: skip
    numbers = cell_numbers(built.xy, GRID)

    def inside(cell: Cell) -> list[int]:
        return sorted(set(built.sample.image[numbers == cell.row * GRID + cell.col].tolist()) & judges)

    with_name = [cell for cell in named.cells if cell.name]
    texts = [cell.name.text for cell in with_name if cell.name]
    right: dict[str, list[bool]] = {"names": [], "random": [], "classes": []}
    for cell, text, other in zip(with_name, texts, rng.permutation(texts).tolist(), strict=True):
        if len(seen := inside(cell)) >= 2:
            nodes = {
                "names": truth.node(text),
                "random": truth.node(other),
                "classes": truth.tree.classes[cell.top[0][0]],
            }
            for name, node in nodes.items():
                right[name].append(bool(truth.near(node)[seen].mean() >= 0.5))
    found = {name: float(np.mean(each)) for name, each in right.items()}
    return {"named": len(with_name) / len(named.cells), "judged": len(right["names"]), **found}


def random_weights(model: Model, images: Images) -> Model:
    """The same architecture without training, its norms settled on photographs so that signals do not vanish."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        network(model.preprocess.normalize(first_views(images, model.preprocess, 64)))
    return replace(model, network=network.eval(), name="random weights")


def seconds() -> float:
    """Of naming 1,000 units by 1,860 names on 5,000 images."""
    rng = np.random.default_rng(0)
    members = rng.random((5000, 1860)) < rng.uniform(0.01, 0.4, 1860)
    values = rng.normal(size=(1000, 5000)).astype(np.float32)
    concepts = Concepts(tuple(map(str, range(1860))), members, np.ones(5000, bool), "labels")
    start = time.monotonic()
    name_units(Evidence(values[:, :2000], members[:2000]), Evidence(values[:, 2000:], members[2000:]), concepts)
    return time.monotonic() - start


def outputs(model: Model, images: Images) -> dict[str, float]:
    """Of the classes present, how many output units are closest to their own name."""
    found = exemplars(model, images, "output")
    tree, present = Hierarchy.wordnet(), sorted(set(images.labels))
    by_labels = names(found, vocabulary=Labels("wordnet"))
    by_other = names(found, vocabulary=Predictions(load_model("efficientnet_lite1"), None))
    own = {
        each: [tree.names[node] for node in (tree.classes[each], *tree.parents[tree.classes[each]])] for each in present
    }
    return {
        "class or parent, by labels": float(
            np.mean([by_labels["output", each].closest[0][0] in own[each] for each in present])
        ),
        "class, by Lite1": float(
            np.mean([by_other["output", each].closest[0][0] == model.labels[each] for each in present])
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Names of cells and units.")
    parser.add_argument("images", help="a folder of labelled ImageNet photographs")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--samples", type=int, default=8000)
    options = parser.parse_args()
    model, images = load_model(device="cpu"), open_images(options.images)
    truth = Truth(images)
    made: dict[str, Any] = {}
    for name, network in (("trained", model), ("random weights", random_weights(model, images))):
        for layer in LAYERS:
            built = atlas.build(network, layer, images, tiles="photos", grid=(GRID,), samples=options.samples)
            whole = {"named with all photographs": built.manifest["names"]["cells"][str(GRID)]}
            if name == "trained":
                rows = [judged(built, images, truth, split) for split in range(options.splits)]
                whole |= {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
                whole["classes held"] = built.speaking.held if built.speaking else None
            made[f"{layer}, {name}"] = whole
    units = {
        name: {layer: float(np.mean([found.name is not None for (of, _), found in called.items() if of == layer]))
               for layer in LAYERS}
        for name, network in (("trained", model), ("random weights", random_weights(model, images)))
        for called in (names(exemplars(network, images, list(LAYERS)), vocabulary=Labels("wordnet")),)
    }  # fmt: skip
    print(json.dumps({**machine(model), "cells": made, "channels named": units, "outputs": outputs(model, images),
                      "seconds": seconds()}, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
