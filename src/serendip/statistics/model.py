r"""Signal plus background in bins: the likelihood for significances, intervals and limits.

.. math:: -2\ln L = \sum_i D\big(n_i;\; b_i(\theta) + \mu\, s_i(\eta)\big) + \sum_k (\eta_k - a_k)^2

with the Baker-Cousins deviance D of a Poisson count, a smooth background :math:`b_i(\theta)` of a family of functions,
the expected signal :math:`s_i` for signal strength one, and unit-normal nuisance parameters :math:`\eta` of its yield
(log-normal), mass scale and resolution (linear) with auxiliary measurements :math:`a` (zero in data).

The order of the background is part of the procedure: every data set, toys included, chooses its own, by likelihood-ratio
tests with the signal strength free (``"lrt"``), or separately at each signal strength with a penalty of one unit of
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
from serendip.statistics.fit import FitError, candidate_members, choose_order
from serendip.statistics.functions import BackgroundFamily, Design, get_family, make_design
from serendip.statistics.likelihood import SignalLikelihood
from serendip.statistics.peak import Peak
from serendip.statistics.signals import SignalShape

__all__ = ["BinnedModel", "Choice", "ModelFits", "counting_data", "counting_model"]

Array = NDArray[np.float64]
Choice = Literal["lrt", "envelope"]

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
    floats, float_errors
        Fitted mass and width of the peak in GeV, as far as they float, and their errors from the information matrix, shape
        ``(t, f)``.
    member
        Which background of the model was used, shape ``(t,)``.
    """

    mu: Array
    mu_error: Array
    deviance: Array
    expected: Array
    background: Array
    nuisance: Array
    floats: Array
    float_errors: Array
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
    peak
        The resonance whose mass or width float, if they do.
    spurious
        Standard error of the signal strength by misdescribed background: one more nuisance parameter, which adds to the strength.
    charged
        Keep the penalty for the parameters of the background although only one is left, see :meth:`restricted`.
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
    peak: Peak | None = None
    spurious: float = 0.0
    _fitted_alone: dict[int, tuple[Array, Array, SignalLikelihood, Array, Array]] = field(
        default_factory=dict, init=False, repr=False
    )

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
        spurious: float = 0.0,
        floats: Sequence[str] = (),
    ) -> Self:
        """A resonance on a smooth spectrum.

        Parameters
        ----------
        edges
            Bin edges in GeV, shape ``(n_bins + 1,)``.
        background
            Functions or their names; several only with ``choice="envelope"``. Bins that touch one of their gaps are left out.
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
        spurious
            Spurious signal in events (sum of weights): standard error of the signal by misdescribed background.
        floats
            The floating parameters of the resonance: ``"mass"``, ``"width"``.

        Raises
        ------
        InputError
            If the bins or functions do not fit together, or the signal lies outside the bins.
        """
        names = [background] if isinstance(background, str | BackgroundFamily) else list(background)
        grid = np.asarray(edges, dtype=float)
        whole = [(get_family(name) if isinstance(name, str) else name).on(grid) for name in names]
        families = [part for family in whole for part in family.parts]
        if len(families) != 1 and choice != "envelope":
            raise InputError("several families of background need choice='envelope'")
        left_out = np.logical_or.reduce([family.hidden(grid) for family in whole])
        if mask is not None:
            left_out = left_out | np.asarray(mask, dtype=bool)
        n_fitted = int(np.count_nonzero(~left_out))
        designs = tuple(make_design(grid, family) for family in families)
        members = tuple(
            (d, family.n_parameters[k], family.members[k])
            for d, family in enumerate(families)
            # one bin more than parameters, otherwise a free signal cannot be distinguished
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
        if floats and variations:
            raise InputError(
                "a mass or width that floats has no error of scale or resolution: choose one of both"
            )
        unit = signal_yield / scale
        peak = Peak(shape, grid, unit, tuple(floats)) if floats else None
        return cls(
            designs, members, nominal * unit, relative, {name: v * unit for name, v in variations.items()},
            left_out, choice, alpha, scale, peak=peak, spurious=spurious / signal_yield,
        )  # fmt: skip

    @property
    def nuisances(self) -> tuple[str, ...]:
        """Names of the nuisance parameters, in their order."""
        names = (("signal yield", self.yield_error), ("spurious signal", self.spurious))
        return tuple(name for name, error in names if error > 0) + tuple(self.variations)

    @property
    def keep(self) -> NDArray[np.bool_]:
        """The bins that are fitted."""
        n = len(self.signal)
        return np.ones(n, dtype=bool) if self.mask is None else ~self.mask

    def restricted(self, members: Iterable[int]) -> Self:
        """The model with some of its backgrounds, which are charged for their parameters as before."""
        return replace(self, members=tuple(self.members[int(k)] for k in members), charged=self.charges)

    @property
    def floats(self) -> tuple[str, ...]:
        """The floating parameters of the peak."""
        return () if self.peak is None else self.peak.floats

    def moved(
        self, mass: float | None = None, width: float | None = None, floats: Sequence[str] | None = None
    ) -> Self:
        """The model with its peak started elsewhere, in GeV, and with other floats."""
        if self.peak is None:
            msg = "the peak of this model does not float"
            raise ValueError(msg)
        peak = self.peak.moved(mass, width)
        if floats is not None:
            peak = replace(peak, floats=tuple(floats))
        return replace(
            self, signal=peak.events * peak.shape.fractions(peak.edges), peak=peak if peak.floats else None
        )

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
        design = self.designs[which].order(p)
        alone, params, decrement = self._alone(y, k, design, centre)
        problem = alone
        if mu is None or np.any(mu) or self.spurious > 0:
            problem = alone.with_signal(mu, params)
            free = np.zeros((len(y), 0 if mu is not None else 1))
            params = np.concatenate([params[:, :p], free, params[:, p:]], axis=1)
            if self.peak is not None and p > 2 and not design.curved:
                params = self._around_peak(y, mu, design, centre)
            # where more signal than none is worse, none is the best that is allowed
            rows = np.flatnonzero(problem.rises(params)) if bounded and mu is None else np.arange(len(y))
            if len(rows):
                part = problem if len(rows) == len(y) else problem.some(rows)
                params[rows], decrement[rows] = part.solve(params[rows])
            if self.peak is not None and (mu is None or np.any(mu)):
                before = len(problem.prior) - problem.k
                problem = problem.with_floats()
                start = np.insert(params, [before] * problem.f, 0.0, axis=1)
                params, decrement = problem.solve(start)
        unsolved = ~(decrement <= _UNSOLVED + 10 * problem.slack)
        if self.floats and mu is None:
            # a dip next to a hump of background is not a peak
            unsolved |= problem.mu(params, np.arange(len(y))) <= 0
        if unsolved.any() and not skip:
            raise self._unsolved(name, unsolved)
        rows = np.arange(len(y))
        total, background = problem.all_bins(params)
        error, float_errors = np.zeros(len(y)), np.zeros((len(y), len(self.floats)))
        if mu is None:
            _, information = problem.slope(params, rows)
            errors = np.sqrt(np.maximum(np.diagonal(np.linalg.inv(information), axis1=1, axis2=2), 0.0))
            error = errors[:, p]
            float_errors = errors[:, p + 1 : p + 1 + problem.f]
        floats = np.zeros((len(y), len(self.floats)))
        if problem.peak is not None:
            floats = problem.peak.values(problem.offsets(params))
            if mu is None:
                float_errors = problem.peak.errors(problem.offsets(params), float_errors)
        penalty = float(p) if self.charges else 0.0
        return ModelFits(
            mu=problem.mu(params, rows) / problem.unit,
            mu_error=error / problem.unit,
            deviance=np.where(unsolved, np.inf, problem.value(params, rows) + penalty),
            expected=total * self.scale,
            background=background * self.scale,
            nuisance=params[:, params.shape[1] - centre.shape[1] :],
            floats=floats,
            float_errors=float_errors,
            member=np.full(len(y), k),
        )

    def _alone(
        self, y: Array, k: int, design: Design, centre: Array
    ) -> tuple[SignalLikelihood, Array, Array]:
        """The fit without a signal. Intervals and limits need many strengths for the same data, and this one each time."""
        known = self._fitted_alone.get(k)
        if known is None or not (np.array_equal(known[0], y) and np.array_equal(known[1], centre)):
            alone = SignalLikelihood(y, design, self, np.zeros(len(y)), centre)
            known = y.copy(), centre.copy(), alone, *alone.solve(alone.start())
            self._fitted_alone[k] = known
        _, _, alone, params, decrement = known
        return alone, params.copy(), decrement.copy()

    def _around_peak(self, y: Array, mu: Array | None, design: Design, centre: Array) -> Array:
        """Start of a fit of a floating peak: two-parameter background under it.

        A larger one, fitted alone, has taken the peak for itself.
        """
        straight = SignalLikelihood(y, design.order(2), self, np.zeros(len(y)), centre)
        params, _ = straight.solve(straight.start())
        free = np.zeros((len(y), 0 if mu is not None else 1))
        params = np.concatenate([params[:, :2], free, params[:, 2:]], axis=1)
        params, _ = straight.with_signal(mu, params).solve(params)
        return np.insert(params, [2] * (design.n_parameters - 2), 0.0, axis=1)


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
