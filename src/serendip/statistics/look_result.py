"""What a look is when it is done: counts, expectation with its error, p-value, per fold and together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from serendip.events.events import Window
from serendip.statistics.calibration import CalibratedP
from serendip.statistics.fit import SpectrumFit

__all__ = ["BUMP_FIT", "TEMPLATE_COUNT", "FoldCount", "LookResult", "TemplateErrors"]

BUMP_FIT, TEMPLATE_COUNT = "bump-fit", "template-count"
"""What predicts the count of a look: a fit of the selected spectrum, or the background template."""


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
        From the statistics of the data that trained the template (bootstrap).
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


@dataclass(frozen=True, eq=False)
class LookResult:
    """Outcome of one look. Counts are sums of weights.

    Attributes
    ----------
    method, working_point
        What made the selection; they group looks for the trials factor.
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
        Why this look cannot see anything, or None. It then has no count and no p-value.
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

    @property
    def blinded(self) -> bool:
        """Whether the observed count was withheld."""
        return self.observed is None and self.dead is None

    def without_sight(self, reason: str) -> LookResult:
        """The look without what it does not know, because its cut keeps nothing."""
        folds = tuple(replace(fold, observed=None, p=None) for fold in self.folds)
        return replace(
            self, dead=reason, observed=None, p_local=None, log_p_local=None, z_local=None, folds=folds
        )

    def to_dict(self) -> dict[str, Any]:
        """The look as plain numbers for JSON."""
        return {
            "method": self.method,
            "window": [self.window.low, self.window.high],
            "working_point": self.working_point,
            "statistic": self.statistic,
            "observed": self.observed,
            "expected": self.expected,
            "expected_error": self.expected_error,
            "p_local": self.p_local,
            "z_local": self.z_local,
            "combination": self.combination,
            "folds": [vars(fold).copy() for fold in self.folds],
            "fit": self.spectrum.to_dict(),
            "warning": self.warning,
            "dead": self.dead,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "template": None if self.template is None else vars(self.template).copy(),
        }
