"""The command `atlas ald`: the final layer's weights -> fits, distributions, splits, figures, a plain conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model, Preprocess, load_model
from featviz.progress import Progress, silent
from featviz.run.output import OutputFolder, safe_name
from search.images.images import Images, open_images
from search.images.pictures import open_picture

from . import hypothesis, hypothesis_report
from .ald_figure import class_figure, evidence_figure, layer_figure
from .claim import claim, file_digest, identify
from .explorer.report_page import Section, report_page
from .figure import save_figure
from .neurons import Neurons, draw_neurons, neuron_rows, neuron_sheet
from .node_maps import NodeView, node_views
from .stages import Clock, versions
from .tree import Node, check, split
from .tree_figure import Shown, short, tree_figure, tree_svg, weights_shown
from .weights import Study, as_json, class_line, conclusion, joint_json, study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL, REPORT = "all", "report"


@dataclass(frozen=True)
class AldSettings:
    """What `atlas ald` is to do beyond the fits.

    `full`: draw every branch of the tree, not the two pure chains alone; `bootstrap`: samples behind a p-value;
    `against`: other networks to set the fits beside; `neurons`: draw the terminal neurons of classes without an image;
    `steps`: optimisation steps of those pictures.
    """

    full: bool = False
    bootstrap: int = 999
    against: tuple[str, ...] = ()
    neurons: bool = True
    steps: int = 96
    seed: int = 0


def study_weights(
    model: Model,
    classes: Sequence[str],
    *,
    out: str | Path,
    image: str | Path | None = None,
    images: str | Path | Images | None = None,
    settings: AldSettings | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Study the classifier's weights into a folder; returns the manifest, whose `conclusion` says what was found.

    classes: names or indices, `all` for ald.json of every class and the layer's figures, `report` for the tests on
    labelled images too. image: an image file, on which each node of the classes' trees is shown. images: a data set,
    for the tests of `report` (by default the embedded photographs), and for the exemplars of terminal neurons.
    """
    settings = settings or AldSettings()
    run = _Run.of(model, classes, image, images, settings)
    folder = claim(out, run.identity, model, run.against, overwrite=overwrite)
    if folder.finished:
        return folder.manifest()
    clock = Clock()
    found = study(model, bootstrap=settings.bootstrap, seed=settings.seed, progress=progress)
    clock.lap("weights")
    labels = range(len(found.weights)) if run.every else run.labels
    folder.write_json("ald.json", as_json(found, labels), indent=None if run.every else 1)
    lines, sections = conclusion(found, seed=settings.seed), []
    if run.every:
        sections.append(_figure(folder, "layer.png", layer_figure(found), "The layer"))
    neurons = None
    if run.labels and run.image is None and settings.neurons:
        try:
            neurons = _neurons(folder, found, run, workers, progress)
        except UserError as error:
            lines.append(f"No neurons are drawn: {error}")
    for label in run.labels:
        lines.append(class_line(found, label))
        sections += _class_sections(folder, found, label, run, neurons, progress)
    clock.lap("classes")
    if settings.against:
        others = [study(other, bootstrap=0, seed=settings.seed) for other in run.others]
        rows = [_row(each, found) for each in (found, *others)]
        folder.write_json("networks.json", rows)
        sections.append(Section("Beside other networks", table=rows))
        lines.append(_networks_line(rows))
    if run.report and run.against is not None:
        more, more_sections = _test(folder, found, run.against, settings, workers, progress)
        lines, sections = [*lines, *more], [*sections, *more_sections]
        clock.lap("tests")
    page = report_page(title=f"Final layer of {model.name}", lines=lines, sections=sections)
    folder.write_text("index.html", page)
    folder.finish(
        {
            "command": "ald",
            "model": model.name,
            "settings": asdict(settings),
            "classes": list(classes),
            "versions": versions(),
            "classifier": {"layer": found.classifier.name, "exact": found.classifier.exact},
            "joint": joint_json(found),
            "conclusion": lines,
            "seconds": clock.laps,
        }
    )
    return folder.manifest()


