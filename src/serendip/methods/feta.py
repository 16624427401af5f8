r"""FETA (arXiv:2212.11285): simulated events transported to the data.

An invertible map T from data to simulation is learnt in the sidebands, by maximising the likelihood of the transported data in the density of the simulation, and its inverse transports the simulated
events of the window to the background of the data:

.. math:: \ln p_\mathrm{data}(x \mid m) = \ln\left|\det\frac{\partial T}{\partial x}\right|
    + \ln p_\mathrm{sim}(T(x; m) \mid m), \qquad
    \text{template} = \{T^{-1}(x_i; m_i)\}, \; x_i \sim p_\mathrm{sim}(x \mid m_i)

The map acts between the nearly normal numbers of the data and those of the simulation
(:class:`~serendip.density.transforms.FeatureTransform`, one for each), and starts as the identity: so each single feature starts with its distribution in the data, and the map learns the rest. Unlike weights
(SALAD), a map can reach regions that the simulation leaves empty.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from serendip.density.preprocessing import Preprocessing
from serendip.density.transforms import FeatureTransform
from serendip.events.events import Events, Window
from serendip.methods.background import MassConfig, fit_masses
from serendip.methods.base import Template
from serendip.methods.simulation import EventsByMass, normalised, require_simulation
from serendip.methods.template_method import ClassifierConfig, TemplateMethod, sidebands_within

__all__ = ["Feta", "FetaConfig"]


class FetaConfig(MassConfig, ClassifierConfig):
    """Options of :class:`Feta`, with those of the mass fit and the classifier.

    Attributes
    ----------
    density
        Of the simulation: ``"spline"``, ``"spline-coupling"`` or ``"maf"``.
    steps, batch_size
        Training steps of the density of the simulation, and events of each model in a step of either training.
    transport_steps
        Training steps of the map.
    source
        Events to transport: ``"density"``, events drawn from the density of the simulation, in which the map was learnt,
        so that its errors cancel; or ``"events"``, the simulated events themselves, as published.
    sideband_gev
        How far the sidebands reach from the window, in GeV. Default: all events outside the window.
    oversample
        Template events per data event in the signal region.
    """

    density: Literal["spline", "spline-coupling", "maf"] = "spline"
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 512
    transport_steps: PositiveInt = 300
    source: Literal["density", "events"] = "density"
    sideband_gev: PositiveFloat | None = None
    oversample: PositiveFloat = 5.0


class Feta(TemplateMethod):
    """Signal region against simulation transported to the data by an invertible map."""

    name = "feta"
    title = "FETA: signal region against simulation transported to the data by a map learnt in the sidebands"
    needs_simulation = True
    Config = FetaConfig
    config: FetaConfig
    _simulated: Preprocessing
    _transforms: list[Preprocessing]

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if data or simulation have too few events in the window or a sideband."""
        super().check(events, window, splits)
        require_simulation(self.simulation, events, window, self.config.min_events, self.reach_gev)

    def make_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Learn the map in the sidebands and transport simulated events of the window, for each split."""
        self._learn_map(events, window, splits)
        m, weights = events.m, events.weights
        beside = sidebands_within(m, window, self.reach_gev)
        templates = []
        for k, mask in enumerate(splits):
            rng = np.random.default_rng([self.seed, k, 3])
            data, rows = mask & window.contains(m), mask & beside
            n = max(1, round(self.config.oversample * np.count_nonzero(data & (weights > 0))))
            spectrum = fit_masses(m[rows], weights[rows], window, self.config)
            x = self.predict_background(spectrum.sample(n, window.low, window.high, rng), k, rng)
            templates.append(Template(x=x, weights=np.full(n, weights[data].sum() / n)))
        return templates

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Simulated events at these masses, transported to the data by model ``split``, shape ``(n, d)``."""
        from serendip.torch_device import limited_threads

        u, ours = self._simulated.context(mass), self._transforms[split]
        with limited_threads(self.threads):
            if self.config.source == "events":
                z = self._z[self._by_mass.draw(mass, rng)]
            else:
                drawn = self._simulated.dequantise(self._density.sample(mass, rng=rng), rng)
                z, _ = self._simulated.forward(drawn, u)
            z = self.transport.invert(z, np.log(mass), np.log(mass), split)
        x: NDArray[np.float32] = ours.inverse(z, ours.context(mass)).astype(np.float32)
        return x

    def _learn_map(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        from serendip.density import make_density
        from serendip.density.transport import Transport, frozen_log_density
        from serendip.torch_device import limited_threads

        config = self.config
        simulation = require_simulation(
            self.simulation, events, window, self.config.min_events, self.reach_gev
        )
        simulation = simulation.select(simulation.weights > 0)
        x, m = simulation.x.astype(np.float64), simulation.m
        with limited_threads(self.threads):
            # of all masses: the simulation contains no signal
            self._density = make_density(
                config.density, steps=config.steps, batch_size=config.batch_size, seed=self.seed
            ).fit(x, m, weight=simulation.weights)
            log_density, (self._simulated,) = frozen_log_density(self._density)
            self._by_mass = EventsByMass(m, simulation.weights)
            self._z = normalised(self._simulated, simulation, [self.seed, 5])
            self._transforms, samples, groups = [], [], []
            for k, mask in enumerate(splits):
                used = events.select(
                    mask & sidebands_within(events.m, window, self.reach_gev) & (events.weights > 0)
                )
                transform = FeatureTransform.fit(
                    used.x.astype(np.float64), used.m, used.weights, np.random.default_rng([self.seed, k, 4])
                )
                self._transforms.append(transform)
                z = normalised(transform, used, [self.seed, k, 6])
                samples.append((z, np.log(used.m), used.weights / used.weights.mean()))
                groups.append(used.groups)
            self.transport = Transport(
                between_masses=False,
                steps=config.transport_steps,
                batch_size=config.batch_size,
                seed=self.seed,
            ).fit(samples, log_density, groups)
