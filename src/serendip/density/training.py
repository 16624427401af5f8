"""One training loop for all density models: averaged weights, the best by validation, early stopping, resuming."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.density.samples import SplitSamples
from serendip.errors import InputError

__all__ = ["SplitSamples", "train"]

_log = logging.getLogger(__name__)

_MAX_GRADIENT = 5.0


class _Store(Protocol):
    """The interface of :class:`serendip.density.checkpoint.Checkpoint`."""

    def write(self, step: int, arrays: dict[str, NDArray[Any]]) -> None: ...

    def read(self) -> tuple[int, dict[str, NDArray[Any]]] | None: ...


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
    patience: int | None = None,
    checkpoint: _Store | None = None,
    progress: Callable[[int, int, list[float]], None] | None = None,
    name: str = "density",
) -> list[float]:
    """Train, and leave the best averaged weights in ``module``.

    Adam with linear warm-up and cosine decay. A moving average of the weights is evaluated ``evaluations``
    times on held-out events and the best one of each model is kept.

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
    patience
        A model whose loss has not improved for this many evaluations keeps its best weights for good; when all
        have stopped, so does the training. Default: never.
    checkpoint
        Where the state is stored after every evaluation. A training that finds its own state there continues
        from it and ends with the same numbers as without the interruption.
    progress
        Called with step, number of steps and the validation losses after every evaluation.

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
    state = _State.fresh(parameters, optimiser)
    check_at = {round(steps * (i + 1) / evaluations) for i in range(evaluations)}
    first = 0 if checkpoint is None else state.resume(checkpoint)
    for step in range(first + 1, steps + 1):
        if patience is not None and len(state.stale) and bool((state.stale >= patience).all()):
            break
        decay = 0.5 * (1.0 + float(np.cos(np.pi * (step - 1) / steps)))
        optimiser.param_groups[0]["lr"] = learning_rate * (min(step / warm_up, 1.0) * decay)
        optimiser.zero_grad(set_to_none=True)
        loss = batch_loss()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        _clip_gradients(parameters, stacked=stacked)
        optimiser.step()
        # never longer than a tenth of the steps so far: the random start must not linger in the average
        share = max(1 - average, 10 / (step + 9))
        torch._foreach_lerp_(state.mean, [p.detach() for p in parameters], share)
        if step % 50 == 0 or step in check_at:
            _require_finite(loss, step, name)
        if step in check_at:
            current = _with_weights(parameters, state.mean, validation_loss)
            _require_finite(current, step, name)
            state.keep_best(current, patience, stacked=stacked)
            if checkpoint is not None:
                checkpoint.write(step, state.arrays())
            _log.debug("%s step %d of %d: validation loss %s", name, step, steps, current.tolist())
            if progress is not None:
                progress(step, steps, current.tolist())
    with torch.no_grad():
        for p, kept in zip(parameters, state.best, strict=True):
            p.copy_(kept)
    return [float(value) for value in state.lowest]


@dataclass
class _State:
    """Everything that changes during a training, apart from the random numbers."""

    parameters: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    mean: list[Tensor]
    best: list[Tensor]
    lowest: Tensor
    stale: Tensor

    @classmethod
    def fresh(cls, parameters: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> Self:
        mean, best = ([p.detach().clone() for p in parameters] for _ in range(2))
        return cls(parameters, optimiser, mean, best, torch.empty(0), torch.empty(0, dtype=torch.int64))

    def keep_best(self, current: Tensor, patience: int | None, *, stacked: bool) -> None:
        """Keep the averaged weights of the models that are better than ever and have not stopped."""
        if not len(self.lowest):
            self.lowest = torch.full_like(current, torch.inf)
            self.stale = torch.zeros_like(current, dtype=torch.int64)
        better = current < self.lowest
        if patience is not None:
            # early stopping uses a model's own losses, so that its result does not depend on how long others train
            better &= self.stale < patience
        self.lowest = torch.where(better, current, self.lowest)
        self.stale = torch.where(better, 0, self.stale + 1)
        for kept, new in zip(self.best, self.mean, strict=True):
            if stacked:
                kept[better] = new[better]
            elif bool(better[0]):
                kept.copy_(new)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All numbers by name."""
        out = {"lowest": self.lowest, "stale": self.stale}
        for i, p in enumerate(self.parameters):
            out |= {f"weight.{i}": p.detach(), f"mean.{i}": self.mean[i], f"best.{i}": self.best[i]}
            out |= {f"{name}.{i}": value for name, value in self.optimiser.state[p].items()}
        return {name: tensor.cpu().numpy() for name, tensor in out.items()}

    def resume(self, checkpoint: _Store) -> int:
        """Load the stored state, if any; returns the number of steps done."""
        found = checkpoint.read()
        if found is None:
            return 0
        step, arrays = found
        device = self.parameters[0].device
        tensors = {name: torch.as_tensor(array, device=device) for name, array in arrays.items()}
        self.lowest, self.stale = tensors["lowest"], tensors["stale"]
        with torch.no_grad():
            for i, p in enumerate(self.parameters):
                p.copy_(tensors[f"weight.{i}"])
                self.mean[i], self.best[i] = tensors[f"mean.{i}"], tensors[f"best.{i}"]
                names = ("step", "exp_avg", "exp_avg_sq")
                self.optimiser.state[p] = {name: tensors[f"{name}.{i}"] for name in names}
        return step


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
