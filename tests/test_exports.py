"""Exports of finished searches: read back with other tools, they hold the numbers of the run."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyhf
import pytest
import uproot
import yaml
from run_factory import write_run
from samples import FEATURES, make_columns, pyhf_q0, search_settings
from scipy import stats
from scipy.optimize import minimize
from typer.testing import CliRunner

from serendip.cli.export import app
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.report import read_run, write_report
from serendip.report.exports import (
    SignalShape,
    export_bundle,
    export_combine,
    export_hepdata,
    export_pyhf,
    export_root,
)
from serendip.report.exports.background import NotReproducedError, window_background
from serendip.report.exports.likelihood import LookModel, look_models
from serendip.report.exports.pyhf import counting_workspace
from serendip.runs.folder import RunDirectory
from serendip.search.config import parse_config
from serendip.search.engine import read_events, run_search
from serendip.search.folds import assign_folds
from serendip.search.measure import Measurement, measure, prepare_window
from serendip.search.models import run_config, stored_models
from serendip.search.results import Look, Results
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.functions import get_family
from serendip.statistics.looks import EFFICIENCY
from serendip.statistics.pvalues import count_p_value, z_value

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from hepdata_validator.full_submission_validator import FullSubmissionValidator

# pyhf and hepdata-validator resolve their schemas by what newer jsonschema deprecates
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")


def search(folder: Path, columns: dict[str, np.ndarray], *, unblind: bool = True, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "events.parquet")
    settings = {
        **search_settings(folder / "events.parquet"),
        "folds": 3,
        "toys": 200,
        "working_points": [0.1, 0.02],
        "combination": "sequential",
        "method": ["cwola"],
        "options": {"cwola": {"members": 2}},
        **changes,
    }
    if "cwola" not in settings["method"] and "cwola" in settings["options"]:
        settings["options"] = {}
    return run_search(parse_config(settings), folder / "run", unblind=unblind, jobs=1).path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """Unweighted and unblinded; ids are text."""
    columns = make_columns(20_000, n_signal=120)
    columns["event"] = np.array([f"e{i}" for i in columns["event"]])
    return search(folder / "plain", columns, method=["cwola", "bump-hunt"])


@pytest.fixture(scope="module")
def weighted(folder: Path) -> Path:
    columns = make_columns(20_000, n_signal=120)
    columns["w"] = 3.0 * np.random.default_rng(5).exponential(size=len(columns["mjj"]))
    return search(folder / "weighted", columns, weight="w")


@pytest.fixture(scope="module")
def blinded(folder: Path) -> Path:
    """A blinded scan of two windows."""
    return search(
        folder / "blinded",
        make_columns(8000),
        unblind=False,
        window=None,
        scan=[3000, 4000],
        width=0.15,
        working_points=[0.05],
        options={"cwola": {"members": 1}},
    )


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def discovery(workspace: dict[str, Any]) -> tuple[float, float, float]:
    """p-value and best strength of the signal by pyhf, and the twice the log-likelihood ratio."""
    model = pyhf.Workspace(workspace).model()
    data = pyhf.Workspace(workspace).data(model)
    p = float(pyhf.infer.hypotest(0.0, data, model, test_stat="q0"))
    best = float(pyhf.infer.mle.fit(data, model)[model.config.poi_index])
    return p, best, pyhf_q0(data, model)


def on_off_q0(n: float, b: float, sigma: float) -> float:
    """-2 ln of the likelihood ratio of the on/off problem, zero for a deficit (Li and Ma)."""
    m, tau = (b / sigma) ** 2, b / sigma**2
    if n <= b:
        return 0.0
    both = (n + m) / (1 + tau)
    return 2 * (n * math.log(n / both) + (m * math.log(m / (tau * both)) if m else 0.0))


def made_up(n: float, b: float, sigma: float, signal: float = 10.0) -> LookModel:
    look = Look(
        method="m", window=(3300.0, 3700.0), working_point=0.1, observed=n, expected=b, expected_error=sigma
    )
    return LookModel(0, "m", look, n, n, b, sigma, signal, 1.0, False, None, None)


# pyhf ---------------------------------------------------------------------------------------------


@pytest.fixture
def minuit() -> Iterator[None]:
    """Millions of events are more than the default optimizer of pyhf can be trusted with."""
    pyhf.set_backend("numpy", "minuit")
    yield
    pyhf.set_backend("numpy", "scipy")


@pytest.mark.usefixtures("minuit")
@pytest.mark.parametrize(
    ("n", "b", "sigma"), [(1_004_500, 1e6, 900.0), (2_003_100, 2e6, 100.0), (4_009_000, 4e6, 3000.0)]
)
def test_pyhf_gives_our_p_value_where_counts_are_large(n: float, b: float, sigma: float) -> None:
    signal = 2 * math.sqrt(b + sigma**2)
    p, best, _ = discovery(counting_workspace(made_up(n, b, sigma, signal)))
    assert z_value(p) == pytest.approx(float(z_value(count_p_value(n, b, sigma))), abs=1e-3)
    assert best == pytest.approx((n - b) / signal, rel=1e-2)


@pytest.mark.parametrize(
    ("n", "b", "sigma"), [(12, 3.1, 0.9), (40, 20.0, 4.0), (150, 16.5, 3.5), (5, 0.0, 0.4), (7, 9.0, 2.0)]
)
def test_the_workspace_is_the_on_off_problem(n: float, b: float, sigma: float) -> None:
    workspace = counting_workspace(made_up(n, b, sigma))
    p, best, q0 = discovery(workspace)
    if b == 0:
        assert q0 == pytest.approx(2 * n * math.log(1 + 1 / sigma), rel=1e-5)
    else:
        assert q0 == pytest.approx(on_off_q0(n, b, sigma), rel=1e-5, abs=1e-4)
    assert p == pytest.approx(stats.norm.sf(math.sqrt(max(q0, 0.0))), rel=1e-6)
    assert best == pytest.approx(max(n - b, 0.0) / 10.0, abs=2e-3)


def test_a_known_background_needs_no_sideband() -> None:
    workspace = counting_workspace(made_up(12.0, 3.1, 0.0))
    assert [channel["name"] for channel in workspace["channels"]] == ["window"]
    _, _, q0 = discovery(workspace)
    assert q0 == pytest.approx(2 * (12 * math.log(12 / 3.1) - 12 + 3.1), rel=1e-5)


def test_every_look_of_a_run_becomes_a_workspace(plain: Path, tmp_path: Path) -> None:
    looks = content(plain / "results.json")["looks"]
    paths = export_pyhf(plain, tmp_path / "pyhf")
    index = content(tmp_path / "pyhf" / "index.json")
    assert index["schema"] == 1
    assert [entry["look"] for entry in index["looks"]] == list(range(len(looks))) == [0, 1, 2]
    assert {path.name for path in paths} | {"index.json"} == {p.name for p in (tmp_path / "pyhf").iterdir()}
    for entry, look in zip(index["looks"], looks, strict=True):
        assert (entry["observed"], entry["p_local"], entry["scale"]) == (
            look["observed"],
            look["p_local"],
            1.0,
        )
        assert entry["p_of_this_count"] == pytest.approx(look["p_local"], rel=1e-9)
        workspace = content(tmp_path / "pyhf" / entry["counting"])
        _, best, q0 = discovery(workspace)
        n, b, error = look["observed"], look["expected"], look["expected_error"]
        assert q0 == pytest.approx(on_off_q0(n, b, error), rel=1e-4, abs=1e-4)
        assert best * entry["signal_at_mu_1"] == pytest.approx(max(n - b, 0.0), abs=0.02 * error + 0.01)
    # many events: the asymptotic p-value is the exact one
    last = index["looks"][2]
    assert last["method"] == "bump-hunt"
    p, _, _ = discovery(content(tmp_path / "pyhf" / last["counting"]))
    assert float(z_value(p)) == pytest.approx(looks[2]["z_local"], abs=0.03)


def perturbed(run: Path, index: int) -> np.ndarray:
    """Covariance of the expected bins of a window by shifting each sideband count and fitting again."""
    records = {record["look"]: record for record in content(run / "diagnostics.json")["spectra"]}
    before, after = records[None], records[index]
    edges = np.array(before["edges"])
    window = (edges[:-1] >= 3300) & (edges[1:] <= 3700)
    spectrum, selected = np.array(before["expected"]), np.array(after["expected"])
    function = before["fit"]["function"].replace("-", ":")
    order = EFFICIENCY.members.index(after["fit"]["function"])
    family = EFFICIENCY.__class__(
        **{
            **vars(EFFICIENCY),
            "members": (EFFICIENCY.members[order],),
            "n_parameters": (EFFICIENCY.n_parameters[order],),
        }
    )

    def fitted(counts: np.ndarray, cut: np.ndarray) -> np.ndarray:
        inclusive = fit_spectrum(counts, edges, get_family(function), mask=window).expected
        return fit_spectrum(cut, edges, family, mask=window, offset=inclusive).expected[window]

    total = np.zeros((window.sum(), window.sum()))
    for k in np.flatnonzero(~window):
        for which, expected in enumerate((spectrum, selected)):
            shift = np.zeros(len(spectrum))
            shift[k] = 0.3 * math.sqrt(expected[k])
            pair = [
                fitted(*(e + s * shift if i == which else e for i, e in enumerate((spectrum, selected))))
                for s in (1, -1)
            ]
            slope = (pair[0] - pair[1]) / (2 * shift[k])
            total += expected[k] * np.outer(slope, slope)
    return total


def test_the_covariance_of_the_window_is_that_of_refitted_sidebands(plain: Path) -> None:
    found = window_background(read_run(plain), 0).covariance
    expected = perturbed(plain, 0)
    assert math.sqrt(found.sum()) == pytest.approx(
        content(plain / "results.json")["looks"][0]["expected_error"], rel=1e-4
    )
    spread = np.sqrt(np.diag(expected))
    # the reference keeps the order of the function, the run averages over orders, which can only widen
    ratio = np.sqrt(np.diag(found)) / spread
    assert np.all((ratio > 0.97) & (ratio < 1.06))
    assert np.abs(found - expected).max() < 0.1 * spread.max() ** 2


def spectrum_q0(n: np.ndarray, s: np.ndarray, b: np.ndarray, modes: np.ndarray) -> float:
    """Likelihood ratio of the model in the docstring, by an independent minimisation."""

    def twice_nll(x: np.ndarray, strength: bool) -> float:
        mu = x[0] * s if strength else 0.0
        expected = mu + b * np.exp(x[1:] @ modes)
        return float(2 * np.sum(expected - n * np.log(expected)) + x[1:] @ x[1:])

    start = np.zeros(1 + len(modes))
    bounds = [(0.0, None)] + [(-30.0, 30.0)] * len(modes)
    fits = [
        minimize(
            twice_nll, start, args=(free,), method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14}
        ).fun
        for free in (False, True)
    ]
    return float(fits[0] - fits[1])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_spectrum_workspace_is_the_model_that_it_says(plain: Path, tmp_path: Path, index: int) -> None:
    export_pyhf(plain, tmp_path / "pyhf", look=index, signal=SignalShape(25.0, 3500.0, 60.0))
    (entry,) = content(tmp_path / "pyhf" / "index.json")["looks"]
    record = next(r for r in content(plain / "diagnostics.json")["spectra"] if r["look"] == index)
    edges = np.array(record["edges"])
    window = (edges[:-1] >= 3300) & (edges[1:] <= 3700)
    n, b = np.array(record["observed"])[window], np.array(record["expected"])[window]
    inside = edges[np.append(window, False) | np.append(False, window)]
    s = np.diff(stats.norm.cdf(inside, 3500, 60))
    s *= 25.0 / s.sum()
    assert n.sum() == entry["observed"]
    workspace = content(tmp_path / "pyhf" / entry["spectrum"])
    model = pyhf.Workspace(workspace).model()
    data = pyhf.Workspace(workspace).data(model)
    assert data[: len(n)] == pytest.approx(n)
    names = list(model.config.par_map)
    point = np.array(model.config.suggested_init())
    point[model.config.poi_index] = 0.0
    nominal = np.array(model.expected_actualdata(point))
    assert nominal == pytest.approx(b)
    modes = []
    for name in (name for name in names if name.startswith("fit_")):
        shifted = point.copy()
        shifted[model.config.par_slice(name)] = 1.0
        modes.append(np.log(np.array(model.expected_actualdata(shifted)) / nominal))
    modes = np.array(modes)
    assert np.einsum("ki,kj,i,j->ij", modes, modes, b, b) == pytest.approx(
        window_background(read_run(plain), index).covariance, rel=1e-5, abs=1e-6
    )
    point[model.config.poi_index] = 2.0
    assert np.array(model.expected_actualdata(point)) - b == pytest.approx(2 * s)
    _, _, q0 = discovery(workspace)
    assert q0 == pytest.approx(spectrum_q0(n, s, b, modes), rel=1e-3, abs=1e-3)
    counted = discovery(content(tmp_path / "pyhf" / entry["counting"]))[2]
    # a narrow peak in the middle of the window is seen better bin by bin
    assert q0 > counted


def measured(run: Path) -> Measurement:
    """The looks of a run, counted anew from its events and trainings."""
    config, directory = run_config(run), RunDirectory(run)
    events = read_events(config)
    windows = [prepare_window(events, window, config) for window in config.windows]
    tasks = {
        (task["method"], Window(*task["window"])): directory.read_task(task["key"])
        for task in directory.manifest()["task_keys"]
    }
    fold = assign_folds(events.ids, config.folds, config.seed)
    return measure(config, events, fold, windows, tasks, blinded=False, trials=False)


def test_weighted_runs_find_their_scale(weighted: Path, tmp_path: Path) -> None:
    looks = content(weighted / "results.json")["looks"]
    export_pyhf(weighted, tmp_path / "pyhf")
    truth = [look.result.spectrum.scale for look in measured(weighted).looks]
    assert not math.isclose(*truth, rel_tol=0.05)
    for entry, look in zip(content(tmp_path / "pyhf" / "index.json")["looks"], looks, strict=True):
        assert entry["scale"] == pytest.approx(truth[entry["look"]], rel=1e-4)
        model = look_models(weighted, look=entry["look"])[1][0]
        assert model.observed * model.scale == pytest.approx(look["observed"])
        p = float(count_p_value(model.observed, model.background, model.error))
        # the exported Poisson count has the variance of the weighted one and a shorter tail
        assert 1.0 < float(z_value(p)) / look["z_local"] < 1.25
        _, _, q0 = discovery(content(tmp_path / "pyhf" / entry["counting"]))
        assert q0 == pytest.approx(on_off_q0(model.observed, model.background, model.error), rel=1e-4)
        assert model.spectrum is not None
        assert model.spectrum.observed.sum() * model.scale == pytest.approx(look["observed"])


def test_blinded_runs_give_expectations_only(blinded: Path, tmp_path: Path) -> None:
    for export in (export_pyhf, export_combine):
        with pytest.raises(InputError, match=r"is blinded.*--asimov"):
            export(blinded, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    export_pyhf(blinded, tmp_path / "pyhf", asimov=True)
    for entry in content(tmp_path / "pyhf" / "index.json")["looks"]:
        assert entry["observed"] is None
        assert entry["p_local"] is None
        assert entry["data"].startswith("expected")
        # sidebands of a window of a blinded scan lie in the other one
        assert entry["spectrum"] is None
        assert "other blinded windows" in entry["no_spectrum_because"]
        workspace = content(tmp_path / "pyhf" / entry["counting"])
        data = {o["name"]: o["data"] for o in workspace["observations"]}
        assert data["window"] == [pytest.approx(entry["expected"])]
        p, best, _ = discovery(workspace)
        assert p == pytest.approx(0.5, abs=2e-3)
        assert best == pytest.approx(0.0, abs=1e-2)
    with pytest.raises(InputError, match="publishes observed counts"):
        export_hepdata(blinded, tmp_path / "hepdata")


def copy_of(run: Path, target: Path) -> Path:
    return Path(shutil.copytree(run, target, ignore=shutil.ignore_patterns("tasks", "figures")))


def edit(path: Path, change: Any) -> None:
    found = content(path)
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def test_combinations_without_a_count_are_refused_or_said(plain: Path, tmp_path: Path, caplog: Any) -> None:
    run = copy_of(plain, tmp_path / "run")
    for kfold in ("kfold-summed", "kfold-bonferroni"):
        edit(run / "results.json", lambda r, c=kfold: r["looks"][1].update(combination=c))
        with pytest.raises(InputError, match=rf"look 1 \(cwola_3300-3700_0.02\) is {kfold}: its folds share"):
            export_pyhf(run, tmp_path / "pyhf")
    assert not (tmp_path / "pyhf").exists()
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        export_pyhf(run, tmp_path / "pyhf", look=0)
    p = content(run / "results.json")["looks"][0]["p_local"]
    assert not caplog.messages
    edit(
        run / "results.json",
        lambda r: r["looks"][0].update(
            combination="sequential-stouffer", warning="over-claims", p_local=1.1 * p
        ),
    )
    export_pyhf(run, tmp_path / "other", look=0)
    assert (
        f"its p-value of {1.1 * p:.3g} (sequential-stouffer) is not that of the exported count" in caplog.text
    )
    assert "over-claims" in caplog.text
    assert content(tmp_path / "other" / "index.json")["looks"][0]["warning"] == "over-claims"


def test_fits_that_do_not_repeat_give_no_spectrum(plain: Path, weighted: Path, tmp_path: Path) -> None:
    run = copy_of(plain, tmp_path / "run")

    def more(diagnostics: Any) -> None:
        record = next(r for r in diagnostics["spectra"] if r["look"] == 0)
        record["observed"][0] += 30

    edit(run / "diagnostics.json", more)
    with pytest.raises(NotReproducedError, match="gives other numbers"):
        window_background(read_run(run), 0)
    export_pyhf(run, tmp_path / "pyhf", look=0)
    (entry,) = content(tmp_path / "pyhf" / "index.json")["looks"]
    assert entry["spectrum"] is None
    assert entry["counting"] is not None

    run = copy_of(weighted, tmp_path / "weighted")
    edit(run / "diagnostics.json", more)
    export_pyhf(run, tmp_path / "counting", look=0)
    (entry,) = content(tmp_path / "counting" / "index.json")["looks"]
    assert entry["spectrum"] is None
    assert entry["scale"] == next(
        r["scale"] for r in content(run / "diagnostics.json")["spectra"] if r["look"] == 0
    )
    # runs of older versions do not say how the weights spread
    edit(run / "diagnostics.json", lambda d: [record.pop("variance") for record in d["spectra"]])
    with pytest.raises(InputError, match="weighted events, and their spread"):
        export_pyhf(run, tmp_path / "none", look=0)
    run = copy_of(plain, tmp_path / "third")
    edit(run / "results.json", lambda r: r["looks"][0].update(statistic="template-count"))
    with pytest.raises(NotReproducedError, match="'template-count', not a fit"):
        window_background(read_run(run), 0)


def test_large_errors_give_no_spectrum(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serendip.report.exports.likelihood._LARGEST_ERROR", 0.001)
    export_pyhf(plain, tmp_path / "pyhf", look=0)
    (entry,) = content(tmp_path / "pyhf" / "index.json")["looks"]
    assert entry["spectrum"] is None
    assert "too much for a Gaussian" in entry["no_spectrum_because"]


@pytest.mark.parametrize(("n", "b", "sigma"), [(2.0, 9.0, 2.0), (12.0, 3.1, 0.9)])
def test_the_index_says_how_to_ask_for_a_limit(n: float, b: float, sigma: float) -> None:
    """pyhf returns the end of a range that is too short, and takes the wrong statistic if told to."""
    made = made_up(n, b, sigma, 3.0)
    asked = made.to_dict()["limits"]
    workspace = pyhf.Workspace(counting_workspace(made))
    model = workspace.model()
    data = workspace.data(model)
    low, high = asked["mu_range"]
    limit = float(pyhf.infer.intervals.upper_limits.upper_limit(data, model, np.linspace(low, high, 61))[0])
    assert 0 < limit < 0.9 * high
    cls = float(pyhf.infer.hypotest(limit, data, model, test_stat=asked["test_statistic"]))
    assert cls == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"look": 3}, "has no look 3; its looks are 0 to 2"),
        ({"look": 0, "signal": SignalShape(mass=9000.0)}, "has no events in the window"),
    ],
)
def test_what_is_not_there_is_said(plain: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        export_pyhf(plain, tmp_path / "pyhf", **options)


def test_a_signal_is_positive() -> None:
    with pytest.raises(InputError, match="events of the signal must be a positive number, not -3"):
        SignalShape(events=-3.0)


# Combine ------------------------------------------------------------------------------------------


def parse_card(path: Path, squares: Any = None) -> dict[str, Any]:
    """Read a datacard as Combine does: blocks by their first word, shapes from the ROOT file.

    ``squares`` are the sums of squared weights of the data, if they are not the counts.
    """
    card: dict[str, Any] = {"rows": [], "nuisances": [], "rateParams": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if not words or set(words[0]) == {"-"}:
            continue
        if words[0] in ("imax", "jmax", "kmax"):
            card[words[0]] = int(words[1])
        elif words[0] in ("shapes", "bin", "process", "rate", "observation"):
            card["rows"].append(words)
        elif words[1] == "rateParam":
            card["rateParams"].append(words)
        else:
            card["nuisances"].append(words)
    (shapes,) = [row for row in card["rows"] if row[0] == "shapes"]
    channels, columns = [row[1:] for row in card["rows"] if row[0] == "bin"]
    processes, numbers = [row[1:] for row in card["rows"] if row[0] == "process"]
    (rates,) = [row[1:] for row in card["rows"] if row[0] == "rate"]
    (observed,) = [row[1:] for row in card["rows"] if row[0] == "observation"]
    assert shapes[1:3] == ["*", "*"]
    assert len(channels) == len(observed) == card["imax"]
    assert len(columns) == len(processes) == len(numbers) == len(rates)
    assert len(set(processes)) - 1 == card["jmax"]
    assert len(card["nuisances"]) == card["kmax"]
    assert {(p, int(k) <= 0) for p, k in zip(processes, numbers, strict=True)} == {
        ("signal", True),
        ("background", False),
    }
    card["observed"] = dict(zip(channels, map(float, observed), strict=True))
    card["rates"] = dict(zip(zip(columns, processes, strict=True), map(float, rates), strict=True))
    with uproot.open(path.parent / shapes[3]) as file:

        def histogram(pattern: str, channel: str, process: str, systematic: str = "") -> Any:
            name = pattern.replace("$CHANNEL", channel).replace("$PROCESS", process)
            found = file[name.replace("$SYSTEMATIC", systematic)]
            assert found.classname == "TH1D"
            # counts have their Poisson errors, or those of weights, expectations none of simulation
            counts = found.values() if process == "data_obs" else 0.0 * found.values()
            if process == "data_obs" and channel == "window" and squares is not None:
                counts = squares
            assert found.variances() == pytest.approx(counts)
            assert len(found.member("fSumw2")) == len(found.values()) + 2
            return found.to_numpy()

        card["data"] = {c: histogram(shapes[4], c, "data_obs") for c in channels}
        card["shapes"] = {key: histogram(shapes[4], *key) for key in card["rates"]}
        card["varied"] = {
            (words[0], direction): histogram(shapes[5], "window", "background", words[0] + direction)
            for words in card["nuisances"]
            for direction in ("Up", "Down")
        }
        assert len(file.keys(filter_classname="TH1D")) == len(card["data"]) + len(card["shapes"]) + len(
            card["varied"]
        )
    return card


def test_datacards_agree_with_their_histograms_and_with_pyhf(plain: Path, tmp_path: Path) -> None:
    export_combine(plain, tmp_path / "cards", signal=SignalShape(30.0))
    export_pyhf(plain, tmp_path / "pyhf", signal=SignalShape(30.0))
    cards = content(tmp_path / "cards" / "index.json")["looks"]
    for entry, same in zip(cards, content(tmp_path / "pyhf" / "index.json")["looks"], strict=True):
        card = parse_card(tmp_path / "cards" / entry["counting"])
        for channel, value in card["observed"].items():
            assert card["data"][channel][0].sum() == pytest.approx(value)
        for key, rate in card["rates"].items():
            assert card["shapes"][key][0].sum() == pytest.approx(rate)
        assert card["observed"]["window"] == entry["observed"]
        assert card["rates"]["window", "signal"] == 30.0
        (norm,) = card["rateParams"]
        assert norm[1:5] == ["rateParam", "*", "background", "1"]
        # what Combine would fit, by the closed form
        tau = card["rates"]["sideband", "background"] / card["rates"]["window", "background"]
        b = card["observed"]["sideband"] / tau
        workspace = content(tmp_path / "pyhf" / same["counting"])
        q0 = on_off_q0(card["observed"]["window"], b, math.sqrt(b / tau))
        assert q0 == pytest.approx(discovery(workspace)[2], rel=1e-4, abs=1e-4)

        card = parse_card(tmp_path / "cards" / entry["spectrum"])
        assert card["rateParams"] == []
        background, edges = card["shapes"]["window", "background"]
        assert background.sum() == pytest.approx(card["rates"]["window", "background"])
        assert background.sum() == pytest.approx(entry["expected"], rel=1e-6)
        assert (edges[0], edges[-1]) == (3300.0, 3700.0)
        assert card["data"]["window"][0].sum() == card["observed"]["window"] == entry["observed"]
        assert all(words[1:] == ["shape", "-", "1"] for words in card["nuisances"])
        modes = np.array(
            [np.log(card["varied"][words[0], "Up"][0] / background) for words in card["nuisances"]]
        )
        down = [np.log(card["varied"][words[0], "Down"][0] / background) for words in card["nuisances"]]
        assert np.array(down) == pytest.approx(-modes)
        total = np.linalg.norm((modes * background).sum(axis=1))
        assert total == pytest.approx(entry["expected_error"], rel=1e-3)
        q0 = spectrum_q0(card["data"]["window"][0], card["shapes"]["window", "signal"][0], background, modes)
        assert q0 == pytest.approx(
            discovery(content(tmp_path / "pyhf" / same["spectrum"]))[2], rel=1e-3, abs=1e-3
        )


# HEPData ------------------------------------------------------------------------------------------


def columns_of(folder: Path, name: str) -> dict[str, list[Any]]:
    documents = list(yaml.safe_load_all((folder / "submission.yaml").read_text(encoding="utf-8")))
    (file,) = [document["data_file"] for document in documents if document.get("name") == name]
    table = yaml.safe_load((folder / file).read_text(encoding="utf-8"))
    return {
        column["header"]["name"]: column["values"]
        for column in table["independent_variables"] + table["dependent_variables"]
    }


def test_hepdata_accepts_the_submission_and_it_has_the_numbers(plain: Path, tmp_path: Path) -> None:
    names = export_hepdata(plain, tmp_path / "hepdata")
    validator = FullSubmissionValidator()
    valid = validator.validate(directory=str(tmp_path / "hepdata"))
    assert valid, validator.get_messages()
    assert len(set(names)) == len(names)
    results, diagnostics = content(plain / "results.json"), content(plain / "diagnostics.json")
    looks = columns_of(tmp_path / "hepdata", "Looks")
    for i, look in enumerate(results["looks"]):
        assert looks["observed events"][i]["value"] == look["observed"]
        assert looks["local p-value"][i]["value"] == pytest.approx(look["p_local"], rel=1e-6)
        assert looks["local significance"][i]["value"] == pytest.approx(look["z_local"], rel=1e-6)
        expected = looks["expected background events"][i]
        assert expected["value"] == pytest.approx(look["expected"], rel=1e-6)
        assert expected["errors"][0]["symerror"] == pytest.approx(look["expected_error"], rel=1e-6)
        assert looks["window"][i] == {"low": 3300.0, "high": 3700.0}
    overall = columns_of(tmp_path / "hepdata", "Global p-value")
    assert overall["global p-value"][0]["value"] == pytest.approx(results["global"]["p"], rel=1e-6)
    record = next(r for r in diagnostics["spectra"] if r["look"] == 1)
    spectrum = columns_of(tmp_path / "hepdata", "Spectrum of look 1, cwola")
    assert [row["value"] for row in spectrum["observed events"]] == record["observed"]
    assert [row["value"] for row in spectrum["expected background events"]] == pytest.approx(
        record["expected"], rel=1e-6
    )
    assert [row["low"] for row in spectrum["mjj"]] == pytest.approx(record["edges"][:-1], rel=1e-6)
    many = max(range(len(record["observed"])), key=record["observed"].__getitem__)
    error = spectrum["observed events"][many]["errors"][0]["asymerror"]
    n = record["observed"][many]
    low, high = stats.gamma.ppf(stats.norm.sf(1), n), stats.gamma.isf(stats.norm.sf(1), n + 1)
    assert (-error["minus"], error["plus"]) == pytest.approx((n - low, high - n), rel=1e-5)
    best = results["global"]["best_look"]
    shown = next(r for r in diagnostics["selected"] if r["look"] == best)["features"]
    feature = columns_of(tmp_path / "hepdata", f"Selected events of look {best}: {shown[0]['name']}")
    assert [r["value"] for r in feature["fraction of selected events"]] == pytest.approx(
        shown[0]["selected"], rel=1e-6
    )


def test_hepdata_of_a_scan_with_hard_names(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", n_windows=4, feature='x: "a" & {b} # ' + "long " * 20)
    names = export_hepdata(run, tmp_path / "hepdata.zip")
    assert sum(name.startswith("p-value scan") for name in names) == 4
    validator = FullSubmissionValidator()
    assert validator.validate(archive=str(tmp_path / "hepdata.zip")), validator.get_messages()
    assert max(map(len, names)) <= 64
    with zipfile.ZipFile(tmp_path / "hepdata.zip") as archive:
        archive.extractall(tmp_path / "read")
    scan = columns_of(tmp_path / "read" / "hepdata", "p-value scan, cathode, eps 0.001")
    looks = [
        x
        for x in content(run / "results.json")["looks"]
        if (x["method"], x["working_point"]) == ("cathode", 0.001)
    ]
    assert [row["value"] for row in scan["local p-value"]] == pytest.approx(
        [x["p_local"] for x in looks], rel=1e-6
    )
    assert [row["low"] for row in scan["window"]] == [x["window"][0] for x in looks]
    with pytest.raises(InputError, match="exists already"):
        export_hepdata(run, tmp_path / "hepdata.zip")
    (tmp_path / "again").mkdir()
    export_hepdata(run, tmp_path / "again" / "hepdata.zip")
    assert (tmp_path / "again" / "hepdata.zip").read_bytes() == (tmp_path / "hepdata.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "hepdata.zip") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_hepdata_counts_are_exact_edges_distinct_and_errors_on_their_side(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", n_windows=2, methods=("cwola",), working_points=(0.01,))
    record = next(r for r in content(run / "diagnostics.json")["spectra"] if r["look"] is None)
    n = 123_456_789
    # edges that differ in the ninth digit
    edges = [record["edges"][0] + 1e-5 * i for i in range(len(record["edges"]))]

    def change(diagnostics: Any) -> None:
        place = diagnostics["spectra"].index(record)
        diagnostics["spectra"][place] |= {
            "edges": edges,
            "observed": [n, 1, 0, 12.5, *record["observed"][4:]],
        }

    edit(run / "diagnostics.json", change)
    edit(run / "results.json", lambda r: r["looks"][0].update(observed=n))
    edit(run / "results.json", lambda r: r["global"].update(p=0.02, p_interval_68=[0.019, 0.025]))
    names = export_hepdata(run, tmp_path / "hepdata")
    assert FullSubmissionValidator().validate(directory=str(tmp_path / "hepdata"))
    name = next(name for name in names if name.startswith("Spectrum of all events"))
    columns = columns_of(tmp_path / "hepdata", name)
    assert [row["low"] for row in columns[content(run / "diagnostics.json")["mass_name"]]] == edges[:-1]
    rows = columns["observed events"]
    assert [row["value"] for row in rows[:4]] == [n, 1, 0, 12.5]
    assert columns_of(tmp_path / "hepdata", "Looks")["observed events"][0]["value"] == n
    # one event: 0.17 to 3.30; none: up to 1.84
    assert rows[1]["errors"][0]["asymerror"] == pytest.approx({"minus": -0.8272, "plus": 2.2995}, rel=1e-3)
    assert rows[2]["errors"][0]["asymerror"] == pytest.approx({"minus": 0.0, "plus": 1.8410}, rel=1e-3)
    (overall,) = columns_of(tmp_path / "hepdata", "Global p-value")["global p-value"]
    assert overall["errors"][0]["asymerror"] == pytest.approx({"minus": -0.001, "plus": 0.005})


# ROOT ---------------------------------------------------------------------------------------------


def test_root_reads_back_spectra_looks_and_scores(plain: Path, tmp_path: Path) -> None:
    names = export_root(plain, tmp_path / "run.root")
    results, diagnostics = content(plain / "results.json"), content(plain / "diagnostics.json")
    scores = pq.read_table(plain / "scores.parquet").to_pandas()
    with uproot.open(tmp_path / "run.root") as file:
        assert set(names) == {
            key for key, kind in file.classnames(cycle=False).items() if not kind.startswith("TDir")
        }
        places = {None: "spectra/3300-3700", 0: "looks/cwola_3300-3700_0.1", 2: "looks/bump-hunt_3300-3700_1"}
        for look, place in places.items():
            record = next(r for r in diagnostics["spectra"] if r["look"] == look)
            observed, expected = file[f"{place}/observed"], file[f"{place}/expected"]
            assert observed.classname == expected.classname == "TH1D"
            assert observed.axis().edges() == pytest.approx(record["edges"])
            assert observed.values().tolist() == record["observed"]
            assert expected.values() == pytest.approx(record["expected"])
            assert expected.errors() == pytest.approx(record["expected_error"])
        table = file["looks_table"]
        assert table.classname == "TTree"
        assert table["method"].array().to_list() == [look["method"] for look in results["looks"]]
        assert table["z_local"].array().to_numpy() == pytest.approx(
            [look["z_local"] for look in results["looks"]]
        )
        tree = file["scores/cwola_3300-3700"]
        assert tree.classname == "TTree"
        rows = scores[scores["method"] == "cwola"]
        assert tree["id"].array().to_list() == rows["id"].tolist()
        assert np.array_equal(tree["score"].array().to_numpy(), rows["score"].to_numpy(), equal_nan=True)
        assert np.array_equal(tree["fold"].array().to_numpy(), rows["fold"].to_numpy())
        assert tree["in_window"].array().to_numpy().sum() == rows["in_window"].sum() > 0
    with pytest.raises(InputError, match="exists already"):
        export_root(plain, tmp_path / "run.root")
    with pytest.raises(InputError, match=r"ends in \.root"):
        export_root(plain, tmp_path / "run.txt")


def test_root_carries_weights_and_large_ids(weighted: Path, tmp_path: Path) -> None:
    run = copy_of(weighted, tmp_path / "run")
    scores = pq.read_table(run / "scores.parquet")
    large = scores["id"].to_numpy().astype(np.uint64) + np.uint64(2**63)
    place = scores.schema.get_field_index("id")
    pq.write_table(scores.set_column(place, "id", pa.array(large)), run / "scores.parquet")
    export_root(run, tmp_path / "run.root")
    events = pq.read_table(weighted.parent / "events.parquet").to_pandas()
    with uproot.open(tmp_path / "run.root") as file:
        tree = file["scores/cwola_3300-3700"]
        assert tree["id"].typename == "uint64_t"
        ids, weights = tree["id"].array().to_numpy(), tree["weight"].array().to_numpy()
    assert ids.min() >= 2**63
    # the documented join
    order = np.argsort(events["event"].to_numpy())
    number = (ids - np.uint64(2**63)).astype(np.int64)
    rows = order[np.searchsorted(events["event"].to_numpy(), number, sorter=order)]
    assert np.array_equal(events["event"].to_numpy()[rows], number)
    assert np.array_equal(events["w"].to_numpy()[rows], weights)
    assert len(np.unique(weights)) > 19_000


def test_errors_of_weighted_counts_are_those_of_weights(weighted: Path, tmp_path: Path) -> None:
    """Squares of exponential weights of mean 3 add up to 6 times their sum."""
    events = pq.read_table(weighted.parent / "events.parquet").to_pandas()
    export_root(weighted, tmp_path / "run.root")
    names = export_hepdata(weighted, tmp_path / "hepdata")
    record = next(r for r in content(weighted / "diagnostics.json")["spectra"] if r["look"] is None)
    edges = np.array(record["edges"])
    squares, counts = (
        np.histogram(events["mjj"], edges, weights=events["w"] ** power)[0] for power in (2, 1)
    )
    assert record["scale"] == pytest.approx(6.0, rel=0.05)
    with uproot.open(tmp_path / "run.root") as file:
        observed = file["spectra/3300-3700/observed"]
        assert observed.values() == pytest.approx(counts)
        assert observed.variances() == pytest.approx(squares)
    (name,) = [name for name in names if name.startswith("Spectrum of all events")]
    row = columns_of(tmp_path / "hepdata", name)["observed events"][3]
    error = row["errors"][0]["asymerror"]
    assert row["value"] == counts[3]
    assert 0.5 * (error["plus"] - error["minus"]) == pytest.approx(np.sqrt(squares[3]), rel=0.1)
    assert error["plus"] > -error["minus"] > 0


def test_root_of_a_blinded_scan_in_pieces(
    blinded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serendip.report.exports.rootfile._ROWS", 3000)
    export_root(blinded, tmp_path / "run.root")
    scores = pq.read_table(blinded / "scores.parquet").to_pandas()
    with uproot.open(tmp_path / "run.root") as file:
        keys = [key for key in file.keys(cycle=False) if key.startswith("looks/") and "observed" in key]
        assert keys
        assert all(key.endswith("observed_outside_windows") for key in keys)
        for key in keys:
            values, edges = file[key].to_numpy()
            assert not values[(edges[:-1] >= 3000) & (edges[1:] <= 3900)].any()
        assert np.isnan(file["looks_table"]["observed"].array().to_numpy()).all()
        trees = [key for key in file.keys(cycle=False) if key.startswith("scores/")]
        assert len(trees) == 2
        for (method, low, high), rows in scores.groupby(
            ["method", "window_low", "window_high"], observed=True
        ):
            tree = file[f"scores/{method}_{low:.7g}-{high:.7g}"]
            assert tree["id"].array().to_list() == rows["id"].tolist()
            hidden = tree["in_window"].array().to_numpy() == -1
            assert np.array_equal(hidden, rows["in_window"].isna())
            assert np.isnan(tree["score"].array().to_numpy()[hidden]).all()


# bundle -------------------------------------------------------------------------------------------

ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("serendip", "torch", "sklearn", "pyarrow", "safetensors")))
sys.argv = ["score.py", "--model", sys.argv[1], "--events", sys.argv[2], "--out", sys.argv[3]]
runpy.run_path("score.py", run_name="__main__")
"""


