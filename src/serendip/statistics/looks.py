"""From the scores of one look to its p-value.

A *look* is one method at one working point in one window. The expected count is
*inclusive spectrum x efficiency*: a smooth function fitted to all events outside the window gives the shape,
and ``exp(polynomial in ln m)`` fitted to the selected events outside the window gives the fraction that is
selected. The window's bins are masked in both fits, so an observed count never enters its own expectation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.binning import fit_range, make_edges, window_bins
from serendip.statistics.calibration import NullDistribution
from serendip.statistics.fit import OrderChoice, SpectrumFit, fit_spectrum
from serendip.statistics.functions import BackgroundFamily, efficiency_family, get_family
from serendip.statistics.look_result import FoldCount, LookResult
from serendip.statistics.many import fit_many
from serendip.statistics.pvalues import count_log_p_value, count_p_value, significance, stouffer, z_value

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
    "poisson_scale",
    "shape_error",
    "tested_folds",
    "window_bins",
]

Array = NDArray[np.float64]
Combination = Literal["sequential", "sequential-stouffer", "kfold-bonferroni", "kfold-summed"]
COMBINATIONS: tuple[str, ...] = get_args(Combination)
SINGLE = "single"
"""All events in one count: for a selection that nothing was trained for, so that there are no folds to combine."""

EFFICIENCY = efficiency_family()
EFFICIENCY_ALPHA = 0.05

SUMMED_WARNING = (
    "kfold-summed treats dependent folds as one Poisson count and over-claims (10 to 40 times too many "
    "excesses at 3 sigma in the worst case); quote it only with a full-chain calibration"
)


def event_weights(weights: ArrayLike | None, n: int) -> Array:
    """Weights of ``n`` events, ones by default; InputError if one is negative or not finite."""
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=float)
    if w.shape != (n,):
        msg = f"{w.shape} weights for {n} events"
        raise ValueError(msg)
    if not np.all(np.isfinite(w)) or np.any(w < 0):
        raise InputError("event weights must be finite and not negative")
    return w


def poisson_scale(weights: Array) -> float:
    """``sum(w^2)/sum(w)``: counts divided by it are Poisson-like (1309.1287)."""
    total = float(weights.sum())
    return float((weights**2).sum()) / total if total > 0 else 1.0


def fit_inclusive(
    mass: ArrayLike,
    window: Window,
    edges: ArrayLike,
    family: BackgroundFamily | str = "exppoly",
    *,
    weights: ArrayLike | None = None,
    min_events: int = 20,
    choice: OrderChoice = "average",
) -> SpectrumFit:
    """Fit the spectrum of all events with the window masked, by default averaged over the orders of the functions.

    Raises
    ------
    InputError
        If fewer than ``min_events`` events lie in the sidebands, or none on one side.
    """
    m, grid = np.asarray(mass, dtype=float), np.asarray(edges, dtype=float)
    w = event_weights(weights, len(m))
    low, high = window_bins(grid, window)
    mask = np.zeros(len(grid) - 1, dtype=bool)
    mask[low:high] = True
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
    counts = np.histogram(m[use], grid, weights=w[use])[0]
    family = get_family(family) if isinstance(family, str) else family
    return fit_spectrum(counts, grid, family, mask=mask, scale=poisson_scale(w[side]), choice=choice)


def tested_folds(combination: str, n_folds: int) -> list[int]:
    """Folds that are counted: the sequential scheme never tests fold 0, and without training there is one fold."""
    if combination == SINGLE:
        return [0]
    if combination not in COMBINATIONS:
        raise InputError(f"unknown combination '{combination}'; expected one of: {', '.join(COMBINATIONS)}")
    if n_folds < 2:
        raise InputError(f"cross-training needs at least 2 folds, not {n_folds}")
    return list(range(1 if combination.startswith("sequential") else 0, n_folds))


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


def folds_fitted(combination: str) -> bool:
    """Whether the p-value is made of fold p-values, so that each fold needs an expectation of its own."""
    return combination in ("sequential-stouffer", "kfold-bonferroni")


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
    expected, expected_error
        Shape ``(..., n_folds)``.
    shared
        Relative error that all folds share, shape ``(...)``.
    """
    fits = fit_many(
        side.reshape(-1, side.shape[-1]),
        spectrum.edges,
        EFFICIENCY,
        mask=spectrum.mask,
        offset=spectrum.offset,
        alpha=EFFICIENCY_ALPHA,
    )
    expected, error = (value.reshape(side.shape[:-1]) for value in (fits.window, fits.window_error))
    return expected, np.hypot(error, expected * shape_error), np.full(side.shape[:-2], shape_error)


def combined_log_p(
    combination: str,
    observed: Array,
    expected: Array,
    errors: Array,
    shared: Array,
    total: Array,
    total_error: Array,
) -> Array:
    """``ln p`` of a look from its folds, for many toys at once.

    Parameters
    ----------
    combination
        One of :data:`COMBINATIONS`, or :data:`SINGLE`.
    observed, expected, errors
        Per fold in Poisson units, shape ``(..., n_folds)``.
    shared
        Relative error common to the folds, shape ``(...)``.
    total, total_error
        Summed expectation and its full error, shape ``(...)``.
    """
    if combination in ("sequential", "kfold-summed", SINGLE):
        return count_log_p_value(observed.sum(axis=-1), total, total_error)
    if combination == "kfold-bonferroni":
        n_folds = observed.shape[-1]
        return np.asarray(
            np.minimum(count_log_p_value(observed, expected, errors).min(axis=-1) + np.log(n_folds), 0.0)
        )
    # The mid-p value: a plain tail is 1 where nothing is observed, and one empty fold would end the search.
    log_p = np.logaddexp(
        count_log_p_value(observed, expected, errors), count_log_p_value(observed + 1.0, expected, errors)
    ) - np.log(2.0)
    f = np.arange(1, observed.shape[-1] + 1)
    variance = expected + errors**2
    covariance = (expected[..., :, None] * expected[..., None, :]) * (shared**2)[..., None, None]
    spread = np.sqrt(np.maximum(variance, 1e-300))
    correlation = covariance / (spread[..., :, None] * spread[..., None, :])
    index = np.arange(len(f))
    correlation[..., index, index] = 1.0
    z = stouffer(z_value(log_p=log_p), f**1.5, correlation)
    return np.asarray(log_ndtr(-z))


