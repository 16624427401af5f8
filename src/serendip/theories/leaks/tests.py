r"""Tests that distinguish artefacts of a sample from its physics.

Physics changes a density smoothly. A requirement that only one sample has ends its support while the other goes on: the ratio of
densities falls from a finite value to zero in one step. :func:`support_edge` tests for the step. Digits, repeated values
and the order on the line do not depend on physics at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["SupportEdge", "fisher_log_p", "point_mass", "repeats", "significant_digits", "support_edge"]

Array = NDArray[np.float64]

INNER = 500
MIN_INNER = 10
_BINS = 60
_PARAMETERS = 3
MAX_DIGITS = 9
CONCENTRATION = 10.0
_REPEAT_SAMPLE = 200_000
_ROUNDING = 1e-13
_SMOOTH = 0.5
_CHANCE = 2


@dataclass(frozen=True)
class SupportEdge:
    """Where one sample stops and the other goes on.

    Attributes
    ----------
    edge
        Largest value of the short sample (smallest, for a lower edge).
    beyond
        Entries of the long sample beyond it.
    expected
        Entries of the short sample that would lie just beyond the edge if it followed the long one, at the ratio just
        inside.
    log_p
        Logarithm of the p-value of the step; 0 if there was too little to test.
    """

    edge: float
    beyond: int
    expected: float
    log_p: float


def support_edge(short: Array, long: Array, *, upper: bool = True) -> SupportEdge | None:
    r"""Test whether ``short`` stops at a place where its density does not fall, while ``long`` goes on.

    Let :math:`c` be the largest value of ``short``. In order of falling :math:`x`, the entries before the first one of ``short`` are all of
    ``long``. If the probability that an entry at :math:`x` is of ``short`` is :math:`q(x)`, this has the p-value
    :math:`\prod_{x_i > c} (1 - q(x_i))`, without any choice of :math:`c`. The logit of :math:`q` is the logarithm of the
    ratio of densities, taken as a polynomial of second order in :math:`x` (for positive numbers also in :math:`\ln x`, whichever
    explains more) from the 500 outermost entries (at most half) of ``short`` to as far beyond the edge. It is exact for two exponentials, two
    Gaussians or two power laws. With the likelihood :math:`L`,

    .. math:: \Delta = \max_\theta \ln L_\mathrm{inside}(\theta)
        - \max_\theta \left[\ln L_\mathrm{inside}(\theta) + \ln L_\mathrm{beyond}(\theta)\right]

    is at most the sum of an exponential variable and half of a :math:`\chi^2_3` (both asymptotically), so that the p-value is bounded by
    :math:`\Gamma(5/2, \Delta) / \Gamma(5/2)`.

    Parameters
    ----------
    short, long
        Finite numbers, of any lengths.
    upper
        Whether to test the upper edge or the lower one.

    Returns
    -------
    SupportEdge or None
        None if ``long`` does not go on, or if ``short`` has fewer than 20 entries.
    """
    if not upper:
        found = support_edge(-short, -long)
        return None if found is None else SupportEdge(-found.edge, found.beyond, found.expected, found.log_p)
    if len(short) < 2 * MIN_INNER or len(long) == 0:
        return None
    ordered = np.sort(short)
    edge = float(ordered[-1])
    beyond = int(np.count_nonzero(long > edge))
    if beyond == 0:
        return None
    start = float(ordered[-min(INNER, len(ordered) // 2)])
    if start == edge:
        lower = ordered[ordered < edge]
        if len(lower) == 0:
            return SupportEdge(edge, beyond, 0.0, 0.0)
        start = float(lower[-1])
    delta, expected = _step(ordered, long, start, edge, lambda x: x)
    # The sign of all numbers is turned for a lower edge.
    sign = 1.0 if start > 0 else -1.0
    reach = edge + (edge - start)
    if delta > 0 and start * edge > 0 and reach * edge > 0:
        other, _ = _step(ordered, long, start, edge, lambda x: sign * np.log(np.maximum(sign * x, 1e-300)))
        delta = min(delta, other)
    log_p = float(stats.gamma.logsf(delta, 1 + 0.5 * _PARAMETERS)) if delta > 0 else 0.0
    return SupportEdge(edge, beyond, expected, log_p)


def _step(
    ordered: Array, long: Array, start: float, edge: float, transform: Callable[[Array], Array]
) -> tuple[float, float]:
    t_start, t_edge = float(transform(np.array(start))), float(transform(np.array(edge)))
    width = t_edge - t_start

    def binned(values: Array) -> Array:
        t = (transform(values) - t_edge) / width
        t = t[(t >= -1) & (t <= 1)]
        # A bin holds its upper end: entries at the edge are inside.
        place = np.clip(np.ceil(t * _BINS).astype(np.int64) + _BINS - 1, 0, 2 * _BINS - 1)
        return np.bincount(place, minlength=2 * _BINS).astype(np.float64)

    ours, theirs = binned(ordered), binned(long)
    half = _BINS // 2
    near = theirs[half:_BINS].sum()
    expected = float(ours[half:_BINS].sum() / near * theirs[_BINS : _BINS + half].sum()) if near else 0.0
    inside = ours[:_BINS].sum() / max(ours[:_BINS].sum() + theirs[:_BINS].sum(), 1.0)
    if -theirs[_BINS:].sum() * math.log1p(-min(inside, 1 - 1e-12)) < 1.0:
        return 0.0, expected
    t = (np.arange(2 * _BINS) + 0.5) / _BINS - 1
    design = np.stack([np.ones_like(t), t, t**2], axis=1)
    best_inside = _logistic(design[:_BINS], ours[:_BINS], theirs[:_BINS])
    best_all = _logistic(design, ours, theirs)
    return max(best_inside - best_all, 0.0), expected


def _logistic(design: Array, successes: Array, failures: Array) -> float:
    """Largest log likelihood of a logistic regression."""
    total = successes + failures
    used = total > 0
    design, successes, total = design[used], successes[used], total[used]

    def value(theta: Array) -> float:
        logit = design @ theta
        return float(successes @ logit - total @ np.logaddexp(0.0, logit))

    theta = np.zeros(design.shape[1])
    best = value(theta)
    # Without it the maximum may lie at infinity, where one of the samples has no entry.
    ridge = 1e-6 * np.eye(len(theta))
    for _ in range(100):
        probability = 1 / (1 + np.exp(-np.clip(design @ theta, -500, 500)))
        gradient = design.T @ (successes - total * probability)
        information = (design * (total * probability * (1 - probability))[:, None]).T @ design + ridge
        step = np.linalg.solve(information, gradient)
        scale = 1.0
        while (new := value(theta + scale * step)) < best and scale > 1e-6:
            scale *= 0.5
        gain = new - best
        if gain <= 0:
            break
        theta, best = theta + scale * step, new
        if gain < 1e-6:
            break
    return best


def fisher_log_p(k_a: int, n_a: int, k_b: int, n_b: int) -> float:
    """Logarithm of the two-sided p-value (twice the smaller tail) that two binomial fractions are equal, by Fisher's exact test."""
    hypergeometric = stats.hypergeom(n_a + n_b, k_a + k_b, n_a)
    tail = min(float(hypergeometric.logcdf(k_a)), float(hypergeometric.logsf(k_a - 1)))
    return min(0.0, tail + math.log(2))


