"""Tuning without labels: what a judgement is worth, what tuning may look at, and that it can be continued."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from samples import write_table

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import Template
from serendip.methods.cathode import Cathode
from serendip.methods.cwola import Cwola, CwolaConfig
from serendip.methods.salad import SaladConfig
from serendip.methods.template_method import ClassifierConfig, TemplateMethod
from serendip.search.config import parse_config
from serendip.search.engine import read_events
from serendip.search.folds import assign_folds
from serendip.search.judge import Judgement, judge
from serendip.search.measure import TUNED_WARNING, measure, prepare_window
from serendip.search.tune import _choices, tune, tuning_events

WINDOW = Window(3300.0, 3700.0)


def make_events(n=9000, n_signal=0, seed=0, curved=0.0, weight=None):
    """Falling spectrum, blob of signal at 3500 GeV; with ``curved`` a feature has a minimum at 3500 GeV."""
    rng = np.random.default_rng(seed)
    m = np.concatenate([2500 + rng.exponential(900, n), rng.normal(3500, 60, n_signal)])
    x = np.concatenate([rng.normal(size=(n, 2)), rng.normal(2.0, 0.3, (n_signal, 2))])
    x[:, 0] += curved * ((m - 3500) / 400) ** 2
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "w": np.where(rng.random(len(m)) < 0.5, 3.0, 1.0)}
    return Events(columns, mass="m", features=("a", "b"), weight=weight)


def judged(events, method=Cwola, seed=0, **options):
    config = method.Config(**{"members": 4} | options)
    fold = assign_folds(events.ids, 4, 5)
    return judge(lambda: method(config, seed=seed), events, WINDOW, fold, seed=seed)


# the judgement


def test_signal_is_worth_its_fraction_times_the_significance_improvement():
    background, signal = judged(make_events()), judged(make_events(n_signal=120))
    assert background.argos < 4 * background.error
    assert background.template >= 20
    # the blob is 4 % of the background in each of two features: SIC of a perfect cut about 10, at 20 events behind it
    fraction = 120 / WINDOW.contains(make_events(n_signal=120).m).sum()
    assert 4 < signal.argos / fraction < 14
    assert abs(signal.control) < 4 * signal.error
    assert signal.value == pytest.approx(signal.argos - max(0.0, signal.control))


def test_score_that_learns_the_mass_is_not_rewarded():
    fooled = judged(make_events(n=16_000, curved=1.0))
    assert fooled.argos > 5 * fooled.error
    assert fooled.control > 0.5 * fooled.argos
    assert fooled.value < 0.5 * fooled.argos


class Normal(TemplateMethod):
    """Takes background for normal numbers; right for ``make_events()``, with ``min_events`` / 100 as a shift."""

    name, title = "normal", "normal numbers"
    Config = ClassifierConfig

    def make_templates(self, events, window, splits):
        rng = np.random.default_rng(self.seed)
        sizes = [int((mask & window.contains(events.m)).sum()) for mask in splits]
        return [
            Template(self.predict_background(np.zeros(3 * n), 0, rng), np.full(3 * n, 1 / 3)) for n in sizes
        ]

    def predict_background(self, mass, split, rng):
        return (rng.normal(size=(len(mass), 2)) + self.config.min_events / 100).astype(np.float32)


def test_template_with_an_error_is_not_rewarded():
    events = make_events()
    bad, good = judged(events, Normal, min_events=50), judged(events, Normal, min_events=1)
    assert bad.argos > good.argos + 4 * good.error
    assert bad.control > 0.7 * bad.argos
    assert bad.value < 3 * bad.error


@pytest.mark.parametrize("method", [Cwola, Cathode])
def test_held_out_template_has_the_weights_of_the_data(method):
    options = {"steps": 20} if method is Cathode else {}
    events = make_events(n=5000, weight="w")
    fitted = method(method.Config(members=1, **options)).fit(events, WINDOW)
    found = fitted.held_out(events, WINDOW, 0, np.random.default_rng(0))
    inside = WINDOW.contains(events.m)
    np.testing.assert_array_equal(found.data.m, events.m[inside])
    assert found.data.weights.sum() == events.weights[inside].sum()
    if method is Cathode:
        assert WINDOW.contains(found.template.m).all()
        assert found.template.weights.sum() == pytest.approx(found.data.weights.sum())
        assert found.control_template.weights.sum() == pytest.approx(found.control.weights.sum())
        assert not WINDOW.contains(found.control.m).any()
        return
    low, high = found.template.m < 3500, found.template.m >= 3500
    for part in (low, high):
        assert found.template.weights[part].sum() == pytest.approx(1.0)
    assert (found.template.m.min(), found.template.m.max()) == pytest.approx((2900, 4100), abs=5)
    outer = found.control_template
    assert ((outer.m < 2900) | (outer.m >= 4100)).all()
    heavy = found.template.weights[low].max() / found.template.weights[low].min()
    assert heavy == pytest.approx(3.0)


def test_method_without_template_cannot_be_judged():
    events = make_events(n=500)
    with pytest.raises(InputError, match="no background template"):
        judge(
            lambda: NoTemplate(CwolaConfig(members=1)), events, WINDOW, assign_folds(events.ids, 2, 0), seed=0
        )


class NoTemplate(Cwola):
    def held_out(self, events, window, split, rng):
        return None


# tuning


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("tune") / "events.parquet", 16_000, 200)


def settings(table, **changes):
    base = {
        "file": str(table),
        "mass": "mjj",
        "features": ["f1", "f2", "f3"],
        "id": "event",
        "window": [3300, 3700],
        "folds": 2,
        "options": {"cwola": {"members": 2, "classifier": "trees", "validation": "random"}},
    }
    return parse_config(base | changes)


def test_only_the_fold_that_is_never_tested_is_seen(table):
    config = settings(table, label="truth", folds=5)
    events = read_events(config)
    sample = tuning_events(config, events, "untested")
    fold = assign_folds(events.ids, 5, config.seed)
    np.testing.assert_array_equal(sample.ids, events.ids[fold == 0])
    assert sample.label is None
    assert "truth" not in sample.columns
    assert len(tuning_events(config, events, "all")) == len(events)
    with pytest.raises(InputError, match="tests every event"):
        tuning_events(settings(table, combination="kfold-bonferroni"), events, "untested")


def values(result):
    return [(t["options"], t["value"]) for t in result.content["methods"]["cwola"]["trials"]]


def test_interrupted_tuning_ends_as_one_that_was_not(table, tmp_path):
    config = settings(table)
    whole = tune(config, tmp_path / "whole", trials=5)
    tune(config, tmp_path / "parts", trials=2)
    before = (tmp_path / "parts" / "tune.json").read_text()
    continued = tune(config, tmp_path / "parts", trials=5)
    assert values(continued) == values(whole)
    assert (
        json.loads(before)["methods"]["cwola"]["trials"]
        == continued.content["methods"]["cwola"]["trials"][:2]
    )
    assert (tmp_path / "parts" / "best.yaml").read_text() == (tmp_path / "whole" / "best.yaml").read_text()
    trials = whole.content["methods"]["cwola"]["trials"]
    assert trials[0]["options"] == {"strip_width": 1.0, "select_by": "loss"}
    assert len({json.dumps(t["options"]) for t in trials}) == 5
    with pytest.raises(InputError, match="other settings, events or version"):
        tune(settings(table, seed=2), tmp_path / "parts", trials=1)
    other = tune(settings(table, seed=2), tmp_path / "seed", trials=1)
    assert values(other)[0][1] != values(whole)[0][1]


def test_labels_and_rows_outside_the_tuning_fold_change_nothing(table, tmp_path):
    import pyarrow.parquet as pq

    config = settings(table)
    first = tune(config, tmp_path / "a", trials=1)
    events = pq.read_table(table).to_pandas()
    fold = assign_folds(events["event"].to_numpy(), 2, config.seed)
    events.loc[fold == 1, "f1"] += 5.0
    events.to_parquet(tmp_path / "changed.parquet")
    second = tune(settings(tmp_path / "changed.parquet"), tmp_path / "b", trials=1)
    assert values(first) == values(second)
    config = settings(tmp_path / "changed.parquet")
    everything = tune(config, tmp_path / "c", trials=1, on="all", unblind=True)
    assert values(everything) != values(second)
    assert "too small" in everything.content["warning"]
    assert (tmp_path / "c" / "best.yaml").read_text().startswith("# tuned on all events")
    assert yaml.safe_load((tmp_path / "c" / "best.yaml").read_text())["tuned"]["on"] == "all"
    (entry,) = everything.content["unblinding"]
    assert entry["config_hash"] == config.digest()
    assert entry["time"]
    assert second.content["unblinding"] == []
    again = tune(config, tmp_path / "c", trials=1, on="all", unblind=True)
    assert again.content["unblinding"] == [entry]


def test_looking_into_the_window_has_to_be_asked_for(table, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"no longer blind\. Add --unblind"):
        tune(settings(table), out, trials=1, on="all")
    with pytest.raises(InputError, match="--unblind is used with --on all only"):
        tune(settings(table), out, trials=1, unblind=True)
    assert not out.exists()


def test_defaults_are_kept_unless_a_trial_is_better_by_twice_the_error():
    from serendip.search.tune import _best

    def trial(number, value, error=0.1):
        return {"number": number, "value": value, "error": error}

    assert _best([trial(0, 1.0), trial(1, 1.27), trial(2, None)]) == 0
    assert _best([trial(0, 1.0), trial(1, 1.2), trial(2, 1.3)]) == 2
    assert _best([trial(0, 1.0, 0.3), trial(1, 1.2), trial(2, 1.3)]) == 0


def test_command_line_writes_options_that_a_search_accepts(table, tmp_path, capsys):
    out = tmp_path / "tuned"
    arguments = [
        "tune",
        str(table),
        "--out",
        str(out),
        "--mass",
        "mjj",
        "--features",
        "f1,f2,f3",
        "--id",
        "event",
    ]
    arguments += ["--window", "3300:3700", "--folds", "2", "--trials", "2", "--jobs", "1"]
    fixed = ["members=2", "classifier=trees", "validation=random", "select_by=loss"]
    for assignment in fixed:
        arguments += ["--set", f"cwola.{assignment}"]
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert "0 (defaults)" in text
    assert "best.yaml" in text
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best["options"]["cwola"].keys() == {
        "members",
        "classifier",
        "validation",
        "select_by",
        "strip_width",
    }
    assert parse_config(best).method_config("cwola").members == 2
    assert best["tuned"] == RECORD | {"group": None, "where": None, "tree": None, "preset": None}
    with pytest.raises(InputError, match="were tuned already"):
        tune(parse_config(best), tmp_path / "again", trials=1)
    assert run(["tune", *arguments[1:], "--on", "all"]) == 2
    assert "Add --unblind" in capsys.readouterr().err
    assert run([*arguments, "--on", "half"]) == 2
    assert run([*arguments, "--set", "cwola.strip_width=1"]) == 2
    assert "all of them are set already" in capsys.readouterr().err
    assert run([*arguments, "--method", "supervised"]) == 2
    assert run([*arguments[:3], str(tmp_path / "other"), *arguments[4:], "--set", "cwola.restarts=2"]) == 2
    assert "restarts requires validation 'nested'" in capsys.readouterr().err


def test_trial_that_fails_does_not_end_the_tuning(table, tmp_path, monkeypatch):
    monkeypatch.setattr(CwolaConfig, "tunable", {"strip_width": (1.0, 50.0)})
    result = tune(settings(table, options={"cwola": {"members": 1}}), tmp_path / "run", trials=6)
    trials = result.content["methods"]["cwola"]["trials"]
    failed = [t for t in trials if t["options"]["strip_width"] == 50.0]
    assert failed
    assert all("zero mass" in t["failed"] for t in failed)
    assert len(trials) == 2  # there are no more options than that
    assert result.content["methods"]["cwola"]["best"] == 0


def test_trials_start_from_the_defaults_that_hold_with_the_fixed_options(table, tmp_path, monkeypatch):
    shared = settings(table, method="cathode", options={"cathode": {"background": "shared"}})
    choices = _choices(shared, "cathode")
    # a shared background has no sidebands, so that sideband_gev has nothing to choose
    assert choices.keys() == {"steps", "oversample", "classifier", "select_by"}
    assert choices["steps"] == Cathode.Config.tunable["steps"]

    monkeypatch.setattr(
        "serendip.search.tune.judge", lambda *a, **k: Judgement(0.0, 0.0, 0.1, 0.1, 20.0, 0.0)
    )
    first = tune(shared, tmp_path / "shared", trials=1).content["methods"]["cathode"]["trials"][0]
    assert first["options"]["steps"] == 2000
    best = parse_config(yaml.safe_load((tmp_path / "shared" / "best.yaml").read_text()))
    assert best.method_config("cathode") == shared.method_config("cathode")
    # a default that the method does not name is tried too
    monkeypatch.setattr(CwolaConfig, "tunable", {"strip_width": (0.5,), "members": (4, 8)})
    fixed = settings(table, options={"cwola": {"members": 2}})
    assert _choices(fixed, "cwola") == {"strip_width": (1.0, 0.5)}
    trials = tune(fixed, tmp_path / "default", trials=5).content["methods"]["cwola"]["trials"]
    assert [t["options"] for t in trials] == [{"strip_width": 1.0}, {"strip_width": 0.5}]


def test_tuning_goes_on_only_with_the_same_simulation_and_version(table, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "serendip.search.tune.judge", lambda *a, **k: Judgement(0.0, 0.0, 0.1, 0.1, 20.0, 0.0)
    )
    monkeypatch.setattr(SaladConfig, "tunable", {"members": (1, 2)}, raising=False)
    simulated = write_table(tmp_path / "simulated.parquet", 5000, seed=3)
    config = settings(table, method="salad", options={}, simulation=str(simulated))
    out = tmp_path / "out"
    tune(config, out, trials=1)
    tune(config, out, trials=2)
    write_table(simulated, 5000, seed=4)
    with pytest.raises(InputError, match="other settings, events or version"):
        tune(config, out, trials=2)
    write_table(simulated, 5000, seed=3)
    monkeypatch.setattr("serendip.search.tune.__version__", "0.0.0")
    with pytest.raises(InputError, match="other settings, events or version"):
        tune(config, out, trials=2)


# what a search may do with tuned options

RECORD = {"on": "untested", "methods": ["cwola"], "folds": 2, "seed": 1, "id": "event"}


def test_search_that_tests_the_tuned_fold_is_refused(table):
    assert settings(table, tuned=RECORD, working_points=[0.1]).tuned.folds == 2
    for changes, words in [
        ({"seed": 2}, "with seed 1, but the search has seed 2.*use seed 1, or tune again"),
        ({"folds": 5, "where": "f1>0"}, "folds 2, where none, but the search has folds 5, where 'f1>0'"),
        ({"id": None}, "with id 'event', but the search has id none"),
        (
            {"combination": "kfold-summed"},
            "which combination 'kfold-summed' tests: use 'weighted' or 'sequential'",
        ),
    ]:
        with pytest.raises(InputError, match=words):
            settings(table, tuned=RECORD, **changes)
        # the options of other methods, and of other data, are free
        other = {"method": "cathode", "options": {}}
        settings(table, tuned=RECORD, **(changes | other))
        settings(table, tuned=RECORD | {"on": "all"}, **changes)
    settings(table, tuned=RECORD, combination="sequential-stouffer")
    text = "{on: all, methods: [cwola], folds: 2, seed: 1}"
    assert settings(table, tuned=yaml.safe_load(text)).tuned.on == "all"
    with pytest.raises(InputError, match="tuned"):
        settings(table, tuned="all")
    with pytest.raises(InputError, match=r"unknown option 'tuned\.fold'; did you mean 'folds'"):
        settings(table, tuned=RECORD | {"fold": 2})


def test_p_values_of_options_that_were_tuned_on_the_tested_events_carry_a_warning(table):
    changes = {"method": "cwola,cathode", "working_points": [0.1], "combination": "sequential"}
    config = settings(table, **changes)
    events = read_events(config)
    fold = assign_folds(events.ids, config.folds, config.seed)
    scores = np.where(fold == 0, np.nan, np.random.default_rng(0).random(len(events)))
    fits = [prepare_window(events, WINDOW, config)]
    tasks = {(name, WINDOW): SimpleNamespace(scores=scores) for name in config.method}

    def warnings(config, blinded=False):
        looks = measure(config, events, fold, fits, tasks, blinded=blinded, trials=False).looks
        return [look.result.warning for look in looks]

    assert warnings(config) == [None, None]
    assert warnings(settings(table, tuned=RECORD, **changes)) == [None, None]
    everything = settings(table, tuned=RECORD | {"on": "all"}, **changes)
    assert warnings(everything) == [TUNED_WARNING, None]
    assert warnings(everything, blinded=True) == [TUNED_WARNING, None]
    # as a comparison changes the seed of its repeats
    changed = settings(table, tuned=RECORD, **changes).model_copy(update={"seed": 7})
    assert warnings(changed) == [TUNED_WARNING, None]
