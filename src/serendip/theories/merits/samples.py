"""Efficiencies of one weighted sample of scores, and their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from serendip.errors import InputError
from serendip.wording import noun

__all__ = [
    "LEVEL",
    "SortedScores",
    "effective_number",
    "effective_of_fraction",
    "fraction_interval",
    "group_squares",
    "sample",
    "variance_of_mean",
]

Array = NDArray[np.float64]

LEVEL = 0.6827
"""Coverage of the intervals."""


class SortedScores:
    """Signal scores in rising order, with the sums of weights from each one up."""

    def __init__(self, scores: Array, weights: Array) -> None:
        order = np.argsort(scores, kind="stable")
        self.scores, self.weights = scores[order], weights[order]
        self._up, self._up2 = (
            np.append(np.cumsum(w[::-1])[::-1], 0.0) for w in (self.weights, self.weights**2)
        )

    def efficiency(self, threshold: float, share: float) -> tuple[float, float]:
        """Efficiency of a cut, and the number of events of equal weight with the same error."""
        above, at = (np.searchsorted(self.scores, threshold, side=side) for side in ("right", "left"))
        kept, kept2 = (up[above] + share * (up[at] - up[above]) for up in (self._up, self._up2))
        total, total2 = self._up[0], self._up2[0]
        return min(float(kept / total), 1.0), effective_of_fraction(kept, kept2, total, total2)


def sample(name: str, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Check scores and weights; returns the events with a weight, the largest weight being one.

    Raises
    ------
    InputError
        If there are fewer than two events, a score is NaN, or a weight is negative or not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    w = np.ones(values.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or w.shape != values.shape:
        raise InputError(
            f"{name} scores and weights must be two rows of numbers of one length, not of shapes {values.shape} and "
            f"{w.shape}"
        )
    if np.isnan(values).any():
        rows = np.flatnonzero(np.isnan(values))
        raise InputError(
            f"{len(rows)} {name} scores are NaN, the first that of event {rows[0]}; a score must be a number (it may be "
            "infinite)"
        )
    wrong = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} {name} {noun(len(wrong), 'weight is', 'weights are')} negative or not finite, the first ({w[wrong[0]]:g}) that of event "
            f"{wrong[0]}; efficiencies need weights of zero or more"
        )
    counts = w > 0
    if np.count_nonzero(counts) < 2:
        raise InputError(f"a figure of merit needs at least two {name} events with a weight above zero")
    return values[counts], w[counts] / w.max()


def effective_number(w: Array) -> float:
    r"""Number of events of equal weight with the same relative error, :math:`(\sum w)^2 / \sum w^2`."""
    return float(w.sum() ** 2 / (w**2).sum())


def effective_of_fraction(kept: float, kept2: float, total: float, total2: float) -> float:
    """Number of events of equal weight for which a fraction ``kept / total`` has the same variance."""
    eps = kept / total
    variance = ((1 - eps) ** 2 * kept2 + eps**2 * max(total2 - kept2, 0.0)) / total**2
    if not 0 < eps < 1 or variance <= 0:
        return float(total**2 / total2)
    return float(eps * (1 - eps) / variance)


def fraction_interval(eps: float, n: float) -> tuple[float, float]:
    """Clopper-Pearson interval, continued to non-integer numbers of events."""
    k, tail = eps * n, 0.5 * (1 - LEVEL)
    low = 0.0 if eps <= 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if eps >= 1 else float(stats.beta.isf(tail, k + 1, n - k))
    return low, high


def group_squares(groups: NDArray[np.int64], weights: Array) -> Array:
    r"""Sum over groups of the squared sum of weights, :math:`\sum_g (\sum_{i \in g} w_i)^2`, of the first 1, 2, 3 ... events."""
    order = np.argsort(groups, kind="stable")
    g, w = groups[order], weights[order]
    up = np.cumsum(w)
    first = np.append(True, g[1:] != g[:-1])
    start = np.where(first, up - w, 0.0)[np.maximum.accumulate(np.where(first, np.arange(len(g)), 0))]
    step = np.empty_like(w)
    step[order] = w**2 + 2 * w * (up - w - start)
    return np.asarray(np.cumsum(step))


def variance_of_mean(values: Array, weights: Array, groups: NDArray[np.int64] | None = None) -> float:
    """Variance of a weighted mean, from the scatter of the values; events of one group move together."""
    mean = np.average(values, weights=weights)
    moved, size = weights * (values - mean), weights
    if groups is not None:
        _, index = np.unique(groups, return_inverse=True)
        moved = np.bincount(index, weights=moved).astype(np.float64)
        size = np.bincount(index, weights=weights).astype(np.float64)
    n = max(effective_number(size), 1 + 1e-9)
    return float((moved**2).sum() / weights.sum() ** 2 * n / (n - 1))
