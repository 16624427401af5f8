from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.statistics.signals import gaussian
from serendip.statistics.spectrum_fit import fit_resonance, scan_masses

RANGE = (2400.0, 6500.0)


def events(n: int, signal: int, seed: int) -> np.ndarray:
    """Masses with a falling spectrum between 2.4 and 6.5 TeV, and a peak at 3.5 TeV."""
    rng = np.random.default_rng(seed)
    background = 2400 * (1 - rng.random(2 * n) * (1 - (2400 / 6500) ** 5)) ** (-1 / 5)
    return np.concatenate([background[:n], rng.normal(3500, 105, signal)])


def test_an_injected_peak_is_measured():
    result = fit_resonance(events(20_000, 300, 1), gaussian(3500.0, 105.0), mass_range=RANGE)
    assert abs(result.fit.mu - 300) < 3 * result.fit.mu_error
    assert result.fit.z > 3
    assert result.gof_p > 0.01
    assert result.limit.observed > result.fit.mu
    assert result.limit.observed > result.limit.expected[2]
    assert result.counts.sum() == result.n_events
    assert result.toy_p is None


def test_every_option_has_an_effect():
    mass, shape = events(4000, 60, 2), gaussian(3500.0, 105.0)
    default = fit_resonance(mass, shape, mass_range=RANGE)
    assert len(fit_resonance(mass, shape, mass_range=RANGE, bins=20, limit=False).counts) == 20
    assert fit_resonance(mass, shape, mass_range=(2600.0, 6000.0), limit=False).n_events < default.n_events
    assert fit_resonance(mass, shape, mass_range=RANGE, limit=False).limit is None
    assert (
        fit_resonance(mass, shape, mass_range=RANGE, background=("exppoly:2",), limit=False).fit.background
        == "exppoly-2"
    )
    both = fit_resonance(mass, shape, mass_range=RANGE, background=("dijet:3", "exppoly:2"), limit=False)
    assert both.fit.background in ("dijet-3", "exppoly-2")
    per_hundred = fit_resonance(mass, shape, mass_range=RANGE, signal_yield=100.0, limit=False)
    assert per_hundred.fit.mu == pytest.approx(default.fit.mu / 100, rel=1e-3)
    blurred = fit_resonance(
        mass, shape, mass_range=RANGE, yield_error=0.3, scale_error=0.02, resolution_error=0.2
    )
    assert set(blurred.fit.nuisance) == {"signal yield", "mass scale", "resolution"}
    # an error of the yield changes no count, but what can be excluded
    assert blurred.limit.observed > default.limit.observed
    toys = fit_resonance(mass, shape, mass_range=RANGE, limit=False, toys=150)
    assert toys.toy_p == pytest.approx(default.fit.p, abs=0.05)


def test_common_weight_scales_the_strength_and_keeps_the_significance():
    mass, shape = events(4000, 80, 3), gaussian(3500.0, 105.0)
    a = fit_resonance(mass, shape, mass_range=RANGE)
    b = fit_resonance(mass, shape, mass_range=RANGE, weights=np.full(len(mass), 2.5))
    assert b.fit.z == pytest.approx(a.fit.z, abs=1e-3)
    assert b.fit.mu == pytest.approx(2.5 * a.fit.mu, rel=1e-3)
    assert b.limit.observed == pytest.approx(2.5 * a.limit.observed, rel=2e-3)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("what", ["yield", "weight"])
def test_the_strength_may_have_any_unit(what, size):
    mass, shape = events(4000, 80, 3), gaussian(3500.0, 105.0)
    options = {"mass_range": RANGE, "bins": 40, "background": ("dijet:3",)}
    plain = fit_resonance(mass, shape, **options)
    unit = 1 / size if what == "yield" else size
    changed = {"signal_yield": size} if what == "yield" else {"weights": np.full(len(mass), size)}
    scaled = fit_resonance(mass, shape, **options, **changed)
    assert scaled.fit.p == pytest.approx(plain.fit.p, rel=1e-6)
    for name in ("mu", "mu_error", "interval_68", "interval_95"):
        np.testing.assert_allclose(
            getattr(scaled.fit, name), np.multiply(getattr(plain.fit, name), unit), rtol=1e-5
        )
    assert scaled.limit.observed == pytest.approx(plain.limit.observed * unit, rel=1e-4)
    np.testing.assert_allclose(scaled.limit.expected, np.multiply(plain.limit.expected, unit), rtol=1e-4)
    # a signal of 1e6 times the data has no expected significance, one of 1e-6 events next to none
    expected = scaled.fit.expected_z
    assert expected is None if unit < 1 else expected == pytest.approx(1 / plain.fit.mu_error / unit, rel=0.2)


def test_scan_finds_the_peak():
    found = scan_masses(events(8000, 250, 4), (3000.0, 4400.0), 0.04, toys=25, mass_range=RANGE, bins=50)
    assert found.scan.mass[found.scan.best] == pytest.approx(3500, rel=0.03)
    assert found.scan.p_global == pytest.approx(1 / 26)
    assert found.to_dict()["background"] == ["auto"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mass_range": (9000.0, 9900.0)}, "0 of 500 events have a mass between 9000 and 9900"),
        ({"bins": 3}, "too few to fit"),
        ({"yield_error": 2.0}, "relative error of the yield"),
        ({"signal_yield": 0.0}, "must be positive"),
        ({"weights": -np.ones(500)}, "sum.* -500"),
        ({"weights": np.where(np.arange(500) == 7, -300.0, 1.0)}, "GeV sum to -2"),
        ({"shape": gaussian(3500.0, 1.0), "bins": 30}, "choose more --bins"),
        ({"background": ("nothing",)}, "unknown background"),
        ({"shape": gaussian(9000.0, 10.0)}, "outside the fitted bins"),
    ],
)
def test_bad_input_is_explained(change, message):
    arguments = {"mass": events(500, 0, 5), "shape": gaussian(3500.0, 105.0), "mass_range": RANGE, **change}
    with pytest.raises(InputError, match=message):
        fit_resonance(arguments.pop("mass"), arguments.pop("shape"), **arguments)


