"""From scores to the p-value of a look: binning, ranges, combinations, calibration, blinding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics import looks as looks_module
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.looks import (
    COMBINATIONS,
    analyse_look,
    combined_log_p,
    fit_inclusive,
    fit_range,
    fold_expectations,
    make_edges,
    shape_error,
    window_bins,
)
from serendip.statistics.pvalues import bonferroni, count_p_value, z_value

WINDOW = Window(3300.0, 3700.0)
RANGE = (2640.0, 5920.0)
FOLDS = 5


def falling(n: int, rng: np.random.Generator, low: float = RANGE[0], high: float = RANGE[1]) -> np.ndarray:
    """Masses that follow m^-7, a background with known answer in every interval."""
    u = rng.random(n)
    return (low**-6 + u * (high**-6 - low**-6)) ** (-1 / 6)


def one_look(mass, fold, selected, **kwargs):
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(mass, WINDOW, edges, "dijet:3", weights=kwargs.get("weights"))
    return analyse_look(mass, fold, selected, WINDOW, edges, inclusive, n_folds=FOLDS, **kwargs)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(1)
    mass = falling(30_000, rng)
    fold = rng.integers(0, FOLDS, len(mass))
    # the smooth, mass-dependent selection of a real classifier: rare, and peaked near the window
    efficiency = 0.03 * np.exp(-3 * np.log(mass / 3400) ** 2)
    return mass, fold, rng.random(len(mass)) < efficiency


@given(
    low=st.floats(500, 3000),
    left=st.floats(1.02, 2.0),
    width=st.floats(1.005, 1.5),
    right=st.floats(1.02, 2.0),
    n_bins=st.one_of(st.none(), st.integers(3, 200)),
)
@settings(max_examples=100, deadline=None)
def test_window_edges_are_bin_edges(low, left, width, right, n_bins):
    window = Window(low * left, low * left * width)
    high = window.high * right
    edges = make_edges((low, high), window, n_bins)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] == low
    assert edges[-1] == high
    first, last = window_bins(edges, window)
    assert 0 < first < last < len(edges) - 1
    if n_bins is None:
        assert last - first >= 4
        assert np.max(np.diff(np.log(edges))[first:last]) < 0.0251
    else:
        assert len(edges) - 1 == n_bins


def test_default_bins_have_even_relative_width():
    # a range over a factor of three has bins of 2.5 %, a shorter one has at least forty
    for limits, expected in (((1500.0, 7000.0), 0.025), (RANGE, np.log(RANGE[1] / RANGE[0]) / 40)):
        widths = np.diff(np.log(make_edges(limits, WINDOW)))
        assert widths.max() / widths.min() < 1.1
        assert widths.mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("limits", [(3300.0, 6000.0), (3400.0, 6000.0), (2000.0, 3700.0), (0.0, 6000.0)])
def test_window_needs_two_sidebands(limits):
    with pytest.raises(InputError, match="both sides"):
        make_edges(limits, WINDOW)


def test_window_off_the_grid_is_a_programming_error():
    with pytest.raises(ValueError, match="not bin edges"):
        window_bins(np.linspace(3000, 4000, 7), WINDOW)


def test_fit_range_of_a_smooth_spectrum_is_that_of_the_data():
    mass = falling(50_000, np.random.default_rng(0), 1000.0, 12_000.0)
    assert fit_range(mass, WINDOW) == pytest.approx((mass.min(), mass.max()))


def test_fit_range_stops_at_a_turn_on_and_at_hard_edges():
    rng = np.random.default_rng(2)
    mass = falling(200_000, rng, 1500.0, 5000.0)
    trigger = 1 / (1 + np.exp(-(mass - 2900.0) / 40.0))
    low, high = fit_range(mass[rng.random(len(mass)) < trigger], WINDOW)
    assert 2800 < low < 3150
    assert high == pytest.approx(5000.0, rel=1e-3)
    assert fit_range(mass[mass > 3000], WINDOW)[0] == pytest.approx(3000.0, rel=1e-2)


def test_fit_range_does_not_look_into_the_window():
    mass = falling(20_000, np.random.default_rng(3), 1000.0, 9000.0)
    more = np.concatenate([mass, np.full(50_000, 3500.0)])
    assert fit_range(mass, WINDOW) == fit_range(more, WINDOW)


@pytest.mark.parametrize("window", [Window(100.0, 200.0), Window(5000.0, 9000.0), Window(900.0, 3000.0)])
def test_fit_range_needs_data_on_both_sides(window):
    with pytest.raises(InputError, match="both sides"):
        fit_range(falling(1000, np.random.default_rng(0), 1000.0, 6000.0), window)


def test_real_turn_on_spectrum_is_described_in_every_window(shared_data):
    pytest.importorskip("hdf5plugin")
    h5py = pytest.importorskip("h5py")
    path = shared_data / "lhco_rd_v1" / "events_anomalydetection_v1_first100k.features.h5"
    with h5py.File(path) as file:
        names = [name.decode() for name in file["df/block0_items"][:]]
        table = dict(zip(names, file["df/block0_values"][:].T, strict=True))
    total = [table[f"{k}j1"] + table[f"{k}j2"] for k in ("px", "py", "pz")]
    energy = sum(
        np.sqrt(table[f"pxj{j}"] ** 2 + table[f"pyj{j}"] ** 2 + table[f"pzj{j}"] ** 2 + table[f"mj{j}"] ** 2)
        for j in (1, 2)
    )
    mass = np.sqrt(energy**2 - sum(p**2 for p in total))[table["label"] == 0]
    pulls, goodness = [], []
    for low in 2500.0 * 1.1 ** np.arange(10):
        window = Window(low, 1.1 * low)
        edges = make_edges(fit_range(mass, window), window)
        inclusive = fit_inclusive(mass, window, edges)
        b, sigma = inclusive.window(*window_bins(edges, window))
        pulls.append((window.contains(mass).sum() - b) / np.hypot(sigma, np.sqrt(b)))
        goodness.append(inclusive.gof_p)
    assert min(goodness) > 0.01
    assert np.max(np.abs(pulls)) < 3.0
    assert np.std(pulls) < 1.6


def test_expected_count_has_the_right_mean_and_error():
    rng = np.random.default_rng(4)
    estimates, errors, counts = [], [], []
    for _ in range(40):
        mass = falling(20_000, rng)
        fold = rng.integers(0, FOLDS, len(mass))
        selected = rng.random(len(mass)) < 0.03 * np.exp(-3 * np.log(mass / 3400) ** 2)
        look = one_look(mass, fold, selected)
        estimates.append(look.expected)
        errors.append(look.expected_error)
        counts.append(look.observed)
    difference = np.array(counts) - np.array(estimates)
    spread = np.sqrt(np.array(estimates) + np.array(errors) ** 2)
    assert abs(np.mean(difference / spread)) < 3 / np.sqrt(40)
    assert 0.7 < np.std(difference / spread) < 1.3


def test_background_only_chain_does_not_over_claim():
    """The whole chain with thresholds per fold from its own sideband, as the search does it."""
    rng = np.random.default_rng(5)
    edges = make_edges(RANGE, WINDOW)
    n_toys = 60
    p = {"sequential": [], "sequential-stouffer": [], "kfold-bonferroni": []}
    for _ in range(n_toys):
        mass = falling(8000, rng)
        fold = rng.integers(0, FOLDS, len(mass))
        score = rng.normal(size=len(mass)) - 1.5 * np.log(mass / 3400) ** 2
        selected = np.zeros(len(mass), dtype=bool)
        for f in range(FOLDS):
            side = (fold == f) & ~WINDOW.contains(mass)
            selected |= (fold == f) & (score > np.quantile(score[side], 0.97))
        inclusive = fit_inclusive(mass, WINDOW, edges, "dijet:3")
        for name, values in p.items():
            look = analyse_look(
                mass, fold, selected, WINDOW, edges, inclusive, n_folds=FOLDS, combination=name, blinded=False
            )
            values.append(look.p_local)
    for name, values in p.items():
        for alpha in (0.05, 0.01):
            assert np.mean(np.array(values) < alpha) < alpha + 3 * np.sqrt(alpha / n_toys), name
        assert np.median(values) > 0.3
        assert np.min(values) < 0.2


def test_sequential_leaves_fold_zero_out(sample):
    mass, fold, selected = sample
    look = one_look(mass, fold, selected)
    assert [f.fold for f in look.folds] == [1, 2, 3, 4]
    assert look.observed == np.count_nonzero(selected & WINDOW.contains(mass) & (fold > 0))
    assert look.observed == sum(f.observed for f in look.folds)
    assert look.expected == pytest.approx(sum(f.expected for f in look.folds), rel=1e-6)
    assert [f.fold for f in one_look(mass, fold, selected, combination="kfold-bonferroni").folds] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_signal_is_found_and_its_size_is_right(sample):
    mass, fold, selected = sample
    rng = np.random.default_rng(6)
    signal = np.clip(rng.normal(3500, 60, 100), 3310, 3690)
    looks = {
        name: one_look(
            np.concatenate([mass, signal]),
            np.concatenate([fold, np.arange(100) % FOLDS]),
            np.concatenate([selected, np.ones(100, dtype=bool)]),
            combination=name,
        )
        for name in COMBINATIONS
    }
    plain = one_look(mass, fold, selected)
    sequential = looks["sequential"]
    assert sequential.observed == plain.observed + 80
    assert sequential.expected == pytest.approx(plain.expected, rel=0.01)
    assert sequential.z_local > 4
    assert sequential.z_local > looks["kfold-bonferroni"].z_local
    assert looks["sequential-stouffer"].z_local == pytest.approx(sequential.z_local, abs=1.0)


def test_combinations_are_what_they_say(sample):
    mass, fold, selected = sample
    looks = {name: one_look(mass, fold, selected, combination=name) for name in COMBINATIONS}
    summed = looks["kfold-summed"]
    assert summed.p_local == pytest.approx(
        float(count_p_value(summed.observed, summed.expected, summed.expected_error)), rel=1e-9
    )
    assert "overstates the significance" in summed.warning
    bonf = looks["kfold-bonferroni"]
    assert bonf.p_local == pytest.approx(float(bonferroni([f.p for f in bonf.folds])), rel=1e-9)
    for look in looks.values():
        if look.p_local == 1:
            assert look.z_local is None
        else:
            assert z_value(log_p=look.log_p_local) == pytest.approx(look.z_local)
        for f in look.folds:
            assert f.p == pytest.approx(float(count_p_value(f.observed, f.expected, f.expected_error)))
    assert looks["sequential"].warning is None


def test_stouffer_trusts_late_folds_more():
    b, s = np.full(9, 20.0), np.full(9, 0.1)
    early, late = b.copy(), b.copy()
    early[0] += 25
    late[8] += 25
    arguments = (np.asarray(0.001), np.asarray(180.0), np.asarray(0.5))
    p = {
        name: float(combined_log_p("sequential-stouffer", n, b, s, *arguments))
        for name, n in (("early", early), ("late", late))
    }
    assert p["late"] < p["early"] - 2
    assert combined_log_p("sequential", early, b, s, *arguments) == combined_log_p(
        "sequential", late, b, s, *arguments
    )


@pytest.mark.parametrize("combination", ["sequential-stouffer", "kfold-bonferroni"])
def test_fold_p_values_rest_on_the_efficiency_of_the_own_fold(combination):
    """Models of later folds see more events and may follow the mass more than those of the first."""
    rng = np.random.default_rng(12)
    mass = falling(200_000, rng)
    fold = rng.integers(0, FOLDS, len(mass))
    peaked = np.exp(-5.0 * fold * np.log(mass / 3495) ** 2)
    look = one_look(mass, fold, rng.random(len(mass)) < 0.2 * peaked, combination=combination)
    pulls = [(f.observed - f.expected) / np.hypot(f.expected_error, np.sqrt(f.expected)) for f in look.folds]
    assert np.max(np.abs(pulls)) < 3.0
    shared = one_look(mass, fold, rng.random(len(mass)) < 0.2 * peaked, combination="sequential")
    late = shared.folds[-1]
    assert late.observed - late.expected > 4 * np.sqrt(
        late.expected
    )  # what the share of a common fit would give


def test_one_empty_fold_does_not_end_the_stouffer_search():
    observed = np.array([0.0, 8.0, 9.0, 10.0])
    expected = np.full(4, 2.0)
    log_p = combined_log_p(
        "sequential-stouffer",
        observed,
        expected,
        np.full(4, 0.2),
        np.asarray(0.05),
        np.asarray(8.0),
        np.asarray(0.5),
    )
    assert z_value(log_p=log_p) > 4


def test_errors_shared_by_folds_do_not_average_out():
    side = np.full(10, 1000.0)
    _, _, shared = fold_expectations(side, np.asarray(5000.0), np.asarray(5000.0 * 0.1), 0.0)
    assert shared == pytest.approx(0.1, rel=0.01)
    b, s, shared = fold_expectations(side, np.asarray(5000.0), np.asarray(5000.0 / 100.0), 0.0)
    assert shared == 0.0  # all of the error is the sideband count, which is independent between folds
    assert s == pytest.approx(500.0 / np.sqrt(1000.0))
    assert b == pytest.approx(500.0)


def test_blinded_look_keeps_expectation_and_hides_the_count(sample):
    mass, fold, selected = sample
    shown, hidden = one_look(mass, fold, selected), one_look(mass, fold, selected, blinded=True)
    assert hidden.blinded
    assert not shown.blinded
    assert hidden.expected == shown.expected
    assert hidden.expected_error == shown.expected_error
    assert (hidden.observed, hidden.p_local, hidden.z_local, hidden.log_p_local) == (None,) * 4
    assert all(f.observed is None and f.p is None and f.expected > 0 for f in hidden.folds)
    first, last = window_bins(hidden.spectrum.edges, WINDOW)
    assert np.all(hidden.spectrum.counts[first:last] == 0)
    assert shown.spectrum.counts[first:last].sum() == shown.observed


def test_window_events_do_not_move_the_expectation(sample):
    mass, fold, selected = sample
    flipped = np.where(WINDOW.contains(mass), ~selected, selected)
    one, two = one_look(mass, fold, selected), one_look(mass, fold, flipped)
    assert one.expected == two.expected
    assert one.observed != two.observed


@given(factor=st.floats(0.01, 100.0))
@settings(max_examples=8, deadline=None)
def test_common_weight_changes_no_significance(sample, factor):
    mass, fold, selected = sample
    plain = one_look(mass, fold, selected)
    scaled = one_look(mass, fold, selected, weights=np.full(len(mass), factor))
    assert scaled.z_local == pytest.approx(plain.z_local, abs=1e-3)
    assert scaled.observed == pytest.approx(plain.observed * factor)
    assert scaled.expected == pytest.approx(plain.expected * factor, rel=1e-4)


def test_uneven_weights_weaken_the_significance(sample):
    mass, fold, selected = sample
    signal = np.full(80, 3500.0)
    mass, selected = np.concatenate([mass, signal]), np.concatenate([selected, np.ones(80, dtype=bool)])
    fold = np.concatenate([fold, np.arange(80) % FOLDS])
    uneven = [
        one_look(
            mass, fold, selected, weights=np.random.default_rng(seed).exponential(1.0, len(mass))
        ).z_local
        for seed in range(12)
    ]
    # exponential weights have <w^2>/<w>^2 = 2: half the effective events
    assert np.mean(uneven) == pytest.approx(one_look(mass, fold, selected).z_local / np.sqrt(2), rel=0.25)


def test_order_of_events_changes_nothing(sample):
    mass, fold, selected = sample
    order = np.random.default_rng(0).permutation(len(mass))
    one, two = one_look(mass, fold, selected), one_look(mass[order], fold[order], selected[order])
    assert one.p_local == two.p_local


def test_nothing_selected_and_nothing_observed():
    rng = np.random.default_rng(0)
    mass = falling(5000, rng)
    fold = rng.integers(0, FOLDS, len(mass))
    look = one_look(mass, fold, np.zeros(len(mass), dtype=bool))
    assert look.expected == 0.0
    assert 0 < look.expected_error < 1
    assert look.p_local == 1.0
    # one event in the window and none in the sidebands is a mild excess, not an infinite one
    chosen = np.zeros(len(mass), dtype=bool)
    chosen[np.flatnonzero(WINDOW.contains(mass) & (fold == 1))[0]] = True
    assert 0.1 < one_look(mass, fold, chosen).p_local < 0.5


def test_inclusive_shape_error_enters_and_vanishes_with_data():
    rng = np.random.default_rng(7)
    errors = {}
    for n in (2000, 50_000):
        mass = falling(n, rng)
        look = one_look(mass, rng.integers(0, FOLDS, n), rng.random(n) < 0.2)
        errors[n] = look.shape_error
        b, fit_error = look.spectrum.window(*window_bins(look.spectrum.edges, WINDOW))
        assert look.expected_error == pytest.approx(np.hypot(fit_error, b * look.shape_error))
    assert 3 < errors[2000] / errors[50_000] < 8


def test_inclusive_shape_error_agrees_with_refitting_shifted_shapes(sample):
    mass, fold, selected = sample
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(mass, WINDOW, edges, "dijet:4")
    look = analyse_look(mass, fold, selected, WINDOW, edges, inclusive, n_folds=FOLDS)
    values, vectors = np.linalg.eigh(inclusive.coefficient_covariance)
    shifts = []
    for value, vector in zip(values, vectors.T, strict=True):
        shape = inclusive.expected * np.exp(
            np.sqrt(value) * (inclusive.jacobian / inclusive.expected[:, None]) @ vector
        )
        refit = fit_spectrum(
            look.spectrum.counts, edges, look.spectrum.family, mask=inclusive.mask, offset=shape, alpha=0.0
        )
        same = fit_spectrum(
            look.spectrum.counts,
            edges,
            look.spectrum.family,
            mask=inclusive.mask,
            offset=inclusive.expected,
            alpha=0.0,
        )
        bins = window_bins(edges, WINDOW)
        shifts.append(np.log(refit.window(*bins)[0] / same.window(*bins)[0]))
    assert shape_error(inclusive, look.spectrum) == pytest.approx(
        np.sqrt(np.sum(np.square(shifts))), rel=0.05
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"combination": "sum"}, "unknown combination"),
        ({"weights": np.full(100, -1.0)}, "weights"),
        ({"weights": np.full(100, np.nan)}, "weights"),
    ],
)
def test_bad_options_are_explained(change, message):
    rng = np.random.default_rng(0)
    mass, fold = falling(100, rng), rng.integers(0, FOLDS, 100)
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(mass, WINDOW, edges, "dijet:3")
    with pytest.raises(InputError, match=message):
        analyse_look(mass, fold, fold > 2, WINDOW, edges, inclusive, n_folds=FOLDS, **change)


def test_too_few_sideband_events_are_counted():
    mass = np.concatenate([falling(500, np.random.default_rng(0))])
    inside = np.concatenate([mass[WINDOW.contains(mass)], [3000.0, 3100.0, 4000.0]])
    with pytest.raises(InputError, match="2 below and 1 above"):
        fit_inclusive(inside, WINDOW, make_edges(RANGE, WINDOW))


def test_folds_that_are_tested():
    assert looks_module.tested_folds("sequential", 3) == [1, 2]
    assert looks_module.tested_folds("kfold-summed", 3) == [0, 1, 2]
    with pytest.raises(InputError, match="at least 2"):
        looks_module.tested_folds("sequential", 1)


def test_other_bin_edges_are_a_programming_error(sample):
    mass, fold, selected = sample
    inclusive = fit_inclusive(mass, WINDOW, make_edges(RANGE, WINDOW), "dijet:3")
    with pytest.raises(ValueError, match="other bin edges"):
        analyse_look(mass, fold, selected, WINDOW, make_edges(RANGE, WINDOW, 20), inclusive, n_folds=FOLDS)
