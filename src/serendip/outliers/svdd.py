r"""Deep support vector data description with fixed targets (arXiv:1802.06203; ensembles: 2106.10164, 2105.14027).

Networks learn to send background to one fixed point; events mapped elsewhere are anomalous:

.. math:: L = \frac{1}{d} \sum_j (y_j(z) - C)^2, \qquad r(x) = |y(z) - C|_2

An ensemble has one member for each target C and each number d of outputs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from serendip.outliers.base import Array, Arrays, Facts
from serendip.outliers.inputs import DataError, require_at_least, require_choice
from serendip.outliers.networks import NetworkScore, weighted_mean

__all__ = ["DeepSVDD", "SvddMember"]

log = logging.getLogger(__name__)

_SPREAD_EVENTS = 5000

_RULES = ("min", "max", "mean", "product")


@dataclass(frozen=True)
class SvddMember:
    """One network of the ensemble.

    Attributes
    ----------
    target, dimensions
        C and d.
    spread
        Standard deviation of the outputs over the background, mean over outputs, divided by its value before
        the training.
    collapsed
        Whether it is below ``min_spread``: such a member answers the same to everything and is left out.
    largest_radius
        Largest radius of a training event; 1 on the scale of the scores.
    """

    target: float
    dimensions: int
    spread: float
    collapsed: bool
    largest_radius: float

    def to_dict(self) -> dict[str, Any]:
        """Give all attributes as JSON-able values."""
        return asdict(self)


@dataclass(eq=False, repr=False)
class DeepSVDD(NetworkScore):
    r"""Ensemble of deep SVDD networks, all trained as one batch; higher = more anomalous.

    Event weights are used in the standardisation, the batches, the held-out loss and the spreads.

    A network that sends *everything* to the target has the lowest loss and no use. Biases make that easy, so there are
    none by default, and members whose outputs hardly vary are left out, counted (``members_``) and logged. A network without
    biases sends 0 to 0, which for :math:`C \ne 0` would make the mean of background the least normal event; therefore its input is :math:`z + 1`. It cannot send all of that to one point other than 0, because no layer can drop z and keep the 1. For C = 0
    weights that shrink to 0 remain a collapse, which early stopping and ``min_spread`` prevent.

    Parameters
    ----------
    targets, dimensions
        Values of C and d; the ensemble has every pair, sorted by d as given. The defaults give the 63 members of arXiv:2106.10164.
    combine
        ``"mean"``, ``"min"`` (all members find it anomalous, AND), ``"max"`` (any does, OR) or ``"product"`` (as the mean
        logarithm) of :math:`r / \max_\mathrm{training} r`.
    hidden
        Widths of the hidden layers with ELU units; (512, 256, 128) in the papers, which costs 15 times as much.
    bias
        Whether layers have biases, as in arXiv:2106.10164.
    min_spread
        Members with a smaller relative spread of the outputs have collapsed.
    steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`~serendip.outliers.networks.NetworkScore`.

    Attributes
    ----------
    members_
        List of :class:`SvddMember`.
    validation_loss_, dropped_columns_
        As in :class:`~serendip.outliers.networks.NetworkScore`.
    """

    kind = "deep-svdd"
    _rows = 1024
    _stacked = True

    targets: Sequence[float] = (0, 1, 2, 3, 4, 10, 25)
    dimensions: Sequence[int] = (5, 8, 13, 21, 34, 55, 89, 144, 233)
    _: KW_ONLY
    combine: Literal["min", "max", "mean", "product"] = "mean"
    hidden: tuple[int, ...] = (64, 32)
    bias: bool = False
    min_spread: float = 1e-2
    steps: int = 1000

    def member_scores(self, X: Any) -> Array:
        """Radius of each event in units of the largest one in training, shape ``(n, members)``.

        The columns are those of ``members_``; collapsed members are among them.
        """
        check_is_fitted(self)
        return self._radii(self._checked(X, reset=False)) / self._scales()

    def rule_scores(self, X: Any) -> dict[str, Array]:
        """Scores of each event by every rule of ``combine``, each of shape ``(n,)``, from one training."""
        radii = self.member_scores(X)
        return {rule: self._joined(radii, rule) for rule in _RULES}

    def _score(self, x: Array) -> Array:
        return self._joined(self._radii(x) / self._scales(), self.combine)

    def _joined(self, radii: Array, rule: str) -> Array:
        used = radii[:, [i for i, member in enumerate(self.members_) if not member.collapsed]]
        if rule == "product":
            return np.asarray(np.log(np.maximum(used, 1e-300)).mean(axis=1))
        return np.asarray(getattr(np, rule)(used, axis=1))

    def _scales(self) -> Array:
        largest = np.array([member.largest_radius for member in self.members_])
        return np.where(largest > 0, largest, 1.0)

    def _prepare(self, x: Array, weights: Array) -> Array:
        return self._shifted(super()._prepare(x, weights))

    def _shifted(self, z: Array) -> Array:
        return z if self.bias else z + 1.0

    def _radii(self, x: Array) -> Array:
        return self._evaluate(self._network_score, self._shifted(self._standardiser.transform(x)))

    def _pairs(self) -> list[tuple[float, int]]:
        return [(float(c), int(d)) for d, c in product(self.dimensions, self.targets)]

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        super().check_options()
        require_choice(_RULES, combine=self.combine)
        require_at_least(0, min_spread=self.min_spread)
        require_at_least(1, **{f"hidden[{i}]": v for i, v in enumerate(self.hidden)})
        require_at_least(1, **{f"dimensions[{i}]": v for i, v in enumerate(self.dimensions)})
        if not len(self.targets) or not len(self.dimensions) or not np.isfinite(self.targets).all():
            raise DataError("targets and dimensions need at least one finite value each")

    def _build(self, d: int, seed: int) -> _Targets:
        return _Targets(self._pairs(), d, self.hidden, bias=self.bias, seed=seed)

    def _train(self, z: Array, weights: Array, seed: int) -> list[float]:
        self._first_spread = self._spreads(z, weights)
        return super()._train(z, weights, seed)

    def _finish(self, z: Array, weights: Array) -> None:
        spread = self._spreads(z, weights) / self._first_spread
        radii = self._evaluate(self._network_score, z).max(axis=0)
        self.members_ = [
            SvddMember(c, d, float(s), not s >= self.min_spread, float(r))
            for (c, d), s, r in zip(self._pairs(), spread, radii, strict=True)
        ]
        lost = [f"C={m.target:g} d={m.dimensions}" for m in self.members_ if m.collapsed]
        if len(lost) == len(self.members_):
            raise DataError(
                f"all {len(lost)} deep SVDD networks collapsed: their outputs vary by less than {self.min_spread:g} of "
                "what they did before the training; use bias=False, other targets, or fewer steps"
            )
        if lost:
            log.warning("%d of %d deep SVDD networks collapsed and are left out: %s",
                        len(lost), len(self.members_), ", ".join(lost))  # fmt: skip

    def _spreads(self, z: Array, weights: Array) -> Array:
        """Standard deviation of the outputs over the events, mean over the outputs, shape ``(members,)``."""
        rows, w = z[:_SPREAD_EVENTS], weights[:_SPREAD_EVENTS, None, None]
        network: _Targets = self._network
        dtype = next(network.parameters()).dtype
        out = []
        for group in range(len(network.groups)):
            y = self._evaluate(lambda part, g=group: network(part.to(dtype), g).movedim(0, 1), rows)  # type: ignore[misc]
            variance = (w * (y - (w * y).sum(0) / w.sum()) ** 2).sum(0) / w.sum()
            out.append(np.sqrt(variance).mean(axis=1))
        return np.concatenate(out)

    def _loss(self, z: Tensor, w: Tensor, noise: torch.Generator) -> Tensor:
        network: _Targets = self._network
        return weighted_mean(network.squared(z) / network.outputs, w)

    def _network_score(self, z: Tensor) -> Tensor:
        network: _Targets = self._network
        return network.squared(z).sqrt().mT

    def _state(self) -> tuple[Facts, Arrays]:
        facts, arrays = super()._state()
        return facts | {"members": [member.to_dict() for member in self.members_]}, arrays

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        super()._restore(facts, arrays)
        self.members_ = [SvddMember(**member) for member in facts["members"]]


class _Targets(nn.Module):
    """Networks of one shape; each uses the first d outputs of the widest one and has a target of its own.

    Members with equal d stand side by side and are evaluated together, with no more outputs than they use.
    """

    outputs: Tensor
    target: Tensor

    def __init__(
        self, pairs: list[tuple[float, int]], n_in: int, hidden: Sequence[int], *, bias: bool, seed: int
    ) -> None:
        super().__init__()
        counts = [d for _, d in pairs]
        borders = [0, *(i for i in range(1, len(counts)) if counts[i] != counts[i - 1]), len(counts)]
        self.groups = [(slice(a, b), counts[a]) for a, b in pairwise(borders)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (n, m) in enumerate(pairwise([n_in, *hidden, max(counts)])):
            draws = [
                np.random.default_rng([seed, k, 2, layer]).standard_normal((n, m)) for k in range(len(pairs))
            ]
            self.weights.append(torch.as_tensor(np.stack(draws) * math.sqrt(1.5 / n), dtype=torch.float32))
            if bias:
                self.biases.append(torch.zeros(len(pairs), 1, m))
        self.register_buffer("outputs", torch.tensor(counts, dtype=torch.float32)[:, None])
        self.register_buffer(
            "target", torch.tensor([c for c, _ in pairs], dtype=torch.float32)[:, None, None]
        )

    def forward(self, z: Tensor, group: int) -> Tensor:
        """Outputs of the members of one group, shape ``(members, n, d)``."""
        members, d = self.groups[group]
        h = z.expand(members.stop - members.start, *z.shape)
        last = len(self.weights) - 1
        for layer, weight in enumerate(self.weights):
            own = weight[members] if layer < last else weight[members, :, :d]
            if len(self.biases):
                h = torch.baddbmm(self.biases[layer][members, :, : own.shape[2]], h, own)
            else:
                h = torch.bmm(h, own)
            if layer < last:
                h = functional.elu(h)
        return h

    def squared(self, z: Tensor) -> Tensor:
        """Squared radius, shape ``(members, n)``."""
        parts = [
            (self.forward(z, g) - self.target[members]).square().sum(-1)
            for g, (members, _) in enumerate(self.groups)
        ]
        return torch.cat(parts)
