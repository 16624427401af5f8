r"""Likelihood of a normalizing flow (arXiv:2105.14027, section 4.8).

.. math:: s(x) = -\ln p_\mathrm{flow}(x)

The flows are those of :mod:`serendip.density`, here without a condition.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serendip.density import ConditionalDensity, load_density, make_density
from serendip.outliers.base import Array, Arrays, Facts
from serendip.outliers.dequantise import Dequantisation
from serendip.outliers.inputs import Standardiser, in_blocks, require_at_least, require_choice
from serendip.outliers.networks import TrainedScore
from serendip.torch_device import limited_threads

__all__ = ["FlowLikelihood"]

_FLOWS = ("spline", "spline-coupling", "maf")
_DENSITY = "density"


@dataclass(eq=False, repr=False)
class FlowLikelihood(TrainedScore):
    """Minus the log-likelihood of a normalizing flow; higher = more anomalous.

    Counts, flags and empty slots are made continuous (:mod:`serendip.outliers.dequantise`); scores take the middle of each cell and
    draw nothing. Each column is then mapped to a nearly normal one with quantiles of the background. The public code of the paper sets the limits of its box from background, test *and* signal events; here only background is used, and beyond its range the density falls like a normal tail: no event has likelihood 0, so none are tied there.
    Event weights are used.

    Parameters
    ----------
    flow
        ``"spline"`` (autoregressive), ``"spline-coupling"`` or ``"maf"``.
    transforms, hidden, layers
        Transformations, and width and number of hidden layers of each. The paper has 11, 200 and 7 with 35 knots.
    padding
        Value of an empty slot.
    ensemble
        Flows whose densities are averaged.
    steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`~serendip.outliers.networks.TrainedScore`.

    Attributes
    ----------
    dropped_columns_
        As in :class:`~serendip.outliers.networks.TrainedScore`.
    """

    kind = "flow-likelihood"
    _minimum_events = 50

    flow: Literal["spline", "spline-coupling", "maf"] = "spline"
    _: KW_ONLY
    transforms: int = 3
    hidden: int = 64
    layers: int = 2
    padding: float = 0.0
    ensemble: int = 1
    learning_rate: float = 2e-3
    patience: int | None = 4

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        require_choice(_FLOWS, flow=self.flow)
        require_at_least(
            1, transforms=self.transforms, hidden=self.hidden, layers=self.layers, ensemble=self.ensemble
        )
        super().check_options()

    def _fit(self, x: Array, weights: Array) -> None:
        seed = self._seed()
        self._standardiser = Standardiser.fit(x, weights)
        self.dropped_columns_ = x.shape[1] - len(self._standardiser.kept)
        x = x[:, self._standardiser.kept]
        self._cells = Dequantisation.fit(x, self.padding)
        spread = self._cells.spread(x, np.random.default_rng(seed))
        density: Any = make_density(
            self.flow, transforms=self.transforms, hidden=self.hidden, layers=self.layers, ensemble=self.ensemble,
            steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate,
            validation_fraction=self.validation_fraction, evaluations=self.evaluations, patience=self.patience,
            mass_dependence=False, seed=seed, device=self.device,
        )  # fmt: skip
        with limited_threads(self.threads):
            density.fit(spread, np.ones(len(spread)), weight=weights, groups=self._groups)
        self._density: ConditionalDensity = density

    def _score(self, x: Array) -> Array:
        def minus_log_p(part: Array) -> Array:
            return -self._density.log_prob(part, np.ones(len(part)))

        with limited_threads(self.threads):
            return in_blocks(minus_log_p, self._cells.centre(x[:, self._standardiser.kept]))

    def _state(self) -> tuple[Facts, Arrays]:
        return {"dropped_columns": self.dropped_columns_}, self._standardiser.arrays() | self._cells.arrays()

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.dropped_columns_ = int(facts["dropped_columns"])
        self._standardiser = Standardiser.from_arrays(arrays)
        self._cells = Dequantisation.from_arrays(arrays)

    def _save_parts(self, folder: Path) -> None:
        density: Any = self._density
        density.save(folder / _DENSITY)

    def _load_parts(self, folder: Path) -> None:
        self._density = load_density(folder / _DENSITY)
