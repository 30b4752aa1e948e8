"""Forks a run for each line on standard input, and says on standard output which stages it begins and how it ends."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

import torch
from toys import toy_model
from tqdm.auto import tqdm  # the class that UMAP takes

from atlas.build import build
from atlas.exemplars import find_exemplars
from atlas.render import render_units
from featviz.draw.drawing import Drawing


def run(command: str, images: str, out: str, said: Any) -> None:
    """One of the three long commands, small."""
    model = toy_model()
    if command == "build":
        build(
            model, "4", images, out=out, grid=(2, 4), icon=32, steps=12, samples=400, per_image=2, min_count=1,
            cards=True, workers=1, progress=said,
        )  # fmt: skip
    elif command == "exemplars":
        find_exemplars(model, ["1", "4"], images=images, out=out, k=3, shard=64, workers=1, progress=said)
    else:
        render_units(
            model, ["4:*"], out=out, images=images, drawing=Drawing(size=32, steps=12), workers=1, progress=said
        )


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def child(wanted: dict[str, str]) -> None:
    begun: list[str] = []
    # Forked processes share tqdm's lock, which UMAP takes, and one that was killed may hold it for ever.
    tqdm.set_lock(threading.RLock())

    def said(stage: str, done: int, total: int) -> None:
        if stage not in begun:
            begun.append(stage)
            say(stage)

    code = 1
    try:
        run(wanted["command"], wanted["images"], wanted["out"], said)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        wanted = json.loads(line)
        if wanted["whole"]:
            # Here: what a command imports and compiles on its way is then there in every child.
            run(wanted["command"], wanted["images"], wanted["out"], lambda stage, done, total: None)
            say("ended 0")
            continue
        process = os.fork()
        if process == 0:
            child(wanted)
        say(f"pid {process}")
        _, status = os.waitpid(process, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
