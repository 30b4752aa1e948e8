"""The command `atlas patch`: does a patch make a network take one class for another, and more often than chance?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz.errors import UserError
from featviz.network.bands import visible
from featviz.network.layers import OUTPUT
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.progress import Progress, silent
from featviz.run.keep import NOWHERE
from featviz.run.output import OutputFolder
from search.images.classes import network_images
from search.images.images import Images, open_images
from search.images.pictures import open_picture

from .claim import claim, file_digest, identify
from .class_atlas import DEFAULTS
from .class_folder import check_source
from .explanation import save_array
from .explorer import Report, make_book, write_viewer
from .figure import save_figure
from .patch_figure import Step, strip_figure, sweep_figure
from .patch_report import Tested, lines, summary
from .patch_search import Candidate, best_of, candidates, thumbnail
from .patches import (
    CORNERS,
    SIZES,
    Outcome,
    Views,
    as_patch,
    noise_patches,
    outcome,
    paste,
    photo_patches,
    probabilities,
    right_views,
)  # fmt: skip
from .result import Atlas
from .settings import Settings
from .stages import Clock, Stages, checked_layer, versions

AUTO = "auto"
# Views to search on, beside those to test on; patches of noise and of photographs to hold a patch against.
_SEARCHED, NOISE, PHOTOS = 25, 3, 20


@dataclass(frozen=True)
class PatchTest:
    """What a patch (channels, side, side) in [0, 1] does to images of one class.

    `found`: what patches.json holds: in sum, per size and corner, and the same for patches of noise and of random
    photographs; `manifest`: how it was tested, and the `conclusion` in words.
    """

    patch: Tensor
    found: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def share(self) -> float:
        """Of the views rightly classified before, the share that the best size and corner turn into the target."""
        return float(self.found["fixed"]["share"])


def patch_test(
    model: Model,
    source: str | int,
    target: str | int,
    images: str | Path | Images,
    *,
    patch: str | Path = AUTO,
    layer: str | None = None,
    sizes: Sequence[float] = SIZES,
    views: int = 50,
    sample_of: Atlas | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> PatchTest:
    """Paste a patch into views of one class and count how many the network then takes for another.

    patch: an image file, or `auto`: parts of photographs behind the cells of `layer` that speak the most for the target
    against the source are tried on other views of the source, and the one that flips the most is tested. images: with
    labels; few images of the source are shown in several seeded crops. sizes: sides as shares of the view's. views: how
    many to show, of which those count that are rightly classified without a patch. settings: of the sample that `auto`
    takes its candidates from (`Settings`); sample_of: an atlas of the layer, whose activations to use instead.

    Beside it stand patches of noise and of random photographs. Carter, Armstrong, Schubert, Johnson and Olah 2019,
    "Activation Atlas", Distill: "further isolating classes". Raises `UserError` where no view can be flipped.
    """
    run, identity = _checked(model, source, target, images, patch, layer, sizes, views, settings, workers, progress)
    if str(patch) == AUTO:
        check_source(model, run.images, run.settings, sample_of)
    identity["sample_of"] = None if sample_of is None else sample_of.manifest.get("identity")
    labels = (identity["classes"][0], identity["classes"][1])
    folder = claim(out, identity, model, run.images, overwrite=overwrite)
    if folder is not None and folder.finished:
        stored = json.loads((folder.path / "patches.json").read_text(encoding="utf-8"))
        file = folder.path / ("patch.png" if model.preprocess.channels in (1, 3) else "patch.npy")
        kept = np.load(file, allow_pickle=False) if file.suffix == ".npy" else None
        own = as_patch(model, open_picture(file, model.preprocess)) if kept is None else torch.from_numpy(kept)
        return PatchTest(own, stored, folder.manifest())
    run = Stages(model, run.images, run.settings, folder or NOWHERE, workers, progress)
    clock, seed = Clock(), run.settings.seed
    shown, tried = right_views(model, run.images, labels[0], views, seed=seed, workers=workers, progress=progress)
    names = (model.class_name(labels[0]), model.class_name(labels[1]))
    if not len(shown):
        raise UserError(f"not one of {tried} views labelled {names[0]!r} is classified so: there is nothing to flip.")
    clock.lap("views")
    found, rows = None, list[dict[str, Any]]()
    if str(patch) == AUTO:
        found, rows = _search(run, labels, views, tuple(sizes), sample_of)
        square = found.patch
        clock.lap("search")
    else:
        square = as_patch(model, open_picture(Path(patch), model.preprocess))
    made = _tested(run, labels, names, shown, tried, square, found, tuple(sizes))
    clock.lap("test")
    manifest = {
        "command": "patch",
        "model": model.name,
        "patch": AUTO if found is not None else Path(patch).name,
        "classes": [{"index": label, "name": name} for label, name in zip(labels, names, strict=True)],
        "settings": asdict(run.settings) if found is not None else {"seed": seed},
        "versions": versions(),
        "images": {"source": Path(run.images.source).name, "notes": list(run.images.notes)},
        "conclusion": lines(made, run.images, model),
        "seconds": clock.laps,
        "identity": identity,
    }
    facts = summary(made)
    if rows:
        facts["candidates"] = [{**row, "image": run.images.names[row["image"]]} for row in rows]
    if folder is not None:
        _write(made, folder, model, facts, manifest)
    return PatchTest(square, facts, manifest)


def _checked(
    model: Model,
    source: str | int,
    target: str | int,
    images: str | Path | Images,
    patch: str | Path,
    layer: str | None,
    sizes: Sequence[float],
    views: int,
    settings: dict[str, Any],
    workers: int | None,
    progress: Progress,
) -> tuple[Stages, dict[str, Any]]:
    """What is to be done, checked before anything is written, and what identifies it."""
    labels = [model.class_index(source), model.class_index(target)]
    if labels[0] == labels[1]:
        raise UserError(f"both classes are {model.class_name(labels[0])!r}: a patch turns one class into another.")
    if not sizes or min(sizes) <= 0:
        raise UserError(f"--sizes takes shares of an image's side, such as 0.2,0.4; got {list(sizes)}.")
    if max(sizes) > 1:
        raise UserError(
            f"a patch of {max(sizes):g} times the image's side is larger than the image: give sizes up to 1."
        )
    if views < 1:
        raise UserError(f"--views starts at 1; got {views}.")
    wanted = Settings(layer=checked_layer(model, layer), **{**DEFAULTS, **settings})
    file: list[Any] = [AUTO, asdict(wanted)]
    if str(patch) != AUTO:
        try:
            open_picture(Path(patch), model.preprocess)
        except UserError:
            raise
        except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
            raise UserError(f"--patch takes an image file, or auto; {str(patch)!r} is neither: {error}") from error
        file = [Path(patch).name, file_digest(patch), wanted.seed]
    against = network_images(open_images(images, model.preprocess), model.labels, model.name)
    run = Stages(model, against, wanted, workers=workers, progress=progress)
    identity = identify("patch", model, run.images, classes=labels, patch=file, sizes=list(sizes), views=views)
    return run, identity


def _search(
    run: Stages, labels: tuple[int, int], views: int, sizes: tuple[float, ...], sample_of: Atlas | None
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The best patch on views that the test does not use."""
    held, _ = right_views(
        run.model, run.images, labels[0], _SEARCHED, skip=views, seed=run.settings.seed, workers=run.workers,
        progress=run.progress,
    )  # fmt: skip
    if not len(held):
        raise UserError("no other view of the source is rightly classified: there is nothing to search a patch on.")
    found = candidates(run, *labels, sample_of)
    if not found:
        raise UserError("no activation speaks for the target against the source in a photograph of another class.")
    return best_of(run, found, held, *labels, sizes=sizes)


