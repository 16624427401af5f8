r"""The density of a simulated signal family: p_S(x, m | theta) with, for example, the masses of new particles as theta.

One small spline flow describes all features and the mass together and is conditional on the parameters, so that it
interpolates between the simulated points. It is normalised in the window: :math:`\mu` counts signal events there, and not those outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from scipy.special import ndtr

from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import require_events
from serendip.methods.signal.sample import mass_quantile

if TYPE_CHECKING:
    from serendip.density.batched import BatchedFlow

__all__ = ["FamilyConfig", "SignalFamily", "parameter_grid"]

Array = NDArray[np.float64]

_AVERAGE = 0.98
_HELD_OUT = 5
_ROWS = 8192


class FamilyConfig(BaseModel):
    """Options of :class:`SignalFamily`.

    Attributes
    ----------
    members
        Densities that are averaged; each holds out another fifth of the signal events to choose its best weights.
    steps, batch_size, learning_rate
        Training steps, events of each member in a step, peak learning rate.
    transforms, hidden, bins
        Spline transformations, width of their networks, bins of each spline.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: int = Field(default=2, ge=1, le=_HELD_OUT)
    steps: PositiveInt = 800
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 2e-3
    transforms: PositiveInt = 2
    hidden: PositiveInt = 32
    bins: int = Field(default=8, ge=2)


