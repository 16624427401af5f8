from __future__ import annotations

import gzip
import logging
import sys
import warnings

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import uproot

from serendip import read
from serendip.errors import InputError
from serendip.events.presets import jet_features

N = 500


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    return {
        "mass": 1000 + rng.exponential(size=N),
        "px": rng.normal(size=N),
        "py": rng.normal(size=N),
        "n": rng.integers(0, 9, N).astype(np.int32),
        "w": rng.random(N),
        "y": (np.arange(N) % 10 == 0).astype(np.int8),
        "event": rng.permutation(10 * N)[:N],
    }


def save_parquet(table, path):
    pq.write_table(pa.table(table), path)


def save_folder(table, path):
    path.mkdir()
    for i in range(3):
        part = {name: values[i * 200 : (i + 1) * 200] for name, values in table.items()}
        pq.write_table(pa.table(part), path / f"part-{i}.parquet")
    (path / "settings.json").write_text("{}")
    (path / "_metadata.parquet").write_text("not a table")


def save_csv(table, path):
    pd.DataFrame(table).to_csv(path, index=False)


def save_semicolons(table, path):
    pd.DataFrame(table).to_csv(path, index=False, sep=";")


def save_columns(table, path):
    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file["events/" + name] = values


def save_compound(table, path):
    with h5py.File(path, "w") as file:
        file["events"] = pd.DataFrame(table).to_records(index=False)


def save_fixed(table, path):
    pd.DataFrame(table).to_hdf(path, key="df")


def save_blosc(table, path):
    pd.DataFrame(table).to_hdf(path, key="df", complevel=5, complib="blosc")


def save_frame_table(table, path):
    pd.DataFrame(table).to_hdf(path, key="df", format="table")


def save_data_columns(table, path):
    pd.DataFrame(table).to_hdf(path, key="df", format="table", data_columns=True)


def save_tree(table, path):
    with uproot.recreate(path) as file:
        file.mktree("events", {name: values.dtype for name, values in table.items()})
        for low in range(0, N, 200):
            file["events"].extend({name: values[low : low + 200] for name, values in table.items()})


def save_ntuple(table, path):
    with uproot.recreate(path) as file:
        file.mkrntuple("events", table)


FORMATS = {
    "parquet": (save_parquet, "a.parquet"),
    "parquet folder": (save_folder, "a"),
    "csv": (save_csv, "a.csv"),
    "csv.gz": (save_csv, "a.csv.gz"),
    "csv with semicolons": (save_semicolons, "a.csv"),
    "feather": (lambda table, path: pyarrow.feather.write_feather(pa.table(table), path), "a.feather"),
    "npz": (lambda table, path: np.savez_compressed(path, **table), "a.npz"),
    "npy": (lambda table, path: np.save(path, pd.DataFrame(table).to_records(index=False)), "a.npy"),
    "hdf5 columns": (save_columns, "a.h5"),
    "hdf5 compound": (save_compound, "a.hdf5"),
    "pandas fixed": (save_fixed, "a.h5"),
    "pandas fixed with blosc": (save_blosc, "a.h5"),
    "pandas table": (save_frame_table, "a.h5"),
    "pandas table with data columns": (save_data_columns, "a.h5"),
    "root tree": (save_tree, "a.root"),
    "root ntuple": (save_ntuple, "a.root"),
}


def test_unit_converts_the_mass_only(table, tmp_path):
    save_parquet(table, tmp_path / "a.parquet")
    events = read(tmp_path / "a.parquet", mass="mass", features=["px"], unit="TeV", where="mass > 1001")
    kept = table["mass"] > 1001
    np.testing.assert_allclose(events.m, 1000 * table["mass"][kept])
    np.testing.assert_array_equal(events["px"], table["px"][kept])
    assert events.provenance["unit"] == "TeV"
    with pytest.raises(InputError, match="unit 'MeV' is not known"):
        read(tmp_path / "a.parquet", mass="mass", unit="MeV")


def parquet_with(tmp_path, table, **changes):
    path = tmp_path / "changed.parquet"
    save_parquet({**table, **changes}, path)
    return path


