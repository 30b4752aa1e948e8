from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from atlas.ald import fit
from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model


def _by_hand(weights: list[float]) -> tuple[float, float, float]:
    """The reference's steps for the positive weights of one class, in plain Python: slope, intercept, R2."""
    y = sorted(weight for weight in weights if weight > 0)
    n = len(y)
    x, t = [i / n for i in range(n)], [math.log(value) for value in y]
    mean_x, mean_t = math.fsum(x) / n, math.fsum(t) / n
    slope = math.fsum((a - mean_x) * (b - mean_t) for a, b in zip(x, t, strict=True)) / math.fsum(
        (a - mean_x) ** 2 for a in x
    )
    intercept = mean_t - slope * mean_x
    left = math.fsum((b - slope * a - intercept) ** 2 for a, b in zip(x, t, strict=True))
    return slope, intercept, 1 - left / math.fsum((b - mean_t) ** 2 for b in t)


def _weights(classes: int = 5, features: int = 60, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.01, 0.05, (classes, features))


def test_lines_equal_the_slow_twins() -> None:
    weights = _weights()
    weights[1, :7] = 0
    weights[3] = np.abs(weights[3])
    found = fit(weights)
    for label, row in enumerate(weights):
        for line, signed in ((found.positive, row), (found.negative, -row)):
            if (signed > 0).sum() < 3:
                assert np.isnan(line.slope[label])
                continue
            expected = _by_hand(signed.tolist())
            assert (line.slope[label], line.intercept[label], line.r2[label]) == pytest.approx(expected, abs=1e-9)
            assert line.n[label] == (signed > 0).sum()
    assert found.zeros.tolist() == [0, 7, 0, 0, 0]
    joint = _by_hand(weights.flatten().tolist())
    assert (found.joint_positive.slope[0], found.joint_positive.intercept[0]) == pytest.approx(joint[:2], abs=1e-9)


def test_on_the_real_network_every_class_equals_the_slow_twin_and_the_known_means(lite0: Model) -> None:
    weights = find_classifier(lite0).weight.double().numpy()
    found = fit(weights)
    for line, sign in ((found.positive, 1), (found.negative, -1)):
        expected = np.array([_by_hand((sign * row).tolist()) for row in weights])
        assert np.allclose(np.stack([line.slope, line.intercept, line.r2], 1), expected, atol=1e-6, rtol=0)
    assert np.mean(found.positive.r2) == pytest.approx(0.845, abs=5e-4)
    assert np.mean(found.negative.r2) == pytest.approx(0.811, abs=5e-4)


def test_a_line_made_by_hand_gives_its_own_slope_intercept_and_asymmetry() -> None:
    slope, intercept, n = 3.0, -4.0, 80
    y = np.exp(slope * np.arange(n) / n + intercept)
    line = fit(np.concatenate([y, [-1.0, -2.0, -3.0]])).positive
    assert (line.slope[0], line.intercept[0], line.r2[0]) == pytest.approx((slope, intercept, 1), abs=1e-9)
    height = math.exp(intercept)
    kappa = math.sqrt(height / (slope - height))
    assert line.kappa[0] == pytest.approx(kappa)
    assert line.scale[0] == pytest.approx(slope * kappa)
    assert line.mean[0] == pytest.approx((1 - kappa**2) / (slope * kappa * kappa))


def test_a_line_that_implies_no_asymmetric_laplace_says_nan() -> None:
    y = np.exp(0.5 * np.arange(60) / 60 + 2)  # slope 0.5, exp(intercept) 7.4
    line = fit(y).positive
    assert np.isfinite(line.slope[0])
    assert np.isnan(line.kappa[0])
    assert np.isnan(line.mean[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((3, 39)), "at least 40 features"),
        (np.full((2, 50), np.nan), r"2 class\(es\) are not finite, the first of class 0"),
    ],
)
def test_weights_that_cannot_be_fitted_are_refused(weights: NDArray[np.float64], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(weights)


def test_one_sign_and_constant_weights_are_said_not_guessed() -> None:
    found = fit(np.stack([np.linspace(0.1, 1, 50), np.full(50, 0.3)]))
    assert np.isnan(found.negative.slope).all()
    assert found.negative.n.tolist() == [0, 0]
    assert np.isfinite(found.positive.slope[0])
    assert np.isnan(found.positive.slope[1])
