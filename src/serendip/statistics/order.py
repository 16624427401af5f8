"""Deviance of counts, and the choice of the order of a function, or the weights of all orders, by it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from serendip.errors import InputError
from serendip.statistics.design import BackgroundFamily, Design

__all__ = [
    "OrderChoice",
    "average_weights",
    "candidate_members",
    "choose_member",
    "choose_order",
    "deviance",
    "deviance_moments",
    "deviance_p_value",
    "dispersion",
    "improvement_p_value",
]

Array = NDArray[np.float64]
OrderChoice = Literal["average", "lrt", "f-test"]


def deviance(counts: Array, expected: Array, axis: int = -1) -> Array:
    """Baker-Cousins deviance ``2 sum(mu - n + n ln(n/mu))``."""
    return np.asarray(2.0 * np.sum(special.kl_div(counts, expected), axis=axis))


def deviance_moments(expected: Array) -> tuple[Array, Array]:
    """Mean and variance of each bin's term of the deviance, shape of ``expected``."""
    mu = np.maximum(expected, 1e-12)
    mean = 1.0 + 1.0 / (6.0 * mu)
    variance = 2.0 + 2.0 / (3.0 * mu)
    sparse = mu < 40.0
    n, small = np.arange(0, 120.0)[:, None], mu[sparse]
    pmf = stats.poisson.pmf(n, small)
    term = 2.0 * special.kl_div(n, small)
    mean[sparse] = (pmf * term).sum(axis=0)
    variance[sparse] = (pmf * term**2).sum(axis=0) - mean[sparse] ** 2
    return mean, variance


def dispersion(value: Array, expected: Array, n_parameters: int) -> tuple[Array, Array]:
    """Deviance in units of its expected value, and the effective number of degrees of freedom.

    The expected value and variance are the exact Poisson ones, so that sparse bins have the right weight; the fit
    takes one degree of freedom for each parameter.

    Parameters
    ----------
    value
        Deviances, shape ``(n_toys,)`` or a number.
    expected
        Expected counts of the fitted bins, shape ``(n_bins, n_toys)`` or ``(n_bins,)``.

    Returns
    -------
    ratio, n_dof
        ``ratio * n_dof`` is nearly distributed as chi-square with ``n_dof`` degrees of freedom; NaN where there are none.
    """
    mean, variance = (moment.sum(axis=0) for moment in deviance_moments(expected))
    shrink = 1.0 - n_parameters / len(expected)
    usable = (variance > 0) & (shrink > 0)
    safe = np.where(usable, variance, 1.0)
    n_dof = np.where(usable, 2.0 * mean**2 / safe * shrink, np.nan)
    return np.where(usable, value / np.where(usable, mean * shrink, 1.0), np.nan), n_dof


def deviance_p_value(value: float, expected: Array, n_parameters: int) -> float:
    """p-value of a deviance, with a scaled chi-square that has the deviance's exact Poisson moments."""
    ratio, n_dof = dispersion(np.asarray(value), expected, n_parameters)
    return float(stats.chi2.sf(ratio * n_dof, n_dof))


def candidate_members(family: BackgroundFamily, design: Design, n_fitted: int) -> list[int]:
    """Indices of the members that the binning can distinguish; the smallest one is always tried."""
    smallest = family.n_parameters[0]
    if smallest > min(design.n_parameters, n_fitted):
        raise InputError(
            f"'{family.members[0]}' has {smallest} parameters but only {n_fitted} bins outside the "
            "window to fit; use more bins or a wider range"
        )
    return [
        k
        for k, p in enumerate(family.n_parameters)
        if p == smallest or (p <= design.n_parameters and p < n_fitted)
    ]


def choose_order(
    deviances: list[Array],
    sizes: list[int],
    alpha: float,
    noise: list[tuple[Array, Array]] | None = None,
) -> NDArray[np.int_]:
    """Smallest order that no larger one improves on at level ``alpha``, for each toy.

    Parameters
    ----------
    deviances
        Of each order, shape ``(n_toys,)``.
    sizes
        Numbers of parameters.
    alpha
        Level of the tests.
    noise
        :func:`dispersion` of each order for F-tests; default: likelihood-ratio tests.
    """
    n_toys = len(deviances[0])
    choice = np.full(n_toys, len(sizes) - 1)
    for k in reversed(range(len(sizes) - 1)):
        better = np.zeros(n_toys, dtype=bool)
        for j in range(k + 1, len(sizes)):
            gain, more = deviances[k] - deviances[j], sizes[j] - sizes[k]
            if noise is None:
                better |= gain > stats.chi2.isf(alpha, more)
            else:
                better |= improvement_p_value(gain, more, noise[j]) < alpha
        choice[~better] = k
    return choice


def choose_member(
    deviances: list[Array],
    sizes: list[int],
    alpha: float,
    parts: list[int],
    noise: list[tuple[Array, Array]] | None = None,
) -> NDArray[np.int_]:
    """:func:`choose_order` within each nested family, and the smallest AIC among families (numbers ``parts``)."""
    n_toys = len(deviances[0])
    best, lowest = np.zeros(n_toys, dtype=int), np.full(n_toys, np.inf)
    for part in sorted(set(parts)):
        index = np.flatnonzero(np.array(parts) == part)
        chosen = index[
            choose_order(
                [deviances[i] for i in index],
                [sizes[i] for i in index],
                alpha,
                None if noise is None else [noise[i] for i in index],
            )
        ]
        aic = np.stack(deviances)[chosen, np.arange(n_toys)] + 2.0 * np.array(sizes)[chosen]
        better = aic < lowest
        best[better], lowest[better] = chosen[better], aic[better]
    return best


def average_weights(
    deviances: list[Array], sizes: list[int], alpha: float, parts: list[int] | None = None
) -> Array:
    r"""Weights of the orders in an average, shape ``(n_orders, n_toys)``.

    :math:`w_k \propto \exp(-\mathrm{AIC}_k / 2)`, :math:`\mathrm{AIC}_k = D_k + 2 p_k` with deviance D and p parameters (Buckland,
    Burnham and Augustin, Biometrics 53 (1997) 603), up to one order above that of :func:`choose_order`. Still larger ones add
    nothing but errors, without limit where a window lies at the end of the spectrum. With several nested families, numbered in
    ``parts``, each ends so, and the weights are over all of them.
    """
    aic = np.stack(deviances) + 2.0 * np.array(sizes)[:, None]
    for part in sorted(set(parts or [0])):
        index = np.flatnonzero(np.array(parts or [0] * len(sizes)) == part)
        largest = choose_order([deviances[i] for i in index], [sizes[i] for i in index], alpha) + 1
        aic[index] = np.where(np.arange(len(index))[:, None] > largest, np.inf, aic[index])
    weights = np.exp(-0.5 * (aic - aic.min(axis=0)))
    return np.asarray(weights / weights.sum(axis=0))


def improvement_p_value(gain: Array, more: int, noise: tuple[Array, Array] | None) -> Array:
    r"""p-value of a gain in deviance by ``more`` parameters.

    Without ``noise`` it is chi-square distributed (Wilks); with it the F-test
    :math:`F = (\Delta D/\Delta p) / \hat\phi \sim F(\Delta p, \nu)`, :math:`\hat\phi` the dispersion of the larger function.
    """
    if noise is None:
        return np.asarray(stats.chi2.sf(gain, more))
    ratio, n_dof = noise
    return np.asarray(stats.f.sf(gain / more / np.maximum(ratio, 1e-300), more, n_dof))
