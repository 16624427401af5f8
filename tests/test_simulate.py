import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from typer.testing import CliRunner

from serendip.errors import InputError
from serendip.simulate import dijet
from serendip.simulate.detector import Detector, detect
from serendip.simulate.dijet import read_settings, simulate_dijet
from serendip.simulate.embedded import condense, embedded_sample_path, round_mantissa
from serendip.simulate.pythia import Particles, decay_settings, generate, make_pythia, qcd_settings

PHOTON, PION, NEUTRON, MUON = 22, 211, 2112, 13


def gun(pdg, energy, eta, phi, counts=None):
    energy, eta, phi = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (energy, eta, phi)))
    pt = energy / np.cosh(eta)
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy])
    n = energy.size
    counts = np.ones(n, dtype=np.int64) if counts is None else np.asarray(counts)
    return Particles(np.broadcast_to(np.asarray(pdg, dtype=np.int32), n), p4.reshape(4, n), counts)


def relative_spread(measured, true):
    return np.std(measured) / true


# Detector


@pytest.mark.parametrize(
    ("pdg", "eta", "expected"),
    [
        (PHOTON, 0.5, np.hypot(0.10 / 10, 0.007)),
        (NEUTRON, 0.5, np.hypot(0.90 / 10, 0.05)),
        (PION, 0.5, 0.01 + 5e-5 * 100 / np.cosh(0.5)),
        (PION, 3.0, np.hypot(0.90 / 10, 0.05)),
        (11, 3.0, np.hypot(0.10 / 10, 0.007)),
    ],
)
def test_resolution_of_100_gev_particles(pdg, eta, expected):
    n = 4000
    rng = np.random.default_rng(1)
    out = detect(gun(pdg, np.full(n, 100.0), eta, rng.uniform(-3, 3, n)), rng)
    assert np.array_equal(out.counts, np.ones(n))
    # five standard errors of a standard deviation and of a mean
    assert relative_spread(out.p4[3], 100.0) == pytest.approx(expected, rel=5 / np.sqrt(2 * n))
    assert out.p4[3].mean() == pytest.approx(100.0, rel=5 * expected / np.sqrt(n) + 1e-3 + 0.05 * (eta > 2.5))


def test_objects_are_massless():
    rng = np.random.default_rng(2)
    px, py, pz, energy = detect(gun(PION, rng.uniform(5, 50, 300), rng.normal(0, 2, 300), 0.3), rng).p4
    np.testing.assert_allclose(energy**2, px**2 + py**2 + pz**2, rtol=1e-12)


@pytest.mark.parametrize(("pdg", "cell"), [(PHOTON, 0.0174), (NEUTRON, 0.087)])
def test_granularity(pdg, cell):
    rng = np.random.default_rng(3)
    eta, phi = rng.uniform(-2, 2, 500), rng.uniform(-np.pi, np.pi, 500)
    px, py, pz, _ = detect(gun(pdg, np.full(500, 500.0), eta, phi), rng).p4
    measured = np.arcsinh(pz / np.hypot(px, py))
    np.testing.assert_allclose((measured / cell) % 1, 0.5, atol=1e-6)
    assert 0.45 * cell < np.abs(measured - eta).max() <= 0.5 * cell + 1e-9
    dphi = np.abs(np.angle(np.exp(1j * (np.arctan2(py, px) - phi))))
    assert 0.4 * cell < dphi.max() < 0.51 * cell


def test_particles_in_one_cell_are_summed_but_not_across_events():
    rng = np.random.default_rng(4)
    both = gun(PHOTON, [40.0, 60.0, 40.0, 60.0], [0.001, 0.002, 0.001, 0.002], 0.0005, counts=[2, 0, 1, 1])
    out = detect(both, rng, Detector(ecal_stochastic=0.0, ecal_constant=0.0))
    assert out.counts.tolist() == [1, 0, 1, 1]
    np.testing.assert_allclose(out.p4[3], [100.0, 40.0, 60.0])


