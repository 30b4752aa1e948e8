from __future__ import annotations

import numpy as np
import pytest

from search.card.selectivity import class_selectivity


def _labels(classes: int = 6, each: int = 20) -> np.ndarray:
    return np.repeat(np.arange(classes) * 10, each).astype(np.int64)


def test_a_unit_that_prefers_a_class_is_told_from_chance() -> None:
    labels = _labels()
    values = np.random.default_rng(0).normal(size=len(labels)).astype(np.float32)
    values[labels == 30] += 2
    found = class_selectivity(values, labels)
    assert found is not None
    expected = (values[labels == 30].mean() - values[labels != 30].mean()) / values.std()
    assert (found.label, found.classes) == (30, 6)
    assert found.index == pytest.approx(expected, rel=1e-4)
    assert found.interval[0] < found.index < found.interval[1]
    assert found.chance[1] < found.index
    assert found.p < 0.01


def test_a_unit_without_preference_is_as_good_as_chance() -> None:
    labels = _labels()
    ps = []
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=len(labels)).astype(np.float32)
        found = class_selectivity(values, labels, seed=seed)
        assert found is not None
        ps.append(found.p)
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) < 0.05) <= 0.2


def test_the_same_seed_gives_the_same_answer_and_shuffled_images_no_other_index() -> None:
    labels = _labels()
    values = np.random.default_rng(1).normal(size=len(labels)).astype(np.float32)
    assert class_selectivity(values, labels) == class_selectivity(values, labels)
    order = np.random.default_rng(2).permutation(len(labels))
    first, second = class_selectivity(values, labels), class_selectivity(values[order], labels[order])
    assert first is not None
    assert second is not None
    assert (first.label, first.index) == (second.label, pytest.approx(second.index))


def test_unknown_labels_and_small_classes_do_not_count() -> None:
    labels = np.concatenate([_labels(2, 10), np.full(5, -1), np.full(4, 70)])
    values = np.random.default_rng(0).normal(size=len(labels)).astype(np.float32)
    values[labels == 70] += 9
    values[labels == -1] += 9
    found = class_selectivity(values, labels)
    assert found is not None
    assert found.classes == 2
    assert found.label in (0, 10)


def test_too_few_images_per_class_or_a_constant_unit_have_none() -> None:
    values = np.arange(12, dtype=np.float32)
    assert class_selectivity(values, np.arange(12)) is None
    assert class_selectivity(values, np.zeros(12, np.int64)) is None
    assert class_selectivity(np.ones(40, np.float32), _labels(2, 20)) is None
