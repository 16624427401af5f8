"""Records of ``results.json``: looks, their significances, and excesses in the sidebands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "EffectiveEvents",
    "Fit",
    "Fold",
    "GlobalResult",
    "Interval",
    "Look",
    "Order",
    "Record",
    "Results",
    "SidebandExcess",
]

Interval = tuple[float, float]


class Record(BaseModel):
    """Part of a file of a run: newer runs may have more keys; known keys must be valid."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Fold(Record):
    """One fold of a look; ``observed`` and ``p`` are None while blinded."""

    fold: int
    observed: float | None = None
    expected: float | None = None
    expected_error: float | None = None
    p: float | None = None


class Fit(Record):
    """The background fit of a look or a spectrum."""

    function: str
    averaged: bool = False
    n_parameters: int | None = None
    gof_p: float | None = None
    efficiency_order: int | None = None
    efficiency_gof_p: float | None = None
    effective_events: float | None = None
    closure_error: float = 0.0
    turn_on_spread: float = 0.0
    kink_weight: float = 0.0
    rough_spread: float = 0.0

    @property
    def name(self) -> str:
        """Description of the fit."""
        return f"average of orders around {self.function}" if self.averaged else self.function


class EffectiveEvents(Record):
    """Selected events of equal weight with the same relative error; ``window`` is None while blinded."""

    window: float | None = None
    sideband: float


def _no_significance_of_one(content: Any, p: str, z: str) -> Any:
    """Where p = 1 there is no distance from the background, whatever older versions wrote."""
    one = isinstance(content, dict) and (content.get(p) or 0.0) >= 1
    return {**content, z: None} if one else content


class Order(Record):
    """A look in one order of the folds; numbers of the data are None while blinded."""

    observed: float | None = None
    expected: float
    expected_error: float
    p_local: float | None = None
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
    working_point: float | None = None
    statistic: str = ""
    observed: float | None = None
    expected: float
    expected_error: float
    p_local: float | None = None
    z_local: float | None = None
    combination: str = ""
    folds: tuple[Fold, ...] = ()
    fit: Fit | None = None
    warning: str | None = None
    effective_events: EffectiveEvents | None = None
    dead: str | None = None
    expectation_margin: float | None = None
    orders: tuple[Order, ...] = ()
    cross_check: bool = False
    template: Mapping[str, float] | None = None
    calibration: Mapping[str, Any] | None = None

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

    p: float
    z: float | None = None
    p_interval_68: Interval | None = None
    n_looks: int | None = None
    n_toys: int | None = None
    n_reached: int | None = None
    trials: str = ""
    best_look: int | None = None
    gross_vitells: float | None = None
    bonferroni: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, content: Any) -> Any:
        return _no_significance_of_one(content, "p", "z")


class SidebandExcess(Record):
    """An excess outside a window; ``look`` None: before any cut."""

    look: int | None = None
    window: Interval
    low: float
    high: float
    observed: float
    expected: float
    expected_error: float
    p_local: float
    z_local: float
    p: float
    window_expected: float
    window_without: float


class Results(Record):
    """``results.json``: all looks of a search and their combination.

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
    seed: int | None = None
    blinded: bool
    looks: Annotated[tuple[Look, ...], Field(min_length=1)]
    overall: GlobalResult | None = Field(default=None, alias="global")
    sidebands: tuple[SidebandExcess, ...] = ()
    timing_s: Mapping[str, float] = Field(default_factory=dict)

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
