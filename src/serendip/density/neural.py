"""Common base of all densities made of batched networks: the options of the training, and the training itself."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serendip.density.base import Array, Progress, TransformedDensity
from serendip.density.checkpoint import Checkpoint
from serendip.density.samples import Batches, SplitSamples
from serendip.density.training import train
from serendip.errors import InputError
from serendip.torch_device import pick_device

__all__ = ["CommonOptions", "NeuralDensity"]

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


class CommonOptions(TypedDict, total=False):
    """Options of every kind of density; :class:`NeuralDensity` documents their meaning."""

    steps: int
    epochs: int | None
    batch_size: int
    learning_rate: float
    average: float
    validation_fraction: float
    evaluations: int
    patience: int | None
    ensemble: int
    amp: Literal["bf16"] | None
    preprocessing: str
    mass_dependence: bool | None
    precision: str
    seed: int
    device: str | None


class NeuralDensity(TransformedDensity):
    """A density whose networks, of all splits and ensemble members, train as one batch.

    Parameters
    ----------
    own
        Options of this kind of density.
    steps, batch_size, learning_rate
        Training steps, events of each model in a step, peak learning rate of Adam (it rises during the first
        steps and falls along a cosine to 0).
    epochs
        Instead of ``steps``: this many passes over the training events of the largest split.
    average
        Decay per step of the moving average of the weights; 0 uses the unaveraged weights.
    validation_fraction
        Part of each split's own events that is held out to choose the best averaged weights.
    evaluations
        How often the held-out loss is looked at, evenly over the steps.
    patience
        A model stops when its held-out loss has not improved for this many evaluations. Default: never.
    ensemble
        Models per split, with their own held-out events, batches and first weights. Their densities are
        averaged and each makes an equal share of the samples; there is no common latent space then.
    amp
        ``"bf16"``: matrix products of the training in bfloat16, with float32 weights. Losses are about the
        same and processors with such units are faster.
    preprocessing
        ``"quantile"``, ``"logit"`` (the papers' choice) or ``"standardise"``, see
        :mod:`serendip.density.preprocessing`.
    mass_dependence
        Whether the preprocessing divides out the leading mass dependence. Default: not for ``"logit"``.
    precision
        Floating-point type of :meth:`log_prob` and :meth:`to_latent`; samples are made in float32.
    seed
        Everything random in the training follows from it.
    device
        For example ``"cpu"``; default: CUDA if there is one.
    """

    def __init__(
        self,
        own: dict[str, Any],
        *,
        steps: int = 2000,
        epochs: int | None = None,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        average: float = 0.995,
        validation_fraction: float = 0.1,
        evaluations: int = 10,
        patience: int | None = None,
        ensemble: int = 1,
        amp: Literal["bf16"] | None = None,
        preprocessing: str = "quantile",
        mass_dependence: bool | None = None,
        precision: str = "float64",
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        super().__init__(
            seed=seed, preprocessing=preprocessing, mass_dependence=mass_dependence, ensemble=ensemble, **own,
            steps=steps, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, average=average,
            validation_fraction=validation_fraction, evaluations=evaluations, patience=patience, amp=amp,
            precision=precision, device=device,
        )  # fmt: skip
        if precision not in _PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(_PRECISIONS)}, not '{precision}'")
        if amp not in {None, "bf16"}:
            raise InputError(f"amp must be 'bf16' or left away, not '{amp}'")
        for name, value in (("patience", patience), ("epochs", epochs), ("evaluations", evaluations)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        self.device = pick_device(device)
        self.precision = _PRECISIONS[precision]
        self.network: nn.Module | None = None
        self.validation_loss: list[float] = []

    def _train(
        self, samples: list[tuple[Array, Array, Array]], checkpoint: Any, progress: Progress | None
    ) -> None:
        o = self.options
        data = SplitSamples.make(
            samples, seed=self.seed, validation_fraction=o["validation_fraction"], device=self.device,
            groups=self._groups,
        )  # fmt: skip
        network = self._build(len(samples), samples[0][0].shape[1])
        batches, batch_loss, validation_loss = self._losses(data)

        def cast_loss() -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return batch_loss()

        steps = o["steps"]
        if o["epochs"] is not None:
            steps = math.ceil(o["epochs"] * max(len(c) for c in data.cumulative) / o["batch_size"])
        store = None
        if checkpoint is not None:
            store = Checkpoint.make(checkpoint, batches, {"kind": self.kind, **o})
        self.validation_loss = train(
            network, cast_loss if o["amp"] else batch_loss, validation_loss, stacked=True, steps=steps,
            learning_rate=o["learning_rate"], average=o["average"], evaluations=o["evaluations"],
            patience=o["patience"], checkpoint=store, progress=progress, name=f"{self.kind} density",
        )  # fmt: skip

    def _tensors(self) -> dict[str, NDArray[Any]]:
        network = trained(self.network)
        return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        network = self._build(len(self.transforms) * self.ensemble, self.transforms[0].n_features)
        network.load_state_dict({name: torch.as_tensor(array) for name, array in arrays.items()})

    @abstractmethod
    def _build(self, models: int, d: int) -> nn.Module:
        """Make the networks of all models, with fresh weights, and keep them as ``network``."""

    @abstractmethod
    def _losses(self, data: SplitSamples) -> tuple[Batches, Callable[[], Tensor], Callable[[], Tensor]]:
        """Batches, the loss of the next one, and the loss on the held-out events; losses ``(k,)``."""


_Module = TypeVar("_Module", bound=nn.Module)


def trained(network: _Module | None) -> _Module:
    """Return the network, or raise an error if there is none yet."""
    if network is None:
        msg = "the density is not fitted yet: call fit first"
        raise RuntimeError(msg)
    return network
