"""Pseudo-spectra around the signal region, for the validations of fits: bias and coverage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from serendip.search.config import SearchConfig
from serendip.search.engine import read_events
from serendip.search.measure import prepare_window
from serendip.statistics.fit import FitError, SpectrumFit, fit_spectrum
from serendip.statistics.functions import get_family
from serendip.statistics.model import BinnedModel, Choice
from serendip.statistics.signals import SignalShape, gaussian

__all__ = ["Spectrum", "spectra"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The spectrum around one window, fitted without the events in the window.

    Attributes
    ----------
    name
        The window, for people.
    inclusive
        Fit of the sidebands with the background of the search.
    shape
        Normal peak in the middle of the window, which holds the asked share of it.
    sqrt_s
        Centre-of-mass energy in GeV.
    """

    name: str
    inclusive: SpectrumFit
    shape: SignalShape
    sqrt_s: float

    def refit(self, background: str) -> SpectrumFit | None:
        """The sidebands fitted with other functions; None if these have no minimum."""
        fit = self.inclusive
        family = get_family(background, self.sqrt_s)
        try:
            return fit_spectrum(
                fit.counts, fit.edges, family, mask=fit.mask, scale=fit.scale, choice=fit.choice
            )
        except FitError:
            return None

    def model(self, background: str, choice: Choice = "lrt") -> BinnedModel:
        """Signal over these functions in Poisson units, all bins fitted; the signal strength is in events."""
        return BinnedModel.spectrum(
            self.inclusive.edges, get_family(background, self.sqrt_s), self.shape, choice=choice
        )

    def toys(
        self, truth: SpectrumFit, events: float, n: int, rng: np.random.Generator, *, contained: bool = False
    ) -> Array:
        """Spectra of this background with a signal of so many (Poisson) events, shape ``(n, n_bins)``.

        ``contained`` leaves out the signal outside the window.
        """
        signal = self.shape.fractions(truth.edges)
        mean = truth.expected / truth.scale + events * np.where(truth.mask | (not contained), signal, 0.0)
        return rng.poisson(np.maximum(mean, 0.0), (n, len(mean))).astype(float)


def spectra(config: SearchConfig, share: float) -> Iterator[Spectrum]:
    """Every window of a search, with a peak of which it holds this share."""
    events = read_events(config)
    for window in config.windows:
        inclusive = prepare_window(events, window, config).inclusive
        width = 0.5 * window.width / float(stats.norm.isf(0.5 * (1.0 - share)))
        shape = gaussian(window.centre, width)
        yield Spectrum(str(window), inclusive, shape, config.sqrt_s * 1000)
