from __future__ import annotations

import math

import pytest
import torch
from toys import toy_model

from featviz.draw.mis import TEMPERATURE, Queries, feature_extractor, features, mechanistic_interpretability
from featviz.network.trunk import Trunk


def test_pictures_like_their_photographs_are_matched_and_swapped_ones_never() -> None:
    up, down = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    queries = Queries(up.expand(5, 2), down.expand(5, 2))
    score, accuracy = mechanistic_interpretability(queries, up, down)
    assert accuracy == 1
    assert score == pytest.approx(1 / (1 + math.exp(-2 / TEMPERATURE)), abs=1e-6)
    swapped = mechanistic_interpretability(queries, down, up)
    assert swapped[1] == 0
    assert swapped[0] == pytest.approx(1 - score, abs=1e-6)


def test_the_same_picture_on_both_sides_is_chance() -> None:
    queries = Queries(torch.randn(6, 3), torch.randn(6, 3))
    one = torch.randn(2, 3)
    assert mechanistic_interpretability(queries, one, one)[0] == pytest.approx(0.5)


def test_the_score_equals_the_formula_task_by_task() -> None:
    generator = torch.Generator().manual_seed(0)
    high, low, plus, minus = (torch.randn(n, 4, generator=generator) for n in (7, 7, 2, 3))

    def mean_cosine(query: torch.Tensor, examples: torch.Tensor) -> float:
        return sum(float(query @ e / query.norm() / e.norm()) for e in examples) / len(examples)

    deltas = [
        (mean_cosine(h, plus) - mean_cosine(h, minus)) - (mean_cosine(w, plus) - mean_cosine(w, minus))
        for h, w in zip(high, low, strict=True)
    ]
    score, accuracy = mechanistic_interpretability(Queries(high, low), plus, minus)
    assert score == pytest.approx(sum(1 / (1 + math.exp(-delta / TEMPERATURE)) for delta in deltas) / 7, rel=1e-5)
    assert accuracy == pytest.approx(sum(delta > 0 for delta in deltas) / 7)


def test_features_come_at_the_extractors_size_and_channels() -> None:
    extractor = Trunk(toy_model(), ["output"])
    assert features(extractor, torch.rand(2, 3, 50, 40)).shape == (2, 4)
    assert features(extractor, torch.rand(2, 1, 32, 32)).shape == (2, 4)


def test_a_feature_extractor_has_no_classifier() -> None:
    model = feature_extractor("efficientnet_lite0", device="cpu")
    assert features(Trunk(model, ["output"]), torch.rand(1, 3, 64, 64)).shape == (1, 1280)
