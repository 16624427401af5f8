r"""Scans of a spectrum for a bump at an unknown mass, with a global p-value.

Two scans, both with toys that repeat everything: fit, choice of the function's order, and scan.

* :func:`bump_hunter` - the smallest Poisson p-value over windows of one to several bins (arXiv:1101.0390). Needs no shape
  of the signal. The window is part of its own background fit, which makes it less sensitive than a window known beforehand.
* :func:`q0_scan` - a fit of signal plus background at each mass; also gives :math:`\hat\mu(m)` and the estimate of
  Gross and Vitells (arXiv:1005.1891), :math:`p \simeq p_\mathrm{local} + \langle N(c_0)\rangle e^{-(q - c_0)/2}`, with the
  mean number :math:`\langle N(c_0)\rangle` of up-crossings of a low level :math:`c_0`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from serendip.errors import InputError
from serendip.statistics.fit import OrderChoice, fit_spectrum
from serendip.statistics.functions import BackgroundFamily, get_family
from serendip.statistics.inference import likelihood_ratio
from serendip.statistics.many import fit_many
from serendip.statistics.model import BinnedModel, Choice
from serendip.statistics.pvalues import count_log_p_value, toy_p_value, z_value
from serendip.statistics.signals import SignalShape

__all__ = ["BumpHunterResult", "Q0Scan", "bump_hunter", "q0_scan", "smallest_p"]

Array = NDArray[np.float64]

_LEVEL = 1.0
_FEWEST_BACKGROUND = 10.0


@dataclass(frozen=True)
class BumpHunterResult:
    """The most significant window of a spectrum.

    Attributes
    ----------
    mass_range
        Range of the scan in GeV.
    window
        Edges of the window in GeV.
    observed, expected
        Events (sums of weights) in it.
    p_window
        Poisson p-value of this window; the expectation counts as known there, the toys know better.
    p_global, z_global, p_interval_68
        Over all windows: ``(k + 1) / (n + 1)``, its significance, and the Clopper-Pearson interval of ``k / n``.
    n_toys
        ``n``.
    function
        The background function of the data.
    gof_p
        Goodness of its fit, None for a given reference.
    """

    mass_range: tuple[float, float]
    window: tuple[float, float]
    observed: float
    expected: float
    p_window: float
    p_global: float
    z_global: float
    p_interval_68: tuple[float, float]
    n_toys: int
    function: str
    gof_p: float | None

    def to_dict(self) -> dict[str, Any]:
        """The result as plain numbers for JSON."""
        return asdict(self)


def smallest_p(
    counts: ArrayLike, expected: ArrayLike, widths: Sequence[int]
) -> tuple[Array, NDArray[np.int_]]:
    """Smallest ``ln p`` over all windows of the given widths, for many spectra.

    Parameters
    ----------
    counts, expected
        In Poisson units, shape ``(t, n_bins)``.
    widths
        Widths of the windows in bins.

    Returns
    -------
    log_p
        Shape ``(t,)``.
    window
        First and one-past-last bin of that window, shape ``(t, 2)``.
    """
    n, b = np.atleast_2d(np.asarray(counts, float)), np.atleast_2d(np.asarray(expected, float))
    sums_n, sums_b = (np.pad(np.cumsum(v, axis=1), ((0, 0), (1, 0))) for v in (n, b))
    best, where = np.full(len(n), np.inf), np.zeros((len(n), 2), dtype=int)
    for width in widths:
        in_n, in_b = (np.maximum(s[:, width:] - s[:, :-width], 0.0) for s in (sums_n, sums_b))
        # a deficit is not a bump
        excess = in_n > in_b
        log_p = np.zeros(in_n.shape)
        log_p[excess] = count_log_p_value(in_n[excess], in_b[excess])
        start = np.argmin(log_p, axis=1)
        value = log_p[np.arange(len(n)), start]
        better = value < best
        best[better] = value[better]
        where[better] = np.stack([start, start + width], axis=1)[better]
    return best, where


def bump_hunter(
    counts: ArrayLike,
    edges: ArrayLike,
    background: BackgroundFamily | str = "dijet",
    *,
    widths: Sequence[int] = (1, 2, 3, 4, 5, 6),
    reference: ArrayLike | None = None,
    n_toys: int = 1000,
    scale: float = 1.0,
    choice: OrderChoice = "lrt",
    rng: np.random.Generator,
) -> BumpHunterResult:
    """Look for the most significant window of a spectrum.

    Parameters
    ----------
    counts
        Counts or sums of weights, shape ``(n_bins,)``.
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    background
        Functions or their name; fitted to the data and to every toy, with the choice of the order.
    widths
        Widths of the windows in bins.
    reference
        A background known without error, shape ``(n_bins,)``: nothing is fitted then.
    n_toys
        Toys for the global p-value.
    scale
        ``sum(w^2)/sum(w)`` of weighted events.
    choice
        Of the order, see :func:`~serendip.statistics.fit.fit_spectrum`.
    rng
        Source of randomness.

    Raises
    ------
    InputError
        If a width does not fit into the spectrum, or there is no toy.
    FitError
        If the spectrum cannot be fitted.
    """
    n, grid = np.asarray(counts, dtype=float), np.asarray(edges, dtype=float)
    if not widths or min(widths) < 1 or max(widths) >= len(n):
        raise InputError(f"windows of {list(widths)} bins do not fit into a spectrum of {len(n)} bins")
    if n_toys < 1:
        raise InputError(f"at least one toy is needed for a global p-value, not {n_toys}")
    family = get_family(background) if isinstance(background, str) else background
    fit: Callable[[Array], Array]
    gof_p: float | None
    if reference is None:
        spectrum = fit_spectrum(n, grid, family, scale=scale, choice=choice)
        expected, function, gof_p = spectrum.expected, spectrum.name, spectrum.gof_p
        nothing = np.zeros(len(n), dtype=bool)

        def fit(toys: Array) -> Array:
            return fit_many(toys, grid, family, mask=nothing, choice=choice).expected
    else:
        expected, function, gof_p = np.asarray(reference, dtype=float), "given", None

        def fit(toys: Array) -> Array:
            return np.broadcast_to(expected / scale, toys.shape)

    log_p, where = smallest_p(n / scale, expected / scale, widths)
    low, high = where[0]
    toys = rng.poisson(expected / scale, (n_toys, len(n))).astype(float)
    toy_log_p, _ = smallest_p(toys, fit(toys), widths)
    reached = int(np.count_nonzero(toy_log_p <= log_p[0] + 1e-9 * abs(log_p[0])))
    p, interval = toy_p_value(reached, n_toys)
    return BumpHunterResult(
        (float(grid[0]), float(grid[-1])), (float(grid[low]), float(grid[high])), float(n[low:high].sum()), float(expected[low:high].sum()),
        float(np.exp(log_p[0])), p, float(z_value(p)), interval, n_toys, function, gof_p,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Q0Scan:
    r"""Significance of a resonance against its mass.

    Attributes
    ----------
    mass
        Tested masses in GeV, shape ``(k,)``.
    mu, z
        Fitted signal and signed local significance, shape ``(k,)``.
    best
        Index of the largest significance.
    p_global, z_global, p_interval_68, n_toys
        From toys.
    gross_vitells
        Estimate of the global p-value. None where it does not hold: below the level of the crossings, and where fewer than ten
        background events lie under a signal, so that one event more is a large significance.
    crossings
        Mean number of up-crossings in the toys at ``q = 1``.
    fewest_background
        Smallest number of expected background events under a signal, see
        :meth:`~serendip.statistics.model.BinnedModel.events_under_signal`.
    """

    mass: Array
    mu: Array
    z: Array
    best: int
    p_global: float
    z_global: float
    p_interval_68: tuple[float, float]
    n_toys: int
    gross_vitells: float | None
    crossings: float
    fewest_background: float

    def to_dict(self) -> dict[str, Any]:
        """The scan as plain numbers for JSON."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in asdict(self).items()
        }


