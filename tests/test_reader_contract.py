"""What every reader has to do, one test for each promise, each format through all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import uproot

from serendip import read
from serendip.errors import InputError
from serendip.events.audit import audit
from serendip.events.formats import READERS, hdf, open_table
from serendip.events.formats.root import table as root
from serendip.events.formats.sources import suffix_of
from serendip.testing import check_reader

N = 120
LARGE = np.uint64(2**63 + 2**11 + 1)
"""Beyond int64, and no double has it."""


def make_table(seed: int = 3, n: int = N) -> dict[str, np.ndarray]:
    """Columns of each type, with a missing value in a feature and in a column for cuts."""
    rng = np.random.default_rng(seed)
    table = {
        "mjj": 1000 + rng.exponential(300, n),
        "x": rng.normal(size=n),
        "f": rng.normal(size=n).astype(np.float32),
        "n": rng.integers(-5, 9, n),
        "run": rng.integers(2**53 + 1, 2**62, n),
        "event": LARGE + np.uint64(1000 * seed) + rng.permutation(n).astype(np.uint64),
        "w": 0.5 + rng.random(n),
        "y": (np.arange(n) % 4 == 0).astype(np.int64),
        "gap": np.where(np.arange(n) % 10 == 3, np.nan, rng.normal(size=n)),
    }
    table["x"][7 % max(n, 1) :: 40] = np.nan
    return table


def save_parquet(table: dict[str, Any], path: Path) -> None:
    pq.write_table(pa.table(table), path)


def save_nullable(table: dict[str, Any], path: Path) -> None:
    """Missing values as nulls."""
    pq.write_table(pa.Table.from_pandas(pd.DataFrame(table), preserve_index=False), path)


def save_feather(table: dict[str, Any], path: Path) -> None:
    pyarrow.feather.write_feather(pa.table(table), path)


def save_stream(table: dict[str, Any], path: Path) -> None:
    content = pa.table(table)
    with pa.ipc.new_stream(path, content.schema) as stream:
        stream.write_table(content, max_chunksize=50)


def save_csv(table: dict[str, Any], path: Path, sep: str = ",") -> None:
    # single precision needs nine digits, double precision seventeen
    frame = pd.DataFrame(table)
    frame.to_csv(path, index=False, sep=sep, float_format="%.17g")


def save_aligned(table: dict[str, Any], path: Path) -> None:
    frame = pd.DataFrame(table)
    path.write_text("# an aligned table\n" + frame.to_string(index=False, float_format=lambda v: f"{v:.17g}"))


def save_arrays(table: dict[str, Any], path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file["events/" + name] = values


def save_compound(table: dict[str, Any], path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["events"] = pd.DataFrame(table).to_records(index=False)


def save_fixed(table: dict[str, Any], path: Path) -> None:
    pd.DataFrame(table).to_hdf(path, key="df")


def save_frame_table(table: dict[str, Any], path: Path) -> None:
    pd.DataFrame(table).to_hdf(path, key="df", format="table")


def save_blosc(table: dict[str, Any], path: Path) -> None:
    pd.DataFrame(table).to_hdf(path, key="df", complevel=5, complib="blosc")


def save_data_columns(table: dict[str, Any], path: Path) -> None:
    pd.DataFrame(table).to_hdf(path, key="df", format="table", data_columns=["mjj", "n"])


def save_npz(table: dict[str, Any], path: Path) -> None:
    np.savez_compressed(path, **table)


def save_npy(table: dict[str, Any], path: Path) -> None:
    np.save(path, np.asarray(pd.DataFrame(table).to_records(index=False)))


def save_tree(table: dict[str, Any], path: Path) -> None:
    with uproot.recreate(path) as file:
        file.mktree("events", {name: values.dtype for name, values in table.items()})
        for low in range(0, len(table["mjj"]), 50):
            file["events"].extend({name: values[low : low + 50] for name, values in table.items()})


def save_ntuple(table: dict[str, Any], path: Path) -> None:
    with uproot.recreate(path) as file:
        file.mkrntuple("events", table)


@dataclass(frozen=True)
class Format:
    save: Callable[[dict[str, Any], Path], None]
    suffix: str
    text: bool = False  # a float32 is a double there
    empty: bool = True  # a table without rows can be written


FILES = {
    "parquet": Format(save_parquet, ".parquet"),
    "parquet with nulls": Format(save_nullable, ".parquet"),
    "feather": Format(save_feather, ".feather"),
    "arrow stream": Format(save_stream, ".arrow"),
    "csv": Format(save_csv, ".csv", text=True),
    "csv packed": Format(save_csv, ".csv.gz", text=True),
    "tabs": Format(lambda table, path: save_csv(table, path, "\t"), ".tsv", text=True),
    "semicolons": Format(lambda table, path: save_csv(table, path, ";"), ".csv", text=True),
    "bars": Format(lambda table, path: save_csv(table, path, "|"), ".csv", text=True),
    "aligned": Format(save_aligned, ".txt", text=True, empty=False),
    "hdf5 arrays": Format(save_arrays, ".h5"),
    "hdf5 compound": Format(save_compound, ".h5"),
    "pandas fixed": Format(save_fixed, ".h5"),
    "pandas table": Format(save_frame_table, ".h5", empty=False),
    "pandas fixed, blosc": Format(save_blosc, ".h5"),
    "pandas table, data columns": Format(save_data_columns, ".h5", empty=False),
    "npz": Format(save_npz, ".npz"),
    "npy": Format(save_npy, ".npy"),
    "tree": Format(save_tree, ".root", empty=False),
    "ntuple": Format(save_ntuple, ".root", empty=False),
}
MEMORY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dictionary": dict,
    "lists": lambda table: {name: values.tolist() for name, values in table.items()},
    "big-endian": lambda table: {name: v.astype(v.dtype.newbyteorder(">")) for name, v in table.items()},
    "masked": lambda table: {
        name: np.ma.MaskedArray(v, np.isnan(v.astype(float))) for name, v in table.items()
    },
    "records": lambda table: pd.DataFrame(table).to_records(index=False),
    "pandas": pd.DataFrame,
    "pandas with nulls": lambda table: pd.DataFrame(table).convert_dtypes(),
    "pandas index": lambda table: pd.DataFrame(table).set_index(["run", "event"]),
    "arrow": pa.table,
    "awkward": ak.Array,
}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in pieces is what is tested."""
    monkeypatch.setattr(hdf, "SLAB", 2000)
    monkeypatch.setattr(root, "CHUNK", 2000)


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    return make_table()


