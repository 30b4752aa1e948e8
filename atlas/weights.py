"""Everything about a final layer's weights that needs no image: fits, distributions, splits, a plain conclusion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featviz.network.classifier import Classifier, find_classifier
from featviz.network.models import Model
from featviz.progress import Progress, silent

from .ald import Fit, Floats, Line, fit
from .distributions import FITS, Comparison, Fitted, compare, draw
from .tree import MINUS, PLUS, Node, Terminals, split, stability, terminals

NOISES = (0.01, 0.05, 0.1)
# Classes' worth of draws behind what R2 a distribution gives by itself.
_DRAWS = 200


@dataclass(frozen=True)
class Study:
    """What the weights (classes, features) of a network's classifier say.

    `comparison`: of the distributions of each class's weights that are not exactly 0, by the number of those:
    (classes, their comparison); `discriminative`, `confusing`: the ends of the chains of pluses and minuses.
    """

    model: Model
    classifier: Classifier
    weights: Floats
    fit: Fit
    comparison: tuple[tuple[NDArray[np.int64], Comparison], ...]
    discriminative: Terminals
    confusing: Terminals

    @property
    def winner(self) -> NDArray[np.str_]:
        """(classes,) which distribution fits the class best."""
        found = np.full(len(self.weights), "", dtype="<U32")
        for classes, comparison in self.comparison:
            found[classes] = comparison.winner
        return found

    def name(self, label: int) -> str:
        """A class's name, with its number where another is called the same but for case; else the number."""
        name = self.model.class_name(label)
        return f"{name} ({label})" if self._lowered[name.lower()] > 1 else name

    @cached_property
    def _lowered(self) -> Counter[str]:
        return Counter(label.lower() for label in self.model.labels)

    def fitted(self, label: int) -> dict[str, Fitted]:
        """The distributions fitted to one class's weights, by name; none where its weights do not vary."""
        for classes, comparison in self.comparison:
            for row in np.flatnonzero(classes == label):
                return {name: own.row(int(row)) for name, own in comparison.fitted.items()}
        return {}

    def likely_kappa(self, label: int) -> float:
        """The asymmetry of a class's weights by maximum likelihood."""
        fitted = self.fitted(label)
        return float(fitted["asymmetric laplace"].parameters["kappa"][0]) if fitted else float("nan")

    def column(self, what: str, distribution: str) -> Floats:
        """(classes,) `p`, `distance`, `bic`, `aic` or `log_likelihood` of one distribution."""
        found = np.full(len(self.weights), np.nan)
        for classes, comparison in self.comparison:
            own = comparison.fitted[distribution]
            found[classes] = {
                "p": comparison.p[distribution],
                "distance": comparison.distance[distribution],
                "bic": own.bic(comparison.n),
                "aic": own.aic,
                "log_likelihood": own.log_likelihood,
            }[what]
        return found


def study(model: Model, *, bootstrap: int = 999, seed: int = 0, progress: Progress = silent) -> Study:
    """Fit, compare and split the weights of a network's classifier.

    Raises `UserError` for a network without one, for fewer than 40 features and for weights that are not finite.
    """
    classifier = find_classifier(model)
    weights = classifier.weight.double().numpy()
    found = fit(weights)
    comparisons, nulls = [], {}  # type: ignore[var-annotated]
    for classes in _alike(weights):
        rows = np.stack([row[row != 0] for row in weights[classes]])
        compared = compare(rows, bootstrap=bootstrap, seed=seed, nulls=nulls, progress=progress)
        comparisons.append((classes, compared))
    return Study(
        model, classifier, weights, found, tuple(comparisons), terminals(weights, PLUS), terminals(weights, MINUS)
    )


def _alike(weights: Floats) -> list[NDArray[np.int64]]:
    """Classes by how many of their weights are not 0; left out those whose weights do not vary, or are fewer than 3."""
    used = (weights != 0).sum(1)
    least = np.where(weights != 0, weights, np.inf).min(1)
    varies = (used >= 3) & (least < np.where(weights != 0, weights, -np.inf).max(1))
    return [np.flatnonzero((used == count) & varies) for count in sorted(set(used[varies].tolist()))]


