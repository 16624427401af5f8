"""Second signals: excesses in the sidebands of the looks of a search, which a mask would keep out of the fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Window
from serendip.search.config import SearchConfig
from serendip.search.measure import Measurement
from serendip.search.results import SidebandExcess
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.sidebands import SidebandExcess as Excess
from serendip.statistics.sidebands import sideband_excess

__all__ = ["second_signals"]


def second_signals(config: SearchConfig, measurement: Measurement, *, blinded: bool) -> list[SidebandExcess]:
    """The excess in the sidebands of each window and look as ``results.json`` has it, the most significant first.

    Of those that overlap, the most significant is kept. While blinded, bins that touch any window of the run are not
    looked at.
    """
    spectra: dict[tuple[int | None, Window], tuple[NDArray[np.bool_], SpectrumFit]] = {
        (None, look.window_fit.window): (look.window_fit.inside, look.window_fit.inclusive)
        for look in measurement.looks
    }
    spectra |= {
        (i, look.window_fit.window): (look.window_fit.inside, look.result.spectrum)
        for i, look in enumerate(measurement.looks)
        if look.result.dead is None and look.result.spectrum.offset is not None
    }
    found: list[tuple[int | None, Window, Excess]] = []
    for (look, window), (inside, fit) in spectra.items():
        hidden = np.zeros(len(inside), dtype=bool)
        for other in config.windows if blinded else ():
            hidden |= (fit.edges[:-1] < other.high) & (fit.edges[1:] > other.low)
        excess = sideband_excess(fit, inside, hidden=hidden, n_spectra=len(spectra))
        if excess is not None:
            found.append((look, window, excess))
    kept: list[tuple[int | None, Window, Excess]] = []
    for entry in sorted(found, key=lambda entry: -entry[2].z_local):
        if not any(entry[2].low < other.high and other.low < entry[2].high for _, _, other in kept):
            kept.append(entry)
    return [
        SidebandExcess(look=look, window=(window.low, window.high), **vars(excess))
        for look, window, excess in kept
    ]
