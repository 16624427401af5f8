r"""Supersymmetric points of our own and of arXiv:2105.14027 with broken R-parity.

The couplings are :math:`\lambda` (LLE: leptons), :math:`\lambda'` (LQD: leptons and quarks) and :math:`\lambda''` (UDD: quarks).
Only one coupling is used at a time, and every decay is prompt (hep-ph/0406039). Names that begin as those of arXiv:2207.07631 decay
directly as there; ``lle``, ``lqd`` or ``udd`` in a name: all particles decay to a neutralino, and that through the coupling.
"""

from __future__ import annotations

from serendip.simulate.catalogue.susy import (
    ALL_SLEPTONS,
    ALL_SNEUTRINOS,
    C1_TO_W,
    CHARGINOS,
    CHI,
    GLUINO_TO_CHI,
    HIGGSINOS,
    SLEPTON_TO_CHI,
    SNEUTRINOS,
    SOFT,
    SQUARK_TO_CHI,
    STRONG,
    higgsino_masses,
    susy_point,
    third_generation,
)
from serendip.simulate.slha import Decays
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

# lambda_122: an electron or muon neutrino, a muon, and the other lepton
_CHI_LLE: Decays = {
    "N1": [(0.25, (12, 13, -13)), (0.25, (-12, 13, -13)), (0.25, (14, 11, -13)), (0.25, (-14, -11, 13))]
}
# lambda'_2jk with light quarks
_CHI_LQD: Decays = {
    "N1": [(0.25, (13, 2, -1)), (0.25, (-13, -2, 1)), (0.25, (14, 1, -1)), (0.25, (-14, -1, 1))]
}
_CHI_UDD: Decays = {"N1": [(0.5, (2, 1, 3)), (0.5, (-2, -1, -3))]}
SLEPTON_LLE: Decays = {
    "eL": [(1.0, (-14, 13))],
    "eR": [(0.5, (13, 12)), (0.5, (11, 14))],
    "muL": [(1.0, (-12, 13))],
    "muR": [(0.5, (13, 12)), (0.5, (11, 14))],
}
_SNEUTRINO_TO_CHI: Decays = {
    name: [(1.0, (code, CHI))] for name, code in zip(SNEUTRINOS, (12, 14, 16), strict=True)
}


def _strong() -> list[TheoryPoint]:
    out = []
    stops = third_generation(1000006)
    for stop in (600.0, 1000.0):
        decays: Decays = {"t1": [(0.5, (-13, 5)), (0.5, (-15, 5))]}
        out.append(susy_point(f"stlp_st{stop:g}", "stlp", {"t1": stop}, stops, decays))
    masses = {"t1": 900.0, "N1": 400.0}
    for name, family, chi in (
        ("stlpp_st900_neut400", "stlpp", _CHI_UDD),
        ("stl_st900_neut400", "RPV stop, lambda", _CHI_LLE),
    ):
        out.append(susy_point(name, family, masses, stops, {"t1": [(1.0, (6, CHI))], **chi}))
    for gluino, chi_mass in ((1400.0, 600.0), (1800.0, 400.0)):
        masses = {"gluino": gluino, "N1": chi_mass}
        decays = {**GLUINO_TO_CHI, **_CHI_LQD}
        name = f"glgl_lqd_gl{gluino:g}_neut{chi_mass:g}"
        out.append(susy_point(name, "gllp", masses, STRONG["gluino pair"], decays))
    masses = {"gluino": 1400.0, "N1": 500.0}
    decays = {"gluino": [(1.0, (6, -6, CHI))], **_CHI_UDD}
    name = "glgl_udd_gl1400_neut500"
    out.append(susy_point(name, "RPV gluino, lambda''", masses, STRONG["gluino pair"], decays))
    for squark, chi_mass in ((1400.0, 800.0), (1000.0, 300.0)):
        masses = {"squark": squark, "N1": chi_mass}
        decays = {**SQUARK_TO_CHI, **_CHI_LQD}
        name = f"sqsq1_sq{squark:g}_neut{chi_mass:g}"
        out.append(susy_point(name, "RPV squark, lambda'", masses, STRONG["squark pair"], decays))
    return out


def _electroweak() -> list[TheoryPoint]:
    out = []
    for mass, chi, coupling, label in (
        (200.0, _CHI_LLE, "lambda", "lle"),
        (500.0, _CHI_LLE, "lambda", "lle"),
        (900.0, _CHI_LLE, "lambda", "lle"),
        (500.0, _CHI_LQD, "lambda'", "lqd"),
        (800.0, _CHI_LQD, "lambda'", "lqd"),
    ):
        name, family = f"neutneut_{label}_neut{mass:g}", f"RPV neutralino, {coupling}"
        out.append(susy_point(name, family, higgsino_masses(mass), HIGGSINOS, {**chi, **SOFT}, "higgsino"))
    for chargino, chi_mass in ((400.0, 150.0), (750.0, 400.0)):
        masses = {"C1": chargino, "N1": chi_mass}
        name = f"chacha_lle_cha{chargino:g}_neut{chi_mass:g}"
        out.append(susy_point(name, "RPV chargino, lambda", masses, CHARGINOS, {**C1_TO_W, **_CHI_LLE}))
    for slepton in (300.0, 600.0):
        name = f"sll_sl{slepton:g}"
        out.append(susy_point(name, "sll", {"slepton": slepton}, ALL_SLEPTONS, SLEPTON_LLE))
    masses = {"slepton": 600.0, "N1": 300.0}
    decays = {**SLEPTON_TO_CHI, **_CHI_LQD}
    out.append(susy_point("slsl_lqd_sl600_neut300", "RPV slepton, lambda'", masses, ALL_SLEPTONS, decays))
    for sneutrino, chi_mass, chi, coupling, label in (
        (400.0, 200.0, _CHI_LLE, "lambda", "lle"),
        (700.0, 200.0, _CHI_LLE, "lambda", "lle"),
        (650.0, 300.0, _CHI_LQD, "lambda'", "lqd"),
    ):
        masses = {"sneutrino": sneutrino, "N1": chi_mass}
        name, family = f"snusnu_{label}_snu{sneutrino:g}_neut{chi_mass:g}", f"RPV sneutrino, {coupling}"
        out.append(susy_point(name, family, masses, ALL_SNEUTRINOS, {**_SNEUTRINO_TO_CHI, **chi}))
    return out


POINTS: tuple[TheoryPoint, ...] = (*_strong(), *_electroweak())
