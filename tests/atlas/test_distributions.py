from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from atlas.distributions import FITS, compare, cumulative, distance, draw, p_values

SHAPES = {"normal": 1.0, "laplace": 1.0, "asymmetric laplace": 0.7, "student t": 4.0}


def _rows(name: str, rows: int, seed: int, n: int = 1280) -> np.ndarray:
    return draw(name, SHAPES[name], (rows, n), np.random.default_rng(seed)) * 0.06 - 0.01


def _scipy(name: str, parameters: dict[str, float]) -> object:
    if name == "normal":
        return stats.norm(parameters["mean"], parameters["deviation"])
    if name == "laplace":
        return stats.laplace(parameters["centre"], parameters["scale"])
    if name == "student t":
        return stats.t(parameters["degrees"], parameters["centre"], parameters["scale"])
    return stats.laplace_asymmetric(parameters["kappa"], parameters["centre"], parameters["scale"])


@pytest.mark.parametrize("drawn", list(FITS))
@pytest.mark.parametrize("name", list(FITS))
def test_likelihood_shares_and_distance_are_scipys(name: str, drawn: str) -> None:
    rows = _rows(drawn, 3, 1, 400)
    found = FITS[name](rows)
    for number, row in enumerate(rows):
        frozen = _scipy(name, {key: float(value[number]) for key, value in found.parameters.items()})
        assert found.log_likelihood[number] == pytest.approx(frozen.logpdf(row).sum(), abs=1e-6)  # type: ignore[attr-defined]
        assert np.allclose(cumulative(found, rows)[number], frozen.cdf(row), atol=1e-9)  # type: ignore[attr-defined]
        assert distance(found, rows)[number] == pytest.approx(stats.kstest(row, frozen.cdf).statistic, abs=1e-9)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("normal", stats.norm),
        ("laplace", stats.laplace),
        ("asymmetric laplace", stats.laplace_asymmetric),
        ("student t", stats.t),
    ],
)
def test_no_fit_of_scipys_is_more_likely(name: str, theirs: object) -> None:
    for drawn in FITS:
        row = _rows(drawn, 1, 5, 500)
        best = theirs.logpdf(row[0], *theirs.fit(row[0])).sum()  # type: ignore[attr-defined]
        assert FITS[name](row).log_likelihood[0] >= best - 0.02


def test_the_known_likelihoods_of_the_class_tricycle(lite0: object) -> None:
    from featviz.network.classifier import find_classifier

    weights = find_classifier(lite0).weight.double().numpy()  # type: ignore[arg-type]
    row = weights[[lite0.class_index("tricycle")]]  # type: ignore[attr-defined]
    expected = {"normal": (1688.6, 0.044), "asymmetric laplace": (1653.5, 0.062), "laplace": (1634.9, 0.063)}
    for name, (likelihood, away) in expected.items():
        found = FITS[name](row)
        assert found.log_likelihood[0] == pytest.approx(likelihood, abs=0.06)
        assert distance(found, row)[0] == pytest.approx(away, abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FITS))
def test_the_right_distribution_is_named_and_its_p_values_are_uniform(name: str) -> None:
    count = 400 if name != "student t" else 150  # whose fit takes ten times as long
    rows = _rows(name, count, 12)
    assert (compare(rows, bootstrap=0).winner == name).mean() >= 0.95
    found = FITS[name](rows)
    # Rows share the bootstrap's samples, whose own noise must be small beside theirs.
    p = p_values(found, distance(found, rows), 1280, bootstrap=4 * count - 1, seed=3)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_wrong_distribution_is_rejected() -> None:
    found = compare(_rows("asymmetric laplace", 40, 3), bootstrap=299)
    assert (found.p["normal"] < 0.05).mean() > 0.9
    assert (found.p["laplace"] < 0.05).mean() > 0.9


def test_without_a_bootstrap_there_are_no_p_values_and_a_seed_repeats_them() -> None:
    rows = _rows("laplace", 5, 1, 200)
    assert np.isnan(compare(rows, bootstrap=0).p["normal"]).all()
    first, again = (compare(rows, bootstrap=99, seed=4).p for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in FITS)


def test_criteria_count_parameters() -> None:
    found = FITS["asymmetric laplace"](_rows("laplace", 2, 1, 100))
    assert np.allclose(found.bic(100), 3 * np.log(100) - 2 * found.log_likelihood)
    assert np.allclose(found.aic, 6 - 2 * found.log_likelihood)


def test_a_fit_that_fails_never_wins_and_has_no_p_value() -> None:
    rng = np.random.default_rng(0)
    alike = np.where(rng.random(200) < 0.6, 0.1, rng.normal(size=200))  # more than half alike: no median deviation
    floor = np.maximum(rng.normal(size=200), -0.5)
    found = compare(np.stack([alike, floor]), bootstrap=49)
    assert np.isnan(found.p["student t"][0])
    assert found.winner[0] != "student t"
    assert found.winner[1] in FITS


def test_rows_of_nearly_as_many_values_share_their_bootstrap() -> None:
    nulls: dict[tuple[str, int, int], np.ndarray] = {}
    first = _rows("normal", 3, 1, 1000)
    compare(first, bootstrap=49, nulls=nulls)
    count = len(nulls)
    compare(first[:, :998], bootstrap=49, nulls=nulls)
    assert len(nulls) - count <= 1  # a shape may lie in another step
