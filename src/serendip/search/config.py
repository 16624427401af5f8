"""The configuration of a search: one YAML file or the flags of the command line, fully resolved."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.io.units import GEV
from serendip.methods.registry import get_method
from serendip.search.fields import Columns, Expressions, Files, Interval, Intervals, Listed
from serendip.search.tuned import FOLD_KEYS, Tuned
from serendip.statistics.combination import in_order
from serendip.statistics.orders import fold_positions

__all__ = [
    "WINDOW_REACH",
    "Combination",
    "DataConfig",
    "SearchConfig",
    "SettingsError",
    "explain",
    "load_config",
    "parse_config",
    "parse_settings",
]

Combination = Literal["weighted", "sequential", "sequential-stouffer", "kfold-bonferroni", "kfold-summed"]

WINDOW_REACH = 1.4
"""Half the width of a window in sigma of the resonance that it is made for: S/sqrt(B) has its maximum there."""

_PASSING_DRAWS, _FEWEST_DRAWS, _MOST_DRAWS = 100, 20_000, 1_000_000


Config = TypeVar("Config", bound=BaseModel)


class DataConfig(BaseModel):
    """What is read from the files of a sample."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    no_flag: ClassVar[dict[str, str]] = {"file": "the argument of the command"}
    """Fields that are not flags of the command line, and why."""

    file: Files
    """Table of events; several files are one table."""
    mass: str | None = None
    """Resonant mass: a column or an expression of columns."""
    features: Expressions = ()
    """Features: EXPR[,EXPR...]."""
    where: str | None = None
    """Cut, e.g. 'pt>200 & abs(eta)<2.5'."""
    weight: str | None = None
    """Column with event weights."""
    group: Columns = None
    """COL[,COL...]: events with equal values in these columns are correlated (copies, candidates of one event). Or: duplicates, for
    exact copies; none, to treat all events as independent, whatever they look like."""
    tree: str | None = None
    """Tree or RNTuple (ROOT), key (HDF5)."""
    preset: str | None = None
    """Columns of a known file format: lhco."""
    unit: Literal["GeV", "TeV"] = "GeV"
    """Unit of the mass column: GeV or TeV."""
    range: Interval | None = None
    """Mass range of the background fit, LO:HI; default: chosen for each window."""
    mask: Intervals = ()
    """Known resonances masked in the background fits, LO:HI[,LO:HI...]; may be repeated."""


