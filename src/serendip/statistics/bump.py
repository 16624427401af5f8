"""Bump hunt in one window without any classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.binning import make_edges, window_bins
from serendip.statistics.closure import with_alternatives
from serendip.statistics.compound import event_weights
from serendip.statistics.fit import OrderChoice, SpectrumFit
from serendip.statistics.functions import get_family
from serendip.statistics.look_result import EffectiveEvents, look_jumps
from serendip.statistics.looks import fit_inclusive
from serendip.statistics.pvalues import significance
from serendip.statistics.ranges import FitRange, data_range, given_range, window_range

__all__ = ["BumpResult", "bump_hunt", "spectrum_warnings"]

# More events than this have a statistical error that smooth functions are not known to deserve.
_MANY_EVENTS = 1e6


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
        One-sided p-value and signed significance (None where nothing was observed, so that p = 1). No trials factor: one window, chosen beforehand.
    spectrum
        The fit, for drawing.
    effective
        Effective numbers of events in and outside the window.
    left_out
        Data excluded by the range, and the reason.
    masks
        Known resonances that were left out, in GeV.
    warnings
        Why the p-value may not be valid; empty if nothing speaks against it.
    """

    window: Window
    mass_range: tuple[float, float]
    observed: float
    expected: float
    expected_error: float
    p_local: float
    z_local: float | None
    spectrum: SpectrumFit
    effective: EffectiveEvents
    left_out: FitRange
    masks: tuple[tuple[float, float], ...] = ()
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
            "left_out": self.left_out.to_dict(),
            "masks": [list(mask) for mask in self.masks],
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
    background: str = "auto",
    weights: ArrayLike | None = None,
    sqrt_s: float = 13000.0,
    choice: OrderChoice = "average",
    groups: NDArray[Any] | None = None,
    masks: Sequence[tuple[float, float]] = (),
) -> BumpResult:
    r"""Count the events in a window and compare with a smooth fit of the spectrum outside it.

    The fit masks the window, and its error :math:`\sigma` enters the p-value as a side measurement
    (:func:`~serendip.statistics.pvalues.count_p_value`), which is equivalent to profiling the background in a likelihood. Weighted and grouped events: :class:`~serendip.statistics.compound.CompoundTail`. A window without
    events is an observation: p = 1.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    window
        The window in GeV, chosen before looking.
    mass_range
        Range of the fit in GeV; default: the longest one that the functions describe
        (:func:`~serendip.statistics.ranges.window_range`).
    bins
        Number of bins; default: :func:`~serendip.statistics.binning.make_edges`. The window is always a whole number of bins.
    background
        Name of the functions (:func:`~serendip.statistics.functions.get_family`).
    weights
        Event weights, shape ``(n,)``.
    sqrt_s
        Centre-of-mass energy in GeV.
    choice
        ``"average"`` over the functions and their orders, or the test that chooses one
        (:func:`~serendip.statistics.fit.fit_spectrum`).
    groups
        Number of the group of every event, shape ``(n,)``: events that depend on each other.
    masks
        Known resonances ``(low, high)`` in GeV that are left out of the fit.

    Raises
    ------
    InputError
        If the window lies outside the data, or too few events are left to fit.
    """
    m = np.asarray(mass, dtype=float)
    known = tuple((float(first), float(last)) for first, last in masks)
    family = get_family(background, sqrt_s, known)
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
    data_range(m)
    w = event_weights(weights, len(m))
    if mass_range is None:
        found = window_range(m, window, family, weights=w, choice=choice)
    else:
        found = given_range(m, *mass_range)
    edges = make_edges((found.low, found.high), window, bins)
    members = None if groups is None else np.asarray(groups)
    spectrum = fit_inclusive(m, window, edges, family, weights=w, groups=members, choice=choice)
    start, end = window_bins(edges, window)
    spectrum = with_alternatives(spectrum, start, end)
    expected, error = spectrum.window(start, end)
    observed = float(spectrum.counts[start:end].sum())
    used, inside = (m >= edges[0]) & (m < edges[-1]), window.contains(m)
    jumps = look_jumps(w, members, used & ~inside, used & inside, blinded=False)
    numbers = observed / jumps.scale, expected / jumps.scale, error / jumps.scale
    log_p = float(jumps.tail.log_p(*numbers)[0])
    return BumpResult(
        window=window,
        mass_range=(float(edges[0]), float(edges[-1])),
        observed=observed,
        expected=expected,
        expected_error=error,
        p_local=float(np.exp(log_p)),
        z_local=significance(log_p),
        spectrum=spectrum,
        effective=jumps.effective,
        left_out=found,
        masks=known,
        warnings=(*jumps.warnings(*numbers), *spectrum_warnings(spectrum, start, end)),
    )


def spectrum_warnings(spectrum: SpectrumFit, low: int, high: int) -> tuple[str, ...]:
    """Warnings on a fit with the window ``low <= i < high`` masked, in words."""
    notes = []
    if spectrum.gof_p < 0.01:
        notes.append(
            f"the background does not describe the sidebands (goodness of fit p = {spectrum.gof_p:.2g}): the p-value cannot be "
            "trusted; choose another --background or --range, or --mask a known resonance"
        )
    closure = spectrum.closure
    if closure is not None and closure.relative_error:
        notes.append(
            f"neighbouring windows are predicted badly (p = {closure.p:.2g} of {len(closure.pulls)} pulls, the largest "
            f"{max(closure.pulls, key=abs):+.1f}): {closure.relative_error:.2g} of the expectation was added to its error"
        )
    if spectrum.turn_on_spread:
        notes.append(
            f"functions with a turn-on differ in the window by {spectrum.turn_on_spread:.2g} of the expectation: either it lies on a "
            "turn-on, and this p-value cannot be trusted, or on a peak whose flanks reach beyond it; move or widen it"
        )
    if spectrum.rough_spread:
        notes.append(
            f"functions that bend faster describe the sidebands better and differ in the window by {spectrum.rough_spread:.2g} of the "
            "expectation: a broad structure with its top in the window, or a peak wider than it, would be claimed as an excess; move or "
            "widen the window, or choose another --range"
        )
    if spectrum.kink_weight:
        notes.append(
            f"a kink in the window describes the sidebands with fewer parameters than smooth functions do: it has "
            f"{spectrum.kink_weight:.2g} of the weight in the average, whose error contains it; move the window if nothing should "
            "bend the spectrum there"
        )
    n_events = float(spectrum.counts[spectrum.kept].sum()) / spectrum.scale
    if n_events > _MANY_EVENTS:
        expected, error = spectrum.window(low, high)
        notes.append(
            f"the sidebands hold {n_events:.3g} events: the error of the fit, {error / expected:.2g} of the expectation, is smaller "
            "than smooth functions are known to describe a spectrum; compare other functions (--background) and ranges"
        )
    return tuple(notes)
