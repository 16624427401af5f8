from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import uproot
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from serendip import Events, read
from serendip.cli.inspect import inspect
from serendip.errors import InputError
from serendip.events.audit import audit, distance_correlation, single_feature_auc

N = 2000


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    mass = 1000 + 300 * rng.exponential(size=N)
    signal = rng.random(N) < 0.05
    x = rng.normal(size=N)
    gaps = rng.normal(size=N)
    gaps[:7], gaps[7:9] = np.nan, [np.inf, -np.inf]
    return {
        "mass": mass,
        "x": x,
        "copy": x.astype(np.float64),
        "sculpts": np.abs(mass - np.median(mass)) + 30 * rng.normal(size=N),
        "gaps": gaps,
        "one": np.full(N, 3),
        "truthlike": signal + 0.1 * rng.normal(size=N),
        "y": signal.astype(np.int8),
        "key": np.r_[np.arange(N - 3), 5, 5, 9],
        "name": np.array([f"n{i % 7}" for i in range(N)]),
        "list": [[1.0, 2.0]] * N,
    }


@pytest.fixture
def path(table, tmp_path):
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Distance correlation of 0803.4101 (equations 2.8 to 2.10), pair by pair."""

    def centred(v):
        distance = np.abs(v[:, None] - v[None, :])
        return distance - distance.mean(axis=0) - distance.mean(axis=1)[:, None] + distance.mean()

    a, b = centred(x), centred(y)
    return float(np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())))


@pytest.mark.parametrize("kind", ["line", "circle", "noise", "whole numbers"])
def test_distance_correlation_agrees_with_its_definition(kind):
    rng = np.random.default_rng(5)
    x = rng.normal(size=300)
    y = {
        "line": x + rng.normal(size=300),
        "circle": np.abs(x) + 0.1 * rng.normal(size=300),
        "noise": rng.exponential(size=300),
        "whole numbers": np.round(x + rng.normal(size=300)),
    }[kind]
    assert distance_correlation(x, y)[0] == pytest.approx(by_definition(x, y), rel=1e-9)


def test_limit_of_distance_correlation_holds_under_independence():
    rng = np.random.default_rng(6)
    exceeded, typical = 0, []
    for _ in range(300):
        value, limit = distance_correlation(rng.exponential(size=120), rng.normal(size=120))
        exceeded += value > limit
        typical.append(value / limit)
    # At most 1 % of 300, and four standard deviations of a binomial.
    assert exceeded <= 3 + 4 * 1.7
    # But near: a limit that is never approached would flag nothing.
    assert np.quantile(typical, 0.99) > 0.85


def test_distance_correlation_of_a_constant():
    assert distance_correlation(np.ones(20), np.arange(20)) == (0.0, 0.0)


def test_single_feature_auc():
    rng = np.random.default_rng(7)
    signal = rng.random(500) < 0.3
    values = np.round(signal + rng.normal(size=500), 1)
    assert single_feature_auc(values, signal) == pytest.approx(roc_auc_score(signal, values))
    assert single_feature_auc(-values, signal) == pytest.approx(roc_auc_score(signal, values))
    assert single_feature_auc(values, np.zeros(500, dtype=bool)) == 0.5


def test_what_is_found(path, table):
    found = audit(path, mass="mass", label="y", id="key")
    columns = {column.name: column for column in found.columns}
    assert set(columns) == set(table) - {"list"}
    assert found.jagged == {"list": "float64"}
    assert found.mass_correlated == ("sculpts",)
    assert found.giveaways == ("truthlike",)
    assert found.constant == ("one",)
    assert found.duplicated_columns == (("x", "copy"),)
    assert found.duplicated_ids == 3
    assert (columns["gaps"].nan, columns["gaps"].inf) == (7, 2)
    finite = table["gaps"][9:]
    assert (columns["gaps"].minimum, columns["gaps"].maximum) == (finite.min(), finite.max())
    assert columns["gaps"].median == np.median(finite)
    assert columns["name"].dtype == "text"
    assert [columns[name].role for name in ("mass", "y", "key", "x")] == ["mass", "label", "id", ""]
    assert columns["truthlike"].auc == pytest.approx(roc_auc_score(table["y"], table["truthlike"]))
    assert columns["y"].auc is None
    assert columns["mass"].mass_correlation is None
    assert columns["sculpts"].mass_correlation > 0.3
    assert columns["x"].mass_correlation < columns["x"].mass_correlation_null < 0.1


def test_same_seed_same_result(path, monkeypatch):
    monkeypatch.setattr("serendip.events.audit.SAMPLE", 300)
    first, again, other = (audit(path, mass="mass", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_options_have_an_effect(path, table):
    chosen = audit(path, mass="mass", features=["x", "hypot(x,sculpts)"], where="mass > 1200", unit="TeV")
    assert [column.name for column in chosen.columns] == ["mass", "x", "hypot(x,sculpts)"]
    assert (chosen.rows_in_file, chosen.rows) == (N, int((table["mass"] > 1200).sum()))
    assert chosen.columns[0].minimum == pytest.approx(1000 * table["mass"][table["mass"] > 1200].min())
    assert audit(path).duplicated_ids is None
    assert all(column.mass_correlation is None and column.auc is None for column in audit(path).columns)
    with pytest.raises(InputError, match="which is the label"):
        audit(path, features=["y+x"], label="y")
    with pytest.raises(InputError, match="unit 'MeV'"):
        audit(path, unit="MeV")
    with pytest.raises(InputError, match="leaves no event"):
        audit(path, where="mass < 0")


def test_events_give_the_same_as_their_file(path):
    events = read(path, mass="mass", features=["x", "sculpts", "truthlike"], label="y")
    of_events = {column.name: column for column in audit(events).columns}
    of_file = audit(path, mass="mass", features=["x", "sculpts", "truthlike"], label="y").columns
    assert len(of_file) == 5
    for column in of_file:
        other = of_events[column.name]
        assert dataclasses.replace(other, dtype=column.dtype) == column
    assert of_events["_row"].role == "id"
    assert isinstance(events, Events)


def test_json_is_complete_and_strict(path):
    found = audit(path, mass="mass", label="y", id="key")
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["constant"] == ["one"]
    assert again["columns"][0]["name"] == "mass"
    assert set(again) == {*(field.name for field in dataclasses.fields(found)), "constant"}


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(inspect)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_inspect_prints_findings(run, path):
    result = run(path, "--mass", "mass", "--label", "y", "--id", "key")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "a.parquet: Parquet, 2000 rows, 10 columns"
    assert lines[2].split()[:3] == ["column", "role", "type"]
    assert any(line.startswith("gaps") and line.split()[-4:-2] == ["7", "2"] for line in lines)
    text = result.stdout
    for finding in (
        "Constant: one.",
        "Same values: x, copy.",
        "Repeated ids: 3 rows.",
        "Correlated with the mass (!): sculpts.",
        "Reveal the label: truthlike.",
        "NaN or infinite values: gaps.",
        "Lists of values for each event: list.",
    ):
        assert finding in text


def test_inspect_names_what_a_search_refuses(run, tmp_path):
    table = {"m": np.arange(9.0), "x": np.full(9, np.nan), "w": -np.ones(9)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    result = run(tmp_path / "a.parquet", "--mass", "m", "--features", "x", "--weight", "w")
    assert (
        "A search stops at: m (masses down to 0), w (weights down to -1), x (no finite value)."
        in result.stdout
    )
    assert "Constant" not in result.stdout


def test_inspect_json_is_only_json(run, path):
    result = run(path, "--json", "--features", "x,hypot(x,one)", "--mass", "mass", "--where", "x>0")
    data = json.loads(result.stdout)
    assert [column["name"] for column in data["columns"]] == ["mass", "x", "hypot(x,one)"]
    assert data["rows"] < data["rows_in_file"] == N


def test_inspect_without_options(run, tmp_path):
    pq.write_table(pa.table({"a": np.arange(9.0), "b": np.arange(9.0)[::-1]}), tmp_path / "a.parquet")
    result = run(tmp_path / "a.parquet")
    assert "Nothing wrong was found." in result.stdout
    assert "AUC" not in result.stdout


def test_inspect_raises_readable_errors(run, tmp_path):
    result = run(tmp_path / "missing.parquet")
    assert isinstance(result.exception, InputError)
    assert "there is no file" in str(result.exception)


def test_inspect_on_a_terminal_draws_a_table(run, path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    inspect(path, mass="mass")
    assert "┃" in capsys.readouterr().out


def test_lhco_file_has_no_giveaway(shared_data):
    found = audit(
        shared_data / "lhco_rd_v1" / "events_anomalydetection_v1_first100k.features.h5", preset="lhco"
    )
    assert [column.name for column in found.columns] == [
        "mjj",
        "mj1",
        "delta_mj",
        "tau21_j1",
        "tau21_j2",
        "label",
    ]
    assert found.giveaways == ()
    assert set(found.mass_correlated) == {"mj1", "delta_mj", "tau21_j1", "tau21_j2"}


def test_nanoaod_lists_jagged_branches(shared_data):
    path = shared_data / "root" / "nanoAOD_2015_CMS_Open_Data_ttbar.root"
    found = audit(path, mass="MET_pt", id="event")
    assert found.jagged["Jet_pt"] == "float32"
    assert found.duplicated_ids == 0
    assert found.mass_correlated[0].startswith("PuppiMET_pt")
    with uproot.open(path) as file:
        flat = [b.name for b in file["Events"].branches if isinstance(b.interpretation, uproot.AsDtype)]
    assert {column.name for column in found.columns} == set(flat)


@pytest.mark.parametrize(
    ("options", "worth"), [((), "64 of 100"), (("--group", "g"), "32 of 100 in 50 groups")]
)
def test_inspect_says_what_weighted_events_are_worth(run, tmp_path, options, worth):
    weight = np.where(np.arange(100) < 20, 4.0, 1.0)
    frame = {"m": np.linspace(1000, 2000, 100), "w": weight, "g": np.arange(100) // 2}
    path = tmp_path / "weighted.csv"
    rows = zip(*frame.values(), strict=True)
    path.write_text("\n".join([",".join(frame), *(",".join(map(str, row)) for row in rows)]) + "\n")
    result = run(path, "--mass", "m", "--weight", "w", *options)
    # (20*4 + 80)^2 / (20*16 + 80) = 64, and pairs of equal weights: half of it
    assert f"Effective number of events, (Σw)²/Σw²: {worth}." in result.stdout
