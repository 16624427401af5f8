r"""The density of a signal on top of a known background, by maximum likelihood.

With the density of background :math:`p_B` frozen, all information of the data in a window about a signal is in

.. math:: \ln L = \sum_i \ln\left[(1 - w) + w R_i\right], \qquad R_i = \frac{p_S(x_i, m_i)}{p_B(x_i, m_i)}, \qquad
    p_S(x, m) = p_S(x)\, p_S(m)

:math:`p_S(x)` is a small spline flow. :math:`p_S(m)` is a peak, normal in the normal quantile v of the place in the
window: flat at the start, and normalised in the window always.

A signal of a per cent is a handful of events in a batch. Since the gradient of ln L is :math:`\sum_i r_i \nabla \ln
p_S(x_i, m_i)` with :math:`r_i` the probability that event i is signal, events are drawn with
:math:`q_i \propto r_i + \text{a floor}`, from the last pass over all of them, and weighted by :math:`1/q_i`: the same
gradient with less noise. A fraction w that is learnt follows the mean of :math:`r_i` (expectation maximisation).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr
from torch import Tensor, nn

from serendip.density.batched import BatchedFlow
from serendip.density.training import train
from serendip.events.groups import random_parts
from serendip.methods.signal.sample import SignalSample, log_mixture
from serendip.methods.signal.start import SignalStart, find_start

__all__ = ["SignalFit", "SignalFlows", "train_signals"]

Array = NDArray[np.float64]

_FLOOR = 0.3
_RATE = 0.05
_AVERAGE = 0.98
_PASSES = 15
_ROWS = 4096
_LIMITS = (1e-5, 0.5)


class SignalFlows(nn.Module):
    """``models`` densities p_S(z) p_S(v), evaluated together.

    Parameters
    ----------
    models, d
        Number of densities and of features.
    transforms, hidden, bins
        Number of autoregressive spline transformations, width of the one hidden layer of each, bins of a spline.
    seed
        Random start of the networks.
    starts
        Normal density that each model starts from.
    """

    mean: Tensor
    width: Tensor

    def __init__(
        self,
        models: int,
        d: int,
        *,
        transforms: int,
        hidden: int,
        bins: int,
        seed: int,
        starts: list[SignalStart],
    ) -> None:
        from serendip.density.splines import spline_flow

        super().__init__()
        self.dimension = d
        self.flow = BatchedFlow(
            models,
            lambda: spline_flow(d, transforms=transforms, bins=bins, hidden_features=[hidden]),
            seed,
            identity=True,
        )
        mean, width = (
            torch.as_tensor(np.stack(a), dtype=torch.float32)
            for a in ([s.mean for s in starts], [s.width for s in starts])
        )
        # the start is not trained, but it is part of the density and saved with it
        self.register_buffer("mean", mean[:, None, :d].clone())
        self.register_buffer("width", width[:, None, :d].clone())
        self.place = nn.Parameter(mean[:, d:].clone())
        self.log_width = nn.Parameter(width[:, d:].log())

    def log_features(self, z: Tensor, only: slice = slice(None)) -> Tensor:
        """Ln p_S(z), shape ``(k, n)``, of ``z`` ``(k, n, d)``."""
        y = (z - self.mean[only]) / self.width[only]
        return self.flow.log_prob(y, y[..., :0], only) - self.width[only].log().sum(-1)

    def log_joint(self, z: Tensor, v: Tensor, only: slice = slice(None)) -> Tensor:
        """Ln p_S(z, v), shape ``(k, n)``."""
        pull = (v - self.place[only]) * torch.exp(-self.log_width[only])
        return self.log_features(z, only) - 0.5 * pull**2 - self.log_width[only] - 0.5 * math.log(2 * math.pi)

    def sample(self, model: int, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw z, shape ``(n, d)``, and the place in the window in (0, 1), shape ``(n,)``."""
        only = slice(model, model + 1)
        d = self.dimension
        noise = torch.as_tensor(rng.standard_normal((1, n, d)), dtype=torch.float32)
        with torch.no_grad():
            y = self.flow.from_noise(noise, noise[..., :0], only)
            z = (self.mean[only] + self.width[only] * y)[0]
        place, log_width = (float(p.detach()[model, 0]) for p in (self.place, self.log_width))
        v = place + math.exp(log_width) * rng.standard_normal(n)
        return z.double().numpy(), ndtr(v)


