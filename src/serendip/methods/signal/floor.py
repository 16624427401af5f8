r"""How much signal the fit of :mod:`serendip.methods.signal.flow` finds where there is none.

An error of the density of background is an excess like any other, and a signal density goes to where it is largest. Its size is measured on data: the whole procedure is repeated in the adjacent windows, each with a background density that was not trained on its events. The result there is the expectation in the window without signal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from serendip.density import make_density
from serendip.density.base import ConditionalDensity
from serendip.events.events import Events, Window
from serendip.methods.base import BackgroundRequest
from serendip.methods.template_method import sidebands_within

__all__ = ["floor_density", "log_of_others", "spurious_fraction", "windows_beside"]

Array = NDArray[np.float64]

_REACH = 2.0
_OTHERS = 2
_PROBES = 16


def windows_beside(m: Array, window: Window, n: int, minimum: int) -> list[Window]:
    """Return a window on either side that touches ``window`` and holds ``n`` events, or the events within two of its widths.

    Parameters
    ----------
    m
        Masses of all events with weight, in GeV.
    n
        Number of events.
    minimum
        Fewest events in a window and beyond it; a side with fewer is left out.
    """
    below, above = np.sort(m[m < window.low])[::-1], np.sort(m[m >= window.high])
    found = []
    for masses, sign in ((below, -1), (above, 1)):
        near = masses[np.abs(masses - (window.low if sign < 0 else window.high)) < _REACH * window.width][:n]
        if min(len(near), len(masses) - len(near)) < minimum:
            continue
        edge = float(0.5 * (near[-1] + masses[len(near)]))
        found.append(Window(edge, window.low) if sign < 0 else Window(window.high, edge))
    return found


def floor_density(
    request: BackgroundRequest, events: Events, windows: list[Window], *, seed: int
) -> ConditionalDensity:
    """Train one density for each window, on the events outside it."""
    seen = np.array([sidebands_within(events.m, w, request.reach_gev) for w in windows])
    density = make_density(request.density, seed=seed, **dict(request.options))
    return density.fit(events.x, events.m, weight=events.weights, splits=seen, groups=events.groups)


def spurious_fraction(floor: Array) -> float:
    r"""Error of a fraction from the results of the same fit without signal; 0 if that is not known.

    .. math:: \frac{t_n}{2} \sqrt{\frac{1}{n} \sum_{i=1}^{n} (w_i^2 + \sigma_i^2)}

    with Student's :math:`t_n` of n degrees of freedom at the level of two standard deviations: a spread that is known
    from two windows only is wider than it looks.

    Parameters
    ----------
    floor
        Fraction, its statistical error and gain of each window, shape ``(n, 3)``.
    """
    if not len(floor):
        return 0.0
    return float(0.5 * t.isf(norm.sf(2.0), len(floor)) * np.sqrt((floor[:, :2] ** 2).sum(1).mean()))


def log_of_others(density: ConditionalDensity, models: int, x: Array, m: Array, split: int) -> Array:
    """Ln of the mean density of up to two models other than ``split``, of events that none of them saw, shape ``(n,)``.

    Several splits may share a model. If there is no other one, it is that of ``split``.
    """
    probe = slice(0, _PROBES)
    seen = [density.log_prob(x[probe], m[probe], split)]
    others: list[int] = []
    for shift in range(1, models):
        if len(others) == _OTHERS:
            break
        j = (split + shift) % models
        values = density.log_prob(x[probe], m[probe], j)
        if not any(np.array_equal(values, known) for known in seen):
            seen.append(values)
            others.append(j)
    found = np.array([density.log_prob(x, m, j) for j in others or [split]])
    result: Array = np.logaddexp.reduce(found, axis=0) - np.log(len(found))
    return result
