r"""Autoencoder networks for several models, trained as one batch.

.. math:: s(z) = \frac{1}{d} \sum_j \left( z_j - \hat z_j(z) \right)^2

with standardised features z and a network :math:`\hat z` that is narrower in the middle than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serendip.density.mlp import BatchedMLP
from serendip.density.samples import SplitSamples
from serendip.density.training import train

__all__ = ["REACH", "AutoencoderNetworks"]

Array = NDArray[np.float64]

REACH = 10.0
"""Standardised features beyond this are held there on their way into a network, not in its error."""

_ROWS = 65536


class AutoencoderNetworks(nn.Module):
    """``models`` independent encoders and decoders with SiLU units.

    Parameters
    ----------
    models, d
        Number of models and of features.
    hidden
        Widths of the layers of the encoder; the decoder has them in reverse order.
    bottleneck
        Width of the layer in the middle.
    seed
        Model ``k`` is initialised from seed ``(seed, k)``.
    """

    def __init__(self, models: int, d: int, hidden: Sequence[int], bottleneck: int, seed: int) -> None:
        super().__init__()
        shapes = [[d, *hidden, bottleneck], [bottleneck, *reversed(hidden), d]]
        encoder, decoder = (BatchedMLP(models, sizes, seed) for sizes in shapes)
        self.parts = nn.ModuleList([encoder, decoder])
        # both last layers start at zero, and from there no gradient would reach either
        last = shapes[0][-2]
        start = [
            np.random.default_rng([seed, k, 5]).standard_normal((last, bottleneck)) for k in range(models)
        ]
        with torch.no_grad():
            encoder.weights[-1].copy_(torch.as_tensor(np.stack(start) / np.sqrt(last)))

    def forward(self, z: Tensor, only: slice = slice(None)) -> Tensor:
        """Reconstruction of ``z``, shape ``(k, n, d)``, by all models or those of a slice."""
        encoder, decoder = self.parts
        back: Tensor = decoder(encoder(z, only), only)
        return back

    def fit(
        self,
        samples: list[tuple[Array, Array]],
        *,
        seed: int,
        steps: int,
        batch_size: int,
        device: torch.device,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        evaluations: int = 10,
        patience: int | None = None,
        progress: Callable[[int, int, list[float]], None] | None = None,
        groups: Sequence[NDArray[np.int64] | None] | None = None,
    ) -> list[float]:
        """Train model ``k`` on the events and weights of ``samples[k]``, shapes ``(n, d)`` and ``(n,)``.

        The averaged weights that do best on ``validation_fraction`` of a model's own events are kept. Other options as
        in :func:`serendip.density.training.train`. Returns the best held-out error of each model.

        Raises
        ------
        InputError
            If the training diverges.
        """
        data = SplitSamples.make(
            [(z, np.zeros(len(w)), w) for z, w in samples],
            seed=seed, validation_fraction=validation_fraction, device=device, groups=groups,
        )  # fmt: skip
        self.to(device)
        batches = data.batches(batch_size, noise=False)
        held_out = [
            (data.z[torch.as_tensor(rows, device=device)][None], torch.as_tensor(w, device=device))
            for rows, w in zip(data.validation, data.validation_weight, strict=True)
        ]

        def error(z: Tensor, only: slice = slice(None)) -> Tensor:
            return (self.forward(z, only) - z).square().mean(-1)

        def batch_loss() -> Tensor:
            return error(next(batches)[0]).mean(1)

        def validation_loss() -> Tensor:
            values = [(error(z, slice(k, k + 1))[0] * w).sum() / w.sum() for k, (z, w) in enumerate(held_out)]
            return torch.stack(values)

        return train(
            self, batch_loss, validation_loss, stacked=True, steps=steps, learning_rate=learning_rate,
            average=0.995, evaluations=evaluations, patience=patience, progress=progress, name="autoencoder",
        )  # fmt: skip

    def errors(self, z: Array, model: int = 0) -> Array:
        """Mean squared error of reconstruction by one model, shape ``(n,)``."""
        near = np.clip(z, -REACH, REACH)
        parameter = next(self.parameters())
        back = [np.empty((0, z.shape[1]))]
        with torch.no_grad():
            for low in range(0, len(z), _ROWS):
                rows = torch.as_tensor(
                    near[None, low : low + _ROWS], dtype=parameter.dtype, device=parameter.device
                )
                back.append(self(rows, slice(model, model + 1))[0].double().cpu().numpy())
        error: Array = ((z - np.concatenate(back)) ** 2).mean(axis=1)
        return error

    def arrays(self, only: slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Parameters of the models of a slice, by name."""
        return {
            name.removeprefix("parts."): tensor[only].cpu().numpy()
            for name, tensor in self.state_dict().items()
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`arrays` gave."""
        self.load_state_dict({f"parts.{name}": torch.as_tensor(array) for name, array in arrays.items()})
