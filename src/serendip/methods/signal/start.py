r"""Where in the features a signal may be: a first, normal density of it, found from many places.

A flow that starts as wide as background spends its likelihood on small errors of the background everywhere, and a small
signal is never found. So every place where there is an event is tried with a narrow normal density, and the
best few are fitted (expectation maximisation of mean, widths, place in the mass and fraction), which is cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from serendip.methods.signal.sample import SignalSample, log_mixture

__all__ = ["SignalStart", "find_start"]

Array = NDArray[np.float64]

_PLACES = 600
_TRIED = 12
_WIDTH = 0.5
_FRACTION = 5e-3
_WIDTHS = (0.15, 1.0)
_FRACTIONS = (1e-4, 0.1)
_ITERATIONS = 40


@dataclass(frozen=True)
class SignalStart:
    """A normal density of a signal.

    Attributes
    ----------
    mean, width
        Of the features z and, last, of the mass v; shape ``(d + 1,)``.
    fraction
        Fraction of signal.
    gain
        ln L that it gains over no signal.
    """

    mean: Array
    width: Array
    fraction: float
    gain: float


def find_start(
    sample: SignalSample, weight: Array, rng: np.random.Generator, fraction: float | None = None
) -> SignalStart:
    """Return the normal density with the largest likelihood that was found.

    Parameters
    ----------
    sample
        Data of a window.
    weight
        Weights of its events; zero for excluded events, shape ``(n,)``.
    rng
        Chooses the places that are tried.
    fraction
        Fraction of signal; None: fitted.
    """
    seen = weight > 0
    y = np.column_stack([sample.z, sample.v])[seen]
    # ln R = ln N(y) - ln b, with b the density of background in the same units
    offset, weight = sample.log_offset[seen], weight[seen]
    centres = y[rng.choice(len(y), min(_PLACES, len(y)), replace=False)]
    w = fraction or _FRACTION
    width = np.append(np.full(y.shape[1] - 1, _WIDTH), 1.0)
    starts = []
    for centre in centres:
        mean = np.append(centre[:-1], 0.0)
        starts.append(_gain(_log_normal(y, mean, width) + offset, weight, w))
    found = [
        _fit(y, offset, weight, np.append(centres[i, :-1], 0.0), width, w, fraction is None)
        for i in np.argsort(starts)[::-1][:_TRIED]
    ]
    return max(found, key=lambda start: start.gain)


def _fit(
    y: Array, offset: Array, weight: Array, mean: Array, width: Array, w: float, free: bool
) -> SignalStart:
    for _ in range(_ITERATIONS):
        r = weight * expit(logit(w) + _log_normal(y, mean, width) + offset)
        total = r.sum()
        mean = r @ y / total
        width = np.clip(np.sqrt(r @ (y - mean) ** 2 / total), *_WIDTHS)
        if free:
            w = float(np.clip(total / weight.sum(), *_FRACTIONS))
    return SignalStart(mean, width, w, _gain(_log_normal(y, mean, width) + offset, weight, w))


def _log_normal(y: Array, mean: Array, width: Array) -> Array:
    pull = (y - mean) / width
    result: Array = -0.5 * (pull**2).sum(1) - np.log(width).sum() - 0.5 * len(mean) * math.log(2 * math.pi)
    return result


def _gain(log_ratio: Array, weight: Array, w: float) -> float:
    return float(weight @ log_mixture(log_ratio, w))