@pytest.mark.parametrize(
    ("pdg", "energy", "eta", "seen"),
    [
        (PION, 50.0, 2.4, True),
        (MUON, 50.0, 2.4, True),
        (MUON, 50.0, 2.6, False),
        (-MUON, 50.0, -2.6, False),
        (PION, 50.0, 2.6, True),
        (PHOTON, 80.0, 4.8, True),
        (PHOTON, 80.0, 5.0, False),
        (NEUTRON, 80.0, -5.0, False),
        (PION, 0.4, 0.0, False),
        (PION, 0.7, 0.0, True),
        (PHOTON, 0.1, 0.0, False),
    ],
)
def test_acceptance(pdg, energy, eta, seen):
    out = detect(gun(pdg, np.full(20, energy), eta, 0.1), np.random.default_rng(5))
    assert (out.counts > 0).mean() == float(seen)


# Pythia


@pytest.fixture(scope="module")
def qcd():
    pytest.importorskip("pythia8mc")
    return generate(make_pythia(qcd_settings(1050.0), 7), 20)


def test_particles_are_stable_visible_and_nearly_conserve_momentum(qcd):
    assert len(qcd.counts) == 20
    assert qcd.counts.sum() == len(qcd.pdg) == qcd.p4.shape[1]
    assert not np.isin(np.abs(qcd.pdg), [12, 14, 16, 1, 2, 3, 4, 5, 21, 111]).any()
    event = np.repeat(np.arange(20), qcd.counts)
    energy = np.bincount(event, weights=qcd.p4[3])
    assert energy.max() <= 13000.001
    assert np.median(energy) == pytest.approx(13000.0, rel=1e-3)
    pt = np.hypot(np.bincount(event, weights=qcd.p4[0]), np.bincount(event, weights=qcd.p4[1]))
    assert np.median(pt) < 50.0


def test_settings_that_pythia_refuses():
    pytest.importorskip("pythia8mc")
    with pytest.raises(InputError, match="NoSuch:thing"):
        make_pythia(["NoSuch:thing = 1"], 1)


@pytest.mark.parametrize("prongs", [2, 3])
def test_resonances_decay_to_the_prongs_with_the_masses(prongs):
    pytest.importorskip("pythia8mc")
    import awkward as ak

    pythia = make_pythia([*decay_settings((4000.0, 700.0, 200.0), prongs), "HadronLevel:all = off"], 3)
    particles = pythia.nextBatch(40).prt
    mother = particles.id[particles.mother1]
    codes = ((23, 700.0), (24, 200.0)) if prongs == 2 else ((9900041, 700.0), (9900042, 200.0))
    for code, mass in codes:
        first_copy = particles[(abs(particles.id) == code) & (particles.status == -22)]
        assert ak.to_numpy(ak.num(first_copy)).tolist() == [1] * 40
        masses = ak.to_numpy(ak.flatten(first_copy.m))
        assert np.median(masses) == pytest.approx(mass, rel=0.005)
        products = particles[(abs(mother) == code) & (abs(particles.status) == 23)]
        flavours = np.sort(np.abs(ak.to_numpy(ak.to_regular(products.id))), axis=1)
        assert flavours.shape == (40, prongs)
        assert (flavours[:, :2] <= 4).all()
        assert (flavours[:, 2:] == 21).all()
        # before any shower each product is on its mass shell and together they are the resonance
        total = [ak.to_numpy(ak.sum(products.p[name], axis=1)) for name in ("px", "py", "pz", "e")]
        np.testing.assert_allclose(
            total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2, masses**2, rtol=1e-6
        )


# The whole chain


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """40 background and 24 signal events in chunks of 24."""
    pytest.importorskip("pythia8mc")
    folder = tmp_path_factory.mktemp("simulated")
    chunk, dijet._CHUNK = dijet._CHUNK, 24
    try:
        return simulate_dijet(folder / "a.parquet", 40, 24, seed=3)
    finally:
        dijet._CHUNK = chunk


