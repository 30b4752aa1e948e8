"""The command `atlas classes`: one class's atlas, or those of its channels, into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featviz.errors import UserError
from featviz.network.effects import NoClassesError
from featviz.network.models import Model
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE
from featviz.run.output import OutputFolder
from search.images.images import Images, open_images

from .claim import as_stored, claim, identify
from .class_atlas import CONFUSING, DEFAULTS, RANDOM, WHOLE, ClassAtlas, ClassPanel, chosen_channels, class_panel
from .explorer import Leaf, make_book, write_viewer
from .explorer.page import cells_table
from .explorer.report_page import Section, report_page
from .figure import save_figure
from .files import load_data, write_data
from .photos import Photographs
from .project import Reducer, named_reducer
from .result import Atlas
from .sample import Sample
from .settings import LabelledBy, Settings
from .stages import Clock, Stages, checked_layer, median_score, versions
from .store import read_store

# What an atlas's manifest says of its names.
_NAMES = ("names", "names_refused")


def class_atlas(
    model: Model,
    layer: str,
    label: str | int,
    images: str | Path | Images,
    *,
    by: str = "both",
    count: int | None = None,
    channels: str | Sequence[int] | None = None,
    sample_of: Atlas | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    reducer: str | Reducer = "tsne",
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
    **settings: Any,
) -> ClassAtlas:
    """The atlas of the activations of a layer that speak for a class (name or number), tinted by how much they do.

    by: those whose strongest effect is on the class (`rank`), the `count` with the strongest effect on it
    (`magnitude`; as `members` takes it), or `both`. channels: lay out, whiten, draw and attribute within some channels
    alone: numbers, or the class's `discriminative` or `confusing` terminal features of the final layer's
    asymmetric-Laplace split (at the last feature map); beside them the other kind, and random channels of the same
    number. sample_of: an atlas of the same layer whose activations to use. settings: the other fields of `Settings`; as
    many `samples` as images allow do good.

    Carter, Armstrong, Schubert, Johnson and Olah 2019, "Activation Atlas", Distill: class activation atlases. Raises
    `UserError` for a network without logits of classes, and where too few activations belong to the class.
    """
    reduce, name = named_reducer(reducer)
    wanted = Settings(layer=checked_layer(model, layer), reducer=name, **{**DEFAULTS, **settings})
    source = open_images(images, model.preprocess)
    number = model.class_index(label)
    panels = {WHOLE: None} if channels is None else chosen_channels(model, layer, number, channels, seed=wanted.seed)
    check_source(model, source, wanted, sample_of)
    identity = identify(
        "classes", model, source,
        settings=asdict(wanted),
        **{"class": number},
        by=[by, count],
        channels={name: None if each is None else list(each) for name, each in panels.items()},
        sample_of=None if sample_of is None else sample_of.manifest["identity"],
    )  # fmt: skip
    folder = claim(out, identity, model, source, overwrite=overwrite)
    if folder is not None and folder.finished:
        return load_class_atlas(folder.path)
    run = Stages(model, source, wanted, folder or NOWHERE, workers, progress, engine)
    clock = Clock()
    whole, about = whole_sample(run, sample_of)
    clock.lap("sample")
    drawn = tuple(
        class_panel(run, whole, number, reduce, about, by=by, count=count, name=each, channels=kept)
        for each, kept in panels.items()
    )
    clock.lap("panels")
    manifest = {
        **about,
        "command": "classes",
        "settings": asdict(drawn[0].atlas.settings),
        "versions": versions(),
        "class": {"index": number, "name": drawn[0].atlas.class_name(number)},
        "by": {"rule": by, "count": count},
        "panels": [panel_facts(panel) for panel in drawn],
        **names_facts(drawn[0].atlas),
        "conclusion": _lines(drawn),
        "seconds": clock.laps,
        "identity": identity,
    }
    made = ClassAtlas(number, by, drawn, manifest)
    if folder is not None:
        _write(made, folder, source, model)
    return made


def whole_sample(run: Stages, sample_of: Atlas | None) -> tuple[Sample, dict[str, Any]]:
    """All activations with their effects, drawn anew or from an atlas; and what figures say of them.

    Raises `UserError` where there are no effects on classes.
    """
    if not run.settings.effects:
        raise UserError("class atlases are made of effects on classes: they cannot be switched off.")
    if sample_of is None:
        found, report = run.sample()
    else:
        found, report = sample_of.sample, dict(sample_of.manifest["images"])
    if found.effects is None:
        raise NoClassesError(f"{run.model.name} returns no logits of classes: there are no effects on classes to map.")
    images = {"source": Path(run.images.source).name, "notes": list(run.images.notes), **report}
    return found, {"model": run.model.name, "images": images, "vectors": len(found)}


def check_source(model: Model, source: Images, wanted: Settings, sample_of: Atlas | None) -> None:
    """Raise `UserError` for an atlas whose activations cannot be used: of other weights, images or another layer.

    Or one that holds a part of them alone, those of a class.
    """
    if sample_of is None:
        return
    if (command := sample_of.manifest.get("command")) != "build":
        raise UserError(
            "the activations of that atlas (--from) cannot be used here: it holds "
            f"{f'what `atlas {command}` chose' if command else 'a part'} of a layer's activations, not all that "
            "`atlas build` sampled."
        )
    identity, layer = as_stored(sample_of.manifest["identity"]), sample_of.settings.layer
    seen = as_stored(asdict(model.preprocess))
    images = f"its images, {sample_of.manifest['images']['source']!r}, are not those of {source.source!r}"
    reasons = [
        *(["its network has other weights"] if identity["weights"] != model.fingerprint else []),
        *(["its images were cut or scaled otherwise"] if identity["preprocess"] != seen else []),
        *([images] if identity["images"] != source.fingerprint else []),
        *([f"its layer is {layer!r}, not {wanted.layer!r}"] if layer != wanted.layer else []),
    ]
    if reasons:
        raise UserError(f"the activations of that atlas (--from) cannot be used here: {'; '.join(reasons)}.")


def panel_facts(panel: ClassPanel) -> dict[str, Any]:
    """A panel in the manifest."""
    atlas = panel.atlas
    return {
        "panel": panel.name,
        "class": atlas.class_name(panel.label),
        "index": panel.label,
        "channels": None if panel.channels is None else list(panel.channels),
        "vectors": len(panel.rows),
        "images": len(np.unique(atlas.sample.image)),
        "strongest class of": panel.winners,
        "recall": None if panel.recall is None else round(panel.recall, 4),
        "precision": None if panel.precision is None else round(panel.precision, 4),
        "cells": len(atlas.cells),
        "cells of the class": round(panel.own_cells, 4),
        "median score": None if (score := median_score(atlas.cells)) is None else round(score, 4),
        "settings": {"grid": list(atlas.levels), "min_count": atlas.settings.min_count},
        **names_facts(atlas),
    }


def names_facts(atlas: Atlas) -> dict[str, Any]:
    """What a manifest keeps of how the cells got their names, or why they have none."""
    return {name: atlas.manifest[name] for name in _NAMES if name in atlas.manifest}


def panel_row(panel: ClassPanel) -> dict[str, Any]:
    """A panel in a page's table."""
    facts = panel_facts(panel)
    del facts["index"], facts["settings"]
    facts |= {"names": sum(cell.name is not None for cell in panel.atlas.cells)}
    facts.pop("names_refused", None)
    return {**facts, "channels": None if panel.channels is None else len(panel.channels)}


