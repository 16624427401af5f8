r"""Autoregressive neural spline flow (arXiv:1906.04032) from zuko, conditional on the mass.

The splines act on [-5, 5] and are the identity outside. The features arrive there nearly standard normal
(:mod:`serendip.density.transforms`), so under one event in a million lies outside, where the density goes on
with the tails of a normal distribution: finite and low. zuko's flows cannot share a batch with others, so
the models of several splits train one after the other, unlike
:class:`~serendip.density.flow_matching.FlowMatching`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.density.base import TransformedDensity
from serendip.density.device import pick_device
from serendip.density.training import SplitSamples, train

__all__ = ["SplineFlow"]

Array = NDArray[np.float64]

_REACH = 6.0
_ROWS = 16384


class SplineFlow(TransformedDensity):
    """Conditional neural spline flow.

    Parameters
    ----------
    transforms, bins, hidden, layers
        Number of autoregressive transformations, bins of each spline, width and number of hidden layers.
    steps, batch_size, learning_rate
        Training steps of each model, events in a step, peak learning rate of Adam.
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

    kind: ClassVar[str] = "spline"

    def __init__(
        self,
        *,
        transforms: int = 3,
        bins: int = 8,
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
    ) -> None:
        super().__init__(
            seed=seed, transforms=transforms, bins=bins, hidden=hidden, layers=layers, steps=steps,
            batch_size=batch_size, learning_rate=learning_rate, average=average,
            validation_fraction=validation_fraction, precision=precision, device=device,
        )  # fmt: skip
        self.device = pick_device(device)
        self.precision = {"float32": torch.float32, "float64": torch.float64}[precision]
        self.flows: list[torch.nn.Module] = []
        self.validation_loss: list[float] = []

    def _build(self, models: int, d: int) -> None:
        import zuko

        o = self.options
        self.flows = []
        for k in range(models):
            # zuko draws its first weights from torch's global state: borrow it and give it back
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.default_rng([self.seed, k, 2]).integers(2**31)))
                flow = zuko.flows.NSF(
                    d,
                    3,
                    transforms=o["transforms"],
                    bins=o["bins"],
                    hidden_features=[o["hidden"]] * o["layers"],
                )
            self.flows.append(flow.to(self.device))

    def _train(self, samples: list[tuple[Array, Array, Array]]) -> None:
        o = self.options
        self._build(len(samples), samples[0][0].shape[1])
        self.validation_loss = []
        for k, (flow, sample) in enumerate(zip(self.flows, samples, strict=True)):
            data = SplitSamples.make(
                [sample],
                seed=self.seed,
                validation_fraction=o["validation_fraction"],
                device=self.device,
                first_model=k,
            )
            self.validation_loss += self._train_one(flow, data, k)

    def _train_one(self, flow: torch.nn.Module, data: SplitSamples, k: int) -> list[float]:
        o = self.options
        batches = data.batches(o["batch_size"], noise=False)
        rows = torch.as_tensor(data.validation[0], device=self.device)
        weight = torch.as_tensor(data.validation_weight[0], dtype=torch.float32, device=self.device)
        held_out = data.z[rows], _condition(data.u[rows])

        def batch_loss() -> Tensor:
            z, u, _, _ = next(batches)
            return -_log_prob(flow(_condition(u[0])), z[0]).mean()[None]

        def validation_loss() -> Tensor:
            z, c = held_out
            return -((_log_prob(flow(c), z) * weight).sum() / weight.sum())[None]

        return train(
            flow, batch_loss, validation_loss, stacked=False, steps=o["steps"],
            learning_rate=o["learning_rate"], average=o["average"], name=f"spline flow of split {k}",
        )  # fmt: skip

    def _latent_log_prob(self, z: Array, u: Array, split: int) -> Array:
        return self._in_rows(_log_prob, z, u, split, self.precision)

    def _generate(self, noise: Array, u: Array, split: int) -> Array:
        return self._in_rows(_inverse, noise, u, split, torch.float32)

    def _encode(self, z: Array, u: Array, split: int) -> Array:
        return self._in_rows(_forward, z, u, split, self.precision)

    def _in_rows(
        self, call: Callable[[Any, Tensor], Tensor], z: Array, u: Array, split: int, dtype: torch.dtype
    ) -> Array:
        """Apply ``call`` to pieces of the events: memory stays bounded."""
        flow = self.flows[split].to(dtype)
        out = []
        try:
            with torch.no_grad():
                for low in range(0, max(len(z), 1), _ROWS):
                    rows, mass = (
                        torch.as_tensor(a[low : low + _ROWS], dtype=dtype, device=self.device) for a in (z, u)
                    )
                    out.append(call(flow(_condition(mass)), rows).double().cpu().numpy())
        finally:
            flow.to(torch.float32)
        result: Array = np.concatenate(out)
        return result

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {
            f"{k}.{name}": tensor.detach().cpu().numpy()
            for k, flow in enumerate(self.flows)
            for name, tensor in flow.state_dict().items()
        }

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._build(len(self.transforms), len(self.transforms[0].x_knots))
        for k, flow in enumerate(self.flows):
            prefix = f"{k}."
            parts = {
                n.removeprefix(prefix): torch.as_tensor(a) for n, a in arrays.items() if n.startswith(prefix)
            }
            flow.load_state_dict(parts)


def _log_prob(distribution: Any, z: Tensor) -> Tensor:
    result: Tensor = distribution.log_prob(z)
    return result


def _forward(distribution: Any, z: Tensor) -> Tensor:
    result: Tensor = distribution.transform(z)
    return result


def _inverse(distribution: Any, noise: Tensor) -> Tensor:
    result: Tensor = distribution.transform.inv(noise)
    return result


def _condition(u: Tensor) -> Tensor:
    return torch.stack([u, torch.sin(u), torch.cos(u)], dim=-1)
