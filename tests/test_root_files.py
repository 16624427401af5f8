"""ROOT files as ROOT writes them. Those in data/root were written by data/root/make.py; the others are made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot

from serendip.errors import InputError
from serendip.events.audit import audit
from serendip.events.formats import open_table
from serendip.events.read import read

DATA = Path(__file__).parent / "data" / "root"
I = np.arange(40)  # noqa: E741 - the number of the event
LISTS = np.arange(40) % 4


@pytest.fixture
def branches():
    table = open_table(DATA / "branches.root")
    yield table
    table.close()


@pytest.fixture
def ntuple():
    table = open_table(DATA / "ntuple.root")
    yield table
    table.close()


def test_leaf_lists_have_the_names_of_their_leaves(branches):
    found = branches.load(["dijet.n", "dijet.mjj", "met", "dijet.pt"])
    np.testing.assert_array_equal(found["dijet.mjj"], 1000.5 + I)
    np.testing.assert_array_equal(found["dijet.pt"], 10 * I)
    np.testing.assert_array_equal(found["dijet.n"], I % 5)
    np.testing.assert_array_equal(found["met"], 0.25 * I)
    assert branches.types["dijet.n"] == "int32"
    events = read(
        DATA / "branches.root", mass="dijet.mjj", features=["dijet.pt / dijet.mjj"], where="dijet.n > 0"
    )
    np.testing.assert_allclose(events["dijet.pt / dijet.mjj"], (10 * I / (1000.5 + I))[I % 5 > 0], rtol=1e-6)
    with pytest.raises(
        InputError, match=r"'dijet' is not a column but a group of columns \(dijet.mjj, dijet.n, dijet.pt\)"
    ):
        read(DATA / "branches.root", mass="dijet")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "step"), [("h", 2**-8), ("h16", 2**-8), ("hr", 1000 / 2**16), ("d", 0), ("d32", 0), ("dr", 1000 / 2**24)]
)  # fmt: skip
def test_packed_numbers(branches, name, step):
    # uproot 5.7 reads h16 as 39.03 where 39.5 was written, and d32 not at all
    np.testing.assert_allclose(branches.load([name])[name], I + 0.5, atol=step / 2, rtol=0)


def test_packed_lists(branches):
    found = branches.load(["lh", "ld", "three", "grid", "jets"])
    assert found["lh"].counts.tolist() == LISTS.tolist()
    inside = np.concatenate([i + np.arange(n) for i, n in zip(I, LISTS, strict=True)])
    np.testing.assert_array_equal(found["lh"].content, inside)
    np.testing.assert_array_equal(found["ld"].content, inside + 0.5)
    np.testing.assert_array_equal(found["three"].content, (I[:, None] + np.arange(3)).ravel())
    np.testing.assert_array_equal(found["grid"].content.content, (10 * I[:, None] + np.arange(4)).ravel())
    np.testing.assert_array_equal(found["jets"].content, np.repeat(20 + I, I % 3))
    assert branches.jagged["grid"] == "list of float32"
    events = read(DATA / "branches.root", mass="grid[:,1,0]", features=["three[:,2]"], where="met > 0")
    np.testing.assert_array_equal(events.m, 10 * I[1:] + 2)


def test_split_objects_with_equal_leaves(branches):
    found = branches.load(["lead.fCoordinates.fPt", "sub.fCoordinates.fPt"])
    np.testing.assert_array_equal(found["lead.fCoordinates.fPt"], 100 + I)
    np.testing.assert_array_equal(found["sub.fCoordinates.fPt"], 50 + I)
    with pytest.raises(InputError, match=r"no column 'fCoordinates.fPt'; did you mean"):
        branches.require(["fCoordinates.fPt"])
    events = read(DATA / "branches.root", mass="mass(lead, sub)", features=["deltaPhi(sub, lead)+met"])
    energy = np.hypot((100 + I) * np.cosh(0.1), 5) + np.hypot((50 + I) * np.cosh(0.3), 1)
    pz = (100 + I) * np.sinh(0.1) - (50 + I) * np.sinh(0.3)
    pt2 = (100 + I) ** 2 + (50 + I) ** 2 + 2 * (100 + I) * (50 + I) * np.cos(2.7)
    # ROOT writes these vectors in single precision
    np.testing.assert_allclose(events.m, np.sqrt(energy**2 - pz**2 - pt2), rtol=1e-7)
    np.testing.assert_allclose(events["deltaPhi(sub, lead)+met"], 2.7 + 0.25 * I, rtol=1e-6)


def test_what_cannot_be_used_is_listed_with_the_reason(branches):
    assert branches.unreadable["late"].startswith("has 25 entries, the tree 40")
    assert "unsplit object of the class TNamed" in branches.unreadable["named"]
    assert "unsplit object of the class TLorentzVector" in branches.unreadable["p4"]
    for options in ({"mass": "late"}, {"mass": "met", "where": "late >= 0"}):
        with pytest.raises(InputError, match=r"branches.root: column 'late' has 25 entries, the tree 40"):
            read(DATA / "branches.root", **options)
    found = audit(DATA / "branches.root", mass="dijet.mjj")
    assert "late" not in {column.name for column in found.columns}
    assert all(column.inf == column.nan == 0 for column in found.columns)


def test_records_and_optional_numbers_of_an_rntuple(ntuple):
    found = ntuple.load(["score", "njet", "run", "p4.fCoordinates.fPt", "pair.1", "title", "event", "jets"])
    np.testing.assert_array_equal(found["score"], np.where(I % 3, 0.5 * I, np.nan))
    assert found["njet"].dtype == np.int32
    np.testing.assert_array_equal(found["njet"], I)
    np.testing.assert_array_equal(found["run"], I % 4)
    np.testing.assert_array_equal(found["p4.fCoordinates.fPt"], 100 + I)
    np.testing.assert_array_equal(found["pair.1"], 2 * I)
    assert found["title"].tolist() == [f"event {i}" for i in I]
    assert found["event"].dtype == np.uint64
    assert found["event"].tolist() == [9223372036854775808 + i for i in range(40)]
    np.testing.assert_array_equal(found["jets"].content, np.repeat(20 + I, I % 3))
    assert "std::variant" in ntuple.unreadable["either"]
    found = ntuple.load(["nb", "key"])
    np.testing.assert_array_equal(found["nb"], np.where(I % 5, I, np.nan))
    assert found["key"].mask.tolist() == (I % 5 == 0).tolist()
    assert found["key"].compressed().tolist() == [9223372036854775808 + int(i) for i in I if i % 5]
    found = ntuple.load(["score", "jets"])
    part = ntuple.load(["score", "jets"], 7, 30)
    np.testing.assert_array_equal(part["score"], found["score"][7:30])
    np.testing.assert_array_equal(part["jets"].content, found["jets"][7:30].content)
    events = read(DATA / "ntuple.root", mass="mjj", features=["score"])
    assert sum(events.provenance["left_out"].values()) == 14
    assert len(events) == np.count_nonzero(I % 3)
    np.testing.assert_allclose(read(DATA / "ntuple.root", mass="mass(p4)").m, np.full(40, 5.0), rtol=1e-6)


def test_cycles_on_request(tmp_path):
    path = tmp_path / "cycles.root"
    with uproot.recreate(path) as file:
        for value in (1.0, 2.0):
            file.mktree("events", {"m": "float64"})
            file["events"].extend({"m": np.full(5, value)})
    assert open_table(path).load(["m"])["m"].tolist() == [2.0] * 5
    assert open_table(path, "events;1").load(["m"])["m"].tolist() == [1.0] * 5
    with pytest.raises(InputError, match=r"no TTree or RNTuple 'events;3'; did you mean 'events;[12]'"):
        open_table(path, "events;3")


def test_a_tree_behind_a_colon_is_explained():
    with pytest.raises(InputError, match=r"for the table 'events' of .*branches.root' write --tree events"):
        read(f"{DATA / 'branches.root'}:events", mass="met")


def test_names_of_branches_inside_folders_of_branches(tmp_path):
    path = tmp_path / "groups.root"
    with uproot.recreate(path) as file:
        file.mktree("events", {"m": "float64", "Jet": {"pt": "float64", "eta": "float32"}})
        file["events"].extend({"m": np.ones(4), "Jet": {"pt": np.arange(4.0), "eta": np.zeros(4)}})
    table = open_table(path)
    assert table.load(["Jet_pt"])["Jet_pt"].tolist() == [0, 1, 2, 3]


def test_a_column_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    path = tmp_path / "damaged.root"
    rng = np.random.default_rng(1)
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("events", {"m": "float64", "x": "float64", "y": "float64"})
        file["events"].extend({name: np.round(rng.normal(10, 1, 4000), 1) for name in "mxy"})
    with uproot.open(path) as file:
        seek = file["events"]["x"].member("fBasketSeek")[0]
    content = bytearray(path.read_bytes())
    content[seek + 300 : seek + 400] = bytes(100)
    path.write_bytes(content)
    found = audit(path)
    assert {column.name for column in found.columns} == {"m", "y"}
    assert found.unreadable["x"].startswith("of 'events' is not readable")
    assert "damaged" in found.unreadable["x"]
    with pytest.raises(InputError, match=r"damaged.root: column 'x' of 'events' is not readable .*damaged"):
        read(path, mass="x")
    assert len(read(path, mass="m")) == 4000


def test_an_rntuple_of_the_old_layout_is_named_as_such(tmp_path, monkeypatch):
    path = tmp_path / "old.root"
    with uproot.recreate(path) as file:
        file.mkrntuple("events", {"m": "float64"})
        file["events"].extend({"m": np.ones(3)})
    monkeypatch.setattr(
        uproot.ReadOnlyDirectory, "classnames", lambda *_, **__: {"events": "ROOT::Experimental::RNTuple"}
    )
    with pytest.raises(InputError, match=r"'events' is an RNTuple in the layout of ROOT before 6\.34"):
        open_table(path)
