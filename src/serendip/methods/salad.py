r"""SALAD (arXiv:2001.05001): simulation that a classifier reweights to the data.

A classifier learns in the sidebands how data differ from simulation, as a function of features and mass. Its odds,
interpolated into the window, are weights that make the simulation there look like the background of the data:

.. math:: w(x, m) = \frac{p(\mathrm{data} \mid x, m)}{1 - p(\mathrm{data} \mid x, m)}
    \;\approx\; \frac{p_\mathrm{data}(x, m)}{p_\mathrm{sim}(x, m)}, \qquad
    \text{template} = \{(x_i, w(x_i, m_i))\}, \; m_i \in \mathrm{SR}

A second classifier separates the data of the window from this template. Weights can scale events but not create new ones, so by default each single feature is given its distribution in the data first.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from serendip.classify.splits import SplitClassifiers, fit_splits
from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.groups import with_own_groups
from serendip.methods.base import Template
from serendip.methods.simulation import EventsByMass, normalised, require_simulation
from serendip.methods.template_method import ClassifierConfig, TemplateMethod, sidebands_within

__all__ = ["Salad", "SaladConfig"]

_log = logging.getLogger(__name__)


class SaladConfig(ClassifierConfig):
    """Options of :class:`Salad`, with those of the classifier.

    Attributes
    ----------
    match
        Give each single feature of the simulation the distribution that it has in the sidebands of the data, before
        the weights are learnt: weights cannot fill a tail that the simulation lacks. False: the published method.
    reweighting_members, reweighting_rounds
        Networks that are averaged in the classifier between data and simulation, and most rounds of 40 steps that each
        is trained.
    sideband_gev
        How far the sidebands reach from the window, in GeV. Default: all events outside the window.
    """

    match: bool = True
    reweighting_members: PositiveInt = 4
    reweighting_rounds: PositiveInt = 60
    sideband_gev: PositiveFloat | None = None


class Salad(TemplateMethod):
    r"""Signal region against simulation with weights learnt in the sidebands.

    Attributes
    ----------
    effective_events
        After ``fit``, for each split: number of events without weights that would be as precise as the template,
        :math:`(\sum w)^2 / \sum w^2`.
    """

    name = "salad"
    title = "SALAD: signal region against simulation that is reweighted to the data in the sidebands"
    needs_simulation = True
    Config = SaladConfig
    config: SaladConfig

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if data or simulation have too few events in the window or a sideband."""
        super().check(events, window, splits)
        require_simulation(self.simulation, events, window, self.config.min_events, self.reach_gev)

    def make_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Learn the weights in the sidebands and give them to the simulation in the window, for each split.

        Raises
        ------
        InputError
            If the weights leave fewer than ``min_events`` effective events.
        """
        simulation = require_simulation(
            self.simulation, events, window, self.config.min_events, self.reach_gev
        )
        self._m = simulation.m
        self._learn_weights(events, simulation, window, splits)
        inside, total = window.contains(simulation.m), window.contains(events.m)
        templates, self.effective_events = [], []
        for k, mask in enumerate(splits):
            weights = self._weights[k][inside]
            effective = float(weights.sum() ** 2 / (weights**2).sum())
            self.effective_events.append(effective)
            _log.debug("split %d: %d simulated events, %.0f effective", k, len(weights), effective)
            if effective < self.config.min_events:
                raise InputError(
                    f"the weights leave {effective:.1f} effective of {len(weights)} simulated events in the window "
                    f"{window}, at least {self.config.min_events} are needed: simulation and data differ too much"
                )
            share = events.weights[mask & total].sum() / weights.sum()
            templates.append(Template(x=self._simulated[k][inside], weights=weights * share))
        return templates

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Simulated events near these masses, drawn by their weight in model ``split``, shape ``(n, d)``."""
        return self._simulated[split][EventsByMass(self._m, self._weights[split]).draw(mass, rng)]

    def _learn_weights(
        self, events: Events, simulation: Events, window: Window, splits: NDArray[np.bool_]
    ) -> None:
        from serendip.classify.networks import NetworkEnsemble

        m, theirs = simulation.m, self._fit_transform(simulation.select(simulation.weights > 0), 5)
        beside = sidebands_within(events.m, window, self.reach_gev)
        near = sidebands_within(m, window, self.reach_gev)
        self._simulated: list[NDArray[np.float32]] = []
        inputs, classes, weights, owners, tables = [], [], [], [], []
        groups: list[NDArray[np.int64]] = []
        for k, mask in enumerate(splits):
            data = events.select(mask & beside & (events.weights > 0))
            transform = self._fit_transform(data, k, 4)
            u = transform.context(m)
            if self.config.match:
                z = normalised(theirs, simulation, [self.seed, k, 6])
                self._simulated.append(transform.inverse(z, u).astype(np.float32))
            else:
                z = normalised(transform, simulation, [self.seed, k, 6])
                self._simulated.append(simulation.x)
            tables.append(np.column_stack([z, u]))
            own = np.column_stack([normalised(transform, data, [self.seed, k, 7]), transform.context(data.m)])
            inputs += [own, tables[k][near]]
            classes += [np.ones(len(data)), np.zeros(np.count_nonzero(near))]
            # equal totals: only the shape is learnt
            weights += [
                data.weights / data.weights.sum(),
                simulation.weights[near] / simulation.weights[near].sum(),
            ]
            owners.append(np.full(len(data) + np.count_nonzero(near), k))
            if (own_groups := with_own_groups(data.groups, int(np.count_nonzero(near)))) is not None:
                groups.append(own_groups)
        network = NetworkEnsemble(
            members=self.config.reweighting_members,
            batch_size=512,
            validation_fraction=0.1,
            max_rounds=self.config.reweighting_rounds,
            threads=self.threads,
            random_state=self.seed,
        )
        learnt: SplitClassifiers = fit_splits(
            network,
            np.concatenate(inputs),
            np.concatenate(classes),
            np.concatenate(weights),
            np.concatenate(owners) == np.arange(len(splits))[:, None],
            np.concatenate(groups) if groups else None,
        )
        self._weights = [
            simulation.weights * np.exp(learnt.score(table, k)) for k, table in enumerate(tables)
        ]

    def _fit_transform(self, events: Events, *stream: int) -> FeatureTransform:
        rng = np.random.default_rng([self.seed, *stream])
        return FeatureTransform.fit(events.x.astype(np.float64), events.m, events.weights, rng)