def test_command_prints_the_fit_and_the_scan(tmp_path, capsys):
    table = tmp_path / "events.parquet"
    pq.write_table(pa.table({"mjj": events(4000, 120, 6)}), table)
    peak = tmp_path / "signal.parquet"
    pq.write_table(pa.table({"mjj": np.random.default_rng(7).normal(3500, 105, 2000)}), peak)
    base = ["fit", str(table), "--mass", "mjj", "--range", "2400:6500"]
    assert run([*base, "--signal", "gauss:3500:0.03", "--json"]) == 0
    analytic = json.loads(capsys.readouterr().out)
    assert run([*base, "--signal-file", str(peak), "--json"]) == 0
    sampled = json.loads(capsys.readouterr().out)
    assert sampled["mu"] == pytest.approx(analytic["mu"], rel=0.15)
    assert sampled["limit"]["observed"] == pytest.approx(analytic["limit"]["observed"], rel=0.15)
    assert run([*base, "--signal", "gauss:3500:0.03"]) == 0
    text = capsys.readouterr().out
    assert "signal strength" in text
    assert "CLs upper limit" in text
    assert run([*base, "--scan", "3400:3600", "--bins", "40"]) == 0
    text = capsys.readouterr().out
    assert "global p" in text
    assert "background auto" in text
    assert run(base) == 2
    assert "give one of --signal" in capsys.readouterr().err


def test_toys_follow_the_seed():
    mass, shape = events(600, 12, 8), gaussian(3500.0, 105.0)
    p = [
        fit_resonance(
            mass, shape, mass_range=RANGE, background=("dijet:3",), limit=False, toys=300, seed=seed
        ).toy_p
        for seed in (1, 1, 2)
    ]
    assert p[0] == p[1] != p[2]


def test_simulated_signal_with_negative_weights(tmp_path, capsys):
    """Weights of both signs give the strength of the sample without them, and say what they are worth."""
    table, peak, plain = (tmp_path / f"{name}.parquet" for name in ("events", "nlo", "lo"))
    pq.write_table(pa.table({"mjj": events(4000, 120, 6)}), table)
    rng = np.random.default_rng(7)
    m = rng.normal(3500, 105, 20_000)
    pq.write_table(pa.table({"mjj": m, "w": np.where(rng.random(len(m)) < 0.2, -0.01, 0.01)}), peak)
    pq.write_table(pa.table({"mjj": m}), plain)
    base = [
        "fit",
        str(table),
        "--mass",
        "mjj",
        "--range",
        "2400:6500",
        "--bins",
        "60",
        "--background",
        "dijet:3",
    ]
    base += ["--no-limit", "--json", "--signal-file"]
    assert run([*base, str(peak), "--signal-weight", "w"]) == 0
    signed = json.loads(capsys.readouterr().out)
    assert run([*base, str(plain)]) == 0
    unsigned = json.loads(capsys.readouterr().out)
    assert signed["mu"] == pytest.approx(unsigned["mu"], rel=0.03)
    assert signed["simulation"]["effective"] == pytest.approx(7200, rel=0.05)
    assert unsigned["simulation"]["effective"] == 20_000
    assert signed["simulation"]["n_negative"] == pytest.approx(4000, rel=0.05)
    assert run([*base[:-2], "--signal-file", str(peak), "--signal-weight", "w"]) == 0
    assert "with negative weight" in capsys.readouterr().out
    # the weight of the simulation given as that of the data
    assert run([*base, str(peak), "--weight", "w"]) == 2
    assert "--signal-weight w" in capsys.readouterr().err
    assert run([*base[:-1], "--signal", "gauss:3500:0.03", "--signal-weight", "w"]) == 2


def test_a_spectrum_of_simulation_with_negative_weights_is_fitted():
    mass, shape = events(30_000, 900, 9), gaussian(3500.0, 105.0)
    options = {"mass_range": RANGE, "bins": 30, "background": ("dijet:3",), "limit": False}
    signs = np.where(np.random.default_rng(1).random(len(mass)) < 0.15, -1.0, 1.0)
    plain, signed = (
        fit_resonance(mass, shape, **options),
        fit_resonance(mass, shape, weights=signs, **options),
    )
    # 15 % of weight -1: 0.7 of the yield, with the error of all events
    assert signed.fit.mu == pytest.approx(0.7 * plain.fit.mu, abs=2.5 * plain.fit.mu_error)
    assert signed.fit.mu_error == pytest.approx(plain.fit.mu_error, rel=0.1)


def test_events_that_are_there_twice_count_once():
    mass, shape = events(3000, 80, 10), gaussian(3500.0, 105.0)
    options = {"mass_range": RANGE, "bins": 40, "background": ("dijet:3",), "limit": False}
    once = fit_resonance(mass, shape, **options)
    codes = np.tile(np.arange(len(mass)), 2)
    twice = fit_resonance(np.tile(mass, 2), shape, groups=codes, **options)
    assert twice.fit.z == pytest.approx(once.fit.z, abs=1e-6)
    assert twice.fit.mu_error == pytest.approx(2 * once.fit.mu_error, rel=1e-6)
    blind = fit_resonance(np.tile(mass, 2), shape, spurious=0.0, **options)
    assert blind.fit.z == pytest.approx(np.sqrt(2) * once.fit.z, rel=0.02)
