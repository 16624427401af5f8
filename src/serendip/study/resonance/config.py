"""Options of the question about a resonance."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from serendip.study.resonance.table import MassName
from serendip.theories.mixture import BoostConfig, MixtureConfig

__all__ = ["ResonantConfig"]


class ResonantConfig(BaseModel):
    r"""Options.

    Attributes
    ----------
    mass, max_delta_eta
        As in :func:`~serendip.study.resonance.table.resonant_table`.
    window, window_share
        Signal region in GeV; None: the shortest interval with this share of the signal. The signal outside raises the expected background, the
        more the smaller the share is.
    range
        Masses of the table and of the fit of the background, GeV; None: from 0.8 times the lower edge of the window to twice the upper one.
        Samples of simulation with large weights, such as low slices of pT, should not reach into it.
    data_fraction, flatten_fraction
        Parts of the background that become pseudo-data, and that take the mass out of the score; the rest trains the classifier.
    flatten_features
        Take the mass out of the plain features too, as CWoLa needs it; to numbers of objects a uniform random number is added first, so that their steps do not reveal the mass.
    smear
        Width of the normal noise added to the score before it is decorrelated from the mass, in standard deviations of the score. A score of
        trees has steps; without noise their positions after the decorrelation would reveal the mass exactly.
    without
        Families left out of the mixture in addition to that of the resonance.
    max_overweight
        As in :func:`~serendip.study.resonance.table.unweight`.
    min_events
        Fewest effective events of pseudo-data.
    injections
        Signal in the window, in units of :math:`S/\sqrt{B}`.
    seeds
        Repeats: each draws other signal events, folds and networks.
    working_points, folds, background
        As in a search.
    method, options
        Method of the search, and its options. ``"supervised"`` or ``"idealised"``, which use the truth, show the potential of the inputs when training is not a limitation.
    min_background
        Background events in the window that a quoted SIC leaves at least.
    mixture
        Options of the classifier; by default with small steps, for a smooth score.
    seed
        Of all that is random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mass: MassName = "mt_jj"
    max_delta_eta: float = Field(default=1.3, gt=0.0)
    window: tuple[float, float] | None = None
    window_share: float = Field(default=0.68, gt=0.0, lt=1.0)
    range: tuple[float, float] | None = None
    data_fraction: float = Field(default=0.7, gt=0.0, lt=1.0)
    flatten_fraction: float = Field(default=0.15, gt=0.0, lt=1.0)
    flatten_features: bool = True
    smear: float = Field(default=0.1, ge=0.0)
    without: tuple[str, ...] = ()
    max_overweight: float = Field(default=0.05, ge=0.0, lt=1.0)
    min_events: PositiveInt = 1000
    injections: tuple[float, ...] = (0.0, 2.0, 4.0)
    seeds: PositiveInt = 5
    working_points: tuple[float, ...] = (0.1, 0.03)
    folds: int = Field(default=5, ge=2, le=100)
    background: str = "exppoly"
    method: str = "cwola"
    options: dict[str, Any] = Field(default_factory=dict)
    min_background: PositiveInt = 20
    mixture: MixtureConfig = MixtureConfig(boost=BoostConfig(learning_rate=0.02, patience=100))
    seed: NonNegativeInt = Field(default=1, lt=2**32)

    @field_validator("injections")
    @classmethod
    def _injections(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) < 0:
            raise ValueError("give sizes of the signal in units of S/sqrt(B), e.g. 0, 2, 4")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _parts(self) -> ResonantConfig:
        if self.data_fraction + self.flatten_fraction >= 1:
            raise ValueError("data_fraction and flatten_fraction leave nothing to train on")
        return self