def with_values(values, rows, value):
    values = values.astype(np.float64)
    values[rows] = value
    return values


def test_rows_with_nan_are_left_out_and_counted(table, tmp_path, caplog):
    path = parquet_with(
        tmp_path,
        table,
        px=with_values(table["px"], [1, 2, 3], np.nan),
        py=with_values(table["py"], [3, 4], [-np.inf, 1e300]),
        mass=with_values(table["mass"], [5], np.inf),
        w=with_values(table["w"], [0], 2),
    )
    with caplog.at_level(logging.WARNING):
        events = read(path, mass="mass", features=["px", "py"], weight="w", label="y", where="w < 1")
    assert events.provenance["left_out"] == {
        "px is NaN or infinite": 3,
        "py is NaN or infinite": 2,
        "mass is NaN or infinite": 1,
    }
    assert events.ids.tolist() == list(range(6, N))
    np.testing.assert_array_equal(events.labels, table["y"][events.ids] == 1)
    assert np.isfinite(events.x).all()
    assert "5 rows left out" in caplog.text


def bad(changes, message, **options):
    return pytest.param(changes, message, options, id=message[:40])


@pytest.mark.parametrize(
    ("changes", "message", "options"),
    [
        bad({"px": np.full(N, np.nan)}, r"'px' is NaN or infinite in all 500 rows"),
        bad(
            {"px": np.arange(N) ** 2.0, "mass": 1.0 + np.arange(N)}, r"'px' has the order of the mass 'mass'"
        ),
        bad({"px": -np.arange(N), "mass": 1.0 + np.arange(N)}, r"'px' has the order of the mass"),
        bad(
            {"y": ["signal"] * N}, r"'y' has the text 'signal'.*a label is 1 for signal and 0 for background"
        ),
        bad({"px": np.full(N, 7.5)}, r"feature 'px' is constant \(7.5"),
        bad(
            {"px": 1e9 + np.linspace(0, 1, N)}, r"'px' runs from 1000000000 to 1000000001.*subtract an offset"
        ),
        bad({"mass": np.r_[np.ones(498), 0, -1]}, r"zero or negative in 2 rows, first in row 498"),
        bad({"w": np.r_[np.ones(497), -1, -2, 1]}, r"'w' is negative in 2 rows, first in row 497"),
        bad({"w": np.r_[np.ones(497), np.nan, 1, 1]}, r"'w' is NaN or infinite in 1 row, first in row 497"),
        bad({"w": np.zeros(N)}, r"'w' is 0 in all rows"),
        bad({"px": ["1.5"] * 3 + ["left"] * 497}, r"'px' has the text 'left' in row 3 "),
        bad({"mass": ["heavy"] * N}, r"'mass' has the text 'heavy' in row 0"),
        bad({"px": [[1.0, 2.0]] * N}, r"'px' has a list of values for each event"),
        bad({"event": np.r_[np.arange(499), 3]}, r"repeated in 1 row, first '3' in row 3 and row 499"),
        bad({"event": np.arange(N) + 0.5}, r"id column 'event' has values that are not integers"),
        bad(
            {"event": ["a"] * 2 + [str(i) for i in range(498)]},
            r"repeated in 1 row, first 'a' in row 0 and row 1",
        ),
        bad(
            {"event": [None] + [str(i) for i in range(499)]},
            r"id column 'event' is missing in 1 row, first in row 0",
        ),
        bad({"y": with_values(np.zeros(N), [9], np.nan)}, r"label 'y' is NaN in 1 row, first in row 9"),
        bad({}, r"feature 'y' uses column 'y', which is the label", features=["px", "y"]),
        bad({}, r"feature 'px\*y' uses column 'y', which is the label", features=["px*y"]),
        bad({}, r"feature 'px\+event' uses column 'event', which is the id", features=["px+event"]),
        bad({}, r"feature 'w' uses column 'w', which is the weight", features=["w"]),
        bad({}, r"weight 'w\*y' uses column 'y', which is the label", weight="w*y"),
        bad({}, r"mass 'mass\+y' uses column 'y', which is the label", mass="mass+y"),
        bad({}, r"'px' is given twice", features=["px", "py", "px"]),
        bad({}, r"'mass' is the mass and cannot also be a feature", features=["mass"]),
        bad({}, r"cut 'px > 99' leaves no event of 500", where="px > 99"),
        bad({}, r"cut 'px' is not a condition", where="px"),
        bad({}, r"__import__", where="__import__('os').system('true')"),
        bad({}, r"say which column is the mass", mass=None),
        bad({}, r"no preset 'cms'; there are: lhco", preset="cms"),
        bad({}, r"preset lhco needs a column 'pxj1'", preset="lhco"),
        bad({}, r"Parquet file holds one table", tree="events"),
        bad({}, r"no column 'evnt'; did you mean 'event'", id="evnt"),
    ],
)
def test_bad_input(changes, message, options, table, tmp_path):
    path = parquet_with(tmp_path, table, **changes)
    defaults = {"mass": "mass", "features": ["px", "py"], "weight": "w", "label": "y", "id": "event"}
    with pytest.raises(InputError, match=message):
        read(path, **{**defaults, **options})


