"""Supersymmetric points of our own and of arXiv:2105.14027 with conserved R-parity and with gauge mediation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from serendip.simulate.slha import Decays, slha_text
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

CHI, Z, W, H, GRAVITINO, PHOTON = 1000022, 23, 24, 25, 1000039, 22
C1, N2 = 1000024, 1000023

SQUARKS = ("dL", "uL", "sL", "cL", "dR", "uR", "sR", "cR")
LEPTONS = ("eL", "muL", "eR", "muR")
SNEUTRINOS = ("nue", "numu", "nutau")
_GROUPS = {"squark": SQUARKS, "slepton": LEPTONS, "sneutrino": SNEUTRINOS}

STRONG = {
    "gluino pair": ("SUSY:gg2gluinogluino = on", "SUSY:qqbar2gluinogluino = on"),
    "squark pair": (
        "SUSY:gg2squarkantisquark = on",
        "SUSY:qqbar2squarkantisquark = on",
        "SUSY:qq2squarksquark = on",
        "SUSY:idVecA = 1000001,1000002,1000003,1000004,2000001,2000002,2000003,2000004",
    ),
    "gluino squark": ("SUSY:qg2squarkgluino = on",),
}


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


def electroweakinos(process: str, a: int, b: int) -> tuple[str, ...]:
    """Pythia settings of a pair of charginos or neutralinos."""
    return (f"SUSY:{process} = on", f"SUSY:idA = {a}", f"SUSY:idB = {b}")


ALL_SLEPTONS = scalars((1000011, 1000013, 2000011, 2000013))
ALL_SNEUTRINOS = scalars((1000012, 1000014, 1000016))
CHARGINOS = electroweakinos("qqbar2chi+chi-", C1, C1)
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
SLEPTON_TO_CHI: Decays = {name: [(1.0, (i, CHI))] for name, i in zip(LEPTONS, (11, 13, 11, 13), strict=True)}
C1_TO_W: Decays = {"C1": [(1.0, (W, CHI))]}
N2_TO_Z: Decays = {"N2": [(1.0, (Z, CHI))]}
# soft products of a higgsino of nearly the same mass
SOFT: Decays = {"N2": [(0.5, (CHI, 1, -1)), (0.5, (CHI, 2, -2))], "C1": [(1.0, (CHI, 2, -1))]}


def higgsino_masses(mass: float) -> dict[str, float]:
    """N1 of this mass (GeV), C1 and N2 3 and 6 GeV above."""
    return {"N1": mass, "C1": mass + 3.0, "N2": mass + 6.0}


def susy_point(
    name: str,
    family: str,
    masses: Mapping[str, float],
    settings: Iterable[str],
    decays: Decays,
    mixing: str = "wino",
) -> TheoryPoint:
    """A point whose masses (GeV) may name ``squark``, ``slepton`` or ``sneutrino`` for all light ones."""
    single = {each: mass for label, mass in masses.items() for each in _GROUPS.get(label, (label,))}
    text = slha_text(single, decays, electroweakinos=mixing)
    return TheoryPoint(name, family, masses, tuple(settings), text)


def _strong() -> list[TheoryPoint]:
    out = []
    pairs = STRONG["gluino pair"]
    for gluino, chi in ((1000.0, 1.0), (1400.0, 1100.0), (1600.0, 800.0), (2000.0, 200.0)):
        masses = {"gluino": gluino, "N1": chi}
        name = f"glgl{gluino:g}_neutralino{chi:g}"
        out.append(susy_point(name, "glgl", masses, pairs, GLUINO_TO_CHI))
    masses = {"gluino": 1500.0, "C1": 900.0, "N2": 900.0, "N1": 200.0}
    cascade: Decays = {"gluino": [(0.4, (1, -2, C1)), (0.4, (2, -1, -C1)), (0.2, (1, -1, N2))]}
    cascade = {**cascade, **C1_TO_W, **N2_TO_Z}
    out.append(susy_point("glgl1500_WZ_neutralino200", "glgl", masses, pairs, cascade))
    for squark, chi in ((1000.0, 400.0), (1400.0, 200.0), (1800.0, 800.0)):
        masses = {"squark": squark, "N1": chi}
        name = f"sqsq_sq{squark:g}_neut{chi:g}"
        out.append(susy_point(name, "sqsq", masses, STRONG["squark pair"], SQUARK_TO_CHI))
    for gluino, squark, chi in ((1600.0, 1500.0, 400.0), (1200.0, 1300.0, 800.0)):
        masses = {"gluino": gluino, "squark": squark, "N1": chi}
        name = f"glsq_gl{gluino:g}_sq{squark:g}_neut{chi:g}"
        decays = {**SQUARK_TO_CHI, **GLUINO_TO_CHI}
        out.append(susy_point(name, "glsq", masses, STRONG["gluino squark"], decays))
    return out


def _third_generation() -> list[TheoryPoint]:
    out = []
    pairs = third_generation(1000006)
    for stop, chi in ((500.0, 50.0), (800.0, 200.0), (1000.0, 300.0), (600.0, 400.0)):
        name = f"stop{stop:g}_t_neutralino{chi:g}"
        out.append(susy_point(name, "stop", {"t1": stop, "N1": chi}, pairs, {"t1": [(1.0, (6, CHI))]}))
    masses = {"t1": 1000.0, "C1": 600.0, "N1": 300.0}
    decays: Decays = {"t1": [(1.0, (5, C1))], **C1_TO_W}
    out.append(susy_point("stop2b1000_chargino600_neutralino300", "stop", masses, pairs, decays))
    for sbottom, chi in ((600.0, 100.0), (900.0, 300.0)):
        masses = {"b1": sbottom, "N1": chi}
        name = f"sbottom{sbottom:g}_neutralino{chi:g}"
        decays = {"b1": [(1.0, (5, CHI))]}
        out.append(susy_point(name, "sbottom", masses, third_generation(1000005), decays))
    return out


def _electroweak() -> list[TheoryPoint]:
    out = []
    mixed = electroweakinos("qqbar2chi+-chi0", C1, N2)
    for chargino, chi in ((200.0, 50.0), (250.0, 150.0), (300.0, 100.0), (400.0, 200.0), (600.0, 1.0)):
        masses = {"C1": chargino, "N2": chargino, "N1": chi}
        name = f"chaneut_cha{chargino:g}_neut{chi:g}"
        out.append(susy_point(name, "chaneuti", masses, mixed, {**C1_TO_W, **N2_TO_Z}))
    for chargino, chi in ((300.0, 140.0), (400.0, 60.0), (600.0, 200.0)):
        masses = {"C1": chargino, "N1": chi}
        name = f"chacha_cha{chargino:g}_neut{chi:g}"
        out.append(susy_point(name, "chachalep", masses, CHARGINOS, C1_TO_W))
    for slepton, chi in ((200.0, 50.0), (400.0, 100.0), (700.0, 1.0)):
        masses = {"slepton": slepton, "N1": chi}
        name = f"slsl_sl{slepton:g}_neut{chi:g}"
        out.append(susy_point(name, "slsl", masses, ALL_SLEPTONS, SLEPTON_TO_CHI))
    to_chargino: Decays = {
        name: [(1.0, (code, C1))] for name, code in zip(SNEUTRINOS, (11, 13, 15), strict=True)
    }
    for sneutrino, chargino, chi in ((400.0, 300.0, 100.0), (700.0, 400.0, 100.0)):
        masses = {"sneutrino": sneutrino, "C1": chargino, "N1": chi}
        name = f"snusnu_snu{sneutrino:g}_cha{chargino:g}_neut{chi:g}"
        out.append(susy_point(name, "snusnu", masses, ALL_SNEUTRINOS, {**to_chargino, **C1_TO_W}))
    return out


def _gauge_mediation() -> list[TheoryPoint]:
    out = []
    for gluino, chi in ((1400.0, 400.0), (1800.0, 1200.0)):
        masses = {"gluino": gluino, "N1": chi, "gravitino": 0.0}
        decays: Decays = {**GLUINO_TO_CHI, "N1": [(0.5, (GRAVITINO, PHOTON)), (0.5, (GRAVITINO, Z))]}
        name = f"gmsb_glgl{gluino:g}_neut{chi:g}"
        out.append(susy_point(name, "gmsb_glgl", masses, STRONG["gluino pair"], decays))
    for chi, boson, label in ((300.0, Z, "Z"), (500.0, Z, "Z"), (400.0, H, "h"), (700.0, H, "h")):
        masses = {**higgsino_masses(chi), "gravitino": 0.0}
        decays = {"N1": [(1.0, (GRAVITINO, boson))], **SOFT}
        name = f"gmsb_neutneut_neut{chi:g}_{label}"
        out.append(susy_point(name, "gmsb_neutneut", masses, HIGGSINOS, decays, "higgsino"))
    return out


POINTS: tuple[TheoryPoint, ...] = (
    *_strong(),
    *_third_generation(),
    *_electroweak(),
    *_gauge_mediation(),
)
