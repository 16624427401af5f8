"""One point of a theory of new physics: masses, settings and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from serendip.simulate.processes import Sample

__all__ = ["MIN_ACCEPTANCE", "Origin", "TheoryPoint"]

Origin = Literal["published", "substitute", "ours"]

MIN_ACCEPTANCE = 0.01


@dataclass(frozen=True)
class TheoryPoint:
    """A theory of new physics with fixed parameters.

    Attributes
    ----------
    name
        Process ID of its events and name of its file.
    family
        Points that share production and decay; where arXiv:2207.07631 has the family, its name there.
    masses
        Masses of the new particles in GeV.
    settings
        Lines for Pythia.
    slha
        Text of a SUSY Les Houches file, or None.
    origin
        ``published``: a signal of arXiv:2207.07631 or arXiv:2105.14027 under its published name. ``substitute``: what comes nearest to one
        that Pythia lacks, or that has no events in its channel as Pythia makes it. ``ours``: any other.
    acceptance
        Fraction of generated events in each channel of arXiv:2105.14027, as measured with the default detector (see
        :mod:`serendip.simulate.catalogue.acceptance`).
    """

    name: str
    family: str
    masses: Mapping[str, float]
    settings: tuple[str, ...]
    slha: str | None = None
    origin: Origin = "ours"
    acceptance: Mapping[str, float] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that hold at least :data:`MIN_ACCEPTANCE` of its events."""
        return tuple(name for name, value in self.acceptance.items() if value >= MIN_ACCEPTANCE)

    def sample(self) -> Sample:
        """What to generate."""
        return Sample(self.name, self.name, self.settings, self.channels, self.slha)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {**asdict(self), "channels": self.channels}
