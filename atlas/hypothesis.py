"""Do a class's terminal features do what the claim says? Tests on images, each beside fair controls.

Claim (arXiv 2205.11908): the discriminative features of a class are vital to it, the confusing ones speak for others,
and weights that deviate from the fitted distribution can be pruned without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError
from featviz.network.classifier import without_classifier
from featviz.network.layers import OUTPUT
from featviz.progress import Progress, silent
from search.images.classes import class_map, unmatched_told
from search.images.images import Images
from search.scan.loading import Skipped
from search.scan.scan import scan
from search.scan.statistics import PooledMaps

from .ald import Floats, fit
from .weights import Study

# Fewer classes with images than this carry no interval worth printing.
LEAST_CLASSES = 10
_RESAMPLES = 2000
FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Estimate:
    """A mean over classes and its 95 % interval under resampling the classes."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return "–" if np.isnan(self.mean) else f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Contrast:
    """One measure of a class's terminal features, beside controls of the same count in the same classes.

    `terminal`; `next`: those that follow in the order of the weights, of the same sign; `matched`: other features whose
    weights are as large, whatever their sign, which for the ends of that order means mostly the other sign; `random`:
    any other features; `over_next`: the difference from the next within classes.
    """

    terminal: Estimate
    next: Estimate
    matched: Estimate
    random: Estimate
    over_next: Estimate


@dataclass(frozen=True)
class Evidence:
    """What the images say.

    `classes`, `images`: how many had a say; `side`: `discriminative` or `confusing`; `weight`: mean absolute weight of
    the features, which tells how well matched the controls are; `firing`: standard score of their activations on the
    class's own images; `drop`: by how much the class's logit falls once the features are set to their mean over all
    images; `lost`: share of the class's images that are then no longer put first, of those that were.
    """

    side: str
    classes: int
    images: int
    weight: Contrast
    firing: Contrast
    drop: Contrast
    lost: Contrast


@dataclass(frozen=True)
class Pruning:
    """Accuracy on the images once a fraction of every class's weights that are not 0 is removed, by who goes first.

    `accuracy`: order -> for each of the `fractions`; `harmless`: order -> the largest fraction up to which the accuracy
    does not fall measurably: the 95 % interval of the paired differences between images reaches 0.
    """

    fractions: tuple[float, ...]
    accuracy: dict[str, tuple[float, ...]]
    harmless: dict[str, float]


@dataclass(frozen=True)
class Features:
    """What the classifier is given: `values` (images, features), `labels` (images,), `skipped` images."""

    values: Floats
    labels: NDArray[np.int64]
    skipped: tuple[Skipped, ...]


def network_labels(found: Study, images: Images) -> list[int]:
    """Each image's class as the network counts them, -1 where unknown; by name where names are known (`class_map`).

    Raises `UserError` where too few classes are known to test on.
    """
    mapped = class_map(images, found.model.labels)
    labels = [label if 0 <= label < len(found.weights) else -1 for label in mapped.labels]
    count = len({label for label in labels if label >= 0})
    if count < LEAST_CLASSES:
        why = unmatched_told(images, mapped, found.model.labels, found.model.name) if mapped.unmatched else ""
        raise UserError(
            f"the tests need labelled images of at least {LEAST_CLASSES} of the network's classes; {images.source!r} "
            f"has images of {count}. {why or 'labels.csv says which class (`class_index`) a file shows.'}"
        )
    return labels


def features_of(found: Study, images: Images, *, workers: int | None = None, progress: Progress = silent) -> Features:
    """The classifier's features on every image whose class is known.

    Raises `UserError` as `network_labels` does, and where the network's logits are not those of its classifier.
    """
    labels = np.array(network_labels(found, images))
    pooled = PooledMaps()
    bare = without_classifier(found.model, found.classifier)
    numbers = np.flatnonzero(labels >= 0).tolist()
    scanned = scan(bare, images, [OUTPUT], [pooled], numbers=numbers, workers=workers, progress=progress)
    state = pooled.state()
    return Features(state[OUTPUT].double().numpy(), labels[state["image"].numpy()], scanned.skipped)


def terminal_evidence(found: Study, features: Features, side: str, *, seed: int = 0) -> Evidence:
    """Whether one side's terminal features fire on their class and are needed for it, beside controls.

    Left out are classes whose terminal features are more than a quarter of all, as where most weights are 0.
    """
    ends = found.discriminative if side == "discriminative" else found.confusing
    rng = np.random.default_rng(seed)
    groups = {
        label: _groups(found.weights[label], np.array(ends.members[label]), side, rng)
        for label in sorted(set(features.labels.tolist()))
        if 4 * len(ends.members[label]) <= found.weights.shape[1]
    }
    measures: dict[str, Callable[[int, NDArray[np.int64]], float]] = {
        "weight": lambda label, chosen: float(np.abs(found.weights[label, chosen]).mean()),
        **_on_images(found, features),
    }
    contrasts = {}
    for name, measure in measures.items():
        rows = [[measure(label, chosen) for chosen in group] for label, group in groups.items()]
        contrasts[name] = _contrast(rows, rng)
    return Evidence(side, len(groups), int(np.isin(features.labels, list(groups)).sum()), **contrasts)


