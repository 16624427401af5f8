r"""Catalogue of supersymmetric points with broken R-parity.

The couplings are :math:`\lambda` (LLE: leptons), :math:`\lambda'` (LQD: leptons and quarks) and :math:`\lambda''` (UDD: quarks).
Only one coupling is used at a time, and every decay is prompt (hep-ph/0406039).
"""

from __future__ import annotations

from serendip.simulate.catalogue.susy import (
    GLUINO_TO_CHI,
    HIGGSINOS,
    LEPTONS,
    LIGHT_SQUARKS,
    SNEUTRINOS,
    SOFT_C1,
    SOFT_N2,
    SQUARK_TO_CHI,
    SQUARKS,
    STRONG,
    higgsino_masses,
    same,
    scalars,
    third_generation,
)
from serendip.simulate.slha import Decays, slha_text
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

# lambda_122: an electron or muon neutrino, a muon, and the other lepton
CHI_LLE: Decays = {
    "N1": [(0.25, (12, 13, -13)), (0.25, (-12, 13, -13)), (0.25, (14, 11, -13)), (0.25, (-14, -11, 13))]
}
# lambda'_2jk with light quarks
CHI_LQD: Decays = {
    "N1": [(0.25, (13, 2, -1)), (0.25, (-13, -2, 1)), (0.25, (14, 1, -1)), (0.25, (-14, -1, 1))]
}
CHI_UDD: Decays = {"N1": [(0.5, (2, 1, 3)), (0.5, (-2, -1, -3))]}


def _strong() -> list[TheoryPoint]:
    out = []
    for stop in (600.0, 1000.0):
        masses = {"t1": stop}
        out.append(
            TheoryPoint(
                f"stlp_st{stop:g}",
                "RPV stop, lambda'",
                "stlp_st",
                masses,
                third_generation(1000006),
                slha_text(masses, {"t1": [(0.5, (-13, 5)), (0.5, (-15, 5))]}),
            )
        )
    masses = {"t1": 900.0, "N1": 400.0}
    for name, chi, label in (("stlpp_st", CHI_UDD, "lambda''"), ("stl_st", CHI_LLE, "lambda")):
        out.append(
            TheoryPoint(
                f"{name}900_neut400",
                f"RPV stop, {label}",
                "stlpp_st" if chi is CHI_UDD else None,
                masses,
                third_generation(1000006),
                slha_text(masses, {"t1": [(1.0, (6, 1000022))], **chi}),
            )
        )
    for gluino, chi_mass in ((1400.0, 600.0), (1800.0, 400.0)):
        masses = {"gluino": gluino, "N1": chi_mass}
        out.append(
            TheoryPoint(
                f"gllp_gl{gluino:g}_neut{chi_mass:g}",
                "RPV gluino, lambda'",
                "gllp_gl",
                masses,
                STRONG["gluino pair"],
                slha_text(masses, {**GLUINO_TO_CHI, **CHI_LQD}),
            )
        )
    masses = {"gluino": 1400.0, "N1": 500.0}
    tops: Decays = {"gluino": [(1.0, (6, -6, 1000022))]}
    out.append(
        TheoryPoint(
            "gllpp_lambdapp_gl1400_neut500",
            "RPV gluino, lambda''",
            "gllpp_lambdapp_gl",
            masses,
            STRONG["gluino pair"],
            slha_text(masses, {**tops, **CHI_UDD}),
        )
    )
    for squark, chi_mass in ((1400.0, 800.0), (1000.0, 300.0)):
        masses = {**same(SQUARKS, squark), "N1": chi_mass}
        out.append(
            TheoryPoint(
                f"sqsq1_sq{squark:g}_neut{chi_mass:g}",
                "RPV squark, lambda'",
                "sqsq1",
                {"squark": squark, "N1": chi_mass},
                (*STRONG["squark pair"], *LIGHT_SQUARKS),
                slha_text(masses, {**SQUARK_TO_CHI, **CHI_LQD}),
            )
        )
    return out


