"""The likelihood of many spectra with a signal, for :func:`~serendip.statistics.scoring.fisher_scoring`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serendip.statistics.design import Design
from serendip.statistics.fit import deviance, fisher_information
from serendip.statistics.minimise import observed_information, score
from serendip.statistics.peak import Peak
from serendip.statistics.scoring import fisher_scoring

__all__ = ["SignalLikelihood"]

Array = NDArray[np.float64]

# Far below the background a negative signal would make the expectation negative; it is continued smoothly.
_FLOOR = 1e-2
# Longest steps of a peak's mass in widths and of the logarithm of its width, and a regulator that keeps steps finite where there is no
# signal to move.
_STEP = 0.5
_DAMPING = 1e-3


class SignalModel(Protocol):
    """Interface of the model of a likelihood; see :class:`serendip.statistics.model.BinnedModel`."""

    @property
    def keep(self) -> NDArray[np.bool_]: ...
    @property
    def signal(self) -> Array: ...
    @property
    def peak(self) -> Peak | None: ...
    @property
    def yield_error(self) -> float: ...
    @property
    def spurious(self) -> float: ...
    @property
    def variations(self) -> Mapping[str, Array]: ...


class SignalLikelihood:
    """Objective of one background.

    Parameters are those of the background, then the signal strength (if free), mass and width of the peak (if they float) and
    the nuisances.
    """

    def __init__(
        self,
        y: Array,
        design: Design,
        model: SignalModel,
        mu: Array | None,
        centre: Array,
        *,
        floating: bool = False,
    ) -> None:
        keep = model.keep
        self.model, self.y_all = model, y
        self.design, self.fitted = design, design.bins(keep)
        self.y = y[:, keep].T
        # a strength may be measured in any unit; here it is one in which strength one is about one event
        self.unit = float(np.abs(model.signal[keep]).sum())
        self.signal = model.signal / self.unit
        self.peak = model.peak if floating else None
        self.f = len(self.peak.floats) if self.peak is not None else 0
        self.fixed, self.centre = mu, centre
        self.p, self.k = design.n_parameters, centre.shape[1]
        self.keep, self.kappa = keep, float(np.log1p(model.yield_error))
        self.spurious = model.spurious
        self.variations = np.array(list(model.variations.values())).reshape(-1, len(keep)) / self.unit
        self.slack = 1e-12 * (1.0 + self.y.sum(axis=0))
        free = np.zeros((0 if mu is not None else 1) + self.f)
        self.prior = np.concatenate([design.prior, free, np.ones(self.k)])
        self.target = np.zeros((len(y), len(self.prior)))
        self.target[:, len(self.prior) - self.k :] = centre
        # the background alone: a polynomial may become negative, the exponential of one may not
        level = _FLOOR * np.maximum(self.y.mean(axis=0), 1e-6)
        self.floor = np.broadcast_to(0.0 if design.log_linear else level, self.y.shape)

    def with_signal(self, mu: Array | None, background: Array) -> SignalLikelihood:
        """The same data with a signal, once the background alone was fitted."""
        out = SignalLikelihood(self.y_all, self.design, self.model, mu, self.centre)
        if self.design.log_linear:
            out.floor = _FLOOR * self.fitted.expected(background[:, : self.p])[0]
        return out

    def with_floats(self) -> SignalLikelihood:
        """The same with mass and width of the peak free, once its strength was fitted."""
        out = SignalLikelihood(self.y_all, self.design, self.model, self.fixed, self.centre, floating=True)
        out.floor = self.floor
        return out

    def some(self, rows: NDArray[np.int_]) -> SignalLikelihood:
        """The same for some of the data sets."""
        mu = None if self.fixed is None else self.fixed[rows]
        floating = self.peak is not None
        out = SignalLikelihood(
            self.y_all[rows], self.design, self.model, mu, self.centre[rows], floating=floating
        )
        out.floor = self.floor[:, rows]
        return out

    def rises(self, params: Array) -> NDArray[np.bool_]:
        """Whether more signal than in these parameters, with a free strength, describes a data set better."""
        gradient, _ = self.slope(params, np.arange(len(params)))
        return np.asarray(gradient[:, self.p] < 0)

    def solve(self, start: Array) -> tuple[Array, Array]:
        """Parameters at the minimum and the remaining gain, see :func:`fisher_scoring`."""
        steps = np.full(len(self.prior), np.inf)
        steps[: self.p] = 5.0 if self.design.log_linear else np.inf
        steps[len(steps) - self.k - self.f : len(steps) - self.k] = _STEP
        return fisher_scoring(self, start, self.slack, longest_step=steps)

    def mu(self, params: Array, rows: NDArray[np.int_]) -> Array:
        """Signal strength in units of :attr:`unit`."""
        return params[:, self.p] if self.fixed is None else self.fixed[rows] * self.unit

    def start(self) -> Array:
        """Start parameters of the background alone, shape ``(t, q)``."""
        params = np.zeros((len(self.centre), len(self.prior)))
        level = np.maximum(self.y.sum(axis=0), 0.5) / self.fitted.weights.sum()
        first = self.fitted.basis[0, 0, 0]
        params[:, 0] = (np.log(level) if self.design.log_linear else level) / first
        if self.design.curved:
            params[:, : self.p], _ = score(self.y, self.fitted)
        params[:, len(self.prior) - self.k :] = self.centre
        return params

    def offsets(self, params: Array) -> Array:
        """Parameters of mass and width, shape ``(t, f)``."""
        end = len(self.prior) - self.k
        return params[:, end - self.f : end]

    def _signal(self, params: Array, bins: NDArray[np.bool_] | slice) -> tuple[Array, Array, Array]:
        """Signal for strength one, ``(n_bins, t)``, and its derivatives by floats and nuisances, ``(n_bins, t, f + k)``.

        Last the contribution of the nuisance parameter of a spurious signal to the strength, shape ``(t,)``.
        """
        eta = params[:, len(self.prior) - self.k :].T
        shapes, factor, extra = eta[self.k - len(self.variations) :], 1.0, np.zeros(eta.shape[1])
        v = self.variations[:, bins]
        if self.kappa > 0:
            factor = np.exp(np.clip(self.kappa * eta[0], -50.0, 50.0))
        if self.peak is None:
            nominal, moved = self.signal[bins, None], np.zeros((len(self.signal[bins]), len(params), 0))
        else:
            nominal, moved = self.peak.signal(self.offsets(params), bins)
            nominal, moved = nominal / self.unit, moved / self.unit
        signal = (nominal + v.T @ shapes) * factor
        slopes = [*np.moveaxis(moved * np.reshape(factor, (1, -1, 1)), -1, 0)]
        if self.kappa > 0:
            slopes.append(self.kappa * signal)
        if self.spurious > 0:
            extra = self.spurious * self.unit * eta[1 if self.kappa > 0 else 0]
            slopes.append(np.zeros_like(signal))
        slopes += [column[:, None] * np.broadcast_to(factor, eta.shape[1:]) for column in v]
        stacked = np.stack(slopes, axis=-1) if slopes else np.zeros((*signal.shape, 0))
        return np.broadcast_to(signal, (len(signal), len(params))), stacked, extra

    def _parts(self, params: Array, rows: NDArray[np.int_]) -> tuple[Array, Array, Array]:
        """Expectation, continued smoothly below the floor, the slope of that map, and all derivatives."""
        background, jacobian = self.fitted.expected(params[:, : self.p])
        signal, slopes, extra = self._signal(params, self.keep)
        mu = self.mu(params, rows) + extra
        total = background + mu * signal
        floor = self.floor[:, rows]
        low = total < floor
        ratio = np.where(low, np.exp(np.clip(total / np.where(low, floor, 1.0) - 1.0, -600.0, 0.0)), 1.0)
        strength = [] if self.fixed is not None else [signal[..., None]]
        slopes = slopes * mu[None, :, None]
        if self.spurious > 0:
            slopes[..., self.f + (1 if self.kappa > 0 else 0)] = self.spurious * self.unit * signal
        full = np.concatenate([jacobian, *strength, slopes], axis=-1)
        return np.where(low, floor * ratio, total), ratio, full

    def value(self, params: Array, rows: NDArray[np.int_]) -> Array:
        """Penalised deviance, shape ``(len(rows),)``."""
        safe, _, _ = self._parts(params, rows)
        penalty = ((params - self.target[rows]) ** 2) @ self.prior
        return np.asarray(deviance(self.y[:, rows], safe, axis=0) + penalty)

    def slope(self, params: Array, rows: NDArray[np.int_]) -> tuple[Array, Array]:
        """Half the gradient, ``(len(rows), q)``, and the information made positive, ``(len(rows), q, q)``."""
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
        floats = index[len(index) - self.k - self.f : len(index) - self.k]
        information[:, floats, floats] += _DAMPING
        return gradient, information

    def all_bins(self, params: Array) -> tuple[Array, Array]:
        """Expected counts with and without signal in all bins, shapes ``(t, n_bins)``."""
        background = self.design.expected(params[:, : self.p])[0]
        signal, _, extra = self._signal(params, slice(None))
        mu = self.mu(params, np.arange(len(params))) + extra
        return (background + mu * signal).T, background.T
