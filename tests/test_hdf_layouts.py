"""Layouts of HDF5 and NumPy files beyond one plain table, and objects in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tables

from serendip import read
from serendip.errors import InputError
from serendip.events.formats import open_table

N = 80


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"m": 1000.5 + np.arange(N), "x": np.arange(N) % 7 / 7.0})


def hdf(frame: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        frame.to_hdf(path, key="df", **options)
    return path


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_named_index_is_the_id(layout: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = hdf(frame.set_index(pd.Index(np.arange(N) + 10, name="event")), tmp_path / "a.h5", format=layout)
    assert read(path, mass="m", id="event").ids.tolist() == list(range(10, N + 10))
    # the name that the "table" layout gives it
    if layout == "table":
        assert read(path, mass="m", id="index").ids.tolist() == list(range(10, N + 10))


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_several_levels_of_rows_and_columns(layout: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    index = pd.MultiIndex.from_arrays([2 * np.arange(N) % 3, np.arange(N) + 2**60], names=["run", "event"])
    path = hdf(frame.set_index(index), tmp_path / "rows.h5", format=layout)
    events = read(path, mass="m", id="run,event", where="run == 2")
    np.testing.assert_array_equal(events.m, frame.m[np.arange(N) * 2 % 3 == 2])
    np.testing.assert_array_equal(events["event"], np.arange(N)[np.arange(N) * 2 % 3 == 2] + 2**60)
    both = pd.DataFrame({("jet", "pt"): frame.m, ("jet", "eta"): frame.x, ("met", ""): frame.x + 1})
    path = hdf(both[[("jet", "pt"), ("jet", "eta")]], tmp_path / "columns.h5", format=layout)
    np.testing.assert_array_equal(read(path, mass="jet.pt", features=["jet.eta"])["jet.eta"], frame.x)


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_columns_of_pandas_that_are_no_numbers(layout: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    odd = frame.assign(t=pd.Timestamp("2012-07-04"), s=["a", "b"] * (N // 2))
    if layout == "table":
        odd["c"] = pd.Categorical(["a", "b"] * (N // 2))
    table = open_table(hdf(odd, tmp_path / "a.h5", format=layout))
    assert table.unreadable["t"].startswith("is a time (datetime64")
    if layout == "table":
        assert "is categorical" in table.unreadable["c"]
        assert table.load(["s"])["s"].tolist() == ["a", "b"] * (N // 2)
    else:
        assert "stored as Python objects" in table.unreadable["s"]
    np.testing.assert_array_equal(table.load(["m"])["m"], frame.m)


def test_frames_without_rows_and_series(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.h5: the table '/df' has no rows"):
        read(hdf(frame[:0], tmp_path / "a.h5"), mass="m")
    for layout in ("fixed", "table"):
        path = hdf(frame.m, tmp_path / f"{layout}.h5", format=layout)
        np.testing.assert_array_equal(read(path, mass="m").m, frame.m)


def test_a_matrix_beside_labels(tmp_path: Path) -> None:
    data = 1 + np.random.default_rng(1).random((N, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"], file["label"], file["one"] = data, np.arange(N) % 2, data[:, :1]
        file["wide"], file["edges"], file["version"] = np.zeros((N, 100)), np.arange(5), 3
    np.savez(tmp_path / "a.npz", data=data, label=np.arange(N) % 2, one=data[:, :1], wide=np.zeros((N, 100)))
    for path in (tmp_path / "a.h5", tmp_path / "a.npz"):
        events = read(
            path, mass="data[:,0]", features=["data[:,1]/data[:,2]", "one"], label="label", for_training=False
        )
        np.testing.assert_array_equal(events.m, data[:, 0])
        np.testing.assert_allclose(events.x[:, 0], data[:, 1] / data[:, 2], rtol=1e-6)
        np.testing.assert_array_equal(events.labels, np.arange(N) % 2 == 1)
        table = open_table(path)
        assert set(table.jagged) == {"data", "wide"}
        assert "wide[:,0]" not in table.types
    assert open_table(tmp_path / "a.h5").unreadable == {"edges": f"has 5 rows while most columns have {N}"}
    alone = open_table(tmp_path / "a.h5", "data")
    np.testing.assert_array_equal(alone.load(["2"])["2"], data[:, 2])


def test_compound_tables_with_several_values(tmp_path: Path) -> None:
    tracks = np.zeros((N, 4), [("pt", "f4"), ("valid", "?")])
    tracks["pt"] = 1000 + np.random.default_rng(1).exponential(400, tracks.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tracks"] = tracks
    np.testing.assert_array_equal(read(tmp_path / "a.h5", mass="pt[:,2]").m, tracks["pt"][:, 2].astype(float))
    with pytest.raises(InputError, match=r"'pt' has a list of values for each event.*pt\[:,0\]"):
        read(tmp_path / "a.h5", mass="pt")


def test_pytables_types(tmp_path: Path) -> None:
    class Event(tables.IsDescription):  # type: ignore[misc]
        mjj = tables.Float64Col()
        time = tables.Time64Col()
        name = tables.StringCol(4)
        momentum = tables.Float32Col(shape=(3,))
        amplitude = tables.ComplexCol(itemsize=16)

        class jet(tables.IsDescription):  # type: ignore[misc]
            pt = tables.Float32Col()

    with tables.open_file(str(tmp_path / "a.h5"), "w") as file:
        table = file.create_table("/", "events", Event)
        for i in range(N):
            table.row["mjj"], table.row["name"], table.row["jet/pt"] = 1000 + i, f"e{i}", i / 2
            table.row["momentum"] = [i, i + 1, i + 2]
            table.row.append()
        table.flush()
    found = open_table(tmp_path / "a.h5")
    assert {name: why.split(";")[0] for name, why in found.unreadable.items()} == {
        "time": "is a time (an HDF5 time type)",
        "amplitude": "is complex (complex128)",
    }
    events = read(
        tmp_path / "a.h5", mass="mjj", features=["jet.pt", "momentum[:,2]"], id="name", where="mjj > 1050"
    )
    assert events.ids[0] == "e51"
    assert events.x[0].tolist() == [25.5, 53]


def test_other_types_of_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["m"], file["long"] = np.array([1.0, 2, 3]), np.array([1, 2, 3], np.longdouble)
        file["big"], file["half"] = np.array([2**60 + 1, 2, 3], ">i8"), np.array([1.5, 2, 3], np.float16)
        lists = file.create_dataset("lists", (3,), dtype=h5py.vlen_dtype(np.float32))
        lists[0], lists[1], lists[2] = [1, 2], [], [4]
        file["text"], file["away"] = ["a", "bb", "c"], h5py.SoftLink("/nowhere")
        file["nothing"], file["c"] = h5py.Empty("f8"), np.ones(3, complex)
        file["ref"] = np.array([file["m"].ref] * 3, dtype=h5py.ref_dtype)
    table = open_table(tmp_path / "a.h5")
    assert (table.types["long"], table.types["big"], table.types["half"]) == ("float64", "int64", "float16")
    assert table.load(["big"])["big"].tolist() == [2**60 + 1, 2, 3]
    assert table.load(["text"], 1)["text"].tolist() == ["bb", "c"]
    assert set(table.unreadable) == {"nothing", "c", "ref"}
    assert read(tmp_path / "a.h5", mass="m", features=["max(lists)"], for_training=False)[
        "max(lists)"
    ].tolist() == [2, 4]


def test_reasons_why_a_file_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["m"] = np.arange(1.0, 100.0)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:-50])
    with pytest.raises(InputError, match=r"a.h5: truncated: its end is missing"):
        read(tmp_path / "a.h5", mass="m")
    (tmp_path / "b.h5").write_bytes(bytes(512) + whole[:0])
    with pytest.raises(InputError, match="named as HDF5, but its content is not"):
        read(tmp_path / "b.h5", mass="m")

    def locked(*_: Any) -> None:
        raise BlockingIOError(11, "Unable to synchronously open file (unable to lock file, errno = 11)")

    (tmp_path / "a.h5").write_bytes(whole)
    monkeypatch.setattr(h5py, "File", locked)
    with pytest.raises(InputError, match=r"a.h5: is locked.*HDF5_USE_FILE_LOCKING"):
        read(tmp_path / "a.h5", mass="m")


def test_a_file_with_a_block_of_its_user(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        file["m"] = np.array([1.0, 2.0])
    assert read(tmp_path / "a.h5", mass="m").m.tolist() == [1, 2]


def test_numpy_files_run_no_code(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        m=np.array([1.0, 2.0]),
        o=np.array([{}, 1], dtype=object),
        t=np.array([1, 2], "M8[s]"),
    )
    table = open_table(tmp_path / "a.npz")
    assert table.unreadable == {
        "o": "holds Python objects; expected numbers or text",
        "t": "is a time (datetime64[s]); expected numbers or text; write it as a number, such as seconds",
    }
    np.save(tmp_path / "b.npy", np.array([{}, 1], dtype=object))
    with pytest.raises(InputError, match="column '0' holds Python objects"):
        read(tmp_path / "b.npy", mass="0")
    np.save(tmp_path / "c.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert read(tmp_path / "c.npy", mass="1").m.tolist() == [2, 4]
    for name in ("a.npz", "c.npy"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
        with pytest.raises(
            InputError, match=f"{name}: this is not a readable NumPy file.*its end is missing"
        ):
            open_table(tmp_path / name)


def test_objects_in_memory(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"columns differ in length \(m: 2, x: 3\)"):
        read({"m": [1.0, 2.0], "x": [1, 2, 3]}, mass="m")
    with pytest.raises(InputError, match=r"object of type builtins.int; expected a file"):
        read(3, mass="m")
    with pytest.raises(InputError, match=r"shape \(3,\) has no columns"):
        read(np.arange(3.0), mass="m")
    with pytest.raises(InputError, match="dictionary of arrays: column 'z' is complex"):
        read({"m": [1.0, 2.0], "z": np.array([1j, 2])}, mass="m", features=["z"])
    with pytest.raises(InputError, match="column 'o' holds Python objects"):
        read({"m": [1.0, 2.0], "o": [object(), "a"]}, mass="m", features=["o"])
    table = open_table(pd.DataFrame({("jet", "pt"): frame.m, ("jet", "eta"): frame.x}))
    assert set(table.types) == {"jet.pt", "jet.eta"}
    assert read(frame, mass="m").provenance["file"] == "pandas.DataFrame"
    assert read(pa.record_batch({"m": [1.5, 2.5]}), mass="m").m.tolist() == [1.5, 2.5]
    masked = {"m": np.ma.MaskedArray([1.0, 2.0, 3.0], [False, True, False]), "b": np.ma.MaskedArray([True, True, False], [True, False, False])}  # fmt: skip
    events = read(masked, mass="m", where="b >= 0")
    assert events.m.tolist() == [3]
    assert sum(events.provenance["left_out"].values()) == 2
