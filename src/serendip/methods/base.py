"""Base class of the search methods.

A method is a class in a file of its own. It is given events without labels and a window, and returns a score
that is higher for more signal-like events. Everything it needs from the outside is in this module.

Cross-training is part of the contract: ``fit`` receives ``splits``, a boolean array with one row for each
model to train, and model ``k`` may use only the events of row ``k``. A method that trains networks can so
train all rows in one batch; a simple one loops over them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.json import read_json
from serendip.version import __version__

__all__ = [
    "MODEL_FACTS",
    "BackgroundRequest",
    "HeldOut",
    "LearnedSignal",
    "Method",
    "MethodConfig",
    "Template",
    "as_splits",
    "read_model_facts",
    "require_events",
]

_HELD_OUT_COPIES = 4

MODEL_FACTS = "method.json"
"""File with the metadata of a saved model."""


class MethodConfig(BaseModel):
    """Options of one method; an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tunable: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Options that ``serendip tune`` may vary, and the values it may try."""


@dataclass(frozen=True)
class Template:
    """Template events of the background in the signal region.

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
class HeldOut:
    """Events that a model was not trained on, and its background template for them.

    Attributes
    ----------
    data, template
        Events of the signal region, and template events there; only relative weights matter.
    control, control_template
        The same where no signal is expected: an excess of the score there is an error of the template. None if the method has no such region.
    """

    data: Events
    template: Events
    control: Events | None = None
    control_template: Events | None = None


@dataclass(frozen=True)
class LearnedSignal:
    """Events drawn from a learnt signal.

    Attributes
    ----------
    x, m
        Features, shape ``(n, d)``, and masses in GeV, shape ``(n,)``.
    weights
        Weights, shape ``(n,)``; they sum to the signal events that the fit finds in the window.
    fraction, fraction_error
        Fraction of signal in the window, by events that did not train it.
    trained_fraction
        The fraction with which the signal was trained.
    gain
        How much this fraction gains in ln L over none.
    floor_gain
        The largest gain of the same fit where no signal is expected; None if that was not looked at.
    """

    x: NDArray[np.float32]
    m: NDArray[np.float64]
    weights: NDArray[np.float64]
    fraction: float
    fraction_error: float
    trained_fraction: float
    gain: float
    floor_gain: float | None


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
        Description of the method, in one line.
    uses_labels
        True for references that use the truth. Only these receive events with a label.
    needs_simulation
        True for methods that start from simulated background.
    working_points
        Background efficiencies at which this method is cut, if not those of the search; 1: no cut.
    trains
        False for a score that learns nothing from the data: all events are then one count, without folds.
    by_name_only
        True for a method not included in ``all``.
    Config
        The configuration class.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    uses_labels: ClassVar[bool] = False
    needs_simulation: ClassVar[bool] = False
    working_points: ClassVar[tuple[float, ...] | None] = None
    trains: ClassVar[bool] = True
    by_name_only: ClassVar[bool] = False
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

    @classmethod
    def uses_simulation(cls, config: Any) -> bool:
        """Whether a method of this configuration starts from simulated background; default: ``needs_simulation``."""
        return cls.needs_simulation

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
            Signal region and sidebands together; event weights are used.
        window
            The signal region.
        splits
            Shape ``(n_models, n_events)``; row ``k`` marks the training events of model ``k``.
            Default: one model trained on everything.

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

    def signal(self, split: int = 0, n: int = 5000) -> LearnedSignal | None:
        """Draw ``n`` events from the signal that model ``split`` learnt; None if the method learns none."""
        return None

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        """Features that model ``split`` expects of background at these masses, shape ``(n, d)``.

        Used for closure tests in held-out sidebands; None if the method has no conditional template.
        """
        return None

    def held_out(
        self, events: Events, window: Window, split: int, rng: np.random.Generator
    ) -> HeldOut | None:
        """Data and template for an evaluation of model ``split`` without labels; None if the method has no template.

        By default the features of background are drawn by :meth:`predict_background` at the masses of the data, and the control are the events within a width of the window.

        Parameters
        ----------
        events
            Events that model ``split`` was not trained on.
        window
            The signal region.
        split
            The model.
        rng
            Draws the template.
        """
        m = events.m
        inside = window.contains(m)
        beside = (m >= window.low - window.width) & (m < window.high + window.width) & ~inside
        data, control = events.select(inside), events.select(beside)
        template, control_template = (
            _background_at(self, sample, split, rng, _HELD_OUT_COPIES) for sample in (data, control)
        )
        if template is None:
            return None
        if control_template is None:
            return HeldOut(data, template)
        return HeldOut(data, template, control, control_template)

    def save(
        self, folder: str | Path, split: int = 0, *, features: Sequence[str], mass: str, window: Window
    ) -> None:
        """Write the files needed for scoring new events with model ``split`` into ``folder``; :meth:`load` reads it.

        A method that can be saved overrides :meth:`save_model` and :meth:`load_model`.

        Parameters
        ----------
        folder
            Made if it is not there.
        split
            The model to store; the loaded method has only this one, as model 0.
        features, mass, window
            Names of the features in their order, of the mass, and the signal region: the training setup of the model.

        Raises
        ------
        InputError
            If the method, or its classifier, cannot be stored.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_model(folder, split)
        facts = {
            "schema": 1,
            "serendip": __version__,
            "method": self.name,
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "split": split,
            "features": list(features),
            "mass": mass,
            "window": [window.low, window.high],
        }
        (folder / MODEL_FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Return a method that scores as the one that wrote ``folder``; it has the one model 0.

        Raises
        ------
        InputError
            If the folder contains no model of this method, or a damaged one.
        """
        folder = Path(folder)
        facts = read_model_facts(folder)
        if facts["method"] != cls.name:
            raise InputError(f"{folder} holds a model of method '{facts['method']}', not '{cls.name}'")
        try:
            config = cls.Config(**facts["config"])
        except ValidationError as error:
            raise InputError(
                f"{folder / MODEL_FACTS} has options unknown to method '{cls.name}' does not know: {error}"
            ) from None
        simulation = None
        if cls.uses_simulation(config):
            # everything learnt from simulation is in the folder
            columns = {name: np.empty(0) for name in (facts["mass"], *facts["features"])}
            simulation = Events(columns, mass=facts["mass"], features=tuple(facts["features"]))
        method = cls(config, seed=facts["seed"], threads=threads, simulation=simulation)
        method.load_model(folder)
        return method

    def save_model(self, folder: Path, split: int) -> None:
        """Write the parts of model ``split`` that :meth:`score` uses, each into a folder of its own.

        For example ``self._classifiers.save(folder / "classifier", split)`` and
        ``self.density.only(split).save(folder / "density")``. No pickle: opening a model must not run code.

        Raises
        ------
        InputError
            By default: the method cannot be saved.
        """
        raise InputError(f"method '{self.name}' cannot be saved")

    def load_model(self, folder: Path) -> None:
        """Read the files of :meth:`save_model`, as model 0; ``config``, ``seed`` and ``threads`` are set.

        For example ``self._classifiers = SplitClassifiers.load(folder / "classifier")`` and
        ``self.density = load_density(folder / "density")``.

        Raises
        ------
        InputError
            By default: the method cannot be loaded.
        """
        raise InputError(f"method '{self.name}' cannot be loaded")


