"""The most significant peak of a spectrum, wherever it is, with a global p-value from toys that repeat the whole search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from serendip.errors import InputError
from serendip.statistics.binning import scan_edges
from serendip.statistics.compound import effective_number, group_sums, jump_scale
from serendip.statistics.fit import FitError, fit_spectrum
from serendip.statistics.functions import BackgroundFamily, get_family, rougher
from serendip.statistics.many import MemberFits, fit_many
from serendip.statistics.order import deviance_p_value
from serendip.statistics.peaks import (
    Candidates,
    PeakFits,
    background_fits,
    best_z,
    candidates,
    fit_peaks,
    screen_peaks,
)
from serendip.statistics.pvalues import toy_p_value, z_value
from serendip.statistics.ranges import DESCRIBED, FitRange, data_range

__all__ = ["PeakSearch", "find_peak"]

Array = NDArray[np.float64]

_FEWEST_EVENTS = 20
# Candidates of the data that are fitted, of which the best is then fitted with masses and widths between the steps.
_FITTED, _PLACES = 30, 10
_FINER = np.linspace(-0.5, 0.5, 9)
_STRETCHES = 2.0 ** np.linspace(-0.5, 0.5, 7)
# A range is described if the fit with the peak, or without it, is better than this.
_GOOD = 0.01
# Shares of the range, in the logarithm of the mass, that are cut from one end in turn.
_CUTS = (0.03, 0.06, 0.1, 0.14, 0.18, 0.22, 0.27, 0.33, 0.4, 0.5)
# With such a mask the Gaussian must at least explain most of the excess: the largest part of q0 that it leaves over.
_UNEXPLAINED = 0.1
# Half widths, in standard deviations, of the masks with which a non-Gaussian peak may explain a spectrum, and the
# largest part of its mass that may be hidden: the maximum after a turn-on is wider than that.
_MASKS, _WIDEST_MASK = (3.0, 4.0, 5.0, 6.0), 0.3
# A real peak, whatever the shape of its tails.
_CLEAR = 5.0
_TURN_ON = "a turn-on describes the spectrum better than a smooth function with a peak anywhere or without"
# How much larger the AIC of a turn-on may be than that of a peak, and the power with which no spectrum falls.
_SIMILAR, _STEEPEST = 50.0, 20.0
# Number of parameters from which a polynomial describes unspecified structure.
_WAVY = 6
# No cut leaves less of the events.
_KEPT = 0.1
_TOYS_AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class PeakSearch:
    """Outcome of :func:`find_peak`. Counts are sums of weights.

    Attributes
    ----------
    mass_range
        The range of the search and the excluded data.
    masks
        Known resonances that were left out, in GeV.
    peak_mass, peak_sigma
        Of the Gaussian with the largest significance, in GeV.
    window
        Bins within 1.64 standard deviations of it (90 % of a Gaussian), in GeV.
    signal, signal_error
        Fitted events of the peak over all masses.
    observed, expected
        Events in the window, and the background in it from the fit with the peak.
    p_local, z_local
        Of the peak, from the likelihood ratio with the background function free; no trials factor.
    p_global, z_global, p_interval_68, n_toys, n_reached
        ``(k + 1) / (n + 1)`` for ``k`` of ``n`` toys with a peak at least as significant anywhere. With ``k = 0`` this is a bound.
    p_estimate
        Estimate of the global p-value beyond the reach of the toys: ``1 - (1 - p_local)^N`` with the effective number of
        independent peaks ``N`` from the toys.
    effective_peaks
        ``N``.
    function, gof_p, gof_p_without
        Background function, and goodness of the fit with and without the peak.
    edges, counts, background, with_peak
        The spectrum and both parts of the fit, for drawing.
    effective_events
        Effective number of events in the window.
    warnings
        Caveats to the p-values.
    """

    mass_range: FitRange
    masks: tuple[tuple[float, float], ...]
    peak_mass: float
    peak_sigma: float
    window: tuple[float, float]
    signal: float
    signal_error: float
    observed: float
    expected: float
    p_local: float
    z_local: float
    p_global: float
    z_global: float
    p_interval_68: tuple[float, float]
    n_toys: int
    n_reached: int
    p_estimate: float
    effective_peaks: float
    function: str
    gof_p: float
    gof_p_without: float
    described: bool
    edges: Array
    counts: Array
    background: Array
    with_peak: Array
    effective_events: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain numbers for JSON."""
        out = {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in vars(self).items()
        }
        arrays = {key: out.pop(key) for key in ("edges", "counts", "background", "with_peak")}
        out["mass_range"] = [self.mass_range.low, self.mass_range.high]
        out["left_out"] = self.mass_range.to_dict()
        return out | {"spectrum": arrays}


