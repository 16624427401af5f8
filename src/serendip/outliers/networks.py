"""Common base of network-based outlier scores: options, training with early stopping, evaluation, files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serendip.density.samples import SplitSamples
from serendip.density.training import train
from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import DataError, Standardiser, in_blocks, require_at_least
from serendip.torch_device import limited_threads, pick_device

__all__ = ["Loss", "NetworkScore", "TrainedScore", "train_networks"]

Loss = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Weighted mean loss of each model, shape ``(k,)``, of events ``(n, d)`` with weights ``(n,)``; may draw noise."""

_ROWS = 4096
_AVERAGE = 0.995


def train_networks(
    network: nn.Module,
    loss: Loss,
    z: Array,
    weights: Array,
    *,
    stacked: bool,
    seed: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    validation_fraction: float,
    evaluations: int,
    patience: int | None,
    device: torch.device,
    name: str,
    groups: NDArray[np.int64] | None = None,
) -> list[float]:
    """Train models on common batches, and keep the best of each on held-out events.

    The held-out events are a random ``validation_fraction``, or whole ``groups``. Every look at them uses the same noise. Events are drawn in
    proportion to their weights. Other options as in :func:`serendip.density.training.train`.

    Returns
    -------
    list of float
        The best held-out loss of each model.

    Raises
    ------
    InputError
        If the training diverges.
    """
    data = SplitSamples.make(
        [(z, np.zeros(len(z)), weights)], seed=seed, validation_fraction=validation_fraction, device=device,
        groups=[groups],
    )  # fmt: skip
    network.to(device)
    batches = data.batches(batch_size, noise=False)
    ones = torch.ones(batch_size, device=device)
    held_out = data.z[torch.as_tensor(data.validation[0], device=device)]
    held_out_weight = torch.as_tensor(data.validation_weight[0], dtype=torch.float32, device=device)
    noise = torch.Generator(device=device).manual_seed(seed)

    def batch_loss() -> Tensor:
        return loss(next(batches)[0][0], ones, noise)

    def validation_loss() -> Tensor:
        again = torch.Generator(device=device).manual_seed(seed + 1)
        parts = [
            loss(rows, w, again) * w.sum()
            for rows, w in zip(torch.split(held_out, _ROWS), torch.split(held_out_weight, _ROWS), strict=True)
        ]
        return torch.stack(parts).sum(0) / held_out_weight.sum()

    return train(
        network, batch_loss, validation_loss, stacked=stacked, steps=steps, learning_rate=learning_rate,
        average=_AVERAGE, evaluations=evaluations, patience=patience, name=name,
    )  # fmt: skip


@dataclass(eq=False, repr=False)
class TrainedScore(OutlierScore):
    """An outlier score that is trained in steps; higher = more anomalous.

    Subclasses take these parameters by name, after their own:

    Parameters
    ----------
    steps, batch_size, learning_rate
        Training steps, events in each, and peak learning rate of Adam.
    validation_fraction
        Part of the background that is held out to choose the best weights and to stop early.
    evaluations, patience
        How often the held-out loss is looked at, evenly over the steps, and for how many looks it may fail to
        improve before the training stops (None: never).
    threads
        Torch threads.
    device
        For example ``"cpu"``; default: CUDA if there is one.
    random_state
        Seed of everything random.

    Attributes
    ----------
    dropped_columns_
        Number of columns that are constant in the background and play no part.
    """

    _: KW_ONLY
    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    validation_fraction: float = 0.1
    evaluations: int = 20
    patience: int | None = 5
    threads: int = 1
    device: str | None = None
    random_state: Any = 0

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        require_at_least(
            1,
            steps=self.steps,
            batch_size=self.batch_size,
            evaluations=self.evaluations,
            threads=self.threads,
        )
        if self.patience is not None:
            require_at_least(1, patience=self.patience)
        if not self.learning_rate > 0:
            raise DataError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 < self.validation_fraction < 1:
            raise DataError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction}")


