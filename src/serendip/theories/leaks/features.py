"""All quantities of an event by which two samples could be distinguished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from serendip.events.objects import KINDS, ObjectEvents
from serendip.theories.channels import JET_KINDS, LEPTON_KINDS, ht
from serendip.theories.encoding import COMPONENTS, KIND_NAMES, SLOTS, energies, slots

__all__ = ["ALWAYS", "GROUPS", "Feature", "event_features", "object_values", "rules"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

ALWAYS = "all"
"""Rules that begin with this are broken by a single exception, but may never hold."""

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "jet": JET_KINDS,
        "j": ("j",),
        "b": ("b",),
        "e": ("e-", "e+"),
        "m": ("m-", "m+"),
        "g": ("g",),
    }
)
"""Kinds of objects that are looked at together: those with equal requirements, since in a mixture of others an edge may come
from its composition."""

_COUNTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {**GROUPS, "lepton": LEPTON_KINDS, "object": KINDS}
)
_BLOCKS = ("jet", "e", "m", "g")
_MIXED = (("j", "b"), ("e-", "e+"), ("m-", "m+"))
_JET_SLOTS = 4
# Six digits of E, pT and eta leave a few millionths, and the mass of a muon of 15 GeV 2e-5.
_MASSLESS = 1e-4


@dataclass(frozen=True, eq=False)
class Feature:
    """One number for each event.

    Attributes
    ----------
    quantity
        Its quantity (``pt``, ``eta`` ...); findings of one quantity at one place have one cause.
    values
        Shape ``(n_events,)``, NaN where the event has no such object.
    objects
        The same quantity of each single object, shape ``(n,)``; None for a property of the event.
    """

    quantity: str
    values: Array
    objects: Array | None = None

    @cached_property
    def present(self) -> Array:
        """Values that are not NaN."""
        return self.values[~np.isnan(self.values)]


def event_features(events: ObjectEvents) -> dict[str, Feature]:
    r"""Numbers that :func:`~serendip.theories.leaks.comparison.audit` scans.

    These are MET, its azimuth, HT (jets of any eta), MET/HT, the numbers of objects, the components of each slot of the
    85-feature encoding, the transverse momenta of the four hardest jets, and for each group of kinds with equal requirements the smallest and the largest
    :math:`p_T, E, \eta, \phi` and :math:`E/(p_T\cosh\eta)` of its objects, with the largest magnitude where
    both signs occur.

    Parameters
    ----------
    events
        Sample.

    Returns
    -------
    dict
        Name -> feature. The names depend on nothing but the code.
    """
    total = ht(events, max_jet_eta=None)
    result = {
        "met": Feature("met", events.met),
        "met_phi": Feature("met_phi", events.met_phi),
        "ht": Feature("ht", total),
        "met_over_ht": Feature(
            "met_over_ht", np.divide(events.met, total, out=np.full(len(events), np.nan), where=total > 0)
        ),
    }
    masks = {name: events.of_kind(*kinds) for name, kinds in _COUNTED.items()}
    masks |= {KIND_NAMES[kind]: events.of_kind(kind) for kind in SLOTS}
    for name, mask in masks.items():
        result[f"n_{name}"] = Feature("count", events.count(mask).astype(np.float64))
    components = _components(events)
    for kind, n in SLOTS.items():
        name = KIND_NAMES[kind]
        for slot, rows in enumerate(_slot_rows(events, masks[name], n)):
            for component in COMPONENTS:
                values = _of_event(events, rows, components[component])
                result[f"{name}{slot + 1}_{component}"] = Feature(
                    component, values, values[~np.isnan(values)]
                )
    for slot, rows in enumerate(_slot_rows(events, masks["jet"], _JET_SLOTS)):
        values = _of_event(events, rows, components["pt"])
        result[f"jet{slot + 1}_pt"] = Feature("pt", values, values[~np.isnan(values)])
    for group in GROUPS:
        for component, values in components.items():
            result.update(_extremes(events, masks[group], group, component, values))
    return result


def object_values(events: ObjectEvents) -> dict[str, Array]:
    """Numbers as they stand in the file, for tests of their digits: of MET, and of all objects of each group."""
    result = {"met": events.met, "met_phi": events.met_phi}
    for group in ("j", "b", "e", "m", "g"):
        mask = events.of_kind(*GROUPS[group])
        for component in COMPONENTS:
            values = getattr(events, component)[mask]
            result[f"{group}_{component}"] = values[~np.isnan(values)]
    return result


def rules(events: ObjectEvents) -> dict[str, tuple[int, int]]:
    """How often rules of the making hold: the order of neighbours on a line, and objects without mass.

    Each rule is about objects of one group or of two, so that it does not depend on how many of which there are.

    Returns
    -------
    dict
        Rule -> (cases in which it holds, cases).
    """
    same = events.event_of[1:] == events.event_of[:-1]
    falling = events.pt[1:] <= events.pt[:-1]
    massless = np.abs(_components(events)["e_over_p"] - 1) < _MASSLESS
    masks = {name: events.of_kind(*kinds) for name, kinds in GROUPS.items()}
    cases: dict[str, tuple[Mask, Mask]] = {}
    for group, mine in masks.items():
        cases[f"pT falls ({group})"] = (same & mine[1:] & mine[:-1], falling)
        cases[f"{ALWAYS} massless ({group})"] = (mine, massless)
    pairs = [(a, b, masks[a], masks[b]) for i, a in enumerate(_BLOCKS) for b in _BLOCKS[i + 1 :]]
    pairs += [(a, b, events.of_kind(a), events.of_kind(b)) for a, b in _MIXED]
    for a, b, first, second in pairs:
        in_order = first[:-1] & second[1:]
        cases[f"{a} before {b}"] = (same & (in_order | (second[:-1] & first[1:])), in_order)
    return {
        name: (int(np.count_nonzero(counted & holds)), int(np.count_nonzero(counted)))
        for name, (counted, holds) in cases.items()
    }


def _components(events: ObjectEvents) -> dict[str, Array]:
    energy, _ = energies(events)
    return {
        "energy": energy,
        "pt": events.pt,
        "eta": events.eta,
        "phi": events.phi,
        "e_over_p": energy / (events.pt * np.cosh(events.eta)),
    }


def _slot_rows(events: ObjectEvents, mask: Mask, n: int) -> Iterator[NDArray[np.int64]]:
    rows, rank = slots(events, mask)
    for slot in range(n):
        yield rows[rank == slot]


def _of_event(events: ObjectEvents, rows: NDArray[np.int64], values: Array) -> Array:
    result = np.full(len(events), np.nan)
    result[events.event_of[rows]] = values[rows]
    return result


def _extremes(
    events: ObjectEvents, mask: Mask, group: str, component: str, values: Array
) -> Iterator[tuple[str, Feature]]:
    rows = np.flatnonzero(mask)
    owner, chosen = events.event_of[rows], values[rows]
    yield (
        f"{group}_min_{component}",
        Feature(component, _reduce(np.minimum, owner, chosen, len(events)), chosen),
    )
    yield (
        f"{group}_max_{component}",
        Feature(component, _reduce(np.maximum, owner, chosen, len(events)), chosen),
    )
    if component in ("eta", "phi"):
        size = np.abs(chosen)
        yield (
            f"{group}_max_abs_{component}",
            Feature(component, _reduce(np.maximum, owner, size, len(events)), size),
        )


def _reduce(how: np.ufunc, owner: NDArray[np.int64], values: Array, n: int) -> Array:
    result = np.full(n, np.nan)
    if len(owner):
        starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        result[owner[starts]] = how.reduceat(values, starts)
    return result
