"""``serendip limit --inject``: data and simulated signal of each mass, and the command that trains on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FEATURES, make_columns

import serendip
from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.events import Events
from serendip.events.read import read
from serendip.search.limit import LimitConfig, ladder_settings, make_ladders
from serendip.search.signal_points import ID, LABEL, MASS, STRENGTHS, signal_points


def sample(n_background: int, n_signal: int, *, seed: int = 0, weight: bool = False) -> Events:
    columns = make_columns(n_background, n_signal, seed)
    columns["f2/(f1+9)"] = columns["f2"] / (columns["f1"] + 9)
    columns["w"] = np.full(len(columns["mjj"]), 0.5)
    return Events(columns, mass="mjj", features=("f1", "f2/(f1+9)"), weight="w" if weight else None)


def test_one_labelled_sample_for_each_mass(tmp_path):
    data, signal = sample(6000, 0), sample(0, 600, seed=1)
    generated = np.where(np.arange(600) < 400, 3500.0, 3400.0)
    points = signal_points(data, signal, generated, [3400.0, 3500.0], 0.12, tmp_path)
    assert [(p.window.low, p.window.high) for p in points] == [(3196.0, 3604.0), (3290.0, 3710.0)]
    for point, n in zip(points, (200, 400), strict=True):
        events = read(point.file, mass=MASS, features=point.features, label=LABEL, id=ID)
        assert events.labels.sum() == n
        assert len(events) == 6000 + n
        assert np.array_equal(np.sort(events.m[~events.labels]), np.sort(data.m))
        root = np.sqrt(np.count_nonzero(point.window.contains(data.m)))
        assert point.injections == tuple(round(s * root) for s in STRENGTHS)
        assert point.weight is None
    # names that were expressions are columns now
    assert points[0].features == ("f1", "f2__f1_9_")
    chosen = read(points[1].file, mass=MASS, features=points[1].features, label=LABEL, id=ID)
    assert chosen.x[chosen.labels, 1] == pytest.approx(signal.x[generated == 3500.0, 1])


def test_weights_of_the_data_are_kept(tmp_path):
    (point,) = signal_points(
        sample(3000, 0, weight=True), sample(0, 100), None, [3500.0], 0.12, tmp_path, [20, 40]
    )
    assert point.injections == (20, 40)
    events = read(point.file, mass=MASS, features=point.features, label=LABEL, id=ID, weight=point.weight)
    assert set(events.weights[events.labels]) == {1.0}
    assert set(events.weights[~events.labels]) == {0.5}


def weighted(n: int, generated: float, seed: int) -> dict[str, np.ndarray]:
    """Signal whose weights rise with a feature between 0 and 1 and are half as large above the mass of generation."""
    rng = np.random.default_rng(seed)
    m, f1 = rng.normal(generated, 100.0, n), rng.random(n)
    return {"mjj": m, "f1": f1, "f2": rng.normal(size=n), "w": 0.3 * f1 * np.where(m > generated, 0.5, 1.0)}


def test_signal_events_are_drawn_in_proportion_to_their_weights(tmp_path, caplog):
    data = Events(weighted(4000, 3500.0, 1), mass="mjj", features=("f1", "f2"))
    masses = np.repeat([3500.0, 3300.0], 8000)
    parts = [weighted(8000, mass, seed) for mass, seed in ((3500.0, 2), (3300.0, 3))]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # one mass with larger weights takes nothing from the other
    columns["w"] = columns["w"] * np.where(masses == 3300.0, 50.0, 1.0)
    signal = Events(columns, mass="mjj", features=("f1", "f2"), weight="w")

    def drawn(folder: str, wanted: list[float], seed: int = 1) -> list[Events]:
        points = signal_points(data, signal, masses, wanted, 0.12, tmp_path / folder, [20, 40], seed)
        found = [read(p.file, mass=MASS, features=p.features, label=LABEL, id=ID) for p in points]
        return [events.select(events.labels) for events in found]

    with caplog.at_level("WARNING"):
        first, second = drawn("a", [3500.0, 3300.0])
    assert "of 8000 stay, drawn in proportion to their weights" in caplog.text
    for events, generated in ((first, 3500.0), (second, 3300.0)):
        # sum of weights over the largest: 8000 * <f1> * <1, 1/2>
        assert len(events) == pytest.approx(8000 * 0.5 * 0.75, rel=0.06)
        assert len(np.unique(events.m)) == len(events)
        assert events.x[:, 0].mean() == pytest.approx(2 / 3, abs=0.02)
        assert np.mean(events.m > generated) == pytest.approx(1 / 3, abs=0.035)
    (again,), (other,) = drawn("b", [3500.0]), drawn("c", [3500.0], seed=2)
    np.testing.assert_array_equal(again.m, first.m)
    assert set(other.m) != set(first.m)


def test_equal_weights_of_the_signal_change_nothing_and_negative_ones_are_refused(tmp_path):
    plain, equal = (
        signal_points(sample(3000, 0), sample(0, 100, weight=w), None, [3500.0], 0.12, tmp_path / str(w), [20, 40])[0]
        for w in (False, True)
    )  # fmt: skip
    assert read(plain.file).digest() == read(equal.file).digest()
    columns = weighted(400, 3500.0, 4)
    columns["w"][:3] = -0.1
    signal = Events(columns, mass="mjj", features=("f1", "f2"), weight="w")
    data = Events(weighted(400, 3500.0, 5), mass="mjj", features=("f1", "f2"))
    with pytest.raises(InputError, match=r"3 of 400 events have a negative weight.*resample.*weight>=0"):
        signal_points(data, signal, None, [3500.0], 0.12, tmp_path, [20, 40])
    columns["w"][:] = 0.001
    columns["w"][0] = 0.3
    with pytest.raises(
        InputError, match=r"stay, drawn in proportion to their weights; the largest is 172 times the mean"
    ):
        signal_points(data, signal, None, [3500.0], 0.12, tmp_path, [20, 40])


def test_what_cannot_be_injected_is_explained(tmp_path):
    data, signal = sample(3000, 0), sample(0, 100)
    with pytest.raises(InputError, match="--signal-mass"):
        signal_points(data, signal, None, [3400.0, 3500.0], 0.12, tmp_path)
    with pytest.raises(
        InputError, match=r"0 of 0 signal events of 4000.*generated masses in the file: 3500 GeV"
    ):
        signal_points(data, signal, np.full(100, 3500.0), [4000.0], 0.12, tmp_path)
    with pytest.raises(InputError, match="0 of 100 signal events"):
        signal_points(data, signal, None, [5000.0], 0.12, tmp_path)
    with pytest.raises(InputError, match="between 0 and 1"):
        signal_points(data, signal, None, [3500.0], 1.2, tmp_path)
    with pytest.raises(InputError, match="at least two yields"):
        signal_points(data, signal, None, [3500.0], 0.12, tmp_path, [40])
    with pytest.raises(InputError, match=r"at least 500 are needed for the ladder 20, 500"):
        signal_points(data, signal, None, [3500.0], 0.12, tmp_path, [20, 500])
    with pytest.raises(InputError, match="the same to six digits"):
        signal_points(data, signal, np.full(100, 3500.0), [3500.0, 3500.0001], 0.12, tmp_path, [20, 40])
    assert not list(tmp_path.iterdir())


def test_the_default_ladder_follows_the_spread_of_weighted_data(tmp_path):
    signal = sample(0, 400)
    heavy, light = (
        signal_points(sample(6000, 0, weight=w), signal, None, [3500.0], 0.12, tmp_path)[0]
        for w in (False, True)
    )
    assert light.injections == pytest.approx([0.5 * n for n in heavy.injections], abs=1)


def test_features_with_the_names_of_the_new_columns_or_of_each_other_stay_apart(tmp_path):
    columns = make_columns(3000, 0)
    columns |= {"a-b": columns["f1"], "a+b": columns["f2"], "limit_mass": columns["f3"]}
    signal = make_columns(0, 100)
    signal |= {"a-b": signal["f1"], "a+b": signal["f2"], "limit_mass": signal["f3"]}
    data, other = (Events(c, mass="mjj", features=("a-b", "a+b", "limit_mass")) for c in (columns, signal))
    (point,) = signal_points(data, other, None, [3500.0], 0.12, tmp_path, [20, 40])
    assert len({*point.features, MASS, LABEL, ID}) == 6
    events = read(point.file, mass=MASS, features=point.features, label=LABEL, id=ID)
    assert events.x[~events.labels] == pytest.approx(data.x)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("limit")
    data = {key: value for key, value in make_columns(6000, 0, 3).items() if key != "truth"}
    pq.write_table(pa.table(data), folder / "data.parquet")
    signal = make_columns(0, 900, 4) | {"generated": np.repeat([3400.0, 3500.0, 9000.0], 300)}
    signal["w"] = np.where(signal["f1"] > 2, 0.02, 0.0)
    pq.write_table(pa.table(signal), folder / "signal.parquet")
    return folder / "data.parquet", folder / "signal.parquet"


def test_the_command_makes_ladders_and_limits(files, tmp_path, capsys):
    data, signal = files
    columns = ["--mass", "mjj", "--features", ",".join(FEATURES)]
    command = [
        "limit", str(data), "--inject", str(signal), "--signal-mass", "generated", "--masses", "3500", "--width", "0.12", "--signal-weight", "w",
        *columns, "--injections", "20,200", "--repeats", "1", "--folds", "3", "--set", "cwola.members=1",
        "--working-points", "0.02", "--jobs", "1", "--out", str(tmp_path / "limits"),
    ]  # fmt: skip
    assert run(command) == 0
    text = capsys.readouterr().out
    assert "| 3290-3710 | cwola | weighted |" in text
    assert "| 3290-3710 | cwola | ε_B = 0.02 |" in text
    content = json.loads((tmp_path / "limits" / "limits.json").read_text())
    found = {(limit["method"], limit["working_point"]): limit for limit in content["limits"]}
    assert {round(limit["window"][0]) for limit in content["limits"]} == {3290}
    assert set(found) == {("cwola", None), ("cwola", 0.02), ("bump-hunt", 1.0)}
    weighted, cwola, inclusive = found.values()
    # a sum of heavy signal and light background
    assert 0.5 < weighted["rungs"][1]["efficiency"] < 5
    assert 0 < weighted["rungs"][1]["expected"][2] < cwola["rungs"][1]["expected"][2]
    assert [rung["injected"] for rung in cwola["rungs"]] == [20, 200]
    # what is learnt from 200 events is kept, where chance would keep a fiftieth
    assert cwola["rungs"][1]["efficiency"] > 0.4
    assert 0 < cwola["expected"][2] <= 200
    assert inclusive["rungs"][0]["efficiency"] == 1.0
    kept = read(tmp_path / "limits/ladders/3500/events.parquet", mass=MASS, features=["f1"], label=LABEL)
    assert 200 < kept.labels.sum() < 280
    assert kept["f1"][kept.labels].min() > 2
    for flags, message in (
        (["--masses", "3500", "--signal-weight", "w-1"], "weight 'w-1' is negative in"),
        (["--masses", "3400,3500"], "--signal-mass"),
        (["--masses", "x"], "masses: 'x': expected numbers"),
        (["--masses", "nan"], "masses: 'nan': expected numbers"),
        (["--masses", "3500", "--unit", "TeV", "--range", "2600:"], "'2600:' is not a mass interval"),
        ([], "--masses M"),
    ):
        given = ["limit", str(data), "--inject", str(signal), *columns, *flags, "--out", str(tmp_path / "o")]
        assert run(given) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    # the function continues what the command has begun, and finds the same
    before = (tmp_path / "limits" / "limits.json").read_bytes()
    again = serendip.run_limit(
        data, inject=signal, signal_mass="generated", masses=3500, signal_weight="w", mass="mjj", features=FEATURES, injections=[20, 200],
        repeats=1, folds=3, options={"cwola": {"members": 1}}, working_points=[0.02], jobs=1, out=tmp_path / "limits",
    )  # fmt: skip
    assert (tmp_path / "limits" / "limits.json").read_bytes() == before
    assert json.loads(json.dumps(again.results)) == content
    assert again.page.is_file()
    ladder = ["limit", str(tmp_path), "--width", "0.3", "--where", "a>0", "--set", "cwola.members=1"]
    assert run([*ladder, "--out", str(tmp_path / "o")]) == 2
    assert "--where, --width, --set: only with --inject" in capsys.readouterr().err


def test_range_and_masks_are_in_the_unit_of_the_data(tmp_path):
    common = {"file": "data.csv", "inject": "signal.csv", "masses": [3500.0]}
    (point,) = signal_points(sample(3000, 0), sample(0, 100), None, [3500.0], 0.12, tmp_path, [20, 40])
    for unit, text, mask in (("TeV", "2.6:6", "3:3.2"), ("GeV", "2600:6000", "3000:3200")):
        settings = ladder_settings(LimitConfig(**common, unit=unit, range=text, mask=mask), point)
        assert settings["range"] == pytest.approx([2600.0, 6000.0])
        assert settings["mask"] == [pytest.approx([3000.0, 3200.0])]


@pytest.mark.parametrize("name", ["window", "label", "id", "injections", "mask"])
def test_what_a_limit_sets_itself_is_refused(name, tmp_path):
    config = LimitConfig(file="data.csv", inject="signal.csv", masses=[3500.0], search={name: "x"})
    with pytest.raises(InputError, match=f"{name}: no setting of limits"):
        make_ladders(config, tmp_path)
