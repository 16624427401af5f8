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
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serendip.events.objects import KINDS, ObjectEvents
from serendip.simulate.identification import (
    cluster,
    cylinder,
    delta_r,
    find_candidates,
    ranges,
    smeared_leptons,
)
from serendip.simulate.object_detector import ObjectDetector
from serendip.simulate.record import Record

__all__ = ["CARDS", "MET_KINDS", "MetKind", "ObjectDetector", "measure", "tag_probability"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
MetKind = Literal["measured", "truth"]
MET_KINDS: tuple[MetKind, ...] = ("measured", "truth")

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
    smearings: int = 1,
    min_met: float = 0.0,
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
        ``measured``: the momentum that balances all measured objects and soft particles, as in the public files. ``truth``: the sum of the
        invisible particles.
    detector
        Default: the values of :class:`ObjectDetector`.
    smearings
        How often each event is measured, with independent efficiencies and resolutions; all events once, then all again. Jets are clustered once
        for each set of leptons and photons that is identified, which costs far less than generating as many events.
    min_met
        Measurements with a smaller missing momentum (GeV) are left out.

    Raises
    ------
    InputError
        If FastJet is not installed.
    """
    detector = detector or ObjectDetector()
    n, times = len(record), smearings
    candidates = find_candidates(record, detector)
    found = candidates.identified(rng, times)
    views = cluster(record, candidates, found, detector)
    leptons = smeared_leptons(candidates, found, rng, detector)
    first, size = views.starts[views.of], np.diff(views.starts)[views.of]
    jet_event, jet = ranges(first, size)
    jet_pt, jet_eta, jet_phi = cylinder(views.jets)
    factor = rng.standard_normal(len(jet)) * detector.jet_resolution(jet_pt)[jet]
    factor = np.maximum(1.0 + factor, 0.0)

    if met == "truth":
        mx, my = np.tile(record.invisible, times)
    else:
        change = [
            np.bincount(jet_event, (factor - 1.0) * views.jets[i][jet], minlength=times * n)
            + np.bincount(leptons["event"], leptons[name], minlength=times * n)
            for i, name in ((0, "change_x"), (1, "change_y"))
        ]
        mx, my = -(views.visible[:, views.of] + np.stack(change))
    kept = np.hypot(mx, my) >= min_met

    is_jet = (factor * jet_pt[jet] > detector.jet_pt) & (np.abs(jet_eta) < detector.max_eta)[jet]
    # for all of them, so that the selection does not depend on min_met
    tag = rng.random(is_jet.sum())[kept[jet_event[is_jet]]]
    is_jet &= kept[jet_event]
    factor, jet, jet_event = factor[is_jet], jet[is_jet], jet_event[is_jet]
    smeared = factor * jet_pt[jet]
    flavour = _jet_flavour(jet_event, jet_eta[jet], jet_phi[jet], record, kept, detector)
    tagged = (tag < tag_probability(smeared, flavour)) & (np.abs(jet_eta[jet]) < detector.tag_eta)
    leptons = {name: column[kept[leptons["event"]]] for name, column in leptons.items()}
    kind = np.concatenate([np.where(tagged, KINDS.index("b"), KINDS.index("j")), leptons["kind"]])
    columns = {
        "event": np.concatenate([jet_event, leptons["event"]]),
        "kind": kind,
        "energy": np.concatenate([factor * views.jets[3][jet], leptons["energy"]]),
        "pt": np.concatenate([smeared, leptons["pt"]]),
        "eta": np.concatenate([jet_eta[jet], leptons["eta"]]),
        "phi": np.concatenate([jet_phi[jet], leptons["phi"]]),
    }
    # jets and b-jets are one list, e- and e+ another, and so on
    group = np.array([0, 0, 1, 1, 2, 2, 3])[kind]
    order = np.lexsort((-columns["pt"], group, columns["event"]))
    counts = np.bincount(columns["event"], minlength=times * n)[kept]
    rows = np.tile(np.arange(first_id, first_id + n), times)[kept]
    return ObjectEvents(
        event_id=rows.astype(str) if len(rows) else np.zeros(0, dtype=np.str_),
        process=np.full(len(rows), process),
        weight=np.ones(len(rows)),
        met=np.hypot(mx, my)[kept],
        met_phi=np.arctan2(my, mx)[kept],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{name: columns[name][order] for name in ("kind", "energy", "pt", "eta", "phi")},
    )


def _jet_flavour(
    event: NDArray[np.int64], eta: Floats, phi: Floats, record: Record, kept: Mask, detector: ObjectDetector
) -> NDArray[np.int64]:
    """5, 4 or 0 of each jet; a hadron belongs to the nearest jet of its event. ``event`` numbers measurements, ``kept`` is their mask."""
    flavour = np.zeros(len(event), dtype=np.int64)
    hadrons = record.heavy_hadrons
    heavy = np.flatnonzero(hadrons.pt > detector.tag_hadron_pt)
    starts = np.searchsorted(event, np.arange(len(kept) + 1))
    measured = np.arange(len(kept)).reshape(-1, max(len(record), 1))[:, hadrons.event[heavy]]
    heavy = np.broadcast_to(heavy, measured.shape)[kept[measured]]
    measured = measured[kept[measured]]
    which, jet = ranges(starts[measured], starts[measured + 1] - starts[measured])
    distance = delta_r(eta[jet] - hadrons.eta[heavy[which]], phi[jet] - hadrons.phi[heavy[which]])
    nearest = np.full(len(heavy), np.inf)
    np.minimum.at(nearest, which, distance)
    matched = (distance == nearest[which]) & (distance < detector.tag_radius)
    np.maximum.at(flavour, jet[matched], np.where(hadrons.bottom[heavy[which[matched]]], 5, 4))
    return flavour
