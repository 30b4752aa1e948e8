"""Which distribution do a class's weights follow? Maximum likelihood for four of them, compared honestly.

Normal, Laplace, asymmetric Laplace and Student t, all classes at once. The asymmetric Laplace has the density
exp(-kappa (x - theta) / sigma) above theta and exp((x - theta) / (kappa sigma)) below it, over sigma (kappa + 1/kappa).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz.progress import Progress, silent

Floats = NDArray[np.float64]
# Bounds of Student's degrees of freedom: beyond the upper one it is a normal to any test of these sizes.
_DEGREES = (0.5, 2000.0)
# Steps of the shape parameters' logarithms within which classes share their bootstrap samples.
_SHAPE_STEP = 0.2
# Fits at once: 64 MB of each intermediate array.
_ROWS = 4000


@dataclass(frozen=True)
class Fitted:
    """One distribution, fitted to every row: `parameters` by name, `log_likelihood`, each (rows,); `free`: how many."""

    name: str
    parameters: Mapping[str, Floats]
    log_likelihood: Floats
    free: int

    def bic(self, n: int) -> Floats:
        """Bayesian information criterion for n values, lower is better."""
        return np.asarray(self.free * np.log(n) - 2 * self.log_likelihood)

    def row(self, number: int) -> Fitted:
        """What was fitted to one row, as rows of one."""
        own = slice(number, number + 1)
        parameters = {name: column[own] for name, column in self.parameters.items()}
        return Fitted(self.name, parameters, self.log_likelihood[own], self.free)

    @property
    def aic(self) -> Floats:
        """Akaike's information criterion, lower is better."""
        return 2 * self.free - 2 * self.log_likelihood


@dataclass(frozen=True)
class Comparison:
    """How four distributions fit the same rows of n values.

    `fitted` by name; `distance` (rows,): Kolmogorov and Smirnov's, by name; `p`: the share of bootstrap samples at
    least as far from their own fit, by name; `winner` (rows,): the name with the lowest BIC.
    """

    n: int
    fitted: Mapping[str, Fitted]
    distance: Mapping[str, Floats]
    p: Mapping[str, Floats]
    winner: NDArray[np.str_]


def fit_normal(rows: Floats) -> Fitted:
    """Mean and standard deviation of every row (rows, n)."""
    mean, deviation = rows.mean(1), rows.std(1)
    likelihood = -rows.shape[1] * (np.log(deviation) + 0.5 * np.log(2 * np.pi) + 0.5)
    return Fitted("normal", {"mean": mean, "deviation": deviation}, likelihood, 2)


def fit_laplace(rows: Floats) -> Fitted:
    """Median and mean absolute deviation from it."""
    centre = np.median(rows, axis=1)
    scale = np.abs(rows - centre[:, None]).mean(1)
    likelihood = -rows.shape[1] * (np.log(2 * scale) + 1)
    return Fitted("laplace", {"centre": centre, "scale": scale}, likelihood, 2)


def fit_asymmetric_laplace(rows: Floats) -> Fitted:
    """The exact maximum: for a given centre the rest is closed, and the best centre is one of the values.

    With a and b the mean excesses above and below the centre, kappa^4 = b / a, sigma = kappa a + b / kappa, and the
    log-likelihood is -n (1 + 2 log(sqrt a + sqrt b)). Kotz, Kozubowski and Podgorski 2001, "The Laplace Distribution
    and Generalizations", section 3.5.
    """
    n = rows.shape[1]
    ordered = np.sort(rows, axis=1)
    total = ordered.cumsum(1)
    rank = np.arange(1, n + 1)
    above = np.maximum((total[:, -1:] - total) - (n - rank) * ordered, 0) / n
    below = np.maximum(rank * ordered - total, 0) / n
    height = np.sqrt(above) + np.sqrt(below)
    # At either end all values lie on one side: kappa would be 0 or infinite.
    best = 1 + height[:, 1:-1].argmin(1)
    pick = (np.arange(len(rows)), best)
    a, b = above[pick], below[pick]
    kappa = (b / a) ** 0.25
    found = {"centre": ordered[pick], "scale": kappa * a + b / kappa, "kappa": kappa}
    return Fitted("asymmetric laplace", found, -n * (1 + 2 * np.log(height[pick])), 3)