@dataclass(frozen=True)
class _Run:
    """What one command is to do, checked."""

    labels: list[int]
    every: bool
    report: bool
    image: Path | None
    against: Images | None
    identity: dict[str, Any]
    settings: AldSettings
    others: list[Model]

    @classmethod
    def of(
        cls,
        model: Model,
        classes: Sequence[str],
        image: str | Path | None,
        images: str | Path | Images | None,
        settings: AldSettings,
    ) -> _Run:
        if not classes:
            raise UserError("name at least one class, such as tabby, or `all`, or `report`.")
        report, every = REPORT in classes, ALL in classes or REPORT in classes
        labels = [model.class_index(name) for name in classes if name not in (ALL, REPORT)]
        _check_weights(model, labels)
        if image is not None and not labels:
            raise UserError("--image shows the trees of classes: name at least one, such as tabby.")
        if settings.bootstrap < 0 or settings.steps < 1:
            raise UserError(f"bootstrap starts at 0, steps at 1; got {settings.bootstrap} and {settings.steps}.")
        source = "photos" if report and images is None else images
        against = None if source is None else open_images(source, model.preprocess)
        file = None if image is None else _checked_image(Path(image), model.preprocess)
        others = [load_model(name, device=str(model.device)) for name in settings.against]
        identity = identify(
            "ald", model, against,
            classes=sorted(dict.fromkeys(classes)),
            image=None if file is None else [file.name, file_digest(file)],
            settings=asdict(settings),
            others=[other.fingerprint for other in others],
        )  # fmt: skip
        return cls(list(dict.fromkeys(labels)), every, report, file, against, identity, settings, others)


def _checked_image(file: Path, how: Preprocess) -> Path:
    try:
        open_picture(file, how)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        raise UserError(f"--image takes an image file; {str(file)!r} is none: {error}") from error
    return file


def _check_weights(model: Model, labels: Sequence[int]) -> None:
    """Raise `UserError`, before anything is written, for a network without a classifier that can be studied."""
    weights = check(find_classifier(model).weight.double().numpy())
    if any(label >= len(weights) for label in labels):
        raise UserError(f"no class {max(labels)}: {model.name} has classes 0 to {len(weights) - 1}.")


def _neurons(folder: OutputFolder, found: Study, run: _Run, workers: int | None, progress: Progress) -> Neurons:
    return draw_neurons(
        found, run.labels, folder, images=run.against, steps=run.settings.steps, seed=run.settings.seed,
        workers=workers, progress=progress,
    )  # fmt: skip


def _class_sections(
    folder: OutputFolder, found: Study, label: int, run: _Run, neurons: Neurons | None, progress: Progress
) -> list[Section]:
    """A class's fit, its tree (on the image, where there is one), and its terminal neurons."""
    name = found.name(label)
    tree = split(found.weights[label], full=run.settings.full)
    sections = [_figure(folder, f"{safe_name(name)}-fit.png", class_figure(found, label), f"{name}: the fit")]
    shown, where = _shown(found, label, tree, run, progress)
    title = f"{name}: the split{where}"
    folder.write(f"{safe_name(name)}-tree.png", partial(save_figure, tree_figure(shown, title)))
    sections.append(Section(title, svg=tree_svg(shown)))
    if neurons is not None:
        file = folder.write(
            f"{safe_name(name)}-neurons.png", partial(neuron_sheet(found, label, neurons).save, format="PNG")
        )
        sections.append(Section(f"{name}: its terminal neurons", png=file.read_bytes()))
        if neurons.best is not None and neurons.best.called:
            rows = neuron_rows(found, label, neurons)
            folder.write_json(f"{safe_name(name)}-neurons.json", rows)
            sections.append(Section(f"{name}: what its terminal neurons are called", table=rows))
    return sections