@dataclass(frozen=True, eq=False)
class _Sample:
    mass: Array
    weight: Array
    group: NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class _Scan:
    """A spectrum with its best peak."""

    family: BackgroundFamily
    edges: Array
    counts: Array
    keep: NDArray[np.bool_]
    scale: float
    null: list[MemberFits]
    peaks: Candidates
    coarse_z: float
    best: Candidates
    fit: PeakFits
    gof_p: float
    gof_p_without: float
    gof_p_masked: float

    @property
    def described(self) -> bool:
        """Whether there is a background that describes the spectrum, with the peak or without."""
        return max(self.gof_p, self.gof_p_without, self.gof_p_masked) >= _GOOD


def find_peak(
    mass: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: NDArray[Any] | None = None,
    mass_range: tuple[float, float] | None = None,
    bins: int | None = None,
    background: str = "auto",
    sqrt_s: float = 13000.0,
    masks: Sequence[tuple[float, float]] = (),
    n_toys: int = 1000,
    rng: np.random.Generator,
) -> PeakSearch:
    """Look for a peak of any mass and width.

    The range is that of the data, and the excluded part is found with the functions of ``auto``. Its lower end is moved above a turn-on where the functions ``turn-on`` describe the spectrum better
    than a smooth one with a peak anywhere or without. Else its lower end, or its upper one, is moved only if no background describes
    the spectrum, with a peak or without: then it is a kink or a known resonance that a smooth function cannot follow.

    Parameters
    ----------
    mass, weights
        Masses in GeV and event weights, shape ``(n,)``.
    groups
        Number of the group of each event, shape ``(n,)``: a group counts as one event of the sum of its weights.
    mass_range
        Range in GeV, taken as it is; default: see above.
    bins
        Number of bins of equal relative width; default: :func:`~serendip.statistics.binning.scan_edges`.
    background
        Functions (:func:`~serendip.statistics.functions.get_family`).
    sqrt_s
        Centre-of-mass energy in GeV.
    masks
        Known resonances ``(low, high)`` in GeV that are left out.
    n_toys
        Toys for the global p-value.
    rng
        Source of randomness.

    Raises
    ------
    InputError
        If there are too few events or bins, or no toy, or the functions are not exponentials (polynomials, sums of Bernstein
        polynomials, turn-ons).
    FitError
        If the spectrum cannot be fitted.
    """
    if n_toys < 1:
        raise InputError(f"at least one toy is needed for a global p-value, not {n_toys}")
    known = tuple((float(low), float(high)) for low, high in masks)
    family = get_family(background, sqrt_s, known)
    if not all(part.log_linear and not part.curved for part in family.parts):
        raise InputError(
            f"the background '{background}' cannot be fitted together with peaks of any mass and width; use auto, exp:DEGREE, exppoly:DEGREE "
            "or dijet, or give the window of the peak"
        )
    m = np.asarray(mass, dtype=float)
    w = np.ones(len(m)) if weights is None else np.asarray(weights, dtype=float)
    if not np.isfinite(w).all() or np.any(w < 0):
        raise InputError("event weights must be finite and not negative")
    sample = _Sample(m, w, groups)
    whole = data_range(m, family.upper) if mass_range is None else mass_range
    # a function that is too stiff for the flanks of a peak would have the peak cut off
    flexible = family if family.limit is not None else get_family("auto", sqrt_s, known)
    scan, left_out = _in_range(sample, whole, flexible, bins, fixed=mass_range is not None)
    if flexible is not family:
        scan = _scan(sample, (left_out.low, left_out.high), family, bins)
    z_toys = []
    expected = np.maximum(scan.fit.background[0], 0.0)
    for first in range(0, n_toys, _TOYS_AT_ONCE):
        toys = rng.poisson(expected, (min(_TOYS_AT_ONCE, n_toys - first), len(expected))).astype(float)
        z_toys.append(best_z(toys, scan.edges, scan.family, scan.peaks, scan.keep))
    z = np.concatenate(z_toys)
    reached = int(np.count_nonzero(z >= scan.coarse_z - 1e-9))
    p, interval = toy_p_value(reached, n_toys)
    z_local = float(scan.fit.z[0])
    log_p = float(special.log_ndtr(-z_local))
    # ln(1 - p) of the best of N independent candidates is exponential with mean 1/N
    effective = n_toys / float(-special.log_ndtr(np.maximum(z, 0.0)).sum())
    sigma, centre = float(scan.best.sigma[0]), float(scan.best.mass[0])
    inside = (scan.edges[1:] > centre - 1.64 * sigma) & (scan.edges[:-1] < centre + 1.64 * sigma)
    where = np.flatnonzero(inside)
    scale = scan.scale
    near = (m >= scan.edges[where[0]]) & (m < scan.edges[where[-1] + 1])
    jumps = group_sums(w[near], None if groups is None else groups[near])
    warnings = []
    if min(_lowest_aic(scan.null).n_parameters, int(scan.fit.n_parameters[0])) >= _WAVY:
        warnings.append(
            f"the background takes {int(scan.fit.n_parameters[0])} parameters, which a turn-on or a kink in the range would do; look at the "
            "figure (--figure) and choose --range above it before trusting this peak"
        )
    if len(jumps) and np.ptp(group_sums(w, groups)) > 1e-9 * jumps.max():
        warnings.append(
            "events have different weights (weights or groups): the toys draw Poisson counts times their mean size; with --window the "
            "p-value accounts for their spread"
        )
        if jumps.max() > np.sqrt(max(expected[inside].sum() * scale**2, 1e-300)):
            warnings.append(
                f"one event or group of weight {jumps.max():.4g} moves the significance of this peak by more than 1"
            )
    return PeakSearch(
        mass_range=left_out, masks=known, peak_mass=centre, peak_sigma=sigma,
        window=(float(scan.edges[where[0]]), float(scan.edges[where[-1] + 1])),
        signal=float(scan.fit.signal[0]) * scale, signal_error=float(scan.fit.signal_error[0]) * scale,
        observed=float(scan.counts[inside].sum()) * scale, expected=float(expected[inside].sum()) * scale,
        p_local=float(np.exp(log_p)), z_local=z_local,
        p_global=p, z_global=float(z_value(p)), p_interval_68=interval, n_toys=n_toys, n_reached=reached,
        p_estimate=float(-np.expm1(effective * np.log1p(-np.exp(log_p)))), effective_peaks=effective,
        function=_name(scan), gof_p=scan.gof_p, gof_p_without=scan.gof_p_without, described=scan.described,
        edges=scan.edges, counts=scan.counts * scale, background=expected * scale,
        with_peak=(expected + scan.fit.signal[0] * scan.best.share[0]) * scale,
        effective_events=effective_number(w[near], None if groups is None else groups[near]),
        warnings=tuple(warnings),
    )  # fmt: skip


