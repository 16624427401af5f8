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

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window

__all__ = ["BackgroundRequest", "Method", "MethodConfig", "Template", "as_splits", "require_events"]


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


@dataclass(frozen=True)
class BackgroundRequest:
    """A density p(x|m) of background that several methods, or several windows, can share.

    Two equal requests are one training: the engine makes it once and hands it to every method that asked.

    Attributes
    ----------
    density
        Kind of density model, as in :func:`serendip.density.make_density`.
    options
        Its options, as sorted pairs.
    outside
        Train on the events outside this window; None: on all events, for every window of a scan.
    reach_gev
        How far from the window the training events may lie; None: any distance.
    """

    density: str
    options: tuple[tuple[str, Any], ...]
    outside: Window | None
    reach_gev: float | None = None


class Method(ABC):
    """Base class of all search methods.

    Parameters
    ----------
    config
        Options; default: ``Config()``.
    seed
        Everything random follows from it.
    threads
        Threads that training may use.
    simulation
        Simulated background with the same features, for methods with ``needs_simulation``.
    background
        A trained density that answers ``background_request``; default: the method trains its own.

    Attributes
    ----------
    name
        The name on the command line.
    title
        What the method does, in one line.
    uses_labels
        True for references that see the truth. Only these receive events with a label.
    needs_simulation
        True for methods that start from simulated background.
    working_points
        Background efficiencies at which this method is cut, if not those of the search.
    Config
        The configuration class.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    uses_labels: ClassVar[bool] = False
    needs_simulation: ClassVar[bool] = False
    working_points: ClassVar[tuple[float, ...] | None] = None
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(
        self,
        config: Any = None,
        *,
        seed: int = 0,
        threads: int = 1,
        simulation: Events | None = None,
        background: ConditionalDensity | None = None,
    ) -> None:
        self.config = self.Config() if config is None else config
        self.seed = seed
        self.threads = threads
        self.simulation = simulation
        self.background = background
        if self.needs_simulation and simulation is None:
            raise InputError(
                f"method '{self.name}' starts from simulated background: give a second sample with the same "
                "columns (--simulation FILE)"
            )

    def background_request(self, window: Window) -> BackgroundRequest | None:
        """Density of background that ``fit`` would train for this window; None if the method needs none."""
        return None

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
