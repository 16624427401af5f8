"""What a search method is.

A method is a class in a file of its own. It is given events without labels and a window, and returns a score
that is higher for more signal-like events. Everything it needs from the outside is in this module.

Cross-training is part of the contract: ``fit`` receives ``splits``, a boolean array with one row for each
model to train, and model ``k`` may use only the events of row ``k``. A method that trains networks can so
train all rows in one batch; a simple one loops over them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from serendip.errors import InputError
from serendip.events.events import Events, Window

__all__ = ["Method", "MethodConfig", "Template", "as_splits", "require_events"]


class MethodConfig(BaseModel):
    """Options of one method; an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Template:
    """Events that stand for background in the signal region.

    Attributes
    ----------
    x
        Features, shape ``(n, d)``.
    weights
        Weights, shape ``(n,)``.
    """

    x: NDArray[np.float32]
    weights: NDArray[np.float64]


class Method(ABC):
    """Base class of all search methods.

    Attributes
    ----------
    name
        The name on the command line.
    title
        What the method does, in one line.
    uses_labels
        True for references that see the truth. Only these receive events with a label.
    Config
        The configuration class.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    uses_labels: ClassVar[bool] = False
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: Any = None, *, seed: int = 0, threads: int = 1) -> None:
        self.config = self.Config() if config is None else config
        self.seed = seed
        self.threads = threads

    def check(  # noqa: B027 - a method may have nothing to check
        self, events: Events, window: Window, splits: NDArray[np.bool_]
    ) -> None:
        """Stop if ``fit`` could not work with these events; called for all windows before anything is trained.

        Raises
        ------
        InputError
            If a row of ``splits`` has too few events.
        """

    @abstractmethod
    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train one model for each row of ``splits``.

        Parameters
        ----------
        events
            Signal region and sidebands together.
        window
            The signal region.
        splits
            Shape ``(n_models, n_events)``; row ``k`` marks the events that model ``k`` may see.
            Default: one model that sees everything.

        Raises
        ------
        InputError
            If a row has too few events in the signal region or the sidebands.
        """

    @abstractmethod
    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Anomaly score of model ``split``, shape ``(n_events,)``; higher = more signal-like."""

    def template(self, split: int = 0) -> Template | None:
        """Events that model ``split`` took for background in the signal region; None if it has none."""
        return None

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        """Features that model ``split`` expects of background at these masses, shape ``(n, d)``.

        Used for closure tests in held-out sidebands; None if the method has no conditional template.
        """
        return None


def as_splits(splits: NDArray[np.bool_] | None, n_events: int) -> NDArray[np.bool_]:
    """``splits`` as a boolean array of shape ``(n_models, n_events)``."""
    if splits is None:
        return np.ones((1, n_events), dtype=bool)
    splits = np.atleast_2d(np.asarray(splits, dtype=bool))
    if splits.shape[1] != n_events:
        msg = f"splits have {splits.shape[1]} columns for {n_events} events"
        raise ValueError(msg)
    return splits


def require_events(mask: NDArray[np.bool_], minimum: int, what: str, window: Window) -> None:
    """Stop with a readable message if a training sample is too small.

    Raises
    ------
    InputError
        If fewer than ``minimum`` entries of ``mask`` are true.
    """
    found = int(np.count_nonzero(mask))
    if found < minimum:
        raise InputError(
            f"too few events to train on: {found} in the {what} of the window {window}, at least {minimum} are "
            "needed; widen the window, use fewer folds or give more data"
        )
