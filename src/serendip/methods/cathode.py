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

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from serendip.density.base import ConditionalDensity
from serendip.events.events import Events, Window
from serendip.methods.background import BackgroundConfig, MassConfig, background_density, fit_masses
from serendip.methods.base import BackgroundRequest, Template
from serendip.methods.template_method import ClassifierConfig, TemplateMethod, sidebands_within

__all__ = ["Cathode", "CathodeConfig"]


class CathodeConfig(BackgroundConfig, MassConfig, ClassifierConfig):
    """Options of :class:`Cathode`, with those of the density, the mass fit and the classifier.

    Attributes
    ----------
    oversample
        Template events per data event in the signal region.
    density_members
        Densities, with seeds of their own, that draw the template in equal parts.
    """

    tunable: ClassVar[dict[str, tuple[Any, ...]]] = {
        "steps": (500, 1000, 2000, 4000),
        "sideband_gev": (None, 500.0, 1000.0),
        "oversample": (2.0, 5.0, 10.0),
        "classifier": ("trees", "network"),
        "select_by": ("loss", "argos"),
    }

    oversample: PositiveFloat = 5.0
    density_members: PositiveInt = 1

    def density_options(self) -> dict[str, Any]:
        """Options of the density model, by its names of them."""
        options = super().density_options()
        return options if self.density_members == 1 else options | {"ensemble": self.density_members}


class Cathode(TemplateMethod):
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

    def background_request(self, window: Window) -> BackgroundRequest:
        """Density of background outside the window, or of all events if it is shared."""
        return self.config.request(window)

    def make_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Learn the background and draw from it, for each split."""
        self.density = background_density(self, events, window, splits)
        return self.draw_templates(events, window, splits)

    def draw_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Draw ``oversample`` times as many events as there are data in the window, for each split."""
        m, weights = events.m, events.weights
        inside = window.contains(m)
        sidebands = sidebands_within(m, window, self.reach_gev)
        templates = []
        for k, mask in enumerate(splits):
            rng = np.random.default_rng([self.seed, k, 3])
            data, beside = mask & inside, mask & sidebands
            n = max(1, round(self.config.oversample * np.count_nonzero(data & (weights > 0))))
            spectrum = fit_masses(m[beside], weights[beside], window, self.config)
            masses = spectrum.sample(n, window.low, window.high, rng)
            x = self.predict_background(masses, k, rng)
            templates.append(Template(x=x, weights=np.full(n, weights[data].sum() / n)))
        return templates

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Features drawn from the background density of model ``split`` at these masses, shape ``(n, d)``."""
        from serendip.torch_device import limited_threads

        with limited_threads(self.threads):
            return self.density.sample(mass, split, rng=rng).astype(np.float32)
