r"""Confidence intervals of a signal strength for few events: the construction of Feldman and Cousins (physics/9711021).

A strength :math:`\mu \ge 0` belongs to the interval if the data are among the most likely ones that it would give, ordered by the
likelihood ratio

.. math:: t_\mu = -2\ln \frac{L(\mu, \hat{\hat\theta})}{L(\max(\hat\mu, 0), \hat\theta)} \le c(\mu).

The limit :math:`c(\mu)` is the quantile of :math:`t_\mu` in toys, drawn with the background (and nuisance parameters) that fit the data
best at :math:`\mu`, and fitted as the data are, choice of the background included. Below some fifteen background events the quantile of
:math:`\chi^2_1`, used in likelihood intervals, is not that of the toys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, optimize, stats

from serendip.errors import InputError
from serendip.statistics.fit import FitError
from serendip.statistics.inference import likelihood_ratio
from serendip.statistics.model import BinnedModel, ModelFits

__all__ = ["bounded_ratio", "critical_values", "feldman_cousins"]

Array = NDArray[np.float64]

_POINTS = 12
_EXTENSIONS = 8


def bounded_ratio(
    model: BinnedModel,
    counts: ArrayLike,
    mu: float,
    best: ModelFits | None = None,
    auxiliary: Array | None = None,
) -> Array:
    r"""The statistic :math:`t_\mu` of many data sets, shape ``(t,)``.

    Parameters
    ----------
    model, counts, auxiliary
        As in :func:`~serendip.statistics.inference.likelihood_ratio`.
    mu
        Tested signal strength, not negative.
    best
        Their fits with a signal strength that is not negative, if they are known.
    """
    best = model.fit(counts, auxiliary=auxiliary, bounded=True) if best is None else best
    return likelihood_ratio(model, counts, mu, best, auxiliary)


def critical_values(
    model: BinnedModel,
    counts: ArrayLike,
    mu: float,
    levels: Sequence[float],
    n_toys: int,
    rng: np.random.Generator,
) -> Array:
    r"""Limits :math:`c(\mu)` of the statistic at one strength, one for each level, shape ``(n_levels,)``.

    Parameters
    ----------
    model
        The model.
    counts
        The data, shape ``(n_bins,)``.
    mu
        Tested signal strength, not negative.
    levels
        Confidence levels.
    n_toys
        Toys.
    rng
        Source of randomness.
    """
    truth = model.fit(counts, mu)
    toys = model.sample(truth.expected[0], n_toys, rng)
    auxiliary = truth.nuisance[0] + rng.standard_normal((n_toys, truth.nuisance.shape[1]))
    statistic = bounded_ratio(model, toys, mu, auxiliary=auxiliary)
    return np.asarray(np.quantile(statistic, levels, method="higher"))


def feldman_cousins(
    model: BinnedModel,
    counts: ArrayLike,
    levels: Sequence[float] = (0.6827, 0.95),
    *,
    n_toys: int = 1000,
    rng: np.random.Generator,
) -> list[tuple[float, float]]:
    """Intervals of the signal strength, which is not negative; one for each level.

    The limits of the statistic are found at some strengths and interpolated between them.

    Parameters
    ----------
    model
        Signal and background.
    counts
        The data, shape ``(n_bins,)``.
    levels
        Confidence levels.
    n_toys
        Toys at each of the strengths.
    rng
        Source of randomness.

    Raises
    ------
    InputError
        If there are too few toys for a level.
    FitError
        If a fit fails, or the upper end is not found.
    """
    if n_toys * (1 - max(levels)) < 5:
        raise InputError(
            f"{n_toys} toys are too few for {max(levels):.4g} intervals from toys; at least {5 / (1 - max(levels)):.0f} are needed"
        )
    data = np.asarray(counts, dtype=float)
    best = model.fit(data, bounded=True)
    error = float(best.mu_error[0])

    def observed(mu: float) -> float:
        return float(bounded_ratio(model, data, mu, best)[0])

    # somewhat beyond where the largest level would end if the statistic were chi-square
    threshold = 1.3 * float(stats.chi2.ppf(max(levels), 1))
    top = float(best.mu[0]) + error
    while observed(top) < threshold:
        top *= 1.3
        if top > 1e4 * (float(best.mu[0]) + error):
            raise FitError(
                "the likelihood of the signal strength does not fall off: the bins do not constrain this signal"
            )
    # closer where the boundary at zero shapes the statistic
    grid = top * np.linspace(0.0, 1.0, _POINTS) ** 1.5
    limits = np.array([critical_values(model, data, float(mu), levels, n_toys, rng) for mu in grid])
    for _ in range(_EXTENSIONS):
        if np.all(observed(float(grid[-1])) > limits[-1]):
            break
        grid = np.append(grid, 1.3 * grid[-1])
        limits = np.vstack([limits, critical_values(model, data, float(grid[-1]), levels, n_toys, rng)])
    else:
        raise FitError("the toys do not bracket the interval of the signal strength; use more toys (--toys)")
    return [_ends(observed, grid, limits[:, k], float(best.mu[0])) for k in range(len(levels))]


def _ends(
    observed: Callable[[float], float], grid: Array, limits: Array, centre: float
) -> tuple[float, float]:
    """First and last strength where the statistic of the data is within its limit; ``centre`` always is."""
    limit = interpolate.PchipInterpolator(grid, limits)

    def outside(mu: float) -> float:
        return observed(mu) - float(limit(mu))

    excess = np.array([outside(float(mu)) for mu in grid])
    above = np.flatnonzero((grid > centre) & (excess <= 0))
    i = int(above[-1]) if len(above) else int(np.searchsorted(grid, centre, side="right")) - 1
    tolerance = 1e-4 * float(grid[-1])
    high = optimize.brentq(outside, max(float(grid[i]), centre), float(grid[i + 1]), xtol=tolerance)
    inside = np.flatnonzero((grid <= centre) & (excess <= 0))
    j = int(inside[0]) if len(inside) else int(np.searchsorted(grid, centre, side="right"))
    if j == 0:
        return 0.0, float(high)
    low = optimize.brentq(outside, float(grid[j - 1]), min(float(grid[j]), centre), xtol=tolerance)
    return float(low), float(high)