@dataclass(frozen=True)
class SignalFit:
    """Result of :func:`train_signals`.

    Attributes
    ----------
    flows
        Model ``k * members + j`` is member j of split k.
    members
        Models of each split.
    fraction
        Fraction of signal with which each model was trained, shape ``(k * members,)``.
    gain
        ln L per event that each model gained over w = 0 on the events that it held out, shape ``(k * members,)``.
    held_out
        For each split, ln R of every event by the member that held it out, shape ``(n,)``: after the training pass that is best on
        other events, so that the choice does not bias the gain.
    """

    flows: SignalFlows
    members: int
    fraction: Array
    gain: Array
    held_out: list[Array]

    def log_features(self, z: Array, split: int) -> Array:
        """Ln p_S(z) of the members of a split together, shape ``(n,)``."""
        only = slice(split * self.members, (split + 1) * self.members)
        out = []
        with torch.no_grad():
            for low in range(0, max(len(z), 1), _ROWS):
                rows = torch.as_tensor(z[low : low + _ROWS], dtype=torch.float32)
                out.append(self.flows.log_features(rows.expand(self.members, -1, -1), only).double().numpy())
        shares = np.log(self.shares(split))[:, None]
        result: Array = np.logaddexp.reduce(shares + np.concatenate(out, axis=1), axis=0)
        return result

    def sample(self, split: int, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw z, shape ``(n, d)``, and the place in the window in (0, 1), shape ``(n,)``."""
        counts = rng.multinomial(n, self.shares(split))
        drawn = [self.flows.sample(split * self.members + j, c, rng) for j, c in enumerate(counts)]
        return np.concatenate([z for z, _ in drawn]), np.concatenate([place for _, place in drawn])

    def trained_fraction(self, split: int) -> float:
        """Fraction of signal of the members of a split together."""
        rows = slice(split * self.members, (split + 1) * self.members)
        return float(self.shares(split) @ self.fraction[rows])

    def shares(self, split: int) -> Array:
        """Share of each member in the signal of a split: its w times its gain, shape ``(members,)``.

        A member that does not describe the events it held out found no signal.
        """
        rows = slice(split * self.members, (split + 1) * self.members)
        share = self.fraction[rows] * np.maximum(self.gain[rows], 1e-6)
        result: Array = share / share.sum()
        return result

    def arrays(self, split: int) -> dict[str, NDArray[Any]]:
        """All numbers of the members of a split; :meth:`from_arrays` reads them."""
        rows = slice(split * self.members, (split + 1) * self.members)
        state = {f"flows.{name}": t[rows].numpy() for name, t in self.flows.state_dict().items()}
        return {"fraction": self.fraction[rows], "gain": self.gain[rows], **state}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], d: int, *, members: int, **shape: int) -> Self:
        """Return the members of one split, of ``d`` features, as split 0; ``held_out`` is not kept.

        Parameters
        ----------
        arrays
            The arrays of :meth:`arrays`.
        d, members, **shape
            Features and members, and ``transforms``, ``hidden`` and ``bins`` of :class:`SignalFlows`.

        Raises
        ------
        KeyError, RuntimeError, ValueError
            If the arrays are not those of such members.
        """
        start = SignalStart(np.zeros(d + 1), np.ones(d + 1), 0.5, 0.0)
        flows = SignalFlows(members, d, seed=0, starts=[start] * members, **shape)
        flows.load_state_dict(
            {
                n.removeprefix("flows."): torch.as_tensor(a)
                for n, a in arrays.items()
                if n.startswith("flows.")
            }
        )
        fraction, gain = (arrays[name].reshape(members) for name in ("fraction", "gain"))
        return cls(flows, members, fraction, gain, [])


def train_signals(
    samples: list[SignalSample],
    *,
    members: int,
    fraction: float | None,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    **shape: int,
) -> SignalFit:
    """Train ``members`` densities for each sample, all as one batch.

    Member j of a split holds out part j of ``members`` random parts of its events, and keeps the weights that are best
    on them.

    Parameters
    ----------
    samples
        One for each split.
    members
        At least 2.
    fraction
        Fraction of signal w; None: learnt.
    steps, batch_size, learning_rate
        Training steps, events of each model in a step, peak learning rate of Adam.
    **shape
        ``transforms``, ``hidden`` and ``bins`` of :class:`SignalFlows`.

    Raises
    ------
    InputError
        If the training diverges.
    """
    data = _Data(samples, members, seed)
    models = len(samples) * members
    starts = [
        find_start(
            samples[k], data.train[i, : len(samples[k].v)], np.random.default_rng([seed, i, 7]), fraction
        )
        for i, k in enumerate(data.owner)
    ]
    flows = SignalFlows(models, samples[0].z.shape[1], seed=seed, starts=starts, **shape)
    w = np.array([start.fraction for start in starts])

    def aim(log_ratio: Array) -> None:
        data.aim(expit(logit(w)[:, None] + log_ratio) + _FLOOR * w[:, None])

    def batch_loss() -> Tensor:
        rows = data.draw(batch_size)
        z, v, offset = data.rows(rows)
        odds = np.take_along_axis(data.odds, rows, 1)
        log_ratio = flows.log_joint(z, v) + offset
        if fraction is None:
            now = expit(logit(w)[:, None] + log_ratio.detach().double().numpy())
            w[:] = np.clip(w + _RATE * ((now / odds).mean(1) * data.mean_odds - w), *_LIMITS)
        background, signal = (
            torch.as_tensor(a, dtype=torch.float32)[:, None] for a in (np.log1p(-w), np.log(w))
        )
        mixture = torch.logaddexp(background, signal + log_ratio)
        return -(mixture / torch.as_tensor(odds, dtype=torch.float32)).mean(1)

    passes: list[list[NDArray[np.float32]]] = []

    def validation_loss() -> Tensor:
        log_ratio = data.log_ratio(flows)
        aim(log_ratio)
        passes.append([r.astype(np.float32) for r in data.held_out(log_ratio)])
        mixture = log_mixture(log_ratio, w[:, None])
        return torch.as_tensor(-(data.test * mixture).sum(1) / data.test.sum(1))

    aim(data.log_ratio(flows))
    losses = train(
        flows, batch_loss, validation_loss, stacked=True, steps=steps, learning_rate=learning_rate,
        average=_AVERAGE, evaluations=_PASSES, name="signal density",
    )  # fmt: skip
    held_out = [
        data.judged(k, np.array([r[k] for r in passes]), w[k * members : (k + 1) * members])
        for k in range(len(samples))
    ]
    return SignalFit(flows, members, w, -np.array(losses), held_out)


class _Data:
    """The samples side by side, padded to one length with events of weight zero."""

    def __init__(self, samples: list[SignalSample], members: int, seed: int) -> None:
        n = max(len(s.v) for s in samples)
        self.members = members
        self.z, self.v, self.offset = (
            torch.as_tensor(
                np.stack([np.concatenate([a, np.repeat(a[:1], n - len(a), axis=0)]) for a in arrays]),
                dtype=torch.float32,
            )
            for arrays in ([s.z for s in samples], [s.v for s in samples], [s.log_offset for s in samples])
        )
        models = len(samples) * members
        self.owner = np.repeat(np.arange(len(samples)), members)
        self.train, self.test = np.zeros((models, n)), np.zeros((models, n))
        self.weights = [s.weight for s in samples]
        self.parts, self.halves = [], []
        for k, s in enumerate(samples):
            part = random_parts(len(s.v), members, np.random.default_rng([seed, k, 5]), s.groups)
            self.parts.append(part)
            self.halves.append(random_parts(len(s.v), 2, np.random.default_rng([seed, k, 9]), s.groups))
            for j in range(members):
                self.test[k * members + j, : len(part)] = np.where(part == j, s.weight, 0.0)
                self.train[k * members + j, : len(part)] = np.where(part == j, 0.0, s.weight)
        self.rngs = [np.random.default_rng([seed, k, 6]) for k in range(models)]

    def aim(self, odds: Array) -> None:
        """Draw from now on with probability proportional to ``odds``, shape ``(models, n)``, times weight."""
        self.odds, self.total = odds, np.cumsum(self.train * odds, axis=1)
        self.mean_odds = self.total[:, -1] / self.train.sum(1)

    def draw(self, size: int) -> NDArray[np.int64]:
        """Rows of a batch of each model, shape ``(models, size)``."""
        return np.stack(
            [
                np.minimum(np.searchsorted(total, rng.random(size) * total[-1]), len(total) - 1)
                for total, rng in zip(self.total, self.rngs, strict=True)
            ]
        )

    def rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Features, masses and offsets of these rows of each model."""
        at = (torch.as_tensor(self.owner)[:, None], torch.as_tensor(rows))
        return self.z[at], self.v[at], self.offset[at]

    def held_out(self, log_ratio: Array) -> list[Array]:
        """For each split, ln R of every event by the member that holds it out, shape ``(n,)``."""
        by_split = log_ratio.reshape(len(self.parts), self.members, -1)
        return [by_split[k][part, np.arange(len(part))] for k, part in enumerate(self.parts)]

    def judged(self, split: int, passes: NDArray[np.float32], w: Array) -> Array:
        """Ln R of every event after the pass that is best on the other half of those that its member holds out.

        Parameters
        ----------
        passes
            Ln R of the held-out events after each pass, shape ``(passes, n)``.
        w
            Fraction of signal of each member, shape ``(members,)``.
        """
        part, half, out = self.parts[split], self.halves[split], np.empty(passes.shape[1])
        log_l = log_mixture(passes.astype(np.float64), w[part]) * self.weights[split]
        for j in range(self.members):
            for h in (0, 1):
                mine, other = (part == j) & (half == h), (part == j) & (half != h)
                out[mine] = passes[np.argmax(log_l[:, other].sum(1)), mine]
        return out

    def log_ratio(self, flows: SignalFlows) -> Array:
        """Ln R of all events by all models of their split, shape ``(models, n)``."""
        out = np.empty(self.test.shape)
        with torch.no_grad():
            for k in range(len(self.z)):
                only = slice(k * self.members, (k + 1) * self.members)
                for low in range(0, out.shape[1], _ROWS):
                    z, v, offset = (t[k, low : low + _ROWS] for t in (self.z, self.v, self.offset))
                    many = flows.log_joint(z.expand(self.members, -1, -1), v.expand(self.members, -1), only)
                    out[only, low : low + _ROWS] = (many + offset).numpy()
        return out
