"""Whole numbers stay exact, and missing values leave a condition open, in formulas, cuts and every format."""

from __future__ import annotations

import itertools
import logging
import operator
import sqlite3
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.expressions import cut, decide, evaluate
from serendip.events.read import read

EDGES = [0, 1, -1, 3, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1, -(2**63) + 1, -(2**53) - 1]
OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
RELATIONS = {"<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">=": operator.ge}


def column(value: int) -> np.ndarray:
    return np.array([value], dtype=np.uint64 if value >= 2**63 else np.int64)


whole = st.sampled_from(EDGES) | st.integers(-(2**63) + 1, 2**64 - 1)


@settings(max_examples=300, deadline=None)
@given(whole, whole)
def test_arithmetic_of_whole_numbers_is_that_of_python(a: int, b: int) -> None:
    for sign, operation in OPERATIONS.items():
        if sign in ("//", "%") and (b == 0 or a < 0 <= b - 2**63 or b < 0 <= a - 2**63):
            continue
        found = evaluate(f"a {sign} b", {"a": column(a), "b": column(b)})[0]
        exact = operation(a, b)
        if -(2**63) + 2**13 < exact < 2**64 - 2**13:
            assert int(found) == exact, (a, sign, b)
        else:
            assert float(found) == pytest.approx(float(exact), rel=1e-15)


@settings(max_examples=300, deadline=None)
@given(whole, whole | st.floats(-2e19, 2e19) | st.sampled_from([2.0**53, 2.0**63, 2.0**64, -(2.0**63)]))
def test_relations_of_whole_numbers_are_exact_beside_floats_too(a: int, b: float) -> None:
    other = column(b) if isinstance(b, int) else np.array([b])
    for sign, relation in RELATIONS.items():
        assert cut(f"a {sign} b", {"a": column(a), "b": other})[0] == relation(a, b), (a, sign, b)
        if b >= 0:
            assert cut(f"a {sign} {b!r}", {"a": column(a)})[0] == relation(a, b), (a, sign, b)


def test_functions_keep_whole_numbers() -> None:
    event = np.array([2**63 + 1, 2**63 + 3, 7], dtype=np.uint64)
    columns = {"event": event, "run": np.array([5, 2**53 + 1, -1])}
    assert evaluate("max(event, 9)", columns).tolist() == [2**63 + 1, 2**63 + 3, 9]
    assert evaluate("where(event > 9, event, 0)", columns).tolist() == [2**63 + 1, 2**63 + 3, 0]
    assert evaluate("round(event)", columns).tolist() == event.tolist()
    assert evaluate("abs(run) % 2", columns).tolist() == [1, 1, 1]
    assert evaluate("event % 10", columns).tolist() == [9, 1, 7]
    assert evaluate("-run", columns).tolist() == [-5, -(2**53) - 1, 1]
    assert evaluate("event - event", columns).tolist() == [0, 0, 0]


def test_conditions_are_those_of_sql() -> None:
    """SQLite knows NULL and has the same three truth values."""
    rows = list(itertools.product([None, 0.0, 1.0, 2.0], repeat=2))
    columns = {
        name: np.array([np.nan if row[i] is None else row[i] for row in rows]) for i, name in enumerate("ab")
    }
    base = sqlite3.connect(":memory:")
    base.execute("create table t (a real, b real)")
    base.executemany("insert into t values (?, ?)", rows)
    atoms = ["a > 1", "b != 0", "a == b", "!(a < 1)", "!(b == 2)"]
    texts = [
        *atoms,
        "a < b & b < 2",
        "!(a > 0 & b > 0) | a == 1",
        "where(a > 1, b, 1) > 0",
        "isnan(a) | b > 0",
    ]
    texts += [f"{one} {join} {two}" for one in atoms for two in atoms for join in ("&", "|")]
    texts += [f"!({one} | {two}) & {two}" for one in atoms for two in atoms]
    for text in texts:
        sql = (
            text.replace("!(", "not (")
            .replace("&", "and")
            .replace("|", "or")
            .replace("isnan(a)", "a is null")
        )
        sql = sql.replace("where(a > 1, b, 1)", "case when a > 1 then b else 1 end")
        if "where" in text:  # here an unknown condition chooses neither side
            sql = "a is not null and b is not null and case when a > 1 then b else 1 end > 0 or a <= 1"
        wanted = [value for (value,) in base.execute(f"select {sql} from t")]
        passing, undecided = decide(text, columns)
        assert passing.tolist() == [value == 1 for value in wanted], text
        if "where" not in text:
            assert undecided.tolist() == [value is None for value in wanted], text


def test_a_condition_as_a_number_is_missing_where_it_is_unknown() -> None:
    columns = {"x": np.array([1.0, np.nan, 3.0]), "y": np.array([0, 1, 1])}
    np.testing.assert_array_equal(evaluate("(x > 2) + (y > 0)", columns), [0, np.nan, 2])
    np.testing.assert_array_equal(evaluate("x > 2", columns), [0, np.nan, 1])
    np.testing.assert_array_equal(evaluate("sqrt(x > 2)", columns), [0, np.nan, 1])
    np.testing.assert_array_equal(evaluate("max(x > 2, y)", columns), [0, np.nan, 1])


def test_lists_with_missing_values() -> None:
    from serendip.events.jagged import Jagged

    columns = {"pt": Jagged.of(np.array([2, 2, 1, 0]), np.array([50, np.nan, 20, np.nan, np.nan]))}
    for text, wanted in {
        "any(pt > 30)": [True, None, None, False],
        "all(pt > 10)": [None, None, None, True],
        "all(pt > 30)": [None, False, None, True],
        "!any(pt > 30)": [False, None, None, True],
        "count(pt > 30) >= 1": [None, None, None, False],
        "count(pt[pt > 30]) == 1": [True, False, False, False],
    }.items():
        passing, undecided = decide(text, columns)
        assert [
            None if open_ else bool(yes) for yes, open_ in zip(passing, undecided, strict=True)
        ] == wanted, text


N = 60
EVENT = np.arange(N, dtype=np.uint64) + np.uint64(2**63)


@pytest.fixture(params=["parquet", "csv", "h5", "root"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table with ids above 2^63 and a number that is missing in every seventh row."""
    path = tmp_path / f"e.{request.param}"
    number = [None if i % 7 == 0 else float(i % 2) for i in range(N)]
    columns = {"m": np.arange(N) + 1000.5, "x": np.arange(N) % 10 + 0.5, "event": EVENT}
    as_float = np.array([np.nan if value is None else value for value in number])
    if request.param == "h5":
        with h5py.File(path, "w") as file:
            for name, values in (columns | {"njet": as_float}).items():
                file[name] = values
    elif request.param == "root":
        with uproot.recreate(path) as file:
            tree = file.mktree("t", {name: v.dtype for name, v in (columns | {"njet": as_float}).items()})
            tree.extend(columns | {"njet": as_float})
    else:
        table = pa.table(columns | {"njet": pa.array(number, pa.int32())})
        (pq.write_table if request.param == "parquet" else pa.csv.write_csv)(table, path)
    return path


@pytest.mark.parametrize("where", ["njet != 0", "!(njet == 0)", "njet == 1 | njet > 1", "njet"])
def test_rows_that_a_cut_cannot_judge_are_left_out_and_counted(
    saved: Path, where: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [i for i in range(N) if i % 7 and i % 2]
    with caplog.at_level(logging.WARNING):
        events = read(saved, mass="m", features=["x"], where=where)
    assert events.ids.tolist() == kept
    reason = f"cut '{where}' undecided, njet missing"
    assert events.provenance["left_out"] == {reason: 9}
    assert f"9 rows left out ({reason}: 9)" in caplog.text
    assert run(["inspect", str(saved), "--where", where]) == 0
    output = capsys.readouterr().out
    assert f"{N} rows ({len(kept)} pass the cut)" in output
    assert f"Left out by the cut: 9 rows ({reason})." in output


def test_large_ids_are_exact_in_cuts_and_as_ids(saved: Path) -> None:
    events = read(
        saved, mass="m", features=["x"], id="event", where="event >= 9223372036854775809 & event < 2**63 + 10"
    )
    assert events.ids.dtype == np.uint64
    assert (
        events.ids.tolist() == [2**63 + i for i in range(1, N)] or events.ids.tolist() == EVENT[1:10].tolist()
    )
    one = read(
        saved, mass="m", features=["x"], id="event", where="event==9223372036854775809", for_training=False
    )
    assert one.ids.tolist() == [2**63 + 1]
    odd = read(saved, mass="m", features=["x"], id="event", where="event % 2 == 1")
    assert odd.ids.tolist() == EVENT[1::2].tolist()


def test_no_row_left_says_what_is_missing(saved: Path) -> None:
    with pytest.raises(
        InputError, match=r"leaves no event of 60; cut 'njet > 5' undecided, njet missing in 9 rows"
    ):
        read(saved, mass="m", features=["x"], where="njet > 5")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_large_whole_numbers_with_gaps_are_compared_exactly(tmp_path: Path, suffix: str) -> None:
    event = pa.array([None if i % 5 == 0 else 2**63 + i for i in range(20)], pa.uint64())
    table = pa.table({"m": np.arange(20) + 1.5, "x": np.arange(20) % 3 + 0.5, "event": event})
    path = tmp_path / f"e.{suffix}"
    (pq.write_table if suffix == "parquet" else pa.csv.write_csv)(table, path)
    events = read(path, mass="m", features=["x"], where=f"event > {2**63 + 8}")
    assert events.ids.tolist() == [i for i in range(9, 20) if i % 5]
    assert events.provenance["left_out"] == {f"cut 'event > {2**63 + 8}' undecided, event missing": 4}
    assert len(read(path, mass="m", features=["x"], where="!isnan(event)", id="event")) == 16
    with pytest.raises(InputError, match="id column 'event' is missing in 4 rows, first in row 0"):
        read(path, mass="m", features=["x"], id="event")
    with pytest.raises(InputError, match=r"column 'event' has missing values and whole numbers above 2\^53"):
        read(path, mass="m", features=["x"], where="event % 2 == 1")


def test_texts_of_whole_numbers_are_read_exactly(tmp_path: Path) -> None:
    texts = ["9223372036854775809", "9223372036854775810", "7", ""]
    table = pa.table(
        {"m": [1.0, 2.0, 3.0, 4.0], "x": [1.0, 0.0, 1.0, 3.0], "event": pa.array(texts, pa.string())}
    )
    pq.write_table(table, tmp_path / "e.parquet")
    for where, kept in {"event == 9223372036854775809": [0], "event != 9223372036854775809": [1, 2]}.items():
        assert read(tmp_path / "e.parquet", mass="m", where=where).ids.tolist() == kept


def test_inspect_shows_large_numbers_and_their_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"event": EVENT, "next": EVENT + np.uint64(1), "m": np.arange(N) + 1.0}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    assert run(["inspect", str(tmp_path / "e.parquet"), "--id", "event"]) == 0
    output = capsys.readouterr().out
    assert str(2**63 + N) in output
    assert "Same values" not in output
    assert "All ids differ" in output
