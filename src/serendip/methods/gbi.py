r"""Densities for generator-based inference (arXiv:2506.00119): background from the sidebands, signal learnt from the data.

A signal model evaluates :math:`\ln p_S(x, m)` for events in the window and samples from it; there are two:
:class:`LearnedSignals`, one density for each fold, from R-ANODE (arXiv:2312.11629), and
:class:`serendip.methods.signal.family.SignalFamily`, from simulated signal. :class:`Background` evaluates :math:`\ln p_B(x|m) p_B(m)` there. No event of the window trains it, so it is the same for all folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from serendip.density.base import ConditionalDensity
from serendip.density.transforms import FeatureTransform
from serendip.events.events import Events, Window
from serendip.events.groups import random_parts
from serendip.methods.base import require_events
from serendip.methods.ranode import RanodeConfig
from serendip.methods.signal.sample import SignalSample, mass_quantile
from serendip.statistics.fit import SpectrumFit

if TYPE_CHECKING:
    from serendip.methods.signal.flow import SignalFit

__all__ = [
    "Background",
    "LearnedSignals",
    "SignalModel",
    "half_samples",
    "learn_signals",
    "log_ratio",
    "sideband_transform",
]

Array = NDArray[np.float64]

_GRID = 401
_LIMIT = 60.0


@dataclass(frozen=True)
class Background:
    """p_B(x|m) p_B(m) in a window.

    Attributes
    ----------
    density, split
        The density of the features, and which of its models.
    spectrum
        Fit of the masses outside the window.
    window
        Where p_B(m) is normalised.
    """

    density: ConditionalDensity
    split: int
    spectrum: SpectrumFit
    window: Window

    def log_prob(self, x: Array, m: Array) -> Array:
        """Ln p_B(x, m), shape ``(n,)``, in units of the features and 1/GeV."""
        grid = np.linspace(self.window.low, self.window.high, _GRID)
        norm = np.trapezoid(self.spectrum.density(grid), grid)
        return self.density.log_prob(x, m, self.split) + np.log(self.spectrum.density(m) / norm)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw features ``(n, d)`` and masses ``(n,)`` in GeV."""
        m = self.spectrum.sample(n, self.window.low, self.window.high, rng)
        return self.density.sample(m, self.split, rng=rng).astype(np.float64), m