def _lines(panels: Sequence[ClassPanel]) -> list[str]:
    """What is found, in words."""
    first = panels[0]
    atlas, name = first.atlas, first.atlas.class_name(first.label)
    from_images = len(np.unique(atlas.sample.image))
    lines = [
        f"{len(first.rows):,} activations of {from_images:,} images speak for {name}; it has the strongest effect of "
        f"all classes in {first.winners:,}, and in {first.own_cells:.0%} of the {len(atlas.cells)} cells."
    ]
    if first.channels is None:
        return lines
    held = {panel.name: panel for panel in panels}
    control = held[RANDOM]
    if first.name == CONFUSING:
        lines[0] = (
            f"{len(first.rows):,} activations of {from_images:,} images speak against {name} by its confusing "
            f"channels; in {first.own_cells:.0%} of the {len(atlas.cells)} cells against no class more."
        )
    for panel in panels:
        if panel.name != CONFUSING:
            lines.append(
                f"Within the {panel.name} {len(panel.channels or ())} channels {name} is the strongest class of "
                f"{panel.winners:,} activations; of those that it is of over all channels, {_percent(panel.recall)} "
                f"are among them, and they are {_percent(panel.precision)} of them."
            )
    shown = next((panel for panel in panels if panel.name not in (CONFUSING, RANDOM)), None)
    if shown is not None:
        tells = (shown.precision or 0) >= 0.5 and (shown.recall or 0) > 2 * (control.recall or 0)
        lines.append(
            f"So the {shown.name} channels show the class."
            if tells
            else f"So the {shown.name} channels do not show the class by themselves: most of what they take for it, "
            "all channels together take for something else."
        )
    return lines


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _write(made: ClassAtlas, folder: OutputFolder, source: Images, model: Model) -> None:
    folder.write("atlas.png", partial(save_figure, made.figure()))
    for place, panel in enumerate(made.panels):
        write_panel(panel, folder, panel.name if place else "")
    sections = [Section("Beside each other", table=[panel_row(panel) for panel in made.panels])]
    sections += [cells_section(panel) for panel in made.panels]
    title = f"{made.name} in {made.atlas.settings.layer} of {made.manifest['model']}"
    facts = page_facts(made.manifest)
    tables = report_page(title=title, lines=made.manifest["conclusion"], sections=sections, facts=facts)
    folder.write_text("tables.html", tables)
    settings = made.atlas.settings
    photographs = Photographs.of(model, settings.layer, source, made.atlas.sample, seed=settings.seed)
    leaves = [panel_leaf(panel, photographs, made.labelled_by) for panel in made.panels]
    links = {"all cells as tables": "tables.html"}
    book = make_book(leaves, title=title, facts=facts, notes=made.manifest["conclusion"], links=links)
    write_viewer(book, folder)
    folder.finish(made.manifest)


