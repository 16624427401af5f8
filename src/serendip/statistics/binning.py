"""Mass ranges and bins around a window."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window

__all__ = ["falling_range", "fit_range", "make_edges", "window_bins"]

Array = NDArray[np.float64]

_COARSE = 40


def make_edges(mass_range: tuple[float, float], window: Window, n_bins: int | None = None) -> Array:
    """Bin edges of roughly constant relative width with the window's edges among them.

    Parameters
    ----------
    mass_range
        Lowest and highest mass in GeV; the window lies strictly inside.
    window
        It becomes a whole number of bins: at least four by default.
    n_bins
        Wished total number of bins. Default: bins of about 2.5 % of the mass.

    Raises
    ------
    InputError
        If the window does not leave a sideband on both sides.
    """
    low, high = (float(v) for v in mass_range)
    if not 0 < low < window.low or not window.high < high < np.inf:
        raise InputError(
            f"the window {window} needs a sideband on both sides, but the mass range is {low:g} to {high:g} "
            "GeV; move the window or widen the range"
        )
    lengths = np.log([window.low / low, window.high / window.low, high / window.high])
    if n_bins is None:
        inside = max(4, int(np.ceil(lengths[1] / 0.025)))
        width = min(lengths[1] / inside, 0.025)
        left, right = (max(2, round(float(length / width))) for length in lengths[[0, 2]])
        # narrow windows must not make thousands of sideband bins
        left, right = min(left, 60), min(right, 60)
    else:
        if n_bins < 3:
            raise InputError(f"at least 3 bins are needed (one window, two sidebands), not {n_bins}")
        inside = min(max(1, round(float(n_bins * lengths[1] / lengths.sum()))), n_bins - 2)
        left = round(float((n_bins - inside) * lengths[0] / (lengths[0] + lengths[2])))
        left = min(max(1, left), n_bins - inside - 1)
        right = n_bins - inside - left
    parts = [
        np.geomspace(low, window.low, left + 1)[:-1],
        np.geomspace(window.low, window.high, inside + 1)[:-1],
        np.geomspace(window.high, high, right + 1),
    ]
    edges = np.concatenate(parts)
    edges[[0, left, left + inside, -1]] = low, window.low, window.high, high
    return edges


def window_bins(edges: ArrayLike, window: Window) -> tuple[int, int]:
    """First and one-past-last bin of the window."""
    values = np.asarray(edges)
    low, high = (int(np.argmin(np.abs(values - v))) for v in (window.low, window.high))
    if values[low] != window.low or values[high] != window.high:
        msg = f"the edges of the window {window} are not bin edges"
        raise ValueError(msg)
    return low, high


def fit_range(
    mass: ArrayLike, window: Window, *, left: float = 1.25, right: float = 1.6, turn_on: float = 0.6
) -> tuple[float, float]:
    """Mass range around a window that a smooth function can describe.

    From ``window.low / left`` to ``window.high * right``, cut at hard edges of the data, and on the left
    at the mass where a rising spectrum reaches ``turn_on`` times its maximum below the window (a trigger or
    momentum cut makes a turn-on that no falling function follows). Events inside the window are not looked
    at.

    Returns
    -------
    low, high
        In GeV. At least 4 % of the mass is left on each side if the data reach that far.

    Raises
    ------
    InputError
        If the data end on one side of the window.
    """
    m = np.asarray(mass, dtype=float)
    if not len(m):
        raise InputError("there are no events")
    smallest, largest = float(m.min()), float(m.max())
    if not (smallest < window.low and largest > window.high):
        raise InputError(
            f"the window {window} is not inside the data, which reach from {smallest:g} to {largest:g} GeV; "
            "a sideband is needed on both sides (check the mass unit)"
        )
    low, high = window.low / left, window.high * right
    below = m[(m >= low) & (m < window.low)]
    n_bins = 10
    edges = np.geomspace(low, window.low, n_bins + 1)
    counts = np.histogram(below, edges)[0].astype(float)
    # bins are pooled in threes so that fluctuations of sparse data do not look like a turn-on
    smooth = np.convolve(counts, np.ones(3) / 3.0, mode="same")
    smooth[[0, -1]] *= 1.5
    if counts.sum() >= 100:
        start = int(np.argmax(smooth >= turn_on * smooth.max()))
        low = float(edges[start]) if start else low
    if np.count_nonzero(m < 1.03 * smallest) >= 10:
        low = max(low, smallest)
    if np.count_nonzero(m > largest / 1.03) >= 10:
        high = min(high, largest)
    return min(low, window.low / 1.04, window.low), max(high, min(window.high * 1.04, largest))


def falling_range(mass: ArrayLike, upper: float = np.inf) -> tuple[float, float]:
    """Masses in GeV from just above the maximum of a spectrum to its end.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    upper
        Where functions end.

    Raises
    ------
    InputError
        If there is no event, or a mass is not positive.
    """
    m = np.asarray(mass, dtype=float)
    if not len(m) or m.min() <= 0:
        raise InputError(
            "there are no events" if not len(m) else f"a mass of {m.min():g} GeV is not positive"
        )
    high = min(float(np.nextafter(m.max(), np.inf)), 0.999 * upper)
    edges = np.geomspace(m.min(), high, _COARSE + 1)
    top = int(np.argmax(np.histogram(m, edges)[0]))
    return float(edges[0] if top == 0 else edges[min(top + 1, _COARSE - 1)]), high
