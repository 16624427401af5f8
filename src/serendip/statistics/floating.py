"""Mass and width of a peak that float: where the fit starts, and their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from serendip.statistics.fit import FitError
from serendip.statistics.inference import near_best, simplest
from serendip.statistics.model import BinnedModel, ModelFits

__all__ = ["float_interval", "settled", "smooth"]

Array = NDArray[np.float64]

# Starting points of a fit, in widths of the requested peak.
_PLACES = (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0)
_STRETCHES = (1.0, 0.5, 2.0)
_REACH = 12.0
_STIFFNESS = 3.0


def settled(model: BinnedModel, counts: ArrayLike) -> BinnedModel:
    """The model with its floating peak where one data set has it, so that further fits start there.

    The fit starts from the best of several positions and widths around the requested ones.

    Parameters
    ----------
    model
        Signal and background; without a floating peak it stays as it is.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.

    Raises
    ------
    FitError
        If the peak runs out of the fitted bins, or becomes narrower than they resolve or wider than their range.
    """
    if model.peak is None:
        return model
    shape, edges = model.peak.shape, model.peak.edges
    small = _monotonic(model)
    best, lowest = model, np.inf
    for place in _PLACES if "mass" in model.floats else (0.0,):
        for stretch in _STRETCHES if "width" in model.floats else (1.0,):
            mass, width = shape.mass + place * shape.width, shape.width * stretch
            if not _fitted(model, mass):
                continue
            try:
                fit = small.moved(mass, width, floats=()).fit(counts, bounded=True)
            except FitError:
                # far from the peak, signal and background may describe the data so badly that the fit does not settle
                continue
            if fit.mu[0] > 0 and fit.deviance[0] < lowest:
                best, lowest = model.moved(mass, width), float(fit.deviance[0])
    nothing = (
        f"no clear peak within three widths of {shape.mass:g} GeV, whose {' and '.join(model.floats)} could float; fit a fixed one "
        "(without --float)"
    )
    if not np.isfinite(lowest):
        raise FitError(nothing)
    try:
        # with these functions first: they cannot be the peak
        best = _moved(model, replace(best, members=small.members).fit(counts))
        best = best.restricted(smooth(best))
        found = simplest(best, counts).fit(counts)
    except FitError as error:
        raise FitError(f"{nothing} ({error})") from None
    out = _moved(best, found)
    assert out.peak is not None
    mass, width = out.peak.shape.mass, out.peak.shape.width
    bin_width = float(np.diff(edges)[np.clip(np.searchsorted(edges, mass) - 1, 0, len(edges) - 2)])
    if not _fitted(model, mass) or not 0.3 * bin_width < width < 0.5 * (edges[-1] - edges[0]):
        raise FitError(
            f"the floating peak ran away, to {mass:.4g} GeV with a width of {width:.3g} GeV (bins of {bin_width:.2g} GeV from "
            f"{edges[0]:g} to {edges[-1]:g} GeV{'' if model.keep.all() else ', without those of the masks'}): there is no clear peak, "
            "or the bins are too wide; fit a fixed mass or width, choose another --range, or more --bins"
        )
    return out


def _fitted(model: BinnedModel, mass: float) -> bool:
    """Whether a mass lies in a bin that is fitted."""
    assert model.peak is not None
    i = int(np.searchsorted(model.peak.edges, mass, side="right")) - 1
    return 0 <= i < len(model.keep) and bool(model.keep[i])


def _moved(model: BinnedModel, fits: ModelFits) -> BinnedModel:
    """The model with its peak where the first data set has it."""
    return model.moved(**dict(zip(model.floats, fits.floats[0].tolist(), strict=True)))


def smooth(model: BinnedModel) -> list[int]:
    """Backgrounds that cannot bend within the peak: at most one degree for three widths of the range, or the smallest."""
    assert model.peak is not None
    peak = model.peak
    most = 1 + (peak.edges[-1] - peak.edges[0]) / (_STIFFNESS * peak.shape.width)
    smallest = {d: min(p for e, p, _ in model.members if e == d) for d, _, _ in model.members}
    return [k for k, (d, p, _) in enumerate(model.members) if p <= max(most, smallest[d])]


def _monotonic(model: BinnedModel) -> BinnedModel:
    """The model with functions of two parameters: larger ones can absorb the peak, and the signal is then the rest."""
    members = []
    for d, design in enumerate(model.designs):
        smallest = next(member for member in model.members if member[0] == d)
        members.append(smallest if design.curved else (d, min(2, smallest[1]), smallest[2]))
    return replace(model, members=tuple(members))


def float_interval(model: BinnedModel, counts: ArrayLike, name: str, level: float) -> tuple[float, float]:
    """Likelihood interval of mass or width in GeV, everything else refitted at each value.

    Parameters
    ----------
    model
        A model that is :func:`settled`.
    counts
        One data set, shape ``(n_bins,)``.
    name
        ``"mass"`` or ``"width"``, one of those that float.
    level
        Requested coverage.

    Raises
    ------
    FitError
        If an end is not found.
    """
    threshold = float(stats.chi2.ppf(level, 1))
    near, best = near_best(model, counts, threshold)
    index = near.floats.index(name)
    centre, error = float(best.floats[0, index]), float(best.float_errors[0, index])
    others = tuple(other for other in near.floats if other != name)

    def excess(value: float) -> float:
        fixed = near.moved(**{name: value}, floats=others).fit(counts)
        return float(fixed.deviance[0] - best.deviance[0]) - threshold

    ends = []
    for sign in (-1.0, 1.0):
        inner, outer = centre, centre + sign * error * np.sqrt(threshold)
        while True:
            if outer <= 0 or abs(outer - centre) > _REACH * error * np.sqrt(threshold):
                raise FitError(
                    f"the data do not constrain the {name} of the peak: fix it (--float without {name})"
                )
            if excess(outer) >= 0:
                break
            inner, outer = outer, centre + 1.4 * (outer - centre)
        ends.append(float(optimize.brentq(excess, inner, outer, xtol=1e-3 * error)))
    return ends[0], ends[1]
