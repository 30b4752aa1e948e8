"""Exemplars and statistics as tables, in Parquet: for data frames and databases."""

from __future__ import annotations

from functools import partial
from typing import Any

from featviz.errors import UserError
from featviz.run.output import OutputFolder

from ..images.image_set import readable
from .diverse import chosen
from .exemplars import Exemplars
from .layer_exemplars import Exemplar
from .report import QUANTILES


def require_parquet() -> Any:
    """pyarrow and its Parquet writer; raises `UserError` where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Parquet needs pyarrow: pip install 'activation-atlas[parquet]'.") from error
    return pyarrow


def write_parquet(found: Exemplars, folder: OutputFolder) -> None:
    """Write exemplars.parquet, a row per exemplar, and statistics.parquet, a row per unit."""
    pyarrow = require_parquet()
    for name, rows in (("exemplars", exemplar_rows(found)), ("statistics", statistics_rows(found))):
        folder.write(f"{name}.parquet", partial(pyarrow.parquet.write_table, pyarrow.Table.from_pylist(rows)))


def exemplar_rows(found: Exemplars) -> list[dict[str, Any]]:
    """layer, unit, end (strongest or weakest), rank from 0, image, path, label, value, row, column and the boxes."""
    rows = []
    for layer, channel in found:
        ends = {
            "strongest": chosen(found, layer, channel).exemplars,
            "weakest": found.of(layer, channel, weakest=True)[: found.k],
        }
        for end, entries in ends.items():
            for rank, entry in enumerate(entries):
                rows.append({"layer": layer, "unit": channel, "end": end, "rank": rank, **_fields(found, entry)})
    return rows


def statistics_rows(found: Exemplars) -> list[dict[str, Any]]:
    """layer, unit, count, mean, deviation, least, greatest, positive (share), dead, and quantiles."""
    rows = []
    for layer, known in found.layers.items():
        values = {name: column.tolist() for name, column in known.statistics.table(QUANTILES).items()}
        rows += [
            {"layer": layer, "unit": unit, **{name: column[unit] for name, column in values.items()}}
            for unit in range(len(known))
        ]
    return rows


def _fields(found: Exemplars, entry: Exemplar) -> dict[str, Any]:
    sides = ("left", "top", "right", "bottom")
    box = entry.box or found.view(entry.image)
    return {
        "image": entry.image,
        "path": readable(entry.name),
        "label": entry.label,
        "value": entry.value,
        "row": entry.row,
        "column": entry.column,
        **dict(zip(sides, map(float, box), strict=True)),
        **{f"effective_{side}": float(value) for side, value in zip(sides, entry.effective_box, strict=True)},
    }
