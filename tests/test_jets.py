import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.features.jets import leading_jets, n_subjettiness
from serendip.features.lhco import FEATURE_COLUMNS, cluster_raw

pytest.importorskip("fastjet")


def massless(pt, eta, phi):
    pt, eta, phi = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (pt, eta, phi))
    return pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)


def random_events(n_events, rng):
    """Two sprays of particles, back to back, in each event."""
    counts = rng.integers(20, 60, n_events)
    n = counts.sum()
    side = rng.random(n) < 0.5
    phi = np.where(side, 0.3, 0.3 + np.pi) + rng.normal(0, 0.2, n)
    return massless(rng.exponential(20.0, n) + 0.1, rng.normal(0, 0.2, n), phi), counts


def test_real_events_agree_with_the_feature_file(shared_data):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("hdf5plugin")
    folder = shared_data / "lhco_rd_v1"
    with h5py.File(folder / "events_anomalydetection_tiny.h5") as f:
        raw = f["df/block0_values"][:]
    with h5py.File(folder / "events_anomalydetection_v1_first100k.features.h5") as f:
        table, names = f["df/block0_values"][:], [name.decode() for name in f["df/block0_items"][:]]
    ours = cluster_raw(raw)
    # The raw file holds events of the feature file in another order.
    row = {tuple(key): i for i, key in enumerate(np.round(table[:, :2], 3).tolist())}
    keys = np.round(np.stack([ours["pxj1"], ours["pyj1"]], axis=1), 3).tolist()
    expected = table[[row[tuple(key)] for key in keys]]
    expected = dict(zip(names, expected.T, strict=True))
    assert np.array_equal(expected["label"], raw[:, 2100])
    for j in ("j1", "j2"):
        for name in ("px", "py", "pz"):
            np.testing.assert_allclose(ours[name + j], expected[name + j], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours["m" + j], np.maximum(expected["m" + j], 0), rtol=1e-9, atol=1e-5)
        # The feature file does not wrap azimuth: a jet across phi = pi got a large tau there.
        inside = np.abs(np.arctan2(expected["py" + j], expected["px" + j])) < np.pi - 1.8
        assert inside.sum() > 300
        for name in ("tau1", "tau2", "tau3"):
            ours_tau, file_tau = ours[name + j], expected[name + j]
            np.testing.assert_allclose(ours_tau[inside], file_tau[inside], rtol=1e-9, atol=1e-12)
            assert np.mean(np.abs(ours_tau - file_tau) < 1e-9) > 0.8
            assert ours_tau.max() < 1.0 < file_tau.max() or name == "tau3"


def test_tau_of_particles_placed_by_hand():
    # A pair at phi = +-0.01 and a third particle at 0.5, all of one pT: the pair is the first axis.
    p4 = massless([50.0, 50.0, 50.0], [0, 0, 0], [0.01, -0.01, 0.5])
    tau = n_subjettiness(*p4, [3])[0]
    assert tau[1] == pytest.approx(2 * 0.01 / 3, rel=1e-9)
    axis = np.arctan2(p4[1].sum(), p4[0].sum())
    assert tau[0] == pytest.approx((abs(0.01 - axis) + abs(-0.01 - axis) + abs(0.5 - axis)) / 3, rel=1e-9)
    assert tau[2] == 0.0


def test_tau_is_normalised_to_the_radius():
    p4 = massless([50.0, 50.0, 50.0], [0, 0.3, 0], [0.01, -0.01, 0.5])
    np.testing.assert_allclose(2 * n_subjettiness(*p4, [3], radius=2.0), n_subjettiness(*p4, [3]), rtol=1e-12)


