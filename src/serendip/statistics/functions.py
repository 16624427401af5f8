"""Smooth background functions and their bin integrals.

Which family to choose:

* ``dijet`` - the dijet functions of ATLAS and CMS in ``x = m / sqrt(s)``; four to six parameters, the number
  chosen by likelihood-ratio tests. ``dijet:N`` fixes it (N = 3 to 6).
* ``exppoly`` - ``exp`` of a polynomial in ``ln m`` (a power law whose exponent runs); degree 3 to 8 chosen by
  tests, ``exppoly:DEGREE`` fixes it. The choice for spectra with a turn-on or when ``sqrt(s)`` means nothing.

The choices start one order above the smallest function: a curvature too small for the test to see but not for
the window would otherwise be counted as an excess (measured in ``docs/statistics.md``).

* ``poly:DEGREE`` - a polynomial in ``m`` kept positive; for slowly varying spectra such as dimuon sidebands.

Every parameter count in this package **includes the normalisation**.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["CHOICES", "BackgroundFamily", "Design", "efficiency_family", "get_family", "make_design"]

Array = NDArray[np.float64]

CHOICES = "dijet, dijet:N (N = 3 to 6), exppoly, exppoly:DEGREE (1 to 8), poly:DEGREE (0 to 8)"

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


@dataclass(frozen=True)
class BackgroundFamily:
    r"""Nested functions :math:`f_k`, smallest first.

    Log-linear families are :math:`\ln f(m) = \sum_j \theta_j b_j(m)`, polynomials
    :math:`f(m) = \sum_j \theta_j b_j(m)`. The first ``n_parameters[k]`` columns make member ``k``.

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
        False for polynomials.
    upper
        Masses must lie below this value (``sqrt(s)`` for the dijet functions), in GeV.
    prior_width
        Width of the Gaussian prior on the standardised shape coefficients (logarithms, rms over the range).
        The default keeps fits of a handful of events finite and is otherwise without effect.
    """

    spec: str
    members: tuple[str, ...]
    n_parameters: tuple[int, ...]
    parameter_names: tuple[str, ...]
    columns: Callable[[Array], Array]
    log_linear: bool = True
    upper: float = float("inf")
    prior_width: float = 30.0

    def value(self, mass: Array, params: Array) -> Array:
        """Density in events per GeV at masses of any shape, for parameters in this family's own form."""
        linear = self.columns(np.asarray(mass, dtype=float))[..., : len(params)] @ params
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
    """

    weights: Array
    basis: Array
    to_params: Array
    prior: Array
    log_linear: bool

    @property
    def n_parameters(self) -> int:
        """Number of parameters, normalisation included."""
        return int(self.basis.shape[-1])

    def order(self, n_parameters: int) -> Design:
        """The member with the first ``n_parameters`` columns."""
        p = n_parameters
        return replace(
            self, basis=self.basis[..., :p], to_params=self.to_params[:p, :p], prior=self.prior[:p]
        )

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
        if not self.log_linear:
            linear = np.einsum("ng,ngp->np", self.weights, self.basis)
            return linear @ theta.T, np.broadcast_to(linear[:, None, :], (len(linear), *theta.shape))
        exponent = theta @ self.basis.transpose(0, 2, 1)
        np.clip(exponent, -700.0, 700.0, out=exponent)
        np.exp(exponent, out=exponent)
        exponent *= self.weights[:, None, :]
        return exponent.sum(axis=2), exponent @ self.basis


def make_design(edges: Array, family: BackgroundFamily, offset: Array | None = None) -> Design:
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
    half = 0.5 * np.diff(edges)
    centre = 0.5 * (edges[1:] + edges[:-1])
    columns = family.columns(centre[:, None] + half[:, None] * _NODES)
    p = min(columns.shape[-1], len(centre))
    columns = columns[..., :p]
    _, triangle = np.linalg.qr(family.columns(centre)[:, :p])
    diagonal = np.abs(np.diag(triangle))
    # columns beyond the numerical rank (tiny bins or ranges) cannot be told apart from lower ones
    p = int(np.argmax(diagonal < 1e-12 * diagonal[0])) if np.any(diagonal < 1e-12 * diagonal[0]) else p
    to_params = np.linalg.inv(triangle[:p, :p]) * np.sqrt(len(centre)) * np.sign(triangle[0, 0])
    weights = half[:, None] * _WEIGHTS if offset is None else np.asarray(offset)[:, None] * 0.5 * _WEIGHTS
    # a polynomial is linear in its coefficients and needs no prior
    prior = np.full(p, family.prior_width**-2.0 if family.log_linear else 0.0)
    prior[0] = 0.0
    return Design(weights, columns[..., :p] @ to_params, to_params, prior, family.log_linear)


def _dijet_columns(mass: Array, sqrt_s: float) -> Array:
    x = mass / sqrt_s
    log_x = np.log(x)
    return np.stack([np.ones_like(x), np.log1p(-x), -log_x, -(log_x**2), -(log_x**3), -x], axis=-1)


def _power_columns(x: Array, n: int) -> Array:
    return np.stack([x**k for k in range(n)], axis=-1)


def _dijet(spec: str, orders: tuple[int, ...], sqrt_s: float) -> BackgroundFamily:
    return BackgroundFamily(
        spec=spec,
        members=tuple(f"dijet-{n}" for n in orders),
        n_parameters=orders,
        parameter_names=("ln p0", "p1", "p2", "p3", "p4", "p5")[: orders[-1]],
        columns=lambda mass: _dijet_columns(mass, sqrt_s)[..., : orders[-1]],
        upper=sqrt_s,
    )


def _polynomial(spec: str, name: str, degrees: tuple[int, ...], *, log: bool) -> BackgroundFamily:
    n = degrees[-1] + 1

    def columns(mass: Array) -> Array:
        return _power_columns(np.log(mass / 1000.0) if log else mass / 1000.0, n)

    return BackgroundFamily(
        spec=spec,
        members=tuple(f"{name}-{degree}" for degree in degrees),
        n_parameters=tuple(degree + 1 for degree in degrees),
        parameter_names=tuple(f"c{k}" for k in range(n)),
        columns=columns,
        log_linear=log,
    )


def efficiency_family(*, smallest: int = 2, largest: int = 3, prior_width: float = 2.0) -> BackgroundFamily:
    """``exp`` of a polynomial in ``ln m`` that multiplies an inclusive spectrum: a selection efficiency.

    The curvature is always fitted: an efficiency with an undetected maximum in the window, which a classifier
    trained to tell the window from its sidebands produces, else looks like an excess. The prior (a factor
    ``e^2`` over the range for each term) matters below about ten selected events. Calibration:
    ``docs/statistics.md``.
    """
    family = _polynomial("efficiency", "efficiency", tuple(range(smallest, largest + 1)), log=True)
    return replace(family, prior_width=prior_width)


def get_family(spec: str, sqrt_s: float = 13000.0) -> BackgroundFamily:
    r"""Background functions by name.

    ======================  ======================================================================
    ``dijet-3``             :math:`p_0 (1-x)^{p_1} x^{-p_2}`, :math:`x = m/\sqrt{s}`
    ``dijet-4``             :math:`p_0 (1-x)^{p_1} x^{-(p_2 + p_3 \ln x)}`
    ``dijet-5``             :math:`p_0 (1-x)^{p_1} x^{-(p_2 + p_3 \ln x + p_4 \ln^2 x)}`
    ``dijet-6``             ``dijet-5`` times :math:`e^{-p_5 x}`
    ``exppoly-d``           :math:`\exp \sum_{k=0}^{d} c_k \ln^k (m / \mathrm{TeV})`
    ``poly-d``              :math:`\sum_{k=0}^{d} c_k (m / \mathrm{TeV})^k`, kept positive
    ======================  ======================================================================

    Parameters
    ----------
    spec
        ``dijet`` (4 to 6 parameters, chosen by tests), ``dijet:N`` (exactly N), ``exppoly`` (degree 3 to 8,
        chosen by tests), ``exppoly:DEGREE``, ``poly:DEGREE``.
    sqrt_s
        Centre-of-mass energy in GeV; only the dijet functions use it.

    Raises
    ------
    InputError
        If the name is unknown or the number is out of range.
    """
    name, _, number = spec.strip().lower().partition(":")
    problem = InputError(f"unknown background '{spec}'; expected one of: {CHOICES}")
    if number and not number.isdigit():
        raise problem
    value: Any = int(number) if number else None
    if name == "dijet" and (value is None or 3 <= value <= 6):
        if not (np.isfinite(sqrt_s) and sqrt_s > 0):
            raise InputError(f"the centre-of-mass energy must be positive, not {sqrt_s:g} GeV")
        return _dijet(spec, (4, 5, 6) if value is None else (value,), sqrt_s)
    if name == "exppoly" and (value is None or 1 <= value <= 8):
        degrees = (3, 4, 5, 6, 7, 8) if value is None else (value,)
        return _polynomial(spec, "exppoly", degrees, log=True)
    if name == "poly" and value is not None and 0 <= value <= 8:
        return _polynomial(spec, "poly", (value,), log=False)
    raise problem
