from __future__ import annotations

import json

import numpy as np
import pytest

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.search.injection_limits import injection_limits, selected_limit
from serendip.statistics.limits import upper_limit
from serendip.statistics.model import counting_data, counting_model

WINDOW = [3300.0, 3700.0]


def entry(
    method: str, injected: int, repeat: int, efficiency: float, b: float, error: float, point: float
) -> dict:
    """What ``compare.json`` says of one training, as far as limits need it."""
    true = efficiency * injected
    return {
        "method": method, "injection": injected, "repeat": repeat, "signal_in_window": injected,
        "looks": [
            {
                "working_point": point, "observed": b + true, "expected": b, "expected_error": error,
                "true_signal": true,
            }
        ],
    }  # fmt: skip


def comparison(efficiency) -> dict:
    """Two methods: one whose efficiency grows with the signal, and the bump hunt without a cut."""
    ladder = (50, 120, 400)
    entries = [entry("cwola", n, r, efficiency(n), 100.0, 8.0, 0.01) for n in ladder for r in (0, 1)]
    entries += [entry("bump-hunt", n, 0, 1.0, 10_000.0, 60.0, 1.0) for n in ladder]
    return {"window": WINDOW, "entries": entries}


def by_method(limits, method):
    return next(limit for limit in limits if limit.method == method)


def test_limit_is_where_the_excluded_yield_meets_the_injected_one():
    def efficiency(n: float) -> float:
        return 0.1 + 0.4 * np.log(n / 50) / np.log(8)

    found = by_method(injection_limits(comparison(efficiency)), "cwola")
    selected = upper_limit(counting_model(100.0, 8.0), counting_data(100.0, 100.0, 8.0)).observed
    grid = np.geomspace(50, 400, 4001)
    crossing = grid[np.argmax(selected / efficiency(grid) <= grid)]
    assert found.observed == pytest.approx(crossing, rel=0.05)
    assert found.expected[2] == pytest.approx(crossing, rel=0.05)
    assert found.bounds == (False,) * 6
    assert list(found.expected) == sorted(found.expected)


def test_without_a_cut_the_limit_does_not_depend_on_the_yield():
    found = by_method(injection_limits(comparison(lambda _: 0.3)), "bump-hunt")
    curve = [rung.expected[2] for rung in found.rungs]
    np.testing.assert_allclose(curve, curve[0])


def test_observed_limits_do_not_count_the_injected_events():
    content = comparison(lambda _: 0.3)
    for row in content["entries"]:
        row["looks"][0]["observed"] += 30
    up = by_method(injection_limits(content), "cwola")
    plain = by_method(injection_limits(comparison(lambda _: 0.3)), "cwola")
    assert up.rungs[0].observed > plain.rungs[0].observed + 30 / 0.3 * 0.6
    # the expected limit moves only as the background that the data prefer
    assert up.rungs[0].expected[2] == pytest.approx(plain.rungs[0].expected[2], rel=0.1)


def test_what_selects_no_signal_excludes_nothing():
    found = by_method(injection_limits(comparison(lambda n: 0.0 if n < 120 else 0.5)), "cwola")
    assert found.rungs[0].expected is None
    assert found.rungs[0].observed is None
    # from a yield without any limit one cannot interpolate
    assert found.observed == 120.0
    never = by_method(injection_limits(comparison(lambda _: 0.01)), "cwola")
    assert never.observed is None
    assert never.expected == (None,) * 5


def test_a_limit_below_the_ladder_is_marked():
    found = by_method(injection_limits(comparison(lambda _: 0.9)), "cwola")
    assert found.observed == 50.0
    assert found.bounds[0]
    assert (
        injection_limits(comparison(lambda _: 0.3), 0.68)[0].rungs[0].observed < found.rungs[0].observed / 0.3
    )


def weighted(unit: float, of_signal: float) -> dict:
    """The same training as the first one of ``comparison``, counted in sums of weights."""
    true = 0.3 * 120 * unit
    return {
        "working_point": None, "observed": 100.0 * unit + true, "expected": 100.0 * unit, "expected_error": 8.0 * unit,
        "true_signal": true, "true_signal_variance": true * of_signal, "scale": unit,
    }  # fmt: skip


def test_sums_of_equal_weights_limit_as_much_as_their_number():
    plain = upper_limit(counting_model(100.0, 8.0), counting_data(100.0, 100.0, 8.0))
    found = selected_limit(weighted(0.2, 0.2), 0.95)
    np.testing.assert_allclose(found, 0.2 * np.array([plain.observed, *plain.expected]), rtol=1e-6)
    content = comparison(lambda _: 0.3)
    for row in content["entries"]:
        if row["method"] == "cwola":
            share = row["injection"] / 120
            look = weighted(0.2, 0.2)
            row["looks"] += [
                look
                | {
                    "observed": 20.0 + 7.2 * share,
                    "true_signal": 7.2 * share,
                    "true_signal_variance": 1.44 * share,
                }
            ]
    (without, cut) = sorted(
        (entry for entry in injection_limits(content) if entry.method == "cwola"),
        key=lambda entry: entry.working_point is not None,
    )
    assert (without.working_point, cut.working_point) == (None, 0.01)
    assert without.rungs[1].efficiency == pytest.approx(0.2 * cut.rungs[1].efficiency)
    assert without.observed == pytest.approx(cut.observed, rel=1e-6)


