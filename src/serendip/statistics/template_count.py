r"""The count of a look from its background template, without a fit of the selected spectrum.

For very tight cuts no sideband events are left to fit. The template predicts the count itself (arXiv:2411.00085): with the
fitted yield :math:`N` of the window before any cut, ``k`` folds of which F are tested, and a cut that a fraction
:math:`\varepsilon` of the template of each fold passes,

.. math:: b = \frac{N}{k} \varepsilon \sum_f \bar R_f, \qquad
    \frac{\sigma_b^2}{b^2} = \frac{\sigma_N^2}{N^2} + \sum_{ff'} \frac{C_{ff'}}{(\sum_f \bar R_f)^2} + \delta^2.

:math:`R_f` are ratios of true to predicted fractions in trainings on bootstrap samples, for which the real template is the truth:
their mean corrects for the bias of a classifier towards regions where its template is too low, their covariance ``C`` is that of the statistics of the training data (the number of events drawn from the template is arbitrary, and irrelevant). Errors of the model itself are not in them. The closure :math:`\kappa` is the count of held-out sideband events that pass the cut over the prediction of the template at their masses, corrected in the same way, and the non-closure
beyond its own error is the systematic

.. math:: \delta^2 = \max\bigl((\kappa - 1)^2 - \sigma_\kappa^2,\, 0\bigr).

An *efficiency* below is that of the template: the fraction of it at or above a score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.binning import window_bins
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.look_result import (
    TEMPLATE_COUNT,
    LookResult,
    TemplateErrors,
    finish_look,
    look_jumps,
)
from serendip.statistics.looks import SUMMED_WARNING, event_weights, fold_sums, tested_folds
from serendip.statistics.ranks import above_and_equal

__all__ = [
    "COUNT_WARNING",
    "GRID",
    "TemplateCurves",
    "count_look",
    "selected_fraction",
    "template_errors",
]

Array = NDArray[np.float64]

GRID: Array = 10.0 ** (-np.arange(61) / 10.0)
"""Efficiencies at which :class:`TemplateCurves` are known, 1 to 1e-6."""

COUNT_WARNING = (
    "a template count is too small where the classifier exploits errors of the template itself, which bootstrap samples do not "
    "show; quote it only with a null test of the full chain at this cut"
)

MIN_REPLICAS = 5
# fewest held-out events that a test of closure is made with
_CLOSURE_EVENTS = 25.0


@dataclass(frozen=True, eq=False)
class TemplateCurves:
    """Predictions of the templates of the tested folds, for cuts at template efficiencies :data:`GRID` (G values).

    Attributes
    ----------
    folds
        Tested folds, shape ``(F,)``.
    window
        Fraction of the real template that passes the cuts of B trainings on bootstrap samples, each at the efficiencies of its
        own template, shape ``(B, F, G)``.
    sideband
        Fraction of the real template that passes its cuts at the masses of the held-out sideband events, shape ``(F, G)``.
    replicas
        The same for the cuts of the other trainings, of their own template and of the real one, shape ``(B, 2, F, G)``.
    held_out, held_out_squared
        Sums of weights, and squared weights, of the held-out sideband events that pass, shape ``(F, G)``.
    held_out_total
        Sums of weights of all of them, shape ``(F,)``.
    draws
        Events drawn from the real template for the real cuts, and for each of the other trainings, in each fold.
    """

    folds: NDArray[np.int64]
    window: Array
    sideband: Array
    replicas: Array
    held_out: Array
    held_out_squared: Array
    held_out_total: Array
    draws: tuple[int, int]

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """All fields as arrays, to be stored."""
        return {**vars(self), "draws": np.array(self.draws)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float64]]) -> TemplateCurves:
        """The arrays of :meth:`arrays`."""
        real, other = (int(n) for n in arrays["draws"])
        return cls(**{**arrays, "folds": arrays["folds"].astype(np.int64), "draws": (real, other)})  # type: ignore[arg-type]


def selected_fraction(score: Array, template: Array, weights: Array | None = None) -> Array:
    """Fraction of events with :func:`~serendip.statistics.ranks.randomised_efficiency` at most :data:`GRID`, averaged over the random ranks.

    Parameters
    ----------
    score, weights
        Of the events, shape ``(n,)``.
    template
        Scores of the template, shape ``(k,)``.

    Returns
    -------
    Shape ``(G,)``.
    """
    w = np.ones(len(score)) if weights is None else weights
    above, equal = above_and_equal(score, np.sort(template))
    # events that differ in nothing are one
    places, place = np.unique(np.stack([above, equal]), axis=1, return_inverse=True)
    total = np.bincount(place.ravel(), w, minlength=places.shape[1])
    low, height = places[0].astype(float), places[1] + 1.0
    passed = [np.clip((g * (len(template) + 1) - low) / height, 0.0, 1.0) @ total for g in GRID]
    return np.asarray(np.array(passed) / w.sum())


def _at(curves: Array, efficiency: float) -> Array:
    """Curves at an efficiency, relative to it: interpolated in its logarithm over the last axis."""
    position = -10.0 * np.log10(efficiency)
    i = int(np.clip(np.floor(position + 1e-9), 0, len(GRID) - 2))
    t = np.clip(position - i, 0.0, 1.0)
    relative = curves / GRID
    return np.asarray((1.0 - t) * relative[..., i] + t * relative[..., i + 1])


def template_errors(
    curves: TemplateCurves, working_point: float, shape_error: float
) -> tuple[Array, Array, TemplateErrors]:
    """Corrections of the fold expectations, their relative covariance, and where it comes from.

    Parameters
    ----------
    curves
        Of all tested folds.
    working_point
        Template efficiency of the cut.
    shape_error
        Relative error of the yield in the window before the cut.

    Returns
    -------
    correction
        Shape ``(F,)``.
    covariance
        Relative to the corrected expectations, shape ``(F, F)``.
    errors
        Its parts, for the sum of the folds.

    Raises
    ------
    InputError
        If too few held-out sideband events test the closure.
    """
    n_replicas, n_folds = curves.window.shape[:2]
    if n_replicas < MIN_REPLICAS:
        msg = f"{n_replicas} bootstrap samples are too few for an error; at least {MIN_REPLICAS}"
        raise ValueError(msg)
    # a variance from few replicas, as that of Student's t, for one more and for their mean
    inflation = (n_replicas - 1.0) / (n_replicas - 3.0) * (1.0 + 1.0 / n_replicas)
    drawn = [(1.0 - working_point) / (working_point * n) for n in curves.draws]
    ratios = _at(curves.window, working_point)
    correction = np.maximum(ratios.mean(axis=0), 1e-3)
    training = np.atleast_2d(np.cov(ratios / correction, rowvar=False))
    # both templates of a replica were drawn
    noise = np.minimum(np.diag(training), 2.0 * drawn[1])
    training = (training - np.diag(noise)) * inflation

    expected = curves.held_out_total[:, None] * curves.sideband
    scale = curves.held_out_squared[:, 0].sum() / curves.held_out_total.sum()
    enough = np.flatnonzero(expected.sum(axis=0) / scale >= _CLOSURE_EVENTS)
    if not len(enough):
        raise InputError(
            f"template counting tests the closure of the template outside the window with at least {_CLOSURE_EVENTS:g} held-out "
            f"events, and there are {expected[:, 0].sum() / scale:.0f}; give more data or fewer folds"
        )
    tested_at = max(working_point, float(GRID[enough[-1]]))
    passed = _at(curves.replicas, tested_at) @ curves.held_out_total
    gains = passed[:, 1] / np.maximum(passed[:, 0], 1e-300)
    predicted = float(_at(curves.sideband, tested_at) @ curves.held_out_total) * tested_at * gains.mean()
    ratio = float(_at(curves.held_out, tested_at).sum()) * tested_at / predicted
    variance = scale / predicted + inflation * float(np.var(gains / gains.mean(), ddof=1))
    beyond = max((ratio - 1.0) ** 2 - variance, 0.0)

    covariance = training + np.diag(np.full(n_folds, drawn[0])) + shape_error**2 + beyond
    share = correction / correction.sum()
    return (
        correction,
        covariance,
        TemplateErrors(
            correction=float(correction.mean()),
            training=float(np.sqrt(max(share @ training @ share, 0.0))),
            drawing=float(np.sqrt(drawn[0] * (share @ share))),
            shape=shape_error,
            closure=float(np.sqrt(beyond)),
            closure_ratio=ratio,
            closure_ratio_error=float(np.sqrt(variance)),
            closure_efficiency=tested_at,
            replicas=n_replicas,
        ),
    )


def count_look(
    mass: ArrayLike,
    fold: ArrayLike,
    efficiency: ArrayLike,
    window: Window,
    inclusive: SpectrumFit,
    curves: TemplateCurves,
    *,
    working_point: float,
    combination: str = "sequential",
    n_folds: int,
    weights: ArrayLike | None = None,
    groups: NDArray[Any] | None = None,
    blinded: bool = False,
    method: str = "",
) -> LookResult:
    """Expected and observed count in a window at a working point of the template, and the p-value.

    Parameters
    ----------
    mass, fold
        Mass in GeV and fold of every event, shape ``(n_events,)``.
    efficiency
        :func:`~serendip.statistics.ranks.randomised_efficiency` of its score in the template of its fold, shape ``(n_events,)``; NaN if not tested.
    window
        The signal region.
    inclusive
        Fit of all events with the window masked (:func:`serendip.statistics.looks.fit_inclusive`).
    curves
        The predictions of the templates.
    working_point
        Events with an efficiency up to it are counted.
    combination, n_folds, weights, groups, blinded, method
        As for :func:`serendip.statistics.looks.analyse_look`.

    Raises
    ------
    InputError
        If too few held-out sideband events test the closure.
    """
    m, which, rank = np.asarray(mass, dtype=float), np.asarray(fold), np.asarray(efficiency, dtype=float)
    w = event_weights(weights, len(m))
    folds = tested_folds(combination, n_folds)
    if folds != curves.folds.tolist():
        msg = f"the template is known for folds {curves.folds.tolist()}, tested are {folds}"
        raise ValueError(msg)
    edges = inclusive.edges
    low, high = window_bins(edges, window)
    use = (rank <= working_point) & np.isin(which, folds) & (m >= edges[0]) & (m < edges[-1])
    inside = use & window.contains(m)
    side = use & ~inside
    jumps = look_jumps(w, None if groups is None else np.asarray(groups), side, inside, blinded=blinded)
    scale = jumps.scale

    total_yield, yield_error = inclusive.window(low, high)
    correction, covariance, errors = template_errors(curves, working_point, yield_error / total_yield)
    b_fold = total_yield / n_folds * working_point / scale * correction
    s_fold = b_fold * np.sqrt(np.diag(covariance))
    b = float(b_fold.sum())
    sigma = float(np.sqrt(max(float(b_fold @ covariance @ b_fold), 0.0)))
    apart = covariance[~np.eye(len(folds), dtype=bool)]
    shared = float(np.sqrt(max(apart.mean(), 0.0))) if len(apart) else 0.0

    counted = side if blinded else use
    share = b * scale / total_yield
    spectrum = replace(
        inclusive,
        counts=np.histogram(m[counted], edges, weights=w[counted])[0],
        scale=scale,
        expected=inclusive.expected * share,
        expected_error=inclusive.expected_error * share,
        jacobian=inclusive.jacobian * share,
    )
    return finish_look(
        jumps,
        folds,
        None if blinded else fold_sums(which[inside], w[inside], folds) / scale,
        (b_fold, s_fold, np.asarray(shared), np.asarray(b), np.asarray(sigma)),
        [COUNT_WARNING, SUMMED_WARNING] if combination == "kfold-summed" else [COUNT_WARNING],
        method=method,
        working_point=working_point,
        window=window,
        combination=combination,
        shape_error=yield_error / total_yield,
        spectrum=spectrum,
        statistic=TEMPLATE_COUNT,
        template=errors,
    )
