r"""How a dependence of x and y, measured outside A, continues into A.

All validation tables that can be made by moving the cuts below those of A are sums of the cells of one grid, in which each event
is counted once. Without dependence the cells outside A have the expectations

.. math:: \mu^D_{ij} = N_D\, q_i\, p_j, \qquad \mu^B_j = N_B\, p_j, \qquad \mu^C_i = N_C\, q_i, \qquad
    p_j = \frac{D_{\cdot j} + B_j}{N_D + N_B}, \quad q_i = \frac{D_{i \cdot} + C_i}{N_D + N_C}

(maximum likelihood of a table of independent variables whose corner A is not known). A dependence changes them to

.. math:: \mu_{ij} \bigl(1 + a_i + b_j + \lambda_1\, u_i u_j + \lambda_2\, |u_i u_j|^k\bigr),

where u is the normal score :math:`\Phi^{-1}(F)` of the quantile F of x or y, averaged over the bin. The first term describes a correlation (for two normal variables :math:`\lambda_1` is their correlation). The second is for variables that are
independent but in their tails: k is such that it grows by a factor of 2.4 from the bins next to A to A, and at least 2.
Weighted least squares give :math:`\kappa_A - 1 = a_A + b_A + \lambda_1 u_A^2 + \lambda_2 u_A^{2k}` with an error that grows with the
distance to A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from serendip.statistics.abcd.regions import group_squares
from serendip.statistics.pvalues import z_value

__all__ = ["Trend", "fit_trend", "upper_edges"]

Array = NDArray[np.float64]

# bins below a cut, their width in ln(1 - F), and how many events the last one is to have above the other cut
_MAX_BINS = 8
_BIN_STEP = 0.45
_STRIP_EVENTS = 5.0
# growth of the term for tails from the bins next to A to A
_GROWTH = 2.4


@dataclass(frozen=True)
class Trend:
    r"""Result of :func:`fit_trend`.

    Attributes
    ----------
    excess, error
        :math:`\kappa_A - 1`, the relative amount by which :math:`N_B N_C / N_D` is expected to be too small, and its error.
    z
        Significance of a dependence anywhere outside A (both terms together, two-sided), with the sign of ``excess``.
    p_described
        p-value of the fit: small if the two terms cannot describe the cells outside A.
    edges_x, edges_y
        Edges of the grid below the cuts.
    """

    excess: float
    error: float
    z: float
    p_described: float
    edges_x: tuple[float, ...]
    edges_y: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The trend as plain numbers for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }


def upper_edges(values: Array, weights: Array, above: float, predicted: float) -> list[float]:
    """Edges below a cut, at values that equal factors of events lie above.

    Parameters
    ----------
    values, weights
        Of the events of D, shape ``(n,)``.
    above
        Fraction of events at or above the cut, where the other variable is below its cut.
    predicted
        Effective number of events of the strip below this cut and above the other one.
    """
    above = min(max(above, 1e-12), 0.99)
    # the last bin below the cut must not be empty above the other cut
    step = max(_BIN_STEP, float(np.log1p(_STRIP_EVENTS / max(predicted, 1e-9) * (1.0 - above) / above)))
    n_bins = int(np.clip(round(-np.log(above) / step), 2, _MAX_BINS))
    order = np.argsort(values)[::-1]
    sums = np.cumsum(weights[order])
    # of D alone: the part above the cut is missing there
    fractions = (above ** (np.arange(1, n_bins) / n_bins) - above) / (1.0 - above)
    rows = np.searchsorted(sums, fractions * sums[-1], side="left")
    edges = np.unique(values[order][np.minimum(rows, len(order) - 1)])
    return [float(edge) for edge in edges if edge > values.min()]


def _scores(parts: Array, above: float) -> Array:
    """Means of the normal score in the bins below a cut and in the one above it."""
    edges = np.concatenate([[0.0], np.cumsum(parts) * (1.0 - above), [1.0]])
    edges[-2] = 1.0 - above
    density = np.exp(-0.5 * special.ndtri(edges) ** 2) / np.sqrt(2.0 * np.pi)
    return np.asarray(-np.diff(density) / np.diff(edges))


def _power(*scores: Array) -> float:
    """Power of the product of scores that grows by :data:`_GROWTH` from the bins next to A to A."""
    steps = [np.log(u[-1] / u[-2]) if 0 < u[-2] < u[-1] else np.inf for u in scores]
    return max(2.0, float(np.log(_GROWTH) / np.mean(steps)))


def fit_trend(
    x: Array,
    y: Array,
    weights: Array,
    region: NDArray[np.int64],
    edges_x: list[float],
    edges_y: list[float],
    groups: NDArray[np.int64] | None = None,
) -> Trend | None:
    """Fit the dependence of x and y outside A and continue it into A.

    Parameters
    ----------
    x, y, weights, region
        Events outside A, shape ``(n,)`` each; ``region`` is 1, 2, 3 for B, C, D.
    edges_x, edges_y
        Edges of the grid, all below the cuts.
    groups
        Events with the same code depend on each other, shape ``(n,)``.

    Returns
    -------
    Trend
        None if the grid is too coarse or too empty.
    """
    row = np.where(region == 1, len(edges_x) + 1, np.digitize(x, edges_x))
    column = np.where(region == 2, len(edges_y) + 1, np.digitize(y, edges_y))
    shape = (len(edges_x) + 2, len(edges_y) + 2)
    cell = row * shape[1] + column
    n = np.bincount(cell, weights, minlength=shape[0] * shape[1]).reshape(shape)
    b, c, d = n[-1].sum(), n[:, -1].sum(), n[:-1, :-1].sum()
    if min(b, c, d) <= 0:
        return None
    q = n[:-1].sum(axis=1) / (c + d)
    p = n[:, :-1].sum(axis=0) / (b + d)
    if min(q.min(), p.min()) <= 0:
        return None
    expected = np.outer(np.append(q, b / d), np.append(p, c / d)) * d
    scores = _scores(q, b / (b + d)), _scores(p, c / (c + d))
    product = np.outer(*scores)
    terms = [product, np.abs(product) ** _power(*scores)]
    rows, columns = (index.ravel() for index in np.indices(shape))
    nuisance = np.hstack(
        [rows[:, None] == np.arange(shape[0]), columns[:, None] == np.arange(1, shape[1])]
    ).astype(float)
    n_nuisance = nuisance.shape[1]
    known = np.arange(expected.size) < expected.size - 1
    mu, residual = expected.ravel()[known], (n - expected).ravel()[known]
    # a coarse grid may only distinguish one of the terms from shifts of rows and columns
    for used in (terms, terms[1:]):
        # terms of similar size keep the matrix well-conditioned
        design = np.column_stack([nuisance, *(term.ravel() / np.abs(term).max() for term in used)])
        if np.linalg.matrix_rank(design[known]) == design.shape[1]:
            break
    else:
        return None
    information = design[known].T @ (mu[:, None] * design[known])
    covariance = np.linalg.inv(information)
    slope = covariance @ design.T
    beta = slope[:, known] @ residual
    excess = float(design[-1] @ beta)

    # every event pulls on the terms by its cell, and on B C / D by its region
    totals = np.zeros(shape)
    totals[:-1, :-1], totals[-1, :-1], totals[:-1, -1] = -1.0 / d, 1.0 / b, 1.0 / c
    pull_a = (design[-1] @ slope)[known] - totals.ravel()[known]
    pull_terms = slope[n_nuisance:, known]
    scale = group_squares(region, weights, groups)[1:] / np.array([b, c, d])
    of_cell = np.full(shape, scale[2])
    of_cell[-1, :], of_cell[:, -1] = scale[0], scale[1]
    variance = mu * of_cell.ravel()[known]
    events = np.stack([pull_a, *pull_terms])[:, cell] * weights
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1]
        events = np.stack([np.bincount(codes, values) for values in events])
    # cells that are empty by chance have no variance of their own
    error = float(np.sqrt(max(np.sum(events[0] ** 2), np.sum(pull_a**2 * variance))))
    spread = (pull_terms * variance) @ pull_terms.T
    found = beta[n_nuisance:]
    chi2 = float(found @ np.linalg.solve(spread, found))
    rest = residual - mu * (design[known] @ beta)
    free = int(known.sum()) - design.shape[1]
    return Trend(
        excess=excess,
        error=error,
        z=float(np.copysign(z_value(log_p=stats.chi2.logsf(chi2, len(found)) - np.log(2.0)), excess)),
        p_described=float(stats.chi2.sf(np.sum(rest**2 / variance), free)) if free > 0 else 1.0,
        edges_x=tuple(edges_x),
        edges_y=tuple(edges_y),
    )