@pytest.fixture(params=[*FILES, *MEMORY])
def source(request: pytest.FixtureRequest, table: dict[str, np.ndarray], tmp_path: Path) -> Any:
    if request.param in MEMORY:
        return MEMORY[request.param](table)
    one = FILES[request.param]
    path = tmp_path / f"a{one.suffix}"
    one.save(table, path)
    return path


@pytest.fixture(params=list(FILES))
def form(request: pytest.FixtureRequest) -> Format:
    return FILES[request.param]


def test_values_ids_weights_labels_and_missing_values(source: Any, table: dict[str, np.ndarray]) -> None:
    events = read(
        source, mass="mjj", features=["x", "f", "n"], weight="w", label="y", id="event", where="gap > -1"
    )
    passed = table["gap"] > -1
    kept = passed & np.isfinite(table["x"])
    assert 0 < kept.sum() < passed.sum() < N
    np.testing.assert_array_equal(events.m, table["mjj"][kept])
    for name in ("x", "f", "n"):
        np.testing.assert_array_equal(events[name].astype(table[name].dtype), table[name][kept])
    np.testing.assert_array_equal(events.weights, table["w"][kept])
    np.testing.assert_array_equal(events.labels, table["y"][kept] == 1)
    # a double in between would make equal ids of different ones
    assert events.ids.dtype == np.uint64
    np.testing.assert_array_equal(events.ids, table["event"][kept])
    left_out = events.provenance["left_out"]
    assert left_out.pop("x is NaN or infinite") == int((passed & ~kept).sum())
    assert list(left_out.values()) == [int(np.isnan(table["gap"]).sum())]


def test_large_whole_numbers_are_exact_in_cuts(source: Any, table: dict[str, np.ndarray]) -> None:
    run, event = int(table["run"][5]), int(table["event"][9])
    assert read(source, mass="mjj", where=f"run == {run}").ids.tolist() == [5]
    assert read(source, mass="mjj", where=f"event == {event}").ids.tolist() == [9]
    below = read(source, mass="mjj", where=f"event < {event}").ids
    np.testing.assert_array_equal(below, np.flatnonzero(table["event"] < table["event"][9]))


