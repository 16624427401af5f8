r"""Events of any length as arrays of fixed shape.

:func:`encode` gives the 85 numbers of the mixture-of-theories paper (arXiv:2207.07631): MET, its azimuth, the number of
objects of each of seven kinds, and :math:`E, p_T, \eta, \phi` of the hardest 7 jets, 4 b-jets, 2 electrons, 2 positrons,
2 muons and 2 antimuons, padded with zeros. :func:`encode_objects` gives a list of objects with a mask for networks
that act on sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.objects import KINDS, ObjectEvents
from serendip.wording import noun

__all__ = [
    "COMPONENTS",
    "KIND_NAMES",
    "SLOTS",
    "FlatEncoding",
    "ObjectEncoding",
    "encode",
    "encode_objects",
    "energies",
    "feature_names",
    "object_feature_names",
    "slots",
]

KIND_NAMES: Mapping[str, str] = MappingProxyType(
    {"j": "j", "b": "b", "e-": "em", "e+": "ep", "m-": "mm", "m+": "mp", "g": "g"}
)
"""Kinds as parts of column names, which expressions can use."""

SLOTS: Mapping[str, int] = MappingProxyType({"j": 7, "b": 4, "e-": 2, "e+": 2, "m-": 2, "m+": 2})
"""How many objects of each kind are kept."""

COMPONENTS = ("energy", "pt", "eta", "phi")

MET_KIND = "met"
_MIN_LOG = 1e-3

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MissingEnergy = Literal["massless", "refuse"]
Phi = Literal["sincos", "angle"]


@dataclass(frozen=True, eq=False)
class FlatEncoding:
    r"""Result of :func:`encode`.

    Attributes
    ----------
    features
        float32, shape ``(n_events, n_features)``; GeV and rad.
    names
        Names of the columns.
    truncated
        For each kind with slots: objects without a slot. They are counted in ``n_<kind>`` all the same.
    truncated_events
        Events with at least one such object.
    massless
        Objects without energy, for which :math:`p_T \cosh\eta` was taken.
    """

    features: NDArray[np.float32]
    names: tuple[str, ...]
    truncated: Mapping[str, int]
    truncated_events: int
    massless: int

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the features as JSON-able values."""
        return {
            "events": len(self.features),
            "names": list(self.names),
            "truncated": dict(self.truncated),
            "truncated_events": self.truncated_events,
            "massless": self.massless,
        }


