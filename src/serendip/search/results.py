"""``results.json`` of a search: looks, their significances, and excesses in the sidebands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator

from serendip.io.records import Interval, NotNegative, Positive, Probability, Record, Whole

__all__ = [
    "Calibration",
    "EffectiveEvents",
    "Fit",
    "Fold",
    "GlobalResult",
    "Look",
    "LookFit",
    "Order",
    "Results",
    "SidebandExcess",
    "TemplateErrors",
]

Timing = Annotated[
    Mapping[str, float],
    WithJsonSchema(
        {"type": "object", "required": ["total"], "additionalProperties": {"type": "number", "minimum": 0}}
    ),
]
WorkingPoint = Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1})]
Statistic = Annotated[str, WithJsonSchema({"enum": ["bump-fit", "template-count"]})]
Combination = Annotated[
    str,
    WithJsonSchema(
        {
            "enum": [
                "weighted",
                "sequential",
                "sequential-stouffer",
                "kfold-bonferroni",
                "kfold-summed",
                "single",
            ]
        }
    ),
]


class Fold(Record):
    """One fold of a look; ``observed`` and ``p`` are None while blinded."""

    fold: Whole
    observed: float | None = None
    expected: NotNegative
    expected_error: NotNegative
    p: Probability | None = None


class Fit(Record):
    """The background fit of a spectrum."""

    function: str
    averaged: bool = False
    n_parameters: Positive | None = None
    gof_p: Probability | None = None

    @property
    def name(self) -> str:
        """Description of the fit."""
        return f"average of orders around {self.function}" if self.averaged else self.function


class LookFit(Fit):
    """The background fit of a look: of all events, and of the efficiency of its cut."""

    effective_events: NotNegative | None = None
    closure_error: NotNegative = Field(
        0.0, description="relative error added because windows beside this one are predicted badly"
    )
    turn_on_spread: NotNegative = Field(
        0.0, description="relative difference to functions with a turn-on, where it matters"
    )
    kink_weight: Probability = Field(
        0.0, description="weight of functions with a kink in the window in the average"
    )
    rough_spread: NotNegative = Field(
        0.0,
        description="relative difference in the window to functions that bend faster, where they describe the sidebands better",
    )
    efficiency_order: Whole | None = None
    efficiency_gof_p: Probability | None = None


class EffectiveEvents(Record):
    """Selected events of equal weight with the same relative error; ``window`` is None while blinded."""

    window: NotNegative | None = None
    sideband: NotNegative


class TemplateErrors(Record):
    """Relative errors of a count that a template predicts (``serendip.statistics.look_result.TemplateErrors``)."""

    correction: NotNegative
    training: NotNegative
    drawing: NotNegative
    shape: NotNegative
    closure: NotNegative
    closure_ratio: NotNegative
    closure_ratio_error: NotNegative
    closure_efficiency: WorkingPoint
    replicas: Positive


class Calibration(Record):
    """How ``p_local`` follows from the naive significance (``serendip.statistics.calibration.CalibratedP``)."""

    p: Probability
    z: float
    z_interval_68: tuple[float | None, float | None]
    z_naive: float
    n_reached: Whole
    n_experiments: Positive
    extrapolated: bool


def _no_significance_of_one(content: Any, p: str, z: str) -> Any:
    """Where p = 1 there is no distance from the background, whatever older versions wrote."""
    one = isinstance(content, dict) and (content.get(p) or 0.0) >= 1
    return {**content, z: None} if one else content


class Order(Record):
    """A look in one order of the folds; numbers of the data are None while blinded."""

    observed: float | None = None
    expected: NotNegative
    expected_error: NotNegative
    p_local: Probability | None = None
    z_local: float | None = None


class Look(Record):
    """One test: a method and a mass window. Observed quantities are None while the run is blinded.

    Attributes
    ----------
    method
        Name of the method.
    window
        Low and high edge, in the unit of the input (:attr:`serendip.Run.unit`).
    working_point
        Background efficiency of the cut; None if every event has a weight.
    statistic
        ``"bump-fit"`` or ``"template-count"``: the prediction of the count.
    observed, expected, expected_error
        Events in the window that pass the cut, or sums of weights, means over :attr:`orders`.
    p_local, z_local
        One-sided p-value and significance.
    combination
        How the folds became one p-value.
    folds, orders
        The look in single folds, and in single orders of the folds.
    fit
        The background fit.
    warning, dead
        Why the result is doubtful; why the look cannot find anything. None for all others.
    effective_events
        Events of equal weight with the same relative error.
    expectation_margin
        Relative amount by which the background may be larger than expected, with 3 sigma left; None below them.
    cross_check
        True for a look that accompanies another one and is not a result of its own.
    template
        Relative errors and closure of a template count.
    calibration
        p-value and significance from background-only experiments of the whole chain, and how many there were.
    """

    method: str
    window: Interval
    working_point: WorkingPoint | None = None
    statistic: Statistic = ""
    observed: float | None = None
    expected: NotNegative
    expected_error: NotNegative
    p_local: Probability | None = None
    z_local: float | None = None
    combination: Combination = ""
    folds: tuple[Fold, ...] = ()
    fit: LookFit | None = None
    warning: str | None = None
    dead: str | None = None
    calibration: Calibration | None = None
    template: TemplateErrors | None = None
    effective_events: EffectiveEvents | None = None
    orders: tuple[Order, ...] = ()
    cross_check: bool = False
    expectation_margin: NotNegative | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, content: Any) -> Any:
        return _no_significance_of_one(content, "p_local", "z_local")

    @property
    def weighted(self) -> bool:
        """Whether events count with weights from the ranks of their scores, and not by a cut."""
        return self.combination == "weighted" and self.working_point is None


class GlobalResult(Record):
    """The p-value over all looks."""

    p: Probability
    z: float | None = None
    p_interval_68: tuple[Probability, Probability] | None = None
    n_looks: Positive | None = None
    n_toys: Positive | None = None
    n_reached: Whole | None = None
    best_look: Whole | None = None
    trials: str = ""
    gross_vitells: Probability | None = None
    bonferroni: Probability | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, content: Any) -> Any:
        return _no_significance_of_one(content, "p", "z")


class SidebandExcess(Record):
    """An excess outside a window; ``look`` None: before any cut."""

    look: Whole | None = None
    window: Interval
    low: float
    high: float
    observed: NotNegative
    expected: NotNegative
    expected_error: NotNegative
    p_local: Probability
    z_local: float
    p: Probability
    window_expected: NotNegative
    window_without: NotNegative


class Results(Record, title="results.json of a serendip search"):
    """All looks of a search and their combination.

    Attributes
    ----------
    seed, blinded
        As of the run.
    looks
        The tests.
    overall
        The p-value over all of them (``global`` in the file); None while blinded.
    sidebands
        Excesses outside the windows.
    timing_s
        Seconds that each part took.
    """

    schema_version: Literal[1] = Field(alias="schema")
    seed: Whole | None = None
    blinded: bool
    looks: Annotated[tuple[Look, ...], Field(min_length=1)]
    overall: GlobalResult | None = Field(default=None, alias="global")
    sidebands: tuple[SidebandExcess, ...] = ()
    timing_s: Timing = Field(default_factory=dict)

    @model_validator(mode="after")
    def _best_look_exists(self) -> Self:
        best = None if self.overall is None else self.overall.best_look
        if best is not None and not 0 <= best < len(self.looks):
            raise ValueError(f"global.best_look is {best}, but there are {len(self.looks)} looks")
        for excess in self.sidebands:
            if excess.look is not None and not 0 <= excess.look < len(self.looks):
                raise ValueError(f"sidebands.look is {excess.look}, but there are {len(self.looks)} looks")
        return self

    @property
    def best(self) -> Look | None:
        """The most significant look; None while blinded."""
        if self.overall is not None and self.overall.best_look is not None:
            return self.looks[self.overall.best_look]
        tested = [look for look in self.claims if look.p_local is not None]
        return min(tested, key=lambda look: look.p_local or 0.0, default=None)

    @property
    def n_looks(self) -> int:
        """Number of looks that the global p-value is about (references that know the truth are none)."""
        known = None if self.overall is None else self.overall.n_looks
        return len(self.claims) if known is None else known

    @property
    def claims(self) -> tuple[Look, ...]:
        """The looks that are not cross-checks of others."""
        return tuple(look for look in self.looks if not look.cross_check)

    @property
    def seeing(self) -> tuple[Look, ...]:
        """The looks that are not dead, without cross-checks."""
        return tuple(look for look in self.claims if look.dead is None)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods in the order of the looks."""
        return tuple(dict.fromkeys(look.method for look in self.looks))

    @property
    def series(self) -> tuple[tuple[str, float | None], ...]:
        """Method and working point of the looks that are not cross-checks, in their order; None: weighted."""
        return tuple(dict.fromkeys((look.method, look.working_point) for look in self.claims))

    def cross_checks(self, look: Look) -> tuple[Look, ...]:
        """The cross-checks of a look."""
        return tuple(
            x
            for x in self.looks
            if x.cross_check and x is not look and (x.method, x.window) == (look.method, look.window)
        )

    @property
    def windows(self) -> tuple[Interval, ...]:
        """The mass windows, lowest first."""
        return tuple(sorted({look.window for look in self.looks}))

    def headline(self, method: str) -> Look:
        """Pick the look of a method that is shown first: the most significant, or the first if blinded, that is not dead."""
        looks = [look for look in self.claims if look.method == method]
        looks = [look for look in looks if look.dead is None] or looks
        return min(looks, key=lambda look: 2.0 if look.p_local is None else look.p_local)