def test_columns_selection_and_truth(sample):
    table = pq.read_table(sample)
    names = [
        f"{name}{j}" for j in ("j1", "j2") for name in ("px", "py", "pz", "m", "tau1", "tau2", "tau3", "n")
    ]
    assert table.column_names == [*names, "label", "id"]
    t = {name: table[name].to_numpy() for name in table.column_names}
    assert (t["label"] == 1).sum() == 24
    assert len(table) == 64
    assert t["id"].tolist() == list(range(64))
    assert 0 < np.flatnonzero(t["label"]).mean() - 11.5 < 40  # shuffled, not the signal first or last
    pt1, pt2 = np.hypot(t["pxj1"], t["pyj1"]), np.hypot(t["pxj2"], t["pyj2"])
    assert pt1.min() > 1200
    assert (pt1 >= pt2).all()
    assert np.abs(np.arcsinh(t["pzj1"] / pt1)).max() < 2.5
    assert all(np.isfinite(values).all() for values in t.values())
    assert (t["tau1j1"] >= t["tau3j1"]).mean() > 0.95
    signal = t["label"] == 1
    p = {k: t[k + "j1"].astype(float) + t[k + "j2"] for k in ("px", "py", "pz")}
    energy = sum(
        np.sqrt(sum(t[k + j].astype(float) ** 2 for k in ("px", "py", "pz", "m"))) for j in ("j1", "j2")
    )
    mjj = np.sqrt(energy**2 - p["px"] ** 2 - p["py"] ** 2 - p["pz"] ** 2)
    assert np.median(mjj[signal]) == pytest.approx(3480.0, abs=100.0)
    masses = np.sort(np.stack([t["mj1"], t["mj2"]]), axis=0)[:, signal]
    assert np.median(masses, axis=1) == pytest.approx([103.0, 495.0], rel=0.1)


def test_settings_are_in_the_file(sample):
    settings = read_settings(sample)
    assert settings["seed"] == 3
    assert settings["masses_gev"] == [3500.0, 500.0, 100.0]
    assert settings["generated"]["background"] > 40
    assert "HardQCD:all = on" in settings["pythia"]["background"]
    assert settings["detector"]["hcal_cell"] == 0.087
    assert not (sample.parent / f".{sample.name}.parts").exists()


