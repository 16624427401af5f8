"""Leptons and photons, identified independently in each measurement of an event, and the jets of all other particles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.objects import KINDS
from serendip.features.jets import inclusive_jets
from serendip.simulate.object_detector import ObjectDetector
from serendip.simulate.record import Record

__all__ = [
    "Candidates",
    "Views",
    "cluster",
    "cylinder",
    "delta_r",
    "find_candidates",
    "ranges",
    "smeared_leptons",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_ELECTRON, _MUON, _PHOTON = 11, 13, 22


@dataclass(frozen=True)
class Candidates:
    """Generated electrons, muons and photons inside the acceptance.

    Attributes
    ----------
    row, event
        Row of the particle, and of its event, shape ``(n_candidates,)``.
    pdg
        Particle Data Group code.
    p4
        px, py, pz, E in GeV, photons close to an electron added, shape ``(4, n_candidates)``.
    isolated
        Whether little surrounds it: others are not identified.
    efficiency
        Probability to identify an isolated one.
    dressed, photon
        Candidates that have a photon added, and the row of the photon, shape ``(n_photons,)``.
    n_events
        Number of generated events.
    """

    row: Ints
    event: Ints
    pdg: NDArray[np.int32]
    p4: Floats
    isolated: Mask
    efficiency: Floats
    dressed: Ints
    photon: Ints
    n_events: int

    def identified(self, rng: np.random.Generator, times: int) -> Mask:
        """Draw which of them are identified in each of several measurements, shape ``(times, n_candidates)``."""
        return (rng.random((times, len(self.row))) < self.efficiency) & self.isolated


@dataclass(frozen=True)
class Views:
    """Events with their jets, once for each set of leptons and photons that was identified in them.

    Attributes
    ----------
    of
        View of each measurement: all events once, then all again, shape ``(times x n_events,)``.
    jets
        px, py, pz, E of the jets of all views, shape ``(4, n_jets)``.
    starts
        First jet of each view, and the end, shape ``(n_views + 1,)``.
    visible
        Sum of px and of py of all visible particles, shape ``(2, n_views)``.
    """

    of: Ints
    jets: Floats
    starts: Ints
    visible: Floats


def find_candidates(record: Record, detector: ObjectDetector) -> Candidates:
    """Electrons, muons and photons, with their surroundings."""
    p4, code = record.visible.p4, np.abs(record.visible.pdg)
    event = np.repeat(np.arange(len(record)), record.visible.counts)
    pt, eta, phi = cylinder(p4)
    limit = np.select(
        [code == _ELECTRON, code == _MUON, code == _PHOTON],
        [detector.electron_eta, detector.muon_eta, detector.photon_eta],
        -1.0,
    )
    candidate = np.flatnonzero((pt > detector.lepton_pt) & (np.abs(eta) < limit))
    starts = np.concatenate([[0], np.cumsum(record.visible.counts)])
    which, other = ranges(starts[event[candidate]], record.visible.counts[event[candidate]])
    me = candidate[which]
    near = (pt[other] > 0.5) & (other != me)
    which, other, me = which[near], other[near], me[near]
    distance = delta_r(eta[other] - eta[me], phi[other] - phi[me])
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
    return Candidates(
        candidate,
        event[candidate],
        record.visible.pdg[candidate],
        dressed,
        isolated,
        efficiency,
        which[dresses],
        other[dresses],
        len(record),
    )


def cluster(record: Record, candidates: Candidates, found: Mask, detector: ObjectDetector) -> Views:
    """Cluster each event without the identified leptons and photons.

    Parameters
    ----------
    found
        Which candidates are identified in each measurement, shape ``(times, n_candidates)``.

    Raises
    ------
    InputError
        If FastJet is not installed.
    """
    n, times = len(record), len(found)
    counts, first = record.visible.counts, np.concatenate([[0], np.cumsum(record.visible.counts)])
    isolated = np.flatnonzero(candidates.isolated)
    # the set of identified candidates of an event as a binary number
    place = np.arange(len(isolated)) - np.searchsorted(candidates.event[isolated], candidates.event[isolated])
    measured = np.arange(times)[:, None] * n + candidates.event[isolated]
    pattern = np.bincount(
        measured.ravel(), (found[:, isolated] * 2.0**place).ravel(), minlength=times * n
    ).astype(np.int64)
    patterns, pattern = np.unique(pattern, return_inverse=True)
    key = np.tile(np.arange(n), times) * max(len(patterns), 1) + pattern
    _, example, of = np.unique(key, return_index=True, return_inverse=True)
    time, event = np.divmod(example, max(n, 1))

    view, particle = ranges(first[event], counts[event])
    start = np.concatenate([[0], np.cumsum(counts[event])])
    _, eta, _ = cylinder(record.visible.p4)
    code = np.abs(record.visible.pdg)
    inside = (np.abs(eta) < detector.max_eta) & ~((code == _MUON) & (np.abs(eta) >= detector.muon_eta))
    seen = inside[particle]
    free = np.ones(len(particle), dtype=bool)

    def take(mask: Mask, rows: Ints, of_candidate: Ints, *, identified: bool) -> None:
        """Unset the particles ``rows`` in the views of their events in which their candidates are identified, or are not."""
        begin = np.searchsorted(event, candidates.event[of_candidate])
        end = np.searchsorted(event, candidates.event[of_candidate], side="right")
        which, views = ranges(begin, end - begin)
        wanted = found[time[views], of_candidate[which]] == identified
        which, views = which[wanted], views[wanted]
        mask[start[views] + rows[which] - first[event[views]]] = False

    muons = isolated[np.abs(candidates.pdg[isolated]) == _MUON]
    # a muon that is not identified leaves nothing in the calorimeters
    take(seen, candidates.row[muons], muons, identified=False)
    take(free, candidates.row[isolated], isolated, identified=True)
    take(free, candidates.photon, candidates.dressed, identified=True)

    p4 = record.visible.p4
    visible = np.stack(
        [np.bincount(view[seen], p4[i, particle[seen]], minlength=len(event)) for i in (0, 1)]
    ).astype(np.float64)
    clustered = seen & free
    px, py, pz, energy = p4[:, particle[clustered]]
    jets, jet_view = inclusive_jets(
        px,
        py,
        pz,
        energy,
        np.bincount(view[clustered], minlength=len(event)),
        radius=detector.jet_radius,
        min_pt=detector.soft_jet_pt,
    )
    return Views(of, jets, np.searchsorted(jet_view, np.arange(len(event) + 1)), visible)


def smeared_leptons(
    candidates: Candidates, found: Mask, rng: np.random.Generator, detector: ObjectDetector
) -> dict[str, NDArray[Any]]:
    """Columns of the identified leptons and photons; ``event`` numbers measurements: all events once, then all again.

    ``change_x`` and ``change_y`` are the contributions of the resolution to px and py (GeV).
    """
    time, which = np.nonzero(found)
    n = candidates.n_events
    true = candidates.p4[:, which]
    pt, eta, phi = cylinder(true)
    signed = candidates.pdg[which]
    relative = np.where(
        np.abs(signed) == _MUON,
        np.hypot(detector.muon_constant, detector.muon_slope * pt),
        np.hypot(detector.ecal_stochastic / np.sqrt(true[3]), detector.ecal_constant),
    )
    factor = np.maximum(1.0 + relative * rng.standard_normal(len(which)), 1e-3)
    kind = np.full(len(which), KINDS.index("g"))
    for pdg, name in {11: "e-", -11: "e+", 13: "m-", -13: "m+"}.items():
        kind[signed == pdg] = KINDS.index(name)
    return {
        "event": time * n + candidates.event[which],
        "kind": kind,
        "energy": factor * true[3],
        "pt": factor * pt,
        "eta": eta,
        "phi": phi,
        "change_x": (factor - 1.0) * true[0],
        "change_y": (factor - 1.0) * true[1],
    }


def ranges(starts: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """Count up from each start: number of the range, and the number in it, both of shape ``(sizes.sum(),)``."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    before = np.cumsum(sizes) - sizes
    return which, np.arange(len(which)) + (np.asarray(starts) - before)[which]


def cylinder(p4: Floats) -> tuple[Floats, Floats, Floats]:
    """Transverse momentum, pseudorapidity and azimuth of px, py, pz, ..."""
    pt = np.hypot(p4[0], p4[1])
    eta = np.arcsinh(np.divide(p4[2], pt, out=np.full_like(pt, np.inf), where=pt > 0))
    return pt, eta, np.arctan2(p4[1], p4[0])


def delta_r(deta: Floats, dphi: Floats) -> Floats:
    """Distance in pseudorapidity and azimuth."""
    dphi = np.abs(dphi)
    return np.hypot(deta, np.minimum(dphi, 2 * np.pi - dphi))
