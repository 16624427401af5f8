"""Jets to numbers: anti-kT clustering and N-subjettiness for many events at once.

Events are given as flat particle arrays with the number of particles of each event, results are plain NumPy
arrays. FastJet runs over whole chunks of events through its awkward interface; awkward arrays do not leave
this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["Jets", "inclusive_jets", "leading_jets", "n_subjettiness"]

Floats = NDArray[np.float64]

# The kT axes must come from a clustering without beam distance: FastJet's largest allowed radius.
_AXES_RADIUS = 1000.0


@dataclass(frozen=True)
class Jets:
    """The leading jets of each event, ordered in transverse momentum; a missing jet is all zeros.

    Attributes
    ----------
    px, py, pz, mass
        Momentum and mass in the unit of the input, shape ``(n_events, n_jets)``. A mass squared that
        rounding made negative gives mass 0.
    tau
        N-subjettiness for N = 1, 2, 3, shape ``(n_events, n_jets, 3)``.
    n_constituents
        Number of constituents, shape ``(n_events, n_jets)``.
    """

    px: Floats
    py: Floats
    pz: Floats
    mass: Floats
    tau: Floats
    n_constituents: NDArray[np.int64]

    @property
    def pt(self) -> Floats:
        """Transverse momentum, shape ``(n_events, n_jets)``."""
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> Floats:
        """Pseudorapidity, shape ``(n_events, n_jets)``; 0 for a missing jet."""
        return _eta(np.stack([self.px, self.py, self.pz]))


def leading_jets(
    px: Floats,
    py: Floats,
    pz: Floats,
    energy: Floats,
    counts: NDArray[np.integer[Any]],
    *,
    radius: float = 1.0,
    n_jets: int = 2,
    tau_min_pt: float = 0.0,
    chunk: int = 2000,
) -> Jets:
    """Cluster particles with anti-kT and describe the leading jets of each event.

    Parameters
    ----------
    px, py, pz, energy
        Four-momenta of the particles of all events, one after the other, shape ``(n_particles,)``.
    counts
        Number of particles of each event, shape ``(n_events,)``; 0 is allowed.
    radius
        Radius parameter R of the anti-kT algorithm (arXiv:0802.1189), E-scheme recombination.
    n_jets
        How many jets to keep of each event.
    tau_min_pt
        N-subjettiness is computed (0 otherwise) for events whose leading jet has at least this transverse
        momentum: it is the slow part, and needless for events that fail a selection.
    chunk
        Events clustered at a time: bounds the memory, changes no result.

    Raises
    ------
    InputError
        If FastJet or awkward is not installed, or a momentum is not finite.
    """
    _modules()
    sizes = np.asarray(counts, dtype=np.int64)
    p4 = np.stack([np.asarray(v, dtype=np.float64) for v in (px, py, pz, energy)])
    if p4.shape[1] != sizes.sum():
        raise ValueError(f"{p4.shape[1]} particles given, but the counts sum to {sizes.sum()}")
    edges = np.concatenate([[0], np.cumsum(sizes)])
    bad = np.flatnonzero(~np.isfinite(p4).all(axis=0))
    if len(bad):
        event = int(np.searchsorted(edges, bad[0], side="right")) - 1
        raise InputError(f"event {event}: a particle momentum is not finite; every momentum must be a number")
    parts = []
    for first in range(0, len(sizes), chunk):
        last = min(first + chunk, len(sizes))
        part = p4[:, edges[first] : edges[last]], sizes[first:last]
        parts.append(_cluster(*part, radius=radius, n_jets=n_jets, tau_min_pt=tau_min_pt))
    if not parts:
        zero = np.zeros((0, n_jets))
        return Jets(zero, zero, zero, zero, np.zeros((0, n_jets, 3)), np.zeros((0, n_jets), dtype=np.int64))
    return Jets(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def inclusive_jets(
    px: Floats,
    py: Floats,
    pz: Floats,
    energy: Floats,
    counts: NDArray[np.integer[Any]],
    *,
    radius: float,
    min_pt: float,
) -> tuple[Floats, NDArray[np.int64]]:
    """Cluster particles with anti-kT and give all jets above a transverse momentum.

    Parameters
    ----------
    px, py, pz, energy, counts, radius
        As in :func:`leading_jets`.
    min_pt
        Smallest transverse momentum, in the unit of the input.

    Returns
    -------
    p4, event
        px, py, pz, E of the jets, shape ``(4, n_jets)``, and the row of the event of each, shape ``(n_jets,)``,
        event by event.

    Raises
    ------
    InputError
        If FastJet or awkward is not installed.
    """
    ak, fastjet = _modules()
    sizes = np.asarray(counts, dtype=np.int64)
    filled = np.flatnonzero(sizes)
    if not len(filled):
        return np.zeros((4, 0)), np.zeros(0, dtype=np.int64)
    events = _events(ak, np.stack([px, py, pz, energy]), sizes[filled])
    sequence = fastjet.ClusterSequence(events, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    jets = sequence.inclusive_jets(min_pt=min_pt)
    p4 = np.stack([ak.to_numpy(ak.flatten(jets[name])) for name in ("px", "py", "pz", "E")])
    return p4.astype(np.float64), np.repeat(filled, ak.to_numpy(ak.num(jets)))


def n_subjettiness(
    px: Floats,
    py: Floats,
    pz: Floats,
    energy: Floats,
    counts: NDArray[np.integer[Any]],
    *,
    n_max: int = 3,
    radius: float = 1.0,
) -> Floats:
    r"""N-subjettiness with beta = 1 and exclusive-kT axes, shape ``(n_jets, n_max)``.

    .. math:: \tau_N = \frac{\sum_i p_{T,i} \min_{a \le N} \Delta R_{i,a}}{R \sum_i p_{T,i}},

    where the axes *a* are the N exclusive kT jets of the constituents and :math:`\Delta R` is taken in
    pseudorapidity and azimuth (arXiv:1011.2268). A jet with no more than N constituents has
    :math:`\tau_N = 0`; the result is never NaN.

    Parameters
    ----------
    px, py, pz, energy
        Four-momenta of the constituents of all jets, one jet after the other, shape ``(n_constituents,)``.
    counts
        Number of constituents of each jet, shape ``(n_jets,)``.
    n_max
        Largest N.
    radius
        Jet radius R of the normalisation.
    """
    ak, fastjet = _modules()
    sizes = np.asarray(counts, dtype=np.int64)
    tau = np.zeros((len(sizes), n_max))
    full = sizes > 1
    if not full.any():
        return tau
    keep = np.repeat(full, sizes)
    p4 = np.stack([px, py, pz, energy])[:, keep]
    sizes = sizes[full]
    pt = np.hypot(p4[0], p4[1])
    eta, phi = _eta(p4), np.arctan2(p4[1], p4[0])
    jet = np.repeat(np.arange(len(sizes)), sizes)
    scale = radius * np.bincount(jet, weights=pt, minlength=len(sizes))

    definition = fastjet.JetDefinition(fastjet.kt_algorithm, _AXES_RADIUS)
    values = np.zeros((len(sizes), n_max))
    with _fastjet_quiet():
        sequence = fastjet.ClusterSequence(_events(ak, p4, sizes), definition)
        for n in range(1, n_max + 1):
            axes = sequence.exclusive_jets_up_to(n)
            found = ak.to_numpy(ak.num(axes))
            flat = np.stack([ak.to_numpy(ak.flatten(axes[name])) for name in ("px", "py", "pz", "E")])
            first = np.concatenate([[0], np.cumsum(found)[:-1]])
            axis_eta, axis_phi = _eta(flat), np.arctan2(flat[1], flat[0])
            nearest = np.full(len(pt), np.inf)
            for k in range(n):
                # a jet with fewer axes repeats its last one
                a = (first + np.minimum(k, found - 1))[jet]
                dphi = np.abs(phi - axis_phi[a])
                dphi = np.minimum(dphi, 2 * np.pi - dphi)
                np.minimum(nearest, np.hypot(eta - axis_eta[a], dphi), out=nearest)
            values[:, n - 1] = np.bincount(jet, weights=pt * nearest, minlength=len(sizes))
            values[sizes <= n, n - 1] = 0.0
    tau[full] = np.divide(values, scale[:, None], out=np.zeros_like(values), where=scale[:, None] > 0)
    return tau


def _cluster(
    p4: Floats, counts: NDArray[np.int64], *, radius: float, n_jets: int, tau_min_pt: float
) -> tuple[Floats, Floats, Floats, Floats, Floats, NDArray[np.int64]]:
    ak, fastjet = _modules()
    out = np.zeros((4, len(counts), n_jets))
    tau = np.zeros((len(counts), n_jets, 3))
    size = np.zeros((len(counts), n_jets), dtype=np.int64)
    filled = np.flatnonzero(counts)
    if len(filled):
        events = _events(ak, p4, counts[filled])
        sequence = fastjet.ClusterSequence(events, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
        jets, index = sequence.inclusive_jets(min_pt=0.0), sequence.constituent_index(min_pt=0.0)
        leading = ak.argsort(jets.px**2 + jets.py**2, axis=1, ascending=False)[:, :n_jets]
        jets, index = jets[leading], index[leading]
        found = ak.to_numpy(ak.num(jets))
        row = np.repeat(filled, found)
        column = np.concatenate([np.arange(k) for k in found])
        for i, name in enumerate(("px", "py", "pz", "E")):
            out[i, row, column] = ak.to_numpy(ak.flatten(jets[name]))
        size[row, column] = ak.to_numpy(ak.flatten(ak.num(index, axis=2)))
        wanted = np.hypot(out[0, filled, 0], out[1, filled, 0]) >= tau_min_pt
        of_row = np.repeat(wanted, found)
        row, column, index = row[of_row], column[of_row], index[wanted]
        sizes = size[row, column]
        start = np.concatenate([[0], np.cumsum(counts)[:-1]])
        particle = ak.to_numpy(ak.flatten(index, axis=None)) + np.repeat(start[row], sizes)
        px, py, pz, energy = p4[:, particle]
        tau[row, column] = n_subjettiness(px, py, pz, energy, sizes, radius=radius)
    px, py, pz, energy = out
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))
    return px, py, pz, mass, tau, size


def _events(ak: ModuleType, p4: Floats, counts: NDArray[np.int64]) -> Any:
    fields = dict(zip(("px", "py", "pz", "E"), p4, strict=True))
    return ak.unflatten(ak.zip(fields, with_name="Momentum4D"), counts)


def _eta(p: Floats) -> Floats:
    pt = np.hypot(p[0], p[1])
    eta: Floats = np.arcsinh(np.divide(p[2], pt, out=np.zeros_like(pt), where=pt > 0))
    return eta


def _modules() -> tuple[ModuleType, ModuleType]:
    try:
        import awkward as ak
        import fastjet
    except ImportError as error:
        raise InputError(
            "clustering particles into jets needs FastJet and awkward, which are not installed: "
            "pip install 'serendip[simulate]'"
        ) from error
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    return ak, fastjet


@contextmanager
def _fastjet_quiet() -> Iterator[None]:
    # its exclusive-jet methods warn for every algorithm, kT included, and replace warnings.formatwarning
    original = warnings.formatwarning
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="dcut and exclusive jets", category=UserWarning)
            yield
    finally:
        warnings.formatwarning = original
