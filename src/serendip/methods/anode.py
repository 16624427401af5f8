r"""ANODE (arXiv:2001.04990): two densities, one of the window and one of the sidebands, both at the mass in the middle of the window.

.. math:: s(x) = \frac{1}{M} \sum_j \ln p_{\mathrm{SR},j}(x|m_0) - \sigma(x) - \ln p_\mathrm{SB}(x|m_0), \qquad
    m_0 = \tfrac{1}{2} (m_\mathrm{low} + m_\mathrm{high})

with :math:`\sigma` the standard deviation of :math:`\ln p_{\mathrm{SR},j}` over the members. Each density has preprocessing of its own, fitted on
its own events, so both Jacobians are part of the score.

The published score takes both densities at the mass of the event. Outside the window :math:`p_\mathrm{SR}` was never trained, so that a sideband event cannot calibrate one in the window: most of the highest scores lie outside it, and the efficiency of a cut has a dip in the window that no smooth fit describes. At one mass for all events the score is a function of the features only, and an efficiency changes with
the mass as slowly as the features of background do. The rest of the dip comes from features that are rare in the window, where :math:`p_\mathrm{SR}` is an extrapolation: there the members differ, and :math:`\sigma` takes the guess back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from serendip.density import load_density, make_density
from serendip.density.base import ConditionalDensity
from serendip.events.events import Events, Window
from serendip.methods.base import as_splits
from serendip.methods.density_ratio import DensityRatioConfig, DensityRatioMethod

__all__ = ["Anode", "AnodeConfig"]


class AnodeConfig(DensityRatioConfig):
    """Options of :class:`Anode`, with those of the density of background.

    Attributes
    ----------
    window_density
        Kind of the density of the window, as ``density``. A spline or affine flow has its density in one pass.
    window_steps, window_batch_size
        Its training steps and events of each model in a step.
    members
        Densities of the window; each holds out other events to choose its best weights. One alone does not know where it is a guess.
    """

    window_density: Literal["flow-matching", "spline", "spline-coupling", "maf"] = "spline"
    window_steps: PositiveInt = 500
    window_batch_size: PositiveInt = 512
    members: PositiveInt = 3


class Anode(DensityRatioMethod):
    """Density of the window over the density that the sidebands predict there.

    Attributes
    ----------
    window_density
        After ``fit``: the density of the window; model ``k * members + j`` is member j of split k. A loaded method has
        its members one by one and not this.
    """

    name = "anode"
    title = "ANODE: ratio of the density in the signal region to that of the sidebands"
    Config = AnodeConfig
    config: AnodeConfig
    window_density: ConditionalDensity
    _members: list[tuple[ConditionalDensity, int]]

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Learn both densities, for each split; arguments and errors as in :meth:`.Method.fit`."""
        from serendip.torch_device import limited_threads

        masks = as_splits(splits, len(events))
        self._learn_background(events, window, masks)
        inside, config = window.contains(events.m), self.config
        self.window_density = make_density(
            config.window_density,
            steps=config.window_steps,
            batch_size=config.window_batch_size,
            seed=self.seed,
        )
        with limited_threads(self.threads):
            self.window_density.fit(
                events.x[inside],
                events.m[inside],
                weight=events.weights[inside],
                splits=np.repeat(masks[:, inside], config.members, axis=0),
                groups=None if events.groups is None else events.groups[inside],
            )
        self._members = [(self.window_density, i) for i in range(len(masks) * config.members)]
        return self

    def score(self, events: Events, split: int = 0) -> NDArray[np.float64]:
        """Cautious ln p_SR(x|m) - ln p_SB(x|m) at the middle of the window, shape ``(n_events,)``."""
        from serendip.torch_device import limited_threads

        members = self.config.members
        with limited_threads(self.threads):
            x = self._held(events, split)
            m = np.full(len(x), self._window.centre)
            own = self._members[split * members : (split + 1) * members]
            inner = np.array([density.log_prob(x, m, model) for density, model in own])
            outer = self.density.log_prob(x, m, split)
        guess = inner.std(0, ddof=1) if members > 1 else 0.0
        score: NDArray[np.float64] = inner.mean(0) - guess - outer
        return score

    def save_model(self, folder: Path, split: int) -> None:
        """Write the background and, one by one, the members of the density of the window of model ``split``."""
        super().save_model(folder, split)
        members = self.config.members
        for j, (density, model) in enumerate(self._members[split * members : (split + 1) * members]):
            density.only(model).save(folder / "window" / str(j))

    def load_model(self, folder: Path) -> None:
        """Read them as model 0.

        Raises
        ------
        InputError
            If a part is missing or damaged.
        """
        super().load_model(folder)
        self._members = [(load_density(folder / "window" / str(j)), 0) for j in range(self.config.members)]
