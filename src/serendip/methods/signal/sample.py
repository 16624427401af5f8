"""Inputs of the likelihood of a signal on top of a known background; see :mod:`serendip.methods.signal.flow`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from serendip.events.events import Window

__all__ = ["SignalSample", "best_fraction", "log_mixture", "mass_quantile"]

Array = NDArray[np.float64]

_EDGE = 1e-6


@dataclass(frozen=True)
class SignalSample:
    """Data of one window and split, for a signal density.

    Attributes
    ----------
    z
        Features, nearly normal for background, shape ``(n, d)``.
    v
        Mass, as by :func:`mass_quantile`, shape ``(n,)``.
    log_offset
        ln R - ln p_S(z, v), shape ``(n,)``: all that does not change in training.
    weight
        Event weights, shape ``(n,)``; positive.
    groups
        Events with the same number, shape ``(n,)``, are held out by the same member; None: every event is its own.
    """

    z: Array
    v: Array
    log_offset: Array
    weight: Array
    groups: NDArray[np.int64] | None = None


def mass_quantile(m: Array, window: Window) -> tuple[Array, Array]:
    """Normal quantile v of the place of each mass (GeV) in the window, and ln dv/dm; shape ``(n,)`` both."""
    place = np.clip((m - window.low) / window.width, _EDGE, 1 - _EDGE)
    v = ndtri(place)
    return v, 0.5 * v**2 + 0.5 * math.log(2 * math.pi) - math.log(window.width)


def log_mixture(log_ratio: Array, w: Array | float) -> Array:
    """ln(1 - w + w R), shape of ``log_ratio``."""
    result: Array = np.logaddexp(np.log1p(-np.asarray(w)), np.log(w) + log_ratio)
    return result


def best_fraction(log_ratio: Array, weight: Array) -> tuple[float, float, float]:
    """Fraction w with the largest likelihood, its error from the curvature, and the gain in ln L over w = 0.

    R is fixed: the shape of the signal has no part in the error.

    Parameters
    ----------
    log_ratio, weight
        Ln R and weight of each event, shape ``(n,)``.
    """
    grid = np.concatenate([[0.0], np.geomspace(1e-5, 0.999, 400)])
    gain = weight @ np.logaddexp(np.log1p(-grid), np.log(np.maximum(grid, 1e-300)) + log_ratio[:, None])
    best = int(np.argmax(gain))
    w = float(grid[best])
    # d ln(1 - w + w R) / dw = (R - 1) / (1 - w + w R)
    log_sum = log_mixture(log_ratio, max(w, 1e-5))
    slope2 = (np.exp(log_ratio - log_sum) - np.exp(-log_sum)) ** 2
    return w, float(np.sqrt(weight**2 @ slope2) / (weight @ slope2)), float(gain[best])