def _shown(found: Study, label: int, tree: Node, run: _Run, progress: Progress) -> tuple[list[Shown], str]:
    """The nodes as they are drawn, and a word on where: on the image, if the network has a map to show them in."""
    plain = weights_shown(tree, found.weights[label])
    if run.image is None:
        return plain, ""
    image = open_picture(run.image, found.model.preprocess)
    try:
        views = node_views(found.model, found.classifier, tree, image, label, progress=progress)
    except UserError as error:
        return plain, f" (not on {run.image.name}: {error})"
    return [_on_image(view) for view in views], f" on {run.image.name}"


def _on_image(view: NodeView) -> Shown:
    node = view.node
    what = f"{short(node.path)}  {len(node.members)} features" if node.path else "the image"
    return Shown(node, view.picture, (what, f"p = {view.probability:.3f}"))


def _figure(folder: OutputFolder, name: str, figure: Figure, title: str) -> Section:
    file = folder.write(name, partial(save_figure, figure))
    return Section(title, png=file.read_bytes())


def _test(
    folder: OutputFolder, found: Study, images: Images, settings: AldSettings, workers: int | None, progress: Progress
) -> tuple[list[str], list[Section]]:
    """What the images say: sentences and the figure; why not, where they cannot say anything."""
    try:
        features = hypothesis.features_of(found, images, workers=workers, progress=progress)
    except UserError as error:
        return [f"The claim was not tested on images: {error}"], []
    sides = ("discriminative", "confusing")
    evidence = [hypothesis.terminal_evidence(found, features, side, seed=settings.seed) for side in sides]
    pruning = hypothesis.prune(found, features, seed=settings.seed)
    folder.write_json("tests.json", hypothesis_report.as_json(evidence, pruning))
    section = _figure(folder, "tests.png", evidence_figure(evidence, pruning), "What the images say")
    table = Section("What the images say, in figures", table=hypothesis_report.evidence_rows(evidence))
    return hypothesis_report.evidence_lines(evidence, pruning, features), [section, table]


def _row(other: Study, found: Study) -> dict[str, Any]:
    """A network's figures, and how its classes' go with those of the one that is studied."""
    alike = len(other.weights) == len(found.weights) and other is not found
    sizes = np.concatenate([other.discriminative.sizes, other.confusing.sizes])
    depths = np.concatenate([other.discriminative.depth, other.confusing.depth])
    return {
        "network": other.model.name,
        "features": other.weights.shape[1],
        "R2 positive": _rounded(float(np.nanmean(other.fit.positive.r2))),
        "R2 negative": _rounded(float(np.nanmean(other.fit.negative.r2))),
        "best": {
            str(name): int(count) for name, count in zip(*np.unique(other.winner, return_counts=True), strict=True)
        },
        "terminal size": _rounded(sizes.mean()),
        "depth": _rounded(depths.mean()),
        "same best": _rounded(np.mean(other.winner == found.winner)) if alike else None,
        "R2 goes along (Spearman)": _along(other.fit.positive.r2, found.fit.positive.r2) if alike else None,
        "slope goes along (Spearman)": _along(other.fit.positive.slope, found.fit.positive.slope) if alike else None,
    }


def _along(one: np.ndarray, other: np.ndarray) -> float | None:
    known = np.isfinite(one) & np.isfinite(other)
    from scipy import stats  # a third of a second that no other command should wait for

    return _rounded(stats.spearmanr(one[known], other[known]).statistic) if known.sum() > 2 else None


def _rounded(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _networks_line(rows: Sequence[dict[str, Any]]) -> str:
    others = [
        f"{row['network']}: best for {row['same best']:.0%} of the classes the same distribution, R2 across classes "
        f"goes along with {row['R2 goes along (Spearman)']}"
        for row in rows[1:]
        if row["same best"] is not None
    ]
    return (
        "Beside other networks (whose features are others, so that terminal sets cannot be compared): "
        f"{'; '.join(others) or 'none has the same number of classes'}."
    )
