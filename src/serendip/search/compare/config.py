"""The settings of a comparison, and which methods it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveInt, field_validator, model_validator

from serendip.errors import InputError
from serendip.methods.registry import METHODS, get_method
from serendip.search.config import SearchConfig, parse_settings
from serendip.search.fields import Listed

__all__ = [
    "MAY_CHANGE",
    "CompareConfig",
    "LeftOut",
    "choose_methods",
    "method_names",
    "parse_comparison",
]

MAY_CHANGE = (
    *("method", "options", "injections", "repeats", "working_points", "min_background"),
    *("simulation", "simulation_weight", "simulation_where"),
)
"""Settings that may change between two calls for one folder."""


def _coefficients(value: Any) -> Any:
    """Texts ``COL=C`` of the command line as a mapping."""
    if not isinstance(value, list):
        return value
    pairs = [text.rpartition("=") for text in value]
    try:
        found = {name.strip(): float(number) for name, _, number in pairs}
    except ValueError:
        found = {"": 0.0}
    if "" in found:
        raise ValueError("expected COL=NUMBER, e.g. mj1=0.1")
    return found


class CompareConfig(SearchConfig):
    """All settings that affect the numbers of a comparison: the keys of a search, with other defaults, and these."""

    no_flag = (
        SearchConfig.no_flag
        | dict.fromkeys(("scan", "width", "signal_width", "step"), "a comparison has one window")
        | {"toys": "there is no global p-value", "calibration": "is made for the events of one search"}
    )

    label: str | None = None
    """Column with the truth, 1 = signal, 0 = background; required."""
    method: Annotated[tuple[str, ...], Listed] = ("cwola",)
    """cwola[,cathode,...], or all (default): every method that can run."""
    folds: int = Field(default=5, ge=2, le=100)
    """Number of folds."""
    injections: Annotated[tuple[int, ...], Listed] = (0, 75, 150, 250, 500, 1000)
    """Signal events in the window, N[,N...]."""
    repeats: PositiveInt = 5
    """Random subsets of the signal for each number, each with its own folds and seeds."""
    min_background: PositiveInt = 26
    """Minimum number of background events in the window that pass the cut of a quoted SIC."""
    correlate: Annotated[dict[str, float], BeforeValidator(_coefficients)] = Field(default_factory=dict)
    """Stress: add C times the mass in GeV to a feature, COL=C; may be repeated."""
    noise: int = Field(default=0, ge=0, le=1000)
    """Stress: add N features of pure noise."""

    @field_validator("injections")
    @classmethod
    def _injections(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 0:
            raise ValueError("give numbers of signal events in the window, e.g. 0,75,150,250")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if self.window is None:
            raise ValueError("a comparison has one window (LO:HI), not a scan")
        return self


@dataclass(frozen=True)
class LeftOut:
    """A method that is not compared, and why; ``injection`` is None if it is missing everywhere."""

    method: str
    reason: str
    injection: int | None = None


def method_names(value: Any) -> list[str]:
    """Names of methods as a file or a flag gives them: a list, or text with commas; nothing means all.

    Raises
    ------
    InputError
        If it is something else.
    """
    if value is None:
        return ["all"]
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"method: {value!r} names no methods; expected a list such as [cwola, cathode], or all"
        )
    return [name.strip() for name in names]


def choose_methods(wanted: Sequence[str], *, simulation: bool) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Expand ``all`` to every method that can run.

    Parameters
    ----------
    wanted
        Names, or ``all``.
    simulation
        Whether there is simulated background for the methods that need it.

    Returns
    -------
    Names, and the methods that ``all`` does not bring, with the reason.
    """
    if "all" not in wanted:
        return tuple(dict.fromkeys(wanted)), ()
    names, left_out = [], []
    for name in METHODS:
        try:
            method = get_method(name)
        except InputError as error:
            left_out.append(LeftOut(name, str(error)))
            continue
        if method.by_name_only:
            left_out.append(LeftOut(name, "an outlier score beyond the two baselines: name it to compare it"))
        elif method.needs_simulation and not simulation:
            left_out.append(LeftOut(name, "needs simulated background (--simulation FILE)"))
        else:
            names.append(name)
    return tuple(names), tuple(left_out)


def parse_comparison(
    settings: Mapping[str, Any], source: str
) -> tuple[CompareConfig, tuple[LeftOut, ...], bool]:
    """Settings of a comparison, whose methods are a list, text with commas, ``all`` or nothing.

    Returns
    -------
    The configuration, the methods that ``all`` does not bring, and whether one that cannot train stops the comparison.

    Raises
    ------
    InputError
        Naming the key, the given value and the allowed ones.
    """
    names = method_names(settings.get("method"))
    chosen, left_out = choose_methods(names, simulation=settings.get("simulation") is not None)
    config = parse_settings(CompareConfig, {**settings, "method": chosen}, source)
    return config, left_out, "all" not in names
