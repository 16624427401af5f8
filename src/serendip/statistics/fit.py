"""Binned Poisson fits of smooth spectra.

:func:`fit_spectrum` fits one spectrum with iminuit; it is what a result quotes. :func:`fit_many` is the same
maximum-likelihood fit with the same choice of order for thousands of spectra at once (Fisher scoring in
numpy); it is what toys use. A test keeps the two together.

Weighted events: counts divided by ``scale = sum(w^2)/sum(w)`` behave like Poisson counts (Bohm and Zech,
1309.1287), so that doubling every weight doubles the expectation and leaves every p-value as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from iminuit import Minuit  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from serendip.errors import InputError, SerendipError
from serendip.statistics.functions import BackgroundFamily, Design, get_family, make_design

__all__ = ["FitError", "ManyFits", "SpectrumFit", "TriedFunction", "deviance", "fit_many", "fit_spectrum"]

Array = NDArray[np.float64]

# A Gaussian prior of width 30 on the standardised shape coefficients (a factor e^30 over the range). It keeps
# fits of a handful of events finite and moves an expectation by less than 1e-3 of its error otherwise.
RIDGE = 1.0 / 30.0**2


class FitError(SerendipError):
    """No function of the family gave a valid minimum."""


@dataclass(frozen=True)
class TriedFunction:
    """One function of the family: its deviance, and the likelihood-ratio p-value against the one before."""

    name: str
    n_parameters: int
    deviance: float
    p: float | None


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """A fitted spectrum. Counts and expectations are in units of event weight.

    Attributes
    ----------
    family
        The functions it was chosen from.
    function
        Name of the chosen function.
    n_parameters
        Its parameters, normalisation included.
    params, covariance
        In the family's own form (see :func:`get_family`), for events per GeV; shapes ``(p,)``, ``(p, p)``.
    edges, counts, mask, offset, scale
        The input; ``mask`` is True for bins that the fit did not see.
    expected, expected_error
        Per bin, masked ones included, shape ``(n_bins,)``.
    jacobian
        Derivatives of ``expected`` by the standardised coefficients, shape ``(n_bins, p)``.
    coefficients, coefficient_covariance
        Those coefficients (numerically well behaved) and their covariance.
    deviance, n_dof, gof_p
        Baker-Cousins deviance over the fitted bins, degrees of freedom, and its p-value from the exact Poisson
        moments of the deviance, so that sparse bins do not distort it.
    tried
        All orders that were fitted.
    """

    family: BackgroundFamily
    function: str
    n_parameters: int
    params: Array
    covariance: Array
    edges: Array
    counts: Array
    mask: NDArray[np.bool_]
    offset: Array | None
    scale: float
    expected: Array
    expected_error: Array
    jacobian: Array
    coefficients: Array
    coefficient_covariance: Array
    deviance: float
    n_dof: int
    gof_p: float
    tried: tuple[TriedFunction, ...] = field(default=())

    def window(self, low_bin: int, high_bin: int) -> tuple[float, float]:
        """Expected sum of the bins ``low_bin <= i < high_bin`` and its error from the full covariance."""
        gradient = self.jacobian[low_bin:high_bin].sum(axis=0)
        b = float(self.expected[low_bin:high_bin].sum())
        if b == 0.0 and self.offset is not None:
            # nothing was selected: the error is what a single selected event would have meant
            fitted = float(self.offset[~self.mask].sum())
            return 0.0, self.scale * float(self.offset[low_bin:high_bin].sum()) / fitted
        return b, float(np.sqrt(max(gradient @ self.coefficient_covariance @ gradient, 0.0)))

    def density(self, mass: ArrayLike) -> Array:
        """Fitted density in events per GeV (without offset), shape of ``mass``."""
        return self.family.value(np.asarray(mass, dtype=float), self.params)

    def sample(self, n: int, low: float, high: float, rng: np.random.Generator) -> Array:
        """Masses drawn from the fitted density between two values in GeV, shape ``(n,)``."""
        grid = np.linspace(low, high, 2001)
        density = np.maximum(self.density(grid), 0.0)
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        return np.asarray(np.interp(rng.random(n) * cumulative[-1], cumulative, grid))

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers for JSON."""
        return {
            "function": self.function,
            "n_parameters": self.n_parameters,
            "parameters": dict(zip(self.family.parameter_names, self.params.tolist(), strict=False)),
            "deviance": self.deviance,
            "n_dof": self.n_dof,
            "gof_p": self.gof_p,
            "tried": [
                {"function": t.name, "n_parameters": t.n_parameters, "deviance": t.deviance, "p": t.p}
                for t in self.tried
            ],
        }


