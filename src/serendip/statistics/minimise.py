"""Minima of the Poisson likelihood of spectra, by Fisher scoring; by Minuit from other starts where that finds none."""

from __future__ import annotations

import numpy as np
from iminuit import Minuit  # type: ignore[import-untyped]
from numpy.typing import NDArray

from serendip.statistics.design import Design
from serendip.statistics.order import deviance
from serendip.statistics.scoring import fisher_scoring

__all__ = [
    "Objective",
    "PoissonObjective",
    "add_wall",
    "fisher_information",
    "minimise",
    "observed_information",
    "score",
]

Array = NDArray[np.float64]

# Expected gain in half the deviance of one more step of Fisher scoring, above which a spectrum has no minimum.
_UNSOLVED = 1e-4


def fisher_information(mu: Array, jacobian: Array) -> Array:
    """Fisher information ``J^T diag(1/mu) J`` of each toy, shape ``(n_toys, p, p)``."""
    p = jacobian.shape[-1]
    out = np.empty((mu.shape[1], p, p))
    scaled = jacobian / np.maximum(mu, 1e-300)[..., None]
    for i in range(p):
        for j in range(i + 1):
            out[:, i, j] = out[:, j, i] = np.einsum("nt,nt->t", scaled[..., i], jacobian[..., j])
    return out


class PoissonObjective:
    """Penalised deviance of many spectra under a function that is positive for any coefficients.

    See :func:`~serendip.statistics.scoring.fisher_scoring`. ``keep``, shape ``(n_bins, n_toys)``, is False for bins that a spectrum
    leaves out.
    """

    def __init__(self, counts: Array, design: Design, keep: NDArray[np.bool_] | None = None) -> None:
        self.counts, self.design, self.keep = counts, design, keep
        if keep is not None:
            self.counts = np.where(keep, counts, 0.0)
        self.total = self.counts.sum(axis=0)
        self.slack = 1e-12 * (1.0 + self.total)

    def value(self, params: Array, rows: NDArray[np.int_]) -> Array:
        """Penalised deviance, shape ``(len(rows),)``."""
        mu = self.design.counts(params)
        if self.keep is not None:
            mu = np.where(self.keep[:, rows], mu, 0.0)
        excess, wall = self.design.too_bent(params, self.total[rows])
        return deviance(self.counts[:, rows], mu, axis=0) + params**2 @ self.design.prior + wall * excess**2

    def slope(self, params: Array, rows: NDArray[np.int_]) -> tuple[Array, Array]:
        """Half the gradient, and the Fisher information or, for curved functions, the observed one made positive."""
        mu, jacobian = self.design.expected(params)
        ratio = self.counts[:, rows] / mu
        if self.keep is not None:
            # a bin that is left out has no residual and no information
            keep = self.keep[:, rows]
            ratio, mu = np.where(keep, ratio, 1.0), np.where(keep, mu, np.inf)
        gradient = np.einsum("nt,ntp->tp", 1.0 - ratio, jacobian)
        gradient += self.design.prior * params
        if not self.design.curved:
            information = fisher_information(mu, jacobian) + np.diag(self.design.prior)
            add_wall(self.design, params, self.total[rows], gradient, information)
            return gradient, information
        return gradient, observed_information(self.design, params, mu, ratio, jacobian, self.design.prior)


def add_wall(design: Design, params: Array, total: Array, gradient: Array | None, information: Array) -> None:
    """Add the terms of :meth:`~serendip.statistics.design.Design.too_bent` to half the gradient and to the information, in place."""
    if design.bend is None:
        return
    p = len(design.bend)
    excess, wall = design.too_bent(params[:, :p], total)
    if gradient is not None:
        gradient[:, :p] += (wall * excess)[:, None] * design.bend
    information[:, :p, :p] += wall[:, None, None] * np.outer(design.bend, design.bend)