def fit_student(rows: Floats, *, rounds: int = 200) -> Fitted:
    """Centre, scale and degrees of freedom (0.5 to 2000), by conditional maximisation of the likelihood.

    Liu and Rubin 1995, "ML estimation of the t distribution using EM and its extensions, ECM and ECME".
    """
    n = rows.shape[1]
    centre = np.median(rows, axis=1)
    scale = np.median(np.abs(rows - centre[:, None]), axis=1) * 1.4826
    degrees = np.full(len(rows), 5.0)
    likelihood = np.full(len(rows), -np.inf)
    active = np.arange(len(rows))
    for _ in range(rounds):
        own = rows[active]
        squares = ((own - centre[active, None]) / scale[active, None]) ** 2
        degrees[active] = _degrees(squares, degrees[active])
        nu = degrees[active, None]
        weight = (nu + 1) / (nu + squares)
        centre[active] = (weight * own).sum(1) / weight.sum(1)
        # Dividing by the weights' sum, not n, has the same limit and comes to it sooner. Kent, Tyler and Vardi 1994.
        scale[active] = np.sqrt((weight * (own - centre[active, None]) ** 2).sum(1) / weight.sum(1))
        now = _student_likelihood(own, centre[active], scale[active], degrees[active])
        moved = now - likelihood[active] > 1e-7 * n
        likelihood[active] = now
        active = active[moved]
        if not len(active):
            break
    return Fitted("student t", {"centre": centre, "scale": scale, "degrees": degrees}, likelihood, 3)


def _degrees(squares: Floats, before: Floats) -> Floats:
    """The degrees of freedom that maximise the likelihood at given squared distances: Newton steps in their log."""
    from scipy import special

    log_nu = np.log(before)
    for _ in range(3):
        nu = np.exp(log_nu)
        part = squares / nu[:, None]
        one = 1 + part
        # Derivative of the mean log-likelihood with respect to nu, and that derivative's.
        slope = 0.5 * (
            special.digamma((nu + 1) / 2) - special.digamma(nu / 2) - 1 / nu
            - np.log1p(part).mean(1) + (nu + 1) / nu * (part / one).mean(1)
        )  # fmt: skip
        ratio = (part / one).mean(1)
        curve = 0.5 * (
            0.5 * special.polygamma(1, (nu + 1) / 2) - 0.5 * special.polygamma(1, nu / 2) + 1 / nu**2
            + ratio / nu - ratio / nu**2 - (nu + 1) / nu**2 * (part / one**2).mean(1)
        )  # fmt: skip
        in_log = curve * nu**2 + slope * nu
        step = np.where(in_log < -1e-12, -slope * nu / in_log, np.sign(slope) * 0.5)
        log_nu = np.clip(log_nu + np.clip(step, -1, 1), *np.log(_DEGREES))
    return np.exp(log_nu)


def _student_likelihood(rows: Floats, centre: Floats, scale: Floats, nu: Floats) -> Floats:
    from scipy import special

    squares = ((rows - centre[:, None]) / scale[:, None]) ** 2
    constant = special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(scale)
    return np.asarray(rows.shape[1] * constant - (nu + 1) / 2 * np.log1p(squares / nu[:, None]).sum(1))


FITS: dict[str, Callable[[Floats], Fitted]] = {
    "normal": fit_normal,
    "laplace": fit_laplace,
    "asymmetric laplace": fit_asymmetric_laplace,
    "student t": fit_student,
}
# The parameter that a distribution's shape hangs on; location and scale do not touch the distance's own distribution.
_SHAPES = {"normal": "", "laplace": "", "asymmetric laplace": "kappa", "student t": "degrees"}


def cumulative(fitted: Fitted, values: Floats) -> Floats:
    """The fitted share below values (rows, n)."""
    from scipy import special

    own = {name: column[:, None] for name, column in fitted.parameters.items()}
    if fitted.name == "normal":
        return np.asarray(special.ndtr((values - own["mean"]) / own["deviation"]))
    far = (values - own["centre"]) / own["scale"]
    if fitted.name == "student t":
        return np.asarray(special.stdtr(own["degrees"], far))
    kappa = own.get("kappa", np.ones_like(own["scale"]))
    below = kappa**2 / (1 + kappa**2)
    return np.where(
        far < 0, below * np.exp(np.minimum(far, 0) / kappa), 1 - (1 - below) * np.exp(-np.maximum(far, 0) * kappa)
    )


def distance(fitted: Fitted, rows: Floats) -> Floats:
    """Kolmogorov and Smirnov's distance (rows,) between the rows and what was fitted to them."""
    n = rows.shape[1]
    share = cumulative(fitted, np.sort(rows, axis=1))
    steps = np.arange(n + 1) / n
    return np.asarray(np.maximum((steps[1:] - share).max(1), (share - steps[:-1]).max(1)))


