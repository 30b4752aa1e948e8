"""All benchmarks, one after the other, each in a process of its own; their figures as one page.

    python benchmarks/run.py --images FOLDER

Peers leave hooks and global state behind, so none shares a process with the next. Each benchmark's JSON comes from its
standard output; what it says on the way goes on to standard error. The page is written anew after every benchmark. A
benchmark none of whose peers can take part is left out, and the page says why. One that fails is listed with its last
line; the others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page import Outcome, written

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Benchmark:
    """A script beside this one; `full`, `quick`: its arguments; `alone`: it says something without any of its peers.

    `{images}` and `{browser}` in the arguments are filled in.
    """

    name: str
    full: str
    quick: str
    peers: tuple[str, ...] = ()
    alone: bool = False

    def command(self, images: str, *, quick: bool) -> list[str]:
        filled = {"{images}": images, "{browser}": browser() or ""}
        words = (self.quick if quick else self.full).split()
        return [sys.executable, str(HERE / f"{self.name}.py"), *(filled.get(word, word) for word in words)]

    def left_out(self, absent: Mapping[str, str]) -> str | None:
        """Why it cannot run, given why peers cannot take part."""
        if "{browser}" in self.full.split() and browser() is None:
            return "there is no Chromium on the path"
        if self.alone or not self.peers or any(peer not in absent for peer in self.peers):
            return None
        return "; ".join(absent[peer] for peer in self.peers)


# About 35 minutes in all on two cores.
BENCHMARKS = (
    Benchmark("icons", "--repeats 2", "--quick --repeats 1", ("torch-lucent", "dreamlens")),
    Benchmark("superstimuli", "--channels 8 --classes 5 --repeats 2", "--quick --repeats 1", ("torch-lucent",)),
    Benchmark(
        "atlases",
        "{images} --count 200 --grid 8 --steps 64",
        "{images} --quick --count 4 --grid 2 --icon 48 --steps 2",
        ("dreamlens",),
    ),
    Benchmark(
        "exemplars",
        "{images} --count 300 --crp 40 --repeats 2",
        "{images} --count 4 --crp 2 --repeats 1",
        ("zennit-crp",),
        alone=True,
    ),
    Benchmark("exactness", "{images} --batches 7", "{images} --batches 7"),
    Benchmark(
        "attributions",
        "{images} --count 3 --repeats 2",
        "{images} --count 1 --window 112 --steps 4 --repeats 1",
        ("captum", "torchcam"),
    ),
    Benchmark("effects", "{images}", "{images} --count 2 --repeats 1"),
    Benchmark("ald", "", "--classes 20 --bootstrap 9 --repeats 1"),
    Benchmark("explorer", "--chromium {browser}", "--chromium {browser} --occupied 0.05"),
    Benchmark("batches", "--repeats 1", "--quick --repeats 1"),
    Benchmark("scaling", "{images} --count 2048 --turns 1", "{images} --count 16 --shard 2 --turns 1"),
    Benchmark(
        "large",
        "{images} --count 20000 --samples 100000",
        "{images} --count 24 --samples 96 --grid 2 --steps 2",
    ),
    Benchmark("gpu", "", "--count 64 --batch 16 --steps 4 --chunk 8 --repeats 1"),
)


def browser() -> str | None:
    """Where Chromium is."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def absentees(peers: Sequence[str]) -> dict[str, str]:
    """Why these peers cannot take part, by name; asked in a process of its own, as importing them changes much."""
    if not peers:
        return {}
    script = "import json, sys; from common import missing; print(json.dumps([missing(peer) for peer in sys.argv[1:]]))"
    asked = subprocess.run([sys.executable, "-c", script, *peers], cwd=HERE, stdout=subprocess.PIPE, text=True)
    if asked.returncode:
        raise SystemExit("the benchmarks' own modules cannot be imported; is activation-atlas installed?")
    reasons = json.loads(asked.stdout.splitlines()[-1])
    return {peer: reason for peer, reason in zip(peers, reasons, strict=True) if reason is not None}


def run(benchmark: Benchmark, command: Sequence[str], say: Callable[[str], None]) -> Outcome:
    """Run one and take its figures."""
    start, last = time.monotonic(), ""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stderr is not None
            for line in process.stderr:
                say(line.rstrip())
                if line.strip() and "%|" not in line:  # a peer's progress bar may come after its last words
                    last = line.strip()
        out.seek(0)
        printed = out.read()
    seconds = time.monotonic() - start
    figures = last_json(printed)
    if process.returncode or figures is None:
        reason = last if process.returncode else "it printed no JSON"
        return Outcome(benchmark.name, seconds, failed=f"exit code {process.returncode}: {reason}", figures=figures)
    if "reason" in figures and figures.get("device") is None:
        return Outcome(benchmark.name, seconds, left_out=figures["reason"])
    return Outcome(benchmark.name, seconds, figures=figures)


def last_json(printed: str) -> dict[str, Any] | None:
    """The object at the end of what was printed; some peers print before it."""
    lines = printed.splitlines()
    for start in reversed([number for number, line in enumerate(lines) if line == "{"]):
        try:
            found: dict[str, Any] = json.loads("\n".join(lines[start:]))
        except json.JSONDecodeError:
            continue
        return found
    return None


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="All benchmarks, and a page of their figures.")
    parser.add_argument("--quick", action="store_true", help="tiny: does it run? The figures say nothing")
    parser.add_argument("--only", action="append", choices=[each.name for each in BENCHMARKS], help="this one; again")
    parser.add_argument(
        "--images",
        default=os.environ.get("ACTIVATION_ATLAS_IMAGES") or "photos",
        help="a folder of images; default: the environment's ACTIVATION_ATLAS_IMAGES, else the embedded photographs",
    )
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    parser.add_argument("--json", type=Path, help="also write the raw figures to this file")
    return parser.parse_args()


def main() -> None:
    """Run them and write the page."""
    options = arguments()
    wanted = [each for each in BENCHMARKS if not options.only or each.name in options.only]
    absent = absentees(sorted({peer for each in wanted for peer in each.peers}))

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    outcomes: list[Outcome] = []
    for benchmark in wanted:
        reason = benchmark.left_out(absent)
        if reason is None:
            command = benchmark.command(options.images, quick=options.quick)
            say(f"== {benchmark.name}")
            outcome = run(benchmark, command, say)
            outcome = outcome.without({peer: absent[peer] for peer in benchmark.peers if peer in absent})
        else:
            outcome = Outcome(benchmark.name, left_out=reason)
        outcomes.append(outcome)
        say(f"== {outcome.name}: {outcome.state}")
        options.out.parent.mkdir(parents=True, exist_ok=True)
        page = written(outcomes, images=Path(options.images).name, quick=options.quick)
        options.out.write_text(page, encoding="utf-8")
        if options.json:
            options.json.write_text(json.dumps([vars(each) for each in outcomes], indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if any(outcome.failed for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
