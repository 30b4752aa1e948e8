"""Work for workers elsewhere, which have to find it by its module's name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featviz.errors import UserError
from featviz.run.engine import Place, Report, Work
from featviz.run.keep import Arrays


def naps(place: Place) -> Work:
    """Jobs (number, seconds): takes so long, and says which process did it."""

    def work(jobs: Sequence[tuple[int, float]], report: Report) -> Iterator[Arrays]:
        for number, seconds in jobs:
            time.sleep(seconds)
            yield {"number": np.array(number), "process": np.array(os.getpid())}

    return work


def together(place: Place, folder: str, many: int) -> Work:
    """As `naps`, but none before so many processes have come, each of which leaves its name in the folder."""
    rest = naps(place)

    def work(jobs: Sequence[tuple[int, float]], report: Report) -> Iterator[Arrays]:
        (Path(folder) / str(os.getpid())).touch()
        while len(list(Path(folder).iterdir())) < many:
            time.sleep(0.02)
        return rest(jobs, report)

    return work


def deaths(place: Place) -> Work:
    """Jobs are files: while there is one, the process that gets it removes a line of it and dies."""

    def work(jobs: Sequence[str], report: Report) -> Iterator[Arrays]:
        for job in jobs:
            lives = Path(job).read_text().splitlines() if Path(job).exists() else []
            if lives:
                Path(job).write_text("\n".join(lives[1:]))
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"job": np.array(job)}

    return work


def places(place: Place) -> Work:
    """Says where it works, which GPUs it may see, and which process it is."""

    def work(jobs: Sequence[Any], report: Report) -> Iterator[Arrays]:
        for _ in jobs:
            time.sleep(0.2)
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
            yield {"device": np.array(place.device), "seen": np.array(seen), "process": np.array(os.getpid())}

    return work


def mistakes(place: Place) -> Work:
    def work(jobs: Sequence[Any], report: Report) -> Iterator[Arrays]:
        raise UserError("this layer has no maps.")
        yield {}

    return work


def unprepared(place: Place) -> Work:
    raise UserError("this layer has no maps.")