def as_json(found: Study, classes: Sequence[int]) -> dict[str, Any]:
    """Class name -> its fits, distributions, terminal features and tree."""
    place = {int(label): (comparison, row) for own, comparison in found.comparison for row, label in enumerate(own)}
    return {
        found.name(label): {
            "class": label,
            "zeros": int(found.fit.zeros[label]),
            "positive": _line(found.fit.positive, label),
            "negative": _line(found.fit.negative, label),
            "kappa": _finite(found.fit.positive.kappa[label]),
            "lambda": _finite(found.fit.positive.scale[label]),
            "mean": _finite(found.fit.positive.mean[label]),
            "undefined": _why_undefined(found.fit.positive, label),
            "mle": _likelihoods(*place[label]) if label in place else None,
            "winner": str(found.winner[label]) or None,
            "discriminative": list(found.discriminative.members[label]),
            "confusing": list(found.confusing.members[label]),
            "tree": _tree(split(found.weights[label])),
        }
        for label in classes
    }


def conclusion(found: Study, *, seed: int = 0) -> list[str]:
    """What the weights say about the claim that they are asymmetric Laplace, a sentence or two an entry."""
    chance = _r2_by_chance(found, seed)
    part = "" if found.classifier.exact else " (the network does more with what this layer gives)"
    classes, features = found.weights.shape
    line = found.fit
    return [
        f"{found.model.name}, layer {found.classifier.name}{part}: {classes} classes of {features} weights; "
        f"{int(found.fit.zeros.sum())} are exactly 0 and left out.",
        f"The lines through the sorted logarithms have a mean R2 of {_mean(line.positive.r2)} for positive and "
        f"{_mean(line.negative.r2)} for negative weights (all classes at once: {_mean(line.joint_positive.r2)} "
        f"and {_mean(line.joint_negative.r2)}). That alone tells nothing: sorted numbers rise whatever their "
        f"distribution. Drawn from a normal distribution the same lines have {chance['normal']:.3f}, from a Laplace "
        f"{chance['laplace']:.3f}.",
        *(_distribution_lines(found) if found.comparison else ["The weights do not vary: no distribution fits them."]),
        *_split_lines(found, seed),
    ]


def class_line(found: Study, label: int) -> str:
    """What is to be said of one class alone."""
    plus, minus = len(found.discriminative.members[label]), len(found.confusing.members[label])
    sizes = f"{plus} discriminative and {minus} confusing features"
    if not found.winner[label]:
        return f"{found.name(label)}: its weights do not vary; {sizes}."
    gap = float((found.column("bic", "asymmetric laplace") - found.column("bic", "normal"))[label])
    why = _why_undefined(found.fit.positive, label)
    by_line = why or f"{found.fit.positive.kappa[label]:.3f} by the line"
    return (
        f"{found.name(label)}: best described by the {found.winner[label]}; R2 {found.fit.positive.r2[label]:.3f} for "
        f"positive and {found.fit.negative.r2[label]:.3f} for negative weights; the asymmetric Laplace's criterion is "
        f"{gap:+.1f} beside the normal's; kappa: {by_line}, {found.likely_kappa(label):.3f} by maximum likelihood; "
        f"{sizes}."
    )


def _distribution_lines(found: Study) -> list[str]:
    counts = {name: int((found.winner == name).sum()) for name in FITS}
    order = sorted((name for name in FITS if counts[name]), key=lambda name: -counts[name])
    classes = sum(counts.values())
    gap = found.column("bic", "asymmetric laplace") - found.column("bic", "normal")
    lines = [
        "By the Bayesian information criterion the best of four distributions is "
        f"{', '.join(f'the {name} for {counts[name]}' for name in order)} of {classes} classes.",
        f"The normal beats the asymmetric Laplace in {int((gap > 0).sum())} classes (median difference of the "
        f"criterion {np.nanmedian(gap):+.1f}; above 10 is usually called very strong for the normal, below -10 for "
        "the other).",
    ]
    for name in ("asymmetric laplace", "normal"):
        p = found.column("p", name)
        if np.isfinite(p).any():
            lines.append(
                f"The {name} is rejected at the 5 % level (Kolmogorov and Smirnov's distance, parametric bootstrap) in "
                f"{(p[np.isfinite(p)] < 0.05).mean():.0%} of the classes; it would be in 5 % if it were the right one."
            )
    left_out = len(found.weights) - classes
    if left_out:
        lines.append(f"{left_out} classes are left out of this: their weights do not vary.")
    return [*lines, _verdict(counts, classes, found.column("p", "asymmetric laplace"))]


