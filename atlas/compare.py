"""Two classes against each other: what tells them apart, from one to the other, and their atlases on one scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featviz.errors import UserError
from featviz.network.models import Model
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE, Under
from featviz.run.output import OutputFolder
from search.images.images import Images, open_images

from .claim import claim, identify
from .class_atlas import DEFAULTS, ClassPanel, check_enough, class_panel, labelled_by
from .class_folder import (
    cells_section,
    check_source,
    load_panel,
    names_facts,
    page_facts,
    panel_facts,
    panel_leaf,
    whole_sample,
    write_panel,
)
from .classes import Telling, gradient_layout, members, telling_cells
from .explorer import Leaf, make_book, write_viewer
from .explorer.report_page import Section, report_page
from .figure import save_figure
from .files import load_data, write_data
from .label import named
from .panels import panels_figure
from .photos import Photographs
from .project import Reducer, named_reducer, tsne_line
from .result import Atlas
from .sample import Sample
from .settings import Settings
from .stages import Clock, Stages, checked_layer, versions
from .store import read_store
from .telling import telling_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Cells per side of the layout from one class to the other, as in the article.
GRADIENT_GRID = 10
# Cells that the page shows in pictures, for either class.
_SHOWN = 8
# Folders of the two class atlases.
_SIDES = ("left", "right")


@dataclass(frozen=True)
class Comparison:
    """Two classes, a to the left and b to the right.

    `gradient`: the atlas of the activations of both, laid out by their effect on b minus that on a, whose 99th
    percentile of size is `unit`; `left`, `right`: the two class atlases; `telling`: the gradient's cells by how much
    they tell a from b, most first; `rows`: which rows of the whole sample the gradient's are.
    """

    a: int
    b: int
    gradient: Atlas
    left: ClassPanel
    right: ClassPanel
    telling: tuple[Telling, ...]
    unit: float
    rows: np.ndarray[Any, np.dtype[np.int64]]
    manifest: dict[str, Any]

    @property
    def names(self) -> tuple[str, str]:
        """The two classes' names."""
        return (self.gradient.class_name(self.a), self.gradient.class_name(self.b))

    def figure(self) -> Figure:
        """The gradient: each cell tinted by its mean difference, red for b."""
        a, b = self.names
        labels = labelled_by(self.gradient)
        told = self.gradient.labels_told(labels)
        tint = {row.cell: row.difference for row in self.telling}
        panel = self.gradient.panel(tint=tint, ends=(a, b), labelled_by=labels)
        caption = (
            f"{len(self.rows):,} of {self.manifest['vectors']:,} activations of {self.manifest['images']['used']:,} "
            f"images; across: effect on {b} minus effect on {a}, the edges at ±{self.unit:.2g};\n"
            "down: by similarity"
        ) + f"; {told}" * bool(told)
        title = f"{a} or {b}: {self.gradient.settings.layer} of {self.manifest['model']}"
        return panels_figure([panel], title=title, caption=caption, tint="difference")

    def classes_figure(self) -> Figure:
        """The two class atlases side by side, on one scale of effects."""
        layer, model = self.gradient.settings.layer, self.manifest["model"]
        labels = labelled_by(self.left.atlas, self.right.atlas)
        told = self.left.atlas.labels_told(labels)
        return panels_figure(
            [self.left.panel(labels), self.right.panel(labels)],
            title=f"{' and '.join(self.names)} in {layer} of {model}",
            caption=f"colour: mean effect on the panel's class{f'; {told}' * bool(told)}",
            tint="effect on the panel's class",
        )