def test_text_in_a_csv_column(table, tmp_path):
    path = tmp_path / "a.csv"
    save_csv(table, path)
    lines = path.read_text().splitlines()
    lines[301] = lines[301].replace(lines[301].split(",")[1], "n/a!", 1)
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"a.csv: column 'px' has the text 'n/a!' in row 300"):
        read(path, mass="mass", features=["px"])


def test_blanks_around_csv_names_and_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("m, x\n1, 2.5\n 3, 4\n")
    assert read(tmp_path / "a.csv", mass="m", features=["x"])["x"].tolist() == [2.5, 4]


def test_empty_cells_and_nan_in_csv_are_missing(tmp_path):
    (tmp_path / "a.csv").write_text("m,x,k\n1,2.5,1\n2,,2\n3,nan,3\n4,inf,\n5,7,5\n")
    events = read(tmp_path / "a.csv", mass="m", features=["x", "k"])
    assert events.ids.tolist() == [0, 4]
    assert events.provenance["left_out"] == {"x is NaN or infinite": 3, "k is NaN or infinite": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1.5,2.5\n3,4\n", "first line holds numbers"),
        ("a,b\n1,2\n3\n", "not a readable CSV table"),
        ("a,b\n", "no rows"),
        ("\n\n", "not a readable CSV"),
        ("a,a\n1,2\n", "'a' is duplicated"),
    ],
)
def test_bad_csv(content, message, tmp_path):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv", mass="a")