def test_interrupted_and_parallel_runs_end_with_the_same_bytes(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(dijet, "_CHUNK", 24)
    out = tmp_path / "b.parquet"

    def stop_after_one(done, total):
        assert total == 64
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_dijet(out, 40, 24, seed=3, progress=stop_after_one)
    assert not out.exists()
    assert len(list((tmp_path / ".b.parquet.parts").glob("*.parquet"))) == 1
    with pytest.raises(InputError, match="unfinished simulation with other settings"):
        simulate_dijet(out, 40, 24, seed=4)
    calls = []
    simulate_dijet(out, 40, 24, seed=3, jobs=2, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (24, 64)
    assert calls[-1] == (64, 64)
    assert out.read_bytes() == sample.read_bytes()


def test_finished_output_is_kept_and_protected(sample):
    before = sample.stat().st_mtime_ns
    assert simulate_dijet(sample, 40, 24, seed=3) == sample
    assert sample.stat().st_mtime_ns == before
    for change in (
        {"seed": 4},
        {"mpi": True},
        {"prongs": 3},
        {"masses": (3600.0, 500.0, 100.0)},
        {"pthat_min": 1000.0},
    ):
        with pytest.raises(InputError, match="other settings"):
            simulate_dijet(sample, 40, 24, **{"seed": 3} | change)
    foreign = sample.parent / "foreign.parquet"
    foreign.write_text("not a table")
    with pytest.raises(InputError, match="not a Parquet file"):
        simulate_dijet(foreign, 40, 24, seed=3)
    assert foreign.read_text() == "not a table"


def test_seeds_give_other_events(sample, tmp_path):
    other = simulate_dijet(tmp_path / "other.parquet", 10, 0, seed=4)
    first, second = (set(pq.read_table(path)["pxj1"].to_pylist()) for path in (sample, other))
    assert not first & second


def test_options_reach_the_generator(tmp_path, monkeypatch):
    pytest.importorskip("pythia8mc")
    calls = []

    def recorded(lines, seed, *, mpi):
        calls.append((lines, seed, mpi))
        return make_pythia(lines, seed, mpi=mpi)

    monkeypatch.setattr(dijet, "make_pythia", recorded)
    simulate_dijet(tmp_path / "x.parquet", 2, 2, (3000.0, 300.0, 200.0), 3, mpi=True, pthat_min=1150.0)
    assert [lines for lines, _, _ in calls] == [
        qcd_settings(1150.0),
        decay_settings((3000.0, 300.0, 200.0), 3),
    ]
    assert all(mpi for _, _, mpi in calls)
    assert calls[0][1] != calls[1][1]


def test_multiparton_interactions_add_particles(qcd):
    busy = generate(make_pythia(qcd_settings(1050.0), 7, mpi=True), 15)
    assert busy.counts.mean() > 1.3 * qcd.counts.mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": -1}, "-1 background"),
        ({"background": 0, "signal": 0}, "one of them more"),
        ({"masses": (3500.0, 3000.0, 600.0)}, "95 %"),
        ({"masses": (3500.0, float("nan"), 100.0)}, "three positive masses"),
        ({"masses": (3500.0, 500.0)}, "three positive masses"),
        ({"masses": (20000.0, 500.0, 100.0)}, "W' mass"),
        ({"prongs": 4}, "4 prongs"),
        ({"seed": -1}, "seed -1"),
        ({"jobs": 0}, "0 jobs"),
        ({"pthat_min": 1300.0}, "pTHat 1300"),
    ],
)
def test_arguments_without_sense_write_nothing(tmp_path, change, message):
    arguments = {"background": 5, "signal": 5} | change
    with pytest.raises(InputError, match=message):
        simulate_dijet(tmp_path / "x.parquet", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        simulate_dijet(tmp_path / "file" / "x.parquet", 5, 0)


def test_missing_pythia_says_how_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"pip install 'serendip\[simulate\]'"):
        simulate_dijet(tmp_path / "x.parquet", 5, 0)
    assert list(tmp_path.iterdir()) == []


