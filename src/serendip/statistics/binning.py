"""Mass ranges and bins around a window."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window

__all__ = ["make_edges", "scan_edges", "window_bins"]

Array = NDArray[np.float64]

# Widest bins, relative to their mass, and the fewest of a range.
_WIDEST, _FEWEST = 0.025, 40


def make_edges(mass_range: tuple[float, float], window: Window, n_bins: int | None = None) -> Array:
    """Bin edges of roughly constant relative width with the window's edges among them.

    Parameters
    ----------
    mass_range
        Lowest and highest mass in GeV; the window lies strictly inside.
    window
        It becomes a whole number of bins: at least four by default.
    n_bins
        Wished total number of bins. Default: bins of about 2.5 % of the mass, narrower ones in a short range, which has at least
        40, and in a narrow window.

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
        widest = min(_WIDEST, float(lengths.sum()) / _FEWEST)
        inside = max(4, int(np.ceil(lengths[1] / widest)))
        width = min(lengths[1] / inside, widest)
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


def scan_edges(low: float, high: float, n_events: int, n_bins: int | None = None) -> Array:
    """Bins of equal relative width for a search of all masses.

    Of about a per cent of the mass each, 60 to 240 of them, fewer where there are less than two events for each bin: several in a
    peak of detector resolution, and few enough for thousands of toys.
    """
    if n_bins is None:
        n_bins = int(np.clip(np.log(high / low) / 0.01, 60, 240))
        n_bins = min(n_bins, max(30, n_events // 2))
    return np.geomspace(low, high, n_bins + 1)
