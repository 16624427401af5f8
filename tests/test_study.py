"""The study of mixtures: design, trainings on what may train only, answers, continuing."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_factory import write_study

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import write_parquet
from serendip.outliers.combine import RankMap
from serendip.outliers.registry import ScoreEntry
from serendip.search.config import load_config, parse_settings
from serendip.simulate.catalogue.papers import CHALLENGE, SIGNALS
from serendip.simulate.catalogue.points import CATALOGUE, known_samples
from serendip.statistics.pvalues import asimov_z
from serendip.study import run as study_run
from serendip.study import tasks as study_tasks
from serendip.study.config import StudyConfig
from serendip.study.context import Context, ti_value
from serendip.study.design import Design, fold_of, make_design, random_orders
from serendip.study.notes import shortfalls
from serendip.study.questions import excess, families, models, saturation
from serendip.study.run import _prepare, _train, read_results, run_study
from serendip.study.tasks import Task, load_outcome, load_scores, run_task
from serendip.study.thinning import share_out, thin
from serendip.theories.channels import CHANNELS
from serendip.theories.merits import BackgroundScores
from serendip.theories.mixture import BoostConfig
from serendip.theories.sample_cache import read_samples, write_samples
from serendip.theories.samples import read_channel_samples

THEORIES = {
    "glgl1000_neutralino1": 900.0, "glgl1400_neutralino1100": 700.0, "glgl1600_neutralino800": 1100.0,
    "sqsq_sq1000_neut400": 800.0, "sqsq_sq1400_neut200": 1000.0, "sqsq_sq1800_neut800": 1200.0,
    "stop500_t_neutralino50": 500.0, "stop800_t_neutralino200": 600.0,
    "sbottom600_neutralino100": 650.0, "sbottom900_neutralino300": 750.0,
}  # fmt: skip
OPTIONS = {
    "channels": ("1",), "min_events": 50, "repeats": 2, "orders": 2, "steps": (1, 3), "mini": 2, "single": 2, "folds": 2,
    "active_rounds": 2, "held_out_families": 0.25, "held_out_points": 0.2, "targets": (0.1, 0.02), "test_fraction": 0.4,
    "outliers": ("met", "isolation-forest"), "networks": (), "boost": BoostConfig(rounds=15, leaves=7, patience=5),
}  # fmt: skip


class Silent:
    def __init__(self) -> None:
        self.done: list[str] = []

    def start(self, stage: str, total: int) -> None:
        del stage, total

    def advance(self, done: str) -> None:
        self.done.append(done)


def events(n: int, seed: int, met: float) -> ObjectEvents:
    """Channel-1 events of five jets with missing momentum around a value."""
    rng = np.random.default_rng(seed)
    pt = np.sort(60 + rng.exponential(120, (n, 5)), axis=1)[:, ::-1] + [500, 0, 0, 0, 0]
    eta = rng.uniform(-2, 2, (n, 5))
    return ObjectEvents(
        event_id=np.arange(n).astype(str), process=np.full(n, f"p{seed}"), weight=rng.uniform(0.5, 1.5, n),
        met=260 + met * rng.exponential(0.4, n) + 0.3 * met, met_phi=rng.uniform(-3.1, 3.1, n), offsets=5 * np.arange(n + 1),
        kind=np.zeros(5 * n, dtype=np.int8), energy=(pt * np.cosh(eta)).ravel(), pt=pt.ravel(), eta=eta.ravel(),
        phi=rng.uniform(-3.1, 3.1, 5 * n),
    )  # fmt: skip


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("generated")
    for folder in ("SM", "BSM"):
        (top / folder).mkdir()
    write_parquet(events(4000, 1, 150.0), top / "SM" / "njets.parquet")
    for number, (name, met) in enumerate(THEORIES.items()):
        write_parquet(events(300, 10 + number, met), top / "BSM" / f"{name}.parquet")
    return top


def config(samples: Path, **changes) -> StudyConfig:
    given = {
        "background": (samples / "SM" / "njets.parquet",),
        "theories": tuple(samples / "BSM" / f"{name}.parquet" for name in THEORIES),
        "questions": ("models", "saturation", "families", "weights", "combination"),
    }
    return StudyConfig(**(given | OPTIONS | changes))


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory) -> tuple[Path, StudyConfig, dict]:
    out = tmp_path_factory.mktemp("study") / "run"
    options = config(samples)
    return out, options, run_study(options, out, progress=Silent(), jobs=1)


def context(out: Path, options: StudyConfig) -> Context:
    found = read_results(out)
    return Context(
        config=options,
        out=out,
        families=found["families"],
        present={
            channel: tuple(name for name, _ in entry["theories"])
            for channel, entry in found["channels"].items()
        },
        design=Design(**{key: tuple(names) for key, names in found["design"].items()}),
        events={channel: entry["training"] for channel, entry in found["channels"].items()},
    )


def test_held_out_families_have_no_sibling_in_training_and_held_out_points_have_one(samples):
    kinds = {f"{family}{i}": family for family in "abcdefghij" for i in range(1 + ord(family) % 4)}
    for seed in range(20):
        design = make_design(kinds, config(samples, seed=seed))
        trained = {kinds[name] for name in design.training}
        assert not trained & {kinds[name] for name in design.held_out_families}
        assert {kinds[name] for name in design.held_out_points} <= trained
        everything = [*design.training, *design.held_out_points, *design.held_out_families]
        assert sorted(everything) == sorted(kinds)
        assert len({kinds[name] for name in design.held_out_families}) == round(0.25 * 10)
    with pytest.raises(InputError, match="leave 0 to train on"):
        make_design({"only": "one"}, config(samples, held_out_families=0.9))
    with pytest.raises(InputError, match=r"held_out_families = 0\.2 of 2 families is none to test"):
        make_design({"a": "one", "b": "one", "c": "two"}, config(samples, held_out_families=0.2))


def test_theories_that_are_trained_alone_are_not_held_out(samples):
    kinds = {f"{family}{i}": family for family in "abcdefgh" for i in range(3)}
    alone = ("a0", "b1", "c2", "d0", "d1")
    for seed in range(20):
        one = config(samples, seed=seed, single={"1": alone}, held_out_families=0.5, held_out_points=0.4)
        design = make_design(kinds, one)
        assert set(alone) <= set(design.training)
        assert {kinds[name] for name in design.held_out_families} == set("efgh")
        assert {kinds[name] for name in design.held_out_points} == set("abcd")
        drawn = config(samples, seed=seed, held_out_families=0.5, held_out_points=0.4)
        assert make_design(kinds, drawn) != design


def test_named_theories_and_families_are_held_out(samples):
    kinds = {f"{family}{i}": family for family in "abc" for i in range(3)}
    design = make_design(kinds, config(samples, tested="b,c1"))
    assert design.held_out_families == ("b0", "b1", "b2")
    assert design.held_out_points == ("c1",)
    assert design.training == ("a0", "a1", "a2", "c0", "c2")
    with pytest.raises(InputError, match="no theory and no family called d, x has enough events"):
        make_design(kinds, config(samples, tested="b,d,x"))
    with pytest.raises(InputError, match="none is left to train on"):
        make_design(kinds, config(samples, tested="a,b,c"))


def test_every_theory_is_left_out_once_with_its_family_or_alone():
    kinds = {f"{family}{i}": family for family in "abcdef" for i in range(3)}
    rng = np.random.default_rng(1)
    together = fold_of(kinds, 3, rng, whole_families=True)
    assert all(len({together[f"{family}{i}"] for i in range(3)}) == 1 for family in "abcdef")
    assert np.bincount(list(together.values())).tolist() == [6, 6, 6]
    alone = fold_of(kinds, 3, rng, whole_families=False)
    assert all({alone[f"{family}{i}"] for i in range(3)} == {0, 1, 2} for family in "abcdef")


def test_orders_are_different_and_families_stand_together():
    kinds = {f"{family}{i}": family for family in "abcdef" for i in range(3)}
    by_theory, by_family = random_orders(sorted(kinds), kinds, 4, np.random.default_rng(1))
    assert len({tuple(order) for order in by_theory}) == len({tuple(order) for order in by_family}) == 4
    for order in by_family:
        blocks = [kinds[name] for name in order[::3]]
        assert [kinds[name] for name in order] == [family for family in blocks for _ in range(3)]


def planned(events: dict[str, int] | None = None, **changes) -> Context:
    """A study of 18 theories in one channel, before any training; ``events`` that may train."""
    kinds = {f"{family}{i}": family for family in "abcdef" for i in range(3)}
    options = StudyConfig(
        **({"background": ("SM",), "theories": ("BSM",)} | OPTIONS | {"orders": 5} | changes)
    )
    return Context(
        options,
        Path("nowhere"),
        kinds,
        {"1": tuple(sorted(kinds))},
        make_design(kinds, options),
        {} if events is None else {"1": events},
    )


def test_curves_and_mini_mixtures_follow_the_random_orders():
    study = planned(mini=4)
    everything = study.training("1")
    by_theory, by_family = models.orders(study, "1")
    assert sorted(everything) not in by_theory
    assert [set(task.theories) for task in models.mini(study, "1")] == [set(order[:4]) for order in by_theory]
    curves = saturation.curves(study, "1")
    for order, steps in zip(by_theory, curves["theories"], strict=True):
        assert [(n, set(task.theories)) for n, _, task in steps] == [
            (n, set(order[:n])) for n in (1, 3, len(everything))
        ]
    for order, steps in zip(by_family, curves["families"], strict=True):
        kinds = list(dict.fromkeys(study.families[name] for name in order))
        assert [(k, set(task.theories)) for _, k, task in steps] == [
            (k, {name for name in everything if study.families[name] in kinds[:k]})
            for k in (1, 3, len(kinds))
        ]
    # every training of an order has its own seed, that of the whole mixture too
    for kind in ("theories", "families"):
        assert [[task.seed for *_, task in steps] for steps in curves[kind]] == [[i] * 3 for i in range(1, 6)]


def test_mixtures_and_single_theories_are_compared_at_equal_numbers_of_events():
    names = [f"{family}{i}" for family in "abcdef" for i in range(3)]
    sizes = {name: 700 + 10 * i for i, name in enumerate(names)}
    study = planned(sizes, mini=3, single=4, events_per_theory=200)
    trained = [models.single(study, "1"), models.mini(study, "1"), models.equal(study, "1")]
    assert {task.events for tasks in trained for task in tasks} == {600}
    assert {len(task.theories) for task in trained[2]} == {len(study.training("1"))}
    assert models.asked_events(study, "1") == models.equal_events(study, "1") == 600
    # theories alone grow in steps of the events of a theory in a mixture
    single = saturation.curves(study, "1")["single"]
    assert [[task.events for *_, task in steps] for steps in single] == [[200, 400, 600]] * 4
    assert [steps[-1][2].key for steps in single] == [task.key for task in trained[0]]
    # no theory has 10 x 200 events: what the smallest of those trained alone has
    study = planned(
        sizes, mini=10, single={"1": ("a1", "c2")}, events_per_theory=200, held_out_points=0, tested="f"
    )
    assert models.asked_events(study, "1") == 2000
    assert {task.events for task in [*models.single(study, "1"), *models.mini(study, "1")]} == {sizes["a1"]}
    single = saturation.curves(study, "1")["single"]
    assert [[task.events for *_, task in steps] for steps in single] == [
        [200, 400, 600, 710],
        [200, 400, 600, 710],
    ]
    with pytest.raises(InputError, match="single: f0, x cannot train in channel 1"):
        models.single(planned(single={"1": ("a1", "f0", "x")}, tested="f"), "1")
    # small samples are trained alone only if there are no others
    few = sizes | dict.fromkeys(names[::2], 90)
    study = planned(few, mini=10, single=4, events_per_theory=200)
    assert all(few[task.theories[0]] > 90 for task in models.single(study, "1"))


@pytest.mark.parametrize(
    ("sizes", "total", "most"),
    [
        ([900, 40, 30], 60, 20),
        ([900, 40, 30], 70, 23),  # 69 of them
        ([900, 40, 30], 100, 35),
        ([30, 900, 30], 100, 40),  # two whole
        ([30, 900, 40], 5000, 900),  # all there are
    ],
)
def test_theories_share_a_number_of_events_evenly(sizes, total, most):
    assert share_out(sizes, total) == most
    used = sum(min(n, most) for n in sizes)
    assert min(total, sum(sizes)) - len(sizes) < used <= total


def test_a_share_needs_events():
    with pytest.raises(InputError, match="14 signal events for 3 theories are fewer than 5 of each"):
        share_out([100, 100, 100], 14)


def test_what_is_left_out_is_in_no_training_of_its_fold():
    study = planned(folds=3)
    (asked,) = families.stages(study)
    everything, *folds = [set(task.theories) for task in asked]
    assert everything == set(study.families)
    for way, trained in (("point", folds[:3]), ("family", folds[3:])):
        left_out = [everything - names for names in trained]
        assert [len(names) for names in left_out] == [6, 6, 6]
        assert set.union(*left_out) == everything
        for names, rest in zip(left_out, trained, strict=True):
            unseen = {study.families[name] for name in names} - {study.families[name] for name in rest}
            assert len(unseen) == (2 if way == "family" else 0)


def test_samples_are_read_back_from_the_cache_as_they_were(samples, tmp_path):
    found = read_channel_samples(
        [samples / "SM" / "njets.parquet"], sorted((samples / "BSM").glob("*.parquet")), "1"
    )
    write_samples(found, tmp_path / "cache.parquet")
    again = read_samples(tmp_path / "cache.parquet")
    assert again.features == found.features
    assert again.kept == found.kept
    assert (again.process == found.process).all()
    for ours, theirs in zip(
        (found.background, *found.theories), (again.background, *again.theories), strict=True
    ):
        assert (ours.name, ours.family) == (theirs.name, theirs.family)
        for field in ("x", "weight", "group", "fold"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="delete it to make it again"):
        read_samples(tmp_path / "broken.parquet")


@pytest.fixture(scope="module")
def prepared(samples, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    _prepare(config(samples), out, Silent())
    return out


class Trained:
    """What a training was given."""

    rounds, epochs, validation_auc = 1, 1, 0.5

    def __call__(self, background, theories, settings, **options):
        del settings
        self.background, self.theories, self.options = background, theories, options
        return self

    def fit(self, x, sample_weight):
        self.background, self.options = x, {"background_weight": sample_weight}

    def get_params(self):
        return {}

    def gains(self):
        return {}

    def score(self, x):
        return np.asarray(x).reshape(len(x), -1)[:, 0].astype(float)

    score_samples = score


@pytest.mark.parametrize(
    ("kind", "score"),
    [("mixture", ""), ("network", "deepsets"), ("network", "dense"), ("outlier", "isolation-forest")],
)
def test_test_events_and_events_of_the_ranks_train_nothing(kind, score, samples, prepared, monkeypatch):
    trained = Trained()
    monkeypatch.setattr(study_tasks, "train_mixture", trained)
    monkeypatch.setattr("serendip.theories.sets.train_set_network", trained)
    monkeypatch.setattr(ScoreEntry, "make", lambda entry, features: trained)
    known = ("glgl1000_neutralino1", "sqsq_sq1400_neut200")
    task = Task(channel="1", kind=kind, score=score, theories=() if kind == "outlier" else known)
    run_task(task, prepared, config(samples))
    # events in the order and with the numbers of the cache, as lists of objects for the network
    found = read_samples(prepared / "samples" / "channel_1.parquet")
    numbers = {sample.name: sample.fold for sample in found.theories}
    allowed = found.background.fold >= 0.5
    if score == "deepsets":
        found = study_tasks._objects("1", config(samples))
    rows = [row.tobytes() for row in trained.background]
    assert sorted(rows) == sorted(row.tobytes() for row in found.background.x[allowed])
    assert sorted(trained.options["background_weight"]) == sorted(found.background.weight[allowed])
    if kind == "outlier":
        return
    assert [theory.name for theory in trained.theories] == list(known)
    for theory, sample in zip(trained.theories, [s for s in found.theories if s.name in known], strict=True):
        part = numbers[theory.name] >= 0.4
        assert 0.5 < part.mean() < 0.7
        np.testing.assert_array_equal(theory.x, sample.x[part])
        np.testing.assert_array_equal(theory.weight, sample.weight[part])
        np.testing.assert_array_equal(theory.group, sample.group[part])


def test_theories_of_the_training_are_tested_on_their_test_events_only(finished):
    out, options, results = finished
    study = context(out, options)
    task = study.mixture("1")[0]
    outcome = load_outcome(task, out)
    assert outcome is not None
    counts = results["channels"]["1"]["events"]
    for name, found in outcome.merits.items():
        if name in task.theories:
            assert found.n_signal == pytest.approx(0.4 * counts[name], abs=45)
        else:
            assert found.n_signal == counts[name]
    held_out = {*study.design.held_out_points, *study.design.held_out_families}
    assert not held_out & set(task.theories)
    assert set(task.theories) | held_out == set(THEORIES)
    scores = load_scores(task, out)
    cached = read_samples(out / "samples" / "channel_1.parquet").background
    assert len(scores.test) == np.count_nonzero(cached.fold < 0.4)
    assert len(scores.rank) == np.count_nonzero((cached.fold >= 0.4) & (cached.fold < 0.5))


def test_a_mixture_finds_what_it_has_not_seen(finished):
    _, _, results = finished
    found = results["answers"]["models"]["models"]
    by_kind: dict[str, list[float]] = {}
    for model in found:
        by_kind.setdefault(model["kind"], []).append(model["groups"]["held_out_families"]["auc"]["1"])
    assert len(by_kind["mixture"]) == len(by_kind["mini-mixture"]) == 2
    # all theories here differ from background in MET alone, so that MET is the best score there is
    assert min(by_kind["mixture"]) > 0.85
    assert max(by_kind["one variable"]) > np.median(by_kind["mixture"]) - 0.02
    combinations = results["answers"]["models"]["combinations"]["single theory"]["held_out_points"]
    assert combinations["combinations"] == 2
    assert combinations["median"][0] <= combinations["median"][2] <= combinations["median"][4]


def test_trainings_that_are_compared_have_the_same_number_of_signal_events(finished):
    out, options, results = finished
    study = context(out, options)
    numbers = results["answers"]["models"]["events"]["1"]
    sizes = results["channels"]["1"]["training"]
    alone = [task.theories[0] for task in models.single(study, "1")]
    assert numbers == {"asked": 20_000, "used": min(sizes[name] for name in alone)}
    for task in [*models.single(study, "1"), *models.mini(study, "1"), *models.equal(study, "1")]:
        used = study.outcome(task).facts["train_signal"]
        assert numbers["used"] - len(task.theories) < used <= numbers["used"]
    # tested on all theories is only the first mixture; the others on those that are held out
    held_out = {*study.design.held_out_points, *study.design.held_out_families}
    assert set(study.outcome(study.mixture("1")[0]).merits) == set(THEORIES)
    for task in [study.mixture("1")[1], *models.single(study, "1"), *models.mini(study, "1")]:
        assert set(study.outcome(task).merits) == held_out
    whole = study.outcome(study.mixture("1")[0]).facts["train_signal"]
    assert whole == sum(sizes[name] for name in study.training("1")) > 3 * numbers["used"]
    (short, equal) = (text for title, text in results["notes"] if title == "Channel 1")
    n = len(study.training("1"))
    assert f"{n} of {n} theories have fewer than 10000 events to train on" in short
    assert f"A mixture of all has {whole} signal events, not {n}0000" in short
    assert f"compared at {numbers['used']} signal events, not 20000" in equal


def test_what_a_study_has_too_little_of_is_said(samples):
    study = planned({f"{family}{i}": 12_000 for family in "abcdef" for i in range(3)}, held_out_points=0)
    facts = {"left_out": {"rare": 7, "none": 0}, "training": study.events["1"]}
    assert shortfalls(study, {"1": facts}, {}) == [
        ("Design", "no held-out points are tested"),
        ("Channel 1", "2 theories with fewer than 50 events are left out: none (0), rare (7)"),
    ]
    nothing = replace(study, present={"1": study.training("1")})
    assert (
        "Channel 1",
        "no held-out theory has 50 events here, so that the channel is in no total improvement",
    ) in shortfalls(nothing, {"1": facts}, {})


def test_curves_end_with_the_whole_mixture(finished):
    out, options, results = finished
    study = context(out, options)
    entry = results["answers"]["saturation"]["channels"]["1"]["theories"]
    n = len(study.training("1"))
    assert entry["theories"] == [[1, 3, n]] * 2
    assert all(row == sorted(row) for row in entry["families"])
    whole = study.outcome(study.mixture("1")[1]).merits
    expected = np.median([whole[name].auc for name in study.design.held_out_points])
    assert entry["held_out_points"]["auc"][1][-1] == pytest.approx(expected)
    steps = saturation.curves(study, "1")
    assert {task.key for _, _, task in (order[-1] for order in steps["families"])} == {
        task.key for task in study.mixture("1")
    }


def test_a_family_is_left_out_as_a_whole(finished):
    out, options, results = finished
    study = context(out, options)
    (asked,) = families.stages(study)
    kinds = study.families
    for task in asked[3:]:
        left_out = set(THEORIES) - set(task.theories)
        assert not {kinds[name] for name in left_out} & {kinds[name] for name in task.theories}
    found = results["answers"]["families"]
    assert found["theories"] == len(THEORIES)
    assert found["ratio"]["theories"] == len(THEORIES)
    assert 0.5 < found["ratio"]["median"] < 1.3
    assert found["channels"]["1"]["trained"]["auc"] >= found["channels"]["1"]["family"]["auc"] - 0.02


def test_learnt_weights_are_larger_for_what_is_hard_to_find_round_by_round(tmp_path):
    results = write_study(tmp_path, questions=("weights",), active_rounds=2)
    answer = results["answers"]["weights"]
    study = context(tmp_path, StudyConfig(**results["config"]))
    assert {model["name"] for model in answer["models"]} == {"theory", "family", "active"}
    assert answer["rounds"] == 2
    for channel in ("1", "3"):
        learnt = dict.fromkeys(study.training(channel), 1.0)
        for _ in range(2):
            if set(learnt.values()) == {1.0}:
                task = study.mixture(channel)[0]
            else:
                task = study.mixture(channel)[0].model_copy(update={"weights": learnt, "keep": False})
            merits = study.outcome(task).merits
            # the loosest cut
            found = {name: w * (1.05 - merits[name].points[0].eps_s) for name, w in learnt.items()}
            mean = np.mean(list(found.values()))
            learnt = {name: round(w / mean, 6) for name, w in found.items()}
        assert answer["weights"][channel] == learnt
        assert max(learnt.values()) > 1.5 > 0.7 > min(learnt.values()) > 1e-3
        (last,) = [model for model in answer["models"] if (model["name"], model["repeat"]) == ("active", 1)]
        trained = study.mixture(channel)[1].model_copy(update={"weights": learnt, "keep": False})
        auc = [
            study.outcome(trained).merits[n].auc
            for n in study.design.held_out_points
            if n in study.present[channel]
        ]
        assert last["groups"]["held_out_points"]["auc"][channel] == np.median(auc)


def test_combined_scores_use_ranks_of_background_that_trained_neither(finished):
    out, options, _ = finished
    study = context(out, options)
    tasks = [study.mixture("1")[0], study.outlier("1", "met")]
    parts = [load_scores(task, out) for task in tasks]
    found = models.combined(study, tasks, "avg")
    name = study.design.held_out_families[0]

    def rank(part, values):
        order = np.argsort(part.rank)
        up = np.append(0.0, np.cumsum(part.rank_weight[order])) / part.rank_weight.sum()
        first, last = (np.searchsorted(part.rank[order], values, side=side) for side in ("left", "right"))
        return 0.5 * (up[first] + up[last])

    signal = np.mean([rank(part, part.theories[name]) for part in parts], axis=0)
    test = np.mean([rank(part, part.test) for part in parts], axis=0)
    below = [
        (np.sum(parts[0].test_weight[test < s]) + 0.5 * np.sum(parts[0].test_weight[test == s]))
        for s in signal
    ]
    cached = read_samples(out / "samples" / "channel_1.parquet")
    weight = next(t.weight for t in cached.theories if t.name == name)
    expected = np.average(below, weights=np.ones(len(weight))) / parts[0].test_weight.sum()
    assert found[name].auc == pytest.approx(expected, abs=0.01)
    assert not set(found) & set(tasks[0].theories)


def test_ranks_of_combined_scores_count_the_weights_of_the_background(tmp_path):
    rng, signal_weight = np.random.default_rng(31), np.linspace(0.1, 3.0, 80)
    study = Context(planned().config, tmp_path, {}, {"1": ()}, planned().design)
    tasks = [Task(channel="1", kind="outlier", score=name, keep=True) for name in ("met", "kde")]
    (tmp_path / "tasks" / "1").mkdir(parents=True)
    scores, test, signal = rng.normal(size=(2, 500)), rng.normal(size=(2, 400)), rng.normal(1.0, size=(2, 80))
    weight, test_weight = np.exp(scores[0]), np.exp(test[0])
    for task, ranks, background, theory in zip(tasks, scores, test, signal, strict=True):
        np.savez(
            tmp_path / "tasks" / "1" / f"{task.key}.npz", test=background, test_weight=test_weight, test_group=np.arange(400),
            rank=ranks, rank_weight=weight, **{"theory/a0": theory, "weight/a0": signal_weight},
        )  # fmt: skip

    def rank(values, known):
        return [weight[known < v].sum() / weight.sum() for v in values]

    lowest_signal, lowest_test = (
        np.min([rank(v, s) for v, s in zip(x, scores, strict=True)], axis=0) for x in (signal, test)
    )
    below = [
        np.sum(test_weight * ((lowest_test < s) + 0.5 * (lowest_test == s))) / test_weight.sum()
        for s in lowest_signal
    ]
    found = models.combined(study, tasks, "and")
    assert list(found) == ["a0"]
    assert found["a0"].auc == pytest.approx(np.average(below, weights=signal_weight), abs=1e-9)


@pytest.mark.parametrize(("rule", "inside"), [("and", np.min), ("or", np.max), ("avg", np.mean)])
def test_flow_and_deep_svdd_are_joined_by_one_rule_in_both_stages(
    rule, inside, prepared, samples, monkeypatch
):
    """The members of the ensemble, then the two scores, as in arXiv:2106.10164."""
    over = {"min": np.min, "max": np.max, "mean": np.mean}

    class Ensemble(Trained):
        combine = "mean"

        def rule_scores(self, x):
            # MET and the pT of two jets
            return {name: f(x[:, [0, 9, 13]], axis=1) for name, f in over.items()}

    ensemble = Ensemble()
    monkeypatch.setattr(
        ScoreEntry, "make", lambda entry, _: ensemble if entry.name == "DeepSVDD" else Trained()
    )
    tasks = [Task(channel="1", kind="outlier", score=score, keep=True) for score in ("flow", "deep-svdd")]
    for task in tasks:
        run_task(task, prepared, config(samples))
    study = Context(config(samples), prepared, {}, {"1": ()}, planned().design)
    stored = [study.scores(tasks[1], name) for name in ("", "mean", *over)]
    np.testing.assert_array_equal(stored[0].test, stored[1].test)
    cached = read_samples(prepared / "samples" / "channel_1.parquet").background
    expected = ensemble.rule_scores(cached.x[cached.fold < 0.4])
    for name, part in zip(over, stored[2:], strict=True):
        np.testing.assert_allclose(part.test, expected[name], rtol=1e-6)
    flow, name = study.scores(tasks[0]), "glgl1000_neutralino1"
    auc = []
    for svdd in stored[2:]:
        maps = [RankMap.fit(part.rank, part.rank_weight) for part in (flow, svdd)]
        test, theory = (
            inside([to(values) for to, values in zip(maps, pair, strict=True)], axis=0)
            for pair in ((flow.test, svdd.test), (flow.theories[name], svdd.theories[name]))
        )
        reference = BackgroundScores(test, flow.test_weight, flow.test_group)
        auc.append(reference.merits(theory, flow.theory_weights[name], targets=(0.1,)).auc)
    assert len(set(auc)) == 3
    assert models.combined(study, tasks, rule)[name].auc == auc[list(over.values()).index(inside)]


def test_the_total_improvement_is_that_of_the_best_channel(tmp_path):
    results = write_study(tmp_path, questions=("models",))
    options = StudyConfig(**results["config"])
    study = context(tmp_path, options)
    answer = results["answers"]["models"]
    tasks = {channel: models.single(study, channel) for channel in ("1", "3")}

    def improvement(chosen, name):
        """Largest reliable SI of a theory in any channel."""
        merits = [study.outcome(task).merits.get(name) for task in chosen]
        return max(
            (point.si for found in merits if found for point in found.points if point.reliable),
            default=-np.inf,
        )

    for group in ("held_out_points", "held_out_families"):
        names = getattr(study.design, group)
        ti = np.array([
            [improvement((a, b), name) for name in names] for a in tasks["1"] for b in tasks["3"]
        ])  # fmt: skip
        assert ti.shape[0] == 9
        found = answer["combinations"]["single theory"][group]
        for which, over in (("minimum", np.min), ("median", np.median), ("maximum", np.max)):
            expected = np.quantile(over(ti, axis=1), [0.0, 0.16, 0.5, 0.84, 1.0])
            np.testing.assert_allclose(found[which], expected)
        (alone,) = (model for model in answer["models"] if model["name"] == "SSA 1")
        signals = {entry["signal"]: entry["value"] for entry in alone["groups"][group]["ti"]["signals"]}
        assert signals == pytest.approx({name: ti[0, i] for i, name in enumerate(names)})
    networks = {model["name"]: model["groups"] for model in answer["models"] if model["kind"] == "network"}
    assert set(networks) == {"MoT, dense", "MoT, deepsets"}
    for kind in options.networks:
        merits = study.outcome(models.network(study, "3", kind)).merits
        auc = [merits[name].auc for name in study.design.held_out_families if name in merits]
        assert networks[f"MoT, {kind}"]["held_out_families"]["auc"]["3"] == np.median(auc)


@pytest.mark.parametrize(("cores", "workers", "threads"), [(9, 4, 2), (3, 3, 1), (1, 1, 1)])
def test_trainings_share_the_cores_and_the_slow_ones_come_first(cores, workers, threads, monkeypatch):
    asked = []

    def as_finished(executor, function, tasks, out, config, share):
        asked.append((executor, share, tasks))
        yield from ((task, task.title) for task in tasks)

    monkeypatch.setattr(study_run, "local_executor", nullcontext)
    monkeypatch.setattr(study_run, "as_finished", as_finished)
    study, progress = planned(repeats=3), Silent()
    tasks = [*study.mixture("1"), study.outlier("1", "met")]
    _train([*tasks, tasks[0]], study, cores, progress)
    assert asked == [(workers, threads, [tasks[-1], *tasks[:-1]])]
    assert len(progress.done) == 4


def test_the_same_command_continues_and_another_study_is_refused(finished, samples):
    out, options, results = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "tasks").rglob("*.json")}
    lost = next(path for path in before if path.name.startswith("mixture-3-"))
    lost.unlink()
    (out / "results.json").unlink()
    progress = Silent()
    again = run_study(options, out, progress=progress, jobs=1)
    assert again["answers"] == results["answers"]
    assert sum("3 theories" in text for text in progress.done) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != lost)
    with pytest.raises(InputError, match="orders differ"):
        run_study(config(samples, orders=3), out, progress=Silent(), jobs=1)
    progress = Silent()
    one = run_study(config(samples, questions=("families",)), out, progress=progress, jobs=1)
    assert set(one["answers"]) == set(results["answers"])
    assert progress.done == ["channel 1 (already there)", "families (already there)"]


def test_a_question_that_cannot_be_answered_does_not_take_the_others_with_it(finished, samples):
    out, _, results = finished
    both = run_study(config(samples, questions=("resonant", "families")), out, progress=Silent(), jobs=1)
    assert "needs channel 3 and 'zprime2500_tt'" in both["unanswered"]["resonant"]
    assert both["answers"]["families"] == results["answers"]["families"]
    with pytest.raises(InputError, match="needs channel 3"):
        run_study(config(samples, questions=("resonant",)), out, progress=Silent(), jobs=1)


def test_if_no_question_can_be_answered_the_reasons_are_said(samples, tmp_path):
    hopeless = config(samples, questions=("models", "saturation"), single={"1": ("unheard_of",)})
    with pytest.raises(
        InputError, match=r"no question can be answered. models, saturation: single: unheard_of cannot train"
    ):
        run_study(hopeless, tmp_path / "out", progress=Silent(), jobs=1)


def test_samples_that_changed_are_noticed(finished):
    out, options, _ = finished
    record = out / "samples" / "files.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({name: size + 1 for name, size in content.items()}))
    with pytest.raises(InputError, match="changed since the study began"):
        run_study(options, out, progress=Silent(), jobs=1)
    record.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"channels": "1,7"}, "channels are different ones of 1, 2a, 2b, 3"),
        ({"outliers": "met,magic"}, "unknown score 'magic'"),
        ({"targets": (0.1, 0.1)}, "different numbers between 0 and 1"),
        ({"questions": "models,why"}, "questions"),
        ({"order": 3}, "unknown option 'order'; did you mean 'orders'"),
        ({"mini": {"1": 3, "9": 4}}, "there is no channel 9; expected 1, 2a, 2b, 3"),
        ({"folds": 1}, "folds: .*2"),
        ({"min_events": 19}, "min_events: .*20"),
        ({"test_fraction": 0.0}, "test_fraction: .*0"),
        ({"test_fraction": 1.0}, "test_fraction: .*1"),
        ({"held_out_families": 1.0}, "held_out_families: .*1"),
        ({"held_out_points": -0.1}, "held_out_points: .*0"),
        ({"systematic": -0.1}, "systematic: .*0"),
        ({"seed": -1}, "seed: .*0"),
    ],
)
def test_wrong_options_are_explained(option, message):
    given = {"background": ("SM",), "theories": ("BSM",)} | option
    with pytest.raises(InputError, match=message):
        parse_settings(StudyConfig, given, "study")


def test_a_model_without_improvement_is_the_last_in_the_order():
    entry = {"groups": {"held_out": {"ti": {"median": -2.0, "maximum": 1.0}}, "mixed": {"ti": None}}}
    assert ti_value(entry, "held_out") == -2.0
    assert ti_value(entry, "held_out", "maximum") == 1.0
    assert ti_value(entry, "mixed") == ti_value(entry, "none") == -np.inf


def test_channels_may_be_written_as_numbers():
    given = {"background": ("SM",), "theories": ("BSM",), "channels": 1, "mini": {1: 4}, "steps": {1: [8, 2]}}
    options = parse_settings(StudyConfig, given, "study")
    assert (options.channels, options.of("mini", "1"), options.of("steps", "1")) == (("1",), 4, (2, 8))


def test_a_study_that_could_not_start_may_be_corrected(samples, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="no theory and no family called nothing"):
        run_study(config(samples, questions=("models",), tested=("nothing",)), out, progress=Silent(), jobs=1)
    with pytest.raises(InputError, match=r"holds a study with other settings \(rotate differ\)"):
        run_study(config(samples, rotate=False), out, progress=Silent(), jobs=1)
    changed = config(samples, questions=("resonant",), tested=("stop",))
    with pytest.raises(InputError, match="needs channel 3"):
        run_study(changed, out, progress=Silent(), jobs=1)
    with pytest.raises(InputError, match="nowhere/SM: no such file or folder"):
        run_study(
            config(samples, background=(Path("nowhere/SM"),)), tmp_path / "other", progress=Silent(), jobs=1
        )


def test_the_experiment_of_the_paper_is_configured_as_published(shared_data):
    file = Path(__file__).parents[1] / "examples" / "theories_paper.yaml"
    options = parse_settings(StudyConfig, load_config(file), str(file))
    assert not options.rotate
    assert (options.events_per_theory, options.orders) == (options.network_events, 5) == (10_000, 5)
    points = {sample.name for sample in known_samples()["published"]}
    instead = {s.name: s.made or s.substitutes[0] for s in SIGNALS if s.made or s.substitutes}
    instead["LReff_100_100"] = "wzprime_100_100_lep"
    with (shared_data / "darkmachines" / "paper_single_signals.csv").open() as table:
        rows = list(csv.DictReader(table))
    for channel in CHANNELS:
        mine = [row for row in rows if row["channel"] == channel]
        assert list(options.of("single", channel)) == [instead[row["name"]] for row in mine]
        assert options.of("mini", channel) == max(int(row["thousand_events"]) for row in mine) // 10
        assert all(channel in CATALOGUE[name].channels for name in options.of("single", channel))
        assert not set(options.of("single", channel)) & set(options.tested)
    assert [len(options.of("steps", channel)) + 1 for channel in CHANNELS] == [9, 9, 10, 8]
    challenge = {
        s.made or s.substitutes[0] for s in SIGNALS if s.paper == CHALLENGE and (s.made or s.substitutes)
    }
    assert set(options.tested) == challenge <= points
    with pytest.raises(InputError, match="mini has no value for channel 2b"):
        parse_settings(StudyConfig, load_config(file) | {"mini": {"1": 1, "2a": 1, "3": 1}}, "study")


def test_the_small_experiment_names_theories_of_the_catalogue_and_tests_none_that_it_trains():
    file = Path(__file__).parents[1] / "examples" / "theories_small.yaml"
    options = parse_settings(StudyConfig, load_config(file), str(file))
    points = {sample.name for sample in known_samples()["published"]}
    assert set(options.tested) <= points
    for channel in options.channels:
        assert set(options.of("single", channel)) <= points - set(options.tested)
        assert all(channel in CATALOGUE[name].channels for name in options.of("single", channel))


def test_a_training_is_known_by_what_it_is_and_not_by_who_asked():
    one = Task(channel="1", theories=("a", "b"), seed=3)
    assert one.key == Task(channel="3", theories=("a", "b"), seed=3).key
    others = [
        Task(channel="1", theories=("a",), seed=3), Task(channel="1", theories=("a", "b"), seed=4),
        Task(channel="1", theories=("a", "b"), seed=3, weights="family"), Task(channel="1", kind="outlier", score="met", seed=3),
    ]  # fmt: skip
    assert len({task.key for task in (one, *others)}) == 5


def test_thinning_keeps_expectations_and_takes_the_heavy_events():
    rng = np.random.default_rng(2)
    weights = rng.lognormal(0, 2, 5000)
    values = rng.normal(size=5000) + np.log(weights)
    sums, sizes = [], []
    for _ in range(200):
        rows, thinned = thin(weights, 800, rng)
        sizes.append(len(rows))
        sums.append((thinned * values[rows]).sum())
        assert set(np.argsort(weights)[-100:]) <= set(rows)
        assert thinned.sum() == pytest.approx(weights.sum(), rel=0.1)
    error = np.std(sums) / np.sqrt(200)
    assert np.mean(sums) == pytest.approx((weights * values).sum(), abs=3.5 * error)
    assert np.mean(sizes) == pytest.approx(800, abs=5)
    rows, same = thin(weights, 5000, rng)
    assert len(rows) == 5000
    assert (same == weights).all()
    rows, equal = thin(np.ones(1000), 100, rng)
    assert (equal == 10.0).all()
    assert len(rows) == pytest.approx(100, abs=35)


def test_a_set_network_reads_lists_of_the_same_events(samples, finished, tmp_path):
    out, options, _ = finished
    changed = config(samples, network_background=1000, network_events=100)
    task = Task(
        channel="1",
        kind="network",
        score="deepsets",
        theories=("glgl1000_neutralino1", "glgl1600_neutralino800"),
        keep=True,
    )
    (tmp_path / "samples").mkdir()
    shutil.copy(out / "samples" / "channel_1.parquet", tmp_path / "samples")
    run_task(task, tmp_path, changed)
    found, trees = load_outcome(task, tmp_path), load_outcome(context(out, options).mixture("1")[0], out)
    assert {
        name: m.n_signal
        for name, m in found.merits.items()
        if name not in trees.task.theories and name not in task.theories
    } == {
        name: m.n_signal
        for name, m in trees.merits.items()
        if name not in trees.task.theories and name not in task.theories
    }
    assert np.array_equal(
        load_scores(task, tmp_path).test_weight,
        load_scores(context(out, options).mixture("1")[0], out).test_weight,
    )
    assert found.merits["sqsq_sq1800_neut800"].auc > 0.68
    assert found.facts["train_background"] == pytest.approx(1000, abs=60)


def test_the_command_answers_a_question_and_draws_the_page(samples, tmp_path, capsys, installed):
    settings = tmp_path / "study.yaml"
    files = "\n".join(f"  - {samples / 'BSM' / name}.parquet" for name in THEORIES)
    settings.write_text(
        f"background: {samples / 'SM' / 'njets.parquet'}\ntheories:\n{files}\nchannels: '1'\nmin_events: 50\nrepeats: 1\n"
        "orders: 2\nmini: 2\nsingle: 2\noutliers: met,mahalanobis\nnetworks: []\ntargets: [0.1]\n"
    )
    out = tmp_path / "run"
    command = ["theories", "study", str(settings), "--out", str(out), "--question", "models", "--jobs", "1"]
    assert run([*command, "--set", "boost.rounds=10", "--set", "held_out_families=0.25"]) == 0
    text = capsys.readouterr().out
    assert "MoT 1" in text
    assert "total improvement on theories that were held out" in text
    assert (out / "theories.html").stat().st_size > 10_000
    found = read_results(out)
    assert found["config"]["boost"]["rounds"] == 10
    # a score that another package adds
    assert "Mahalanobis distance" in {model["name"] for model in found["answers"]["models"]["models"]}
    assert run([*command, "--set", "boost.rounds=11"]) == 2
    assert "other settings (boost, held_out_families differ)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere/SM: no such folder"),
        (["settings.yaml"], "no such file"),
        ([".", "--set", "orders"], "expected OPTION=VALUE"),
    ],
)
def test_what_a_study_cannot_start_with_is_explained(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SM").mkdir()
    (tmp_path / "BSM").mkdir()
    assert run(["theories", "study", *arguments, "--out", "run"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_signal_as_large_as_needed_gives_five_sigma():
    rng = np.random.default_rng(8)
    found = BackgroundScores(rng.normal(size=20_000)).merits(rng.normal(2.0, size=2000), targets=[0.05, 0.01])
    exact, blurred = (excess.needed(found, 50_000.0, systematic) for systematic in (0.0, 0.2))
    for size, systematic in ((exact, 0.0), (blurred, 0.2)):
        z = [
            float(
                asimov_z(
                    size * p.eps_s,
                    50_000 * p.target,
                    50_000 * p.target * np.hypot(systematic, p.background**-0.5),
                )
            )
            for p in found.points
        ]
        assert max(z) == pytest.approx(5.0, abs=1e-6)
    assert blurred > 1.5 * exact
    unreliable = BackgroundScores(rng.normal(size=50)).merits(rng.normal(2.0, size=50), targets=[0.01])
    assert excess.needed(unreliable, 1000.0, 0.0) is None


def test_false_claims_are_counted_and_every_score_says_what_it_needs(finished):
    out, options, _ = finished
    study = context(out, options.model_copy(update={"experiments": 15, "targets": (0.1, 0.02)}))
    found = excess.answer(study, Silent())
    rates = found["null"]["1"]
    assert rates["experiments"] == 15
    assert {rate["level"] for rate in rates["rates"]} == {0.05, 0.003}
    weight = read_samples(out / "samples" / "channel_1.parquet").background.weight
    assert found["background"]["1"] == pytest.approx(weight.sum(), rel=0.1)
    needed = found["needed"]["1"]
    assert set(needed) == {"MoT", "MET", "isolation forest"}
    assert set(needed["MoT"]["each"]) == {*study.design.held_out_points, *study.design.held_out_families}
    larger = excess.answer(
        study.__class__(**{**study.__dict__, "config": study.config.model_copy(update={"systematic": 0.5})}),
        Silent(),
    )
    assert larger["needed"]["1"]["MET"]["held_out_families"] > needed["MET"]["held_out_families"]


@pytest.mark.parametrize("rotate", [True, False])
def test_events_are_turned_to_met_or_left_as_they_are(rotate, samples, tmp_path):
    _prepare(config(samples, rotate=rotate), tmp_path, Silent())
    features = read_samples(tmp_path / "samples" / "channel_1.parquet").features
    assert ("met_phi" in features) is not rotate
