"""Bump hunt without a classifier, in the library and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from serendip.cli.main import run as run_command
from serendip.cli.parsing import parse_interval, parse_window
from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.bump import bump_hunt
from serendip.statistics.pvalues import count_p_value, poisson_p

WINDOW = Window(3300.0, 3700.0)


def falling(n, rng, low=2000.0, high=8000.0, power=7):
    k = power - 1
    return (low**-k + rng.random(n) * (high**-k - low**-k)) ** (-1 / k)


def expected_in(window, n, low=2000.0, high=8000.0, power=7):
    k = power - 1
    return n * (window.low**-k - window.high**-k) / (low**-k - high**-k)


@pytest.mark.parametrize("background", ["dijet", "dijet:4", "exppoly:2", "exppoly"])
def test_background_only_agrees_with_the_truth(background):
    mass = falling(100_000, np.random.default_rng(0))
    result = bump_hunt(mass, WINDOW, background=background)
    assert result.observed == WINDOW.contains(mass).sum()
    assert abs(result.expected - expected_in(WINDOW, 100_000)) < 3 * result.expected_error
    assert abs(result.z_local) < 3
    assert result.p_local == pytest.approx(
        float(count_p_value(result.observed, result.expected, result.expected_error)), rel=1e-9
    )


def test_polynomial_background_on_a_straight_spectrum():
    rng = np.random.default_rng(1)
    mass = 80.0 + 40.0 * (1 - np.sqrt(1 - rng.random(40_000) * 0.9))
    window = Window(90.0, 95.0)
    result = bump_hunt(mass, window, (82.0, 105.0), background="poly:2")
    assert result.spectrum.function == "poly-2"
    assert abs(result.z_local) < 3
    assert result.spectrum.gof_p > 1e-3


def test_injected_bump_is_found_with_its_size():
    rng = np.random.default_rng(2)
    mass = np.concatenate([falling(100_000, rng), rng.normal(3500, 50, 600)])
    result = bump_hunt(mass, WINDOW)
    assert result.observed - result.expected == pytest.approx(
        600, abs=4 * np.sqrt(result.expected + result.expected_error**2)
    )
    assert result.z_local > 4


def test_local_p_values_are_uniform_without_signal():
    rng = np.random.default_rng(3)
    z = np.array(
        [
            bump_hunt(falling(8000, rng), WINDOW, (2600.0, 6000.0), background="dijet:3").z_local
            for _ in range(150)
        ]
    )
    assert stats.kstest(stats.norm.sf(z), "uniform").pvalue > 1e-3
    assert abs(z.mean()) < 3.5 / np.sqrt(150)
    assert 0.82 < z.std() < 1.18


def test_window_tail_agrees_with_pybumphunter_at_a_fixed_reference():
    pybumphunter = pytest.importorskip("pyBumpHunter")
    edges = np.geomspace(2000, 6000, 26)
    expected = 1e5 * np.diff(-(edges**-6.0)) / (edges[0] ** -6 - edges[-1] ** -6)
    data = np.random.default_rng(4).poisson(expected).astype(float)
    data[12:14] += 60
    hunter = pybumphunter.BumpHunter1D(
        rang=(2000, 6000), width_min=2, width_max=4, bins=edges, npe=1, nworker=1, seed=1
    )
    hunter.bump_scan(data, expected, is_hist=True, do_pseudo=False)
    ours = min(
        float(poisson_p(data[i : i + w].sum(), expected[i : i + w].sum()))
        for w in (2, 3, 4)
        for i in range(len(data) - w + 1)
        if data[i : i + w].sum() > expected[i : i + w].sum()
    )
    assert ours == pytest.approx(float(np.ravel(hunter.min_Pval_ar[0])[0]), rel=1e-8)


def test_range_bins_and_background_do_something():
    mass = falling(50_000, np.random.default_rng(5))
    default = bump_hunt(mass, WINDOW, background="dijet")
    # a smooth spectrum is fitted from its first to its last event
    assert default.mass_range == pytest.approx((mass.min(), mass.max()))
    assert default.left_out.reason == ""
    result = bump_hunt(mass, WINDOW, (2500.0, 5000.0), 25, "dijet:5", sqrt_s=14_000.0)
    assert result.mass_range == (2500.0, 5000.0)
    assert len(result.spectrum.counts) == 25
    assert result.spectrum.n_parameters == 5
    assert (
        bump_hunt(mass, WINDOW, background="dijet", sqrt_s=9000.0).spectrum.params[1]
        != default.spectrum.params[1]
    )


def test_common_weight_scales_counts_and_keeps_p():
    mass = falling(20_000, np.random.default_rng(6))
    plain = bump_hunt(mass, WINDOW)
    heavy = bump_hunt(mass, WINDOW, weights=np.full(len(mass), 2.0))
    assert heavy.observed == 2 * plain.observed
    assert heavy.expected == pytest.approx(2 * plain.expected, rel=1e-6)
    assert heavy.z_local == pytest.approx(plain.z_local, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": Window(100.0, 200.0)}, "outside the data.*2000"),
        ({"window": Window(9000.0, 9500.0)}, "outside the data"),
        ({"window": Window(2100.0, 7999.999)}, "both sides|too few|window"),
        ({"mass_range": (3400.0, 6000.0)}, "both sides"),
        ({"bins": 2}, "at least 3 bins"),
        ({"background": "gauss"}, "gauss"),
        ({"sqrt_s": 3000.0}, "beyond the collision energy of 3 TeV; check the mass unit"),
        ({"weights": np.full(5000, -1.0)}, "weights"),
    ],
)
def test_bad_input_is_explained_with_numbers(change, message):
    mass = falling(5000, np.random.default_rng(7))
    arguments = {"mass": mass, "window": WINDOW, **change}
    with pytest.raises(InputError, match=message):
        bump_hunt(**arguments)


def test_no_events_and_too_few_events():
    with pytest.raises(InputError, match="no events"):
        bump_hunt(np.array([]), WINDOW)
    with pytest.raises(InputError, match=r"too few sideband events.*2 below and 2 above"):
        bump_hunt(np.array([3000.0, 3100.0, 3500.0, 4000.0, 4100.0]), WINDOW, (2900.0, 4200.0))


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(8)
    mass = np.concatenate([falling(30_000, rng), rng.normal(3500, 50, 400)])
    path = tmp_path / "events.parquet"
    pq.write_table(
        pa.table(
            {
                "mjj": mass,
                "mtev": mass / 1000.0,
                "w": np.full(len(mass), 2.0),
                "quality": rng.random(len(mass)),
            }
        ),
        path,
    )
    return path


def run(capfd, *args):
    code = run_command(["bump", *map(str, args)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_command_line_gives_the_library_numbers(table, capfd):
    code, out, _ = run(capfd, table, "--mass", "mjj", "--window", "3300:3700", "--json")
    assert code == 0
    printed = json.loads(out)
    expected = bump_hunt(pq.read_table(table)["mjj"].to_numpy(), WINDOW).to_dict()
    assert printed["observed"] == expected["observed"]
    assert printed["expected"] == pytest.approx(expected["expected"], rel=1e-9)
    assert printed["z_local"] > 5
    assert printed["n_events"] == 30_400


def test_command_line_options_have_an_effect(table, capfd):
    def numbers(*args):
        code, out, err = run(capfd, table, *args, "--json")
        assert code == 0, err
        return json.loads(out)

    base = numbers("--mass", "mjj", "--window", "3300:3700")
    tev = numbers("--mass", "mtev", "--window", "3.3:3.7", "--unit", "TeV")
    assert tev["window"] == [3300.0, 3700.0]
    assert tev["z_local"] == pytest.approx(base["z_local"], abs=0.05)
    weighted = numbers("--mass", "mjj", "--window", "3300:3700", "--weight", "w")
    assert weighted["observed"] == 2 * base["observed"]
    cut = numbers("--mass", "mjj", "--window", "3300:3700", "--where", "quality < 0.5")
    assert 0.4 < cut["observed"] / base["observed"] < 0.6
    other = numbers(
        "--mass",
        "mjj",
        "--window",
        "3300:3700",
        "--background",
        "exppoly:2",
        "--range",
        "2500:5000",
        "--bins",
        "30",
    )
    assert other["range"] == [2500.0, 5000.0]
    assert len(other["spectrum"]["counts"]) == 30
    assert other["fit"]["function"] == "exppoly-2"


def test_command_line_order_and_toys_have_an_effect(table, capfd):
    def numbers(*args):
        code, out, err = run(capfd, table, "--mass", "mjj", "--window", "3300:3700", *args, "--json")
        assert code == 0, err
        return json.loads(out)

    average, chosen = numbers(), numbers("--order", "lrt", "--toys", "80")
    assert average["fit"]["tried"][0]["weight"] > 0
    assert chosen["fit"]["tried"][0]["weight"] is None
    assert chosen["expected_error"] < average["expected_error"]
    assert "goodness" not in average
    assert chosen["goodness"]["deviance"]["n_toys"] == 80
    other = numbers("--order", "lrt", "--toys", "80", "--seed", "2")
    assert other["goodness"]["runs"] != chosen["goodness"]["runs"]
    _, out, _ = run(capfd, table, "--mass", "mjj", "--window", "3300:3700", "--toys", "50")
    assert "average of exppoly-2" in out
    assert "from 50 toys" in out


def test_without_a_window_the_bump_is_found_where_it_is(table, capfd):
    code, out, _ = run(capfd, table, "--mass", "mjj", "--range", "2500:6000", "--toys", "99", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["window"][0] < 3500 < found["window"][1]
    assert found["p_global"] == 0.01
    assert found["mass_range"] == [2500.0, 6000.0]
    code, out, _ = run(capfd, table, "--mass", "mjj", "--toys", "50", "--where", "quality<0.05")
    assert code == 0
    assert "global p" in out
    assert "50 toys" in out
    assert "goodness of fit" in out


def test_without_a_window_a_turn_on_is_left_out_and_a_bad_fit_is_named(tmp_path, capfd):
    rng = np.random.default_rng(4)
    mass = falling(20_000, rng)
    # nine of ten events below 2600 GeV are lost
    mass = mass[(mass > 2600) | (rng.random(len(mass)) < 0.1)]
    pq.write_table(pa.table({"m": mass}), tmp_path / "t.parquet")
    code, out, _ = run(capfd, tmp_path / "t.parquet", "--mass", "m", "--toys", "20", "--json")
    assert code == 0
    assert json.loads(out)["mass_range"][0] > 2550
    code, out, _ = run(capfd, tmp_path / "t.parquet", "--mass", "m", "--toys", "20", "--range", "2100:6000")
    assert code == 0
    assert "warning: no background describes the spectrum" in out


def test_command_line_text_is_for_people(table, capfd):
    code, out, _ = run(capfd, table, "--mass", "mjj", "--window", "3300:3700")
    assert code == 0
    assert "excess" in out
    assert "no trials factor" in out
    assert "3300-3700 GeV" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--mass", "mj", "--window", "3300:3700"], ["mj"]),
        (["--mass", "mjj", "--window", "3300"], ["3300", "LO:HI"]),
        (["--mass", "mjj", "--window", "3700:3300"], ["3700:3300"]),
        (["--mass", "mjj", "--window", "300:370"], ["outside the data"]),
        (["--mass", "mjj", "--window", "3300:3700", "--range", "a:b"], ["range", "a:b"]),
        (["--mass", "mjj", "--window", "3300:3700", "--background", "poly"], ["poly:DEGREE"]),
        (["--mass", "mjj", "--window", "3300:3700", "--bins", "1"], ["bins"]),
        (["--mass", "mjj", "--window", "3300:3700", "--unit", "MeV"], ["MeV"]),
        (["--mass", "mjj", "--window", "3300:3700", "--order", "bic"], ["bic", "average, lrt, f-test"]),
        (["--mass", "mjj", "--window", "3300:3700", "--toys", "-1"], ["-1"]),
        (["--mass", "mjj", "--toys", "0"], ["at least one toy"]),
    ],
)
def test_command_line_mistakes_end_with_code_two(table, capfd, args, words):
    code, out, err = run(capfd, table, *args)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_parse_window():
    assert parse_window("3300:3700") == WINDOW
    assert parse_window("3.3:3.7", "TeV") == WINDOW
    assert parse_interval(" 1e3 : 2e3 ") == (1000.0, 2000.0)


@pytest.mark.parametrize("text", ["", "3300", "3300:", "1:2:3", "b:a", "nan:5", "3:inf", "-1:3", "5:4"])
def test_parse_window_explains(text):
    with pytest.raises(InputError, match="LO:HI"):
        parse_window(text)