def _groups(weights: Floats, own: NDArray[np.int64], side: str, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """The terminal features and their controls, as many each: the next, the matched, the random."""
    order = np.argsort(-weights if side == "discriminative" else weights, kind="stable")
    following = order[~np.isin(order, own)][: len(own)]
    return [own, following, _matched(weights, own), _random(len(weights), own, rng)]


def _on_images(found: Study, features: Features) -> dict[str, Callable[[int, NDArray[np.int64]], float]]:
    """The measures of a class's features (label, features) on the class's own images."""
    mean, deviation = features.values.mean(0), features.values.std(0)
    scores = (features.values - mean) / np.where(deviation > 0, deviation, 1)
    bias = found.classifier.bias.double().numpy()
    logits = features.values @ found.weights.T + bias
    first = logits.argmax(1)

    def firing(label: int, chosen: NDArray[np.int64]) -> float:
        return float(scores[features.labels == label][:, chosen].mean())

    def change(label: int, chosen: NDArray[np.int64]) -> Floats:
        """(images of the class, classes) what setting the features to their mean adds to the logits."""
        own = features.values[features.labels == label][:, chosen]
        return np.asarray((mean[chosen] - own) @ found.weights[:, chosen].T)

    def drop(label: int, chosen: NDArray[np.int64]) -> float:
        return float(-change(label, chosen)[:, label].mean())

    def lost(label: int, chosen: NDArray[np.int64]) -> float:
        own = features.labels == label
        right = first[own] == label
        after = (logits[own] + change(label, chosen)).argmax(1) == label
        return float((right & ~after).sum() / right.sum()) if right.any() else np.nan

    return {"firing": firing, "drop": drop, "lost": lost}


def _matched(weights: Floats, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many other features, each the one still free whose weight is the nearest in size, the largest served first."""
    size = np.abs(weights)
    free = size.copy()
    free[own] = np.nan
    chosen = []
    for feature in own[np.argsort(-size[own], kind="stable")]:
        nearest = int(np.nanargmin(np.abs(free - size[feature])))
        chosen.append(nearest)
        free[nearest] = np.nan
    return np.array(chosen)


def _random(count: int, own: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return np.asarray(rng.choice(np.setdiff1d(np.arange(count), own), len(own), replace=False))


def _contrast(rows: Sequence[Sequence[float]], rng: np.random.Generator) -> Contrast:
    """Rows: each class's value for its terminal features and for the three controls."""
    values = np.array(rows, dtype=np.float64).reshape(-1, 4)
    values = values[np.isfinite(values).all(1)]
    columns = np.concatenate([values, values[:, :1] - values[:, 1:2]], 1)
    if not len(columns):
        return Contrast(*(Estimate(np.nan, np.nan, np.nan) for _ in range(5)))
    draws = rng.integers(0, len(columns), (_RESAMPLES, len(columns)))
    low, high = np.quantile(np.stack([columns[draw].mean(0) for draw in draws]), (0.025, 0.975), axis=0)
    return Contrast(*(Estimate(*map(float, each)) for each in zip(columns.mean(0), low, high, strict=True)))


def prune(found: Study, features: Features, *, seed: int = 0) -> Pruning:
    """Accuracy against the fraction of each class's weights removed: by deviation from the fit, by size, at random.

    Deviation: of a weight's logarithm from its sign's line, the largest first; size: the smallest first. Weights that
    are 0 already do not count.
    """
    weights, live = found.weights, found.weights != 0
    keys = {
        "deviation from the fit": -deviations(weights),
        "size": np.abs(weights),
        "chance": np.random.default_rng(seed).random(weights.shape),
    }
    bias = found.classifier.bias.double().numpy()
    whole = (features.values @ weights.T + bias).argmax(1) == features.labels
    accuracy, harmless = {}, {}
    for name, key in keys.items():
        rank = np.argsort(np.argsort(np.where(live, key, np.inf), axis=1, kind="stable"), axis=1)
        right = []
        for fraction in FRACTIONS:
            kept = np.where(rank < np.rint(fraction * live.sum(1))[:, None], 0, weights)
            right.append((features.values @ kept.T + bias).argmax(1) == features.labels)
        accuracy[name] = tuple(float(each.mean()) for each in right)
        harmful = [_falls(whole, each) for each in right]
        harmless[name] = FRACTIONS[(harmful.index(True) if any(harmful) else len(FRACTIONS)) - 1]
    return Pruning(FRACTIONS, accuracy, harmless)


def _falls(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Whether fewer images are right than before, beyond a 95 % interval of the paired differences."""
    change = after.astype(np.float64) - before
    return bool(change.mean() + 1.96 * change.std() / np.sqrt(len(change)) < 0)


def deviations(weights: Floats) -> Floats:
    """How far each weight's logarithm lies from its sign's line, (classes, features); zeros do not deviate."""
    found = np.zeros_like(weights)
    lines = fit(weights)
    for line, signed in ((lines.positive, weights), (lines.negative, -weights)):
        order = np.argsort(signed, axis=1, kind="stable")
        place = np.argsort(order, axis=1, kind="stable")
        share = (place - (weights.shape[1] - line.n)[:, None]) / np.maximum(line.n, 1)[:, None]
        expected = line.slope[:, None] * share + line.intercept[:, None]
        away = np.abs(np.log(np.where(signed > 0, signed, 1)) - expected)
        found = np.where(signed > 0, np.nan_to_num(away), found)
    return found
