"""The range of a background fit: the whole range of the data, as long as a smooth function describes it.

A spectrum rises for two reasons, a turn-on or a peak. An end of the range is moved only if no background describes the data
and no peak explains why: the rule goes by the goodness of fit and never by where the maximum lies. With a given window the rule
does not look into it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.binning import make_edges, window_bins
from serendip.statistics.fit import FitError, OrderChoice
from serendip.statistics.functions import BackgroundFamily, get_family, rougher
from serendip.statistics.many import fit_many
from serendip.statistics.order import deviance_p_value

__all__ = [
    "DESCRIBED",
    "NOT_DESCRIBED",
    "FitRange",
    "data_range",
    "fit_range",
    "given_range",
    "outer_edges",
    "window_range",
]

Array = NDArray[np.float64]

DESCRIBED, NOT_DESCRIBED = 0.05, 0.01
"""Goodness of fit from which functions count as a description of the sidebands of a window, and below which they do not."""

# How much of each side is kept, tried from the longest range to the shortest.
_SHARES = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2)
_FEWEST_PER_SIDE = 50
_MOST_OUTSIDE = 60


@dataclass(frozen=True)
class FitRange:
    """A range and the excluded data.

    Attributes
    ----------
    low, high
        In GeV.
    below, above
        Events below and above it.
    gof_p
        Goodness of fit in it, None if it was not needed.
    reason
        In words; empty if nothing was cut.
    """

    low: float
    high: float
    below: int
    above: int
    gof_p: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def data_range(mass: ArrayLike, upper: float = np.inf) -> tuple[float, float]:
    """Smallest mass and just above the largest one, or where the functions end.

    Raises
    ------
    InputError
        If there is no event, a mass is not positive, or all are equal.
    """
    m = np.asarray(mass, dtype=float)
    if not len(m):
        raise InputError("there are no events")
    if m.min() <= 0:
        raise InputError(f"a mass of {m.min():g} GeV is not positive")
    low, high = float(m.min()), min(float(np.nextafter(m.max(), np.inf)), 0.999 * upper)
    if m.min() == m.max():
        raise InputError(
            f"all {len(m)} events have the same mass, {low:g} GeV: there is no spectrum; check the column (--mass)"
        )
    if not low < high:
        raise InputError(
            f"all masses lie beyond the collision energy of {upper / 1000:g} TeV; check the mass unit, or give the energy"
        )
    return low, high


def window_range(
    mass: ArrayLike,
    window: Window,
    family: BackgroundFamily | str = "auto",
    *,
    weights: Array | None = None,
    choice: OrderChoice = "average",
) -> FitRange:
    """Longest range around a window in which the functions describe the sidebands.

    Ranges are tried from the whole one to the window's neighbourhood, which keeps at least a width of the window and 50 events
    on each side if the data have them. Events inside the window are not looked at.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    window
        The window in GeV.
    family
        Background functions, with the gaps that known resonances leave.
    weights
        Event weights, shape ``(n,)``.
    choice
        As in :func:`~serendip.statistics.fit.fit_spectrum`.

    Raises
    ------
    InputError
        If the data end on one side of the window.
    """
    m = np.asarray(mass, dtype=float)
    functions = get_family(family) if isinstance(family, str) else family
    low, high = data_range(m, functions.upper)
    if not (low < window.low and high > window.high):
        raise InputError(
            f"the window {window} is not inside the data, which reach from {low:g} to {float(m.max()):g} GeV; "
            "a sideband is needed on both sides (check the mass unit)"
        )
    w = np.ones(len(m)) if weights is None else weights
    side = w[~window.contains(m)]
    scale = float((side**2).sum() / side.sum()) if side.sum() > 0 else 1.0
    best: tuple[float, float, float] = (-1.0, low, high)
    for tried in (functions, rougher(functions)):
        if tried is None or best[0] >= NOT_DESCRIBED:
            break
        for first, last in _ranges(m, window, low, high):
            p = _goodness(m, w, window, (first, last), tried, scale, choice)
            if p > best[0]:
                best = p, first, last
            if p >= DESCRIBED:
                break
    p, first, last = best
    return FitRange(
        first, last, int((m < first).sum()), int((m >= last).sum()), p, _reason(p, first > low, last < high)
    )


def given_range(mass: ArrayLike, low: float, high: float) -> FitRange:
    """A requested range in GeV, and how many of the masses it excludes."""
    m = np.asarray(mass, dtype=float)
    return FitRange(low, high, int((m < low).sum()), int((m >= high).sum()), None, "as asked for")


def outer_edges(mass: ArrayLike, edges: ArrayLike) -> list[Array]:
    """Bins for the masses below and above a binning, where there are any: as wide as its nearest one, but not more than 60.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    edges
        Edges in GeV of the binning.
    """
    m, grid = np.asarray(mass, dtype=float), np.asarray(edges, dtype=float)
    last = float(np.nextafter(m.max(), np.inf))
    sides = (
        (float(m.min()), float(grid[0]), grid[1] / grid[0]),
        (float(grid[-1]), last, grid[-1] / grid[-2]),
    )
    return [
        np.geomspace(low, high, int(np.clip(np.log(high / low) / np.log(step), 1, _MOST_OUTSIDE)) + 1)
        for low, high, step in sides
        if ((m >= low) & (m < high)).any()
    ]


def fit_range(mass: ArrayLike, window: Window, **options: Any) -> tuple[float, float]:
    """:func:`window_range` as a pair of masses in GeV."""
    found = window_range(mass, window, **options)
    return found.low, found.high


def _reason(p: float, below: bool, above: bool) -> str:
    if not (below or above):
        return ""
    ends = " and ".join(name for name, cut in (("lower", below), ("upper", above)) if cut)
    text = f"no function describes the sidebands over the whole range: the {ends} end was moved towards the window"
    return text if p >= DESCRIBED else text + ", where they are described no better than this"


def _ranges(m: Array, window: Window, low: float, high: float) -> list[tuple[float, float]]:
    """Ranges from long to short, in steps of the logarithm of the mass."""
    below, above = np.sort(m[m < window.low])[::-1], np.sort(m[m >= window.high])
    lows, highs = [], []
    for share in _SHARES:
        near = min(window.low * (low / window.low) ** share, window.low - window.width)
        if len(below):
            near = min(near, float(below[min(_FEWEST_PER_SIDE, len(below)) - 1]))
        lows.append(max(near, low))
        far = max(window.high * (high / window.high) ** share, window.high + window.width)
        if len(above):
            far = max(far, float(np.nextafter(above[min(_FEWEST_PER_SIDE, len(above)) - 1], np.inf)))
        highs.append(min(far, high))
    pairs = {(a, b) for a in lows for b in highs if a < window.low and b > window.high}
    return sorted(pairs, key=lambda pair: (pair[0] / pair[1], pair[0]))


def _goodness(
    m: Array,
    w: Array,
    window: Window,
    bounds: tuple[float, float],
    family: BackgroundFamily,
    scale: float,
    choice: OrderChoice,
) -> float:
    edges = make_edges(bounds, window)
    counts = np.histogram(m, edges, weights=w)[0]
    first, last = window_bins(edges, window)
    mask = np.zeros(len(counts), dtype=bool)
    mask[first:last] = True
    keep = ~mask & ~family.hidden(edges)
    if keep.sum() < 8:
        return 0.0
    counts[~keep] = 0.0
    try:
        fit = fit_many(counts, edges, family, mask=mask, scale=scale, choice=choice)
    except (FitError, InputError):
        return 0.0
    return deviance_p_value(float(fit.deviance[0]), fit.expected[0, keep] / scale, int(fit.n_parameters[0]))