def test_row_numbers_are_ids_without_an_id(source: Any, table: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(read(source, mass="mjj", where="n > 2").ids, np.flatnonzero(table["n"] > 2))


def test_files_keep_the_contract_of_readers(form: Format) -> None:
    reader = READERS[suffix_of(f"a{form.suffix}")]
    check_reader(reader, form.save, form.suffix, empty=form.empty)


@pytest.mark.parametrize("kind", list(MEMORY))
def test_parts_of_rows(kind: str, table: dict[str, np.ndarray]) -> None:
    opened = open_table(MEMORY[kind](table))
    part = opened.load(["mjj", "event"], 30, 77)
    opened.close()
    np.testing.assert_array_equal(part["mjj"], table["mjj"][30:77])
    np.testing.assert_array_equal(part["event"], table["event"][30:77])


def test_only_needed_columns_are_loaded(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    kind = type(open_table(source))
    original = kind.load
    monkeypatch.setattr(
        kind, "load", lambda self, names, *a: loaded.extend(names) or original(self, names, *a)
    )
    read(source, mass="mjj", features=["f"], where="n > 2")
    assert sorted(loaded) == ["f", "mjj", "n"]


def test_a_missing_column_is_named_with_near_ones(source: Any) -> None:
    name = source.name if isinstance(source, Path) else ""
    with pytest.raises(InputError, match=rf"{name}.*no column 'mj'; did you mean 'mjj'"):
        read(source, mass="mj")


def test_types_are_told(form: Format, table: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / f"a{form.suffix}"
    form.save(table, path)
    opened = open_table(path)
    wanted = {
        name: "float64" if form.text and name == "f" else str(values.dtype) for name, values in table.items()
    }
    assert {name: kind for name, kind in opened.types.items() if name != "index"} == wanted
    opened.close()


def test_several_files_are_one_table(form: Format, tmp_path: Path) -> None:
    parts = [make_table(seed, n) for seed, n in ((1, 60), (2, 70), (3, 50))]
    folder = tmp_path / "set"
    folder.mkdir()
    paths = [folder / f"{name}{form.suffix}" for name in ("a", "b", "c")]
    for part, path in zip(parts, paths, strict=True):
        form.save(part, path)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for source in (folder, str(folder / f"*{form.suffix}"), paths):
        events = read(source, mass="mjj", features=["f"], id="event", where="n > 0")
        np.testing.assert_array_equal(events.m, whole["mjj"][whole["n"] > 0])
        np.testing.assert_array_equal(events.ids, whole["event"][whole["n"] > 0])
        assert events.provenance["files"] == [path.name for path in paths]
    again = read(paths[::-1], mass="mjj")
    np.testing.assert_array_equal(again.m[:50], parts[2]["mjj"])
    opened = open_table(folder)
    np.testing.assert_array_equal(opened.load(["mjj"], 55, 150)["mjj"], whole["mjj"][55:150])


def test_errors_of_several_files_name_the_file(form: Format, tmp_path: Path) -> None:
    parts = [make_table(seed, 60) for seed in (1, 2)]
    parts[1]["w"][4] = -1.0
    lacking = {name: values for name, values in parts[1].items() if name != "x"}
    for name, part in (("a", parts[0]), ("b", parts[1]), ("c", lacking)):
        form.save(part, tmp_path / f"{name}{form.suffix}")
    with pytest.raises(InputError, match=rf"'x' .*the part 'c{form.suffix}' has no column 'x'"):
        read(tmp_path, mass="mjj", features=["x"])
    with pytest.raises(InputError, match=rf"negative in 2 rows, first in row 4 of 'b{form.suffix}'"):
        read(tmp_path, mass="mjj", weight="w")
    broken = (tmp_path / f"c{form.suffix}").read_bytes()
    (tmp_path / f"c{form.suffix}").write_bytes(b"" if form.text else broken[: len(broken) // 2])
    with pytest.raises(InputError, match=rf"1 of 3 files cannot be used:\n'?c{form.suffix}"):
        read(tmp_path, mass="mjj")


def test_a_table_without_rows(form: Format, table: dict[str, np.ndarray], tmp_path: Path) -> None:
    if not form.empty:
        pytest.skip("cannot be written without rows")
    nothing = {name: values[:0] for name, values in table.items()}
    form.save(nothing, tmp_path / f"a{form.suffix}")
    with pytest.raises(InputError, match=rf"a{form.suffix}: the table.* has no rows"):
        read(tmp_path / f"a{form.suffix}", mass="mjj")
    form.save(table, tmp_path / f"b{form.suffix}")
    np.testing.assert_array_equal(read(tmp_path, mass="mjj").m, table["mjj"])


def text_column(name: str, table: dict[str, Any], path: Path) -> str:
    """Write a table with a column that is no number, and give what it is called."""
    times = np.full(N, np.datetime64("2012-07-04T09:00:00"), dtype="datetime64[s]")
    complex_ = table["x"] + 1j * table["w"]
    if name.startswith("pandas"):
        pd.DataFrame(table | {"odd": times}).to_hdf(path, key="df", format=name.split()[1].strip(","))
        return "is a time"
    if name == "npy":
        array = np.asarray(pd.DataFrame(table).to_records(index=False))
        joined = np.empty(N, dtype=[*array.dtype.descr, ("odd", complex)])
        for column in table:
            joined[column] = table[column]
        np.save(path, joined)
        return "is complex"
    complexes = ("hdf5", "npz")
    FILES[name].save(table | {"odd": complex_ if name.startswith(complexes) else times}, path)
    return "is complex" if name.startswith(complexes) else "is a time"


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("tree", "ntuple")])
def test_columns_that_cannot_be_used_are_listed_with_the_reason(
    name: str, table: dict[str, np.ndarray], tmp_path: Path
) -> None:
    if name == "aligned":
        pytest.skip("a time has a blank there, which ends the column")
    path = tmp_path / f"a{FILES[name].suffix}"
    why = text_column(name, table, path)
    found = audit(path)
    assert list(found.unreadable) == ["odd"]
    assert found.unreadable["odd"].startswith(why)
    assert len(read(path, mass="mjj")) == N
    with pytest.raises(InputError, match=rf"{path.name}: column 'odd' {why}"):
        read(path, mass="mjj", features=["odd"])
