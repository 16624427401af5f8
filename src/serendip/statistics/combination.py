"""How the folds of a look become one p-value."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from serendip.errors import InputError
from serendip.statistics.compound import CompoundTail
from serendip.statistics.pvalues import stouffer, z_value

__all__ = [
    "COMBINATIONS",
    "SINGLE",
    "Combination",
    "cauchy_log_p",
    "combined_log_p",
    "fold_sums",
    "folds_fitted",
    "in_order",
    "tested_folds",
]

Array = NDArray[np.float64]
Combination = Literal["weighted", "sequential", "sequential-stouffer", "kfold-bonferroni", "kfold-summed"]
COMBINATIONS: tuple[str, ...] = get_args(Combination)
SINGLE = "single"
"""All events in one count: for a selection without training, so that there are no folds to combine."""


# p-values of the Cauchy combination above this count as this one: one insensitive order must not mask the others
_LARGEST_P = 0.9
# Largest excess over its p-value under Gaussian dependence, for each doubling of the number of p-values.
_DEPENDENCE = 0.09


def in_order(combination: str) -> bool:
    """Whether each fold is scored by models of earlier folds, so that the first is never tested."""
    return combination == "weighted" or combination.startswith("sequential")


def tested_folds(combination: str, n_folds: int) -> list[int]:
    """Folds that are counted: schemes with an order never test fold 0, and without training there is one fold."""
    if combination == SINGLE:
        return [0]
    if combination not in COMBINATIONS:
        raise InputError(f"unknown combination '{combination}'; expected one of: {', '.join(COMBINATIONS)}")
    if n_folds < 2:
        raise InputError(f"cross-training needs at least 2 folds, not {n_folds}")
    return list(range(1 if in_order(combination) else 0, n_folds))


def folds_fitted(combination: str) -> bool:
    """Whether the p-value combines fold p-values, so that each fold needs its own expectation."""
    return combination in ("sequential-stouffer", "kfold-bonferroni")


def combined_log_p(
    combination: str,
    observed: Array,
    expected: Array,
    errors: Array,
    shared: Array,
    total: Array,
    total_error: Array,
    tail: CompoundTail | None = None,
) -> Array:
    """``ln p`` of a look from its folds, for many toys at once.

    Parameters
    ----------
    combination
        One of :data:`COMBINATIONS`, or :data:`SINGLE`.
    observed, expected, errors
        Per fold in Poisson units, shape ``(..., n_folds)``.
    shared
        Relative error common to the folds, shape ``(...)``.
    total, total_error
        Summed expectation and its full error, shape ``(...)``.
    tail
        The count, in the same units; None: single events.
    """
    tail = CompoundTail.of(()) if tail is None else tail
    if combination in ("weighted", "sequential", "kfold-summed", SINGLE):
        return tail.log_p(observed.sum(axis=-1), total, total_error)[0]
    at_least, above = tail.log_p(observed, expected, errors)
    if combination == "kfold-bonferroni":
        n_folds = observed.shape[-1]
        return np.asarray(np.minimum(at_least.min(axis=-1) + np.log(n_folds), 0.0))
    # The mid-p value: a plain tail is 1 where nothing is observed, and one empty fold would end the search.
    log_p = np.logaddexp(at_least, above) - np.log(2.0)
    f = np.arange(1, observed.shape[-1] + 1)
    variance = expected + errors**2
    covariance = (expected[..., :, None] * expected[..., None, :]) * (shared**2)[..., None, None]
    spread = np.sqrt(np.maximum(variance, 1e-300))
    correlation = covariance / (spread[..., :, None] * spread[..., None, :])
    index = np.arange(len(f))
    correlation[..., index, index] = 1.0
    z = stouffer(z_value(log_p=log_p), f**1.5, correlation)
    return np.asarray(log_ndtr(-z))


def fold_sums(fold: NDArray[Any], weights: Array, folds: list[int]) -> Array:
    """Sum of weights in each fold."""
    return np.array([weights[fold == f].sum() for f in folds])


def cauchy_log_p(log_p: Array) -> Array:
    r"""``ln p`` of the Cauchy combination of p-values that may depend on each other (Liu and Xie, arXiv:1808.09011).

    .. math:: p = c_n \bigl(\tfrac12 - \tfrac1\pi \arctan T\bigr), \qquad T = \frac1n \sum_i \tan\bigl((\tfrac12 - p_i) \pi\bigr)

    The tail of :math:`T` is that of one Cauchy number under almost any dependence. p-values above 0.9 count as 0.9. Not so far in the
    tail, equally correlated Gaussian numbers pass p = 0.05 up to 1.07 (n = 2), 1.17 (4) and 1.27 (8) times too often, whatever their
    correlation is; :math:`c_n = 1 + 0.09 \log_2 n` pays for it.

    Parameters
    ----------
    log_p
        Natural logarithms, shape ``(n, ...)``; they are combined over the first axis.

    Returns
    -------
    Shape ``(...)``.

    Examples
    --------
    >>> round(float(np.exp(cauchy_log_p(np.log(np.array([0.01, 0.5]))))), 4)
    0.0218
    """
    # tan((1/2 - p) pi) = cot(pi p) = 1 / (pi p) for small p: in units of the largest term nothing overflows
    logs = np.minimum(np.asarray(log_p, dtype=float), np.log(_LARGEST_P))
    smallest = logs.min(axis=0)
    p = np.exp(logs)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(logs < -20.0, np.exp(smallest - logs) / np.pi, np.exp(smallest) / np.tan(np.pi * p))
    mean = scaled.mean(axis=0)
    far = smallest < -20.0
    with np.errstate(divide="ignore", invalid="ignore"):
        direct = np.log(0.5 - np.arctan(mean / np.exp(smallest)) / np.pi)
        tail = smallest - np.log(np.pi * mean)
    paid = np.where(far, tail, direct) + np.log1p(_DEPENDENCE * np.log2(len(logs)))
    return np.asarray(np.minimum(paid, 0.0))
