from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from serendip.errors import InputError
from serendip.statistics.inference import discovery_z
from serendip.statistics.model import BinnedModel
from serendip.statistics.scans import bump_hunter, q0_scan, smallest_p
from serendip.statistics.signals import gaussian

EDGES = np.geomspace(2000.0, 6000.0, 29)
EXPECTED = 30_000 * np.diff(-(EDGES**-5.0)) / (EDGES[0] ** -5 - EDGES[-1] ** -5)
MASSES = np.geomspace(2500.0, 5000.0, 24)


def toy(seed: int, signal: float = 0.0, mass: float = 3500.0) -> np.ndarray:
    mean = EXPECTED + signal * gaussian(mass, 0.03 * mass).fractions(EDGES)
    return np.random.default_rng(seed).poisson(mean).astype(float)


def test_window_and_global_p_agree_with_pybumphunter_at_a_fixed_reference():
    pybumphunter = pytest.importorskip("pyBumpHunter")
    data = toy(1, 150)
    hunter = pybumphunter.BumpHunter1D(
        rang=(2000, 6000),
        width_min=1,
        width_max=4,
        width_step=1,
        scan_step=1,
        bins=EDGES,
        npe=1000,
        nworker=1,
        seed=1,
    )
    hunter.bump_scan(data, EXPECTED, is_hist=True)
    ours = bump_hunter(
        data, EDGES, widths=(1, 2, 3, 4), reference=EXPECTED, n_toys=1000, rng=np.random.default_rng(2)
    )
    assert ours.p_window == pytest.approx(float(np.ravel(hunter.min_Pval_ar)[0]), rel=1e-8)
    k = float(hunter.global_Pval)
    assert abs(ours.p_global - k) < 4 * np.sqrt(2 * max(k, 1e-3) / 1000)
    low = EDGES[int(np.ravel(hunter.min_loc_ar)[0])]
    assert ours.window[0] == low


def test_smallest_p_is_that_of_the_best_window():
    n, b = toy(3), EXPECTED
    log_p, where = smallest_p(n, b, (1, 3))
    by_hand = {
        (i, i + w): stats.poisson.sf(n[i : i + w].sum() - 1, b[i : i + w].sum())
        for w in (1, 3)
        for i in range(len(n) - w + 1)
        if n[i : i + w].sum() > b[i : i + w].sum()
    }
    best = min(by_hand, key=by_hand.get)
    assert tuple(where[0]) == best
    assert np.exp(log_p[0]) == pytest.approx(by_hand[best], rel=1e-9)
    nothing, _ = smallest_p(np.zeros(5), np.ones(5), (1, 2))
    assert nothing[0] == 0.0


def test_an_injected_bump_is_found_where_it_is():
    found = bump_hunter(toy(4, 400), EDGES, "dijet:3", n_toys=300, rng=np.random.default_rng(5))
    assert found.window[0] < 3500 < found.window[1]
    assert found.p_global == pytest.approx(1 / 301)
    assert found.observed > found.expected
    scan = q0_scan(
        toy(4, 400), EDGES, "dijet:3", [gaussian(m, 0.03 * m) for m in MASSES], n_toys=60,
        rng=np.random.default_rng(6),
    )  # fmt: skip
    assert scan.mass[scan.best] == pytest.approx(3500, rel=0.04)
    assert scan.mu[scan.best] == pytest.approx(400, abs=200)
    assert scan.gross_vitells < 1e-4


def test_global_p_is_uniform_when_every_toy_is_refitted():
    """And not if the fit counts as known: then it is much too large, as in ``docs/statistics.md``."""
    refitted, fixed = [], []
    for seed in range(50):
        data = toy(100 + seed)
        common = {"n_toys": 50, "rng": np.random.default_rng(seed), "widths": (1, 2, 3, 4)}
        refitted.append(bump_hunter(data, EDGES, "dijet:3", **common).p_global)
        model = BinnedModel.spectrum(EDGES, "dijet:3", gaussian(3500.0, 100.0))
        reference = model.fit(data, 0.0).expected[0]
        fixed.append(bump_hunter(data, EDGES, reference=reference, **common).p_global)
    assert stats.kstest(refitted, "uniform").pvalue > 1e-3
    assert np.mean(fixed) > np.mean(refitted) + 0.05


def test_scan_is_the_single_fit_at_each_mass():
    data = toy(7)
    shapes = [gaussian(m, 0.03 * m) for m in (3000.0, 3500.0)]
    scan = q0_scan(data, EDGES, "dijet:3", shapes, n_toys=5, rng=np.random.default_rng(0))
    for shape, z in zip(shapes, scan.z, strict=True):
        alone = discovery_z(BinnedModel.spectrum(EDGES, "dijet:3", shape), data)[0]
        assert z == pytest.approx(float(alone), abs=1e-4)


def test_gross_vitells_agrees_with_toys():
    shapes = [gaussian(m, 0.03 * m) for m in np.geomspace(2400.0, 5200.0, 40)]
    scan = q0_scan(toy(11, 90), EDGES, "dijet:3", shapes, n_toys=400, rng=np.random.default_rng(8))
    assert 1.8 < scan.z[scan.best] < 3.2
    low, high = scan.p_interval_68
    assert low / 1.5 < scan.gross_vitells < high * 1.5
    assert scan.crossings > 1
    assert scan.fewest_background > 10


def test_gross_vitells_is_not_given_where_single_events_decide():
    rng = np.random.default_rng(8)
    edges = np.geomspace(2000.0, 9000.0, 61)
    spectrum = rng.poisson(2e5 * (edges[:-1] / 2000) ** -9 * np.diff(edges) / 2000).astype(float)
    signals = [gaussian(m, 0.03 * m) for m in np.geomspace(2400.0, 8000.0, 30)]
    sparse = q0_scan(spectrum, edges, "dijet:3", signals, n_toys=60, rng=rng)
    dense = q0_scan(spectrum, edges, "dijet:3", signals[:12], n_toys=60, rng=rng)
    assert sparse.fewest_background < 10 < dense.fewest_background
    assert sparse.gross_vitells is None
    # one bin after the other: the expected events under a narrow signal
    b = 2e5 * (8000 / 2000) ** -9 * 8000 * 0.03 * np.sqrt(4 * np.pi) / 2000
    assert sparse.fewest_background == pytest.approx(b, rel=0.5)


def test_common_weight_keeps_p():
    data = toy(9, 200)
    a = bump_hunter(data, EDGES, "dijet:3", n_toys=100, rng=np.random.default_rng(1))
    b = bump_hunter(3 * data, EDGES, "dijet:3", n_toys=100, scale=3.0, rng=np.random.default_rng(1))
    assert b.p_window == pytest.approx(a.p_window, rel=1e-4)
    assert b.p_global == a.p_global
    assert b.observed == 3 * a.observed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (0,)}, "do not fit"),
        ({"widths": (28,)}, "do not fit"),
        ({"n_toys": 0}, "at least one toy"),
    ],
)
def test_bad_scans_are_explained(change, message):
    with pytest.raises(InputError, match=message):
        bump_hunter(toy(0), EDGES, rng=np.random.default_rng(0), **change)


def test_bad_q0_scans_are_explained():
    shapes = [gaussian(3500.0, 100.0), gaussian(3000.0, 100.0)]
    with pytest.raises(InputError, match="rising masses"):
        q0_scan(toy(0), EDGES, "dijet:3", shapes, rng=np.random.default_rng(0))
