"""Who wins: ours against the best of the peers, in a plain sentence that does not mind who it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

US = "activation-atlas"
# Ratios nearer to 1 than this are a draw: turns of one contender differ as much.
DRAW = 1.05


@dataclass(frozen=True)
class Verdict:
    """Who wins at a subject, by how much, and both as a sentence."""

    subject: str
    winner: str
    margin: str
    sentence: str


@dataclass(frozen=True)
class Reading:
    """A comparison as a page shows it; `did`: what each contender did."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    did: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    notes: Sequence[str] = ()


def faster(subject: str, ours: float, theirs: Mapping[str, float]) -> Verdict:
    """By time, of which less is better."""
    if not theirs:
        return _nobody(subject)
    best = min(theirs, key=lambda peer: theirs[peer])
    name, ratio = said(best), theirs[best] / ours
    if max(ratio, 1 / ratio) < DRAW:
        margin = "as fast"
        return Verdict(subject, "a draw", margin, f"{subject}: a draw, {US} and {name} are as fast.")
    winner, loser, ratio = (US, name, ratio) if ratio > 1 else (name, US, 1 / ratio)
    margin = f"{times(ratio)} times as fast as {loser}"
    return Verdict(subject, winner, margin, f"{subject}: {winner} wins, {margin}.")


def higher(subject: str, ours: float, theirs: Mapping[str, float], digits: int = 2) -> Verdict:
    """By a score, of which more is better."""
    if not theirs:
        return _nobody(subject)
    highest = max(theirs, key=lambda peer: theirs[peer])
    name, best = said(highest), theirs[highest]
    values = f"{ours:.{digits}f} of {US}, {best:.{digits}f} of {name}"
    if abs(ours - best) <= (DRAW - 1) * max(abs(ours), abs(best)):
        return Verdict(subject, "a draw", values, f"{subject}: a draw, {values}.")
    winner = US if ours > best else name
    return Verdict(subject, winner, values, f"{subject}: {winner} wins, {values}.")


def said(name: str) -> str:
    """A contender's name within a sentence: what is special about it in brackets."""
    who, comma, how = name.partition(", ")
    return f"{who} ({how})" if comma else name


def times(ratio: float) -> str:
    """A ratio: whole from 10 on, with two decimals where it is small."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1.95 else f"{ratio:.2f}"


def _nobody(subject: str) -> Verdict:
    return Verdict(subject, "–", "no peer took part", f"{subject}: no peer took part.")
