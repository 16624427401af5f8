"""Error bars and bin significances of counts, as drawn in the figures."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["bin_significance", "p_of_sigma", "poisson_errors", "sigma_levels"]

ONE_SIGMA_TAIL = 0.15865525393145707


def poisson_errors(counts: ArrayLike, scale: float = 1.0) -> NDArray[np.float64]:
    """Central 68.3 % Poisson intervals (Garwood) as distances below and above each count.

    Parameters
    ----------
    counts
        Numbers of events, shape ``(n,)``; NaN stays NaN.
    scale
        For sums of weights: the divisor that makes them behave like counts, ``sum(w^2)/sum(w)``.

    Returns
    -------
    Shape ``(2, n)``: lower and upper error bar.
    """
    n = np.asarray(counts, dtype=np.float64) / scale
    low = np.where(n > 0, special.gammaincinv(np.where(n > 0, n, 1.0), ONE_SIGMA_TAIL), 0.0)
    high = special.gammaincinv(n + 1.0, 1.0 - ONE_SIGMA_TAIL)
    return np.stack([n - low, high - n]) * scale


def bin_significance(observed: ArrayLike, expected: ArrayLike, scale: float = 1.0) -> NDArray[np.float64]:
    """Signed significance of each bin from its Poisson p-value, arXiv:1111.2062.

    Positive for an excess, negative for a deficit, 0 where the p-value is above one half. The uncertainty of
    the expectation is not part of it.

    Parameters
    ----------
    observed, expected
        Numbers of events per bin, shape ``(n,)``; NaN (a blinded bin) stays NaN.
    scale
        As for :func:`poisson_errors`.
    """
    n, b = (np.asarray(values, dtype=np.float64) / scale for values in (observed, expected))
    b = np.maximum(b, 1e-12)
    excess = n > b
    p = np.where(excess, special.gammainc(np.maximum(n, 1e-12), b), special.gammaincc(n + 1.0, b))
    z = -special.ndtri(np.clip(p, 1e-300, 0.5))
    return cast("NDArray[np.float64]", np.where(np.isnan(n), np.nan, np.where(excess, z, -z) + 0.0))


def p_of_sigma(z: float) -> float:
    """One-sided Gaussian tail beyond ``z``."""
    return float(special.ndtr(-z))


def sigma_levels(smallest_p: float) -> list[int]:
    """Whole numbers of σ for the lines of a p-value scan down to ``smallest_p``, few enough to be read."""
    reach = int(-special.ndtri(max(smallest_p, 1e-300)))
    if reach <= 9:
        return list(range(0 if reach <= 4 else 1, reach + 1))
    return [3, *range(5, reach + 1, 5)]
