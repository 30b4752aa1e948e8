from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn
from toys import toy_model

from featviz.draw.path_similarity import NaturalPath, path_layers, path_similarity, spearman
from featviz.network.models import Model


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=2, max_size=4))
def test_spearman_equals_scipys_ties_and_all(rows: list[list[int]]) -> None:
    values = torch.tensor(rows, dtype=torch.float32)
    found = spearman(values, values)
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            if len(set(first)) > 1 and len(set(second)) > 1:
                assert found[i, j].item() == pytest.approx(spearmanr(first, second).statistic, abs=1e-6)


def test_a_photograph_of_the_kind_scores_one_and_another_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    kind, others = torch.randn(64, generator=generator), torch.randn(40, 64, generator=generator)
    same = kind + 0.5 * torch.randn(40, 64, generator=generator)
    natural = NaturalPath({"x": same}, {"x": others})
    alike, other = (
        [path_similarity({"x": vector}, natural)["x"].score for vector in vectors]
        for vectors in (kind + 0.5 * torch.randn(30, 64, generator=generator), torch.randn(30, 64, generator=generator))
    )
    assert sum(value or 0 for value in alike) / 30 == pytest.approx(1, abs=0.1)
    assert sum(value or 0 for value in other) / 30 == pytest.approx(0, abs=0.1)


def test_a_step_is_its_formula_and_none_where_photographs_do_not_differ() -> None:
    generator = torch.Generator().manual_seed(1)
    same, other, vector = (torch.randn(n, 9, generator=generator) for n in (3, 4, 1))
    same[1:] = same[0] + 0.1 * same[1:]
    step = path_similarity({"x": vector[0]}, NaturalPath({"x": same}, {"x": other}))["x"]
    pairs = [spearmanr(same[i], same[j]).statistic for i in range(3) for j in range(i)]
    assert step.same == pytest.approx(sum(pairs) / 3)
    assert step.other == pytest.approx(sum(spearmanr(a, b).statistic for a in same for b in other) / 12)
    assert step.picture == pytest.approx(sum(spearmanr(a, vector[0]).statistic for a in same) / 3)
    assert step.score == pytest.approx((step.picture - step.other) / (step.same - step.other))
    constant = NaturalPath({"x": torch.randn(20, 50)}, {"x": torch.randn(20, 50)})
    assert path_similarity({"x": torch.randn(50)}, constant)["x"].score is None


def test_path_layers_run_in_order_and_end_at_the_layer() -> None:
    assert path_layers(toy_model(), "4") == ["0", "1", "2", "3", "4"]
    assert path_layers(toy_model(), "4", count=3) == ["0", "3", "4"]
    assert path_layers(toy_model(), "output", count=3) == ["0", "5", "output"]
    assert path_layers(toy_model(), "0") == ["0"]
    nested = nn.Sequential()
    nested.add_module("stem", nn.Conv2d(3, 4, 3, 2))
    nested.add_module("stage", nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()))
    assert path_layers(Model.wrap(nested, size=16), "stage.1") == ["stem", "stage.0", "stage.1"]
