"""Ids of one and of several columns, and groups of events that depend on each other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
import yaml

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.events import Events, concatenate
from serendip.events.identity import content_codes, group_codes
from serendip.events.read import read
from serendip.events.write import write
from serendip.search.config import parse_config
from serendip.search.folds import assign_folds, event_folds, tie_breaker

N = 400


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four candidates in each of a hundred events of one run; no two runs, lumis and events are the same triple."""
    rng = np.random.default_rng(1)
    number = np.arange(N) // 4
    columns = {
        "m": 1000 + rng.exponential(300, N),
        "x": rng.normal(size=N),
        "run": 360_000 + number // 50,
        "event": (number % 50).astype(np.uint64) + np.uint64(2**63),
        "candidate": np.arange(N) % 4,
        "name": [f"e{i}" for i in number],
    }
    order = rng.permutation(N)
    pq.write_table(pa.table(columns).take(pa.array(order)), tmp_path / "e.parquet")
    return tmp_path / "e.parquet"


def events_of(path: Path, **options: object) -> Events:
    return read(path, **{"mass": "m", "features": ["x"], **options})


def test_groups_of_one_column_of_several_and_of_text_are_the_same_partition(table: Path) -> None:
    columns = pq.read_table(table).to_pydict()
    truth = np.unique(
        [f"{r}:{e}" for r, e in zip(columns["run"], columns["event"], strict=True)], return_inverse=True
    )[1]
    for group in ("run,event", ["run", "event"], "name"):
        codes = events_of(table, group=group).groups
        assert codes is not None
        assert codes.dtype == np.int64
        np.testing.assert_array_equal(codes[:, None] == codes, truth[:, None] == truth)
    whole = events_of(table, group="event").groups
    np.testing.assert_array_equal(whole.view(np.uint64), np.array(columns["event"], dtype=np.uint64))


def test_all_members_of_a_group_share_a_fold_and_row_order_changes_nothing(table: Path) -> None:
    events = events_of(table, group="run,event")
    fold, codes = event_folds(events, 5, seed=1), events.groups
    for code in np.unique(codes):
        assert len(set(fold[codes == code])) == 1
    assert len(set(fold)) == 5
    order = np.random.default_rng(2).permutation(N)
    np.testing.assert_array_equal(event_folds(events.select(order), 5, seed=1), fold[order])
    alone = events_of(table)
    np.testing.assert_array_equal(event_folds(alone, 5, seed=1), assign_folds(alone.ids, 5, seed=1))


def test_groups_stay_with_their_events(table: Path, tmp_path: Path) -> None:
    events = events_of(table, group="name")
    cut = events_of(table, group="name", where="x > 0")
    np.testing.assert_array_equal(cut.groups, events.groups[events["x"] > 0])
    np.testing.assert_array_equal(concatenate([events, cut]).groups, np.r_[events.groups, cut.groups])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(events)).groups, events.groups)
    for suffix in ("parquet", "h5", "root"):
        write(cut, tmp_path / f"out.{suffix}")
        np.testing.assert_array_equal(read(tmp_path / f"out.{suffix}").groups, cut.groups)
    with pytest.raises(InputError, match="different roles"):
        concatenate([events, events_of(table)])
    assert events_of(table).groups is None
    assert events.digest() != events_of(table).digest()


def test_an_id_of_several_columns(table: Path, tmp_path: Path) -> None:
    events = events_of(table, id="run,event,candidate")
    assert events.ids.dtype.names == ("run", "event", "candidate")
    assert list(events.id_columns) == ["run", "event", "candidate"]
    assert events.id_columns["event"].dtype == np.uint64
    ordered = events.in_order()
    triples = [tuple(row) for row in ordered.ids.tolist()]
    assert triples == sorted(triples)
    assert len(set(triples)) == N
    assert len(set(tie_breaker(events.ids, seed=1).tolist())) == N
    fold = event_folds(events, 4, seed=3)
    assert np.bincount(fold, minlength=4).min() > N / 4 - 5 * np.sqrt(N * 3 / 16)
    order = np.random.default_rng(4).permutation(N)
    np.testing.assert_array_equal(event_folds(events.select(order), 4, seed=3), fold[order])
    write(events, tmp_path / "out.parquet")
    np.testing.assert_array_equal(read(tmp_path / "out.parquet").ids, events.ids)


def test_repeated_ids_are_refused_and_point_to_groups(table: Path) -> None:
    with pytest.raises(
        InputError, match=r"'run,event' is repeated in 300 rows.*--group run,event in place of --id"
    ):
        events_of(table, id="run,event")
    with pytest.raises(InputError, match="'run' is repeated in 398 rows"):
        events_of(table, id=["run"])


def test_copies_are_grouped_by_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    m, x, once = 1000 + rng.exponential(300, 100), rng.normal(size=100), rng.integers(0, 100, 150)
    pq.write_table(pa.table({"m": m[once], "x": x[once]}), tmp_path / "e.parquet")
    codes = events_of(tmp_path / "e.parquet", group="duplicates").groups
    np.testing.assert_array_equal(codes[:, None] == codes, once[:, None] == once)
    zero = content_codes([np.array([0.0, -0.0, 1.0])])
    assert zero[0] == zero[1] != zero[2]


