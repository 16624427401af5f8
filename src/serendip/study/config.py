"""Options of a study of mixtures of theories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from serendip.outliers.registry import SCORES
from serendip.study.resonance.config import ResonantConfig
from serendip.theories.channels import CHANNELS
from serendip.theories.mixture import BoostConfig

__all__ = ["QUESTIONS", "Question", "StudyConfig"]

Question = Literal["models", "saturation", "families", "weights", "combination", "excess", "resonant"]

QUESTIONS: dict[str, str] = {
    "models": "Does a classifier of mixed theories beat those of single theories, and unsupervised scores, on unseen theories?",
    "saturation": "How many theories, and how many families of theories, are enough?",
    "families": "Is it interpolation: what is lost if a whole family is left out, and not one point of it?",
    "weights": "Does it matter how the theories are weighted?",
    "combination": "Is the mixture together with an unsupervised score better than each of them?",
    "excess": "Is the p-value of an excess after a cut on the score correct, and how large must a signal be?",
    "resonant": "Does the score help a search for a resonance?",
}
"""The questions of a study."""


def _listed(value: Any) -> Any:
    """One word or number, or text with commas, is a list."""
    if isinstance(value, Path):
        return (value,)
    if isinstance(value, str | int | float):
        return tuple(part.strip() for part in str(value).split(",") if part.strip())
    return value


_Listed = BeforeValidator(_listed)


class StudyConfig(BaseModel):
    """Options of a study; those that may differ by channel are a value, or one for each channel."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    no_flag: ClassVar[dict[str, str]] = {
        "background": "the argument of the command",
        "theories": "the argument of the command",
        "resonant": "--set resonant.OPTION=VALUE",
        "boost": "--set boost.OPTION=VALUE",
    }
    """Fields that are not flags of the command line, and why."""

    background: Annotated[tuple[Path, ...], _Listed] = Field(min_length=1)
    """Folders of serendip simulate channel, or single files (Dark Machines CSV, Parquet)."""
    theories: Annotated[tuple[Path, ...], _Listed] = Field(min_length=1)
    """The same for the theories."""
    channels: Annotated[tuple[str, ...], _Listed] = Field(default=tuple(CHANNELS), min_length=1)
    """Channels; the total improvement is taken over them."""
    questions: Annotated[tuple[Question, ...], _Listed] = get_args(Question)
    """Questions to answer: one or more with commas."""
    harmonised: bool = True
    """Apply the same object cleaning to all samples and select again."""
    rotate: bool = True
    """Rotate each event so that its missing momentum lies along phi = 0. The paper does not, and trees then have to learn the symmetry."""
    seed: NonNegativeInt = 1
    """Seed of the design, the orders and the trainings."""
    test_fraction: float = Field(default=0.4, gt=0.0, lt=1.0)
    """Fraction of the background, and of the events of every theory, held out from all trainings."""
    held_out_families: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Fraction of the families held out from the trainings of 'models' and 'saturation'; theories of --single are not drawn."""
    held_out_points: float = Field(default=0.2, ge=0.0, lt=1.0)
    """The same for points of the other families that have at least two."""
    tested: Annotated[tuple[str, ...], _Listed] = ()
    """Theories or families to hold out, by name, instead of drawing them at random."""
    min_events: int = Field(default=200, ge=20)
    """Fewest events of a theory in a channel."""
    background_events: PositiveInt = 200_000
    """Maximum number of background events in a training; events with small weights are sampled and reweighted."""
    events_per_theory: PositiveInt = 10_000
    """Maximum number of events of each theory of a mixture in a training."""
    repeats: PositiveInt = 3
    """Trainings of the same mixture with other seeds."""
    orders: PositiveInt = 5
    """Random orders in which theories are added; each has its own trainings."""
    steps: Annotated[tuple[PositiveInt, ...] | dict[str, tuple[PositiveInt, ...]], _Listed] = (1, 3, 10, 30)
    """Numbers of theories (and of families) on the way, N[,N...]; all of them are always the last step. May differ by channel."""
    mini: PositiveInt | dict[str, PositiveInt] = 10
    """Theories of a mini-mixture. Single theories are trained on as many events: this many times --events-per-theory, in steps of
    --events-per-theory. May differ by channel."""
    single: PositiveInt | dict[str, tuple[str, ...]] = 7
    """Theories with their own training in each channel (SSA): how many are drawn, or their names by channel."""
    active_rounds: PositiveInt = 3
    """Rounds in which weights of theories are learnt ('weights')."""
    folds: int = Field(default=5, ge=2)
    """Parts in which families and points are left out one after the other."""
    outliers: Annotated[tuple[str, ...], _Listed] = tuple(SCORES.built_in)
    """Unsupervised scores by name; default: all of this package."""
    outlier_events: PositiveInt = 20_000
    """Maximum number of background events for training an unsupervised score."""
    networks: Annotated[tuple[Literal["dense", "deepsets", "transformer"], ...], _Listed] = (
        "dense",
        "deepsets",
    )
    """Networks trained on the whole mixture in addition to the trees: dense (fully connected, on the same features), deepsets, transformer."""
    network_background: PositiveInt = 50_000
    """Maximum number of background events for training a network."""
    network_events: PositiveInt = 1000
    """Maximum number of events of each theory for training a network."""
    targets: Annotated[tuple[float, ...], _Listed] = (1e-2, 1e-3, 1e-4)
    """Background efficiencies."""
    systematic: float = Field(default=0.1, ge=0.0)
    """Relative error of the expected background passing a cut ('excess')."""
    experiments: PositiveInt = 300
    """Pseudo-experiments in each channel ('excess')."""
    resonance: str = "zprime2500_tt"
    """Theory to search for as a resonance."""
    resonant: ResonantConfig = ResonantConfig()
    """Options of that search."""
    boost: BoostConfig = BoostConfig()
    """Options of the classifier."""

    def of(self, name: Literal["steps", "mini", "single"], channel: str) -> Any:
        """Value of an option that may differ by channel."""
        value = getattr(self, name)
        return value[channel] if isinstance(value, dict) else value

    @field_validator("steps", "mini", "single", mode="before")
    @classmethod
    def _by_channel(cls, value: Any) -> Any:
        """YAML reads the names of two channels as numbers."""
        if not isinstance(value, dict):
            return value
        named = {str(channel): content for channel, content in value.items()}
        if unknown := sorted(set(named) - set(CHANNELS)):
            raise ValueError(f"there is no channel {', '.join(unknown)}; expected {', '.join(CHANNELS)}")
        return named

    @field_validator("channels")
    @classmethod
    def _channels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(CHANNELS))
        if unknown or len(set(value)) < len(value):
            raise ValueError(f"channels are different ones of {', '.join(CHANNELS)}, not {', '.join(value)}")
        return value

    @field_validator("outliers")
    @classmethod
    def _outliers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            SCORES[name]
        return value

    @field_validator("targets")
    @classmethod
    def _targets(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < target < 1 for target in value) or len(set(value)) < len(value):
            raise ValueError("background efficiencies are different numbers between 0 and 1")
        return tuple(sorted(value, reverse=True))

    @field_validator("steps")
    @classmethod
    def _rising(cls, value: Any) -> Any:
        def rising(steps: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(sorted(set(steps)))

        return {c: rising(steps) for c, steps in value.items()} if isinstance(value, dict) else rising(value)

    @model_validator(mode="after")
    def _all_channels(self) -> Self:
        for name in ("steps", "mini", "single"):
            value = getattr(self, name)
            if isinstance(value, dict) and (missing := [c for c in self.channels if c not in value]):
                raise ValueError(f"{name} has no value for channel {', '.join(missing)}")
        return self