def q0_scan(
    counts: ArrayLike,
    edges: ArrayLike,
    background: BackgroundFamily | str | Sequence[BackgroundFamily | str],
    shapes: Sequence[SignalShape],
    *,
    n_toys: int = 200,
    choice: Choice = "lrt",
    scale: float = 1.0,
    rng: np.random.Generator,
) -> Q0Scan:
    """Fit a signal at each of many masses.

    Parameters
    ----------
    counts, edges
        The spectrum in GeV, shapes ``(n_bins,)`` and ``(n_bins + 1,)``.
    background
        Functions or their name. Bins that touch one of their gaps are left out.
    shapes
        Signals with rising masses, closer than the resolution: the up-crossings need a curve without gaps.
    n_toys
        Background-only toys, each scanned in full.
    choice, scale
        As in :class:`~serendip.statistics.model.BinnedModel`.
    rng
        Source of randomness.

    Raises
    ------
    InputError
        If there are no shapes, their masses do not rise, or there is no toy.
    FitError
        If a fit fails.
    """
    mass = np.array([shape.mass for shape in shapes])
    if not len(mass) or np.any(np.diff(mass) <= 0) or n_toys < 1:
        raise InputError("a scan needs signals at rising masses and at least one toy")
    n = np.asarray(counts, dtype=float)
    models = [BinnedModel.spectrum(edges, background, shape, choice=choice, scale=scale) for shape in shapes]
    null = models[0].fit(n, 0.0)
    toys = models[0].sample(null.expected[0], n_toys, rng)
    mu, z, toy_z = np.empty(len(mass)), np.empty(len(mass)), np.empty((len(mass), n_toys))
    for k, model in enumerate(models):
        data = np.concatenate([n[None], toys])
        best = model.fit(data)
        values = np.sign(best.mu) * np.sqrt(likelihood_ratio(model, data, 0.0, best))
        mu[k], z[k], toy_z[k] = best.mu[0], values[0], values[1:]
    top = int(np.argmax(z))
    p, interval = toy_p_value(int(np.count_nonzero(toy_z.max(axis=0) >= z[top] - 1e-9)), n_toys)
    above = toy_z > np.sqrt(_LEVEL)
    crossings = float(np.count_nonzero(above[1:] & ~above[:-1]) / n_toys)
    estimate = None
    fewest = min(model.events_under_signal(null.background[0]) for model in models)
    if z[top] > np.sqrt(_LEVEL) and fewest >= _FEWEST_BACKGROUND:
        more = crossings * np.exp(-0.5 * (z[top] ** 2 - _LEVEL))
        estimate = float(min(1.0, stats.norm.sf(z[top]) + more))
    return Q0Scan(mass, mu, z, top, p, float(z_value(p)), interval, n_toys, estimate, crossings, fewest)