def test_heavier_signal_weakens_the_limit_by_its_variance():
    light, heavy = (selected_limit(weighted(1.0, of), 0.95) for of in (1.0, 4.0))
    # the unit at the limit is that of background and signal together
    unit = (100.0 + 4.0 * heavy[0]) / (100.0 + heavy[0])
    there = upper_limit(
        counting_model(100.0 / unit, 8.0 / unit), counting_data(100.0 / unit, 100.0 / unit, 8.0 / unit)
    )
    assert heavy[0] == pytest.approx(unit * there.observed, rel=0.01)
    assert heavy[0] > 1.15 * light[0]


def test_limits_of_weighted_sums_cover():
    """Few and uneven weights: 20 expected in units of one, a signal that is twice as heavy."""
    rng = np.random.default_rng(3)
    beside, signal = rng.exponential(0.5, 20_000), rng.exponential(1.2, 20_000)
    scale, of_signal = (float((w**2).sum() / w.sum()) for w in (beside, signal))
    expected = 20.0
    look = {
        "expected": expected, "expected_error": 0.3, "true_signal": 1.0, "true_signal_variance": of_signal, "scale": scale,
    }  # fmt: skip
    grid = np.array([4.0, 10.0, 15.0, 20.0, 27.0, 38.0, 55.0, 80.0])
    limits = [selected_limit(look | {"observed": total + 1.0}, 0.95)[0] for total in grid]
    for true in (15.0, 30.0):
        totals = [
            rng.choice(beside, rng.poisson(expected / beside.mean())).sum()
            + rng.choice(signal, rng.poisson(true / signal.mean())).sum()
            for _ in range(3000)
        ]
        held = np.mean(np.interp(totals, grid, limits) >= true)
        assert 0.94 < held < 0.99, true


def test_a_ladder_is_needed():
    content = comparison(lambda _: 0.3)
    content["entries"] = [row for row in content["entries"] if row["injection"] == 50]
    with pytest.raises(InputError, match="at least two above zero"):
        injection_limits(content)
    with pytest.raises(InputError, match="'kfold-bonferroni' varies more than a Poisson number"):
        injection_limits(comparison(lambda _: 0.3) | {"config": {"combination": "kfold-bonferroni"}})


def test_command_needs_a_comparison(tmp_path, capsys):
    assert run(["limit", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "contains no finished comparison" in capsys.readouterr().err
    for flags, message in (
        (["--level", "95"], "lies between 0 and 1"),
        (["--acceptance", "2"], "lies between 0 and 1"),
        (["--luminosity", "-1"], "positive number"),
        (["--acceptance", "0.5"], "needs a luminosity"),
        (["--combination", "sequential"], "--combination: only with --inject"),
        (
            ["--inject", "signal.csv", "--masses", "9", "--combination", "kfold-summed"],
            "take weighted or sequential",
        ),
    ):
        assert run(["limit", str(tmp_path), "--out", str(tmp_path / "out"), *flags]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_command_writes_limits_and_figures_of_a_real_comparison(tmp_path, capsys, monkeypatch):
    import serendip.report.limits as page

    folder = tmp_path / "comparison"
    folder.mkdir()
    (folder / "compare.json").write_text(
        json.dumps(comparison(lambda n: min(0.6, n / 400))), encoding="utf-8"
    )
    # the rest of compare.json is for other pages
    monkeypatch.setattr(page, "read_comparison", lambda path: path)
    out = tmp_path / "limits"
    assert run(["limit", str(folder), "--out", str(out), "--luminosity", "10", "--acceptance", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "| 3300-3700 | cwola | ε_B = 0.01 |" in text
    assert "| 3300-3700 | bump-hunt | no cut |" in text
    assert "upper limits in fb" in text
    content = json.loads((out / "limits.json").read_text())
    assert content["fb_per_event"] == pytest.approx(0.2)
    cwola = content["limits"][0]
    inclusive = content["limits"][1]["rungs"][-1]["expected"][2]
    assert cwola["gain"] == pytest.approx(inclusive / cwola["expected"][2])
    for name in ("limits", "ladder-3300-3700"):
        assert {(out / "figures" / f"{name}{suffix}").exists() for suffix in (".png", ".pdf", ".json")} == {
            True
        }
    assert run(["limit", str(folder), str(folder), "--out", str(out)]) == 2
    assert "same window" in capsys.readouterr().err
