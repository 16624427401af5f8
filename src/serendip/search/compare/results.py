"""``compare.json``: what a comparison measured of every method, injection and repeat, and the summary over repeats."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serendip.io.records import Interval, NotNegative, Numbers, Probability, Record, Whole
from serendip.search.results import WorkingPoint

__all__ = ["Comparison", "Entry", "FiveSigma", "LeftOutMethod", "MethodFacts", "Spread", "SummaryRow"]


class MethodFacts(Record):
    """Description of a method."""

    name: str
    title: str
    uses_labels: bool
    working_points: tuple[WorkingPoint, ...]
    weighted: bool = False


class SampleFacts(Record):
    """Numbers of labelled events."""

    signal: Whole
    background: Whole
    signal_in_window: Whole
    background_in_window: Whole
    signal_share_in_window: Probability


class LeftOutMethod(Record):
    """A method that is missing, at one injection or (None) everywhere."""

    method: str
    reason: str
    injection: Whole | None = None


class SicPoint(Record):
    """Significance improvement at one cut, with the background events that pass it."""

    sic: float | None
    error: float | None = None
    eps_s: Probability
    eps_b: Probability
    background: NotNegative


class LargestSic(SicPoint):
    """The largest one of those that leave enough background."""

    min_background: Whole


class SicAt(SicPoint):
    """That at a working point."""

    working_point: WorkingPoint


class SmallestSignal(Record):
    """Smallest S/√B from which the best cut reaches an Asimov 5 sigma, and that cut."""

    s_over_sqrt_b: NotNegative | None
    eps_s: Probability
    eps_b: Probability


class Curve(Record):
    """Significance improvement at falling thresholds."""

    eps_b: Numbers
    eps_s: Numbers
    sic: Numbers
    error: tuple[float | None, ...] = ()


class MassShape(Record):
    """Selected background against all background."""

    chi2: NotNegative
    ndf: Whole
    p: Probability


class ComparedLook(Record):
    """One look of one method; without a working point events are weighted.

    Attributes
    ----------
    scale
        Units in which a sum of weights is Poisson-like.
    true_signal, true_signal_variance
        What the injected events add to the count, and its variance.
    variance
        Sum of squared weights in the window.
    """

    working_point: WorkingPoint | None
    observed: float | None = None
    expected: NotNegative | None = None
    expected_error: NotNegative | None = None
    p_local: Probability | None = None
    z_local: float | None = None
    combination: str = ""
    scale: NotNegative = 1.0
    warning: str | None = None
    true_signal: NotNegative | None = None
    true_signal_variance: NotNegative | None = None
    variance: NotNegative | None = None
    mass_shape: MassShape | None = None


class TemplateAuc(Record):
    """How well a classifier tells held-out sidebands, and the true background of the window, from the template."""

    closure_auc: Probability | None = None
    closure_error: NotNegative | None = None
    truth_auc: Probability | None = None
    truth_error: NotNegative | None = None


class TrainingCost(Record):
    """Seconds and memory of a training, and of the density of background that it shares with others."""

    own_s: NotNegative
    background_s: NotNegative | None = None
    background_users: Whole | None = None
    cpu_s: NotNegative
    peak_memory_gib: NotNegative | None = None


class Entry(Record):
    """One method in one repeat of one injection; ``trained_fraction`` is the share of the folds that the models saw."""

    method: str
    injection: Whole
    repeat: Whole
    seed: Whole | None = None
    task: str = ""
    background_task: str | None = None
    signal_in_window: Whole | None = None
    signal_total: Whole | None = None
    background_in_window: Whole | None = None
    s_over_sqrt_b: NotNegative
    auc: Probability | None = None
    max_sic: LargestSic | None = None
    sigma_min: SmallestSignal | None = None
    sic_at: tuple[SicAt, ...] = ()
    sic_curve: Curve | None = None
    trained_fraction: Probability | None = None
    looks: tuple[ComparedLook, ...] = ()
    template: TemplateAuc | None = None
    distance_correlation: NotNegative | None = None
    distance_correlation_null: NotNegative | None = None
    cost: TrainingCost | None = None


class Spread(Record):
    """A number over the repeats."""

    median: float
    min: float
    max: float
    n: Whole


class SummaryRow(Record):
    """One method at one injection; the names of the values are those of :func:`serendip.search.compare.summary.summary`."""

    method: str
    injection: Whole
    repeats: Whole
    signal_in_window: Whole | None = None
    s_over_sqrt_b: NotNegative
    values: dict[str, Spread]


class FiveSigma(Record):
    """Signal events in the window that half of the injections show with 5 sigma; ``bound``: it lies ``above`` or ``below`` them all."""

    method: str
    quantity: str
    signal: NotNegative
    s_over_sqrt_b: NotNegative
    bound: str | None


class Comparison(Record, title="compare.json of a serendip comparison"):
    """Settings, sample, every measurement, and the summary over repeats."""

    schema_version: Literal[1] = Field(1, alias="schema")
    seed: Whole
    config: dict[str, Any]
    mass_name: str
    unit: str
    window: Interval
    features: tuple[str, ...]
    sample: SampleFacts
    min_background: Whole
    methods: tuple[MethodFacts, ...]
    left_out: tuple[LeftOutMethod, ...]
    entries: tuple[Entry, ...]
    summary: tuple[SummaryRow, ...]
    five_sigma: tuple[FiveSigma, ...] = ()
    timing_s: dict[str, float]

    @property
    def injections(self) -> list[int]:
        """Numbers of signal events in the window, ascending."""
        return sorted({row.injection for row in self.summary})

    @property
    def working_points(self) -> tuple[float, ...]:
        """Background efficiencies at which the methods are cut, unless they have their own."""
        return tuple(self.config["working_points"])

    def at(self, injection: int) -> list[SummaryRow]:
        """Rows of one injection, in the order of the methods."""
        order = [method.name for method in self.methods]
        return sorted(
            (row for row in self.summary if row.injection == injection), key=lambda r: order.index(r.method)
        )

    def strength(self, injection: int) -> float:
        """S/√B in the window before any cut."""
        return self.at(injection)[0].s_over_sqrt_b

    def facts(self, name: str) -> MethodFacts:
        """Description of a method."""
        return next(method for method in self.methods if method.name == name)
