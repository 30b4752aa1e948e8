"""Runs that are killed at random moments, again and again, and in the end give what an uninterrupted run gives.

A server process imports everything once, makes the uninterrupted run, and forks a child for each attempt: an import
takes longer than the work. The child says which stage it has begun; it is killed (SIGKILL) a random while later.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults_folder import contents
from toys import noise_folder

KILLS = 8  # of each of the three commands, at least; in as many series as it takes to meet every stage
_MOST_SERIES = 30
_SERVER = Path(__file__).with_name("victim.py")


class Victims:
    """The server, and the child that it forked last."""

    def __init__(self) -> None:
        # One thread: a forked process has none of its parent's others.
        alone = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
        self.server = subprocess.Popen(
            [sys.executable, str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **alone, "PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def whole(self, command: str, images: Path, out: Path) -> None:
        """The run that nobody interrupts."""
        self._say({"command": command, "images": str(images), "out": str(out), "whole": True})
        assert self._line() == "ended 0"

    def begin(self, command: str, images: Path, out: Path) -> int:
        """Start a run; returns its process."""
        self._say({"command": command, "images": str(images), "out": str(out), "whole": False})
        return int(self._line().removeprefix("pid "))

    def stages(self) -> Iterator[str]:
        """The stages that the run begins, until it ends: the last word is `ended` and how."""
        while True:
            line = self._line()
            yield line
            if line.startswith("ended"):
                return

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(30)
        assert self.server.stdout is not None
        self.server.stdout.close()

    def _say(self, what: Any) -> None:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(what) + "\n")
        self.server.stdin.flush()

    def _line(self) -> str:
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        assert line, "the server has gone"
        return line.strip()


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    found = Victims()
    yield found
    found.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_folder(tmp_path_factory.mktemp("killed"), 300)


def attempt(
    victims: Victims, run: tuple[str, Path, Path], stages: list[str], wanted: str, delay: float
) -> tuple[str, str]:
    """A run that is killed so long after it began the wanted stage, or one behind it: where it was, how it ended."""
    child = victims.begin(*run)
    stage, alive = "start", True
    if wanted == stage:
        alive = kill(child, delay)
    for line in victims.stages():
        if line.startswith("ended"):
            return stage, line
        stage = line
        if alive and stages.index(stage) >= stages.index(wanted):
            alive = kill(child, delay)
    raise AssertionError("the run did not end")


def kill(child: int, delay: float) -> bool:
    time.sleep(delay)
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(child, signal.SIGKILL)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("command", ["build", "exemplars", "render"])
def test_runs_killed_at_random_moments_give_the_bytes_of_an_uninterrupted_run(
    command: str, victims: Victims, images: Path, tmp_path: Path, count_line: Callable[[str], None]
) -> None:
    lengths: dict[str, float] = {}
    victims.whole(command, images, tmp_path / "whole")
    victims.begin(command, images, tmp_path / "timed")
    began, stage = time.monotonic(), "start"
    for line in victims.stages():
        lengths[stage] = time.monotonic() - began
        began, stage = time.monotonic(), line
    assert stage == "ended 0"
    whole, stages, chance = contents(tmp_path / "whole"), list(lengths), random.Random(command)

    killed: Counter[str] = Counter()
    series = 0
    long = {stage for stage, seconds in lengths.items() if seconds > 0.3}
    while killed.total() < KILLS or (long - set(+killed) and series < _MOST_SERIES):
        series += 1
        run = (command, images, tmp_path / f"series-{series}")
        for wanted in stages:
            stage, end = attempt(victims, run, stages, wanted, chance.uniform(0, lengths[wanted]))
            killed[stage] += end == f"ended {-signal.SIGKILL}"
            if end == "ended 0":
                break
        victims.begin(*run)
        *_, end = victims.stages()
        assert end == "ended 0"
        assert contents(run[2]) == whole
    assert long <= set(+killed)
    where = ", ".join(f"{count} in {stage!r}" for stage, count in killed.items())
    count_line(f"{command}: {killed.total()} kills ({where}), {series} resumed results, 0 bytes lost")