def _tested(
    run: Stages,
    labels: tuple[int, int],
    names: tuple[str, str],
    shown: Views,
    tried: int,
    patch: Tensor,
    found: Candidate | None,
    sizes: tuple[float, ...],
) -> Tested:
    """The patch and its controls on the views."""
    model, seed = run.model, run.settings.seed
    trunk = Trunk(model, [OUTPUT])
    work = NOISE + PHOTOS + 1
    own = outcome(model, shown, patch, *labels, sizes=sizes, trunk=trunk)
    run.progress("testing", 1, work)
    noise = []
    for square in noise_patches(model, NOISE, seed=seed):
        noise.append(outcome(model, shown, square, *labels, sizes=sizes, trunk=trunk))
        run.progress("testing", 1 + len(noise), work)
    photos: list[Outcome] = []
    for square in photo_patches(model, run.images, PHOTOS, without=labels, seed=seed):
        photos.append(outcome(model, shown, square, *labels, sizes=sizes, trunk=trunk))
        run.progress("testing", 1 + NOISE + len(photos), work)
    before = probabilities(trunk, shown.pixels)
    steps = _steps(trunk, shown, patch, own)
    return Tested(patch, shown, tried, own, tuple(noise), tuple(photos), found, before, steps, names)


def _steps(trunk: Trunk, shown: Views, patch: Tensor, own: Outcome) -> tuple[Step, ...]:
    """The view that is taken for the target with the most sizes, with the patch in its best corner growing."""
    corner = own.fixed[1]
    view = int(own.to_target[:, corner].sum(0).argmax())
    pixels = shown.pixels[view : view + 1]
    pictures = [pixels, *(paste(pixels, patch, size, CORNERS[corner]) for size in own.sizes)]
    found = probabilities(trunk, torch.cat(pictures))
    seen = [visible(picture[0], trunk.preprocess.show) for picture in pictures]
    return tuple(Step(*each) for each in zip((0.0, *own.sizes), seen, found, strict=True))


def _write(made: Tested, folder: OutputFolder, model: Model, found: dict[str, Any], manifest: dict[str, Any]) -> None:
    own = made.outcome
    folder.write_json("patches.json", found)
    folder.write("patch.png", partial(thumbnail(made.patch, model.preprocess.show).save, format="PNG"))
    if len(made.patch) not in (1, 3):  # of which a picture shows a part
        folder.write("patch.npy", partial(save_array, made.patch.numpy()))
    title = f"From {made.names[0]} to {made.names[1]} by a patch: {model.name}"
    strip = strip_figure(made.steps, own.source, own.target, model.class_name, title=title)
    before = made.before[:, [own.source, own.target]].mean(0).tolist()
    sweep = sweep_figure(own, made.noise, made.photos, (before[0], before[1]), made.names)
    figures = {
        heading: folder.write(name, partial(save_figure, figure)).read_bytes()
        for heading, name, figure in (
            ("One view, with the patch at every size", "strip.png", strip),
            ("Over sizes", "sweep.png", sweep),
        )
    }
    report = Report(title, manifest["conclusion"], figures, found["sizes"])
    facts = {"model": model.name, "patch": manifest["patch"], "views": made.tried}
    write_viewer(make_book([], title=title, facts=facts, reports=[report]), folder)
    folder.finish(manifest)
