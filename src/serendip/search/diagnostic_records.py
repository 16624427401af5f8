"""``diagnostics.json`` of a search: the numbers of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serendip.io.records import Edges, Gaps, Interval, Numbers, Record
from serendip.search.results import EffectiveEvents, Fit, Fold, Order, WorkingPoint

__all__ = [
    "Closure", "ClosureFeature", "Correlation", "Diagnostics", "HeavyEvent", "LearnedSignal", "LeftOut", "LeftOutSide", "OrderOfFolds", "Roc", "Scores", "Selected",
    "SelectedFeature", "Spectrum", "Truth", "WeightCurve", "Weighted", "Weights",
]  # fmt: skip


def _in_bins(*names: str) -> Any:
    """A check of a record: these columns have one number for each bin of its ``edges``."""

    def check(self: Any) -> Any:
        bins = len(self.edges) - 1
        for name in names:
            column = getattr(self, name)
            if column is not None and len(column) != bins:
                raise ValueError(
                    f"{name} has {len(column)} numbers, but the {bins + 1} edges make {bins} bins"
                )
        return self

    return model_validator(mode="after")(check)


class LeftOutSide(Record):
    """Spectrum below or above the range of a fit; without a number of events where blinding hides some."""

    edges: Edges
    observed: Gaps
    n_events: int | None = None


class LeftOut(Record):
    """Data excluded from the range of a fit, and the reason."""

    reason: str
    sides: tuple[LeftOutSide, ...]


class Spectrum(Record):
    """Mass spectrum with its background expectation; ``look`` None = all events, before any selection.

    Counts of weighted events divided by ``scale``, ``sum(w^2)/sum(w)`` of the sidebands, are Poisson-like; ``variance`` is
    ``sum(w^2)`` in each bin, if it is not the count.
    """

    look: int | None = None
    method: str | None = None
    window: Interval
    working_point: WorkingPoint | None = None
    edges: Edges
    observed: Gaps
    expected: Numbers
    expected_error: Numbers
    scale: Annotated[float, Field(gt=0)] = 1.0
    masks: tuple[Interval, ...] = ()
    fit: Fit | None = None
    variance: Gaps | None = None
    left_out: LeftOut | None = None

    _lengths = _in_bins("observed", "variance", "expected", "expected_error")

    @property
    def weighted(self) -> bool:
        """Whether it is a sum of weights from the ranks of the scores."""
        return self.look is not None and self.working_point is None


class WeightCurve(Record):
    """The weight of an event against its rank, where its fold has this place in the order."""

    place: int
    weight: Numbers


class Weights(Record):
    """Weights ``ln(1 + scale/rank (place/(n_folds - 1))^1.5)`` below the loosest rank."""

    scale: float
    loosest_rank: float
    n_folds: int
    rank: Numbers
    curves: tuple[WeightCurve, ...]

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if any(len(curve.weight) != len(self.rank) for curve in self.curves):
            raise ValueError(f"a curve has not as many weights as there are ranks ({len(self.rank)})")
        return self


class OrderOfFolds(Order):
    """A look in one order of the folds, fold by fold, with its spectrum."""

    order: int
    effective_events: EffectiveEvents | None = None
    warning: str | None = None
    folds: tuple[Fold, ...] = ()
    spectrum: Spectrum


class HeavyEvent(Record):
    """An event of the window with its weight, the mean over the orders of the folds."""

    id: Mapping[str, int | str]
    mass: float
    features: Numbers
    weight: float
    label: bool | None = None


class Weighted(Record):
    """Details of a look without a cut; ``heaviest`` is None while blinded."""

    look: int
    method: str
    window: Interval
    weights: Weights
    orders: tuple[OrderOfFolds, ...]
    heaviest: tuple[HeavyEvent, ...] | None = None


class Scores(Record):
    """Distribution of the anomaly score in the sidebands and the signal region: fractions per bin."""

    method: str
    window: Interval
    edges: Edges
    sideband: Numbers | None  # None: no events
    signal_region: Numbers | None = None
    truth_signal: Numbers | None = None
    scale: str = ""

    _lengths = _in_bins("sideband", "signal_region", "truth_signal")


class ClosureFeature(Record):
    """Counts of one feature: held-out sideband events and the template's prediction for them."""

    name: str
    edges: Edges
    observed: Numbers
    predicted: Numbers

    _lengths = _in_bins("observed", "predicted")


class Closure(Record):
    """Can a classifier distinguish held-out sideband events from the template? AUC 0.5 = it cannot."""

    method: str
    window: Interval
    auc: float | None = None
    auc_error: float | None = None
    n_events: int | None = None
    features: tuple[ClosureFeature, ...] = ()


class SelectedFeature(Record):
    """One feature of the selected events, in fractions per bin."""

    name: str
    edges: Edges
    selected: Numbers | None  # None: no events
    template: Numbers | None = None
    learned_signal: Numbers | None = None
    truth_signal: Numbers | None = None

    _lengths = _in_bins("selected", "template", "learned_signal", "truth_signal")


class LearnedSignal(Record):
    """How much of the window's events a method took for signal: by held-out events, in its training, and compared with the result in adjacent windows."""

    fraction: float
    fraction_error: float
    trained_fraction: float
    gain: float | None = None
    floor_gain: float | None = None


class Selected(Record):
    """The ``n`` events of a window that passed a working point, or count with weights, and the effective number of these."""

    look: int | None = None
    method: str
    window: Interval
    working_point: WorkingPoint | None = None
    n: int
    effective: float | None = None
    learned_signal: LearnedSignal | None = None
    features: tuple[SelectedFeature, ...] = ()


class Correlation(Record):
    """Distance correlation of score and mass in the sidebands, and its 99 % limit for independent numbers."""

    method: str
    window: Interval
    distance_correlation: float
    null_level: float


class Roc(Record):
    """SIC = eps_S / sqrt(eps_B) against eps_B, cut where fewer than ``min_background`` events are left."""

    method: str
    window: Interval
    max_sic: float | None = None
    max_sic_error: float | None = None
    min_background: int
    sic_at: Mapping[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    eps_b: Gaps = ()
    sic: Gaps = ()


class Truth(Record):
    """Results from the labels; present only if the user named a label column."""

    signal_in_window: int | None = None
    roc: tuple[Roc, ...] = ()


class Diagnostics(Record, title="diagnostics.json of a serendip search"):
    """Spectra, scores, closure, features of what passes, and what the labels say."""

    schema_version: Literal[1] = Field(alias="schema")
    mass_name: str
    unit: str = "GeV"
    features: tuple[str, ...] = ()
    spectra: tuple[Spectrum, ...] = ()
    weighted: tuple[Weighted, ...] = ()
    scores: tuple[Scores, ...] = ()
    closure: tuple[Closure, ...] = ()
    selected: tuple[Selected, ...] = ()
    correlation: tuple[Correlation, ...] = ()
    truth: Truth | None = None
