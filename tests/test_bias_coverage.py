from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from serendip.errors import InputError
from serendip.search.config import parse_config
from serendip.validate import bias, coverage
from serendip.validate.spectra import spectra

WINDOW = (3300.0, 3700.0)


def config(tmp_path, background: str, shape=np.ones_like, n: int = 30_000):
    """A search on a falling spectrum times a shape."""
    rng = np.random.default_rng(1)
    m = 2600 * (1 - rng.random(3 * n) * (1 - (2600 / 6000) ** 6)) ** (-1 / 6)
    m = m[2 * rng.random(len(m)) < shape(m)][:n]
    table = tmp_path / "events.parquet"
    pq.write_table(pa.table({"mjj": m, "x": rng.normal(size=len(m))}), table)
    return parse_config(
        {
            "file": str(table), "mass": "mjj", "features": ["x"], "window": WINDOW, "range": (2600.0, 5900.0),
            "background": background,
        }
    )  # fmt: skip


def test_spectra_never_look_into_the_window(tmp_path):
    settings = config(tmp_path, "dijet:3")
    (case,) = spectra(settings, 0.8)
    assert case.inclusive.mask.any()
    # the peak is in the middle of the window, which holds the asked share
    assert case.shape.fractions(list(WINDOW))[0] == pytest.approx(0.8, abs=1e-6)
    toys = case.toys(case.inclusive, 1000.0, 400, np.random.default_rng(2))
    expected = case.inclusive.expected + 1000 * case.shape.fractions(case.inclusive.edges)
    np.testing.assert_allclose(toys.mean(axis=0), expected, atol=5 * np.sqrt(expected / 400).max())


@pytest.mark.parametrize("estimator", ["count", "fit"])
def test_the_right_function_is_unbiased(tmp_path, estimator):
    settings = config(tmp_path, "dijet:3")
    options = bias.Options(
        truths="dijet:3", estimators=estimator, strengths=(0.0, 3.0), toys=300, min_gof=0.0
    )
    found = bias.run(settings, options, tmp_path)
    assert 0 < found.seconds < 600
    assert len(found.checks) == 2
    for check, row in zip(found.checks, found.facts["rows"], strict=True):
        assert check.passed
        assert abs(row["pull"]) < 0.2
        assert 0.85 < row["width"] < 1.15
    injected = found.facts["rows"][1]
    assert injected["mean_mu"] == pytest.approx(injected["injected"], rel=0.1)


def test_a_function_that_cannot_follow_the_spectrum_is_caught(tmp_path):
    # the curvature of exppoly-4 in the spectrum, a straight line in ln m fitted
    settings = config(tmp_path, "exppoly:1", shape=lambda m: 1 + 0.9 * np.sin(3.5 * np.log(m / 2600)))
    options = bias.Options(truths=("exppoly:5",), estimators="count", strengths=0.0, toys=150, min_gof=0.0)
    found = bias.run(settings, options, tmp_path)
    assert found.failed
    assert abs(found.checks[0].value) > 1


def test_functions_that_do_not_describe_the_data_are_no_truth(tmp_path):
    settings = config(tmp_path, "exppoly:5", shape=lambda m: 1 + 0.9 * np.sin(3.5 * np.log(m / 2600)))
    found = bias.run(settings, bias.Options(truths=("exppoly:1",), toys=50), tmp_path)
    assert [check.passed for check in found.checks] == [None]
    assert "does not describe" in next(iter(found.facts["left_out"].values()))


def test_coverage_holds_for_the_right_function(tmp_path):
    settings = config(tmp_path, "dijet:3")
    found = coverage.run(settings, coverage.Options(strengths=(0.0, 3.0), toys=300), tmp_path)
    assert not found.failed
    kinds = {check.name.split(",")[0] for check in found.checks}
    assert {"68.3% interval", "95.0% interval", "95% CLs limit"} <= kinds
    intervals = [check for check in found.checks if check.name.startswith("68.3%")]
    assert all(abs(check.value - 0.6827) < 0.1 for check in intervals)
    (picture,) = found.facts["figures"]
    drawn = {series["name"]: series for series in picture["series"]}
    assert drawn["68.3% interval"]["x"] == [0.0, 3.0]
    assert drawn["68.3% interval"]["y"] == [check.value for check in intervals]
    # without signal there is nothing that a limit could exclude
    assert drawn["95% CLs limit"]["x"] == [3.0]


def test_coverage_notices_intervals_that_are_too_short(tmp_path, monkeypatch):
    settings = config(tmp_path, "dijet:3")
    short = coverage.likelihood_ratio
    monkeypatch.setattr(coverage, "likelihood_ratio", lambda *given: 2.0 * short(*given))
    found = coverage.run(settings, coverage.Options(strengths=0.0, toys=300), tmp_path)
    assert [check.name for check in found.failed]


@pytest.mark.parametrize(
    "given", [{"truths": "nothing"}, {"max_pull": 0.0}, {"estimators": "guess"}, {"toy": 3}]
)
def test_bad_options_are_refused(given):
    with pytest.raises((ValidationError, InputError)):
        bias.Options(**given)


def test_levels_are_fractions():
    with pytest.raises(ValidationError, match="between 0 and 1"):
        coverage.Options(levels=68)


@pytest.mark.parametrize("kind", [bias, coverage])
def test_the_choice_of_the_order_reaches_the_fit(tmp_path, kind):
    settings = config(tmp_path, "exppoly", n=8000)
    given = {"toys": 40, "strengths": 0.0} | (
        {"truths": "exppoly:3", "estimators": "fit", "min_gof": 0.0} if kind is bias else {}
    )
    values = [
        [check.value for check in kind.run(settings, kind.Options(choice=choice, **given), tmp_path).checks]
        for choice in ("envelope", "lrt")
    ]
    assert None not in values[0]
    assert values[0] != values[1]
