r"""Signal plus background in bins: the likelihood behind significances, intervals and limits.

.. math:: -2\ln L = \sum_i D\big(n_i;\; b_i(\theta) + \mu\, s_i(\eta)\big) + \sum_k (\eta_k - a_k)^2

with the Baker-Cousins deviance D of a Poisson count, a smooth background :math:`b_i(\theta)` of a family of functions,
the expected signal :math:`s_i` for signal strength one, and unit-normal nuisance parameters :math:`\eta` of its yield
(log-normal), mass scale and resolution (linear) with auxiliary measurements :math:`a` (zero in data).

The order of the background is part of the procedure: every data set, toys included, chooses its own, by likelihood-ratio
tests with the signal strength free (``"lrt"``), or at each signal strength anew with a penalty of one unit of
:math:`-2\ln L` per parameter (``"envelope"``, the discrete profiling of arXiv:1408.6865).

All fits are done for many data sets at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.statistics.fit import FitError, candidate_members, choose_order, deviance, fisher_information
from serendip.statistics.functions import BackgroundFamily, Design, get_family, make_design
from serendip.statistics.minimise import observed_information, score
from serendip.statistics.scoring import fisher_scoring
from serendip.statistics.signals import SignalShape

__all__ = ["BinnedModel", "Choice", "ModelFits", "counting_data", "counting_model"]

Array = NDArray[np.float64]
Choice = Literal["lrt", "envelope"]

# Far below the background a negative signal would make the expectation negative; it is continued smoothly.
_FLOOR = 1e-2
_UNSOLVED = 1e-3


@dataclass(frozen=True, eq=False)
class ModelFits:
    r"""Fits of many data sets.

    Attributes
    ----------
    mu, mu_error
        Signal strength and its error from the information matrix (zero where it was fixed), shape ``(t,)``.
    deviance
        :math:`-2 \\ln L` against the saturated model, penalties included, shape ``(t,)``.
    expected, background
        Expected counts in all bins with and without signal, shape ``(t, n_bins)``.
    nuisance
        Fitted nuisance parameters, shape ``(t, k)``.
    member
        Which background of the model was used, shape ``(t,)``.
    """

    mu: Array
    mu_error: Array
    deviance: Array
    expected: Array
    background: Array
    nuisance: Array
    member: NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class BinnedModel:
    """A binned signal over a smooth background. Make one with :meth:`spectrum` or :func:`counting_model`.

    Attributes
    ----------
    designs
        Candidate backgrounds, each the largest member of a family on all bins.
    members
        ``(design, n_parameters, name)`` of each candidate background.
    signal
        Expected signal counts for signal strength one, shape ``(n_bins,)``.
    yield_error
        Relative error of all of them; a positive one is a nuisance parameter with a log-normal effect, so that no pull
        makes the signal vanish.
    variations
        Change of them by one standard deviation of each other nuisance parameter, by name, shape ``(n_bins,)``.
    mask
        True for bins that are left out.
    choice
        How a background is chosen among the members.
    alpha
        Level of the likelihood-ratio tests.
    scale
        ``sum(w^2)/sum(w)`` of weighted events: counts are divided by it.
    charged
        Charge for the parameters of the background although there is only one left, see :meth:`restricted`.
    """

    designs: tuple[Design, ...]
    members: tuple[tuple[int, int, str], ...]
    signal: Array
    yield_error: float = 0.0
    variations: Mapping[str, Array] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None
    choice: Choice = "lrt"
    alpha: float = 0.05
    scale: float = 1.0
    charged: bool = False

    @classmethod
    def spectrum(
        cls,
        edges: ArrayLike,
        background: BackgroundFamily | str | Sequence[BackgroundFamily | str],
        shape: SignalShape,
        *,
        signal_yield: float = 1.0,
        yield_error: float = 0.0,
        scale_error: float = 0.0,
        resolution_error: float = 0.0,
        mask: ArrayLike | None = None,
        choice: Choice = "lrt",
        alpha: float = 0.05,
        scale: float = 1.0,
    ) -> Self:
        """A resonance on a smooth spectrum.

        Parameters
        ----------
        edges
            Bin edges in GeV, shape ``(n_bins + 1,)``.
        background
            Functions or their names; several only with ``choice="envelope"``.
        shape
            The resonance.
        signal_yield
            Signal events (sum of weights) over all masses for signal strength one. The default makes the signal strength
            a number of events.
        yield_error, scale_error, resolution_error
            Relative errors of yield, mass scale and resolution; each positive one is a nuisance parameter.
        mask
            True for bins that are left out.
        choice, alpha, scale
            See the class.

        Raises
        ------
        InputError
            If the bins or functions do not fit together, or the signal lies outside the bins.
        """
        names = [background] if isinstance(background, str | BackgroundFamily) else list(background)
        families = [
            part for name in names for part in (get_family(name) if isinstance(name, str) else name).parts
        ]
        if len(families) != 1 and choice != "envelope":
            raise InputError("several families of background need choice='envelope'")
        grid = np.asarray(edges, dtype=float)
        left_out = np.zeros(len(grid) - 1, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        n_fitted = int(np.count_nonzero(~left_out))
        designs = tuple(make_design(grid, family) for family in families)
        members = tuple(
            (d, family.n_parameters[k], family.members[k])
            for d, family in enumerate(families)
            # one bin more than parameters, or a free signal could not be told apart
            for k in candidate_members(family, designs[d], n_fitted - 1)
        )
        nominal = shape.fractions(grid)
        if not nominal[~left_out].sum() > 1e-6:
            raise InputError(
                f"the signal {shape.name} lies outside the fitted bins between {grid[0]:g} and {grid[-1]:g} GeV"
            )
        relative = float(np.hypot(yield_error, shape.relative_error / np.sqrt(nominal.sum())))
        variations = {}
        if scale_error > 0:
            variations["mass scale"] = 0.5 * (
                shape.fractions(grid, shift=scale_error) - shape.fractions(grid, shift=-scale_error)
            )
        if resolution_error > 0:
            variations["resolution"] = 0.5 * (
                shape.fractions(grid, stretch=resolution_error)
                - shape.fractions(grid, stretch=-resolution_error)
            )
        unit = signal_yield / scale
        return cls(
            designs, members, nominal * unit, relative, {name: v * unit for name, v in variations.items()},
            left_out, choice, alpha, scale,
        )  # fmt: skip

    @property
    def nuisances(self) -> tuple[str, ...]:
        """Names of the nuisance parameters, in their order."""
        return (("signal yield",) if self.yield_error > 0 else ()) + tuple(self.variations)

    @property
    def keep(self) -> NDArray[np.bool_]:
        """The bins that are fitted."""
        n = len(self.signal)
        return np.ones(n, dtype=bool) if self.mask is None else ~self.mask

    def restricted(self, members: Iterable[int]) -> Self:
        """The model with some of its backgrounds, which are charged for their parameters as before."""
        return replace(self, members=tuple(self.members[int(k)] for k in members), charged=self.charges)

    @property
    def charges(self) -> bool:
        """Whether each parameter of the background costs one unit of the deviance."""
        return self.charged or (self.choice == "envelope" and len(self.members) > 1)

    def events_under_signal(self, background: ArrayLike) -> float:
        r"""Background events under the signal, :math:`(\sum f_i)^2 / \sum f_i^2 / b_i`, in Poisson units.

        Parameters
        ----------
        background
            Expected background :math:`b_i`, shape ``(n_bins,)``; the signal has the share :math:`f_i` in each bin.
        """
        keep = self.keep
        b = np.maximum(np.asarray(background, dtype=float)[keep] / self.scale, 1e-9)
        f = np.maximum(self.signal[keep] / np.abs(self.signal[keep]).sum(), 0.0)
        return float(f.sum() ** 2 / (f**2 / b).sum())

    def fit(
        self,
        counts: ArrayLike,
        mu: ArrayLike | None = None,
        *,
        member: NDArray[np.int_] | None = None,
        auxiliary: Array | None = None,
        bounded: bool = False,
    ) -> ModelFits:
        """Fit data sets with the signal strength free or fixed.

        Parameters
        ----------
        counts
            Counts or sums of weights, shape ``(t, n_bins)`` or ``(n_bins,)``.
        mu
            Fixed signal strengths, a number or shape ``(t,)``; default: free.
        member
            Background of each data set, shape ``(t,)``; default: chosen by :attr:`choice`.
        auxiliary
            Auxiliary measurements of the nuisance parameters, shape ``(t, k)``; default: zero.
        bounded
            A free signal strength is not negative.

        Raises
        ------
        FitError
            If a data set has no minimum.
        """
        y = np.atleast_2d(np.asarray(counts, dtype=float)) / self.scale
        fixed = None if mu is None else np.broadcast_to(np.asarray(mu, dtype=float), (len(y),))
        centre = np.zeros((len(y), len(self.nuisances))) if auxiliary is None else auxiliary
        if member is None and len(self.members) == 1:
            member = np.zeros(len(y), dtype=int)
        if member is None and self.choice == "lrt":
            free = [self._fit_member(y, None, k, centre, bounded) for k in range(len(self.members))]
            member = choose_order([f.deviance for f in free], [p for _, p, _ in self.members], self.alpha)
            if fixed is None:
                return _pick(free, member)
        if member is not None:
            out = [
                (
                    rows,
                    self._fit_member(
                        y[rows], None if fixed is None else fixed[rows], k, centre[rows], bounded
                    ),
                )
                for k in np.unique(member)
                for rows in [np.flatnonzero(member == k)]
            ]
            return _merge(out, len(y))
        fits = self._fit_each(y, fixed, centre, bounded)
        deviances = np.array([f.deviance for f in fits])
        return _pick(fits, np.argmin(deviances, axis=0))

    def sample(self, expected: ArrayLike, n: int, rng: np.random.Generator) -> Array:
        """Poisson data sets with this expectation (Poisson units times :attr:`scale`), shape ``(n, n_bins)``."""
        # a polynomial may be negative in empty bins
        mean = np.maximum(np.asarray(expected, dtype=float), 0.0) / self.scale
        return np.asarray(rng.poisson(mean, (n, len(mean))) * self.scale, dtype=float)

    def fit_each(self, counts: ArrayLike) -> list[ModelFits]:
        """Fits with each of the backgrounds, the signal strength free. The deviance is infinite where there is no minimum.

        Raises
        ------
        FitError
            If a data set has none with any of them.
        """
        y = np.atleast_2d(np.asarray(counts, dtype=float)) / self.scale
        return self._fit_each(y, None, np.zeros((len(y), len(self.nuisances))))

    def _fit_each(self, y: Array, mu: Array | None, centre: Array, bounded: bool = False) -> list[ModelFits]:
        fits = [self._fit_member(y, mu, k, centre, bounded, skip=True) for k in range(len(self.members))]
        unsolved = np.all([np.isinf(fit.deviance) for fit in fits], axis=0)
        if unsolved.any():
            raise self._unsolved(" or ".join(name for _, _, name in self.members), unsolved)
        return fits

    @staticmethod
    def _unsolved(name: str, spectra: NDArray[np.bool_]) -> FitError:
        return FitError(
            f"the fit of signal over '{name}' found no minimum for {np.count_nonzero(spectra)} of {len(spectra)} spectra; "
            "try another background or range"
        )

    def _fit_member(
        self,
        y: Array,
        mu: Array | None,
        k: int,
        centre: Array,
        bounded: bool = False,
        *,
        skip: bool = False,
    ) -> ModelFits:
        """Fits with one background. Where it finds no minimum, the deviance is infinite (``skip``), or it is an error."""
        which, p, name = self.members[k]
        alone = _Problem(y, self.designs[which].order(p), self, np.zeros(len(y)), centre)
        params, decrement = alone.solve(alone.start())
        problem = alone
        if mu is None or np.any(mu):
            problem = alone.with_signal(mu, params)
            free = np.zeros((len(y), 0 if mu is not None else 1))
            params = np.concatenate([params[:, :p], free, params[:, p:]], axis=1)
            # where more signal than none is worse, none is the best that is allowed
            rows = np.flatnonzero(problem.rises(params)) if bounded and mu is None else np.arange(len(y))
            if len(rows):
                part = problem if len(rows) == len(y) else problem.some(rows)
                params[rows], decrement[rows] = part.solve(params[rows])
        unsolved = ~(decrement <= _UNSOLVED + 10 * problem.slack)
        if unsolved.any() and not skip:
            raise self._unsolved(name, unsolved)
        rows = np.arange(len(y))
        total, background = problem.all_bins(params)
        error = np.zeros(len(y))
        if mu is None:
            _, information = problem.slope(params, rows)
            error = np.sqrt(np.maximum(np.linalg.inv(information)[:, p, p], 0.0))
        penalty = float(p) if self.charges else 0.0
        return ModelFits(
            mu=problem.mu(params, rows) / problem.unit,
            mu_error=error / problem.unit,
            deviance=np.where(unsolved, np.inf, problem.value(params, rows) + penalty),
            expected=total * self.scale,
            background=background * self.scale,
            nuisance=params[:, params.shape[1] - centre.shape[1] :],
            member=np.full(len(y), k),
        )


def counting_model(
    background: float, background_error: float, signal: float = 1.0, signal_error: float = 0.0
) -> BinnedModel:
    r"""One count over a background that was itself measured.

    The background is a Poisson side measurement of :math:`m = (b/\sigma)^2` events with :math:`\tau = b/\sigma^2`, as in
    :func:`~serendip.statistics.pvalues.count_p_value`. Its data are those of :func:`counting_data`.

    Parameters
    ----------
    background, background_error
        Expected count and its standard error, both positive.
    signal, signal_error
        Expected signal for signal strength one, and its relative error.

    Raises
    ------
    InputError
        If background, its error or the signal is not positive.
    """
    if not (background > 0 and background_error > 0 and signal > 0 and signal_error >= 0):
        raise InputError(
            "a counting experiment needs a background, an error of it and a signal above zero, not "
            f"{background:g} +- {background_error:g} and {signal:g}"
        )
    weights = np.zeros((2, 5))
    weights[:, 0] = 1.0, background / background_error**2
    design = Design(weights, np.ones((2, 5, 1)), np.eye(1), np.zeros(1), log_linear=True)
    expected = np.array([signal, 0.0])
    return BinnedModel((design,), ((0, 1, "count"),), expected, signal_error)


def counting_data(observed: float, background: float, background_error: float) -> Array:
    """Data of :func:`counting_model`: the count and the side measurement, shape ``(2,)``."""
    return np.array([observed, (background / background_error) ** 2])


class _Problem:
    """Objective of one background: parameters are background coefficients, signal strength (if free), nuisances."""

    def __init__(self, y: Array, design: Design, model: BinnedModel, mu: Array | None, centre: Array) -> None:
        keep = model.keep
        self.model, self.y_all = model, y
        self.design, self.fitted = design, design.bins(keep)
        self.y = y[:, keep].T
        # a strength may be measured in any unit; here it is one in which strength one is about one event
        self.unit = float(np.abs(model.signal[keep]).sum())
        self.signal = model.signal / self.unit
        self.fixed, self.centre = mu, centre
        self.p, self.k = design.n_parameters, centre.shape[1]
        self.keep, self.kappa = keep, float(np.log1p(model.yield_error))
        self.variations = np.array(list(model.variations.values())).reshape(-1, len(keep)) / self.unit
        self.slack = 1e-12 * (1.0 + self.y.sum(axis=0))
        self.prior = np.concatenate([design.prior, np.zeros(0 if mu is not None else 1), np.ones(self.k)])
        self.target = np.zeros((len(y), len(self.prior)))
        self.target[:, len(self.prior) - self.k :] = centre
        # the background alone: a polynomial may become negative, the exponential of one may not
        level = _FLOOR * np.maximum(self.y.mean(axis=0), 1e-6)
        self.floor = np.broadcast_to(0.0 if design.log_linear else level, self.y.shape)

    def with_signal(self, mu: Array | None, background: Array) -> _Problem:
        """The same data with a signal, once the background alone was fitted."""
        out = _Problem(self.y_all, self.design, self.model, mu, self.centre)
        if self.design.log_linear:
            out.floor = _FLOOR * self.fitted.expected(background[:, : self.p])[0]
        return out

    def some(self, rows: NDArray[np.int_]) -> _Problem:
        """The same for some of the data sets."""
        mu = None if self.fixed is None else self.fixed[rows]
        out = _Problem(self.y_all[rows], self.design, self.model, mu, self.centre[rows])
        out.floor = self.floor[:, rows]
        return out

    def rises(self, params: Array) -> NDArray[np.bool_]:
        """Whether more signal than in these parameters, with a free strength, describes a data set better."""
        gradient, _ = self.slope(params, np.arange(len(params)))
        return np.asarray(gradient[:, self.p] < 0)

    def solve(self, start: Array) -> tuple[Array, Array]:
        """Parameters at the minimum and what is left to gain, see :func:`fisher_scoring`."""
        steps = np.full(len(self.prior), np.inf)
        steps[: self.p] = 5.0 if self.design.log_linear else np.inf
        return fisher_scoring(self, start, self.slack, longest_step=steps)

    def mu(self, params: Array, rows: NDArray[np.int_]) -> Array:
        """Signal strength in units of :attr:`unit`."""
        return params[:, self.p] if self.fixed is None else self.fixed[rows] * self.unit

    def start(self) -> Array:
        params = np.zeros((len(self.centre), len(self.prior)))
        level = np.maximum(self.y.sum(axis=0), 0.5) / self.fitted.weights.sum()
        first = self.fitted.basis[0, 0, 0]
        params[:, 0] = (np.log(level) if self.design.log_linear else level) / first
        if self.design.curved:
            params[:, : self.p], _ = score(self.y, self.fitted)
        params[:, len(self.prior) - self.k :] = self.centre
        return params

    def _signal(self, params: Array, bins: NDArray[np.bool_] | slice) -> tuple[Array, Array]:
        """Signal for strength one, ``(n_bins, t)``, and its derivatives by the nuisances, ``(n_bins, t, k)``."""
        eta = params[:, len(self.prior) - self.k :].T
        shapes, factor = eta[self.k - len(self.variations) :], 1.0
        v = self.variations[:, bins]
        if self.kappa > 0:
            factor = np.exp(np.clip(self.kappa * eta[0], -50.0, 50.0))
        signal = (self.signal[bins, None] + v.T @ shapes) * factor
        slopes = [self.kappa * signal] if self.kappa > 0 else []
        slopes += [column[:, None] * np.broadcast_to(factor, eta.shape[1:]) for column in v]
        return signal, np.stack(slopes, axis=-1) if slopes else np.zeros((*signal.shape, 0))

    def _parts(self, params: Array, rows: NDArray[np.int_]) -> tuple[Array, Array, Array]:
        """Expectation, continued smoothly below the floor, the slope of that map, and all derivatives."""
        background, jacobian = self.fitted.expected(params[:, : self.p])
        signal, slopes = self._signal(params, self.keep)
        mu = self.mu(params, rows)
        total = background + mu * signal
        floor = self.floor[:, rows]
        low = total < floor
        ratio = np.where(low, np.exp(np.clip(total / np.where(low, floor, 1.0) - 1.0, -600.0, 0.0)), 1.0)
        strength = [] if self.fixed is not None else [signal[..., None]]
        full = np.concatenate([jacobian, *strength, slopes * mu[None, :, None]], axis=-1)
        return np.where(low, floor * ratio, total), ratio, full

    def value(self, params: Array, rows: NDArray[np.int_]) -> Array:
        safe, _, _ = self._parts(params, rows)
        penalty = ((params - self.target[rows]) ** 2) @ self.prior
        return np.asarray(deviance(self.y[:, rows], safe, axis=0) + penalty)

    def slope(self, params: Array, rows: NDArray[np.int_]) -> tuple[Array, Array]:
        safe, ratio, full = self._parts(params, rows)
        full = full * ratio[..., None]
        gradient = np.einsum("nt,ntp->tp", 1.0 - self.y[:, rows] / safe, full)
        gradient += self.prior * (params - self.target[rows])
        information = fisher_information(safe, full) + np.diag(self.prior)
        if self.design.curved:
            information = observed_information(
                self.fitted, params[:, : self.p], safe, self.y[:, rows] / safe, full, self.prior
            )
        # a parameter without effect (an empty spectrum) must not make the matrix singular
        index = np.arange(len(self.prior))
        information[:, index, index] += 1e-12 * information[:, index, index] + 1e-30
        return gradient, information

    def all_bins(self, params: Array) -> tuple[Array, Array]:
        """Expected counts with and without signal in all bins, shapes ``(t, n_bins)``."""
        background = self.design.expected(params[:, : self.p])[0]
        signal, _ = self._signal(params, slice(None))
        mu = self.mu(params, np.arange(len(params)))
        return (background + mu * signal).T, background.T


def _pick(fits: Sequence[ModelFits], which: NDArray[np.int_]) -> ModelFits:
    """The fit ``which[i]`` of each data set ``i``."""
    rows = np.arange(len(which))
    return ModelFits(**{name: np.stack([vars(f)[name] for f in fits])[which, rows] for name in vars(fits[0])})


def _merge(parts: Sequence[tuple[NDArray[np.int_], ModelFits]], n: int) -> ModelFits:
    """Put fits of subsets together."""
    out = {}
    for name, first in vars(parts[0][1]).items():
        whole = np.zeros((n, *first.shape[1:]), dtype=first.dtype)
        for rows, fits in parts:
            whole[rows] = vars(fits)[name]
        out[name] = whole
    return ModelFits(**out)
