from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from serendip.errors import InputError
from serendip.methods.figures_of_merit import sic_at, sic_curve
from serendip.report import figures
from serendip.report.theories import plots as theory_plots
from serendip.report.theories import summaries
from serendip.statistics.pvalues import binomial_interval
from serendip.theories.merits import (
    TARGETS,
    BackgroundScores,
    Merits,
    best_per_signal,
    challenge_improvements,
    clean,
    impossible_rows,
    merits,
    read_improvements,
    read_results,
    result_files,
    secret_results,
    total_improvement,
)
from serendip.theories.merits.published import CHANNELS

CONVENTIONS = ("strict", "interpolated", "challenge")


def gauss(n_b, n_s, shift, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n_b), rng.normal(shift, 1, size=n_s)


# --- one working point ---


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_known_efficiencies_are_recovered(convention):
    background, signal = gauss(200_000, 20_000, 1.5, 1)
    found = merits(background, signal, convention=convention)
    assert abs(found.auc - norm.cdf(1.5 / np.sqrt(2))) < 3 * found.auc_error
    for point, target in zip(found.points, TARGETS, strict=True):
        truth = norm.sf(norm.isf(target) - 1.5)
        assert point.target == target
        assert point.si == pytest.approx(point.eps_s / np.sqrt(target))
        assert abs(point.si - truth / np.sqrt(target)) < 3 * point.si_error
        assert point.background == pytest.approx(200_000 * target)
        assert point.reliable
        assert not point.tied


def test_without_ties_strict_is_the_loosest_point_of_the_roc_curve_and_the_interval_is_binomial():
    background, signal = gauss(3000, 700, 1.0, 2)
    found = merits(background, signal, targets=(0.05, 0.0123))
    eps_b, eps_s, _ = roc_curve(
        np.r_[np.zeros(3000), np.ones(700)], np.r_[background, signal], drop_intermediate=False
    )
    for point in found.points:
        k = round(point.eps_s * 700)
        assert point.eps_s == eps_s[eps_b <= point.target].max()
        assert point.eps_b == eps_b[eps_b <= point.target].max()
        assert (point.eps_s_low, point.eps_s_high) == pytest.approx(binomial_interval(k, 700))
        assert (point.eps_b_low, point.eps_b_high) == pytest.approx(
            binomial_interval(round(point.eps_b * 3000), 3000)
        )
        kept = (np.sum(signal > point.threshold), np.sum(background > point.threshold))
        assert kept == (k, round(point.eps_b * 3000))


def test_errors_are_those_of_the_significance_improvement_curve():
    background, signal = gauss(20_000, 20_000, 1.0, 3)
    point = merits(background, signal, targets=(0.01,)).points[0]
    truth = np.r_[np.zeros(20_000, bool), np.ones(20_000, bool)]
    old = sic_at(sic_curve(truth, np.r_[background, signal]), 0.01)
    assert (point.eps_s, point.eps_b, point.si) == pytest.approx((old.eps_s, old.eps_b, old.sic))
    assert point.si_error == pytest.approx(old.error, rel=0.01)


def test_challenge_convention_is_the_first_point_of_the_roc_curve_beyond_the_target():
    rng = np.random.default_rng(4)
    for step in (0.01, 0.3, 1.0):  # from nearly no ties to a handful of distinct scores
        background = np.round(rng.normal(size=5000) / step) * step
        signal = np.round(rng.normal(1, 1, size=800) / step) * step
        eps_b, eps_s, _ = roc_curve(np.r_[np.zeros(5000), np.ones(800)], np.r_[background, signal])
        found = merits(background, signal, convention="challenge")
        for point in found.points:
            first = np.argmax(eps_b >= point.target)
            assert point.eps_s == pytest.approx(eps_s[first], abs=1e-15)
            assert point.eps_b == pytest.approx(eps_b[first], abs=1e-15)


def test_a_tied_block_is_rejected_shared_or_kept():
    # 990 distinct scores below a block of 10 on top; 40 % of the signal in the block
    background = np.r_[np.arange(990.0), np.full(10, 5000.0)]
    signal = np.r_[np.full(40, 5000.0), np.full(60, -1.0)]
    at = {
        c: merits(background, signal, targets=(0.005,), convention=c, min_background=5).points[0]
        for c in CONVENTIONS
    }
    assert (at["strict"].eps_s, at["strict"].eps_b) == (0.0, 0.0)
    assert (at["interpolated"].eps_s, at["interpolated"].eps_b) == pytest.approx((0.2, 0.005))
    assert at["interpolated"].kept_at_threshold == pytest.approx(0.5)
    assert (at["challenge"].eps_s, at["challenge"].eps_b) == pytest.approx((0.4, 0.01))
    assert all(point.tied for point in at.values())
    assert at["strict"].reliable
    assert at["interpolated"].reliable
    assert not at["challenge"].reliable
    assert "10 equal background scores" in at["challenge"].reason
    # a target at the end of the block divides nothing
    end = merits(background, signal, targets=(0.01,), convention="challenge").points[0]
    assert (end.eps_s, end.eps_b, end.tied, end.reliable) == (0.4, 0.01, False, True)
    assert merits(background, signal, targets=(0.01,)).points[0].eps_s == 0.4


