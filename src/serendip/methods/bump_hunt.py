"""The inclusive bump hunt as a method: no cut at all.

Every event gets the same score, nothing is trained, and the only working point keeps all events. The look is then the
count of the whole sample in the window against the fit of the spectrum outside it
(:func:`serendip.statistics.bump.bump_hunt`): the benchmark for all other methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Events, Window
from serendip.methods.base import Method

__all__ = ["BumpHunt"]


class BumpHunt(Method):
    """All events, without a cut; uses no feature."""

    name = "bump-hunt"
    title = "Bump hunt: all events, no cut"
    working_points: ClassVar[tuple[float, ...] | None] = (1.0,)
    trains: ClassVar[bool] = False

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Return at once: there is nothing to learn."""
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Return zeros, shape ``(n_events,)``."""
        return np.zeros(len(events))

    def save_model(self, folder: Path, split: int) -> None:
        """Write nothing: there is no model."""

    def load_model(self, folder: Path) -> None:
        """Read nothing."""
