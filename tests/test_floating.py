from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from iminuit import Minuit
from scipy import stats

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.statistics.fit import FitError, deviance
from serendip.statistics.floating import settled
from serendip.statistics.model import BinnedModel
from serendip.statistics.signal_fit import fit_signal
from serendip.statistics.signals import double_crystal_ball, gaussian, template_shape
from serendip.statistics.spectrum_fit import fit_resonance

# as around the psi(2S): 3,000 events on a rising background, 1,100 in a peak
EDGES = np.geomspace(3.5, 3.9, 45)
MASS, WIDTH, YIELD = 3.684, 0.03, 1100.0
BACKGROUND = 3000 * np.diff(EDGES**3) / (EDGES[-1] ** 3 - EDGES[0] ** 3)
BOTH = ("mass", "width")


def model(start=(MASS, WIDTH), floats=BOTH, background="exp:1", **options) -> BinnedModel:
    return BinnedModel.spectrum(EDGES, background, gaussian(*start), floats=floats, **options)


def toys(n: int, seed: int, signal: float = YIELD) -> np.ndarray:
    mean = BACKGROUND + signal * gaussian(MASS, WIDTH).fractions(EDGES)
    return np.random.default_rng(seed).poisson(mean, (n, len(mean))).astype(float)


def test_a_floating_peak_is_that_of_minuit():
    data = toys(1, 1)[0]
    found = settled(model((3.70, 0.04)), data)
    fit = fit_signal(found, data)
    design = found.designs[0]

    def objective(a: float, b: float, mu: float, mass: float, width: float) -> float:
        total = design.expected(np.array([[a, b]]))[0][:, 0] + mu * np.diff(
            stats.norm.cdf(EDGES, mass, width)
        )
        return float(deviance(data, total)) if width > 0 and np.all(total > 0) else 1e9

    minuit = Minuit(objective, 4.0, 0.0, 1000.0, 3.69, 0.03)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.strategy = 2
    minuit.migrad()
    minuit.minos("mu", "mass", "width")
    assert fit.mu == pytest.approx(minuit.values["mu"], rel=1e-3)
    for name, got in fit.floats.items():
        assert got.value == pytest.approx(minuit.values[name], abs=0.02 * minuit.errors[name])
        assert got.error == pytest.approx(minuit.errors[name], rel=0.1)
        ends = [minuit.values[name] + getattr(minuit.merrors[name], side) for side in ("lower", "upper")]
        np.testing.assert_allclose(got.interval_68, ends, atol=0.03 * minuit.errors[name])
    ends = [minuit.values["mu"] + getattr(minuit.merrors["mu"], side) for side in ("lower", "upper")]
    np.testing.assert_allclose(fit.interval_68, ends, atol=0.03 * minuit.errors["mu"])
    assert fit.p is None


@pytest.mark.parametrize("floats", [("mass",), ("width",), BOTH])
def test_pulls_of_what_floats_are_standard_normal(floats):
    n = 300
    fits = model(floats=floats).fit(toys(n, 2))
    pulls = [(fits.mu - YIELD) / fits.mu_error]
    truth = {"mass": MASS, "width": WIDTH}
    pulls += [(fits.floats[:, j] - truth[name]) / fits.float_errors[:, j] for j, name in enumerate(floats)]
    for pull in pulls:
        assert abs(pull.mean()) < 4 / np.sqrt(n)
        assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize("start", [(3.62, 0.03), (3.75, 0.03), (3.70, 0.015), (3.66, 0.06)])
def test_the_fit_finds_the_peak_from_afar(start):
    data = toys(1, 3)[0]
    peak = settled(model(start, background="exp:2"), data).peak.shape
    assert peak.mass == pytest.approx(MASS, abs=0.006)
    assert peak.width == pytest.approx(WIDTH, abs=0.006)


def test_a_flexible_background_is_not_the_peak():
    """Functions that can bend within the peak are left out, and the yield does not go to them."""
    data = toys(1, 4, signal=9000.0)[0]
    found = settled(model((3.70, 0.04), background=["exppoly", "exp"], choice="envelope"), data)
    # 0.4 GeV are 4.4 times three widths
    assert max(p for _, p, _ in found.members) == 5
    fit = fit_signal(found, data)
    assert fit.mu == pytest.approx(9000, abs=4 * fit.mu_error)
    assert fit.mu_error < 400


