"""Smooth background functions, and their values on a binning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from serendip.errors import InputError

__all__ = ["BackgroundFamily", "Design", "make_design"]

Array = NDArray[np.float64]

_N_NODES = 5
# Strength of the wall for each event: a peak that could be followed bends the function past its limit by less than 1e-2 of it.
_WALL = 10.0

# The slope of a turn-on of width p5 is (rms of the range) / p5: 10 is a range about 35 times as wide as the turn-on.
_TURN_ON_PRIOR_WIDTH = 10.0

# Where its start values are looked for, in units of the range.
_PLACES = (-0.1, -0.03, 0.03, 0.08, 0.13, 0.18, 0.25, 0.33, 0.42, 0.55, 0.7)
_WIDTHS = (0.012, 0.03, 0.08, 0.2, 0.5)


@dataclass(frozen=True)
class BackgroundFamily:
    r"""Nested functions :math:`f_k`, smallest first.

    Log-linear families are :math:`\ln f(m) = \sum_j \theta_j b_j(m)`, times a turn-on
    :math:`\tfrac12(1 + \tanh \sum_{j \in T} \theta_j b_j(m))` if the columns :math:`T` are set apart for it; polynomials
    :math:`f(m) = \sum_j \theta_j b_j(m)`, and sums of positive terms :math:`f(m) = \sum_j e^{\theta_j} b_j(m)`. The first
    ``n_parameters[k]`` columns make member ``k``.

    Attributes
    ----------
    spec
        The name on the command line.
    members
        Names of the functions, smallest first.
    n_parameters
        Their numbers of parameters, normalisation included.
    parameter_names
        Names of all parameters of the largest member.
    columns
        Basis functions: masses of shape ``s`` to an array of shape ``s + (n_parameters[-1],)``.
    log_linear
        True if coefficients are logarithms, so that the function is positive whatever they are; False for polynomials.
    upper
        Masses must lie below this value (``sqrt(s)`` for the dijet functions), in GeV.
    prior_width
        Width of the Gaussian prior on the standardised shape coefficients (logarithms, rms over the range).
        The default keeps fits of a handful of events finite and is otherwise without effect.
    turn_on
        Neighbouring columns that make the argument of the turn-on.
    sum_of_terms
        True if the coefficients are logarithms of the factors of a sum.
    on_range
        Basis functions for a range ``(low, high)`` in GeV, where they depend on it; see :meth:`on`.
    gaps
        Mass intervals ``(low, high)`` in GeV whose bins are excluded from all fits: known resonances.
    limit
        The same family for a range ``(low, high)`` in GeV, without the members that are not smooth there.
    alternatives
        Families whose members are combined here (``auto``). Each is nested; ``members`` names all of them.
    narrowest
        Relative width of the narrowest bump that the functions may have in the middle of the range; 0: any.
    """

    spec: str
    members: tuple[str, ...]
    n_parameters: tuple[int, ...]
    parameter_names: tuple[str, ...]
    columns: Callable[[Array], Array]
    log_linear: bool = True
    upper: float = float("inf")
    prior_width: float = 30.0
    turn_on: tuple[int, ...] = ()
    sum_of_terms: bool = False
    on_range: Callable[[float, float], Callable[[Array], Array]] | None = None
    alternatives: tuple[BackgroundFamily, ...] = ()
    limit: Callable[[float, float], BackgroundFamily] | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    narrowest: float = 0.0

    def hidden(self, edges: Array) -> NDArray[np.bool_]:
        """True for bins that touch a gap, shape ``(n_bins,)``."""
        out = np.zeros(len(edges) - 1, dtype=bool)
        for low, high in self.gaps:
            out |= (edges[1:] > low) & (edges[:-1] < high)
        return out

    @property
    def curved(self) -> bool:
        """Whether the likelihood may have more than one valley, or flat ends."""
        return self.sum_of_terms or bool(self.turn_on)

    @property
    def parts(self) -> tuple[BackgroundFamily, ...]:
        """Its nested families: itself, unless it has alternatives."""
        return self.alternatives or (self,)

    def part(self, member: str) -> BackgroundFamily:
        """The nested family of a member."""
        return next(part for part in self.parts if member in part.members)

    def only(self, member: str) -> BackgroundFamily:
        """The family of one function."""
        part = self.part(member)
        k = part.members.index(member)
        return replace(part, members=(member,), n_parameters=(part.n_parameters[k],))

    def on(self, edges: Array) -> BackgroundFamily:
        """The family for a fit range: the same unless its basis functions depend on the range."""
        if self.limit is not None:
            return replace(self.limit(float(edges[0]), float(edges[-1])), limit=None, gaps=self.gaps).on(
                edges
            )
        if self.alternatives:
            return replace(self, alternatives=tuple(part.on(edges) for part in self.alternatives))
        if self.on_range is None:
            return self
        return replace(self, columns=self.on_range(float(edges[0]), float(edges[-1])))

    def value(self, mass: Array, params: Array) -> Array:
        """Density in events per GeV at masses of any shape, for parameters in this family's own form."""
        columns = self.columns(np.asarray(mass, dtype=float))[..., : len(params)]
        if self.sum_of_terms:
            return np.asarray(columns @ np.exp(params))
        if self.turn_on:
            on = list(self.turn_on)
            rest = np.setdiff1d(np.arange(len(params)), on)
            log_value = columns[..., rest] @ params[rest]
            return np.asarray(np.exp(log_value + special.log_expit(2.0 * (columns[..., on] @ params[on]))))
        linear = columns @ params
        return np.exp(linear) if self.log_linear else np.asarray(linear)


