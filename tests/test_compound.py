"""Sums of weights and of groups of events: their tail against toys, against equal weights, and what it is made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.bump import bump_hunt
from serendip.statistics.compound import (
    CompoundTail,
    bin_noise,
    effective_number,
    event_weights,
    group_sums,
    jump_scale,
)
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges
from serendip.statistics.pvalues import count_log_p_value

WINDOW = Window(3300.0, 3700.0)
RANGE = (2640.0, 5920.0)
SHAPES = {
    "lognormal": lambda n, rng: rng.lognormal(0.0, 1.0, n),
    "one in ten weighs ten": lambda n, rng: np.where(rng.random(n) < 0.1, 10.0, 1.0),
    "one in twenty weighs a hundred": lambda n, rng: np.where(rng.random(n) < 0.05, 100.0, 1.0),
}


def falling(n: int, rng: np.random.Generator) -> np.ndarray:
    low, high = RANGE
    return (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)


@given(
    observed=st.integers(0, 60),
    expected=st.floats(0.5, 40.0),
    relative=st.floats(0.05, 1.0),
    weight=st.floats(0.01, 100.0),
)
@settings(max_examples=30, deadline=None)
def test_equal_weights_give_the_on_off_p_value(observed, expected, relative, weight):
    tail = CompoundTail.of(np.full(40, weight), np.full(observed, weight))
    at_least, above = tail.log_p(observed * weight, expected * weight, relative * expected * weight)
    assert at_least == pytest.approx(count_log_p_value(observed, expected, relative * expected), rel=1e-6)
    assert above == pytest.approx(count_log_p_value(observed + 1, expected, relative * expected), rel=1e-6)


@pytest.mark.parametrize(
    ("n", "b", "sigma"), [(25, 12.0, 2.5), (5, 1.2, 0.5), (300, 200.0, 6.0), (40, 12.0, 1e-12)]
)
def test_nearly_equal_weights_have_nearly_the_same_tail(n, b, sigma):
    rng = np.random.default_rng(3)
    # as many side events as the error stands for: with more of them the rest of it is common to all sizes
    beside = round(min((b / sigma) ** 2, 300.0))
    inside, side = 1.0 + 1e-4 * rng.normal(size=n), 1.0 + 1e-4 * rng.normal(size=beside)
    found = CompoundTail.of(side, inside).log_p(inside.sum(), b, sigma)[0]
    assert np.exp(found - count_log_p_value(n, b, sigma)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("relative", [0.05, 0.3, 1.2])
@pytest.mark.parametrize("shape", SHAPES)
def test_tail_agrees_with_sums_that_are_drawn(shape, relative):
    """The mean of each size has its own gamma density, what the error holds beyond theirs one for all."""
    rng = np.random.default_rng(5)
    side = SHAPES[shape](60, rng)
    expected, n = 15.0 * side.mean(), 100_000
    spread = (side**2).mean() / side.mean() ** 2
    jumps = max(60.0, spread / relative**2)
    rest = relative**2 - spread / jumps
    common = rng.gamma(1.0 / rest + 1.0, rest, n) if rest > 1e-12 else np.ones(n)
    size, often = np.unique(side, return_counts=True)
    sums = np.zeros(n)
    for value, count in zip(size, often, strict=True):
        sums += value * rng.poisson(rng.gamma(common * jumps * count / 60.0) * 15.0 / jumps)
    number = rng.poisson(rng.exponential(15.0 / jumps, n))
    sums += np.bincount(np.repeat(np.arange(n), number), rng.choice(side, number.sum()), n)
    tail = CompoundTail.of(side)
    for level in (0.5, 0.05, 0.002):
        t = np.quantile(sums, 1.0 - level)
        at_least, above = (np.exp(v) for v in tail.log_p(t, expected, relative * expected))
        reached, passed = np.mean(sums >= t - 1e-9 * t), np.mean(sums > t + 1e-9 * t)
        error = 4.0 * np.sqrt(level / n)
        # never smaller than it should be, and hardly larger: the smearing is given away
        assert reached - error <= at_least <= 1.2 * reached + error
        assert 0.8 * passed - error <= above <= passed + error


@pytest.mark.parametrize(("beside", "ratio", "folds"), [(100, 1.0, 3), (300, 0.2, 5)])
def test_ranks_of_alike_scores_have_the_tail_of_permutations(beside, ratio, folds):
    """Between two side events lies a Poisson number of the window's, with an exponential mean: geometric, whatever the score."""
    rng, n = np.random.default_rng(11), 400_000
    rank = np.arange(1, beside // 5 + 1) / beside
    weights = np.log1p(0.05 / rank)
    drawn = [rng.geometric(1.0 / (1.0 + ratio), n) - 1 for _ in range(folds * len(rank))]
    sums = sum(w * k for w, k in zip(np.tile(weights, folds), drawn, strict=True))
    side = np.tile(weights, folds)
    tail = CompoundTail.of(side)
    expected, error = ratio * side.sum(), ratio * np.sqrt((side**2).sum())
    for level in (1e-2, 1e-3, 1e-4):
        t = np.quantile(sums, 1.0 - level)
        p = float(np.exp(tail.log_p(t, expected, error)[0]))
        scatter = 3.0 / np.sqrt(level * n)
        assert 1.0 - scatter < p / level < 1.3 + scatter


def test_many_tails_on_one_grid_equal_single_ones():
    rng = np.random.default_rng(7)
    for shape in SHAPES.values():
        side = shape(80, rng)
        tail = CompoundTail.of(side)
        expected = 20.0 * side.mean() * rng.uniform(0.7, 1.3, 20)
        observed = expected * rng.uniform(0.0, 3.0, 20)
        many = tail.log_p(observed, expected, 0.2 * expected)[0][:8]
        single = tail.log_p(observed[:8], expected[:8], 0.2 * expected[:8])[0]
        assert np.exp(many) == pytest.approx(np.exp(single), rel=0.12, abs=1e-9)


def test_many_tails_of_a_law_from_few_jumps_equal_single_ones():
    """Eight jumps beside the window: that one more of unknown size belongs to the law is no small correction."""
    rng = np.random.default_rng(1)
    tail = CompoundTail.of(rng.gamma(2.0, 0.5, 8), rng.gamma(2.0, 0.5, 3))
    expected, sigma, observed = np.full(20, 20.0), np.full(20, 6.0), np.linspace(10.0, 50.0, 20)
    many, single = (tail.log_p(observed, expected, sigma, deep=deep)[0] for deep in (False, True))
    np.testing.assert_allclose(np.exp(many), np.exp(single), rtol=0.06)


def test_far_tail_is_a_number():
    side = np.random.default_rng(1).lognormal(0.0, 0.5, 400)
    tail = CompoundTail.of(side)
    log_p = [float(tail.log_p(t, 100.0, 1.0)[0]) for t in (200.0, 400.0, 800.0)]
    assert log_p[0] > 2.0 * log_p[1] > 4.0 * log_p[2] * 0.9
    assert -3000.0 < log_p[2] < -300.0


def test_heavy_event_in_the_window_could_have_been_beside_it():
    """One of 100 equal events weighs 100 and lies by chance in a window that holds a fifth of them."""
    side, inside = np.ones(80), np.append(np.ones(19), 100.0)
    assert count_log_p_value(101.0, 20.0, 2.2) < -50.0
    found = CompoundTail.of(side, inside).log_p(101.0, 20.0, 2.2)[0]
    # 20 of 100 places are in the window
    assert np.exp(found) == pytest.approx(1.0 - np.exp(-20.0 / 100.0), abs=0.01)


def test_nothing_observed_has_probability_one_and_some_chance_of_more():
    tail = CompoundTail.of([1.0, 2.0, 3.0])
    at_least, above = tail.log_p(0.0, 4.0, 2.0)
    assert at_least == 0.0
    # K of four side jumps' error, <w^2> / <w>^2 = 7/6; one jump more; nothing is common to all sizes
    k = 7.0 / 6.0 * 4.0
    assert np.exp(above) == pytest.approx(1.0 - (1.0 + 4.0 / (2.0 * k)) ** -(k + 1.0))
    empty = CompoundTail.of([])
    assert empty.log_p(3.0, 0.0, 0.5)[0] == count_log_p_value(3.0, 0.0, 0.5)


def test_sizes_are_known_from_the_jumps_beside_the_window_that_count():
    assert CompoundTail.of([1.0, 2.0, 3.0, 4.0], [9.0, 9.0]).number == 4.0
    share = [1.0, 1.0, 0.1, 0.1]
    assert CompoundTail.of([1.0, 2.0, 3.0, 4.0], share=share).number == pytest.approx(2.2**2 / 2.02)


def test_groups_are_summed_and_effective_numbers_counted():
    weights, groups = np.array([1.0, 2.0, 3.0, 4.0, 0.0]), np.array([7, -1, 7, 2, 9])
    assert sorted(group_sums(weights, groups)) == [2.0, 4.0, 4.0]
    assert effective_number(weights, groups) == pytest.approx(100.0 / 36.0)
    assert effective_number(weights) == pytest.approx(100.0 / 30.0)
    assert effective_number([]) == 0.0
    assert jump_scale(weights, groups) == pytest.approx(3.6)
    assert jump_scale(np.full(9, 0.3)) == pytest.approx(0.3)


def test_noise_of_bins_has_the_covariance_of_groups():
    mass, edges = np.array([1.5, 1.6, 2.5, 3.5]), np.array([1.0, 2.0, 3.0, 4.0])
    weights, groups = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 0])
    assert np.array_equal(bin_noise(mass, edges, weights, groups), [[5, 3, 4], [3, 9, 12], [4, 12, 16]])
    assert np.array_equal(np.diag(bin_noise(mass, edges, weights)), [5, 9, 16])
    assert bin_noise(mass, edges, np.full(4, 2.0)) is None


