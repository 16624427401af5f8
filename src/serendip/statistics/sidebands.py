r"""A second signal outside the window: a search for localised excesses in the bins that a background fit describes.

A fit follows an excess in its sidebands part of the way, and predicts too much or too little in the window. All runs of
neighbouring bins up to a length are looked at with the fit as it is; the most significant are tested again with a fit that excludes them. An excess is reported if

.. math:: N p < 0.01,

with the number ``N`` of runs in all tested spectra (Bonferroni; neighbouring runs share bins, so that this leans to
the safe side).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.statistics.fit import FitError, SpectrumFit, fit_spectrum
from serendip.statistics.pvalues import count_log_p_value, z_value

__all__ = ["SidebandExcess", "sideband_excess"]

_LEVEL = 0.01
# the fit as it is has followed a part of an excess
_WORTH_A_FIT = 0.2
_FITS = 3
_FEWEST_BINS = 5


@dataclass(frozen=True)
class SidebandExcess:
    """An excess outside the window.

    Attributes
    ----------
    low, high
        Where, in GeV.
    observed, expected, expected_error
        Sums of weights there; they are excluded from the fit.
    p_local, z_local
        Of this excess alone.
    p
        With the number of runs, ``min(1, N p_local)``.
    window_expected, window_without
        Expectation in the window as it is, and with these bins left out of the fit.
    """

    low: float
    high: float
    observed: float
    expected: float
    expected_error: float
    p_local: float
    z_local: float
    p: float
    window_expected: float
    window_without: float


def sideband_excess(
    fit: SpectrumFit,
    inside: NDArray[np.bool_],
    *,
    hidden: NDArray[np.bool_] | None = None,
    n_spectra: int = 1,
) -> SidebandExcess | None:
    """The most significant localised excess in the fitted bins of a spectrum, if there is one.

    Parameters
    ----------
    fit
        The fit of the sidebands.
    inside
        The bins of the window, shape ``(n_bins,)``; they limit the length of the runs to 1.5 times the window.
    hidden
        Bins that must not be looked at, because they lie in another blinded window, shape ``(n_bins,)``.
    n_spectra
        Total number of tested spectra.
    """
    open_ = fit.kept if hidden is None else fit.kept & ~hidden
    counts, expected = fit.counts / fit.scale, fit.expected / fit.scale
    longest = max(3, round(1.5 * np.count_nonzero(inside)))
    runs = _runs(open_, longest)
    places = len(runs) * n_spectra
    sums = [np.concatenate([[0.0], np.cumsum(np.where(open_, values, 0.0))]) for values in (counts, expected)]
    first, last = runs.T
    observed, b = (total[last] - total[first] for total in sums)
    log_p = count_log_p_value(observed, np.maximum(b, 1e-9))
    best: SidebandExcess | None = None
    tried: list[tuple[int, int]] = []
    for i in np.argsort(log_p, kind="stable"):
        if np.exp(log_p[i]) * places > _WORTH_A_FIT or len(tried) == _FITS:
            break
        if any(first[i] < high and low < last[i] for low, high in tried):
            continue
        tried.append((int(first[i]), int(last[i])))
        found = _judged(fit, inside, *tried[-1], places)
        if found is not None and found.p < _LEVEL and (best is None or found.p_local < best.p_local):
            best = found
    return best


def _runs(usable: NDArray[np.bool_], longest: int) -> NDArray[np.int64]:
    """Begin and end of all runs of neighbouring usable bins up to a length, shape ``(n, 2)``."""
    n = len(usable)
    runs = [
        (first, first + length)
        for length in range(1, longest + 1)
        for first in range(n - length + 1)
        if usable[first : first + length].all()
    ]
    return np.array(runs, dtype=np.int64).reshape(-1, 2)


def _judged(
    fit: SpectrumFit, inside: NDArray[np.bool_], first: int, last: int, places: int
) -> SidebandExcess | None:
    """The excess in some bins over a fit without them; None where too little is left to fit."""
    mask = fit.mask.copy()
    mask[first:last] = True
    if np.count_nonzero(fit.kept & ~mask) < _FEWEST_BINS:
        return None
    try:
        without = fit_spectrum(
            fit.counts,
            fit.edges,
            fit.family,
            mask=mask,
            offset=fit.offset,
            scale=fit.scale,
            alpha=fit.alpha,
            choice=fit.choice,
        )
    except (FitError, InputError):
        return None
    expected, error = without.window(first, last)
    observed = float(fit.counts[first:last].sum())
    log_p = float(count_log_p_value(observed / fit.scale, expected / fit.scale, error / fit.scale))
    return SidebandExcess(
        low=float(fit.edges[first]),
        high=float(fit.edges[last]),
        observed=observed,
        expected=expected,
        expected_error=error,
        p_local=float(np.exp(log_p)),
        z_local=float(z_value(log_p=log_p)),
        p=float(min(1.0, places * np.exp(log_p))),
        window_expected=float(fit.expected[inside].sum()),
        window_without=float(without.expected[inside].sum()),
    )
