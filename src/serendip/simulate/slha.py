"""SUSY Les Houches texts of simplified models: a few light particles, all others out of reach (hep-ph/0311123)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from serendip.errors import InputError

__all__ = ["HEAVY", "SPARTICLES", "Decays", "slha_file", "slha_text"]

HEAVY = 8000.0
"""Mass in GeV of every sparticle that a model does not name."""

SPARTICLES: Mapping[str, int] = {
    "dL": 1000001,
    "uL": 1000002,
    "sL": 1000003,
    "cL": 1000004,
    "b1": 1000005,
    "t1": 1000006,
    "eL": 1000011,
    "nue": 1000012,
    "muL": 1000013,
    "numu": 1000014,
    "tau1": 1000015,
    "nutau": 1000016,
    "dR": 2000001,
    "uR": 2000002,
    "sR": 2000003,
    "cR": 2000004,
    "b2": 2000005,
    "t2": 2000006,
    "eR": 2000011,
    "muR": 2000013,
    "tau2": 2000015,
    "gluino": 1000021,
    "N1": 1000022,
    "N2": 1000023,
    "C1": 1000024,
    "N3": 1000025,
    "N4": 1000035,
    "C2": 1000037,
    "gravitino": 1000039,
}

Decays = Mapping[str, Sequence[tuple[float, Sequence[int]]]]

# Width of every unstable sparticle in GeV: narrow, and far too short-lived to leave a displaced vertex.
_WIDTH = 0.1

_R = 1.0 / math.sqrt(2.0)
# Columns: bino, neutral wino and the two neutral higgsinos.
_BINO, _WINO, _HIGGSINOS = (1.0, 0, 0, 0), (0, 1.0, 0, 0), ((0, 0, _R, -_R), (0, 0, _R, _R))
# Rows: mass eigenstates.
_NEUTRALINOS = {
    "wino": (_BINO, _WINO, *_HIGGSINOS),
    "wino N3": (_BINO, _HIGGSINOS[0], _WINO, _HIGGSINOS[1]),
    "wino N4": (_BINO, *_HIGGSINOS, _WINO),
    "higgsino": (*_HIGGSINOS, _BINO, _WINO),
}
_CHARGINOS = {"wino": ((1.0, 0), (0, 1.0)), "higgsino": ((0, 1.0), (1.0, 0))}


def slha_text(masses: Mapping[str, float], decays: Decays, *, electroweakinos: str = "wino") -> str:
    """SUSY Les Houches text of a simplified model.

    Parameters
    ----------
    masses
        Masses in GeV, by the names of :data:`SPARTICLES`; the others are :data:`HEAVY`.
    decays
        Branching ratio and products (Particle Data Group codes) of each decay of each unstable particle. Light particles
        without decays are stable.
    electroweakinos
        ``wino``: N1 is a bino, N2 and C1 winos; ``wino N3`` and ``wino N4``: that neutralino is the wino instead of N2.
        ``higgsino``: N1, N2 and C1 are higgsinos.

    Raises
    ------
    InputError
        If a name is unknown, a mass is not positive (0 is allowed for the gravitino), branching ratios do not sum to 1, or a
        decay is closed.
    """
    for name in [*masses, *decays]:
        if name not in SPARTICLES:
            raise InputError(f"'{name}' is not a sparticle; expected one of {', '.join(SPARTICLES)}")
    for name, mass in masses.items():
        if not (mass > 0 or (mass == 0 and name == "gravitino")) or not math.isfinite(mass):
            raise InputError(f"mass of {name} is {mass:g} GeV; expected a positive number")
    if electroweakinos not in _NEUTRALINOS:
        raise InputError(f"electroweakinos '{electroweakinos}'; expected {', '.join(_NEUTRALINOS)}")
    by_code = {code: masses.get(name, HEAVY) for name, code in SPARTICLES.items()}
    lines = [
        "BLOCK MODSEL",
        "   1   0",
        "BLOCK SMINPUTS",
        "   3   1.18000000E-01",
        "BLOCK MINPAR",
        "   3   1.00000000E+01",
        "BLOCK MASS",
        "   25   1.25000000E+02",
        *(f"   {code}   {mass:.8E}" for code, mass in {35: HEAVY, 36: HEAVY, 37: HEAVY, **by_code}.items()),
        *_matrix("NMIX", _NEUTRALINOS[electroweakinos]),
        *_matrix("UMIX", _CHARGINOS[electroweakinos.split(maxsplit=1)[0]]),
        *_matrix("VMIX", _CHARGINOS[electroweakinos.split(maxsplit=1)[0]]),
        *(line for name in ("STOPMIX", "SBOTMIX", "STAUMIX") for line in _matrix(name, ((1.0, 0), (0, 1.0)))),
        "BLOCK ALPHA",
        "   -1.0E-01",
        "BLOCK HMIX Q= 1.0E+03",
        "   1   1.00000000E+03",
        "   2   1.00000000E+01",
        "   3   2.46000000E+02",
    ]
    for name, channels in decays.items():
        _check_decays(name, by_code, channels)
        lines.append(f"DECAY   {SPARTICLES[name]}   {_WIDTH:.8E}")
        lines += [
            f"   {ratio:.8E}   {len(products)}   " + "   ".join(map(str, products))
            for ratio, products in channels
        ]
    lines += [f"DECAY   {SPARTICLES[name]}   0.00000000E+00" for name in masses if name not in decays]
    return "\n".join(lines) + "\n"


def _matrix(name: str, rows: Sequence[Sequence[float]]) -> list[str]:
    out = [f"BLOCK {name}"]
    for i, row in enumerate(rows, start=1):
        out += [f"   {i}   {j}   {value:.8E}" for j, value in enumerate(row, start=1)]
    return out


# Masses in GeV of the heavy known particles; all lighter ones are taken as massless here.
_KNOWN = {5: 4.8, 6: 171.0, 15: 1.777, 23: 91.19, 24: 80.38, 25: 125.0}


def _check_decays(
    name: str, masses: Mapping[int, float], channels: Sequence[tuple[float, Sequence[int]]]
) -> None:
    total = sum(ratio for ratio, _ in channels)
    if abs(total - 1.0) > 1e-6:
        raise InputError(f"branching ratios of {name} sum to {total:g}; expected 1")
    mass = masses[SPARTICLES[name]]
    for _, products in channels:
        needed = sum(masses.get(abs(code), _KNOWN.get(abs(code), 0.0)) for code in products)
        if needed >= mass:
            raise InputError(
                f"{name} ({mass:g} GeV) cannot decay to {', '.join(map(str, products))}, which need {needed:g} GeV"
            )


@contextmanager
def slha_file(text: str | None) -> Iterator[tuple[str, ...]]:
    """Give the Pythia settings that read ``text``; none if there is no text. The file is gone afterwards."""
    if text is None:
        yield ()
        return
    with TemporaryDirectory(prefix="serendip-") as folder:
        path = Path(folder) / "model.slha"
        path.write_text(text)
        yield (f"SLHA:file = {path}", "SLHA:verbose = 0")