def _electroweak() -> list[TheoryPoint]:
    out = []
    for mass, chi, label, paper in (
        (200.0, CHI_LLE, "lambda", "neutNneutNlep_"),
        (500.0, CHI_LLE, "lambda", "neutNneutNlep_"),
        (900.0, CHI_LLE, "lambda", "neutNneutNlep_"),
        (500.0, CHI_LQD, "lambda'", "neutNneutN_neutN_"),
        (800.0, CHI_LQD, "lambda'", "neutNneutN_neutN_"),
    ):
        masses = higgsino_masses(mass)
        suffix = "lep" if chi is CHI_LLE else ""
        out.append(
            TheoryPoint(
                f"neut1neut1{suffix}_neut1_{mass:g}",
                f"RPV neutralino, {label}",
                paper,
                masses,
                HIGGSINOS,
                slha_text(masses, {**chi, **SOFT_N2, **SOFT_C1}, electroweakinos="higgsino"),
            )
        )
    for chargino, chi_mass in ((400.0, 150.0), (750.0, 400.0)):
        masses = {"C1": chargino, "N1": chi_mass}
        out.append(
            TheoryPoint(
                f"chachalep_cha{chargino:g}_neut{chi_mass:g}",
                "RPV chargino, lambda",
                "chachalep_cha",
                masses,
                ("SUSY:qqbar2chi+chi- = on", "SUSY:idA = 1000024", "SUSY:idB = 1000024"),
                slha_text(masses, {"C1": [(1.0, (24, 1000022))], **CHI_LLE}),
            )
        )
    charged: Decays = {
        "eL": [(1.0, (-14, 13))],
        "eR": [(0.5, (13, 12)), (0.5, (11, 14))],
        "muL": [(1.0, (-12, 13))],
        "muR": [(0.5, (13, 12)), (0.5, (11, 14))],
    }
    for slepton in (300.0, 600.0):
        masses = same(LEPTONS, slepton)
        out.append(
            TheoryPoint(
                f"sll_sl{slepton:g}",
                "RPV slepton, lambda",
                "sll_sl",
                {"slepton": slepton},
                scalars((1000011, 1000013, 2000011, 2000013)),
                slha_text(masses, charged),
            )
        )
    masses = {**same(LEPTONS, 600.0), "N1": 300.0}
    flavours = zip(LEPTONS, (11, 13, 11, 13), strict=True)
    cascade: Decays = {name: [(1.0, (code, 1000022))] for name, code in flavours}
    out.append(
        TheoryPoint(
            "sllp_sl600_neut300",
            "RPV slepton, lambda'",
            "sllp_sl",
            {"slepton": 600.0, "N1": 300.0},
            scalars((1000011, 1000013, 2000011, 2000013)),
            slha_text(masses, {**cascade, **CHI_LQD}),
        )
    )
    for sneutrino in (400.0, 700.0):
        masses = {**same(SNEUTRINOS, sneutrino), "N1": 200.0}
        pairs = zip(SNEUTRINOS, (12, 14, 16), strict=True)
        snu: Decays = {name: [(1.0, (code, 1000022))] for name, code in pairs}
        out.append(
            TheoryPoint(
                f"snul_snu{sneutrino:g}_neut200",
                "RPV sneutrino, lambda",
                "snul_snu",
                {"sneutrino": sneutrino, "N1": 200.0},
                scalars((1000012, 1000014, 1000016)),
                slha_text(masses, {**snu, **CHI_LLE}),
            )
        )
    masses = {**same(SNEUTRINOS, 650.0), "N1": 300.0}
    pairs = zip(SNEUTRINOS, (12, 14, 16), strict=True)
    out.append(
        TheoryPoint(
            "snulp_snu650_neut300",
            "RPV sneutrino, lambda'",
            "snulp_snu",
            {"sneutrino": 650.0, "N1": 300.0},
            scalars((1000012, 1000014, 1000016)),
            slha_text(masses, {**{n: [(1.0, (c, 1000022))] for n, c in pairs}, **CHI_LQD}),
        )
    )
    return out


POINTS: tuple[TheoryPoint, ...] = (*_strong(), *_electroweak())
