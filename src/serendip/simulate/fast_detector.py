r"""A fast detector for lists of objects: jets, b-jets, electrons, muons, photons and missing momentum.

Efficiencies and isolation follow the ATLAS card of Delphes (arXiv:1307.6346). There are no calorimeter cells: jets are
clustered from generated particles and then smeared with

.. math:: \frac{\sigma(p_T)}{p_T} = \frac{N}{p_T} \oplus \frac{S}{\sqrt{p_T}} \oplus C,

Two sets of N, S and C are in :data:`CARDS`. ``darkmachines`` (24 % at 20 GeV, 10 % at 300 GeV) makes the missing momentum of
QCD events as frequent as in the public files of arXiv:2105.14027: about 5 % of the events with :math:`H_T > 600` GeV have more
than 100 GeV. ``atlas`` is the jet resolution of ATLAS in Run 2, 24 % at 20 GeV and 6 % at 300 GeV (arXiv:2007.02645).
Tails are Gaussian. No pile-up, no magnetic field, no displaced vertices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serendip.events.objects import KINDS, ObjectEvents
from serendip.features.jets import inclusive_jets
from serendip.simulate.record import Record

__all__ = ["CARDS", "MET_KINDS", "MetKind", "ObjectDetector", "measure", "tag_probability"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
MetKind = Literal["measured", "truth"]
MET_KINDS: tuple[MetKind, ...] = ("measured", "truth")

_ELECTRON, _MUON, _PHOTON = 11, 13, 22


@dataclass(frozen=True)
class ObjectDetector:
    r"""Numbers of the fast detector; momenta in GeV.

    Attributes
    ----------
    max_eta
        Particles beyond are not measured.
    jet_radius, jet_pt
        Anti-kT radius, and smallest transverse momentum of a jet that becomes an object.
    soft_jet_pt
        Jets above this one are smeared, and their change enters the missing momentum.
    jet_noise, jet_stochastic, jet_constant
        N (GeV), S (square root of GeV) and C of the jet resolution.
    lepton_pt, electron_eta, muon_eta, photon_eta
        Smallest transverse momentum of leptons and photons, largest :math:`|\eta|`.
    central_eta, central_efficiency, forward_efficiency
        Probability to identify an isolated electron, muon or photon inside and outside of this :math:`|\eta|`.
    isolation_radius, isolation_ratio, muon_isolation_ratio
        The other particles with :math:`p_T` above 0.5 GeV within this distance carry at most this fraction of
        the candidate's transverse momentum.
    dressing_radius
        Photons this close to an electron belong to it.
    ecal_stochastic, ecal_constant
        :math:`\sigma(E)/E = a/\sqrt E \oplus b` of electrons and photons.
    muon_constant, muon_slope
        :math:`\sigma(p_T)/p_T` = constant :math:`\oplus` slope x :math:`p_T`.
    tag_eta, tag_radius, tag_hadron_pt
        A jet inside this :math:`|\eta|` is a b-jet (c-jet) if a bottom (charm) hadron above this transverse momentum lies
        within this distance.
    """

    max_eta: float = 4.9
    jet_radius: float = 0.4
    jet_pt: float = 20.0
    soft_jet_pt: float = 5.0
    jet_noise: float = 2.9
    jet_stochastic: float = 1.0
    jet_constant: float = 0.08
    lepton_pt: float = 10.0
    electron_eta: float = 2.5
    muon_eta: float = 2.7
    photon_eta: float = 2.5
    central_eta: float = 1.5
    central_efficiency: float = 0.95
    forward_efficiency: float = 0.85
    isolation_radius: float = 0.5
    isolation_ratio: float = 0.12
    muon_isolation_ratio: float = 0.25
    dressing_radius: float = 0.1
    ecal_stochastic: float = 0.101
    ecal_constant: float = 0.0017
    muon_constant: float = 0.015
    muon_slope: float = 1.5e-4
    tag_eta: float = 2.5
    tag_radius: float = 0.4
    tag_hadron_pt: float = 5.0

    def jet_resolution(self, pt: Floats) -> Floats:
        """Relative resolution of jets with transverse momentum ``pt`` (GeV)."""
        return np.sqrt((self.jet_noise / pt) ** 2 + self.jet_stochastic**2 / pt + self.jet_constant**2)


CARDS: Mapping[str, ObjectDetector] = MappingProxyType(
    {
        "darkmachines": ObjectDetector(),
        "atlas": ObjectDetector(jet_stochastic=0.84, jet_constant=0.035),
    }
)
"""Named detectors: they differ in the resolution of jets."""


def tag_probability(pt: Floats, flavour: NDArray[np.integer[Any]]) -> Floats:
    r"""Probability that a jet is b-tagged (ATL-PHYS-PUB-2015-022 as in the ATLAS card of Delphes).

    .. math::
       \epsilon_b = 0.80 \tanh(0.003 p_T) \frac{30}{1 + 0.086 p_T}, \quad
       \epsilon_c = 0.20 \tanh(0.02 p_T) \frac{1}{1 + 0.0034 p_T}, \quad
       \epsilon_{light} = 0.002 + 7.3 \times 10^{-6} p_T

    Parameters
    ----------
    pt
        GeV.
    flavour
        5, 4, or anything else for light.
    """
    bottom = 0.80 * np.tanh(0.003 * pt) * 30.0 / (1.0 + 0.086 * pt)
    charm = 0.20 * np.tanh(0.02 * pt) / (1.0 + 0.0034 * pt)
    light = np.minimum(0.002 + 7.3e-6 * pt, 1.0)
    return np.select([flavour == 5, flavour == 4], [bottom, charm], light)


def measure(
    record: Record,
    rng: np.random.Generator,
    *,
    process: str,
    first_id: int = 0,
    met: MetKind = "measured",
    detector: ObjectDetector | None = None,
) -> ObjectEvents:
    """Measure generated events.

    Objects of an event are ordered as in the public files: jets and b-jets falling in transverse momentum, then
    electrons, muons and photons. Weights are 1.

    Parameters
    ----------
    record
        Generated events.
    rng
        Source of smearing and efficiencies.
    process
        Name written into the events.
    first_id
        Events are numbered from here.
    met
        ``measured``: what balances all measured objects and soft particles, as in the public files. ``truth``: the sum of the
        invisible particles.
    detector
        Default: the values of :class:`ObjectDetector`.

    Raises
    ------
    InputError
        If FastJet is not installed.
    """
    detector = detector or ObjectDetector()
    n = len(record)
    p4, code = record.visible.p4, np.abs(record.visible.pdg)
    event = np.repeat(np.arange(n), record.visible.counts)
    pt, eta, phi = _cylinder(p4)
    inside = np.abs(eta) < detector.max_eta

    leptons, lost, used = _leptons_and_photons(p4, pt, eta, phi, event, record, rng, detector)
    seen = inside & ~lost & ~((code == _MUON) & (np.abs(eta) >= detector.muon_eta))
    clustered = seen & ~used
    px, py, pz, energy = p4[:, clustered]
    jet_p4, jet_event = inclusive_jets(
        px,
        py,
        pz,
        energy,
        np.bincount(event[clustered], minlength=n),
        radius=detector.jet_radius,
        min_pt=detector.soft_jet_pt,
    )
    jet_pt, jet_eta, jet_phi = _cylinder(jet_p4)
    factor = np.maximum(1.0 + detector.jet_resolution(jet_pt) * rng.standard_normal(len(jet_pt)), 0.0)

    if met == "truth":
        mx, my = record.invisible
    else:
        true_pt = np.stack([np.bincount(event[seen], p4[i, seen], minlength=n) for i in (0, 1)])
        change = np.stack(
            [
                np.bincount(jet_event, (factor - 1.0) * jet_p4[i], minlength=n)
                + np.bincount(leptons["event"], leptons[name], minlength=n)
                for i, name in ((0, "change_x"), (1, "change_y"))
            ]
        )
        mx, my = -(true_pt + change)

    is_jet = (factor * jet_pt > detector.jet_pt) & (np.abs(jet_eta) < detector.max_eta)
    smeared = (factor * jet_pt)[is_jet]
    flavour = _jet_flavour(
        jet_event[is_jet], jet_eta[is_jet], jet_phi[is_jet], jet_pt[is_jet], record, detector
    )
    tagged = (rng.random(len(smeared)) < tag_probability(smeared, flavour)) & (
        np.abs(jet_eta[is_jet]) < detector.tag_eta
    )
    kind = np.concatenate([np.where(tagged, KINDS.index("b"), KINDS.index("j")), leptons["kind"]])
    columns = {
        "event": np.concatenate([jet_event[is_jet], leptons["event"]]),
        "kind": kind,
        "energy": np.concatenate([(factor * jet_p4[3])[is_jet], leptons["energy"]]),
        "pt": np.concatenate([smeared, leptons["pt"]]),
        "eta": np.concatenate([jet_eta[is_jet], leptons["eta"]]),
        "phi": np.concatenate([jet_phi[is_jet], leptons["phi"]]),
    }
    # jets and b-jets are one list, e- and e+ another, and so on
    group = np.array([0, 0, 1, 1, 2, 2, 3])[kind]
    order = np.lexsort((-columns["pt"], group, columns["event"]))
    counts = np.bincount(columns["event"], minlength=n)
    return ObjectEvents(
        event_id=np.arange(first_id, first_id + n).astype(str) if n else np.zeros(0, dtype=np.str_),
        process=np.full(n, process),
        weight=np.ones(n),
        met=np.hypot(mx, my),
        met_phi=np.arctan2(my, mx),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{name: columns[name][order] for name in ("kind", "energy", "pt", "eta", "phi")},
    )


def _leptons_and_photons(
    p4: Floats,
    pt: Floats,
    eta: Floats,
    phi: Floats,
    event: NDArray[np.int64],
    record: Record,
    rng: np.random.Generator,
    detector: ObjectDetector,
) -> tuple[dict[str, NDArray[Any]], Mask, Mask]:
    """Columns of identified leptons and photons; masks of unseen muons and of particles that are used up."""
    code = np.abs(record.visible.pdg)
    limit = np.select(
        [code == _ELECTRON, code == _MUON, code == _PHOTON],
        [detector.electron_eta, detector.muon_eta, detector.photon_eta],
        -1.0,
    )
    candidate = np.flatnonzero((pt > detector.lepton_pt) & (np.abs(eta) < limit))
    starts = np.concatenate([[0], np.cumsum(record.visible.counts)])
    sizes = record.visible.counts[event[candidate]]
    which = np.repeat(np.arange(len(candidate)), sizes)
    other = np.arange(sizes.sum()) + np.repeat(
        starts[event[candidate]] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes
    ).astype(np.int64)
    me = candidate[which]
    near = (pt[other] > 0.5) & (other != me)
    which, other, me = which[near], other[near], me[near]
    distance = _delta_r(eta[other] - eta[me], phi[other] - phi[me])
    near = distance < detector.isolation_radius
    which, other, me, distance = which[near], other[near], me[near], distance[near]

    dresses = (code[me] == _ELECTRON) & (code[other] == _PHOTON) & (distance < detector.dressing_radius)
    around = np.bincount(which[~dresses], pt[other[~dresses]], minlength=len(candidate))
    dressed = p4[:, candidate] + np.stack(
        [np.bincount(which[dresses], p4[i, other[dresses]], minlength=len(candidate)) for i in range(4)]
    )
    ratio = np.where(code[candidate] == _MUON, detector.muon_isolation_ratio, detector.isolation_ratio)
    isolated = around <= ratio * np.hypot(dressed[0], dressed[1])
    efficiency = np.where(
        np.abs(eta[candidate]) <= detector.central_eta,
        detector.central_efficiency,
        detector.forward_efficiency,
    )
    found = isolated & (rng.random(len(candidate)) < efficiency)

    lost = np.zeros(len(pt), dtype=bool)
    # a muon that is not identified leaves nothing in the calorimeters
    lost[candidate[isolated & ~found & (code[candidate] == _MUON)]] = True
    used = np.zeros(len(pt), dtype=bool)
    used[candidate[found]] = True
    used[other[dresses & found[which]]] = True

    true = dressed[:, found]
    rows = candidate[found]
    true_pt, true_eta, true_phi = _cylinder(true)
    relative = np.where(
        code[rows] == _MUON,
        np.hypot(detector.muon_constant, detector.muon_slope * true_pt),
        np.hypot(detector.ecal_stochastic / np.sqrt(true[3]), detector.ecal_constant),
    )
    factor = np.maximum(1.0 + relative * rng.standard_normal(len(rows)), 1e-3)
    signed = record.visible.pdg[rows]
    names = {11: "e-", -11: "e+", 13: "m-", -13: "m+"}
    kind = np.full(len(rows), KINDS.index("g"))
    for pdg, name in names.items():
        kind[signed == pdg] = KINDS.index(name)
    return (
        {
            "event": event[rows],
            "kind": kind,
            "energy": factor * true[3],
            "pt": factor * true_pt,
            "eta": true_eta,
            "phi": true_phi,
            "change_x": (factor - 1.0) * true[0],
            "change_y": (factor - 1.0) * true[1],
        },
        lost,
        used,
    )


def _jet_flavour(
    event: NDArray[np.int64],
    eta: Floats,
    phi: Floats,
    pt: Floats,
    record: Record,
    detector: ObjectDetector,
) -> NDArray[np.int64]:
    """5, 4 or 0 of each jet; a hadron belongs to the nearest jet."""
    flavour = np.zeros(len(event), dtype=np.int64)
    hadrons = record.heavy_hadrons
    heavy = np.flatnonzero(hadrons.pt > detector.tag_hadron_pt)
    n_jets = np.bincount(event, minlength=len(record))
    by_event = np.argsort(event, kind="stable")
    starts = np.concatenate([[0], np.cumsum(n_jets)])
    sizes = n_jets[hadrons.event[heavy]]
    which = np.repeat(heavy, sizes)
    place = np.arange(sizes.sum()) + np.repeat(
        starts[hadrons.event[heavy]] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes
    ).astype(np.int64)
    jet = by_event[place]
    distance = _delta_r(eta[jet] - hadrons.eta[which], phi[jet] - hadrons.phi[which])
    nearest = np.full(len(hadrons.pt), np.inf)
    np.minimum.at(nearest, which, distance)
    matched = (distance == nearest[which]) & (distance < detector.tag_radius)
    np.maximum.at(flavour, jet[matched], np.where(hadrons.bottom[which[matched]], 5, 4))
    return flavour


def _cylinder(p4: Floats) -> tuple[Floats, Floats, Floats]:
    pt = np.hypot(p4[0], p4[1])
    eta = np.arcsinh(np.divide(p4[2], pt, out=np.full_like(pt, np.inf), where=pt > 0))
    return pt, eta, np.arctan2(p4[1], p4[0])


def _delta_r(deta: Floats, dphi: Floats) -> Floats:
    dphi = np.abs(dphi)
    return np.hypot(deta, np.minimum(dphi, 2 * np.pi - dphi))
