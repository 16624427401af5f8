r"""The background of a look bin by bin, with the covariance of its fits.

A run directory keeps the counts outside the window and the fitted spectra with the error of each bin. The fits are
repeated from these counts, which gives the covariance of the window's bins; they are accepted only if they reproduce the numbers of the run. With selected expectation :math:`\mu_i = B_i \varepsilon_i`, its derivatives :math:`J` by the
coefficients of the efficiency (covariance :math:`C_\varepsilon`) and :math:`L = \partial \ln B` by those of the
inclusive spectrum (:math:`C_B`),

.. math:: C = J C_\varepsilon J^T + G C_B G^T, \qquad G_i = \mu_i L_i - J_i C_\varepsilon \sum_k J_k^T L_k

where :math:`k` runs over the fitted bins: the efficiency fit follows most changes of the spectrum. The sum over the
window is the ``expected_error`` of the look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError, SerendipError
from serendip.io.units import GEV
from serendip.report.load import Run
from serendip.runs.folder import RunDirectory
from serendip.search.diagnostic_records import OrderOfFolds, Spectrum
from serendip.search.results import Look
from serendip.statistics.closure import with_closure
from serendip.statistics.fit import SpectrumFit, fit_spectrum
from serendip.statistics.functions import BackgroundFamily, get_family, rougher
from serendip.statistics.looks import EFFICIENCY

__all__ = ["NotReproducedError", "WindowBackground", "is_weighted", "window_background"]

Array = NDArray[np.float64]

# the fits are those of the run if they differ by less than this part of their errors
_TOLERANCE = 1e-3
_STEPS = 50


class NotReproducedError(InputError):
    """The fits of a look cannot be repeated from its run directory."""


@dataclass(frozen=True, eq=False)
class WindowBackground:
    """Bins of a window, in units of event weight.

    Attributes
    ----------
    edges
        Bin edges in GeV, shape ``(n + 1,)``.
    observed
        Selected events, shape ``(n,)``; None while blinded.
    variance
        Sums of their squared weights, shape ``(n,)``; None if they are the counts, or not known.
    expected
        Expected background, shape ``(n,)``.
    covariance
        Its covariance from both fits, shape ``(n, n)``.
    scale
        ``sum(w^2)/sum(w)`` of the selected events: counts divided by it are Poisson-like.
    """

    edges: Array
    observed: Array | None
    variance: Array | None
    expected: Array
    covariance: Array
    scale: float


def window_background(run: Run, index: int, order: OrderOfFolds | None = None) -> WindowBackground:
    """Repeat the fits of look ``index`` of a run, or of one ``order`` of the folds of a weighted look.

    Raises
    ------
    NotReproducedError
        If they cannot be repeated, with the reason.
    """
    look = run.results.looks[index]
    if look.statistic != "bump-fit":
        raise NotReproducedError(f"its background is a '{look.statistic}', not a fit of the spectrum")
    before = _record(run, look, None)
    after = _record(run, look, index) if order is None else order.spectrum
    edges = np.asarray(after.edges)
    window = (edges[:-1] >= look.window[0]) & (edges[1:] <= look.window[1])
    uneven = is_weighted(run)
    known = None if look.fit is None else look.fit.effective_events
    inclusive = _refit(before, window, _family(run), None, known, uneven=uneven)
    if after.fit is not None and before.fit is not None and after.fit.function == before.fit.function:
        spectrum, jacobian = inclusive, inclusive.jacobian[window]
        covariance = jacobian @ inclusive.coefficient_covariance @ jacobian.T
    else:
        offset = np.maximum(inclusive.expected, 1e-9 * inclusive.expected.max())
        if not any(after.expected):
            raise NotReproducedError("no sideband event passes the cut, so there is no shape to fit")
        effective = look.effective_events if order is None else order.effective_events
        spectrum = _refit(
            after,
            window,
            replace(EFFICIENCY, gaps=inclusive.family.gaps),
            offset,
            None if effective is None else effective.sideband,
            uneven=uneven or order is not None,
        )
        covariance = _covariance(inclusive, spectrum, window)
    total = float(np.sqrt(covariance.sum()))
    said = look.expected_error if order is None else order.expected_error
    if abs(total / said - 1) > _TOLERANCE:
        raise NotReproducedError(f"the repeated fits give an error of {total:.4g}, the run has {said:.4g}")
    counts = np.array(after.observed, dtype=float)[window]
    squares = None if after.variance is None else np.array(after.variance, dtype=float)[window]
    return WindowBackground(
        edges=edges[np.append(window, False) | np.append(False, window)],
        observed=None if np.isnan(counts).any() else counts,
        variance=squares,
        expected=np.asarray(after.expected)[window],
        covariance=covariance,
        scale=spectrum.scale,
    )


def is_weighted(run: Run) -> bool:
    """Whether the events of a run had weights, or belonged together in groups."""
    weight = RunDirectory(run.path).manifest().get("input", {}).get("weight")
    return weight is not None or run.config.get("group") is not None


def _record(run: Run, look: Look, index: int | None) -> Spectrum:
    for record in run.diagnostics.spectra:
        if record.look == index and record.window == look.window:
            return record
    raise NotReproducedError("diagnostics.json contains no spectrum of it")


def _family(run: Run) -> BackgroundFamily:
    try:
        return get_family(str(run.config["background"]), 1000.0 * float(run.config["sqrt_s"]), _masks(run))
    except (KeyError, TypeError, ValueError):
        raise NotReproducedError("config.yaml does not name the background function (background)") from None


def _masks(run: Run) -> list[tuple[float, float]]:
    """Known resonances that the fits of a run left out, in GeV."""
    unit = GEV[run.config.get("unit", "GeV")]
    return [(low * unit, high * unit) for low, high in run.config.get("mask") or ()]


def _refit(
    record: Spectrum,
    window: NDArray[np.bool_],
    family: BackgroundFamily,
    offset: Array | None,
    effective: float | None,
    *,
    uneven: bool,
) -> SpectrumFit:
    """The fit of a spectrum, with the functions of the run."""
    if record.fit is None or record.fit.function not in family.members:
        name = None if record.fit is None else record.fit.function
        raise NotReproducedError(f"its function '{name}' is not one of '{family.spec}'")
    # the spectrum averages over the orders, the efficiency takes one
    average = offset is None and record.fit.averaged
    chosen = family if average else replace(family.only(record.fit.function), gaps=family.gaps)
    hidden = np.array([n is None for n in record.observed])
    if (hidden & ~window).any():
        raise NotReproducedError(
            "counts outside its window are hidden, because they lie in other blinded windows"
        )
    counts = np.array([0.0 if n is None else n for n in record.observed])
    expected, errors = np.asarray(record.expected), np.asarray(record.expected_error)

    bins = np.flatnonzero(window)

    def fit(scale: float, functions: BackgroundFamily) -> SpectrumFit:
        try:
            return fit_spectrum(
                counts,
                record.edges,
                functions,
                mask=window,
                offset=offset,
                scale=scale,
                choice="average" if average else "lrt",
            )
        except SerendipError as error:
            raise NotReproducedError(f"its fit fails when repeated ({error})") from None

    def wider(found: SpectrumFit) -> float:
        return float(np.median(errors[~window] / found.expected_error[~window])) ** 2

    def repeated(functions: BackgroundFamily) -> SpectrumFit:
        if uneven and effective:
            found = fit(counts[~window].sum() / effective, functions)
            # contribution of the noise in the bins
            ratio = max(wider(found), 1.0)
            return replace(
                found,
                coefficient_covariance=found.coefficient_covariance * ratio,
                expected_error=found.expected_error * np.sqrt(ratio),
            )
        found = fit(1.0, functions)
        # older runs do not record the spread of their weights; the errors of a fit grow with the root of the scale
        for _ in range(_STEPS if uneven else 0):
            ratio = wider(found)
            if abs(ratio - 1) < 1e-7:
                break
            found = fit(found.scale * ratio, functions)
        return found

    def same(found: SpectrumFit) -> bool:
        return bool(
            np.all(np.abs(found.expected - expected) <= _TOLERANCE * errors)
            and np.all(np.abs(found.expected_error - errors) <= _TOLERANCE * errors)
        )

    # sidebands that the smooth functions did not describe had rougher ones
    for functions in (chosen, rougher(chosen)) if average else (chosen,):
        if functions is None:
            break
        found = repeated(functions)
        if offset is not None and same(found):
            return found
        # the closure widens the inclusive fit in the window; runs of earlier versions have none
        for tried in (with_closure(found, int(bins[0]), int(bins[-1]) + 1), found):
            if same(tried):
                return tried
    raise NotReproducedError(f"the fit of '{record.fit.function}' gives other numbers when repeated")


def _covariance(inclusive: SpectrumFit, spectrum: SpectrumFit, window: NDArray[np.bool_]) -> Array:
    """Covariance of the window's bins from the fits of spectrum and efficiency, shape ``(n, n)``."""
    log_change = inclusive.jacobian / np.maximum(inclusive.expected, 1e-300)[:, None]
    mu, jacobian, own = spectrum.expected, spectrum.jacobian, spectrum.coefficient_covariance
    response = own @ (jacobian[~window].T @ log_change[~window]) / spectrum.scale
    change: Any = mu[window, None] * log_change[window] - jacobian[window] @ response
    return np.asarray(
        jacobian[window] @ own @ jacobian[window].T + change @ inclusive.coefficient_covariance @ change.T
    )