def _name(scan: _Scan) -> str:
    number = scan.null[int(scan.fit.member[0])]
    part = scan.family.on(scan.edges).parts[number.part]
    return part.members[part.n_parameters.index(number.n_parameters)]


def _in_range(
    sample: _Sample,
    whole: tuple[float, float],
    family: BackgroundFamily,
    bins: int | None,
    *,
    fixed: bool,
) -> tuple[_Scan, FitRange]:
    m = sample.mass
    low, high = whole
    scan = _scan(sample, whole, family, bins)
    reason = ""
    risen = None if fixed else _end_of_turn_on(scan)
    if risen is not None and np.count_nonzero((m >= risen) & (m < high)) > _KEPT * len(m):
        low = risen
        scan = _scan(sample, (low, high), family, bins)
        reason = _TURN_ON
    if not (fixed or scan.described):
        length = np.log(high / low)
        lower = [(float(low * np.exp(cut * length)), high) for cut in _CUTS]
        upper = [(low, float(high * np.exp(-cut * length))) for cut in _CUTS]
        for end, ranges in (("below", lower), ("above", upper)):
            tries = [t for t in ranges if np.count_nonzero((m >= t[0]) & (m < t[1])) > _KEPT * len(m)]
            good = next((k for k, t in enumerate(tries) if _scan(sample, t, family, bins).described), None)
            if good is not None:
                low, high = tries[good]
                scan = _scan(sample, (low, high), family, bins)
                if scan.fit.z[0] < _CLEAR and good + 1 < len(tries):
                    # a step further: the rest of a turn-on would look like a peak at the end of the range
                    low, high = tries[good + 1]
                    scan = _scan(sample, (low, high), family, bins)
                reason = (f"{reason}; " if reason else "") + (
                    f"no background describes the spectrum {end} this, with a peak anywhere or without: a turn-on or another "
                    "structure that a smooth function cannot follow"
                )
                break
    gof = max(scan.gof_p, scan.gof_p_without, scan.gof_p_masked)
    used = FitRange(low, high, int((m < low).sum()), int((m >= high).sum()), gof, reason)
    return scan, used