class NetworkScore(TrainedScore):
    """An outlier score from a network on standardised columns; higher = more anomalous.

    Columns that are constant in the background are dropped and counted; zero-padded slots are unchanged.
    Subclasses write ``_build``, ``_loss`` and ``_network_score``; the parameters are those of :class:`TrainedScore`.

    Attributes
    ----------
    validation_loss_
        Best held-out loss of each network.
    dropped_columns_
        As in :class:`TrainedScore`.
    """

    _rows: ClassVar[int] = 16384
    _stacked: ClassVar[bool] = False

    def _fit(self, x: Array, weights: Array) -> None:
        z = self._prepare(x, weights)
        seed = self._seed()
        with limited_threads(self.threads):
            self._network = self._build(z.shape[1], seed)
            self.validation_loss_ = self._train(z, weights, seed)
            # single precision would make the score of an event depend on the others in its block
            self._network.double()
            self._finish(z, weights)

    def _train(self, z: Array, weights: Array, seed: int) -> list[float]:
        return train_networks(
            self._network, self._loss, z, weights, stacked=self._stacked, seed=seed, steps=self.steps,
            batch_size=self.batch_size, learning_rate=self.learning_rate,
            validation_fraction=self.validation_fraction, evaluations=self.evaluations, patience=self.patience,
            device=pick_device(self.device), name=self.kind, groups=self._groups,
        )  # fmt: skip

    def _score(self, x: Array) -> Array:
        return self._evaluate(self._network_score, self._standardiser.transform(x))

    def _evaluate(self, function: Callable[[Tensor], Tensor], z: Array) -> Array:
        """``function`` of pieces of the events in double precision, shape ``(n, ...)``."""
        device = next(self._network.parameters()).device

        def block(rows: Array) -> Array:
            return np.asarray(function(torch.as_tensor(rows, device=device)).cpu().numpy(), dtype=np.float64)

        with limited_threads(self.threads), torch.no_grad():
            return in_blocks(block, z, self._rows)

    def _prepare(self, x: Array, weights: Array) -> Array:
        """Learn the preprocessing and return the network input, shape ``(n, d)``."""
        self._standardiser = Standardiser.fit(x, weights)
        self.dropped_columns_ = x.shape[1] - len(self._standardiser.kept)
        return self._standardiser.transform(x)

    def _finish(self, z: Array, weights: Array) -> None:
        """Derive quantities from the trained network."""

    def _state(self) -> tuple[Facts, Arrays]:
        facts = {"validation_loss": self.validation_loss_, "dropped_columns": self.dropped_columns_}
        arrays = {f"network.{n}": t.detach().cpu().numpy() for n, t in self._network.state_dict().items()}
        return facts, arrays | self._standardiser.arrays()

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.validation_loss_ = [float(v) for v in facts["validation_loss"]]
        self.dropped_columns_ = int(facts["dropped_columns"])
        self._standardiser = Standardiser.from_arrays(arrays)
        self._network = self._build(self._n_inputs(), 0).double()
        state = {n.removeprefix("network."): a for n, a in arrays.items() if n.startswith("network.")}
        self._network.load_state_dict({name: torch.as_tensor(array) for name, array in state.items()})

    def _n_inputs(self) -> int:
        """Number of network inputs per event."""
        return len(self._standardiser.kept)

    @abstractmethod
    def _build(self, d: int, seed: int) -> Any:
        """The network with fresh weights."""

    def _loss(self, z: Tensor, w: Tensor, noise: torch.Generator) -> Tensor:
        """Loss of each model; needed unless a subclass has a ``_train`` of its own."""
        raise NotImplementedError

    def _network_score(self, z: Tensor) -> Tensor:
        """Scores of standardised events; needed unless a subclass has a ``_score`` of its own."""
        raise NotImplementedError


def weighted_mean(values: Tensor, w: Tensor) -> Tensor:
    """Mean over the last axis."""
    return (values * w).sum(-1) / w.sum()
