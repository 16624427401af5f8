"""A run as one ROOT file: histograms of the spectra, a tree of the looks, and the score trees."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import uproot

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.report.exports.likelihood import look_name
from serendip.report.load import Run, read_run
from serendip.search.diagnostic_records import Spectrum

__all__ = ["export_root"]

_ROWS = 1_000_000


def export_root(run: Path | str, out: Path | str) -> list[str]:
    """Write a ROOT file.

    * ``spectra/WINDOW/observed``, ``expected``: ``TH1D`` of all events; ``looks/NAME/observed``, ``expected``: after the
      cut of a look, or of its weighted events, then also ``orders/NAME_orderN`` in each order of the folds. The error of an ``expected`` bin is that
      of the fit; that of an ``observed`` one the root of the sum of squared weights. While blinded, ``observed`` is called
      ``observed_outside_windows`` and is zero inside.
    * ``looks_table``: a tree with one entry for each look. Numbers that are hidden while blinded are NaN.
    * ``scores/METHOD_WINDOW``: trees with ``id``, ``fold``, ``score`` (NaN: not tested, or blinded), for further orders of the folds ``score_2`` ..., ``in_window``
      (1, 0, or -1 while blinded) and, for weighted events, ``weight``, to be joined with the events by their id.

    Parameters
    ----------
    run, out
        The run directory, and the file to write; it must not exist.

    Returns
    -------
    Names of the objects in the file.

    Raises
    ------
    InputError
        If the run is damaged, or the file exists or cannot be written.
    """
    content, out = read_run(Path(run)), Path(out)
    if out.suffix.lower() != ".root":
        raise InputError(f"--out {out}: expected a name that ends in .root")
    if out.exists():
        raise InputError(f"--out {out}: exists already; choose another name or remove it")
    if not (content.path / "scores.parquet").is_file():
        raise InputError(f"{run}: contains no scores.parquet; repeat the search command to write it again")
    with atomic_write(out) as temporary, uproot.recreate(temporary) as file:
        for record in content.diagnostics.spectra:
            _spectrum(file, _folder(content, record), record)
        for look in content.diagnostics.weighted:
            name = look_name(content.results.looks[look.look])
            for order in look.orders if len(look.orders) > 1 else ():
                _spectrum(file, f"orders/{name}_order{order.order}", order.spectrum)
        _looks(file, content)
        _scores(file, content)
        return sorted(name.split(";")[0] for name in file.keys(cycle=False, filter_classname="T[HT]*"))


def _folder(run: Run, record: Spectrum) -> str:
    if record.look is None:
        return f"spectra/{record.window[0]:.7g}-{record.window[1]:.7g}"
    return f"looks/{look_name(run.results.looks[record.look])}"


def _spectrum(file: Any, folder: str, record: Spectrum) -> None:
    hidden = any(n is None for n in record.observed)
    observed = np.nan_to_num(np.array(record.observed, dtype=float))
    squares = record.scale * observed
    if record.variance is not None:
        squares = np.nan_to_num(np.array(record.variance, dtype=float))
    name = "observed_outside_windows" if hidden else "observed"
    file[f"{folder}/{name}"] = _histogram(record, observed, squares)
    file[f"{folder}/expected"] = _histogram(
        record, np.asarray(record.expected), np.asarray(record.expected_error) ** 2
    )


def _histogram(record: Spectrum, values: Any, variances: Any) -> Any:
    import hist

    axis = hist.axis.Variable(record.edges, name="mass", label="mass [GeV]")
    histogram = hist.Hist(axis, storage=hist.storage.Weight())
    histogram.view()["value"], histogram.view()["variance"] = values, variances
    return histogram


def _looks(file: Any, run: Run) -> None:
    looks = run.results.looks

    def column(values: list[float | None]) -> Any:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    columns = {
        "method": ak.Array([look.method for look in looks]),
        "window_low": column([look.window[0] for look in looks]),
        "window_high": column([look.window[1] for look in looks]),
        "working_point": column([look.working_point for look in looks]),
        "observed": column([look.observed for look in looks]),
        "expected": column([look.expected for look in looks]),
        "expected_error": column([look.expected_error for look in looks]),
        "p_local": column([look.p_local for look in looks]),
        "z_local": column([look.z_local for look in looks]),
        "weighted": np.array([look.weighted for look in looks], dtype=np.int8),
        "cross_check": np.array([look.cross_check for look in looks], dtype=np.int8),
    }
    _tree(file, "looks_table", columns)


def _tree(file: Any, name: str, columns: dict[str, Any]) -> Any:
    """A new TTree with these columns; plain assignment would make an RNTuple, which older ROOT cannot read."""
    types = {
        key: values.dtype if isinstance(values, np.ndarray) else values.type.content
        for key, values in columns.items()
    }
    tree = file.mktree(name, types)
    tree.extend(columns)
    return tree


def _scores(file: Any, run: Run) -> None:
    """One tree for each training, read and written piece by piece."""
    trees: dict[str, Any] = {}
    scores = pq.ParquetFile(run.path / "scores.parquet")
    # the columns of the id come first
    ids = scores.schema_arrow.names[: scores.schema_arrow.names.index("method")]
    # the score in each order of the folds
    scored = [name for name in scores.schema_arrow.names if re.fullmatch(r"score(_\d+)?", name)]
    for batch in scores.iter_batches(batch_size=_ROWS):
        table = pa.Table.from_batches([batch])
        keys = table.select(["method", "window_low", "window_high"])
        keys = keys.set_column(0, "method", keys["method"].cast(pa.string()))
        for key in keys.group_by(keys.column_names).aggregate([]).to_pylist():
            rows = pc.and_(
                pc.equal(keys["method"], key["method"]), pc.equal(keys["window_low"], key["window_low"])
            )
            part = table.filter(pc.and_(rows, pc.equal(keys["window_high"], key["window_high"])))
            name = f"scores/{key['method']}_{key['window_low']:.7g}-{key['window_high']:.7g}"
            columns = {
                **{re.sub(r"\W", "_", name): _ids(part[name]) for name in ids},
                "fold": part["fold"].to_numpy().astype(np.int16),
                **{
                    column: pc.fill_null(part[column], float("nan")).to_numpy().astype(np.float64)
                    for column in scored
                },
                "in_window": pc.fill_null(part["in_window"].cast(pa.int8()), -1).to_numpy().astype(np.int8),
            }
            if "weight" in part.column_names:
                columns["weight"] = part["weight"].to_numpy().astype(np.float64)
            if name in trees:
                trees[name].extend(columns)
            else:
                trees[name] = _tree(file, name, columns)


def _ids(column: pa.ChunkedArray) -> Any:
    if pa.types.is_integer(column.type):
        return column.to_numpy()
    return ak.Array(column.cast(pa.string()).to_pylist())
