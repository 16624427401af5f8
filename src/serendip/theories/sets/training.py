"""Training of a set network: scales of the features, weighted cross-entropy, the best epoch by held-out events."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from serendip.errors import InputError
from serendip.outliers.inputs import Standardiser
from serendip.theories.sets.layers import SetNetwork, compact, log_odds
from serendip.theories.training_sample import TrainingSample

__all__ = ["optimise", "standardise"]

_ROWS = 2048
_MAX_GRADIENT = 5.0
_AVERAGE = 0.995


def standardise(network: SetNetwork, sample: TrainingSample) -> None:
    """Learn the scales of the features from the objects of the events that are not held out; InputError if there is none."""
    chosen = ~sample.held_out
    x = torch.as_tensor(sample.x[chosen], dtype=torch.float32)
    weight = sample.weight[chosen] / sample.weight[chosen].sum()
    x, count = compact(x, network.present(x))
    x = x[:, : int(count.max())]
    present = network.present(x)
    if not bool(present.any()):
        raise InputError("no event has an object: all features that begin with 'is_' are 0")
    numbers = [i for i in range(x.shape[2]) if i not in network.flags]
    if numbers:
        objects = x[present][:, numbers].double().numpy()
        found = Standardiser.fit(objects, np.repeat(weight, present.sum(1).numpy()))
        kept = [numbers[i] for i in found.kept]
        # a feature that is constant in training plays no part
        network.scale[numbers] = 0.0
        network.scale[kept] = torch.as_tensor(1.0 / found.spread, dtype=torch.float32)
        network.centre[kept] = torch.as_tensor(found.centre, dtype=torch.float32)
    network.learn_scales(x, present, torch.as_tensor(weight))


def optimise(
    network: SetNetwork,
    sample: TrainingSample,
    device: torch.device,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    patience: int,
    seed: int,
) -> tuple[int, float]:
    """Train, and leave the averaged weights of the best epoch in the network.

    AdamW with a linear warm-up and a cosine; the loss is the weighted cross-entropy. After every epoch the moving average of the weights
    is evaluated by the weighted AUC of the held-out events.

    Parameters
    ----------
    network
        On the device.
    sample
        Events, with the lists of objects as ``x``.
    device
        Where to train.
    epochs, batch_size, learning_rate, weight_decay, patience
        As in :class:`~serendip.theories.sets.network.SetConfig`.
    seed
        Of the order of the events.

    Returns
    -------
    epoch, auc
        The best epoch, counted from 1, and its AUC.

    Raises
    ------
    InputError
        If the training diverges.
    """
    x = torch.as_tensor(sample.x, dtype=torch.float32)
    x, count = compact(x, network.present(x))
    target = torch.as_tensor(sample.target, dtype=torch.float32)
    train, held_out = (torch.as_tensor(np.flatnonzero(part)) for part in (~sample.held_out, sample.held_out))
    weight = torch.as_tensor(sample.weight, dtype=torch.float32)
    weight = weight / weight[train].mean()
    order = torch.Generator().manual_seed(seed)

    def logits(rows: Tensor) -> Tensor:
        return log_odds(network, x[rows], count[rows], device)

    optimiser = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    mean = {name: value.detach().clone() for name, value in network.named_parameters()}
    best, best_auc, best_epoch = mean, -math.inf, 0
    steps, step = epochs * math.ceil(len(train) / batch_size), 0
    for epoch in range(1, epochs + 1):
        for rows in torch.split(train[torch.randperm(len(train), generator=order)], batch_size):
            step += 1
            optimiser.param_groups[0]["lr"] = learning_rate * _schedule(step / steps)
            optimiser.zero_grad(set_to_none=True)
            # divided by the size of the batch and not by its weight, which would favour batches of light events
            loss = functional.binary_cross_entropy_with_logits(
                logits(rows), target[rows].to(device), weight=weight[rows].to(device)
            )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
            optimiser.step()
            # never longer than a tenth of the steps so far: the random start must not linger in the average
            share = max(1 - _AVERAGE, 10 / (step + 9))
            for name, value in network.named_parameters():
                mean[name] = torch.lerp(mean[name], value.detach(), share)
        trained = {name: value.detach().clone() for name, value in network.named_parameters()}
        network.load_state_dict(mean, strict=False)
        with torch.no_grad():
            scores = torch.cat([logits(rows).cpu() for rows in torch.split(held_out, _ROWS)]).numpy()
        if not np.isfinite(scores).all():
            raise InputError(
                f"training of the set network diverged in epoch {epoch}; use a smaller learning_rate, or look at the "
                "features and weights for extreme values"
            )
        auc = float(roc_auc_score(target[held_out], scores, sample_weight=sample.weight[held_out]))
        if auc > best_auc:
            best, best_auc, best_epoch = dict(mean), auc, epoch
        if epoch - best_epoch >= patience:
            break
        network.load_state_dict(trained, strict=False)
    network.load_state_dict(best, strict=False)
    return best_epoch, best_auc


def _schedule(done: float) -> float:
    """Part of the learning rate after a part of the steps."""
    return min(1.0, done / 0.05) * 0.5 * (1.0 + math.cos(math.pi * done))