def significant_digits(values: Array) -> NDArray[np.int64]:
    """Decimal digits that are needed to write each number, shape ``(n,)``: 1 to 9, or 10 for more."""
    size = np.abs(values)
    digits = np.full(len(values), MAX_DIGITS + 1, dtype=np.int64)
    exponent = np.floor(np.log10(np.where(size > 0, size, 1.0)))
    for n in range(MAX_DIGITS, 0, -1):
        scaled = size * 10.0 ** (n - 1 - exponent)
        digits[np.abs(scaled - np.rint(scaled)) <= _ROUNDING * scaled] = n
    return digits


def point_mass(a: Array, b: Array) -> tuple[float, int, int, float]:
    """Value that is most often repeated in both samples together, and whether one of them has it alone.

    Parameters
    ----------
    a, b
        Finite numbers; at least one of each.

    Returns
    -------
    value, count_a, count_b, log_p
        ``log_p`` is that of equal fractions. The value is chosen without knowing which entry is of which sample, so that it costs
        no trials. 0 if both samples are discrete, or both repeat the value.
    """
    distinct, counts = np.unique(np.concatenate([a, b]), return_counts=True)
    value = float(distinct[np.argmax(counts)])
    count_a, count_b = (int(np.count_nonzero(values == value)) for values in (a, b))
    smooth = max(len(np.unique(values)) / len(values) for values in (a, b)) > _SMOOTH
    if not smooth or max(count_a, count_b) <= _CHANCE or min(count_a, count_b) > _CHANCE:
        return value, count_a, count_b, 0.0
    return value, count_a, count_b, fisher_log_p(count_a, len(a), count_b, len(b))


def repeats(a: Array, b: Array) -> tuple[int, int, int, float]:
    r"""Values that occur before, in equally many entries of each sample.

    A denser distribution repeats more: a ratio up to ten is considered physics.

    Returns
    -------
    repeated_a, repeated_b, n, log_p
        Of ``n`` entries of each sample.
    """
    n = min(len(a), len(b), _REPEAT_SAMPLE)
    counts = [
        n - len(np.unique(values[np.linspace(0, len(values) - 1, n).astype(np.int64)])) for values in (a, b)
    ]
    low, high = min(counts), max(counts)
    log_p = float(stats.binom.logsf(high - 1, low + high, CONCENTRATION / (1 + CONCENTRATION)))
    return counts[0], counts[1], n, min(0.0, log_p + math.log(2))
