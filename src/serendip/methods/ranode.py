r"""R-ANODE (arXiv:2312.11629): the density of the signal, on top of a frozen density of background.

The data of the signal region are a mixture, of which only the first part and its share are unknown:

.. math:: p(x, m) = w\, p_S(x, m) + (1 - w)\, p_B(x|m)\, p_B(m)

:math:`p_B(x|m)` is learnt in the sidebands and :math:`p_B(m)` is the smooth fit of the spectrum outside the window, so
that no signal enters either. :math:`p_S` maximises the likelihood (:mod:`serendip.methods.signal.flow`) and the score is

.. math:: s(x) = \ln p_S(x) - \ln p_B(x|m_0), \qquad p_S(x) = \frac{\sum_j a_j\, p_{S,j}(x)}{\sum_j a_j}

with the members j of the ensemble and :math:`a_j` their fraction of signal times their gain in likelihood on held-out events, and the middle :math:`m_0` of the window. A resonance has the same features at every mass within its width, so
:math:`p_S(x, m) = p_S(x)\, p_S(m)`; the score leaves the mass out. With :math:`p_B(x|m)` at the mass of each event, which is interpolated in the window and was learnt outside it, events in the window would have larger scores than the events with which they are ranked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serendip.density.base import ConditionalDensity
from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.models import read_arrays, write_arrays
from serendip.methods.background import MassConfig, fit_masses, widened
from serendip.methods.base import LearnedSignal, as_splits
from serendip.methods.density_ratio import DensityRatioConfig, DensityRatioMethod
from serendip.methods.signal.floor import floor_density, log_of_others, spurious_fraction, windows_beside
from serendip.methods.signal.sample import SignalSample, best_fraction, mass_quantile
from serendip.methods.template_method import sidebands_within

if TYPE_CHECKING:
    from serendip.methods.signal.flow import SignalFit

__all__ = ["Ranode", "RanodeConfig"]

Array = NDArray[np.float64]

_SIGNAL = "signal.safetensors"
_FLOOR_STREAM = 100_000


class RanodeConfig(DensityRatioConfig, MassConfig):
    """Options of :class:`Ranode`, with those of the density of background and of the mass fit.

    Attributes
    ----------
    fraction
        Fraction of signal w in the window while the signal is trained: ``"learned"`` with it, ``"scan"`` for the best
        of ``scan_points`` values from 1e-4 to 0.1, by the likelihood of held-out events, or a number.
    scan_points
        Values that ``"scan"`` tries; each is one training.
    members
        Signal densities that are averaged; each holds out another part of the events to choose its best weights.
    signal_steps, signal_batch_size, learning_rate
        Training steps, events of each member in a step, peak learning rate.
    transforms, hidden, bins
        Size of a signal density: spline transformations, width of their networks, bins of each spline.
    floor
        Repeat the fit in the adjacent windows, where no signal is expected: the result there is part of the error of the fraction.
    """

    fraction: Literal["learned", "scan"] | Annotated[float, Field(gt=0, lt=1)] = "learned"
    scan_points: int = Field(default=5, ge=2)
    members: int = Field(default=5, ge=2)
    signal_steps: PositiveInt = 300
    signal_batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-3
    transforms: PositiveInt = 2
    hidden: PositiveInt = 16
    bins: int = Field(default=5, ge=2)
    floor: bool = True

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        if self.fraction != "scan" and self.scan_points != type(self).model_fields["scan_points"].default:
            raise ValueError(f"scan_points is used with fraction 'scan', not with '{self.fraction}'")
        return self


class Ranode(DensityRatioMethod):
    """Learnt signal over the background that the sidebands predict.

    Attributes
    ----------
    fraction_, fraction_error_
        After ``fit``: fraction of the events in the window that the learnt signal describes better than background, and its error,
        for each split, shape ``(n_models,)``. Every event is evaluated with the member that was not trained on it, after a training pass chosen on other events, over background densities of other splits. The error is the statistical one and, in quadrature, that of the background from ``floor_`` (:func:`~serendip.methods.signal.floor.spurious_fraction`).
    trained_fraction_
        After ``fit``: fraction with which the signal was trained, mean over the members, shape ``(n_models,)``. Over-fitting
        pulls it and ``fraction_`` apart, so both are shown.
    gain_
        After ``fit``: how much this fraction gains in ln L over none, shape ``(n_models,)``.
    floor_
        After ``fit``: fraction, its statistical error and gain of the same fit in each adjacent window, shape ``(n_windows, 3)``. No row if ``floor`` is off or the sidebands are too short; the error is then statistical only.
    """

    name = "ranode"
    title = "R-ANODE: signal density fitted on top of the background of the sidebands"
    Config = RanodeConfig
    config: RanodeConfig
    fraction_: Array
    fraction_error_: Array
    trained_fraction_: Array
    gain_: Array
    floor_: Array

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Learn background and signal, for each split; arguments and errors as in :meth:`.Method.fit`."""
        from serendip.torch_device import limited_threads

        masks = as_splits(splits, len(events))
        self._learn_background(events, window, masks)
        with limited_threads(self.threads):
            data = [self._data(events, window, mask, self.density, k) for k, mask in enumerate(masks)]
            beside = self._floor(events, window, data) if self.config.floor else []
            samples = [d.sample for d in data + beside]
            fits = [self._train(samples, w) for w in self._fractions()]
            self._fits = [_best(fits, k) for k in range(len(samples))]
            log_others = [
                log_of_others(self.density, len(masks), d.x, d.m, k) if len(masks) > 1 else d.log_background
                for k, d in enumerate(data)
            ]
        moved = [d.log_background - others for d, others in zip(data, log_others, strict=True)]
        moved += [np.zeros(len(d.m)) for d in beside]
        found = np.array([
            best_fraction(fit.held_out[k] + shift, sample.weight)
            for k, (fit, sample, shift) in enumerate(zip(self._fits, samples, moved, strict=True))
        ])  # fmt: skip
        n = len(masks)
        self.floor_ = found[n:]
        self.fraction_, statistical, self.gain_ = found[:n].T
        self.fraction_error_ = np.hypot(statistical, spurious_fraction(self.floor_))
        self._fits, self._transforms = self._fits[:n], [d.transform for d in data]
        self.trained_fraction_ = np.array([fit.trained_fraction(k) for k, fit in enumerate(self._fits)])
        self._totals = np.array([sample.weight.sum() for sample in samples[:n]])
        return self

    def score(self, events: Events, split: int = 0) -> Array:
        """Ln p_S(x) - ln p_B(x|m) at the middle of the window, shape ``(n_events,)``."""
        from serendip.torch_device import limited_threads

        transform = self._transforms[split]
        with limited_threads(self.threads):
            x = self._held(events, split)
            z, log_jacobian = transform.forward(x, np.zeros(len(x)))
            log_signal = self._fits[split].log_features(z, split) + log_jacobian
            return log_signal - self.density.log_prob(x, np.full(len(x), self._window.centre), split)

    def signal(self, split: int = 0, n: int = 5000) -> LearnedSignal:
        """Draw ``n`` events from the signal that model ``split`` learnt: what the anomaly looks like."""
        rng = np.random.default_rng([self.seed, split, 8])
        z, place = self._fits[split].sample(split, n, rng)
        x = self._transforms[split].inverse(z, np.zeros(n)).astype(np.float32)
        total = self.fraction_[split] * self._totals[split]
        return LearnedSignal(
            x,
            self._window.low + place * self._window.width,
            np.full(n, total / n),
            fraction=float(self.fraction_[split]),
            fraction_error=float(self.fraction_error_[split]),
            trained_fraction=float(self.trained_fraction_[split]),
            gain=float(self.gain_[split]),
            floor_gain=float(self.floor_[:, 2].max()) if len(self.floor_) else None,
        )

    def save_model(self, folder: Path, split: int) -> None:
        """Write background, signal and fractions of model ``split``."""
        super().save_model(folder, split)
        found = (self.fraction_, self.fraction_error_, self.gain_, self._totals)
        arrays = {"found": np.array([values[split] for values in found]), "floor": self.floor_}
        arrays |= {f"transform.{name}": a for name, a in self._transforms[split].arrays().items()}
        arrays |= {f"signal.{name}": a for name, a in self._fits[split].arrays(split).items()}
        write_arrays(folder / _SIGNAL, arrays)

    def load_model(self, folder: Path) -> None:
        """Read them as model 0.

        Raises
        ------
        InputError
            If a part is missing or damaged.
        """
        from serendip.methods.signal.flow import SignalFit

        super().load_model(folder)
        c, arrays = self.config, read_arrays(folder / _SIGNAL, "found", finite=True)
        transform, signal = (
            {name.removeprefix(part): a for name, a in arrays.items() if name.startswith(part)}
            for part in ("transform.", "signal.")
        )
        try:
            self._transforms = [FeatureTransform(**transform)]
            self._fits = [
                SignalFit.from_arrays(
                    signal, self._transforms[0].n_features, members=c.members,
                    transforms=c.transforms, hidden=c.hidden, bins=c.bins,
                )
            ]  # fmt: skip
            self.fraction_, self.fraction_error_, self.gain_, self._totals = arrays["found"].reshape(4, 1)
            self.floor_ = arrays.get("floor", np.empty(0)).reshape(-1, 3)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{folder / _SIGNAL} is damaged ({' '.join(str(error).split())})") from None
        self.trained_fraction_ = np.array([self._fits[0].trained_fraction(0)])

    def _fractions(self) -> list[float | None]:
        fraction = self.config.fraction
        if fraction == "learned":
            return [None]
        if fraction == "scan":
            return [float(w) for w in np.geomspace(1e-4, 0.1, self.config.scan_points)]
        return [fraction]

    def _data(
        self,
        events: Events,
        window: Window,
        mask: NDArray[np.bool_],
        density: ConditionalDensity,
        split: int,
        stream: int = 0,
    ) -> _WindowData:
        """Data in a window, with ln p_B(x, m) of each event by model ``split`` of ``density``."""
        beside = mask & sidebands_within(events.m, window, self.config.sideband_gev)
        spectrum = fit_masses(events.m[beside], events.weights[beside], window, self.config)
        data = events.select(mask & window.contains(events.m) & (events.weights > 0))
        rng = np.random.default_rng([self.seed, stream + split, 4])
        x, m, w = data.x.astype(np.float64), data.m, data.weights
        # one mass for all: the signal's features do not depend on it
        transform = FeatureTransform.fit(x, np.full(len(x), 0.5 * (window.low + window.high)), w, rng)
        spread = transform.dequantise(x, rng)
        z, log_jacobian = transform.forward(spread, np.zeros(len(x)))
        grid = np.linspace(window.low, window.high, 401)
        norm = np.trapezoid(spectrum.density(grid), grid)
        log_features = density.log_prob(spread, m, split)
        log_background = log_features + np.log(spectrum.density(m) / norm)
        v, log_slope = mass_quantile(m, window)
        sample = SignalSample(z, v, log_jacobian + log_slope - log_background, w, data.groups)
        return _WindowData(transform, sample, spread, m, log_features)

    def _floor(self, events: Events, window: Window, data: list[_WindowData]) -> list[_WindowData]:
        """Data of the adjacent windows, over densities that were not trained on them."""
        c, used = self.config, events.weights > 0
        windows = windows_beside(events.m[used], window, max(len(d.m) for d in data), c.min_events)
        if not windows:
            return []
        if c.background == "shared":
            densities = [(self.density.bridged(*widened(w)), 0) for w in windows]
        else:
            density = floor_density(c.request(window), events, windows, seed=self.seed)
            densities = [(density, k) for k in range(len(windows))]
        every = np.ones(len(events), dtype=bool)
        return [
            self._data(events, w, every, density, k, _FLOOR_STREAM)
            for w, (density, k) in zip(windows, densities, strict=True)
        ]

    def _train(self, samples: list[SignalSample], w: float | None) -> SignalFit:
        from serendip.methods.signal.flow import train_signals

        c = self.config
        return train_signals(
            samples, members=c.members, fraction=w, steps=c.signal_steps, batch_size=c.signal_batch_size,
            learning_rate=c.learning_rate, seed=self.seed, transforms=c.transforms, hidden=c.hidden, bins=c.bins,
        )  # fmt: skip


@dataclass(frozen=True)
class _WindowData:
    """Events of one window: ``x``, dequantised, and ``m`` in GeV, ln p_B(x|m), and the training input of the signal."""

    transform: FeatureTransform
    sample: SignalSample
    x: Array
    m: Array
    log_background: Array


def _best(fits: list[SignalFit], split: int) -> SignalFit:
    """The training whose members gained most on the events of this split that they held out."""
    return max(fits, key=lambda fit: fit.gain.reshape(-1, fit.members)[split].sum())
