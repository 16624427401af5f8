"""The embedded sample: simulated dijets with a hidden resonance, shipped with the package.

``python -m serendip.simulate.embedded --out FILE`` makes the file again (about a quarter of an hour on one core);
nothing of the simulation is imported to use it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serendip.errors import InputError

if TYPE_CHECKING:
    from serendip.simulate.dijet import Progress

__all__ = ["build", "condense", "embedded_sample_path", "round_mantissa"]

_BACKGROUND, _SIGNAL = 100_000, 360
_MASSES = (3500.0, 500.0, 100.0)
_PRONGS, _SEED = 2, 20260

# name: (unit, description, number of mantissa bits kept); j1 is the lighter of the two jets
_COLUMNS = {
    "mjj": ("GeV", "invariant mass of the two leading jets", 18),
    "mj1": ("GeV", "mass of the lighter jet", 13),
    "delta_mj": ("GeV", "mass of the heavier jet minus mass of the lighter jet", 13),
    "tau21_j1": ("1", "tau2 / (tau1 + 1e-5) of the lighter jet", 12),
    "tau21_j2": ("1", "tau2 / (tau1 + 1e-5) of the heavier jet", 12),
    "tau32_j1": ("1", "tau3 / (tau2 + 1e-5) of the lighter jet", 12),
    "tau32_j2": ("1", "tau3 / (tau2 + 1e-5) of the heavier jet", 12),
    "pt_j1": ("GeV", "transverse momentum of the lighter jet", 13),
    "pt_j2": ("GeV", "transverse momentum of the heavier jet", 13),
    "delta_eta": ("1", "absolute difference of the pseudorapidities of the jets", 12),
    "n_j1": ("1", "number of constituents of the lighter jet", 12),
    "n_j2": ("1", "number of constituents of the heavier jet", 12),
}
_NOT_FEATURES = {"id": "event number", "truth": "1 = planted signal, 0 = background"}


def embedded_sample_path() -> Path:
    """Path of the Parquet file with the embedded sample.

    Raises
    ------
    InputError
        If the installation lacks the file.
    """
    path = Path(__file__).resolve().parents[1] / "data" / "dijet.parquet"
    if not path.is_file():
        raise InputError(f"{path}: the embedded sample is missing; reinstall serendip")
    return path


def build(path: Path | str, jobs: int = 1, *, progress: Progress | None = None) -> Path:
    """Resimulate the embedded sample and write it to ``path``.

    An interrupted call is continued by repeating it.

    Parameters
    ----------
    path
        Output file.
    jobs
        Number of processes.
    progress
        Called with the number of finished and of all events.

    Raises
    ------
    InputError
        See :func:`serendip.simulate.dijet.simulate_dijet`.
    """
    from serendip.simulate.dijet import simulate_dijet

    path = Path(path)
    source = path.with_name(f".{path.name}.source")
    simulate_dijet(source, _BACKGROUND, _SIGNAL, _MASSES, _PRONGS, seed=_SEED, jobs=jobs, progress=progress)
    condense(source, path)
    source.unlink()
    return path


def condense(source: Path | str, path: Path | str) -> Path:
    """Turn a file of ``simulate dijet`` into the columns and the reduced precision of the embedded sample.

    Parameters
    ----------
    source
        Output of :func:`serendip.simulate.dijet.simulate_dijet`.
    path
        Output file.
    """
    from serendip.simulate.dijet import METADATA_KEY, read_settings

    path = Path(path)
    table = pq.read_table(source)
    values = _features({name: table[name].to_numpy() for name in table.column_names})
    arrays, fields = [], []
    for name, (unit, description, bits) in _COLUMNS.items():
        arrays.append(pa.array(round_mantissa(values[name], bits)))
        fields.append(_field(name, pa.float32(), unit, description))
    arrays += [pa.array(np.arange(len(table), dtype=np.int32)), table["label"].combine_chunks()]
    fields += [
        _field(name, arrays[i - 2].type, "1", _NOT_FEATURES[name]) for i, name in enumerate(("id", "truth"))
    ]
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(read_settings(source)).encode()})
    encoding = dict.fromkeys(_COLUMNS, "BYTE_STREAM_SPLIT") | {"id": "DELTA_BINARY_PACKED"}
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(
        pa.table(arrays, schema=schema),
        temporary,
        compression="zstd",
        compression_level=19,
        use_dictionary=["truth"],
        column_encoding=encoding,
    )
    temporary.replace(path)
    return path


def round_mantissa(values: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """Round to ``bits`` bits of mantissa, so that the remaining zeros compress well.

    The relative error is at most 2 to the power of -(bits + 1).
    """
    drop = 23 - bits
    raw = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((raw + (1 << (drop - 1))) >> drop) << drop
    return rounded.astype(np.uint32).view(np.float32)


def _features(raw: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    jets = []
    for j in ("j1", "j2"):
        px, py, pz, m, tau1, tau2, tau3, n = (
            raw[f"{name}{j}"].astype(np.float64)
            for name in ("px", "py", "pz", "m", "tau1", "tau2", "tau3", "n")
        )
        pt = np.hypot(px, py)
        eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=pt > 0))
        energy = np.sqrt(px**2 + py**2 + pz**2 + m**2)
        tau21, tau32 = tau2 / (tau1 + 1e-5), tau3 / (tau2 + 1e-5)
        jets.append(np.stack([px, py, pz, energy, m, pt, eta, tau21, tau32, n]))
    px, py, pz, energy = jets[0][:4] + jets[1][:4]
    first_is_lighter = jets[0][4] <= jets[1][4]
    light, heavy = np.where(first_is_lighter, jets[0], jets[1]), np.where(first_is_lighter, jets[1], jets[0])
    out = {
        "mjj": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)),
        "mj1": light[4],
        "delta_mj": heavy[4] - light[4],
        "delta_eta": np.abs(light[6] - heavy[6]),
    }
    for j, jet in (("j1", light), ("j2", heavy)):
        out |= {f"pt_{j}": jet[5], f"tau21_{j}": jet[7], f"tau32_{j}": jet[8], f"n_{j}": jet[9]}
    return out


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})


def _main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded sample of serendip again.")
    parser.add_argument("--out", type=Path, required=True, help="output file (Parquet)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    arguments = parser.parse_args()
    build(arguments.out, arguments.jobs)


if __name__ == "__main__":
    _main()
