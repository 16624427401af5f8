from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import uproot

from serendip import Events, read, write
from serendip.errors import InputError
from serendip.io.files import atomic_write

N = 300
SUFFIXES = ("parquet", "pq", "arrow", "feather", "csv", "csv.gz", "h5", "hdf5", "npz", "root")


@pytest.fixture
def events():
    rng = np.random.default_rng(1)
    return Events(
        columns={
            "mass": 1000 + rng.exponential(size=N),
            "tau2/(tau1+1e-5)": rng.normal(size=N).astype(np.float32),
            "tau2_(tau1+1e-5)": rng.normal(size=N),
            "n b": rng.integers(0, 9, N).astype(np.int8),
            "w": rng.random(N),
            "y": rng.random(N) < 0.1,
            "key": rng.permutation(10 * N)[:N],
        },
        mass="mass",
        features=("tau2/(tau1+1e-5)", "tau2_(tau1+1e-5)", "n b"),
        weight="w",
        label="y",
        id="key",
        provenance={"file": "origin.h5", "left_out": {"x is NaN or infinite": 3}},
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(events, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    write(events, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if "csv" in suffix or suffix == "npz":
        again = read(
            path, mass="mass", features=[f"`{f}`" for f in events.features], weight="w", label="y", id="key"
        )
    else:
        again = read(path)
    np.testing.assert_array_equal(again.m, events.m)
    np.testing.assert_array_equal(again.x, events.x)
    np.testing.assert_array_equal(again.weights, events.weights)
    np.testing.assert_array_equal(again.labels, events.labels)
    np.testing.assert_array_equal(again.ids, events.ids)
    if suffix == "root":
        assert again.features == ("tau2__tau1_1e_5_", "tau2__tau1_1e_5__", "n_b")
    else:
        assert again.features == events.features
    if suffix in ("parquet", "arrow", "h5"):
        assert again.digest() == events.digest()


def test_public_tools_read_the_files(events, tmp_path):
    for suffix in ("parquet", "csv", "h5", "root"):
        write(events, tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "a.parquet")["mass"], events.m)
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "a.csv")["n b"], events["n b"])
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(pd.DataFrame(file["events"][:])["tau2/(tau1+1e-5)"], events.x[:, 0])
    with uproot.open(tmp_path / "a.root") as file:
        np.testing.assert_array_equal(file["events"]["mass"].array(library="np"), events.m)


def test_roles_and_provenance_are_stored(events, tmp_path):
    write(events, tmp_path / "a.parquet")
    stored = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"serendip"])
    assert stored["mass"] == "mass"
    assert stored["features"] == list(events.features)
    assert stored["provenance"]["left_out"] == {"x is NaN or infinite": 3}
    # What the caller says wins over what the file says.
    again = read(tmp_path / "a.parquet", features=["n b"])
    assert (again.features, again.label, again.id) == (("n b",), "y", "key")
    assert read(tmp_path / "a.parquet", mass="mass", features=["n b"]).label is None


@pytest.mark.parametrize("suffix", ["parquet", "csv", "h5"])
def test_text_ids(events, suffix, tmp_path):
    ids = np.array([f"é{i}" for i in range(N)])
    columns = {"mass": events.m, "key": ids}
    write(Events(columns=columns, mass="mass", id="key"), tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}", mass="mass", id="key").ids, ids)


def test_text_cannot_go_to_root(tmp_path):
    events = Events(columns={"m": np.ones(2), "key": np.array(["a", "b"])}, mass="m", id="key")
    with pytest.raises(InputError, match="'key' holds text"):
        write(events, tmp_path / "a.root")
    assert list(tmp_path.iterdir()) == []


def test_bad_targets(events, tmp_path):
    with pytest.raises(InputError, match=r"'a.txt': the format is not known; expected"):
        write(events, tmp_path / "a.txt")
    with pytest.raises(
        InputError, match=r"cannot write 'a.parquet' in folder '.*missing': the folder does not exist"
    ):
        write(events, tmp_path / "missing" / "a.parquet")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(InputError, match=r"cannot write 'folder.h5'.* folder"):
        write(events, tmp_path / "folder.h5")
    assert [file.name for file in tmp_path.iterdir()] == ["folder.h5"]


@pytest.mark.skipif(os.name != "posix", reason="needs limits of the operating system")
@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz", "h5", "root"])
def test_a_full_disk_leaves_the_old_file(suffix, events, tmp_path):
    path = tmp_path / f"a.{suffix}"
    write(events, path)
    before = path.read_bytes()
    # A limit on the size of files fails in the same system call as a full disk.
    script = """
        import resource, sys
        import numpy as np
        from serendip import Events, write
        from serendip.errors import InputError
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        columns = {"m": np.random.default_rng(1).random(100_000)}
        try:
            write(Events(columns=columns, mass="m"), sys.argv[1])
        except InputError as error:
            print(error)
            sys.exit(error.exit_code)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert f"cannot write 'a.{suffix}' in folder" in run.stdout
    assert run.stderr == ""
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def write_half(path, error):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error


def test_atomic_write_replaces_only_when_complete(tmp_path):
    path = tmp_path / "results.json"
    with atomic_write(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error):
            write_half(path, error)
    assert path.read_text() == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("number", "message"),
    [(28, "the disk is full"), (13, "permission denied"), (30, "read-only"), (122, "quota")],
)
def test_atomic_write_names_the_reason(number, message, tmp_path):
    with (
        pytest.raises(InputError, match=rf"'a.json' in folder '.*': .*{message}"),
        atomic_write(tmp_path / "a.json"),
    ):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_leaves_other_errors_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"input.txt"), atomic_write(tmp_path / "a.json"):
        (tmp_path / "input.txt").read_text()
