"""One-sided p-values, significances and their combinations.

Conventions: p is the probability of a count at least as large as the one observed if there is only
background; Z is the signed Gaussian equivalent, ``p = 0.5 <-> Z = 0``. Tails are stored as ``ln p``, so that an excess of 40 sigma does not underflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

__all__ = [
    "asimov_signal",
    "asimov_z",
    "binomial_interval",
    "bonferroni",
    "count_log_p_value",
    "count_p_value",
    "poisson_p",
    "significance",
    "stouffer",
    "toy_p_value",
    "wilson_interval",
    "z_value",
]

Array = NDArray[np.float64]

_TINY = 1e-290
_ONE = 1.0 - np.finfo(float).epsneg


def _log_positive_series(first: Array, ratio: Any, n_terms: int = 10_000) -> Array:
    """``ln(first * (1 + r_1 + r_1 r_2 + ...))``, given ``ln(first)`` and the ratios ``r_k``."""
    term = np.ones_like(first)
    total = term.copy()
    for k in range(1, n_terms):
        term = term * ratio(k)
        total += term
        if np.all(term <= 1e-17 * total):
            break
    return np.asarray(first + np.log(total))


def _log_poisson(n: Array, b: Array) -> Array:
    """``ln P(N >= n | b)`` far in the tail: the leading term and its rising series."""
    return _log_positive_series(n * np.log(b) - b - special.gammaln(n + 1), lambda k: b / (n + k))


def _log_betainc(n: Array, m: Array, x: Array) -> Array:
    """``ln I_x(n, m)`` far in the tail (Gauss hypergeometric series with positive terms)."""
    first = n * np.log(x) + m * np.log1p(-x) - np.log(n) - special.betaln(n, m)
    return _log_positive_series(first, lambda k: x * (n + m + k - 1) / (n + k))


def count_log_p_value(observed: ArrayLike, expected: ArrayLike, sigma: ArrayLike = 0.0) -> Array:
    """Natural logarithm of :func:`count_p_value`; finite for any excess. Arguments broadcast."""
    n, b, s = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (observed, expected, sigma)))
    if np.any(n < 0) or np.any(b < 0) or np.any(s < 0):
        msg = "counts, expectations and errors must not be negative"
        raise ValueError(msg)
    out = np.zeros(n.shape)
    # relative errors below 1e-6 change p by less than rounding does, while b^2/sigma^2 would overflow
    known = s <= 1e-6 * b
    zero = (n > 0) & known & (b == 0)
    out[zero] = -np.inf

    use = (n > 0) & known & (b > 0)
    nu, bu = n[use], b[use]
    p = special.gammainc(nu, bu)
    logs = np.log(np.maximum(p, _TINY))
    deep = p < _TINY
    logs[deep] = _log_poisson(nu[deep], bu[deep])
    out[use] = logs

    use = (n > 0) & ~known
    nu, bu, su = n[use], b[use], s[use]
    # side measurement: m ~ Poisson(tau b) with m = b^2/sigma^2; without any side event, sigma is one event's
    # worth
    side = (bu / su) ** 2
    x = np.where(bu > 0, su**2 / np.where(bu > 0, bu + su**2, 1.0), su / (1.0 + su))
    p = special.betainc(nu, side + 1.0, x)
    logs = np.log(np.maximum(p, _TINY))
    deep = p < _TINY
    logs[deep] = _log_betainc(nu[deep], side[deep] + 1.0, x[deep])
    out[use] = logs
    return out


def count_p_value(observed: ArrayLike, expected: ArrayLike, sigma: ArrayLike = 0.0) -> Array:
    r"""Probability of at least ``observed`` events when the expectation was itself measured.

    The background is the result :math:`b = m/\tau` of a Poisson side measurement :math:`m = (b/\sigma)^2`,
    :math:`\tau = b/\sigma^2`, and the p-value the exact binomial one of the on/off problem,

    .. math:: p = I_{1/(1+\tau)}(n,\; m + 1),

    (Cousins, Linnemann, Tucker, physics/0702156), which becomes the Poisson tail for
    :math:`\sigma \to 0` and covers also for few events. ``expected = 0`` with ``sigma > 0`` means an empty side measurement in which one event would correspond to ``sigma`` (:math:`\tau = 1/\sigma`).

    Parameters
    ----------
    observed, expected, sigma
        Counts, background and its standard error; they broadcast. Non-integer counts (scaled weighted
        events) are continued analytically.

    Returns
    -------
    p
        One where nothing was observed.

    Examples
    --------
    >>> round(float(count_p_value(10, 3.0)), 6)
    0.001102
    >>> round(float(count_p_value(10, 3.0, 1.0)), 6)
    0.008903
    """
    return np.asarray(np.exp(count_log_p_value(observed, expected, sigma)))


def poisson_p(observed: ArrayLike, expected: ArrayLike) -> Array:
    """``P(N >= observed)`` for a known expectation; one where nothing was observed."""
    return count_p_value(observed, expected, 0.0)


def z_value(p: ArrayLike | None = None, *, log_p: ArrayLike | None = None) -> Array:
    """Signed significance of a one-sided p-value, from ``p`` or from ``ln p``.

    ``p = 1`` (nothing observed) is taken as the largest number below one, Z = -8.2, so that results stay
    finite; ``p = 0`` gives infinity.

    >>> round(float(z_value(0.02275013)), 4)
    2.0
    >>> round(float(z_value(log_p=-116.13)), 2)
    15.0
    """
    if (p is None) == (log_p is None):
        msg = "give either p or log_p"
        raise ValueError(msg)
    if p is not None:
        probability = np.asarray(p, dtype=float)
        if np.any((probability < 0) | (probability > 1)):
            msg = "a p-value lies between 0 and 1"
            raise ValueError(msg)
        with np.errstate(divide="ignore"):
            logs = np.log(probability)
    else:
        logs = np.asarray(log_p, dtype=float)
    logs = np.minimum(logs, np.log(_ONE))
    # ndtri_exp inverts ln(Phi): accurate in the far tail; near p = 1 isf keeps the digits
    return np.asarray(np.where(logs < -1.0, -special.ndtri_exp(logs), stats.norm.isf(np.exp(logs))))


def significance(log_p: float) -> float | None:
    """Significance of one p-value from ``ln p``; None for ``p = 1``.

    Where nothing is observed, or a bound stops at one, p is 1 whatever is expected: which is not a distance from the background.
    """
    return float(z_value(log_p=log_p)) if log_p < np.log(_ONE) else None


def asimov_z(s: ArrayLike, b: ArrayLike, sigma: ArrayLike = 0.0) -> Array:
    r"""Median significance of ``s`` signal events over ``b +- sigma`` (arXiv:1007.1727, on/off form).

    .. math:: Z^2 = 2\left[(s+b)\ln\frac{(s+b)(b+\sigma^2)}{b^2+(s+b)\sigma^2}
              - \frac{b^2}{\sigma^2}\ln\left(1+\frac{\sigma^2 s}{b(b+\sigma^2)}\right)\right]
    """
    signal, b, v = np.broadcast_arrays(
        np.asarray(s, dtype=float), np.asarray(b, dtype=float), np.asarray(sigma, dtype=float) ** 2
    )
    if np.any(b <= 0) or np.any(signal < 0):
        msg = "the Asimov significance needs b > 0 and s >= 0"
        raise ValueError(msg)
    known = v < 1e-9 * b
    u = np.where(known, b, v)
    n = signal + b
    with_error = n * np.log1p(signal * b / (b**2 + n * u)) - b**2 / u * np.log1p(u * signal / (b * (b + u)))
    without = n * np.log1p(signal / b) - signal
    return np.asarray(np.sqrt(np.maximum(2.0 * np.where(known, without, with_error), 0.0)))


def asimov_signal(z: ArrayLike, b: ArrayLike) -> Array:
    r"""Signal events with the Asimov significance ``z`` over ``b`` known background events.

    .. math:: s = b (u - 1), \qquad u (\ln u - 1) = \frac{z^2}{2 b} - 1

    the inverse of :func:`asimov_z` without an error of the background, solved by Lambert's W.
    """
    level, background = np.broadcast_arrays(np.asarray(z, dtype=float), np.asarray(b, dtype=float))
    if np.any(background <= 0) or np.any(level < 0):
        msg = "the signal of an Asimov significance needs b > 0 and z >= 0"
        raise ValueError(msg)
    # W is not defined below -1/e, where rounding may lead
    argument = np.maximum((0.5 * level**2 / background - 1.0) / np.e, -(1.0 - 1e-15) / np.e)
    return np.asarray(background * np.expm1(1.0 + special.lambertw(argument).real))


def bonferroni(p: ArrayLike, axis: int = -1) -> Array:
    """``k min(p)``, at most one: valid for ``k`` p-values under any dependence."""
    p = np.asarray(p, dtype=float)
    return np.asarray(np.minimum(1.0, p.shape[axis] * np.min(p, axis=axis)))


def stouffer(z: ArrayLike, weights: ArrayLike, correlation: ArrayLike | None = None) -> Array:
    r"""Combined significance :math:`\sum_f w_f z_f / \sqrt{w^T C w}`.

    Parameters
    ----------
    z
        Significances, shape ``(..., k)``.
    weights
        Non-negative weights fixed without looking at the ``z``, shape ``(k,)``.
    correlation
        Correlation matrix of the ``z``, shape ``(..., k, k)``; default: independent.
    """
    z = np.asarray(z, dtype=float)
    w = np.asarray(weights, dtype=float)
    if np.any(w < 0) or not np.any(w > 0):
        msg = "Stouffer weights must be non-negative and not all zero"
        raise ValueError(msg)
    c = np.eye(len(w)) if correlation is None else np.asarray(correlation, dtype=float)
    return np.asarray((z @ w) / np.sqrt(np.einsum("i,...ij,j->...", w, c, w)))


def binomial_interval(k: int, n: int, level: float = 0.6827) -> tuple[float, float]:
    """Clopper-Pearson interval of a fraction ``k / n``: covers at least ``level``."""
    tail = 0.5 * (1.0 - level)
    low = 0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.isf(tail, k + 1, n - k))
    return low, high


def wilson_interval(k: int, n: int, level: float = 0.6827) -> tuple[float, float]:
    """Wilson score interval of a fraction ``k / n``: shorter, covers ``level`` on average."""
    z2 = float(stats.norm.isf(0.5 * (1.0 - level))) ** 2
    centre = (k + 0.5 * z2) / (n + z2)
    half = np.sqrt(z2 * (k * (n - k) / n + 0.25 * z2)) / (n + z2)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def toy_p_value(k: int, n: int) -> tuple[float, tuple[float, float]]:
    """p-value of an observation that ``k`` of ``n`` toys reached, never zero: ``(k + 1) / (n + 1)``.

    Returns
    -------
    p
        The estimate, a valid p-value for any ``n``.
    interval
        68 % Clopper-Pearson interval of the fraction ``k / n``.
    """
    if not 0 <= k <= n or n < 1:
        msg = f"{k} of {n} toys is not a count"
        raise ValueError(msg)
    return (k + 1) / (n + 1), binomial_interval(k, n)
