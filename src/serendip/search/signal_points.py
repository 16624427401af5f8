"""Samples for the limits of a search: data with simulated signal of each mass beside them, labelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.write import write

__all__ = ["STRENGTHS", "SignalPoint", "signal_points"]

STRENGTHS = (0.5, 0.8, 1.15, 1.6, 2.2, 3.5)
"""Injected signal of a ladder in units of the root of the events in the window."""

_FEWEST_EVENTS = 20
# features are stored with seven digits
_SAME = 1e-5


@dataclass(frozen=True)
class SignalPoint:
    """One mass of a limit.

    Attributes
    ----------
    mass
        In GeV.
    window
        Signal region around it.
    file
        Data and signal together.
    features, weight
        Names of their columns in it; ``weight`` is None where the data have none.
    injections
        Yields of the ladder.
    """

    mass: float
    window: Window
    file: Path
    features: tuple[str, ...]
    weight: str | None
    injections: tuple[int, ...]


def signal_points(
    data: Events,
    signal: Events,
    generated: NDArray[np.float64] | None,
    masses: Sequence[float],
    width: float,
    folder: Path,
    injections: Sequence[int] = (),
) -> list[SignalPoint]:
    """Write one labelled sample for each mass.

    Parameters
    ----------
    data
        Events without label. A signal that is in them stays background here.
    signal
        Simulated signal with the same mass and, first, the same features; without weights.
    generated
        Mass in GeV that each signal event was generated with, shape ``(len(signal),)``; None: all belong to the one mass
        that is asked for.
    masses
        In GeV.
    width
        Relative width of the window around each, which is in the middle.
    folder
        Where the samples are written.
    injections
        Yields in the window; default: :data:`STRENGTHS`.

    Raises
    ------
    InputError
        If a mass has no signal events, the signal has weights, or names of features collide.
    """
    if signal.weight is not None:
        raise InputError(
            "the injected signal must not have weights: parts of it are added to the data event by event"
        )
    if generated is None and len(masses) != 1:
        raise InputError(
            f"{len(masses)} masses, but nothing says which signal events belong to which: name the column with the generated "
            "mass (--signal-mass COL)"
        )
    if not masses or min(masses) <= 0 or not 0 < width < 1:
        raise InputError("masses must be positive, and the relative width of the window between 0 and 1")
    names = tuple(re.sub(r"\W", "_", name) for name in data.features)
    if len(set(names)) != len(names):
        raise InputError(f"features have the same name once special characters are gone: {', '.join(names)}")
    weight = None if data.weight is None else "weight"
    points = []
    for mass in masses:
        window = Window(mass * (1 - 0.5 * width), mass * (1 + 0.5 * width))
        chosen = signal if generated is None else signal.select(np.abs(generated - mass) <= _SAME * mass)
        inside = int(np.count_nonzero(window.contains(chosen.m)))
        if inside < _FEWEST_EVENTS:
            raise InputError(
                f"{inside} of {len(chosen)} signal events of {mass:g} GeV lie in the window {window}; at least {_FEWEST_EVENTS} "
                f"are needed{_known(generated)}"
            )
        root = float(np.sqrt(np.count_nonzero(window.contains(data.m))))
        ladder = tuple(injections) or tuple(dict.fromkeys(max(1, round(s * root)) for s in STRENGTHS))
        path = folder / f"{mass:g}" / "events.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(_together(data, chosen, names), path)
        points.append(SignalPoint(mass, window, path, names, weight, ladder))
    return points


def _known(generated: NDArray[np.float64] | None) -> str:
    if generated is None:
        return ""
    values = np.unique(generated)
    listed = ", ".join(f"{value:g}" for value in values[:12]) + (", ..." if len(values) > 12 else "")
    return f"; generated masses in the file: {listed} GeV"


def _together(data: Events, signal: Events, names: tuple[str, ...]) -> Events:
    """Data first, then signal; ids are row numbers, so that no event of the one shares a fold with its copy."""
    columns = {
        new: np.concatenate([np.asarray(sample.x[:, i], dtype=float) for sample in (data, signal)])
        for i, new in enumerate(names)
    }
    columns["mass"] = np.concatenate([data.m, signal.m])
    columns["signal"] = np.repeat([0, 1], [len(data), len(signal)])
    columns["event"] = np.arange(len(data) + len(signal))
    if data.weight is not None:
        columns["weight"] = np.concatenate([data.weights, np.ones(len(signal))])
    return Events(
        columns,
        mass="mass",
        features=names,
        label="signal",
        id="event",
        weight="weight" if data.weight is not None else None,
    )