def test_interpolation_is_the_mean_of_scores_with_random_ties():
    rng = np.random.default_rng(5)
    background, signal = (np.floor(rng.normal(s, 1, size=1000) * 2) for s in (0.0, 1.0))
    exact = merits(background, signal, targets=(0.03,), convention="interpolated").points[0]
    # Of k kept of the n events of the block, the signal beyond event k + 1 (strict) is a share (k + 1)/(n + 1) and
    # beyond event k (challenge) k/(n + 1); k/n lies between.
    share = exact.kept_at_threshold
    assert 0.1 < share < 0.9
    broken = []
    for _ in range(300):
        noise = 0.4 * rng.random((2, 1000))
        top, bottom = (
            merits(background + noise[0], signal + noise[1], targets=(0.03,), convention=c).points[0].eps_s
            for c in ("strict", "challenge")
        )
        broken.append(share * top + (1 - share) * bottom)
    error = np.std(broken) / np.sqrt(300)
    assert abs(np.mean(broken) - exact.eps_s) < 3 * error
    assert error < 0.001


def test_infinite_scores_are_a_block_like_any_other():
    background, signal = gauss(2000, 500, 1.0, 6)
    background[:1500] = -np.inf
    signal[:100] = -np.inf
    signal[100:110] = np.inf
    finite = [np.clip(values, -100, 100) for values in (background, signal)]
    with_inf, without = merits(background, signal), merits(*finite)
    assert (with_inf.auc, with_inf.auc_error) == (without.auc, without.auc_error)
    assert [p.eps_s for p in with_inf.points] == [p.eps_s for p in without.points]
    # nearly all background in the block of -inf: the challenge keeps everything, a cut cannot
    background[:] = -np.inf
    strict, challenge = (merits(background, signal, convention=c).points[0] for c in ("strict", "challenge"))
    assert (strict.eps_s, challenge.eps_s) == (pytest.approx(0.8), 1.0)
    assert challenge.eps_b == 1.0
    assert json.dumps(challenge.to_dict(), allow_nan=False)
    assert challenge.to_dict()["threshold"] is None


def test_few_background_events_are_flagged():
    background, signal = gauss(20_000, 500, 2.0, 7)
    found = merits(background, signal)
    assert [p.reliable for p in found.points] == [True, True, False]
    assert found.points[2].reason.startswith("2 background events are expected to pass eps_B = 0.0001")
    exactly = merits(*gauss(10_000, 500, 2.0, 7)).points
    assert [p.reliable for p in exactly] == [True, True, False]  # 10 expected are enough
    assert [p.reliable for p in merits(*gauss(9_900, 500, 2.0, 7)).points] == [
        True,
        False,
        False,
    ]  # 9.9 are not
    assert [p.reliable for p in merits(background, signal, min_background=2).points] == [True] * 3
    assert [p.reliable for p in merits(background, signal, min_background=21).points] == [True, False, False]
    best, safe = found.max_si(), found.max_si(reliable=True)
    assert best is not None
    assert safe is not None
    assert best.si == max(p.si for p in found.points)
    assert safe.si == max(p.si for p in found.points[:2])
    assert merits(*gauss(100, 50, 1.0, 7)).max_si(reliable=True) is None


def test_the_error_of_si_is_its_scatter():
    rng = np.random.default_rng(8)
    found = []
    for _ in range(250):
        points = merits(rng.normal(size=4000), rng.normal(1.5, 1, size=400), targets=(0.05, 0.01)).points
        found.append([(p.si, p.si_error, p.eps_s_error) for p in points])
    si, error, _ = np.moveaxis(np.array(found), 2, 0)
    # the scatter is known to 4.5 %; the formula takes the slope of the ROC curve to be that at the largest SI
    assert error.mean(axis=0) / si.std(axis=0, ddof=1) == pytest.approx([1, 1], abs=0.2)


def test_nothing_kept_still_has_an_error():
    point = merits(np.arange(5000.0), np.full(200, -1.0)).points[0]
    assert (point.eps_s, point.si) == (0.0, 0.0)
    assert point.eps_s_high == pytest.approx(binomial_interval(0, 200)[1])
    assert point.si_error == pytest.approx(0.5 * point.eps_s_high / 0.1)


