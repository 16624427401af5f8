"""Input of the fast detector, extracted from Pythia's event record as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.simulate.pythia import Particles

__all__ = ["Hadrons", "Record", "generate_record"]

Floats = NDArray[np.float64]

# Larger codes are not hadrons of known quarks (supersymmetry, hidden valleys, ...).
_FIRST_EXOTIC = 1_000_000


@dataclass(frozen=True)
class Hadrons:
    """Hadrons with a bottom or charm quark, decayed ones included; arrays of shape ``(n_hadrons,)``.

    Attributes
    ----------
    event
        Row of the event.
    bottom
        True for bottom, False for charm.
    pt, eta, phi
        GeV, pseudorapidity and rad.
    """

    event: NDArray[np.int64]
    bottom: NDArray[np.bool_]
    pt: Floats
    eta: Floats
    phi: Floats


@dataclass(frozen=True)
class Record:
    """Generated events.

    Attributes
    ----------
    visible
        Stable particles that leave a signal in a detector.
    invisible
        Sum of px and of py of all others (neutrinos, neutralinos, gravitinos, dark matter, ...) in GeV,
        shape ``(2, n_events)``.
    heavy_hadrons
        Hadrons with bottom or charm.
    """

    visible: Particles
    invisible: Floats
    heavy_hadrons: Hadrons

    def __len__(self) -> int:
        return len(self.visible.counts)


def generate_record(pythia: Any, n_events: int) -> Record:
    """Generate events; those that Pythia fails to generate are left out, so fewer may come back.

    Visible is as defined by Pythia: its particle data base and SLHA files define each particle as coloured, charged or neither; the neutral stable ones of new physics are invisible.
    """
    import awkward as ak

    particles = pythia.nextBatch(n_events, "skip").prt
    counts = ak.to_numpy(ak.num(particles)).astype(np.int64)
    event = np.repeat(np.arange(len(counts)), counts)
    code = ak.to_numpy(ak.flatten(particles.id))
    p4 = np.stack([ak.to_numpy(ak.flatten(particles.p[name])) for name in ("px", "py", "pz", "e")])
    stable = ak.to_numpy(ak.flatten(particles.status)) > 0

    codes, where = np.unique(code[stable], return_inverse=True)
    seen = np.array([pythia.particleData.isVisible(int(each)) for each in codes], dtype=bool)[where]
    rows = np.flatnonzero(stable)
    visible, hidden = rows[seen], rows[~seen]
    missing = np.stack(
        [np.bincount(event[hidden], weights=p4[i, hidden], minlength=len(counts)) for i in (0, 1)]
    ).astype(np.float64)
    return Record(
        Particles(
            code[visible],
            p4[:, visible],
            np.bincount(event[visible], minlength=len(counts)).astype(np.int64),
        ),
        missing,
        _heavy_hadrons(event, code, p4),
    )


def heavy_quark(code: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Heaviest of bottom (5) and charm (4) in hadrons of these Particle Data Group codes; 0 for everything else."""
    size = np.abs(np.asarray(code, dtype=np.int64))
    tens, hundreds, thousands = (size // 10**k % 10 for k in (1, 2, 3))
    # a diquark has no third quark, written as a zero in the place of the tens
    hadron = (size > 100) & (size < _FIRST_EXOTIC) & (tens > 0)
    heaviest = np.maximum(hundreds, thousands)
    return np.where(hadron & ((heaviest == 4) | (heaviest == 5)), heaviest, 0)


def _heavy_hadrons(event: NDArray[np.int64], code: NDArray[np.int32], p4: Floats) -> Hadrons:
    quark = heavy_quark(code)
    rows = np.flatnonzero(quark)
    px, py, pz, _ = p4[:, rows]
    pt = np.hypot(px, py)
    eta = np.arcsinh(np.divide(pz, pt, out=np.full_like(pt, np.inf), where=pt > 0))
    return Hadrons(event[rows], quark[rows] == 5, pt, eta, np.arctan2(py, px))
