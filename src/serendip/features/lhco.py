"""LHC Olympics raw events: rows of 700 particles become two jets in the layout of the feature files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.features.jets import Jets, leading_jets

__all__ = ["FEATURE_COLUMNS", "N_RAW_COLUMNS", "cluster_raw", "jet_columns"]

N_RAW_COLUMNS = 2100

_PER_JET = ("px", "py", "pz", "m", "tau1", "tau2", "tau3")
FEATURE_COLUMNS = tuple(f"{name}j{j}" for j in (1, 2) for name in _PER_JET)


def cluster_raw(rows: NDArray[Any], *, chunk: int = 2000) -> dict[str, NDArray[np.float64]]:
    """Cluster raw LHC Olympics events (arXiv:2101.08320) with anti-kT, R = 1.

    Parameters
    ----------
    rows
        Shape ``(n, 2100)``: transverse momentum (GeV), pseudorapidity and azimuth of 700 massless particles,
        padded with zeros. A 2101st column (the truth label) is ignored.
    chunk
        Events clustered at a time: bounds the memory, changes no result.

    Returns
    -------
    dict
        ``pxj1, pyj1, pzj1, mj1, tau1j1, tau2j1, tau3j1`` and the same with ``j2``, each of shape ``(n,)``,
        momenta and masses in GeV; ``j1`` has the larger transverse momentum. An event with fewer
        than two jets has zeros for the missing one.

    Raises
    ------
    InputError
        If the rows do not have 2100 or 2101 columns or hold values that are not finite.
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] not in (N_RAW_COLUMNS, N_RAW_COLUMNS + 1):
        raise InputError(
            f"raw LHC Olympics events need {N_RAW_COLUMNS} columns (700 particles of pT, eta, phi) and "
            f"optionally a label; the table has shape {rows.shape}"
        )
    parts = [_columns(rows[first : first + chunk], first) for first in range(0, max(len(rows), 1), chunk)]
    return {name: np.concatenate([part[name] for part in parts]) for name in FEATURE_COLUMNS}


def jet_columns(jets: Jets) -> dict[str, NDArray[np.float64]]:
    """Write two leading jets as the columns of an LHC Olympics feature file, each of shape ``(n,)``."""
    out: dict[str, NDArray[np.float64]] = {}
    for j in (0, 1):
        values = (jets.px, jets.py, jets.pz, jets.mass, *(jets.tau[:, :, k] for k in range(3)))
        out |= {f"{name}j{j + 1}": value[:, j] for name, value in zip(_PER_JET, values, strict=True)}
    return out


def _columns(rows: NDArray[Any], first_row: int) -> dict[str, NDArray[np.float64]]:
    particles = rows[:, :N_RAW_COLUMNS].astype(np.float64).reshape(len(rows), N_RAW_COLUMNS // 3, 3)
    bad = np.flatnonzero(~np.isfinite(particles).all(axis=(1, 2)))
    if len(bad):
        raise InputError(
            f"row {first_row + int(bad[0])} of the raw events holds a value that is not finite; "
            "every pT, eta and phi must be a number"
        )
    real = particles[:, :, 0] > 0
    pt, eta, phi = particles[real].T
    px, py = pt * np.cos(phi), pt * np.sin(phi)
    pz, energy = pt * np.sinh(eta), pt * np.cosh(eta)
    return jet_columns(leading_jets(px, py, pz, energy, real.sum(axis=1)))
