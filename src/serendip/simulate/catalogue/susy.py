"""Catalogue of supersymmetric points with conserved R-parity and with gauge mediation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serendip.simulate.slha import Decays, slha_text
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

CHI, Z, W, H, GRAVITINO, PHOTON = 1000022, 23, 24, 25, 1000039, 22

SQUARKS = ("dL", "uL", "sL", "cL", "dR", "uR", "sR", "cR")
LEPTONS = ("eL", "muL", "eR", "muR")
SNEUTRINOS = ("nue", "numu", "nutau")

STRONG = {
    "gluino pair": ("SUSY:gg2gluinogluino = on", "SUSY:qqbar2gluinogluino = on"),
    "squark pair": (
        "SUSY:gg2squarkantisquark = on",
        "SUSY:qqbar2squarkantisquark = on",
        "SUSY:qq2squarksquark = on",
    ),
    "gluino squark": ("SUSY:qg2squarkgluino = on",),
}
_FIRST_TWO = "1000001,1000002,1000003,1000004,2000001,2000002,2000003,2000004"
LIGHT_SQUARKS = (f"SUSY:idVecA = {_FIRST_TWO}",)


def third_generation(code: int) -> tuple[str, ...]:
    """Pythia settings of pairs of one squark."""
    return (
        "SUSY:gg2squarkantisquark = on",
        "SUSY:qqbar2squarkantisquark = on",
        "SUSY:qqbar2squarkantisquark:onlyQCD = on",
        f"SUSY:idA = {code}",
        f"SUSY:idB = {code}",
    )


def scalars(codes: Sequence[int]) -> tuple[str, ...]:
    """Pythia settings of pairs of sleptons or sneutrinos."""
    listed = ",".join(map(str, codes))
    return ("SUSY:qqbar2sleptonantislepton = on", f"SUSY:idVecA = {listed}", f"SUSY:idVecB = {listed}")


HIGGSINOS = (
    "SUSY:qqbar2chi0chi0 = on",
    "SUSY:qqbar2chi+-chi0 = on",
    "SUSY:qqbar2chi+chi- = on",
    "SUSY:idVecA = 1000022,1000023,1000024",
    "SUSY:idVecB = 1000022,1000023,1000024",
)

SQUARK_TO_CHI: Decays = {
    name: [(1.0, (i, CHI))] for name, i in zip(SQUARKS, (1, 2, 3, 4, 1, 2, 3, 4), strict=True)
}
GLUINO_TO_CHI: Decays = {"gluino": [(0.25, (i, -i, CHI)) for i in (1, 2, 3, 4)]}
# soft products of a higgsino of nearly the same mass
SOFT_N2: Decays = {"N2": [(0.5, (CHI, 1, -1)), (0.5, (CHI, 2, -2))]}
SOFT_C1: Decays = {"C1": [(1.0, (CHI, 2, -1))]}


def higgsino_masses(mass: float) -> dict[str, float]:
    """N1 of this mass (GeV), C1 and N2 3 and 6 GeV above."""
    return {"N1": mass, "C1": mass + 3.0, "N2": mass + 6.0}


def same(names: Iterable[str], mass: float) -> dict[str, float]:
    """One mass for all."""
    return dict.fromkeys(names, mass)


def _strong() -> list[TheoryPoint]:
    out = []
    for gluino, chi in ((1000.0, 1.0), (1400.0, 1100.0), (1600.0, 800.0), (2000.0, 200.0)):
        masses = {"gluino": gluino, "N1": chi}
        out.append(
            TheoryPoint(
                f"glgl{gluino:g}_neutralino{chi:g}",
                "gluino pair",
                "glgl_",
                masses,
                STRONG["gluino pair"],
                slha_text(masses, GLUINO_TO_CHI),
            )
        )
    masses = {"gluino": 1500.0, "C1": 900.0, "N2": 900.0, "N1": 200.0}
    cascade: Decays = {
        "gluino": [(0.4, (1, -2, 1000024)), (0.4, (2, -1, -1000024)), (0.2, (1, -1, 1000023))],
        "C1": [(1.0, (W, CHI))],
        "N2": [(1.0, (Z, CHI))],
    }
    out.append(
        TheoryPoint(
            "glgl1500_WZ_neutralino200",
            "gluino pair",
            "gluino_1000.0_neutralino_1.0",
            masses,
            STRONG["gluino pair"],
            slha_text(masses, cascade),
        )
    )
    for squark, chi in ((1000.0, 400.0), (1400.0, 200.0), (1800.0, 800.0)):
        masses = {**same(SQUARKS, squark), "N1": chi}
        out.append(
            TheoryPoint(
                f"sqsq_sq{squark:g}_neut{chi:g}",
                "squark pair",
                "sqsq_sq",
                {"squark": squark, "N1": chi},
                (*STRONG["squark pair"], *LIGHT_SQUARKS),
                slha_text(masses, SQUARK_TO_CHI),
            )
        )
    for gluino, squark, chi in ((1600.0, 1500.0, 400.0), (1200.0, 1300.0, 800.0)):
        masses = {"gluino": gluino, **same(SQUARKS, squark), "N1": chi}
        out.append(
            TheoryPoint(
                f"glsq_gl{gluino:g}_sq{squark:g}_neut{chi:g}",
                "gluino squark",
                "glsq",
                {"gluino": gluino, "squark": squark, "N1": chi},
                STRONG["gluino squark"],
                slha_text(masses, {**SQUARK_TO_CHI, **GLUINO_TO_CHI}),
            )
        )
    return out


def _third_generation() -> list[TheoryPoint]:
    out = []
    for stop, chi in ((500.0, 50.0), (800.0, 200.0), (1000.0, 300.0), (600.0, 400.0)):
        masses = {"t1": stop, "N1": chi}
        out.append(
            TheoryPoint(
                f"stop{stop:g}_t_neutralino{chi:g}",
                "stop pair",
                "stop",
                masses,
                third_generation(1000006),
                slha_text(masses, {"t1": [(1.0, (6, CHI))]}),
            )
        )
    masses = {"t1": 1000.0, "C1": 600.0, "N1": 300.0}
    out.append(
        TheoryPoint(
            "stop2b1000_chargino600_neutralino300",
            "stop pair",
            "stop",
            masses,
            third_generation(1000006),
            slha_text(masses, {"t1": [(1.0, (5, 1000024))], "C1": [(1.0, (W, CHI))]}),
        )
    )
    for sbottom, chi in ((600.0, 100.0), (900.0, 300.0)):
        masses = {"b1": sbottom, "N1": chi}
        out.append(
            TheoryPoint(
                f"sbottom{sbottom:g}_neutralino{chi:g}",
                "sbottom pair",
                "sbottom",
                masses,
                third_generation(1000005),
                slha_text(masses, {"b1": [(1.0, (5, CHI))]}),
            )
        )
    return out


def _electroweak() -> list[TheoryPoint]:
    out = []
    for chargino, chi in ((200.0, 50.0), (250.0, 150.0), (300.0, 100.0), (400.0, 200.0), (600.0, 1.0)):
        masses = {"C1": chargino, "N2": chargino, "N1": chi}
        decays: Decays = {"C1": [(1.0, (W, CHI))], "N2": [(1.0, (Z, CHI))]}
        out.append(
            TheoryPoint(
                f"chaneut_cha{chargino:g}_neut{chi:g}",
                "chargino neutralino",
                "chaneutN_",
                masses,
                ("SUSY:qqbar2chi+-chi0 = on", "SUSY:idA = 1000024", "SUSY:idB = 1000023"),
                slha_text(masses, decays),
            )
        )
    for chargino, chi in ((300.0, 140.0), (400.0, 60.0), (600.0, 200.0)):
        masses = {"C1": chargino, "N1": chi}
        out.append(
            TheoryPoint(
                f"chacha_cha{chargino:g}_neut{chi:g}",
                "chargino pair",
                "chacha",
                masses,
                ("SUSY:qqbar2chi+chi- = on", "SUSY:idA = 1000024", "SUSY:idB = 1000024"),
                slha_text(masses, {"C1": [(1.0, (W, CHI))]}),
            )
        )
    for slepton, chi in ((200.0, 50.0), (400.0, 100.0), (700.0, 1.0)):
        masses = {**same(LEPTONS, slepton), "N1": chi}
        flavours = zip(LEPTONS, (11, 13, 11, 13), strict=True)
        out.append(
            TheoryPoint(
                f"slsl_sl{slepton:g}_neut{chi:g}",
                "slepton pair",
                "slsl_sl",
                {"slepton": slepton, "N1": chi},
                scalars((1000011, 1000013, 2000011, 2000013)),
                slha_text(masses, {name: [(1.0, (code, CHI))] for name, code in flavours}),
            )
        )
    for sneutrino, chargino, chi in ((400.0, 300.0, 100.0), (700.0, 400.0, 100.0)):
        masses = {**same(SNEUTRINOS, sneutrino), "C1": chargino, "N1": chi}
        flavours = zip(SNEUTRINOS, (11, 13, 15), strict=True)
        snu: Decays = {name: [(1.0, (code, 1000024))] for name, code in flavours}
        out.append(
            TheoryPoint(
                f"snusnu_snu{sneutrino:g}_cha{chargino:g}_neut{chi:g}",
                "sneutrino pair",
                None,
                {"sneutrino": sneutrino, "C1": chargino, "N1": chi},
                scalars((1000012, 1000014, 1000016)),
                slha_text(masses, {**snu, "C1": [(1.0, (W, CHI))]}),
            )
        )
    return out


def _gauge_mediation() -> list[TheoryPoint]:
    out = []
    for gluino, chi in ((1400.0, 400.0), (1800.0, 1200.0)):
        masses = {"gluino": gluino, "N1": chi, "gravitino": 0.0}
        to_photon_or_z: Decays = {"N1": [(0.5, (GRAVITINO, PHOTON)), (0.5, (GRAVITINO, Z))]}
        out.append(
            TheoryPoint(
                f"gmsb_glgl{gluino:g}_neut{chi:g}",
                "gauge mediation",
                "gmsb_glgl",
                masses,
                STRONG["gluino pair"],
                slha_text(masses, {**GLUINO_TO_CHI, **to_photon_or_z}),
            )
        )
    for chi, boson, label in ((300.0, Z, "Z"), (500.0, Z, "Z"), (400.0, H, "h"), (700.0, H, "h")):
        masses = {**higgsino_masses(chi), "gravitino": 0.0}
        out.append(
            TheoryPoint(
                f"gmsb_neutneut_neut{chi:g}_{label}",
                "gauge mediation",
                "gmsb_neutneut_neut",
                masses,
                HIGGSINOS,
                slha_text(
                    masses,
                    {"N1": [(1.0, (GRAVITINO, boson))], **SOFT_N2, **SOFT_C1},
                    electroweakinos="higgsino",
                ),
            )
        )
    return out


POINTS: tuple[TheoryPoint, ...] = (
    *_strong(),
    *_third_generation(),
    *_electroweak(),
    *_gauge_mediation(),
)
