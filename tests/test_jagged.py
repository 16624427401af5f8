"""Columns with a list of values for each event, in expressions, against awkward and against kinematics by hand."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

import serendip
from serendip.errors import InputError
from serendip.events.audit import audit
from serendip.events.expressions import cut, decide, evaluate, parse
from serendip.events.jagged import Jagged, concatenate

N = 400
MUON = 0.10566


def muons(seed=3):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.6, N)
    total = counts.sum()
    values = {
        "Muon_pt": rng.exponential(40, total) + 3,
        "Muon_eta": rng.normal(0, 1.5, total),
        "Muon_phi": rng.uniform(-np.pi, np.pi, total),
        "Muon_mass": np.full(total, MUON),
        "Muon_charge": rng.choice([-1, 1], total).astype(np.int32),
        "Muon_tightId": rng.random(total) < 0.7,
    }
    lists = {
        name: ak.unflatten(v.astype(np.float32) if v.dtype == float else v, counts)
        for name, v in values.items()
    }
    order = ak.argsort(lists["Muon_pt"], ascending=False)
    lists = {name: v[order] for name, v in lists.items()}
    return lists, {"met": rng.exponential(30, N), "nMuon": counts.astype(np.uint32)}


LISTS, FLAT = muons()
COLUMNS = {**{name: Jagged.from_awkward(v) for name, v in LISTS.items()}, **FLAT}
PT, ETA, PHI, CHARGE, TIGHT = (
    ak.values_astype(LISTS[f"Muon_{v}"], np.float64) if v in ("pt", "eta", "phi") else LISTS[f"Muon_{v}"]
    for v in ("pt", "eta", "phi", "charge", "tightId")
)
COUNT = ak.num(PT)


def nth(array, k):
    return ak.to_numpy(ak.fill_none(ak.pad_none(array, k + 1)[:, k], np.nan)).astype(float)


def last(array):
    return nth(array[:, ::-1], 0)


def none_is_nan(array):
    return ak.to_numpy(ak.fill_none(array, np.nan)).astype(float)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Muon_pt[:,0]", nth(PT, 0)),
        ("Muon_pt[0]", nth(PT, 0)),
        ("Muon_pt[:,1] / Muon_pt[:,0]", nth(PT, 1) / nth(PT, 0)),
        ("Muon_charge[:,-1]", last(CHARGE)),
        ("count(Muon_pt)", COUNT),
        ("count(Muon)", COUNT),
        ("count(Muon_pt > 40 & Muon_tightId)", ak.sum((PT > 40) & TIGHT, axis=1)),
        ("count(Muon[Muon_pt > 40])", ak.sum(PT > 40, axis=1)),
        ("sum(Muon_pt)", ak.sum(PT, axis=1)),
        ("sum(Muon_charge)", ak.sum(CHARGE, axis=1)),
        ("sum(Muon_tightId)", ak.sum(TIGHT, axis=1)),
        ("sum(Muon_pt[:,:2])", ak.sum(PT[:, :2], axis=1)),
        ("sum(Muon_pt[:,1:])", ak.sum(PT[:, 1:], axis=1)),
        ("sum(Muon_pt[:,-1:])", ak.sum(PT[:, -1:], axis=1)),
        ("max(abs(Muon_eta))", none_is_nan(ak.max(abs(ETA), axis=1))),
        ("min(Muon_pt)", none_is_nan(ak.min(PT, axis=1))),
        ("mean(Muon_eta)", none_is_nan(ak.mean(ETA, axis=1, mask_identity=True))),
        ("any(Muon_pt > 80)", ak.any(PT > 80, axis=1)),
        ("all(Muon_pt > 20)", ak.all(PT > 20, axis=1)),
        ("max(Muon_pt[Muon_tightId])", none_is_nan(ak.max(PT[TIGHT], axis=1))),
        ("Muon_pt[Muon_tightId & abs(Muon_eta) < 2][:,0]", nth(PT[TIGHT & (abs(ETA) < 2)], 0)),
        ("max(where(Muon_tightId, Muon_pt, met))", none_is_nan(ak.max(ak.where(TIGHT, PT, FLAT["met"]), axis=1))),
        ("sum(Muon_pt * met) + met", ak.sum(PT * FLAT["met"], axis=1) + FLAT["met"]),
        ("min(sum(Muon_pt), met)", np.minimum(ak.sum(PT, axis=1), FLAT["met"])),
        ("ordered(Muon_eta)[:,0]", none_is_nan(ak.max(ETA, axis=1))),
        ("ordered(Muon_pt, Muon_eta)[:,1]", nth(PT[ak.argsort(ETA, ascending=False)], 1)),
        ("max(Muon_pt * cosh(Muon_eta))", none_is_nan(ak.max(PT * np.cosh(ETA), axis=1))),
        ("sum((2 * Muon_charge)**2 // 3)", COUNT),
    ],
)  # fmt: skip
def test_value(text, expected):
    found = evaluate(text, COLUMNS)
    assert found.shape == (N,)
    np.testing.assert_allclose(found.astype(float), np.asarray(expected, dtype=float), rtol=1e-12)


def test_whole_numbers_stay_whole_where_every_event_has_the_object():
    ids = Jagged.of(np.array([1, 2]), np.array([2**60 + 1, 5, 2**60 + 3]))
    assert evaluate("id[:,0]", {"id": ids}).tolist() == [2**60 + 1, 5]
    assert evaluate("max(id)", {"id": ids}).tolist() == [2**60 + 1, 2**60 + 3]
    with pytest.raises(InputError, match="too large to be stored with NaN"):
        evaluate("id[:,0]", {"id": Jagged.of(np.array([0, 1]), np.array([2**60 + 1]))})


def test_small_types_do_not_overflow_inside_lists():
    small = Jagged.of(np.array([2, 0]), np.array([100, 120], dtype=np.int8))
    assert evaluate("sum(q + q)", {"q": small}).tolist() == [440, 0]
    assert evaluate("q[:,0] * 100", {"q": small}).tolist()[0] == 10000


def test_lists_of_lists():
    values = Jagged.from_awkward(ak.Array([[[1, 2], [3]], [], [[], [4.5]]]))
    assert evaluate("sum(sum(x))", {"x": values}).tolist() == [6, 0, 4.5]
    np.testing.assert_array_equal(evaluate("x[:,1,0]", {"x": values}), [3, np.nan, 4.5])
    np.testing.assert_array_equal(evaluate("x[:,0][:,0]", {"x": values}), [1, np.nan, np.nan])
    assert evaluate("count(count(x))", {"x": values}).tolist() == [2, 0, 2]
    assert evaluate("max(count(x) * 2 + met)", {"x": values, "met": np.arange(3)})[[0, 2]].tolist() == [4, 4]


def four_vector(k):
    pt, eta, phi = (nth(v, k) for v in (PT, ETA, PHI))
    p = np.array([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    return np.array([np.sqrt(np.float64(np.float32(MUON)) ** 2 + (p**2).sum(axis=0)), *p])


def mass_of(*vectors):
    energy, *p = sum(vectors)
    return np.sqrt(energy**2 - sum(c**2 for c in p))


def delta_r(a, b):
    """Through the angle of the transverse momenta and the pseudorapidity from momentum, unlike the code."""
    eta = [np.arctanh(v[3] / np.sqrt((v[1:] ** 2).sum(axis=0))) for v in (a, b)]
    angle = np.arccos(
        np.clip((a[1] * b[1] + a[2] * b[2]) / np.hypot(a[1], a[2]) / np.hypot(b[1], b[2]), -1, 1)
    )
    return np.sqrt((eta[0] - eta[1]) ** 2 + angle**2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mass(Muon, 0, 1)", mass_of(four_vector(0), four_vector(1))),
        ("mass(Muon[:,0], Muon[:,1])", mass_of(four_vector(0), four_vector(1))),
        ("mass(Muon,0,1,2)", mass_of(four_vector(0), four_vector(1), four_vector(2))),
        (
            "mass(Muon_pt[:,0], Muon_eta[:,0], Muon_phi[:,0], 0.10566, Muon_pt[:,1], Muon_eta[:,1], Muon_phi[:,1], 0.10566)",
            mass_of(four_vector(0), four_vector(1)),
        ),
        ("pt(Muon, 0, 1)", np.hypot(*(four_vector(0) + four_vector(1))[1:3])),
        ("deltaR(Muon, 0, 1)", delta_r(four_vector(0), four_vector(1))),
        ("deltaR(Muon_eta[:,0], Muon_phi[:,0], Muon_eta[:,1], Muon_phi[:,1])", delta_r(four_vector(0), four_vector(1))),
        ("deltaEta(Muon, 1, 0)", nth(ETA, 1) - nth(ETA, 0)),
        ("cos(deltaPhi(Muon, 0, 1))", np.cos(nth(PHI, 0) - nth(PHI, 1))),
        ("min(deltaR(Muon[:,0], Muon[:,1:]))", np.fmin(delta_r(four_vector(0), four_vector(1)), np.inf)),
    ],
)  # fmt: skip
def test_kinematics(text, expected):
    found = evaluate(text, COLUMNS)
    assert np.array_equal(np.isnan(found), np.asarray(COUNT) < (3 if ",2)" in text else 2))  # fmt: skip
    rows = ~np.isnan(found) & (COUNT < 3 if text.startswith("min") else True)
    assert np.count_nonzero(rows) > 40
    np.testing.assert_allclose(found[rows], expected[rows], rtol=1e-6, atol=1e-6)


def test_delta_phi_lies_between_minus_pi_and_pi():
    phi = {"a": np.array([3.0, -3.0, 0.5, np.pi]), "b": np.array([-3.0, 3.0, 0.25, 0.0])}
    np.testing.assert_allclose(
        evaluate("deltaPhi(a, b)", phi), [6 - 2 * np.pi, 2 * np.pi - 6, 0.25, np.pi], atol=1e-12
    )


@pytest.mark.parametrize("joint", ["lead.fCoordinates.f", "lead_", "lead."])
def test_one_particle_in_each_event_by_other_names(joint):
    rng = np.random.default_rng(1)
    vectors = {
        who: dict(zip(("Pt", "Eta", "Phi", "M"), rng.uniform(0.5, 2, (4, 5)), strict=True))
        for who in ("lead", "sub")
    }
    columns = {
        f"{joint.replace('lead', who)}{c}": v for who, parts in vectors.items() for c, v in parts.items()
    }
    expected = 0.0
    total = np.zeros((4, 5))
    for v in vectors.values():
        p = np.array([v["Pt"] * np.cos(v["Phi"]), v["Pt"] * np.sin(v["Phi"]), v["Pt"] * np.sinh(v["Eta"])])
        total += np.array([np.sqrt(v["M"] ** 2 + (p**2).sum(axis=0)), *p])
    expected = np.sqrt(total[0] ** 2 - (total[1:] ** 2).sum(axis=0))
    np.testing.assert_allclose(evaluate("mass(lead, sub)", columns), expected, rtol=1e-12)


def test_cartesian_particles():
    columns = {f"b_{c}": np.array(v) for c, v in {"px": [3.0], "py": [0.0], "pz": [4.0], "E": [13.0]}.items()}
    assert evaluate("mass(b)", columns).tolist() == [12.0]
    assert evaluate("pt(b)", columns).tolist() == [3.0]


def test_the_number_of_objects_without_a_column_for_it():
    columns = {name: v for name, v in COLUMNS.items() if name != "nMuon"}
    assert np.array_equal(evaluate("nMuon", columns), COUNT)
    assert np.array_equal(evaluate("nMuon + 1", columns), np.asarray(COUNT) + 1)
    assert parse("nMuon", list(columns)).columns == {"Muon_pt"}


def test_only_the_columns_that_a_function_needs():
    names = list(COLUMNS)
    assert parse("deltaR(Muon,0,1)", names).columns == {"Muon_eta", "Muon_phi"}
    assert parse("mass(Muon[Muon_tightId],0,1)", names).columns == {
        "Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_tightId"}  # fmt: skip


def test_cut_of_the_issue():
    mask = cut("nMuon>=2 & Muon_charge[:,0]!=Muon_charge[:,1]", COLUMNS)
    padded = ak.fill_none(ak.pad_none(CHARGE, 2), 0)
    assert np.array_equal(mask, (COUNT >= 2) & (padded[:, 0] * padded[:, 1] == -1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Muon_pt", r"'Muon_pt' has a list of values for each event, but one number is needed; take for example Muon_pt\[:,0\]"),
        ("Muon_pt + 1", r"\(Muon_pt \+ 1\)\[:,0\]"),
        ("Muon_pt * other", r"different numbers of values in the same event \(event \d+: \d+ and \d+\)"),
        ("Muon_pt[other > 0][:,0]", "another collection"),
        ("Muon_pt[:2]", r"possible are \[:,N\]"),
        ("Muon_pt[:,0:4:2]", r"possible are \[:,N\]"),
        ("Muon_pt[:,met]", "neither true nor false|condition for each object"),
        ("Muon_pt[1.5]", "neither true nor false|not understood|condition"),
        ("[1, 2] + met", "must follow a column"),
        ("met[:,0]", "one number for each event; leave it out"),
        ("sum(met)", "needs a list for each event"),
        ("Muon + 1", r"'Muon' is not a column but a group of columns \(Muon_charge, Muon_eta, "),
        ("mass(Electron, 0, 1)", "there is no column 'Electron'"),
        ("mass(Jet, 0, 1)", r"there is no Jet_mass; give the values: mass\(Jet_pt\[:,0\], Jet_eta\[:,0\], Jet_phi\[:,0\], mass,"),
        ("deltaR(Muon, 0, 1, 2)", "deltaR takes two objects, not 3"),
        ("deltaR(Muon, 0.5, 1)", "numbers of objects"),
        ("mass(met, met)", "takes objects, such as"),
        ("count(Muon_pt, 1)", "count takes 1 argument, not 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text, message):
    columns = {**COLUMNS, "other": Jagged.of(np.asarray(COUNT) + 1, np.zeros(int(ak.sum(COUNT)) + N))}  # fmt: skip
    columns.update({f"Jet_{c}": COLUMNS["Muon_pt"] for c in ("pt", "eta", "phi")})
    with pytest.raises(InputError, match=message):
        evaluate(text, columns)


def test_lists_from_awkward_and_numpy():
    missing = Jagged.from_awkward(ak.Array([[1, None], None, [3]]))
    assert missing.counts.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(missing.content, [1, np.nan, 3])
    fixed = Jagged.from_numpy(np.arange(12).reshape(2, 3, 2))
    assert evaluate("x[:,2,1]", {"x": fixed}).tolist() == [5, 11]
    with pytest.raises(TypeError):
        Jagged.from_awkward(ak.Array([["a"], ["b", "c"]]))
    with pytest.raises(TypeError):
        Jagged.from_awkward(ak.Array([[{"pt": 1.0}]]))


def test_rows_of_lists():
    column = COLUMNS["Muon_pt"]
    rows = np.array([5, 0, 5, 399])
    for chosen in (rows, np.asarray(COUNT) > 1, slice(10, 40)):
        expected = PT[chosen]
        assert column[chosen].counts.tolist() == ak.num(expected).to_list()
        assert column[chosen].content.tolist() == ak.flatten(expected).to_list()
    joined = concatenate([column[:100], column[100:100], column[100:]])
    assert joined.offsets.tolist() == column.offsets.tolist()
    assert joined.content.tolist() == column.content.tolist()


def test_events_without_the_object_are_counted(tmp_path, caplog):
    path = tmp_path / "nano.root"
    with uproot.recreate(path) as file:
        file.mktree(
            "Events", {**{k: f"var * {v.layout.content.dtype}" for k, v in LISTS.items()}, "met": "float64"}
        )
        file["Events"].extend({**LISTS, "met": FLAT["met"]})  # fmt: skip
    pairs = int(ak.sum(COUNT >= 2))
    events = serendip.read(path, mass="mass(Muon,0,1)", features=["deltaR(Muon,0,1)", "met"])
    assert len(events) == pairs
    assert events.provenance["rows_in_file"] == N
    assert events.provenance["left_out"] == {
        f"{text}: no such object, NaN or infinite": N - pairs
        for text in ("mass(Muon,0,1)", "deltaR(Muon,0,1)")
    }
    assert f"{N - pairs} rows left out" in caplog.text
    np.testing.assert_allclose(
        events.m, mass_of(four_vector(0), four_vector(1))[np.asarray(COUNT >= 2)], rtol=1e-5
    )
    with pytest.raises(InputError, match=r"nano.root: 'Muon_pt' has a list of values"):
        serendip.read(path, mass="Muon_pt")
    with pytest.raises(InputError, match="a label, id or group has one"):
        serendip.read(path, mass="met", id="Muon_charge")
    found = audit(path)
    assert set(found.jagged) == set(LISTS)
    assert found.jagged["Muon_pt"] == "float32"


def test_conditions_on_missing_numbers_inside_lists():
    values = Jagged.of(np.array([2, 2, 2, 0, 1]), np.array([1, np.nan, 5, np.nan, 2, 1, np.nan]))
    columns = {"x": values, "m": np.arange(5)}
    np.testing.assert_array_equal(evaluate("count(x > 3)", columns), [np.nan, np.nan, 0, 0, np.nan])
    assert evaluate("count(x[!(x > 3)])", columns).tolist() == [1, 0, 2, 0, 0]
    assert evaluate("count(x[x > 1])", columns).tolist() == [0, 1, 1, 0, 0]
    for text, passing, undecided in (
        ("any(x > 3)", [0, 1, 0, 0, 0], [1, 0, 0, 0, 1]),
        ("all(x > 3)", [0, 0, 0, 1, 0], [0, 1, 0, 0, 1]),
        ("x[:,0] > 1", [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]),
        ("!(x[:,0] > 1)", [1, 0, 0, 0, 0], [0, 0, 0, 1, 1]),
        ("x[:,0] > 1 | m < 4", [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]),
    ):
        found = decide(text, columns)
        assert found[0].astype(int).tolist() == passing, text
        assert found[1].astype(int).tolist() == undecided, text