def test_negative_weights_of_data_are_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"3 of 5 events have a negative weight.*cell resampling"):
        event_weights([1.0, -2.0, 3.0, -1.0, -0.5], 5)
    with pytest.raises(InputError, match="not finite"):
        event_weights([1.0, np.inf], 2)
    with pytest.raises(ValueError, match="weights for"):
        event_weights([1.0], 2)


def test_every_event_twice_is_every_event_once(monkeypatch):
    # copies that are not grouped spoil the closure, which would widen the error
    monkeypatch.setattr("serendip.statistics.looks.with_closure", lambda fit, *_: fit)
    rng = np.random.default_rng(2)
    mass = falling(6000, rng)
    once = bump_hunt(mass, WINDOW, RANGE, background="dijet:3")
    twice = np.repeat(mass, 2)
    grouped = bump_hunt(twice, WINDOW, RANGE, background="dijet:3", groups=np.repeat(np.arange(6000), 2))
    assert grouped.z_local == pytest.approx(once.z_local, abs=1e-6)
    assert grouped.expected_error == pytest.approx(2 * once.expected_error, rel=1e-4)
    assert grouped.effective.sideband == pytest.approx(once.effective.sideband)
    copied = bump_hunt(twice, WINDOW, RANGE, background="dijet:3")
    assert copied.z_local == pytest.approx(np.sqrt(2) * once.z_local, rel=0.05)


