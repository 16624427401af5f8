"""Bump hunt and signal fit of the mass spectrum of a table of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from serendip.events.events import Events, Window
from serendip.events.read import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serendip.statistics.anywhere import PeakSearch
    from serendip.statistics.bump import BumpResult
    from serendip.statistics.signals import SignalShape
    from serendip.statistics.spectrum_fit import SpectrumFitResult

__all__ = ["bump", "fit"]


@overload
def bump(source: Any, window: Window | tuple[float, float], **options: Any) -> BumpResult: ...


@overload
def bump(source: Any, window: None = None, **options: Any) -> PeakSearch: ...


def bump(
    source: Any,
    window: Window | tuple[float, float] | None = None,
    *,
    mass: str | None = None,
    weight: str | None = None,
    where: str | None = None,
    group: str | Sequence[str] | None = None,
    unit: str = "GeV",
    toys: int = 1000,
    seed: int = 1,
    **options: Any,
) -> BumpResult | PeakSearch:
    """Count the events in a window against a smooth fit of the rest; without a window, look for a peak of any mass and width.

    Parameters
    ----------
    source
        :class:`~serendip.Events`, or what :func:`serendip.read` takes.
    window
        In GeV, chosen before looking.
    mass, weight, where, group, unit
        As for :func:`serendip.read`; events have their own roles.
    toys, seed
        For the global p-value without a window.
    **options
        ``mass_range``, ``background``, ``masks``, ``bins``, ``sqrt_s`` as for :func:`~serendip.statistics.bump.bump_hunt`, all in GeV.

    Raises
    ------
    InputError
        If the table or an option cannot be used.

    Examples
    --------
    >>> rng = np.random.default_rng(2)
    >>> m = np.concatenate([2000 + 1500 * rng.exponential(size=20_000), rng.normal(3500, 60, 400)])
    >>> found = serendip.bump({"m": m}, (3380, 3620), mass="m")
    >>> f"{found.observed:.0f} observed, {found.z_local:.0f} sigma"
    '1589 observed, 11 sigma'
    """
    from serendip.statistics.anywhere import find_peak
    from serendip.statistics.bump import bump_hunt

    events = _events(source, mass=mass, weight=weight, where=where, group=group, unit=unit)
    options |= _weights(events)
    if window is None:
        return find_peak(events.m, **options, n_toys=toys, rng=np.random.default_rng(seed))
    return bump_hunt(events.m, window if isinstance(window, Window) else Window(*window), **options)


def fit(
    source: Any,
    signal: str | SignalShape,
    *,
    mass: str | None = None,
    weight: str | None = None,
    where: str | None = None,
    group: str | Sequence[str] | None = None,
    unit: str = "GeV",
    **options: Any,
) -> SpectrumFitResult:
    """Fit a signal of known shape on a smooth background: strength, intervals, significance and upper limit.

    Parameters
    ----------
    source
        :class:`~serendip.Events`, or what :func:`serendip.read` takes.
    signal
        Its shape, such as ``"gauss:3500:0.03"``: mass in GeV, relative width (:func:`~serendip.statistics.signals.parse_shape`).
    mass, weight, where, group, unit
        As for :func:`serendip.read`; events have their own roles. Weights may be negative.
    **options
        As for :func:`~serendip.statistics.spectrum_fit.fit_resonance`: ``background``, ``mass_range``, ``masks``, ``toys``, ...

    Raises
    ------
    InputError
        If the table, the shape or an option cannot be used.

    Examples
    --------
    >>> rng = np.random.default_rng(2)
    >>> m = np.concatenate([2000 + 1500 * rng.exponential(size=20_000), rng.normal(3500, 60, 400)])
    >>> found = serendip.fit({"m": m}, "gauss:3500:0.017", mass="m", spurious=0.0, limit=False)
    >>> f"{found.fit.mu:.0f} events"
    '422 events'
    """
    from serendip.statistics.signals import parse_shape
    from serendip.statistics.spectrum_fit import fit_resonance

    events = _events(
        source, mass=mass, weight=weight, where=where, group=group, unit=unit, negative_weights=True
    )
    shape = parse_shape(signal) if isinstance(signal, str) else signal
    return fit_resonance(events.m, shape, **_weights(events), **options)


def _events(source: Any, **columns: Any) -> Events:
    return source if isinstance(source, Events) else read(source, independent=True, **columns)


def _weights(events: Events) -> dict[str, Any]:
    return {"weights": None if events.weight is None else events.weights, "groups": events.groups}