def test_groups_need_a_value_in_each_row() -> None:

    def rows(i: int) -> str:
        return f"row {i + 10}"

    with pytest.raises(InputError, match=r"group column 'g' is missing in 1 row, first in row 11"):
        group_codes("e", {"g": np.array([1.0, np.nan, 2.0])}, rows)
    with pytest.raises(InputError, match=r"group column 'g' is missing in 2 rows, first in row 10"):
        group_codes("e", {"g": np.array([None, "a", None], dtype=object)}, rows)
    with pytest.raises(InputError, match="not integers below"):
        group_codes("e", {"g": np.array([0.5, 1.0, 2.0])}, rows)
    whole, text = np.array([3, 1, 3]), np.array(["b", "a", "b"])
    assert group_codes("e", {"g": whole.astype(float)}, rows).tolist() == whole.tolist()
    one, two = (group_codes("e", {"g": whole, "h": part}, rows) for part in (text, text[::-1]))
    assert one[0] == one[2] != one[1]
    assert two.tolist() == one.tolist()


@pytest.mark.parametrize("role", ["id", "group"])
def test_a_column_of_the_id_or_group_is_no_feature(table: Path, role: str) -> None:
    with pytest.raises(InputError, match=f"uses column 'candidate', which is the {role}"):
        events_of(table, features=["x", "candidate"], **{role: "run,event,candidate"})
    with pytest.raises(InputError, match="no column 'evnt'; did you mean 'event'"):
        events_of(table, **{role: "run,evnt"})


def test_names_of_ids_do_not_clash_with_those_of_scores() -> None:
    columns = {"m": np.arange(3.0), "event": np.arange(3), "fold": np.arange(3) + 5}
    events = Events(columns, mass="m", id=("event", "fold"))
    assert {name: values.tolist() for name, values in events.id_columns.items()} == {
        "event": [0, 1, 2],
        "id_fold": [5, 6, 7],
    }
    assert list(Events(columns, mass="m", id="fold").id_columns) == ["id"]


def test_settings_take_a_text_or_a_list() -> None:
    base = {"file": "e", "mass": "m", "features": "x", "window": "1000:1100"}
    for given in ("run,lumi,event", ["run", "lumi", "event"]):
        config = parse_config(base | {"id": given, "group": given})
        assert config.id == config.group == ("run", "lumi", "event")
        assert yaml.safe_load(yaml.safe_dump(config.resolved()))["group"] == ["run", "lumi", "event"]
    assert parse_config(base | {"id": ["event"], "group": "duplicates"}).id == "event"
    assert parse_config(base | {"group": "duplicates"}).group == "duplicates"


def test_scores_carry_every_column_of_the_id_and_the_manifest_the_group(table: Path, tmp_path: Path) -> None:
    columns = pq.read_table(table)
    rng = np.random.default_rng(6)
    many = pa.concat_tables([columns] * 15)
    many = many.set_column(0, "m", pa.array(1000 + rng.exponential(300, len(many))))
    many = many.set_column(1, "x", pa.array(rng.normal(size=len(many))))
    run_number = many["run"].to_numpy() + 100 * (np.arange(len(many)) // N)
    many = many.set_column(2, "run", pa.array(run_number))
    pq.write_table(many, tmp_path / "many.parquet")
    arguments = [
        "search", str(tmp_path / "many.parquet"), "--mass", "m", "--features", "x", "--id", "run,event,candidate",
        "--group", "run,event", "--window", "1300:1500", "--folds", "2", "--working-points", "0.1", "--toys", "100",
        "--jobs", "1", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    assert run(arguments) == 0
    scores = pq.read_table(tmp_path / "run" / "scores.parquet")
    assert scores.column_names[:3] == ["run", "event", "candidate"]
    assert scores.schema.field("event").type == pa.uint64()
    joined = scores.join(
        many.append_column("row", pa.array(np.arange(len(many)))), ["run", "event", "candidate"]
    )
    assert joined.num_rows == len(many)
    assert joined["row"].null_count == 0
    folds = joined.group_by(["run", "event"]).aggregate([("fold", "min"), ("fold", "max"), ("fold", "count")])
    assert folds["fold_min"].equals(folds["fold_max"])
    assert set(folds["fold_count"].to_pylist()) == {4}
    assert run(["export", "root", str(tmp_path / "run"), "--out", str(tmp_path / "run.root")]) == 0
    tree = uproot.open(tmp_path / "run.root")["scores/cwola_1300-1500"]
    assert tree["event"].typename == "uint64_t"
    for name in ("run", "event", "candidate"):
        np.testing.assert_array_equal(tree[name].array(library="np"), scores[name].to_numpy())
    assert scores["event"].to_numpy().min() >= 2**63
    manifest = yaml.safe_load((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["input"]["group"] == ["run", "event"]
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["group"] == ["run", "event"]
