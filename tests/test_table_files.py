"""Several files as one table, and the types of Parquet and Arrow."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serendip import read
from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.formats import open_table
from serendip.search.config import load_config, parse_config
from serendip.search.engine import read_events


def parts(folder: Path, **columns: list[Any]) -> Path:
    """Write a file for each item of the lists."""
    folder.mkdir(exist_ok=True)
    for i in range(len(next(iter(columns.values())))):
        content = {name: values[i] for name, values in columns.items() if values[i] is not None}
        pq.write_table(pa.table(content), folder / f"p{i}.parquet")
    return folder


def loaded(source: Any, name: str) -> np.ndarray:
    return np.asanyarray(open_table(source).load([name])[name])


M = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [
        (np.ones(2, np.int64), [0.5, 1.5], np.float64),
        (np.array([1e8, 1e8 + 8], np.float32), [1e8 + 0.25, 2.0], np.float64),
        (np.array([2**24 + 1, 5], np.int32), np.ones(2, np.float32), np.float64),
        (np.array([5, 6], np.int16), np.ones(2, np.float32), np.float32),
        (np.array([2**63 + 1, 1], np.uint64), np.array([3, 4], np.int64), np.uint64),
        (np.array([2**62 + 1, 1], np.uint64), np.array([-3, 4], np.int64), np.int64),
        (np.array([True, False]), np.array([3, -4], np.int8), np.int8),
        (pa.nulls(2), np.array([2**60 + 1, 4]), np.int64),
        (pa.nulls(2), ["a", "b"], object),
        (pa.array([None, 2**60 + 1]), np.array([2**60 + 3, 4]), np.int64),
    ],
)
def test_types_of_parts_are_joined_without_rounding(
    first: Any, second: Any, dtype: Any, tmp_path: Path
) -> None:
    folder = parts(tmp_path / "set", m=[M, M], c=[first, second])
    found = loaded(folder, "c")
    assert found.dtype == dtype
    wanted = [*pa.array(first).to_pylist(), *pa.array(second).to_pylist()]
    given = found.tolist()
    assert [None if value != value else value for value in given] == wanted


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            [2**60 + 1, 1],
            [0.5, 1.5],
            r"'c' is int64 with values beyond 2\^53 in 'p0.parquet' and float64 in 'p1.parquet'",
        ),
        (
            np.array([2**63 + 1, 1], np.uint64),
            [-3, 4],
            r"'c' has negative numbers in 'p1.parquet' and numbers above 2\^63 in 'p0",
        ),
        ([0.5, 1.5], ["a", "b"], r"'c' is float64 in 'p0.parquet' and text in 'p1.parquet'"),
        (
            [0.5, 1.5],
            [[1.0], [2.0]],
            r"'c' has a list for each row in 'p1.parquet' and one value in 'p0.parquet'",
        ),
        ([0.5, 1.5], [b"a", b"b"], r"'c' has the type binary; expected numbers or text \('p1.parquet'\)"),
    ],
)
def test_types_that_cannot_be_joined_name_column_and_parts(
    first: Any, second: Any, message: str, tmp_path: Path
) -> None:
    folder = parts(tmp_path / "set", m=[M, M], c=[first, second])
    assert len(read(folder, mass="m")) == 4
    with pytest.raises(InputError, match=f"set: column {message}"):
        read(folder, mass="m", features=["c"])


@pytest.mark.parametrize("stored", [True, False])
def test_keys_of_partitions(stored: bool, tmp_path: Path) -> None:
    for number in (1, 2):
        for kind in ("data", "a b"):
            folder = tmp_path / f"set/run={number}/kind={kind.replace(' ', '%20')}"
            folder.mkdir(parents=True)
            content = {"m": M * number} | ({"run": np.full(2, number + 2**60)} if stored else {})
            pq.write_table(pa.table(content), folder / "0.parquet")
    found = read(tmp_path / "set", mass="m", id=None, where="run > 1", features=[])
    assert len(found) == (8 if stored else 4)
    # the value in the file wins
    wanted = [2**60 + 1] * 4 + [2**60 + 2] * 4 if stored else [1] * 4 + [2] * 4
    assert loaded(tmp_path / "set", "run").tolist() == wanted
    assert loaded(tmp_path / "set", "kind").tolist() == (["a b"] * 2 + ["data"] * 2) * 2


def test_what_a_source_must_not_be(tmp_path: Path) -> None:
    folder = parts(tmp_path / "set", m=[M, M])
    (tmp_path / "b.csv").write_text("m\n1\n")
    with pytest.raises(InputError, match=r"mixes formats: Parquet \('p0.parquet'\), CSV \('b.csv'\)"):
        read(tmp_path, mass="m")
    with pytest.raises(InputError, match=r"p0.parquet' is given twice; its events would count twice"):
        read([folder / "p0.parquet", str(folder / "*.parquet")], mass="m")
    with pytest.raises(InputError, match=r"no file matches '.*/\*.root'"):
        read(str(tmp_path / "*.root"), mass="m")
    with pytest.raises(InputError, match="is not a local file"):
        read("root://eospublic.cern.ch//eos/a.root", mass="m")
    (tmp_path / "set" / "notes.txt").write_text("the second part is from Tuesday\n")
    (tmp_path / "set" / "_metadata").write_text("")
    (tmp_path / "set" / ".p0.parquet.crc").write_text("")
    assert len(read(folder, mass="m")) == 4


def test_files_without_rows_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = parts(tmp_path / "set", m=[M, M[:0], M], x=[M, None, M])
    with caplog.at_level(logging.WARNING):
        assert len(read(folder, mass="m", features=["x"], for_training=False)) == 4
    assert "1 file without rows, first 'p1.parquet'" in caplog.text
    with pytest.raises(InputError, match="no rows in any of 2 files"):
        read(parts(tmp_path / "none", m=[M[:0], M[:0]]), mass="m")


def test_all_broken_files_are_named(tmp_path: Path) -> None:
    folder = parts(tmp_path / "set", m=[M] * 9)
    for i in range(7):
        (folder / f"p{i}.parquet").write_bytes(b"PAR1" + bytes(50))
    with pytest.raises(
        InputError, match=r"(?s)7 of 9 files cannot be used:\np0.parquet: .*\np4.parquet: .*\nand 2 more"
    ) as error:
        read(folder, mass="m")
    assert "truncated: its end is missing" in str(error.value)


def test_lists_and_records(tmp_path: Path) -> None:
    events = ak.Array(
        {
            "m": [1.0, 2.0, 3.0],
            "Muon": [[{"pt": 5.0, "q": 1}, {"pt": 3.0, "q": -1}], [], [{"pt": 7.0, "q": 1}]],
            "p4": [{"pt": 1.5, "in": {"x": i}} for i in range(3)],
        }
    )
    ak.to_parquet(events, tmp_path / "a.parquet")
    ak.to_feather(events, tmp_path / "a.feather")
    for source in (tmp_path / "a.parquet", tmp_path / "a.feather", events, [tmp_path / "a.parquet"]):
        table = open_table(source)
        assert (set(table.types), set(table.jagged)) == ({"m", "p4.pt", "p4.in.x"}, {"Muon.pt", "Muon.q"})
        found = read(
            source, mass="m", features=["Muon.pt[:,0]", "p4.in.x"], where="nMuon > 0", for_training=False
        )
        assert found.ids.tolist() == [0, 2]
        assert found.x.tolist() == [[5, 0], [7, 2]]
        part = table.load(["Muon.q"], 1, 3)["Muon.q"]
        assert (part.counts.tolist(), part.content.tolist()) == ([0, 1], [1])


def test_only_fields_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ak.to_parquet(ak.Array({"a": [1.0], "j": [[{"pt": 5.0, "eta": 1.0}]]}), tmp_path / "a.parquet")
    asked: list[str] = []
    original = pq.ParquetFile.read

    def recorded(self: Any, columns: list[str], **options: Any) -> pa.Table:
        table = original(self, columns=columns, **options)
        asked.extend(map(str, table.schema.field("j").type.value_type))
        return table

    monkeypatch.setattr(pq.ParquetFile, "read", recorded)
    open_table(tmp_path / "a.parquet").load(["j.pt"])
    assert len(asked) == 1
    assert "pt" in asked[0]


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array([Decimal("1.25"), None]), "float64", [1.25, np.nan]),
        (pa.array([Decimal(2**53 + 1), Decimal(3)], pa.decimal128(18, 0)), "int64", [2**53 + 1, 3]),
        (pa.array([Decimal(2**63 + 5), Decimal(3)], pa.decimal128(38, 0)), "float64", [2**63 + 5, 3]),
        (pa.array(["a", None], pa.string_view()), "text", ["a", None]),
        (pa.array([1.5, 2.5]).dictionary_encode(), "float64", [1.5, 2.5]),
        (
            pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["a", "b"], pa.string_view())),
            "text",
            ["b", "a"],
        ),
        (pa.array([[1.5], [2.5]], pa.list_(pa.float64(), 1)), "float64", [1.5, 2.5]),
        (pa.array([True, None]), "bool", [1, np.nan]),
        (pa.array([np.float16(1.5), None], pa.float16()), "float16", [1.5, np.nan]),
        (pa.nulls(2), "empty", [np.nan, np.nan]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array([5, 6])), "int64", [5, 6]),
    ],
)
def test_types_of_arrow(column: pa.Array, kind: str, values: list[Any], tmp_path: Path) -> None:
    table = pa.table({"c": column})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table)
    for source in (tmp_path / "a.arrow", table):
        assert open_table(source).types == {"c": kind}
        np.testing.assert_array_equal(loaded(source, "c"), values)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([1, 2], pa.timestamp("us")), r"is a time \(timestamp\[us\]\)"),
        (pa.array([1, 2], pa.date32()), "is a time"),
        (pa.array([1, 2], pa.duration("s")), "is a time"),
        (pa.array([b"a", b"b"]), "has the type binary"),
        (pa.array([["a"], []]), "has the type list<.*string>"),
        (pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())), "has the type map"),
    ],
)
def test_types_that_are_no_numbers(column: pa.Array, reason: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"m": M, "c": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=f"a.parquet: column 'c' {reason}.*expected numbers or text"):
        read(tmp_path / "a.parquet", mass="m", features=["c"])


def test_several_files_on_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    folder = parts(
        tmp_path / "set", m=[1 + rng.random(30), 1 + rng.random(20)], x=[rng.random(30), rng.random(20)]
    )
    first, second = str(folder / "p0.parquet"), str(folder / "p1.parquet")
    for files in ([first, second], [str(folder)], [str(folder / "p?.parquet")]):
        assert run(["inspect", *files, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["rows"] == 50
    (tmp_path / "a.yaml").write_text(f"file: [{first}, {second}]\nmass: m\nfeatures: [x]\nwindow: 1.4:1.6\n")
    assert run(["search", str(tmp_path / "a.yaml"), first, "--out", str(tmp_path / "out")]) == 2
    assert "a YAML file with settings stands alone" in capfd.readouterr().err


def test_several_files_in_a_configuration(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    folder = parts(
        tmp_path / "set", m=[1 + rng.random(30), 1 + rng.random(20)], x=[rng.random(30), rng.random(20)]
    )
    paths = [str(folder / "p1.parquet"), str(folder / "p0.parquet")]
    (tmp_path / "a.yaml").write_text(f"file: [{', '.join(paths)}]\nmass: m\nfeatures: [x]\nwindow: 1.4:1.6\n")
    config = parse_config(load_config(tmp_path / "a.yaml"))
    assert config.file == tuple(paths)
    np.testing.assert_array_equal(read_events(config).m, read(paths, mass="m").m)
    # one file in a list is that file, so that the hash of a configuration does not tell them apart
    settings = {"mass": "m", "features": ["x"], "window": "1.4:1.6"}
    alone = [parse_config(settings | {"file": file}) for file in (paths[0], paths[:1])]
    assert alone[0].digest() == alone[1].digest() != config.digest()
