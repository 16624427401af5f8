"""Supersymmetric points of arXiv:2207.07631.

The paper gives the masses of the produced and of the lightest particle. Electroweakinos between them are ours: half way, or, in
chains of two steps, at a third and two thirds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serendip.simulate.catalogue.papers import MIXTURES, SIGNALS
from serendip.simulate.catalogue.rpv import SLEPTON_LLE
from serendip.simulate.catalogue.susy import (
    ALL_SLEPTONS,
    C1,
    C1_TO_W,
    CHARGINOS,
    CHI,
    GRAVITINO,
    N2,
    N2_TO_Z,
    PHOTON,
    STRONG,
    W,
    Z,
    electroweakinos,
    scalars,
    susy_point,
    third_generation,
)
from serendip.simulate.pythia_lines import only
from serendip.simulate.slha import Decays
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

Masses = Mapping[str, float]

_N3, _C2 = 1000025, 1000037
_NEUTRALINO = {"N2": N2, "N3": _N3, "N4": 1000035}
_GLUINOS, _STOPS, _SBOTTOMS = STRONG["gluino pair"], third_generation(1000006), third_generation(1000005)
# only those that belong to doublets couple to winos, to LQD, or are sneutrinos of the first two generations
_SLEPTONS, _SNEUTRINOS = scalars((1000011, 1000013)), scalars((1000012, 1000014))
_Z_TO_LEPTONS, _LEPTONIC_Z = only(Z, "11 13 15"), 0.101

# Masses in GeV of lightest particles that the paper does not give.
_UNPUBLISHED = {"chaneuti": 99.0, "neutineutilep": 197.0}

_W_OR_Z: Decays = {**C1_TO_W, **N2_TO_Z}
_TO_ANY_W: Decays = {
    **_W_OR_Z,
    "C2": [(0.5, (Z, C1)), (0.5, (W, N2))],
    "N3": [(0.5, (Z, N2)), (0.25, (W, -C1)), (0.25, (-W, C1))],
    "gluino": [(0.25, (1, -2, _C2)), (0.25, (2, -1, -_C2)), (0.25, (1, -1, _N3)), (0.25, (2, -2, _N3))],
}
_UP, _DOWN = {"uL": 2, "cL": 4, "uR": 2, "cR": 4}, {"dL": 1, "sL": 3, "dR": 1, "sR": 3}
_SQUARK_TO_C1: Decays = {
    **{name: [(1.0, (quark - 1, C1))] for name, quark in _UP.items()},
    **{name: [(1.0, (quark + 1, -C1))] for name, quark in _DOWN.items()},
}
_SQUARK_CHAIN: Decays = {
    **{name: [(0.5, (quark, N2)), (0.5, _SQUARK_TO_C1[name][0][1])] for name, quark in (_UP | _DOWN).items()},
    "N2": [(0.5, (1, -1, CHI)), (0.5, (2, -2, CHI))],
    "C1": [(0.5, (2, -1, CHI)), (0.5, (4, -3, CHI))],
}
_GLUINO_TO_C1: Decays = {"gluino": [(0.5, (1, -2, C1)), (0.5, (2, -1, -C1))]}
_SLEPTON_CHAIN: Decays = {
    "eL": [(0.5, (11, N2)), (0.5, (12, -C1))],
    "muL": [(0.5, (13, N2)), (0.5, (14, -C1))],
}
_TO_GRAVITINO: Decays = {"N1": [(0.5, (GRAVITINO, PHOTON)), (0.5, (GRAVITINO, Z))]}
_GLUINO_UDD: Decays = {"gluino": [(0.5, (6, 1, 3)), (0.5, (-6, -1, -3))]}
_C1_LQD: Decays = {"C1": [(0.5, (-11, 1, -1)), (0.5, (-13, 1, -1))]}
_STOP_LQD: Decays = {"t1": [(1 / 3, (-lepton, 5)) for lepton in (11, 13, 15)]}
_CHI_UDD: Decays = {"N1": [(0.5, (6, 5, 3)), (0.5, (-6, -5, -3))]}
_SLEPTON_LQD: Decays = {name: [(0.5, (1, -2)), (0.5, (3, -4))] for name in ("eL", "muL")}
_SNEUTRINO_LLE: Decays = {"nue": [(1.0, (13, -13))], "numu": [(0.5, (11, -13)), (0.5, (13, -11))]}
_SNEUTRINO_LQD: Decays = {name: [(0.5, (1, -1)), (0.5, (3, -3))] for name in ("nue", "numu")}


def _between(heavy: float, light: float) -> dict[str, float]:
    half = (heavy + light) / 2
    return {"N2": half, "C1": half}


def _two_steps(heavy: float, light: float) -> dict[str, float]:
    step = (heavy - light) / 3
    return {**dict.fromkeys(("N3", "C2"), heavy - step), **dict.fromkeys(("N2", "C1"), light + step)}


def _neutralino_chain(label: str, *, leptonic: bool) -> Decays:
    """N2 to N1, or N3 and N4 to N2 and C1: half of the decays with Z, half with W; C1 is lighter than N2 unless it is produced itself."""
    steps, below = (1, CHI) if label == "N2" else (2, N2)
    # Pythia weights a decay by the allowed decays of its products
    allowed = _LEPTONIC_Z**steps if leptonic else 1.0
    to_z = 1 / (1 + allowed)
    to_w = (1 - to_z) / 2
    chain: Decays = {label: [(to_z, (Z, below)), (to_w, (W, -C1)), (to_w, (-W, C1))], **C1_TO_W}
    return chain if label == "N2" else {**chain, **N2_TO_Z}


def _neutralino_pair(name: str, family: str, masses: Masses) -> TheoryPoint:
    leptonic = family == "neutineutilep"
    (label,) = (each for each in masses if each != "N1")
    masses = {"N1": _UNPUBLISHED[family], **masses} if "N1" not in masses else masses
    half = _between(masses[label], masses["N1"])
    code = _NEUTRALINO[label]
    return susy_point(
        name,
        family,
        {**half, **masses} if label != "N2" else {"C1": half["C1"], **masses},
        (*electroweakinos("qqbar2chi0chi0", code, code), *(_Z_TO_LEPTONS if leptonic else ())),
        _neutralino_chain(label, leptonic=leptonic),
        "wino" if label == "N2" else f"wino {label}",
    )


def _chargino_neutralino(name: str, family: str, masses: Masses) -> TheoryPoint:
    """C1 to W N1, with N2 to Z N1, N3 to Z N1, or a longer leptonic chain of N3; unpublished masses of N2 and N3 are that of C1."""
    leptonic = family == "chaneutilep"
    label = "N3" if "N3" in masses or name.startswith("chaneutlep") else "N2"
    masses = {label: masses["C1"], "N1": _UNPUBLISHED["chaneuti"], **masses}
    settings = electroweakinos("qqbar2chi+-chi0", C1, _NEUTRALINO[label])
    decays: Decays = {**C1_TO_W, label: [(1.0, (Z, CHI))]}
    if leptonic and label == "N3":
        open_to_c1 = masses["N3"] > masses["C1"]
        masses = {**masses, "N2": masses["C1"] if open_to_c1 else _between(masses["N3"], masses["N1"])["N2"]}
        decays = (
            _neutralino_chain(label, leptonic=True) if open_to_c1 else {**_W_OR_Z, "N3": [(1.0, (Z, N2))]}
        )
    if leptonic:
        settings = (*settings, *_Z_TO_LEPTONS)
    return susy_point(name, family, masses, settings, decays, "wino" if label == "N2" else "wino N3")


def _gluino_chain(name: str, family: str, masses: Masses) -> TheoryPoint:
    everything = {**masses, **_two_steps(masses["gluino"], masses["N1"])}
    decays = _TO_ANY_W
    if family == "gmsb_glgl":
        everything, decays = {**everything, "gravitino": 0.0}, {**_TO_ANY_W, **_TO_GRAVITINO}
    return susy_point(name, family, everything, _GLUINOS, decays)


def _with_half_way(
    labels: tuple[str, ...], settings: tuple[str, ...], decays: Decays
) -> Callable[[str, str, Masses], TheoryPoint]:
    """Points with electroweakinos half way between N1 and the lightest produced particle."""

    def build(name: str, family: str, masses: Masses) -> TheoryPoint:
        heavy = min(mass for label, mass in masses.items() if label != "N1")
        half = {label: _between(heavy, masses["N1"])[label] for label in labels}
        return susy_point(name, family, {**masses, **half}, settings, decays)

    return build


def _as_published(
    settings: tuple[str, ...], decays: Decays, **more: float
) -> Callable[[str, str, Masses], TheoryPoint]:
    """Points that need no mass but the published ones."""
    return lambda name, family, masses: susy_point(name, family, {**masses, **more}, settings, decays)


_BUILD: Mapping[str, Callable[[str, str, Masses], TheoryPoint]] = {
    "glgl": _gluino_chain,
    "gmsb_glgl": _gluino_chain,
    "sqsq": _with_half_way(("N2", "C1"), STRONG["squark pair"], _SQUARK_CHAIN),
    "glsq": _with_half_way(("C1",), STRONG["gluino squark"], {**_GLUINO_TO_C1, **_SQUARK_TO_C1, **C1_TO_W}),
    "stop": _as_published(_STOPS, {"t1": [(1.0, (6, CHI))]}),
    "stopjets": _with_half_way(("C1",), _STOPS, {"t1": [(0.5, (6, CHI)), (0.5, (5, C1))], **C1_TO_W}),
    "sbottom": _as_published(_SBOTTOMS, {"b1": [(1.0, (5, CHI))]}),
    "gmsb_neutneut": _as_published(electroweakinos("qqbar2chi0chi0", CHI, CHI), _TO_GRAVITINO, gravitino=0.0),
    "slsl": _with_half_way(("N2", "C1"), _SLEPTONS, {**_SLEPTON_CHAIN, **_W_OR_Z}),
    "neutineuti": _neutralino_pair,
    "neutineutilep": _neutralino_pair,
    "chachalep": _as_published(CHARGINOS, C1_TO_W),
    "chaneuti": _chargino_neutralino,
    "chaneutilep": _chargino_neutralino,
    "gllp": _as_published(_GLUINOS, {**_GLUINO_TO_C1, **_C1_LQD}),
    "gllpp": _as_published(_GLUINOS, _GLUINO_UDD),
    "stlp": _as_published(_STOPS, _STOP_LQD),
    "stlpp": _as_published(_STOPS, {"t1": [(1.0, (6, CHI))], **_CHI_UDD}),
    "sll": _as_published(ALL_SLEPTONS, SLEPTON_LLE),
    "sllp": _as_published(_SLEPTONS, _SLEPTON_LQD),
    "snul": _as_published(_SNEUTRINOS, _SNEUTRINO_LLE),
    "snulp": _as_published(_SNEUTRINOS, _SNEUTRINO_LQD),
}

POINTS: tuple[TheoryPoint, ...] = tuple(
    _BUILD[signal.family](signal.made, signal.family, signal.masses)
    for signal in SIGNALS
    if signal.paper == MIXTURES and signal.made and signal.family in _BUILD
)
