r"""CURTAINs (arXiv:2203.09470) and CURTAINsF4F (2305.04646): sideband events carried into the signal region.

An invertible map T that depends on two masses is learnt between all masses of the strips beside the window, and
then carries the events of the strips into it:

.. math:: \text{template} = \{T(x_i;\, m_i \to m'_i)\}, \; m_i \in \text{strips}, \; m'_i \sim \text{smooth fit
    of the sideband spectrum}

Either events are to be as probable as possible where they arrive (*flows for flows*), with the density of the
background that CATHODE learns as well,

.. math:: \ln p(x \mid m) = \ln\left|\det\frac{\partial T}{\partial x}\right|
    + \ln p_\mathrm{SB}(T(x; m \to m') \mid m')

or the Sinkhorn divergence between carried events and those at the other mass is to be small. The map starts as
the identity in a space in which mean and width of each feature do not depend on the mass
(:class:`~serendip.density.transforms.FeatureTransform`), so it learns what is left: shapes and correlations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, model_validator

from serendip.density.base import ConditionalDensity
from serendip.density.preprocessing import Preprocessing
from serendip.density.transforms import FeatureTransform
from serendip.events.events import Events, Window
from serendip.methods.background import BackgroundConfig, MassConfig, background_density, fit_masses
from serendip.methods.base import BackgroundRequest, Template
from serendip.methods.template_method import (
    ClassifierConfig,
    TemplateMethod,
    require_sidebands,
    sidebands_within,
)

__all__ = ["Curtains", "CurtainsConfig"]


class CurtainsConfig(BackgroundConfig, MassConfig, ClassifierConfig):
    """Options of :class:`Curtains`, with those of the density, the mass fit and the classifier.

    Attributes
    ----------
    loss
        ``"likelihood"``: flows for flows; ``"sinkhorn"``: needs no density, so its options do nothing.
    density
        Of the background, for ``"likelihood"``: ``"spline"``, ``"spline-coupling"`` or ``"maf"``.
    strip_width
        Width of the strips on either side from which events are carried into the window, in widths of the window.
    transport_steps
        Training steps of the map.
    oversample
        Template events per data event in the signal region; an event of a strip is carried to several masses.
    """

    loss: Literal["likelihood", "sinkhorn"] = "likelihood"
    density: Literal["spline", "spline-coupling", "maf"] = "spline"
    background: Literal["window"] = "window"
    strip_width: PositiveFloat = 1.0
    transport_steps: PositiveInt = 300
    oversample: PositiveFloat = 5.0

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        idle = [
            name
            for name in ("density", "steps")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.loss == "sinkhorn" and idle:
            raise ValueError(f"loss 'sinkhorn' needs no density: leave {' and '.join(idle)} away")
        return self


@dataclass(frozen=True)
class _Strips:
    """Events of the two strips that one model may carry: features z, masses u, and weights, half on each side."""

    z: NDArray[np.float64]
    u: NDArray[np.float64]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64] | None


class Curtains(TemplateMethod):
    """Signal region against events of the strips beside it, carried into it by an invertible map.

    Attributes
    ----------
    density
        After ``fit`` with ``loss="likelihood"``: the density of the background.
    """

    name = "curtains"
    title = "CURTAINs: signal region against sideband events that an invertible map carries into it"
    Config = CurtainsConfig
    config: CurtainsConfig
    density: ConditionalDensity

    @property
    def reach_gev(self) -> float | None:
        """How far from the window the sidebands reach in GeV; None: any distance."""
        return self.config.sideband_gev

    def background_request(self, window: Window) -> BackgroundRequest | None:
        """Density of background outside the window; None for Sinkhorn."""
        return self.config.request(window) if self.config.loss == "likelihood" else None

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a strip has too few events in a split."""
        require_sidebands(events, window, splits, self.config.min_events, self._strip_gev(window))

    def make_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Learn the map and carry the events of the strips into the window, for each split."""
        from serendip.density.device import limited_threads
        from serendip.density.transport import Transport, frozen_log_density

        log_density = None
        if self.config.loss == "likelihood":
            self.density = background_density(self, events, window, splits)
            log_density, self._transforms = frozen_log_density(self.density)
        else:
            self._transforms = [self._preprocessing(events, window, mask, k) for k, mask in enumerate(splits)]
        self._strips = [self._strip_events(events, window, mask, k) for k, mask in enumerate(splits)]
        self.transport = Transport(
            between_masses=True,
            steps=self.config.transport_steps,
            batch_size=self.config.batch_size,
            seed=self.seed,
        )
        with limited_threads(self.threads):
            self.transport.fit(
                [(s.z, s.u, s.weights) for s in self._strips], log_density, [s.groups for s in self._strips]
            )
        return [self._carry(events, window, mask, k) for k, mask in enumerate(splits)]

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Events of the strips carried to these masses by model ``split``, shape ``(n, d)``."""
        cumulative = np.cumsum(self._strips[split].weights)
        drawn = rng.random(len(mass)) * cumulative[-1]
        rows = np.minimum(np.searchsorted(cumulative, drawn, side="right"), len(cumulative) - 1)
        return self._to_masses(rows, mass, split)

    def _to_masses(
        self, rows: NDArray[np.intp], mass: NDArray[np.float64], split: int
    ) -> NDArray[np.float32]:
        from serendip.density.device import limited_threads

        strips, transform = self._strips[split], self._transforms[split]
        u = transform.context(mass)
        with limited_threads(self.threads):
            z = self.transport.apply(strips.z[rows], strips.u[rows], u, split)
        x: NDArray[np.float32] = transform.inverse(z, u).astype(np.float32)
        return x

    def _carry(self, events: Events, window: Window, mask: NDArray[np.bool_], k: int) -> Template:
        m, weights = events.m, events.weights
        rng = np.random.default_rng([self.seed, k, 3])
        data = mask & window.contains(m)
        beside = mask & sidebands_within(m, window, self.reach_gev)
        n = max(1, round(self.config.oversample * np.count_nonzero(data & (weights > 0))))
        masses = fit_masses(m[beside], weights[beside], window, self.config).sample(
            n, window.low, window.high, rng
        )
        carried = self._strips[k].weights
        # every event equally often, give or take one
        rows = np.resize(rng.permutation(len(carried)), n)
        total = weights[data].sum() / carried[rows].sum()
        return Template(x=self._to_masses(rows, masses, k), weights=carried[rows] * total)

    def _strip_events(self, events: Events, window: Window, mask: NDArray[np.bool_], k: int) -> _Strips:
        m, weights = events.m, events.weights
        rows = mask & sidebands_within(m, window, self._strip_gev(window)) & (weights > 0)
        m, weights = m[rows], weights[rows]
        transform = self._transforms[k]
        u = transform.context(m)
        rng = np.random.default_rng([self.seed, k, 5])
        z, _ = transform.forward(transform.dequantise(events.x[rows], rng), u)
        # half the weight on each side: what the map leaves undone cancels to first order in the distance
        below = m < window.low
        side = np.where(below, weights[below].sum(), weights[~below].sum())
        return _Strips(z, u, weights / side, None if events.groups is None else events.groups[rows])

    def _preprocessing(
        self, events: Events, window: Window, mask: NDArray[np.bool_], k: int
    ) -> Preprocessing:
        use = mask & sidebands_within(events.m, window, self.reach_gev) & (events.weights > 0)
        rng = np.random.default_rng([self.seed, k, 4])
        x = events.x[use].astype(np.float64)
        return FeatureTransform.fit(x, events.m[use], events.weights[use], rng)

    def _strip_gev(self, window: Window) -> float:
        width = self.config.strip_width * window.width
        return width if self.reach_gev is None else min(width, self.reach_gev)
