"""QCD dijets and W' -> X Y events with the selection and the columns of the LHC Olympics.

Events are made in chunks. Chunk *k* of a sample is a function of the settings and *k* alone and is stored in a hidden folder next to the output; so the result depends neither on the number of processes nor
on interruptions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.features.jets import Jets, leading_jets
from serendip.features.lhco import jet_columns
from serendip.io.json import read_json, write_json
from serendip.simulate.detector import Detector, detect
from serendip.simulate.pythia import decay_settings, generate, make_pythia, pythia_version, qcd_settings
from serendip.simulate.workers import worker_pool
from serendip.version import __version__

__all__ = ["METADATA_KEY", "Progress", "read_settings", "simulate_dijet"]

METADATA_KEY = b"serendip"

# Selected events of one chunk: large enough to hide the start of Pythia, small enough for frequent saving.
_CHUNK = 2000
_BATCH = 250
_MIN_PT, _MAX_ETA = 1200.0, 2.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Chunk:
    sample: str
    index: int
    n_events: int
    lines: tuple[str, ...]
    seed: int
    mpi: bool
    path: str


def simulate_dijet(
    path: Path | str,
    background: int,
    signal: int,
    masses: tuple[float, float, float] = (3500.0, 500.0, 100.0),
    prongs: int = 2,
    *,
    seed: int = 1,
    jobs: int = 1,
    mpi: bool = False,
    pthat_min: float = 1050.0,
    progress: Progress | None = None,
) -> Path:
    """Simulate dijet events and write them to a Parquet file in the layout of the LHC Olympics.

    Columns: ``pxj1, pyj1, pzj1, mj1, tau1j1, tau2j1, tau3j1, nj1``, the same with ``j2`` (j1 has the larger
    transverse momentum; GeV), ``label`` (1 = signal) and ``id``. Selection: leading anti-kT R = 1 jet with
    transverse momentum above 1200 GeV and pseudorapidity within 2.5 (arXiv:2101.08320). Rows are
    shuffled; the settings are in the schema metadata under the key ``serendip``.

    The same call after an interruption continues; the same arguments give the same bytes for any ``jobs``.

    Parameters
    ----------
    path
        Output file.
    background, signal
        Number of selected QCD dijet and W' -> X Y events.
    masses
        Masses of W', X and Y in GeV.
    prongs
        X and Y decay to two quarks (2) or to two quarks and a gluon (3).
    seed
        Non-negative.
    jobs
        Number of processes.
    mpi
        Simulate multiparton interactions.
    pthat_min
        Smallest transverse momentum of the hard QCD process in GeV. The default loses 16 % of the events
        that the selection would accept, those whose leading jet owes its momentum to radiation.
    progress
        Called with the number of finished and of all events.

    Raises
    ------
    InputError
        If an argument makes no sense, the output or an unfinished run of other settings is in the way, the
        output cannot be written, or Pythia or FastJet is not installed.

    Examples
    --------
    >>> path = serendip.simulate_dijet("simulated.parquet", background=2, signal=1)  # doctest: +SKIP
    >>> len(serendip.read(path, preset="lhco"))  # doctest: +SKIP
    3
    """
    path = Path(path)
    _check(background, signal, masses, prongs, seed=seed, jobs=jobs, pthat_min=pthat_min)
    settings: dict[str, Any] = {
        "process": "dijet",
        "background": background,
        "signal": signal,
        "masses_gev": [float(mass) for mass in masses],
        "prongs": prongs,
        "seed": seed,
        "mpi": mpi,
        "pthat_min_gev": float(pthat_min),
        "selection": f"leading jet pT > {_MIN_PT:g} GeV, |eta| < {_MAX_ETA:g}",
        "jets": "anti-kT R=1.0; n-subjettiness beta=1, exclusive-kT axes, normalised to R sum pT",
        "detector": asdict(Detector()),
        "pythia": {
            "background": list(qcd_settings(float(pthat_min))),
            "signal": list(decay_settings(_triple(masses), prongs)),
        },
        "versions": {"serendip": __version__, "pythia8mc": pythia_version()},
    }
    parts = path.parent / f".{path.name}.parts"
    with _readable_errors(path):
        if path.exists():
            if _without_results(read_settings(path)) != settings:
                raise InputError(
                    f"{path}: exists and was made with other settings; choose another --out or delete it"
                )
            return path
        _open_parts(parts, settings)
        chunks = _plan(settings, parts)
        _run(chunks, jobs, progress)
        _merge(chunks, settings, parts, path)
        shutil.rmtree(parts)
    return path


def read_settings(path: Path | str) -> dict[str, Any]:
    """Read the settings stored in a simulated file.

    Raises
    ------
    InputError
        If the file is not Parquet or carries no settings.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({error})") from error
    if METADATA_KEY not in metadata:
        raise InputError(f"{path}: not written by 'serendip simulate'; choose another --out or delete it")
    settings: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return settings


