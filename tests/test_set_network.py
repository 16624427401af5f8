"""Set networks: pair features, invariances, the optimum on sets with a known ratio, weights, stopping, storage, bad input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.theories.encoding import object_feature_names
from serendip.theories.sets import SetClassifier, SetConfig, train_set_network
from serendip.theories.sets import training as set_training
from serendip.theories.sets.layers import build_network, compact, pair_features
from serendip.theories.training_sample import TheorySample, training_sample

COUNTED = ("value", "is_a", "is_b")
OBJECTS = object_feature_names()
LONGEST = 14


def counted(n: int, seed: int, *, rate: float, mean: float, share: float) -> np.ndarray:
    """Sets of a Poisson number of objects, each of kind a (with ``share``) or b, with a normal value."""
    rng = np.random.default_rng(seed)
    number = np.minimum(rng.poisson(rate, n), LONGEST)
    there = np.arange(LONGEST) < number[:, None]
    kind = rng.random((n, LONGEST)) < share
    x = np.stack([rng.normal(mean, 1.0, (n, LONGEST)), kind, ~kind], axis=-1) * there[..., None]
    return x.astype(np.float32)


def log_density(x: np.ndarray, *, rate: float, mean: float, share: float) -> np.ndarray:
    """Of the sets of ``counted``, but for what all of them share."""
    a, b = x[..., 1] > 0, x[..., 2] > 0
    number = (a | b).sum(1)
    values = np.where(a | b, stats.norm.logpdf(x[..., 0], mean), 0).sum(1)
    kinds = a.sum(1) * math.log(share) + b.sum(1) * math.log1p(-share)
    return stats.poisson.logpmf(number, rate) + values + kinds


STANDARD = {"rate": 4.0, "mean": 0.0, "share": 0.5}
MANY = {"rate": 6.0, "mean": 0.2, "share": 0.5}
SHIFTED = {"rate": 4.0, "mean": 0.5, "share": 0.7}


def back_to_back(n: int, seed: int, concentration: float) -> np.ndarray:
    """Two massless jets of equal pT with a von Mises distribution of the azimuth between them, around pi; and a weak MET."""
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-np.pi, np.pi, (n, 3))
    phi[:, 2] = phi[:, 1] + np.pi + rng.vonmises(0.0, concentration, n)
    x = np.zeros((n, 4, len(OBJECTS)), dtype=np.float32)
    at = {name: i for i, name in enumerate(OBJECTS)}
    x[:, :3, at["log_energy"]] = x[:, :3, at["log_pt"]] = np.log([20.0, 100.0, 100.0])
    x[:, :3, at["sin_phi"]], x[:, :3, at["cos_phi"]] = np.sin(phi), np.cos(phi)
    x[:, 0, at["is_met"]] = x[:, 1, at["is_j"]] = x[:, 2, at["is_j"]] = 1.0
    return x


def theory(name: str, x: np.ndarray, **more) -> TheorySample:
    return TheorySample(name, name, x, **more)


def quick(background, theories, *, features=COUNTED, background_weight=None, **options) -> SetClassifier:
    options = {"width": 16, "epochs": 4, "batch_size": 64, "learning_rate": 5e-3, "device": "cpu"} | options
    return train_set_network(
        background, theories, SetConfig(**options), features=features, background_weight=background_weight
    )


SMALL = counted(600, 1, **STANDARD), theory("many", counted(600, 2, **MANY))


@pytest.fixture(scope="module")
def small() -> SetClassifier:
    return quick(SMALL[0], [SMALL[1]])


@pytest.fixture(scope="module")
def attention() -> SetClassifier:
    return quick(
        back_to_back(400, 3, 0.0), [theory("pair", back_to_back(400, 4, 2.0))], features=OBJECTS, kind="transformer"
    )  # fmt: skip


def test_pair_features_are_those_of_four_vectors():
    rng = np.random.default_rng(5)
    n, m = 50, 4
    pt, eta = np.exp(rng.uniform(3, 7, (n, m))), rng.uniform(-2.5, 2.5, (n, m))
    phi, mass = rng.uniform(-np.pi, np.pi, (n, m)), rng.uniform(5, 80, (n, m))
    eta[:, 0] = mass[:, 0] = 0.0
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    at = {name: i for i, name in enumerate(OBJECTS)}
    x = np.zeros((n, m + 1, len(OBJECTS)))
    for name, values in (("log_energy", np.log(energy)), ("log_pt", np.log(pt)), ("eta", eta)):
        x[:, :m, at[name]] = values
    x[:, :m, at["sin_phi"]], x[:, :m, at["cos_phi"]] = np.sin(phi), np.cos(phi)
    x[:, 0, at["is_met"]] = x[:, 1, at["is_b"]] = x[:, 2, at["is_j"]] = x[:, 3, at["is_em"]] = 1.0
    present = torch.as_tensor(x[..., -8:].any(-1))
    pairs, there = pair_features(torch.as_tensor(x), present, OBJECTS)

    p = np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)
    for i, j in ((1, 2), (2, 3), (3, 1)):
        total = p[:, i] + p[:, j]
        m2 = total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(1)
        turned = np.angle(np.exp(1j * (phi[:, i] - phi[:, j])))
        distance = np.hypot(eta[:, i] - eta[:, j], turned)
        expected = np.log([np.minimum(pt[:, i], pt[:, j]) * distance, distance, m2]).T
        assert pairs[:, i, j].numpy() == pytest.approx(expected, abs=1e-6)
        assert pairs[:, j, i].numpy() == pytest.approx(expected, abs=1e-6)
    # MET and the b-jet: the transverse mass, and the azimuth alone
    turned = np.abs(np.angle(np.exp(1j * (phi[:, 0] - phi[:, 1]))))
    transverse = np.hypot(mass[:, 1], pt[:, 1])
    m2 = mass[:, 1] ** 2 + 2 * pt[:, 0] * (transverse - pt[:, 1] * np.cos(turned))
    assert pairs[:, 0, 1, 1].numpy() == pytest.approx(np.log(turned), abs=1e-6)
    assert pairs[:, 0, 1, 2].numpy() == pytest.approx(np.log(m2), abs=1e-6)
    assert there[0].int().tolist() == [
        [0, 1, 1, 1, 0], [1, 0, 1, 1, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]
    ]  # fmt: skip
    # objects on top of each other stay finite, also in single precision
    same, _ = pair_features(
        torch.as_tensor(x[:, [1, 1, 4]], dtype=torch.float32), present[:, [1, 1, 4]], OBJECTS
    )
    assert bool(torch.isfinite(same).all())


@pytest.mark.parametrize("kind", ["small", "attention"])
def test_order_and_empty_places_do_not_count(kind, request):
    trained: SetClassifier = request.getfixturevalue(kind)
    x = SMALL[1].x[:100] if kind == "small" else back_to_back(100, 6, 1.0)
    # lists of different lengths in one block
    x = np.where(np.arange(100)[:, None, None] % 3 == 0, x * (np.arange(x.shape[1]) < 2)[:, None], x)
    score = trained.score(x)
    assert np.ptp(score) > 0.1
    rng = np.random.default_rng(7)
    shuffled = rng.permuted(np.broadcast_to(np.arange(x.shape[1]), x.shape[:2]), axis=1)
    assert trained.score(np.take_along_axis(x, shuffled[..., None], axis=1)) == pytest.approx(
        score, abs=1e-10
    )
    longer = np.concatenate([np.zeros_like(x), x, np.zeros_like(x)], axis=1)
    # numbers without a kind are no object
    longer[:, 0, 0] = 7.0
    assert trained.score(longer) == pytest.approx(score, abs=1e-10)
    # an event has the same score whatever stands in its block
    for row in range(6):
        assert trained.score(x[[row]]) == pytest.approx(score[[row]], abs=1e-10)
    assert trained.score(x[:0]).shape == (0,)
    # but a lost object does
    lost = x.copy()
    lost[:, 1] = 0.0
    changed = (x[:, 1] != 0).any(-1)
    assert np.abs(trained.score(lost) - score)[changed].min() > 1e-6


def test_gradients_reach_every_parameter():
    x = torch.as_tensor(back_to_back(32, 8, 0.5))
    for kind in ("deepsets", "transformer"):
        network = build_network(kind, OBJECTS, width=8, layers=2, heads=2, seed=1)
        network(x).square().sum().backward()
        for name, value in network.named_parameters():
            assert value.grad is not None, name
            assert float(value.grad.abs().max()) > 0, name


def test_compact_keeps_the_order_of_the_objects():
    x = torch.tensor([[[0.0, 0.0], [5.0, 1.0], [0.0, 0.0], [3.0, 1.0]]])
    moved, count = compact(x, x[..., 1] != 0)
    assert moved[0, :, 0].tolist() == [5.0, 3.0, 0.0, 0.0]
    assert count.tolist() == [2]


def test_deep_sets_find_the_ratio_of_a_weighted_mixture():
    theories = [theory("many", counted(6000, 11, **MANY)), theory("shifted", counted(3000, 12, **SHIFTED))]
    found = quick(
        counted(8000, 13, **STANDARD),
        theories,
        weights={"many": 3.0, "shifted": 1.0},
        width=32,
        epochs=10,
        batch_size=256,
    )
    new = np.concatenate(
        [counted(3000, 14, **STANDARD), counted(2250, 15, **MANY), counted(750, 16, **SHIFTED)]
    )
    signal = np.logaddexp(
        math.log(0.75) + log_density(new, **MANY), math.log(0.25) + log_density(new, **SHIFTED)
    )
    true, score = signal - log_density(new, **STANDARD), found.score(new)
    labels = np.repeat([0, 1], 3000)
    best = roc_auc_score(labels, true)
    assert roc_auc_score(labels, score) == pytest.approx(best, abs=0.01)
    assert found.validation_auc == pytest.approx(best, abs=0.03)
    inside = np.abs(true) < 2
    assert np.corrcoef(score[inside], true[inside])[0, 1] > 0.95
    assert np.mean(score[inside] - true[inside]) == pytest.approx(0.0, abs=0.12)
    assert np.sqrt(np.mean((score - true)[inside] ** 2)) < 0.3
    # with the weights the other way round it would be another ratio
    other = np.logaddexp(
        math.log(0.25) + log_density(new, **MANY), math.log(0.75) + log_density(new, **SHIFTED)
    )
    wrong = other - log_density(new, **STANDARD)
    assert np.mean((score - true)[inside] ** 2) < 0.5 * np.mean((score - wrong)[inside] ** 2)
    assert found.theories == ("many", "shifted")


def test_a_dense_network_finds_the_ratio_of_flat_features(tmp_path):
    rng = np.random.default_rng(41)
    scale, centre = np.array([1.0, 200.0, 3.0]), np.array([0.0, 500.0, -1.0])

    def flat(n, mean):
        return (centre + scale * (rng.normal(size=(n, 3)) + mean)).astype(np.float32)

    x = flat(4000, (0, 0, 0))
    weight = np.exp(0.5 * (x[:, 0] - 0.25))  # background of mean 0.5 in the first feature
    theories = [
        TheorySample("a", "f", flat(3000, (0.5, 1, 0))),
        TheorySample("b", "f", flat(300, (0.5, 0, -1))),
    ]
    config = SetConfig(kind="dense", width=32, layers=2, epochs=12, weights={"a": 3.0, "b": 1.0})
    names = ("met", "b1_pt", "b1_eta")
    found = train_set_network(x, theories, config, features=names, background_weight=weight)
    test = flat(2000, (0.5, 0.4, -0.2))
    z = (test - centre) / scale
    expected = np.log(0.75 * np.exp(z[:, 1] - 0.5) + 0.25 * np.exp(-z[:, 2] - 0.5))
    score = found.score(test)
    assert np.corrcoef(score, expected)[0, 1] > 0.95
    assert np.std(score - expected) < 0.3 * np.std(expected)
    found.save(tmp_path)
    np.testing.assert_array_equal(SetClassifier.load(tmp_path).score(test), score)
    with pytest.raises(
        InputError, match=r"shape \(5, 2\) cannot be scored: the classifier was trained on rows with 3"
    ):
        found.score(test[:5, :2])
    with pytest.raises(InputError, match="takes one row of features for each event"):
        train_set_network(x[:, None], theories, config, features=names)


def test_the_transformer_finds_what_is_in_pairs_only():
    concentration = 2.0
    found = quick(
        back_to_back(4000, 21, 0.0), [theory("pair", back_to_back(4000, 22, concentration))],
        features=OBJECTS, kind="transformer", layers=1, heads=2, epochs=8, batch_size=128,
    )  # fmt: skip
    new = np.concatenate([back_to_back(2000, 23, 0.0), back_to_back(2000, 24, concentration)])
    sin, cos = OBJECTS.index("sin_phi"), OBJECTS.index("cos_phi")
    cosine = new[:, 1, cos] * new[:, 2, cos] + new[:, 1, sin] * new[:, 2, sin]
    true = -concentration * cosine - math.log(special.i0(concentration))
    score = found.score(new)
    labels = np.repeat([0, 1], 2000)
    assert roc_auc_score(labels, score) == pytest.approx(roc_auc_score(labels, true), abs=0.01)
    assert np.sqrt(np.mean((score - true) ** 2)) < 0.35
    assert np.mean(score - true) == pytest.approx(0.0, abs=0.12)


def test_weights_of_events_are_used():
    # background with any number of objects, weighted to be that of the Standard Model
    wide = {"rate": 6.0, "mean": 0.5, "share": 0.5}
    background = counted(6000, 31, **wide)
    weight = np.exp(log_density(background, **STANDARD) - log_density(background, **wide))
    signal = theory("many", counted(6000, 32, **MANY))
    new = np.concatenate([counted(2000, 33, **STANDARD), counted(2000, 34, **MANY)])
    true = log_density(new, **MANY) - log_density(new, **STANDARD)
    unweighted = log_density(new, **MANY) - log_density(new, **wide)
    found = quick(background, [signal], background_weight=weight, epochs=5, batch_size=128)
    score = found.score(new)
    assert np.corrcoef(score, true)[0, 1] > 0.9
    assert np.mean((score - true) ** 2) < 0.5 * np.mean((score - unweighted) ** 2)
    # a factor on all weights changes nothing
    twice = quick(SMALL[0], [SMALL[1]], background_weight=np.full(600, 2.0))
    assert np.array_equal(twice.score(new), quick(SMALL[0], [SMALL[1]]).score(new))


def test_validation_auc_is_that_of_the_held_out_events(small):
    weight = np.random.default_rng(41).uniform(0.1, 3.0, 600)
    found = quick(SMALL[0], [SMALL[1]], background_weight=weight)
    sample = training_sample(
        SMALL[0], [SMALL[1]], found.config, features=COUNTED, background_weight=weight, layout="objects"
    )
    part = sample.held_out
    expected = roc_auc_score(
        sample.target[part], found.score(sample.x[part]), sample_weight=sample.weight[part]
    )
    assert found.validation_auc == pytest.approx(expected, abs=1e-4)
    assert found.validation_auc != small.validation_auc


def test_training_stops_where_held_out_events_gain_nothing():
    noise = theory("noise", counted(400, 52, **STANDARD))
    found = quick(counted(400, 51, **STANDARD), [noise], epochs=30, patience=2)
    assert found.epochs < 15
    assert abs(found.validation_auc - 0.5) < 0.15


def test_patience_and_the_weights_of_the_best_epoch(monkeypatch):
    left: list[float] = []

    def with_areas(areas: list[float], patience: int) -> SetClassifier:
        left[:] = areas
        return quick(SMALL[0], [SMALL[1]], epochs=6, patience=patience)

    monkeypatch.setattr(set_training, "roc_auc_score", lambda *_, **__: left.pop(0))
    early = with_areas([0.6, 0.7, 0.7, 0.6, 0.9, 0.9], 2)
    assert (early.epochs, early.validation_auc, len(left)) == (2, 0.7, 2)
    whole = with_areas([0.6, 0.7, 0.6, 0.6, 0.6, 0.6], 6)
    assert (whole.epochs, len(left)) == (2, 0)
    assert np.array_equal(whole.score(SMALL[0]), early.score(SMALL[0]))
    late = with_areas([0.6, 0.7, 0.6, 0.6, 0.8, 0.6], 6)
    assert (late.epochs, late.validation_auc) == (5, 0.8)
    assert not np.array_equal(late.score(SMALL[0]), early.score(SMALL[0]))


@pytest.mark.parametrize(
    "change",
    [{"width": 8}, {"layers": 1}, {"epochs": 1}, {"batch_size": 128}, {"learning_rate": 1e-3}, {"weight_decay": 1.0},
     {"seed": 2}, {"validation_fraction": 0.5}, {"events_per_theory": 100}],
)  # fmt: skip
def test_every_option_changes_the_classifier(small, change):
    assert not np.array_equal(quick(SMALL[0], [SMALL[1]], **change).score(SMALL[0]), small.score(SMALL[0]))


def test_the_seed_decides_and_nothing_else_is_touched(small):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    again = quick(SMALL[0], [SMALL[1]])
    assert np.array_equal(again.score(SMALL[0]), small.score(SMALL[0]))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["small", "attention"])
def test_a_saved_classifier_is_the_same(kind, request, tmp_path):
    trained: SetClassifier = request.getfixturevalue(kind)
    x = SMALL[0] if kind == "small" else back_to_back(100, 61, 1.0)
    trained.save(tmp_path / "one")
    assert {path.suffix for path in (tmp_path / "one").iterdir()} == {".json", ".safetensors"}
    loaded = SetClassifier.load(tmp_path / "one")
    assert np.array_equal(loaded.score(x), trained.score(x))
    assert (loaded.config, loaded.features, loaded.theories) == (
        trained.config,
        trained.features,
        trained.theories,
    )
    assert (loaded.epochs, loaded.validation_auc) == (trained.epochs, trained.validation_auc)


def test_damaged_folders_are_explained(small, tmp_path):
    with pytest.raises(InputError, match="contains no classifier"):
        SetClassifier.load(tmp_path)
    small.save(tmp_path)
    facts = json.loads((tmp_path / "classifier.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"kind": "trees"}, "holds 'trees', not a set network"),
        ({"features": ["a"]}, "damaged"),
        ({"config": facts["config"] | {"width": 99}}, "damaged"),
        ({"epochs": None}, "damaged"),
    ):
        (tmp_path / "classifier.json").write_text(json.dumps(facts | change), encoding="utf-8")
        with pytest.raises(InputError, match=message):
            SetClassifier.load(tmp_path)


def with_nan() -> np.ndarray:
    x = SMALL[0][:50].copy()
    x[3, 2, 0] = np.nan
    return x


def two_kinds() -> np.ndarray:
    x = SMALL[0][:50].copy()
    x[4, 1, 1:] = 1.0
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: quick(SMALL[0][:, 0], [SMALL[1]]), r"encoding='objects'"),
        (lambda c: quick(SMALL[0], [theory("flat", np.zeros((50, 3)))]), "'flat': events of shape"),
        (
            lambda c: quick(SMALL[0][:, :4], [SMALL[1]]),
            "'many' has lists of 14 objects, but .* 4: .*max_objects",
        ),
        (lambda c: quick(SMALL[0], [SMALL[1]], features=("a", "is_b")), "2 features are named"),
        (lambda c: quick(SMALL[0], [SMALL[1]], features=("a", "b", "c")), "begins with 'is_'"),
        (lambda c: quick(SMALL[0], [SMALL[1]], kind="transformer"), "missing: log_energy, log_pt"),
        (lambda c: quick(with_nan(), [SMALL[1]]), "event 3, object 2, feature 0 is nan"),
        (lambda c: quick(SMALL[0], [theory("two", two_kinds())]), "has the kinds"),
        (lambda c: quick(0 * SMALL[0], [theory("nothing", 0 * SMALL[0])]), "no event has an object"),
        (lambda c: quick(SMALL[0], []), "at least one theory"),
        (lambda c: quick(SMALL[0], [SMALL[1]], device="nonsense"), "device 'nonsense'"),
        (lambda c: quick(SMALL[0], [SMALL[1]], learning_rate=1e38, epochs=3), "diverged in epoch"),
        (lambda c: c.score(np.zeros((4, 3))), "lists of objects with 3 features"),
        (lambda c: c.score(np.zeros((4, 3, 5))), "lists of objects with 3 features"),
        (lambda c: c.score(with_nan()), "event 3, object 2, 'value' is not a finite"),
        (lambda c: c.score(two_kinds()), "object 1 of event 4 of the events has the kinds"),
    ],
)
def test_bad_input_is_explained(small, change, message):
    with pytest.raises(InputError, match=message):
        change(small)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is there")
def test_a_device_that_is_not_there(small):
    with pytest.raises(InputError, match="finds no CUDA"):
        quick(SMALL[0], [SMALL[1]], device="cuda")
    # what was trained with CUDA is used without it
    elsewhere = SetClassifier(
        small.arrays,
        small.features,
        small.theories,
        small.config.model_copy(update={"device": "cuda"}),
        1,
        0.5,
    )
    assert np.array_equal(elsewhere.score(SMALL[0]), small.score(SMALL[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 2}, "heads are for kind 'transformer'"),
        ({"kind": "transformer", "width": 10}, "cannot be divided by 4 heads"),
        ({"kind": "graph"}, "deepsets"),
        ({"leaves": 3}, "Extra inputs"),
    ],
)
def test_options_that_are_not_valid(options, message):
    with pytest.raises(ValidationError, match=message):
        SetConfig(**options)