# --- weights ---


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_whole_weights_are_copies_of_events(convention):
    rng = np.random.default_rng(9)
    background, signal = np.round(rng.normal(size=2000), 2), np.round(rng.normal(1, 1, size=300), 2)
    w_b, w_s = rng.integers(0, 4, size=2000), rng.integers(0, 3, size=300)
    weighted = merits(
        background,
        signal,
        background_weights=w_b,
        signal_weights=w_s,
        convention=convention,
        targets=(0.1, 0.01),
    )
    copies = merits(
        np.repeat(background, w_b), np.repeat(signal, w_s), convention=convention, targets=(0.1, 0.01)
    )
    assert weighted.auc == pytest.approx(copies.auc)
    for one, other in zip(weighted.points, copies.points, strict=True):
        assert (one.eps_s, one.eps_b, one.si) == pytest.approx((other.eps_s, other.eps_b, other.si))
        # copies know less than they count
        assert one.si_error > other.si_error
        assert one.background < other.background
    assert weighted.n_background == np.count_nonzero(w_b)


def test_the_scale_of_weights_does_not_matter_and_their_errors_are_those_of_repeated_samples():
    rng = np.random.default_rng(10)
    found = []
    for _ in range(200):
        background, signal = rng.normal(size=3000), rng.normal(1, 1, size=400)
        w_b, w_s = rng.exponential(size=3000), rng.exponential(size=400)
        one = merits(
            background, signal, background_weights=1e-7 * w_b, signal_weights=1e5 * w_s, targets=(0.05,)
        )
        found.append((one.auc, one.auc_error, one.points[0].si, one.points[0].si_error))
    auc, auc_error, si, si_error = np.array(found).T
    assert auc_error.mean() / auc.std(ddof=1) == pytest.approx(1, abs=0.15)
    assert si_error.mean() / si.std(ddof=1) == pytest.approx(1, abs=0.2)
    same = merits(background, signal, background_weights=w_b, signal_weights=w_s, targets=(0.05,))
    assert same.points[0].si_error == pytest.approx(one.points[0].si_error)


def test_a_heavy_event_behind_the_cut_makes_a_point_unreliable():
    background, signal = gauss(10_000, 500, 1.0, 11)
    w = np.ones(10_000)
    assert merits(background, signal, background_weights=w, targets=(0.01,)).points[0].reliable
    w[np.argsort(background)[-20]] = 50
    heavy = merits(background, signal, background_weights=w, targets=(0.01,)).points[0]
    assert not heavy.reliable
    assert heavy.background < 10


# --- AUC ---


def test_auc_agrees_with_scikit_learn_and_its_error_with_repeated_samples():
    rng = np.random.default_rng(12)
    values = []
    for i in range(300):
        background, signal = np.round(rng.normal(size=300), 1), np.round(rng.normal(1, 1.5, size=100), 1)
        w_b, w_s = rng.random(300) + 0.5, rng.random(100) + 0.5
        found = merits(background, signal, background_weights=w_b, signal_weights=w_s, targets=(0.1,))
        values.append((found.auc, found.auc_error))
        if i < 3:
            truth = np.r_[np.zeros(300), np.ones(100)]
            oracle = roc_auc_score(truth, np.r_[background, signal], sample_weight=np.r_[w_b, w_s])
            assert found.auc == pytest.approx(oracle, abs=1e-12)
    auc, error = np.array(values).T
    assert error.mean() / auc.std(ddof=1) == pytest.approx(1, abs=0.12)  # 3 errors of the scatter


def test_auc_error_of_delong_by_hand_and_of_separated_samples():
    background, signal = np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.0, 3.0, 4.0])
    pairs = (signal[:, None] > background) + 0.5 * (signal[:, None] == background)
    variance = pairs.mean(axis=1).var(ddof=1) / 4 + pairs.mean(axis=0).var(ddof=1) / 3
    found = merits(background, signal, targets=(0.5,))
    assert found.auc == pytest.approx(pairs.mean())
    assert found.auc_error == pytest.approx(np.sqrt(variance))
    apart = merits(np.arange(50.0), np.arange(100.0, 400.0), targets=(0.1,))
    assert apart.auc == 1
    assert apart.auc_error == pytest.approx(1 - binomial_interval(50, 50)[0])


# --- input ---


