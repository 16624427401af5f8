"""Bump hunt in one window without any classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.binning import fit_range, make_edges, window_bins
from serendip.statistics.compound import event_weights
from serendip.statistics.fit import OrderChoice, SpectrumFit
from serendip.statistics.functions import get_family
from serendip.statistics.look_result import EffectiveEvents, look_jumps
from serendip.statistics.looks import fit_inclusive
from serendip.statistics.pvalues import z_value

__all__ = ["BumpResult", "bump_hunt"]


@dataclass(frozen=True, eq=False)
class BumpResult:
    """Excess in a window over a smooth fit of the rest.

    Attributes
    ----------
    window, mass_range
        In GeV.
    observed, expected, expected_error
        Events (sums of weights) in the window; the error is that of the fit, without the Poisson fluctuation.
    p_local, z_local
        One-sided p-value and signed significance. No trials factor: one window, chosen beforehand.
    spectrum
        The fit, for drawing.
    effective
        Effective numbers of events in and beside the window.
    warnings
        What the significance must not be quoted without.
    """

    window: Window
    mass_range: tuple[float, float]
    observed: float
    expected: float
    expected_error: float
    p_local: float
    z_local: float
    spectrum: SpectrumFit
    effective: EffectiveEvents
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result as plain numbers for JSON."""
        return {
            "window": [self.window.low, self.window.high],
            "range": list(self.mass_range),
            "observed": self.observed,
            "expected": self.expected,
            "expected_error": self.expected_error,
            "excess": self.observed - self.expected,
            "p_local": self.p_local,
            "z_local": self.z_local,
            "effective_events": vars(self.effective).copy(),
            "warnings": list(self.warnings),
            "fit": self.spectrum.to_dict(),
            "spectrum": {
                "edges": self.spectrum.edges.tolist(),
                "counts": self.spectrum.counts.tolist(),
                "expected": self.spectrum.expected.tolist(),
                "expected_error": self.spectrum.expected_error.tolist(),
            },
        }


def bump_hunt(
    mass: ArrayLike,
    window: Window,
    mass_range: tuple[float, float] | None = None,
    bins: int | None = None,
    background: str = "dijet",
    weights: ArrayLike | None = None,
    sqrt_s: float = 13000.0,
    choice: OrderChoice = "average",
    groups: NDArray[Any] | None = None,
) -> BumpResult:
    r"""Count the events in a window and compare with a smooth fit of the spectrum outside it.

    The fit masks the window, and its error :math:`\sigma` enters the p-value as a side measurement
    (:func:`~serendip.statistics.pvalues.count_p_value`), which is what profiling the background in a
    likelihood gives. Weighted and grouped events: :class:`~serendip.statistics.compound.CompoundTail`.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    window
        The window in GeV, chosen before looking.
    mass_range
        Range of the fit in GeV; default: :func:`~serendip.statistics.looks.fit_range`.
    bins
        Number of bins; default: about 2.5 % of the mass each. The window is always a whole number of bins.
    background
        Name of the functions (:func:`~serendip.statistics.functions.get_family`).
    weights
        Event weights, shape ``(n,)``.
    sqrt_s
        Centre-of-mass energy in GeV.
    choice
        ``"average"`` over the orders of the function, or the test that chooses one
        (:func:`~serendip.statistics.fit.fit_spectrum`).
    groups
        Number of the group of every event, shape ``(n,)``: events that depend on each other.

    Raises
    ------
    InputError
        If the window lies outside the data or holds no event, or too few events are left to fit.
    """
    m = np.asarray(mass, dtype=float)
    family = get_family(background, sqrt_s)
    if not len(m):
        raise InputError("there are no events")
    low, high = float(m.min()), float(m.max())
    if window.high <= low or window.low >= high:
        raise InputError(
            f"the window {window} is outside the data, which reach from {low:g} to {high:g} GeV; "
            "move the window or check the mass unit"
        )
    if window.high > sqrt_s:
        raise InputError(
            f"the window {window} lies beyond the collision energy of {sqrt_s / 1000:g} TeV; check the mass unit, or "
            "give the energy"
        )
    if not np.any(window.contains(m)):
        raise InputError(
            f"the window {window} holds none of the {len(m)} events; widen it or check the mass unit"
        )
    limits = fit_range(m, window) if mass_range is None else mass_range
    # the dijet functions end at sqrt(s), beyond which there is no event to fit anyway
    limits = (limits[0], min(limits[1], 0.999 * family.upper)) if mass_range is None else limits
    edges = make_edges(limits, window, bins)
    w, members = event_weights(weights, len(m)), None if groups is None else np.asarray(groups)
    spectrum = fit_inclusive(m, window, edges, family, weights=w, groups=members, choice=choice)
    first, last = window_bins(edges, window)
    expected, error = spectrum.window(first, last)
    observed = float(spectrum.counts[first:last].sum())
    used, inside = (m >= edges[0]) & (m < edges[-1]), window.contains(m)
    jumps = look_jumps(w, members, used & ~inside, used & inside, blinded=False)
    numbers = observed / jumps.scale, expected / jumps.scale, error / jumps.scale
    log_p = jumps.tail.log_p(*numbers)[0]
    return BumpResult(
        window=window,
        mass_range=(float(edges[0]), float(edges[-1])),
        observed=observed,
        expected=expected,
        expected_error=error,
        p_local=float(np.exp(log_p)),
        z_local=float(z_value(log_p=log_p)),
        spectrum=spectrum,
        effective=jumps.effective,
        warnings=tuple(jumps.warnings(*numbers)),
    )