def compare(
    model: Model,
    layer: str,
    a: str | int,
    b: str | int,
    images: str | Path | Images,
    *,
    by: str = "both",
    count: int | None = None,
    gradient: int = GRADIENT_GRID,
    sample_of: Atlas | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    reducer: str | Reducer = "tsne",
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
    **settings: Any,
) -> Comparison:
    """Compare two classes (names or numbers) at a layer: what speaks for one of them and not for the other.

    by, count, sample_of, reducer, settings: as `class_atlas` takes them, for the two class atlases. gradient: cells per
    side of the layout from a to b, which holds the activations of both.

    Carter, Armstrong, Schubert, Johnson and Olah 2019, "Activation Atlas", Distill: comparing classes. Raises
    `UserError` for one class given twice, and as `class_atlas` does.
    """
    reduce, name = named_reducer(reducer)
    wanted = Settings(layer=checked_layer(model, layer), reducer=name, **{**DEFAULTS, **settings})
    source = open_images(images, model.preprocess)
    labels = (model.class_index(a), model.class_index(b))
    if labels[0] == labels[1]:
        raise UserError(f"both classes are {model.class_name(labels[0])!r}: name two different ones to compare.")
    check_source(model, source, wanted, sample_of)
    identity = identify(
        "compare", model, source,
        settings=asdict(wanted),
        classes=list(labels),
        by=[by, count],
        gradient=gradient,
        sample_of=None if sample_of is None else sample_of.manifest["identity"],
    )  # fmt: skip
    folder = claim(out, identity, model, source, overwrite=overwrite)
    if folder is not None and folder.finished:
        return load_comparison(folder.path)
    run = Stages(model, source, wanted, folder or NOWHERE, workers, progress, engine)
    clock = Clock()
    whole, about = whole_sample(run, sample_of)
    clock.lap("sample")
    for label in labels:
        assert whole.effects is not None
        check_enough(members(whole.effects, label, by=by, count=count), whole.effects, model, label, by, name)
    both, unit, rows = _gradient(run, whole, labels, about, by, count, gradient)
    clock.lap("gradient")
    panels = [class_panel(run, whole, label, reduce, about, by=by, count=count) for label in labels]
    clock.lap("class atlases")
    telling = telling_cells(both.cells, both.sample, both.xy, *labels)
    manifest = {
        **about,
        "command": "compare",
        "settings": asdict(both.settings),
        "versions": versions(),
        "classes": [{"index": label, "name": model.class_name(label)} for label in labels],
        "by": {"rule": by, "count": count},
        "unit": unit,
        **names_facts(both),
        "panels": [panel_facts(panel) for panel in panels],
        "seconds": clock.laps,
        "identity": identity,
    }
    made = Comparison(*labels, both, panels[0], panels[1], telling, unit, rows, manifest)
    manifest["conclusion"] = _lines(made)
    if folder is not None:
        _write(made, folder, model, source)
    return made


def load_comparison(folder: str | Path) -> Comparison:
    """The comparison that `atlas compare` wrote into a folder."""
    folder = Path(folder)
    manifest = OutputFolder(folder, {}).manifest()
    gradient = load_data(folder, manifest)
    rows = read_store(folder / "store", ["row"])["row"]
    panels = [
        load_panel(folder / side, manifest, facts) for side, facts in zip(_SIDES, manifest["panels"], strict=True)
    ]
    a, b = (entry["index"] for entry in manifest["classes"])
    telling = telling_cells(gradient.cells, gradient.sample, gradient.xy, a, b)
    return Comparison(a, b, gradient, panels[0], panels[1], telling, manifest["unit"], rows, manifest)