def _end_of_turn_on(scan: _Scan) -> float | None:
    r"""Mass in GeV at which a turn-on is over, or None if the spectrum shows none.

    A Gaussian next to a turn-on, or a smooth function in few events, may describe its rise well. So the functions ``turn-on-6`` and
    ``turn-on-7`` are fitted without a peak. Their AIC has to be smaller than that of the smooth functions with a peak and without,
    or, where smooth functions need many parameters or fail, smaller than without and larger by less than 50 than with one: no trigger
    rises as exactly as a hyperbolic tangent. In a short range they can follow a peak, too, by a fall that no spectrum has: from half of
    the rise on, it must nowhere be steeper than :math:`m^{-20}`.
    :math:`\tfrac12 (1 + \tanh(t_0 + t_1 m))` is over where it is 0.99.
    """
    edges, keep = scan.edges, scan.keep
    best = _lowest_aic(scan.null)
    smooth = float(best.deviance[0]) + 2.0 * best.n_parameters
    with_peak = float(scan.fit.deviance[0]) + 2.0 * (float(scan.fit.n_parameters[0]) + 3.0)
    try:
        rising = fit_spectrum(
            scan.counts, edges, get_family("turn-on", 2.0 * float(edges[-1])), mask=~keep, choice="lrt"
        )
    except FitError:
        return None
    slope, start = rising.params[2], rising.params[1]
    aic = rising.deviance + 2.0 * rising.n_parameters
    struggling = best.n_parameters >= _WAVY or scan.gof_p_without < _GOOD
    close = struggling and aic < smooth and aic < with_peak + _SIMILAR
    if not slope > 0 or not (close or aic < min(smooth, with_peak)):
        return None
    half, over = (float(1000.0 * (np.arctanh(level) - start) / slope) for level in (0.0, 0.98))
    if not edges[0] < over < edges[-1]:
        return None
    grid = np.geomspace(max(half, float(edges[0])), min(1.3 * over, float(edges[-1])), 201)
    fall = -np.gradient(np.log(np.maximum(rising.density(grid), 1e-300)), np.log(grid)).min()
    return over if fall < _STEEPEST else None


def _lowest_aic(members: list[MemberFits]) -> MemberFits:
    return min(members, key=lambda member: float(member.deviance[0]) + 2.0 * member.n_parameters)


def _scan(
    sample: _Sample,
    bounds: tuple[float, float],
    family: BackgroundFamily,
    bins: int | None,
) -> _Scan:
    """The scan over the smooth functions, or over more flexible ones if these describe without a peak what the smooth ones cannot."""
    smooth = _scan_over(sample, bounds, family, bins)
    other = rougher(family)
    if other is None or smooth.gof_p_without >= _GOOD:
        return smooth
    rough = _scan_over(sample, bounds, other, bins)
    return rough if rough.gof_p_without >= DESCRIBED else smooth