def test_copies_that_spread_over_bins_widen_the_error_by_their_covariance(monkeypatch):
    monkeypatch.setattr("serendip.statistics.looks.with_closure", lambda fit, *_: fit)
    rng = np.random.default_rng(4)
    mass = np.repeat(falling(8000, rng), 4) * rng.normal(1.0, 0.04, 32_000)
    groups = np.repeat(np.arange(8000), 4)
    edges = make_edges(RANGE, WINDOW)
    alone = fit_inclusive(mass, WINDOW, edges, "dijet:3")
    together = fit_inclusive(mass, WINDOW, edges, "dijet:3", groups=groups)
    low = int(np.searchsorted(edges, WINDOW.low))
    high = int(np.searchsorted(edges, WINDOW.high))
    ratio = together.window(low, high)[1] / alone.window(low, high)[1]
    # four copies of each event: twice the error, less where a group lies on both sides of an edge
    assert 1.6 < ratio < 2.3


def test_error_of_a_fit_grows_where_noise_is_concentrated_near_the_mask():
    edges = np.geomspace(1000.0, 2000.0, 31)
    counts = np.full(30, 400.0)
    mask = np.zeros(30, dtype=bool)
    mask[14:17] = True
    plain = fit_spectrum(counts, edges, "exppoly:3", mask=mask)
    same = fit_spectrum(counts, edges, "exppoly:3", mask=mask, noise=np.diag(counts))
    assert same.noise_ratio == pytest.approx(1.0)
    assert same.window(14, 17) == pytest.approx(plain.window(14, 17))
    near = np.diag(np.where(np.abs(np.arange(30) - 15) < 4, 4.0, 1.0) * counts)
    far = np.diag(np.where(np.abs(np.arange(30) - 15) < 4, 1.0, 0.2) * counts)
    assert 1.3 < fit_spectrum(counts, edges, "exppoly:3", mask=mask, noise=near).noise_ratio < 4.0
    assert fit_spectrum(counts, edges, "exppoly:3", mask=mask, noise=far).noise_ratio == 1.0


