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

__all__ = ["ManyFits", "MemberFits", "fit_many", "fit_members"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MemberFits:
    """Many spectra fitted with one function of a family: its design on all bins, the coefficients, and the deviances.

    ``part`` counts the nested families of an ``auto``; ``theta`` has the shape ``(n_toys, n_parameters)``.
    """

    design: Design
    part: int
    theta: Array
    deviance: Array

    @property
    def n_parameters(self) -> int:
        """Number of parameters, normalisation included."""
        return self.design.n_parameters


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
    n_nodes: int = 5,
) -> ManyFits:
    """Fit many spectra on one binning, with the result of :func:`fit_spectrum` for each.

    Parameters
    ----------
    counts
        Shape ``(n_toys, n_bins)``.
    edges, family, offset, scale, alpha, choice
        As in :func:`fit_spectrum`, shared by all spectra.
    mask
        True for bins that are left out: of all spectra, shape ``(n_bins,)``, or of each, shape ``(n_toys, n_bins)``.
    window
        True for the bins whose expected sum is requested, shape of the mask. Default: the masked ones.
    n_nodes
        Nodes of the integration over each bin; two are enough for bins of a few per cent.

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
        masks = np.broadcast_to(left_out, n.shape)
        fits = [
            fit_spectrum(row, edges_, family, mask=own, offset=shape, scale=scale, alpha=alpha, choice=choice)
            for row, own in zip(n, masks, strict=True)
        ]
        return _gather(fits, np.broadcast_to(inside, n.shape))
    if left_out.ndim == 2 and (choice == "f-test" or any(part.curved for part in family.parts)):
        return _by_mask(n, edges_, family, left_out, inside, shape, scale, alpha, choice, n_nodes)
    keep = ~left_out & ~family.hidden(edges_)
    n_fitted = int(keep.sum(axis=-1).min())
    # bins that some spectra keep and some exclude are kept without weight
    each = keep.T if keep.ndim == 2 else None
    used = np.ones(n.shape[1], dtype=bool) if each is not None else keep
    y = n[:, used].T / scale
    if each is not None:
        y = np.where(each, y, 0.0)
    filled = y.sum(axis=0) > 0
    members = fit_members(y, edges_, family, each if each is not None else keep, n_fitted, shape, n_nodes)
    designs, parts, sizes, thetas, deviances = (
        [member.design for member in members],
        [member.part for member in members],
        [member.n_parameters for member in members],
        [member.theta for member in members],
        [member.deviance for member in members],
    )
    noise = None
    if choice == "f-test":
        noise = [
            dispersion(value, design.bins(used).expected(theta)[0], p)
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
    region = np.broadcast_to(inside, n.shape)
    expected, inner, variance = (
        np.zeros(n.shape),
        np.zeros((n_toys, len(sizes))),
        np.zeros(n_toys),
    )
    for index, design in enumerate(designs):
        rows = np.flatnonzero((weights[:, index] > 0) & filled)
        if not len(rows):
            continue
        mu, jacobian = design.expected(thetas[index][rows])
        known = mu[used] if each is None else np.where(each[:, rows], mu, np.inf)
        information = fisher_information(known, jacobian[used]) + np.diag(design.prior)
        where = region[rows].T
        gradient = np.einsum("nt,ntp->tp", where.astype(float), jacobian)
        solved = np.linalg.solve(information, gradient[..., None])[..., 0]
        share = weights[rows, index]
        expected[rows] += share[:, None] * mu.T
        inner[rows, index] = np.where(where, mu, 0.0).sum(axis=0)
        variance[rows] += share * np.maximum(np.einsum("tp,tp->t", gradient, solved), 0.0)
    total = np.where(region, expected, 0.0).sum(axis=1)
    apart = inner - total[:, None]
    error = np.sqrt(variance + (weights * apart**2 * filled[:, None]).sum(axis=1))
    if shape is not None:
        outside = np.broadcast_to(keep, n.shape)
        empty = (region @ shape) / (outside @ shape)
        error[~filled] = empty[~filled]
    return ManyFits(
        expected=expected * scale,
        n_parameters=np.asarray(sizes)[chosen],
        window=total * scale,
        window_error=error * scale,
        deviance=np.asarray(deviances)[chosen, np.arange(n_toys)],
    )


def fit_members(
    y: Array,
    edges: Array,
    family: BackgroundFamily,
    keep: NDArray[np.bool_],
    n_fitted: int,
    offset: Array | None = None,
    n_nodes: int = 5,
) -> list[MemberFits]:
    """Fit spectra with every function of a family that is positive for any coefficients.

    Parameters
    ----------
    y
        Poisson-like counts: of the kept bins, shape ``(kept, n_toys)``, if all spectra share ``keep``; else of all bins.
    edges, family, offset
        As in :func:`fit_many`.
    keep
        False for bins that are left out, shape ``(n_bins,)`` or of each spectrum, ``(n_bins, n_toys)``.
    n_fitted
        Smallest number of kept bins.
    n_nodes
        Nodes of the integration over each bin.
    """
    each = keep if keep.ndim == 2 else None
    used = np.ones(len(keep), dtype=bool) if each is not None else keep
    filled = y.sum(axis=0) > 0
    out: list[MemberFits] = []
    for index, part in enumerate(family.on(edges).parts):
        design = make_design(edges, part, offset, n_nodes)
        start: Array | None = None
        for k in candidate_members(part, design, n_fitted):
            p = part.n_parameters[k]
            member = design.bins(used).order(p)
            if start is None and not member.curved:
                start = _constant(y, member, each)
            theta, value = np.zeros((y.shape[1], p)), np.zeros(y.shape[1])
            theta[filled], value[filled] = _minimise(
                y[:, filled],
                member,
                None if start is None else start[filled],
                family,
                None if each is None else each[:, filled],
            )
            start = theta
            out.append(MemberFits(design.order(p), index, theta, value))
    return out


def _by_mask(
    n: Array,
    edges: Array,
    family: BackgroundFamily,
    masks: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    offset: Array | None,
    scale: float,
    alpha: float,
    choice: OrderChoice,
    n_nodes: int,
) -> ManyFits:
    """Spectra with equal masks together."""
    region = np.broadcast_to(inside, n.shape)
    both, which = np.unique(np.concatenate([masks, region], axis=1), axis=0, return_inverse=True)
    out: dict[str, Array] = {}
    for k, row in enumerate(both):
        rows = np.flatnonzero(which.ravel() == k)
        part = fit_many(
            n[rows], edges, family, mask=row[: n.shape[1]], window=row[n.shape[1] :], offset=offset, scale=scale,
            alpha=alpha, choice=choice, n_nodes=n_nodes,
        )  # fmt: skip
        for name, value in vars(part).items():
            out.setdefault(name, np.zeros((len(n), *value.shape[1:]), dtype=value.dtype))[rows] = value
    return ManyFits(**out)  # type: ignore[arg-type]


def _constant(y: Array, design: Design, keep: NDArray[np.bool_] | None) -> Array:
    """A constant: where the problem is convex, any start ends in the same minimum."""
    start = np.zeros((y.shape[1], design.n_parameters))
    per_bin = design.weights.sum(axis=1)
    level = np.log(np.maximum(y.sum(axis=0), 1e-3) / (per_bin.sum() if keep is None else per_bin @ keep))
    start[:, 0] = level / design.basis[0, 0, 0]
    return start


def _minimise(
    y: Array, design: Design, start: Array | None, family: BackgroundFamily, keep: NDArray[np.bool_] | None
) -> tuple[Array, Array]:
    """Coefficients and deviances at the minimum for each column of ``y``."""
    theta, solved = score(y, design, start, keep)
    if not np.all(solved):
        raise FitError(
            f"'{family.spec}' with {design.n_parameters} parameters has no minimum for {np.count_nonzero(~solved)} of "
            f"{y.shape[1]} spectra of about {np.median(y.sum(axis=0)):.4g} events; try another background or range"
        )
    mu = design.expected(theta)[0]
    return theta, deviance(y, mu if keep is None else np.where(keep, mu, 0.0), axis=0)


def _gather(fits: list[SpectrumFit], windows: NDArray[np.bool_]) -> ManyFits:
    gradients = [fit.jacobian[window].sum(axis=0) for fit, window in zip(fits, windows, strict=True)]
    error = [
        np.sqrt(max(g @ f.coefficient_covariance @ g, 0.0)) for g, f in zip(gradients, fits, strict=True)
    ]
    return ManyFits(
        expected=np.array([fit.expected for fit in fits]),
        n_parameters=np.array([fit.n_parameters for fit in fits]),
        window=np.array([fit.expected[window].sum() for fit, window in zip(fits, windows, strict=True)]),
        window_error=np.array(error),
        deviance=np.array([fit.deviance for fit in fits]),
    )