def test_tau_uses_the_nearest_axis_weighted_by_pt():
    rng = np.random.default_rng(5)
    pt = np.concatenate([rng.uniform(5, 9, 10), rng.uniform(1, 2, 12)])
    eta = np.concatenate([rng.normal(0, 0.02, 10), rng.normal(0.6, 0.02, 12)])
    phi = rng.normal(1.0, 0.02, 22)
    p4 = np.stack(massless(pt, eta, phi))
    axes = np.stack([p4[:, :10].sum(axis=1), p4[:, 10:].sum(axis=1)])
    axis_eta, axis_phi = (
        np.arcsinh(axes[:, 2] / np.hypot(axes[:, 0], axes[:, 1])),
        np.arctan2(axes[:, 1], axes[:, 0]),
    )
    distance = np.hypot(eta[:, None] - axis_eta, phi[:, None] - axis_phi).min(axis=1)
    assert n_subjettiness(*p4, [22])[0, 1] == pytest.approx((pt * distance).sum() / pt.sum(), rel=1e-9)


def test_fewer_constituents_than_axes_gives_zero_and_never_nan():
    p4 = massless([10, 20, 30, 40, 50, 60], [0.1, 0, 0.2, 0, 0.1, 0.3], [0, 0, 0.3, 0.1, 0.4, 0.2])
    tau = n_subjettiness(*p4, [1, 2, 0, 3])
    assert tau.shape == (4, 3)
    assert np.array_equal(tau == 0, [[1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]])
    zero = np.zeros(3)
    assert np.array_equal(n_subjettiness(zero, zero, zero, zero, [3]), np.zeros((1, 3)))


def test_rotation_across_the_azimuth_boundary_changes_nothing():
    (px, py, pz, energy), counts = random_events(30, np.random.default_rng(1))
    a = leading_jets(px, py, pz, energy, counts)
    turn = np.pi - 0.3
    b = leading_jets(
        px * np.cos(turn) - py * np.sin(turn), px * np.sin(turn) + py * np.cos(turn), pz, energy, counts
    )
    assert np.abs(np.arctan2(b.py, b.px)).max() > 3.0
    np.testing.assert_allclose(b.mass, a.mass, rtol=1e-7, atol=1e-4)
    np.testing.assert_allclose(b.tau, a.tau, rtol=1e-6, atol=1e-9)
    assert a.tau.min() > 0


