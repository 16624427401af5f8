"""Anomaly ranks and their combinations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.outliers import (
    CombinedScore,
    DeepSVDD,
    FlowLikelihood,
    GaussianMixtureScore,
    Met,
    RankMap,
    combine_ranks,
    flow_and_svdd,
)


def test_ranks_of_new_background_are_uniform():
    rng = np.random.default_rng(1)
    to_rank = RankMap.fit(rng.exponential(size=20_000))
    assert kstest(to_rank(rng.exponential(size=2000)), "uniform").pvalue > 0.01
    assert kstest(to_rank(1.1 * rng.exponential(size=2000)), "uniform").pvalue < 0.01


def test_weighted_ranks_are_those_of_the_weighted_background():
    rng = np.random.default_rng(2)
    s = rng.uniform(size=20_000)
    to_rank = RankMap.fit(s, 2 * s)  # weights make the density 2s
    new = np.sqrt(rng.uniform(size=2000))
    assert kstest(to_rank(new), "uniform").pvalue > 0.01
    assert to_rank.events == pytest.approx(20_000 * 3 / 4, rel=0.02)


def test_ties_have_the_middle_rank():
    to_rank = RankMap.fit([1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(
        to_rank([0.5, 1, 1.5, 2, 2.5, 3, 4]), [0, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 1]
    )
    np.testing.assert_allclose(RankMap.fit(np.zeros(7))([-1, 0, 1]), [0, 0.5, 1])
    assert to_rank([]).shape == (0,)


def test_weight_two_is_two_events_and_zero_is_none():
    s = [1.0, 2.0, 3.0, 9.0]
    a, b = RankMap.fit(s, [1, 2, 1, 0]), RankMap.fit([1, 2, 2, 3])
    grid = np.linspace(0, 10, 41)
    np.testing.assert_allclose(a(grid), b(grid))


def test_ranks_are_one_minus_the_fraction_above():
    """The f of arXiv:2106.10164 counts background above; without ties the rank of another event is 1 - f."""
    rng = np.random.default_rng(3)
    background, new = rng.normal(size=500), rng.normal(size=100)
    f = np.array([(background > x).mean() for x in new])
    np.testing.assert_allclose(RankMap.fit(background)(new), 1 - f)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("and", [0.1, 0.1, 0.9]),
        ("or", [0.9, 0.1, 0.9]),
        ("prod", [0.09, 0.01, 0.81]),
        ("avg", [0.5, 0.1, 0.9]),
    ],
)
def test_rules(rule, expected):
    np.testing.assert_allclose(combine_ranks([[0.1, 0.1, 0.9], [0.9, 0.1, 0.9]], rule), expected)


def test_and_needs_both_and_or_needs_one():
    """Signal that only one score sees is found by OR; background that one score mistakes is rejected by AND."""
    rng = np.random.default_rng(4)
    background = rng.uniform(size=(2, 4000))
    one = np.stack([rng.uniform(0.95, 1, 4000), rng.uniform(size=4000)])
    both = rng.uniform(0.8, 1, (2, 4000))
    y = np.repeat([0, 1], 4000)

    def auc(signal, rule):
        return roc_auc_score(y, combine_ranks(np.concatenate([background, signal], axis=1), rule))

    # closed forms: P(min of 2 < x) = 1 - (1-x)^2 and P(max of 2 < x) = x^2, averaged over the signal
    assert auc(one, "or") == pytest.approx(np.mean(one.max(0) ** 2), abs=0.01)
    assert auc(one, "or") > 0.93
    assert auc(one, "and") == pytest.approx(1 - np.mean((1 - one.min(0)) ** 2), abs=0.02)
    assert auc(one, "and") < 0.7
    assert auc(both, "and") > auc(both, "or")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: RankMap.fit([]), "shape"),
        (lambda: RankMap.fit([1.0, np.nan]), "row 1"),
        (lambda: RankMap.fit([1.0, 2.0], [1.0]), "weights"),
        (lambda: RankMap.fit([1.0, 2.0], [1.0, -1.0]), "weights"),
        (lambda: RankMap.fit([1.0, 2.0])([np.inf]), "row 0"),
        (lambda: combine_ranks([[0.5], [1.5]], "and"), r"\[0, 1\]"),
        (lambda: combine_ranks([0.5], "and"), "shape"),
        (lambda: combine_ranks([[0.5]], "xor"), "and, or, prod, avg"),
        (lambda: flow_and_svdd("min"), "and, or, prod, avg"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_ranks_come_from_background_that_trained_nothing():
    """With as many Gaussians as that, the training events look normal; ranks of new background must not notice."""
    rng = np.random.default_rng(5)
    x, new = rng.normal(size=(600, 4)), rng.normal(size=(600, 4))
    score = CombinedScore([GaussianMixtureScore(30), GaussianMixtureScore(25)], holdout=0.5).fit(x)
    held = score.ranks(new)
    naive = RankMap.fit(score.scores_[0].score_samples(x))(score.scores_[0].score_samples(new))
    assert kstest(held[0], "uniform").pvalue > 0.01
    assert kstest(naive, "uniform").pvalue < 0.01
    assert score.rank_maps_[0].events == pytest.approx(300)
    np.testing.assert_array_equal(score.score_samples(new), held.min(axis=0))


def test_weights_reach_the_scores_and_the_ranks():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(size=(300, 2)), rng.normal(5, 1, size=(300, 2))])
    scores = [GaussianMixtureScore(2), Met(("met", "b"))]
    weighted = CombinedScore(scores).fit(x, sample_weight=np.repeat([1.0, 0.01], 300))
    plain = CombinedScore(scores).fit(x)
    assert np.median(weighted.ranks(x[300:]), axis=1).min() > 0.95
    assert np.median(plain.ranks(x[300:])[1]) < 0.8


@pytest.mark.parametrize(
    ("rule", "inside"), [("and", "min"), ("or", "max"), ("prod", "product"), ("avg", "mean")]
)
def test_flow_and_svdd_have_the_same_rule_in_both_stages(rule, inside):
    score = flow_and_svdd(rule, random_state=3)
    flow, svdd = score.scores
    assert isinstance(flow, FlowLikelihood)
    assert isinstance(svdd, DeepSVDD)
    assert (score.rule, svdd.combine, flow.random_state, svdd.random_state) == (rule, inside, 3, 3)


def test_flow_and_svdd_find_a_shifted_blob():
    rng = np.random.default_rng(7)
    score = flow_and_svdd(
        "avg",
        flow=FlowLikelihood("maf", transforms=2, hidden=16, steps=100),
        svdd=DeepSVDD((0, 2), (5,), hidden=(16,), steps=100),
    ).fit(rng.normal(size=(1500, 8)))
    s = score.score_samples(np.concatenate([rng.normal(size=(1000, 8)), 2 * rng.normal(size=(1000, 8))]))
    assert roc_auc_score(np.repeat([0, 1], 1000), s) > 0.9
