"""Toys of whole events: every look keeps its expectation, and two looks share what they share in the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from serendip.events.events import Window
from serendip.statistics.event_toys import EventToys, LookEvents, _expected, window_mask
from serendip.statistics.looks import SINGLE, analyse_look, fit_inclusive, make_edges
from serendip.statistics.trials import draw_looks, global_p_value

FOLDS = 4
LEFT, RIGHT = Window(3000.0, 3300.0), Window(3150.0, 3465.0)
# part of the spectrum in the left window that lies in the right one too
OVERLAP = (3150**-6 - 3300**-6) / (3000**-6 - 3300**-6)
TOYS = 3000


def spectrum(rng, n=40_000):
    low, high = 2200.0, 8000.0
    return (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)


def look_at(mass, fold, chosen, window, combination="sequential", method="a", point=0.02, weights=None):
    edges = make_edges((window.low / 1.25, window.high * 1.6), window)
    inclusive = fit_inclusive(mass, window, edges, "dijet:3", weights=weights)
    look = analyse_look(
        mass, fold, chosen, window, edges, inclusive,
        n_folds=FOLDS, combination=combination, method=method, working_point=point, weights=weights,
    )  # fmt: skip
    if combination == SINGLE:
        return look, None
    return look, np.flatnonzero(chosen & (fold >= combination.startswith("sequential")))


def gather(pairs, mass, fold, weights=None, group=None):
    looks, rows = zip(*pairs, strict=True)
    return list(looks), LookEvents(mass, fold, rows, weights, group)


def window_counts(looks, events, n_toys=TOYS, factors=None, seed=0):
    """Toy counts in the window of each look, shape ``(n_looks, n_toys)``, and in its sidebands."""
    factors = np.ones((len(looks), n_toys)) if factors is None else factors
    inside, beside = np.zeros((2, len(looks), n_toys))
    for toys, spectra in EventToys(looks, events, factors).draw(np.random.default_rng(seed)):
        for i, (look, counts) in enumerate(zip(looks, spectra, strict=True)):
            mask = look.spectrum.mask
            inside[i, toys] = counts[..., mask].sum(axis=(1, 2))
            beside[i, toys] = counts[..., ~mask].sum(axis=(1, 2))
    return inside, beside


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(1)
    mass = spectrum(rng)
    return mass, rng.integers(0, FOLDS, len(mass)), rng.random(len(mass))


def test_every_count_is_poisson_with_the_expectation_of_its_fit(sample):
    mass, fold, score = sample
    other = np.random.default_rng(2).random(len(mass))
    looks, events = gather(
        [
            look_at(mass, fold, score < 0.02, LEFT),
            look_at(mass, fold, score < 0.002, RIGHT, "sequential-stouffer"),
            look_at(mass, fold, other < 0.02, RIGHT, "kfold-bonferroni", "b"),
            look_at(mass, fold, score < 2, LEFT, SINGLE, "c", 1.0),
            look_at(mass, fold, score < -1, LEFT),
        ],
        mass,
        fold,
    )
    inside, beside = window_counts(looks, events)
    for look, n, m in zip(looks, inside, beside, strict=True):
        mask = look.spectrum.mask
        means = look.expected, look.spectrum.expected[~mask].sum()
        if look is looks[-1]:  # nothing selected stands for one event
            means = look.expected_error, 1.0
        for counts, mean in zip((n, m), means, strict=True):
            assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / TOYS))
            assert counts.var() / mean == pytest.approx(1, abs=4 * np.sqrt((2 + 1 / mean) / TOYS))


def test_folds_that_are_judged_one_by_one_keep_their_own_expectations(sample):
    mass, fold, score = sample
    # the model of a later fold follows the mass
    chosen = score < 0.03 * np.where(fold == 3, (mass / 3000) ** 4, 1)
    looks, events = gather([look_at(mass, fold, chosen, LEFT, "kfold-bonferroni")], mass, fold)
    ((_, (counts,)),) = EventToys(looks, events, np.ones((1, TOYS))).draw(np.random.default_rng(3))
    assert counts.shape[1] == FOLDS
    drawn = counts[..., looks[0].spectrum.mask].sum(axis=-1).mean(axis=0)
    expected = np.array([f.expected for f in looks[0].folds])
    assert drawn == pytest.approx(expected * looks[0].expected / expected.sum(), abs=4 * np.sqrt(50 / TOYS))


def test_looks_share_the_events_that_they_share_in_the_data(sample):
    mass, fold, score = sample
    tight, loose = score < 0.01, score < 0.02
    similar = np.where(np.random.default_rng(4).random(len(mass)) < 0.5, score, 1 - score) < 0.02
    looks, events = gather(
        [
            look_at(mass, fold, loose, LEFT),
            look_at(mass, fold, loose, LEFT, method="copy"),
            look_at(mass, fold, tight, LEFT, point=0.01),
            look_at(mass, fold, loose, RIGHT),
            look_at(mass, fold, similar, LEFT, method="half"),
            look_at(mass, fold, score > 0.98, LEFT, method="none"),
        ],
        mass,
        fold,
    )
    inside, _ = window_counts(looks, events)
    assert np.array_equal(inside[0], inside[1])
    assert np.all(inside[2] <= inside[0])
    correlation = np.corrcoef(inside)
    error = 4 / np.sqrt(TOYS)
    assert correlation[0, 2] == pytest.approx(np.sqrt(0.5), abs=error)
    common = looks[0].expected * OVERLAP / np.sqrt(looks[0].expected * looks[3].expected)
    assert correlation[0, 3] == pytest.approx(common, abs=error + 0.03)
    # of the events that pass either cut, half of those of the first pass the second, plus the chance
    assert correlation[0, 4] == pytest.approx(0.5, abs=error + 0.06)
    assert correlation[0, 5] == pytest.approx(0.0, abs=error)


def test_a_signal_in_the_window_does_not_make_looks_dependent(sample):
    mass, fold, score = sample
    rng = np.random.default_rng(5)
    other = rng.random(len(mass))
    peak = rng.uniform(LEFT.low, LEFT.high, 400)
    mass, fold = np.concatenate([mass, peak]), np.concatenate([fold, rng.integers(0, FOLDS, 400)])
    score, other = (np.concatenate([x, np.full(400, -1.0)]) for x in (score, other))
    looks, events = gather(
        [look_at(mass, fold, score < 0.02, LEFT), look_at(mass, fold, other < 0.02, LEFT, method="b")],
        mass,
        fold,
    )
    inside, _ = window_counts(looks, events)
    assert inside.mean() < 0.4 * np.mean([look.observed for look in looks])
    assert abs(np.corrcoef(inside)[0, 1]) < 4 / np.sqrt(TOYS) + 0.02


def test_looks_without_a_cut_share_all_events_and_contain_the_selected_ones(sample):
    mass, fold, score = sample
    looks, events = gather(
        [
            look_at(mass, fold, score < 2, LEFT, SINGLE, "all", 1.0),
            look_at(mass, fold, score < 2, RIGHT, SINGLE, "all", 1.0),
            look_at(mass, fold, score < 0.5, LEFT),
        ],
        mass,
        fold,
    )
    inside, _ = window_counts(looks, events, 800)
    correlation, error = np.corrcoef(inside), 4 / np.sqrt(800)
    common = looks[0].expected * OVERLAP / np.sqrt(looks[0].expected * looks[1].expected)
    assert correlation[0, 1] == pytest.approx(common, abs=error + 0.02)
    # half pass the cut, in three of four folds
    assert correlation[0, 2] == pytest.approx(np.sqrt(0.5 * 0.75), abs=error + 0.02)


def test_weights_and_groups_of_events_are_drawn_as_they_are(sample):
    mass, fold, score = sample
    w = np.random.default_rng(6).exponential(size=len(mass))
    looks, events = gather([look_at(mass, fold, score < 0.05, LEFT, weights=w)], mass, fold, w)
    inside, _ = window_counts(looks, events)
    b, chosen = looks[0].expected, (score < 0.05) & (fold > 0)
    assert inside.mean() == pytest.approx(b, rel=0.02)
    spread = (w[chosen] ** 2).sum() / w[chosen].sum()
    assert inside.var() == pytest.approx(b * spread, rel=0.15)
    assert spread > 1.8

    # every event twice: drawn one by one the variance is half of what it is
    twice = [np.repeat(x, 2) for x in (mass, fold, score)]
    pair, events = gather([look_at(twice[0], twice[1], twice[2] < 0.05, LEFT)], twice[0], twice[1])
    together = replace(events, group=np.repeat(np.arange(len(mass)), 2))
    (single, _), (grouped, _) = window_counts(pair, events), window_counts(pair, together)
    assert single.var() / single.mean() == pytest.approx(1.0, abs=0.12)
    assert grouped.var() / grouped.mean() == pytest.approx(2.0, abs=0.24)
    assert grouped.mean() == pytest.approx(single.mean(), rel=0.02)


def test_the_error_of_the_shape_moves_all_looks_of_a_window_together(sample):
    mass, fold, score = sample
    looks, events = gather(
        [look_at(mass, fold, score < 0.02, LEFT), look_at(mass, fold, score > 0.98, LEFT, method="b")],
        mass,
        fold,
    )
    factors = np.exp(0.3 * np.random.default_rng(7).standard_normal(TOYS) - 0.045) * np.ones((2, 1))
    inside, beside = window_counts(looks, events, factors=factors)
    b = looks[0].expected
    assert inside[0].mean() == pytest.approx(b, rel=0.03)
    assert inside[0].var() == pytest.approx(b + b**2 * np.expm1(0.09), rel=0.2)
    common = b * np.expm1(0.09)
    assert np.corrcoef(inside)[0, 1] == pytest.approx(common / (1 + common), abs=0.06)
    assert abs(np.corrcoef(beside)[0, 1]) < 4 / np.sqrt(TOYS)


def test_the_same_look_many_times_costs_no_trials(sample):
    mass, fold, score = sample
    looks, events = gather(
        [look_at(mass, fold, score < 0.02, LEFT, method=f"m{i}") for i in range(8)], mass, fold
    )
    looks = [replace(look, log_p_local=np.log(0.02), p_local=0.02) for look in looks]
    rng = np.random.default_rng(8)
    together = global_p_value(looks, 2000, rng, events)
    apart = global_p_value(looks, 2000, rng)
    alone = np.mean(draw_looks(looks[:1], 4000, rng)[0] <= np.log(0.02))
    assert together.p == pytest.approx(max(alone, 0.02), abs=4 * np.sqrt(0.02 / 2000))
    assert apart.p > 0.08
    assert together.trials == "toys of whole events, refitted, n=2000"


def test_the_toys_of_a_look_are_the_same_with_and_without_events(sample):
    """What a look shares with others changes no p-value of its own."""
    mass, fold, score = sample
    looks, events = gather([look_at(mass, fold, score < 0.01, LEFT)], mass, fold)
    with_events, without = (
        draw_looks(looks, 3000, np.random.default_rng(9), shared)[0] for shared in (events, None)
    )
    assert stats.ks_2samp(with_events, without).pvalue > 0.01


def test_selections_and_looks_belong_together(sample):
    mass, fold, score = sample
    looks, events = gather([look_at(mass, fold, score < 0.02, LEFT)], mass, fold)
    with pytest.raises(ValueError, match="1 selections for 2 looks"):
        EventToys(looks * 2, events, np.ones((2, 5)))


def test_where_nothing_is_selected_one_event_is_expected_beside_the_window(sample):
    mass, fold, score = sample
    look = look_at(mass, fold, score < 0.02, LEFT)[0]
    inside = window_mask(look)
    for offset in (None, np.linspace(3.0, 1.0, len(inside))):
        empty = replace(look.spectrum, expected=np.zeros(len(inside)), offset=offset, scale=2.5)
        sums = _expected(replace(look, spectrum=empty), 2)
        shape = np.ones(len(inside)) if offset is None else offset
        assert sums[:, ~inside].sum() == pytest.approx(2.5)
        assert sums[:, inside].sum() == pytest.approx(look.expected_error)
        for part in (inside, ~inside):
            share = sums.sum(axis=0)[part]
            np.testing.assert_allclose(share / share.sum(), shape[part] / shape[part].sum())