def test_a_bundle_scores_with_onnxruntime_alone(blinded_models: Path, tmp_path: Path) -> None:
    names = export_bundle(blinded_models, tmp_path / "bundle.zip")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "bundle"
    assert {path.name for path in folder.iterdir()} == {"README.md", "score.py", "selection.json", "models"}
    selection = content(folder / "selection.json")
    assert selection["schema"] == 1
    assert (selection["mass"], selection["features"], selection["where"]) == ("mjj", [*FEATURES], "f1 < 9")
    assert all(look["observed"] is None for look in selection["looks"])
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "`f1 < 9`" in readme
    assert [entry["name"] for entry in selection["models"]] == names
    assert len(names) == 2
    # no hashes of blinded events, and nothing that runs code when it is loaded
    assert {path.suffix for path in (folder / "models").rglob("*") if path.is_file()} == {
        ".onnx",
        ".json",
        ".npy",
    }

    columns = make_columns(300, 40, seed=8)
    events = Events(columns, mass="mjj", features=FEATURES)
    rows = zip(*(columns[name] for name in (*FEATURES, "mjj")), strict=True)
    lines = [",".join([*FEATURES, "mjj"]), *(",".join(map(repr, map(float, row))) for row in rows)]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kinds = set()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for entry, model in zip(selection["models"], stored_models(blinded_models), strict=True):
        out = tmp_path / f"{entry['name']}.csv"
        command = [
            sys.executable,
            "-c",
            ALONE,
            f"models/{entry['name']}",
            str(tmp_path / "events.csv"),
            str(out),
        ]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = np.genfromtxt(out, delimiter=",", names=True)
        expected = model.score(events)
        assert found["score"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert np.std(expected) > 1e-3
        efficiency = model.background_efficiency(expected)
        assert np.mean(found["background_efficiency"] != efficiency) < 0.01
        assert np.array_equal(found["in_window"] == 1, model.window.contains(events.m))
        (cut,) = entry["working_points"]
        passed = found["score"] > cut["score_above"]
        assert np.array_equal(passed, efficiency <= 0.05)
        assert 0 < passed.sum() < len(passed)
        assert 0.03 < cut["sideband_efficiency"] <= 0.05
        facts = content(folder / "models" / entry["name"] / "model.json")
        kinds.add(facts["score"]["kind"])
    assert kinds == {"mean of classifiers", "classifier of latent"}


def test_a_bundle_that_scores_otherwise_is_not_written(
    blinded_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(3300.0, 3700.0)
    names = export_bundle(blinded_models, tmp_path / "one", method="cwola", window=window)
    assert names == ["cwola_3300-3700"]
    monkeypatch.setattr(
        "serendip.report.exports.bundle._recipe",
        lambda names, model: {"kind": "mean of classifiers", "classifiers": ["classifier.onnx"]},
    )
    with pytest.raises(InputError, match="scores that differ by up to"):
        export_bundle(blinded_models, tmp_path / "two", method="lacathode", window=window)
    assert not (tmp_path / "two").exists()
    with pytest.raises(InputError, match="is not an empty folder"):
        export_bundle(blinded_models, tmp_path / "one")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'serendip\[onnx\]'"):
        export_bundle(blinded_models, tmp_path / "two")


# contracts ----------------------------------------------------------------------------------------


def test_results_of_every_kind_of_run_follow_the_schema(plain: Path, weighted: Path, blinded: Path) -> None:
    schema = Results.json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    for run in (plain, weighted, blinded):
        found = content(run / "results.json")
        validator.validate(found)
        assert found["schema"] == schema["properties"]["schema"]["const"] == 1
        assert content(run / "diagnostics.json")["schema"] == 1
        for broken in ({"schema": 2}, {"looks": []}, {"extra": 1}, {"blinded": None}):
            assert not validator.is_valid(found | broken)
        assert not validator.is_valid({key: value for key, value in found.items() if key != "schema"})


def test_every_figure_has_its_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", n_windows=2, methods=("cwola",), working_points=(0.01,), truth=True)
    write_report(run)
    figures = {path.stem for path in (run / "figures").glob("*.pdf")}
    kinds = {"spectrum", "scores", "closure", "selected", "p", "significance"}
    assert {name.split("-")[0] for name in figures} == kinds
    for suffix in ("png", "json"):
        assert {path.stem for path in (run / "figures").glob(f"*.{suffix}")} == figures
    results, diagnostics = content(run / "results.json"), content(run / "diagnostics.json")
    scan = content(run / "figures" / "p-value-scan.json")
    assert [look["p_local"] for look in scan["looks"]] == [look["p_local"] for look in results["looks"]]
    # the line across the figure
    assert scan["global"]["p"] == results["global"]["p"]
    spectrum = content(run / "figures" / "spectrum-cwola-after.json")
    (record,) = [r for r in diagnostics["spectra"] if r["look"] == results["global"]["best_look"]]
    assert spectrum["observed"] == record["observed"]
    assert spectrum["expected"] == record["expected"]


# command ------------------------------------------------------------------------------------------


def test_the_command_writes_each_kind(plain: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    run = str(plain)
    shape = ["--signal-events", "50", "--signal-mass", "3450", "--signal-sigma", "40"]
    assert "cwola_3300-3700_0.02.counting.json" in call(
        "pyhf", run, "--out", f"{tmp_path}/p", "--look", "1", *shape
    )
    (entry,) = content(tmp_path / "p" / "index.json")["looks"]
    assert entry["signal_at_mu_1"] == 50.0
    signal = content(tmp_path / "p" / entry["spectrum"])["channels"][0]["samples"][0]["data"]
    record = next(r for r in content(plain / "diagnostics.json")["spectra"] if r["look"] == 1)
    edges = np.array([edge for edge in record["edges"] if 3300 <= edge <= 3700])
    share = np.diff(stats.norm.cdf(edges, 3450, 40))
    assert signal == pytest.approx(50 * share / share.sum())
    assert "counting.txt" in call("combine", run, "--out", f"{tmp_path}/c", "--look", "0", "--asimov")
    assert content(tmp_path / "c" / "index.json")["looks"][0]["observed"] is None
    assert "tables" in call("hepdata", run, "--out", f"{tmp_path}/h.zip")
    assert "histograms and trees" in call("root", run, "--out", f"{tmp_path}/r.root")
    assert "models/cwola_3300-3700" in call("bundle", run, "--out", f"{tmp_path}/b", "--method", "cwola")
    assert "classifier.onnx" in call(
        "onnx", run, "--out", f"{tmp_path}/o", "--method", "cwola", "--window", "3300:3700"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"p", "c", "h.zip", "r.root", "b", "o"}
