r"""Spurious signal: the signal that the fit finds at masses where there is none.

The signal is fitted at other masses with the real one left out, its width relative to the mass kept. If the strengths
:math:`N_j \pm \sigma_j` at these positions are larger than they should be, the functions miss the spectrum by more than their error. With the background :math:`b_j` under the signal at each place, and :math:`b` under the real one, the error

.. math:: \sigma_\mathrm{spurious} = \tau b, \qquad \tau^2 = \frac{\sum_j N_j^2 - \sigma_j^2}{\sum_j b_j^2}

is one of the signal yield. It corresponds to the spurious signal from simulated background without statistical error (ATLAS, arXiv:1802.04146), but is measured in data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from serendip.statistics.fit import FitError
from serendip.statistics.model import BinnedModel
from serendip.statistics.signal_fit import spread_over_functions
from serendip.statistics.signals import SignalShape

__all__ = ["SIGNAL_SHARE", "SpuriousSignal", "spurious_signal"]

Array = NDArray[np.float64]

SIGNAL_SHARE = 0.9
"""Central part of a signal that defines its position."""

_MOST_PER_SIDE = 5
_FEWEST_PLACES = 2
_FEWEST_EVENTS = 5.0
# p-value of the pulls below which an error is added: one sound spectrum in ten pays for it.
_WIDENED = 0.1
# A strong signal leaks out of its central part: excluded fraction, chosen so that the leakage on a side is below this fraction of its error.
_SHARES = (SIGNAL_SHARE, 0.95, 0.98, 0.99, 0.995, 0.999)
_LEAK = 0.2


@dataclass(frozen=True)
class SpuriousSignal:
    r"""Signal that was found where there is none.

    Attributes
    ----------
    events
        Error of the signal, in events (sum of weights), that it calls for; zero while ``p`` is above 0.1.
    p
        p-value of the sum of squares of the pulls; None with fewer than two places, where nothing was measured.
    masses
        The places in GeV.
    pulls
        :math:`N_j / \\sigma_j`.
    """

    events: float
    p: float | None
    masses: tuple[float, ...]
    pulls: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def spurious_signal(
    model: BinnedModel, counts: ArrayLike, edges: ArrayLike, shape: SignalShape
) -> SpuriousSignal:
    """Fit the signal at up to five places on each side of the real one.

    They are as wide as the central 90 % of the signal and side by side. Half of this width stays between them and the end of the
    range, and no mask reaches into them. At places with fewer than five events under the signal nothing is learnt.

    Parameters
    ----------
    model
        Signal and background; errors of the signal and floating parameters are not used.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    shape
        The signal, where the data have it.

    Raises
    ------
    FitError
        If background and signal find no minimum at the place of the signal.
    """
    n, grid = np.asarray(counts, dtype=float), np.asarray(edges, dtype=float)
    mu, sigma, under = _fitted(model, n, grid, shape, model.keep)
    low, high = _left_out(shape, mu, sigma)
    beside = model.keep & ~_overlap(grid, low, high)
    found = []
    for place in _places(shape, (low, high), grid, model.keep):
        try:
            there = _fitted(model, n, grid, place, beside)
        except FitError:
            continue
        if there[2] >= _FEWEST_EVENTS * model.scale:
            found.append((place.mass, *there))
    if len(found) < _FEWEST_PLACES:
        return SpuriousSignal(0.0, None, (), ())
    masses, strengths, errors, b = np.array(sorted(found)).T
    pulls = strengths / errors
    p = float(stats.chi2.sf((pulls**2).sum(), len(pulls)))
    excess = float((strengths**2 - errors**2).sum() / (b**2).sum())
    events = float(np.sqrt(max(excess, 0.0)) * under) if p < _WIDENED else 0.0
    return SpuriousSignal(events, p, tuple(masses.tolist()), tuple(pulls.tolist()))


def _fitted(
    model: BinnedModel, counts: Array, edges: Array, shape: SignalShape, keep: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Events of a signal, their error, and the background events under it, from the bins ``keep``."""
    plain = replace(
        model, signal=shape.fractions(edges) / model.scale, mask=~keep, yield_error=0.0, variations={}, spurious=0.0, peak=None
    )  # fmt: skip
    fits = plain.fit_each(counts)
    best = fits[int(np.argmin([fit.deviance[0] for fit in fits]))]
    error = np.hypot(best.mu_error[0], spread_over_functions(plain, counts, fits)[0])
    return float(best.mu[0]), float(error), plain.events_under_signal(best.background[0]) * model.scale


def _overlap(edges: Array, low: float, high: float) -> NDArray[np.bool_]:
    return (edges[1:] > low) & (edges[:-1] < high)


def _left_out(shape: SignalShape, signal: float, error: float) -> tuple[float, float]:
    """Interval in GeV outside of which the signal cannot be mistaken for another one."""
    for share in _SHARES:
        if 0.5 * (1.0 - share) * signal <= _LEAK * error:
            break
    return shape.window(share)


def _places(
    shape: SignalShape,
    left_out: tuple[float, float],
    edges: Array,
    keep: NDArray[np.bool_],
) -> list[SignalShape]:
    """The signal at other masses, side by side."""
    low, high = shape.window(SIGNAL_SHARE)
    out = []
    for start, step in ((left_out[1] / low, high / low), (left_out[0] / high, low / high)):
        factor, n_here = start, 0
        while n_here < _MOST_PER_SIDE:
            first, last = low * factor, high * factor
            side = 0.5 * (last - first)
            if first - side < edges[0] or last + side > edges[-1]:
                break
            if keep[_overlap(edges, first, last)].all():
                out.append(shape.moved(shape.mass * factor, shape.width * factor))
                n_here += 1
            factor *= step
    return out