def shape_error(inclusive: SpectrumFit, spectrum: SpectrumFit) -> float:
    """Relative error of the window's expectation from the inclusive fit, efficiency refitted.

    A change of the inclusive shape is followed by the efficiency fit: with selected expectation ``mu``, basis
    ``a`` and information ``H``, ``d theta = -H^-1 sum_i mu_i a_i d ln o_i`` over the fitted bins.
    """
    log_change = inclusive.jacobian / np.maximum(inclusive.expected, 1e-300)[:, None]
    window, keep = spectrum.mask, ~spectrum.mask
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
        ``sequential`` (default): the summed count of folds 1 ... k-1 against one fit of the summed sidebands;
        exact because each fold's count is Poisson given the earlier folds. ``sequential-stouffer``: fold
        significances, each against a fit of the fold's own sideband, weighted with ``f^{3/2}``.
        ``kfold-bonferroni``: ``k min p`` of such fold p-values. ``kfold-summed``: over-claims, see ``warning``.
        ``single``: all events as one count, whatever their fold; if all are selected, the expectation is the
        inclusive fit itself.
    n_folds
        Number of folds of the cross-training, fold 0 included.
    weights
        Event weights, shape ``(n_events,)``.
    blinded
        Withhold the observed counts and p-values; the counts in the window are then never computed.
    method, working_point
        Copied to the result.
    """
    m, grid = np.asarray(mass, dtype=float), np.asarray(edges, dtype=float)
    which, chosen = np.asarray(fold), np.asarray(selected, dtype=bool)
    w = event_weights(weights, len(m))
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
    scale = poisson_scale(w[side]) if np.any(w[side] > 0) else poisson_scale(w)

    counted = side if blinded else use
    counts = np.histogram(m[counted], grid, weights=w[counted])[0]
    if combination == SINGLE and chosen.all():
        # no cut, no efficiency: a fit of one would add its own error to that of the spectrum
        spectrum = replace(inclusive, counts=counts)
        b, total_error = (value / scale for value in spectrum.window(low, high))
        fit_error, relative = 0.0, total_error / b
    else:
        offset = np.maximum(inclusive.expected, 1e-9 * inclusive.expected.max())
        spectrum = fit_spectrum(
            counts, grid, EFFICIENCY, mask=inclusive.mask, offset=offset, scale=scale, alpha=EFFICIENCY_ALPHA
        )
        b, fit_error = (value / scale for value in spectrum.window(low, high))
        relative = shape_error(inclusive, spectrum)
        total_error = float(np.hypot(fit_error, b * relative))

    if combination == SINGLE:
        b_fold, s_fold, shared = np.array([b]), np.array([total_error]), np.asarray(relative)
    elif folds_fitted(combination):
        side_counts = np.stack(
            [np.histogram(m[side & (which == f)], grid, weights=w[side & (which == f)])[0] for f in folds]
        )
        b_fold, s_fold, shared = fold_fits(side_counts / scale, spectrum, relative)
    else:
        side_sums = fold_sums(which[side], w[side], folds) / scale
        b_fold, s_fold, shared = fold_expectations(side_sums, np.asarray(b), np.asarray(fit_error), relative)
    n_fold = fold_sums(which[inside], w[inside], folds) / scale if not blinded else None
    log_p = None
    p_fold = None
    if n_fold is not None:
        p_fold = count_p_value(n_fold, b_fold, s_fold)
        log_p = float(
            combined_log_p(
                combination, n_fold, b_fold, s_fold, shared, np.asarray(b), np.asarray(total_error)
            )
        )
    return LookResult(
        method=method,
        working_point=working_point,
        window=window,
        combination=combination,
        observed=None if n_fold is None else float(n_fold.sum()) * scale,
        expected=b * scale,
        expected_error=total_error * scale,
        shape_error=relative,
        p_local=None if log_p is None else float(np.exp(log_p)),
        log_p_local=log_p,
        z_local=None if log_p is None else significance(log_p),
        folds=tuple(
            FoldCount(
                fold=f,
                observed=None if n_fold is None else float(n_fold[i]) * scale,
                expected=float(b_fold[i]) * scale,
                expected_error=float(s_fold[i]) * scale,
                p=None if p_fold is None else float(p_fold[i]),
            )
            for i, f in enumerate(folds)
        ),
        spectrum=spectrum,
        warning=SUMMED_WARNING if combination == "kfold-summed" else None,
    )


def calibrate_look(look: LookResult, null: NullDistribution, source: str) -> LookResult:
    """Replace the p-value of a look by the calibrated one; the counts stay as they are.

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


def fold_sums(fold: NDArray[Any], weights: Array, folds: list[int]) -> Array:
    """Sum of weights in each fold."""
    return np.array([weights[fold == f].sum() for f in folds])
