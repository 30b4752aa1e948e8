"""Do a class's terminal features do what the claim says? Tests on images, each beside fair controls.

Claim (arXiv 2205.11908): the discriminative features of a class are vital to it, the confusing ones speak for others,
and weights that deviate from the fitted distribution can be pruned without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featviz.classifier import without_classifier
from featviz.errors import UserError
from featviz.layers import OUTPUT
from featviz.progress import Progress, silent
from search.images import Images
from search.scan import Skipped, scan
from search.statistics import PooledMaps

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
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Contrast:
    """One measure of a class's terminal features, beside two controls of the same count in the same classes.

    `terminal`; `matched`: other features whose weights are as large, whatever their sign; `random`: any other features;
    `over_matched`, `over_random`: the difference within classes.
    """

    terminal: Estimate
    matched: Estimate
    random: Estimate
    over_matched: Estimate
    over_random: Estimate


@dataclass(frozen=True)
class Evidence:
    """What the images say.

    `classes`, `images`: how many had a say; `side`: `discriminative` or `confusing`; `weight`: mean absolute weight of
    the features, which tells how well matched the control is; `firing`: standard score of the features' activations on
    the class's own images; `drop`: by how much the class's logit falls once the features are set to their mean over all
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
    """Accuracy on the images once a fraction of every class's weights is set to 0, by the order that removes them."""

    fractions: tuple[float, ...]
    accuracy: dict[str, tuple[float, ...]]
    error: float


@dataclass(frozen=True)
class Features:
    """What the classifier is given: `values` (images, features), `labels` (images,), `skipped` images."""

    values: Floats
    labels: NDArray[np.int64]
    skipped: tuple[Skipped, ...]


def features_of(found: Study, images: Images, *, workers: int | None = None, progress: Progress = silent) -> Features:
    """The classifier's features on every image whose class is known.

    Raises `UserError` where the images' classes are too few to test anything on.
    """
    known = [number for number, label in enumerate(images.labels) if 0 <= label < len(found.weights)]
    count = len({images.labels[number] for number in known})
    if count < LEAST_CLASSES:
        raise UserError(
            f"the tests need labelled images of at least {LEAST_CLASSES} of the network's classes; {images.source!r} "
            f"has {len(known)} of {count}. labels.csv says which class (`class_index`) a file shows."
        )
    pooled = PooledMaps()
    bare = without_classifier(found.model, found.classifier)
    scanned = scan(bare, images, [OUTPUT], [pooled], numbers=known, workers=workers, progress=progress)
    state = pooled.state()
    labels = np.array([images.labels[number] for number in state["image"].tolist()])
    return Features(state[OUTPUT].double().numpy(), labels, scanned.skipped)


def terminal_evidence(found: Study, features: Features, side: str, *, seed: int = 0) -> Evidence:
    """Whether one side's terminal features fire on their class and are needed for it, beside controls."""
    ends = found.discriminative if side == "discriminative" else found.confusing
    rng = np.random.default_rng(seed)
    labels = sorted(set(features.labels.tolist()))
    groups = [
        (own, _matched(found.weights[label], own), _random(found.weights.shape[1], own, rng))
        for label in labels
        for own in [np.array(ends.members[label])]
    ]
    measures: dict[str, Callable[[int, NDArray[np.int64]], float]] = {
        "weight": lambda label, chosen: float(np.abs(found.weights[label, chosen]).mean()),
        **_on_images(found, features),
    }
    contrasts = {}
    for name, measure in measures.items():
        rows = [[measure(label, chosen) for chosen in group] for label, group in zip(labels, groups, strict=True)]
        contrasts[name] = _contrast(rows, rng)
    return Evidence(side, len(labels), len(features.labels), **contrasts)


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
    """Rows: each class's value for its terminal, matched and random features."""
    values = np.array(rows, dtype=np.float64)
    values = values[np.isfinite(values).all(1)]
    columns = np.concatenate([values, values[:, :1] - values[:, 1:]], 1)
    if not len(columns):
        return Contrast(*(Estimate(np.nan, np.nan, np.nan) for _ in range(5)))
    draws = rng.integers(0, len(columns), (_RESAMPLES, len(columns)))
    low, high = np.quantile(np.stack([columns[draw].mean(0) for draw in draws]), (0.025, 0.975), axis=0)
    return Contrast(*(Estimate(*map(float, each)) for each in zip(columns.mean(0), low, high, strict=True)))


