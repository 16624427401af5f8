"""Typed reading of a finished run directory: the only input of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serendip.errors import InputError

__all__ = [
    "Chosen", "Closure", "ClosureFeature", "Correlation", "Diagnostics", "EffectiveEvents", "Fit", "Fold",
    "GlobalResult", "LeftOut", "LeftOutSide", "Look", "Manifest", "Results", "Roc", "Run", "Scores", "Selected",
    "SelectedFeature", "SidebandExcess", "Spectrum", "Truth", "read_run",
]  # fmt: skip

T = TypeVar("T", bound=BaseModel)
Numbers = tuple[float, ...]
Gaps = tuple[float | None, ...]  # None: hidden by blinding
Interval = tuple[float, float]
Edges = Annotated[Numbers, Field(min_length=2)]


class _Record(BaseModel):
    # newer runs may carry more keys; what is known must be right
    model_config = ConfigDict(frozen=True, extra="ignore")


class Fold(_Record):
    """One fold of a look; ``observed`` and ``p`` are None while blinded."""

    fold: int
    observed: float | None = None
    expected: float | None = None
    expected_error: float | None = None
    p: float | None = None


class Fit(_Record):
    """The background fit behind a look or a spectrum."""

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

    @property
    def name(self) -> str:
        """What was fitted, for people."""
        return f"average of orders around {self.function}" if self.averaged else self.function


class EffectiveEvents(_Record):
    """Selected events of equal weight with the same relative error; ``window`` is None while blinded."""

    window: float | None = None
    sideband: float


def _no_significance_of_one(content: Any, p: str, z: str) -> Any:
    """Where p = 1 there is no distance from the background, whatever an older version wrote."""
    one = isinstance(content, dict) and (content.get(p) or 0.0) >= 1
    return {**content, z: None} if one else content


class Look(_Record):
    """One test: a method, a mass window and a working point (background efficiency)."""

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

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, content: Any) -> Any:
        return _no_significance_of_one(content, "p_local", "z_local")


class GlobalResult(_Record):
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


class SidebandExcess(_Record):
    """An excess beside a window; ``look`` None: before any cut."""

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


class Results(_Record):
    """``results.json``."""

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
        tested = [look for look in self.looks if look.p_local is not None]
        return min(tested, key=lambda look: look.p_local or 0.0, default=None)

    @property
    def n_looks(self) -> int:
        """Number of looks that the global p-value is about (references that know the truth are none)."""
        known = None if self.overall is None else self.overall.n_looks
        return len(self.looks) if known is None else known

    @property
    def seeing(self) -> tuple[Look, ...]:
        """The looks that can see something."""
        return tuple(look for look in self.looks if look.dead is None)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods in the order of the looks."""
        return tuple(dict.fromkeys(look.method for look in self.looks))

    @property
    def working_points(self) -> tuple[float | None, ...]:
        """The working points, loosest first; None = no cut."""
        found = {look.working_point for look in self.looks}
        return tuple(sorted(found, key=lambda cut: -1.0 if cut is None else -cut))

    @property
    def windows(self) -> tuple[Interval, ...]:
        """The mass windows, lowest first."""
        return tuple(sorted({look.window for look in self.looks}))

    def headline(self, method: str) -> Look:
        """Pick the look of a method that is shown first: the most significant, or the first if blinded, that sees."""
        looks = [look for look in self.looks if look.method == method]
        looks = [look for look in looks if look.dead is None] or looks
        return min(looks, key=lambda look: 2.0 if look.p_local is None else look.p_local)


def _same_length(edges: Numbers, **values: Numbers | Gaps | None) -> None:
    for name, column in values.items():
        if column is not None and len(column) != len(edges) - 1:
            raise ValueError(
                f"{name} has {len(column)} numbers, but the {len(edges)} edges make {len(edges) - 1} bins"
            )


class LeftOutSide(_Record):
    """Spectrum below or above the range of a fit; without a number of events where blinding hides some."""

    edges: Edges
    observed: Gaps
    n_events: int | None = None


class LeftOut(_Record):
    """What the range of a fit leaves out, and why."""

    reason: str
    sides: tuple[LeftOutSide, ...]


class Spectrum(_Record):
    """Mass spectrum with its background expectation; ``working_point`` None = before the cut.

    Counts of weighted events divided by ``scale``, ``sum(w^2)/sum(w)`` of the sidebands, are Poisson-like.
    """

    look: int | None = None
    method: str | None = None
    window: Interval
    working_point: float | None = None
    edges: Edges
    observed: Gaps
    expected: Numbers
    expected_error: Numbers
    scale: Annotated[float, Field(gt=0)] = 1.0
    fit: Fit | None = None
    left_out: LeftOut | None = None
    masks: tuple[Interval, ...] = ()

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        _same_length(
            self.edges, observed=self.observed, expected=self.expected, expected_error=self.expected_error
        )
        return self


class Scores(_Record):
    """Distribution of the anomaly score in the sidebands and the signal region: fractions per bin."""

    method: str
    window: Interval
    edges: Edges
    sideband: Numbers | None  # None: no events
    signal_region: Numbers | None = None
    truth_signal: Numbers | None = None
    scale: str = ""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        _same_length(
            self.edges,
            sideband=self.sideband,
            signal_region=self.signal_region,
            truth_signal=self.truth_signal,
        )
        return self


