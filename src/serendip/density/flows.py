r"""Normalizing flows from zuko, conditional on the mass: density in one pass.

.. math:: \ln p(z|u) = \ln N(f_u(z)) + \ln\left|\det\frac{\partial f_u}{\partial z}\right|

* :class:`AffineFlow` (``"maf"``): masked autoregressive flow of affine maps (arXiv:1705.07057), the density of the
  ANODE and CATHODE papers;
* :class:`SplineFlow` (``"spline"``): autoregressive rational-quadratic splines (arXiv:1906.04032);
* :class:`CouplingFlow` (``"spline-coupling"``): the same splines in coupling layers, whose inverse costs as
  little as the density.

Splines act on [-5, 5] and are the identity outside. The features arrive there nearly standard normal
(:mod:`serendip.density.transforms`), so under one event in a million lies outside, where the density goes on with
the tails of a normal distribution: finite and low. The models of all splits train as one batch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.density.base import TransformedDensity
from serendip.density.batched import BatchedFlow
from serendip.density.device import pick_device
from serendip.density.training import SplitSamples, train

__all__ = ["AffineFlow", "CouplingFlow", "SplineFlow"]

Array = NDArray[np.float64]

_CONDITIONS = 3
_ROWS = 16384


class _Flow(TransformedDensity):
    """What the three flows share; a subclass says how one of them is made.

    Parameters
    ----------
    transforms, bins, hidden, layers
        Number of transformations, bins of each spline, width and number of hidden layers.
    steps, batch_size, learning_rate
        Training steps, events of each model in a step, peak learning rate of Adam.
    average
        Decay per step of the moving average of the weights.
    validation_fraction
        Part of each split's own events that is held out to choose the best averaged weights.
    precision
        Floating-point type of :meth:`log_prob` and :meth:`to_latent`; samples are made in float32.
    seed
        Everything random in the training follows from it.
    device
        For example ``"cpu"``; default: CUDA if there is one.
    """

    _defaults: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        *,
        hidden: int = 64,
        layers: int = 2,
        steps: int = 2000,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        average: float = 0.995,
        validation_fraction: float = 0.1,
        precision: str = "float64",
        seed: int = 0,
        device: str | None = None,
        **shape: int,
    ) -> None:
        unknown = shape.keys() - self._defaults.keys()
        if unknown:
            msg = f"{type(self).__name__} has no option '{sorted(unknown)[0]}'"
            raise TypeError(msg)
        super().__init__(
            seed=seed, hidden=hidden, layers=layers, steps=steps, batch_size=batch_size,
            learning_rate=learning_rate, average=average, validation_fraction=validation_fraction,
            precision=precision, device=device, **(self._defaults | shape),
        )  # fmt: skip
        self.device = pick_device(device)
        self.precision = {"float32": torch.float32, "float64": torch.float64}[precision]
        self.network: BatchedFlow | None = None
        self.validation_loss: list[float] = []

    @abstractmethod
    def _one(self, d: int) -> Any:
        """One zuko flow with fresh weights."""

    def _build(self, models: int, d: int) -> BatchedFlow:
        self.network = BatchedFlow(models, lambda: self._one(d), self.seed).to(self.device)
        return self.network

    def _train(self, samples: list[tuple[Array, Array, Array]]) -> None:
        o = self.options
        data = SplitSamples.make(
            samples, seed=self.seed, validation_fraction=o["validation_fraction"], device=self.device
        )
        network = self._build(len(samples), samples[0][0].shape[1])
        batches = data.batches(o["batch_size"], noise=False)

        def batch_loss() -> Tensor:
            z, u, _, _ = next(batches)
            return -network.log_prob(z, _condition(u)).mean(1)

        def validation_loss() -> Tensor:
            values = []
            for k, (rows, weight) in enumerate(zip(data.validation, data.validation_weight, strict=True)):
                index = torch.as_tensor(rows, device=self.device)
                w = torch.as_tensor(weight, dtype=torch.float32, device=self.device)
                log_p = [
                    network.log_prob(data.z[i][None], _condition(data.u[i])[None], slice(k, k + 1))[0]
                    for i in torch.split(index, _ROWS)
                ]
                values.append(-(torch.cat(log_p) * w).sum() / w.sum())
            return torch.stack(values)

        self.validation_loss = train(
            network, batch_loss, validation_loss, stacked=True, steps=o["steps"],
            learning_rate=o["learning_rate"], average=o["average"], name=f"{self.kind} density",
        )  # fmt: skip

    def _latent_log_prob(self, z: Array, u: Array, split: int) -> Array:
        return self._in_rows("log_prob", z, u, split, self.precision)

    def _generate(self, noise: Array, u: Array, split: int) -> Array:
        return self._in_rows("from_noise", noise, u, split, torch.float32)

    def _encode(self, z: Array, u: Array, split: int) -> Array:
        return self._in_rows("to_noise", z, u, split, self.precision)

    def _in_rows(self, what: str, z: Array, u: Array, split: int, dtype: torch.dtype) -> Array:
        """Evaluate one model on pieces of the events: memory stays bounded."""
        assert self.network is not None
        network, only = self.network.to(dtype), slice(split, split + 1)
        out = []
        try:
            with torch.no_grad():
                for low in range(0, max(len(z), 1), _ROWS):
                    rows, mass = (
                        torch.as_tensor(a[low : low + _ROWS], dtype=dtype, device=self.device) for a in (z, u)
                    )
                    found = getattr(network, what)(rows[None], _condition(mass)[None], only)
                    out.append((found[0] if what == "to_noise" else found)[0].double().cpu().numpy())
        finally:
            self.network.to(torch.float32)
        result: Array = np.concatenate(out)
        return result

    def _tensors(self) -> dict[str, NDArray[Any]]:
        assert self.network is not None
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.network.state_dict().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        network = self._build(len(self.transforms), len(self.transforms[0].x_knots))
        network.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})


class AffineFlow(_Flow):
    """Masked autoregressive flow: each layer shifts and scales a feature as a function of the ones before it."""

    kind: ClassVar[str] = "maf"
    _defaults: ClassVar[dict[str, Any]] = {"transforms": 8}

    def _one(self, d: int) -> Any:
        import zuko

        o = self.options
        return zuko.flows.MAF(
            d, _CONDITIONS, transforms=o["transforms"], hidden_features=[o["hidden"]] * o["layers"]
        )


class SplineFlow(_Flow):
    """Autoregressive neural spline flow."""

    kind: ClassVar[str] = "spline"
    _defaults: ClassVar[dict[str, Any]] = {"transforms": 3, "bins": 8}
    _passes: ClassVar[int | None] = None

    def _one(self, d: int) -> Any:
        import zuko

        o = self.options
        return zuko.flows.NSF(
            d,
            _CONDITIONS,
            transforms=o["transforms"],
            bins=o["bins"],
            hidden_features=[o["hidden"]] * o["layers"],
            passes=self._passes,
        )


class CouplingFlow(SplineFlow):
    """Neural spline flow of coupling layers, two passes each."""

    kind: ClassVar[str] = "spline-coupling"
    _defaults: ClassVar[dict[str, Any]] = {"transforms": 6, "bins": 8}
    _passes: ClassVar[int | None] = 2


def _condition(u: Tensor) -> Tensor:
    return torch.stack([u, torch.sin(u), torch.cos(u)], dim=-1)