@pytest.mark.parametrize(
    ("background", "signal", "options", "words"),
    [
        ([1, 2, np.nan], [1, 2], {}, "1 background scores are NaN, the first that of event 2"),
        ([1, 2, 3], [1, np.nan], {}, "1 signal scores are NaN"),
        ([1], [1, 2], {}, "at least two background events"),
        ([1, 2], [1, 2], {"signal_weights": [1, 0]}, "at least two signal events"),
        (
            [1, 2],
            [1, 2],
            {"background_weights": [1, -1]},
            "weight is negative or not finite, the first .-1.",
        ),
        ([1, 2], [1, 2], {"background_weights": [1]}, "of one length"),
        ([1, 2], [1, 2], {"targets": (0.1, 0.1)}, "different numbers between 0 and 1"),
        ([1, 2], [1, 2], {"targets": (1.0,)}, "between 0 and 1"),
        ([1, 2], [1, 2], {"convention": "loose"}, "use strict, interpolated or challenge"),
        ([1, 2], [1, 2], {"min_background": -1}, "must not be negative"),
    ],
)
def test_bad_input_is_refused(background, signal, options, words):
    with pytest.raises(InputError, match=words):
        merits(background, signal, **options)


# --- many signals ---


def channel_results(rng, shifts, n_b=20_000, n_s=2000):
    results = {}
    for channel in ("1", "3"):
        background = BackgroundScores(rng.normal(size=n_b))
        for i, shift in enumerate(shifts):
            results[f"s{i}", channel] = background.merits(rng.normal(shift, 1, size=n_s))
    return results


def test_total_improvement_takes_the_best_point_and_channel():
    rng = np.random.default_rng(13)
    results = channel_results(rng, (0.5, 1.0, 2.0))
    del results["s0", "3"]
    total = total_improvement(results, rng)
    expected = [
        max(p.si for (name, _), found in results.items() if name == signal for p in found.points)
        for signal in ("s0", "s1", "s2")
    ]
    assert [entry.value for entry in total.signals] == expected
    assert (total.minimum, total.median, total.maximum) == (
        min(expected),
        float(np.median(expected)),
        max(expected),
    )
    best = total.signals[2]
    points = {p.target: p for p in results["s2", best.channel].points}
    assert points[best.target].si == best.value
    assert total.signals[0].channel == "1"
    safe = total_improvement(results, rng, reliable=True)
    assert safe.maximum == max(p.si for f in results.values() for p in f.points if p.reliable)
    assert all(entry.reliable and entry.target > 1e-4 for entry in safe.signals)
    assert json.dumps(total.to_dict(), allow_nan=False)
    # same seed, same errors
    again = (total_improvement(results, np.random.default_rng(3)) for _ in range(2))
    assert next(again) == next(again)


def test_signals_without_a_reliable_point_are_named():
    rng = np.random.default_rng(14)
    results = channel_results(rng, (1.0,))
    results["rare", "2a"] = merits(rng.normal(size=500), rng.normal(1, 1, size=50))
    assert total_improvement(results, rng, reliable=True).left_out == ("rare",)
    assert [entry.signal for entry in total_improvement(results, rng).signals] == ["s0", "rare"]
    with pytest.raises(InputError, match="no point of any signal is reliable"):
        total_improvement({("rare", "2a"): results["rare", "2a"]}, rng, reliable=True)
    with pytest.raises(InputError, match="at least one signal"):
        total_improvement({}, rng)
    with pytest.raises(InputError, match="different background efficiencies"):
        total_improvement(results | {("x", "1"): merits([1, 2], [1, 2], targets=(0.5,))}, rng)


def test_errors_of_the_total_improvement_are_its_scatter():
    rng = np.random.default_rng(15)
    found = [
        total_improvement(channel_results(rng, (0.5, 1.0, 1.5), 5000, 1000), rng, reliable=True, toys=60)
        for _ in range(100)
    ]
    for name in ("minimum", "median", "maximum"):
        scatter = np.std([getattr(one, name) for one in found], ddof=1)
        error = np.mean([getattr(one, f"{name}_error") for one in found])
        assert 0.75 < error / scatter < 1.5  # the scatter is known to 7 %; a maximum makes errors too large


@pytest.mark.parametrize(("n_background", "target"), [(100, 1e-4), (100, 1e-2), (1000, 1e-2)])
def test_errors_of_few_background_events_hold_the_true_value_of_the_cut(n_background, target):
    rng = np.random.default_rng(17)
    inside = []
    for _ in range(150):
        found = merits(rng.normal(size=n_background), rng.normal(2.5, 1, size=2000), targets=(target,))
        total = total_improvement({("s", "1"): found}, rng, toys=300)
        cut = found.points[0].threshold
        true = norm.sf(cut - 2.5) / np.sqrt(norm.sf(cut))
        inside.append(abs(total.maximum - true) <= total.maximum_error)
        assert total.maximum_error == total.signals[0].error < 1.1 * total.maximum
        assert found.points[0].si_error_background <= found.points[0].si
    # 68 %, known to 4 %; a linear error would hold all of them at 100 events
    assert 0.57 < np.mean(inside) < 0.79


