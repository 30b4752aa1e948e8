"""Fits and splits of a classifier's weights beside the same steps class by class, as a notebook has them.

EfficientNet-Lite0: 1000 classes of 1280 weights. The twin goes through the classes one by one: sort, logarithm, scipy's
line, R2, and the recursion with lists of members. Both must give the same. Maximum likelihood of four distributions and
the p-values, are timed apart. Figures go to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from common import fastest, machine
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

from atlas.ald import fit
from atlas.distributions import compare
from atlas.tree import MINUS, PLUS, terminals
from featviz import load_model
from featviz.network.classifier import find_classifier

Weights = NDArray[np.float64]


def twin(weights: Weights) -> dict[str, Any]:
    """The reference's steps, class by class: the fit by scipy's line, the split by lists of members."""
    found: dict[str, list[Any]] = {"r2": [], "members": [], "depth": []}
    for row in weights:
        for signed in (row, -row):
            y = np.array(sorted(value for value in signed if value > 0))
            x, t = np.array([i / len(y) for i in range(len(y))]), np.log(y)
            line = stats.linregress(x, t)
            left = sum((b - line.slope * a - line.intercept) ** 2 for a, b in zip(x, t, strict=True))
            found["r2"].append(1 - left / sum((b - t.mean()) ** 2 for b in t))
        for sign in (PLUS, MINUS):
            members, residual, depth = list(range(len(row))), list(row), 0
            while len(members) >= 20:
                mean = np.mean(residual)
                residual = [value - mean for value in residual]
                kept = [i for i, value in enumerate(residual) if (value >= 0) == (sign == PLUS)]
                members, residual, depth = [members[i] for i in kept], [residual[i] for i in kept], depth + 1
            found["members"].append(tuple(members))
            found["depth"].append(depth)
    return found


def ours(weights: Weights) -> dict[str, Any]:
    """The same for all classes at once, in the twin's order."""
    line = fit(weights)
    plus, minus = terminals(weights, PLUS), terminals(weights, MINUS)
    return {
        "r2": np.stack([line.positive.r2, line.negative.r2], 1).flatten().tolist(),
        "members": [members for pair in zip(plus.members, minus.members, strict=True) for members in pair],
        "depth": np.stack([plus.depth, minus.depth], 1).flatten().tolist(),
    }


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="Fits and splits of the final layer's weights.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, default=1000, help="how many of the classes")
    parser.add_argument("--bootstrap", type=int, default=999, help="samples behind a p-value")
    options = parser.parse_args()
    model = load_model(device="cpu")
    weights = find_classifier(model).weight.double().numpy()[: options.classes]
    fast, found = fastest(lambda: ours(weights), options.repeats)
    slow, expected = fastest(lambda: twin(weights), 1)
    likelihood, _ = fastest(lambda: compare(weights, bootstrap=0), 1)
    bootstrap, _ = fastest(lambda: compare(weights, bootstrap=options.bootstrap), 1)
    result = {
        **machine(model),
        "classes": len(weights),
        "seconds": {"ours": fast, "twin": slow, "maximum likelihood": likelihood, "with p-values": bootstrap},
        "times as fast": slow / fast,
        "largest difference of R2": float(np.abs(np.array(found["r2"]) - np.array(expected["r2"])).max()),
        "terminal sets that differ": sum(a != b for a, b in zip(found["members"], expected["members"], strict=True)),
        "depths that differ": sum(a != b for a, b in zip(found["depth"], expected["depth"], strict=True)),
    }
    Console(stderr=True).print({key: value for key, value in result.items() if key != "machine"})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
