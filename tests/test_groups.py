"""Groups of dependent events are never split: in validation parts, inner folds, halves, pseudo-data and injections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from serendip.classify.boosting import _parts
from serendip.classify.nested import NestedEnsemble, _stratified
from serendip.classify.networks import NetworkEnsemble
from serendip.classify.rounds import Rows
from serendip.classify.splits import fit_splits
from serendip.classify.trees import TreeEnsemble
from serendip.density.samples import SplitSamples
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.groups import held_out, one_of_each, random_parts, with_own_groups
from serendip.methods.cwola import Cwola
from serendip.methods.gbi import half_samples
from serendip.search.injection import inject
from serendip.search.pseudo_data import SampledBackground

RNG = np.random.default_rng(1)
GROUPS = RNG.permutation(np.repeat(np.arange(400) * 7 - 100, RNG.integers(1, 5, 400))).astype(np.int64)
N = len(GROUPS)


def whole(part: np.ndarray, groups: np.ndarray = GROUPS) -> bool:
    """Whether all events of each group have the same value."""
    return all(len(np.unique(part[groups == group])) == 1 for group in np.unique(groups))


def test_random_parts_keep_groups_and_are_of_one_size() -> None:
    part = random_parts(N, 5, np.random.default_rng(2), GROUPS)
    assert whole(part)
    assert [len(np.unique(GROUPS[part == k])) for k in range(5)] == [80] * 5
    plain = random_parts(N, 5, np.random.default_rng(2))
    np.testing.assert_array_equal(plain, np.random.default_rng(2).permutation(N) % 5)
    halves = half_samples(N, 2, np.random.default_rng(3), GROUPS)
    assert halves.shape == (4, N)
    assert all(whole(half) for half in halves)
    np.testing.assert_array_equal(halves[0], ~halves[1])


def test_what_is_held_out_is_a_fraction_of_the_groups_of_each_class() -> None:
    kind = (GROUPS % 2 == 0).astype(np.int64)
    back = held_out(0.3, np.random.default_rng(4), GROUPS, kind)
    assert whole(back)
    for value in (0, 1):
        groups = np.unique(GROUPS[kind == value])
        assert len(np.unique(GROUPS[back & (kind == value)])) == round(0.3 * len(groups))
    own = with_own_groups(GROUPS, 3)
    assert whole(own[:N])
    assert len(np.unique(own)) == 403
    assert with_own_groups(None, 3) is None


def test_one_event_of_each_group_is_left() -> None:
    rows = np.arange(0, N, 2)
    chosen = one_of_each(rows, GROUPS, np.random.default_rng(5))
    assert sorted(GROUPS[chosen]) == sorted(np.unique(GROUPS[rows]))
    assert set(chosen) <= set(rows)
    assert sorted(one_of_each(rows, None, np.random.default_rng(5))) == rows.tolist()


def test_classifiers_judge_on_groups_that_they_did_not_train_on() -> None:
    targets = np.random.default_rng(6).integers(0, 2, N)
    rows = Rows(0, 3, np.arange(N), targets, 0.5, None, GROUPS)
    assert not set(GROUPS[rows.training]) & set(GROUPS[rows.validation])
    assert len(rows.training) + len(rows.validation) == N
    training, validation = _parts(targets, 0.4, 8, GROUPS)
    assert not set(GROUPS[training]) & set(GROUPS[validation])
    used = np.random.default_rng(7).random(N) < 0.8
    inner = _stratified(targets, used, 4, 9, GROUPS)
    assert whole(inner[used], GROUPS[used])
    assert set(inner[used]) == {0, 1, 2, 3}
    assert set(inner[~used]) == {-1}


def test_densities_hold_out_whole_groups() -> None:
    z = np.arange(N, dtype=float)[:, None]
    data = SplitSamples.make(
        [(z, np.zeros(N), np.ones(N))],
        seed=1,
        validation_fraction=0.2,
        device=torch.device("cpu"),
        groups=[GROUPS],
    )
    back = data.z[data.validation[0], 0].numpy().astype(int)
    assert len(np.unique(GROUPS[back])) == 80
    assert set(GROUPS[back]).isdisjoint(np.delete(GROUPS, back))


@pytest.mark.parametrize(
    "estimator",
    [TreeEnsemble(members=1, random_state=0), NetworkEnsemble(members=1, max_rounds=60, steps_per_round=5, best_rounds=1, random_state=0),
     NestedEnsemble(TreeEnsemble(members=1), restarts=1, random_state=0)],
    ids=["trees", "network", "nested"],
)  # fmt: skip
def test_copies_of_noise_teach_nothing_if_their_group_is_named(estimator: object) -> None:
    """With copies on both sides of the validation, a classifier goes on learning noise by heart."""
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(150, 3)), rng.integers(0, 2, 150)
    row = np.repeat(np.arange(150), 4)
    spread = [
        np.std(fit_splits(estimator, x[row], y[row], None, np.ones((1, 600), bool), groups).score(x))
        for groups in (row, None)
    ]
    assert spread[0] < 0.6 * spread[1]


def test_methods_pass_the_groups_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def record(estimator, X, y, sample_weight, splits, groups=None):
        seen["groups"], seen["n"] = groups, len(X)

    monkeypatch.setattr("serendip.methods.cwola.fit_splits", record)
    rng = np.random.default_rng(11)
    mass = 1000 + rng.exponential(300, N)
    events = Events({"m": mass, "x": rng.normal(size=N), "g": GROUPS}, mass="m", features=("x",), group="g")
    window = Window(1200, 1400)
    Cwola().fit(events, window)
    lower, upper = Cwola().strips(window)
    used = window.contains(mass) | lower.contains(mass) | upper.contains(mass)
    np.testing.assert_array_equal(seen["groups"], GROUPS[used])


def test_pseudo_data_draw_whole_groups() -> None:
    events = Events({"m": np.arange(N) + 1.0, "g": GROUPS}, mass="m", group="g")
    source = SampledBackground(events, 0.4 * N)
    sizes = []
    for i in range(200):
        drawn = source.draw(np.random.default_rng([12, i]))
        assert np.isin(GROUPS, drawn.groups).sum() == len(drawn)
        sizes.append(len(drawn))
    # a compound Poisson number: variance mean * <k^2>/<k>
    k = np.unique(GROUPS, return_counts=True)[1]
    assert np.mean(sizes) == pytest.approx(0.4 * N, rel=0.03)
    assert np.var(sizes) == pytest.approx(0.4 * N * (k**2).mean() / k.mean(), rel=0.5)


def test_injections_are_made_of_whole_groups() -> None:
    rng = np.random.default_rng(13)
    group = np.r_[np.arange(1000), 2000 + np.repeat(np.arange(200), 2)]
    columns = {"m": np.r_[rng.uniform(100, 900, 1000), np.repeat(rng.uniform(380, 520, 200), 2)], "g": group}
    columns["y"] = np.r_[np.zeros(1000), np.ones(400)]
    events = Events(columns, mass="m", label="y", group="g")
    window = Window(400, 500)
    rows = inject(events, window, 60, 0, 1)
    chosen = events.select(rows)
    assert np.count_nonzero(chosen.labels & window.contains(chosen.m)) == 60
    assert np.count_nonzero(~chosen.labels) == 1000
    assert set(np.unique(chosen.groups[chosen.labels], return_counts=True)[1]) == {2}
    with pytest.raises(
        InputError, match="61 signal events in the window cannot be made of whole groups, 60 can"
    ):
        inject(events, window, 61, 0, 1)
