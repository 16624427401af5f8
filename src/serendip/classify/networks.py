"""Neural networks: all members and all splits trained as one batched model."""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from serendip.classify.base import EnsembleClassifier, stored_classes
from serendip.classify.inputs import binary_targets, checked_weights, split_weights
from serendip.classify.rounds import COSTS, Rows
from serendip.errors import InputError
from serendip.io.models import require
from serendip.torch_device import limited_threads, pick_device

__all__ = ["NetworkEnsemble"]

log = logging.getLogger(__name__)

Layers = list[tuple[Tensor, Tensor]]
"""Weights ``(models, inputs, outputs)`` and biases ``(models, 1, outputs)`` of each layer."""


@dataclass(eq=False, repr=False)
class NetworkEnsemble(EnsembleClassifier):
    r"""Mean of multilayer perceptrons (the classifier of arXiv:2109.00546).

    Each member draws its own random split of the sample, stratified by class, minimises the weighted binary
    cross-entropy on one part with Adam, and keeps its parameters at the ``best_rounds`` lowest losses on the
    other:

    .. math:: p(x) = \frac{1}{M R} \sum_{i=1}^{M} \sum_{r=1}^{R} p_{ir}(x)

    Features are standardised with the weighted mean and deviation of the training sample. Weights are divided
    by their mean, so their overall scale does not matter.

    Parameters
    ----------
    members
        Number of networks ``M`` that are averaged.
    hidden
        Widths of the hidden layers, with ReLU between them.
    learning_rate, batch_size
        Of Adam.
    steps_per_round
        Optimiser steps between two looks at the validation loss. It is a fixed number, not an epoch, so that a network does not depend on the size of the other splits trained with it.
    max_rounds
        Most rounds.
    patience
        A network stops after this many rounds without a new lowest validation loss.
    best_rounds
        Number ``R`` of rounds that are averaged.
    select_by
        ``"loss"``: the best rounds are those with the lowest validation loss; ``"argos"``: with the largest ARGOS,
        :func:`serendip.classify.argos.argos`, where class 1 is the data and class 0 the template. ``patience``
        counts rounds without a better value of the same quantity.
    validation_fraction
        Part of the sample on which the rounds are evaluated. Classes with fewer than ten events are too small to
        be split; then the training loss is used.
    threads
        Torch threads.
    device
        Torch device; None: a GPU if there is one.
    random_state
        Seed or generator; the same seed gives the same scores on the same device.

    Attributes
    ----------
    classes_
        The two classes; ``predict_proba`` has one column for each.
    n_iter_
        Rounds made by the longest network of this split.
    """

    _: KW_ONLY
    hidden: tuple[int, ...] = (64, 64, 64)
    learning_rate: float = 1e-3
    batch_size: int = 256
    steps_per_round: int = 40
    max_rounds: int = 100
    patience: int = 10
    best_rounds: int = 5
    device: str | None = None

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train all members.

        Parameters
        ----------
        X
            Features, shape ``(n, d)``; finite.
        y
            Two classes, shape ``(n,)``.
        sample_weight
            Non-negative weights, shape ``(n,)``; used for the standardisation, the loss and the choice of
            rounds.

        Raises
        ------
        InputError
            If the loss is not finite.
        """
        checked = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        values: NDArray[np.float64] = checked[0]
        classes, targets = binary_targets(checked[1])
        weights = checked_weights(sample_weight, values)
        self._train(
            [self],
            classes=classes,
            values=values,
            targets=targets,
            weights=weights[None],
            splits=np.ones((1, len(values)), dtype=bool),
        )
        return self

    def fit_splits(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        splits: NDArray[np.bool_],
        validation: NDArray[np.bool_] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> list[Self]:
        """Train one ensemble for each row of ``splits``, all together.

        Parameters
        ----------
        X
            Features, shape ``(n, d)``; finite.
        y
            Two classes, shape ``(n,)``.
        sample_weight
            Shape ``(n,)`` or ``(n_models, n)``; None: all 1.
        splits
            Masks, shape ``(n_models, n)``.
        validation
            Masks of the events on which the rounds of each model are evaluated, shape ``(n_models, n)``; it then trains
            on all of its split. Default: each member validates on a random part of its split.
        groups
            Events with the same number, shape ``(n,)``, stay together in that part; None: every event is its own.

        Returns
        -------
        list
            One fitted ensemble for each row.
        """
        models: list[Self] = [clone(self) for _ in splits]
        for model in models:
            values, labels = validate_data(model, X, y, dtype=np.float64, ensure_min_samples=2)
        classes, targets = binary_targets(labels)
        given = split_weights(sample_weight, splits)
        weights = np.zeros(splits.shape)
        for k, mask in enumerate(splits if validation is None else splits | validation):
            weights[k, mask] = checked_weights(given[k][mask], values[mask])
        self._train(
            models,
            classes=classes,
            values=values,
            targets=targets,
            weights=weights,
            splits=splits,
            validation=validation,
            groups=groups,
        )
        return models

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the mean of the networks' probabilities, shape ``(n, 2)``."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=np.float64)
        device = pick_device(self.device or None)
        scaled = torch.as_tensor((values - self.mean_) / self.deviation_, dtype=torch.float32)
        layers = [(weight.to(device), bias.to(device)) for weight, bias in self.layers_]
        models = len(layers[0][0])
        probability = np.empty((len(values), 2))
        with torch.inference_mode(), limited_threads(self.threads):
            for start in range(0, len(values), 2048):
                block = scaled[start : start + 2048].to(device)
                logits = _forward(layers, block.expand(models, -1, -1)).double()
                # Two sigmoids, not 1 - p: the last digits of a p near 1 determine the order of the best events.
                both = torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=-1)
                probability[start : start + 2048] = both.mean(dim=0).cpu().numpy()
        return probability

    def _keep(self, i: int, count: int) -> None:
        networks = len(self.layers_[0][0]) // count
        own = slice(i * networks, (i + 1) * networks)
        self.layers_: Layers = [(weight[own], bias[own]) for weight, bias in self.layers_]

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything that prediction needs, as facts (JSON) and arrays; :meth:`from_arrays` is the way back."""
        check_is_fitted(self)
        facts = {
            "kind": "network",
            "classes": self.classes_.tolist(),
            "rounds": int(self.n_iter_),
            "layers": len(self.layers_),
            "members": self.members,
        }
        arrays = {"mean": self.mean_, "deviation": self.deviation_}
        for i, (weight, bias) in enumerate(self.layers_):
            arrays |= {f"weight{i}": weight.numpy(), f"bias{i}": bias.numpy()}
        return facts, arrays

    @classmethod
    def from_arrays(cls, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return a fitted ensemble with the same predictions.

        Raises
        ------
        InputError
            If the arrays do not fit together.
        """
        mean, deviation = (require(arrays, name, "f", 1) for name in ("mean", "deviation"))
        layers, inputs, networks = [], len(mean), None
        for i in range(int(facts["layers"])):
            weight, bias = require(arrays, f"weight{i}", "f", 3), require(arrays, f"bias{i}", "f", 3)
            networks = len(weight) if networks is None else networks
            outputs = weight.shape[2]
            if weight.shape != (networks, inputs, outputs) or bias.shape != (networks, 1, outputs):
                raise InputError(f"layer {i} has shape {weight.shape} after {inputs} outputs")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise InputError(f"layer {i} holds numbers that are not finite")
            layers.append((torch.tensor(weight), torch.tensor(bias)))
            inputs = outputs
        if not layers or not networks or inputs != 1 or deviation.shape != mean.shape:
            raise InputError("the layers are not those of a classifier")
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation > 0).all()):
            raise InputError("the standardisation is not finite")
        hidden = tuple(weight.shape[2] for weight, _ in layers[:-1])
        model = cls(members=int(facts["members"]), hidden=hidden)
        model.classes_ = stored_classes(facts)
        model.mean_, model.deviation_, model.layers_ = mean, deviation, layers
        model.n_features_in_, model.n_iter_ = len(mean), int(facts["rounds"])
        return model

    def _train(
        self,
        models: list[Self],
        *,
        classes: NDArray[Any],
        values: NDArray[np.float64],
        targets: NDArray[np.int64],
        weights: NDArray[np.float64],
        splits: NDArray[np.bool_],
        validation: NDArray[np.bool_] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        if self.members < 1 or self.best_rounds < 1 or self.max_rounds < 1:
            raise ValueError("members, best_rounds and max_rounds must be at least 1")
        if self.select_by not in ("loss", "argos"):
            raise ValueError(f"select_by='{self.select_by}': loss or argos is expected")
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=self.members)
        networks: list[Rows] = []
        scaled = np.empty((len(models), *values.shape), dtype=np.float32)
        for k, model in enumerate(models):
            used = np.flatnonzero(splits[k] & (weights[k] > 0))
            if len(np.unique(targets[used])) < 2:
                raise ValueError("all events of one class have zero weight; two classes are needed")
            model.classes_ = classes
            model.mean_ = np.average(values[used], axis=0, weights=weights[k, used])
            deviation = np.sqrt(
                np.average((values[used] - model.mean_) ** 2, axis=0, weights=weights[k, used])
            )
            model.deviation_ = np.where(deviation > 0, deviation, 1.0)
            scaled[k] = (values - model.mean_) / model.deviation_
            judged = None if validation is None else np.flatnonzero(validation[k] & (weights[k] > 0))
            networks += [
                Rows(
                    k,
                    int(seed),
                    used,
                    targets[used],
                    self.validation_fraction,
                    judged,
                    None if groups is None else groups[used],
                )
                for seed in seeds
            ]
        with limited_threads(self.threads):
            layers, rounds = self._optimise(networks, scaled, targets, weights)
        for k, model in enumerate(models):
            own = slice(k * self.members, (k + 1) * self.members)
            model.layers_ = [(weight[own].flatten(0, 1), bias[own].flatten(0, 1)) for weight, bias in layers]
            model.n_iter_ = int(rounds[own].max())

    def _optimise(
        self,
        networks: list[Rows],
        scaled: NDArray[np.float32],
        targets: NDArray[np.int64],
        weights: NDArray[np.float64],
    ) -> tuple[Layers, NDArray[np.int64]]:
        """Train; return layers with shape ``(networks, best_rounds, in, out)`` and the rounds each made."""
        device = pick_device(self.device or None)
        x = torch.as_tensor(scaled, device=device)
        y = torch.as_tensor(targets, dtype=torch.float32, device=device)
        w = torch.as_tensor(weights, dtype=torch.float32, device=device)
        layers = _initial_layers(networks, (scaled.shape[2], *self.hidden, 1), device)
        best = [
            tuple(p.detach()[:, None].repeat(1, self.best_rounds, 1, 1) for p in layer) for layer in layers
        ]
        best_loss = torch.full((len(networks), self.best_rounds), torch.inf, device=device)
        last_improvement = np.zeros(len(networks), dtype=np.int64)
        rounds = np.zeros(len(networks), dtype=np.int64)
        active = np.arange(len(networks))
        optimiser = torch.optim.Adam(
            [p for layer in layers for p in layer], lr=self.learning_rate, foreach=False
        )
        for number in range(1, self.max_rounds + 1):
            split = torch.as_tensor([networks[i].split for i in active], device=device)[:, None]
            rows = np.stack([networks[i].draw(self.steps_per_round * self.batch_size) for i in active])
            for batch in torch.split(torch.as_tensor(rows, device=device), self.batch_size, dim=1):
                optimiser.zero_grad()
                losses = _weighted_losses(layers, x[split, batch], y[batch], w[split, batch])
                losses.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            loss = self._validation_costs(layers, [networks[i] for i in active], x, y, w)
            if not bool(torch.isfinite(loss).all()):
                raise InputError(
                    f"network training diverged in round {number}: the loss is not finite; look for extreme "
                    "feature values or weights, or lower the learning rate"
                )
            rounds[active] = number
            worst_loss, worst = best_loss[active].max(dim=1)
            improved = (loss < best_loss[active].min(dim=1).values).cpu().numpy()
            keep = (loss < worst_loss).nonzero()[:, 0]
            kept = torch.as_tensor(active, device=device)[keep]
            best_loss[kept, worst[keep]] = loss[keep]
            for stored, current in zip(best, layers, strict=True):
                for target, source in zip(stored, current, strict=True):
                    target[kept, worst[keep]] = source.detach()[keep]
            last_improvement[active[improved]] = number
            going = np.flatnonzero(number - last_improvement[active] < self.patience)
            if len(going) == 0:
                break
            if len(going) < len(active):
                layers = _shrink(layers, optimiser, torch.as_tensor(going, device=device))
                active = active[going]
        log.debug("%d networks trained in %d rounds", len(networks), int(rounds.max()))
        for stored in best:
            for target in stored:
                _fill_unused(target, best_loss)
        return [(weight.cpu(), bias.cpu()) for weight, bias in best], rounds

    def _validation_costs(
        self, layers: Layers, networks: list[Rows], x: Tensor, y: Tensor, w: Tensor
    ) -> Tensor:
        """Weighted mean loss, or -ARGOS, of each network on its own validation rows, shape ``(networks,)``."""
        longest = max(len(network.validation) for network in networks)
        rows = np.zeros((len(networks), longest), dtype=np.int64)
        present = np.zeros(rows.shape, dtype=np.float32)
        for i, network in enumerate(networks):
            rows[i, : len(network.validation)] = network.validation
            present[i, : len(network.validation)] = 1.0
        split = torch.as_tensor([network.split for network in networks], device=x.device)[:, None]
        logits, targets, weights = [], [], []
        with torch.no_grad():
            blocks = (torch.split(torch.as_tensor(a, device=x.device), 2048, dim=1) for a in (rows, present))
            for batch, there in zip(*blocks, strict=True):
                logits.append(_forward(layers, x[split, batch]))
                targets.append(y[batch])
                weights.append(w[split, batch] * there)
            return COSTS[self.select_by](*(torch.cat(parts, dim=1) for parts in (logits, targets, weights)))


def _initial_layers(networks: list[Rows], sizes: tuple[int, ...], device: torch.device) -> Layers:
    """Uniform in +-1/sqrt(inputs), from each network's own generator."""
    layers: Layers = []
    for inputs, outputs in pairwise(sizes):
        bound = 1.0 / np.sqrt(inputs)
        drawn = np.stack([network.rng.uniform(-bound, bound, (inputs + 1, outputs)) for network in networks])
        both = torch.as_tensor(drawn, dtype=torch.float32, device=device)
        layers.append((both[:, :-1].clone().requires_grad_(), both[:, -1:].clone().requires_grad_()))
    return layers


def _forward(layers: Layers, x: Tensor) -> Tensor:
    """Logits, shape ``(models, n)``, of inputs ``(models, n, d)``."""
    for weight, bias in layers[:-1]:
        x = torch.baddbmm(bias, x, weight).relu()
    weight, bias = layers[-1]
    return torch.baddbmm(bias, x, weight)[..., 0]


def _weighted_losses(layers: Layers, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    logits = _forward(layers, x)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, y, weight=w, reduction="none")


def _shrink(layers: Layers, optimiser: torch.optim.Adam, going: Tensor) -> Layers:
    """Select the networks that go on, with their state of the optimiser."""
    out: Layers = []
    parameters: list[Tensor] = []
    states: dict[Tensor, dict[str, Tensor]] = {}
    for layer in layers:
        new = []
        for old in layer:
            kept = old.detach()[going].requires_grad_()
            states[kept] = {name: v if v.ndim == 0 else v[going] for name, v in optimiser.state[old].items()}
            new.append(kept)
        out.append((new[0], new[1]))
        parameters += new
    optimiser.state.clear()
    optimiser.state.update(states)
    optimiser.param_groups[0]["params"] = parameters
    return out


def _fill_unused(stored: Tensor, loss: Tensor) -> None:
    """Put the best round in the places of rounds that were never made (``loss`` infinite)."""
    best = loss.argmin(dim=1)
    network, place = torch.isinf(loss).nonzero(as_tuple=True)
    stored[network, place] = stored[network, best[network]]
