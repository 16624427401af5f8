"""A resonance fitted to the masses of events: from the events to signal strength, significance and limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.weights import WeightSum, signed_weights
from serendip.statistics.abcd.regions import group_squares
from serendip.statistics.floating import settled
from serendip.statistics.functions import BackgroundFamily, get_family
from serendip.statistics.inference import simplest, toy_discovery
from serendip.statistics.limits import UpperLimit, upper_limit
from serendip.statistics.model import BinnedModel
from serendip.statistics.order import deviance_p_value
from serendip.statistics.scans import Q0Scan, q0_scan
from serendip.statistics.signal_fit import SignalFit, fit_signal
from serendip.statistics.signals import SignalShape, gaussian
from serendip.statistics.spurious import SIGNAL_SHARE, SpuriousSignal, spurious_signal
from serendip.wording import counted

__all__ = ["MassScan", "SpectrumFitResult", "fit_resonance", "scan_masses", "spectrum_histogram"]

Array = NDArray[np.float64]

_BINS_PER_WIDTH = 3.0
_MOST_BINS = 2000
# in widths of the signal: a wider bin contains all of it, and it cannot be distinguished from the background
_WIDEST_BIN = 3.0
_FEWEST_EVENTS = 20
_DEFAULT_BIN = 0.025
_STEPS_PER_WIDTH = 2.0


@dataclass(frozen=True, eq=False)
class SpectrumFitResult:
    """Outcome of :func:`fit_resonance`.

    Attributes
    ----------
    n_events
        Events in the range and outside of the masks.
    mass_range, edges, counts
        Range in GeV, bin edges ``(n_bins + 1,)`` and counts (sums of weights) ``(n_bins,)``.
    masks
        Known resonances that were left out, in GeV.
    signal
        Name of the shape.
    window
        Central 90 % of the signal, in GeV.
    simulation, negative_bins
        Of a simulated signal: its weights, and the number of bins with a negative sum, see
        :meth:`~serendip.statistics.signals.SignalShape.negative_bins`.
    fit
        Signal strength, intervals, significance.
    spurious
        Error of the signal by misdescribed background, in events, that is part of the fit.
    measured
        Where it comes from; None if it was given.
    gof_p
        p-value of the deviance of signal plus background, asymptotic.
    toy_p
        Local p-value from toys, if requested.
    limit
        Upper limit on the signal strength, if requested.
    """

    n_events: int
    mass_range: tuple[float, float]
    edges: Array
    counts: Array
    masks: tuple[tuple[float, float], ...]
    signal: str
    window: tuple[float, float]
    simulation: WeightSum | None
    negative_bins: int
    fit: SignalFit
    spurious: float
    measured: SpuriousSignal | None
    gof_p: float
    toy_p: float | None
    limit: UpperLimit | None

    def to_dict(self) -> dict[str, Any]:
        """The result as plain numbers for JSON."""
        return {
            "n_events": self.n_events,
            "range": list(self.mass_range),
            "masks": [list(mask) for mask in self.masks],
            "signal": self.signal,
            "window": list(self.window),
            "simulation": None if self.simulation is None else self.simulation.to_dict(),
            "negative_bins": self.negative_bins,
            **self.fit.to_dict(),
            "spurious_signal": {
                "events": self.spurious,
                "measured": None if self.measured is None else self.measured.to_dict(),
            },
            "gof_p": self.gof_p,
            "toy_p": self.toy_p,
            "limit": None if self.limit is None else self.limit.to_dict(),
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
        }


@dataclass(frozen=True, eq=False)
class MassScan:
    """Outcome of :func:`scan_masses`: the scan, the background functions and the excluded data, in GeV."""

    scan: Q0Scan
    background: tuple[str, ...]
    masks: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """The scan as plain numbers for JSON."""
        return self.scan.to_dict() | {
            "background": list(self.background),
            "masks": [list(mask) for mask in self.masks],
        }


def fit_resonance(
    mass: ArrayLike,
    shape: SignalShape,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    mass_range: tuple[float, float] | None = None,
    bins: int | None = None,
    background: Sequence[str] = ("auto",),
    sqrt_s: float = 13000.0,
    masks: Sequence[tuple[float, float]] = (),
    signal_yield: float = 1.0,
    yield_error: float = 0.0,
    scale_error: float = 0.0,
    resolution_error: float = 0.0,
    spurious: float | None = None,
    floats: Sequence[str] = (),
    limit: bool | None = None,
    toys: int = 0,
    seed: int = 1,
) -> SpectrumFitResult:
    """Fit signal plus background to all masses in a range.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    shape
        The resonance.
    weights
        Event weights, shape ``(n,)``.
    groups
        Code of the group of each event, shape ``(n,)``: events of a group depend on each other and count as one weight.
    mass_range
        Range of the fit in GeV; default: that of the data.
    bins
        Number of bins; default: a third of the signal's width each.
    background
        Names of functions. Their orders, and several families, are profiled as an envelope: its intervals cover,
        while those of an order chosen by tests cover 93 instead of 95 % (``docs/fits-and-limits.md``).
    sqrt_s
        Centre-of-mass energy in GeV.
    masks
        Known resonances ``(low, high)`` in GeV that are left out of the fit: bins that overlap one are excluded from the fit. The strength counts
        the signal in them too.
    signal_yield
        Events for signal strength one.
    yield_error, scale_error, resolution_error
        Relative errors of the signal's yield, mass scale and resolution.
    spurious
        Spurious signal: standard error of the signal, in events, by misdescribed background. It widens everything. Default:
        measured on either side of the signal (:func:`~serendip.statistics.spurious.spurious_signal`).
    floats
        Further fitted parameters of the resonance: ``"mass"``, ``"width"``. The shape is where the fit starts.
    limit
        Also set a 95 % CLs upper limit. Default: unless mass or width float.
    toys
        Toys for p-value and limit; 0: asymptotic.
    seed
        Of the toys.

    Raises
    ------
    InputError
        If too few events are in the range, the signal lies outside or in a mask, or a number makes no sense.
    FitError
        If the fit fails.
    """
    for name, value in (("yield", yield_error), ("scale", scale_error), ("resolution", resolution_error)):
        if not 0 <= value < 1:
            raise InputError(f"the relative error of the {name} lies between 0 and 1, not {value:g}")
    if floats and (limit or toys):
        raise InputError(
            "limits and toys are for a resonance of given mass and width; with floating ones the data choose the place (a global "
            "p-value is that of --scan)"
        )
    if spurious is not None and not (np.isfinite(spurious) and spurious >= 0):
        raise InputError(f"a spurious signal is a number of events that is not negative, not {spurious:g}")
    if not signal_yield > 0 or toys < 0:
        raise InputError("the expected signal yield must be positive, and the number of toys not negative")
    known = tuple((float(low), float(high)) for low, high in masks)
    for low, high in _reaching_into(shape, known):
        raise InputError(
            f"the mask {low:g}-{high:g} GeV reaches into the signal {shape.name}, whose central 90 % lie between "
            f"{shape.window(SIGNAL_SHARE)[0]:.5g} and {shape.window(SIGNAL_SHARE)[1]:.5g} GeV: a mask excludes other resonances; move the "
            "one or the other"
        )
    families = _families(background, sqrt_s, known)
    edges, counts, scale, n_events = spectrum_histogram(
        mass, weights, mass_range, bins, shape.width / shape.mass, families, groups
    )
    negative_bins = shape.negative_bins(edges)
    model = BinnedModel.spectrum(
        edges, families, shape, signal_yield=signal_yield, yield_error=yield_error,
        scale_error=scale_error, resolution_error=resolution_error, scale=scale, spurious=spurious or 0.0, floats=tuple(floats),
        choice="envelope",
    )  # fmt: skip
    model = simplest(settled(model, counts), counts)
    found = shape if model.peak is None else model.peak.shape
    measured = None
    if spurious is None:
        measured = spurious_signal(model, counts, edges, found)
        model = replace(model, spurious=measured.events / signal_yield)
    fit = fit_signal(model, counts, n_toys=toys, rng=np.random.default_rng([seed, 1]))
    rng = np.random.default_rng(seed)
    toy_p = toy_discovery(model, counts, toys, rng)[0] if toys else None
    bound = (
        upper_limit(model, counts, n_toys=toys or None, rng=rng)
        if limit or (limit is None and not floats)
        else None
    )
    best = model.fit(counts)
    n_parameters = model.members[int(best.member[0])][1] + len(floats)
    deviance = float(best.deviance[0]) - (n_parameters - len(floats) if model.charges else 0)
    gof_p = deviance_p_value(deviance, best.expected[0, model.keep] / scale, n_parameters + 1)
    return SpectrumFitResult(
        n_events, (float(edges[0]), float(edges[-1])), edges, counts, known, shape.name, found.window(SIGNAL_SHARE), shape.sample,
        negative_bins, fit, model.spurious * signal_yield, measured, gof_p, toy_p, bound,
    )  # fmt: skip


def _reaching_into(shape: SignalShape, masks: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Masks that overlap with the central part of a signal."""
    first, last = shape.window(SIGNAL_SHARE)
    return [(low, high) for low, high in masks if low < last and high > first]


