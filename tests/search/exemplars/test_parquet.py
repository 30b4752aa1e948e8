from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet
from toys import noise_folder, toy_model

from atlas.exemplars import find_exemplars


def test_the_tables_say_what_the_json_says(tmp_path: Path) -> None:
    images, out = noise_folder(tmp_path / "images", 12), tmp_path / "out"
    find_exemplars(toy_model(), ["4", "output"], images=images, out=out, k=3, parquet=True)
    stored = json.loads((out / "exemplars.json").read_text())
    rows = pyarrow.parquet.read_table(out / "exemplars.parquet").to_pylist()
    assert len(rows) == 2 * 3 * (6 + 4)
    for row in rows:
        if row["end"] == "strongest":
            entry = stored[row["layer"]][str(row["unit"])][row["rank"]]
            assert (row["image"], row["path"], row["row"], row["column"]) == (
                entry["image"], entry["path"], entry["row"], entry["col"],
            )  # fmt: skip
            assert math.isclose(row["value"], entry["value"])
            assert [round(row[side], 2) for side in ("left", "top", "right", "bottom")] == entry["box"]
    statistics = json.loads((out / "statistics.json").read_text())
    table = pyarrow.parquet.read_table(out / "statistics.parquet").to_pydict()
    assert table["mean"][:6] == statistics["4"]["channels"]["mean"]
    for layer, number, dead in zip(table["layer"], table["unit"], table["dead"], strict=True):
        assert dead == (number in statistics[layer]["dead"])
