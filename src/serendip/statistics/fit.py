"""Binned Poisson fit of a smooth spectrum, with the choice of its function.

For thousands of spectra at once (toys) see :mod:`serendip.statistics.many`.

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

__all__ = [
    "FitError",
    "SpectrumFit",
    "TriedFunction",
    "candidate_members",
    "check_input",
    "choose_order",
    "deviance",
    "fisher_information",
    "fit_spectrum",
]

Array = NDArray[np.float64]


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
        Baker-Cousins deviance over the fitted bins, degrees of freedom, and its p-value from the exact
        Poisson moments of the deviance, so that sparse bins do not distort it.
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
        """The fit as plain numbers for JSON; None stands for what is not finite (an empty selection)."""
        names = self.family.parameter_names
        return {
            "function": self.function,
            "n_parameters": self.n_parameters,
            "parameters": {name: _finite(value) for name, value in zip(names, self.params, strict=False)},
            "deviance": self.deviance,
            "n_dof": self.n_dof,
            "gof_p": _finite(self.gof_p),
            "tried": [vars(function).copy() for function in self.tried],
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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


def candidate_members(family: BackgroundFamily, design: Design, n_fitted: int) -> list[int]:
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


def choose_order(deviances: list[Array], sizes: list[int], alpha: float) -> NDArray[np.int_]:
    """Smallest order that no larger one improves on at level ``alpha``, for each toy."""
    n_toys = len(deviances[0])
    choice = np.full(n_toys, len(sizes) - 1)
    for k in reversed(range(len(sizes) - 1)):
        better = np.zeros(n_toys, dtype=bool)
        for j in range(k + 1, len(sizes)):
            better |= deviances[k] - deviances[j] > stats.chi2.isf(alpha, sizes[j] - sizes[k])
        choice[~better] = k
    return choice


def fisher_information(mu: Array, jacobian: Array) -> Array:
    """Fisher information ``J^T diag(1/mu) J`` of each toy, shape ``(n_toys, p, p)``."""
    p = jacobian.shape[-1]
    out = np.empty((mu.shape[1], p, p))
    scaled = jacobian / np.maximum(mu, 1e-300)[..., None]
    for i in range(p):
        for j in range(i + 1):
            out[:, i, j] = out[:, j, i] = np.einsum("nt,nt->t", scaled[..., i], jacobian[..., j])
    return out


class _Objective:
    """Penalised deviance and gradient of one spectrum, for Minuit."""

    def __init__(self, counts: Array, fitted: Design, everywhere: Design) -> None:
        self.counts, self.fitted, self.everywhere = counts, fitted, everywhere
        # polynomials only: below one per cent of the mean bin the logarithm is continued smoothly
        self.floor = 1e-2 * max(float(counts.mean()), 1e-6)

    def above_floor(self, mu: Array) -> Array:
        """Expectation used for the errors: that of an empty bin of a polynomial is not zero."""
        return mu if self.fitted.log_linear else np.maximum(mu, self.floor)

    def _safe(self, mu: Array) -> tuple[Array, Array]:
        """Expectation kept above a small floor (smoothly), and the derivative of that map."""
        low = mu < self.floor
        ratio = np.where(low, np.exp(np.clip(mu / self.floor - 1.0, -600.0, 0.0)), 1.0)
        return np.where(low, self.floor * ratio, mu), ratio

    def __call__(self, theta: Array) -> float:
        mu = self.fitted.expected(theta[None])[0][:, 0]
        penalty = float(self.fitted.prior @ theta**2)
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
        return np.asarray(2 * (1 - self.counts / mu) @ jacobian + 2 * self.fitted.prior * theta)


def _minimise(objective: _Objective, start: Array) -> tuple[Array, Array, float] | None:
    """Coefficients, covariance and deviance of an accurate minimum; None if Minuit finds none.

    The covariance is the inverse Fisher information, as in the fits of toys: Minuit's own comes from finite
    differences and is off by some per cent for these correlated parameters.
    """
    jitter = np.random.default_rng(12345)
    for attempt in range(5):
        minuit = Minuit(objective, start, grad=objective.gradient)
        minuit.errordef = Minuit.LEAST_SQUARES
        minuit.strategy = 1 if attempt == 0 else 2
        # counts of 1e9 leave too few digits for the tightest tolerance
        minuit.tol = 10.0 ** min(attempt - 5, -1)
        minuit.print_level = 0
        minuit.migrad(ncall=5000)
        if minuit.valid and minuit.accurate:
            theta = np.asarray(minuit.values)
            penalty = float(objective.fitted.prior @ theta**2)
            mu, jacobian = objective.fitted.expected(theta[None])
            information = fisher_information(objective.above_floor(mu), jacobian)[0]
            covariance = np.linalg.inv(information + np.diag(objective.fitted.prior))
            return theta, covariance, float(minuit.fval or 0.0) - penalty
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


def check_input(
    counts: Array, edges: Array, mask: NDArray[np.bool_], offset: Array | None, scale: float
) -> None:
    """Stop at shapes, counts, offsets or scales that cannot be fitted."""
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
    check_input(n, edges_, left_out, shape, scale)
    design = make_design(edges_, family, shape)
    keep = ~left_out
    fitted, y = design.bins(keep), n[keep] / scale

    if not np.any(y):
        p = family.n_parameters[0]
        nothing, zeros = np.zeros(len(n)), np.zeros((p, p))
        empty = np.concatenate([[-np.inf if family.log_linear else 0.0], np.zeros(p - 1)])
        return SpectrumFit(
            family=family, function=family.members[0], n_parameters=p, params=empty, covariance=zeros,
            edges=edges_, counts=n, mask=left_out, offset=shape, scale=scale,
            expected=nothing, expected_error=nothing, jacobian=np.zeros((len(n), p)),
            coefficients=empty, coefficient_covariance=zeros,
            deviance=0.0, n_dof=int(keep.sum()) - p, gof_p=1.0,
        )  # fmt: skip

    results: list[tuple[int, Array, Array, float]] = []
    start: Array | None = None
    for k in candidate_members(family, design, int(keep.sum())):
        p = family.n_parameters[k]
        member = fitted.order(p)
        guess = _start(y, member) if start is None else np.concatenate([start, np.zeros(p - len(start))])
        minimum = _minimise(_Objective(y, member, design.order(p)), guess)
        if minimum is not None:
            results.append((k, *minimum))
            start = minimum[0]
    if not results:
        raise FitError(
            f"no function of '{family.spec}' could be fitted to {n[keep].sum():g} events "
            f"in {int(keep.sum())} bins between {edges_[0]:g} and {edges_[-1]:g} GeV; try another "
            "background or range"
        )
    sizes = [family.n_parameters[k] for k, *_ in results]
    best = int(choose_order([np.array([r[3]]) for r in results], sizes, alpha)[0])
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
        deviance=value, n_dof=int(keep.sum()) - sizes[best],
        gof_p=_gof_p(value, mu[keep], sizes[best]), tried=tried,
    )  # fmt: skip
