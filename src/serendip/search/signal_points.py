"""Samples for the limits of a search: data with labelled simulated signal of each mass."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import GROUP, Events, Window
from serendip.events.identity import ALONE
from serendip.events.weights import unweight
from serendip.events.write import write

__all__ = ["ID", "LABEL", "MASS", "STRENGTHS", "SignalPoint", "signal_points"]

log = logging.getLogger(__name__)

STRENGTHS = (0.5, 0.8, 1.15, 1.6, 2.2, 3.5, 5.0)
"""Injected signal of a ladder in units of the root of the events (of the sum of squared weights) in the window."""

MASS, LABEL, ID = "limit_mass", "limit_signal", "limit_event"
"""Columns of the samples in addition to the features."""

_WEIGHT = "limit_weight"
_ROLES = (MASS, LABEL, ID, _WEIGHT)
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
    features, weight, group
        Names of their columns in it; ``weight`` and ``group`` are None where the data have none.
    injections
        Yields of the ladder.
    """

    mass: float
    window: Window
    file: Path
    features: tuple[str, ...]
    weight: str | None
    injections: tuple[int, ...]
    group: str | None = None


def signal_points(
    data: Events,
    signal: Events,
    generated: NDArray[np.float64] | None,
    masses: Sequence[float],
    width: float,
    folder: Path,
    injections: Sequence[int] = (),
    seed: int = 1,
) -> list[SignalPoint]:
    """Write one labelled sample for each mass.

    Parameters
    ----------
    data
        Events without label. A signal that is in them stays background here.
    signal
        Simulated signal with the same mass and, first, the same features. Events with weights are injected with
        probabilities in proportion to them (:func:`serendip.events.weights.unweight`, for each mass on its own).
    generated
        Mass in GeV that each signal event was generated with, shape ``(len(signal),)``; None: all belong to the requested mass.
    masses
        In GeV.
    width
        Relative width of the window around each, which is in the middle.
    folder
        Where the samples are written.
    injections
        Yields in the window; default: :data:`STRENGTHS`.
    seed
        Of the choice among weighted signal events.

    Raises
    ------
    InputError
        If a mass has too few signal events, a signal event has a negative weight, or there is nothing to make a ladder of.
    """
    if not data.features:
        raise InputError("a search needs features: name them (--features EXPR[,EXPR...])")
    if generated is None and len(masses) != 1:
        raise InputError(
            f"{len(masses)} masses, but the mass of each signal event is not known: name the column with the generated "
            "mass (--signal-mass COL)"
        )
    if not masses or min(masses) <= 0 or not 0 < width < 1:
        raise InputError("masses must be positive, and the relative width of the window between 0 and 1")
    if len({_folder(mass) for mass in masses}) != len(masses):
        raise InputError("two of the masses are the same to six digits")
    if injections and (len(set(injections)) < 2 or min(injections) < 1):
        raise InputError(
            f"injections {', '.join(map(str, injections))}: a ladder has at least two yields above zero"
        )
    names = _plain(data.features)
    weight = None if data.weight is None else _WEIGHT
    group = ALONE if data.provenance.get("group") == ALONE else None if data.group is None else GROUP
    points, samples = [], []
    for mass in masses:
        window = Window(mass * (1 - 0.5 * width), mass * (1 + 0.5 * width))
        chosen = signal if generated is None else signal.select(np.abs(generated - mass) <= _SAME * mass)
        chosen, drawn = _of_weight_one(chosen, mass, seed)
        inside = int(np.count_nonzero(window.contains(chosen.m)))
        # injected events have weight one
        spread = float(np.sqrt((data.weights[window.contains(data.m)] ** 2).sum()))
        ladder = tuple(injections) or tuple(dict.fromkeys(max(1, round(s * spread)) for s in STRENGTHS))
        wanted = max(_FEWEST_EVENTS, *ladder)
        if inside < wanted:
            raise InputError(
                f"{inside} of {len(chosen)} signal events of {mass:g} GeV{drawn} lie in the window {window}; at least "
                f"{wanted} are needed for the ladder {', '.join(map(str, ladder))} "
                f"(--injections chooses another){_known(generated)}"
            )
        path = folder / _folder(mass) / "events.parquet"
        points.append(SignalPoint(mass, window, path, names, weight, ladder, group))
        samples.append(chosen)
    for point, chosen in zip(points, samples, strict=True):
        point.file.parent.mkdir(parents=True, exist_ok=True)
        write(_together(data, chosen, point), point.file)
    return points


def _of_weight_one(signal: Events, mass: float, seed: int) -> tuple[Events, str]:
    """Signal events without weights, and how they came about, in words."""
    if signal.weight is None:
        return signal, ""
    w = signal.weights
    # other masses in the same command change nothing
    kept = unweight(w, np.random.default_rng([seed, int(np.float64(mass).view(np.uint64))]))
    if kept.all():
        return signal, ""
    drawn = (
        f"{np.count_nonzero(kept)} of {len(w)} stay, drawn in proportion to their weights; the largest is "
        f"{w.max() / w.mean() if w.any() else np.inf:.3g} times the mean"
    )
    log.warning("signal of %g GeV: %s", mass, drawn)
    return signal.select(kept), f" ({drawn})"


def _folder(mass: float) -> str:
    return f"{mass:g}"


def _plain(features: Sequence[str]) -> tuple[str, ...]:
    """Names of features as columns: operators are removed from expressions, and duplicates get a number."""
    names: list[str] = []
    for feature in features:
        name = re.sub(r"\W", "_", feature)
        same = sum(name == other or other.startswith(f"{name}__") for other in (*names, *_ROLES))
        names.append(name if not same else f"{name}__{same + 1}")
    return tuple(names)


def _known(generated: NDArray[np.float64] | None) -> str:
    if generated is None:
        return ""
    values = np.unique(generated)
    listed = ", ".join(f"{value:g}" for value in values[:12]) + (", ..." if len(values) > 12 else "")
    return f"; generated masses in the file: {listed} GeV"


def _together(data: Events, signal: Events, point: SignalPoint) -> Events:
    """Data first, then signal; ids are row numbers, so that no event of the one shares a fold with its copy."""
    columns = {
        name: np.concatenate([np.asarray(sample.x[:, i], dtype=float) for sample in (data, signal)])
        for i, name in enumerate(point.features)
    }
    columns[MASS] = np.concatenate([data.m, signal.m])
    columns[LABEL] = np.repeat([0, 1], [len(data), len(signal)])
    columns[ID] = np.arange(len(data) + len(signal))
    if data.groups is not None:
        # signal events are their own groups, under codes that the data do not have
        free = np.setdiff1d(np.arange(len(data) + len(signal)), data.groups)[: len(signal)]
        columns[GROUP] = np.concatenate([data.groups, free])
    if point.weight is not None:
        columns[point.weight] = np.concatenate([data.weights, np.ones(len(signal))])
    return Events(
        columns, mass=MASS, features=point.features, label=LABEL, id=ID, weight=point.weight,
        group=None if data.groups is None else GROUP,
    )  # fmt: skip