class SearchConfig(DataConfig):
    r"""All settings that affect the numbers of a search. Each field is a key of the YAML file, and all but :attr:`no_flag` are flags.

    A search chooses ``folds`` and ``working_points`` that are not given from the size of its sample
    (:func:`serendip.search.sight.choose_by_size`); the defaults are those of a large one.

    The windows of a scan have the relative ``width``, or are made for Gaussian resonances of one or more relative widths
    (``signal_width``, :math:`\sigma/m`): from 1.4 sigma below the peak to 1.4 sigma above, which loses least of the
    significance, and half overlapping unless ``step`` is given.

    Masses (``window``, ``scan``, ``range``, ``mask``) are in ``unit``, the unit of the input column.
    """

    no_flag = DataConfig.no_flag | {
        "options": "--set METHOD.OPTION=VALUE",
        "tuned": "written by serendip tune into its best.yaml",
    }

    label: str | None = None
    """Column with the truth; only for references and the truth panel."""
    id: Columns = None
    """Column with event ids, or several: COL[,COL...], e.g. run,lumi,event; default: the row number."""
    simulation: Files | None = None
    """Simulated background with the same columns, for methods that start from it."""
    simulation_weight: str | None = None
    """Column with the weights of the simulation."""
    simulation_where: str | None = None
    """Cut on the simulation; default: the one of --where."""

    window: Interval | None = None
    """One signal region, LO:HI."""
    scan: Interval | None = None
    """Scan of windows from LO to HI, LO:HI."""
    width: float | None = Field(default=None, gt=0, lt=1)
    """Relative width of each window of a scan, e.g. 0.1."""
    signal_width: Annotated[tuple[float, ...], Listed] | None = None
    """Relative widths sigma/m of the resonances for which the windows are optimised, e.g. 0.05 or 0.03,0.08."""
    step: float = Field(default=1.0, gt=0, le=1)
    """Distance of scan windows in widths; 1 = adjacent (default), 0.5 = half overlapping."""

    method: Annotated[tuple[str, ...], Listed] = ("cwola",)
    """cwola[,cathode,...]."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of the methods, by method."""
    working_points: Annotated[tuple[float, ...], Listed] = (1e-2, 1e-3)
    """Background efficiencies; default: from the size of the sample, 1e-2,1e-3 for a large one."""
    folds: int = Field(default=10, ge=2, le=100)
    """Number of folds; default: 10, fewer for a small sample."""
    combination: Combination = "weighted"
    """weighted (default: no cut, events are weighted), sequential, sequential-stouffer, kfold-bonferroni, kfold-summed (overstates the significance)."""
    orders: int = Field(default=4, ge=1, le=20)
    """Orders of the folds of 'weighted', each with its own trainings."""
    calibration: str | None = None
    """Full-chain calibration of kfold-summed: the calibration.json written by serendip validate null."""
    counting: Literal["fit", "template"] = "fit"
    """Prediction of a count: fit of the selected spectrum (default), or template, for very tight cuts."""
    background: str = "auto"
    """Background of the spectrum: auto (default), exppoly[:DEGREE], exp[:DEGREE], dijet[:N], poly:DEGREE ..."""
    sqrt_s: float = Field(default=13.0, gt=0)
    """Collision energy in TeV."""
    toys: int = Field(default=1000, ge=100)
    """Toys for the global p-value."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Seed of all random numbers."""
    tuned: Tuned | None = None
    """Events on which the options were chosen."""

    @model_validator(mode="before")
    @classmethod
    def _overlap(cls, given: Any) -> Any:
        """A resonance between two windows would lose half of its events to either; made for its width, they overlap."""
        if isinstance(given, dict) and given.get("signal_width") is not None and given.get("step") is None:
            return given | {"step": 0.5}
        return given

    @model_validator(mode="before")
    @classmethod
    def _cut(cls, given: Any) -> Any:
        """A template counts the events that pass a cut."""
        if (
            isinstance(given, dict)
            and given.get("counting") == "template"
            and given.get("combination") is None
        ):
            return given | {"combination": "sequential"}
        return given

    @field_validator("signal_width", mode="after")
    @classmethod
    def _signal_widths(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (not value or any(not 0 < width <= 0.3 for width in value)):
            raise ValueError("each width of a signal is sigma/m, above 0 and up to 0.3, e.g. 0.05")
        return value if value is None else tuple(sorted(set(value)))

    @field_validator("working_points")
    @classmethod
    def _working_points(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < point < 1 for point in value):
            raise ValueError("each working point is a background efficiency between 0 and 1, e.g. 1e-2")
        return tuple(sorted(set(value), reverse=True))

    @field_validator("method")
    @classmethod
    def _methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one method")
        for name in value:
            get_method(name)
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.check_consistency()
        return self

    def check_consistency(self) -> None:
        """Stop if settings contradict each other, or one is missing that others need.

        Raises
        ------
        ValueError
            Naming them.
        """
        if (self.window is None) == (self.scan is None):
            raise ValueError("give either a window (LO:HI) or a scan (LO:HI) with a width")
        if self.width is not None and self.signal_width is not None:
            raise ValueError(
                "give the width of the windows (width) or that of the signal (signal_width), not both"
            )
        if self.scan is not None and self.width is None and self.signal_width is None:
            raise ValueError(
                "a scan needs a width, the relative width of each window, e.g. 0.1, or signal_width, the relative width "
                "sigma/m of the resonance that its windows are made for, e.g. 0.04"
            )
        for name in ("width", "signal_width"):
            if self.scan is None and getattr(self, name) is not None:
                raise ValueError(f"{name} requires a scan; a single window has its own edges")
        if self.scan is None and self.step != 1:
            raise ValueError("step requires a scan; a single window has no neighbour")
        for edges in (self.window, self.scan, self.range):
            if edges is not None and edges[0] * GEV[self.unit] > self.sqrt_s * 1000:
                raise ValueError(
                    f"{edges[0]:g}:{edges[1]:g} {self.unit} lies beyond the collision energy of {self.sqrt_s:g} TeV; "
                    "check the unit, or give sqrt_s"
                )
        if self.preset is None and (self.mass is None or not self.features):
            raise ValueError("mass and features are needed (or a preset that sets them)")
        for name in self.options:
            if name not in self.method:
                raise ValueError(
                    f"options are given for '{name}', which is not among the methods {self.method}"
                )
        if self.calibration is not None and self.combination != "kfold-summed":
            raise ValueError(
                f"calibration is used with the combination 'kfold-summed' only; '{self.combination}' needs none"
            )
        if self.orders != type(self).model_fields["orders"].default and self.combination != "weighted":
            raise ValueError(
                f"orders is used with the combination 'weighted' only; '{self.combination}' has one order of the folds"
            )
        if self.counting == "template":
            if self.combination == "weighted":
                raise ValueError(
                    "counting 'template' predicts the events that pass a cut, and combination 'weighted' has none; use 'sequential'"
                )
            from serendip.search.template_curves import can_count

            for name in self.method:
                if not can_count(get_method(name)):
                    raise ValueError(
                        f"counting 'template' needs a method whose background template depends on the mass (cathode, lacathode, "
                        f"curtains, feta, salad), and '{name}' is none; use counting 'fit'"
                    )
        needs_label = [name for name in self.method if get_method(name).uses_labels]
        if needs_label and self.label is None and self.preset is None:
            raise ValueError(
                f"method '{needs_label[0]}' is a reference that uses the truth: name the label column"
            )
        if self.simulation is None:
            for option in ("simulation_weight", "simulation_where"):
                if getattr(self, option) is not None:
                    raise ValueError(f"{option} requires a simulation, and none is given (simulation)")
        simulated = [
            name for name in self.method if get_method(name).uses_simulation(self.method_config(name))
        ]
        if self.simulation is not None and not simulated:
            raise ValueError(f"a simulation is given, but none of {', '.join(self.method)} starts from one")
        for name in simulated:
            if self.simulation is None:
                raise ValueError(
                    f"method '{name}' starts from simulated background: give a file with the same columns (simulation)"
                )

    @property
    def windows(self) -> tuple[Window, ...]:
        """The signal regions in GeV: one, or adjacent ones (``step`` < 1: overlapping) of equal relative width."""
        scale = GEV[self.unit]
        if self.window is not None:
            return (Window(self.window[0] * scale, self.window[1] * scale),)
        assert self.scan is not None
        low, stop = (edge * scale for edge in self.scan)
        Window(low, stop)
        # in units of the mass of the peak a window reaches from 1 - a to 1 + a
        sizes = (
            [self.width]
            if self.signal_width is None
            else [(1 + WINDOW_REACH * s) / (1 - WINDOW_REACH * s) - 1 for s in self.signal_width]
        )
        windows = []
        for size in sizes:
            assert size is not None
            begin = low
            while begin * (1 + size) <= stop * (1 + 1e-9):
                windows.append(Window(*(float(f"{edge:.7g}") for edge in (begin, begin * (1 + size)))))
                begin *= (1 + size) ** self.step
        if not windows:
            raise InputError(
                f"the scan {self.scan[0]:g}:{self.scan[1]:g} {self.unit} is narrower than one window of relative width "
                f"{sizes[0]:.3g}"
            )
        return tuple(dict.fromkeys(windows))

    @property
    def n_looks(self) -> int:
        """Number of looks, in all windows: methods, with a cut each at its working points."""
        methods = [get_method(name) for name in self.method]
        cut = [1 if self.weighted(m.name) else len(m.working_points or self.working_points) for m in methods]
        return len(self.windows) * sum(cut)

    def weighted(self, name: str) -> bool:
        """Whether events count with weights from the ranks of this method's scores, and not by a cut."""
        method = get_method(name)
        return self.combination == "weighted" and method.trains and method.working_points is None

    @property
    def positions(self) -> NDArray[np.int64]:
        """Position of each fold in each order in which the folds are trained and tested, shape ``(n_orders, n_folds)``."""
        if self.combination != "weighted":
            return np.arange(self.folds)[None]
        untested = self.tuned is not None and self.tuned.on == "untested"
        n_orders = min(self.orders, self.folds - untested)
        return fold_positions(self.folds, n_orders, keep_first=untested)

    @property
    def mass_range(self) -> tuple[float, float] | None:
        """Range of the background fit in GeV; None: chosen for each window."""
        if self.range is None:
            return None
        bounds = Window(self.range[0] * GEV[self.unit], self.range[1] * GEV[self.unit])
        return bounds.low, bounds.high

    @property
    def masks(self) -> tuple[tuple[float, float], ...]:
        """Known resonances that the background fits leave out, in GeV."""
        scale = GEV[self.unit]
        return tuple((low * scale, high * scale) for low, high in self.mask)

    @property
    def template_draws(self) -> int | None:
        """Events to draw from each template for a template count: a hundred pass the tightest cut; None: fits count."""
        if self.counting == "fit":
            return None
        return round(min(max(_PASSING_DRAWS / min(self.working_points), _FEWEST_DRAWS), _MOST_DRAWS))

    def method_config(self, name: str) -> Any:
        """Validated configuration of one method."""
        try:
            return get_method(name).Config(**self.options.get(name, {}))
        except ValidationError as error:
            raise InputError(
                f"options of method '{name}': {explain(error, get_method(name).Config)}"
            ) from None

    def tuning_clash(self) -> str | None:
        """Why the search tests events that its options were chosen on, although they were tuned on an untested fold."""
        tuned = self.tuned
        if tuned is None or tuned.on == "all" or not set(tuned.methods) & set(self.method):
            return None
        names = ", ".join(tuned.methods)
        advice = "tune again for this search, or remove 'tuned' if none of its events were used in the tuning"
        if not in_order(self.combination):
            return (
                f"the options of {names} were tuned on fold 0, which combination '{self.combination}' tests: "
                f"use 'weighted' or 'sequential', or {advice}"
            )
        changed = [key for key in FOLD_KEYS if getattr(tuned, key) != getattr(self, key)]
        if not changed:
            return None
        then, now = (
            ", ".join(f"{key} {_shown(getattr(side, key))}" for key in changed) for side in (tuned, self)
        )
        return (
            f"the options of {names} were tuned on fold 0 with {then}, but the search has {now}, so that it may test "
            f"the same events: use {then}, or {advice}"
        )

    def resolved(self) -> dict[str, Any]:
        """All settings with every default written out, JSON-able."""
        settings = self.model_dump(mode="json")
        settings["options"] = {name: self.method_config(name).model_dump(mode="json") for name in self.method}
        return settings

    def digest(self) -> str:
        """Short hash of the resolved settings."""
        text = json.dumps(self.resolved(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def parse_config(settings: dict[str, Any], source: str = "search") -> SearchConfig:
    """Validate settings of a search.

    Raises
    ------
    InputError
        As :func:`parse_settings`, and if the search tests events that its options were tuned on (``tuned``).
    """
    config = parse_settings(SearchConfig, settings, source)
    if clash := config.tuning_clash():
        raise InputError(f"{source}: {clash}")
    return config


def parse_settings(model: type[Config], settings: dict[str, Any], source: str) -> Config:
    """Validate settings.

    Raises
    ------
    SettingsError
        Naming the key, the given value and the allowed ones.
    """
    try:
        return model(**settings)
    except ValidationError as error:
        raise SettingsError(source, _problems(error, model)) from None


def load_config(path: Path) -> dict[str, Any]:
    """Settings of a YAML file, not yet validated; dashes in keys count as underscores.

    Raises
    ------
    InputError
        If the file is missing or not a mapping in YAML.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: expected lines of the form 'key: value', for example 'mass: mjj'")
    return {str(key).replace("-", "_"): value for key, value in settings.items()}


def _shown(value: object) -> str:
    return "none" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


class SettingsError(InputError):
    """Settings that a model refuses.

    Attributes
    ----------
    source
        Where they come from.
    problems
        Pairs of a key and what is wrong with it; the key is empty if it is about several.
    """

    def __init__(self, source: str, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(f"{source}: {_in_words(problems)}")
        self.source, self.problems = source, problems


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Message on wrong keys of a configuration, with suggestions."""
    return _in_words(_problems(error, model))


def _in_words(problems: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{key}: {text}" if key else text for key, text in problems)


def _problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[str, str]]:
    found = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = Tuned.model_fields if problem["loc"][0] == "tuned" else model.model_fields
            near = difflib.get_close_matches(str(problem["loc"][-1]), list(known), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
            found.append(("", f"unknown option '{key}'{hint}"))
        else:
            found.append((key, problem["msg"].removeprefix("Value error, ")))
    return found
