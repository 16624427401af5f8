"""Mixture-of-theories training: the optimum, the weights of theories and events, the split, storage, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.theories.mixture import (
    PAPER,
    BoostConfig,
    MixtureClassifier,
    MixtureConfig,
    TheorySample,
    train_mixture,
)
from serendip.theories.training_sample import SampleConfig, training_sample

pytest.importorskip("lightgbm")
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:lightgbm")

FEATURES = ("a", "b")
FAST = BoostConfig(rounds=200, leaves=8, min_leaf=50)


def normal(n: int, mean: tuple[float, float], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, (n, 2))


def theory(
    name: str, mean: tuple[float, float], *, n: int = 6000, family: str = "", seed: int = 7
) -> TheorySample:
    return TheorySample(name, family or name, normal(n, mean, seed))


BACKGROUND = normal(12_000, (0.0, 0.0), 1)
RIGHT, UP = theory("right", (2.0, 0.0), seed=2), theory("up", (0.0, 2.0), seed=3)


def train(theories, background=BACKGROUND, **more) -> MixtureClassifier:
    weight = more.pop("background_weight", None)
    config = MixtureConfig(boost=FAST, **more)
    return train_mixture(background, theories, config, features=FEATURES, background_weight=weight)


def ratio(x: np.ndarray, shares: dict[tuple[float, float], float]) -> np.ndarray:
    """The true ln p_S / p_B of normal distributions."""
    density = sum(share * stats.multivariate_normal(mean).pdf(x) for mean, share in shares.items())
    return np.log(density / stats.multivariate_normal((0.0, 0.0)).pdf(x))


def test_the_score_is_the_log_ratio_of_the_mixture_to_background():
    found = train([RIGHT, UP])
    new = np.concatenate([normal(4000, (0, 0), 11), normal(2000, (2, 0), 12), normal(2000, (0, 2), 13)])
    true = ratio(new, {(2.0, 0.0): 0.5, (0.0, 2.0): 0.5})
    score = found.score(new)
    inside = np.abs(true) < 2.5
    assert np.corrcoef(score[inside], true[inside])[0, 1] > 0.95
    # equal totals: no offset
    assert np.mean(score[inside] - true[inside]) == pytest.approx(0.0, abs=0.1)
    labels = np.repeat([0, 1], 4000)
    best = roc_auc_score(labels, true)
    assert roc_auc_score(labels, score) == pytest.approx(best, abs=0.01)
    assert found.validation_auc == pytest.approx(best, abs=0.02)
    assert found.theories == ("right", "up")
    assert next(iter(found.gains())) in FEATURES


def test_a_mixture_finds_what_a_single_theory_does_not():
    single, mixed = train([RIGHT]), train([RIGHT, UP])
    up, background = normal(3000, (0, 2), 21), normal(3000, (0, 0), 22)
    labels = np.repeat([0, 1], 3000)
    auc = [roc_auc_score(labels, c.score(np.concatenate([background, up]))) for c in (single, mixed)]
    assert auc[0] < 0.6
    assert auc[1] > 0.85


@pytest.mark.parametrize(
    ("weights", "share"), [("theory", 1 / 3), ("family", 1 / 2), ({"right": 8.0, "up": 1.0, "up2": 1.0}, 0.8)]
)
def test_weights_of_theories_and_families_reach_the_score(weights, share):
    twin = theory("up2", (0.0, 2.0), family="up", seed=4)
    families = [theory("right", (2.0, 0.0), seed=2), theory("up", (0.0, 2.0), family="up", seed=3), twin]
    found = train(families, weights=weights)
    point = np.array([[2.0, 0.0]] * 1) + normal(400, (0, 0), 5) * 0.3
    true = ratio(point, {(2.0, 0.0): share, (0.0, 2.0): 1 - share})
    assert np.mean(found.score(point)) == pytest.approx(np.mean(true), abs=0.25)


def test_a_small_sample_counts_as_much_as_a_large_one():
    small = theory("right", (2.0, 0.0), n=1500, seed=2)
    point = np.array([[2.0, 0.0]]) + normal(400, (0, 0), 5) * 0.3
    true = ratio(point, {(2.0, 0.0): 0.5, (0.0, 2.0): 0.5})
    assert np.mean(train([small, UP]).score(point)) == pytest.approx(np.mean(true), abs=0.3)
    # and a limit on the events of a theory is one
    limited = train([RIGHT, UP], events_per_theory=300)
    assert limited.score(point).shape == (400,)
    assert limited.model != train([RIGHT, UP]).model


def test_weights_of_events_are_used():
    # background that is everywhere, weighted to be only on the left
    rng = np.random.default_rng(8)
    everywhere = rng.uniform(-4, 4, (20_000, 2))
    weight = stats.multivariate_normal((0.0, 0.0)).pdf(everywhere)
    found = train([RIGHT], background=everywhere, background_weight=weight)
    new = np.concatenate([normal(2000, (0, 0), 31), normal(2000, (2, 0), 32)])
    true = ratio(new, {(2.0, 0.0): 1.0})
    assert np.corrcoef(found.score(new), true)[0, 1] > 0.93
    # twice the weights are the same training
    twice = train([RIGHT], background=everywhere, background_weight=2 * weight)
    assert np.array_equal(twice.score(new), found.score(new))


def test_the_seed_decides_and_a_saved_classifier_is_the_same(tmp_path):
    first, again, other = train([RIGHT]), train([RIGHT]), train([RIGHT], seed=2)
    new = normal(500, (1, 0), 41)
    assert np.array_equal(first.score(new), again.score(new))
    assert not np.array_equal(first.score(new), other.score(new))
    first.save(tmp_path / "one")
    loaded = MixtureClassifier.load(tmp_path / "one")
    assert np.array_equal(loaded.score(new), first.score(new))
    assert loaded.config == first.config
    assert (loaded.rounds, loaded.validation_auc) == (first.rounds, first.validation_auc)
    (tmp_path / "one" / "mixture.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="expected a trained mixture"):
        MixtureClassifier.load(tmp_path / "one")


def test_training_stops_where_held_out_events_gain_nothing():
    noise = TheorySample("noise", "noise", normal(2000, (0, 0), 51))
    found = train([noise], background=normal(2000, (0, 0), 52))
    assert found.rounds < 60
    assert abs(found.validation_auc - 0.5) < 0.08


def test_copies_of_an_event_stand_on_one_side_of_the_split():
    # every event eight times: held-out copies would be known, and training would never stop
    few, background = normal(150, (0, 0), 61), normal(150, (0, 0), 62)
    copies, numbers = np.repeat(few, 8, axis=0), np.repeat(np.arange(150), 8)
    leaky = train([TheorySample("noise", "noise", copies)], background=np.repeat(background, 8, axis=0))
    sample = TheorySample("noise", "noise", copies, group=numbers)
    config = MixtureConfig(boost=FAST)
    honest = train_mixture(
        np.repeat(background, 8, axis=0), [sample], config, features=FEATURES, background_group=numbers
    )
    assert leaky.validation_auc > 0.7
    assert abs(honest.validation_auc - 0.5) < 0.2
    with pytest.raises(InputError, match="groups for 1200 events"):
        train([TheorySample("short", "short", copies, group=numbers[:5])])
    with pytest.raises(InputError, match="one group"):
        train([TheorySample("one", "one", copies, group=np.zeros(1200, dtype=int))])


@pytest.mark.parametrize("layout", ["flat", "objects"])
def test_the_training_sample_is_balanced_on_both_sides_of_the_split(layout):
    rng = np.random.default_rng(71)
    sizes = {"a": 300, "b": 900, "c": 60}
    shape = {"flat": (2,), "objects": (4, 2)}[layout]
    theories = [
        TheorySample(
            name,
            "A" if name == "a" else "BC",
            np.full((n, *shape), i),
            rng.uniform(0, 5, n),
            np.arange(n) // 3,
        )
        for i, (name, n) in enumerate(sizes.items(), start=1)
    ]
    config = SampleConfig(events_per_theory=600, weights="family", validation_fraction=0.3, seed=3)
    weight = rng.exponential(1.0, 2000)
    found = training_sample(
        np.zeros((2000, *shape)), theories, config, features=FEATURES, background_weight=weight, layout=layout
    )
    assert found.x.shape == (2000 + 300 + 600 + 60, *shape)
    which = found.x.reshape(len(found.x), -1)[:, 0]
    assert np.array_equal(found.target, which > 0)
    for part in (found.held_out, ~found.held_out):
        shares = [found.weight[part & (which == i)].sum() for i in range(4)]
        assert shares == pytest.approx([1.0, 0.5, 0.25, 0.25])
    # whole events of three copies, within one of the fraction asked for
    assert np.count_nonzero(found.held_out & (which == 1)) == 90
    assert np.count_nonzero(found.held_out & (which == 0)) == 600
    # inside a sample the weights keep their ratios
    inside = found.weight[~found.held_out & (which == 0)]
    assert np.sum(inside) ** 2 / np.sum(inside**2) == pytest.approx(1400 / 2, rel=0.1)


def test_lists_of_objects_are_for_the_set_network():
    with pytest.raises(InputError, match=r"one row of features for each event: .*encoding='flat'"):
        train([TheorySample("sets", "sets", np.zeros((50, 4, 2)))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: train([]), "at least one theory"),
        (lambda: train([RIGHT, RIGHT]), "duplicate theories: right"),
        (lambda: train([RIGHT], weights={"up": 1.0}), "unknown: up, missing: right"),
        (lambda: train([theory("few", (0, 0), n=5)]), "'few' has 5 events"),
        (lambda: train([TheorySample("wide", "wide", np.zeros((50, 3)))]), "2 features are named"),
        (lambda: train([TheorySample("nan", "nan", np.full((50, 2), np.nan))]), "event 0, feature 0 is nan"),
        (lambda: train([TheorySample("neg", "neg", RIGHT.x, -np.ones(6000))]), "not negative"),
        (lambda: train([TheorySample("none", "none", RIGHT.x, np.zeros(6000))]), "sum to zero"),
        (lambda: train([RIGHT], background_weight=np.ones(3)), "'background': weights"),
        (lambda: train([RIGHT]).score(np.zeros((4, 5))), "trained on 2 features"),
    ],
)
def test_bad_input_is_explained(change, message):
    with pytest.raises(InputError, match=message):
        change()


def test_settings_of_the_paper():
    assert (PAPER.rounds, PAPER.leaves, PAPER.learning_rate, PAPER.depth) == (5000, 500, 0.01, 15)


def test_leaves_that_are_empty_by_rounding_are_grown_again_with_a_larger_limit(monkeypatch):
    import lightgbm

    limits, train = [], lightgbm.train

    def fails_once(parameters, *args, **options):
        limits.append(parameters["min_sum_hessian_in_leaf"])
        if len(limits) == 1:
            raise lightgbm.basic.LightGBMError("Check failed: (best_split_info.left_count) > (0)")
        return train(parameters, *args, **options)

    monkeypatch.setattr(lightgbm, "train", fails_once)
    rng = np.random.default_rng(1)
    theory = TheorySample("t", "t", rng.normal(1.0, size=(500, 2)))
    config = MixtureConfig(boost=BoostConfig(rounds=5))
    found = train_mixture(rng.normal(size=(500, 2)), [theory], config, features=("a", "b"))
    assert limits == [0.0, 1e-3]
    assert found.validation_auc > 0.8
