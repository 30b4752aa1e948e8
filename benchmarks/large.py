"""What an atlas of many images takes: memory over all processes, and how true the bars' remaining times are.

A folder of links to the images, again and again; `atlas.build` of it in a process of its own, which is killed (SIGKILL)
after a quarter of the images and started again. Resident memory of all its processes is looked at twice a second, each
page that they share counted for each. What the second process reports is replayed through the bar's own estimate of the
time that remains: from a stage's first tenth on, until its last ten seconds, where whole seconds round. A line goes to
standard error, JSON to standard output.

    python benchmarks/large.py my-photos --count 20000 --samples 100000
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import machine
from rich.console import Console
from rich.progress import Progress

from atlas import build
from featviz import load_model
from featviz.run.memory import keep_freed_memory
from search import open_images

LAYER = "blocks.6"
# Remaining seconds below which an estimate is not judged, and how far it may be off.
LAST, TOLERANCE = 10.0, 0.2


@dataclass(frozen=True)
class Told:
    """One report of progress, `at` seconds after the start."""

    at: float
    stage: str
    done: int
    total: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default="photos")
    parser.add_argument("--count", type=int, default=20_000, help="links to images; fewer images are linked repeatedly")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--grid", type=int, default=20)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.run:
        run(Path(wanted.run), wanted)
        return
    with tempfile.TemporaryDirectory() as place:
        linked(wanted.images, Path(place) / "images", wanted.count)
        first, _, killed_at = watched(Path(place), wanted, kill_at=0.25)
        second, told, _ = watched(Path(place), wanted)
        whole = (Path(place) / "out" / "manifest.json").is_file()
        seconds = told[-1].at
    stages = {
        stage: judged([each for each in told if each.stage == stage])
        for stage in dict.fromkeys(each.stage for each in told)
    }
    result: dict[str, Any] = {
        **machine(load_model(device="cpu")),
        "images": wanted.count,
        "vectors": wanted.samples,
        "killed at": killed_at,
        "finished": whole,
        "peak MB": max(first, second),
        "seconds": round(seconds, 1),
        # Of the start, and between the neighbours and the first epoch of a layout.
        "seconds without a bar": round(seconds - sum(each["seconds"] for each in stages.values()), 1),
        "stages": stages,
    }
    Console(stderr=True).print(
        f"{wanted.count} images, {wanted.samples} vectors: at most {result['peak MB']} MB, {seconds:.0f} s once resumed"
    )
    print(json.dumps(result, indent=1))


def linked(images: str, folder: Path, count: int) -> None:
    """A folder of `count` links to image files."""
    files = open_images(images).files
    folder.mkdir()
    for number in range(count):
        file = files[number % len(files)]
        (folder / f"{number:06d}{file.suffix}").symlink_to(file.resolve())


def run(place: Path, wanted: argparse.Namespace) -> None:
    """The atlas, with a line for each report."""
    keep_freed_memory()
    began = time.monotonic()
    with (place / "told").open("a", encoding="utf-8", buffering=1) as file:
        build(
            load_model(device="cpu"), LAYER, place / "images", out=place / "out", samples=wanted.samples,
            per_image=max(1, wanted.samples // wanted.count), grid=(wanted.grid,), steps=wanted.steps,
            progress=lambda *each: print(json.dumps([time.monotonic() - began, *each]), file=file),
        )  # fmt: skip


def watched(place: Path, wanted: argparse.Namespace, kill_at: float | None = None) -> tuple[int, list[Told], int]:
    """Peak resident MB over all processes of a run, what it told, and how many images it had read when it was killed.

    kill_at: the share of the images; None: it is let to end.
    """
    file = place / "told"
    file.write_text("", encoding="utf-8")
    options = [f"--{name}={getattr(wanted, name)}" for name in ("count", "samples", "grid", "steps")]
    process = subprocess.Popen([sys.executable, __file__, *options, "--run", str(place)], start_new_session=True)
    peak, read = 0, 0
    with file.open(encoding="utf-8") as stream:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            for each in reports(stream.readlines()) if kill_at is not None else ():
                read = each.done if each.stage == "reading images" else read
            if kill_at is not None and read >= kill_at * wanted.count:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(0.5 if kill_at is None else 0.1)
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    return peak // 2**20, reports(file.read_text(encoding="utf-8").splitlines()), read


def resident(group: int) -> int:
    """Bytes resident in the processes of a session."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessLookupError):
            if os.getsid(int(folder.name)) == group:
                total += int((folder / "statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def reports(lines: Sequence[str]) -> list[Told]:
    """What was told; the last line of a process that was killed may be half of one."""
    found = []
    for line in lines:
        with suppress(json.JSONDecodeError, TypeError):
            found.append(Told(*json.loads(line)))
    return found


def judged(told: Sequence[Told]) -> dict[str, Any]:
    """How long a stage took, and how its estimates of the remaining time compare with what then remained."""
    now = told[0].at
    bars = Progress(get_time=lambda: now, console=Console(file=io.StringIO()))
    bar = bars.add_task(told[0].stage, total=told[0].total, completed=told[0].done)
    first, end, misses = told[0], told[-1].at, []
    for each in told[1:]:
        now = each.at
        bars.update(bar, completed=each.done, total=each.total)
        estimate, left = bars.tasks[0].time_remaining, end - now
        if estimate is not None and left > LAST and each.done - first.done >= 0.1 * (each.total - first.done):
            misses.append(abs(estimate - left) / left)
    return {
        "seconds": round(end - first.at, 1),
        "estimates": len(misses),
        "worst miss": round(max(misses), 3) if misses else None,
        "within tolerance": round(sum(miss <= TOLERANCE for miss in misses) / len(misses), 3) if misses else None,
    }


if __name__ == "__main__":
    main()
