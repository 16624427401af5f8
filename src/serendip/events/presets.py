"""Presets: columns and roles for files that everybody has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.table import Table

__all__ = ["PRESETS", "LhcoTable", "preset_table"]

_JETS = tuple(f"{q}j{j}" for j in (1, 2) for q in ("px", "py", "pz", "m", "tau1", "tau2", "tau3"))
_NEEDED = tuple(name for name in _JETS if not name.startswith("tau3"))
N_RAW = 2100
RAW_CHUNK = 5000


class LhcoTable(Table):
    r"""The LHC Olympics R&D files: two jets with momentum, mass and n-subjettiness, in GeV.

    Columns that are made here, and hide columns of the file with the same name (the file's ``mj1`` is the
    mass of
    the jet with the larger transverse momentum):

    * ``mjj``: invariant mass of the two jets,
    * ``mj1``: mass of the lighter jet,
    * ``delta_mj``: mass of the heavier jet minus that of the lighter,
    * ``tau21_j1``, ``tau21_j2``: :math:`\tau_2 / (\tau_1 + 10^{-5})` of the lighter and of the heavier jet.

    A raw file (2100 numbers for each event: 700 particles with pT, eta, phi; then the label) is clustered
    first.
    The features are those of arXiv:2001.04990 and arXiv:2109.00546.
    """

    mass = "mjj"
    features = ("mj1", "delta_mj", "tau21_j1", "tau21_j2")

    def __init__(self, base: Table) -> None:
        super().__init__(base.path)
        self.name = base.name
        self.base, self.format, self.tree, self.n_rows = base, base.format, base.tree, base.n_rows
        self.raw = all(str(i) in base.types for i in range(N_RAW))
        self.label: str | None = "label" if "label" in base.types else None
        if self.raw:
            self.types = dict.fromkeys(_JETS, "float64")
            if str(N_RAW) in base.types:
                self.types["label"] = base.types[str(N_RAW)]
                self.label = "label"
        else:
            missing = [name for name in _NEEDED if name not in base.types]
            if missing:
                raise InputError(
                    f"{base.name}: the preset lhco needs a column '{missing[0]}', which is not there; "
                    "expected the "
                    f"columns {', '.join(_NEEDED)} of an LHC Olympics features file, or the 2100 numbers of "
                    "a raw file"
                )
            self.types = dict(base.types)
            self.jagged = dict(base.jagged)
            self.unreadable = dict(base.unreadable)
        self.types.update(dict.fromkeys((self.mass, *self.features), "float64"))

    @property
    def size(self) -> int:
        """See :attr:`Table.size`."""
        return self.base.size

    @property
    def files(self) -> list[str]:
        """See :attr:`Table.files`."""
        return self.base.files

    def place(self, row: int) -> str:
        """See :meth:`Table.place`."""
        return self.base.place(row)

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """See :meth:`Table.load`."""
        self.require(names)
        made = {name for name in names if name in (self.mass, *self.features)}
        wanted = dict.fromkeys([name for name in names if name not in made] + (list(_NEEDED) if made else []))
        columns = (
            self._load_raw(list(wanted), start, stop) if self.raw else self.base.load(wanted, start, stop)
        )
        result = {name: columns[name] for name in names if name not in made}
        if made:
            jets = {name: np.asarray(columns[name], dtype=np.float64) for name in _NEEDED}
            result.update({name: values for name, values in jet_features(jets).items() if name in made})
        return result

    def _load_raw(self, names: list[str], start: int, stop: int | None) -> dict[str, NDArray[Any]]:
        from serendip.features.lhco import cluster_raw

        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        particles = [str(i) for i in range(N_RAW)]
        label = [str(N_RAW)] if "label" in names else []
        parts: list[dict[str, NDArray[Any]]] = []
        for low in range(start, max(stop, start + 1), RAW_CHUNK):
            raw = self.base.load(particles + label, low, min(low + RAW_CHUNK, stop))
            jets: dict[str, NDArray[Any]] = {}
            if set(names) & set(_JETS):
                jets = dict(cluster_raw(np.column_stack([raw[name] for name in particles])))
            if label:
                jets["label"] = raw[label[0]]
            parts.append(jets)
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


def jet_features(jets: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    r"""Mass of a jet pair and the four standard features.

    .. math:: m_{jj}^2 = (E_1 + E_2)^2 - |\vec p_1 + \vec p_2|^2, \quad E^2 = |\vec p|^2 + m |m|

    A jet mass below 0 comes from rounding in the clustering and means :math:`m^2 < 0`.

    Parameters
    ----------
    jets
        Columns ``pxj1 pyj1 pzj1 mj1 tau1j1 tau2j1`` and the same of ``j2``, each of shape ``(n,)``, in GeV.

    Returns
    -------
    dict
        ``mjj``, ``mj1``, ``delta_mj`` in GeV, ``tau21_j1`` and ``tau21_j2``, each of shape ``(n,)``.
    """
    total = np.zeros((4, len(jets["pxj1"])))
    for j in ("j1", "j2"):
        px, py, pz, m = (jets[f"{q}{j}"] for q in ("px", "py", "pz", "m"))
        total += np.sqrt(px**2 + py**2 + pz**2 + m * np.abs(m)), px, py, pz
    energy, px, py, pz = total
    lighter_first = jets["mj1"] <= jets["mj2"]
    tau21 = {j: jets[f"tau2{j}"] / (jets[f"tau1{j}"] + 1e-5) for j in ("j1", "j2")}
    return {
        "mjj": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)),
        "mj1": np.where(lighter_first, jets["mj1"], jets["mj2"]),
        "delta_mj": np.abs(jets["mj2"] - jets["mj1"]),
        "tau21_j1": np.where(lighter_first, tau21["j1"], tau21["j2"]),
        "tau21_j2": np.where(lighter_first, tau21["j2"], tau21["j1"]),
    }


PRESETS = {"lhco": LhcoTable}


def preset_table(base: Table, preset: str) -> LhcoTable:
    """Put a preset on top of a table.

    Raises
    ------
    InputError
        If there is no such preset or the table lacks columns that it needs.
    """
    if preset not in PRESETS:
        raise InputError(f"there is no preset '{preset}'; there are: {', '.join(PRESETS)}")
    return PRESETS[preset](base)
