from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from featviz.errors import UserError
from search.naming.naming import (
    ALPHA,
    CHECKERS,
    CHOOSERS,
    Evidence,
    aurocs,
    closest_names,
    interval,
    name_units,
    split,
    worth_trying,
)
from search.naming.vocabulary import Concepts


def _concepts(members: np.ndarray, names: tuple[str, ...]) -> Concepts:
    return Concepts(names, members, np.ones(len(members), bool), "labels")


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("steps", [0, 3])
def test_aurocs_and_their_deviations_are_those_of_scikit_learn_and_scipy(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, 60))
    values = np.round(values * steps) if steps else values  # with ties, and without
    members = rng.random((60, 2)) < 0.3
    found, deviations = aurocs(values.astype(np.float32), members)
    for unit in range(2):
        for name in range(2):
            own = members[:, name]
            assert found[unit, name] == pytest.approx(roc_auc_score(own, values[unit]), abs=1e-12)
            test = mannwhitneyu(
                values[unit, own], values[unit, ~own], alternative="greater", method="asymptotic", use_continuity=False
            )
            assert norm.sf(deviations[unit, name]) == pytest.approx(test.pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_a_name_says_what_scikit_learn_and_scipy_say_of_the_checking_photographs_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.random((400, 6)) < 0.2
    values = (members[:, 2] * 1.5 + rng.normal(size=400)).astype(np.float32)[None]
    chooses, checks = split(400, seed)
    tried = worth_trying(members[chooses], members[checks])
    (name,) = name_units(
        Evidence(values[:, chooses], members[chooses]),
        Evidence(values[:, checks], members[checks]),
        _concepts(members, tuple("abcdef")),
    )
    assert name is not None
    own, seen = members[checks, 2], values[0, checks].astype(np.float64)
    assert (name.text, name.by, name.positives) == ("c", "labels", int(own.sum()))
    assert name.auroc == pytest.approx(roc_auc_score(own, seen), abs=1e-12)
    test = mannwhitneyu(seen[own], seen[~own], alternative="greater", method="asymptotic", use_continuity=False)
    assert name.p == pytest.approx(min(1, len(tried) * test.pvalue), rel=1e-9)
    assert name.share == own[np.argsort(-seen)[:10]].mean()
    assert name.low < name.auroc < name.high


@given(st.floats(0, 1), st.integers(2, 300), st.integers(2, 300))
def test_the_ends_of_an_interval_are_where_the_auroc_lies_at_the_edge_of_what_they_explain(
    auroc: float, positives: int, negatives: int
) -> None:
    low, high = interval(auroc, positives, negatives)
    assert 0 <= low <= auroc <= high <= 1
    more = (positives + negatives) / 2 - 1
    for end in (low, high):
        spread = end * (1 - end) * (1 + more * ((1 - end) / (2 - end) + end / (1 + end))) / (positives * negatives)
        if 0 < end < 1:
            assert abs(auroc - end) == pytest.approx(norm.ppf(0.975) * spread**0.5, abs=1e-6)
    assert interval(1.0, positives, negatives)[0] < 1  # even where all are in order


def test_an_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    truth = norm.cdf(1 / 2**0.5)
    held = 0
    for _ in range(400):
        inside, outside = rng.normal(1, 1, 15), rng.normal(0, 1, 120)
        auroc = float((inside[:, None] > outside).mean())
        low, high = interval(auroc, 15, 120)
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.99


def test_of_random_units_hardly_any_is_named() -> None:
    rng = np.random.default_rng(0)
    members = rng.random((500, 40)) < rng.uniform(0.03, 0.5, 40)
    values = rng.normal(size=(600, 500)).astype(np.float32)
    chooses, checks = split(500)
    names = name_units(
        Evidence(values[:, chooses], members[chooses]),
        Evidence(values[:, checks], members[checks]),
        _concepts(members, tuple(map(str, range(40)))),
        share=0,
    )
    assert sum(name is not None for name in names) / len(names) < ALPHA / 2


def test_what_chooses_does_not_check() -> None:
    """A name that fits the choosing photographs alone is none."""
    rng = np.random.default_rng(0)
    members = rng.random((500, 5)) < 0.3
    chooses, checks = split(500)
    assert not set(chooses) & set(checks)
    assert len(chooses) + len(checks) == 500
    values = rng.normal(size=(1, 500)).astype(np.float32)
    values[:, chooses] += 5 * members[chooses, 1]
    names = name_units(
        Evidence(values[:, chooses], members[chooses]),
        Evidence(values[:, checks], members[checks]),
        _concepts(members, tuple("abcde")),
        share=0,
    )
    assert names == [None]


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_of_names_that_fit_the_most_precise_is_taken_and_a_common_one_where_that_fits_better(share: float) -> None:
    rng = np.random.default_rng(1)
    animal = rng.random(600) < 0.4
    dog = animal & (rng.random(600) < 0.3)
    members = np.stack([animal, dog], 1)
    values = np.stack([dog * 4 + rng.normal(size=600), animal * 4 + rng.normal(size=600)]).astype(np.float32)
    chooses, checks = split(600)
    names = name_units(
        Evidence(values[:, chooses], members[chooses]),
        Evidence(values[:, checks], members[checks]),
        _concepts(members, ("animal", "dog")),
        share=share,
    )
    assert [name.text if name else None for name in names] == ["dog", "animal"]


def test_a_name_that_the_strongest_of_the_checking_photographs_belie_is_none() -> None:
    rng = np.random.default_rng(0)
    members = rng.random((500, 1)) < 0.2
    values = (members[:, 0] * 2 + rng.normal(size=500)).astype(np.float32)[None]
    chooses, checks = split(500)
    others = checks[~members[checks, 0]][:8]
    values[0, others] = 9  # photographs of no name excite it most, where it is checked
    parts = (Evidence(values[:, part], members[part]) for part in (chooses, checks))
    first, second = parts
    assert name_units(first, second, _concepts(members, ("a",))) == [None]
    (name,) = name_units(first, second, _concepts(members, ("a",)), share=0)
    assert name is not None
    assert name.share <= 0.2


def test_names_of_too_few_photographs_or_of_nearly_all_are_not_tried_and_of_equal_ones_the_last() -> None:
    count = 100
    members = np.zeros((2 * count, 5), bool)
    for start in (0, count):
        members[start : start + 20, :2] = True  # two names of the same photographs
        members[start : start + 80, 2] = True  # nearly all
        members[start : start + CHOOSERS - 1, 3] = True
    members[: max(CHOOSERS, CHECKERS), 4] = True  # none to check by
    assert worth_trying(members[:count], members[count:]).tolist() == [1]


def test_a_unit_that_never_varies_or_is_not_finite_gets_no_name() -> None:
    rng = np.random.default_rng(0)
    members = rng.random((300, 3)) < 0.3
    values = np.stack([np.ones(300), np.where(np.arange(300) % 7, 1.0, np.nan)]).astype(np.float32)
    chooses, checks = split(300)
    names = name_units(
        Evidence(values[:, chooses], members[chooses]),
        Evidence(values[:, checks], members[checks]),
        _concepts(members, tuple("abc")),
        share=0,
    )
    assert names == [None, None]


def test_too_few_photographs_to_check_by_are_refused() -> None:
    members = np.ones((19, 1), bool)
    few = Evidence(np.zeros((1, 19), np.float32), members)
    with pytest.raises(UserError, match=r"19 photographs with a name are left .* at least 20"):
        name_units(few, few, _concepts(members, ("a",)))


def test_the_closest_names_are_ranked_by_auroc_the_more_precise_first_or_by_correlation_with_how_sure() -> None:
    members = np.zeros((40, 3), bool)
    members[0, :2] = members[1:20, 2] = True
    concepts = Concepts(
        ("above", "below", "other"), members, np.ones(40, bool), "labels", {"below": ("above",), "above": ()}
    )
    values = -np.arange(40, dtype=np.float32)[None]
    ranked = closest_names(Evidence(values, members), concepts)
    assert [name for name, _ in ranked[0]] == ["below", "above", "other"]
    assert ranked[0][0][1] == 1.0
    sure = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    sure[:, 2] = values[0] * 2 + 3
    graded = Concepts(("a", "b", "c"), members, np.ones(40, bool), "classes of x", {}, sure)
    best = closest_names(Evidence(values, members), graded, count=1)
    assert best[0][0][0] == "c"
    assert best[0][0][1] == pytest.approx(1)