def test_order_of_particles_and_chunks_change_nothing():
    rng = np.random.default_rng(2)
    p4, counts = random_events(25, rng)
    a = leading_jets(*p4, counts)
    b = leading_jets(*p4, counts, chunk=4)
    for name in ("px", "py", "pz", "mass", "tau", "n_constituents"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    edges = np.concatenate([[0], np.cumsum(counts)])
    order = np.concatenate([rng.permutation(np.arange(*pair)) for pair in pairwise(edges)])
    c = leading_jets(*(v[order] for v in p4), counts)
    np.testing.assert_allclose(c.tau, a.tau, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(c.mass, a.mass, rtol=1e-6)


def test_jets_are_ordered_and_keep_momentum_mass_and_count():
    p4 = massless([100, 200, 30, 70], [0, 1, 1.1, 0.2], [0, 3, 3, 0.1])
    jets = leading_jets(*p4, [4])
    total = np.stack(p4)
    heavy = total[:, 1] + total[:, 2]
    assert jets.px[0, 0] == pytest.approx(heavy[0])
    assert jets.pz[0, 0] == pytest.approx(heavy[2])
    assert jets.mass[0, 0] == pytest.approx(np.sqrt(heavy[3] ** 2 - (heavy[:3] ** 2).sum()))
    assert jets.pt[0, 0] > jets.pt[0, 1] > 0
    assert jets.eta[0, 0] == pytest.approx(np.arcsinh(heavy[2] / np.hypot(heavy[0], heavy[1])))
    assert jets.n_constituents.tolist() == [[2, 2]]


def test_radius_decides_what_is_merged():
    p4 = massless([100, 90], [0, 0.9], [0, 0])
    assert leading_jets(*p4, [2]).n_constituents.tolist() == [[2, 0]]
    assert leading_jets(*p4, [2], radius=0.8).n_constituents.tolist() == [[1, 1]]
    assert leading_jets(*p4, [2], radius=0.8, n_jets=1).pt.shape == (1, 1)


def test_empty_events_and_single_particles():
    p4 = massless([100, 50], [0.5, -0.5], [1, -2])
    jets = leading_jets(*p4, [0, 1, 0, 1, 0])
    assert np.array_equal(jets.n_constituents[:, 0], [0, 1, 0, 1, 0])
    np.testing.assert_allclose(jets.pt[:, 0], [0, 100, 0, 50, 0])
    assert not jets.pt[:, 1].any()
    for values in (jets.mass, jets.tau, jets.eta):
        assert np.isfinite(values).all()
    assert np.array_equal(jets.tau, np.zeros((5, 2, 3)))
    empty = leading_jets(*np.zeros((4, 0)), [])
    assert empty.tau.shape == (0, 2, 3)
    assert leading_jets(*np.zeros((4, 0)), [0, 0]).pt.tolist() == [[0, 0], [0, 0]]


def test_substructure_only_where_it_is_asked_for():
    p4, counts = random_events(20, np.random.default_rng(3))
    full = leading_jets(*p4, counts)
    limit = float(np.median(full.pt[:, 0]))
    some = leading_jets(*p4, counts, tau_min_pt=limit)
    wanted = full.pt[:, 0] >= limit
    assert 0 < wanted.sum() < 20
    assert np.array_equal(some.tau[wanted], full.tau[wanted])
    assert not some.tau[~wanted].any()
    assert np.array_equal(some.mass, full.mass)


def test_momentum_that_is_not_a_number_names_the_event():
    p4 = massless([10, 20, 30], [0, 0, 0], [0, 1, 2])
    p4[0][2] = np.nan
    with pytest.raises(InputError, match="event 2"):
        leading_jets(*p4, [1, 1, 1])


def test_counts_must_match_the_particles():
    with pytest.raises(ValueError, match="sum to 3"):
        leading_jets(*massless([10, 20], [0, 0], [0, 1]), [3])


def test_raw_rows_with_padding_label_and_chunks():
    rng = np.random.default_rng(4)
    rows = np.zeros((7, 2101))
    for i in range(6):  # the last row stays empty
        n = rng.integers(3, 50)
        particles = np.stack(
            [rng.exponential(30, n) + 1, rng.normal(0, 1, n), rng.uniform(-np.pi, np.pi, n)], axis=1
        )
        rows[i, : 3 * n] = particles.ravel()
    rows[:, 2100] = 1
    out = cluster_raw(rows)
    assert tuple(out) == FEATURE_COLUMNS
    assert all(values.shape == (7,) and np.isfinite(values).all() for values in out.values())
    assert (np.hypot(out["pxj1"], out["pyj1"]) >= np.hypot(out["pxj2"], out["pyj2"])).all()
    assert out["pxj1"][6] == 0 != out["pxj1"][5]
    for other in (cluster_raw(rows[:, :2100]), cluster_raw(rows, chunk=2), cluster_raw(rows.astype(">f8"))):
        assert all(np.array_equal(out[name], other[name]) for name in out)
    assert all(len(values) == 0 for values in cluster_raw(rows[:0]).values())


def test_raw_rows_that_cannot_be_used():
    with pytest.raises(InputError, match=r"2100 columns.*\(4, 15\)"):
        cluster_raw(np.zeros((4, 15)))
    rows = np.zeros((5, 2100))
    rows[3, 7] = np.inf
    with pytest.raises(InputError, match="row 3"):
        cluster_raw(rows, chunk=2)


@pytest.mark.parametrize("missing", ["fastjet", "awkward"])
def test_missing_extra_says_how_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"pip install 'serendip\[simulate\]'"):
        leading_jets(*massless([10], [0], [0]), [1])


def test_nothing_is_printed():
    code = (
        "import numpy as np; from serendip.features.jets import leading_jets; x = np.ones(3);"
        "leading_jets(x, 2 * x, x, 9 * x, [3])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
