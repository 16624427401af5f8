"""Common base of ANODE and R-ANODE: a score that is a ratio to the background density, without a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from serendip.density import load_density
from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.models import read_arrays, write_arrays
from serendip.methods.background import BackgroundConfig, background_density
from serendip.methods.base import BackgroundRequest, Method, MethodConfig
from serendip.methods.template_method import require_sidebands

__all__ = ["DensityRatioConfig", "DensityRatioMethod"]

_RANGE = "range.safetensors"


class DensityRatioConfig(BackgroundConfig):
    """Options of every density ratio, with those of the density of background.

    Attributes
    ----------
    min_events
        Fewest events in the window, and in each sideband, of the sample of one model.
    """

    min_events: PositiveInt = 100


class DensityRatioMethod(Method):
    """A method whose score is ln of a density minus ln p_B(x|m) at the middle of the window.

    Attributes
    ----------
    density
        After ``fit``: the density of background, one model for each split.
    """

    Config: ClassVar[type[MethodConfig]] = DensityRatioConfig
    config: DensityRatioConfig
    density: ConditionalDensity
    _window: Window

    def background_request(self, window: Window) -> BackgroundRequest:
        """Density of background outside the window, or of all events if it is shared."""
        return self.config.request(window)

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a sideband has too few events in a split."""
        require_sidebands(events, window, splits, self.config.min_events, self.config.sideband_gev)

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Features drawn from the background density of model ``split`` at these masses, shape ``(n, d)``."""
        from serendip.torch_device import limited_threads

        with limited_threads(self.threads):
            return self.density.sample(mass, split, rng=rng).astype(np.float32)

    def save_model(self, folder: Path, split: int) -> None:
        """Write the density of background of model ``split``, the window and the range of the data in it."""
        self.density.only(split).save(folder / "density")
        low, high = self._ranges[split]
        edges = np.array([self._window.low, self._window.high])
        write_arrays(folder / _RANGE, {"low": low, "high": high, "window": edges})

    def load_model(self, folder: Path) -> None:
        """Read the density of background, the window and the range of the data as those of model 0.

        Raises
        ------
        InputError
            If they are missing or damaged.
        """
        arrays = read_arrays(folder / _RANGE, "low", "high", "window", finite=True)
        low, high, edges = arrays["low"], arrays["high"], arrays["window"]
        if low.ndim != 1 or low.shape != high.shape or (low > high).any() or edges.shape != (2,):
            raise InputError(f"{folder / _RANGE} is damaged: it contains no range of features or no window")
        self._window = Window(float(edges[0]), float(edges[1]))
        self._ranges = [(low, high)]
        self.density = load_density(folder / "density")

    def _learn_background(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Check the events, train or take the background, and remember the window and the range of the data in it."""
        self.check(events, window, splits)
        self._window = window
        self.density = background_density(self, events, window, splits)
        inside = window.contains(events.m) & (events.weights > 0)
        self._ranges = [(events.x[rows].min(0), events.x[rows].max(0)) for rows in splits & inside]

    def _held(self, events: Events, split: int) -> NDArray[np.float64]:
        """Features moved to the nearest value that split ``split`` saw in the window, shape ``(n_events, d)``.

        Far outside, a ratio of two densities is a ratio of two guesses of the tails, and can be anything.
        """
        return np.clip(events.x, *self._ranges[split]).astype(np.float64)