def _background_at(
    method: Method, events: Events, split: int, rng: np.random.Generator, copies: int
) -> Events | None:
    """Background at the masses and with the weights of ``events``, ``copies`` times over."""
    mass = np.tile(events.m, copies)
    x = method.predict_background(mass, split, rng) if len(mass) else None
    if x is None:
        return None
    columns = {events.mass: mass} | {name: x[:, i] for i, name in enumerate(events.features)}
    if events.weight is not None:
        columns[events.weight] = np.tile(events.weights, copies) / copies
    return Events(columns, mass=events.mass, features=events.features, weight=events.weight)


def read_model_facts(folder: Path) -> dict[str, Any]:
    """Read the metadata of a saved model: method, config, features, mass, window, version.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another version.
    """
    path = folder / MODEL_FACTS
    facts = read_json(path, missing="the folder contains no model", schema=1)
    texts = [facts.get("method"), facts.get("mass"), *(facts.get("features") or [None])]
    if not (
        all(isinstance(text, str) for text in texts)
        and isinstance(facts.get("config"), dict)
        and isinstance(facts.get("seed"), int)
        and isinstance(facts.get("window"), list)
        and len(facts["window"]) == 2
    ):
        raise InputError(f"{path} is damaged: method, mass, features, config, seed or window is missing")
    return facts


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
        # the search may be blind: the number of events in the window must not be revealed
        number = "" if what == "signal region" else f": {found}"
        raise InputError(
            f"too few events to train on{number} in the {what} of the window {window}, at least {minimum} are "
            "needed; widen the window, use fewer folds or give more data"
        )
