r"""Samples with a known number of signal events: all background, and a random part of the labelled signal.

The size of an injection is its number of events *in the window*, since only these can be found there. Signal outside
the window (the sidebands have to live with it) is added in proportion: with a fraction :math:`f` of the labelled signal in the window, an injection of :math:`n` has :math:`n / f` events in total, exactly :math:`n` of them inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.groups import group_numbers

__all__ = ["Sample", "check_injections", "inject", "look_at"]


@dataclass(frozen=True)
class Sample:
    """How much labelled signal and background there is: numbers of events.

    Attributes
    ----------
    signal, background
        In the whole sample.
    signal_in_window, background_in_window
        In the window.
    """

    signal: int
    background: int
    signal_in_window: int
    background_in_window: int

    @property
    def share(self) -> float:
        """Fraction of the signal that lies in the window."""
        return self.signal_in_window / self.signal

    def total(self, in_window: int) -> int:
        """Total number of signal events to inject, for that many in the window."""
        return in_window + round(in_window * (self.signal - self.signal_in_window) / self.signal_in_window)


def look_at(events: Events, window: Window) -> Sample:
    """Count signal and background.

    Raises
    ------
    InputError
        If the label column is missing or is not a label, one class is missing, or the window lacks one of them.
    """
    if events.label is None:
        raise InputError(
            "a comparison needs the truth: name the label column (--label COL), 1 = signal, 0 = background"
        )
    values = np.asarray(events[events.label])
    strange = values[(values != 0) & (values != 1)]
    if len(strange):
        raise InputError(
            f"column '{events.label}' is not a label: {len(strange)} of {len(values)} events have other values than 0 "
            f"(background) and 1 (signal), for example {float(strange[0]):g}"
        )
    truth, inside = events.labels, window.contains(events.m)
    found = Sample(
        *(int(np.count_nonzero(part)) for part in (truth, ~truth, truth & inside, ~truth & inside))
    )
    for kind, number in (("signal", found.signal), ("background", found.background)):
        if number == 0:
            raise InputError(
                f"column '{events.label}' calls none of the {len(values)} events {kind}: a comparison needs both kinds"
            )
    if found.signal_in_window == 0 or found.background_in_window == 0:
        kind = "signal" if found.signal_in_window == 0 else "background"
        masses = events.m[truth if kind == "signal" else ~truth]
        raise InputError(
            f"the window {window} holds none of the {len(masses)} {kind} events, whose masses run from "
            f"{masses.min():g} to {masses.max():g} GeV (middle half: {np.quantile(masses, 0.25):g} to "
            f"{np.quantile(masses, 0.75):g})"
        )
    return found


def check_injections(sample: Sample, injections: Sequence[int], window: Window) -> None:
    """Stop if there is not enough signal.

    Raises
    ------
    InputError
        Naming the numbers.
    """
    largest = max(injections)
    if largest > sample.signal_in_window:
        raise InputError(
            f"{largest} signal events in the window {window} are requested, but only {sample.signal_in_window} of the "
            f"{sample.signal} labelled signal events lie there; request at most {sample.signal_in_window}"
        )


def inject(events: Events, window: Window, in_window: int, repeat: int, seed: int) -> NDArray[np.int64]:
    """Choose the events of one injection: all background, and ``in_window`` signal events in the window.

    Parameters
    ----------
    events
        The labelled sample, in the order of its ids.
    in_window
        Signal events in the window; those outside follow in proportion.
    repeat, seed
        Each repeat is an independent draw.

    Returns
    -------
    Row numbers in ascending order, shape ``(n,)``. Groups of events come as a whole.

    Raises
    ------
    InputError
        If whole groups cannot make that number.
    """
    sample = look_at(events, window)
    check_injections(sample, [in_window], window)
    truth, inside = events.labels, window.contains(events.m)
    rng = np.random.default_rng([seed, in_window, repeat])
    if events.groups is not None:
        return _inject_groups(events.groups, truth, inside, in_window, sample, rng)
    chosen = rng.choice(np.flatnonzero(truth & inside), in_window, replace=False)
    beside = rng.choice(np.flatnonzero(truth & ~inside), sample.total(in_window) - in_window, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(~truth), chosen, beside]))


def _inject_groups(
    groups: NDArray[np.int64],
    truth: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    in_window: int,
    sample: Sample,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """As :func:`inject`, with all signal events of a group or none."""
    number = group_numbers(groups)
    held = np.bincount(number[truth & inside], minlength=int(number.max()) + 1)
    beside = np.bincount(number[truth & ~inside], minlength=len(held))
    chosen = np.zeros(len(held), dtype=bool)
    left = in_window
    for group in rng.permutation(np.flatnonzero(held)):
        if held[group] <= left:
            chosen[group], left = True, left - int(held[group])
    if left:
        raise InputError(
            f"{in_window} signal events in the window cannot be made of whole groups, {in_window - left} can: choose "
            "injections that are multiples of the size of the groups"
        )
    left = sample.total(in_window) - in_window - int(beside[chosen].sum())
    for group in rng.permutation(np.flatnonzero((held == 0) & (beside > 0))):
        if beside[group] <= left:
            chosen[group], left = True, left - int(beside[group])
    return np.flatnonzero(~truth | chosen[number])
