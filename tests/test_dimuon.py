"""The tools on a narrow resonance of a few GeV, without a word about units, ranges or functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from serendip.cli.main import run

MASS, WIDTH, N_SIGNAL = 3.686, 0.03, 700


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(11)
    n = 3000
    mass = np.concatenate([rng.uniform(3.5, 3.9, n), rng.normal(MASS, WIDTH, N_SIGNAL)])
    boost = np.concatenate([rng.exponential(6.0, n), 8.0 + rng.exponential(6.0, N_SIGNAL)])
    opening = 2.0 * mass / np.hypot(boost, mass) * rng.uniform(0.8, 1.0, len(mass))
    columns = {
        "Run": rng.integers(160_000, 170_000, len(mass)),
        "Event": rng.permutation(len(mass)),
        "pt1": boost * rng.uniform(0.5, 0.8, len(mass)) + 2.0,
        "pt2": boost * rng.uniform(0.2, 0.5, len(mass)) + 1.0,
        "eta1": rng.uniform(-2.4, 2.4, len(mass)),
        "dphi": opening,
        "M": mass,
    }
    order = rng.permutation(len(mass))
    path = tmp_path_factory.mktemp("dimuon") / "pairs.csv"
    pyarrow.csv.write_csv(pa.table({name: values[order] for name, values in columns.items()}), path)
    return path


def test_the_peak_is_found_anywhere(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bump", str(table), "--mass", "M", "--toys", "99", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak_mass"] == pytest.approx(MASS, rel=0.005)
    assert found["z_local"] > 10
    assert found["signal"] == pytest.approx(N_SIGNAL, abs=4 * found["signal_error"])


def test_mass_width_and_yield_are_fitted(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fit", str(table), "--mass", "M", "--signal", "gauss:3.68:0.01", "--float", "mass,width"]
    assert run([*command, "--no-limit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name, truth in (("mass", MASS), ("width", WIDTH)):
        value = found["floats"][name]
        assert abs(value["value"] - truth) < 3 * value["error"]
        assert value["error"] < 0.15 * WIDTH
    assert abs(found["mu"] - N_SIGNAL) < 3 * found["mu_error"] < 300


def test_a_search_gains_from_the_features(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["search", str(table), "--mass", "M", "--id", "Run,Event", "--features", "pt1,pt2,eta1,dphi"]
    command += [
        "--window",
        "3.62:3.75",
        "--method",
        "cwola",
        "--combination",
        "sequential",
        "--toys",
        "100",
        "--jobs",
        "1",
        "--unblind",
    ]
    assert run([*command, "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    best = results["looks"][results["global"]["best_look"]]
    assert best["z_local"] > 6
    # the sidebands at both ends of the range are used, and the window is not what was cut
    fit = best["fit"]
    assert fit["gof_p"] > 0.01
    assert (out / "report.html").stat().st_size > 10_000
