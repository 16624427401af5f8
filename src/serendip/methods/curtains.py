r"""CURTAINs (arXiv:2203.09470) and CURTAINsF4F (2305.04646): sideband events transported into the signal region.

An invertible map T that depends on two masses is learnt between all masses outside the window, a little beyond the strips, and then transports the events of the strips into it:

.. math:: \text{template} = \{T(x_i;\, m_i \to m'_i)\}, \; m_i \in \text{strips}, \; m'_i \sim \text{smooth fit
    of the sideband spectrum}

Either events are to be as probable as possible where they arrive (*flows for flows*), with the density of the
background that CATHODE learns as well,

.. math:: \ln p(x \mid m) = \ln\left|\det\frac{\partial T}{\partial x}\right|
    + \ln p_\mathrm{SB}(T(x; m \to m') \mid m')

or the Sinkhorn divergence between transported events and those at the other mass is minimised. The map starts as
the identity in a space in which mean and width of each feature do not depend on the mass
(:class:`~serendip.density.transforms.FeatureTransform`), so it learns the rest: shapes and correlations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

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

# The map is learnt within so many widths of a strip: its noise falls with the range of masses, its bias grows.
_LEARNT = 1.5


class CurtainsConfig(BackgroundConfig, MassConfig, ClassifierConfig):
    """Options of :class:`Curtains`, with those of the density, the mass fit and the classifier.

    Attributes
    ----------
    loss
        ``"likelihood"``: flows for flows; ``"sinkhorn"``: needs no density, so its options do nothing.
    density
        Of the background, for ``"likelihood"``: ``"spline"``, ``"spline-coupling"`` or ``"maf"``.
    background
        ``"window"``: a density for each window. ``"shared"``: one training on all events for all windows of a scan,
        and one short one of a map for each; the density is evaluated outside the window only.
    strip_width
        Width of the strips on either side from which events are transported into the window, in widths of the window.
    transport_steps
        Training steps of the map.
    oversample
        Template events per data event in the signal region; an event of a strip is transported to several masses.
    """

    inside_window: ClassVar[bool] = False

    loss: Literal["likelihood", "sinkhorn"] = "likelihood"
    density: Literal["spline", "spline-coupling", "maf"] = "spline"
    strip_width: PositiveFloat = 1.0
    transport_steps: PositiveInt = 300
    oversample: PositiveFloat = 5.0

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        idle = [
            name
            for name in ("density", "background", "steps")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.loss == "sinkhorn" and idle:
            raise ValueError(f"loss 'sinkhorn' needs no density: remove {' and '.join(idle)}")
        return self


@dataclass(frozen=True)
class _Strips:
    """Events outside the window: features z, ln m, and weights, half on each side."""

    z: NDArray[np.float64]
    log_m: NDArray[np.float64]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64] | None


class Curtains(TemplateMethod):
    """Signal region against events of the adjacent strips, transported into it by an invertible map.

    Attributes
    ----------
    density
        After ``fit`` with ``loss="likelihood"``: the density of the background.
    """

    name = "curtains"
    title = "CURTAINs: signal region against sideband events transported into it by an invertible map"
    Config = CurtainsConfig
    config: CurtainsConfig
    density: ConditionalDensity

    def background_request(self, window: Window) -> BackgroundRequest | None:
        """Density of background outside the window; None for Sinkhorn."""
        return self.config.request(window) if self.config.loss == "likelihood" else None

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a strip has too few events in a split."""
        require_sidebands(events, window, splits, self.config.min_events, self._strip_gev(window))

    def make_templates(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> list[Template]:
        """Learn the map and transport the events of the strips into the window, for each split."""
        from serendip.density.transport import Transport, frozen_log_density
        from serendip.torch_device import limited_threads

        log_density = None
        if self.config.loss == "likelihood":
            self.density = background_density(self, events, window, splits)
            log_density, self._transforms = frozen_log_density(self.density)
        else:
            self._transforms = [self._preprocessing(events, window, mask, k) for k, mask in enumerate(splits)]
        reach = self._strip_gev(window)
        self._strips = [self._beside(events, window, mask, k, reach) for k, mask in enumerate(splits)]
        known = [self._beside(events, window, mask, k, _LEARNT * reach) for k, mask in enumerate(splits)]
        self.transport = Transport(
            between_masses=True,
            steps=self.config.transport_steps,
            batch_size=self.config.batch_size,
            seed=self.seed,
        )
        with limited_threads(self.threads):
            self.transport.fit(
                [(s.z, s.log_m, s.weights) for s in known], log_density, [s.groups for s in known]
            )
        return [self._carry(events, window, mask, k) for k, mask in enumerate(splits)]

    def predict_background(
        self, mass: NDArray[np.float64], split: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Events of the strips transported to these masses by model ``split``, shape ``(n, d)``."""
        cumulative = np.cumsum(self._strips[split].weights)
        drawn = rng.random(len(mass)) * cumulative[-1]
        rows = np.minimum(np.searchsorted(cumulative, drawn, side="right"), len(cumulative) - 1)
        return self._to_masses(rows, mass, split)

    def _to_masses(
        self, rows: NDArray[np.intp], mass: NDArray[np.float64], split: int
    ) -> NDArray[np.float32]:
        from serendip.torch_device import limited_threads

        strips, transform = self._strips[split], self._transforms[split]
        with limited_threads(self.threads):
            z = self.transport.apply(strips.z[rows], strips.log_m[rows], np.log(mass), split)
        x: NDArray[np.float32] = transform.inverse(z, transform.context(mass)).astype(np.float32)
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

    def _beside(
        self, events: Events, window: Window, mask: NDArray[np.bool_], k: int, reach_gev: float
    ) -> _Strips:
        m, weights = events.m, events.weights
        known = sidebands_within(m, window, self.reach_gev) & sidebands_within(m, window, reach_gev)
        rows = mask & known & (weights > 0)
        m, weights = m[rows], weights[rows]
        transform = self._transforms[k]
        rng = np.random.default_rng([self.seed, k, 5])
        z, _ = transform.forward(transform.dequantise(events.x[rows], rng), transform.context(m))
        # half the weight on each side: the residual error of the map cancels to first order in the distance
        below = m < window.low
        side = np.where(below, weights[below].sum(), weights[~below].sum())
        return _Strips(z, np.log(m), weights / side, None if events.groups is None else events.groups[rows])

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
