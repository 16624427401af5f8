r"""A network on sets of objects as classifier between the Standard Model and a mixture of theories.

The alternative to the boosted trees of :mod:`serendip.theories.mixture`, on the same weighted sample: an event is a list of objects
of any length (:func:`~serendip.theories.encoding.encode_objects`) instead of 85 numbers. The loss is the weighted cross-entropy, so that
the score tends to :math:`\ln p_S(x)/p_\mathrm{SM}(x)` as well. :mod:`serendip.theories.sets.layers` has the networks.

>>> samples = read_channel_samples(sm, bsm, "3", encoding="objects")                        # doctest: +SKIP
>>> trained = train_set_network(samples.background.x, samples.theories, SetConfig(kind="transformer"),
...     features=samples.features, background_weight=samples.background.weight,
...     background_group=samples.background.group)                                           # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serendip.errors import InputError
from serendip.io.models import read_model, write_model
from serendip.outliers.inputs import in_blocks
from serendip.theories.sets.layers import SetNetwork, build_network, compact, log_odds
from serendip.theories.sets.training import optimise, standardise
from serendip.theories.training_sample import SampleConfig, TheorySample, training_sample
from serendip.torch_device import limited_threads, pick_device

__all__ = ["SetClassifier", "SetConfig", "train_set_network"]

Array = NDArray[np.float64]

_KIND = "mixture-set"
_ROWS = 2048
_HEADS = 4


class SetConfig(SampleConfig):
    """Options of a training.

    Attributes
    ----------
    kind
        ``"deepsets"``: a sum over objects. ``"transformer"``: attention among objects and their pairs; slower. ``"dense"``: fully connected,
        on flat features as trees have them.
    width
        Numbers for each object in the network.
    layers
        DeepSets: hidden layers before and after the sum. Transformer: attention blocks. Dense: hidden layers.
    heads
        Of the attention, for the transformer only; they divide ``width``. Default: 4.
    epochs
        Most passes over the training events.
    batch_size
        Events of a step.
    learning_rate
        Of AdamW, at its highest: it rises over the first 5 % of the steps and falls as a cosine.
    weight_decay
        Of AdamW.
    patience
        Epochs without a better AUC of the held-out events before it stops.
    threads
        Of torch on a CPU.
    device
        For example ``"cpu"``; default: CUDA if there is one.
    events_per_theory, weights, validation_fraction, seed
        As in :class:`~serendip.theories.training_sample.SampleConfig`.
    """

    kind: Literal["deepsets", "transformer", "dense"] = "deepsets"
    width: int = Field(default=64, ge=2)
    layers: PositiveInt = 2
    heads: PositiveInt | None = None
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 2e-3
    weight_decay: float = Field(default=0.01, ge=0.0)
    patience: PositiveInt = 6
    threads: PositiveInt = 1
    device: str | None = None

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.kind != "transformer" and self.heads is not None:
            raise ValueError("heads are for kind 'transformer'; DeepSets and dense networks have none")
        if self.kind == "transformer" and self.width % self.used_heads:
            raise ValueError(f"width {self.width} cannot be divided by {self.used_heads} heads")
        return self

    @property
    def used_heads(self) -> int:
        """Heads of the transformer."""
        return self.heads or _HEADS


@dataclass(frozen=True, eq=False)
class SetClassifier:
    """A trained classifier.

    Attributes
    ----------
    arrays
        Weights and scales of the network by name.
    features
        Names of the features of an object.
    theories
        Names of the theories in the mixture.
    config
        How it was trained.
    epochs
        Epoch whose weights are used, counted from 1.
    validation_auc
        AUC of the held-out events (the mixture against background) after that epoch.
    """

    arrays: Mapping[str, NDArray[Any]]
    features: tuple[str, ...]
    theories: tuple[str, ...]
    config: SetConfig
    epochs: int
    validation_auc: float

    def score(self, x: ArrayLike) -> Array:
        """Log-odds of the mixture against the Standard Model, shape ``(n,)``; higher is more signal-like.

        Parameters
        ----------
        x
            Events, shape ``(n, n_objects, n_features)``; lists may be longer or shorter than those of the training. For ``"dense"``
            ``(n, n_features)``.

        Raises
        ------
        InputError
            If the number of features is another one, a value is not finite, or an object has two kinds.
        """
        values, dense = np.asarray(x), self.config.kind == "dense"
        if values.ndim != (2 if dense else 3) or values.shape[-1] != len(self.features):
            raise InputError(
                f"events of shape {values.shape} cannot be scored: the classifier was trained on "
                f"{'rows' if dense else 'lists of objects'} with {len(self.features)} features"
            )
        values = values[:, None] if dense else values
        if not np.isfinite(values).all():
            row, place, column = np.argwhere(~np.isfinite(values))[0]
            raise InputError(f"event {row}, object {place}, '{self.features[column]}' is not a finite number")
        if not dense:
            _check_kinds(values, self.features, "the events")
        if not len(values):
            return np.zeros(0)
        device = pick_device(None if _lacks_cuda(self.config.device) else self.config.device)
        # single precision would make the score of an event depend on the others in its block
        network = self._network().to(device).double().eval()

        def block(rows: Array) -> Array:
            events = torch.as_tensor(rows, dtype=torch.float64)
            events, count = compact(events, network.present(events))
            return np.asarray(log_odds(network, events, count, device).cpu().numpy(), dtype=np.float64)

        with limited_threads(self.config.threads), torch.no_grad():
            return in_blocks(block, values, _ROWS)

    def save(self, folder: Path) -> None:
        """Write numbers as safetensors and facts as JSON; the folder is made if it is not there."""
        facts = {
            "kind": _KIND, "features": list(self.features), "theories": list(self.theories),
            "config": self.config.model_dump(mode="json"), "epochs": self.epochs, "validation_auc": self.validation_auc,
        }  # fmt: skip
        write_model(folder, facts, dict(self.arrays), "classifier")

    @classmethod
    def load(cls, folder: Path) -> SetClassifier:
        """Read the files of :meth:`save`; InputError if it is not there, damaged or another classifier."""
        facts, arrays = read_model(folder, "classifier")
        if facts.get("kind") != _KIND:
            raise InputError(f"{folder} holds '{facts.get('kind')}', not a set network of a mixture")
        try:
            found = cls(
                arrays, tuple(facts["features"]), tuple(facts["theories"]), SetConfig(**facts["config"]),
                int(facts["epochs"]), float(facts["validation_auc"]),
            )  # fmt: skip
            found._network()
        except (KeyError, TypeError, ValueError, RuntimeError, InputError) as error:
            raise InputError(f"{folder}: the set network is damaged ({error})") from None
        return found

    def _network(self) -> SetNetwork:
        network = _build(self.config, self.features)
        network.load_state_dict({name: torch.as_tensor(array) for name, array in self.arrays.items()})
        return network


def train_set_network(
    background: ArrayLike,
    theories: Sequence[TheorySample],
    config: SetConfig,
    *,
    features: Sequence[str],
    background_weight: ArrayLike | None = None,
    background_group: NDArray[np.int64] | None = None,
) -> SetClassifier:
    """Train a set network between background and a mixture of theories.

    On a CPU the same seed gives the same classifier.

    Parameters
    ----------
    background
        Encoded Standard Model events, shape ``(n, n_objects, n_features)``, or ``(n, n_features)`` for ``"dense"``.
    theories
        The theories; one theory is the single-signal approach.
    config
        Options.
    features
        Names of the features of an object. Those that begin with ``is_`` are 1 for its kind; where all of them are 0 there is no
        object.
    background_weight, background_group
        Event weights and groups, shape ``(n,)``, see :class:`~serendip.theories.training_sample.TheorySample`.

    Raises
    ------
    InputError
        As :func:`~serendip.theories.training_sample.training_sample`; if the names are insufficient for the network, an object has two kinds, the device is not available, or the training diverges.
    """
    if _lacks_cuda(config.device):
        raise InputError(
            f"device '{config.device}' was requested, but torch finds no CUDA here; use device 'cpu'"
        )
    try:
        device = pick_device(config.device)
    except RuntimeError as error:
        raise InputError(f"device '{config.device}' is not known to torch ({error})") from None
    network = _build(config, features)
    sample = training_sample(
        background,
        theories,
        config,
        features=features,
        background_weight=background_weight,
        background_group=background_group,
        layout="flat" if config.kind == "dense" else "objects",
    )
    if config.kind == "dense":
        sample = replace(sample, x=sample.x[:, None])
    else:
        _check_kinds(sample.x, features, "the samples")
    with limited_threads(config.threads):
        standardise(network, sample)
        epochs, auc = optimise(
            network.to(device), sample, device, epochs=config.epochs, batch_size=config.batch_size,
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, patience=config.patience, seed=config.seed,
        )  # fmt: skip
    return SetClassifier(
        arrays={name: value.cpu().numpy() for name, value in network.state_dict().items()},
        features=tuple(features),
        theories=tuple(theory.name for theory in theories),
        config=config,
        epochs=epochs,
        validation_auc=auc,
    )


def _build(config: SetConfig, features: Sequence[str]) -> SetNetwork:
    return build_network(
        config.kind,
        features,
        width=config.width,
        layers=config.layers,
        heads=config.used_heads,
        seed=config.seed,
    )


def _check_kinds(x: NDArray[Any], features: Sequence[str], what: str) -> None:
    flags = x[..., [i for i, name in enumerate(features) if name.startswith("is_")]]
    bad = ~(((flags == 0) | (flags == 1)).all(-1) & (flags.sum(-1) <= 1))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise InputError(
            f"object {place} of event {row} of {what} has the kinds {flags[row, place].tolist()}; features that begin with "
            "'is_' must be 0, or 1 for the one kind of the object"
        )


def _lacks_cuda(device: str | None) -> bool:
    return device is not None and device.startswith("cuda") and not torch.cuda.is_available()