class SignalModel(Protocol):
    """A density of signal in the window, one for each fold or the same for all.

    Attributes
    ----------
    window
        Where it is normalised.
    """

    @property
    def window(self) -> Window:
        """Where the density is normalised."""
        ...

    def log_prob(self, x: Array, m: Array, fold: int) -> Array:
        """Ln p_S(x, m), shape ``(n,)``, in units of the features and 1/GeV."""
        ...

    def sample(self, n: int, fold: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw features ``(n, d)`` and masses ``(n,)`` in GeV."""
        ...

    def held(self, x: Array, fold: int) -> Array:
        """Features moved to the nearest value that the training saw: far outside both densities are guesses."""
        ...


def log_ratio(signal: SignalModel, background: Background, x: Array, m: Array, fold: int) -> Array:
    """Ln p_S(x, m)/p_B(x, m) of events in the window of ``background``, shape ``(n,)``.

    The signal is taken at the same place in the window, so that it can be looked for in a control window of the same
    width.
    """
    at = signal.held(x, fold)
    place = signal.window.low + (m - background.window.low)
    ratio: Array = signal.log_prob(at, place, fold) - background.log_prob(at, m)
    return np.clip(ratio, -_LIMIT, _LIMIT)


@dataclass(frozen=True)
class LearnedSignals:
    """The signal that R-ANODE learnt from the events of other folds.

    Attributes
    ----------
    fit
        Densities; split k of it belongs to fold ``folds[k]``.
    folds
        Fold evaluated with each split, shape ``(k,)``.
    transform
        Features to nearly normal numbers, from the sidebands.
    ranges
        Lowest and highest value of each feature in the training events of each split.
    window
        The window.
    """

    fit: SignalFit
    folds: tuple[int, ...]
    transform: FeatureTransform
    ranges: tuple[tuple[Array, Array], ...]
    window: Window

    def log_prob(self, x: Array, m: Array, fold: int) -> Array:
        """Ln p_S(x, m) of the members of a fold together, shape ``(n,)``."""
        split = self.folds.index(fold)
        z, log_jacobian = self.transform.forward(x, np.zeros(len(x)))
        v, log_slope = mass_quantile(m, self.window)
        return _log_joint(self.fit, z, v, split) + log_jacobian + log_slope

    def sample(self, n: int, fold: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw features ``(n, d)`` and masses ``(n,)`` in GeV."""
        z, place = self.fit.sample(self.folds.index(fold), n, rng)
        return self.transform.inverse(z, np.zeros(n)), self.window.low + place * self.window.width

    def held(self, x: Array, fold: int) -> Array:
        """Features inside the range of the training events of a fold, shape ``(n, d)``."""
        return np.clip(x, *self.ranges[self.folds.index(fold)])


def _log_joint(fit: SignalFit, z: Array, v: Array, split: int, rows: int = 4096) -> Array:
    import torch

    only = slice(split * fit.members, (split + 1) * fit.members)
    shares, out = np.log(fit.shares(split))[:, None], []
    with torch.no_grad():
        for low in range(0, max(len(z), 1), rows):
            zs, vs = (torch.as_tensor(a[low : low + rows], dtype=torch.float32) for a in (z, v))
            many = fit.flows.log_joint(zs.expand(fit.members, -1, -1), vs.expand(fit.members, -1), only)
            out.append(np.logaddexp.reduce(shares + many.double().numpy(), axis=0))
    return np.concatenate(out)


def learn_signals(
    x: Array,
    m: Array,
    weights: Array,
    splits: NDArray[np.bool_],
    folds: tuple[int, ...],
    background: Background,
    transform: FeatureTransform,
    config: RanodeConfig,
    *,
    seed: int,
    fraction: float | None = None,
    groups: NDArray[np.int64] | None = None,
) -> LearnedSignals:
    """Learn the signal of a window, one density for each row of ``splits``.

    Parameters
    ----------
    x, m, weights
        Features ``(n, d)``, masses ``(n,)`` in GeV and weights ``(n,)`` of the events in the window.
    splits
        Training events of each model, shape ``(k, n)``.
    folds
        Fold evaluated with each model, shape ``(k,)``.
    background
        The background that the signal lies on.
    transform
        Features to nearly normal numbers.
    config
        ``members``, ``signal_steps`` and the other options of the signal.
    seed
        Everything random follows from it.
    fraction
        Fraction of signal while the signal is trained; None: learnt.
    groups
        Events with the same number, shape ``(n,)``, are held out together; None: every event is its own.

    Raises
    ------
    InputError
        If a split has too few events, or the training diverges.
    """
    from serendip.methods.signal.flow import train_signals

    log_background = background.log_prob(x, m)
    z, log_jacobian = transform.forward(x, np.zeros(len(x)))
    v, log_slope = mass_quantile(m, background.window)
    offset = log_jacobian + log_slope - log_background
    samples, ranges = [], []
    for mask in splits:
        use = mask & (weights > 0)
        require_events(use, config.min_events, "signal region", background.window)
        own = None if groups is None else groups[use]
        samples.append(SignalSample(z[use], v[use], offset[use], weights[use], own))
        ranges.append((x[use].min(0), x[use].max(0)))
    c = config
    fit = train_signals(
        samples, members=c.members, fraction=fraction, steps=c.signal_steps, batch_size=c.signal_batch_size,
        learning_rate=c.learning_rate, seed=seed, transforms=c.transforms, hidden=c.hidden, bins=c.bins,
    )  # fmt: skip
    return LearnedSignals(fit, folds, transform, tuple(ranges), background.window)


def half_samples(
    n: int, pairs: int, rng: np.random.Generator, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Random halves of ``n`` events, or of their groups, in pairs that complement each other, shape ``(2 * pairs, n)``.

    For large samples the difference between halves is that of an estimate from all events between experiments (balanced half-sampling: McCarthy, Rev. Int. Stat. Inst. 37 (1969) 239).
    """
    halves = []
    for _ in range(pairs):
        first = random_parts(n, 2, rng, groups) == 0
        halves += [first, ~first]
    return np.array(halves, dtype=bool).reshape(2 * pairs, n)


def sideband_transform(events: Events, window: Window, rng: np.random.Generator) -> FeatureTransform:
    """Map features to nearly normal numbers, as events within a width of the window have them.

    Raises
    ------
    InputError
        If a feature is constant there.
    """
    m = events.m
    beside = (m >= window.low - window.width) & (m < window.high + window.width) & ~window.contains(m)
    beside &= events.weights > 0
    require_events(beside, 50, "sidebands next to", window)
    x = events.x[beside].astype(np.float64)
    return FeatureTransform.fit(x, np.full(len(x), window.centre), events.weights[beside], rng)
