r"""The p-value of an excess in the signal region of a classifier, against weighted simulation.

Signal regions are the data above the scores that a part :math:`\varepsilon_B` of the simulation passes. In a region with
:math:`n` events the expectation :math:`b` was itself measured, with :math:`m = (b/\sigma_b)^2` effective events, and the local p-value is
that of the on/off problem with numbers continued to real ones (Cousins, Linnemann, Tucker, physics/0702156),

.. math:: p = I_{1/(1+\tau)}(n,\; m + 1), \qquad \tau = m / b,

with the relative variance :math:`1/m = v + s^2` (:math:`+\,1/n_c` where the expectation is scaled to :math:`n_c` events of data), :math:`v` of the simulation
(:meth:`~serendip.theories.excess.regions.RegionSums.variance`) and a relative systematic :math:`s`.

The threshold is chosen on the simulation that gives the expectation, so that :math:`\varepsilon_B` is exact by construction and the
*true* efficiency scatters. The ``+ 1`` takes care of it: for events of weight one, :math:`k` simulated events above the
threshold and the next one *at* it, the data events above the threshold follow the negative binomial distribution of
waiting for event :math:`k + 1` of the simulation, whose tail *is* :math:`I_{1/(1+\tau)}(n, k+1)`. With a threshold from elsewhere this p would be
somewhat too large; with :math:`m` in place of :math:`m + 1` it would be too small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from serendip.errors import InputError
from serendip.statistics.pvalues import bonferroni, count_log_p_value, toy_p_value, z_value
from serendip.theories.excess.regions import RegionSums, SimulationTail
from serendip.theories.merits import MIN_BACKGROUND

__all__ = [
    "ChannelsExcess",
    "ExcessResult",
    "Normalise",
    "RegionExcess",
    "checked_simulation",
    "combine_channels",
    "excess",
]

Array = NDArray[np.float64]
Normalise = Literal["data", "luminosity"]
Source = Literal["toys", "bonferroni", "local"]


@dataclass(frozen=True)
class RegionExcess:
    """One signal region.

    Attributes
    ----------
    eps_b
        The requested fraction of the simulation.
    kept
        Part of the simulation that the region keeps: less, by one event or a block of equal scores.
    threshold
        Events with larger scores are in the region.
    observed
        Data events.
    expected, sigma
        From the simulation, with the error from its finite size, the normalisation and the systematic.
    sigma_simulation
        The part of ``sigma`` from the finite simulation.
    effective
        Simulated events of equal weight, each on its own, that would give the same ``sigma_simulation``.
    log_p, p, z
        Local p-value (its natural logarithm too) and significance.
    """

    eps_b: float
    kept: float
    threshold: float
    observed: int
    expected: float
    sigma: float
    sigma_simulation: float
    effective: float
    log_p: float
    p: float
    z: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class ExcessResult:
    """Excess over all signal regions of one classifier.

    Attributes
    ----------
    regions
        From loose to tight.
    left_out
        Regions with too little simulation, and why.
    normalise, systematic
        As requested.
    n_data, n_simulation
        Events, those of weight zero not counted.
    global_p, global_z
        Probability that the smallest local p-value is at least as small in *any* region without a signal.
    global_source
        ``"toys"``; or the limit that the number of toys does not resolve: ``"bonferroni"``, the number of regions times the smallest
        local p-value, or ``"local"``, that p-value itself.
    global_interval
        68 % interval of the part of toys that reached the observed p-value; None with one region.
    toys, toys_reached
        Number of toys, and how many reached it; 0 with one region, which needs none.
    """

    regions: tuple[RegionExcess, ...]
    left_out: Mapping[float, str]
    normalise: Normalise
    systematic: float
    n_data: int
    n_simulation: int
    global_p: float
    global_z: float
    global_source: Source
    global_interval: tuple[float, float] | None
    toys: int
    toys_reached: int

    @property
    def best(self) -> RegionExcess:
        """The region with the smallest local p-value."""
        return min(self.regions, key=lambda region: region.log_p)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self) | {
            "regions": [region.to_dict() for region in self.regions],
            "left_out": [{"eps_b": eps, "reason": reason} for eps, reason in self.left_out.items()],
            "global_interval": None if self.global_interval is None else list(self.global_interval),
        }


@dataclass(frozen=True)
class ChannelsExcess:
    """Excess over several channels.

    Attributes
    ----------
    p, z
        Number of channels times the smallest global p-value of a channel.
    channel
        Where that is.
    channels
        Global p-value of each channel.
    """

    p: float
    z: float
    channel: str
    channels: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


def excess(
    data_scores: ArrayLike,
    simulation_scores: ArrayLike,
    simulation_weights: ArrayLike | None = None,
    simulation_groups: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    data_weights: ArrayLike | None = None,
    eps_b: Sequence[float] = (1e-2, 1e-3),
    normalise: Normalise = "data",
    systematic: float = 0.0,
    toys: int = 2000,
    min_background: float = MIN_BACKGROUND,
) -> ExcessResult:
    r"""Test data for an excess in the signal regions of a classifier.

    In every toy the simulation is resampled, with its weights and groups, the thresholds are chosen on it again, and
    then data of all regions, which lie inside each other, are drawn together. The factor of the systematic has a gamma distribution
    of mean one and is common to all regions. Toys are used only for the correlation between the regions: with :math:`F_r` the
    distribution of the local p-value :math:`p_r` among them,

    .. math:: p_\mathrm{global} = P_\mathrm{toys}\left(\min_r F_r(p_r) \le p_\mathrm{min}\right),
        \qquad p_\mathrm{min} \le p_\mathrm{global} \le k\, p_\mathrm{min}

    for :math:`k` regions. (The plain distribution of the smallest :math:`p_r` is too optimistic, since resampled simulation contains only the weights that happen to be in the region.)

    Parameters
    ----------
    data_scores
        Shape ``(n_data,)``; higher is more signal-like.
    simulation_scores, simulation_weights
        Standard Model events that did **not** train the classifier, shape ``(n_simulation,)``; weights not negative, default 1.
    simulation_groups
        Events with the same number share particles; default: every event on its own.
    rng
        For the toys.
    data_weights
        How often each data event occurs: whole numbers.
    eps_b
        Parts of the simulation in the regions.
    normalise
        ``"data"``: the data events *outside* of a region times the ratio of simulated weights inside and outside. It tests the
        shape, and errors of cross section and luminosity do not matter. ``"luminosity"``: the sum of the weights is the expectation.
    systematic
        Relative error of the expectation in the regions, e.g. 0.1. Where the shape is simulated wrongly, zero claims too much.
    toys
        How many.
    min_background
        Regions with fewer effective simulated events are left out.

    Raises
    ------
    InputError
        If a score is NaN, a weight is not allowed, an option is wrong, or no region has enough simulation.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> found = excess(rng.normal(size=10_000), rng.normal(size=50_000), eps_b=[0.01], rng=rng, toys=100)
    >>> found.regions[0].observed, round(found.regions[0].expected, 1), round(found.regions[0].p, 2)
    (96, 100.0, 0.66)
    """
    aims = _aims(eps_b, normalise, systematic, toys, min_background)
    data, counts = _data(data_scores, data_weights)
    scores, weights, groups = checked_simulation(simulation_scores, simulation_weights, simulation_groups)
    tail = SimulationTail(scores, weights, groups, aims[0])
    sums, thresholds = tail.observed(aims)
    used, left_out = [], {}
    for number, (eps, found) in enumerate(zip(aims, sums, strict=True)):
        reason = _too_little(found, tail, eps, min_background, shape=normalise == "data")
        if reason:
            left_out[eps] = reason
        else:
            used.append(number)
    if not used:
        raise InputError(
            "no signal region has enough simulated events: "
            + "; ".join(left_out.values())
            + "; use a larger eps_B, or add more simulation"
        )
    n_data = int(counts.sum())
    kept = [int(counts[data > thresholds[number]].sum()) for number in used]
    if normalise == "data" and kept[0] >= n_data:
        raise InputError(
            f"all {n_data} data events are in the loosest signal region, so that none is left to normalise the simulation"
        )
    regions = []
    for number, observed in zip(used, kept, strict=True):
        found = sums[number]
        b, sigma = _expectation(found, np.array([n_data - observed]), normalise, systematic)
        log_p = count_log_p_value(observed, b, sigma)
        v = found.variance(shape=normalise == "data")
        regions.append(
            RegionExcess(
                eps_b=aims[number],
                kept=float(found.weight[0] / found.total[0]),
                threshold=thresholds[number],
                observed=observed,
                expected=float(b[0]),
                sigma=float(sigma[0]),
                sigma_simulation=float(b[0] * math.sqrt(v[0])),
                effective=float(1.0 / v[0]),
                log_p=float(log_p[0]),
                p=float(np.exp(log_p[0])),
                z=float(z_value(log_p=log_p)[0]),
            )
        )
    smallest = min(region.log_p for region in regions)
    global_log_p, source, reached, interval = smallest, "local", 0, None
    if len(regions) > 1:
        mean = tail.total if normalise == "luminosity" else (n_data - kept[0]) / (1 - regions[0].kept)
        drawn = _toys(tail, [aims[number] for number in used], mean, normalise, systematic, toys, rng)
        # the share of toys in which this region looks at least as extreme
        ranks = rankdata(drawn, method="max", axis=1) / toys
        reached = int(np.count_nonzero(ranks.min(axis=0) <= math.exp(smallest)))
        p, interval = toy_p_value(reached, toys)
        bound = min(0.0, smallest + math.log(len(regions)))
        if math.log(p) > bound:
            global_log_p, source = bound, "bonferroni"
        elif math.log(p) > smallest:
            global_log_p, source = math.log(p), "toys"
    return ExcessResult(
        regions=tuple(regions),
        left_out=left_out,
        normalise=normalise,
        systematic=systematic,
        n_data=n_data,
        n_simulation=len(scores),
        global_p=math.exp(global_log_p),
        global_z=float(z_value(log_p=global_log_p)),
        global_source=cast("Source", source),
        global_interval=interval,
        toys=toys if len(regions) > 1 else 0,
        toys_reached=reached,
    )


def combine_channels(channels: Mapping[str, ExcessResult]) -> ChannelsExcess:
    r"""Return the p-value of the largest excess of all channels, :math:`p = \min(1, k \min_i p_i)` (Bonferroni).

    Channels of the Dark Machines data share events, so that their p-values are dependent in ways that toys of single channels do
    not know. This bound holds for any dependence and is never too small.

    Raises
    ------
    InputError
        If there is no channel.
    """
    if not channels:
        raise InputError("there is no channel to combine")
    values = {name: result.global_p for name, result in channels.items()}
    best = min(values, key=lambda name: values[name])
    p = float(bonferroni(list(values.values())))
    return ChannelsExcess(p, float(z_value(p)), best, values)


def _aims(
    eps_b: Sequence[float], normalise: str, systematic: float, toys: int, min_background: float
) -> list[float]:
    aims = sorted((float(eps) for eps in eps_b), reverse=True)
    if not aims or not all(0 < eps < 1 for eps in aims) or len(set(aims)) < len(aims):
        raise InputError(
            f"background efficiencies must be different numbers between 0 and 1, not {list(eps_b)}"
        )
    if normalise not in ("data", "luminosity"):
        raise InputError(f"normalise is '{normalise}'; expected data or luminosity")
    if not 0 <= systematic <= 1:
        raise InputError(
            f"the systematic is {systematic}; expected a relative error from 0 to 1, e.g. 0.1 for 10 %"
        )
    if toys < 1:
        raise InputError(f"{toys} toys: the global p-value needs at least 1")
    if not min_background >= 1:
        raise InputError(f"min_background is {min_background}; expected at least 1")
    return aims


def _data(scores: ArrayLike, weights: ArrayLike | None) -> tuple[Array, NDArray[np.int64]]:
    values = _scores("data", scores)
    if weights is None:
        return values, np.ones(len(values), dtype=np.int64)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != values.shape:
        raise InputError(f"weights of the data have shape {w.shape}, their scores {values.shape}")
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0) & (w == np.floor(w))))
    if bad.size:
        raise InputError(
            f"data event {bad[0]} has weight {w[bad[0]]:g}: data are counted, so weights must be whole numbers; draw events with "
            "a probability in proportion to their weight to make pseudo-data of simulation"
        )
    return values, w.astype(np.int64)


def checked_simulation(
    scores: ArrayLike, weights: ArrayLike | None, groups: ArrayLike | None
) -> tuple[Array, Array, NDArray[Any]]:
    """Scores, weights and groups of the simulated events with a weight above zero; InputError if they are not valid."""
    values = _scores("simulation", scores)
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    g = np.arange(len(values)) if groups is None else np.asarray(groups)
    for what, given in (("weights", w), ("groups", g)):
        if given.shape != values.shape:
            raise InputError(f"{what} of the simulation have shape {given.shape}, its scores {values.shape}")
    if not np.isfinite(w).all() or (w < 0).any():
        bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))[0]
        raise InputError(
            f"simulated event {bad} has weight {w[bad]:g}; expected finite numbers, not negative"
        )
    counts = w > 0
    if np.count_nonzero(counts) < 2:
        raise InputError("the simulation needs at least two events with a weight above zero")
    return values[counts], w[counts], g[counts]


def _scores(what: str, scores: ArrayLike) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"scores of the {what} have shape {values.shape}; expected one number per event")
    if not len(values):
        raise InputError(f"there is no event in the {what}")
    if np.isnan(values).any():
        raise InputError(f"the score of event {np.flatnonzero(np.isnan(values))[0]} of the {what} is NaN")
    return values


def _too_little(
    found: RegionSums, tail: SimulationTail, eps: float, min_background: float, *, shape: bool
) -> str:
    """Why a region cannot be tested; empty if it can."""
    if not found.weight[0] > 0:
        return f"eps_B = {eps:g}: the scores of the simulation are too coarse (or too few) for a cut that keeps so little"
    effective = float(1.0 / found.variance(shape=shape)[0])
    if effective < min_background * (1 - 1e-9):
        return f"eps_B = {eps:g}: {effective:.3g} effective simulated events are in the region, fewer than {min_background:g}"
    if tail.heaviest > found.weight[0]:
        return f"eps_B = {eps:g}: one simulated event outweighs all of those in the region"
    return ""


def _expectation(
    found: RegionSums, outside: NDArray[Any], normalise: Normalise, systematic: float
) -> tuple[Array, Array]:
    """Expected events and their error, shapes ``(n_simulations,)``."""
    n_outside = np.maximum(outside, 1).astype(np.float64)
    shape = normalise == "data"
    scale = n_outside / (found.total - found.weight) if shape else np.ones(len(found.total))
    b = found.weight * scale
    v = found.variance(shape=shape) + (1.0 / n_outside if shape else 0.0) + systematic**2
    # an empty region: the error is that of one event
    with np.errstate(invalid="ignore"):
        sigma = np.where(found.weight > 0, b * np.sqrt(v), found.near * scale)
    return b, sigma


def _toys(
    tail: SimulationTail,
    eps_b: list[float],
    mean: float,
    normalise: Normalise,
    systematic: float,
    toys: int,
    rng: np.random.Generator,
) -> Array:
    """Logarithm of the local p-value of each region and toy, shape ``(n_regions, toys)``."""
    sums = tail.drawn(eps_b, toys, rng)
    factor = rng.gamma(systematic**-2, systematic**2, toys) if systematic > 0 else np.ones(toys)
    true = np.array([found.true for found in sums])
    bands = true - np.concatenate([true[1:], np.zeros((1, toys))])
    inside = np.cumsum(rng.poisson(mean * bands * factor)[::-1], axis=0)[::-1]
    n_data = inside[0] + rng.poisson(mean * (1.0 - true[0]))
    log_p = np.empty((len(sums), toys))
    for r, found in enumerate(sums):
        b, sigma = _expectation(found, n_data - inside[r], normalise, systematic)
        log_p[r] = count_log_p_value(inside[r], b, sigma)
    return log_p