def _gradient(
    run: Stages, whole: Sample, labels: tuple[int, int], about: dict[str, Any], by: str, count: int | None, grid: int
) -> tuple[Atlas, float, Any]:
    """The atlas of both classes' activations from one class to the other, its unit, and its rows."""
    assert whole.effects is not None
    rows = np.union1d(*(members(whole.effects, label, by=by, count=count) for label in labels))
    part = whole.part(rows)
    assert part.effects is not None
    least = run.settings.min_count or min(5, max(1, len(rows) // (2 * grid**2)))
    own = replace(run, settings=replace(run.settings, grid=(grid,), min_count=least), keep=Under("gradient", run.keep))
    line = own.keep.arrays("line", lambda: {"y": tsne_line(part.vectors, run.settings.seed)})["y"]
    xy, unit = gradient_layout(part.effects, *labels, lambda: line)
    cells, pictures = own.icons(own.cells(part, xy), whole.vectors)
    made = Atlas(own.settings, cells, pictures, part, xy, run.images.names, about, run.model.labels)
    return named(made, run.model, run.images, whole=whole, workers=run.workers, progress=run.progress), unit, rows


def _lines(made: Comparison) -> list[str]:
    """What is found, in words: for each class, what its most telling cells are of."""
    lines = []
    speaking = made.gradient.speaking
    for name, other, sign in ((made.names[0], made.names[1], -1), (made.names[1], made.names[0], 1)):
        cells = [row for row in made.telling if row.difference * sign > 0]
        first = cells[:_SHOWN]
        called = dict.fromkeys(row.name for row in first if row.name)
        kinds = dict.fromkeys(made.gradient.class_name(row.top[0][0]) for row in first if row.top)
        lone = sum(row.images == 1 for row in first)
        said = [f"{len(cells)} cells speak for {name} and against {other}."]
        if kinds and speaking is not None and speaking.worth_saying:
            said.append(f"The {len(first)} that tell most also speak for {', '.join(kinds)}.")
        if called:
            said.append(f"Names that hold among those {len(first)}: {', '.join(called)}.")
        if lone:
            said.append(f"{lone} of those {len(first)} are of a single image each.")
        lines.append(" ".join(said))
    return lines


def _write(made: Comparison, folder: OutputFolder, model: Model, source: Images) -> None:
    a, b = made.names
    settings = made.gradient.settings
    photographs = Photographs.of(model, settings.layer, source, made.gradient.sample, seed=settings.seed)
    folder.write("atlas.png", partial(save_figure, made.figure()))
    classes = folder.write("classes.png", partial(save_figure, made.classes_figure()))
    shown = telling_picture(made.gradient, made.telling, made.names, photographs, count=_SHOWN)
    telling = folder.write("telling.png", partial(shown.save, format="PNG"))
    folder.write_json("telling.json", [_row(made, row) for row in made.telling])
    write_data(made.gradient, folder, row=made.rows)
    for panel, place in zip((made.left, made.right), _SIDES, strict=True):
        write_panel(panel, folder, place)
    sections = [
        Section("The cells that tell them apart the most", png=telling.read_bytes()),
        Section("The two classes", png=classes.read_bytes()),
        Section("All cells by how much they tell", table=[_said(made, row) for row in made.telling]),
        cells_section(made.left),
        cells_section(made.right),
    ]
    title = f"{a} or {b}: {settings.layer} of {made.manifest['model']}"
    facts = page_facts(made.manifest)
    tables = report_page(title=title, lines=made.manifest["conclusion"], sections=sections, facts=facts)
    folder.write_text("tables.html", tables)
    tint = {row.cell: row.difference for row in made.telling}
    leaves = [
        Leaf(
            f"{a} or {b}", made.gradient, ends=(a, b), tint=tint, photographs=photographs, ids=made.rows,
            labelled_by=labelled_by(made.gradient),
        ),
        *(
            panel_leaf(panel, photographs, labelled_by(made.left.atlas, made.right.atlas))
            for panel in (made.left, made.right)
        ),
    ]  # fmt: skip
    links = {"the cells that tell them apart, and all tables": "tables.html"}
    book = make_book(leaves, title=title, facts=facts, notes=made.manifest["conclusion"], links=links)
    write_viewer(book, folder)
    folder.finish(made.manifest)


def _row(made: Comparison, row: Telling) -> dict[str, Any]:
    """A telling cell as telling.json holds it."""
    found = made.gradient.sample
    exemplars = [[int(found.image[each]), *map(int, found.position[each])] for each in row.nearest]
    return {
        "cell": row.cell,
        "name": row.name or None,
        "difference": round(row.difference, 6),
        "count": row.count,
        "images": row.images,
        "top_other": [[label, round(effect, 6)] for label, effect in row.top],
        "exemplars": exemplars,
        "nearest": list(row.nearest),
    }


def _said(made: Comparison, row: Telling) -> dict[str, Any]:
    """A telling cell as the page's table shows it."""
    a, b = made.names
    _, place, column = row.cell.split("/")
    names = made.gradient.names
    return {
        "row, column": f"{place}, {column}",
        "for": b if row.difference > 0 else a,
        "difference": f"{row.difference:+.3f}",
        "vectors": row.count,
        "images": row.images,
        "name": row.name,
        "top other classes": ", ".join(f"{made.gradient.class_name(label)} {effect:+.2f}" for label, effect in row.top),
        "nearest images": ", ".join(
            dict.fromkeys(names[int(made.gradient.sample.image[each])] for each in row.nearest)
        ),
    }
