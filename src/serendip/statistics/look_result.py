"""Result of a look: counts, expectation with its error, p-value, per fold and in total."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Window
from serendip.statistics.calibration import CalibratedP
from serendip.statistics.combination import combined_log_p, folds_fitted
from serendip.statistics.compound import CompoundTail, effective_number, group_sums, jump_scale
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.pvalues import significance, z_value

__all__ = [
    "BUMP_FIT",
    "TEMPLATE_COUNT",
    "EffectiveEvents",
    "FoldCount",
    "LookJumps",
    "LookResult",
    "TemplateErrors",
    "finish_look",
    "look_jumps",
]

Array = NDArray[np.float64]

BUMP_FIT, TEMPLATE_COUNT = "bump-fit", "template-count"
"""Prediction of the count of a look: a fit of the selected spectrum, or the background template."""

# One event that moves the significance by more is pointed out; so is an expectation from so few effective events.
_ONE_EVENT, _FEW_EFFECTIVE = 1.0, 5.0


@dataclass(frozen=True)
class FoldCount:
    """Count of one fold in the window; ``observed`` and ``p`` are None while blinded."""

    fold: int
    observed: float | None
    expected: float
    expected_error: float
    p: float | None


@dataclass(frozen=True)
class TemplateErrors:
    """Relative errors of a count that a template predicts (:mod:`serendip.statistics.template_count`).

    Attributes
    ----------
    correction
        Factor by which the prediction was multiplied, from the trainings on bootstrap samples.
    training
        From the statistics of the training data of the template (bootstrap).
    drawing
        From the number of events drawn from it.
    shape
        From the fit of the spectrum before the cut.
    closure
        Non-closure beyond its error.
    closure_ratio, closure_ratio_error
        Held-out sideband events that pass over their prediction.
    closure_efficiency
        The cut at which it was tested: that of the look, or the tightest that enough events pass.
    replicas
        Trainings on bootstrap samples.
    """

    correction: float
    training: float
    drawing: float
    shape: float
    closure: float
    closure_ratio: float
    closure_ratio_error: float
    closure_efficiency: float
    replicas: int


@dataclass(frozen=True)
class EffectiveEvents:
    """Selected events of equal weight with the same relative error; ``window`` is None while blinded."""

    window: float | None
    sideband: float


@dataclass(frozen=True, eq=False)
class LookResult:
    r"""Outcome of one look. Counts are sums of weights.

    Attributes
    ----------
    method, working_point
        The selection; they group looks for the trials factor.
    window, combination
        Where, and how folds are combined.
    observed, p_local, log_p_local, z_local
        None while blinded. ``log_p_local`` is the natural logarithm; ``z_local`` is also None where p is 1.
    expected, expected_error
        Background in the window over the tested folds.
    shape_error
        The part of the relative error that comes from the inclusive spectrum.
    folds
        Per tested fold.
    spectrum
        The fitted spectrum of selected events; its window counts are zero while blinded.
    warning
        Why this number must not be quoted as it is, or None.
    calibration
        How ``p_local`` follows from the naive significance, if a calibration was used (:func:`calibrate_look`).
    statistic
        ``"bump-fit"`` or ``"template-count"``.
    template
        Where the error of a template count comes from; None for a fit.
    dead
        Why this look cannot find anything, or None. It then has no count and no p-value.
    effective
        Effective numbers of selected events in the tested folds: :math:`(\sum W)^2 / \sum W^2` over events or groups.
    tail
        Law of a count in units of ``spectrum.scale``; None: that of single events.
    orders
        The same look in single orders of the folds, of which this one is the combination; empty if there is one order.
    cross_check
        Whether this look accompanies another one and is not a result of its own.
    """

    method: str
    working_point: float | None
    window: Window
    combination: str
    observed: float | None
    expected: float
    expected_error: float
    shape_error: float
    p_local: float | None
    log_p_local: float | None
    z_local: float | None
    folds: tuple[FoldCount, ...]
    spectrum: SpectrumFit
    warning: str | None = None
    calibration: CalibratedP | None = None
    statistic: str = BUMP_FIT
    template: TemplateErrors | None = None
    dead: str | None = None
    effective: EffectiveEvents | None = None
    tail: CompoundTail | None = None
    orders: tuple[LookResult, ...] = ()
    cross_check: bool = False

    @property
    def blinded(self) -> bool:
        """Whether the observed count was withheld."""
        return self.observed is None and self.dead is None

    def without_sight(self, reason: str) -> LookResult:
        """The look without counts and p-values, because its cut keeps nothing."""
        folds = tuple(replace(fold, observed=None, p=None) for fold in self.folds)
        return replace(
            self,
            dead=reason,
            observed=None,
            p_local=None,
            log_p_local=None,
            z_local=None,
            folds=folds,
            orders=(),
        )


@dataclass(frozen=True)
class LookJumps:
    """The count of a look: jumps outside and in its window.

    Attributes
    ----------
    scale
        Units of a Poisson-like count.
    tail
        Law of a count in these units.
    effective
        Effective numbers of events.
    heaviest
        Largest jump in the window in these units; 0 while blinded.
    unit
        Description of a jump.
    """

    scale: float
    tail: CompoundTail
    effective: EffectiveEvents
    heaviest: float
    unit: str

    def warnings(self, observed: float | None, expected: float, error: float) -> list[str]:
        """Caveats to quote with a significance: one event dominates, or the expectation is based on few events."""
        if self.tail.alike:
            return []
        notes = []
        if observed is not None:
            both = np.array([observed, max(observed - self.heaviest, 0.0)])
            z, without = (float(z_value(log_p=v)) for v in self.tail.log_p(both, expected, error)[0])
            if z > 0 and z - max(without, 0.0) > _ONE_EVENT:
                notes.append(
                    f"one {self.unit} of weight {self.heaviest * self.scale:.4g} moves the significance from {without:.1f} to "
                    f"{z:.1f}: check it first"
                )
        if self.effective.sideband < _FEW_EFFECTIVE:
            notes.append(
                f"the selected events outside the window are worth only {self.effective.sideband:.2g} effective events: the "
                "expectation rests on few events"
            )
        return notes


def look_jumps(
    weights: Array,
    groups: NDArray[Any] | None,
    side: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    *,
    blinded: bool,
) -> LookJumps:
    """Jumps of the selected events outside and, unless blinded, in the window."""

    def sums(rows: NDArray[np.bool_]) -> Array:
        return group_sums(weights[rows], None if groups is None else groups[rows])

    beside = sums(side)
    scale = jump_scale(beside) if len(beside) else jump_scale(weights, groups)
    window = np.empty(0) if blinded else sums(inside)
    return LookJumps(
        scale,
        CompoundTail.of(beside, window, scale),
        EffectiveEvents(None if blinded else effective_number(window), effective_number(beside)),
        float(window.max(initial=0.0)) / scale,
        "event" if groups is None else "group of events",
    )


def finish_look(
    jumps: LookJumps,
    folds: list[int],
    observed: Array | None,
    numbers: tuple[Array, Array, Array, Array, Array],
    warnings: list[str],
    **facts: Any,
) -> LookResult:
    """Compute the p-values of a look, with warnings about its weights.

    Parameters
    ----------
    jumps
        The count.
    folds, observed
        Tested folds and their counts in Poisson units; None while blinded.
    numbers
        Expectation and error per fold, common relative error, and summed expectation and error, as for :func:`combined_log_p`.
    warnings
        Further warnings.
    facts
        Further attributes of the result.
    """
    expected, errors, _, total, total_error = numbers
    scale, tail = jumps.scale, jumps.tail
    log_p, p_fold, z = None, None, None
    notes = jumps.warnings(
        None if observed is None else float(observed.sum()), float(total), float(total_error)
    )
    if observed is not None:
        # if the result does not depend on single folds, p-values down to 1e-13 are sufficient
        deep = folds_fitted(facts["combination"]) or len(folds) == 1
        p_fold = np.exp(tail.log_p(observed, expected, errors, deep=deep)[0])
        log_p = float(combined_log_p(facts["combination"], observed, *numbers, tail))
        z = significance(log_p)
    return LookResult(
        observed=None if observed is None else float(observed.sum()) * scale,
        expected=float(total) * scale,
        expected_error=float(total_error) * scale,
        p_local=None if log_p is None else float(np.exp(log_p)),
        log_p_local=log_p,
        z_local=z,
        folds=tuple(
            FoldCount(
                fold=f,
                observed=None if observed is None else float(observed[i]) * scale,
                expected=float(expected[i]) * scale,
                expected_error=float(errors[i]) * scale,
                p=None if p_fold is None else float(p_fold[i]),
            )
            for i, f in enumerate(folds)
        ),
        warning="; ".join([*warnings, *notes]) or None,
        effective=jumps.effective,
        tail=tail,
        **facts,
    )
