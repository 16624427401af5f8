"""The events of several models and their random batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serendip.events.groups import held_out

__all__ = ["Batches", "SplitSamples"]

Array = NDArray[np.float64]

_CHUNK = 32


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
        groups: Sequence[NDArray[np.int64] | None] | None = None,
    ) -> SplitSamples:
        """Hold out ``validation_fraction`` of the events, or of the groups, of every model, drawn with its own seed."""
        z, u, starts, cumulative, validation, validation_weight, rngs = [], [], [], [], [], [], []
        start = 0
        for k, (z_k, u_k, w_k) in enumerate(samples):
            rng = np.random.default_rng([seed, first_model + k, 1])
            order = rng.permutation(len(z_k))
            n_train = len(order) - max(1, round(validation_fraction * len(order)))
            if groups is not None and (own := groups[k]) is not None:
                back = held_out(validation_fraction, rng, own)
                if 0 < np.count_nonzero(back) < len(back):
                    order = np.concatenate([order[~back[order]], order[back[order]]])
                    n_train = int(np.count_nonzero(~back))
            rest = order[n_train:]
            z.append(z_k[order])
            u.append(u_k[order])
            starts.append(start)
            cumulative.append(np.cumsum(w_k[order[:n_train]]))
            validation.append(start + np.arange(n_train, len(order)))
            validation_weight.append(w_k[rest])
            rngs.append(rng)
            start += len(order)
        flat = [torch.as_tensor(np.concatenate(a), dtype=torch.float32, device=device) for a in (z, u)]
        return cls(flat[0], flat[1], starts, cumulative, validation, validation_weight, rngs, device)

    def batches(self, size: int, *, noise: bool = True) -> Batches:
        """Batches of ``size`` events of every model, for ever; see :class:`Batches`."""
        return Batches(self, size, noise=noise)


class Batches(Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Features, masses, times and noise of one step after the other, for ever.

    Shapes: z ``(k, size, d)``, u ``(k, size)``, times in (0, 1) ``(k, size)``, noise as z. Events are drawn with
    probability proportional to their weight. The times are stratified, one in each of ``size`` equal intervals,
    which lowers the variance of the loss. Without ``noise``, times and noise are placeholders.
    """

    def __init__(self, data: SplitSamples, size: int, *, noise: bool) -> None:
        self._data, self._size, self._noise = data, size, noise
        self._equal = [np.array_equal(c, np.arange(1, len(c) + 1)) for c in data.cumulative]
        self._before: list[Any] = []
        self._position = _CHUNK
        empty = torch.zeros(_CHUNK)
        self._chunk = (empty, empty, empty)

    def __next__(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the next batch."""
        if self._position == _CHUNK:
            self._draw()
        (picks, times, normals), i = self._chunk, self._position
        self._position += 1
        return self._data.z[picks[i]], self._data.u[picks[i]], times[i], normals[i]

    def _draw(self) -> None:
        data, size, d = self._data, self._size, self._data.z.shape[1]
        self._before = [rng.bit_generator.state for rng in data.rngs]
        self._position = 0
        strata = np.arange(size) / size
        index, time, normal = [], [], []
        for start, cumulative, equal, rng in zip(
            data.starts, data.cumulative, self._equal, data.rngs, strict=True
        ):
            drawn = rng.random((_CHUNK, size)) * cumulative[-1]
            # the same events by arithmetic: a search in a long table costs as much as the rest of the batch
            found = drawn.astype(np.int64) if equal else np.searchsorted(cumulative, drawn)
            index.append(start + np.minimum(found, len(cumulative) - 1))
            if self._noise:
                time.append((strata + rng.random((_CHUNK, size), dtype=np.float32) / size).astype(np.float32))
                normal.append(rng.standard_normal((_CHUNK, size, d), dtype=np.float32))
        picks = torch.as_tensor(np.stack(index, axis=1), device=data.device)
        if self._noise:
            times, normals = (
                torch.as_tensor(np.stack(a, axis=1), device=data.device) for a in (time, normal)
            )
            self._chunk = (picks, times, normals)
        else:
            self._chunk = (picks, *self._chunk[1:])

    def state(self) -> dict[str, Any]:
        """Where the random numbers are, as numbers and text."""
        if not self._before:
            return {"rngs": [rng.bit_generator.state for rng in self._data.rngs], "position": None}
        return {"rngs": self._before, "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state` was called."""
        for rng, stored in zip(self._data.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = stored
        if state["position"] is not None:
            self._draw()
            self._position = state["position"]

    def digest(self, update: Callable[[Any], None]) -> None:
        """Feed the events and the size of the batches to a hash."""
        for tensor in (self._data.z, self._data.u):
            update(tensor.cpu().numpy().tobytes())
        for k, cumulative in enumerate(self._data.cumulative):
            update(f"{self._size} {self._data.starts[k]} {len(cumulative)} ".encode())
            update(cumulative.tobytes())
