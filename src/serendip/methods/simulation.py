"""Common base of methods that start from simulated background: checks, and drawing simulated events by mass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serendip.density.preprocessing import Preprocessing
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.weights import explain_negative_weights
from serendip.methods.template_method import sidebands_within

__all__ = ["EventsByMass", "normalised", "require_simulation"]

_NEIGHBOURS = 100


class EventsByMass:
    """Weighted events from which one near a given mass can be drawn.

    Parameters
    ----------
    m
        Masses in GeV, shape ``(n,)``.
    weights
        Not negative, shape ``(n,)``.
    """

    def __init__(self, m: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self._order = np.argsort(m, kind="stable")
        self._m = m[self._order]
        self._cumulative = np.cumsum(weights[self._order])

    def draw(self, mass: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
        """Row numbers of events, one for each mass, drawn by weight among the nearest 100 on either side."""
        total = self._cumulative[-1]
        reach = total * min(_NEIGHBOURS / len(self._m), 0.5)
        centre = np.clip(np.interp(mass, self._m, self._cumulative), reach, total - reach)
        level = centre + rng.uniform(-reach, reach, len(mass))
        rows = np.searchsorted(self._cumulative, level, side="right")
        return np.asarray(self._order[np.minimum(rows, len(self._order) - 1)])


def require_simulation(
    simulation: Events | None, events: Events, window: Window, minimum: int, reach_gev: float | None
) -> Events:
    """Return the simulation if it can provide a template.

    Raises
    ------
    InputError
        If its features are not those of the data, a weight is negative, or it has fewer than ``minimum`` events
        with a weight in the window or in a sideband.
    """
    assert simulation is not None
    if simulation.features != events.features:
        raise InputError(
            f"the simulation has the features {', '.join(simulation.features)}, the data "
            f"{', '.join(events.features)}; both need the same ones in the same order"
        )
    m, weights = simulation.m, simulation.weights
    if np.any(weights < 0):
        raise InputError(f"no template can be drawn from the simulation: {explain_negative_weights(weights)}")
    beside = sidebands_within(m, window, reach_gev)
    regions = {
        "signal region": window.contains(m),
        "lower sideband": beside & (m < window.low),
        "upper sideband": beside & (m >= window.high),
    }
    for name, region in regions.items():
        found = int(np.count_nonzero(region & (weights > 0)))
        if found < minimum:
            raise InputError(
                f"too few simulated events: {found} in the {name} of the window {window}, at least {minimum} are "
                "needed; simulate more, or choose another window"
            )
    return simulation


def normalised(transform: Preprocessing, events: Events, seed: list[int]) -> NDArray[np.float64]:
    """Features of events in the nearly normal numbers of a transform, spikes spread with ``seed``; shape ``(n, d)``."""
    x = transform.dequantise(events.x.astype(np.float64), np.random.default_rng(seed))
    return transform.forward(x, transform.context(events.m))[0]
