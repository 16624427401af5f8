"""The p-value of the largest excess among many looks.

Toys redraw every look from its own background expectation, repeat the efficiency fit with its choice of
order and the combination over folds, and keep the smallest p. They consist of whole events, each with the looks that select
it (:mod:`serendip.statistics.event_toys`), so that overlapping windows, nested working points and methods that select the
same events are correlated in the toys as in the data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from serendip.errors import InputError
from serendip.statistics.combination import cauchy_log_p
from serendip.statistics.event_toys import EventToys, LookEvents, window_mask
from serendip.statistics.look_result import TEMPLATE_COUNT
from serendip.statistics.looks import (
    EFFICIENCY_ALPHA,
    LookResult,
    combined_log_p,
    fold_fits,
    folds_fitted,
)
from serendip.statistics.many import fit_many
from serendip.statistics.pvalues import significance, toy_p_value, z_value

__all__ = ["GlobalResult", "draw_looks", "global_p_value"]

Array = NDArray[np.float64]

# Expected number of toys that reach the excess, below which it is too rare for toys, and how many are drawn then: for up-crossings.
_HOPELESS, _FEWER_TOYS = 1e-3, 100
# Up-crossings are counted at one sigma: many toys cross it, and the asymptotic form already holds.
_CROSSING_LEVEL = 1.0


@dataclass(frozen=True)
class GlobalResult:
    """The p-value over all looks.

    Attributes
    ----------
    p, z
        ``(k + 1) / (n + 1)``, but not less than the smallest local p-value, and its significance (None for
        p = 1). With ``k = 0`` it is an upper bound, by the number of toys or by ``bonferroni``, whichever is smaller.
    p_interval_68
        68 % Clopper-Pearson interval of ``k / n``, with the same floor.
    n_looks
        Looks among which the smallest p-value was looked for.
    n_toys, n_reached
        ``n`` and ``k``.
    best_look
        Index of the look with the smallest local p-value.
    trials
        How it was computed, in words.
    gross_vitells
        Estimate from up-crossings (1005.1891); None with fewer than three windows or no excess.
    bonferroni
        ``min(1, n_looks p_min)``: a bound that holds under any dependence.
    """

    p: float
    z: float | None
    p_interval_68: tuple[float, float]
    n_looks: int
    n_toys: int
    n_reached: int
    best_look: int
    trials: str
    gross_vitells: float | None
    bonferroni: float


def global_p_value(
    looks: Sequence[LookResult], n_toys: int, rng: np.random.Generator, events: LookEvents | None = None
) -> GlobalResult:
    """Global p-value of the most significant look.

    Parameters
    ----------
    looks
        All looks of a search, unblinded. Those with several orders of the folds are drawn in each order and combined.
    n_toys
        Number of background-only pseudo-experiments. Only 100 are drawn where not one in a thousand such sets would hold a toy that reaches the
        excess: the bound of Bonferroni is the answer then.
    rng
        Source of randomness.
    events
        Which events the looks, or the single orders of each, select; None: looks with a cut count as independent, which is conservative.

    Raises
    ------
    InputError
        If there is no look or no toy.
    """
    if not looks:
        raise InputError("there are no looks to combine")
    if n_toys < 1:
        raise InputError(f"at least one toy is needed for a global p-value, not {n_toys}")
    observed = [look.log_p_local for look in looks]
    if any(value is None for value in observed):
        msg = "blinded looks have no p-value"
        raise ValueError(msg)
    best = int(np.argmin(np.asarray(observed, dtype=float)))
    smallest = float(np.asarray(observed, dtype=float)[best])
    # a bound valid for any dependence may be tighter than exhausted toys
    log_bound = min(0.0, smallest + float(np.log(len(looks))))
    if log_bound + np.log(n_toys) < np.log(_HOPELESS):
        n_toys = min(n_toys, _FEWER_TOYS)
    single = [order for look in looks for order in look.orders or (look,)]
    drawn = draw_looks(single, n_toys, rng, events)
    last = np.cumsum([len(look.orders) or 1 for look in looks])
    toys = np.array([_combined(part) for part in np.split(drawn, last[:-1])])
    # equal counts give equal p up to rounding; a tie counts as reached
    reached = int(np.count_nonzero(toys.min(axis=0) <= smallest + 1e-9 * abs(smallest) + 1e-12))
    p, interval = toy_p_value(reached, n_toys)
    # Local p-values lean to the safe side where counts are few; toys know that, and could call an excess rarer
    # among all looks than it claims to be on its own.
    log_floor, log_p = smallest, float(np.log(p))
    if reached == 0:
        log_p = min(log_p, log_bound)
        interval = (0.0, min(interval[1], float(np.exp(log_bound))))
    log_p = max(log_p, log_floor)
    floor = float(np.exp(log_floor))
    return GlobalResult(
        p=float(np.exp(log_p)),
        z=significance(log_p),
        p_interval_68=(max(interval[0], floor), max(interval[1], floor)),
        n_looks=len(looks),
        n_toys=n_toys,
        n_reached=reached,
        best_look=best,
        trials=f"toys{'' if events is None else ' of whole events'}, refitted, n={n_toys}",
        gross_vitells=_gross_vitells(looks, toys, smallest),
        bonferroni=float(np.exp(log_bound)),
    )


def _combined(log_p: Array) -> Array:
    """Of one look from its orders."""
    return log_p[0] if len(log_p) == 1 else cauchy_log_p(log_p)


def draw_looks(
    looks: Sequence[LookResult], n_toys: int, rng: np.random.Generator, events: LookEvents | None = None
) -> Array:
    """``ln p`` of every look in background-only pseudo-experiments, shape ``(n_looks, n_toys)``.

    ``events`` gives the events shared by the looks (:mod:`serendip.statistics.event_toys`); without it those with a cut are drawn
    independently.
    """
    out = np.empty((len(looks), n_toys))
    # the error of the inclusive shape is common to all looks in a window, that of a template to all its cuts
    windows = list(dict.fromkeys(look.window for look in looks))
    templates = list(dict.fromkeys((look.method, look.window) for look in looks))
    pulls = {window: rng.standard_normal(n_toys) for window in windows}
    template_pulls = {template: rng.standard_normal(n_toys) for template in templates}
    factors = np.ones((len(looks), n_toys))
    for i, look in enumerate(looks):
        error = _shape_error(look)
        # lognormal with mean one
        factors[i] = np.exp(error * pulls[look.window] - 0.5 * error**2)
    for toys, spectra in EventToys(looks, events, factors).draw(rng):
        for i, (look, counts) in enumerate(zip(looks, spectra, strict=True)):
            if look.statistic == TEMPLATE_COUNT:
                pull = template_pulls[look.method, look.window][toys]
                out[i, toys] = _template_count(look, counts / look.spectrum.scale, pull)
            else:
                out[i, toys] = _refit(look, counts / look.spectrum.scale)
    return out


def _shape_error(look: LookResult) -> float:
    """Relative error of the inclusive shape, in addition to that of a toy."""
    # without a cut the spectrum itself is fitted to the toys; a template has its error in another place
    return 0.0 if look.statistic == TEMPLATE_COUNT or look.spectrum.offset is None else look.shape_error


def _refit(look: LookResult, counts: Array) -> Array:
    """``ln p`` from selected spectra of toys in Poisson units, shape ``(n_toys, n_groups, n_bins)``."""
    spectrum, shape_error = look.spectrum, _shape_error(look)
    inside = window_mask(look)
    observed = counts[..., inside].sum(axis=-1)
    side = np.where(spectrum.mask, 0.0, counts)
    fits = fit_many(
        side.sum(axis=1),
        spectrum.edges,
        spectrum.family,
        mask=spectrum.mask,
        offset=spectrum.offset,
        alpha=EFFICIENCY_ALPHA,
        choice=spectrum.choice,
        window=inside,
    )
    fit_error = fits.window_error * np.sqrt(spectrum.noise_ratio)
    error = np.hypot(fit_error, fits.window * shape_error)
    if folds_fitted(look.combination):
        expected, errors, shared = fold_fits(side, spectrum, shape_error)
    else:
        # one count for all folds
        expected, errors, shared = fits.window[:, None], error[:, None], np.zeros(len(error))
    return combined_log_p(look.combination, observed, expected, errors, shared, fits.window, error, look.tail)


def _template_count(look: LookResult, counts: Array, pull: Array) -> Array:
    """The same for a look whose count the template predicts: its prediction is remeasured, as in its p-value."""
    scale = look.spectrum.scale
    b, sigma = look.expected / scale, look.expected_error / scale
    means, errors = (
        np.array([getattr(fold, name) for fold in look.folds]) / scale
        for name in ("expected", "expected_error")
    )
    # all working points err together: they are cuts on one template
    side = stats.poisson.ppf(stats.norm.cdf(pull), (b / sigma) ** 2)
    total = side * sigma**2 / b
    # without any side event the error is that of one
    total_error = np.sqrt(np.maximum(side, 1.0)) * sigma**2 / b
    # the covariance between the folds from their mean and the single folds
    n, single = len(means), float(np.mean((errors / means) ** 2))
    between = (n * (sigma / b) ** 2 - single) / max(n - 1, 1)
    shared = np.full(len(pull), np.sqrt(max(between, 0.0)))
    return combined_log_p(
        look.combination,
        counts[..., window_mask(look)].sum(axis=-1),
        means * (total / b)[:, None],
        errors * (total_error / sigma)[:, None],
        shared,
        total,
        total_error,
        look.tail,
    )


def _gross_vitells(looks: Sequence[LookResult], toys: Array, log_p: float) -> float | None:
    r"""Sum over scans of :math:`p_\mathrm{local} + \langle N(c_0) \rangle e^{-(Z^2 - c_0)/2}`."""
    z = float(z_value(log_p=log_p))
    scans: dict[tuple[str, float | None], list[int]] = defaultdict(list)
    for i, look in enumerate(looks):
        scans[look.method, look.working_point].append(i)
    if z <= _CROSSING_LEVEL or max(len(members) for members in scans.values()) < 3:
        return None
    above = z_value(log_p=toys) > _CROSSING_LEVEL
    total = 0.0
    for members in scans.values():
        order = sorted(members, key=lambda i: looks[i].window.centre)
        up = np.count_nonzero(above[order][1:] & ~above[order][:-1]) / toys.shape[1]
        total += float(np.exp(log_p)) + up * float(np.exp(-0.5 * (z**2 - _CROSSING_LEVEL**2)))
    return float(min(1.0, total))
