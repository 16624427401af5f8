r"""An ensemble of methods (compare arXiv:2307.11157): the mean of several scores, each on the same scale.

Scores of different methods cannot be averaged directly. Each is first turned into the background efficiency of a
cut at it,

.. math:: y_c(s) = -\log_{10} \varepsilon_c(s), \qquad s(x) = \frac{1}{C} \sum_c y_c(s_c(x))

where :math:`\varepsilon_c(s)` is the fraction of the training events outside the window with a score of s or more.
Beyond their highest score y goes on as for an exponential tail, so that the best events stay in order. The map is fixed by
training events, so the score of an event depends on no other event that is tested, and its p-value is as valid as
that of any method.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.models import read_model, write_model
from serendip.methods.background import train_background
from serendip.methods.base import (
    BackgroundRequest,
    Method,
    MethodConfig,
    Template,
    as_splits,
    require_events,
)

__all__ = ["EfficiencyMap", "Ensemble", "EnsembleConfig"]

Array = NDArray[np.float64]

# enough to know a background efficiency of 1e-3 to a fifth; scoring more is not worth the cost
_MAP_EVENTS = 20_000
_MIN_MAP_EVENTS = 50
_TAIL_EVENTS = 20


@dataclass(frozen=True)
class EfficiencyMap:
    r"""A rising map from scores to :math:`-\log_{10}` of the background efficiency.

    Attributes
    ----------
    score, value
        Knots, rising, shape ``(n_knots,)``; between them the map is linear.
    scale
        Mean excess of the highest scores over their threshold: beyond the last knot
        :math:`y = y_n + (s - s_n) / (\ln 10 \cdot \mathrm{scale})`.
    """

    score: Array
    value: Array
    scale: float

    @classmethod
    def fit(cls, score: Array, weights: Array) -> Self:
        """Learn the map from scores of background events and their weights (positive), shape ``(n,)``."""
        knots, inverse = np.unique(score, return_inverse=True)
        weight = np.bincount(inverse, weights=weights)
        above = np.cumsum(weight[::-1])[::-1]
        order = np.argsort(score)[::-1]
        n_tail = max(1, min(_TAIL_EVENTS, len(score) // 10))
        tail = order[:n_tail]
        threshold = score[order[min(n_tail, len(score) - 1)]]
        scale = float(np.average(score[tail] - threshold, weights=weights[tail]))
        # a classifier that saturates has no tail to measure
        fallback = float(knots[-1] - knots[0]) or 1.0
        # of scores that differ by less than rounding no tail can be continued: the map would end flat
        least = 1e-6 * max(1.0, float(np.abs(knots).max()))
        scale = max(scale if scale > 1e-9 * fallback else fallback, least)
        return cls(knots, -np.log10(above / above[0]), scale)

    def __call__(self, score: Array) -> Array:
        """Apply the map to scores, shape ``(n,)``."""
        # between its two knots also after rounding: otherwise neighbours could be swapped at a knot
        upper = np.clip(np.searchsorted(self.score, score, side="right"), 1, len(self.score) - 1)
        y: Array = np.interp(score, self.score, self.value)
        if len(self.score) > 1:
            y = np.clip(y, self.value[upper - 1], self.value[upper])
        y += np.maximum(score - self.score[-1], 0.0) / (np.log(10) * self.scale)
        # no efficiency is above 1: below the lowest knot the order is kept within the weight of one event
        below = np.maximum(self.score[0] - score, 0.0)
        y -= below / (below + self.scale) / (len(self.score) * np.log(10))
        return y


class EnsembleConfig(MethodConfig):
    """Options of :class:`Ensemble`.

    Attributes
    ----------
    methods
        Names of the methods that are averaged.
    options
        Options of each of them, by name.
    """

    methods: tuple[str, ...] = ("cwola", "cathode", "lacathode")
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("methods")
    @classmethod
    def _methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from serendip.methods.registry import get_method

        if not value:
            raise ValueError("an ensemble needs at least one method")
        for name, count in Counter(value).items():
            if count > 1:
                raise ValueError(f"method '{name}' is named {count} times")
            try:
                method = get_method(name)
            except InputError as error:
                raise ValueError(str(error)) from None
            if issubclass(method, Ensemble):
                raise ValueError("an ensemble cannot contain an ensemble: name its methods")  # noqa: TRY004
            if method.uses_labels:
                raise ValueError(f"method '{name}' uses the truth labels and cannot be part of a search")
            if method.working_points == (1.0,):
                raise ValueError(f"method '{name}' makes no cut and has no score to average")
        return value

    @model_validator(mode="after")
    def _options(self) -> Self:
        for name in self.options:
            if name not in self.methods:
                raise ValueError(
                    f"options are given for '{name}', which is not among {', '.join(self.methods)}"
                )
        for name in self.methods:
            try:
                self.method_config(name)
            except ValidationError as error:
                texts = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
                raise ValueError(f"options of '{name}': {'; '.join(texts)}") from None
        return self

    def method_config(self, name: str) -> Any:
        """Validated configuration of one of the methods."""
        from serendip.methods.registry import get_method

        return get_method(name).Config(**self.options.get(name, {}))


class Ensemble(Method):
    """Mean of the scores of several methods, each as background efficiency.

    Attributes
    ----------
    components
        The methods, in the order of the configuration.
    """

    name = "ensemble"
    title = "Ensemble: mean of several methods, each as background efficiency"
    Config = EnsembleConfig
    config: EnsembleConfig

    def __init__(self, config: Any = None, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        from serendip.methods.registry import get_method

        self.components: list[Method] = [
            get_method(name)(
                self.config.method_config(name),
                seed=self.seed,
                threads=self.threads,
                simulation=self.simulation,
            )
            for name in self.config.methods
        ]

    @classmethod
    def uses_simulation(cls, config: Any) -> bool:
        """Whether one of the methods starts from simulated background."""
        from serendip.methods.registry import get_method

        return any(get_method(name).uses_simulation(config.method_config(name)) for name in config.methods)

    def background_request(self, window: Window) -> BackgroundRequest | None:
        """Density requested by the methods, if all that need one request the same."""
        requests = {request for c in self.components if (request := c.background_request(window)) is not None}
        return requests.pop() if len(requests) == 1 else None

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Ask all methods, and stop if too few events outside the window are left for the map."""
        for component in self.components:
            component.check(events, window, splits)
        outside = ~window.contains(events.m) & (events.weights > 0)
        for mask in as_splits(splits, len(events)):
            require_events(mask & outside, _MIN_MAP_EVENTS, "sidebands", window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train all methods on the same splits, and learn the map of each score from the split's own sidebands.

        Methods that request the same background density share one training. Arguments as in :meth:`.Method.fit`.

        Raises
        ------
        InputError
            If a method finds too few events.
        """
        masks = as_splits(splits, len(events))
        self.check(events, window, masks)
        densities: dict[BackgroundRequest, ConditionalDensity] = {}
        given = self.background_request(window)
        if given is not None and self.background is not None:
            densities[given] = self.background
        for component in self.components:
            request = component.background_request(window)
            if request is not None:
                if request not in densities:
                    densities[request] = train_background(
                        request, events, masks, seed=self.seed, threads=self.threads
                    )
                component.background = densities[request]
            component.fit(events, window, masks)
        outside = ~window.contains(events.m) & (events.weights > 0)
        self._maps: list[list[EfficiencyMap]] = []
        for k, mask in enumerate(masks):
            rows = np.flatnonzero(mask & outside)
            if len(rows) > _MAP_EVENTS:
                rng = np.random.default_rng([self.seed, k, 7])
                rows = np.sort(rng.choice(rows, _MAP_EVENTS, replace=False))
            sample = events.select(rows)
            self._maps.append(
                [
                    EfficiencyMap.fit(component.score(sample, k), sample.weights)
                    for component in self.components
                ]
            )
        return self

    def score(self, events: Events, split: int = 0) -> Array:
        r"""Mean of :math:`-\log_{10}` background efficiency over the methods, shape ``(n_events,)``."""
        if len(events) == 0:
            return np.empty(0)
        parts = [
            efficiency(component.score(events, split))
            for component, efficiency in zip(self.components, self._maps[split], strict=True)
        ]
        return np.asarray(np.mean(parts, axis=0))

    def template(self, split: int = 0) -> Template | None:
        """Template of the first method that has one."""
        found = (component.template(split) for component in self.components)
        return next((template for template in found if template is not None), None)

    def predict_background(
        self, mass: Array, split: int, rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        """Features that the first method that predicts any expects of background."""
        found = (component.predict_background(mass, split, rng) for component in self.components)
        return next((x for x in found if x is not None), None)

    def save_model(self, folder: Path, split: int) -> None:
        """Write model ``split`` of every method, and the maps of their scores."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, (component, efficiency) in enumerate(zip(self.components, self._maps[split], strict=True)):
            part = folder / str(i)
            part.mkdir(exist_ok=True)
            component.save_model(part, split)
            arrays |= {f"{i}.score": efficiency.score, f"{i}.value": efficiency.value}
            arrays[f"{i}.scale"] = np.array([efficiency.scale])
        write_model(folder / "maps", {"kind": "efficiency-maps"}, arrays)

    def load_model(self, folder: Path) -> None:
        """Read every method and map as model 0."""
        for i, component in enumerate(self.components):
            component.load_model(folder / str(i))
        _, arrays = read_model(folder / "maps")
        self._maps = [
            [
                EfficiencyMap(arrays[f"{i}.score"], arrays[f"{i}.value"], float(arrays[f"{i}.scale"][0]))
                for i in range(len(self.components))
            ]
        ]
