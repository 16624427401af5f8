r"""Clean the objects of all samples in the same way, then select again.

A classifier between two samples finds every difference of their making before it finds physics. The public
signal files of channel 1 keep jets up to :math:`|\eta|` of about 4.9 and leptons and photons down to 10 GeV, the background does
not. Here both are cut to the documented requirements (arXiv:2105.14027, section 2), and the selection of the channel,
which those objects had entered, is applied again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.objects import KINDS, ObjectEvents
from serendip.statistics.pvalues import binomial_interval
from serendip.theories.channels import MAX_JET_ETA, Channel, channel_named, cut_masks

__all__ = [
    "REQUIREMENTS",
    "TRIGGERS",
    "HarmoniseReport",
    "Requirement",
    "clean_objects",
    "harmonise",
    "triggered",
]

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Requirement:
    """Objects of these kinds have ``pt > min_pt`` (GeV) and ``|eta| < max_abs_eta``, outside ``gap`` in ``|eta|``."""

    kinds: tuple[str, ...]
    min_pt: float
    max_abs_eta: float
    gap: tuple[float, float] | None = None

    def __str__(self) -> str:
        gap = "" if self.gap is None else f", not {self.gap[0]:g} <= |eta| <= {self.gap[1]:g}"
        return f"{'/'.join(self.kinds)}: pT > {self.min_pt:g} GeV, |eta| < {self.max_abs_eta:g}{gap}"

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return asdict(self)


# The files are documented with 2.7 for electrons too, but their detector simulation ends at 2.5.
REQUIREMENTS: tuple[Requirement, ...] = (
    Requirement(("j", "b"), 20.0, MAX_JET_ETA),
    Requirement(("e-", "e+"), 15.0, 2.5),
    Requirement(("m-", "m+"), 15.0, 2.7),
    Requirement(("g",), 20.0, 2.37),
)
"""Requirements for stored objects."""

TRIGGERS: tuple[Requirement, ...] = (
    Requirement(("j", "b"), 60.0, MAX_JET_ETA),
    Requirement(("e-", "e+"), 25.0, 2.47, (1.37, 1.52)),
    Requirement(("m-", "m+"), 25.0, 2.7),
    Requirement(("g",), 25.0, 2.37),
)
"""An event is kept if at least one object meets one of these."""

_TRIGGER_CUT = "one object to keep the event"


@dataclass(frozen=True)
class HarmoniseReport:
    """Report of :func:`harmonise`.

    Attributes
    ----------
    channel
        Name of the channel.
    requirements, triggers
        The requirements on objects, and on one object of each event, as text.
    events, kept
        Number of events before and after.
    lost_first, failed
        For each cut: events lost there and not before, and events that fail it, whatever else they fail.
    objects, kept_objects
        Number of objects of each kind before and after cleaning (of all events).
    low_pt, outside_eta
        Removed objects of each kind: too low in pT (whatever their eta), and only outside the eta range.
    changed_events
        Events in which at least one object was removed.
    """

    channel: str
    requirements: tuple[str, ...]
    triggers: tuple[str, ...]
    events: int
    kept: int
    lost_first: Mapping[str, int]
    failed: Mapping[str, int]
    objects: Mapping[str, int]
    kept_objects: Mapping[str, int]
    low_pt: Mapping[str, int]
    outside_eta: Mapping[str, int]
    changed_events: int

    @property
    def fraction(self) -> float:
        """Fraction of events kept; NaN without events."""
        return self.kept / self.events if self.events else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """68 % Clopper-Pearson interval of :attr:`fraction`."""
        return binomial_interval(self.kept, self.events) if self.events else (0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        fraction = self.fraction if self.events else None
        return {**asdict(self), "fraction": fraction, "interval": list(self.interval)}

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"channel {self.channel}: {self.kept:,} of {self.events:,} events kept ({self.fraction:.4f}, 68 % {low:.4f} to {high:.4f})",
            f"objects removed in {self.changed_events:,} events:",
        ]
        for kind in self.objects:
            if self.low_pt[kind] or self.outside_eta[kind]:
                lines.append(
                    f"  {kind:<2} {self.low_pt[kind]:,} with low pT, {self.outside_eta[kind]:,} outside the eta range, "
                    f"of {self.objects[kind]:,}"
                )
        if len(lines) == 2:
            lines.append("  none")
        lines += [
            f"  {cut}: {self.lost_first[cut]:,} events lost here, {failed:,} fail it"
            for cut, failed in self.failed.items()
        ]
        return "\n".join(lines)


def clean_objects(
    events: ObjectEvents, requirements: Sequence[Requirement] = REQUIREMENTS
) -> tuple[Mask, Mask, Mask]:
    """Which objects meet the requirements.

    Parameters
    ----------
    events
        Sample.
    requirements
        One for each kind of object at most. Kinds without one are kept.

    Returns
    -------
    keep, low_pt, outside_eta
        Boolean arrays ``(n_objects,)``; each object is true in exactly one of them.

    Raises
    ------
    InputError
        If a kind has two requirements or does not exist.
    """
    kinds = [kind for requirement in requirements for kind in requirement.kinds]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise InputError(f"more than one requirement for {', '.join(twice)}; give one for each kind")
    low_pt = np.zeros(events.n_objects, dtype=bool)
    outside = np.zeros(events.n_objects, dtype=bool)
    for requirement in requirements:
        mine = events.of_kind(*requirement.kinds)
        low_pt |= mine & ~(events.pt > requirement.min_pt)
        outside |= mine & ~_in_eta(events, requirement)
    outside &= ~low_pt
    return ~(low_pt | outside), low_pt, outside


def triggered(events: ObjectEvents, triggers: Sequence[Requirement] = TRIGGERS) -> Mask:
    """Which events hold at least one object that meets one of ``triggers``, shape ``(n_events,)``."""
    good = np.zeros(events.n_objects, dtype=bool)
    for trigger in triggers:
        good |= events.of_kind(*trigger.kinds) & (events.pt > trigger.min_pt) & _in_eta(events, trigger)
    return np.asarray(events.count(good) > 0)


def harmonise(
    events: ObjectEvents,
    channel: str | Channel,
    *,
    requirements: Sequence[Requirement] = REQUIREMENTS,
    triggers: Sequence[Requirement] = TRIGGERS,
    strict_met: bool = False,
) -> tuple[ObjectEvents, HarmoniseReport]:
    """Remove objects that do not meet the requirements, and select the channel again.

    MET stays as it is: the contribution of a removed object or a soft particle is not known. Electrons must be
    inside 2.5 (documented is 2.7, but the simulated detector ends there); the gap from 1.37 to 1.52 is required of
    the electron that keeps an event only, as documented.

    Parameters
    ----------
    events
        Sample; use the same arguments for signal and background.
    channel
        ``1``, ``2a``, ``2b`` or ``3``, or cuts of your own.
    requirements
        Requirements for objects.
    triggers
        At least one object of an event must meet one of these; empty: not asked.
    strict_met
        As in :func:`~serendip.theories.channels.cut_masks`.

    Returns
    -------
    events, report
        Selected events with clean objects, in their order, and what was removed.

    Raises
    ------
    InputError
        If a channel or a kind of object does not exist.
    """
    cuts = channel_named(channel)
    keep, low_pt, outside = clean_objects(events, requirements)
    cleaned = events.keep_objects(keep)
    # Jets beyond the limit are already removed if there is a limit.
    masks = cut_masks(cleaned, cuts, max_jet_eta=None, strict_met=strict_met)
    if triggers:
        masks = {_TRIGGER_CUT: triggered(cleaned, triggers), **masks}
    passed = np.ones(len(events), dtype=bool)
    lost_first: dict[str, int] = {}
    for name, mask in masks.items():
        lost_first[name] = int(np.count_nonzero(passed & ~mask))
        passed &= mask

    def per_kind(mask: Mask) -> dict[str, int]:
        counts = np.bincount(events.kind[mask], minlength=len(KINDS))
        return dict(zip(KINDS, counts.tolist(), strict=True))

    return cleaned.select(passed), HarmoniseReport(
        channel=cuts.name,
        requirements=tuple(str(requirement) for requirement in requirements),
        triggers=tuple(str(trigger) for trigger in triggers),
        events=len(events),
        kept=int(np.count_nonzero(passed)),
        lost_first=lost_first,
        failed={name: int(np.count_nonzero(~mask)) for name, mask in masks.items()},
        objects=per_kind(np.ones(events.n_objects, dtype=bool)),
        kept_objects=per_kind(keep),
        low_pt=per_kind(low_pt),
        outside_eta=per_kind(outside),
        changed_events=int(np.count_nonzero(events.count(~keep))),
    )


def _in_eta(events: ObjectEvents, requirement: Requirement) -> Mask:
    eta = np.abs(events.eta)
    inside = eta < requirement.max_abs_eta
    if requirement.gap is not None:
        low, high = requirement.gap
        inside &= (eta < low) | (eta > high)
    return np.asarray(inside)