def panel_leaf(panel: ClassPanel, photographs: Photographs, labels: LabelledBy) -> Leaf:
    """A panel as a map of the explorer; photographs: those of any sample of its layer."""
    atlas = panel.atlas
    name = atlas.class_name(panel.label) if panel.channels is None else panel.name
    return Leaf(
        name, atlas, tint=panel.tint, photographs=replace(photographs, found=atlas.sample), ids=panel.rows,
        channels=panel.channels, labelled_by=labels,
    )  # fmt: skip


def load_class_atlas(folder: str | Path) -> ClassAtlas:
    """The class atlas that `atlas classes` wrote into a folder."""
    folder = Path(folder)
    manifest = OutputFolder(folder, {}).manifest()
    panels = [
        load_panel(folder / (facts["panel"] if place else ""), manifest, facts)
        for place, facts in enumerate(manifest["panels"])
    ]
    return ClassAtlas(manifest["class"]["index"], manifest["by"]["rule"], tuple(panels), manifest)


def write_panel(panel: ClassPanel, folder: OutputFolder, inside: str) -> None:
    """A panel's data, into a folder inside the claimed one."""
    write_data(panel.atlas, folder, inside, row=panel.rows)


def load_panel(folder: Path, manifest: dict[str, Any], facts: dict[str, Any]) -> ClassPanel:
    """What `write_panel` wrote; facts: the panel's in the manifest."""
    changed = {**facts["settings"], "grid": tuple(facts["settings"]["grid"])}
    shared = {name: value for name, value in manifest.items() if name not in _NAMES}
    own = {name: facts[name] for name in _NAMES if name in facts}
    atlas = load_data(folder, {**shared, **own}, **changed)
    rows = read_store(folder / "store", ["row"])["row"]
    channels = None if facts["channels"] is None else tuple(facts["channels"])
    return ClassPanel(
        facts["panel"],
        facts["index"],
        atlas,
        rows,
        channels,
        facts["strongest class of"],
        facts["recall"],
        facts["precision"],
    )


def cells_section(panel: ClassPanel) -> Section:
    """A panel's cells as a table."""
    atlas = panel.atlas
    html = cells_table(atlas.levels[0], atlas.cells, atlas.names, atlas.class_name)
    return Section(f"{panel.name}: {atlas.class_name(panel.label)}", html=html)


def page_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """How it was made, for a page; of activations how many there were, not how many were asked for."""
    settings = {name: value for name, value in manifest["settings"].items() if name != "samples"}
    return {
        "model": manifest["model"],
        **settings,
        "vectors": f"{manifest['vectors']:,}",
        "images": f"{manifest['images']['used']:,} of {manifest['images']['source']}",
        "made with": ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
    }