def deviance(counts: Array, expected: Array, axis: int = -1) -> Array:
    """Baker-Cousins deviance ``2 sum(mu - n + n ln(n/mu))``."""
    return np.asarray(2.0 * np.sum(special.kl_div(counts, expected), axis=axis))


def _gof_p(value: float, expected: Array, n_parameters: int) -> float:
    """p-value of a deviance, with a scaled chi-square that has the deviance's exact Poisson moments."""
    n = np.arange(0, 120)[:, None]
    mu = np.maximum(expected, 1e-12)
    small = np.minimum(mu, 40.0)
    pmf = stats.poisson.pmf(n, small)
    term = 2.0 * special.kl_div(n.astype(float), small)
    mean = np.where(mu < 40, (pmf * term).sum(axis=0), 1.0 + 1.0 / (6.0 * mu))
    square = np.where(mu < 40, (pmf * term**2).sum(axis=0), mean**2 + 2.0 + 2.0 / (3.0 * mu))
    total, variance = float(mean.sum()), float((square - mean**2).sum())
    if variance <= 0 or len(mu) <= n_parameters:
        return float("nan")
    dof = 2.0 * total**2 / variance
    # the fit takes one degree of freedom per parameter
    shrink = 1.0 - n_parameters / len(mu)
    return float(stats.chi2.sf(value * dof / total, dof * shrink))


def _prior(p: int) -> Array:
    return np.concatenate([[0.0], np.full(p - 1, RIDGE)])


def _candidates(family: BackgroundFamily, design: Design, n_fitted: int) -> list[int]:
    """Indices of the members that the binning can tell apart; the smallest one is always tried."""
    smallest = family.n_parameters[0]
    if smallest > min(design.n_parameters, n_fitted):
        raise InputError(
            f"'{family.members[0]}' has {smallest} parameters but only {n_fitted} bins outside the "
            "window to fit; use more bins or a wider range"
        )
    return [
        k
        for k, p in enumerate(family.n_parameters)
        if p == smallest or (p <= design.n_parameters and p < n_fitted)
    ]


def _choose(deviances: list[Array], sizes: list[int], alpha: float) -> NDArray[np.int_]:
    """Smallest order that no larger one improves on at level ``alpha``, for each toy."""
    n_toys = len(deviances[0])
    choice = np.full(n_toys, len(sizes) - 1)
    for k in reversed(range(len(sizes) - 1)):
        better = np.zeros(n_toys, dtype=bool)
        for j in range(k + 1, len(sizes)):
            better |= deviances[k] - deviances[j] > stats.chi2.isf(alpha, sizes[j] - sizes[k])
        choice[~better] = k
    return choice


class _Objective:
    """Penalised deviance and gradient of one spectrum, for Minuit."""

    def __init__(self, counts: Array, fitted: Design, everywhere: Design) -> None:
        self.counts, self.fitted, self.everywhere = counts, fitted, everywhere
        self.prior = _prior(fitted.n_parameters)
        self.floor = 1e-4 * max(float(counts.mean()), 1e-6)

    def _safe(self, mu: Array) -> tuple[Array, Array]:
        """Expectation kept above a small floor (smoothly), and the derivative of that map."""
        low = mu < self.floor
        ratio = np.where(low, np.exp(np.clip(mu / self.floor - 1.0, -600.0, 0.0)), 1.0)
        return np.where(low, self.floor * ratio, mu), ratio

    def __call__(self, theta: Array) -> float:
        mu = self.fitted.expected(theta[None])[0][:, 0]
        penalty = float(self.prior @ theta**2)
        if not self.fitted.log_linear:
            negative = np.minimum(self.everywhere.expected(theta[None])[0][:, 0], 0.0) / self.floor
            mu, _ = self._safe(mu)
            return float(deviance(self.counts, mu)) + float(negative @ negative)
        return float(deviance(self.counts, mu)) + penalty

    def gradient(self, theta: Array) -> Array:
        mu, jacobian = (a[:, 0] for a in self.fitted.expected(theta[None]))
        if not self.fitted.log_linear:
            wide, wide_jacobian = (a[:, 0] for a in self.everywhere.expected(theta[None]))
            safe, slope = self._safe(mu)
            negative = np.minimum(wide, 0.0) / self.floor**2
            return np.asarray(
                2 * ((1 - self.counts / safe) * slope) @ jacobian + 2 * negative @ wide_jacobian
            )
        return np.asarray(2 * (1 - self.counts / mu) @ jacobian + 2 * self.prior * theta)