class SignalFamily:
    """p_S(x, m | theta) in a window, learnt from simulation.

    Parameters
    ----------
    config
        Options; default: ``FamilyConfig()``.
    seed
        Everything random follows from it.

    Attributes
    ----------
    window
        After ``fit``: the window.
    """

    window: Window
    _flow: BatchedFlow
    _transform: FeatureTransform

    def __init__(self, config: FamilyConfig | None = None, *, seed: int = 0) -> None:
        self.config, self.seed = config or FamilyConfig(), seed
        self.theta: Array | None = None

    def fit(self, signal: Events, window: Window, parameters: Sequence[str] = ()) -> Self:
        """Learn the density from the signal events in the window; their weights are used.

        Parameters
        ----------
        signal
            Simulated signal.
        window
            Where the density is normalised.
        parameters
            Columns with the parameters of each event.

        Raises
        ------
        InputError
            If fewer than 100 events lie in the window, a parameter is missing, constant or not finite, or the training
            diverges.
        """
        import torch

        from serendip.density.batched import BatchedFlow
        from serendip.density.splines import spline_flow
        from serendip.density.training import train

        missing = [name for name in parameters if name not in signal.columns]
        if missing:
            raise InputError(f"the signal sample has no parameter column '{missing[0]}'")
        use = window.contains(signal.m) & (signal.weights > 0)
        require_events(use, 100, "simulated signal", window)
        x, m, w = signal.x[use].astype(np.float64), signal.m[use], signal.weights[use]
        raw = (
            np.column_stack([np.asarray(signal[name][use], float) for name in parameters])
            if parameters
            else np.empty((len(m), 0))
        )
        for name, column in zip(parameters, raw.T, strict=True):
            if not np.isfinite(column).all() or np.ptp(column) == 0:
                raise InputError(f"parameter '{name}' of the signal sample must be finite and not constant")
        rng = np.random.default_rng([self.seed, 11])
        self.window, self.points = window, raw
        self._centre, self._width = raw.mean(0), np.where(raw.std(0) > 0, raw.std(0), 1.0)
        self._transform = FeatureTransform.fit(x, np.full(len(x), window.centre), w, rng)
        self._range = (x.min(0), x.max(0))
        z, _ = self._transform.forward(self._transform.dequantise(x, rng), np.zeros(len(x)))
        v, _ = mass_quantile(m, window)
        self._v = (float(np.average(v, weights=w)), max(float(np.sqrt(np.cov(v, aweights=w))), 1e-3))
        c, d, k = self.config, z.shape[1] + 1, raw.shape[1]
        y, theta = (
            torch.as_tensor(a, dtype=torch.float32)
            for a in (np.column_stack([z, (v - self._v[0]) / self._v[1]]), (raw - self._centre) / self._width)
        )
        weight = torch.as_tensor(w / w.mean(), dtype=torch.float32)
        part = rng.permutation(len(m)) % _HELD_OUT
        self._flow = BatchedFlow(
            c.members,
            lambda: spline_flow(
                d, k, transforms=c.transforms, bins=c.bins, hidden_features=[c.hidden, c.hidden]
            ),
            self.seed,
            identity=True,
        )
        rows = [np.flatnonzero(part != j) for j in range(c.members)]
        held = [np.flatnonzero(part == j) for j in range(c.members)]
        draws = [np.random.default_rng([self.seed, j, 12]) for j in range(c.members)]

        def batch_loss() -> torch.Tensor:
            at = torch.as_tensor(
                np.stack([r.choice(own, c.batch_size) for own, r in zip(rows, draws, strict=True)])
            )
            return -(self._flow.log_prob(y[at], theta[at]) * weight[at]).mean(1)

        def validation_loss() -> torch.Tensor:
            out = []
            for j, own in enumerate(held):
                log_p = self._flow.log_prob(y[own][None], theta[own][None], slice(j, j + 1))[0]
                out.append(-(log_p * weight[own]).sum() / weight[own].sum())
            return torch.stack(out)

        train(
            self._flow, batch_loss, validation_loss, stacked=True, steps=c.steps, learning_rate=c.learning_rate,
            average=_AVERAGE, name="signal family",
        )  # fmt: skip
        return self

    def at(self, theta: Array | Sequence[float] = ()) -> SignalPoint:
        """The density at one point of the parameters, shape ``(k,)``."""
        return SignalPoint(self, np.asarray(theta, dtype=float))

    def log_prob(self, x: Array, m: Array, theta: Array) -> Array:
        """Ln p_S(x, m | theta), shape ``(n,)``, in units of the features and 1/GeV, of events in the window.

        ``theta`` has shape ``(k,)``: one point for all events.
        """
        import torch

        z, log_jacobian = self._transform.forward(x, np.zeros(len(x)))
        v, log_slope = mass_quantile(m, self.window)
        y = torch.as_tensor(np.column_stack([z, (v - self._v[0]) / self._v[1]]), dtype=torch.float32)
        c = torch.as_tensor((theta - self._centre) / self._width, dtype=torch.float32)
        members, out = self.config.members, []
        with torch.no_grad():
            for low in range(0, max(len(y), 1), _ROWS):
                part = y[low : low + _ROWS].expand(members, -1, -1)
                log_p = self._flow.log_prob(part, c.expand(members, part.shape[1], -1))
                out.append(torch.logsumexp(log_p.double(), 0).numpy())
        result: Array = np.concatenate(out) - np.log(members * self._v[1]) + log_jacobian + log_slope
        return result

    def sample(self, n: int, theta: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw features ``(n, d)`` and masses ``(n,)`` in GeV at one point of the parameters."""
        import torch

        c = torch.as_tensor((theta - self._centre) / self._width, dtype=torch.float32)
        drawn = []
        for j, size in enumerate(rng.multinomial(n, np.full(self.config.members, 1 / self.config.members))):
            noise = torch.as_tensor(
                rng.standard_normal((1, size, len(self._range[0]) + 1)), dtype=torch.float32
            )
            with torch.no_grad():
                drawn.append(
                    self._flow.from_noise(noise, c.expand(1, size, -1), slice(j, j + 1))[0].double().numpy()
                )
        y = np.concatenate(drawn)
        x = self._transform.inverse(y[:, :-1], np.zeros(n))
        return x, self.window.low + ndtr(self._v[0] + self._v[1] * y[:, -1]) * self.window.width


class SignalPoint:
    """A family at one point of its parameters: a signal model that is the same for all folds."""

    def __init__(self, family: SignalFamily, theta: Array) -> None:
        self.family, self.theta, self.window = family, theta, family.window

    def log_prob(self, x: Array, m: Array, fold: int) -> Array:
        """Ln p_S(x, m), shape ``(n,)``."""
        del fold
        return self.family.log_prob(x, m, self.theta)

    def sample(self, n: int, fold: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw features ``(n, d)`` and masses ``(n,)`` in GeV."""
        del fold
        return self.family.sample(n, self.theta, rng)

    def held(self, x: Array, fold: int) -> Array:
        """Untransformed features: the simulation defines the range of the signal."""
        del fold
        return x


def parameter_grid(points: Array, n: int) -> Array:
    """Points of a regular grid, ``n`` for each parameter, within the simulated range.

    Parameters
    ----------
    points
        Parameters of the simulated events, shape ``(n_events, k)``.
    n
        Values of each parameter, from its smallest to its largest.

    Returns
    -------
    Shape ``(n_points, k)``; one point without numbers for ``k = 0``.
    """
    from scipy.spatial import Delaunay, QhullError

    k = points.shape[1]
    if k == 0:
        return np.empty((1, 0))
    axes = [np.linspace(low, high, n) for low, high in zip(points.min(0), points.max(0), strict=True)]
    grid: Array = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, k)
    if k == 1:
        return grid
    distinct: Any = np.unique(points, axis=0)
    scale = np.ptp(distinct, axis=0)
    try:
        hull = Delaunay(distinct / scale)
    except QhullError as error:
        raise InputError(
            f"the simulated parameters span no area to interpolate in ({str(error).splitlines()[0]})"
        ) from None
    inside = hull.find_simplex(grid / scale, tol=1e-9) >= 0
    return np.asarray(grid[inside])
