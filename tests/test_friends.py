"""Trees side by side: joined by the id of the event or by its place, in one file and in several."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from serendip.errors import InputError
from serendip.events.audit import audit
from serendip.events.formats import open_table
from serendip.events.formats.friends import joint_of
from serendip.events.read import read

N = 60
RUN = np.arange(N) // 20
EVENT = np.arange(N, dtype=np.uint64) % 20 + 2**63
MASS = 1000.0 + np.arange(N)
# the scores lie in another order, and two events have none
ORDER = np.random.default_rng(4).permutation(np.delete(np.arange(N), [3, 41]))


def write(file, name, columns):
    file.mktree(name, {key: "var * float64" if key == "jets" else v.dtype for key, v in columns.items()})
    file[name].extend(columns)


@pytest.fixture
def path(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        jets = ak.unflatten(np.arange(N * 2.0), np.full(N, 2))
        write(file, "events", {"run": RUN, "event": EVENT, "m": MASS, "jets": jets})
        write(file, "scores", {"run": RUN[ORDER], "event": EVENT[ORDER], "score": MASS[ORDER] / 2, "m": -MASS[ORDER]})  # fmt: skip
        write(file, "same", {"weight": MASS / 10})
    return tmp_path / "a.root"


def test_by_the_columns_that_name_an_event(path, caplog):
    kept = np.delete(np.arange(N), [3, 41])
    for tree in ("events+scores", "events+scores by run,event"):
        table = open_table(path, tree)
        assert table.n_rows == N - 2
        found = table.load(["score", "m", "scores.m", "jets"])
        np.testing.assert_array_equal(found["m"], MASS[kept])
        np.testing.assert_array_equal(found["score"], MASS[kept] / 2)
        np.testing.assert_array_equal(found["scores.m"], -MASS[kept])
        np.testing.assert_array_equal(found["jets"].content.reshape(-1, 2)[:, 0], 2 * kept)
        part = table.load(["score", "jets"], 2, 50)
        np.testing.assert_array_equal(part["score"], MASS[kept][2:50] / 2)
        np.testing.assert_array_equal(part["jets"].content, found["jets"][2:50].content)
        assert table.place(3) == "row 4"
        table.close()
    assert (
        "2 events of the first have no partner and are left out, 0 of the second are not used" in caplog.text
    )
    events = read(path, mass="m", features=["scores.score + jets[:,1]"], tree="events+scores", id="run,event", where="score > 510")  # fmt: skip
    rows = kept[MASS[kept] > 1020]
    np.testing.assert_array_equal(events.m, MASS[rows])
    np.testing.assert_array_equal(events["scores.score + jets[:,1]"], MASS[rows] / 2 + 2 * rows + 1)
    assert events.provenance["left_out"] == {"no partner in 'scores'": 2}
    assert events.provenance["rows_in_file"] == N
    assert events["event"].tolist() == EVENT[rows].tolist()


def test_in_the_order_of_the_entries(path):
    table = open_table(path, "events+same in order")
    np.testing.assert_array_equal(table.load(["weight"])["weight"], MASS / 10)
    with pytest.raises(InputError, match="have 60 and 58 entries, so they cannot be joined in order"):
        open_table(path, "events+scores in order")


def test_three_tables_in_files_of_two_formats(path, tmp_path):
    weights = {"event": np.arange(N)[::-1] % 20, "run": RUN[::-1], "w": MASS[::-1] * 3}
    pq.write_table(pa.table(weights), tmp_path / "weights.parquet")
    with uproot.update(path) as file:
        write(file, "small", {"run": RUN, "event": np.arange(N) % 20, "x": MASS + 1})
    table = open_table(path, "small+weights.parquet+same in order")
    assert table.load(["w"])["w"][0] == MASS[-1] * 3
    table = open_table(path, f"small+{tmp_path}/weights.parquet+a.root:small by run,event")
    found = table.load(["w", "x", "small.x"])
    np.testing.assert_array_equal(found["w"], MASS * 3)
    np.testing.assert_array_equal(found["small.x"], found["x"])
    assert sorted(table.files) == ["a.root", "weights.parquet"]
    assert {c.name for c in audit(path, tree="small+weights.parquet").columns} == {"run", "event", "x", "w"}


def test_a_join_in_each_of_several_files(path, tmp_path):
    with uproot.recreate(tmp_path / "b.root") as file:
        write(file, "events", {"run": RUN + 9, "event": EVENT, "m": MASS})
        write(file, "scores", {"run": RUN + 9, "event": EVENT, "score": MASS})
    with pytest.raises(InputError, match="'jets' is missing in some files"):
        open_table([path, tmp_path / "b.root"], "events+scores").require(["jets"])
    events = read(
        [path, tmp_path / "b.root"], mass="m", features=["score"], tree="events+scores", id="run,event"
    )
    assert len(events) == 2 * N - 2
    assert events.provenance["left_out"] == {"no partner in 'scores'": 2}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("events+same", "share no column such as run or event that identifies an event; name it: 'events.same by COL'"),
        ("events+scores by event", r"the id 'event' is repeated in \d+ rows of the second, first '\d+' in row \d+ and row \d+"),
        ("events+scores by score", "there is no column 'score'"),
        ("events+missing", "there is no TTree or RNTuple 'missing'"),
        ("events+", "lacks the name of a tree"),
        ("events+other.root:x", "there is no file"),
        ("events+apart", "have no event in common"),
        ("events+broken by run", "not integers"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_said(path, tree, message):
    with uproot.update(path) as file:
        write(file, "apart", {"run": RUN + 100, "event": EVENT})
        write(file, "broken", {"run": RUN + 0.5})
    with pytest.raises(InputError, match=message):
        open_table(path, tree)


def test_ids_without_a_rule_are_those_of_the_run(path):
    assert joint_of("a+b", "run,event").by == ("run", "event")
    assert joint_of("a+b by x", "run,event").by == ("x",)
    assert joint_of("a+b in order", "run,event").by is None
    assert joint_of("a+b").by == ()
    assert joint_of("a") is None
    with pytest.raises(InputError, match="the id 'run' is repeated"):
        read(path, mass="m", tree="events+scores", id="run")
