"""Binned spectra with their fits as ``diagnostics.json`` has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Events, Window
from serendip.search.diagnostic_records import LeftOut, Spectrum
from serendip.search.measure import Look, WindowFit
from serendip.statistics.compound import bin_noise, bin_sums
from serendip.statistics.fit import SpectrumFit

__all__ = ["shown", "spectrum_record", "squares_in_bins"]


def shown(
    counts: NDArray[np.float64], edges: NDArray[np.float64], hidden: Sequence[Window]
) -> list[float | None]:
    """Counts, but None in every bin that touches one of the ``hidden`` windows."""
    inside = np.zeros(len(counts), dtype=bool)
    for window in hidden:
        inside |= (edges[:-1] < window.high) & (edges[1:] > window.low)
    return [None if unknown else float(n) for n, unknown in zip(counts, inside, strict=True)]


def spectrum_record(
    look: tuple[int, Look] | None,
    window_fit: WindowFit,
    counts: NDArray[np.float64],
    fit: SpectrumFit,
    hidden: Sequence[Window],
    *,
    squares: NDArray[np.float64] | None = None,
    left_out: LeftOut | None = None,
) -> Spectrum:
    """The spectrum of a look, or of all events, with its fit; nothing that was counted in a ``hidden`` window.

    ``squares`` are sums of squared weights in each bin, where they are not the counts.
    """
    return Spectrum(
        look=look and look[0],
        method=look and look[1].method,
        window=(window_fit.window.low, window_fit.window.high),
        working_point=look and look[1].working_point,
        edges=window_fit.edges,
        observed=shown(counts, window_fit.edges, hidden),
        expected=fit.expected,
        expected_error=fit.expected_error,
        scale=fit.scale,
        masks=window_fit.inclusive.family.gaps,
        fit=fit,
        variance=None if squares is None else shown(squares, window_fit.edges, hidden),
        left_out=left_out,
    )


def squares_in_bins(
    events: Events, window_fit: WindowFit, counted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum of the squared weights, of events or groups, in each bin, shape ``(n_bins,)``.

    Parameters
    ----------
    counted
        With which weight each event counts, shape ``(n,)``.
    """
    use = window_fit.in_range(events.m) & (counted > 0)
    mass, weights = events.m[use], counted[use]
    noise = bin_noise(mass, window_fit.edges, weights, None if events.groups is None else events.groups[use])
    return bin_sums(mass, window_fit.edges, weights**2) if noise is None else np.asarray(np.diag(noise))
