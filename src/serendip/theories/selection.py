"""Selection of simulated events: objects as documented, at least one channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.objects import ObjectEvents
from serendip.theories.channels import CHANNELS, channel_named, select
from serendip.theories.harmonise import REQUIREMENTS, TRIGGERS, clean_objects, triggered

__all__ = ["ChannelSelection"]


@dataclass(frozen=True)
class ChannelSelection:
    """Clean the objects as :func:`~serendip.theories.harmonise.harmonise` does and select channels.

    Parameters
    ----------
    channels
        Names of channels.

    Raises
    ------
    InputError
        If a channel does not exist.
    """

    channels: Sequence[str] = tuple(CHANNELS)

    def __post_init__(self) -> None:
        for name in self.channels:
            channel_named(name)

    def only(self, channels: Sequence[str]) -> ChannelSelection:
        """The same for some of the channels."""
        return ChannelSelection(channels)

    @property
    def min_met(self) -> float:
        """Missing momentum (GeV) that an event in any channel has at least."""
        return min(channel_named(name).min_met for name in self.channels)

    def __call__(self, events: ObjectEvents) -> tuple[ObjectEvents, dict[str, NDArray[np.bool_]]]:
        """Events with clean objects, all of them, and the mask ``(n_events,)`` of each channel."""
        keep, _, _ = clean_objects(events)
        cleaned = events.keep_objects(keep)
        kept = triggered(cleaned)
        return cleaned, {name: kept & select(cleaned, name, max_jet_eta=None) for name in self.channels}

    def to_dict(self) -> dict[str, Any]:
        """The requirements, as JSON-able values."""
        return {
            "channels": {name: list(channel_named(name).cuts()) for name in self.channels},
            "objects": [str(requirement) for requirement in REQUIREMENTS],
            "one_object": [str(trigger) for trigger in TRIGGERS],
        }
