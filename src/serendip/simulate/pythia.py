"""Pythia 8 in batches: from a list of settings to flat arrays of stable particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["Particles", "decay_settings", "generate", "make_pythia", "pythia_version", "qcd_settings"]

_BASE = (
    "Beams:eCM = 13000.",
    "Random:setSeed = on",
    "Print:quiet = on",
)

# Largest seed that Pythia accepts.
_MAX_SEED = 900_000_000

_W_PRIME, _Z, _W = 34, 23, 24
# Codes free for generator use in the Particle Data Group numbering: a neutral and a charged scalar.
_X, _Y = 9_900_041, 9_900_042

_RELATIVE_WIDTH = 0.003


@dataclass(frozen=True)
class Particles:
    """Particles of many events, one event after the other.

    Attributes
    ----------
    pdg
        Particle Data Group code, shape ``(n_particles,)``.
    p4
        px, py, pz, E in GeV, shape ``(4, n_particles)``.
    counts
        Number of particles of each event, shape ``(n_events,)``.
    """

    pdg: NDArray[np.int32]
    p4: NDArray[np.float64]
    counts: NDArray[np.int64]


def qcd_settings(pthat_min: float) -> tuple[str, ...]:
    """Pythia settings of QCD dijets with a smallest transverse momentum of the hard process in GeV."""
    return ("HardQCD:all = on", f"PhaseSpace:pTHatMin = {pthat_min!r}")


def decay_settings(masses: tuple[float, float, float], prongs: int) -> tuple[str, ...]:
    """Pythia settings of W' -> X Y, with X and Y decaying to two or three jets each.

    All three are colour singlets and 0.3 % wide. With two prongs X is a Z and Y a W of another mass, so that
    the angles of W' -> X Y -> 4 quarks are correlated as in Pythia's W' -> W Z; X and Y decay to
    u, d, s, c. With three prongs X is a neutral and Y a charged scalar: X -> q qbar g and Y -> u dbar g,
    c sbar g, distributed by three-body phase space, the colour of the gluon connected to both quarks.

    Parameters
    ----------
    masses
        Masses of W', X and Y in GeV.
    prongs
        2 or 3.
    """
    parent, x, y = masses
    out = ["NewGaugeBoson:ffbar2Wprime = on", *_shape(_W_PRIME, parent)]
    if prongs == 2:
        out += ["Wprime:coup2WZ = 1.", *_shape(_Z, x), *_shape(_W, y)]
        out += _only(_W_PRIME, f"onIfAll = {_Z} {_W}")
        out += _only(_Z, "onIfAny = 1 2 3 4") + _only(_W, "onIfAny = 1 2 3 4")
        return tuple(out)
    # name, antiname, spin type (scalar), 3 x charge, colour
    out += [f"{_X}:new = X void 1 0 0", f"{_Y}:new = Y+ Y- 1 3 0", *_shape(_X, x), *_shape(_Y, y)]
    out += [f"{_X}:isResonance = on", f"{_Y}:isResonance = on"]
    out += _channels(_W_PRIME, [f"{_X} {_Y}"])
    out += _channels(_X, [f"{q} -{q} 21" for q in (1, 2, 3, 4)])
    out += _channels(_Y, ["2 -1 21", "4 -3 21"])
    return tuple(out)


def make_pythia(settings: Sequence[str], seed: int, *, mpi: bool = False) -> Any:
    """Start a Pythia generator at 13 TeV.

    Parameters
    ----------
    settings
        Lines such as ``"HardQCD:all = on"``.
    seed
        Any non-negative integer; taken modulo 900,000,000.
    mpi
        Multiparton interactions, which cost a factor of about three in time.

    Raises
    ------
    InputError
        If Pythia is not installed, or refuses a setting or the combination of them.
    """
    pythia = _module().Pythia("", False)
    lines = [*_BASE, f"PartonLevel:MPI = {'on' if mpi else 'off'}", *settings]
    # 0 would mean "take the time of day"
    lines.append(f"Random:seed = {seed % _MAX_SEED or 1}")
    for line in lines:
        if not pythia.readString(line, False):
            raise InputError(f"Pythia does not accept the setting '{line}'")
    if not pythia.init():
        raise InputError(f"Pythia cannot be started with these settings: {'; '.join(settings)}")
    return pythia


def generate(pythia: Any, n_events: int) -> Particles:
    """Generate events and keep their stable particles, neutrinos left out.

    Events that Pythia fails to generate are skipped, so fewer than ``n_events`` may come back.
    """
    import awkward as ak

    particles = pythia.nextBatch(n_events, "skip").prt
    flavour = np.abs(particles.id)
    neutrino = (flavour == 12) | (flavour == 14) | (flavour == 16)
    kept = particles[(particles.status > 0) & ~neutrino]
    p4 = np.stack([ak.to_numpy(ak.flatten(kept.p[name])) for name in ("px", "py", "pz", "e")])
    counts = ak.to_numpy(ak.num(kept)).astype(np.int64)
    return Particles(ak.to_numpy(ak.flatten(kept.id)), p4, counts)


def pythia_version() -> str:
    """Release of the installed Pythia, for example ``"8.317"``.

    Raises
    ------
    InputError
        If Pythia is not installed.
    """
    _module()
    from importlib.metadata import version

    return version("pythia8mc")


def _module() -> Any:
    try:
        import awkward  # noqa: F401
        import pythia8mc
    except ImportError as error:
        raise InputError(
            "simulating events needs Pythia 8, which is not installed: pip install 'serendip[simulate]'"
        ) from error
    return pythia8mc


def _shape(code: int, mass: float) -> list[str]:
    width = _RELATIVE_WIDTH * mass
    # without limits the steep parton luminosity turns the far Breit-Wigner tail into a second, low-mass peak
    low, high = max(mass - 25 * width, 1.0), mass + 25 * width
    return [
        f"{code}:m0 = {mass!r}",
        f"{code}:mWidth = {width!r}",
        f"{code}:mMin = {low!r}",
        f"{code}:mMax = {high!r}",
        f"{code}:doForceWidth = on",
    ]


def _only(code: int, decays: str) -> list[str]:
    return [f"{code}:onMode = off", f"{code}:{decays}"]


def _channels(code: int, products: list[str]) -> list[str]:
    rate = 1.0 / len(products)
    verbs = ["oneChannel"] + ["addChannel"] * (len(products) - 1)
    return [f"{code}:{verb} = 1 {rate!r} 100 {each}" for verb, each in zip(verbs, products, strict=True)]