def _minimise(objective: _Objective, start: Array) -> tuple[Array, Array, float] | None:
    """Coefficients, covariance and deviance of an accurate minimum; None if Minuit finds none."""
    jitter = np.random.default_rng(12345)
    for attempt in range(5):
        minuit = Minuit(objective, start, grad=objective.gradient)
        minuit.errordef = Minuit.LEAST_SQUARES
        minuit.strategy = 1 if attempt == 0 else 2
        minuit.tol = 1e-3
        minuit.print_level = 0
        minuit.migrad(ncall=5000)
        minuit.hesse()
        if minuit.valid and minuit.accurate and minuit.covariance is not None:
            theta = np.asarray(minuit.values)
            penalty = float(objective.prior @ theta**2) if objective.fitted.log_linear else 0.0
            return theta, np.asarray(minuit.covariance), float(minuit.fval or 0.0) - penalty
        start = start + jitter.normal(0.0, 0.1, len(start)) * (np.abs(start) + 0.1)
    return None


def _start(counts: Array, design: Design) -> Array:
    """Coefficients from a weighted linear fit of the counts (or their logarithms)."""
    mass_weight = design.weights.sum(axis=1)
    centre = np.einsum("ng,ngp->np", design.weights, design.basis) / mass_weight[:, None]
    value = counts + 0.5 if design.log_linear else counts
    weight = np.sqrt(value) if design.log_linear else mass_weight / np.sqrt(counts + 1.0)
    target = np.log(value / mass_weight) if design.log_linear else counts / mass_weight
    return np.asarray(np.linalg.lstsq(centre * weight[:, None], target * weight, rcond=None)[0])


def _check(counts: Array, edges: Array, mask: NDArray[np.bool_], offset: Array | None, scale: float) -> None:
    if counts.shape[-1] != len(edges) - 1 or mask.shape != (len(edges) - 1,):
        msg = f"{counts.shape[-1]} counts and {mask.shape} mask for {len(edges) - 1} bins"
        raise ValueError(msg)
    if not np.all(np.isfinite(counts)) or np.any(counts < 0):
        raise InputError("counts must be finite and not negative")
    if offset is not None and not np.all(np.asarray(offset) > 0):
        raise InputError("the inclusive expectation must be positive in every bin")
    if not (np.isfinite(scale) and scale > 0):
        msg = f"scale must be positive, not {scale}"
        raise ValueError(msg)
    if np.all(mask):
        raise InputError("no bin is left to fit: the window covers the whole fit range")