def test_text_ids(tmp_path):
    pq.write_table(pa.table({"m": [1.0, 2.0, 3.0], "k": ["b", "é", "a"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", mass="m", id="k", where="m > 1").ids.tolist() == ["é", "a"]


def test_missing_file_and_strange_names(tmp_path):
    with pytest.raises(InputError, match=r"there is no file '.*nothing.parquet'"):
        read(tmp_path / "nothing.parquet", mass="m")
    with pytest.raises(InputError, match="folder without event tables"):
        read(tmp_path, mass="m")
    (tmp_path / "events.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"'events.xlsx': the format is not known; expected .*\.parquet"):
        read(tmp_path / "events.xlsx", mass="m")


SINGLE = [key for key in FORMATS if key != "parquet folder"]


@pytest.mark.parametrize("name", SINGLE)
def test_a_suffix_that_lies(name, table, tmp_path):
    save, filename = FORMATS[name]
    save(table, tmp_path / filename)
    for suffix in (".parquet", ".feather", ".npz", ".h5", ".root", ".csv", ".csv.gz"):
        kind = {"hdf5": "h5", "npy": "npz"}.get(filename.split(".")[1], filename.split(".")[1])
        if suffix.split(".")[1] == kind:
            continue
        lying = tmp_path / f"lying{suffix}"
        lying.write_bytes((tmp_path / filename).read_bytes())
        with pytest.raises(InputError, match=rf"lying{suffix}'? ?(is named|: this is not)"):
            read(lying, mass="mass")


@pytest.mark.parametrize("name", SINGLE)
def test_truncated_files(name, table, tmp_path):
    save, filename = FORMATS[name]
    save(table, tmp_path / filename)
    whole = (tmp_path / filename).read_bytes()
    for fraction in (0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        cut = whole[: int(fraction * len(whole))]
        if filename.endswith(".csv"):
            # A text cut in the middle of a line has too few values there.
            cut = cut[: cut.rfind(b",") - 8] if fraction > 0.1 and b"," in cut else b""
        (tmp_path / filename).write_bytes(cut)
        with pytest.raises(InputError, match=rf"'?{filename}'?.*(truncated|is empty|is not|not a readable)"):
            read(tmp_path / filename, mass="mass", features=["px", "n"])


@pytest.mark.parametrize(
    "name",
    ["parquet", "feather", "npz", "npy", "csv.gz", "pandas fixed with blosc", "root tree", "root ntuple"],
)
def test_damaged_files_never_give_a_traceback(name, table, tmp_path):
    save, filename = FORMATS[name]
    save(table, tmp_path / filename)
    whole = bytearray((tmp_path / filename).read_bytes())
    rng = np.random.default_rng(2)
    for _ in range(15):
        damaged = bytearray(whole)
        at = int(rng.integers(8, len(whole) - 40))
        damaged[at : at + 32] = rng.bytes(32)
        (tmp_path / filename).write_bytes(damaged)
        try:
            read(tmp_path / filename, mass="mass", features=["px", "n"])
        except InputError as error:
            assert filename in str(error)  # noqa: PT017


def test_several_tables_must_be_picked(table, tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["events"] = {"m": table["mass"]}
        file["folder/other"] = {"m": 2 * table["mass"]}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events/m"] = table["mass"]
        file["folder/other/m"] = 2 * table["mass"]
    for name in ("a.root", "a.h5"):
        with pytest.raises(InputError, match=r"2 .*events, /?folder/other; pick one with --tree"):
            read(tmp_path / name, mass="m")
        np.testing.assert_array_equal(
            read(tmp_path / name, mass="m", tree="folder/other").m, 2 * table["mass"]
        )
        with pytest.raises(InputError, match=r"'event'; did you mean '/?events'"):
            read(tmp_path / name, mass="m", tree="event")


def test_root_file_without_table(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["h"] = np.histogram([1.0, 2.0])
    with pytest.raises(InputError, match="there is no TTree or RNTuple"):
        read(tmp_path / "a.root", mass="m")


def test_hdf5_columns_of_another_length(table, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["m"], file["x"], file["edges"] = table["mass"], table["px"], np.arange(7)
        file["images"] = np.zeros((N, 3, 3))
    assert len(read(tmp_path / "a.h5", mass="m", features=["x"])) == N
    with pytest.raises(InputError, match="'edges' has 7 rows while most columns have 500"):
        read(tmp_path / "a.h5", mass="m", features=["edges"])
    with pytest.raises(InputError, match="'images' has a list of values"):
        read(tmp_path / "a.h5", mass="m", features=["images"])


def test_hdf5_matrix_has_numbers_as_names(table, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.stack([table["mass"], table["px"]], axis=1)
    np.testing.assert_array_equal(read(tmp_path / "a.h5", mass="0", features=["1"])["1"], table["px"])


def test_missing_hdf5_filter_says_what_to_install(table, tmp_path, monkeypatch):
    save_blosc(table, tmp_path / "a.h5")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 32001)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(InputError, match=r"'blosc'.*pip install 'serendip\[hdf\]'"):
        read(tmp_path / "a.h5", mass="mass")


def test_pandas_text_columns_are_not_unpickled(table, tmp_path):
    frame = pd.DataFrame({"m": table["mass"], "name": pd.Series(["a"] * N, dtype=object)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        frame.to_hdf(tmp_path / "a.h5", key="df")
    assert len(read(tmp_path / "a.h5", mass="m")) == N
    with pytest.raises(InputError, match="'name' is stored as Python objects"):
        read(tmp_path / "a.h5", mass="m", id="name")


def test_a_feature_with_equal_values_in_a_sorted_file_is_not_the_mass(tmp_path):
    n = 2000
    rare = (np.arange(n) % 100 == 7) * 1.0
    pq.write_table(pa.table({"m": 1.0 + np.arange(n), "x": rare}), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet", mass="m", features=["x"])) == n


def test_a_part_without_a_column_is_named(tmp_path):
    pq.write_table(pa.table({"m": [1.0, 2.0], "x": [1.0, 3.0], "z": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"m": [1.0, 2.0], "z": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"part 'b.parquet' has no column 'x'"):
        read(tmp_path, mass="m", features=["x"])
    assert len(read(tmp_path, mass="m", features=["z"])) == 4


def test_partitioned_folder(tmp_path):
    for sample in (1, 2):
        (tmp_path / f"sample={sample}").mkdir()
        pq.write_table(pa.table({"m": [1.0 * sample, 3.0]}), tmp_path / f"sample={sample}" / "a.parquet")
    events = read(tmp_path, mass="m", features=["sample"])
    assert events["sample"].tolist() == [1, 1, 2, 2]
    assert events.m.tolist() == [1, 3, 2, 3]


def test_gzip_is_read_as_text(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"m x\n1 2\n3 4\n"))
    assert read(tmp_path / "a.csv.gz", mass="m", features=["x"])["x"].tolist() == [2, 4]


def test_jet_features_of_two_hand_made_jets():
    jets = {
        "px": (300, -300),
        "py": (0, 0),
        "pz": (400, 400),
        "m": (120, 50),
        "tau1": (0, 2),
        "tau2": (1e-5, 1),
    }
    columns = {f"{name}j{j}": np.array([float(value[j - 1])]) for name, value in jets.items() for j in (1, 2)}
    found = jet_features(columns)
    energy = np.sqrt(500**2 + 120**2) + np.sqrt(500**2 + 50**2)
    assert found["mjj"] == pytest.approx(np.sqrt(energy**2 - 800**2))
    assert (found["mj1"], found["delta_mj"]) == (50, 70)
    assert found["tau21_j1"] == pytest.approx(1 / (2 + 1e-5))
    assert found["tau21_j2"] == pytest.approx(1.0)


LHCO = "lhco_rd_v1/events_anomalydetection_v1_first100k.features.h5"


def test_lhco_features_file(shared_data):
    import hdf5plugin  # noqa: F401

    events = read(shared_data / LHCO, preset="lhco")
    with h5py.File(shared_data / LHCO) as file:
        names = file["df/block0_items"][:].astype(str)
        jets = pd.DataFrame(file["df/block0_values"][:], columns=names)
    energy = sum(
        np.sqrt(jets[f"pxj{j}"] ** 2 + jets[f"pyj{j}"] ** 2 + jets[f"pzj{j}"] ** 2 + jets[f"mj{j}"] ** 2)
        for j in (1, 2)
    )
    momentum = [jets[f"{p}j1"] + jets[f"{p}j2"] for p in ("px", "py", "pz")]
    mjj = np.sqrt(energy**2 - sum(p**2 for p in momentum))
    np.testing.assert_allclose(events.m, mjj, rtol=1e-9)
    assert events.features == ("mj1", "delta_mj", "tau21_j1", "tau21_j2")
    np.testing.assert_array_equal(events["mj1"], jets[["mj1", "mj2"]].min(axis=1))
    np.testing.assert_allclose(events["mj1"] + events["delta_mj"], jets[["mj1", "mj2"]].max(axis=1))
    row = int(np.flatnonzero(jets["mj1"] > jets["mj2"])[0])
    assert events["tau21_j1"][row] == jets["tau2j2"][row] / (jets["tau1j2"][row] + 1e-5)
    assert events["tau21_j2"][row] == jets["tau2j1"][row] / (jets["tau1j1"][row] + 1e-5)
    assert (len(events), int(events.labels.sum())) == (100_000, 9059)
    # W' -> XY with 3.5 TeV, 500 GeV and 100 GeV
    signal = events.labels
    assert abs(np.median(events.m[signal]) - 3500) < 100
    assert abs(np.median(events["mj1"][signal]) - 100) < 15
    assert abs(np.median(events["mj1"][signal] + events["delta_mj"][signal]) - 500) < 25
    assert np.isfinite(events.x).all()


def test_lhco_with_own_features_and_cut(shared_data):
    events = read(
        shared_data / LHCO,
        preset="lhco",
        features=["delta_mj", "tau3j1/(tau2j1+1e-5)"],
        where="label == 0 & mjj > 3000",
    )
    assert events.features == ("delta_mj", "tau3j1/(tau2j1+1e-5)")
    assert not events.labels.any()
    assert events.m.min() > 3000
    with pytest.raises(InputError, match="files in GeV; remove --unit"):
        read(shared_data / LHCO, preset="lhco", unit="TeV")


def test_lhco_preset_on_the_pythia_sample(shared_data):
    events = read(shared_data / "pythia_dijet" / "events.parquet", preset="lhco")
    assert (len(events), int(events.labels.sum())) == (200_000, 20_000)
    assert abs(np.median(events.m[events.labels]) - 3500) < 150


def test_lhco_raw_file_agrees_with_the_features_file(shared_data):
    pytest.importorskip("fastjet")
    raw = read(shared_data / "lhco_rd_v1" / "events_anomalydetection_tiny.h5", preset="lhco")
    ready = read(shared_data / LHCO, preset="lhco")
    assert len(raw) == 1000
    # The features file holds the same events in another order.
    order = np.argsort(ready.m)
    twin = order[np.clip(np.searchsorted(ready.m[order], raw.m - 1e-6), 0, len(order) - 1)]
    np.testing.assert_allclose(raw.m, ready.m[twin], rtol=1e-9)
    np.testing.assert_array_equal(raw.labels, ready.labels[twin])
    np.testing.assert_allclose(raw["mj1"], ready["mj1"][twin], atol=1e-6)
    np.testing.assert_allclose(raw["delta_mj"], ready["delta_mj"][twin], atol=1e-6)
    for name in ("tau21_j1", "tau21_j2"):
        # The axes of n-subjettiness are found by a minimisation that may end elsewhere.
        assert np.mean(np.abs(raw[name] - ready[name][twin]) < 0.02) > 0.8


def test_lhco_raw_columns_have_numbers_as_names(shared_data):
    events = read(
        shared_data / "lhco_rd_v1" / "events_anomalydetection_tiny.h5", mass="0", features=["1"], label="2100"
    )
    assert len(events) == 1000
    assert set(np.unique(events["2100"])) == {0.0, 1.0}


def test_real_root_files(shared_data):
    folder = shared_data / "root"
    with uproot.open(folder / "uproot-HZZ.root") as file:
        bare = file["events"].arrays(["MET_px", "MET_py", "NJet"], library="np")
    events = read(folder / "uproot-HZZ.root", mass="hypot(MET_px,MET_py)", features=["NJet"])
    np.testing.assert_allclose(events.m, np.hypot(bare["MET_px"], bare["MET_py"]), rtol=1e-6)
    np.testing.assert_array_equal(events["NJet"], bare["NJet"])
    with pytest.raises(InputError, match=r"uproot-HZZ.root: 'Jet_Px' has a list of values for each event"):
        read(folder / "uproot-HZZ.root", mass="Jet_Px")
    nano = folder / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    events = read(nano, mass="MET_pt", features=["nJet", "PV_npvs"], id="event", where="nMuon>0 & MET_pt>20")
    assert 0 < len(events) < 200
    assert len(set(events.ids.tolist())) == len(events)
    with pytest.raises(InputError, match=r"'Jet_pt' has a list of values for each event"):
        read(nano, mass="MET_pt", features=["Jet_pt"])
    muons = folder / "Run2012BC_DoubleMuParked_Muons_1000evts_rntuple_v1-0-0-0.root"
    assert len(read(muons, mass="nMuon", where="nMuon > 0")) > 500
    with pytest.raises(InputError, match="Muon_pt"):
        read(muons, mass="Muon_pt")


def test_darkmachines_events_are_refused_readably(shared_data):
    for path in (shared_data / "darkmachines" / "channel_1").glob("*.csv"):
        with pytest.raises(InputError, match=r"the first line holds numbers .* is an event"):
            read(path, mass="m")
