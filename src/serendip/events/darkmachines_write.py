"""Write Dark Machines files: the lines that :mod:`serendip.events.darkmachines` reads."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.darkmachines_lines import LARGEST_ETA, LARGEST_PHI, LONGEST_NAME
from serendip.events.objects import KINDS, ObjectEvents
from serendip.io.files import atomic_write

__all__ = ["write_events"]

_EVENTS = 20_000
_FULL = [f"{kind},%.6g,%.6g,%.6g,%.6g;" for kind in KINDS]
_THREE = [f"{kind},%.6g,%.6g,%.6g;" for kind in KINDS]
_TEMPLATES = np.array(_FULL + _THREE, dtype=object)


def write_events(events: ObjectEvents | Iterable[ObjectEvents], path: str | os.PathLike[str]) -> None:
    """Write events as a Dark Machines file: MeV, six significant digits, ``;`` at the end of a line.

    Lines of the official files come back byte for byte. Objects without energy are written with three
    components. An existing file is replaced only when the new one is complete.

    Parameters
    ----------
    events
        A sample in GeV, or parts of one, for example from
        :func:`serendip.events.darkmachines.read_chunks`, which are written one after the other.
    path
        ``.csv``, or ``.csv.gz`` for a compressed file.

    Raises
    ------
    InputError
        If an event could not be read back (a name with a delimiter, a number that is negative where it must
        not be, not finite or out of range), or the file cannot be written.
    """
    target = Path(path)
    parts = [events] if isinstance(events, ObjectEvents) else events
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        if target.suffix == ".gz":
            # without name and time: the same events, the same bytes
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                packed.writelines(_texts(parts))
        else:
            file.writelines(_texts(parts))


def _texts(parts: Iterable[ObjectEvents]) -> Iterator[bytes]:
    written = 0
    for part in parts:
        _check(part, written)
        written += len(part)
        for start in range(0, len(part), _EVENTS):
            rows = np.arange(start, min(start + _EVENTS, len(part)))
            yield _lines(part.select(rows)).encode("ascii")


def _lines(events: ObjectEvents) -> str:
    """All lines in one call of the formatting operator."""
    n, m = len(events), events.n_objects
    heads = events.offsets[:-1] + np.arange(n)
    is_object = np.ones(n + m, dtype=np.bool_)
    is_object[heads] = False
    # one row for each event and each object, in the order of the file; NaN where there is no number
    numbers = np.full((n + m, 4), np.nan)
    numbers[heads, 1:] = np.stack([events.weight, events.met * 1000, events.met_phi], axis=1)
    objects = (events.energy * 1000, events.pt * 1000, events.eta, events.phi)
    numbers[is_object] = np.stack(objects, axis=1)
    templates = np.empty(n + m, dtype=object)
    templates[is_object] = _TEMPLATES[events.kind + len(KINDS) * np.isnan(events.energy)]
    names = zip(events.event_id.tolist(), events.process.tolist(), strict=True)
    templates[heads] = [
        f"\n{event};{process};".replace("%", "%%") + "%.6g;%.6g;%.6g;" for event, process in names
    ]
    values = numbers[~np.isnan(numbers)]
    text = "".join(templates.tolist()) % tuple(values.tolist())
    return f"{text[1:]}\n"


def _check(events: ObjectEvents, start: int) -> None:
    for what, names in (("event ID", events.event_id), ("process ID", events.process)):
        for name in np.unique(names).tolist():
            plain = name.isascii() and name.isprintable() and not re.search(r"[;,]|^ | $", name)
            if not plain or len(name) > LONGEST_NAME:
                raise InputError(
                    f"{what} '{name[:80]}' cannot be written: expected at most {LONGEST_NAME} printable ASCII characters "
                    "without ';', ',' or blanks at the ends"
                )

    def check(
        what: str, values: NDArray[np.float64], low: float, high: float, rows: NDArray[np.int64]
    ) -> None:
        wrong = ~((values >= low) & (values <= high))
        if wrong.any():
            first = int(np.argmax(wrong))
            bounds = f"{low:g} to {high:g}" if high < np.inf else f"{low:g} or more"
            raise InputError(
                f"event {start + rows[first]} (counted from 0) cannot be written: {what} is {values[first]:g}; "
                f"expected a finite number, {bounds}"
            )

    events_, objects = np.arange(len(events)), events.event_of
    largest = float(np.finfo(np.float64).max) / 1000
    has_energy = ~np.isnan(events.energy)
    check("the weight", events.weight, 0, largest, events_)
    check("the MET", events.met, 0, largest, events_)
    check("the azimuth of the MET", events.met_phi, -LARGEST_PHI, LARGEST_PHI, events_)
    check("an energy", events.energy[has_energy], 0, largest, objects[has_energy])
    check("a pt", events.pt, 0, largest, objects)
    check("an eta", events.eta, -LARGEST_ETA, LARGEST_ETA, objects)
    check("a phi", events.phi, -LARGEST_PHI, LARGEST_PHI, objects)
