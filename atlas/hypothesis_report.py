"""What the tests of a class's terminal features found: in sentences, as a table, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .hypothesis import Evidence, Features, Pruning


def evidence_lines(evidence: Sequence[Evidence], pruning: Pruning, features: Features) -> list[str]:
    """What the tests found, a sentence or two an entry."""
    lines = [line for each in evidence for line in _side_lines(each)]
    whole = pruning.accuracy["chance"][0]
    if features.skipped:
        lines.insert(0, f"{len(features.skipped)} images could not be read.")
    if whole < 0.1:
        lines.insert(
            0, f"Only {whole:.1%} of the images are put first in their class: are these the network's classes?"
        )
    return [*lines, _pruning_line(pruning, len(features.labels))]


def _side_lines(each: Evidence) -> list[str]:
    if not each.classes:
        return [f"The {each.side} features are too many in every class to have controls: nothing was tested."]
    sizes = ", ".join(f"{getattr(each.weight, name).mean:.3g}" for name in ("terminal", "next", "matched", "random"))
    lost = each.lost
    shares = (
        f" Of images that were put first in their class, {lost.terminal.mean:.1%} [{lost.terminal.low:.1%}, "
        f"{lost.terminal.high:.1%}], {lost.next.mean:.1%}, {lost.matched.mean:.1%} and {lost.random.mean:.1%} are lost."
    )
    return [
        f"{each.classes} classes, {each.images} images. On their class's images the {each.side} features fire "
        f"{each.firing.terminal} standard deviations above their mean; those next in the order of the weights "
        f"{each.firing.next}; others with weights as large, mostly of the other sign, {each.firing.matched}; any "
        f"others {each.firing.random}. {_difference(each)}",
        f"Set to their mean, the {each.side} features take {each.drop.terminal} from their class's logit, the next "
        f"{each.drop.next}, those with weights as large {each.drop.matched}, any others {each.drop.random} (mean sizes "
        f"of the weights: {sizes})." + (shares if np.isfinite(lost.terminal.mean) else " No image was put first."),
    ]


def _difference(each: Evidence) -> str:
    """The fair comparison: with features of the same sign. The claim says what to expect of one side alone."""
    gap = each.firing.over_next
    if not np.isfinite(gap.mean):
        return "There is no difference to be told."
    if gap.low <= 0 <= gap.high:
        return f"The difference from the next ones, {gap}, may be chance."
    found = f"The difference from the next ones is {gap}"
    if each.side != "discriminative":
        return f"{found}."
    return f"{found}: {'more, as claimed' if gap.mean > 0 else 'less, against the claim'}."


def _pruning_line(pruning: Pruning, images: int) -> str:
    half = pruning.fractions.index(0.5)
    after = {name: f"{values[half]:.1%}" for name, values in pruning.accuracy.items()}
    free = pruning.harmless
    deviation = free["deviation from the fit"]
    verdict = "no better a guide than chance" if deviation <= free["chance"] else "a better guide than chance"
    than_size = "and a worse one than" if deviation < free["size"] else "and as good as"
    return (
        f"Pruning on {images} images, {pruning.accuracy['chance'][0]:.1%} of which are put first in their class: up to "
        f"{deviation:.0%} of every class's weights can go by deviation from the fit before that falls measurably, "
        f"{free['size']:.0%} by size (the smallest first), {free['chance']:.0%} at random. With half of them gone it "
        f"is {after['deviation from the fit']}, {after['size']} and {after['chance']}. Deviation is {verdict}, "
        f"{than_size} size."
    )


def evidence_rows(evidence: Sequence[Evidence]) -> list[dict[str, str]]:
    """A row for each side and measure: the terminal features, their controls, the difference from the next ones."""
    measures = {
        "weight": "mean size of the weights",
        "firing": "activation, standard deviations above the mean",
        "drop": "fall of the logit",
        "lost": "share of images lost",
    }
    groups = ("terminal", "next", "matched", "random", "over_next")
    return [
        {"features": each.side, "measure": words}
        | {group.replace("_", " "): str(getattr(getattr(each, name), group)) for group in groups}
        for each in evidence
        for name, words in measures.items()
    ]


def as_json(evidence: Sequence[Evidence], pruning: Pruning) -> dict[str, Any]:
    """All of it; None for what could not be worked out."""
    found: dict[str, Any] = _without_nan({"evidence": [asdict(each) for each in evidence], "pruning": asdict(pruning)})
    return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