@dataclass(frozen=True)
class Design:
    """A family on a binning, with basis columns made orthonormal over the bin centres.

    Bin integrals are five-point Gauss-Legendre sums: exact to about 1e-12 for bins of a few per cent, where
    the value at the bin centre is wrong by ``n (n+1) / 24 (w/m)^2`` for ``m^-n``.

    Attributes
    ----------
    weights
        Integration weights times offset, shape ``(n_bins, 5)``.
    basis
        Standardised basis at the nodes, shape ``(n_bins, 5, p)``.
    to_params
        Standardised coefficients to the family's own parameters, shape ``(p, p)``, upper triangular.
    prior
        Precision of the prior on each coefficient, shape ``(p,)``; zero for the normalisation.
    log_linear, turn_on, sum_of_terms
        See :class:`BackgroundFamily`.
    bend
        Of functions that may not bend freely: the curvature in the middle of the range, in units of the limit, is this times the
        coefficients, shape ``(p,)``, and not below -1.
    """

    weights: Array
    basis: Array
    to_params: Array
    prior: Array
    log_linear: bool
    turn_on: tuple[int, ...] = ()
    sum_of_terms: bool = False
    bend: Array | None = None

    @property
    def n_parameters(self) -> int:
        """Number of parameters, normalisation included."""
        return int(self.basis.shape[-1])

    def order(self, n_parameters: int) -> Design:
        """The member with the first ``n_parameters`` columns."""
        p = n_parameters
        bend = None if self.bend is None else self.bend[:p]
        return replace(
            self,
            basis=self.basis[..., :p],
            to_params=self.to_params[:p, :p],
            prior=self.prior[:p],
            bend=bend,
        )

    def too_bent(self, theta: Array, total: Array) -> tuple[Array, Array]:
        r"""How a fit is kept from bending faster than it may: a wall that grows with the events.

        .. math:: P = \lambda\, n\, v^2, \qquad v = \min\bigl(0, 1 + \beta^T \theta\bigr)

        Parameters
        ----------
        theta
            Standardised coefficients, shape ``(n_toys, p)``.
        total
            Counts ``n`` of each spectrum, shape ``(n_toys,)``.

        Returns
        -------
        excess
            :math:`v`, shape ``(n_toys,)``; 0 where the function may be as it is.
        strength
            :math:`\lambda n`, shape ``(n_toys,)``; 0 there.
        """
        if self.bend is None:
            return np.zeros(len(theta)), np.zeros(len(theta))
        excess = np.minimum(0.0, 1.0 + theta @ self.bend)
        return excess, np.where(excess < 0, _WALL * np.maximum(total, 1.0), 0.0)

    def bins(self, keep: NDArray[np.bool_]) -> Design:
        """The same function on some of the bins."""
        return replace(self, weights=self.weights[keep], basis=self.basis[keep])

    def expected(self, theta: Array) -> tuple[Array, Array]:
        """Expected counts and their derivatives for many coefficient vectors at once.

        Parameters
        ----------
        theta
            Standardised coefficients, shape ``(n_toys, p)``.

        Returns
        -------
        expected
            Shape ``(n_bins, n_toys)``.
        jacobian
            Derivatives by the coefficients, shape ``(n_bins, n_toys, p)``.
        """
        if self.sum_of_terms:
            factors = np.exp(np.clip(theta, -700.0, 700.0))
            linear = self._linear()
            return linear @ factors.T, linear[:, None, :] * factors
        if not self.log_linear:
            linear = self._linear()
            return linear @ theta.T, np.broadcast_to(linear[:, None, :], (len(linear), *theta.shape))
        if self.turn_on:
            return self._expected_with_turn_on(theta)
        value = self._at_nodes(theta)
        # a matrix product with ones sums a short axis faster than a reduction does
        return value @ np.ones(value.shape[2]), value @ self.basis

    def counts(self, theta: Array) -> Array:
        """Expected counts alone, shape ``(n_bins, n_toys)``."""
        if self.curved or not self.log_linear:
            return self.expected(theta)[0]
        value = self._at_nodes(theta)
        return np.asarray(value @ np.ones(value.shape[2]))

    def _at_nodes(self, theta: Array) -> Array:
        """Expected counts at the nodes of a log-linear function, shape ``(n_bins, n_toys, nodes)``."""
        value = np.asarray(theta @ self.basis.transpose(0, 2, 1))
        np.clip(value, -700.0, 700.0, out=value)
        np.exp(value, out=value)
        value *= self.weights[:, None, :]
        return value

    def _turn_on_parts(self, theta: Array) -> tuple[Array, Array]:
        """Argument of the turn-on, and the expected counts at the nodes, shapes ``(n_bins, n_toys, 5)``."""
        on = list(self.turn_on)
        rest = np.setdiff1d(np.arange(theta.shape[1]), on)
        u = theta[:, on] @ self.basis[..., on].transpose(0, 2, 1)
        exponent = theta[:, rest] @ self.basis[..., rest].transpose(0, 2, 1) + special.log_expit(2.0 * u)
        return u, np.exp(np.clip(exponent, -700.0, 700.0)) * self.weights[:, None, :]

    def _expected_with_turn_on(self, theta: Array) -> tuple[Array, Array]:
        on = list(self.turn_on)
        u, value = self._turn_on_parts(theta)
        jacobian = value @ self.basis
        # d ln [(1 + tanh u) / 2] / du = 1 - tanh u, without the cancellation
        jacobian[..., on] = (value * 2.0 * special.expit(-2.0 * u)) @ self.basis[..., on]
        return value.sum(axis=2), jacobian

    def curvature(self, theta: Array, factor: Array) -> Array:
        """Sum over bins of ``factor`` times the second derivatives of the expected counts, for curved functions.

        Parameters
        ----------
        theta
            Standardised coefficients, shape ``(n_toys, p)``.
        factor
            Shape ``(n_bins, n_toys)``.

        Returns
        -------
        second
            Shape ``(n_toys, p, p)``.
        """
        if self.sum_of_terms:
            diagonal = np.exp(np.clip(theta, -700.0, 700.0)) * (factor.T @ self._linear())
            return np.asarray(diagonal[:, :, None] * np.eye(theta.shape[1]))
        on = list(self.turn_on)
        u, value = self._turn_on_parts(theta)
        value *= factor[..., None]
        slope = np.repeat(self.basis[:, None], len(theta), axis=1)
        slope[..., on] *= (2.0 * special.expit(-2.0 * u))[..., None]
        out = np.asarray(np.einsum("ntg,ntgp,ntgq->tpq", value, slope, slope, optimize=True))
        bend = value / np.cosh(np.clip(u, -300.0, 300.0)) ** 2
        columns = self.basis[..., on]
        first, last = on[0], on[-1] + 1
        out[:, first:last, first:last] -= np.einsum("ntg,ngp,ngq->tpq", bend, columns, columns, optimize=True)
        return out

    @property
    def curved(self) -> bool:
        """Whether the likelihood may have more than one valley, or flat ends."""
        return self.sum_of_terms or bool(self.turn_on)

    def _linear(self) -> Array:
        """Integrals of the basis over the bins, shape ``(n_bins, p)``."""
        return np.asarray(np.einsum("ng,ngp->np", self.weights, self.basis))

    def start(self, counts: Array) -> Array:
        """Coefficients near the maximum of the likelihood, without iterating to it.

        Parameters
        ----------
        counts
            Poisson-like counts of many spectra, shape ``(n_bins, n_toys)``.

        Returns
        -------
        theta
            Shape ``(n_toys, p)``.
        """
        if self.sum_of_terms:
            return self._start_sum(counts)
        if self.turn_on:
            return self._start_turn_on(counts)
        mass_weight = self.weights.sum(axis=1)
        centre = self._linear() / mass_weight[:, None]
        out = np.empty((counts.shape[1], self.n_parameters))
        for t, n in enumerate(counts.T):
            value = n + 0.5 if self.log_linear else n
            weight = np.sqrt(value) if self.log_linear else mass_weight / np.sqrt(n + 1.0)
            target = np.log(value / mass_weight) if self.log_linear else n / mass_weight
            out[t] = np.linalg.lstsq(centre * weight[:, None], target * weight, rcond=None)[0]
        return out

    def _start_sum(self, counts: Array) -> Array:
        """Some steps of expectation maximisation from equal terms."""
        linear = self._linear()
        norm = linear.sum(axis=0)
        total = np.maximum(counts.sum(axis=0), 1e-3)
        factors = np.repeat(total[:, None] / norm.sum(), self.n_parameters, axis=1)
        for _ in range(30):
            factors *= (counts / (linear @ factors.T)).T @ linear / norm
            factors = np.maximum(factors, 1e-6 * total[:, None] / norm)
        return np.asarray(np.log(factors))

    def _start_turn_on(self, counts: Array) -> Array:
        """Search place and width of the turn-on; the rest is linear in the logarithm of the counts."""
        on = list(self.turn_on)
        rest = np.setdiff1d(np.arange(self.n_parameters), on)
        rising = np.sign(self.to_params[on[1], on[1]])
        s = self.basis[:, 2, on[1]] * rising
        span = s.max() - s.min()
        value = (counts + 0.5).T
        target = np.log(value) - np.log(self.weights.sum(axis=1))
        columns = self.basis[:, 2][:, rest]
        weighted = value[..., None] * columns
        solve = np.linalg.inv(np.einsum("tnp,nq->tpq", weighted, columns) + np.diag(self.prior[rest] + 1e-9))
        best, lowest = np.zeros((len(value), self.n_parameters)), np.full(len(value), np.inf)
        best_place, best_slope = np.zeros(len(value)), np.zeros(len(value))

        def attempt(place: Array, slope: Array) -> None:
            u = slope[:, None] * (s - place[:, None])
            right = np.einsum("tnp,tn->tp", weighted, target - special.log_expit(2.0 * u))
            theta = np.zeros_like(best)
            theta[:, on[0]], theta[:, on[1]] = -place * slope / self.basis[0, 2, on[0]], slope * rising
            theta[:, rest] = np.einsum("tpq,tq->tp", solve, right)
            mu, _ = self.expected(theta)
            now = special.kl_div(counts, mu).sum(axis=0) + 0.5 * theta**2 @ self.prior
            better = now < lowest
            best[better], lowest[better] = theta[better], now[better]
            best_place[better], best_slope[better] = place[better], slope[better]

        every = np.ones(len(value))
        attempt(0.0 * every, 0.0 * every)
        for place in s.min() + span * np.array(_PLACES):
            for width in span * np.array(_WIDTHS):
                attempt(place * every, every / width)
        for fraction in (0.5, 0.25, 0.12):
            place, slope = best_place.copy(), best_slope.copy()
            shift = fraction * np.minimum(0.1 * span, 1.0 / np.maximum(slope, 1e-9))
            for sideways in (-1.0, 0.0, 1.0):
                for stretch in (-1.0, 0.0, 1.0):
                    attempt(place + sideways * shift, slope * (1.0 + fraction) ** stretch)
        return best