def prune(found: Study, features: Features, *, seed: int = 0) -> Pruning:
    """Accuracy against the fraction of each class's weights removed: by deviation from the fit, by size, at random.

    Deviation: of a weight's logarithm from its sign's line, as a share of the class's weights the largest first; size:
    the smallest first.
    """
    rng = np.random.default_rng(seed)
    orders = {
        "deviation from the fit": np.argsort(-deviations(found.weights), axis=1, kind="stable"),
        "size": np.argsort(np.abs(found.weights), axis=1, kind="stable"),
        "chance": rng.permuted(np.tile(np.arange(found.weights.shape[1]), (len(found.weights), 1)), axis=1),
    }
    bias = found.classifier.bias.double().numpy()
    accuracy = {}
    for name, order in orders.items():
        reached = []
        for fraction in FRACTIONS:
            kept = found.weights.copy()
            np.put_along_axis(kept, order[:, : round(fraction * order.shape[1])], 0, axis=1)
            reached.append(float(((features.values @ kept.T + bias).argmax(1) == features.labels).mean()))
        accuracy[name] = tuple(reached)
    whole = accuracy["chance"][0]
    return Pruning(FRACTIONS, accuracy, float(np.sqrt(whole * (1 - whole) / len(features.labels))))


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


def evidence_lines(evidence: Sequence[Evidence], pruning: Pruning) -> list[str]:
    """What the tests found, a sentence or two an entry."""
    lines = []
    for each in evidence:
        more = "more" if each.side == "discriminative" else "less"
        lines.append(
            f"{each.classes} classes, {each.images} images. On their class's images the {each.side} features fire "
            f"{each.firing.terminal} standard deviations above their mean; others with weights as large "
            f"{each.firing.matched}, any others {each.firing.random}. {_difference(each.firing, more)}"
        )
        lines.append(
            f"Set to their mean, the {each.side} features take {each.drop.terminal} from their class's logit, others "
            f"with weights as large {each.drop.matched} (mean size of the weights {each.weight.terminal.mean:.3g} and "
            f"{each.weight.matched.mean:.3g}), any others {each.drop.random}. Of images that were put first in their "
            f"class, {each.lost.terminal.mean:.1%}, {each.lost.matched.mean:.1%} and {each.lost.random.mean:.1%} are "
            "lost."
        )
    return [*lines, _pruning_line(pruning)]


def _difference(contrast: Contrast, expected: str) -> str:
    gap = contrast.over_matched
    if gap.low <= 0 <= gap.high:
        return f"The difference from those with weights as large, {gap}, may be chance."
    found = "more" if gap.mean > 0 else "less"
    return f"The difference from those with weights as large is {gap}: {found}" + (
        ", as claimed." if found == expected else ", against the claim."
    )


def _pruning_line(pruning: Pruning) -> str:
    whole = pruning.accuracy["chance"][0]
    half = pruning.fractions.index(0.5)
    reached = {name: values[half] for name, values in pruning.accuracy.items()}
    best = max(reached, key=lambda name: reached[name])
    claim = reached["deviation from the fit"]
    verdict = (
        "as good as any, as claimed" if claim >= max(reached.values()) - 2 * pruning.error else f"worse than by {best}"
    )
    return (
        f"Pruning half of every class's weights takes the accuracy from {whole:.1%} (standard error "
        f"{pruning.error:.1%}) to {claim:.1%} by deviation from the fit, {reached['size']:.1%} by size (the smallest "
        f"first), {reached['chance']:.1%} at random: by deviation it is {verdict}."
    )


def as_json(evidence: Sequence[Evidence], pruning: Pruning) -> dict[str, Any]:
    """All of it."""
    return {"evidence": [asdict(each) for each in evidence], "pruning": asdict(pruning)}