def fit_spectrum(
    counts: ArrayLike,
    edges: ArrayLike,
    family: BackgroundFamily | str,
    *,
    mask: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    scale: float = 1.0,
    alpha: float = 0.05,
) -> SpectrumFit:
    """Fit a binned spectrum by maximum Poisson likelihood and choose the order of the function.

    Parameters
    ----------
    counts
        Counts, or sums of weights, shape ``(n_bins,)``.
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``.
    family
        Functions, or their name.
    mask
        True for bins that are left out (the window). Default: none.
    offset
        Expected shape that multiplies the function, shape ``(n_bins,)``, for an efficiency fit.
    scale
        ``sum(w^2)/sum(w)`` of weighted events.
    alpha
        The smallest order is taken that no larger one improves on at this level (likelihood-ratio tests).

    Raises
    ------
    FitError
        If no order has a valid minimum with an accurate covariance.
    InputError
        If bins or counts cannot be fitted.
    """
    family = get_family(family) if isinstance(family, str) else family
    edges_, n = np.asarray(edges, dtype=float), np.asarray(counts, dtype=float)
    left_out = np.zeros(len(n), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    shape = None if offset is None else np.asarray(offset, dtype=float)
    _check(n, edges_, left_out, shape, scale)
    design = make_design(edges_, family, shape)
    keep = ~left_out
    fitted, y = design.bins(keep), n[keep] / scale

    if not np.any(y):
        p = family.n_parameters[0]
        nothing, zeros = np.zeros(len(n)), np.zeros((p, p))
        coefficients = np.concatenate([[-np.inf], np.zeros(p - 1)])
        return SpectrumFit(
            family, family.members[0], p, coefficients, zeros, edges_, n, left_out, shape, scale, nothing, nothing,
            np.zeros((len(n), p)), coefficients, zeros, 0.0, int(keep.sum()) - p, 1.0,
        )  # fmt: skip

    results: list[tuple[int, Array, Array, float]] = []
    start: Array | None = None
    for k in _candidates(family, design, int(keep.sum())):
        p = family.n_parameters[k]
        member = fitted.order(p)
        guess = _start(y, member) if start is None else np.concatenate([start, np.zeros(p - len(start))])
        minimum = _minimise(_Objective(y, member, design.order(p)), guess)
        if minimum is not None:
            results.append((k, *minimum))
            start = minimum[0]
    if not results:
        raise FitError(
            f"no function of '{family.spec}' could be fitted to {n[keep].sum():g} events in {int(keep.sum())} bins "
            f"between {edges_[0]:g} and {edges_[-1]:g} GeV; try another background or range"
        )
    sizes = [family.n_parameters[k] for k, *_ in results]
    best = int(_choose([np.array([r[3]]) for r in results], sizes, alpha)[0])
    tried = tuple(
        TriedFunction(
            family.members[k],
            sizes[i],
            value,
            float(stats.chi2.sf(results[i - 1][3] - value, sizes[i] - sizes[i - 1])) if i else None,
        )
        for i, (k, _, _, value) in enumerate(results)
    )
    k, theta, covariance, value = results[best]
    chosen = design.order(sizes[best])
    mu, jacobian = (a[:, 0] for a in chosen.expected(theta[None]))
    mu = np.maximum(mu, 0.0)
    params, to_params = chosen.to_params @ theta, chosen.to_params
    if family.log_linear:
        params[0] += np.log(scale)
    else:
        params, to_params = params * scale, to_params * scale
    error = np.sqrt(np.maximum(np.einsum("ip,pq,iq->i", jacobian, covariance, jacobian), 0.0))
    return SpectrumFit(
        family=family, function=family.members[k], n_parameters=sizes[best],
        params=params, covariance=to_params @ covariance @ to_params.T,
        edges=edges_, counts=n, mask=left_out, offset=shape, scale=scale,
        expected=mu * scale, expected_error=error * scale, jacobian=jacobian * scale,
        coefficients=theta, coefficient_covariance=covariance,
        deviance=value, n_dof=int(keep.sum()) - sizes[best], gof_p=_gof_p(value, mu[keep], sizes[best]), tried=tried,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ManyFits:
    """Fits of many spectra.

    Attributes
    ----------
    expected
        Shape ``(n_toys, n_bins)``, masked bins included.
    n_parameters
        Chosen number of parameters, shape ``(n_toys,)``.
    window, window_error
        Expected sum over the masked bins and its error, shape ``(n_toys,)``.
    deviance
        Shape ``(n_toys,)``.
    """

    expected: Array
    n_parameters: NDArray[np.int_]
    window: Array
    window_error: Array
    deviance: Array


def fit_many(
    counts: ArrayLike,
    edges: ArrayLike,
    family: BackgroundFamily | str,
    *,
    mask: ArrayLike,
    offset: ArrayLike | None = None,
    scale: float = 1.0,
    alpha: float = 0.05,
) -> ManyFits:
    """Fit many spectra on one binning, with the result of :func:`fit_spectrum` for each.

    Parameters
    ----------
    counts
        Shape ``(n_toys, n_bins)``.
    edges, family, mask, offset, scale, alpha
        As in :func:`fit_spectrum`, shared by all spectra; ``mask`` marks the window.
    """
    family = get_family(family) if isinstance(family, str) else family
    edges_, n = np.asarray(edges, dtype=float), np.atleast_2d(np.asarray(counts, dtype=float))
    left_out = np.asarray(mask, dtype=bool)
    shape = None if offset is None else np.asarray(offset, dtype=float)
    _check(n, edges_, left_out, shape, scale)
    if not family.log_linear:
        return _fit_one_by_one(n, edges_, family, left_out, shape, scale, alpha)
    design = make_design(edges_, family, shape)
    keep = ~left_out
    fitted, y = design.bins(keep), n[:, keep].T / scale
    filled = y.sum(axis=0) > 0
    members = _candidates(family, design, int(keep.sum()))
    sizes = [family.n_parameters[k] for k in members]

    thetas: list[Array] = []
    deviances: list[Array] = []
    start: Array | None = None
    for p in sizes:
        member = fitted.order(p)
        if start is None:
            start = np.zeros((y.shape[1], p))
            start[:, 0] = (
                np.log(np.maximum(y.sum(axis=0), 1e-3) / member.weights.sum()) / member.basis[0, 0, 0]
            )
        guess = np.pad(start, ((0, 0), (0, p - start.shape[1])))
        theta, value = guess.copy(), np.zeros(y.shape[1])
        theta[filled], value[filled] = _fisher_scoring(y[:, filled], member, guess[filled])
        start = theta
        thetas.append(theta)
        deviances.append(value)
    choice = _choose(deviances, sizes, alpha)

    n_toys = y.shape[1]
    expected, window, error = np.zeros((n_toys, len(left_out))), np.zeros(n_toys), np.zeros(n_toys)
    for index, p in enumerate(sizes):
        rows = np.flatnonzero((choice == index) & filled)
        if not len(rows):
            continue
        mu, jacobian = design.order(p).expected(thetas[index][rows])
        information = _information(mu[keep], jacobian[keep]) + np.diag(_prior(p))
        gradient = jacobian[left_out].sum(axis=0)
        expected[rows] = mu.T
        window[rows] = mu[left_out].sum(axis=0)
        solved = np.linalg.solve(information, gradient[..., None])[..., 0]
        error[rows] = np.sqrt(np.maximum(np.einsum("tp,tp->t", gradient, solved), 0.0))
    if shape is not None:
        error[~filled] = shape[left_out].sum() / shape[keep].sum()
    return ManyFits(
        expected=expected * scale,
        n_parameters=np.asarray(sizes)[choice],
        window=window * scale,
        window_error=error * scale,
        deviance=np.asarray(deviances)[choice, np.arange(n_toys)],
    )


def _information(mu: Array, jacobian: Array) -> Array:
    """Fisher information ``J^T diag(1/mu) J`` of each toy, shape ``(n_toys, p, p)``."""
    p = jacobian.shape[-1]
    out = np.empty((mu.shape[1], p, p))
    scaled = jacobian / np.maximum(mu, 1e-300)[..., None]
    for i in range(p):
        for j in range(i + 1):
            out[:, i, j] = out[:, j, i] = np.einsum("nt,nt->t", scaled[..., i], jacobian[..., j])
    return out


def _fisher_scoring(y: Array, design: Design, theta: Array) -> tuple[Array, Array]:
    """Minimise the penalised deviance of each column of ``y``; returns coefficients and deviances."""
    prior = _prior(design.n_parameters)
    theta = theta.copy()
    value = np.full(len(theta), np.inf)
    active = np.arange(len(theta))
    for _ in range(200):
        mu, jacobian = design.expected(theta[active])
        counts = y[:, active]
        value[active] = deviance(counts, mu, axis=0) + theta[active] ** 2 @ prior
        gradient = np.einsum("nt,ntp->tp", 1.0 - counts / mu, jacobian) + prior * theta[active]
        step = -np.linalg.solve(_information(mu, jacobian) + np.diag(prior), gradient[..., None])[..., 0]
        decrement = -np.einsum("tp,tp->t", step, gradient)
        going = decrement > 1e-9
        active, step = active[going], step[going]
        if not len(active):
            break
        # a factor e^5 per step at most: far from the minimum the quadratic model promises too much
        length = np.abs(step).max(axis=1)
        step *= np.minimum(1.0, 5.0 / length)[:, None]
        trial = _halve_until_better(y[:, active], design, theta[active], step, value[active], prior)
        stuck = np.all(trial == theta[active], axis=1)
        theta[active] = trial
        active = active[~stuck]
        if not len(active):
            break
    mu, _ = design.expected(theta)
    return theta, deviance(y, mu, axis=0)


def _halve_until_better(
    y: Array, design: Design, theta: Array, step: Array, before: Array, prior: Array
) -> Array:
    """``theta + step / 2^k`` with the smallest ``k`` that does not raise the objective."""
    out = theta.copy()
    todo = np.arange(len(theta))
    slack = 1e-12 * (1.0 + y.sum(axis=0))
    for _ in range(30):
        trial = theta[todo] + step[todo]
        mu, _ = design.expected(trial)
        after = deviance(y[:, todo], mu, axis=0) + trial**2 @ prior
        good = after <= before[todo] + slack[todo]
        out[todo[good]] = trial[good]
        todo = todo[~good]
        if not len(todo):
            break
        step[todo] *= 0.5
    return out


def _fit_one_by_one(
    n: Array, edges: Array, family: BackgroundFamily, mask: NDArray[np.bool_], offset: Array | None, scale: float,
    alpha: float,
) -> ManyFits:  # fmt: skip
    fits = [fit_spectrum(row, edges, family, mask=mask, offset=offset, scale=scale, alpha=alpha) for row in n]
    gradients = [fit.jacobian[mask].sum(axis=0) for fit in fits]
    error = [
        np.sqrt(max(g @ f.coefficient_covariance @ g, 0.0)) for g, f in zip(gradients, fits, strict=True)
    ]
    return ManyFits(
        expected=np.array([fit.expected for fit in fits]),
        n_parameters=np.array([fit.n_parameters for fit in fits]),
        window=np.array([fit.expected[mask].sum() for fit in fits]),
        window_error=np.array(error),
        deviance=np.array([fit.deviance for fit in fits]),
    )
