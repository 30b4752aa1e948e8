"""Figures -> a page: the machine, who wins, and what each contender did."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from common import PEERS, installed, processor
from readings import READINGS
from verdicts import Reading, Verdict

# What `observers.py mark` printed last.
MARKS = Path(__file__).parent / "observers.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a benchmark; `absent`: why some of its peers took no part."""

    name: str
    seconds: float = 0.0
    figures: Mapping[str, Any] | None = None
    left_out: str = ""
    failed: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        if self.failed:
            return f"failed ({self.failed})"
        return f"left out: {self.left_out}" if self.left_out else f"done in {self.seconds:.0f} s"

    def without(self, absent: Mapping[str, str]) -> Outcome:
        """The same, with peers that took no part."""
        return replace(self, absent=absent)

    def read(self) -> list[Reading]:
        """What its figures say."""
        return READINGS[self.name](self.figures) if self.figures and not self.failed else []


def written(outcomes: Sequence[Outcome], *, images: str, quick: bool) -> str:
    """The page."""
    read = {outcome.name: outcome.read() for outcome in outcomes}
    verdicts = [verdict for readings in read.values() for reading in readings for verdict in reading.verdicts]
    parts = [head(quick=quick), machine(outcomes, images)]
    if verdicts:
        parts.append(summary(verdicts))
    parts += [section(outcome, read[outcome.name]) for outcome in outcomes if read[outcome.name]]
    parts += [observed(MARKS)]
    parts += [missed("Failed", {each.name: each.failed for each in outcomes if each.failed})]
    out = {each.name: each.left_out for each in outcomes if each.left_out}
    out |= {f"{each.name}, {peer}": reason for each in outcomes for peer, reason in each.absent.items()}
    parts += [missed("Left out", out)]
    return "\n\n".join(part for part in parts if part) + "\n"


def head(*, quick: bool) -> str:
    """Title and how the page came to be."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python benchmarks/run.py`. Each benchmark is a script of that folder and ran in a process of its "
        "own; its first lines say how the contenders were set up. In each, contenders get the same network "
        "(EfficientNet-Lite0), the same images, sizes and steps. Where something is repeated, contenders take turns, "
        "and the fastest turn counts. Ratios hold elsewhere, seconds do not.",
    ]
    if quick:
        lines += [
            "",
            "**A quick run: tiny amounts, in which preparing outweighs everything. The figures say nothing.**",
        ]
    return "\n".join(lines)


def machine(outcomes: Sequence[Outcome], images: str) -> str:
    """What the figures depend on besides the code."""
    known = [outcome.figures for outcome in outcomes if outcome.figures and "threads" in outcome.figures]
    threads = ", ".join(sorted({str(figures["threads"]) for figures in known})) or "unknown"
    rows = {
        "date": date.today().isoformat(),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "threads of torch": threads,
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "images": images,
        "activation-atlas": metadata.version("activation-atlas"),
        **{name: installed(name) or "not installed" for name in ("torch", "timm", *PEERS)},
    }
    return "## Machine and versions\n\n" + table(("", ""), list(rows.items()))


def summary(verdicts: Sequence[Verdict]) -> str:
    """A line per verdict."""
    rows = [(verdict.subject, verdict.winner, verdict.margin) for verdict in verdicts]
    return "## In short\n\n" + table(("", "wins", "by"), rows)


def section(outcome: Outcome, readings: Sequence[Reading]) -> str:
    """A benchmark's tables and sentences."""
    parts = [f"## {outcome.name}\n\n`benchmarks/{outcome.name}.py`, {outcome.seconds:.0f} s."]
    for reading in readings:
        text = [f"### {reading.title}", table(reading.headings, reading.rows)]
        text += [listed("What each did", reading.did)] if reading.did else []
        text += [listed("Who wins", [verdict.sentence for verdict in reading.verdicts])] if reading.verdicts else []
        parts += [*text, *reading.notes]
    return "\n\n".join(parts)


def observed(marks: Path) -> str:
    """What blind observers made of the pictures, from the marks that `observers.py mark` printed; '' without any."""
    if not marks.exists():
        return ""
    rows = [
        (row["test"], row["maker"], ", ".join(str(right) for right in row["right"].values()), f"{row['mean']:g}",
         str(row["of"]), f"{row['interval'][0]:.2f} to {row['interval'][1]:.2f}")
        for row in json.loads(marks.read_text(encoding="utf-8"))
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## observers",
            "`benchmarks/observers.py`: sheets, answered by observers who saw nothing else, neither units nor code nor "
            "key: in this round vision-language models, not people; two of a kind agree more than two people would. "
            "Not repeated in a run. Chance is half of them in `choice` and `icons`, one in forty in `naming`. "
            "Interval: Wilson's at 95 %, of all answers.",
            table(("test", "pictures by", "right, by observer", "mean", "of", "interval of the share"), rows),
            "choice: a picture that excites a random channel, one that inhibits it; which of two unseen photographs "
            "excites it more? photographs: the four strongest and the four weakest in the pictures' place. naming: "
            "twenty random classes out of forty names. icons: which of two photographs' parts lies in the icon's cell?",
        ]
    )


def listed(title: str, lines: Sequence[str]) -> str:
    """Sentences below a word that says what they are about."""
    return f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines)


def missed(title: str, reasons: Mapping[str, str]) -> str:
    """What has no figures, and why."""
    lines = [f"- `{name}`: {reason}" for name, reason in reasons.items()]
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
