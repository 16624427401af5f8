"""A fast detector: smeared tracks and calorimeter cells in place of particles.

It is a caricature with the resolutions of a general-purpose LHC detector, documented in full by
:class:`Detector`: no magnetic field, no pile-up, no inefficiency inside the acceptance. Every charged
particle is measured by the tracker alone and leaves nothing in the calorimeters, as in ideal particle flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.simulate.pythia import Particles

__all__ = ["Detector", "Measured", "detect"]

Floats = NDArray[np.float64]

_MUON, _ELECTRON, _PHOTON = 13, 11, 22
# Charged particles among those that Pythia leaves undecayed (its default: c tau above 1 m, and leptons).
_CHARGED = (11, 13, 211, 321, 2212, 3112, 3222, 3312, 3334)


@dataclass(frozen=True)
class Detector:
    r"""Acceptance, resolution and granularity.

    Attributes
    ----------
    track_eta, track_pt
        Tracks are found for :math:`|\eta|` below and transverse momentum (GeV) above these values.
    track_constant, track_slope
        Relative resolution :math:`\sigma(p_T)/p_T` = constant + slope x :math:`p_T` (GeV).
    calorimeter_eta, cell_energy
        Calorimeters cover :math:`|\eta|` below this value; cells below this energy (GeV) are dropped.
    ecal_stochastic, ecal_constant, ecal_cell
        :math:`\sigma(E)/E = a/\sqrt E \oplus b` for photons and electrons outside the tracker, and the
        cell size in pseudorapidity and azimuth.
    hcal_stochastic, hcal_constant, hcal_cell
        The same for neutral hadrons and for charged hadrons outside the tracker.
    """

    track_eta: float = 2.5
    track_pt: float = 0.5
    track_constant: float = 0.01
    track_slope: float = 5e-5
    calorimeter_eta: float = 4.9
    cell_energy: float = 0.5
    ecal_stochastic: float = 0.10
    ecal_constant: float = 0.007
    ecal_cell: float = 0.0174
    hcal_stochastic: float = 0.90
    hcal_constant: float = 0.05
    hcal_cell: float = 0.087


@dataclass(frozen=True)
class Measured:
    """Massless measured objects of many events, one event after the other.

    Attributes
    ----------
    p4
        px, py, pz, E in GeV, shape ``(4, n_objects)``.
    counts
        Number of objects of each event, shape ``(n_events,)``.
    """

    p4: Floats
    counts: NDArray[np.int64]


def detect(particles: Particles, rng: np.random.Generator, detector: Detector | None = None) -> Measured:
    """Measure the particles of many events.

    Parameters
    ----------
    particles
        Stable particles; neutrinos must have been removed.
    rng
        Source of the smearing.
    detector
        Default: the values of :class:`Detector`.
    """
    detector = detector or Detector()
    px, py, pz, energy = particles.p4
    pt = np.hypot(px, py)
    eta = np.arcsinh(np.divide(pz, pt, out=np.full_like(pt, np.inf), where=pt > 0))
    phi = np.arctan2(py, px)
    event = np.repeat(np.arange(len(particles.counts)), particles.counts)
    flavour = np.abs(particles.pdg)
    charged = np.isin(flavour, _CHARGED)
    in_tracker = np.abs(eta) < detector.track_eta
    in_calorimeter = np.abs(eta) < detector.calorimeter_eta
    track = charged & in_tracker & (pt > detector.track_pt)
    shower = in_calorimeter & ~(charged & in_tracker)
    electromagnetic = shower & ((flavour == _PHOTON) | (flavour == _ELECTRON))
    hadronic = shower & ~electromagnetic & (flavour != _MUON)

    sigma = detector.track_constant + detector.track_slope * pt[track]
    smeared = pt[track] * np.maximum(1.0 + sigma * rng.standard_normal(sigma.shape), 0.0)
    parts = [(event[track], smeared, eta[track], phi[track])]
    for hit, stochastic, constant, size in (
        (electromagnetic, detector.ecal_stochastic, detector.ecal_constant, detector.ecal_cell),
        (hadronic, detector.hcal_stochastic, detector.hcal_constant, detector.hcal_cell),
    ):
        number, e, cell_eta, cell_phi = _cells(event[hit], energy[hit], eta[hit], phi[hit], size)
        resolution = np.hypot(stochastic * np.sqrt(e), constant * e)
        e = e + resolution * rng.standard_normal(e.shape)
        seen = e > detector.cell_energy
        parts.append((number[seen], e[seen] / np.cosh(cell_eta[seen]), cell_eta[seen], cell_phi[seen]))
    number, pt, eta, phi = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(number, kind="stable")
    pt, eta, phi = pt[order], eta[order], phi[order]
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
    return Measured(p4, np.bincount(number, minlength=len(particles.counts)).astype(np.int64))


def _cells(
    event: NDArray[np.int64], energy: Floats, eta: Floats, phi: Floats, size: float
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Sum energies in cells; event number, energy and centre (eta, phi) of each cell that was hit."""
    n_phi = round(2 * np.pi / size)
    width = 2 * np.pi / n_phi
    i_eta = np.floor(eta / size).astype(np.int64)
    i_phi = np.floor((phi + np.pi) / width).astype(np.int64) % n_phi
    half = int(np.max(np.abs(i_eta), initial=0)) + 1
    key = (event * (2 * half + 1) + i_eta + half) * n_phi + i_phi
    cell, where = np.unique(key, return_inverse=True)
    total = np.bincount(where, weights=energy, minlength=len(cell)).astype(np.float64)
    row, i_phi = np.divmod(cell, n_phi)
    number, i_eta = np.divmod(row, 2 * half + 1)
    centre_eta: Floats = (i_eta - half + 0.5) * size
    centre_phi: Floats = (i_phi + 0.5) * width - np.pi
    return number, total, centre_eta, centre_phi
