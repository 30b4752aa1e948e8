from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from toys import noise_folder

from atlas.hypothesis import (
    Features,
    Pruning,
    _matched,
    deviations,
    features_of,
    network_labels,
    prune,
    terminal_evidence,
)
from atlas.hypothesis_report import as_json, evidence_lines
from atlas.tree import Terminals
from atlas.weights import Study, study
from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model
from search.images.images import Images, open_images

CLASSES, FEATURES = 12, 90


class _Linear(nn.Module):
    """Features are 90 pixels; class k's weights are large for features 5 k to 5 k + 4 alone."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.fc = nn.Linear(FEATURES, CLASSES)
        weight = torch.randn(CLASSES, FEATURES, generator=generator) * 0.05
        for label in range(CLASSES):
            weight[label, 5 * label : 5 * label + 5] = 1 + 0.1 * torch.rand(5, generator=generator)
        self.fc.weight.data, self.fc.bias.data = weight, torch.zeros(CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.fc(images.mean(1).flatten(1)[:, :FEATURES])
        return result


def _study() -> Study:
    return study(Model.wrap(_Linear().eval(), size=16, mean=(0.0,) * 3, std=(1.0,) * 3), bootstrap=0)


def _features(strength: float = 1.0, each: int = 5) -> Features:
    """Images of a class have its own five features higher by `strength`."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(CLASSES), each)
    values: NDArray[np.float64] = rng.random((len(labels), FEATURES))
    for row, label in enumerate(labels):
        values[row, 5 * label : 5 * label + 5] += strength
    return Features(values, labels, ())


def test_features_that_make_a_class_are_found_to_fire_and_to_be_needed() -> None:
    found = terminal_evidence(_study(), _features(), "discriminative")
    assert (found.classes, found.images) == (CLASSES, CLASSES * 5)
    assert found.firing.over_next.low > 0
    assert found.drop.over_next.low > 0
    assert found.lost.terminal.mean > found.lost.random.mean
    assert "as claimed" in evidence_lines([found], prune(_study(), _features()), _features())[0]


def test_features_that_have_nothing_to_do_with_the_class_show_no_difference() -> None:
    rng = np.random.default_rng(2)
    features = Features(rng.random((240, FEATURES)), rng.integers(0, CLASSES, 240), ())
    found = terminal_evidence(_study(), features, "discriminative")
    assert found.firing.over_next.low < 0 < found.firing.over_next.high


def test_a_drop_is_what_the_ablated_network_says() -> None:
    known, features = _study(), _features()
    found = terminal_evidence(known, features, "discriminative")
    drops = []
    for label in range(CLASSES):
        own = list(known.discriminative.members[label])
        ablated = features.values.copy()
        ablated[:, own] = features.values[:, own].mean(0)
        rows = features.labels == label
        drops.append(((features.values - ablated) @ known.weights[label])[rows].mean())
    assert found.drop.terminal.mean == pytest.approx(np.mean(drops))


def test_matched_features_are_others_of_the_nearest_size() -> None:
    weights = np.array([1.0, -0.9, 0.5, 0.45, -1.1, 0.1, 0.0])
    assert sorted(_matched(weights, np.array([2, 5])).tolist()) == [3, 6]
    for own in ([0], [2, 3], [0, 1, 2]):
        chosen = _matched(weights, np.array(own))
        assert len(set(chosen.tolist())) == len(own)
        assert not set(chosen.tolist()) & set(own)


def test_pruning_by_size_keeps_the_accuracy_that_pruning_at_random_loses() -> None:
    found = prune(_study(), _features(2.0))
    half = found.fractions.index(0.5)
    assert found.accuracy["size"][half] == found.accuracy["size"][0] == 1
    assert found.accuracy["chance"][-1] < 0.9
    assert all(0 <= value <= 1 for values in found.accuracy.values() for value in values)


def test_deviations_are_distances_from_the_lines() -> None:
    weights = np.exp(3 * np.arange(60) / 60 - 4)
    weights[40] *= 1.01  # still in order
    found = deviations(weights[None])[0]
    assert found.argmax() == 40
    assert found[40] == pytest.approx(np.log(1.01), rel=0.1)
    assert np.allclose(deviations(np.exp(3 * np.arange(60) / 60 - 4)[None]), 0, atol=1e-9)


def test_too_few_classes_are_said_not_guessed(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path, 9)
    (folder / "labels.csv").write_text("file,class_index\n" + "".join(f"{i:03d}.png,{i}\n" for i in range(9)))
    with pytest.raises(UserError, match=r"at least 10 of the network's classes; .* has images of 9"):
        features_of(_study(), open_images(folder))


def test_the_features_of_images_give_the_networks_own_answers(lite0: Model, image_sample: Path) -> None:
    images = open_images(image_sample)
    known = study(lite0, bootstrap=0)
    fields = {name: getattr(images, name)[:24] for name in ("names", "labels", "class_names", "files")}
    features = features_of(known, replace(images, **fields))
    logits = features.values @ known.weights.T + find_classifier(lite0).bias.double().numpy()
    assert (logits.argmax(1) == features.labels).mean() > 0.6
    assert isinstance(prune(known, features), Pruning)


def test_a_data_sets_own_class_numbers_are_not_taken_for_the_networks() -> None:
    known = _study()
    named = replace(known, model=replace(known.model, labels=tuple("abcdefghijkl")))
    names = tuple(reversed("abcdefghijkl"))
    images = Images("x", tuple(map(str, range(12))), tuple(range(12)), names)
    assert network_labels(named, images) == list(range(11, -1, -1))  # by their names
    assert network_labels(named, replace(images, class_names=tuple("abcdefghijkl"))) == list(range(12))
    assert network_labels(named, replace(images, class_names=("",) * 12)) == list(range(12))  # labels.csv says so
    with pytest.raises(UserError, match="has images of 0"):
        network_labels(named, replace(images, class_names=tuple("mnopqrstuvwx")))


def test_classes_without_controls_and_images_never_right_are_said() -> None:
    known, features = _study(), _features()
    wrong = replace(features, labels=(features.labels + 1) % CLASSES)
    found = terminal_evidence(known, wrong, "discriminative")
    assert np.isnan(found.lost.terminal.mean)
    lines = evidence_lines([found], prune(known, wrong), wrong)
    assert "put first in their class" in lines[0]
    assert json.loads(json.dumps(as_json([found], prune(known, wrong)), allow_nan=False))["evidence"][0]["side"]
    many = replace(known, discriminative=Terminals((tuple(range(60)),) * CLASSES, np.zeros(CLASSES, dtype=np.int64)))
    assert (
        "too many"
        in evidence_lines([terminal_evidence(many, features, "discriminative")], prune(known, features), features)[0]
    )


def test_weights_that_are_zero_already_do_not_count_as_pruned() -> None:
    known = _study()
    weights = np.where(np.abs(known.weights) < 0.5, 0, known.weights)
    found = prune(replace(known, weights=weights), _features(2.0))
    assert found.accuracy["size"][-1] < 1  # not zeros but weights are what goes
    assert set(found.harmless) == {"deviation from the fit", "size", "chance"}