def test_a_shape_with_tails_floats_too():
    tails = {"alpha_low": 1.2, "n_low": 3.0, "alpha_high": 2.0, "n_high": 4.0}
    truth = double_crystal_ball(MASS, WIDTH, **tails)
    data = BACKGROUND + YIELD * truth.fractions(EDGES)
    start = double_crystal_ball(3.67, 0.035, **tails)
    fit = BinnedModel.spectrum(EDGES, "exp:2", start, floats=BOTH).fit(data)
    np.testing.assert_allclose(fit.floats[0], [MASS, WIDTH], rtol=2e-3)
    assert fit.mu[0] == pytest.approx(YIELD, rel=0.02)


def test_what_cannot_float_is_explained():
    hole = BACKGROUND - 60 * gaussian(3.7, 0.03).fractions(EDGES)
    with pytest.raises(FitError, match="no clear peak within three widths"):
        settled(model((3.70, 0.01)), hole)
    sample = np.random.default_rng(1).normal(MASS, WIDTH, 1000)
    with pytest.raises(InputError, match="its histogram has steps"):
        BinnedModel.spectrum(EDGES, "exp:1", template_shape(sample), floats=("mass",))
    with pytest.raises(InputError, match="cannot float"):
        model(floats=("place",))
    with pytest.raises(InputError, match="choose one of both"):
        model(scale_error=0.01)
    masses = np.random.default_rng(2).uniform(3.5, 3.9, 2000)
    for extra in ({"limit": True}, {"toys": 300}):
        with pytest.raises(InputError, match="given mass and width"):
            fit_resonance(masses, gaussian(MASS, WIDTH), floats=("mass",), **extra)


def test_command_prints_mass_and_width(tmp_path, capsys):
    rng = np.random.default_rng(6)
    table = tmp_path / "psi.parquet"
    pq.write_table(
        pa.table({"M": np.concatenate([rng.uniform(3.5, 3.9, 3000), rng.normal(MASS, WIDTH, 1100)])}), table
    )
    base = [
        "fit",
        str(table),
        "--mass",
        "M",
        "--range",
        "3.5:3.9",
        "--background",
        "exp:1",
        "--signal",
        "gauss:3.7:0.01",
    ]
    assert run([*base, "--float", "width,mass", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name, truth in (("mass", MASS), ("width", WIDTH)):
        low, high = found["floats"][name]["interval_95"]
        assert low < truth < high
        assert found["floats"][name]["error"] == pytest.approx(0.25 * (high - low), rel=0.15)
    assert found["limit"] is None
    assert run([*base, "--float", "mass"]) == 0
    text = capsys.readouterr().out
    assert "mass 3.68" in text
    assert "no p-value" in text
    assert run([*base, "--float", "mass", "--limit"]) == 2


def test_spurious_signal_is_an_error_of_the_strength():
    rng = np.random.default_rng(7)
    mean = BACKGROUND + 300 * gaussian(MASS, WIDTH).fractions(EDGES)
    data = rng.poisson(mean).astype(float)
    plain = model(floats=()).fit(data)
    sure, unsure = (
        BinnedModel.spectrum(EDGES, "exp:1", gaussian(MASS, WIDTH), spurious=s) for s in (0.0, 80.0)
    )
    assert sure.fit(data).mu_error[0] == pytest.approx(plain.mu_error[0])
    fit = unsure.fit(data)
    assert fit.mu[0] == pytest.approx(plain.mu[0], rel=1e-4)
    assert fit.mu_error[0] == pytest.approx(np.hypot(plain.mu_error[0], 80.0), rel=1e-3)
    assert unsure.nuisances == ("spurious signal",)
    # without signal it is the spurious one that explains the excess
    null = unsure.fit(data, 0.0)
    share = 80.0**2 / (80.0**2 + plain.mu_error[0] ** 2)
    assert null.nuisance[0, 0] * 80 == pytest.approx(plain.mu[0] * share, rel=0.05)
    z = [np.sqrt(m.fit(data, 0.0).deviance[0] - m.fit(data).deviance[0]) for m in (sure, unsure)]
    assert z[1] == pytest.approx(z[0] * plain.mu_error[0] / fit.mu_error[0], rel=0.1)