def scan_masses(
    mass: ArrayLike,
    masses: tuple[float, float],
    width: float,
    *,
    toys: int = 200,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    mass_range: tuple[float, float] | None = None,
    bins: int | None = None,
    background: Sequence[str] = ("auto",),
    sqrt_s: float = 13000.0,
    masks: Sequence[tuple[float, float]] = (),
    seed: int = 1,
) -> MassScan:
    """Fit a Gaussian at every mass between two, in steps of half its width; not where a mask reaches into it.

    Parameters
    ----------
    mass
        Masses in GeV, shape ``(n,)``.
    masses
        Lowest and highest tested mass in GeV.
    width
        Width of the peak relative to its mass.
    toys
        Toys for the global p-value.
    weights, groups, mass_range, bins, background, sqrt_s, masks, seed
        As in :func:`fit_resonance`.

    Raises
    ------
    InputError
        As :func:`fit_resonance`, or if the masks leave no mass to test.
    """
    if not 0 < width < 0.5:
        raise InputError(f"the relative width of the peak lies between 0 and 0.5, not {width:g}")
    low, high = masses
    n_steps = int(np.ceil(np.log(high / low) / np.log1p(width / _STEPS_PER_WIDTH))) + 1
    known = tuple((float(first), float(last)) for first, last in masks)
    every = [gaussian(m, width * m) for m in np.geomspace(low, high, n_steps)]
    shapes = [shape for shape in every if not _reaching_into(shape, known)]
    if not shapes:
        raise InputError(
            f"the masks leave no mass between {low:g} and {high:g} GeV to scan; move the one or the other"
        )
    families = _families(background, sqrt_s, known)
    edges, counts, scale, _ = spectrum_histogram(mass, weights, mass_range, bins, width, families, groups)
    scan = q0_scan(
        counts, edges, families, shapes, n_toys=toys, scale=scale,
        choice="envelope", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return MassScan(scan, tuple(background), known)


def _families(
    background: Sequence[str], sqrt_s: float, masks: tuple[tuple[float, float], ...]
) -> list[BackgroundFamily]:
    return [get_family(name, sqrt_s, masks) for name in background]


def spectrum_histogram(
    mass: ArrayLike,
    weights: ArrayLike | None,
    mass_range: tuple[float, float] | None,
    bins: int | None,
    width: float | None,
    families: Sequence[BackgroundFamily],
    groups: ArrayLike | None = None,
) -> tuple[Array, Array, float, int]:
    """Histogram of all masses in a range.

    Parameters
    ----------
    mass, weights
        Masses in GeV and event weights, shape ``(n,)``. Weights may be negative (simulation at next-to-leading order) as long as
        no bin is.
    mass_range
        In GeV; default: that of the data, below the end of the functions.
    bins
        Number of bins of equal relative width; default: a third of ``width`` each, or 2.5 % of the mass without one.
    width
        Of the signal, relative to its mass.
    families
        Functions, which may end at the collision energy; events in their gaps do not count.
    groups
        Code of the group of each event, shape ``(n,)``: events of a group depend on each other and count as one weight.

    Returns
    -------
    Bin edges, counts, and of the events in the range and outside of the gaps ``sum(w^2)/sum(w)`` over groups and the number.

    Raises
    ------
    InputError
        If there are too few events or bins, or too many bins for the width of the signal, or a bin is negative.
    """
    m = np.asarray(mass, dtype=float)
    w = signed_weights(weights, len(m))
    if not len(m):
        raise InputError("there are no events")
    upper = min(family.upper for family in families)
    low, high = (
        (float(m.min()), min(float(np.nextafter(m.max(), np.inf)), 0.999 * upper))
        if mass_range is None
        else mass_range
    )
    used = (m >= low) & (m < high) & (w != 0)
    n_events = int(np.count_nonzero(used))
    if n_events < _FEWEST_EVENTS or not high > low > 0:
        raise InputError(
            f"{n_events} of {len(m)} events have a mass between {low:g} and {high:g} GeV, at least {_FEWEST_EVENTS} are "
            "needed; check --range and the mass unit"
        )
    if bins is None:
        per_bin = _DEFAULT_BIN if width is None else width / _BINS_PER_WIDTH
        bins = int(np.clip(np.log(high / low) / per_bin, 12, _MOST_BINS))
    if bins < 6:
        raise InputError(
            f"{counted(bins, 'bin is', 'bins are')} too few to fit signal and background; at least 6 are needed"
        )
    if width is not None and np.log(high / low) / bins > _WIDEST_BIN * width:
        raise InputError(
            f"{bins} bins between {low:g} and {high:g} GeV are {np.log(high / low) / bins:.2g} of the mass wide, and the signal is "
            f"{width:.2g}; choose more --bins, or a narrower --range around the signal"
        )
    edges = np.geomspace(low, high, bins + 1)
    counts = np.histogram(m[used], edges, weights=w[used])[0].astype(float)
    hidden = np.logical_or.reduce([family.hidden(edges) for family in families])
    for i in np.flatnonzero(~hidden & (counts < -1e-12 * np.abs(w).max())):
        raise InputError(
            f"the weights between {edges[i]:g} and {edges[i + 1]:g} GeV sum to {counts[i]:.3g}, and a spectrum is fitted with "
            "counts above zero: take fewer --bins, a --range without the sparse end, or a sample with fewer negative weights"
        )
    used[used] = ~hidden[np.searchsorted(edges, m[used], side="right").clip(max=bins) - 1]
    n_fitted = int(np.count_nonzero(used))
    if n_fitted < _FEWEST_EVENTS:
        raise InputError(
            f"{n_fitted} of {n_events} events between {low:g} and {high:g} GeV lie outside of the masks, at least {_FEWEST_EVENTS} are "
            "needed; take smaller masks or a longer --range"
        )
    codes = None if groups is None else np.asarray(groups)[used]
    square = group_squares(np.zeros(n_fitted, dtype=np.int64), w[used], codes)[0]
    return edges, np.maximum(counts, 0.0), float(square / w[used].sum()), n_fitted