def test_signals_of_a_channel_share_its_background():
    rng = np.random.default_rng(16)
    background = BackgroundScores(rng.normal(size=2000))
    scores = rng.normal(1, 1, size=100_000)
    results = {(f"s{i}", "1"): background.merits(scores, targets=(0.01,)) for i in range(9)}
    total = total_improvement(results, rng)
    alone = results["s0", "1"].points[0].si_error
    # independent errors of nine equal signals would make the error of their median 2.4 times smaller
    assert total.median_error == pytest.approx(alone, rel=0.1)


def test_best_per_signal_skips_what_is_not_there():
    names, best = best_per_signal(["b", "a", "b", "c"], [[1, np.nan], [3, 4], [2, 0], [np.nan, np.nan]])
    assert names.tolist() == ["a", "b"]
    assert best.tolist() == [4, 2]


# --- the published tables ---

HEADING = "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4\n"


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def full_model(model: str, eps: str = "0.9,0.2,0.1,0.05") -> str:
    return "".join(f"s{c},{model},{c},{eps}\n" for c in CHANNELS)


def test_columns_and_channels_are_read_in_all_their_spellings(tmp_path):
    plain = read_results(write(tmp_path, HEADING + "a,m,2a,0.9,0.2,0.1,0.05\nb,m,3,0.8,0.2,0.1,0\n"))
    other = read_results(
        write(
            tmp_path,
            "\ufeff,Model, channel ,0.0001,SIGNAL,auc,0.01,1E-03\n0,m,chan2A,0.05,a,0.9,0.2,0.1\n\n1,m,3.0,0,b,0.8,0.2,0.1\n",
            "other.csv",
        )
    )
    assert plain.targets == other.targets == (0.01, 0.001, 0.0001)
    assert plain.channel.tolist() == other.channel.tolist() == ["2a", "3"]
    assert plain.eps_s.tolist() == other.eps_s.tolist() == [[0.2, 0.1, 0.05], [0.2, 0.1, 0]]
    assert plain.signal.tolist() == other.signal.tolist()
    assert plain.auc.tolist() == other.auc.tolist()
    assert (plain.line.tolist(), other.line.tolist()) == ([2, 3], [2, 4])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (HEADING, "no rows"),
        ("Signal,Model,AUC,1e-2\na,m,0.5,0.1\n", "no column for channel"),
        ("Signal,Model,Chan,AUC\na,m,1,0.5\n", "no column for a background efficiency"),
        ("Signal,Model,Chan,AUC,1e-2,Colour\na,m,1,0.5,0.1,red\n", "column 'Colour' is not known"),
        ("Signal,Model,Chan,AUC,1e-2,0.01\na,m,1,0.5,0.1,0.1\n", "duplicate column"),
        (HEADING + "a,m,1,0.5,0.1,0.1\n", "line 2: 6 columns, but the heading has 7"),
        (HEADING + "a,m,1,0.5,0.1,x,0.1\n", "line 2, column 0.001: 'x' is not a number between 0 and 1"),
        (HEADING + "a,m,1,1.5,0.1,0.1,0.1\n", "line 2, column AUC: '1.5'"),
        (HEADING + "a,m,1,nan,0.1,0.1,0.1\n", "column AUC: 'nan'"),
        (
            HEADING + "a,m,4,0.5,0.1,0.1,0.1\n",
            "line 2: channel '4' is not known; expected one of 1, 2a, 2b, 3",
        ),
        (
            HEADING + "a,m,1,0.5,0,0,0\na,m,chan1,0.5,0,0,0\n",
            "line 3: .* is a duplicate of table.csv, line 2",
        ),
        (HEADING + ",m,1,0.5,0,0,0\n", "must have names"),
    ],
)
def test_broken_tables_are_refused_with_their_place(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_results(write(tmp_path, text))


def test_broken_tables_of_improvements_are_refused(tmp_path):
    heading = "Model,MinTotalImprovement,MedianTotalImprovement,MaxTotalImprovement\n"
    assert read_improvements(write(tmp_path, heading + "m,0,1,2\n"))[0].maximum == 2
    for line, words in (
        ("m,2,1,3\n", "not in this order"),
        ("m,-1,1,2\n", "column minimum: '-1' is not a number of zero or more"),
        ("m,0,1,2\nm,0,1,2\n", r"duplicate model .* \(first in line 2\)"),
    ):
        with pytest.raises(InputError, match=words):
            read_improvements(write(tmp_path, heading + line))
    with pytest.raises(InputError, match=r"column '0\.01' is not known"):
        read_improvements(write(tmp_path, "Model,MinSigI,MedianSigI,MaxSigI,1e-2\nm,0,1,2,0\n"))
    with pytest.raises(InputError, match="cannot read"):
        read_results(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="read them apart"):
        read_results(
            [
                write(tmp_path, HEADING + full_model("m"), "a.csv"),
                write(tmp_path, "Signal,Model,Chan,AUC,0.1\na,n,1,0.5,0.1\n", "b.csv"),
            ]
        )


def test_improvements_of_a_small_table(tmp_path):
    lacking = "s1,absent,1,0.9,0.2,0.1,0.05\ns1,lacking,1,0.9,0.2,0.1,0.05\n"
    text = HEADING + full_model("good") + "s1,good,2a,0.9,0.1,0.08,0.07\n" + lacking
    done, left_out = challenge_improvements(read_results(write(tmp_path, text)))
    # s1: 0.07 / 1e-2 = 7; the others 0.05 / 1e-2 = 5
    assert [(e.model, e.minimum, e.median, e.maximum, e.n_signals) for e in done] == [
        ("good", pytest.approx(5), pytest.approx(5), pytest.approx(7), 4)
    ]
    assert left_out == ("absent", "lacking")
    done, left_out = challenge_improvements(read_results(tmp_path / "table.csv"), channels=["1"])
    assert {e.model for e in done} == {"good", "absent", "lacking"}
    assert left_out == ()


def test_impossible_and_suspicious_rows(tmp_path):
    rows = [
        "a,m,1,0.5,0.507,0.1,0.05",  # 0.507 * 0.99 = 0.502, but three decimals round by 0.0005 only
        "b,m,1,0.5,0.505,0.1,0.05",  # within rounding
        "c,m,1,0.9,0.1,0.2,0.05",
        "d,m,1,0.9,0.3,0.1,0.1",
        "e,m,1,0.9,0.3,0,0",
        "a,two,1,0.50,0.51,0.51,0.05",  # both numbers rounded explain it
        "b,two,1,0.50,0.52,0.10,0.05",
        "c,two,1,0.50,0.10,0.60,0.05",
    ]
    table = read_results(write(tmp_path, HEADING + "\n".join(rows) + "\n"))
    flags = impossible_rows(table)
    assert [(f.row, f.line, f.kind, f.target) for f in flags] == [
        (0, 2, "impossible", 0.01),
        (2, 4, "impossible", 0.001),
        (3, 5, "suspicious", 0.0001),
        (6, 8, "impossible", 0.01),
        (7, 9, "impossible", 0.001),
        (7, 9, "impossible", 0.001),
    ]
    assert flags[0].reason == "eps_S = 0.507 at eps_B = 0.01 needs an AUC of at least 0.5019, but it is 0.5"
    assert "larger than eps_S = 0.1 at eps_B = 0.01" in flags[1].reason
    cleaned = clean(table, flags)
    assert np.isnan(cleaned.eps_s).sum(axis=1).tolist() == [3, 0, 3, 1, 0, 0, 3, 3]
    assert len(cleaned) == len(table)
    assert impossible_rows(cleaned) == ()


@pytest.fixture(scope="module")
def official(shared_data):
    folder = shared_data / "darkmachines" / "published"
    results, _ = result_files(folder)
    return folder, read_results(results)


def test_every_published_total_improvement_is_reproduced(official):
    folder, table = official
    published = {
        e.model: e
        for e in read_improvements(folder / "DarkMachinesUnsupervisedChallenge_TotalImprovements.csv")
    }
    done, left_out = challenge_improvements(table)
    assert len(published) == 1040
    assert len(done) == 132
    assert sorted(left_out) == sorted(m for m in table.models if m.endswith("_d377"))
    assert len(left_out) == 8
    for entry in done:
        other = published[entry.model]
        assert (entry.minimum, entry.median, entry.maximum) == pytest.approx(
            (other.minimum, other.median, other.maximum), abs=1e-9
        )
        assert entry.n_signals == 19
    # the rest belongs to tables that are not beside this checkout
    missing = [m for m in published if m not in table.models]
    starts = {s: sum(m.startswith(s) for m in missing) for s in ("DAGMM", "LS_", "VAE-", "ALAD")}
    assert starts == {"DAGMM": 384, "LS_": 288, "VAE-": 140, "ALAD": 96}
    assert len(missing) == 908


def test_the_impossible_rows_of_the_published_tables(official):
    _, table = official
    flags = impossible_rows(table)
    impossible = [f for f in flags if f.kind == "impossible"]
    assert {(f.model, f.channel) for f in impossible} == {("Combined-PROD-DeepSVDD-Flow", "2b")}
    assert len({f.signal for f in impossible}) == len(impossible) == 9
    flow = table.select(table.model == "Flow-Efficient_Likelihood")
    equal = flow.eps_s[:, 1] == flow.eps_s[:, 2]
    assert (len(flow), equal.sum()) == (34, 34)
    tied = [f for f in flags if f.kind == "suspicious" and f.model == "Flow-Efficient_Likelihood"]
    assert len(tied) == np.count_nonzero(flow.eps_s[:, 2]) == 29
    assert sum(f.model == "Flow-Efficient-No-E_Likelihood" for f in flags) == 1


def test_the_published_ranking_without_suspicious_entries(official):
    _, table = official
    done, _ = challenge_improvements(clean(table))
    top = [(e.model, round(e.median, 1)) for e in done[:7]]
    assert set(top[:2]) == {("Combined-AND-DeepSVDD-Flow", 10.0), ("Combined-AVG-DeepSVDD-Flow", 10.0)}
    assert top[2:5] == [
        ("Flow-Efficient-No-E_Likelihood", 8.0),
        ("Flow-Efficient_Likelihood", 7.9),
        ("Combined-AND-VAE_beta1_z21-Flow", 7.0),
    ]
    assert set(top[5:]) == {("Combined-OR-DeepSVDD-Flow", 6.3), ("Combined-OR-VAE_beta1_z21-Flow", 6.3)}
    assert round(done[3].maximum, 1) == 17.1
    assert "Combined-PROD-DeepSVDD-Flow" not in [e.model for e in done[:14]]


def test_secret_results_are_joined_with_the_open_ones(official):
    folder, _ = official
    joined = secret_results(folder / "Metric_Scores.csv", folder / "ModelsToSecretResults.csv")
    assert len(joined) == 28
    assert [r.name for r in joined if r.open is None] == ["Random guess"]
    by_name = {r.name: r for r in joined}
    best = by_name["Combined-OR-DeepSVDD_MSE-Flow"]
    assert (round(best.secret.median, 2), best.open.median) == (19.02, 6.3)
    assert by_name["Flow-Efficient_Likelihood"].open.median == 15
    above_two = [r for r in joined if r.open and min(r.open.median, r.secret.median) > 2]
    assert len(above_two) == 8  # Table 24 of the paper


def test_the_folder_is_sorted_into_results_and_others(official, tmp_path):
    folder, _ = official
    results, others = result_files(folder)
    assert len(results) == 9
    assert [path.name for path in others] == [
        "DarkMachinesUnsupervisedChallenge_TotalImprovements.csv",
        "Metric_Scores.csv",
        "ModelsToSecretResults.csv",
    ]
    with pytest.raises(InputError, match="contains no result table"):
        result_files(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        result_files(tmp_path / "no")


# --- pictures ---


def test_pictures_hold_the_numbers(tmp_path):
    rng = np.random.default_rng(17)
    text = HEADING + "".join(full_model(f"KDE_{i}", f"0.9,{0.1 * i},0.0{i},0.00{i}") for i in range(1, 6))
    table = read_results(write(tmp_path, text))
    results = {
        ("s1", "1"): merits(*gauss(20_000, 900, 1.0, 1)),
        ("s2a", "2a"): merits(*gauss(20_000, 900, 0, 2)),
    }
    ours = {"mixture": total_improvement(results, rng)}

    plane = summaries.improvement_plane(challenge_improvements(table)[0], ours)
    assert {p.family for p in plane.published} == {"KDE"}
    assert [p.maximum for p in plane.published] == pytest.approx([5, 4, 3, 2, 1])
    assert plane.ours[0].median_error == ours["mixture"].median_error

    boxes = summaries.signal_boxes(table, ours, highlight=["KDE_4"])
    first = next(box for box in boxes.signals if box.signal == "s1")
    assert first.quantiles == pytest.approx((1.2, 2, 3, 4, 4.8))
    assert (first.best_model, first.best, first.n_models) == ("KDE_5", pytest.approx(5), 5)
    assert [(m.model, m.value) for m in first.marked] == [
        ("KDE_4", pytest.approx(4)),
        ("mixture", ours["mixture"].signals[0].value),
    ]
    one = summaries.signal_boxes(table, {}, channel="3")
    assert [box.signal for box in one.signals] == ["s3"]
    with pytest.raises(InputError, match="no model 'KDE_9'"):
        summaries.signal_boxes(table, {}, highlight=["KDE_9"])

    orders = np.array([[0.6, 0.8, 0.9], [0.7, 0.85, 0.9], [0.5, 0.8, 0.9]])
    curve = summaries.saturation_curve("channel 1", [1, 5, 9], orders)
    assert curve.median == (0.6, 0.8, 0.9)
    assert curve.low == pytest.approx((0.532, 0.8, 0.9))
    assert curve.high == pytest.approx((0.668, 0.834, 0.9))
    for x, y in (([1, 1, 9], orders), ([1, 5], orders), ([1, 5, 9], np.full((2, 3), np.nan))):
        with pytest.raises(InputError, match="saturation curve"):
            summaries.saturation_curve("bad", x, y)
    saturation = summaries.Saturation(
        x_label="theories", y_label="AUC", curves=(curve,), levels={"best unsupervised": 0.85}
    )
    for name, draw, record in (
        ("plane", theory_plots.draw_improvement_plane, plane),
        ("boxes", theory_plots.draw_signal_boxes, boxes),
        ("saturation", theory_plots.draw_saturation, saturation),
    ):
        figures.save(draw(record), record, tmp_path / name)
        assert type(record).model_validate_json((tmp_path / f"{name}.json").read_text()) == record
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_drawn_are_the_numbers():
    point = {"family": "KDE", "minimum": 0.1, "median": 1.0, "maximum": 3.0}
    plane = summaries.ImprovementPlane(
        published=(
            summaries.ModelPoint(model="a", **point),
            summaries.ModelPoint(model="b", **point | {"maximum": 7.0}),
        ),
        ours=(),
    )
    low, high = theory_plots.draw_improvement_plane(plane).axes
    assert low.lines[0].get_xydata().tolist() == [[1, 0.1], [1, 0.1]]
    assert high.lines[0].get_xydata().tolist() == [[1, 3], [1, 7]]
    curve = summaries.saturation_curve("c", [1, 2], [[1.0, 2.0], [3.0, 2.0]])
    drawn = theory_plots.draw_saturation(
        summaries.Saturation(x_label="n", y_label="y", curves=(curve,), levels={"level": 2.5})
    ).axes[0]
    assert drawn.lines[0].get_xydata().tolist() == [[1, 2], [2, 2]]
    assert drawn.lines[1].get_ydata() == [2.5, 2.5]
    with pytest.raises(InputError, match="no model to draw"):
        theory_plots.draw_improvement_plane(summaries.ImprovementPlane(published=(), ours=()))


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("Combined-AND-DeepSVDD-Flow", "flow with Deep SVDD or VAE"),
        ("DeepSVDD_C3_d13", "Deep SVDD"),
        ("VAE-dynamic-beta1-z13_Radius", "β-VAE"),
        ("VAE_PlanarFlow", "convolutional VAE"),
        ("mine", "other"),
    ],
)
def test_families_of_published_models(model, family):
    assert summaries.model_family(model) == family


