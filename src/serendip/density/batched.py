"""Many small normalizing flows of one shape, evaluated together.

The flows themselves are zuko's. Their parameters are stacked along a first axis and ``torch.func.vmap`` runs the
same code on all of them, which is twice as fast as one after the other and lets all folds train at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

__all__ = ["BatchedFlow"]


class BatchedFlow(nn.Module):
    r"""``models`` independent flows :math:`f_k: z \mapsto \epsilon \sim N(0, 1)`, conditional on c.

    Parameters
    ----------
    models
        Number of flows.
    build
        Makes one zuko flow with fresh random weights; all must have the same shape.
    seed, first_model
        Flow ``k`` is initialised from seed ``(seed, first_model + k)``.
    identity
        Start as the identity: the last layer of every network is set to zero.
    """

    def __init__(
        self,
        models: int,
        build: Callable[[], nn.Module],
        seed: int,
        *,
        first_model: int = 0,
        identity: bool = False,
    ) -> None:
        super().__init__()
        flows = []
        for k in range(models):
            # zuko draws its first weights from torch's global state: borrow it and give it back
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.default_rng([seed, first_model + k, 2]).integers(2**31)))
                flows.append(_Call(build()))
            if identity:
                _zero_last_layers(flows[-1])
        parameters, buffers = stack_module_state(flows)
        self.parameter_names, self.buffer_names = list(parameters), list(buffers)
        self.stacked = nn.ParameterList(nn.Parameter(p.detach()) for p in parameters.values())
        for i, buffer in enumerate(buffers.values()):
            self.register_buffer(f"constant{i}", buffer)
        # in a tuple, so that it is not a submodule: only the stacked parameters are trained, moved and saved
        self._skeleton = (flows[0],)

    def log_prob(self, z: Tensor, c: Tensor, only: slice = slice(None)) -> Tensor:
        """Ln p(z|c), shape ``(k, n)``, of ``z`` ``(k, n, d)`` and ``c`` ``(k, n, n_conditions)``."""
        result: Tensor = self._run("log_prob", z, c, only)
        return result

    def to_noise(self, z: Tensor, c: Tensor, only: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return f(z|c), shape ``(k, n, d)``, and ln|det df/dz|, shape ``(k, n)``."""
        noise, log_jacobian = self._run("to_noise", z, c, only)
        return noise, log_jacobian

    def from_noise(self, noise: Tensor, c: Tensor, only: slice = slice(None)) -> Tensor:
        """Return the z with f(z|c) = noise, shape ``(k, n, d)``."""
        result: Tensor = self._run("from_noise", noise, c, only)
        return result

    def _run(self, what: str, z: Tensor, c: Tensor, only: slice) -> Any:
        parameters = {name: p[only] for name, p in zip(self.parameter_names, self.stacked, strict=True)}
        buffers = {name: getattr(self, f"constant{i}")[only] for i, name in enumerate(self.buffer_names)}
        skeleton = self._skeleton[0]

        def one(p: dict[str, Tensor], b: dict[str, Tensor], z: Tensor, c: Tensor) -> Any:
            return functional_call(skeleton, (p, b), (what, z, c))

        return vmap(one)(parameters, buffers, z, c)


class _Call(nn.Module):
    """All uses of a flow as calls: zuko reads parameters lazily, after the call that made the distribution."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, what: str, z: Tensor, c: Tensor) -> Any:
        distribution = self.flow(c)
        if what == "log_prob":
            return distribution.log_prob(z)
        if what == "to_noise":
            return distribution.transform.call_and_ladj(z)
        return distribution.transform.inv(z)


def _zero_last_layers(flow: nn.Module) -> None:
    for module in flow.modules():
        if isinstance(module, nn.Sequential) and len(module):
            last = module[-1]
            if isinstance(last, nn.Linear):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
