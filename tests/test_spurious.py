"""The spurious signal of `serendip fit`: measured beside the signal, part of its error."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import serendip.statistics.spurious as spurious_module
from serendip.cli.main import run
from serendip.statistics.functions import BackgroundFamily, get_family
from serendip.statistics.model import BinnedModel
from serendip.statistics.signals import gaussian
from serendip.statistics.spectrum_fit import fit_resonance
from serendip.statistics.spurious import SpuriousSignal, spurious_signal

EDGES = np.geomspace(60.0, 200.0, 61)
SHAPE = gaussian(110.0, 3.3)


def spectrum(wave: float = 0.0, phase: float = 0.0, signal: float = 0.0, n: float = 20_000.0) -> np.ndarray:
    """Expected events of an exponential of 40 GeV with a wave in ln m, and of a signal at 110 GeV."""
    centre = np.sqrt(EDGES[1:] * EDGES[:-1])
    shape = -np.diff(np.exp(-EDGES / 40.0)) * (1 + wave * np.sin(2 * np.pi * np.log(centre) / 0.3 + phase))
    return n * shape / shape.sum() + signal * SHAPE.fractions(EDGES)


def measured(
    n: np.ndarray, edges: np.ndarray = EDGES, background: str | BackgroundFamily = "exp:1"
) -> SpuriousSignal:
    return spurious_signal(BinnedModel.spectrum(edges, background, SHAPE), n, edges, SHAPE)


def test_where_the_function_is_right_there_is_none():
    found = measured(spectrum())
    assert found.events == 0
    assert found.p > 0.999
    assert len(found.masses) == 10
    mass = np.array(found.masses)
    # 90 % of the signal lie within 1.645 widths; none of these intervals overlaps with another one or with the signal
    half = 1.645 * 0.03
    every = np.sort(np.append(mass, 110.0))
    assert np.all(every[1:] * (1 - half) > every[:-1] * (1 + half) * (1 - 1e-3))
    assert mass.min() * (1 - 2 * half) > 60
    assert mass.max() * (1 + 2 * half) < 200


def test_the_error_is_the_formula_of_fits_by_hand():
    n = np.random.default_rng(1).poisson(spectrum(0.1)).astype(float)
    found = measured(n)
    mu, sigma, b = [], [], []
    mask = (EDGES[1:] > SHAPE.window(0.9)[0]) & (EDGES[:-1] < SHAPE.window(0.9)[1])
    for mass in found.masses:
        model = BinnedModel.spectrum(EDGES, "exp:1", gaussian(mass, 0.03 * mass), mask=mask)
        fit = model.fit(n)
        mu.append(fit.mu[0])
        sigma.append(fit.mu_error[0])
        b.append(model.events_under_signal(fit.background[0]))
    pulls = np.divide(mu, sigma)
    assert found.pulls == pytest.approx(pulls, rel=1e-4, abs=1e-4)
    assert found.p == pytest.approx(stats.chi2.sf((pulls**2).sum(), 10), rel=1e-3)
    assert found.p < 1e-3
    model = BinnedModel.spectrum(EDGES, "exp:1", SHAPE)
    here = model.events_under_signal(model.fit(n).background[0])
    tau = np.sqrt((np.square(mu) - np.square(sigma)).sum() / np.square(b).sum())
    assert found.events == pytest.approx(tau * here, rel=1e-3)


def test_the_error_is_as_large_as_the_bias_of_the_fit():
    """Without statistical error: root mean square over the phases of the wave."""
    bias, found = [], []
    n = 4e6
    for phase in np.arange(8) * np.pi / 4:
        data = spectrum(0.03, phase, n=n)
        bias.append(BinnedModel.spectrum(EDGES, "exp:1", SHAPE).fit(data).mu[0])
        found.append(measured(data).events)
    assert np.mean(found) == pytest.approx(np.sqrt(np.mean(np.square(bias))), rel=0.3)


def test_a_strong_signal_is_not_taken_for_a_spurious_one(monkeypatch):
    data = spectrum(signal=6000.0)
    found = measured(data)
    assert np.abs(found.pulls).max() < 0.5
    assert found.events == 0
    monkeypatch.setattr(spurious_module, "_SHARES", (0.9,))
    assert np.abs(measured(data).pulls).max() > 2.5


def test_masks_and_ends_of_the_range_leave_places_out():
    gap = get_family("exp:1", gaps=[(140.0, 150.0)])
    found = measured(spectrum(), background=gap)
    every = measured(spectrum())
    assert set(found.masses) < set(every.masses)
    assert not [m for m in found.masses if m * 1.049 > 140 and m * 0.951 < 150]
    narrow = slice(26, 42)
    none = measured(spectrum()[narrow], EDGES[26:43])
    assert (none.events, none.p, none.masses) == (0.0, None, ())
    # fewer than five events under the signal say nothing of a function
    few = measured(spectrum(n=100))
    under = [
        BinnedModel.spectrum(EDGES, "exp:1", gaussian(m, 0.03 * m)).events_under_signal(spectrum(n=100))
        for m in every.masses
    ]
    assert list(few.masses) == [m for m, b in zip(every.masses, under, strict=True) if b >= 5]
    assert 2 < len(few.masses) < 10


def test_the_fit_has_it_in_its_error_unless_another_is_given():
    rng = np.random.default_rng(3)
    centre = np.repeat(np.sqrt(EDGES[1:] * EDGES[:-1]), rng.poisson(spectrum(0.1, 1.0)))
    options = {"mass_range": (60.0, 200.0), "bins": 60, "background": ("exp:1",), "limit": True}
    default = fit_resonance(centre, SHAPE, **options)
    none = fit_resonance(centre, SHAPE, spurious=0.0, **options)
    given = fit_resonance(centre, SHAPE, spurious=default.spurious, **options | {"limit": False})
    assert default.spurious == default.measured.events > 30
    assert none.measured is None
    assert default.fit.mu_error == pytest.approx(np.hypot(none.fit.mu_error, default.spurious), rel=0.02)
    assert default.limit.observed > none.limit.observed + 20
    assert abs(default.fit.z) < abs(none.fit.z)
    assert given.fit.interval_95 == default.fit.interval_95
    # in units of the yield, and with weights
    scaled = fit_resonance(
        centre, SHAPE, signal_yield=10.0, weights=np.full(len(centre), 2.5), **options | {"limit": False}
    )
    assert scaled.spurious == pytest.approx(2.5 * default.spurious, rel=1e-3)
    assert scaled.fit.mu_error == pytest.approx(0.25 * default.fit.mu_error, rel=1e-3)


def test_command_says_where_it_comes_from(tmp_path, capfd):
    rng = np.random.default_rng(4)
    mass = 60.0 - 40.0 * np.log1p(-rng.random(8000) * -np.expm1(-140.0 / 40.0))
    table = tmp_path / "z.parquet"
    pq.write_table(pa.table({"m": np.append(mass, rng.normal(91.2, 2.5, 800))}), table)
    base = ["fit", str(table), "--mass", "m", "--range", "60:200", "--background", "exp:1", "--bins", "60"]
    base += ["--signal", "gauss:130:0.03", "--no-limit"]
    assert run(base) == 0
    out = capfd.readouterr().out
    assert "events, part of the error (the signal at" in out
    assert "--mask it" in out
    assert run([*base, "--mask", "80:102"]) == 0
    assert "no spurious signal (the signal at" in capfd.readouterr().out
    assert run([*base, "--spurious-signal", "25", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["spurious_signal"] == {"events": 25.0, "measured": None}
    assert "spurious signal" in found["nuisance"]
    assert run([*base, "--spurious-signal", "some"]) == 2
    assert "expected measured or a number of events" in capfd.readouterr().err