def _check(
    background: int,
    signal: int,
    masses: tuple[float, ...],
    prongs: int,
    *,
    seed: int,
    jobs: int,
    pthat_min: float,
) -> None:
    if background < 0 or signal < 0 or background + signal == 0:
        raise InputError(
            f"{background} background and {signal} signal events requested: "
            "both must be at least 0, one of them more"
        )
    if len(masses) != 3 or not all(np.isfinite(mass) and mass > 0 for mass in masses):
        raise InputError(f"masses {masses}: expected three positive masses in GeV: W', X and Y")
    if not 1000.0 < masses[0] <= 12000.0:
        raise InputError(f"W' mass {masses[0]:g} GeV: expected 1000 to 12000 at 13 TeV")
    if min(masses[1:]) < 10.0 or masses[1] + masses[2] >= 0.95 * masses[0]:
        raise InputError(
            f"masses {masses[1]:g} and {masses[2]:g} GeV of X and Y: expected at least 10 GeV each "
            f"and together less than 95 % of the W' mass, {masses[0]:g} GeV"
        )
    if prongs not in (2, 3):
        raise InputError(f"{prongs} prongs: X and Y decay to 2 or 3")
    if seed < 0:
        raise InputError(f"seed {seed}: expected a number of at least 0")
    if jobs < 1:
        raise InputError(f"{jobs} jobs: at least 1 is needed")
    if not 100.0 <= pthat_min <= 1200.0:
        raise InputError(
            f"smallest pTHat {pthat_min:g} GeV: expected 100 to 1200, the pT of the selection "
            "(a larger value would cut into the selected events, a smaller one is a waste of time)"
        )


def _triple(masses: tuple[float, ...]) -> tuple[float, float, float]:
    parent, x, y = (float(mass) for mass in masses)
    return parent, x, y


def _open_parts(parts: Path, settings: dict[str, Any]) -> None:
    record = parts / "settings.json"
    if record.exists():
        if read_json(record, damaged="delete its folder and repeat the command") != settings:
            raise InputError(
                f"{parts}: holds an unfinished simulation with other settings; "
                "repeat its command, choose another --out or delete the folder"
            )
        return
    parts.mkdir(parents=True, exist_ok=True)
    write_json(record, settings)


def _plan(settings: dict[str, Any], parts: Path) -> list[_Chunk]:
    out = []
    for sample in ("background", "signal"):
        for index, first in enumerate(range(0, settings[sample], _CHUNK)):
            out.append(
                _Chunk(
                    sample=sample,
                    index=index,
                    n_events=min(_CHUNK, settings[sample] - first),
                    lines=tuple(settings["pythia"][sample]),
                    seed=settings["seed"],
                    mpi=settings["mpi"],
                    path=str(parts / f"{sample}-{index:06d}.parquet"),
                )
            )
    return out


def _run(chunks: list[_Chunk], jobs: int, progress: Progress | None) -> None:
    total = sum(chunk.n_events for chunk in chunks)
    todo = [chunk for chunk in chunks if not Path(chunk.path).exists()]
    done = total - sum(chunk.n_events for chunk in todo)
    report = progress or (lambda _done, _total: None)
    report(done, total)
    if jobs == 1 or len(todo) < 2:
        for chunk in todo:
            done += _make_chunk(chunk)
            report(done, total)
        return
    with worker_pool(min(jobs, len(todo))) as pool:
        futures: list[Future[int]] = [pool.submit(_make_chunk, chunk) for chunk in todo]
        for future in as_completed(futures):
            done += future.result()
            report(done, total)


def _make_chunk(chunk: _Chunk) -> int:
    sequence = np.random.SeedSequence([chunk.seed, ("background", "signal").index(chunk.sample), chunk.index])
    pythia = make_pythia(chunk.lines, int(sequence.generate_state(1)[0]), mpi=chunk.mpi)
    rng = np.random.default_rng(sequence.spawn(1)[0])
    generated = selected = 0
    parts: list[dict[str, NDArray[Any]]] = []
    while selected < chunk.n_events:
        missing = chunk.n_events - selected
        efficiency = max(selected, 1) / generated if generated else 0.5
        size = int(np.clip(1.05 * missing / efficiency, 10, _BATCH))
        measured = detect(generate(pythia, size), rng)
        px, py, pz, energy = measured.p4
        jets = leading_jets(px, py, pz, energy, measured.counts, tau_min_pt=_MIN_PT)
        passed = np.flatnonzero((jets.pt[:, 0] > _MIN_PT) & (np.abs(jets.eta[:, 0]) < _MAX_ETA))[:missing]
        parts.append({name: values[passed] for name, values in _columns(jets).items()})
        generated += size
        selected += len(passed)
        if generated >= 20 * _BATCH and selected < 1e-3 * generated:
            raise InputError(
                f"only {selected} of {generated} {chunk.sample} events pass the selection (leading jet "
                f"pT > {_MIN_PT:g} GeV); choose a heavier W' or a larger pTHat"
            )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["label"] = np.full(selected, chunk.sample == "signal", dtype=np.int8)
    _write(pa.table(columns).replace_schema_metadata({b"generated": str(generated).encode()}), chunk.path)
    return chunk.n_events


def _columns(jets: Jets) -> dict[str, NDArray[Any]]:
    out: dict[str, NDArray[Any]] = {}
    for name, values in jet_columns(jets).items():
        out[name] = values.astype(np.float32)
        if name.startswith("tau3"):
            out[f"n{name[-2:]}"] = jets.n_constituents[:, int(name[-1]) - 1].astype(np.int32)
    return out


def _merge(chunks: list[_Chunk], settings: dict[str, Any], parts: Path, path: Path) -> None:
    tables = [pq.read_table(chunk.path) for chunk in chunks]
    generated = {"background": 0, "signal": 0}
    for chunk, table in zip(chunks, tables, strict=True):
        generated[chunk.sample] += int(table.schema.metadata[b"generated"])
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    order = np.random.default_rng([settings["seed"], 2]).permutation(len(table))
    table = table.take(pa.array(order))
    table = table.append_column("id", pa.array(np.arange(len(table), dtype=np.int64)))
    facts = json.dumps(settings | {"generated": generated})
    temporary = parts / "merged.parquet"
    _write(table.replace_schema_metadata({METADATA_KEY: facts.encode()}), str(temporary))
    temporary.replace(path)


def _without_results(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "generated"}


def _write(table: pa.Table, path: str) -> None:
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
