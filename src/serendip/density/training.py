"""One training loop for all density models: weighted batches, averaged weights, the best by validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.errors import InputError

__all__ = ["SplitSamples", "train"]

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]

_CHUNK = 32
_MAX_GRADIENT = 5.0


@dataclass(frozen=True)
class SplitSamples:
    """The events of several models, one after the other in flat arrays, and their own random numbers.

    Model ``k`` draws batches and noise from generator ``k`` only, so nothing that happens in one split can
    change another.
    """

    z: Tensor
    u: Tensor
    starts: list[int]
    cumulative: list[Array]
    validation: list[NDArray[np.int64]]
    validation_weight: list[Array]
    rngs: list[np.random.Generator]
    device: torch.device

    @classmethod
    def make(
        cls,
        samples: list[tuple[Array, Array, Array]],
        *,
        seed: int,
        validation_fraction: float,
        device: torch.device,
        first_model: int = 0,
    ) -> SplitSamples:
        """Hold out ``validation_fraction`` of the events of every model, drawn with its own seed."""
        z, u, starts, cumulative, validation, validation_weight, rngs = [], [], [], [], [], [], []
        start = 0
        for k, (z_k, u_k, w_k) in enumerate(samples):
            rng = np.random.default_rng([seed, first_model + k, 1])
            order = rng.permutation(len(z_k))
            n_train = len(order) - max(1, round(validation_fraction * len(order)))
            held_out = order[n_train:]
            z.append(z_k[order])
            u.append(u_k[order])
            starts.append(start)
            cumulative.append(np.cumsum(w_k[order[:n_train]]))
            validation.append(start + np.arange(n_train, len(order)))
            validation_weight.append(w_k[held_out])
            rngs.append(rng)
            start += len(order)
        flat = [torch.as_tensor(np.concatenate(a), dtype=torch.float32, device=device) for a in (z, u)]
        return cls(flat[0], flat[1], starts, cumulative, validation, validation_weight, rngs, device)

    def batches(self, size: int, *, noise: bool = True) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield features, masses, times and noise of one step after the other, for ever.

        Shapes: z ``(k, size, d)``, u ``(k, size)``, times in (0, 1) ``(k, size)``, noise as z. Events are
        drawn with probability proportional to their weight. The times are stratified, one in each of
        ``size`` equal intervals, which lowers the variance of the loss.
        """
        d = self.z.shape[1]
        strata = np.arange(size) / size
        while True:
            index, time, normal = [], [], []
            for start, cumulative, rng in zip(self.starts, self.cumulative, self.rngs, strict=True):
                drawn = rng.random((_CHUNK, size)) * cumulative[-1]
                index.append(start + np.minimum(np.searchsorted(cumulative, drawn), len(cumulative) - 1))
                if noise:
                    time.append(strata + rng.random((_CHUNK, size), dtype=np.float32) / size)
                    normal.append(rng.standard_normal((_CHUNK, size, d), dtype=np.float32))
            picks = torch.as_tensor(np.stack(index, axis=1), device=self.device)
            empty = torch.zeros(_CHUNK)
            times = (
                torch.as_tensor(np.stack(time, 1), dtype=torch.float32, device=self.device)
                if noise
                else empty
            )
            normals = torch.as_tensor(np.stack(normal, 1), device=self.device) if noise else empty
            for i in range(_CHUNK):
                yield self.z[picks[i]], self.u[picks[i]], times[i], normals[i]


def train(
    module: torch.nn.Module,
    batch_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    *,
    stacked: bool,
    steps: int,
    learning_rate: float,
    average: float,
    evaluations: int = 10,
    name: str = "density",
) -> list[float]:
    """Train ``module`` in place and leave the best averaged weights in it.

    Adam with a short warm-up and a cosine learning rate; an exponential moving average of the weights is
    judged ``evaluations`` times on held-out events and the best one of each model is kept.

    Parameters
    ----------
    batch_loss
        Loss of the next batch, shape ``(k,)``.
    validation_loss
        Loss on the held-out events with the weights now in ``module``, shape ``(k,)``.
    stacked
        True if the first axis of every parameter counts models (then ``k`` models train at once).
    average
        Decay of the moving average per step.

    Returns
    -------
    list of float
        The best validation loss of every model.

    Raises
    ------
    InputError
        If a loss is not finite.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    warm_up = max(1, min(100, steps // 10))

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, 1.0) * 0.5 * (1.0 + float(np.cos(np.pi * step / steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    mean = [p.detach().clone() for p in parameters]
    best = [p.detach().clone() for p in parameters]
    lowest: Tensor | None = None
    check_at = {round(steps * (i + 1) / evaluations) for i in range(evaluations)}
    for step in range(1, steps + 1):
        optimiser.zero_grad(set_to_none=True)
        loss = batch_loss()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        _clip_gradients(parameters, stacked=stacked)
        optimiser.step()
        schedule.step()
        # never longer than a tenth of the steps so far: the random start must not linger in the average
        torch._foreach_lerp_(mean, [p.detach() for p in parameters], max(1 - average, 10 / (step + 9)))
        if step % 50 == 0 or step in check_at:
            _require_finite(loss, step, name)
        if step in check_at:
            current = _with_weights(parameters, mean, validation_loss)
            _require_finite(current, step, name)
            better = torch.ones_like(current, dtype=torch.bool) if lowest is None else current < lowest
            lowest = current if lowest is None else torch.minimum(current, lowest)
            for kept, new in zip(best, mean, strict=True):
                if stacked:
                    kept[better] = new[better]
                elif bool(better[0]):
                    kept.copy_(new)
            _log.debug("%s step %d of %d: validation loss %s", name, step, steps, current.tolist())
    with torch.no_grad():
        for p, kept in zip(parameters, best, strict=True):
            p.copy_(kept)
    return [] if lowest is None else [float(value) for value in lowest]


def _with_weights(
    parameters: list[torch.nn.Parameter], weights: list[Tensor], call: Callable[[], Tensor]
) -> Tensor:
    with torch.no_grad():
        saved = [p.detach().clone() for p in parameters]
        for p, w in zip(parameters, weights, strict=True):
            p.copy_(w)
        result = call()
        for p, s in zip(parameters, saved, strict=True):
            p.copy_(s)
    return result


def _clip_gradients(parameters: list[torch.nn.Parameter], *, stacked: bool) -> None:
    """Limit the gradient norm of each model on its own, so that no model can feel another one."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not stacked:
        torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT)
        return
    norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    factor = (_MAX_GRADIENT / (norm + 1e-12)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))


def _require_finite(loss: Tensor, step: int, name: str) -> None:
    if not bool(torch.isfinite(loss).all()):
        model = int(torch.nonzero(~torch.isfinite(loss))[0, 0])
        raise InputError(
            f"training of the {name} diverged: the loss of model {model} is {loss[model].item()} after "
            f"step {step}; use a smaller learning rate, or look at the features for extreme values "
            "(serendip inspect)"
        )
