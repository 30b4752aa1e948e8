from __future__ import annotations

import numpy as np
import pytest

from atlas.speaking import speaking

# Nine cells in a row, in each the activations of eight images.
CELLS, EACH, CLASSES = 9, 8, 40


def _map() -> tuple[np.ndarray, np.ndarray]:
    xy = np.repeat(np.stack([(np.arange(CELLS) + 0.5) / CELLS, np.full(CELLS, 0.01)], 1), EACH, 0).astype(np.float32)
    return xy, np.tile(np.arange(EACH), CELLS)


def test_classes_that_a_cells_images_agree_on_are_right_of_those_that_did_not_choose_them() -> None:
    xy, image = _map()
    effects = np.random.default_rng(0).normal(size=(CELLS * EACH, CLASSES)).astype(np.float32) * 0.1
    effects[np.arange(CELLS * EACH), np.repeat(np.arange(CELLS), EACH)] += 1
    found = speaking(effects, xy, image, CELLS)
    assert found is not None
    assert (found.held, found.of, found.chance) == (1.0, CELLS * EACH // 2, 5 / CLASSES)
    assert found.worth_saying
    assert "of 36 activations of the other half, it is one of the 5 that 100.0% change" in found.told
    assert "(chance 12.5%)" in found.told


def test_effects_that_images_do_not_share_are_right_by_chance_and_not_worth_saying() -> None:
    rng = np.random.default_rng(0)
    xy = np.repeat(rng.random((200, 2)), 20, 0).astype(np.float32)
    found = speaking(rng.normal(size=(4000, CLASSES)).astype(np.float32), xy, np.tile(np.arange(20), 200), 10)
    assert found is not None
    assert found.held == pytest.approx(found.chance, abs=0.03)
    assert not found.worth_saying


def test_cells_of_one_image_say_nothing() -> None:
    xy, _ = _map()
    effects = np.zeros((CELLS * EACH, CLASSES), np.float32)
    assert speaking(effects, xy, np.repeat(np.arange(CELLS), EACH), CELLS) is None