class ClosureFeature(_Record):
    """Counts of one feature: held-out sideband events and the template's prediction for them."""

    name: str
    edges: Edges
    observed: Numbers
    predicted: Numbers

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        _same_length(self.edges, observed=self.observed, predicted=self.predicted)
        return self


class Closure(_Record):
    """Can a classifier tell held-out sideband events from the template? AUC 0.5 = it cannot."""

    method: str
    window: Interval
    auc: float | None = None
    auc_error: float | None = None
    n_events: int | None = None
    features: tuple[ClosureFeature, ...] = ()


class SelectedFeature(_Record):
    """One feature of the selected events, in fractions per bin."""

    name: str
    edges: Edges
    selected: Numbers | None  # None: no events
    template: Numbers | None = None
    learned_signal: Numbers | None = None
    truth_signal: Numbers | None = None

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        _same_length(
            self.edges,
            selected=self.selected,
            template=self.template,
            learned_signal=self.learned_signal,
            truth_signal=self.truth_signal,
        )
        return self


class LearnedSignal(_Record):
    """How much of the window's events a method took for signal: by held-out events, and in its training."""

    fraction: float
    fraction_error: float
    trained_fraction: float


class Selected(_Record):
    """The ``n`` events of a window that passed a working point."""

    look: int | None = None
    method: str
    window: Interval
    working_point: float | None = None
    n: int
    learned_signal: LearnedSignal | None = None
    features: tuple[SelectedFeature, ...] = ()


class Correlation(_Record):
    """Distance correlation of score and mass in the sidebands, and its 99 % limit for independent numbers."""

    method: str
    window: Interval
    distance_correlation: float
    null_level: float


class Roc(_Record):
    """SIC = eps_S / sqrt(eps_B) against eps_B, cut where fewer than ``min_background`` events are left."""

    method: str
    window: Interval
    max_sic: float | None = None
    max_sic_error: float | None = None
    min_background: int
    sic_at: Mapping[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    eps_b: Gaps = ()
    sic: Gaps = ()


class Truth(_Record):
    """What the labels say; only there if the user named a label column."""

    signal_in_window: float | None = None
    roc: tuple[Roc, ...] = ()


class Diagnostics(_Record):
    """``diagnostics.json``: the numbers of the pictures."""

    schema_version: Literal[1] = Field(alias="schema")
    mass_name: str
    unit: str = "GeV"
    features: tuple[str, ...] = ()
    spectra: tuple[Spectrum, ...] = ()
    scores: tuple[Scores, ...] = ()
    closure: tuple[Closure, ...] = ()
    selected: tuple[Selected, ...] = ()
    correlation: tuple[Correlation, ...] = ()
    truth: Truth | None = None


class _Input(_Record):
    file: str | None = None
    rows_read: int | None = None
    rows_used: int | None = None
    left_out: Mapping[str, int] = Field(default_factory=dict)
    digest: str | None = None


class Chosen(_Record):
    """Settings that a search chose from the size of its sample."""

    sideband_events: float
    folds: int | None = None
    working_points: tuple[float, ...] | None = None


class _Unblinding(_Record):
    time: str
    config_hash: str = ""


class Manifest(_Record):
    """``manifest.json``: versions, input, timings, unblinding log."""

    serendip: str
    python: str | None = None
    packages: Mapping[str, str] = Field(default_factory=dict)
    seed: int | None = None
    input: _Input = Field(default_factory=_Input)
    hardware: Mapping[str, Any] = Field(default_factory=dict)
    timing_s: Mapping[str, float] = Field(default_factory=dict)
    started: str | None = None
    finished: str | None = None
    unblinding: tuple[_Unblinding, ...] = ()
    chosen: Chosen | None = None


@dataclass(frozen=True)
class Run:
    """Everything a report is made of."""

    path: Path
    results: Results
    diagnostics: Diagnostics
    manifest: Manifest
    config_text: str
    config: Mapping[str, Any]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path.parent}: no {path.name}, so this is not the directory of a finished run. "
            "Expected a folder written by 'serendip search --out RUN'; "
            "if the search was interrupted, repeat the same command to finish it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _read_json(path: Path, kind: type[T]) -> T:
    repeat = "repeat the search command to write it again"
    try:
        return kind.model_validate(json.loads(_text(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: damaged, not JSON (line {error.lineno}, column {error.colno}: {error.msg}); {repeat}"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise InputError(f"{path}: '{where}' is not as expected ({first['msg']}); {repeat}") from None


def read_run(path: Path) -> Run:
    """Read ``results.json``, ``diagnostics.json``, ``manifest.json`` and ``config.yaml`` of a run directory.

    Raises
    ------
    InputError
        If a file is missing or damaged; the message names it.
    """
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder; expected the run directory written by 'serendip search --out RUN'"
        )
    results = _read_json(path / "results.json", Results)
    diagnostics = _read_json(path / "diagnostics.json", Diagnostics)
    manifest = _read_json(path / "manifest.json", Manifest)
    text = _text(path / "config.yaml")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path / 'config.yaml'}: damaged, not YAML ({error})") from None
    if not isinstance(config, dict):
        raise InputError(
            f"{path / 'config.yaml'}: expected 'key: value' lines, found {type(config).__name__}"
        )
    return Run(path, results, diagnostics, manifest, text, config)
