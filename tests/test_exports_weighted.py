"""Exports of weighted looks: the count of each order of the folds, with the variance of its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyhf
import pytest
import uproot
from samples import make_columns
from test_exports import columns_of, content, copy_of, discovery, edit, on_off_q0, parse_card, search

from serendip.errors import InputError
from serendip.report import read_run
from serendip.report.exports import (
    SignalShape,
    export_bundle,
    export_combine,
    export_hepdata,
    export_pyhf,
    export_root,
)
from serendip.report.exports.background import window_background
from serendip.report.exports.likelihood import look_models
from serendip.statistics.combination import cauchy_log_p
from serendip.statistics.pvalues import z_value

# pyhf and hepdata-validator resolve their schemas by what newer jsonschema deprecates
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")

ORDERS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A moderate excess."""
    return search(
        tmp_path_factory.mktemp("weighted") / "ranked",
        make_columns(20_000, n_signal=14),
        folds=4,
        seed=3,
        combination="weighted",
        orders=ORDERS,
        options={"cwola": {"members": 1, "classifier": "network"}},
        working_points=[0.02],
    )


@pytest.fixture(scope="module")
def index(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("pyhf") / "out"
    export_pyhf(run, folder)
    return folder, content(folder / "index.json")["looks"]


def window_sums(record: Any, name: str) -> np.ndarray:
    edges = np.array(record.edges)
    inside = (edges[:-1] >= 3300) & (edges[1:] <= 3700)
    return np.array(getattr(record, name), dtype=float)[inside]


def test_each_order_is_a_model_and_the_first_is_the_result(run: Path, index: Any) -> None:
    folder, entries = index
    results = content(run / "results.json")
    weighted = results["looks"][0]
    assert [entry["role"] for entry in entries] == ["result", *["order"] * (ORDERS - 1), "cross-check"]
    assert [entry["order"] for entry in entries] == [1, 2, 3, None]
    assert {file.name for file in folder.glob("*.counting.json")} == {
        "cwola_3300-3700_order1.counting.json",
        "cwola_3300-3700_order2.counting.json",
        "cwola_3300-3700_order3.counting.json",
        "cwola_3300-3700_0.02.counting.json",
    }
    for entry, order in zip(entries, weighted["orders"], strict=False):
        for name in ("observed", "expected", "expected_error", "p_local"):
            assert entry[name] == order[name]
        assert entry["p_of_look"] == weighted["p_local"]
    log_p = np.log([entry["p_local"] for entry in entries[:ORDERS]])
    assert np.exp(cauchy_log_p(log_p)) == pytest.approx(weighted["p_local"], rel=1e-6)


def test_the_exported_count_agrees_with_its_order(run: Path, index: Any) -> None:
    """Scaled Poisson against weights of which few large ones were seen: half a sigma for a moderate excess, more for a large one."""
    folder, entries = index
    record = read_run(run).diagnostics.weighted[0]
    for entry, order in zip(entries, record.orders, strict=False):
        scale = order.spectrum.scale
        n, b, error = (order.observed / scale, order.expected / scale, order.expected_error / scale)
        z_order, z_count = order.z_local, float(z_value(entry["p_of_this_count"]))
        assert 2.0 < z_order < 6.0
        assert -0.2 < z_count - z_order < (0.6 if z_order < 3.5 else 1.0)
        # a Poisson count does not know that of the largest weights few were seen
        assert z_order < 3.0 or z_count - z_order > 0.3
        workspace = content(folder / entry["counting"])
        p, best, q0 = discovery(workspace)
        assert q0 == pytest.approx(on_off_q0(n, b, error), rel=1e-4)
        # what the asymptotic formula adds to a count of this size
        assert 0.0 < float(z_value(p)) - z_count < 0.25
        data = {o["name"]: o["data"] for o in workspace["observations"]}
        assert data["window"] == [pytest.approx(n, rel=1e-9)]
        assert entry["scale"] == pytest.approx(scale, rel=1e-6)
        squares, counts = (window_sums(order.spectrum, name).sum() for name in ("variance", "observed"))
        assert entry["scale_in_window"] == pytest.approx(squares / counts, rel=1e-9)
        assert best * entry["signal_at_mu_1"] == pytest.approx(order.observed - order.expected, rel=0.02)


def test_the_spectrum_of_an_order_is_fitted_again(run: Path, index: Any) -> None:
    folder, entries = index
    content_of = read_run(run)
    for entry, order in zip(entries, content_of.diagnostics.weighted[0].orders, strict=False):
        bins = window_background(content_of, 0, order)
        assert bins.observed is not None
        assert bins.variance is not None
        assert bins.observed.sum() == pytest.approx(order.observed, rel=1e-9)
        assert np.sqrt(bins.covariance.sum()) == pytest.approx(order.expected_error, rel=1e-3)
        assert entry["spectrum"] == f"cwola_3300-3700_order{order.order}.spectrum.json"
        model = pyhf.Workspace(content(folder / entry["spectrum"])).model()
        expected = model.expected_actualdata(model.config.suggested_init())
        assert len(expected) == len(bins.observed)


def test_datacards_carry_the_squares_of_the_weights(run: Path, tmp_path: Path) -> None:
    export_combine(run, tmp_path / "cards", signal=SignalShape(8.0))
    orders = read_run(run).diagnostics.weighted[0].orders
    for entry, order in zip(content(tmp_path / "cards" / "index.json")["looks"], orders, strict=False):
        squares = window_sums(order.spectrum, "variance") / order.spectrum.scale**2
        card = parse_card(tmp_path / "cards" / entry["counting"], squares.sum())
        assert card["observed"]["window"] * entry["scale"] == pytest.approx(order.observed, rel=1e-6)
        assert card["rates"]["window", "signal"] * entry["scale"] == pytest.approx(8.0)
        parse_card(tmp_path / "cards" / entry["spectrum"], squares)
        text = (tmp_path / "cards" / entry["counting"]).read_text()
        assert "weights in the window sum up to 8" in text
        assert f"order {order.order} of {ORDERS} of the folds" in text
    text = (tmp_path / "cards" / "cwola_3300-3700_0.02.counting.txt").read_text()
    assert "a cross-check of a weighted look" in text


def test_one_order_needs_no_number(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "run")
    order = content(copy / "diagnostics.json")["weighted"][0]["orders"][0]

    def single(results: Any) -> None:
        names = ("observed", "expected", "expected_error", "p_local", "z_local", "effective_events")
        results["looks"][0].update({name: order[name] for name in names}, orders=[])

    def first(diagnostics: Any) -> None:
        record = next(r for r in diagnostics["spectra"] if r["look"] == 0)
        record.update(order["spectrum"])

    edit(copy / "results.json", single)
    edit(copy / "diagnostics.json", first)
    (model,) = look_models(copy, look=0)[1]
    assert (model.name, model.role, model.order) == ("cwola_3300-3700", "result", None)
    assert model.observed * model.scale == pytest.approx(order["observed"])
    assert model.scale == pytest.approx(order["spectrum"]["scale"], rel=1e-6)


def test_lost_orders_are_said(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "run")
    edit(copy / "diagnostics.json", lambda d: d.update(weighted=[]))
    with pytest.raises(
        InputError, match=r"diagnostics\.json: has no entry for the 3 orders of look 0 \(cwola_3300-3700\)"
    ):
        export_pyhf(copy, tmp_path / "none")


def test_hepdata_says_which_number_is_which(run: Path, tmp_path: Path) -> None:
    names = export_hepdata(run, tmp_path / "hepdata")
    results, diagnostics = content(run / "results.json"), content(run / "diagnostics.json")
    looks = columns_of(tmp_path / "hepdata", "Looks")
    assert [v["value"] for v in looks["selection"]] == ["weighted", "cut"]
    assert [v["value"] for v in looks["role"]] == ["result", "cross-check"]
    orders = columns_of(tmp_path / "hepdata", "Orders of the folds of look 0, cwola")
    found = [v["value"] for v in orders["observed sum of weights"]]
    assert found == [order["observed"] for order in results["looks"][0]["orders"]]
    assert "Spectrum of look 0, cwola" in names
    spectrum = columns_of(tmp_path / "hepdata", "Spectrum of look 0, cwola")
    record = next(r for r in diagnostics["spectra"] if r["look"] == 0)
    squares = [v["value"] for v in spectrum["sum of squared weights"]]
    assert squares == pytest.approx(record["variance"], rel=1e-6)
    assert [v["value"] for v in spectrum["observed sum of weights"]] == record["observed"]
    text = (tmp_path / "hepdata" / "submission.yaml").read_text()
    assert re.search(r"with\s+non-zero\s+weights", text)


def test_root_has_every_order(run: Path, tmp_path: Path) -> None:
    export_root(run, tmp_path / "run.root")
    diagnostics = content(run / "diagnostics.json")
    scores = pq.read_table(run / "scores.parquet").to_pandas()
    with uproot.open(tmp_path / "run.root") as file:
        for order in diagnostics["weighted"][0]["orders"]:
            observed = file[f"orders/cwola_3300-3700_order{order['order']}/observed"]
            assert observed.values().tolist() == order["spectrum"]["observed"]
            assert observed.variances() == pytest.approx(order["spectrum"]["variance"])
            expected = file[f"orders/cwola_3300-3700_order{order['order']}/expected"]
            assert expected.errors() == pytest.approx(order["spectrum"]["expected_error"])
        mean = file["looks/cwola_3300-3700/observed"]
        assert mean.variances().sum() > 0
        table = file["looks_table"]
        assert table["weighted"].array().to_list() == [1, 0]
        assert table["cross_check"].array().to_list() == [0, 1]
        tree = file["scores/cwola_3300-3700"]
        for name in ("score", "score_2", "score_3"):
            assert np.array_equal(tree[name].array().to_numpy(), scores[name].to_numpy(), equal_nan=True)


def test_a_bundle_says_how_events_counted(run: Path, tmp_path: Path) -> None:
    export_bundle(run, tmp_path / "bundle")
    selection = content(tmp_path / "bundle" / "selection.json")
    weights = read_run(run).diagnostics.weighted[0].weights
    assert selection["weights"] == [
        {"method": "cwola", "window": [3300.0, 3700.0], "scale": weights.scale, "loosest_rank": 0.1}
    ]
    assert [look["cross_check"] for look in selection["looks"]] == [False, True]
    assert "ln(1 + a/r (f/F)^1.5)" in (tmp_path / "bundle" / "README.md").read_text()
