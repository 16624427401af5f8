"""R-ANODE on events of known densities: fraction, shape and mass of the signal are recovered, the score is optimal."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods import ranode
from serendip.methods.ranode import Ranode, RanodeConfig
from serendip.methods.signal import floor, flow
from serendip.methods.signal.sample import SignalSample, best_fraction, log_mixture, mass_quantile

WINDOW = Window(1400.0, 1600.0)
FAST = {
    "signal_steps": 250,
    "members": 3,
    "learning_rate": 4e-3,
    "steps": 100,
    "batch_size": 256,
    "floor": False,
}
PLACE, WIDTH = np.array([2.0, -2.0]), 0.3


class TrueBackground:
    """The density of ``make_events``, exactly, in place of a trained one."""

    def log_prob(self, x, m, split=0):
        return norm.logpdf(x - 2.0 * np.log(np.clip(m, 1000, 3000) / 1500)[:, None]).sum(1)

    def sample(self, m, split=0, *, rng):
        return rng.normal(size=(len(m), 2)) + 2.0 * np.log(m / 1500)[:, None]


def make_events(n: int = 20_000, n_signal: int = 0, seed: int = 0, weight: str | None = None) -> Events:
    """Falling spectrum; both features drift with the mass; signal at 1470 GeV in a corner of them."""
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    x = rng.normal(size=(n, 2)) + 2.0 * np.log(m / 1500)[:, None]
    m = np.concatenate([m, rng.normal(1470, 20, n_signal)])
    x = np.concatenate([x, rng.normal(PLACE, WIDTH, (n_signal, 2))])
    truth = np.repeat([0, 1], [n, n_signal])
    # weight 3 and 1 at random: the distributions stay as they are
    w = np.where(rng.random(len(m)) < 0.5, 3.0, 1.0)
    columns = {"m": m, "a": x[:, 0], "b": x[:, 1], "truth": truth, "w": w}
    return Events(columns, mass="m", features=("a", "b"), label="truth", weight=weight)


def fitted(events, splits=None, *, seed=0, known=True, **options) -> Ranode:
    background = TrueBackground() if known else None
    method = Ranode(RanodeConfig(**(FAST | options)), seed=seed, background=background)
    return method.fit(events.without_label(), WINDOW, splits)


def in_window(events: Events) -> Events:
    return events.select(WINDOW.contains(events.m))


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(n_signal=120)


@pytest.fixture(scope="module")
def method(events: Events, halves: np.ndarray) -> Ranode:
    return fitted(events, halves)


def test_fraction_of_signal_is_recovered(events, halves, method):
    for k in (0, 1):
        truth = in_window(events.select(halves[k])).labels.mean()
        assert 0.002 < method.fraction_error_[k] < 0.01
        assert abs(method.fraction_[k] - truth) < 2.5 * method.fraction_error_[k]
        assert method.fraction_[k] > 4 * method.fraction_error_[k]
        assert method.trained_fraction_[k] == pytest.approx(truth, rel=0.4)


def test_samples_of_the_signal_look_like_the_truth(method):
    for k in (0, 1):
        signal = method.signal(k, 4000)
        assert signal.x.dtype == np.float32
        np.testing.assert_allclose(np.median(signal.x, axis=0), PLACE, atol=0.12)
        spread = np.subtract(*np.percentile(signal.x, [84, 16], axis=0)) / 2
        assert np.all((spread > 0.2) & (spread < 0.55))
        assert np.median(signal.m) == pytest.approx(1470, abs=8)
        assert np.all(WINDOW.contains(signal.m))
        assert np.subtract(*np.percentile(signal.m, [84, 16])) / 2 == pytest.approx(20, abs=9)


def test_score_of_unseen_events_is_close_to_the_best_possible(events, halves, method):
    other = in_window(make_events(100_000, 1000, seed=5))
    best = norm.logpdf(other.x, PLACE, WIDTH).sum(1) - TrueBackground().log_prob(other.x, other.m)
    for k in (0, 1):
        score = method.score(other, k)
        auc, optimal = roc_auc_score(other.labels, score), roc_auc_score(other.labels, best)
        assert auc > optimal - 0.015
        cut = np.quantile(score[~other.labels], 0.99)
        ideal = np.quantile(best[~other.labels], 0.99)
        assert np.mean(score[other.labels] > cut) > 0.85 * np.mean(best[other.labels] > ideal)


def test_without_signal_the_fraction_is_compatible_with_zero(method):
    empty = fitted(make_events(seed=1))
    assert empty.fraction_[0] < 2.5 * empty.fraction_error_[0]
    assert empty.gain_[0] < 6
    assert np.all(method.gain_ > 30)


def with_a_lump(share: float, seed: int = 1) -> Events:
    """Background that has a share of its events, at all masses, where ``TrueBackground`` expects few."""
    events = make_events(seed=seed)
    rng = np.random.default_rng([seed, 1])
    x = np.column_stack([events["a"], events["b"]])
    lump = rng.random(len(x)) < share
    x[lump] = rng.normal(PLACE, WIDTH, (int(lump.sum()), 2)) + 2.0 * np.log(events.m[lump] / 1500)[:, None]
    return Events({"m": events.m, "a": x[:, 0], "b": x[:, 1]}, mass="m", features=("a", "b"))


def test_an_error_of_the_background_is_in_the_error_of_the_fraction(monkeypatch):
    monkeypatch.setattr(ranode, "floor_density", lambda *_, **__: TrueBackground())
    events = with_a_lump(0.02)
    bare, method = (fitted(events, floor=floor, signal_steps=60, members=2) for floor in (False, True))
    # both windows beside the window have the lump, too
    assert method.floor_.shape == (2, 3)
    assert method.floor_[:, 0] == pytest.approx(0.02, rel=0.4)
    assert np.all(method.floor_[:, 2] > 20)
    spurious = floor.spurious_fraction(method.floor_)
    assert method.fraction_error_ == pytest.approx(np.hypot(bare.fraction_error_, spurious), rel=0.02)
    assert bare.fraction_[0] > 4 * bare.fraction_error_[0]
    assert method.fraction_[0] < 2 * method.fraction_error_[0]
    learned = method.signal()
    assert learned.floor_gain == method.floor_[:, 2].max()
    assert bare.signal().floor_gain is None
    assert bare.floor_.shape == (0, 3)
    # what is said of the signal changes, the score does not
    np.testing.assert_allclose(method.score(events), bare.score(events), atol=1e-3)


def test_two_errors_hold_what_two_windows_did_not_show():
    """Spurious fractions are normal here: a third exceeds two errors, known from two, as often as two known ones."""
    rng = np.random.default_rng(1)
    first, second, third = np.abs(rng.normal(size=(3, 4000)))
    nothing = np.zeros(4000)
    known = np.stack([first, nothing, nothing, second, nothing, nothing]).T.reshape(-1, 2, 3)
    error = np.array([floor.spurious_fraction(both) for both in known])
    assert np.mean(third > 2 * error) == pytest.approx(0.0455, abs=0.01)
    assert floor.spurious_fraction(np.array([[0.03, 0.04, 9.0]] * 500)) == pytest.approx(0.05, rel=0.01)
    assert floor.spurious_fraction(np.empty((0, 3))) == 0.0


def test_windows_beside_are_not_seen_by_their_density(monkeypatch):
    events, seen = make_events(3000), []

    class Density:
        def fit(self, x, m, *, splits, **_):
            seen.extend(m[row] for row in splits)
            return TrueBackground()

    monkeypatch.setattr(floor, "make_density", lambda *_, **__: Density())
    method = fitted(events, floor=True, signal_steps=5)
    windows = floor.windows_beside(events.m, WINDOW, int(WINDOW.contains(events.m).sum()), 100)
    assert len(windows) == len(seen) == len(method.floor_) == 2
    for window, masses in zip(windows, seen, strict=True):
        assert len(masses) == np.count_nonzero(~window.contains(events.m))
        assert not window.contains(masses).any()


def test_windows_beside_have_as_many_events_where_the_sidebands_reach_so_far():
    m = np.linspace(1000, 2500, 1501)[:-1]
    below, above = floor.windows_beside(m, Window(1400, 1600), 200, 100)
    assert (below.low, below.high, above.low, above.high) == pytest.approx((1199.5, 1400, 1600, 1799.5))
    below, above = floor.windows_beside(m, Window(1400, 1600), 350, 50)
    assert (below.low, above.high) == pytest.approx((1049.5, 1949.5))
    # 400 events lie below: 350 and the 50 beyond; 60 would be too few to learn from
    (only,) = floor.windows_beside(m, Window(1400, 1600), 350, 60)
    assert only.low == 1600
    # never further than two widths
    assert floor.windows_beside(m, Window(1500, 1550), 5000, 50)[0].low == pytest.approx(1400.5)
    assert floor.windows_beside(m, Window(1010, 2490), 200, 50) == []


def test_the_background_that_a_signal_was_trained_on_does_not_judge_it():
    class Several:
        """Models 0 and 1 are the same, as two orders of the folds share one."""

        def log_prob(self, x, m, split=0):
            return np.log([1.0, 1.0, 2.0, 6.0][split]) + x[:, 0]

    x, m = np.zeros((30, 1)), np.zeros(30)
    for split, expected in enumerate([4.0, 4.0, 3.5, 1.5]):
        found = floor.log_of_others(Several(), 4, x, m, split)
        assert found == pytest.approx(np.full(30, np.log(expected)))
    assert floor.log_of_others(Several(), 2, x, m, 0) == pytest.approx(np.zeros(30))


def test_a_fraction_is_measured_over_the_background_of_other_splits():
    """Model 0 misses a lump; the signal goes there, and only the other model knows that it is background."""

    class Different(TrueBackground):
        def log_prob(self, x, m, split=0):
            y = x - 2.0 * np.log(m / 1500)[:, None]
            known = norm.logpdf(y).sum(1)
            lump = norm.logpdf(y, PLACE, WIDTH).sum(1)
            return known if split == 0 else np.logaddexp(np.log(0.97) + known, np.log(0.03) + lump)

    events = with_a_lump(0.03)
    method = Ranode(RanodeConfig(**FAST | {"signal_steps": 60}), background=Different())
    method.fit(events, WINDOW, np.ones((2, len(events)), dtype=bool))
    assert method.trained_fraction_[0] > 0.02
    assert method.fraction_[0] < 2.5 * method.fraction_error_[0]
    assert method.gain_[0] < 3


def test_the_events_that_choose_a_pass_do_not_measure_the_fraction():
    n, members = 400, 2
    rng = np.random.default_rng(0)
    sample = SignalSample(rng.normal(size=(n, 2)), rng.normal(size=n), np.zeros(n), np.ones(n))
    data = flow._Data([sample], members, seed=3)
    # each pass is good on one half and bad on the other, and the other half chooses
    passes = np.where(np.arange(2)[:, None] == data.halves[0], 2.0, -2.0).astype(np.float32)
    assert np.all(data.judged(0, passes, np.full(members, 0.1)) == -2.0)


def test_the_signal_in_the_score_is_a_density_of_the_features():
    """Features in other units: p_S integrates to one in them."""
    scale = np.array([10.0, 0.5])

    class Scaled(TrueBackground):
        def log_prob(self, x, m, split=0):
            return super().log_prob(x / scale, m) - np.log(scale).sum()

    plain = make_events(4000, 40)
    columns = {name: plain[name] for name in plain.columns}
    columns |= {"a": columns["a"] * scale[0], "b": columns["b"] * scale[1]}
    events = Events(columns, mass="m", features=("a", "b"))
    method = Ranode(RanodeConfig(**FAST | {"signal_steps": 20}), background=Scaled())
    method.fit(events, WINDOW)
    low, high = method._ranges[0]
    a, b = (
        np.linspace(*edges, 301)[:-1] + (edges[1] - edges[0]) / 600 for edges in zip(low, high, strict=True)
    )
    x = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = {"m": np.full(len(x), 1500.0), "a": x[:, 0], "b": x[:, 1]}
    score = method.score(Events(grid, mass="m", features=("a", "b")))
    density = np.exp(score + Scaled().log_prob(x, np.full(len(x), WINDOW.centre)))
    # little of the signal lies beyond the range of the data
    assert density.mean() * np.prod(high - low) == pytest.approx(1.0, abs=0.03)


def test_a_cut_makes_no_bump_in_the_mass(method):
    events = make_events(150_000, seed=6)
    score = method.score(events)
    side = ~WINDOW.contains(events.m)
    near = (events.m > 1200) & (events.m < 1900)
    cut = np.quantile(score[near], 0.98)
    kept = [np.mean(score[r] > cut) for r in (near & side, ~side)]
    error = np.sqrt(0.02 / np.count_nonzero(~side))
    assert kept[1] == pytest.approx(kept[0], abs=0.3 * kept[0] + 3 * error)
    # at the edges of the window the efficiency goes on without a step
    for edge in (WINDOW.low, WINDOW.high):
        below = (events.m > edge - 40) & (events.m < edge)
        above = (events.m >= edge) & (events.m < edge + 40)
        p, q = np.mean(score[below] > cut), np.mean(score[above] > cut)
        assert abs(p - q) < 4 * np.sqrt(p / below.sum() + q / above.sum())


def test_score_is_defined_far_outside_the_training_range(method):
    x = np.array([[0.0, 0.0], [1e6, -1e6], [-1e6, 3e30], [0.0, 0.0]], dtype=np.float32)
    columns = {"m": np.array([1500.0, 1500.0, 1e5, 0.5]), "a": x[:, 0], "b": x[:, 1]}
    scores = method.score(Events(columns, mass="m", features=("a", "b")))
    assert np.all(np.isfinite(scores))
    best = method.score(Events({"m": [1500.0], "a": [2.0], "b": [-2.0]}, mass="m", features=("a", "b")))
    assert np.all(scores[:2] < best)
    # events of the window are ranked with those beside it: the interpolated background has to be the same for both
    assert scores[0] == scores[3]


def test_background_of_the_method_is_learnt_in_the_sidebands():
    events = make_events(12_000, 150, seed=3)
    method = fitted(events, known=False, steps=300)
    inside = in_window(make_events(40_000, 400, seed=4))
    assert roc_auc_score(inside.labels, method.score(inside)) > 0.93
    x = method.predict_background(np.full(4000, 1500.0), 0, np.random.default_rng(0))
    np.testing.assert_allclose(x.mean(0), [0, 0], atol=0.15)


def test_a_model_depends_on_the_events_of_its_split_only(events, halves):
    changed = {name: events[name].copy() for name in events.columns}
    changed["a"][halves[1]] += 0.5
    other = Events(changed, mass="m", features=("a", "b"))
    first, second = (fitted(e, halves, signal_steps=30) for e in (events, other))
    assert np.array_equal(first.score(events, 0), second.score(events, 0))
    assert first.fraction_[0] == second.fraction_[0]
    assert not np.array_equal(first.score(events, 1), second.score(events, 1))


def test_same_seed_same_scores_and_another_seed_others(events):
    few = events.select(np.arange(len(events)) % 3 == 0)
    scores = [fitted(few, signal_steps=30, seed=seed).score(few) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_weights_count_events():
    events = make_events(n_signal=150, weight="w")
    heavy = events["truth"] * 3.0 + (1 - events["truth"])
    columns = {name: events[name] for name in events.columns} | {"w": heavy}
    method = fitted(Events(columns, mass="m", features=("a", "b"), weight="w"))
    inside = WINDOW.contains(events.m)
    truth = np.average(events.labels[inside], weights=heavy[inside])
    assert method.fraction_[0] == pytest.approx(truth, rel=0.25)
    assert method.signal().weights.sum() == pytest.approx(heavy[inside & events.labels].sum(), rel=0.25)


def test_a_scan_finds_the_fraction_and_a_number_is_kept(events):
    # 1e-4, 3e-3 and 0.1 are tried; the truth is 0.05
    scan = fitted(events, fraction="scan", scan_points=3, signal_steps=100)
    assert scan._fits[0].fraction[0] == pytest.approx(0.1)
    fixed = fitted(events, fraction=0.01)
    assert fixed.trained_fraction_ == pytest.approx([0.01])
    # robust: the likelihood of held-out events still says how much there is
    assert fixed.fraction_[0] == pytest.approx(in_window(events).labels.mean(), rel=0.35)


SHORT = {"signal_steps": 5, "steps": 15, "members": 2, "known": False, "spectrum_range": 1.0}


@pytest.fixture(scope="module")
def plain():
    events = make_events(4000, 40)
    return events, fitted(events, **SHORT).score(events)


@pytest.fixture(scope="module")
def few():
    events = make_events(4000, 40)
    return events, fitted(events, signal_steps=20).score(events)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fraction", 0.02),
        ("fraction", "scan"),
        ("members", 2),
        ("signal_steps", 30),
        ("signal_batch_size", 128),
        ("learning_rate", 1e-3),
        ("transforms", 1),
        ("hidden", 8),
        ("bins", 4),
        ("spectrum", "exppoly:4"),
        ("spectrum_range", 1.0),
    ],
)
def test_every_option_of_the_signal_changes_the_score(few, name, value):
    events, before = few
    after = fitted(events, **{"signal_steps": 20} | {name: value}).score(events)
    assert np.all(np.isfinite(after))
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("density", "maf"),
        ("steps", 20),
        ("batch_size", 128),
        ("sideband_gev", 250.0),
        ("background", "shared"),
    ],
)
def test_every_option_of_the_background_changes_the_score(plain, name, value):
    events, before = plain
    after = fitted(events, **SHORT | {name: value}).score(events)
    assert np.all(np.isfinite(after))
    assert not np.array_equal(before, after)


def test_scan_points_are_between_a_tenth_of_a_permille_and_a_tenth():
    assert Ranode(RanodeConfig(fraction="scan", scan_points=4))._fractions() == pytest.approx(
        [1e-4, 1e-3, 1e-2, 0.1]
    )


def test_likelihood_of_a_fraction():
    rng = np.random.default_rng(1)
    signal = rng.random(20_000) < 0.1
    x = np.where(signal, rng.normal(2, 0.5, 20_000), rng.normal(size=20_000))
    log_ratio = norm.logpdf(x, 2, 0.5) - norm.logpdf(x)
    w, error, gain = best_fraction(log_ratio, np.ones(len(x)))
    assert gain == pytest.approx(log_mixture(log_ratio, 0.1).sum(), abs=3)
    assert error == pytest.approx(np.sqrt(0.1 / 20_000) * 1.55, rel=0.3)
    assert abs(w - 0.1) < 2.5 * error
    # weight 2 for all: the same fraction with the same error
    assert best_fraction(log_ratio, np.full(len(x), 2.0))[:2] == pytest.approx((w, error))
    assert best_fraction(np.full(50, -1.0), np.ones(50))[0] == 0.0
    assert log_mixture(np.array([-1e4, 0.0, 1e4]), 0.5) == pytest.approx(
        [np.log(0.5), 0.0, 1e4 + np.log(0.5)]
    )


def test_mass_quantile_is_normal_in_the_window():
    m = np.linspace(WINDOW.low, WINDOW.high, 20_001)[:-1] + 0.005
    v, log_slope = mass_quantile(m, WINDOW)
    assert v[10_000] == pytest.approx(0.0, abs=1e-3)
    # any density of v is a density of m: that of a peak at v = 0.5 integrates to one
    density = norm.pdf(v, 0.5, 0.4) * np.exp(log_slope)
    assert density.sum() * 0.01 == pytest.approx(1.0, abs=1e-3)


def test_too_few_events_and_unknown_options_are_explained():
    events = make_events(4000)
    with pytest.raises(InputError, match="signal region"):
        fitted(events, min_events=1000)
    high = events.select(events.m > WINDOW.low)
    with pytest.raises(InputError, match="lower sideband of the window 1400-1600 GeV"):
        Ranode().check(high, WINDOW, np.ones((1, len(high)), dtype=bool))
    with pytest.raises(ValidationError):
        RanodeConfig(fraction=1.5)
    with pytest.raises(ValidationError):
        RanodeConfig(members=1)


def test_scan_points_without_a_scan_are_refused():
    with pytest.raises(ValidationError, match="scan_points is used with fraction 'scan', not with 'learned'"):
        RanodeConfig(scan_points=9)
    assert RanodeConfig(fraction="scan", scan_points=9).scan_points == 9
