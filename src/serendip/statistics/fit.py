"""Binned Poisson fit of a smooth spectrum, with the choice of its function.

For thousands of spectra at once (toys) see :mod:`serendip.statistics.many`.

Weighted events: counts divided by ``scale = sum(w^2)/sum(w)`` behave like Poisson counts (Bohm and Zech,
1309.1287), so that doubling every weight doubles the expectation and leaves every p-value as it was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from serendip.errors import InputError, SerendipError
from serendip.statistics.functions import BackgroundFamily, Design, get_family, make_design
from serendip.statistics.minimise import Objective, fisher_information, minimise
from serendip.statistics.order import (
    OrderChoice,
    average_weights,
    candidate_members,
    choose_member,
    choose_order,
    deviance,
    deviance_p_value,
    dispersion,
    improvement_p_value,
)

__all__ = [
    "Closure",
    "FitError",
    "OrderChoice",
    "SpectrumFit",
    "TriedFunction",
    "average_curves",
    "candidate_members",
    "check_choice",
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
    """One function of the family: its deviance, the p-value of the test against the one before, its weight in an average."""

    name: str
    n_parameters: int
    deviance: float
    p: float | None
    weight: float | None = None


@dataclass(frozen=True)
class Closure:
    r"""Closure of a fit in shifted windows (:mod:`~serendip.statistics.closure`).

    Attributes
    ----------
    pulls
        :math:`(n_j - b_j) / \sqrt{b_j + \\sigma_j^2}` of each shifted window.
    p
        p-value of their sum of squares.
    relative_error
        Relative error :math:`\tau` that was added to the prediction in the window; zero while ``p`` is above 0.1.
    """

    pulls: tuple[float, ...]
    p: float
    relative_error: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """A fitted spectrum. Counts and expectations are in units of event weight.

    Attributes
    ----------
    family
        The functions it was chosen from.
    function
        Name of the chosen function; in an average, of the one with the largest weight.
    n_parameters
        Its parameters, normalisation included.
    params, covariance
        In the family's own form (see :func:`get_family`), for events per GeV; shapes ``(p,)``, ``(p, p)``.
    edges, counts, mask, offset, scale
        The input; ``mask`` is True in the window, which is excluded from the fit.
    expected, expected_error
        Per bin, masked ones included, shape ``(n_bins,)``.
    jacobian, coefficient_covariance
        Derivatives of ``expected`` by standardised coefficients, shape ``(n_bins, p)``, and the covariance of these. In an
        average every function has columns of its own, and one more for its distance from the average.
    coefficients
        The coefficients (numerically well behaved) of ``function``.
    deviance, n_dof, gof_p
        Baker-Cousins deviance over the fitted bins, degrees of freedom, and its p-value from the exact
        Poisson moments of the deviance, so that sparse bins do not distort it.
    tried
        All orders that were fitted.
    alpha, choice
        How the order was chosen, see :func:`fit_spectrum`.
    noise_ratio
        By how much the variance of the expectation in the mask is larger than that of Poisson counts of the same scale.
    closure
        Closure in shifted windows, where it was tested (:func:`~serendip.statistics.closure.with_closure`).
    turn_on_spread
        Relative difference to functions with a turn-on in the window, where they matter (:func:`~serendip.statistics.closure.with_alternatives`).
    kink_weight
        Weight of functions with a kink in the window, if they are included (:func:`~serendip.statistics.kinks.with_kinks`).
    rough_spread
        Relative difference to functions that bend faster in the window, where they describe the sidebands better (:func:`~serendip.statistics.closure.with_alternatives`).
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
    alpha: float = 0.05
    choice: OrderChoice = "lrt"
    noise_ratio: float = 1.0
    closure: Closure | None = None
    turn_on_spread: float = 0.0
    kink_weight: float = 0.0
    rough_spread: float = 0.0

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Bins that the fit saw: outside of the window and of the family's gaps."""
        return ~self.mask & ~self.family.hidden(self.edges)

    @property
    def averaged(self) -> bool:
        """Whether more than one order contributes to the expectation."""
        return self.choice == "average" and len(self.tried) > 1

    @property
    def effective_number(self) -> float:
        """Events of equal weight that fix the function as well: fitted counts over ``scale``."""
        return float(self.counts[~self.mask].sum()) / self.scale

    @property
    def name(self) -> str:
        """Description of the fit."""
        return f"average of functions around {self.function}" if self.averaged else self.function

    def window(self, low_bin: int, high_bin: int) -> tuple[float, float]:
        """Expected sum of the bins ``low_bin <= i < high_bin`` and its error from the full covariance."""
        gradient = self.jacobian[low_bin:high_bin].sum(axis=0)
        b = float(self.expected[low_bin:high_bin].sum())
        if b == 0.0 and self.offset is not None:
            # nothing was selected: the error is that of a single selected event
            fitted = float(self.offset[self.kept].sum())
            return 0.0, self.scale * float(self.offset[low_bin:high_bin].sum()) / fitted
        return b, float(np.sqrt(max(gradient @ self.coefficient_covariance @ gradient, 0.0)))

    def density(self, mass: ArrayLike) -> Array:
        """Density of ``function`` in events per GeV (without offset), shape of ``mass``."""
        return self.family.part(self.function).value(np.asarray(mass, dtype=float), self.params)

    def sample(self, n: int, low: float, high: float, rng: np.random.Generator) -> Array:
        """Masses drawn from that density between two values in GeV, shape ``(n,)``."""
        grid = np.linspace(low, high, 2001)
        density = np.maximum(self.density(grid), 0.0)
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        return np.asarray(np.interp(rng.random(n) * cumulative[-1], cumulative, grid))

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers for JSON; None replaces values that are not finite (an empty selection)."""
        names = self.family.parameter_names
        return {
            "function": self.function,
            "averaged": self.averaged,
            "n_parameters": self.n_parameters,
            "parameters": {name: _finite(value) for name, value in zip(names, self.params, strict=False)},
            "deviance": self.deviance,
            "n_dof": self.n_dof,
            "gof_p": _finite(self.gof_p),
            "tried": [vars(function).copy() for function in self.tried],
            "closure": None if self.closure is None else self.closure.to_dict(),
            "turn_on_spread": self.turn_on_spread,
            "kink_weight": self.kink_weight,
            "rough_spread": self.rough_spread,
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def check_choice(name: str) -> OrderChoice:
    """The way to treat the orders of a function, by its name; InputError lists the names."""
    if name not in get_args(OrderChoice):
        raise InputError(
            f"unknown choice '{name}' of the order; expected one of: {', '.join(get_args(OrderChoice))}"
        )
    return cast(OrderChoice, name)


def check_input(
    counts: Array,
    edges: Array,
    mask: NDArray[np.bool_],
    offset: Array | None,
    scale: float,
    choice: OrderChoice,
) -> None:
    """Stop at shapes, counts, offsets or scales that cannot be fitted."""
    if counts.shape[-1] != len(edges) - 1 or mask.shape not in ((len(edges) - 1,), counts.shape):
        msg = f"{counts.shape[-1]} counts and {mask.shape} mask for {len(edges) - 1} bins"
        raise ValueError(msg)
    if not np.all(np.isfinite(counts)) or np.any(counts < 0):
        raise InputError("counts must be finite and not negative")
    if offset is not None and not np.all(np.asarray(offset) > 0):
        raise InputError("the inclusive expectation must be positive in every bin")
    if not (np.isfinite(scale) and scale > 0):
        msg = f"scale must be positive, not {scale}"
        raise ValueError(msg)
    check_choice(choice)
    if np.any(np.all(mask, axis=-1)):
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
    choice: OrderChoice = "lrt",
    noise: ArrayLike | None = None,
) -> SpectrumFit:
    r"""Fit a binned spectrum by maximum Poisson likelihood and choose the order of the function, or average over orders.

    An order that a test has chosen is not the true one, and its error does not know: counts in a window then fluctuate more
    than they should. The average :math:`b = \sum_k w_k b_k` has an error that does,
    :math:`\sigma^2 = \sum_k w_k [\sigma_k^2 + (b_k - b)^2]`.

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
        The smallest order is taken that no larger one improves on at this level. An average ends one order above it.
    choice
        Test of an improvement: ``"lrt"``, the likelihood-ratio test, or ``"f-test"``, which measures it in units of the
        deviance per degree of freedom of the larger function. The F-test takes fewer parameters where none of the
        functions describes the spectrum. ``"average"``: orders up to one above that of the likelihood-ratio test, with the weights of
        :func:`~serendip.statistics.order.average_weights`.
    noise
        Covariance :math:`V` of the counts outside the mask, shape ``(n_bins, n_bins)``
        (:func:`~serendip.statistics.compound.bin_noise`), if it is not ``scale`` times the counts: weights that differ, groups that
        spread over bins. With the derivatives :math:`a_i` of the expectation in the mask by the counts, its variance is
        multiplied by :math:`R = a^T V a / (s \sum_i a_i^2 n_i)`, if that is above one.

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
    check_input(n, edges_, left_out, shape, scale, choice)
    family = family.on(edges_)
    designs = [make_design(edges_, part, shape) for part in family.parts]
    keep = ~left_out & ~family.hidden(edges_)
    if not keep.any():
        raise InputError("no bin is left to fit: the window and the masks cover the whole fit range")
    y = n[keep] / scale

    if not np.any(y):
        p = family.n_parameters[0]
        nothing, zeros = np.zeros(len(n)), np.zeros((p, p))
        empty = np.zeros(p)
        empty[: p if family.sum_of_terms else 1] = -np.inf if family.log_linear else 0.0
        return SpectrumFit(
            family=family, function=family.members[0], n_parameters=p, params=empty, covariance=zeros,
            edges=edges_, counts=n, mask=left_out, offset=shape, scale=scale,
            expected=nothing, expected_error=nothing, jacobian=np.zeros((len(n), p)),
            coefficients=empty, coefficient_covariance=zeros,
            deviance=0.0, n_dof=int(keep.sum()) - p, gof_p=1.0, alpha=alpha, choice=choice,
        )  # fmt: skip

    names: list[str] = []
    parts: list[int] = []
    sizes: list[int] = []
    results: list[tuple[Array, Array, float]] = []
    for index, (part, design) in enumerate(zip(family.parts, designs, strict=True)):
        start: Array | None = None
        for k in candidate_members(part, design, int(keep.sum())):
            p = part.n_parameters[k]
            minimum = minimise(Objective(y, design.bins(keep).order(p), design.order(p)), start)
            if minimum is not None:
                names.append(part.members[k])
                parts.append(index)
                sizes.append(p)
                results.append(minimum)
                start = minimum[0]
    if not results:
        raise FitError(
            f"no function of '{family.spec}' could be fitted to {n[keep].sum():g} events "
            f"in {int(keep.sum())} bins between {edges_[0]:g} and {edges_[-1]:g} GeV; try another "
            "background or range"
        )
    dispersions: list[tuple[Array, Array]] | None = None
    if choice == "f-test":
        dispersions = [
            dispersion(np.array([value]), designs[part].bins(keep).order(p).expected(theta[None])[0], p)
            for part, p, (theta, _, value) in zip(parts, sizes, results, strict=True)
        ]
    deviances = [np.array([value]) for _, _, value in results]
    averaged = choice == "average"
    weights = average_weights(deviances, sizes, alpha, parts)[:, 0]
    best = (
        int(weights.argmax())
        if averaged
        else int(choose_member(deviances, sizes, alpha, parts, dispersions)[0])
    )
    tried = []
    for i, (_, _, value) in enumerate(results):
        p_value = None
        if i and parts[i] == parts[i - 1]:
            gain, more = np.array([results[i - 1][2] - value]), sizes[i] - sizes[i - 1]
            p_value = float(
                improvement_p_value(gain, more, None if dispersions is None else dispersions[i])[0]
            )
        tried.append(
            TriedFunction(names[i], sizes[i], value, p_value, float(weights[i]) if averaged else None)
        )
    theta, covariance, value = results[best]
    chosen = designs[parts[best]].order(sizes[best])
    mu, jacobian = _curve(chosen, theta)
    gof_p = deviance_p_value(value, mu[keep], sizes[best])
    spread = covariance
    if averaged:
        used = [i for i, w in enumerate(weights) if w > 0]
        curves = [_curve(designs[parts[i]].order(sizes[i]), results[i][0]) for i in used]
        mu, jacobian, spread = average_curves(curves, [results[i][1] for i in used], weights[used])
    ratio = 1.0
    if noise is not None and left_out.any():
        ratio = _excess_noise(
            *_curve(chosen, theta), covariance, left_out, keep, n, np.asarray(noise) / scale
        )
        covariance, spread = covariance * ratio, spread * ratio
    params, to_params = chosen.to_params @ theta, chosen.to_params
    if family.log_linear:
        params[: len(params) if family.sum_of_terms else 1] += np.log(scale)
    else:
        params, to_params = params * scale, to_params * scale
    error = np.sqrt(np.maximum(np.einsum("ip,pq,iq->i", jacobian, spread, jacobian), 0.0))
    return SpectrumFit(
        family=family, function=names[best], n_parameters=sizes[best],
        params=params, covariance=to_params @ covariance @ to_params.T,
        edges=edges_, counts=n, mask=left_out, offset=shape, scale=scale,
        expected=mu * scale, expected_error=error * scale, jacobian=jacobian * scale,
        coefficients=theta, coefficient_covariance=spread,
        deviance=value, n_dof=int(keep.sum()) - sizes[best],
        gof_p=gof_p, tried=tuple(tried), alpha=alpha, choice=choice, noise_ratio=ratio,
    )  # fmt: skip


