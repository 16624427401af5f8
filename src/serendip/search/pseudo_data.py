r"""Background-only samples for experiments of the whole chain.

Two sources. :class:`ModelBackground` draws new events from a model of the data outside the window: masses from the smooth
fit, :math:`n \sim \mathrm{Poisson}`, and features from a density :math:`p(x \mid m)` that interpolates the window. The
events of different experiments are independent; the model is as good as its closure. :class:`SampledBackground` takes
real or simulated background events, none of them twice in one experiment (copies of one event in two folds would be
training and test event at once). Nothing is modelled there, but experiments share events.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from serendip.density import load_density
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.groups import group_numbers
from serendip.methods.background import BackgroundConfig, background_density
from serendip.methods.cathode import Cathode, CathodeConfig
from serendip.runs.folder import RunDirectory
from serendip.search.measure import WindowFit
from serendip.statistics.fit import SpectrumFit
from serendip.torch_device import limited_threads

__all__ = ["ModelBackground", "SampledBackground", "background_model", "rate_error", "without_window"]


@dataclass(frozen=True, eq=False)
class ModelBackground:
    """Draws events from a fitted spectrum and a learnt density.

    Attributes
    ----------
    spectrum
        Smooth fit of the masses, the window masked.
    beyond
        Masses of the data outside the fitted range, shape ``(n,)``; they are drawn with replacement.
    size
        Events to draw, in units of the background in the data.
    density
        Folder of the density.
    mass, features
        Names of the columns.
    """

    spectrum: SpectrumFit
    beyond: NDArray[np.float64]
    size: float
    density: Path
    mass: str
    features: tuple[str, ...]
    shared: float = 0.0

    @property
    def mean(self) -> float:
        """Mean number of events."""
        return self.size * (float(self.spectrum.expected.sum()) + len(self.beyond))

    def draw(self, rng: np.random.Generator) -> Events:
        """Draw one sample; its ids are the row numbers."""
        edges = self.spectrum.edges
        n = rng.poisson(self.size * self.spectrum.expected.sum())
        near = self.spectrum.sample(n, float(edges[0]), float(edges[-1]), rng)
        n_far = rng.poisson(self.size * len(self.beyond))
        far = rng.choice(self.beyond, n_far) if len(self.beyond) else np.empty(0)
        mass = np.concatenate([near, far])
        with limited_threads(1):
            x = load_density(self.density).sample(mass, rng=rng)
        columns = {self.mass: mass} | {name: x[:, i] for i, name in enumerate(self.features)}
        return Events(columns, mass=self.mass, features=self.features)


@dataclass(frozen=True, eq=False)
class SampledBackground:
    """Draws from background events, without replacement.

    Attributes
    ----------
    events
        Background, without label.
    mean
        Mean number of events of a sample.
    """

    events: Events
    mean: float

    @property
    def shared(self) -> float:
        """Fraction of its events that a sample has in common with another one; also the correlation of their counts."""
        return self.mean / len(self.events)

    def draw(self, rng: np.random.Generator) -> Events:
        """Draw one sample, its events in their order."""
        groups = self.events.groups
        if groups is not None:
            # whole groups, as independent events of a sample are
            number = group_numbers(groups)
            n_groups = int(number.max()) + 1
            drawn = min(rng.poisson(self.mean * n_groups / len(number)), n_groups)
            chosen = np.zeros(n_groups, dtype=bool)
            chosen[rng.choice(n_groups, drawn, replace=False)] = True
            return self.events.select(chosen[number])
        n = min(rng.poisson(self.mean), len(self.events))
        return self.events.select(np.sort(rng.choice(len(self.events), n, replace=False)))


def background_model(
    events: Events,
    window_fit: WindowFit,
    density: BackgroundConfig,
    run: RunDirectory,
    *,
    size: float,
    seed: int,
) -> ModelBackground:
    """Learn the background outside the window, or read a stored model from the folder ``run``.

    Parameters
    ----------
    events
        The data.
    window_fit
        The window, with the fit of the spectrum around it.
    density
        Kind and training of the density.
    run
        Where the density is stored.
    size
        Events to draw, in units of those of the data.
    seed
        Of the training.

    Raises
    ------
    InputError
        If the events have weights or groups (a model of them would need one for these too), or the training fails.
    """
    if events.weight is not None:
        raise InputError(
            "pseudo-data cannot be drawn from a model of weighted events: take them from background events instead "
            "(null.source: labels or simulation)"
        )
    if events.groups is not None and len(np.unique(events.groups)) < len(events):
        raise InputError(
            "pseudo-data cannot be drawn from a model of grouped events, whose groups it does not model: take them from "
            "background events instead (null.source: labels or simulation)"
        )
    events, window = events.without_label(), window_fit.window
    # the features in the window are not used in the training
    outside = events.select(~window.contains(events.m))
    key = run.task_key(outside.digest(), density.model_dump(mode="json"), [window.low, window.high], seed)
    if not run.has_task(key):
        method = Cathode(CathodeConfig(**density.model_dump()), seed=seed)
        whole = np.ones((1, len(outside)), dtype=bool)
        run.write_background(key, background_density(method, outside, window, whole), {"seed": seed})
    return ModelBackground(
        spectrum=window_fit.inclusive,
        beyond=events.m[~window_fit.in_range(events.m)],
        size=size,
        density=run.task_folder(key),
        mass=events.mass,
        features=events.features,
    )


def without_window(events: Events, window: Window, rng: np.random.Generator, at_most: int) -> Events:
    """At most so many events within one width of the window, and none inside it."""
    m = events.m
    near = (m >= window.low - window.width) & (m < window.high + window.width) & ~window.contains(m)
    rows = np.flatnonzero(near)
    return events.select(np.sort(rng.choice(rows, min(at_most, len(rows)), replace=False)))


def rate_error(rate: float, n: int, shared: float) -> float:
    r"""Error of a fraction of ``n`` experiments that have a share of their events in common.

    .. math:: \sigma^2 = \frac{\alpha (1 - \alpha)}{n} + \Phi_2(-z_\alpha, -z_\alpha; \rho) - \alpha^2

    The second part does not become smaller with more experiments: they all share the fluctuations of one sample.
    ``rho`` is the share, which is the correlation of two counts.
    """
    binomial = rate * (1 - rate) / n
    if not (shared > 0 and 0 < rate < 1):
        return float(np.sqrt(binomial))
    at = [stats.norm.ppf(rate)] * 2
    both = float(stats.multivariate_normal.cdf(at, cov=[[1.0, shared], [shared, 1.0]]))
    return float(np.sqrt(binomial + max(both - rate**2, 0.0)))
