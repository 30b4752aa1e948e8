from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import toy_model

import atlas
from featviz.errors import UserError

SMALL: dict[str, Any] = {"icon": 16, "steps": 1, "samples": 96, "per_image": 4, "reducer": "pca"}


def test_a_comparison_lays_both_classes_activations_out_by_what_tells_them_apart(
    noise_images: Path, tmp_path: Path
) -> None:
    whole = atlas.build(toy_model(), "4", noise_images, grid=(3,), **SMALL)
    assert whole.effects is not None
    made = atlas.compare(toy_model(), "4", "a", "d", noise_images, count=30, gradient=4, out=tmp_path / "x", **SMALL)
    assert set(made.rows.tolist()) == {*made.left.rows.tolist(), *made.right.rows.tolist()}
    difference = (whole.effects[:, 3] - whole.effects[:, 0])[made.rows]
    assert (np.diff(made.gradient.xy[np.argsort(difference, kind="stable"), 0]) >= -1e-6).all()
    for row in made.telling:
        column = int(row.cell.split("/")[2])
        assert (row.difference > 0) == (column >= 2) or abs(row.difference) < 1e-3
    assert (made.left.label, made.right.label) == (0, 3)
    # One scale for both panels: the same effect is the same colour.
    figure = made.classes_figure()
    ends = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    limit = max(abs(value) for panel in (made.left, made.right) for value in panel.tint.values())
    assert ends[2] == f"{limit:.2g}"


def test_a_comparison_is_written_whole_and_loads_as_it_was(noise_images: Path, tmp_path: Path) -> None:
    arguments = (toy_model(), "4", "a", "d", noise_images)
    made = atlas.compare(*arguments, count=30, gradient=4, out=tmp_path, **SMALL)
    names = {"atlas.png", "classes.png", "telling.png", "telling.json", "cells.json", "index.html", "manifest.json"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "draft").exists()
    table = json.loads((tmp_path / "telling.json").read_text(encoding="utf-8"))
    assert [row["cell"] for row in table] == [row.cell for row in made.telling]
    assert all(label not in (0, 3) for row in table for label, _ in row["top_other"])
    assert all(len(place) == 3 for row in table for place in row["exemplars"])
    with Image.open(tmp_path / "telling.png") as picture:
        assert np.asarray(picture).std() > 10
    loaded = atlas.compare(*arguments, count=30, gradient=4, out=tmp_path, **SMALL)
    assert loaded.telling == made.telling
    assert loaded.unit == made.unit
    assert np.array_equal(loaded.rows, made.rows)
    assert np.array_equal(loaded.right.atlas.pictures, made.right.atlas.pictures)
    assert loaded.names == made.names == ("a", "d")


def test_a_class_is_not_compared_with_itself(noise_images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="both classes are 'a'"):
        atlas.compare(toy_model(), "4", "a", 0, noise_images, out=tmp_path / "x", **SMALL)
    assert not (tmp_path / "x").exists()
