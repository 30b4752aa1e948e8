"""Options that the commands have in common, as annotations: `seed: options.Seed = 0`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from featviz.errors import UserError, unknown
from featviz.progress import Progress, bars
from featviz.run import engine as engines
from featviz.run.ray_engine import RayEngine

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="efficientnet_lite0, timm/NAME, torchvision/NAME, net.py:make, package.module:make, model.toml, "
        "hf:NAME_OR_FOLDER, open_clip:NAME/PRETRAINED.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="A local .safetensors, .pth, .pt or .ckpt file."),
]
Images = Annotated[
    str, typer.Option("--images", help="A folder, `photos` (embedded), or a data set such as imagenette.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; the same command resumes it.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a finished folder, or one made with other settings.")
]


def _known_engine(name: str) -> str:
    if name not in ("local", "ray"):
        raise unknown("engine", name, ["local", "ray"])
    return name


def _possible_workers(count: int | None) -> int | None:
    if count is not None and not 0 <= count <= 1024:
        raise UserError(f"--workers lies between 0 and 1024; got {count}.")
    return count


Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        callback=_known_engine,
        help="local, or ray: workers of a Ray cluster (RAY_ADDRESS) or of this machine.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        callback=_possible_workers,
        help="Processes that decode images; with --engine ray, those that work.",
    ),
]
Threads = Annotated[
    int,
    typer.Option("--threads", help="Of the network in each worker, 0 for all cores. Same threads: same bytes."),
]
Gpus = Annotated[
    float, typer.Option("--gpus", help="With --engine ray: GPUs that each worker takes, 0.5 for two on one.")
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same machine (a CPU): same bytes.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no summary.")]
Debug = Annotated[bool, typer.Option("--debug", help="On an error, show the traceback.")]
Samples = Annotated[
    int,
    typer.Option("--samples", help="Activations, at least; few images are shown in several crops to get them."),
]
PerImage = Annotated[
    int, typer.Option("--per-image", help="Activations from each view of an image, at random positions.")
]
Reducer = Annotated[
    str, typer.Option("--reducer", help="Layout: umap, tsne, pca, or cuml: umap on a GPU, with RAPIDS.")
]
Icon = Annotated[int, typer.Option("--icon", help="Pixels per side of an icon.")]
Steps = Annotated[int, typer.Option("--steps", help="Optimisation steps per icon.")]
By = Annotated[
    str,
    typer.Option("--by", help="rank: the class is the strongest; magnitude: among the strongest of it; both."),
]
Count = Annotated[
    int | None, typer.Option("--count", help="Activations by magnitude. Default: 2,000, at most one in 40.")
]
From = Annotated[Path | None, typer.Option("--from", help="Use the activations of an atlas that `atlas build` made.")]
MinCount = Annotated[
    int, typer.Option("--min-count", help="Cells with fewer activations stay empty; 0: by how many there are.")
]


@contextmanager
def at_work(
    engine: str, *, workers: int | None, threads: int, gpus: float, quiet: bool
) -> Iterator[tuple[Progress, engines.Engine]]:
    """Bars, unless quiet, and the engine of that name, ready."""
    if gpus and engine == "local":
        raise UserError("--gpus shares GPUs among workers of --engine ray; without it, --device names the one to use.")
    local = engines.Local(threads)
    # What is done beside the engine's work has as many threads, so that it gives the same bytes.
    with bars(quiet=quiet) as progress, engines.torch_threads(threads or torch.get_num_threads()):
        if engine == "local":
            yield progress, local
        else:
            progress("starting Ray", 0, 1)
            with RayEngine(workers=workers or 0, threads=threads, gpus=gpus) as workers_of_ray:
                progress("starting Ray", 1, 1)
                yield progress, workers_of_ray


def numbers(text: str, option: str, kind: type[int] | type[float] = int) -> tuple[int | float, ...]:
    """Numbers with commas between; a `UserError` naming the option where there are others."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        example = "20,40" if kind is int else "0.2,0.4"
        raise UserError(f"{option} takes numbers with commas, such as {example}; got {text!r}.") from None
