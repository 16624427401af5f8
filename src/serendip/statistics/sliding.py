"""A fit in a window around every bin, for spectra that one function does not describe over the whole range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.statistics.fit import FitError, OrderChoice
from serendip.statistics.functions import BackgroundFamily, get_family
from serendip.statistics.many import fit_many

__all__ = ["SlidingFits", "sliding_window_fits", "sliding_windows"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SlidingFits:
    """Expected counts from a fit around each bin, in units of event weight.

    Attributes
    ----------
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    counts
        The input, shape ``(n_bins,)`` or ``(n_toys, n_bins)``.
    expected, expected_error
        Of each bin from its own fit, shape of ``counts``. The error is that of the logarithm, times the expectation: where the two are similar, the expectation is not Gaussian.
    windows
        First bin of each fit and the one after its last, shape ``(n_bins, 2)``.
    interpolated
        Whether both sides of the bin have the required number of events, at least one; elsewhere the expectation is an
        extrapolation. Shape ``(n_bins,)``.
    n_parameters
        Chosen by each fit, shape of ``counts``.
    core_bins
        Bins on each side of the centre that were masked with it, or None.
    """

    edges: Array
    counts: Array
    expected: Array
    expected_error: Array
    windows: NDArray[np.int_]
    interpolated: NDArray[np.bool_]
    n_parameters: NDArray[np.int_]
    core_bins: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON."""
        return {name: value.tolist() for name, value in vars(self).items() if name != "core_bins"} | {
            "core_bins": self.core_bins
        }


def sliding_windows(
    counts: ArrayLike,
    half_width_bins: int,
    *,
    core_bins: int | None = None,
    min_events_per_side: float = 5.0,
) -> NDArray[np.int_]:
    """Bins of the fit around each bin.

    A window has ``2 half_width_bins + 1`` bins. At an end of the range it is shifted, so that the fit keeps its bins but is
    no longer symmetric. A side with too few events is made longer until it has them or the range ends.

    Parameters
    ----------
    counts
        Poisson-like counts, shape ``(n_bins,)``.
    half_width_bins
        Bins on each side of the centre. In units of the mass resolution, 3 to 5 sigma on both sides of the core.
    core_bins
        Bins on each side of the centre that are masked with it; default: none is masked.
    min_events_per_side
        Events that each side (without core) has at least.

    Returns
    -------
    windows
        First bin and the one after the last, shape ``(n_bins, 2)``.

    Raises
    ------
    InputError
        If the window is smaller than its core or larger than the range, or the spectrum too short for it.
    """
    n = np.asarray(counts, dtype=float)
    n_bins, core = len(n), 0 if core_bins is None else core_bins
    if core < 0 or half_width_bins <= core:
        raise InputError(
            f"a sliding window of {half_width_bins} bins on each side needs a core smaller than it, not {core} bins"
        )
    width = 2 * half_width_bins + 1
    if width > n_bins:
        raise InputError(
            f"a sliding window of {width} bins does not fit into a spectrum of {n_bins}; use a smaller half width"
        )
    cumulative = np.concatenate([[0.0], np.cumsum(n)])
    out = np.empty((n_bins, 2), dtype=int)
    for i in range(n_bins):
        low = int(np.clip(i - half_width_bins, 0, n_bins - width))
        high = low + width
        # events outside the core, counted from it outwards
        left_end, right_start = max(i - core, 0), min(i + core + 1, n_bins)
        reach = np.searchsorted(cumulative, cumulative[left_end] - min_events_per_side, side="right") - 1
        low = min(low, max(int(reach), 0))
        reach = np.searchsorted(cumulative, cumulative[right_start] + min_events_per_side, side="left")
        high = max(high, min(int(reach), n_bins))
        out[i] = low, high
    return out


def sliding_window_fits(
    counts: ArrayLike,
    edges: ArrayLike,
    family: BackgroundFamily | str,
    half_width_bins: int,
    *,
    core_bins: int | None = None,
    min_events_per_side: float = 5.0,
    scale: float = 1.0,
    alpha: float = 0.05,
    choice: OrderChoice = "lrt",
    windows: NDArray[np.int_] | None = None,
) -> SlidingFits:
    """Expected count of every bin from a fit of the bins around it (as in the dijet searches of ATLAS, 1703.09127).

    Without a core a bin takes part in its own prediction: the expectation follows an excess, and its error is not that of
    an independent background. Mask a core as wide as the signal to look for one. Neighbouring fits share most of their
    events: their deviations are one look, not many, and a global p-value needs toys that repeat all fits (``counts`` of
    shape ``(n_toys, n_bins)``).

    Parameters
    ----------
    counts
        Counts or sums of weights, shape ``(n_bins,)`` or ``(n_toys, n_bins)``.
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    family
        Functions, or their name; few parameters are enough in a window.
    half_width_bins, core_bins, min_events_per_side
        See :func:`sliding_windows`.
    scale, alpha, choice
        See :func:`~serendip.statistics.fit.fit_spectrum`.
    windows
        Windows to use, e.g. those of the data for toys; default: :func:`sliding_windows` of the (mean) counts.

    Raises
    ------
    FitError
        If a window has no valid fit; names its masses.
    InputError
        If windows, bins or counts do not fit together.
    """
    n, grid = np.asarray(counts, dtype=float), np.asarray(edges, dtype=float)
    spectra = np.atleast_2d(n)
    n_bins = spectra.shape[1]
    if len(grid) != n_bins + 1:
        msg = f"{n_bins} counts for {len(grid) - 1} bins"
        raise ValueError(msg)
    family = get_family(family) if isinstance(family, str) else family
    mean = spectra.mean(axis=0) / scale
    if windows is None:
        windows = sliding_windows(
            mean, half_width_bins, core_bins=core_bins, min_events_per_side=min_events_per_side
        )
    elif len(windows) != n_bins:
        raise InputError(f"{len(windows)} sliding windows for a spectrum of {n_bins} bins")
    expected, error = np.empty(spectra.shape), np.empty(spectra.shape)
    orders, interpolated = np.empty(spectra.shape, dtype=int), np.zeros(n_bins, dtype=bool)
    index, core = np.arange(n_bins), 0 if core_bins is None else core_bins
    needed = max(min_events_per_side, 1.0)
    for i, (low, high) in enumerate(windows):
        distance = np.abs(index[low:high] - i)
        mask = np.zeros(high - low, dtype=bool) if core_bins is None else distance <= core_bins
        try:
            fits = fit_many(
                spectra[:, low:high], grid[low : high + 1], family, mask=mask, window=distance == 0,
                scale=scale, alpha=alpha, choice=choice,
            )  # fmt: skip
        except FitError as problem:
            raise FitError(f"sliding window from {grid[low]:g} to {grid[high]:g} GeV: {problem}") from None
        left, right = mean[low : max(i - core, 0)].sum(), mean[i + core + 1 : high].sum()
        interpolated[i] = left >= needed and right >= needed
        expected[:, i], error[:, i], orders[:, i] = fits.window, fits.window_error, fits.n_parameters
    return SlidingFits(
        edges=grid, counts=n, expected=expected.reshape(n.shape), expected_error=error.reshape(n.shape),
        windows=np.asarray(windows), interpolated=interpolated, n_parameters=orders.reshape(n.shape), core_bins=core_bins,
    )  # fmt: skip