def _excess_noise(
    mu: Array,
    jacobian: Array,
    covariance: Array,
    mask: NDArray[np.bool_],
    keep: NDArray[np.bool_],
    counts: Array,
    noise: Array,
) -> float:
    """By how much the variance of the expected count in the mask is larger than that of Poisson counts, at least one."""
    # an event in bin i moves the expectation by this much
    lever = jacobian[keep] @ covariance @ jacobian[mask].sum(axis=0) / np.maximum(mu[keep], 1e-300)
    poisson = float(lever**2 @ counts[keep])
    return max(float(lever @ noise[np.ix_(keep, keep)] @ lever) / poisson, 1.0) if poisson > 0 else 1.0


def _curve(design: Design, theta: Array) -> tuple[Array, Array]:
    """Expectation and its derivatives, shapes ``(n_bins,)`` and ``(n_bins, p)``."""
    mu, jacobian = (a[:, 0] for a in design.expected(theta[None]))
    return np.maximum(mu, 0.0), jacobian


def average_curves(
    curves: list[tuple[Array, Array]], covariances: list[Array], weights: Array
) -> tuple[Array, Array, Array]:
    r"""Average :math:`b = \sum_k w_k b_k` of curves, and the directions and their covariance that span its error.

    Parameters
    ----------
    curves
        Expectation and derivatives by the coefficients of each, shapes ``(n_bins,)`` and ``(n_bins, p_k)``.
    covariances
        Of the coefficients, shapes ``(p_k, p_k)``.
    weights
        They sum to one.

    Returns
    -------
    expected, jacobian, covariance
        Shapes ``(n_bins,)``, ``(n_bins, q)`` and ``(q, q)``, :math:`q = \sum_k (p_k + 1)`: each curve has one more direction, towards
        the average. :math:`\sigma^2 = \sum_k w_k [\sigma_k^2 + (b_k - b)^2]`.
    """
    mu = np.asarray(sum(w * curve for w, (curve, _) in zip(weights, curves, strict=True)))
    columns, blocks = [], []
    for w, (curve, jacobian), covariance in zip(weights, curves, covariances, strict=True):
        columns += [jacobian, (curve - mu)[:, None]]
        blocks += [w * covariance, np.array([[w]])]
    return mu, np.hstack(columns), np.asarray(linalg.block_diag(*blocks))
