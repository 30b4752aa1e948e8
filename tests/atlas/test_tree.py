from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atlas.tree import MINUS, PLUS, Node, Sign, split, stability, terminals
from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.models import Model


def _by_hand(weights: list[float], sign: Sign) -> tuple[list[int], int]:
    """The reference's steps for one class: the terminal node of a pure chain and its depth."""
    members, residual, depth = list(range(len(weights))), list(weights), 0
    while len(members) >= 20:
        mean = float(np.mean(residual))
        residual = [value - mean for value in residual]
        kept = [i for i, value in enumerate(residual) if (value >= 0 if sign == PLUS else value < 0)]
        if len(kept) in (0, len(members)):
            break
        members, residual = [members[i] for i in kept], [residual[i] for i in kept]
        depth += 1
    return members, depth


def _weights(seed: int, classes: int = 4, features: int = 300) -> NDArray[np.float64]:
    return np.random.default_rng(seed).laplace(0.01, 0.05, (classes, features))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(40, 400))
def test_terminal_features_equal_the_slow_twins(seed: int, features: int) -> None:
    weights = _weights(seed, features=features)
    for sign in (PLUS, MINUS):
        found = terminals(weights, sign)
        for label, row in enumerate(weights):
            members, depth = _by_hand(row.tolist(), sign)
            assert (list(found.members[label]), found.depth[label]) == (members, depth)


def test_on_the_real_network_every_class_equals_the_slow_twin_and_the_known_means(lite0: Model) -> None:
    weights = find_classifier(lite0).weight.double().numpy()
    sizes, depths = [], []
    for sign in (PLUS, MINUS):
        found = terminals(weights, sign)
        for label, row in enumerate(weights):
            assert (list(found.members[label]), found.depth[label]) == _by_hand(row.tolist(), sign)
        sizes.append(found.sizes)
        depths.append(found.depth)
    assert np.mean(sizes) == pytest.approx(14.2, abs=0.05)
    assert np.mean(depths) == pytest.approx(5.25, abs=0.005)
    assert (np.min(sizes), np.max(sizes)) == (5, 19)


def _leaves(tree: Node) -> list[Node]:
    return [node for node in tree if node.terminal]


def test_the_tree_ends_where_the_chains_do_and_the_full_one_parts_all_features() -> None:
    weights = _weights(3)[0]
    chains, full = split(weights), split(weights, full=True)
    ends = {node.path[0]: node for node in _leaves(chains) if len(set(node.path)) == 1 and len(node.path) > 1}
    for sign in (PLUS, MINUS):
        members, depth = _by_hand(weights.tolist(), sign)
        assert (list(ends[sign].members), len(ends[sign].path)) == (members, depth)
    leaves = _leaves(full)
    assert sorted(member for leaf in leaves for member in leaf.members) == list(range(300))
    assert max(len(leaf.members) for leaf in leaves) < 20
    for node in full:
        for child in node.children:
            assert set(child.members) <= set(node.members)
            assert child.path[:-1] == node.path


def test_a_positive_chain_is_the_largest_weights() -> None:
    weights = _weights(5)[0]
    members = terminals(weights[None], PLUS).members[0]
    assert set(members) == set(np.argsort(-weights)[: len(members)].tolist())


def test_constant_weights_end_at_once() -> None:
    found = terminals(np.full((1, 64), 0.2), PLUS)
    assert (len(found.members[0]), found.depth[0]) == (64, 0)
    assert terminals(np.full((1, 64), 0.2), MINUS).sizes.tolist() == [64]
    assert split(np.full(64, 0.2)).terminal


def test_without_noise_all_members_stay_and_with_much_few_do() -> None:
    weights = _weights(1, classes=30)
    assert stability(weights, PLUS, 0.0).tolist() == [1.0] * 30
    little, much = stability(weights, PLUS, 0.01).mean(), stability(weights, PLUS, 1.0).mean()
    assert 1 > little > much > 0


def test_too_few_weights_are_refused() -> None:
    with pytest.raises(UserError, match="at least 40 features"):
        split(np.ones(39))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([-0.3, -0.1, 0.0, 0.1, 0.7]), min_size=40, max_size=200))
@example([-0.3] * 18 + [-0.1] * 7 + [0.1] * 3 + [-0.3] * 5 + [-0.1] * 2 + [0.7] * 5)  # the mean is one of the weights
def test_many_equal_weights_split_alike_both_ways(row: list[float]) -> None:
    weights = np.array(row)
    for sign in (PLUS, MINUS):
        chain = [node for node in split(weights) if set(node.path) <= {sign}]
        assert chain[-1].members == terminals(weights[None], sign).members[0]
    assert all(node.members for node in split(weights, full=True))
