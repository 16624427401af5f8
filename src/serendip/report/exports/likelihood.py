r"""A look as a likelihood: counts with a background that was measured, and a signal of strength mu.

*Counting.* The background :math:`b \pm \sigma` is treated as in :func:`serendip.statistics.pvalues.count_p_value`, as a Poisson side measurement of :math:`m = (b/\sigma)^2` events, :math:`\tau = b/\sigma^2`:

.. math:: L = \mathrm{Pois}(n \mid \mu s + \beta b)\; \mathrm{Pois}(m \mid \beta m)

so that the p-value of the run is the exact one of this model.

*Spectrum.* The bins of the window, whose counts entered no fit, against the prediction from the sidebands with the
eigenvectors of its relative covariance,

.. math:: L = \prod_i \mathrm{Pois}\Bigl(n_i \mid \mu s_i + b_i \exp \sum_k \theta_k v_{ik}\Bigr) \prod_k
          \mathcal{N}(\theta_k \mid 0, 1).

The sidebands themselves are not channels of the model: they made the prediction and would count twice. Exponents keep
every bin positive, and both fits are exponentials of their coefficients.

*Weighted looks.* In one order of the folds the sum of weights is compound Poisson, and so is a likelihood: each order is a model of
its own, in units of :math:`\sum w^2 / \sum w`. The mean over orders is none, since each trains on events that another one tests.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from serendip.errors import InputError
from serendip.report.exports.background import (
    NotReproducedError,
    WindowBackground,
    is_weighted,
    window_background,
)
from serendip.report.load import Run, read_run
from serendip.search.diagnostic_records import OrderOfFolds
from serendip.search.diagnostic_records import Spectrum as SpectrumRecord
from serendip.search.results import Look
from serendip.statistics.pvalues import count_p_value

__all__ = ["LookModel", "SignalShape", "Spectrum", "look_models", "look_name"]

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

_LARGEST_ERROR = 0.5
"""Relative error of a bin up to which a log-normal error replaces the Poisson side measurement."""

_SAME_P = 0.01
"""Difference of ln p up to which two p-values are the same."""


@dataclass(frozen=True)
class SignalShape:
    """The signal of a likelihood export.

    Attributes
    ----------
    events
        Signal events (sum of weights) in the window after the cut at mu = 1; None: twice the error of the count.
    mass, sigma
        Gaussian peak of the spectrum model in GeV; None: the centre and a quarter of the width of the window.
    """

    events: float | None = None
    mass: float | None = None
    sigma: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"the {name} of the signal must be a positive number, not {value:g}")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Bins of the window in Poisson units.

    Attributes
    ----------
    edges
        In GeV, shape ``(n + 1,)``.
    observed, signal, background
        Shape ``(n,)``; ``signal`` at mu = 1.
    variance
        Sums of squared weights of the data in these units, shape ``(n,)``; equal to ``observed`` for equal weights.
    modes
        Relative change of the background for one standard deviation of each nuisance parameter, shape ``(k, n)``.
    """

    edges: Array
    observed: Array
    variance: Array
    signal: Array
    background: Array
    modes: Array


