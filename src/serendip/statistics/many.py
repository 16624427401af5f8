"""Fits of many spectra at once, for toys.

The same maximum-likelihood fit with the same choice of order as :func:`serendip.statistics.fit.fit_spectrum`,
as Fisher scoring in numpy over all toys together: thousands of fits per second. A test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.statistics.fit import FitError, SpectrumFit, check_input, fit_spectrum
from serendip.statistics.functions import BackgroundFamily, Design, get_family, make_design
from serendip.statistics.minimise import fisher_information, score
from serendip.statistics.order import (
    OrderChoice,
    average_weights,
    candidate_members,
    choose_member,
    deviance,
    dispersion,
)

__all__ = ["ManyFits", "fit_many"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ManyFits:
    """Fits of many spectra.

    Attributes
    ----------
    expected
        Shape ``(n_toys, n_bins)``, masked bins included.
    n_parameters
        Of the chosen function (in an average, of the one with the largest weight), shape ``(n_toys,)``.
    window, window_error
        Expected sum over the window and its error, shape ``(n_toys,)``.
    deviance
        Of that function, shape ``(n_toys,)``.
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
    mask: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    scale: float = 1.0,
    alpha: float = 0.05,
    choice: OrderChoice = "lrt",
    window: ArrayLike | None = None,
) -> ManyFits:
    """Fit many spectra on one binning, with the result of :func:`fit_spectrum` for each.

    Parameters
    ----------
    counts
        Shape ``(n_toys, n_bins)``.
    edges, family, mask, offset, scale, alpha, choice
        As in :func:`fit_spectrum`, shared by all spectra.
    window
        True for the bins whose expected sum is asked for, shape ``(n_bins,)``. Default: the masked ones.

    Raises
    ------
    FitError
        If a spectrum has no minimum.
    InputError
        If bins or counts cannot be fitted.
    """
    family = get_family(family) if isinstance(family, str) else family
    edges_, n = np.asarray(edges, dtype=float), np.atleast_2d(np.asarray(counts, dtype=float))
    left_out = np.zeros(n.shape[1], dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    inside = left_out if window is None else np.asarray(window, dtype=bool)
    shape = None if offset is None else np.asarray(offset, dtype=float)
    check_input(n, edges_, left_out, shape, scale, choice)
    if not family.log_linear:
        fits = [
            fit_spectrum(
                row, edges_, family, mask=left_out, offset=shape, scale=scale, alpha=alpha, choice=choice
            )
            for row in n
        ]
        return _gather(fits, inside)
    keep = ~left_out
    y = n[:, keep].T / scale
    filled = y.sum(axis=0) > 0
    designs: list[Design] = []
    parts: list[int] = []
    sizes: list[int] = []
    thetas: list[Array] = []
    deviances: list[Array] = []
    for index, part in enumerate(family.parts):
        design = make_design(edges_, part, shape)
        start: Array | None = None
        for k in candidate_members(part, design, int(keep.sum())):
            p = part.n_parameters[k]
            member = design.bins(keep).order(p)
            if start is None and not member.curved:
                start = _constant(y, member)
            theta, value = np.zeros((y.shape[1], p)), np.zeros(y.shape[1])
            theta[filled], value[filled] = _minimise(
                y[:, filled], member, None if start is None else start[filled], family
            )
            start = theta
            designs.append(design.order(p))
            parts.append(index)
            sizes.append(p)
            thetas.append(theta)
            deviances.append(value)
    noise = None
    if choice == "f-test":
        noise = [
            dispersion(value, design.bins(keep).expected(theta)[0], p)
            for design, p, theta, value in zip(designs, sizes, thetas, deviances, strict=True)
        ]
    # a column for each function and a row for each toy: one 1 in each row, or the weights of an average
    weights = average_weights(deviances, sizes, alpha, parts).T
    if choice == "average":
        chosen = weights.argmax(axis=1)
    else:
        chosen = choose_member(deviances, sizes, alpha, parts, noise)
        weights = np.eye(len(sizes))[chosen]

    n_toys = y.shape[1]
    expected, inner, variance = (
        np.zeros((n_toys, len(left_out))),
        np.zeros((n_toys, len(sizes))),
        np.zeros(n_toys),
    )
    for index, design in enumerate(designs):
        rows = np.flatnonzero((weights[:, index] > 0) & filled)
        if not len(rows):
            continue
        mu, jacobian = design.expected(thetas[index][rows])
        information = fisher_information(mu[keep], jacobian[keep]) + np.diag(design.prior)
        gradient = jacobian[inside].sum(axis=0)
        solved = np.linalg.solve(information, gradient[..., None])[..., 0]
        share = weights[rows, index]
        expected[rows] += share[:, None] * mu.T
        inner[rows, index] = mu[inside].sum(axis=0)
        variance[rows] += share * np.maximum(np.einsum("tp,tp->t", gradient, solved), 0.0)
    apart = inner - expected[:, inside].sum(axis=1)[:, None]
    error = np.sqrt(variance + (weights * apart**2 * filled[:, None]).sum(axis=1))
    if shape is not None:
        error[~filled] = shape[inside].sum() / shape[keep].sum()
    return ManyFits(
        expected=expected * scale,
        n_parameters=np.asarray(sizes)[chosen],
        window=expected[:, inside].sum(axis=1) * scale,
        window_error=error * scale,
        deviance=np.asarray(deviances)[chosen, np.arange(n_toys)],
    )


def _constant(y: Array, design: Design) -> Array:
    """A constant: where the problem is convex, any start ends in the same minimum."""
    start = np.zeros((y.shape[1], design.n_parameters))
    level = np.log(np.maximum(y.sum(axis=0), 1e-3) / design.weights.sum())
    start[:, 0] = level / design.basis[0, 0, 0]
    return start


def _minimise(y: Array, design: Design, start: Array | None, family: BackgroundFamily) -> tuple[Array, Array]:
    """Coefficients and deviances at the minimum for each column of ``y``."""
    theta, solved = score(y, design, start)
    if not np.all(solved):
        raise FitError(
            f"'{family.spec}' with {design.n_parameters} parameters has no minimum for {np.count_nonzero(~solved)} of "
            f"{y.shape[1]} spectra of about {np.median(y.sum(axis=0)):.4g} events; try another background or range"
        )
    return theta, deviance(y, design.expected(theta)[0], axis=0)


def _gather(fits: list[SpectrumFit], window: NDArray[np.bool_]) -> ManyFits:
    gradients = [fit.jacobian[window].sum(axis=0) for fit in fits]
    error = [
        np.sqrt(max(g @ f.coefficient_covariance @ g, 0.0)) for g, f in zip(gradients, fits, strict=True)
    ]
    return ManyFits(
        expected=np.array([fit.expected for fit in fits]),
        n_parameters=np.array([fit.n_parameters for fit in fits]),
        window=np.array([fit.expected[window].sum() for fit in fits]),
        window_error=np.array(error),
        deviance=np.array([fit.deviance for fit in fits]),
    )