def draw(name: str, shape: float, size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Values of a distribution with centre 0 and scale 1; shape: its kappa or its degrees of freedom."""
    if name == "normal":
        return rng.normal(size=size)
    if name == "student t":
        return rng.standard_t(shape, size=size)
    kappa = shape if name == "asymmetric laplace" else 1.0
    # The difference of two exponentials, the upper of mean 1 / kappa, the lower of mean kappa.
    return rng.exponential(1 / kappa, size) - rng.exponential(kappa, size)


Nulls = dict[tuple[str, int, int], Floats]


def compare(
    rows: Floats, *, bootstrap: int = 1999, seed: int = 0, nulls: Nulls | None = None, progress: Progress = silent
) -> Comparison:
    """Fit all four distributions to every row (rows, n) and say how well each does.

    bootstrap: samples behind a p-value (see `p_values`, as for nulls), 0 for none. A fit that has no likelihood never
    wins.
    """
    fitted = {}
    for done, (name, own) in enumerate(FITS.items(), 1):
        with np.errstate(invalid="ignore", divide="ignore"):
            fitted[name] = _in_parts(own, rows)
        progress("fitting distributions", done, len(FITS))
    p, distances = {}, {}
    for done, (name, found) in enumerate(fitted.items(), 1):
        with np.errstate(invalid="ignore", divide="ignore"):
            distances[name] = distance(found, rows)
        p[name] = p_values(found, distances[name], rows.shape[1], bootstrap=bootstrap, seed=seed, nulls=nulls)
        progress("bootstrap", done, len(fitted))
    scores = np.stack([found.bic(rows.shape[1]) for found in fitted.values()])
    best = np.where(np.isfinite(scores), scores, np.inf).argmin(0)
    return Comparison(rows.shape[1], fitted, distances, p, np.array(list(fitted))[best])


def p_values(
    fitted: Fitted, distances: Floats, n: int, *, bootstrap: int, seed: int = 0, nulls: Nulls | None = None
) -> Floats:
    """How often (rows,) samples of n values of the fitted distribution are at least as far from a fit of their own.

    A sample is drawn from the fitted distribution and fitted anew, which is what makes the p-value uniform where the
    distribution is the right one. Rows share samples: the distance's distribution does not depend on location and scale
    at all, and on the shape so little that it is drawn once for each step of 0.2 of its logarithm. Times the root of n
    it hardly depends on n either: nulls, where given, keeps the samples for later calls with an n within 5 %. NaN
    without samples and for a fit that failed. Stute, Gonzalez Manteiga and Presedo Quindimil 1993, "Bootstrap based
    goodness-of-fit tests".
    """
    p, nulls = np.full(len(distances), np.nan), {} if nulls is None else nulls
    steps, known = _steps(fitted), np.isfinite(distances)
    size = round(np.log(n) / 0.05)
    for step in sorted(set(steps[known].tolist())) if bootstrap else ():
        key = (fitted.name, step, size)
        if key not in nulls:
            rng = np.random.default_rng([seed, list(FITS).index(fitted.name), step + 1000])
            sample = draw(fitted.name, float(np.exp(step * _SHAPE_STEP)), (bootstrap, n), rng)
            nulls[key] = np.sort(distance(_in_parts(FITS[fitted.name], sample), sample)) * np.sqrt(n)
        here = (steps == step) & known
        beyond = bootstrap - np.searchsorted(nulls[key], distances[here] * np.sqrt(n), side="left")
        p[here] = (1 + beyond) / (1 + bootstrap)
    return p


def _steps(fitted: Fitted) -> NDArray[np.int64]:
    """Each row's step of the shape's logarithm; 0 for a distribution without a shape."""
    shape = _SHAPES[fitted.name]
    if not shape:
        return np.zeros(len(fitted.log_likelihood), dtype=np.int64)
    # From 60 degrees of freedom on a Student t is as good as normal.
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.clip(np.log(fitted.parameters[shape]), -5, np.log(60))
    return np.asarray(np.rint(np.nan_to_num(logs) / _SHAPE_STEP), dtype=np.int64)


def _in_parts(own: Callable[[Floats], Fitted], rows: Floats) -> Fitted:
    parts = [own(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
    parameters = {name: np.concatenate([part.parameters[name] for part in parts]) for name in parts[0].parameters}
    likelihood = np.concatenate([part.log_likelihood for part in parts])
    return Fitted(parts[0].name, parameters, likelihood, parts[0].free)