def make_design(
    edges: Array, family: BackgroundFamily, offset: Array | None = None, n_nodes: int = _N_NODES
) -> Design:
    """Put a family on a binning.

    Parameters
    ----------
    edges
        Bin edges in GeV, shape ``(n_bins + 1,)``, rising.
    family
        The functions.
    offset
        Expected shape that multiplies the function, shape ``(n_bins,)``. Each bin is then
        ``offset * mean of the function over the bin``; otherwise it is the integral of the function.
    n_nodes
        Nodes of the integration over each bin.

    Raises
    ------
    InputError
        If a bin lies outside the range of the functions.
    """
    edges = np.asarray(edges, dtype=float)
    if np.any(np.diff(edges) <= 0) or not np.all(np.isfinite(edges)):
        raise InputError("bin edges must be finite and rising")
    if edges[0] <= 0 or edges[-1] >= family.upper:
        raise InputError(
            f"the background '{family.spec}' is defined between 0 and {family.upper:g} GeV, but the fit "
            f"range is {edges[0]:g} to {edges[-1]:g} GeV; check the mass unit and the centre-of-mass energy"
        )
    family = family.on(edges)
    nodes, node_weights = np.polynomial.legendre.leggauss(n_nodes)
    half = 0.5 * np.diff(edges)
    centre = 0.5 * (edges[1:] + edges[:-1])
    columns = family.columns(centre[:, None] + half[:, None] * nodes)
    p = min(columns.shape[-1], len(centre))
    to_params = np.eye(p)
    if not family.sum_of_terms:
        to_params = _standardise(family.columns(centre)[:, :p], family.turn_on)
        p = len(to_params)
    weights = (half if offset is None else 0.5 * np.asarray(offset))[:, None] * node_weights
    # a polynomial is linear in its coefficients and needs no prior
    prior = np.full(p, family.prior_width**-2.0 if family.log_linear else 0.0)
    prior[0] = prior[0] if family.sum_of_terms else 0.0
    turn_on = tuple(j for j in family.turn_on if j < p)
    prior[list(turn_on)] = _TURN_ON_PRIOR_WIDTH**-2.0
    basis = columns[..., :p] @ to_params
    bend = None
    if family.narrowest:
        # second differences by ln m: exact for a parabola
        middle, step = 0.5 * np.log(edges[0] * edges[-1]), 0.25 * np.log(edges[-1] / edges[0])
        three = family.columns(np.exp(middle + step * np.array([-1.0, 0.0, 1.0])))[:, :p]
        bend = (np.array([1.0, -2.0, 1.0]) @ three / step**2) @ to_params * family.narrowest**2
    return Design(weights, basis, to_params, prior, family.log_linear, turn_on, family.sum_of_terms, bend)


def _standardise(columns: Array, turn_on: tuple[int, ...]) -> Array:
    """Triangular matrix that makes the columns orthonormal, those of the turn-on among themselves.

    Columns beyond the numerical rank (tiny bins or ranges) cannot be distinguished from lower ones and are dropped.
    """
    n, p = columns.shape
    on = [j for j in turn_on if j < p]
    out = np.zeros((p, p))
    rank = p
    for block in (np.setdiff1d(np.arange(p), on), np.array(on, dtype=int)):
        if not len(block):
            continue
        _, triangle = np.linalg.qr(columns[:, block])
        diagonal = np.abs(np.diag(triangle))
        small = diagonal < 1e-12 * diagonal[0]
        good = int(np.argmax(small)) if np.any(small) else len(block)
        rank = min(rank, int(block[good])) if good < len(block) else rank
        inverse = np.linalg.inv(triangle[:good, :good]) * np.sqrt(n) * np.sign(triangle[0, 0])
        out[np.ix_(block[:good], block[:good])] = inverse
    return out[:rank, :rank]
