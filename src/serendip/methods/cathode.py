r"""CATHODE (arXiv:2109.00546; with boosted trees: 2309.13111).

The features of background are learnt in the sidebands as a conditional density, which is then read off in the
signal region, where it was not trained:

.. math:: p_B(x \mid m \in \mathrm{SR}) \approx p_\mathrm{SB}(x \mid m), \qquad
    \text{template} = \{x_i \sim p_\mathrm{SB}(x \mid m_i)\}, \; m_i \sim \text{smooth fit of the sideband
    spectrum}

A classifier separates the data in the signal region from this template; background looks the same in both,
so that it can learn signal only. Unlike CWoLa, features may depend on the mass.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from serendip.classify.build import ClassifierName, build_classifier
from serendip.classify.splits import SplitClassifiers, fit_splits
from serendip.density import ConditionalDensity, make_density
from serendip.events.events import Events, Window
from serendip.methods.base import Method, MethodConfig, Template, as_splits, require_events
from serendip.statistics.fit import fit_spectrum

__all__ = ["Cathode", "CathodeConfig"]

_MASS_BINS = 40


class CathodeConfig(MethodConfig):
    """Options of :class:`Cathode`.

    Attributes
    ----------
    density
        ``"flow-matching"`` (all models train at once) or ``"spline"`` (a neural spline flow; one after the
        other).
    steps, batch_size
        Training steps of the density and events of each model in a step.
    sideband_gev
        How far the sidebands reach from the window, in GeV. Default: all events outside the window.
    spectrum
        Background function of the mass fit, by its name in :func:`serendip.statistics.functions.get_family`.
    spectrum_range
        How far the mass fit reaches from the window on either side, in widths of the window.
    oversample
        Template events per data event in the signal region.
    classifier
        ``"trees"`` or ``"network"``.
    members
        Classifiers that are averaged.
    min_events
        Fewest events in the window, and in each sideband, of the sample of one model.
    """

    density: Literal["flow-matching", "spline"] = "flow-matching"
    steps: PositiveInt = 2000
    batch_size: PositiveInt = 512
    sideband_gev: PositiveFloat | None = None
    spectrum: str = "exppoly"
    spectrum_range: PositiveFloat = 2.0
    oversample: PositiveFloat = 5.0
    classifier: ClassifierName = "trees"
    members: PositiveInt = 20
    min_events: PositiveInt = 20


class Cathode(Method):
    """Signal region against events drawn from a density that interpolates the sidebands.

    Attributes
    ----------
    density
        After ``fit``: the density of the background, one model for each split.
    """

    name = "cathode"
    title = "CATHODE: signal region against a template interpolated from the sidebands"
    Config = CathodeConfig
    config: CathodeConfig
    density: ConditionalDensity

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a sideband has too few events in a split."""
        m = events.m
        inside, sidebands = window.contains(m), self._within_reach(m, window)
        regions = {
            "signal region": inside,
            "lower sideband": sidebands & (m < window.low),
            "upper sideband": sidebands & (m >= window.high),
        }
        for mask in as_splits(splits, len(events)):
            for name, region in regions.items():
                require_events(mask & region & (events.weights > 0), self.config.min_events, name, window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Learn the background, draw the template and train the classifier, for each split.

        Parameters
        ----------
        events
            Signal region and sidebands; event weights are honoured.
        window
            The signal region.
        splits
            Shape ``(n_models, n_events)``; default: one model that sees everything.

        Raises
        ------
        InputError
            If a split has too few events in the window or in one of the sidebands.
        """
        masks = as_splits(splits, len(events))
        x, m, weights = events.x, events.m, events.weights
        inside = window.contains(m)
        sidebands = ~inside & self._within_reach(m, window)
        self.check(events, window, masks)
        self._learn_background(x[sidebands], m[sidebands], weights[sidebands], masks[:, sidebands])
        self._templates = [
            self._draw_template(m, weights, mask & inside, mask & sidebands, window=window, split=k)
            for k, mask in enumerate(masks)
        ]
        self._train_classifier(x[inside], weights[inside], masks[:, inside])
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Log-odds of data against template, shape ``(n_events,)``."""
        return self._classifiers.score(events.x, split)

    def template(self, split: int = 0) -> Template:
        """Return the events that model ``split`` drew; their weights sum to the data in the signal region."""
        return self._templates[split]

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Features drawn from the background density of model ``split`` at these masses, shape ``(n, d)``."""
        return self.density.sample(mass, split, rng=rng).astype(np.float32)

    def classifier(self) -> Any:
        """Return the untrained classifier; override it to use any other scikit-learn estimator."""
        config = self.config
        return build_classifier(
            config.classifier, members=config.members, seed=self.seed, threads=self.threads
        )

    def _within_reach(self, m: NDArray[np.float64], window: Window) -> NDArray[np.bool_]:
        reach = self.config.sideband_gev
        if reach is None:
            return np.ones(len(m), dtype=bool)
        return (m >= window.low - reach) & (m < window.high + reach)

    def _learn_background(
        self,
        x: NDArray[np.float32],
        m: NDArray[np.float64],
        weights: NDArray[np.float64],
        masks: NDArray[np.bool_],
    ) -> None:
        from serendip.density.device import limited_threads

        config = self.config
        density = make_density(
            config.density, steps=config.steps, batch_size=config.batch_size, seed=self.seed
        )
        with limited_threads(self.threads):
            self.density = density.fit(x, m, weight=weights, splits=masks)

    def _draw_template(
        self,
        m: NDArray[np.float64],
        weights: NDArray[np.float64],
        data: NDArray[np.bool_],
        sidebands: NDArray[np.bool_],
        *,
        window: Window,
        split: int,
    ) -> Template:
        """Draw background events of model ``split``, as many as ``oversample`` times the data."""
        from serendip.density.device import limited_threads

        rng = np.random.default_rng([self.seed, split, 3])
        n = max(1, round(self.config.oversample * np.count_nonzero(data & (weights > 0))))
        masses = self._draw_masses(m[sidebands], weights[sidebands], window, n, rng)
        with limited_threads(self.threads):
            x = self.predict_background(masses, split, rng)
        return Template(x=x, weights=np.full(n, weights[data].sum() / n))

    def _draw_masses(
        self,
        m: NDArray[np.float64],
        weights: NDArray[np.float64],
        window: Window,
        n: int,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Masses in the window from a fit of the spectrum beside it, shape ``(n,)``."""
        reach = self.config.spectrum_range * window.width
        low, high = max(window.low - reach, m.min()), min(window.high + reach, m.max())
        # the window's edges are bin edges: no bin is half data, half hidden
        width = (high - low) / _MASS_BINS
        parts = [(low, window.low), (window.low, window.high), (window.high, high)]
        pieces = [np.linspace(a, b, max(2, round((b - a) / width)) + 1) for a, b in parts]
        edges = np.unique(np.concatenate(pieces))
        counts = np.histogram(m, edges, weights=weights)[0]
        hidden = (edges[:-1] >= window.low) & (edges[1:] <= window.high)
        near = (m >= low) & (m <= high)
        scale = float((weights[near] ** 2).sum() / weights[near].sum())
        fit = fit_spectrum(counts, edges, self.config.spectrum, mask=hidden, scale=scale)
        return fit.sample(n, window.low, window.high, rng)

    def _train_classifier(
        self, x: NDArray[np.float32], weights: NDArray[np.float64], masks: NDArray[np.bool_]
    ) -> None:
        """Train data (class 1) against the template of the same split (class 0), with equal total weights."""
        sizes = [len(template.x) for template in self._templates]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        drawn = owner == np.arange(len(sizes))[:, None]
        table = np.concatenate([x, *(template.x for template in self._templates)])
        all_weights = np.concatenate([weights, *(template.weights for template in self._templates)])
        is_data = np.arange(len(table)) < len(x)
        self._classifiers: SplitClassifiers = fit_splits(
            self.classifier(), table, is_data, all_weights, np.concatenate([masks, drawn], axis=1)
        )
