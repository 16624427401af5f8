"""Numbers of the fast detector: acceptance, efficiencies, isolation and resolutions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ObjectDetector"]

Floats = NDArray[np.float64]


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
        The other particles with :math:`p_T` above 0.5 GeV within this distance have at most this fraction of the candidate's transverse momentum.
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
