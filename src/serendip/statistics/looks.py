"""From the scores of one look to its p-value.

A *look* is one method at one working point in one window. The expected count is
*inclusive spectrum x efficiency*: a smooth function fitted to all events outside the window gives the shape,
and ``exp(polynomial in ln m)`` fitted to the selected events outside the window gives the fraction that is
selected. The window's bins are masked in both fits, so an observed count never enters its own expectation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.binning import make_edges, window_bins
from serendip.statistics.calibration import NullDistribution
from serendip.statistics.closure import with_closure
from serendip.statistics.combination import (
    COMBINATIONS,
    SINGLE,
    Combination,
    combined_log_p,
    fold_sums,
    folds_fitted,
    tested_folds,
)
from serendip.statistics.compound import bin_noise, bin_sums, effective_number, event_weights, jump_scale
from serendip.statistics.fit import OrderChoice, SpectrumFit, fit_spectrum
from serendip.statistics.functions import BackgroundFamily, efficiency_family, get_family, rougher
from serendip.statistics.kinks import with_kinks
from serendip.statistics.look_result import FoldCount, LookResult, finish_look, look_jumps
from serendip.statistics.many import fit_many
from serendip.statistics.pvalues import z_value
from serendip.statistics.ranges import NOT_DESCRIBED, fit_range
from serendip.statistics.weighting import law_in_window

__all__ = [
    "COMBINATIONS",
    "SINGLE",
    "Combination",
    "FoldCount",
    "LookResult",
    "analyse_look",
    "calibrate_look",
    "combined_log_p",
    "event_weights",
    "fit_inclusive",
    "fit_range",
    "fold_expectations",
    "fold_fits",
    "fold_sums",
    "folds_fitted",
    "make_edges",
    "shape_error",
    "tested_folds",
    "window_bins",
]

Array = NDArray[np.float64]
EFFICIENCY = efficiency_family()
EFFICIENCY_ALPHA = 0.05

SUMMED_WARNING = (
    "kfold-summed treats dependent folds as one Poisson count and overstates the significance (10 to 40 times too many "
    "excesses at 3 sigma in the worst case); quote it only with a full-chain calibration"
)


def fit_inclusive(
    mass: ArrayLike,
    window: Window,
    edges: ArrayLike,
    family: BackgroundFamily | str = "auto",
    *,
    weights: ArrayLike | None = None,
    groups: NDArray[Any] | None = None,
    min_events: int = 20,
    choice: OrderChoice = "average",
) -> SpectrumFit:
    """Fit the spectrum of all events with the window masked, by default averaged over the functions and their orders.

    The error in the window contains the spread of the functions, those with a kink in the window among them where the sidebands require one (:func:`~serendip.statistics.kinks.with_kinks`), and, if neighbouring windows are predicted badly, the missing error (:func:`~serendip.statistics.closure.with_closure`). Sidebands that ``auto`` does not describe (a turn-on) are
    fitted with more of its degrees.

    ``groups`` numbers events that depend on each other, shape ``(n,)``: they count as one jump.

    Raises
    ------
    InputError
        If fewer than ``min_events`` events lie in the sidebands, or none on one side, or their weights are so uneven
        that they count like fewer.
    """
    m, grid = np.asarray(mass, dtype=float), np.asarray(edges, dtype=float)
    w = event_weights(weights, len(m))
    low, high = window_bins(grid, window)
    mask = np.zeros(len(grid) - 1, dtype=bool)
    mask[low:high] = True
    family = get_family(family) if isinstance(family, str) else family
    if family.hidden(grid)[low:high].any():
        raise InputError(f"a mask reaches into the window {window}; move the one or the other")
    use = (m >= grid[0]) & (m < grid[-1]) & (w > 0)
    side = use & ~window.contains(m)
    n_left, n_right = (
        int(np.count_nonzero(side & (m < window.low))),
        int(np.count_nonzero(side & (m >= window.high))),
    )
    if n_left + n_right < min_events or not n_left or not n_right:
        raise InputError(
            f"too few sideband events to predict the window {window}: {n_left} below and {n_right} above "
            f"it between {grid[0]:g} and {grid[-1]:g} GeV, at least {min_events} in total and one on each "
            "side are needed"
        )
    own = None if groups is None else np.asarray(groups)[side]
    effective = effective_number(w[side], own)
    if effective < min_events:
        raise InputError(
            f"too few sideband events to predict the window {window}: the {n_left + n_right} between {grid[0]:g} and "
            f"{grid[-1]:g} GeV {'have such uneven weights' if own is None else 'belong together such'} that they count like "
            f"{effective:.3g} (squared sum over sum of squares), at least {min_events} are needed; leave the few heavy events "
            "out of the range, or use data with more even weights"
        )
    counts = bin_sums(m[use], grid, w[use])
    scale, noise = jump_scale(w[side], own), bin_noise(m[side], grid, w[side], own)
    fit = fit_spectrum(counts, grid, family, mask=mask, scale=scale, choice=choice, noise=noise)
    if fit.gof_p < NOT_DESCRIBED and (other := rougher(family)) is not None:
        rough = fit_spectrum(counts, grid, other, mask=mask, scale=scale, choice=choice, noise=noise)
        fit = rough if rough.gof_p > fit.gof_p else fit
    if fit.averaged:
        fit = with_kinks(fit, low, high)
    return with_closure(fit, low, high)


def fold_expectations(
    side: Array, total: Array, error: Array, shape_error: float
) -> tuple[Array, Array, Array]:
    """Split a summed expectation over folds in proportion to their sideband counts.

    Parameters
    ----------
    side
        Selected sideband counts per fold (Poisson units), shape ``(..., n_folds)``.
    total, error
        Summed expectation and its fit error, shape ``(...)``.
    shape_error
        Relative error of the inclusive shape.

    Returns
    -------
    expected, expected_error
        Shape ``(..., n_folds)``.
    shared
        Relative error that all folds share, shape ``(...)``.
    """
    sum_side = side.sum(axis=-1)
    filled = np.maximum(sum_side, 1.0)
    ratio = np.where(sum_side > 0, total, error) / filled
    relative = np.where(total > 0, error / np.where(total > 0, total, 1.0), 1.0)
    shared = np.sqrt(np.maximum(relative**2 - 1.0 / filled, 0.0) + shape_error**2)
    expected = side * ratio[..., None]
    own = np.sqrt(np.maximum(side, 1.0)) * ratio[..., None]
    return expected, np.sqrt(own**2 + (expected * shared[..., None]) ** 2), shared


def fold_fits(side: Array, spectrum: SpectrumFit, shape_error: float) -> tuple[Array, Array, Array]:
    """Expectation of each fold from a fit of its own sideband counts.

    Every fold has a model of its own, and models trained on more events may follow the mass more. Shares of
    the summed fit would then be too small for some folds and too large for others.

    Parameters
    ----------
    side
        Selected counts per fold and bin (Poisson units), shape ``(..., n_folds, n_bins)``.
    spectrum
        Fit of their sum, which names bins, window and offset.
    shape_error
        Relative error of the inclusive shape, which the folds share.

    Returns
    -------
    expected, expected_error, shared
        As of :func:`fold_expectations`.
    """
    fits = fit_many(
        side.reshape(-1, side.shape[-1]),
        spectrum.edges,
        spectrum.family,
        mask=spectrum.mask,
        offset=spectrum.offset,
        alpha=EFFICIENCY_ALPHA,
    )
    expected, error = (value.reshape(side.shape[:-1]) for value in (fits.window, fits.window_error))
    return expected, np.hypot(error, expected * shape_error), np.full(side.shape[:-2], shape_error)


def shape_error(inclusive: SpectrumFit, spectrum: SpectrumFit) -> float:
    """Relative error of the window's expectation from the inclusive fit, efficiency refitted.

    A change of the inclusive shape is followed by the efficiency fit: with selected expectation ``mu``, basis
    ``a`` and information ``H``, ``d theta = -H^-1 sum_i mu_i a_i d ln o_i`` over the fitted bins.
    """
    log_change = inclusive.jacobian / np.maximum(inclusive.expected, 1e-300)[:, None]
    window, keep = spectrum.mask, spectrum.kept
    mu, jacobian = spectrum.expected / spectrum.scale, spectrum.jacobian / spectrum.scale
    if not mu[window].sum() > 0:
        offset = inclusive.expected
        gradient = (offset[window] @ log_change[window]) / offset[window].sum()
        gradient = gradient - (offset[keep] @ log_change[keep]) / offset[keep].sum()
    else:
        response = -spectrum.coefficient_covariance @ (jacobian[keep].T @ log_change[keep])
        gradient = (mu[window] @ log_change[window] + jacobian[window].sum(axis=0) @ response) / mu[
            window
        ].sum()
    return float(np.sqrt(max(gradient @ inclusive.coefficient_covariance @ gradient, 0.0)))


def analyse_look(
    mass: ArrayLike,
    fold: ArrayLike,
    selected: ArrayLike,
    window: Window,
    edges: ArrayLike,
    inclusive: SpectrumFit,
    *,
    combination: str = "sequential",
    n_folds: int,
    weights: ArrayLike | None = None,
    groups: NDArray[Any] | None = None,
    ranked: Array | None = None,
    blinded: bool = False,
    method: str = "",
    working_point: float | None = None,
) -> LookResult:
    """Expected and observed count of selected events in a window, and the p-value.

    Parameters
    ----------
    mass, fold, selected
        Mass in GeV, fold number and selection of every event, shape ``(n_events,)``.
    window, edges
        The signal region and the binning of :func:`make_edges`.
    inclusive
        Fit of all events with the window masked (:func:`fit_inclusive`).
    combination
        ``weighted`` and ``sequential``: the summed count of folds 1 ... k-1 against one fit of the summed sidebands;
        because each fold's count is (compound) Poisson given the earlier folds. ``sequential-stouffer``: fold
        significances, each against a fit of the fold's own sideband, weighted with ``f^{3/2}``.
        ``kfold-bonferroni``: ``k min p`` of such fold p-values. ``kfold-summed``: overstates the significance, see ``warning``.
        ``single``: all events as one count, whatever their fold; if all are selected, the expectation is the
        inclusive fit itself.
    n_folds
        Number of folds of the cross-training, fold 0 included.
    weights
        Event weights, shape ``(n_events,)``.
    groups
        Number of the group of every event, shape ``(n_events,)``: those that depend on each other and share a fold.
    ranked
        Weights from the ranks of the scores (:func:`~serendip.statistics.weighting.ratio_weights`), shape ``(n_events,)``: events count
        with the product of both weights.
    blinded
        Withhold the observed counts and p-values; the counts in the window are then never computed.
    method, working_point
        Copied to the result.
    """
    m, grid = np.asarray(mass, dtype=float), np.asarray(edges, dtype=float)
    which, chosen = np.asarray(fold), np.asarray(selected, dtype=bool)
    given = event_weights(weights, len(m))
    w = given if ranked is None else given * ranked
    if not which.shape == chosen.shape == m.shape:
        msg = f"mass {m.shape}, fold {which.shape} and selection {chosen.shape} differ in shape"
        raise ValueError(msg)
    if not np.array_equal(grid, inclusive.edges):
        msg = "the inclusive spectrum was fitted on other bin edges"
        raise ValueError(msg)
    folds = tested_folds(combination, n_folds)
    if combination == SINGLE:
        which = np.zeros(len(m), dtype=np.int64)
    low, high = window_bins(grid, window)
    use = chosen & np.isin(which, folds) & (m >= grid[0]) & (m < grid[-1])
    inside = use & window.contains(m)
    side = use & ~inside
    members = None if groups is None else np.asarray(groups)
    jumps = look_jumps(w, members, side, inside, blinded=blinded)
    if ranked is not None:
        expected, log_mass = inclusive.expected[low:high], 0.5 * np.log(grid[1:] * grid[:-1])[low:high]
        seen = np.zeros_like(inside) if blinded else inside
        law = law_in_window(
            m, given, ranked, members, side, seen,
            centre=float(np.average(log_mass, weights=np.maximum(expected, 1e-300))), unit=jumps.scale,
        )  # fmt: skip
        jumps = replace(jumps, tail=law)

    counted = side if blinded else use
    counts = bin_sums(m[counted], grid, w[counted])
    if combination == SINGLE and chosen.all():
        # no cut, no efficiency: a fit of one would add its own error to that of the spectrum
        spectrum = replace(inclusive, counts=counts)
        b, total_error = (value / jumps.scale for value in spectrum.window(low, high))
        fit_error, relative = 0.0, total_error / b
    else:
        offset = np.maximum(inclusive.expected, 1e-9 * inclusive.expected.max())
        spectrum = fit_spectrum(
            counts,
            grid,
            replace(EFFICIENCY, gaps=inclusive.family.gaps),
            mask=inclusive.mask,
            offset=offset,
            scale=jumps.scale,
            alpha=EFFICIENCY_ALPHA,
            noise=bin_noise(m[side], grid, w[side], None if members is None else members[side]),
        )
        b, fit_error = (value / jumps.scale for value in spectrum.window(low, high))
        relative = shape_error(inclusive, spectrum)
        total_error = float(np.hypot(fit_error, b * relative))

    if combination == SINGLE:
        b_fold, s_fold, shared = np.array([b]), np.array([total_error]), np.asarray(relative)
    elif folds_fitted(combination):
        side_counts = np.stack(
            [bin_sums(m[side & (which == f)], grid, w[side & (which == f)]) for f in folds]
        )
        b_fold, s_fold, shared = fold_fits(side_counts / jumps.scale, spectrum, relative)
    else:
        side_sums = fold_sums(which[side], w[side], folds) / jumps.scale
        b_fold, s_fold, shared = fold_expectations(side_sums, np.asarray(b), np.asarray(fit_error), relative)
    n_fold = fold_sums(which[inside], w[inside], folds) / jumps.scale if not blinded else None
    summed = [SUMMED_WARNING] if combination == "kfold-summed" else []
    return finish_look(
        jumps,
        folds,
        n_fold,
        (b_fold, s_fold, shared, np.asarray(b), np.asarray(total_error)),
        summed,
        method=method,
        working_point=working_point,
        window=window,
        combination=combination,
        shape_error=relative,
        spectrum=spectrum,
    )


def calibrate_look(look: LookResult, null: NullDistribution, source: str) -> LookResult:
    """Replace the p-value of a look by the calibrated one; the counts are unchanged.

    Parameters
    ----------
    look
        A look whose p-value is naive.
    null
        Naive significances of the same look in background-only experiments.
    source
        Where they come from, for the warning that cites them.
    """
    text = f"{look.combination}, calibrated with {len(null.z)} background-only experiments of the whole chain ({source})"
    if look.log_p_local is None:
        return replace(look, warning=text)
    found = null.p_value(float(z_value(log_p=look.log_p_local)))
    if found.extrapolated:
        text += (
            f"; none of them reached this excess, and p is extrapolated: without that, only p < {1 / (len(null.z) + 1):.2g} "
            "is known"
        )
    elif found.n_reached == 0:
        text += "; none of them reached this excess: p is an upper bound, which more experiments would lower"
    return replace(
        look,
        p_local=found.p,
        log_p_local=float(np.log(found.p)),
        z_local=found.z if found.p < 1 else None,
        warning=text,
        calibration=found,
    )
