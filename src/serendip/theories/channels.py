r"""Event selections of the Dark Machines anomaly challenge (arXiv:2105.14027, section 2).

Four selections that overlap. :math:`H_T` is the scalar sum of the transverse momenta of all jets (b-jets
included) with :math:`p_T > 20` GeV inside the allowed :math:`|\eta|`; the jets that are counted obey the same limit.
The public signal files of channel 1 were selected with jets of any :math:`|\eta|`, the background with
:math:`|\eta| < 2.8`, so that the limit is a parameter everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.objects import ObjectEvents

__all__ = [
    "CHANNELS",
    "HT_JET_PT",
    "JET_KINDS",
    "LEPTON_KINDS",
    "MAX_JET_ETA",
    "Channel",
    "Multiplicity",
    "channel_named",
    "cut_masks",
    "ht",
    "select",
]

JET_KINDS = ("j", "b")
LEPTON_KINDS = ("e-", "e+", "m-", "m+")
HT_JET_PT = 20.0
MAX_JET_ETA = 2.8

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Multiplicity:
    """At least ``count`` objects of the given kinds with ``pt > min_pt`` (GeV, strictly above)."""

    count: int
    kinds: tuple[str, ...]
    min_pt: float

    def __str__(self) -> str:
        what = (
            "jets"
            if self.kinds == JET_KINDS
            else "leptons"
            if self.kinds == LEPTON_KINDS
            else "/".join(self.kinds)
        )
        return f"N({what}, pT > {self.min_pt:g} GeV) >= {self.count}"


@dataclass(frozen=True)
class Channel:
    """Cuts of one channel; GeV. A limit of 0 means no cut.

    Attributes
    ----------
    name
        ``1``, ``2a``, ``2b`` or ``3``.
    min_ht, min_met
        ``HT >= min_ht`` and ``MET >= min_met``.
    min_met_over_ht
        ``MET >= min_met_over_ht * HT``.
    multiplicities
        Numbers of jets and leptons.
    luminosity
        Integrated luminosity of the official background file (1/fb).
    background_events
        Number of events of the official background file.
    """

    name: str
    min_ht: float
    min_met: float
    min_met_over_ht: float
    multiplicities: tuple[Multiplicity, ...]
    luminosity: float
    background_events: int

    def cuts(self, *, strict_met: bool = False) -> tuple[str, ...]:
        """Names of the cuts in the order in which they are applied, as the keys of :func:`cut_masks`."""
        sign = ">" if strict_met else ">="
        names = [f"HT >= {self.min_ht:g} GeV"] if self.min_ht > 0 else []
        names += [f"MET {sign} {self.min_met:g} GeV"] if self.min_met > 0 else []
        names += [f"MET/HT >= {self.min_met_over_ht:g}"] if self.min_met_over_ht > 0 else []
        return (*names, *(str(multiplicity) for multiplicity in self.multiplicities))

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {**asdict(self), "cuts": list(self.cuts())}


CHANNELS: Mapping[str, Channel] = MappingProxyType(
    {
        channel.name: channel
        for channel in (
            Channel(
                "1",
                600.0,
                200.0,
                0.2,
                (Multiplicity(4, JET_KINDS, 50.0), Multiplicity(1, JET_KINDS, 200.0)),
                7.79,
                214_185,
            ),
            Channel("2a", 0.0, 50.0, 0.0, (Multiplicity(3, LEPTON_KINDS, 15.0),), 309.6, 20_005),
            Channel("2b", 50.0, 50.0, 0.0, (Multiplicity(2, LEPTON_KINDS, 15.0),), 7.8, 340_268),
            Channel("3", 600.0, 100.0, 0.0, (), 8.02, 8_544_111),
        )
    }
)


def channel_named(channel: str | Channel) -> Channel:
    """Look a channel up.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if isinstance(channel, Channel):
        return channel
    try:
        return CHANNELS[channel]
    except KeyError:
        raise InputError(f"there is no channel '{channel}'; expected one of {', '.join(CHANNELS)}") from None


def _inside(events: ObjectEvents, max_jet_eta: float | None) -> Mask:
    if max_jet_eta is None:
        return np.ones(events.n_objects, dtype=bool)
    if not max_jet_eta > 0 or not math.isfinite(max_jet_eta):
        raise InputError(
            f"max_jet_eta must be a positive number, or None for jets of any eta; got {max_jet_eta}"
        )
    return np.asarray(np.abs(events.eta) < max_jet_eta)


def ht(events: ObjectEvents, *, max_jet_eta: float | None = MAX_JET_ETA) -> Array:
    r""":math:`H_T`, scalar sum of the :math:`p_T` of jets and b-jets with :math:`p_T > 20` GeV.

    Parameters
    ----------
    events
        Sample.
    max_jet_eta
        Only jets with ``|eta| < max_jet_eta``; None takes all.

    Returns
    -------
    ndarray
        GeV, shape ``(n_events,)``.

    Raises
    ------
    InputError
        If ``max_jet_eta`` is not positive.
    """
    jets = events.of_kind(*JET_KINDS) & (events.pt > HT_JET_PT) & _inside(events, max_jet_eta)
    return events.sum(events.pt, jets)


def cut_masks(
    events: ObjectEvents,
    channel: str | Channel,
    *,
    max_jet_eta: float | None = MAX_JET_ETA,
    strict_met: bool = False,
) -> dict[str, Mask]:
    """Which events pass each single cut of a channel; the selection is all of them together.

    Parameters
    ----------
    events
        Sample.
    channel
        ``1``, ``2a``, ``2b`` or ``3``, or cuts of your own.
    max_jet_eta
        Jets count, in HT and in the numbers of jets, with ``|eta| < max_jet_eta``. None: jets of any eta, as the public
        signal files of channel 1 were selected.
    strict_met
        ``MET >`` instead of ``MET >=``. The paper writes ``>`` for channel 3 and ``>=`` elsewhere, the description of
        the files ``>=`` everywhere, which is the default.

    Returns
    -------
    dict
        Text of the cut -> boolean array ``(n_events,)``, in the order of :meth:`Channel.cuts`.

    Raises
    ------
    InputError
        If the channel does not exist or ``max_jet_eta`` is not positive.
    """
    cuts = channel_named(channel)
    inside = _inside(events, max_jet_eta)
    total = ht(events, max_jet_eta=max_jet_eta)
    passed: list[Mask] = []
    if cuts.min_ht > 0:
        passed.append(total >= cuts.min_ht)
    if cuts.min_met > 0:
        passed.append(events.met > cuts.min_met if strict_met else events.met >= cuts.min_met)
    if cuts.min_met_over_ht > 0:
        passed.append(events.met >= cuts.min_met_over_ht * total)
    for need in cuts.multiplicities:
        counted = events.of_kind(*need.kinds) & (events.pt > need.min_pt)
        if set(need.kinds) & set(JET_KINDS):
            counted &= inside
        passed.append(events.count(counted) >= need.count)
    return dict(zip(cuts.cuts(strict_met=strict_met), passed, strict=True))


def select(
    events: ObjectEvents,
    channel: str | Channel,
    *,
    max_jet_eta: float | None = MAX_JET_ETA,
    strict_met: bool = False,
) -> Mask:
    """Which events are in a channel, shape ``(n_events,)``; arguments and errors as :func:`cut_masks`."""
    masks = cut_masks(events, channel, max_jet_eta=max_jet_eta, strict_met=strict_met)
    return np.asarray(np.logical_and.reduce([np.ones(len(events), dtype=bool), *masks.values()]))