def test_one_event_that_decides_is_pointed_out():
    rng = np.random.default_rng(6)
    mass = np.append(falling(3000, rng), 3500.0)
    weights = np.append(rng.lognormal(0.0, 0.3, 3000), 150.0)
    found = bump_hunt(mass, WINDOW, RANGE, background="dijet:3", weights=weights)
    assert any("one event of weight 150 moves the significance" in text for text in found.warnings)
    even = bump_hunt(mass, WINDOW, RANGE, background="dijet:3", weights=np.full(3001, 3.0))
    assert even.warnings == ()


def test_spectrum_that_rests_on_few_heavy_events_is_refused():
    rng = np.random.default_rng(8)
    mass = falling(500, rng)
    weights = np.where(np.arange(500) < 6, 1e4, 1.0)
    with pytest.raises(InputError, match=r"such uneven weights that they count like"):
        fit_inclusive(mass, WINDOW, make_edges(RANGE, WINDOW), weights=weights)


def test_look_quotes_effective_numbers_and_hides_those_of_the_window_while_blinded():
    rng = np.random.default_rng(9)
    mass, weights = falling(20_000, rng), rng.lognormal(0.0, 1.0, 20_000)
    fold, selected = rng.integers(0, 4, 20_000), rng.random(20_000) < 0.05
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(mass, WINDOW, edges, "dijet:3", weights=weights)
    looks = [
        analyse_look(
            mass, fold, selected, WINDOW, edges, inclusive, n_folds=4, weights=weights, blinded=blinded
        )
        for blinded in (False, True)
    ]
    use = selected & (fold > 0) & (mass >= edges[0]) & (mass < edges[-1])
    inside = WINDOW.contains(mass)
    for look in looks:
        assert look.effective.sideband == pytest.approx(effective_number(weights[use & ~inside]))
    assert looks[0].effective.window == pytest.approx(effective_number(weights[use & inside]))
    assert looks[1].effective.window is None
    assert looks[1].expected == looks[0].expected
    assert inclusive.effective_number == pytest.approx(
        effective_number(weights[~inside & (mass >= edges[0]) & (mass < edges[-1])])
    )


def test_groups_reach_the_folds_of_every_combination():
    rng = np.random.default_rng(10)
    mass = falling(15_000, rng)
    fold, selected = rng.integers(0, 4, 15_000), rng.random(15_000) < 0.05
    twice = [np.repeat(a, 2) for a in (mass, fold, selected, np.arange(15_000))]
    edges = make_edges(RANGE, WINDOW)
    one = fit_inclusive(mass, WINDOW, edges, "dijet:3")
    two = fit_inclusive(twice[0], WINDOW, edges, "dijet:3", groups=twice[3])
    for combination in ("sequential", "sequential-stouffer", "kfold-bonferroni", "single"):
        once = analyse_look(mass, fold, selected, WINDOW, edges, one, n_folds=4, combination=combination)
        grouped = analyse_look(
            *twice[:3], WINDOW, edges, two, n_folds=4, combination=combination, groups=twice[3]
        )
        assert grouped.z_local == pytest.approx(once.z_local, abs=1e-4)
        assert grouped.observed == 2 * once.observed