def observed_information(
    design: Design, theta: Array, mu: Array, ratio: Array, jacobian: Array, prior: Array
) -> Array:
    """Half the second derivatives of the penalised deviance, made positive: Newton's step for curved functions.

    Their Fisher information neglects the contribution of the residuals, and its steps take for ever along flat directions.

    Parameters
    ----------
    design
        The function.
    theta
        Its coefficients, shape ``(n_toys, p)``.
    mu, ratio
        Expected counts, and observed over expected ones, shape ``(n_bins, n_toys)``.
    jacobian
        Derivatives of ``mu``, those by the coefficients first, shape ``(n_bins, n_toys, q)``.
    prior
        Precision of the prior on each parameter, shape ``(q,)``.
    """
    p = theta.shape[1]
    information = fisher_information(mu / np.maximum(ratio, 1e-12), jacobian) + np.diag(prior)
    information[:, :p, :p] += design.curvature(theta, 1.0 - ratio)
    values, vectors = np.linalg.eigh(information)
    values = np.maximum(np.abs(values), 1e-9 * design.prior.max())
    return np.asarray((vectors * values[:, None, :]) @ vectors.transpose(0, 2, 1))


def score(
    y: Array, design: Design, start: Array | None = None, keep: NDArray[np.bool_] | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Minimum of the penalised deviance of each column of ``y``, and whether there is one.

    Parameters
    ----------
    y
        Poisson-like counts, shape ``(n_bins, n_toys)``.
    design
        A function that is positive for any coefficients.
    start
        Coefficients, shape ``(n_toys, p)``, or of a smaller order. Default: found from the counts; those of a turn-on from
        its smallest order, for which they are found most reliably.
    keep
        False for bins that a spectrum leaves out, shape of ``y``; needs a ``start``.
    """
    p = design.n_parameters
    if start is None and design.turn_on and p > 5:
        start, _ = score(y, design.order(p - 1))
    theta = design.start(y) if start is None else np.pad(start, ((0, 0), (0, p - start.shape[1])))
    solved = np.zeros(len(theta), dtype=bool)
    # a valley that is narrow and bent, for a turn-on that is not in the data, takes many steps
    for _ in range(6):
        rows = np.flatnonzero(~solved)
        if not len(rows):
            break
        objective = PoissonObjective(y[:, rows], design, None if keep is None else keep[:, rows])
        theta[rows], decrement = fisher_scoring(objective, theta[rows], objective.slack)
        solved[rows] = decrement < _UNSOLVED + 10.0 * objective.slack
    return theta, solved


class Objective:
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
        """Penalised deviance at coefficients of shape ``(p,)``."""
        mu = self.fitted.expected(theta[None])[0][:, 0]
        if not self.fitted.log_linear:
            negative = np.minimum(self.everywhere.expected(theta[None])[0][:, 0], 0.0) / self.floor
            mu, _ = self._safe(mu)
            return float(deviance(self.counts, mu)) + float(negative @ negative)
        return float(deviance(self.counts, mu)) + self.penalty(theta)

    def penalty(self, theta: Array) -> float:
        """Contribution of the prior and the limit of the curvature to the deviance."""
        excess, wall = self.fitted.too_bent(theta[None], np.array([self.counts.sum()]))
        return float(self.fitted.prior @ theta**2 + (wall * excess**2)[0])

    def gradient(self, theta: Array) -> Array:
        """Its derivatives, shape ``(p,)``."""
        mu, jacobian = (a[:, 0] for a in self.fitted.expected(theta[None]))
        if not self.fitted.log_linear:
            wide, wide_jacobian = (a[:, 0] for a in self.everywhere.expected(theta[None]))
            safe, slope = self._safe(mu)
            negative = np.minimum(wide, 0.0) / self.floor**2
            return np.asarray(
                2 * ((1 - self.counts / safe) * slope) @ jacobian + 2 * negative @ wide_jacobian
            )
        out = np.asarray(2 * (1 - self.counts / mu) @ jacobian + 2 * self.fitted.prior * theta)
        if self.fitted.bend is not None:
            excess, wall = self.fitted.too_bent(theta[None], np.array([self.counts.sum()]))
            out += 2 * (wall * excess)[0] * self.fitted.bend
        return out

    def curvature(self, theta: Array) -> Array:
        """Half the second derivatives for a polynomial, shape ``(p, p)``, made positive where the counts give no constraint."""
        mu, jacobian = (a[:, 0] for a in self.fitted.expected(theta[None]))
        wide, wide_jacobian = (a[:, 0] for a in self.everywhere.expected(theta[None]))
        low = mu < self.floor
        bend = np.where(low, self._safe(mu)[1] / self.floor, self.counts / np.where(low, 1.0, mu) ** 2)
        below = wide_jacobian[wide < 0] / self.floor
        second = (jacobian.T * bend) @ jacobian + below.T @ below
        return np.asarray(second + 1e-9 * np.trace(second) * np.eye(len(theta)))


class _AsMany:
    """The objective of one polynomial for :func:`~serendip.statistics.scoring.fisher_scoring`."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def value(self, params: Array, rows: NDArray[np.int_]) -> Array:
        """Penalised deviance, shape ``(len(rows),)``."""
        return np.array([self.objective(theta) for theta in params])

    def slope(self, params: Array, rows: NDArray[np.int_]) -> tuple[Array, Array]:
        """Half the gradient and half the second derivatives."""
        gradients = [0.5 * self.objective.gradient(theta) for theta in params]
        return np.stack(gradients), np.stack([self.objective.curvature(theta) for theta in params])


def minimise(objective: Objective, start: Array | None) -> tuple[Array, Array, float] | None:
    """Coefficients, covariance and deviance of an accurate minimum; None if there is none.

    Fisher scoring needs about ten steps of exact derivatives where Minuit builds its Hessian from a hundred calls. The covariance is the
    inverse Fisher information, as in the fits of toys: Minuit's own comes from finite differences and is off by some per cent for these
    correlated parameters.
    """
    design, y = objective.fitted, objective.counts[:, None]
    first = design.start(y)[0] if start is None else np.pad(start, (0, design.n_parameters - len(start)))
    if design.log_linear:
        scored, solved = score(y, design, None if start is None else start[None])
        theta = scored[0] if solved[0] else None
    else:
        theta = _newton(objective, first)
    jitter = np.random.default_rng(12345)
    for attempt in range(1, 5):
        if theta is None:
            first = first + jitter.normal(0.0, 0.1, len(first)) * (np.abs(first) + 0.1)
            theta = _migrad(objective, first, attempt)
    return None if theta is None else _at_minimum(objective, theta)


def _newton(objective: Objective, start: Array) -> Array | None:
    """Coefficients of a polynomial at the minimum; None if there is none.

    The penalised deviance is convex, so Newton's steps end there. Its second derivatives jump where the polynomial touches zero,
    and those that Minuit takes from differences fail.
    """
    slack = np.array([1e-12 * (1.0 + objective.counts.sum())])
    theta, decrement = fisher_scoring(_AsMany(objective), start[None], slack, longest_step=np.inf)
    return np.asarray(theta[0]) if decrement[0] < _UNSOLVED + 10.0 * slack[0] else None


def _migrad(objective: Objective, start: Array, attempt: int) -> Array | None:
    minuit = Minuit(objective, start, grad=objective.gradient)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.strategy = 2
    # counts of 1e9 leave too few digits for the tightest tolerance
    minuit.tol = 10.0 ** min(attempt - 5, -1)
    minuit.print_level = 0
    minuit.migrad(ncall=5000)
    return np.asarray(minuit.values) if minuit.valid and minuit.accurate else None


def _at_minimum(objective: Objective, theta: Array) -> tuple[Array, Array, float]:
    mu, jacobian = objective.fitted.expected(theta[None])
    information = fisher_information(objective.above_floor(mu), jacobian)[0]
    covariance = np.linalg.inv(information + np.diag(objective.fitted.prior))
    penalty = objective.penalty(theta) if objective.fitted.log_linear else 0.0
    return theta, covariance, objective(theta) - penalty
