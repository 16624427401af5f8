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
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.density.batched import BatchedFlow
from serendip.density.neural import CommonOptions, NeuralDensity, trained
from serendip.density.samples import Batches, SplitSamples

__all__ = ["AffineFlow", "CouplingFlow", "SplineFlow"]

Array = NDArray[np.float64]

_CONDITIONS = 3
_ROWS = 16384


class _Flow(NeuralDensity):
    """Common base of the three flows; a subclass constructs one of them.

    Parameters
    ----------
    transforms, bins, hidden, layers
        Number of transformations, bins of each spline, width and number of hidden layers.
    common
        Options of every density, see :class:`~serendip.density.neural.NeuralDensity`.
    """

    network: BatchedFlow | None
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, hidden: int = 64, layers: int = 2, **options: Any) -> None:
        unknown = options.keys() - self._defaults.keys() - CommonOptions.__annotations__.keys()
        if unknown:
            msg = f"{type(self).__name__} has no option '{sorted(unknown)[0]}'"
            raise TypeError(msg)
        shape = {name: options.pop(name, default) for name, default in self._defaults.items()}
        super().__init__({"hidden": hidden, "layers": layers, **shape}, **options)

    @abstractmethod
    def _one(self, d: int) -> Any:
        """One zuko flow with fresh weights."""

    def _build(self, models: int, d: int) -> BatchedFlow:
        self.network = BatchedFlow(models, lambda: self._one(d), self.seed).to(self.device)
        return self.network

    def _losses(self, data: SplitSamples) -> tuple[Batches, Callable[[], Tensor], Callable[[], Tensor]]:
        network = trained(self.network)
        batches = data.batches(self.options["batch_size"], noise=False)

        def batch_loss() -> Tensor:
            z, u, _, _ = next(batches)
            return -network.log_prob(z, condition(u)).mean(1)

        def validation_loss() -> Tensor:
            values = []
            for k, (rows, weight) in enumerate(zip(data.validation, data.validation_weight, strict=True)):
                index = torch.as_tensor(rows, device=self.device)
                w = torch.as_tensor(weight, dtype=torch.float32, device=self.device)
                log_p = [
                    network.log_prob(data.z[i][None], condition(data.u[i])[None], slice(k, k + 1))[0]
                    for i in torch.split(index, _ROWS)
                ]
                values.append(-(torch.cat(log_p) * w).sum() / w.sum())
            return torch.stack(values)

        return batches, batch_loss, validation_loss

    def _latent_log_prob(self, z: Array, u: Array, model: int) -> Array:
        return self._in_rows("log_prob", z, u, model, self.precision)

    def _generate(self, noise: Array, u: Array, model: int) -> Array:
        return self._in_rows("from_noise", noise, u, model, torch.float32)

    def _encode(self, z: Array, u: Array, model: int) -> Array:
        return self._in_rows("to_noise", z, u, model, self.precision)

    def _in_rows(self, what: str, z: Array, u: Array, model: int, dtype: torch.dtype) -> Array:
        """Evaluate one model on pieces of the events: memory stays bounded."""
        network, only = trained(self.network).to(dtype), slice(model, model + 1)
        out = []
        try:
            with torch.no_grad():
                for low in range(0, max(len(z), 1), _ROWS):
                    rows, mass = (
                        torch.as_tensor(a[low : low + _ROWS], dtype=dtype, device=self.device) for a in (z, u)
                    )
                    found = getattr(network, what)(rows[None], condition(mass)[None], only)
                    out.append((found[0] if what == "to_noise" else found)[0].double().cpu().numpy())
        finally:
            network.to(torch.float32)
        result: Array = np.concatenate(out)
        return result


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
        from serendip.density.splines import spline_flow

        o = self.options
        return spline_flow(
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


def condition(u: Tensor) -> Tensor:
    """Encoding of the mapped mass u for the flow, shape ``(..., 3)``."""
    return torch.stack([u, torch.sin(u), torch.cos(u)], dim=-1)
