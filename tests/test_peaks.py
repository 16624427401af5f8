"""Peaks are seen in any spectrum, backgrounds are not taken for peaks, and what is left out is told."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import special, stats

from serendip.cli.main import run as run_command
from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.anywhere import find_peak
from serendip.statistics.bump import bump_hunt
from serendip.statistics.closure import shifted_windows, with_closure
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.functions import get_family
from serendip.statistics.looks import fit_inclusive, make_edges
from serendip.statistics.many import fit_many
from serendip.statistics.peaks import _PeakObjective, background_fits, candidates, fit_peaks, screen_peaks
from serendip.statistics.ranges import data_range, window_range


def drawn(density, low, high, n, rng):
    grid = np.linspace(low, high, 4001)
    value = density(grid)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (value[1:] + value[:-1]))])
    return np.interp(rng.random(n) * cumulative[-1], cumulative, grid)


def flat(m):
    return np.ones_like(m)


def rising(m):
    return m / m.max()


def falling(m):
    return (m / m.min()) ** -4.0


SPECTRA = {
    "flat, Upsilon": (flat, 9.0, 9.9, 9.46, 0.07),
    "rising, psi": (rising, 3.3, 4.0, 3.686, 0.03),
    "falling, Z": (falling, 60.0, 130.0, 91.2, 2.5),
    "falling, 3 TeV": (falling, 1500.0, 8000.0, 3000.0, 90.0),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_a_peak_is_found_where_it_is_on_any_spectrum(name):
    density, low, high, mass, sigma = SPECTRA[name]
    rng = np.random.default_rng(3)
    m = np.concatenate([drawn(density, low, high, 6000, rng), rng.normal(mass, sigma, 700)])
    m = m[(m > low) & (m < high)]
    found = find_peak(m, n_toys=60, rng=np.random.default_rng(1))
    assert found.peak_mass == pytest.approx(mass, rel=0.01)
    assert found.peak_sigma == pytest.approx(sigma, rel=0.35)
    assert abs(found.signal - 700) < 4 * found.signal_error
    assert found.z_local > 8
    assert found.p_global == pytest.approx(1 / 61)
    assert found.p_estimate < 1e-10
    assert found.mass_range.below == found.mass_range.above == 0
    # the same peak in a window that was chosen beforehand
    result = bump_hunt(m, Window(mass - 2 * sigma, mass + 2 * sigma))
    assert result.z_local > 8
    assert abs(result.observed - result.expected - 0.954 * 700) < 4 * np.hypot(
        result.expected_error, np.sqrt(result.observed)
    )


def test_the_background_does_not_swallow_a_peak_that_fills_a_third_of_the_range():
    rng = np.random.default_rng(7)
    m = np.concatenate([drawn(flat, 9.0, 9.7, 12_500, rng), rng.normal(9.45, 0.08, 7_000)])
    m = m[(m > 9.0) & (m < 9.7)]
    z = {b: find_peak(m, n_toys=2, background=b, rng=rng).z_local for b in ("auto", "exp:1", "exp:2")}
    assert z["auto"] > 0.85 * z["exp:1"]
    assert z["exp:2"] < 0.8 * z["exp:1"]


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_search_does_not_know_the_unit_of_the_mass(unit):
    rng = np.random.default_rng(4)
    m = np.concatenate([drawn(falling, 60.0, 130.0, 3000, rng), rng.normal(91.2, 2.5, 100)])
    one = find_peak(m, n_toys=20, rng=np.random.default_rng(1))
    other = find_peak(m * unit, n_toys=20, rng=np.random.default_rng(1), sqrt_s=13000.0 * unit)
    assert other.peak_mass == pytest.approx(one.peak_mass * unit, rel=1e-6)
    assert other.z_local == pytest.approx(one.z_local, abs=1e-3)
    assert other.p_global == one.p_global


def test_screening_agrees_with_fits_and_fits_with_an_independent_minimiser():
    from iminuit import Minuit

    edges = np.linspace(60.0, 120.0, 61)
    centre = 0.5 * (edges[1:] + edges[:-1])
    rng = np.random.default_rng(5)
    n = rng.poisson(200.0 * np.exp(-(centre - 60.0) / 40.0), (20, 60)).astype(float)
    family = get_family("exp:1")
    null, peaks = background_fits(n, edges, family), candidates(edges)
    z = screen_peaks(n, null, peaks)
    best = z.argmax(axis=1)
    fits = fit_peaks(n, null, peaks, np.arange(20), best)
    assert fits.z == pytest.approx(z.max(axis=1), abs=0.25)
    design = null[0].design

    def deviance(y, theta, share=None, size=0.0):
        mu = design.expected(np.array(theta)[None])[0][:, 0] + (0.0 if share is None else size * share)
        return 2 * float(special.kl_div(y, np.maximum(mu, 1e-9)).sum())

    for i in range(3):
        share = peaks.share[best[i]]
        without = Minuit(lambda *p, y=n[i]: deviance(y, p), *null[0].theta[i])
        both = Minuit(lambda *p, y=n[i], s=share: deviance(y, p[:-1], s, p[-1]), *null[0].theta[i], 5.0)
        for fit in (without, both):
            fit.errordef, fit.print_level = 1.0, 0
            fit.migrad()
        assert fits.z[i] == pytest.approx(np.sqrt(without.fval - both.fval), abs=0.01)
        assert fits.signal[i] == pytest.approx(both.values[-1], abs=0.05 * both.errors[-1])


def test_fits_with_a_mask_of_their_own_are_those_with_a_common_mask():
    edges = np.geomspace(2000.0, 6000.0, 41)
    rng = np.random.default_rng(6)
    n = rng.poisson(3000.0 * (edges[1:] / 2000.0) ** -5.0, (6, 40)).astype(float)
    masks = np.zeros((6, 40), dtype=bool)
    for i in range(6):
        masks[i, 5 + 4 * i : 10 + 4 * i] = True
    for spec in ("auto", "poly:3", "bernstein:3"):
        together = fit_many(n, edges, spec, mask=masks, choice="average")
        for i in range(0, 6, 5):
            alone = fit_many(n[i], edges, spec, mask=masks[i], choice="average")
            assert together.window[i] == pytest.approx(alone.window[0], rel=1e-5)
            assert together.window_error[i] == pytest.approx(alone.window_error[0], rel=1e-3)


def test_the_range_of_a_window_does_not_look_into_it():
    rng = np.random.default_rng(8)
    m = drawn(rising, 50.0, 100.0, 5000, rng)
    window = Window(70.0, 75.0)
    more = np.concatenate([m, rng.uniform(70.0, 75.0, 4000)])
    assert window_range(m, window).to_dict() == window_range(more, window).to_dict()
    assert window_range(m, window).low == m.min()


def test_a_known_resonance_is_masked():
    rng = np.random.default_rng(9)
    background = drawn(falling, 60.0, 160.0, 20_000, rng)
    m = np.concatenate([background, rng.normal(91.2, 2.5, 5000), rng.normal(125.0, 2.0, 350)])
    found = find_peak(m, masks=[(82.0, 101.0)], n_toys=99, rng=np.random.default_rng(1))
    assert found.peak_mass == pytest.approx(125.0, abs=1.5)
    assert found.p_global == pytest.approx(0.01)
    window = Window(110.0, 116.0)
    masked = bump_hunt(m, window, masks=[(82.0, 101.0)])
    truth = np.count_nonzero(window.contains(background))
    assert abs(masked.expected - truth) < 3.5 * np.hypot(masked.expected_error, np.sqrt(truth))
    # events in the mask have no say
    twice = bump_hunt(np.concatenate([m, rng.normal(91.2, 2.5, 5000)]), window, masks=[(70.0, 112.0 - 2.0)])
    assert twice.expected == pytest.approx(bump_hunt(m, window, masks=[(70.0, 110.0)]).expected, rel=0.02)
    with pytest.raises(InputError, match="reaches into the window"):
        bump_hunt(m, window, masks=[(100.0, 112.0)])


def test_closure_in_shifted_windows_widens_what_the_function_misses():
    edges = np.linspace(100.0, 200.0, 51)
    centre = 0.5 * (edges[1:] + edges[:-1])
    mask = np.zeros(50, dtype=bool)
    mask[23:27] = True
    windows = shifted_windows(mask, 23, 27)
    assert windows.tolist() == [
        [3, 7],
        [7, 11],
        [11, 15],
        [15, 19],
        [19, 23],
        [27, 31],
        [31, 35],
        [35, 39],
        [39, 43],
        [43, 47],
    ]
    rng = np.random.default_rng(10)
    smooth = rng.poisson(5000.0 * np.exp(-(centre - 100) / 80.0)).astype(float)
    wavy = rng.poisson(5000.0 * np.exp(-(centre - 100) / 80.0) * (1 + 0.06 * np.sin(centre / 2.0))).astype(
        float
    )
    good = with_closure(fit_spectrum(smooth, edges, "exp:2", mask=mask), 23, 27)
    bare = fit_spectrum(wavy, edges, "exp:2", mask=mask)
    bad = with_closure(bare, 23, 27)
    assert good.closure.relative_error == 0.0
    assert good.closure.p > 0.1
    assert bad.closure.p < 1e-3
    b, sigma = bad.window(23, 27)
    assert sigma == pytest.approx(np.hypot(bare.window(23, 27)[1], bad.closure.relative_error * b))
    assert bad.expected_error[30] == bare.expected_error[30]
    assert bad.to_dict()["closure"]["relative_error"] == bad.closure.relative_error


def test_pulls_of_closure_are_those_of_a_refit_by_hand():
    edges = np.linspace(100.0, 200.0, 51)
    n = np.random.default_rng(11).poisson(4000.0 * np.exp(-(edges[1:] - 100) / 80.0)).astype(float)
    mask = np.zeros(50, dtype=bool)
    mask[23:27] = True
    fit = with_closure(fit_spectrum(n, edges, "exp:2", mask=mask), 23, 27)
    both = mask.copy()
    both[27:31] = True
    by_hand = fit_spectrum(n, edges, "exp:2", mask=both)
    b, sigma = by_hand.window(27, 31)
    assert fit.closure.pulls[5] == pytest.approx((n[27:31].sum() - b) / np.hypot(np.sqrt(b), sigma), abs=1e-3)


def test_an_empty_window_is_an_observation():
    rng = np.random.default_rng(1)
    m = 1000 + rng.exponential(300, 400)
    m = m[(m < 2000) | (m > 2100)]
    result = bump_hunt(m, Window(2000.0, 2100.0))
    assert result.observed == 0
    assert result.p_local == 1.0
    assert result.z_local is None
    assert 0.5 < result.expected < 6


@pytest.mark.parametrize(
    ("mass", "message"),
    [
        (np.full(1000, 1500.0), "all 1000 events have the same mass, 1500 GeV"),
        (np.array([]), "no events"),
        (np.array([1.0, -2.0]), "-2 GeV is not positive"),
        (np.linspace(20.0, 30.0, 10), "at least 20"),
    ],
)
def test_spectra_that_are_none(mass, message):
    with pytest.raises(InputError, match=message):
        find_peak(mass, n_toys=5, rng=np.random.default_rng(1))


def test_data_range_ends_where_the_functions_do():
    assert data_range([100.0, 9000.0], 8000.0) == (100.0, 0.999 * 8000.0)
    with pytest.raises(InputError, match="beyond the collision energy"):
        data_range([9000.0, 9500.0], 8000.0)


@pytest.fixture
def dimuons(tmp_path):
    rng = np.random.default_rng(12)
    m = np.concatenate([drawn(falling, 60.0, 130.0, 8000, rng), rng.normal(91.2, 2.5, 4000)])
    path = tmp_path / "dimuons.parquet"
    pq.write_table(pa.table({"m": m}), path)
    return path


def test_command_line_says_what_was_found_and_left_out(dimuons, tmp_path, capfd):
    assert (
        run_command(
            ["bump", str(dimuons), "--mass", "m", "--toys", "20", "--figure", str(tmp_path / "f.png")]
        )
        == 0
    )
    out = capfd.readouterr().out
    assert "most significant peak: 91" in out
    assert "global p <= 0.0476" in out
    assert "by an estimate" in out
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
    arguments = ["bump", str(dimuons), "--mass", "m", "--toys", "20", "--mask", "80:102", "--json"]
    assert run_command(arguments) == 0
    masked = json.loads(capfd.readouterr().out)
    assert masked["masks"] == [[80.0, 102.0]]
    assert masked["p_global"] > 0.01
    assert run_command([*arguments, "--figure", "f.gif"]) == 2
    assert "must end in one of" in capfd.readouterr().err
    assert run_command(["bump", str(dimuons), "--mass", "m", "--mask", "80"]) == 2
    assert "mask '80' is not a mass interval" in capfd.readouterr().err


def test_a_kept_family_carries_its_gaps_into_every_fit():
    rng = np.random.default_rng(13)
    m = drawn(falling, 60.0, 160.0, 30_000, rng)
    window, family = Window(110.0, 116.0), get_family("auto", gaps=[(80.0, 100.0)])
    edges = make_edges((60.0, 160.0), window)
    fit = fit_inclusive(m, window, edges, family)
    assert fit.family.gaps == ((80.0, 100.0),)
    hidden = fit.family.hidden(edges)
    assert hidden.sum() > 3
    assert not (fit.kept & hidden).any()
    assert fit.n_dof == fit.kept.sum() - fit.n_parameters
    shifted = m[(m < 80) | (m >= 100)]
    other = fit_inclusive(shifted, window, edges, family)
    whole_bins_kept = ~hidden
    assert np.allclose(
        fit.counts[whole_bins_kept & (edges[1:] < 79)], other.counts[whole_bins_kept & (edges[1:] < 79)]
    )
    assert other.window(*np.flatnonzero(fit.mask)[[0, -1]]) == pytest.approx(
        fit.window(*np.flatnonzero(fit.mask)[[0, -1]]), rel=0.02
    )


@pytest.mark.parametrize("n", [60_000, 5_000])
def test_a_turn_on_is_cut_and_told_and_no_peak_made_of_it(n):
    rng = np.random.default_rng(7)
    m = 1000.0 * (1.0 - rng.random(n)) ** (-1 / 5.0)
    m = m[(rng.random(n) < 0.5 * (1 + special.erf((m - 1300.0) / 60.0))) & (m < 6000)]
    found = find_peak(m, n_toys=99, rng=np.random.default_rng(1))
    assert found.p_global > 0.05
    assert found.described
    # the error function is at 0.92 at 1360 GeV
    assert found.mass_range.low > 1360.0
    assert "turn-on" in found.mass_range.reason
    assert found.mass_range.below == np.count_nonzero(m < found.mass_range.low)


def test_a_window_on_a_turn_on_warns_or_has_an_error_that_knows():
    rng = np.random.default_rng(7)
    m = 1000.0 * (1.0 - rng.random(60_000)) ** (-1 / 5.0)
    m = m[(rng.random(len(m)) < 0.5 * (1 + special.erf((m - 1300.0) / 60.0))) & (m < 6000)]
    result = bump_hunt(m, Window(1250.0, 1350.0))
    pull = (result.observed - result.expected) / np.hypot(result.expected_error, np.sqrt(result.expected))
    assert abs(pull) < 3.5 or result.warnings


def test_groups_count_as_one_event_and_uneven_weights_are_told():
    rng = np.random.default_rng(8)
    m = np.concatenate([drawn(falling, 60.0, 130.0, 3000, rng), rng.normal(91.2, 2.5, 100)])
    once = find_peak(m, n_toys=20, rng=np.random.default_rng(1))
    twice, pairs = np.repeat(m, 2), np.repeat(np.arange(len(m)), 2)
    grouped = find_peak(twice, groups=pairs, n_toys=20, rng=np.random.default_rng(1))
    assert grouped.z_local == pytest.approx(once.z_local, abs=1e-6)
    assert grouped.signal == pytest.approx(2 * once.signal, rel=1e-6)
    assert grouped.effective_events == pytest.approx(once.effective_events)
    assert once.warnings == grouped.warnings == ()
    copied = find_peak(twice, n_toys=20, bins=len(once.counts), rng=np.random.default_rng(1))
    assert copied.z_local > 1.3 * once.z_local
    weights = np.where(np.arange(len(m)) == np.abs(m - once.peak_mass).argmin(), 60.0, 1.0)
    uneven = find_peak(m, weights=weights, n_toys=20, rng=np.random.default_rng(1))
    assert any("weight 60 moves the significance" in text for text in uneven.warnings)


def test_an_order_without_a_window_is_refused(tmp_path, capsys):
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"m": np.linspace(60.0, 130.0, 500)}), path)
    assert run_command(["bump", str(path), "--mass", "m", "--order", "lrt"]) == 2
    assert "--order lrt is for a window" in capsys.readouterr().err


def test_a_window_on_the_rise_of_a_turn_on_is_warned_of():
    claims, told = 0, 0
    for seed in range(16):
        rng = np.random.default_rng([seed, 9])
        m = 1500.0 * (1.0 - rng.random(60_000)) ** (-1 / 6.0)
        m = m[(rng.random(len(m)) < 0.5 * (1 + special.erf((m - 2000.0) / 150.0))) & (m < 9000)]
        result = bump_hunt(m, Window(2000.0, 2200.0))
        claim = result.p_local < 0.05
        claims += claim
        told += claim and any("turn-on" in text for text in result.warnings)
    assert claims >= 5
    assert told >= claims - 1


@pytest.mark.parametrize(("background", "least"), [("auto", 5), ("dijet", 4), ("exppoly", 1)])
def test_a_window_on_the_top_of_a_broad_hump_is_warned_of(background, least):
    window, told = Window(3200.0, 3600.0), 0
    for seed in (2, 3, 6, 12, 13):
        rng = np.random.default_rng([seed, 13])
        m = drawn(
            lambda m: stats.norm.pdf(m, 2000.0, 350.0) + 0.5 * stats.norm.pdf(m, 3400.0, 500.0),
            1000.0,
            6000.0,
            10_000,
            rng,
        )
        found = bump_hunt(m, window, background=background)
        bends = any("bend faster" in note for note in found.warnings)
        assert bends == (found.spectrum.rough_spread > 0)
        assert found.warnings
        told += bends
    assert told >= least
    rng = np.random.default_rng([0, 13])
    for _ in range(2):
        m = drawn(falling, 1500.0, 8000.0, 20_000, rng)
        assert bump_hunt(m, Window(2500.0, 2750.0), background=background).spectrum.rough_spread == 0.0


def test_a_smooth_spectrum_is_not_taken_for_a_turn_on():
    told = 0
    for seed in range(12):
        rng = np.random.default_rng([seed, 10])
        m = drawn(falling, 1500.0, 8000.0, 20_000, rng)
        told += bump_hunt(m, Window(2500.0, 2750.0)).spectrum.turn_on_spread > 0
    assert told <= 3


def test_a_slow_turn_on_is_cut_or_warned_of():
    cut = 0
    for seed in range(4):
        rng = np.random.default_rng([seed, 12])
        m = 1500.0 * (1.0 - rng.random(50_000)) ** (-1 / 6.0)
        m = m[(rng.random(len(m)) < 0.5 * (1 + special.erf((m - 2000.0) / 150.0))) & (m < 9000)]
        found = find_peak(m, n_toys=99, rng=rng)
        cut += found.mass_range.low > 2100
        assert found.p_global > 0.02 or any("turn-on or a kink" in text for text in found.warnings)
    assert cut >= 2


def test_a_fit_goes_downhill_where_hardly_anything_is_expected():
    """An event where 1e-13 are expected: the slope must be that of the value."""
    edges = np.linspace(1000.0, 5000.0, 81)
    rng = np.random.default_rng(4)
    counts = np.histogram(1000.0 + rng.exponential(100.0, 20_000), edges)[0].astype(float)[None]
    (null,) = background_fits(counts, edges, get_family("exp:1"))
    counts[0, -2] = 1.0
    objective = _PeakObjective(counts.T, null.design, candidates(edges).share[:1].T)
    params, row = np.append(null.theta, [[0.0]], axis=1), np.zeros(1, dtype=int)
    assert null.design.counts(null.theta)[-2, 0] < 1e-13
    slope = 2.0 * objective.slope(params, row)[0][0]
    for k, step in enumerate(1e-5 * np.eye(params.shape[1])[:-1]):
        up, down = (objective.value(params + sign * step, row)[0] for sign in (1, -1))
        assert (up - down) / 2e-5 == pytest.approx(slope[k], rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("background", ["poly:2", "bernstein:3", "turn-on:6"])
def test_functions_that_are_no_exponentials_are_refused(background):
    with pytest.raises(InputError, match="cannot be fitted together with peaks of any mass"):
        find_peak(np.linspace(9.0, 9.7, 500), background=background, n_toys=10, rng=np.random.default_rng(0))


def test_the_range_does_not_depend_on_the_function_that_is_asked_for():
    """A stiff function describes little of a spectrum, and would have cut off the rest, a peak included."""
    rng = np.random.default_rng(21)
    m = rng.uniform(9.0, 9.7, 60_000)
    bent = m[rng.random(len(m)) < 1.0 - 0.7 * ((m - 9.35) / 0.35) ** 2]
    m = np.concatenate([bent, rng.normal(9.46, 0.07, 8000)])
    stiff, usual = (find_peak(m, background=b, n_toys=5, rng=rng).mass_range for b in ("exp:1", "auto"))
    assert (stiff.low, stiff.high) == (usual.low, usual.high)
