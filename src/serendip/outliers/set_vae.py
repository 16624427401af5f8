r"""Variational autoencoder of sets of objects (arXiv:2105.14027, section 4.3).

One network processes each object, featurewise sort pooling (arXiv:1906.02795) combines them into an event, and a decoder generates a list of objects from the latent variables and the occupancy (the part of the list that is filled):

.. math:: L = (1-\beta)\, L_C + \beta\, D_\mathrm{KL}\!\left(q \,\|\, N(0, \mathbf 1)\right)

.. math:: L_C = \langle \min_j |x_i - \hat x_j| \rangle_i + \langle \min_i |x_i - \hat x_j| \rangle_j
    - w\, \langle \ln \hat p_{j^*(i)}(\mathrm{kind}_i) \rangle_i + \frac{(\sum_j \hat q_j - n)^2}{N}

with the n given objects i, the N slots j of the decoder, its probability :math:`\hat q_j` that slot j holds an object (the weight of the second
mean) and the slot :math:`j^*(i)` nearest to object i.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from serendip.outliers.base import Array, Arrays, Facts
from serendip.outliers.inputs import DataError, Standardiser, require_at_least, require_choice, require_finite
from serendip.outliers.networks import NetworkScore, weighted_mean

__all__ = ["DeepSetVAE"]

_MEASURES = ("loss", "reconstruction", "divergence")
_PIECES = 20
_MAX_LOG_VARIANCE = 10.0
_MIN_DISTANCE = 1e-12


@dataclass(eq=False, repr=False)
class DeepSetVAE(NetworkScore):
    r"""Loss of a variational autoencoder of lists of objects; higher = more anomalous.

    ``X`` has shape ``(n_events, n_objects, n_features)``, as ``values`` of :func:`serendip.theories.encoding.encode_objects`: the last ``kinds``
    features are 1 for the kind of an object and 0 otherwise, all of them 0 where there is no object. The other features are standardised
    with the objects of the background. The order of the objects does not matter. Event weights are used.

    Parameters
    ----------
    beta
        Weight of the Kullback-Leibler term, 0 to 1. With 1, the best of the paper, the decoder is not trained.
    latent
        Number of latent numbers.
    kind_weight
        :math:`w`; 1 and 10 in the paper.
    measure
        ``"loss"``: :math:`L` (the paper); ``"reconstruction"``: :math:`L_C`; ``"divergence"``: the KL term. None draws random numbers.
    width
        Width of the layers: four for each object, two in the decoder; 256 in the paper.
    kinds
        Number of kinds at the end of the features.
    steps, batch_size, learning_rate, validation_fraction, evaluations, patience, threads, device, random_state
        As in :class:`~serendip.outliers.networks.NetworkScore`.

    Attributes
    ----------
    validation_loss_
        Best held-out loss, a list of one number.
    dropped_columns_
        Features (besides the kinds) that are constant in the background and play no part.
    """

    kind = "deep-set-vae"

    beta: float = 1.0
    _: KW_ONLY
    latent: int = 8
    kind_weight: float = 1.0
    measure: Literal["loss", "reconstruction", "divergence"] = "loss"
    width: int = 64
    kinds: int = 8
    steps: int = 1000
    patience: int | None = 4

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train on background.

        Parameters
        ----------
        X
            Background, shape ``(n_events, n_objects, n_features)``; finite.
        y
            Not used; scikit-learn's tools pass it.
        mask
            Which objects to use, shape ``(n_events, n_objects)``. Default: all that have a kind.
        sample_weight
            Event weights, shape ``(n_events,)``, not negative. Only their ratios matter.
        groups
            Events that are held out together, shape ``(n_events,)``, as in :meth:`.OutlierScore.fit`.

        Raises
        ------
        InputError
            If shapes do not fit, a value is not finite, an object has more than one kind, or an option is not valid.
        """
        sets = self._sets(X, mask)
        self._shape = (sets.shape[1], sets.shape[2])
        return super().fit(sets.reshape(len(sets), -1), y, sample_weight=sample_weight, groups=groups)

    def score_samples(self, X: ArrayLike, mask: NDArray[np.bool_] | None = None) -> Array:
        """Anomaly score of each event, shape ``(n_events,)``; higher = more anomalous. Arguments as in :meth:`fit`."""
        sets = self._sets(X, mask)
        shape = getattr(self, "_shape", sets.shape[1:])
        if sets.shape[1:] != shape:
            raise DataError(
                f"X has {sets.shape[1]} objects of {sets.shape[2]} features in each event, but the background had "
                f"{shape[0]} of {shape[1]}"
            )
        return super().score_samples(sets.reshape(len(sets), -1))

    def _sets(self, X: ArrayLike, mask: NDArray[np.bool_] | None) -> Array:
        """Sets with zeros where there is no object."""
        sets = np.asarray(X, dtype=np.float64)
        if sets.ndim != 3 or sets.shape[2] <= self.kinds:
            raise DataError(
                f"X must have shape (events, objects, features) with more than {self.kinds} features, got {sets.shape}"
            )
        require_finite(sets)
        flags = sets[..., -self.kinds :]
        if not np.all(((flags == 0) | (flags == 1)).all(-1) & (flags.sum(-1) <= 1)):
            raise DataError(f"the last {self.kinds} features must be 0, or 1 for the one kind of an object")
        if mask is None:
            return sets
        if np.shape(mask) != sets.shape[:2]:
            raise DataError(f"the mask has shape {np.shape(mask)}, but there are {sets.shape[:2]} objects")
        return np.where(np.asarray(mask, dtype=bool)[..., None], sets, 0.0)

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        super().check_options()
        require_choice(_MEASURES, measure=self.measure)
        require_at_least(1, latent=self.latent, width=self.width, kinds=self.kinds)
        require_at_least(0, kind_weight=self.kind_weight)
        if not 0 <= self.beta <= 1:
            raise DataError(f"beta must be between 0 and 1, got {self.beta}")
        if self.beta == 1 and self.measure == "reconstruction":
            raise DataError("with beta=1 the decoder is not trained: use measure='loss', or a smaller beta")

    def _prepare(self, x: Array, weights: Array) -> Array:
        objects = x.reshape(-1, self._shape[1])
        present = objects[:, -self.kinds :].any(axis=1)
        per_object = np.repeat(weights, self._shape[0])
        self._standardiser = Standardiser.fit(objects[present, : -self.kinds], per_object[present])
        self.dropped_columns_ = self._shape[1] - self.kinds - len(self._standardiser.kept)
        return self._standardised(x)

    def _standardised(self, x: Array) -> Array:
        objects = x.reshape(-1, self._shape[1])
        flags = objects[:, -self.kinds :]
        present = flags.any(axis=1, keepdims=True)
        z = self._standardiser.transform(objects[:, : -self.kinds]) * present
        return np.concatenate([z, flags], axis=1).reshape(len(x), -1)

    def _score(self, x: Array) -> Array:
        return self._evaluate(self._network_score, self._standardised(x))

    def _build(self, d: int, seed: int) -> _Network:
        slots = self._shape[0]
        # the layers draw from torch's global state: borrow it and give it back
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _Network(slots, d // slots - self.kinds, self.kinds, self.width, self.latent)

    def _loss(self, z: Tensor, w: Tensor, noise: torch.Generator) -> Tensor:
        objects = self._objects(z)
        network: _Network = self._network
        mean, log_variance = network.encode(objects)
        draw = torch.randn(mean.shape, generator=noise, device=z.device)
        latent = mean + draw * torch.exp(0.5 * log_variance)
        return weighted_mean(self._total(objects, mean, log_variance, latent), w)[None]

    def _network_score(self, z: Tensor) -> Tensor:
        objects = self._objects(z)
        network: _Network = self._network
        mean, log_variance = network.encode(objects)
        if self.measure == "loss":
            return self._total(objects, mean, log_variance, mean)
        if self.measure == "divergence":
            return _divergence(mean, log_variance)
        return network.chamfer(objects, mean, self.kind_weight)

    def _total(self, objects: Tensor, mean: Tensor, log_variance: Tensor, latent: Tensor) -> Tensor:
        network: _Network = self._network
        loss = self.beta * _divergence(mean, log_variance)
        if self.beta < 1:
            loss = loss + (1 - self.beta) * network.chamfer(objects, latent, self.kind_weight)
        return loss

    def _objects(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), self._shape[0], -1)

    def _n_inputs(self) -> int:
        slots: int = self._shape[0]
        return slots * (len(self._standardiser.kept) + self.kinds)

    def _state(self) -> tuple[Facts, Arrays]:
        facts, arrays = super()._state()
        return facts | {"shape": list(self._shape)}, arrays

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self._shape = (int(facts["shape"][0]), int(facts["shape"][1]))
        super()._restore(facts, arrays)


