"""Aligned atlases: two layers, or two networks, on the same places of the same images, laid out together."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featviz.network.effects import class_effects
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine, same_threads
from featviz.run.keep import NOWHERE, Arrays, Under
from featviz.run.output import OutputFolder
from search.images.images import Images, open_images

from .claim import claim, identify
from .explorer import Leaf, make_book, write_viewer
from .explorer.report_page import Section, report_page
from .figure import save_figure
from .files import load_data, write_data
from .grid import cell_numbers
from .panels import panels_figure
from .photos import Photographs
from .project import MIN_DIST, NEIGHBORS, Floats, check_vectors, keep_compiled, to_unit_square
from .result import Atlas
from .sample import Sample, revisit
from .settings import Settings
from .stages import Clock, Stages, checked_layer, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULTS: dict[str, Any] = {"grid": (10,), "samples": 4000}
# How strongly a place's two points are held together. Of 4,000 places of two layers of EfficientNet-Lite0, a third
# then lie within a cell of each other (at UMAP's own 0.01 a ninth, by chance a twentieth); the second layer's
# neighbourhoods are kept a little less well (trustworthiness .78 against .84), the first's as well as before.
_TOGETHER = 0.5


@dataclass(frozen=True)
class AlignedAtlases:
    """Two atlases in which the same row of both samples is the same place of the same image.

    `flow`: cell key of the first -> cells of the second, (row, column, share), where its activations lie, most first;
    `near`: the share of activations that lie within a cell of their place in the first; `near_by_chance`: with the
    second's activations shuffled.
    """

    first: Atlas
    second: Atlas
    flow: dict[str, list[tuple[int, int, float]]]
    near: float
    near_by_chance: float
    manifest: dict[str, Any]

    def figure(self) -> Figure:
        """Both side by side: what lies at the same place is about the same."""
        panels = [
            atlas.panel(heading=f"{atlas.settings.layer} of {atlas.manifest['model']}")
            for atlas in (self.first, self.second)
        ]
        caption = (
            f"{len(self.first.xy):,} places of {self.manifest['images']['used']:,} images, laid out together (aligned "
            f"UMAP);\n{self.near:.0%} lie within a cell of there, by chance {self.near_by_chance:.0%}"
        )
        return panels_figure(panels, title="Two atlases, aligned", caption=caption)


def align(
    model: Model,
    layer: str,
    other_layer: str,
    images: str | Path | Images,
    *,
    other_model: Model | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
    **settings: Any,
) -> AlignedAtlases:
    """The atlases of two layers, or of two networks (before and after fine-tuning, say), laid out together.

    Activations are read at the same places of the same views. other_model: the second network; None: the same one.
    settings: the other fields of `Settings`, of both; the layout is aligned UMAP (McInnes et al. 2018, umap-learn's
    `AlignedUMAP`), which keeps a place's two points near each other. Raises `UserError` as `build` does.
    """
    second_model = other_model or model
    wanted = Settings(layer=checked_layer(model, layer), **{**DEFAULTS, **settings, "reducer": "umap"})
    other = replace(wanted, layer=checked_layer(second_model, other_layer))
    source = open_images(images, model.preprocess)
    identity = identify(
        "align", model, source,
        settings=asdict(wanted),
        other_layer=other.layer,
        other_weights=second_model.fingerprint,
        **{f"other_{name}": value for name, value in asdict(second_model.preprocess).items()},
    )  # fmt: skip
    folder = claim(out, identity, model, source, overwrite=overwrite)
    if folder is not None and folder.finished:
        return load_aligned(folder.path)
    keep = folder or NOWHERE
    run = Stages(model, source, wanted, keep, workers, progress, engine)
    clock = Clock()
    found, report = run.sample()
    again, rows = _other_sample(replace(run, model=second_model, settings=other), found, model, layer)
    found = found.part(rows)
    clock.lap("samples")
    check_vectors(again.vectors)
    progress("layout (aligned umap)", 0, 1)
    xy = keep.arrays("layout", lambda: _aligned(found.vectors, again.vectors, wanted.seed))
    progress("layout (aligned umap)", 1, 1)
    clock.lap("layout")
    about = {"images": {"source": Path(source.source).name, "notes": list(source.notes), **report}}
    pair = []
    for name, each, sample in (
        ("first", run, found),
        ("second", replace(run, model=second_model, settings=other), again),
    ):
        own = replace(each, keep=Under(name, keep))
        cells, pictures = own.icons(own.cells(sample, xy[name]), sample.vectors)
        classes = own.model.labels if sample.effects is not None else ()
        told = {**about, "model": own.model.name}
        pair.append(Atlas(own.settings, cells, pictures, sample, xy[name], source.names, told, classes))
    clock.lap("icons")
    level = wanted.grid[0]
    near, chance = _near(xy["first"], xy["second"], level, wanted.seed)
    manifest = {
        "command": "align",
        "model": model.name,
        "other_model": second_model.name,
        "settings": asdict(wanted),
        "other_layer": other.layer,
        "versions": versions(),
        **about,
        "vectors": len(found),
        "near": round(near, 4),
        "near_by_chance": round(chance, 4),
        "seconds": clock.laps,
        "identity": identity,
    }
    made = AlignedAtlases(pair[0], pair[1], _flow(pair[0], pair[1], level), near, chance, manifest)
    manifest["conclusion"] = [
        f"{near:.0%} of the activations lie within a cell of their place in the other; by chance {chance:.0%}."
    ]
    if folder is not None:
        _write(made, folder, (model, second_model), source)
    return made


def load_aligned(folder: str | Path) -> AlignedAtlases:
    """The aligned atlases that `atlas align` wrote into a folder."""
    folder = Path(folder)
    manifest = OutputFolder(folder, {}).manifest()
    first = load_data(folder, manifest)
    told = {**manifest, "model": manifest["other_model"]}
    second = load_data(folder / "other", told, layer=manifest["other_layer"])
    flow = _flow(first, second, first.levels[0])
    return AlignedAtlases(first, second, flow, manifest["near"], manifest["near_by_chance"], manifest)


def _other_sample(other: Stages, found: Sample, model: Model, layer: str) -> tuple[Sample, Any]:
    """The second sample, at the places of the first, and the rows of the first that it has."""
    wanted = other.settings
    _, height, width = Trunk(model, [layer], fold=False).map_size(layer)

    def compute() -> Arrays:
        effects = class_effects(other.model, wanted.layer, other.usual()) if wanted.effects else None
        again, rows = revisit(
            other.model, wanted.layer, other.images, found, (height, width), effects=effects,
            precision=wanted.precision, compiled=wanted.compiled, workers=other.workers, progress=other.progress,
        )  # fmt: skip
        return {**again.arrays(), "rows": rows}

    kept = dict(other.keep.arrays("other-sample", compute))
    rows = kept.pop("rows")
    return Sample(**kept), rows


def _aligned(first: Floats, second: Floats, seed: int) -> Arrays:
    """Both layouts in one unit square."""
    with warnings.catch_warnings(), same_threads():
        warnings.simplefilter("ignore")  # of threads and seeds: meant
        import umap

        keep_compiled()
        shape = {"n_neighbors": NEIGHBORS, "min_dist": MIN_DIST, "metric": "cosine", "random_state": seed}
        reducer = umap.AlignedUMAP(**shape, alignment_regularisation=_TOGETHER)
        layouts = reducer.fit_transform([first, second], relations=[{row: row for row in range(len(first))}])
    joined = to_unit_square(np.concatenate([np.asarray(each, np.float64) for each in layouts]))
    return {"first": joined[: len(first)], "second": joined[len(first) :]}


def _near(first: Floats, second: Floats, level: int, seed: int) -> tuple[float, float]:
    """The shares of points within a cell of each other, across and down: paired, and with the second shuffled."""

    def share(other: Floats) -> float:
        return float((np.abs(first - other).max(1) <= 1 / level).mean())

    return share(second), share(second[np.random.default_rng(seed).permutation(len(second))])


def _flow(first: Atlas, second: Atlas, level: int, most: int = 3) -> dict[str, list[tuple[int, int, float]]]:
    """Cell of the first -> where in the second its activations lie."""
    here, there = cell_numbers(first.xy, level), cell_numbers(second.xy, level)
    flow = {}
    for cell in first.cells:
        if cell.level == level:
            numbers, counts = np.unique(there[here == cell.row * level + cell.col], return_counts=True)
            order = np.argsort(-counts, kind="stable")[:most]
            shares = counts / counts.sum()
            flow[cell.key] = [(*divmod(int(numbers[each]), level), round(float(shares[each]), 4)) for each in order]
    return flow


def _write(made: AlignedAtlases, folder: OutputFolder, models: tuple[Model, Model], source: Images) -> None:
    folder.write("atlas.png", partial(save_figure, made.figure()))
    write_data(made.first, folder)
    write_data(made.second, folder, "other")
    folder.write_json("flow.json", made.flow)
    table = [
        {
            "row, column": ", ".join(key.split("/")[1:]),
            "where its activations lie in the other": "; ".join(f"{row}, {col}: {share:.0%}" for row, col, share in to),
        }
        for key, to in made.flow.items()
    ]
    title = "Two atlases, aligned"
    notes = made.manifest["conclusion"]
    tables = report_page(title=title, lines=notes, sections=[Section("From cell to cell", table=table)])
    folder.write_text("tables.html", tables)
    leaves = [
        Leaf(
            f"{atlas.settings.layer} of {model.name}", atlas,
            photographs=Photographs.of(model, atlas.settings.layer, source, atlas.sample, seed=atlas.settings.seed),
            ids=np.arange(len(atlas.sample)),
        )
        for atlas, model in zip((made.first, made.second), models, strict=True)
    ]  # fmt: skip
    facts = {**made.manifest["settings"], "other layer": made.manifest["other_layer"]}
    links = {"where each cell's activations lie in the other": "tables.html"}
    book = make_book(leaves, title=title, facts=facts, notes=notes, links=links, start="#map=0&beside=1")
    write_viewer(book, folder)
    folder.finish(made.manifest)