@dataclass(frozen=True, eq=False)
class LookModel:
    """A look in Poisson units: sums of weights divided by ``scale``.

    Attributes
    ----------
    index, name, look
        Its place in ``results.json``, a name for files, and its record.
    order
        The order of the folds of a weighted look that has several; None: there is one.
    observed, variance
        The count, or the expected background if ``asimov``, and its sum of squared weights.
    background, error
        Expected background in the window and its error.
    signal
        Signal in the window at mu = 1.
    scale
        Events (sum of weights) for each unit.
    asimov
        True if the data are the expectation.
    spectrum, reason
        Bins of the window; None if they cannot be had, with the reason.
    """

    index: int
    name: str
    look: Look
    observed: float
    variance: float
    background: float
    error: float
    signal: float
    scale: float
    asimov: bool
    spectrum: Spectrum | None
    reason: str | None
    order: OrderOfFolds | None = None

    @property
    def role(self) -> str:
        """``result``; ``cross-check``; or ``order``, one of a look but not the first, which no choice has made the best."""
        if self.look.cross_check:
            return "cross-check"
        return "result" if self.order is None or self.order.order == 1 else "order"

    @property
    def counts(self) -> Look | OrderOfFolds:
        """The counted object: the look, or one order of it."""
        return self.look if self.order is None else self.order

    @property
    def known(self) -> bool:
        """Whether the error of the background is too small for a side measurement."""
        return self.error <= 1e-6 * self.background

    @property
    def p(self) -> float | None:
        """Exact p-value of the counting model; None for expected data."""
        if self.asimov:
            return None
        return float(count_p_value(self.observed, self.background, self.error))

    @property
    def other_p(self) -> float | None:
        """p-value of the search, where it is not that of the counting model."""
        p, said = self.p, self.counts.p_local
        return said if p and said and abs(np.log(p / said)) > _SAME_P else None

    @property
    def side(self) -> tuple[float, float, float]:
        """Background in the window and expected side count for a background factor of one, and the side count.

        Without any selected sideband event, one would have meant ``error`` events in the window. Zeros mean no side measurement, if the background is :attr:`known`.
        """
        if self.known:
            return self.background, 0.0, 0.0
        if self.background > 0:
            m = (self.background / self.error) ** 2
            return self.background, m, m
        return self.error, 1.0, 0.0

    @property
    def largest_strength(self) -> float:
        """Upper bound of mu that no fit of these data reaches."""
        return max(10.0, 2.0 * (self.observed + 5.0 * float(np.sqrt(self.observed + 1.0))) / self.signal)

    @property
    def largest_norm(self) -> float:
        """Upper bound of the background factor that no fit of these data reaches."""
        b, expected_side, side = self.side
        return max(10.0, 2.0 * (self.observed + side + 1.0) / (b + expected_side))

    def to_dict(self, **files: str | None) -> dict[str, Any]:
        """Entry of the look in the index of an export, counts in units of event weight."""
        look, counts = self.look, self.counts
        return {
            "look": self.index,
            "order": None if self.order is None else self.order.order,
            "role": self.role,
            "method": look.method,
            "window": list(look.window),
            "working_point": look.working_point,
            "combination": look.combination,
            "data": "expected background (Asimov)" if self.asimov else "observed",
            "observed": None if self.asimov else counts.observed,
            "expected": counts.expected,
            "expected_error": counts.expected_error,
            "signal_at_mu_1": self.signal * self.scale,
            "scale": self.scale,
            "scale_in_window": None
            if self.asimov
            else self.scale * self.variance / max(self.observed, 1e-300),
            "p_local": None if self.asimov else counts.p_local,
            "p_of_look": None if self.asimov else look.p_local,
            "p_of_this_count": self.p,
            "warning": counts.warning,
            "limits": {"test_statistic": "qtilde", "mu_range": [0.0, self.largest_strength]},
            **files,
            "no_spectrum_because": self.reason,
        }


def look_name(look: Look) -> str:
    """Name of a look for files: method, window in GeV and background efficiency."""
    point = "" if look.working_point is None else f"_{look.working_point:g}"
    return f"{look.method}_{look.window[0]:.7g}-{look.window[1]:.7g}{point}"


def look_models(
    path: Path | str, *, look: int | None = None, asimov: bool = False, signal: SignalShape | None = None
) -> tuple[Run, list[LookModel]]:
    """Read a run and make the likelihoods of its looks.

    Parameters
    ----------
    path
        The run directory.
    look
        Only this look, by its place in ``results.json``.
    asimov
        Take the expected background for the data; the only way while blinded.
    signal
        Size and shape of the signal.

    Raises
    ------
    InputError
        If the run is blinded, there is no such look or it is dead, its p-value is not that of a summed count, or the run directory does not record the weights of its events.
    """
    run, signal = read_run(Path(path)), signal or SignalShape()
    if run.results.blinded and not asimov:
        raise InputError(
            f"{path}: is blinded, so there are no observed counts to export; unblind it (serendip search … --unblind), or "
            "export the expectation as data with --asimov"
        )
    indices = range(len(run.results.looks)) if look is None else [look]
    if look is not None and not 0 <= look < len(run.results.looks):
        raise InputError(f"{path}: has no look {look}; its looks are 0 to {len(run.results.looks) - 1}")
    models = []
    for index in indices:
        one = run.results.looks[index]
        if one.dead is None:
            models += [_model(run, index, asimov, signal, order) for order in _orders(run, index)]
        elif look is None:
            log.warning(
                "look %d (%s) is left out, it cannot find anything: %s", index, look_name(one), one.dead
            )
    if not models:
        raise InputError(
            f"{path}: {'no look can' if look is None else f'look {look} cannot'} find anything, so there is no count to export: "
            f"{run.results.looks[indices[0]].dead}"
        )
    return run, models


def _orders(run: Run, index: int) -> tuple[OrderOfFolds | None, ...]:
    """The orders of the folds of a look; None means the look itself, if it has one."""
    look = run.results.looks[index]
    if not look.orders:
        return (None,)
    found = [record for record in run.diagnostics.weighted if record.look == index]
    if not found or len(found[0].orders) != len(look.orders):
        raise InputError(
            f"{run.path / 'diagnostics.json'}: has no entry for the {len(look.orders)} orders of look {index} ({look_name(look)}); "
            "repeat the search command to write it again"
        )
    return found[0].orders