class _Network(nn.Module):
    """Objects to latent numbers and back."""

    def __init__(self, slots: int, continuous: int, kinds: int, width: int, latent: int) -> None:
        super().__init__()
        self.slots, self.continuous, self.kinds, self.latent = slots, continuous, kinds, latent
        self.each = _layers([continuous + kinds, *[width] * 4, 2 * latent])
        # one piecewise linear function of the rank for each channel
        self.pool = nn.Parameter(torch.full((2 * latent, _PIECES + 1), 1.0 / slots))
        self.decoder = _layers([latent + 1, width, width, slots * (continuous + kinds + 1)])

    def encode(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent numbers, shape ``(n, latent)``."""
        present = objects[..., self.continuous :].any(-1)
        values = (
            self.each(objects)
            .masked_fill(~present[..., None], -torch.inf)
            .sort(dim=1, descending=True)
            .values
        )
        n = present.sum(1)
        place = torch.arange(self.slots, device=objects.device)
        rank = (place / (n[:, None] - 1).clamp_min(1)).clamp(max=1.0) * _PIECES
        low = rank.floor().long().clamp(max=_PIECES - 1)
        share = (rank - low)[..., None]
        weight = self.pool.T[low] * (1 - share) + self.pool.T[low + 1] * share
        pooled = torch.where((place < n[:, None])[..., None], values, 0.0).mul(weight).sum(1)
        mean, log_variance = pooled.chunk(2, -1)
        return mean, log_variance.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)

    def chamfer(self, objects: Tensor, latent: Tensor, kind_weight: float) -> Tensor:
        """The loss of reconstruction, shape ``(n,)``."""
        flags = objects[..., self.continuous :]
        present = flags.any(-1)
        n = present.sum(1).to(latent.dtype)
        occupancy = (n / self.slots)[:, None]
        out = self.decoder(torch.cat([latent, occupancy], -1)).view(len(latent), self.slots, -1)
        back, log_p = out[..., : self.continuous], functional.log_softmax(out[..., self.continuous :], -1)
        squared = (objects[..., None, : self.continuous] - back[:, None]).square().sum(-1)
        distance = squared.clamp_min(_MIN_DISTANCE).sqrt()
        nearest, slot = distance.min(2)
        filled = present.to(latent.dtype)
        count = n.clamp_min(1)
        there = (nearest * filled).sum(1) / count
        # the last class means that the slot is empty
        q = 1 - log_p[..., -1].exp()
        far = distance.masked_fill(~present[..., None], torch.inf).min(1).values
        far = torch.where(present.any(1)[:, None], far, 0.0)
        and_back = (q * far).sum(1) / q.sum(1).clamp_min(1e-6)
        at_slot = log_p[..., :-1].gather(1, slot[..., None].expand(-1, -1, self.kinds))
        kinds = -(at_slot * flags).sum((1, 2)) / count
        loss: Tensor = there + and_back + kind_weight * kinds + (q.sum(1) - n).square() / self.slots
        return loss


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)


def _layers(sizes: list[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for i in range(len(sizes) - 1):
        parts += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
