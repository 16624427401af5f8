"""Options of a study of mixtures of theories."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
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
    "models": "Does a classifier of mixed theories beat those of single theories, and unsupervised scores, on theories it has not seen?",
    "saturation": "How many theories, and how many families of theories, are enough?",
    "families": "Is it interpolation: what is lost if a whole family is left out, and not one point of it?",
    "weights": "Does it matter how the theories are weighted?",
    "combination": "Is the mixture together with an unsupervised score better than each of them?",
    "excess": "Is the p-value of an excess behind a cut on the score true, and how large must a signal be?",
    "resonant": "Does the score help a search for a resonance?",
}
"""What a study can answer."""


class StudyConfig(BaseModel):
    r"""Options of a study.

    Attributes
    ----------
    background, theories
        Folders of ``serendip simulate channel``, or single files (Dark Machines CSV, Parquet).
    channels
        Channels; the total improvement is taken over them.
    questions
        Which to answer, see :data:`QUESTIONS`.
    harmonised
        Clean objects in all samples alike and select again.
    rotate
        Turn each event so that its missing momentum lies along :math:`\phi = 0`. The paper does not; trees then have to learn the symmetry.
    seed
        Of the design, the orders and the trainings.
    test_fraction
        Part of the background (and of the events of every theory) that trains nothing.
    held_out_families, held_out_points
        Part of the families that no training of ``models`` and ``saturation`` contains, and part of the points, of other
        families with at least two points. Theories that ``single`` names are not drawn.
    tested
        Theories or families by name that are held out instead of those drawn at random.
    min_events
        Fewest events of a theory in a channel.
    background_events, events_per_theory
        Most events of the background, and of each theory of a mixture, in a training. Of the background light events are taken at
        random and get larger weights (:mod:`serendip.study.thinning`).
    repeats
        Trainings of the same mixture with other seeds.
    orders
        Random orders in which theories are added; each has trainings of its own.
    steps
        Numbers of theories (and of families) on the way; all of them are always the last step. May differ by channel.
    mini
        Theories of a mini-mixture. Single theories are trained on as many events: ``mini`` times ``events_per_theory``, in steps of
        ``events_per_theory``. May differ by channel.
    single
        Theories that are trained alone in each channel (SSA): how many are drawn, or their names by channel.
    active_rounds
        Rounds in which weights of theories are learnt (``weights``).
    folds
        Parts in which families and points are left out one after the other.
    outliers
        Unsupervised scores by name.
    outlier_events
        Most background events that train an unsupervised score.
    networks
        Networks that are trained on the whole mixture beside the trees: ``dense`` (fully connected, on the same features), ``deepsets``,
        ``transformer``.
    network_background, network_events
        Most events of the background and of each theory that train a network.
    targets
        Background efficiencies.
    systematic
        Relative error of the expected background behind a cut (``excess``).
    experiments
        Pseudo-experiments in each channel (``excess``).
    resonance, resonant
        Theory that is searched for as a resonance, and the options of that search.
    boost
        Options of the classifier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    background: tuple[Path, ...] = Field(min_length=1)
    theories: tuple[Path, ...] = Field(min_length=1)
    channels: tuple[str, ...] = Field(default=tuple(CHANNELS), min_length=1)
    questions: tuple[Question, ...] = get_args(Question)
    harmonised: bool = True
    rotate: bool = True
    seed: NonNegativeInt = 1
    test_fraction: float = Field(default=0.4, gt=0.0, lt=1.0)
    held_out_families: float = Field(default=0.2, ge=0.0, lt=1.0)
    held_out_points: float = Field(default=0.2, ge=0.0, lt=1.0)
    tested: tuple[str, ...] = ()
    min_events: int = Field(default=200, ge=20)
    background_events: PositiveInt = 200_000
    events_per_theory: PositiveInt = 10_000
    repeats: PositiveInt = 3
    orders: PositiveInt = 5
    steps: tuple[PositiveInt, ...] | dict[str, tuple[PositiveInt, ...]] = (1, 3, 10, 30)
    mini: PositiveInt | dict[str, PositiveInt] = 10
    single: PositiveInt | dict[str, tuple[str, ...]] = 7
    active_rounds: PositiveInt = 3
    folds: int = Field(default=5, ge=2)
    outliers: tuple[str, ...] = tuple(SCORES.built_in)
    outlier_events: PositiveInt = 20_000
    networks: tuple[Literal["dense", "deepsets", "transformer"], ...] = ("dense", "deepsets")
    network_background: PositiveInt = 50_000
    network_events: PositiveInt = 1000
    targets: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    systematic: float = Field(default=0.1, ge=0.0)
    experiments: PositiveInt = 300
    resonance: str = "zprime2500_tt"
    resonant: ResonantConfig = ResonantConfig()
    boost: BoostConfig = BoostConfig()

    def of(self, name: Literal["steps", "mini", "single"], channel: str) -> Any:
        """Value of an option that may differ by channel."""
        value = getattr(self, name)
        return value[channel] if isinstance(value, dict) else value

    @field_validator(
        "background", "theories", "channels", "questions", "tested", "outliers", "networks", mode="before"
    )
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """One word, or words with commas, are a list."""
        if isinstance(value, Path):
            return (value,)
        if isinstance(value, str | int):
            return tuple(part.strip() for part in str(value).split(",") if part.strip())
        return value

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