def test_copies_of_one_event_do_not_add_statistics():
    rng = np.random.default_rng(3)
    base, signal = rng.normal(size=2000), rng.normal(1.0, size=2000)
    single = BackgroundScores(base).merits(signal, targets=[0.1])
    copies = np.repeat(base, 4) + rng.normal(0, 1e-6, 8000)
    groups = np.repeat(np.arange(2000), 4)
    grouped = BackgroundScores(copies, groups=groups).merits(signal, targets=[0.1])
    naive = BackgroundScores(copies).merits(signal, targets=[0.1])
    assert grouped.auc_error == pytest.approx(single.auc_error, rel=0.01)
    assert grouped.points[0].background == pytest.approx(single.points[0].background, rel=0.03)
    assert naive.points[0].background == pytest.approx(4 * single.points[0].background, rel=0.03)
    # groups of one event each change nothing
    alone = BackgroundScores(base, groups=np.arange(2000)).merits(signal, targets=[0.1])
    assert alone.auc_error == pytest.approx(single.auc_error, rel=1e-12)
    assert alone.points[0].background == pytest.approx(single.points[0].background, rel=1e-12)


def test_the_error_with_groups_is_the_scatter_of_experiments():
    rng = np.random.default_rng(5)
    threshold, kept, background = 1.0, [], []
    for _ in range(300):
        true = rng.normal(size=400)
        scores = np.repeat(true, 5) + rng.normal(0, 0.5, 2000)
        weights = np.repeat(rng.uniform(0.5, 1.5, 400), 5)
        kept.append(weights[scores > threshold].sum() / weights.sum())
        found = BackgroundScores(scores, weights, np.repeat(np.arange(400), 5))
        background.append(found.merits(scores, targets=[0.19]).points[0].background)
    relative = np.std(kept) / np.mean(kept)
    assert 1 / np.sqrt(np.mean(background)) * np.sqrt(1 - 0.19) == pytest.approx(relative, rel=0.12)


def test_a_result_is_read_back_from_plain_numbers():
    found = merits(range(1000), [985, 999, 2000, 2001], targets=[0.01, 1e-4])
    assert Merits.from_dict(found.to_dict()) == found