def test_command(tmp_path):
    pytest.importorskip("pythia8mc")
    from serendip.cli.simulate import app

    out = tmp_path / "c.parquet"
    arguments = ["dijet", "--background", "4", "--signal", "3", "--masses", "3000,400,200", "--prongs", "3"]
    done = CliRunner().invoke(app, [*arguments, "--seed", "9", "--jobs", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "4 background and 3 signal events" in done.output
    settings = read_settings(out)
    assert (settings["masses_gev"], settings["prongs"], settings["seed"]) == ([3000.0, 400.0, 200.0], 3, 9)
    bad = CliRunner().invoke(app, ["dijet", "--background", "4", "--masses", "3000,400", "--out", str(out)])
    assert isinstance(bad.exception, InputError)
    assert "--masses 3000,400" in str(bad.exception)


# The embedded sample


@pytest.fixture(scope="module")
def embedded():
    table = pq.read_table(embedded_sample_path())
    return {name: table[name].to_numpy() for name in table.column_names}


def test_embedded_sample_size_and_columns(embedded):
    path = embedded_sample_path()
    assert path.stat().st_size <= 6_000_000
    assert (embedded["truth"] == 0).sum() >= 100_000
    assert {"mjj", "mj1", "delta_mj", "tau21_j1", "tau21_j2", "id", "truth"} <= set(embedded)
    assert not any("label" in name or "signal" in name for name in embedded)
    assert np.array_equal(embedded["id"], np.arange(len(embedded["id"])))
    assert all(np.isfinite(values).all() for values in embedded.values())
    assert embedded["delta_mj"].min() >= 0
    schema = pq.read_schema(path)
    assert schema.field("mjj").metadata[b"unit"] == b"GeV"
    assert json.loads(schema.metadata[b"serendip"])["process"] == "dijet"


def test_embedded_signal_is_invisible_in_the_spectrum_and_in_the_row_order(embedded):
    signal = embedded["truth"] == 1
    window = np.abs(embedded["mjj"] / 3500.0 - 1) < 0.06
    s, b = (window & signal).sum(), (window & ~signal).sum()
    assert 2.2 < s / np.sqrt(b) < 2.8
    assert stats.kstest(np.flatnonzero(signal) / len(signal), "uniform").pvalue > 0.01


def test_condensing_keeps_the_physics(sample, tmp_path):
    out = {
        k: v.to_numpy() for k, v in zip(*_columns(condense(sample, tmp_path / "small.parquet")), strict=True)
    }
    raw = {k: v.to_numpy() for k, v in zip(*_columns(sample), strict=True)}
    low, high = np.minimum(raw["mj1"], raw["mj2"]), np.maximum(raw["mj1"], raw["mj2"])
    np.testing.assert_allclose(out["mj1"], low, rtol=2**-14)
    np.testing.assert_allclose(out["mj1"] + out["delta_mj"], high, rtol=2**-13)
    lighter_first = raw["mj1"] <= raw["mj2"]
    tau21 = np.where(
        lighter_first, raw["tau2j1"] / (raw["tau1j1"] + 1e-5), raw["tau2j2"] / (raw["tau1j2"] + 1e-5)
    )
    np.testing.assert_allclose(out["tau21_j1"], tau21, rtol=2**-12)
    e = [np.sqrt(sum(raw[k + j].astype(float) ** 2 for k in ("px", "py", "pz", "m"))) for j in ("j1", "j2")]
    dot = e[0] * e[1] - sum(raw[k + "j1"].astype(float) * raw[k + "j2"] for k in ("px", "py", "pz"))
    np.testing.assert_allclose(
        out["mjj"], np.sqrt(low.astype(float) ** 2 + high.astype(float) ** 2 + 2 * dot), rtol=1e-5
    )
    assert np.array_equal(out["truth"], raw["label"])


def _columns(path):
    table = pq.read_table(path)
    return table.column_names, table.columns


def test_rounding_of_the_mantissa():
    values = np.random.default_rng(1).lognormal(0, 3, 10_000).astype(np.float32)
    rounded = round_mantissa(values, 12)
    error = np.abs(rounded / values.astype(float) - 1)
    assert 2**-14 < error.max() <= 2**-13
    assert not (rounded.view(np.uint32) & (2**11 - 1)).any()
    assert round_mantissa(np.zeros(1), 12)[0] == 0


def test_embedded_sample_is_found_without_loading_the_simulation():
    code = (
        "import sys; from serendip.simulate.embedded import embedded_sample_path; embedded_sample_path();"
        "print([m for m in ('pythia8mc', 'fastjet', 'torch', 'serendip.simulate.dijet') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Comparison with an independent sample


@pytest.mark.slow
def test_features_agree_with_an_independent_simulation(shared_data, tmp_path):
    theirs = pq.read_table(shared_data / "pythia_dijet" / "events.parquet")
    ours = pq.read_table(simulate_dijet(tmp_path / "big.parquet", 4000, 4000, seed=11))
    for label in (0, 1):
        a, b = (
            {name: t[name].to_numpy()[t["label"].to_numpy() == label] for name in theirs.column_names}
            for t in (ours, theirs)
        )
        for t in (a, b):
            t["pt1"], t["pt2"] = np.hypot(t["pxj1"], t["pyj1"]), np.hypot(t["pxj2"], t["pyj2"])
        for name in ("pt1", "pt2", "mj1", "mj2", "tau1j1", "tau1j2", "tau2j1", "tau3j1"):
            error = np.hypot(a[name].std() / np.sqrt(len(a[name])), b[name].std() / np.sqrt(len(b[name])))
            # the other detector has no thresholds: 3 % of the mean beside the statistical error
            assert abs(a[name].mean() - b[name].mean()) < 4 * error + 0.03 * b[name].mean(), (label, name)


@pytest.mark.slow
def test_benchmark_table_can_be_made():
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "simulation.py"
    pytest.importorskip("pythia8mc")
    done = subprocess.run(
        [sys.executable, str(script), "--events", "40"], capture_output=True, text=True, check=True
    )
    assert "events/s/core" in done.stdout