def _scan_over(
    sample: _Sample,
    bounds: tuple[float, float],
    family: BackgroundFamily,
    bins: int | None,
) -> _Scan:
    low, high = bounds
    m, w = sample.mass, sample.weight
    used = (m >= low) & (m < high) & (w > 0)
    if not high > low > 0 or np.count_nonzero(used) < _FEWEST_EVENTS:
        raise InputError(
            f"{np.count_nonzero(used)} of {len(m)} events have a mass between {low:g} and {high:g} GeV, at least "
            f"{_FEWEST_EVENTS} are needed; check --range and the mass unit"
        )
    groups = None if sample.group is None else sample.group[used]
    edges = scan_edges(low, high, round(effective_number(w[used], groups)), bins)
    scale = jump_scale(w[used], groups)
    counts = np.histogram(m[used], edges, weights=w[used])[0] / scale
    keep = ~family.hidden(edges)
    if keep.sum() < 12:
        raise InputError(
            f"{int(keep.sum())} bins are left to fit between {low:g} and {high:g} GeV, at least 12 are needed; "
            "use more bins, a wider range or smaller masks"
        )
    n = counts[None]
    null = background_fits(n, edges, family, keep)
    peaks = candidates(edges, keep)
    z = screen_peaks(n, null, peaks, keep)[0]
    # the best of all, and of each width and place: with a function that does not describe the spectrum, the score misleads
    some = [np.argsort(-z)[:_FITTED]]
    for k in np.unique(peaks.width):
        places = np.array_split(np.flatnonzero(peaks.width == k), _PLACES)
        some.append(np.array([own[np.argmax(z[own])] for own in places if len(own)]))
    which = np.unique(np.concatenate(some))
    fits = fit_peaks(n, null, peaks, np.zeros(len(which), dtype=int), which, keep)
    top = int(fits.z.argmax())
    best, fit = _finer(n, null, peaks, which[top], edges, keep)
    lowest = _lowest_aic(null)
    without = lowest.design.counts(lowest.theta)[keep, 0]
    gof = deviance_p_value(
        float(fit.deviance[0]),
        (fit.background[0] + fit.signal[0] * best.share[0])[keep],
        int(fit.n_parameters[0]) + 3,
    )
    gof_without = deviance_p_value(float(lowest.deviance[0]), without, lowest.n_parameters)
    masked = 0.0
    unexplained = float(fit.deviance[0]) - keep.sum() + float(fit.n_parameters[0]) + 3.0
    if max(gof, gof_without) < _GOOD and fit.z[0] > _CLEAR and unexplained < _UNEXPLAINED * fit.z[0] ** 2:
        masked = _masked(n, edges, family, keep, float(best.mass[0]), float(best.sigma[0]))
    return _Scan(
        family,
        edges,
        counts,
        keep,
        scale,
        null,
        peaks,
        float(fits.z[top]),
        best,
        fit,
        gof,
        gof_without,
        masked,
    )


def _finer(
    n: Array,
    null: list[MemberFits],
    peaks: Candidates,
    best: int,
    edges: Array,
    keep: NDArray[np.bool_],
) -> tuple[Candidates, PeakFits]:
    """The best candidate, with masses and widths between the steps."""
    mass, sigma = float(peaks.mass[best]), float(peaks.sigma[best])
    m, s = (grid.ravel() for grid in np.meshgrid(mass + sigma * _FINER, sigma * _STRETCHES))
    share = np.diff(special.ndtr((edges - m[:, None]) / s[:, None]), axis=1)
    near = Candidates(m, s, share, np.zeros(len(m), dtype=int))
    fits = fit_peaks(n, null, near, np.zeros(len(m), dtype=int), np.arange(len(m)), keep)
    k = int(fits.z.argmax())
    one = Candidates(*(value[k : k + 1] for value in vars(near).values()))
    return one, PeakFits(**{name: value[k : k + 1] for name, value in vars(fits).items()})


def _masked(
    n: Array, edges: Array, family: BackgroundFamily, keep: NDArray[np.bool_], mass: float, sigma: float
) -> float:
    """Best goodness of fit with the peak masked, in masks of several widths: a real peak need not be a Gaussian."""
    best = 0.0
    for half in _MASKS:
        hidden = (edges[1:] > mass - half * sigma) & (edges[:-1] < mass + half * sigma)
        used = keep & ~hidden
        sides = [int((used & (edges[1:] <= mass)).sum()), int((used & (edges[:-1] >= mass)).sum())]
        if 2.0 * half * sigma > _WIDEST_MASK * mass or min(sides) < 4 or sum(sides) < 12:
            break
        fit = fit_many(n, edges, family, mask=~used, choice="average", n_nodes=2)
        best = max(
            best, deviance_p_value(float(fit.deviance[0]), fit.expected[0, used], int(fit.n_parameters[0]))
        )
    return best
