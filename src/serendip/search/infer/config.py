"""The settings of a measurement of the signal strength."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from serendip.methods.ranode import RanodeConfig
from serendip.methods.signal.family import FamilyConfig
from serendip.search.config import SearchConfig
from serendip.search.fields import Expressions, Listed

__all__ = ["InferConfig"]

_IDLE = (
    "scan",
    "width",
    "signal_width",
    "step",
    "working_points",
    "orders",
    "simulation",
    "simulation_weight",
    "simulation_where",
    "tuned",
)
_IDLE_OPTIONS = ("fraction", "scan_points", "spectrum", "spectrum_range", "floor")


class InferConfig(SearchConfig):
    """All settings that affect the numbers of a measurement: the keys of a search with one window, and these.

    Options of the densities are those of R-ANODE, under ``options: {ranode: ...}``; the mass fit is that of
    ``background`` and ``range``.
    """

    no_flag = (
        SearchConfig.no_flag
        | dict.fromkeys((*_IDLE, "calibration", "counting"), "belongs to a search")
        | {
            "method": "the densities are those of R-ANODE",
            "label": "the truth is not used",
            "family": "--set family.OPTION=VALUE",
        }
    )

    combination: Literal["kfold", "sequential"] = "kfold"  # type: ignore[assignment]
    """Without a simulated signal: kfold (default), each fold is evaluated with a signal learnt on all others; or sequential: on the earlier ones, and fold 0 is not judged."""
    method: Annotated[tuple[str, ...], Listed] = ("ranode",)
    folds: int = Field(default=5, ge=2, le=100)
    """Number of folds."""
    toys: int = Field(default=500, ge=100)
    """Toys at each tested strength."""
    signal: str | None = None
    """Simulated signal with the same columns; default: learnt from the data."""
    signal_weight: str | None = None
    """Column with the weights of the simulated signal."""
    signal_where: str | None = None
    """Cut on the simulated signal, e.g. 'truth==1'."""
    parameters: Expressions = ()
    """Columns of the simulated signal with its parameters, e.g. mx,my."""
    grid_points: int = Field(default=12, ge=3, le=100)
    """Values of each parameter at which the likelihood is evaluated."""
    family: FamilyConfig = Field(default_factory=FamilyConfig)
    """Options of the density of the simulated signal."""
    normalisation: Literal["constrained", "floating"] = "constrained"
    """constrained (default): the amount of background is that of the mass fit, within its error; or floating: only the shapes are used."""
    half_samples: int = Field(default=2, ge=0, le=20)
    """Pairs of halves of the sidebands on which the background is retrained, for its systematic error, or 0."""
    spurious: Literal["measured"] | float = "measured"
    """Standard deviation of the spurious signal in events: measured (from the half samples and the control windows), or a number."""
    scan_points: int = Field(default=6, ge=0, le=50)
    """Fractions of signal from 1e-4 to 0.1 at which the learnt signal is retrained (arXiv:2506.00119), or 0."""
    retrain: int = Field(default=0, ge=0)
    """Pseudo-experiments without signal and with the measured one, in which the signal is relearnt."""
    draws: int = Field(default=50_000, ge=1000)
    """Events drawn from each density for the expectations of the toys."""

    @field_validator("spurious")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if value != "measured" and not 0 <= value < float("inf"):
            raise ValueError("'measured' or a number of events that is not negative is expected")
        return value

    @model_validator(mode="before")
    @classmethod
    def _family_options(cls, given: Any) -> Any:
        """``--set family.steps=500`` arrives among the options of methods."""
        if not isinstance(given, dict) or "family" not in (given.get("options") or {}):
            return given
        options = dict(given["options"])
        own = options.pop("family")
        return given | {"options": options, "family": {**(given.get("family") or {}), **own}}

    @model_validator(mode="after")
    def _one_measurement(self) -> Self:
        if self.window is None:
            raise ValueError("a measurement has one window (LO:HI), not a scan")
        for name in _IDLE:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a setting of a search and is not used here; remove it")
        if self.method != ("ranode",):
            raise ValueError(
                "the densities are those of R-ANODE: remove method, and set options under 'ranode'"
            )
        for name in _IDLE_OPTIONS:
            if getattr(self.ranode, name) != RanodeConfig.model_fields[name].default:
                raise ValueError(f"ranode.{name} is not used here; see scan_points, background and range")
        if self.ranode.background == "shared":
            raise ValueError(
                "a background that is shared by windows saw the events of this one; use ranode.background 'window'"
            )
        if self.signal is None:
            for name in ("signal_weight", "signal_where", "parameters", "grid_points", "family"):
                field = type(self).model_fields[name]
                if getattr(self, name) != field.get_default(call_default_factory=True):
                    raise ValueError(f"{name} requires a simulated signal, and none is given (signal)")
        else:
            if self.scan_points not in (0, type(self).model_fields["scan_points"].default):
                raise ValueError(
                    "scan_points applies to a signal learnt from the data, but a simulated one is given"
                )
            if self.retrain:
                raise ValueError(
                    "retrain applies to a signal learnt from the data, but a simulated one is given"
                )
        return self

    @property
    def ranode(self) -> RanodeConfig:
        """Options of the densities."""
        return self.method_config("ranode")  # type: ignore[no-any-return]