@dataclass(frozen=True, eq=False)
class ObjectEncoding:
    r"""Result of :func:`encode_objects`.

    Attributes
    ----------
    values
        float32, shape ``(n_events, max_objects, n_features)``; zero where there is no object.
    mask
        True where there is an object, shape ``(n_events, max_objects)``.
    names
        Names of the last axis.
    truncated
        For each kind: objects that had no place.
    truncated_events
        Events with at least one such object.
    massless
        Objects without energy, for which :math:`p_T \cosh\eta` was taken.
    floored_met
        Events with MET below 1 MeV, whose logarithm is that of 1 MeV.
    """

    values: NDArray[np.float32]
    mask: Mask
    names: tuple[str, ...]
    truncated: Mapping[str, int]
    truncated_events: int
    massless: int
    floored_met: int

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the arrays as JSON-able values."""
        return {
            "events": len(self.values),
            "max_objects": self.values.shape[1],
            "names": list(self.names),
            "truncated": dict(self.truncated),
            "truncated_events": self.truncated_events,
            "massless": self.massless,
            "floored_met": self.floored_met,
        }


def feature_names(*, photons: bool = True, rotate: bool = False) -> tuple[str, ...]:
    """Names of the columns of :func:`encode`, in their order; arguments as there."""
    counted = [kind for kind in KINDS if photons or kind != "g"]
    return (
        "met",
        *(() if rotate else ("met_phi",)),
        *(f"n_{KIND_NAMES[kind]}" for kind in counted),
        *(
            f"{KIND_NAMES[kind]}{slot + 1}_{component}"
            for kind, n in SLOTS.items()
            for slot in range(n)
            for component in COMPONENTS
        ),
    )


def object_feature_names(*, phi: Phi = "sincos") -> tuple[str, ...]:
    """Names of the last axis of :func:`encode_objects`; argument as there."""
    angles = ("sin_phi", "cos_phi") if phi == "sincos" else ("phi",)
    kinds = (*(KIND_NAMES[kind] for kind in KINDS), MET_KIND)
    return ("log_energy", "log_pt", "eta", *angles, *(f"is_{kind}" for kind in kinds))


def energies(events: ObjectEvents, missing: MissingEnergy = "massless") -> tuple[Array, int]:
    r"""Energies of all objects, those that a file does not give included.

    Parameters
    ----------
    events
        Sample.
    missing
        ``massless``: :math:`E = p_T \cosh\eta` where there is none; ``refuse``: an error.

    Returns
    -------
    energy, massless
        GeV, shape ``(n_objects,)``, and how many of them were computed.

    Raises
    ------
    InputError
        If an energy is missing and ``missing`` is ``refuse``, or ``missing`` is something else.
    """
    if missing not in ("massless", "refuse"):
        raise InputError(f"missing energies can be 'massless' or 'refuse', not '{missing}'")
    absent = np.isnan(events.energy)
    n_absent = int(np.count_nonzero(absent))
    if not n_absent:
        return events.energy, 0
    if missing == "refuse":
        first = int(np.argmax(absent))
        raise InputError(
            f"{n_absent:,} {noun(n_absent, 'object has', 'objects have')} no energy, the first in event {int(events.event_of[first])} (counted from 0); "
            "take them as massless, or use a file with four components for each object"
        )
    energy = events.energy.copy()
    energy[absent] = events.pt[absent] * np.cosh(events.eta[absent])
    return energy, n_absent


def slots(events: ObjectEvents, mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    r"""Chosen objects of each event with their rank in falling :math:`p_T`.

    Parameters
    ----------
    events
        Sample.
    mask
        Which objects to rank, shape ``(n_objects,)``.

    Returns
    -------
    objects, rank
        Rows of the chosen objects, event by event with :math:`p_T` falling, and their rank from 0, both ``(n_chosen,)``. Of equal
        :math:`p_T` the first on the line comes first.
    """
    rows = np.flatnonzero(mask)
    owner, pt = events.event_of[rows], events.pt[rows]
    if np.any((owner[1:] == owner[:-1]) & (pt[1:] > pt[:-1])):
        rows = rows[np.lexsort((-pt, owner))]
        owner = events.event_of[rows]
    counts = np.bincount(owner, minlength=len(events))
    first = np.cumsum(counts) - counts
    return rows, np.arange(len(rows)) - first[owner]


def encode(
    events: ObjectEvents,
    *,
    photons: bool = True,
    rotate: bool = False,
    missing_energy: MissingEnergy = "massless",
) -> FlatEncoding:
    r"""Write each event as the 85 numbers of arXiv:2207.07631.

    Parameters
    ----------
    events
        Sample.
    photons
        Count the photons, as in the paper; without, there are 84 numbers. Their momenta are never among them.
    rotate
        Turn each event so that MET points along :math:`\phi = 0`. The column ``met_phi``, which would then be 0 in every event, is left
        out. The paper does not turn events.
    missing_energy
        As in :func:`energies`.

    Raises
    ------
    InputError
        If an energy is missing and ``missing_energy`` is ``refuse``.
    """
    names = feature_names(photons=photons, rotate=rotate)
    features = np.zeros((len(events), len(names)), dtype=np.float32)
    energy, massless = energies(events, missing_energy)
    phi = _turned(events) if rotate else events.phi
    features[:, 0] = events.met
    if not rotate:
        features[:, 1] = events.met_phi
    flat = features.reshape(-1)
    truncated: dict[str, int] = {}
    overflowing = np.zeros(len(events), dtype=bool)
    for code, kind in enumerate(KINDS):
        rows, rank = slots(events, events.kind == code)
        if f"n_{KIND_NAMES[kind]}" in names:
            counts = np.bincount(events.event_of[rows], minlength=len(events))
            features[:, names.index(f"n_{KIND_NAMES[kind]}")] = counts
        if kind not in SLOTS:
            continue
        kept = rank < SLOTS[kind]
        truncated[kind] = int(np.count_nonzero(~kept))
        overflowing[events.event_of[rows[~kept]]] = True
        rows, rank = rows[kept], rank[kept]
        first = names.index(f"{KIND_NAMES[kind]}1_{COMPONENTS[0]}")
        place = events.event_of[rows] * len(names) + first + len(COMPONENTS) * rank
        for i, values in enumerate((energy, events.pt, events.eta, phi)):
            flat[place + i] = values[rows]
    return FlatEncoding(features, names, truncated, int(np.count_nonzero(overflowing)), massless)


def encode_objects(
    events: ObjectEvents,
    max_objects: int = 20,
    *,
    phi: Phi = "sincos",
    rotate: bool = False,
    missing_energy: MissingEnergy = "massless",
) -> ObjectEncoding:
    r"""Write each event as a list of objects, for networks that act on sets.

    The first object is MET, massless and at :math:`\eta = 0`, as in the DeepSet VAE of arXiv:2105.14027. The others follow with
    :math:`p_T` falling; where there are more than ``max_objects`` the softest are left out and counted. The features are
    :math:`\ln E` and :math:`\ln p_T` (GeV), :math:`\eta`, :math:`\phi`, and eight numbers that are 1 for the kind of the object.

    Parameters
    ----------
    events
        Sample.
    max_objects
        Length of the list, MET included.
    phi
        ``sincos``: two numbers, so that :math:`\pm\pi` are the same; ``angle``: one number in rad.
    rotate
        Turn each event so that MET points along :math:`\phi = 0`.
    missing_energy
        As in :func:`energies`.

    Returns
    -------
    ObjectEncoding
        MET below 1 MeV is taken as 1 MeV in the logarithm and counted in ``floored_met``.

    Raises
    ------
    InputError
        If an option is not known, an energy or :math:`p_T` is not positive, or an energy is missing and refused.
    """
    if max_objects < 2:
        raise InputError(f"max_objects must be at least 2 (MET and one object), got {max_objects}")
    if phi not in ("sincos", "angle"):
        raise InputError(f"phi can be 'sincos' or 'angle', not '{phi}'")
    energy, massless = energies(events, missing_energy)
    for name, values in (("energy", energy), ("pt", events.pt)):
        if np.any(~(values > 0)):
            first = int(np.argmax(~(values > 0)))
            raise InputError(
                f"the {name} of an object of event {int(events.event_of[first])} (counted from 0) is {values[first]:g}; its "
                "logarithm needs positive numbers"
            )
    names = object_feature_names(phi=phi)
    angle = _turned(events) if rotate else events.phi
    met_angle = np.zeros(len(events)) if rotate else events.met_phi
    met = np.maximum(events.met, _MIN_LOG)
    encoded = np.zeros((len(events), max_objects, len(names)), dtype=np.float32)
    mask = np.zeros((len(events), max_objects), dtype=bool)

    rows, rank = slots(events, np.ones(events.n_objects, dtype=bool))
    lost = rows[rank + 1 >= max_objects]
    rows, rank = rows[rank + 1 < max_objects], rank[rank + 1 < max_objects]
    mask[:, 0] = True
    mask.reshape(-1)[events.event_of[rows] * max_objects + 1 + rank] = True
    flat = encoded.reshape(-1)
    at = (events.event_of[rows] * max_objects + 1 + rank) * len(names)
    for i, column in enumerate(_columns(energy[rows], events.pt[rows], events.eta[rows], angle[rows], phi)):
        flat[at + i] = column
    one_hot = len(names) - len(KINDS) - 1
    flat[at + one_hot + events.kind[rows]] = 1.0
    for i, column in enumerate(_columns(met, met, np.zeros(len(events)), met_angle, phi)):
        encoded[:, 0, i] = column
    encoded[:, 0, -1] = 1.0

    per_kind = np.bincount(events.kind[lost], minlength=len(KINDS)).tolist()
    return ObjectEncoding(
        encoded,
        mask,
        names,
        truncated=dict(zip(KINDS, per_kind, strict=True)),
        truncated_events=len(np.unique(events.event_of[lost])),
        massless=massless,
        floored_met=int(np.count_nonzero(events.met < _MIN_LOG)),
    )


def _columns(energy: Array, pt: Array, eta: Array, angle: Array, phi: Phi) -> Iterator[Array]:
    yield np.log(energy)
    yield np.log(pt)
    yield eta
    yield from (np.sin(angle), np.cos(angle)) if phi == "sincos" else (angle,)


def _turned(events: ObjectEvents) -> Array:
    delta = events.phi - events.met_phi[events.event_of]
    # pi - ((pi - x) mod 2 pi) lies in (-pi, pi], the range of the files
    return np.asarray(math.pi - np.mod(math.pi - delta, 2 * math.pi))
