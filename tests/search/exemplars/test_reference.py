from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import noise_folder, toy_model

from featviz.draw.certificate import certificate_trunk, certify
from featviz.network.units import Unit
from search.exemplars.reference import natural_spectrum, references
from search.images.images import open_images
from search.scan.scan import scan
from search.scan.statistics import PooledMaps

UNITS = [Unit("4", 2), Unit("4", 2, None, -1), Unit("output", 3)]


def test_paths_and_queries_hold_the_images_that_excite_the_unit_most_and_least(tmp_path: Path) -> None:
    model, images = toy_model(), open_images(noise_folder(tmp_path, 60))
    found = references(model, UNITS, images, similarity=toy_model(seed=5))
    pooled, judged = PooledMaps(), PooledMaps()
    scan(model, images, ["4", "output"], [pooled])
    scan(toy_model(seed=5), images, ["output"], [judged])
    state, features = pooled.state(), judged.state()["output"]
    for unit, column in (
        (UNITS[0], state["4"][:, 2]),
        (UNITS[1], -state["4"][:, 2]),
        (UNITS[2], state["output"][:, 3]),
    ):
        reference = found.units[unit]
        order = column.argsort(descending=True)
        assert np.allclose(reference.values, column, atol=1e-4)
        assert reference.path is not None
        assert reference.queries is not None
        assert torch.allclose(reference.path.same[unit.layer], state[unit.layer][order[:8]], atol=1e-4)
        assert reference.path.other[unit.layer].shape[0] == 24
        top = {tuple(row) for row in reference.path.same[unit.layer].tolist()}
        assert not top & {tuple(row) for row in reference.path.other[unit.layer].tolist()}
        assert torch.allclose(reference.queries.high, features[order[:20]], atol=1e-4)
        assert torch.allclose(reference.queries.low, features[order.flip(0)[:20]], atol=1e-4)
    assert found.skipped == ()


def test_few_images_still_make_a_reference_without_a_path(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path, 5))
    found = references(toy_model(), UNITS, images)
    assert all(entry.path is None and entry.queries is None for entry in found.units.values())
    assert all(len(entry.values) == 5 for entry in found.units.values())


def test_a_photograph_itself_walks_its_own_path(tmp_path: Path) -> None:
    """The strongest image of 40, taken as a unit's picture, comes near the data set's maximum and takes its path.

    The scan saw its middle, so near, not equal.
    """
    model, images = toy_model(), open_images(noise_folder(tmp_path, 40, size=32))
    unit = UNITS[0]
    reference = references(model, [unit], images).units[unit]
    strongest = images.open(int(reference.values.argmax()))
    picture = torch.from_numpy(np.array(strongest)).permute(2, 0, 1)
    assert reference.path is not None
    how = list(reference.path.same)
    found = certify(unit, picture, certificate_trunk(model, "4", how), reference=reference)
    assert found.path_similarity is not None
    assert list(found.path_similarity) == how
    assert found.z == pytest.approx(1, abs=0.5)
    assert found.path_similarity["4"].picture > 0.9


def test_the_natural_spectrum_is_that_of_the_scan(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path, 12))
    alone, beside = natural_spectrum(toy_model(), images), references(toy_model(), UNITS, images).spectrum
    assert torch.allclose(alone.amplitude, beside.amplitude)