def _model(run: Run, index: int, asimov: bool, shape: SignalShape, order: OrderOfFolds | None) -> LookModel:
    look = run.results.looks[index]
    name = look_name(look) + ("" if order is None else f"_order{order.order}")
    if look.combination.startswith("kfold"):
        raise InputError(
            f"{run.path}: look {index} ({name}) is {look.combination}: its folds share training data, so that their sum is not "
            "a Poisson count and no likelihood describes it; search with --combination weighted or sequential"
        )
    counts = look if order is None else order
    bins, reason = None, None
    try:
        bins = window_background(run, index, order)
    except NotReproducedError as problem:
        reason = str(problem)
    record = _spectrum_of(run, index, order)
    scale = 1.0
    if bins is not None:
        scale = bins.scale
    elif record is not None and record.variance is not None:
        scale = record.scale
    elif is_weighted(run):
        raise InputError(
            f"{run.path}: look {index} ({name}) has weighted events, and their spread is not recorded in the run: {reason}"
        )
    b, error = counts.expected / scale, counts.expected_error / scale
    observed = b if asimov or counts.observed is None else counts.observed / scale
    variance = observed if asimov else _variance(record, look, observed, scale)
    events = 2.0 * float(np.sqrt(b + error**2)) if shape.events is None else shape.events / scale
    spectrum = None
    if bins is not None:
        spectrum, reason = _spectrum(bins, look, events, asimov, shape)
    model = LookModel(
        index, name, look, observed, variance, b, error, events, scale, asimov, spectrum, reason, order
    )
    _tell(model)
    return model


def _spectrum_of(run: Run, index: int, order: OrderOfFolds | None) -> SpectrumRecord | None:
    if order is not None:
        return order.spectrum
    return next((record for record in run.diagnostics.spectra if record.look == index), None)


def _variance(record: SpectrumRecord | None, look: Look, observed: float, scale: float) -> float:
    """Sum of squared weights in the window, in Poisson units."""
    if record is None or record.variance is None:
        return observed
    edges = np.asarray(record.edges)
    inside = (edges[:-1] >= look.window[0]) & (edges[1:] <= look.window[1])
    return float(np.array(record.variance, dtype=float)[inside].sum()) / scale**2


def _tell(model: LookModel) -> None:
    """Log caveats for users of the likelihood."""
    where = f"look {model.index} ({model.name})"
    if model.counts.warning:
        log.warning("%s: %s", where, model.counts.warning)
    if model.other_p is not None:
        log.warning(
            "%s: its p-value of %.3g (%s) is not that of the exported count, which is %.3g%s",
            where,
            model.other_p,
            model.look.combination,
            model.p,
            ""
            if model.scale == 1.0
            else ": a Poisson count has the variance of weighted events, not their tail",
        )


def _spectrum(
    bins: WindowBackground, look: Look, events: float, asimov: bool, shape: SignalShape
) -> tuple[Spectrum | None, str | None]:
    relative = np.sqrt(np.diag(bins.covariance)) / bins.expected
    if relative.max() > _LARGEST_ERROR:
        return None, (
            f"a bin of the window is predicted with an error of {100 * relative.max():.0f} %, too much for a Gaussian "
            "nuisance parameter; use the counting model"
        )
    values, vectors = np.linalg.eigh(bins.covariance / np.outer(bins.expected, bins.expected))
    keep = np.flatnonzero(values > 1e-8 * values[-1])[::-1]
    modes = (vectors[:, keep] * np.sqrt(values[keep])).T
    modes *= np.where(modes.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    mass = 0.5 * sum(look.window) if shape.mass is None else shape.mass
    sigma = 0.25 * (look.window[1] - look.window[0]) if shape.sigma is None else shape.sigma
    share = np.diff(norm.cdf(bins.edges, mass, sigma))
    if share.sum() < 1e-3:
        raise InputError(
            f"a signal at {mass:g} GeV with a width of {sigma:g} GeV has no events in the window "
            f"{look.window[0]:g}-{look.window[1]:g} GeV; choose its mass inside, or another look"
        )
    data = bins.expected if asimov or bins.observed is None else bins.observed
    squares = data * bins.scale if asimov or bins.variance is None else bins.variance
    return Spectrum(
        edges=bins.edges,
        observed=data / bins.scale,
        variance=squares / bins.scale**2,
        signal=events * share / share.sum(),
        background=bins.expected / bins.scale,
        modes=modes,
    ), None