def _verdict(counts: Mapping[str, int], classes: int, p: Floats) -> str:
    """Whether the weights are asymmetric Laplace; the Laplace is the one with kappa = 1."""
    share = (counts["asymmetric laplace"] + counts["laplace"]) / classes
    known = p[np.isfinite(p)]
    rejected = float((known < 0.05).mean()) if len(known) else float("nan")
    if share <= 0.5:
        return f"So the claim does not hold here: a Laplace, asymmetric or not, is the best for {share:.0%} of them."
    best = f"a Laplace, asymmetric or not, is the best of the four for {share:.0%} of the classes"
    if rejected > 0.2:
        return f"So the claim is not confirmed: {best}, and yet it is rejected in {rejected:.0%}."
    untested = "" if len(known) else ", untested: there are no p-values"
    return f"So the claim holds here for most classes, as far as these four can tell: {best}{untested}."


def _split_lines(found: Study, seed: int) -> list[str]:
    lines = []
    for name, which, ends, sign in (
        ("discriminative", "largest", found.discriminative, PLUS),
        ("confusing", "smallest", found.confusing, MINUS),
    ):
        order = np.argsort(-found.weights if sign == PLUS else found.weights, axis=1, kind="stable")
        pairs = zip(ends.members, order, strict=True)
        plain = np.mean([set(members) == set(row[: len(members)].tolist()) for members, row in pairs])
        kept = {noise: float(np.mean(stability(found.weights, sign, noise, seed=seed))) for noise in NOISES}
        lines.append(
            f"The {name} features: {ends.sizes.mean():.1f} a class ({ends.sizes.min()} to {ends.sizes.max()}), after "
            f"{ends.depth.mean():.2f} splits. In {plain:.0%} of the classes they are just the {which} weights, as "
            "many: the recursion sets how many, not which. Once the weights get normal noise, the share of members "
            f"that stay is {_listed(kept)}."
        )
    return lines


def _r2_by_chance(found: Study, seed: int) -> dict[str, float]:
    """The mean R2 of the positive lines of weights drawn from a distribution, as many as there are."""
    rng = np.random.default_rng(seed)
    size = (min(_DRAWS, 4 * len(found.weights)), found.weights.shape[1])
    return {name: float(np.nanmean(fit(draw(name, 1.0, size, rng)).positive.r2)) for name in ("normal", "laplace")}


def joint_json(found: Study) -> dict[str, Any]:
    """The lines of all classes' weights at once."""
    return {"positive": _line(found.fit.joint_positive, 0), "negative": _line(found.fit.joint_negative, 0)}


def _line(line: Line, label: int) -> dict[str, float | int | None]:
    return {
        "slope": _finite(line.slope[label]),
        "intercept": _finite(line.intercept[label]),
        "r2": _finite(line.r2[label]),
        "n": int(line.n[label]),
    }


def _why_undefined(line: Line, label: int) -> str | None:
    if not np.isfinite(line.slope[label]):
        return f"{line.n[label]} positive weights make no line"
    if not np.isfinite(line.kappa[label]):
        return "slope <= exp(intercept): the line implies no asymmetric Laplace"
    return None


def _likelihoods(comparison: Comparison, row: int) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            **{key: _finite(column[row]) for key, column in own.parameters.items()},
            "log_likelihood": _finite(own.log_likelihood[row]),
            "aic": _finite(own.aic[row]),
            "bic": _finite(own.bic(comparison.n)[row]),
            "ks": _finite(comparison.distance[name][row]),
            "p": _finite(comparison.p[name][row]),
        }
        for name, own in comparison.fitted.items()
    }


def _tree(node: Node) -> dict[str, Any]:
    known: dict[str, Any] = {"path": node.path, "size": len(node.members)}
    if node.terminal:
        return {**known, "members": list(node.members)}
    return {**known, "children": [_tree(child) for child in node.children]}


def _listed(kept: Mapping[float, float]) -> str:
    return ", ".join(f"{share:.2f} for {noise:.0%} of their deviation" for noise, share in kept.items())


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: Floats) -> str:
    return f"{np.nanmean(values):.3f}" if np.isfinite(values).any() else "no value"
