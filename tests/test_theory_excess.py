"""Excess in the signal region of a classifier: p-values against oracles, their rate without a signal, and power."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from serendip.errors import InputError
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import write_parquet
from serendip.statistics.pvalues import asimov_z, binomial_interval, count_p_value
from serendip.theories.excess import combine_channels, excess, null, null_rates
from serendip.theories.excess.regions import SimulationTail
from serendip.theories.harmonise import harmonise
from serendip.theories.split import hash_fold, held_out


def simulation(rng: np.random.Generator, groups: int, *, copies: int = 8, spread: float = 1.0):
    """Scores of generated events that were measured several times, with lognormal weights."""
    true = rng.normal(size=groups)
    scores = (true[:, None] + 0.3 * rng.normal(size=(groups, copies))).ravel()
    weights = np.repeat(rng.lognormal(0, spread, groups), copies)
    return scores, weights, np.repeat(np.arange(groups), copies)


def measured(rng: np.random.Generator, n: float):
    size = rng.poisson(n)
    return rng.normal(size=size) + 0.3 * rng.normal(size=size)


def test_threshold_on_the_simulation_gives_the_exact_waiting_time_probability():
    """Data above the (k+1)-th simulated event, k of M kept: negative hypergeometric, here from the permutations of ranks."""
    rng = np.random.default_rng(1)
    m, n, eps = 2000, 4000, 0.01
    k = int(eps * m)
    sim, data = rng.normal(size=m), rng.normal(size=n)
    region = excess(data, sim, eps_b=[eps], rng=rng, toys=1).regions[0]
    assert region.threshold == np.sort(sim)[-k - 1]
    assert region.observed == np.count_nonzero(data > region.threshold)
    # at least n_obs data before simulated event k + 1: among the first n_obs + k of the joint ranking at most k are simulated
    exact = stats.hypergeom.cdf(k, m + n, m, region.observed + k)
    assert region.p == pytest.approx(exact, rel=0.05)


def test_expectation_and_its_error_from_weights_and_groups():
    rng = np.random.default_rng(2)
    scores, weights, groups = simulation(rng, 3000)
    data = measured(rng, 5000)
    r = excess(data, scores, weights, groups, eps_b=[0.02], rng=rng, toys=1, systematic=0.1).regions[0]
    inside = scores > r.threshold
    total, kept = weights.sum(), weights[inside].sum()
    assert 0.02 - weights.max() / total < kept / total <= 0.02
    assert r.kept == pytest.approx(kept / total)
    outside = len(data) - r.observed
    assert r.expected == pytest.approx(outside * kept / (total - kept))
    w_in, w_all = (np.bincount(groups, w, 3000) for w in (weights * inside, weights))
    shares = w_in / kept - (w_all - w_in) / (total - kept)
    wider = np.sort(scores)[::-1][np.searchsorted(np.cumsum(weights[np.argsort(-scores)]), 0.1 * total)]
    w_near = np.bincount(groups, weights * (scores > wider), 3000)
    factor = max(1.0, (w_near**2).sum() / w_near.sum() * kept / (w_in**2).sum())
    v = factor * (shares**2).sum()
    assert r.effective == pytest.approx(1 / v, rel=1e-9)
    assert r.sigma_simulation == pytest.approx(r.expected * math.sqrt(v), rel=1e-9)
    assert r.sigma == pytest.approx(r.expected * math.sqrt(v + 1 / outside + 0.1**2), rel=1e-9)
    assert r.p == pytest.approx(float(count_p_value(r.observed, r.expected, r.sigma)))


def test_luminosity_takes_the_weights_as_they_are():
    rng = np.random.default_rng(3)
    scores, weights, groups = simulation(rng, 2000, spread=0.5)
    weights *= 4000 / weights.sum()
    data = measured(rng, 8000)
    r = excess(data, scores, weights, groups, eps_b=[0.02], rng=rng, toys=1, normalise="luminosity").regions[
        0
    ]
    assert r.expected == pytest.approx(weights[scores > r.threshold].sum())
    # twice the luminosity is an excess here, and none for the shape
    assert r.z > 4
    assert excess(data, scores, weights, groups, eps_b=[0.02], rng=rng, toys=1).regions[0].z < 2.5


def test_drawn_simulation_has_the_spread_of_the_waiting_time():
    """Unweighted: the true efficiency of the cut behind k events is distributed as Beta(k + 1, M - k)."""
    rng = np.random.default_rng(4)
    m, k = 5000, 50
    tail = SimulationTail(rng.normal(size=m), np.ones(m), np.arange(m), 0.01)
    true = tail.drawn([0.01], 4000, rng)[0].true
    assert true.mean() == pytest.approx((k + 1) / (m + 1), rel=0.02)
    # two Poisson fluctuations would give sqrt(2) more
    assert true.std() == pytest.approx(stats.beta(k + 1, m - k).std(), rel=0.06)


def test_equal_scores_are_kept_or_rejected_together():
    rng = np.random.default_rng(5)
    sim = np.repeat([3.0, 2.0, 1.0, 0.0], [20, 30, 150, 9800])
    r = excess(np.repeat([3.0, 2.0, 0.0], [5, 5, 5000]), sim, eps_b=[0.004], rng=rng, toys=50).regions[0]
    assert (r.threshold, r.observed, r.kept) == (2.0, 5, 0.002)
    sums = SimulationTail(sim, np.ones(10_000), np.arange(10_000), 0.004).drawn([0.004], 500, rng)[0]
    assert set(np.round(sums.true, 6)) <= {0.0, 0.002, 0.005}


@pytest.mark.parametrize("normalise", ["data", "luminosity"])
def test_rate_without_a_signal(normalise):
    """Fresh weighted simulation in groups of four, about 20 events expected: local and global rates are nominal."""
    rng = np.random.default_rng(6)
    local, overall = [], []
    for _ in range(200):
        scores, weights, groups = simulation(rng, 3000, copies=4)
        weights *= 1000 / (3000 * 4 * math.exp(0.5))
        found = excess(
            measured(rng, 1000), scores, weights, groups, eps_b=[0.05, 0.02], rng=rng, toys=100, normalise=normalise
        )  # fmt: skip
        if len(found.regions) == 2:
            local.append([region.p for region in found.regions])
            overall.append(found.global_p)
            assert found.best.p <= found.global_p * (1 + 1e-9)
            assert found.global_p <= 2 * found.best.p * (1 + 1e-9)
    assert len(overall) > 180
    for p in (*np.transpose(local), np.array(overall)):
        low, high = binomial_interval(int((p < 0.05).sum()), len(p), 0.95)
        assert low < 0.07
        assert high > 0.03
        assert binomial_interval(int((p < 0.003).sum()), len(p), 0.95)[0] < 0.006


def test_null_rates_of_weighted_groups_are_nominal():
    rng = np.random.default_rng(7)
    scores, weights, groups = simulation(rng, 3000, spread=0.5)
    found = null_rates(scores, weights, groups, rng=rng, experiments=200, eps_b=[0.05], toys=50)
    assert found.untested == 0
    assert found.n_data == pytest.approx(weights.sum() / 2 / (8 * weights.max()), rel=0.1)
    for rate in found.rates:
        assert rate.low < (0.07 if rate.level == 0.05 else 0.006)
        assert rate.high > (0.03 if rate.level == 0.05 else 0.0)
    assert json.loads(json.dumps(found.to_dict()))["rates"][0]["eps_b"] == 0.05


def test_null_rates_at_three_expected_events_are_at_most_nominal():
    """Counts are whole numbers: with 3 expected the level 0.05 cannot be reached from below exactly."""
    rng = np.random.default_rng(8)
    scores, weights, groups = simulation(rng, 4000, spread=0.5)
    found = null_rates(scores, weights, groups, rng=rng, experiments=300, n_data=150, eps_b=[0.02], toys=20)
    local = found.rates[0]
    assert local.expected == pytest.approx(3, rel=0.1)
    assert local.low < 0.05
    assert local.rate > 0.01
    with pytest.raises(InputError, match="without using an event twice"):
        null_rates(scores, weights, groups, rng=rng, n_data=1e6)


def test_pseudo_data_are_drawn_by_weight_and_never_tested_against_themselves(monkeypatch):
    weights, groups = np.tile([1.0, 2.0, 3.0, 4.0], 20), np.repeat(np.arange(20), 4)
    drawn = []

    def look(data, background, weight, group, **options):
        drawn.append(data)
        assert not {x // 4 for x in data} & set(group)
        assert weight == pytest.approx((1 + background % 4) / 10)
        raise InputError("seen")

    monkeypatch.setattr(null, "excess", look)
    with pytest.raises(InputError, match="no pseudo-experiment could be tested; the last one: seen"):
        null_rates(
            np.arange(80.0), weights, groups, rng=np.random.default_rng(3), experiments=2000, n_data=10
        )
    # each group is data in half of them; the first and the last one are drawn as the others are
    counts = np.bincount(np.concatenate(drawn).astype(int), minlength=80).reshape(20, 4)
    expected = 1000 * np.array([0.1, 0.2, 0.3, 0.4])
    assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected.max())


def test_null_rates_of_one_experiment_and_refused_options():
    rng = np.random.default_rng(11)
    scores, weights, groups = simulation(rng, 500, spread=0.5)
    one = null_rates(scores, weights, groups, rng=rng, experiments=1, eps_b=[0.2], toys=5)
    assert one.rates[0].tested == 1
    for options, words in (
        ({"experiments": 0}, "0 pseudo-experiments"),
        ({"levels": ()}, "p-values between 0 and 1"),
        ({"levels": (0.0, 0.1)}, "p-values between 0 and 1"),
        ({"levels": (0.1, 1.0)}, "p-values between 0 and 1"),
        ({"n_data": 0.9}, "0.9 pseudo-data events"),
    ):
        with pytest.raises(InputError, match=words):
            null_rates(scores, weights, groups, rng=rng, **options)


def test_groups_that_are_not_told_make_false_excesses():
    """About 60 generated events, each measured 20 times, are behind 600 expected data events."""
    rng = np.random.default_rng(9)
    false = {True: 0, False: 0}
    for _ in range(60):
        scores, weights, groups = simulation(rng, 300, copies=20, spread=0.0)
        data = measured(rng, 3000)
        for told in (True, False):
            given = groups if told else None
            found = excess(data, scores, weights, given, eps_b=[0.2], rng=rng, toys=1)
            false[told] += found.regions[0].p < 0.05
    assert false[True] <= 8
    assert false[False] >= 12


def test_a_signal_is_found_with_the_expected_significance():
    rng = np.random.default_rng(10)
    z, expected = [], []
    for _ in range(12):
        scores, weights, groups = simulation(rng, 10_000, copies=4, spread=0.5)
        data = np.concatenate([measured(rng, 5000), rng.normal(5, 0.5, rng.poisson(55))])
        found = excess(data, scores, weights, groups, eps_b=[0.01, 0.001], rng=rng, toys=100)
        loose = found.regions[0]
        z.append(loose.z)
        expected.append(float(asimov_z(55, loose.expected, loose.sigma)))
    assert 4.5 < np.mean(expected) < 6.0
    # scatter of about one for each
    assert np.mean(z) == pytest.approx(np.mean(expected), abs=3 / math.sqrt(12))
    assert len(found.regions) == 2
    assert found.toys_reached == 0
    assert found.global_source == "bonferroni"
    assert found.global_p == pytest.approx(2 * math.exp(found.best.log_p))
    assert found.global_z > 4


def test_systematics_widen_and_tie_the_regions_together():
    """A common factor of 30 % dominates both regions: what one shows the other shows too."""
    rng = np.random.default_rng(11)
    sim = rng.normal(size=10_000)
    data = np.concatenate([rng.normal(size=50_000), np.full(320, 9.0)])
    without, with_one = (
        excess(data, sim, eps_b=[0.02, 0.015], rng=np.random.default_rng(1), toys=500, systematic=s)
        for s in (0.0, 0.3)
    )
    assert without.regions[0].expected == with_one.regions[0].expected
    assert without.regions[0].z > 3
    assert 0.5 < with_one.regions[0].z < 1.5
    assert with_one.global_source == "toys"
    assert with_one.global_p < 1.3 * with_one.best.p


def test_dependence_of_nested_regions_is_that_of_an_independent_simulation():
    """Two regions of plain events, against data and simulation drawn from the normal distribution itself."""
    rng = np.random.default_rng(16)
    smallest = []
    for _ in range(500):
        found = excess(rng.normal(size=3000), rng.normal(size=6000), eps_b=[0.05, 0.01], rng=rng, toys=1)
        smallest.append(min(region.p for region in found.regions))
    sim = rng.normal(size=6000)
    for extra in (30, 45):
        data = np.concatenate([stats.norm.ppf((np.arange(3000) + 0.5) / 3000), np.full(extra, 1.8)])
        found = excess(data, sim, eps_b=[0.05, 0.01], rng=rng, toys=1000)
        k = sum(p <= found.best.p for p in smallest)
        low, high = binomial_interval(k, len(smallest), 0.99)
        # counts are whole numbers: the true rate may be smaller, by about a fifth here
        assert low * 0.95 < found.global_p < high * 1.35


def test_channels_are_bounded_by_bonferroni():
    rng = np.random.default_rng(12)
    results = {
        name: excess(rng.normal(size=2000), rng.normal(size=5000), eps_b=[0.05], rng=rng, toys=100)
        for name in ("1", "2b", "3")
    }
    both = combine_channels(results)
    assert both.p == min(1.0, 3 * min(result.global_p for result in results.values()))
    assert both.channels[both.channel] == min(both.channels.values())
    with pytest.raises(InputError, match="no channel"):
        combine_channels({})


def test_regions_with_too_little_simulation_are_named():
    rng = np.random.default_rng(13)
    found = excess(rng.normal(size=500), rng.normal(size=2000), eps_b=[1e-2, 1e-3], rng=rng, toys=10)
    assert [region.eps_b for region in found.regions] == [0.01]
    assert "effective simulated events" in found.left_out[0.001]
    heavy = np.ones(2000)
    heavy[7] = 1e5
    with pytest.raises(InputError, match="use a larger eps_B"):
        excess(rng.normal(size=500), rng.normal(size=2000), heavy, eps_b=[1e-2], rng=rng)
    assert json.loads(json.dumps(found.to_dict()))["left_out"][0]["eps_b"] == 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps_b": [0.0]}, "between 0 and 1"),
        ({"normalise": "area"}, "expected data or luminosity"),
        ({"systematic": -0.1}, "relative error"),
        ({"toys": 0}, "at least 1"),
        ({"data_weights": np.full(50, 0.5)}, "whole numbers"),
        ({"data_scores": np.full(50, np.nan)}, "score of event 0 of the data is NaN"),
        ({"data_scores": np.full(50, 99.0)}, "none is left"),
        ({"simulation_weights": np.full(2000, -1.0)}, "not negative"),
        ({"simulation_groups": np.zeros(3)}, "groups of the simulation"),
    ],
)
def test_wrong_input_is_explained(change, message):
    rng = np.random.default_rng(14)
    given = {"data_scores": rng.normal(size=50), "simulation_scores": rng.normal(size=2000)} | change
    with pytest.raises(InputError, match=message):
        excess(**given, rng=rng)


def test_weights_of_data_are_counts():
    rng = np.random.default_rng(15)
    sim, data = rng.normal(size=5000), rng.normal(size=1000)
    counts = rng.integers(0, 4, 1000)
    a = excess(data, sim, data_weights=counts, eps_b=[0.02], rng=np.random.default_rng(1), toys=20)
    b = excess(np.repeat(data, counts), sim, eps_b=[0.02], rng=np.random.default_rng(1), toys=20)
    assert a.to_dict() == b.to_dict()


def test_numbers_of_events_are_uniform_and_follow_the_id():
    ids = np.arange(20_000).astype(str)
    process = np.where(np.arange(20_000) % 2, "ttbar", "njets")
    fold = hash_fold(ids, process, 1)
    assert stats.kstest(fold, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(fold, hash_fold(ids, process, 2))[0, 1]) < 0.03
    assert abs(np.corrcoef(fold[1:], fold[:-1])[0, 1]) < 0.03
    order = np.random.default_rng(1).permutation(20_000)
    wide = ids[order].astype("U40")
    np.testing.assert_array_equal(hash_fold(wide, process[order], 1), fold[order])
    twice = hash_fold(np.tile(ids[:5000], 4), np.full(20_000, "x"), 1).reshape(4, -1)
    assert (twice == twice[0]).all()
    assert not np.isin(hash_fold(ids, np.full(20_000, "x"), 1), fold).any()
    # one ID for all events is no ID
    assert len(np.unique(hash_fold(np.full(2000, "1"), np.full(2000, "x"), 1))) == 2000
    assert held_out(ids, process, 0.3, 1).mean() == pytest.approx(0.3, abs=0.01)
    with pytest.raises(InputError, match="expected one of each"):
        hash_fold(["1", "2"], ["x"], 1)
    with pytest.raises(InputError, match="seed"):
        hash_fold(["1"], ["x"], -1)


def channel_1(n: int, seed: int, *, met: float = 300.0, weight: float = 1.0) -> ObjectEvents:
    """Events of channel 1 with five jets; MET is exponential above ``met``."""
    rng = np.random.default_rng(seed)
    pt = np.sort(60 + rng.exponential(60, (n, 5)), axis=1)[:, ::-1] + [400, 0, 0, 0, 0]
    eta, phi = rng.uniform(-2, 2, (n, 5)), rng.uniform(-3.1, 3.1, (n, 5))
    return ObjectEvents(
        event_id=np.arange(n).astype(str), process=np.full(n, f"p{seed}"), weight=np.full(n, weight),
        met=met + rng.exponential(100, n), met_phi=rng.uniform(-3.1, 3.1, n), offsets=5 * np.arange(n + 1),
        kind=np.zeros(5 * n, dtype=np.int8), energy=(pt * np.cosh(eta)).ravel(), pt=pt.ravel(), eta=eta.ravel(),
        phi=phi.ravel(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    pytest.importorskip("lightgbm")
    from serendip.theories.mixture import BoostConfig, MixtureConfig
    from serendip.theories.training import train_channel

    top = tmp_path_factory.mktemp("excess")
    write_parquet(channel_1(4000, 1, weight=0.5), top / "ttbar.parquet")
    write_parquet(channel_1(1000, 2, met=900), top / "heavy.parquet")
    config = MixtureConfig(boost=BoostConfig(rounds=60, leaves=16), events_per_theory=1000)
    model, record = train_channel(
        [top / "ttbar.parquet"], [top / "heavy.parquet"], "1", config, test_fraction=0.5
    )
    model.save(top / "model")
    record.save(top / "model")
    return top


def command(capsys, *arguments) -> str:
    import typer

    from serendip.cli.theories.excess import excess as function

    app = typer.Typer()
    app.command()(function)
    app([str(argument) for argument in arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_command_leaves_training_events_out_and_finds_the_signal(trained, tmp_path, capsys):
    from serendip.events.objects import concatenate

    write_parquet(concatenate([channel_1(3000, 5), channel_1(60, 6, met=900)]), tmp_path / "data.parquet")
    write_parquet(channel_1(3000, 7, weight=2.5), tmp_path / "quiet.parquet")
    base = [trained / "model", "--background", trained / "ttbar.parquet", "--eps-b", "0.02", "--toys", "200"]
    found = json.loads(command(capsys, *base, "--data", tmp_path / "data.parquet", "--json"))["channels"]["1"]
    inside, _ = harmonise(channel_1(4000, 1), "1")
    fold = hash_fold(np.arange(4000).astype(str), np.full(4000, "p1"), 1)[inside.event_id.astype(int)]
    assert len(fold) > 3900
    assert found["events"]["simulation"] == np.count_nonzero(fold < 0.5)
    assert found["events"]["trained"] == np.count_nonzero(fold >= 0.5)
    assert found["n_data"] > 3050
    assert found["regions"][0]["z"] > 3
    text = command(capsys, *base, "--data", tmp_path / "quiet.parquet", "--check", "20")
    assert "each counts as one event" in text
    assert "check: 20 pseudo-experiments" in text
    assert f"left out as training events: {np.count_nonzero(fold >= 0.5)} simulated events" in text
    # a copy under another name: the numbers of the events still know
    write_parquet(channel_1(4000, 1, weight=0.5), tmp_path / "renamed.parquet")
    renamed = [
        trained / "model",
        "--background",
        tmp_path / "renamed.parquet",
        "--data",
        tmp_path / "data.parquet",
    ]
    renamed += ["--eps-b", "0.02", "--toys", "200", "--json"]
    everything, half = (
        json.loads(command(capsys, *renamed, *more))["channels"]["1"] for more in ([], ["--held-out-only"])
    )
    assert everything["events"]["simulation"] == len(fold)
    assert half["regions"] == found["regions"]


def test_weights_of_test_events_stand_for_the_whole_file(trained, tmp_path, capsys):
    write_parquet(channel_1(2000, 5), tmp_path / "data.parquet")
    base = [trained / "model", "--background", trained / "ttbar.parquet", "--data", tmp_path / "data.parquet"]
    base += ["--eps-b", "0.05", "--toys", "50", "--normalise", "luminosity", "--json"]
    region = json.loads(command(capsys, *base))["channels"]["1"]["regions"][0]
    # 4000 events of weight 0.5, of which about half are kept for tests
    assert region["expected"] == pytest.approx(region["kept"] * 4000 * 0.5, rel=0.04)


def test_command_explains_wrong_input(trained, tmp_path, capsys):
    write_parquet(channel_1(500, 5), tmp_path / "data.parquet")
    base = [trained / "model", "--background", trained / "ttbar.parquet", "--data", tmp_path / "data.parquet"]
    for more, message in (
        (["--eps-b", "small"], "separated by commas"),
        (["--normalise", "area"], "expected data or luminosity"),
        (["--data", trained / "heavy.parquet"], "a file of this name trained"),
        (["--background", tmp_path / "data.parquet"], "as data and as background"),
    ):
        with pytest.raises(InputError, match=message):
            command(capsys, *base, *more)
    with pytest.raises(InputError, match="both of channel 1"):
        command(capsys, trained / "model", *base)
    weighted = channel_1(500, 5)
    object.__setattr__(weighted, "weight", np.linspace(0.5, 1.5, 500))
    write_parquet(weighted, tmp_path / "weighted.parquet")
    with pytest.raises(InputError, match="whole numbers"):
        command(capsys, *base[:3], "--data", tmp_path / "weighted.parquet")
