from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from serendip.errors import InputError
from serendip.events.objects import KINDS, ObjectEvents, concatenate
from serendip.theories.harmonise import harmonise
from serendip.theories.leaks import audit
from serendip.theories.leaks.comparison import LeakReport
from serendip.theories.leaks.features import event_features, rules
from serendip.theories.leaks.tests import (
    _step,
    fisher_log_p,
    point_mass,
    repeats,
    significant_digits,
    support_edge,
)

SIGNALS = (
    "glgl1400_neutralino1100_chan1",
    "monojet_Zp2000.0_DM_50.0_chan1",
    "sqsq_sq1800_neut800_chan1",
    "stop2b1000_neutralino300_chan1",
)


def six(values: np.ndarray) -> np.ndarray:
    """Six significant digits, as in the files."""
    exponent = np.floor(np.log10(np.abs(values)))
    return np.rint(values * 10.0 ** (5 - exponent)) / 10.0 ** (5 - exponent)


def made(
    n: int,
    seed: int,
    *,
    lepton_pt: float = 15.0,
    jet_eta: float = 2.8,
    eta_width: float = 2.0,
    slope: float = 80.0,
    met: float = 150.0,
) -> ObjectEvents:
    """Events with four jets, on average one muon and half a photon, in the order of the public files."""
    rng = np.random.default_rng(seed)
    n_muons, n_photons = rng.poisson(1.0, n), rng.poisson(0.5, n)
    counts = np.stack([np.full(n, 4), n_muons, n_photons], axis=1)
    offsets = np.r_[0, np.cumsum(counts.sum(axis=1))]
    block = np.repeat(np.tile([0, 1, 2], n), counts.ravel())
    owner = np.repeat(np.arange(n), counts.sum(axis=1))
    size = len(block)
    low = np.array([30.0, lepton_pt, 20.0])[block]
    pt = low + rng.exponential(np.array([slope, 40.0, 60.0])[block])
    width = np.array([eta_width, 1.5, 1.5])[block]
    limit = np.array([jet_eta, 2.7, 2.37])[block]
    edge = stats.norm.cdf(limit / width)
    eta = width * stats.norm.ppf(1 - edge + rng.uniform(size=size) * (2 * edge - 1))
    kind = np.choose(
        block, [rng.integers(0, 2, size), rng.integers(4, 6, size), np.full(size, KINDS.index("g"))]
    )
    order = np.lexsort((-pt, block, owner))
    pt, eta, kind, block = six(pt[order]), six(eta[order]), kind[order], block[order]
    mass = np.where(block == 0, 0.1 * pt * rng.uniform(0.5, 2, size), 0.0)
    return ObjectEvents(
        event_id=np.arange(n).astype(str),
        process=np.full(n, "made"),
        weight=np.ones(n),
        met=six(200 + rng.exponential(met, n)),
        met_phi=six(rng.uniform(-np.pi, np.pi, n)),
        offsets=offsets,
        kind=kind.astype(np.int8),
        energy=six(np.hypot(pt * np.cosh(eta), mass)),
        pt=pt,
        eta=eta,
        phi=six(rng.uniform(-np.pi, np.pi, size)),
    )


@pytest.fixture(scope="module")
def background() -> ObjectEvents:
    return made(1200, 1)


def real(shared_data: Path, name: str) -> ObjectEvents:
    from serendip.events.darkmachines import read_events

    return read_events(shared_data / "darkmachines" / "channel_1" / f"{name}.csv")[0]


# fraction of events with a jet beyond the edge, as the notes on the files have it
@pytest.mark.parametrize(("name", "fraction"), list(zip(SIGNALS, (0.291, 0.281, 0.320, 0.269), strict=True)))
def test_the_eta_artefact_of_the_public_files_is_found_and_harmonise_removes_it(
    shared_data: Path, name: str, fraction: float
) -> None:
    background, signal = real(shared_data, "background_chan1_7.79_reduced"), real(shared_data, name)
    report = audit(background, signal)
    assert not report.clean
    first = report.edges[0]
    assert (first.quantity, first.side, first.stops) == ("eta", "upper", "background")
    assert first.feature == "jet_max_abs_eta"
    assert first.edge == pytest.approx(2.8, abs=0.001)
    assert first.fraction == pytest.approx(fraction, abs=0.001)
    assert (first.none_of, first.limit) == (1000, pytest.approx(1 - 0.05**0.001))
    assert first.si() == pytest.approx(100 * fraction, abs=0.1)
    assert first.si_limit > 4.5
    assert first.log10_p_global < -8
    assert first.expected > 100
    assert {"jet_min_eta", "jet_max_eta", "j5_eta"} <= set(first.also)
    assert len(report.edges) == 1
    assert report.forms == ()

    clean = audit(harmonise(background, "1")[0], harmonise(signal, "1")[0])
    assert clean.clean, str(clean)
    assert clean.separations[0].auc > 0.7


def test_real_signals_with_different_physics_show_no_leak(shared_data: Path) -> None:
    gluinos, squarks = real(shared_data, SIGNALS[0]), real(shared_data, SIGNALS[2])
    report = audit(gluinos, squarks)
    assert report.clean, str(report)
    by_name = {s.feature: s for s in report.separations}
    assert by_name["met"].auc > 0.8


def test_halves_of_one_sample_show_nothing() -> None:
    sample = made(1200, 2)
    rng = np.random.default_rng(3)
    hints, tests = 0, 0
    for _ in range(3):
        order = rng.permutation(len(sample))
        report = audit(sample.select(order[:600]), sample.select(order[600:]))
        assert report.clean, str(report)
        hints, tests = hints + len(report.hints), tests + report.tests
    assert hints <= stats.poisson.isf(0.001, 0.001 * tests)


def test_smooth_physics_is_no_leak(background: ObjectEvents) -> None:
    report = audit(background, made(2500, 4, eta_width=1.0, slope=250.0, met=500.0))
    assert report.clean, str(report)
    by_name = {s.feature: s for s in report.separations}
    met = by_name["met"]
    # P(signal larger) of two exponentials
    assert abs(met.auc - 500 / 650) < 4 * met.auc_error
    assert met.auc_error == pytest.approx(math.sqrt(0.77 * 0.23 / 1200), rel=0.4)
    assert met.cut.startswith("met >=")
    assert met.eps_b >= 10 / 1200
    assert met.eps_s_interval[0] < met.eps_s < met.eps_s_interval[1]
    assert met.si == pytest.approx(met.eps_s / math.sqrt(met.eps_b))
    assert not met.construction


def test_each_cause_is_one_finding_and_the_largest_comes_first(background: ObjectEvents) -> None:
    signal = made(2500, 5, lepton_pt=10.0, jet_eta=4.9)
    report = audit(background, signal)
    assert [leak.quantity for leak in report.edges] == ["eta", "pt"], str(report)
    eta, pt = report.edges
    assert pt.side == "lower"
    assert pt.edge == pytest.approx(15, abs=0.1)
    assert pt.feature == "m_min_pt"
    muons = signal.of_kind("m-", "m+")
    assert pt.beyond == np.count_nonzero(signal.count(muons & (signal.pt < pt.edge)))
    assert eta.beyond == np.count_nonzero(
        signal.count(signal.of_kind("j", "b") & (np.abs(signal.eta) > eta.edge))
    )
    assert eta.objects_beyond == np.count_nonzero(signal.of_kind("j", "b") & (np.abs(signal.eta) > eta.edge))
    assert eta.si_limit > pt.si_limit
    assert not set(eta.also) & {pt.feature, *pt.also}
    involved = {eta.feature, *eta.also, pt.feature, *pt.also}
    assert {s.feature for s in report.separations if s.construction} <= involved
    text = str(report)
    assert text.index("max_abs_eta") < text.index("min_pt")
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["edges"][0]["quantity"] == "eta"


def test_a_fault_of_the_signal_is_found_too(background: ObjectEvents) -> None:
    report = audit(background, made(2500, 6, jet_eta=1.5))
    first = report.edges[0]
    assert (first.stops, first.quantity, first.none_of) == ("signal", "eta", 2500)
    assert abs(first.edge) == pytest.approx(1.5, abs=0.01)
    assert first.si_limit == pytest.approx(1 / math.sqrt(1 - first.fraction), rel=0.1)
    assert first.to_dict()["si_1e-4"] is None
    assert "0 of 2,500 signal events" in str(report)


def changed(events: ObjectEvents, **columns: np.ndarray) -> ObjectEvents:
    return replace(events, **columns)


def forms(report: LeakReport) -> set[tuple[str, str]]:
    return {(leak.kind, leak.feature) for leak in report.forms}


def test_rounded_numbers_are_found(background: ObjectEvents) -> None:
    signal = made(1500, 7)
    report = audit(background, changed(signal, phi=np.round(signal.phi, 2)))
    assert {("digits", "j_phi"), ("repeats", "j_phi")} <= forms(report)
    assert all(name.endswith("_phi") for _, name in forms(report))
    assert report.edges == ()
    assert "at most" in str(report)


def test_values_without_rounding_are_found(background: ObjectEvents) -> None:
    signal = made(1500, 8)
    report = audit(background, changed(signal, met=signal.met * (1 + 1e-9 * np.sqrt(2))))
    assert forms(report) == {("digits", "met")}


def test_sentinels_are_found(background: ObjectEvents) -> None:
    signal = made(1500, 9)
    met_phi = signal.met_phi.copy()
    met_phi[::50] = 0.5
    report = audit(background, changed(signal, met_phi=met_phi))
    assert ("point mass", "met_phi") in forms(report)
    leak = next(leak for leak in report.forms if leak.kind == "point mass")
    assert (leak.signal, leak.background) == (30, 0)
    assert leak.text == "equal to 0.5"


def test_order_and_missing_masses_are_found(background: ObjectEvents) -> None:
    signal = made(1500, 10)
    order = np.lexsort((signal.pt, signal.event_of))
    columns = {name: getattr(signal, name)[order] for name in ("kind", "energy", "pt", "eta", "phi")}
    report = audit(background, changed(signal, **columns))
    found = forms(report)
    assert ("rule", "pT falls (jet)") in found
    assert ("rule", "jet before m") in found
    assert ("rule", "j before b") not in found
    assert report.edges == ()
    massless = changed(signal, energy=six(signal.pt * np.cosh(signal.eta)))
    report = audit(background, massless)
    assert ("rule", "all massless (jet)") in forms(report)
    assert ("rule", "all massless (m)") not in forms(report)
    # no energy at all is read as massless
    report = audit(background, changed(signal, energy=np.full(signal.n_objects, np.nan)))
    assert ("rule", "all massless (jet)") in forms(report)


def test_constant_columns_are_listed_not_judged(background: ObjectEvents) -> None:
    signal = made(1500, 11)
    no_muons = signal.keep_objects(~signal.of_kind("m-", "m+"))
    report = audit(background, no_muons)
    assert ("n_m", "signal", 0.0) in report.constant
    assert report.clean, str(report)
    assert "n_m = 0 in the signal" in str(report)
    assert not {name for name in event_features(signal) if name.startswith(("object_m", "lepton_m"))}


def test_the_level_and_the_errors(background: ObjectEvents) -> None:
    signal = made(2500, 5, jet_eta=4.9)
    assert audit(background, signal, level=0.5).edges
    strict = audit(background, signal, level=1e-200)
    assert strict.clean
    assert strict.hints[0].quantity == "eta"
    assert strict.hints[0].stops == "background"
    assert re.search(
        r"jet.* > 2\.\S+: [\d,]+ events of the signal, none of the background; p = ", str(strict)
    )
    with pytest.raises(InputError, match="level must be between 0 and 1"):
        audit(background, signal, level=0)
    with pytest.raises(InputError, match="the signal has 5 events"):
        audit(background, signal.select(np.arange(5)))
    eta = signal.eta.copy()
    eta[17] = np.inf
    with pytest.raises(InputError, match=rf"'eta' of event {signal.event_of[17]} of the signal .* is inf"):
        audit(background, changed(signal, eta=eta))
    pt = signal.pt.copy()
    pt[30] = 0
    with pytest.raises(InputError, match="has pT = 0 GeV"):
        audit(background, changed(signal, pt=pt))


def test_features_of_a_known_event() -> None:
    events = made(200, 12)
    features = event_features(events)
    i = int(np.flatnonzero(events.count(events.of_kind("m-", "m+")) >= 2)[0])
    mine = slice(events.offsets[i], events.offsets[i + 1])
    jets = np.isin(events.kind[mine], [0, 1])
    muons = np.isin(events.kind[mine], [4, 5])
    assert features["n_jet"].values[i] == 4
    assert features["ht"].values[i] == pytest.approx(events.pt[mine][jets].sum())
    assert features["met_over_ht"].values[i] == pytest.approx(events.met[i] / features["ht"].values[i])
    assert features["jet_max_abs_eta"].values[i] == np.abs(events.eta[mine][jets]).max()
    assert features["m_min_pt"].values[i] == events.pt[mine][muons].min()
    assert features["jet4_pt"].values[i] == events.pt[mine][jets].min()
    none = int(np.flatnonzero(events.count(events.of_kind("m-", "m+")) == 0)[0])
    assert np.isnan(features["m_min_pt"].values[none])
    assert np.isnan(features["mm1_pt"].values[none])
    assert list(features) == list(event_features(events.select(np.array([none]))))
    assert rules(events)["pT falls (jet)"] == (600, 600)
    without = event_features(events.keep_objects(~events.of_kind("j", "b")))
    assert np.isnan(without["met_over_ht"].values).all()


SMOOTH = {
    "two Gaussians": (stats.norm(0, 1), stats.norm(1.5, 1)),
    "a wider Gaussian": (stats.norm(0, 1), stats.norm(0, 4)),
    "two exponentials": (stats.expon(0, 1), stats.expon(0, 5)),
    "two power laws": (stats.pareto(6), stats.pareto(3)),
    "two log-normals": (stats.lognorm(0.5), stats.lognorm(0.5, scale=2)),
    "a tail against a plateau": (stats.norm(0, 1), stats.uniform(-10, 20)),
    "two gammas": (stats.gamma(5), stats.gamma(5, scale=2)),
}


@pytest.mark.parametrize("case", list(SMOOTH))
def test_p_values_of_edges_are_valid_for_smooth_densities(case: str) -> None:
    short, long = SMOOTH[case]
    rng = np.random.default_rng(20)
    log_p = []
    for _ in range(40):
        a, b = short.rvs(800, random_state=rng), long.rvs(2000, random_state=rng)
        for upper in (True, False):
            for first, second in ((a, b), (b, a)):
                found = support_edge(first, second, upper=upper)
                log_p.append(0.0 if found is None else found.log_p)
    for level in (0.1, 0.01, 0.001):
        claimed = np.count_nonzero(np.array(log_p) < math.log(level))
        assert claimed <= stats.binom.isf(0.005, len(log_p), level)


@pytest.mark.parametrize("upper", [True, False])
def test_an_edge_is_found_with_its_place_and_its_size(upper: bool) -> None:
    rng = np.random.default_rng(21)
    sign = 1 if upper else -1
    wide = sign * rng.exponential(1, 3000)
    cut = sign * rng.exponential(1, 3000)
    cut = cut[np.abs(cut) < 1.5]
    found = support_edge(cut, wide, upper=upper)
    assert found is not None
    assert found.edge == cut[np.argmax(np.abs(cut))]
    assert found.beyond == np.count_nonzero(np.abs(wide) > abs(found.edge))
    assert found.log_p < math.log(1e-10)
    # the ratio of densities is one; half the window beyond the edge is looked at
    start = np.sort(np.abs(cut))[-500]
    near = np.exp(-1.5) - np.exp(-1.5 - 0.5 * (1.5 - start))
    assert abs(found.expected - 3000 * near) < 4 * 3 * math.sqrt(3000 * near)
    assert support_edge(wide, cut, upper=upper) is None


def test_the_p_value_of_a_step_against_an_unbinned_fit() -> None:
    rng = np.random.default_rng(24)
    short, long = rng.normal(0, 1, 1200), rng.normal(0, 1.3, 2000)
    short = short[short < 1.0]
    found = support_edge(short, long)
    assert found is not None
    edge = short.max()
    # the edge is positive, the window is not: no logarithm
    start = np.sort(short)[-500]
    assert start < 0 < edge

    def largest(x: np.ndarray, of_short: np.ndarray) -> float:
        t = (x - edge) / (edge - start)
        design = np.stack([np.ones_like(t), t, t**2])
        fit = optimize.minimize(
            lambda theta: np.logaddexp(0, theta @ design).sum() - (theta @ design)[of_short].sum(),
            np.zeros(3),
            method="BFGS",
        )
        return -float(fit.fun)

    x = np.r_[short, long]
    near = (x >= start) & (x <= 2 * edge - start)
    of_short = np.r_[np.ones(len(short), dtype=bool), np.zeros(len(long), dtype=bool)][near]
    x = x[near]
    inside = x <= edge
    delta = largest(x[inside], of_short[inside]) - largest(x, of_short)
    assert delta > 5
    # bins of a sixtieth of the window
    assert found.log_p == pytest.approx(stats.gamma.logsf(delta, 2.5), rel=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_is_what_neither_the_variable_nor_its_logarithm_explains(sign: int) -> None:
    rng = np.random.default_rng(25)
    n = 3000 if sign > 0 else 20_000
    short, long = (sign * rng.lognormal(mean, width, n) ** sign for mean, width in ((0, 1.0), (1.0, 1.5)))
    ordered = np.sort(short[short < sign * 6.0**sign])
    start, edge = float(ordered[-500]), float(ordered[-1])

    def log(x: np.ndarray) -> np.ndarray:
        return sign * np.log(np.maximum(sign * x, 1e-300))

    plain, logarithmic = (_step(ordered, long, start, edge, to)[0] for to in (lambda x: x, log))
    found = support_edge(ordered, long)
    assert found is not None
    assert found.log_p == pytest.approx(stats.gamma.logsf(min(plain, logarithmic), 2.5))


def test_too_little_is_no_edge() -> None:
    rng = np.random.default_rng(22)
    long = rng.uniform(0, 2, 1000)
    assert support_edge(rng.uniform(0, 1, 19), long) is None
    constant = support_edge(np.zeros(100), long)
    assert constant is not None
    assert constant.log_p == 0
    few = support_edge(rng.uniform(0, 1, 300), np.r_[rng.uniform(0, 1, 300), 1.01, 1.02])
    assert few is not None
    assert few.log_p > math.log(0.1)


def test_fisher_against_scipy() -> None:
    for table in ((3, 20, 15, 30), (0, 50, 8, 40), (10, 10, 20, 20), (500, 1000, 430, 1000)):
        k_a, n_a, k_b, n_b = table
        tails = [
            stats.fisher_exact([[k_a, n_a - k_a], [k_b, n_b - k_b]], alternative=side).pvalue
            for side in ("less", "greater")
        ]
        assert math.exp(fisher_log_p(*table)) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)


def test_significant_digits() -> None:
    values = np.array([351.709, -2.56781, 1119.05, 0.0864809, 50.0, 0.1, 1e6, 0.0, math.pi, 1.00000001])
    assert significant_digits(values).tolist() == [6, 6, 6, 6, 1, 1, 1, 1, 10, 9]


def test_repeats_and_point_masses_of_equal_samples() -> None:
    rng = np.random.default_rng(23)
    narrow, wide = np.round(rng.normal(0, 1, 4000), 4), np.round(rng.normal(0, 3, 4000), 4)
    more, fewer, n, log_p = repeats(narrow, wide)
    assert n == 4000
    assert more > fewer > 0
    assert log_p > math.log(0.5)
    assert repeats(np.round(narrow, 2), wide)[3] < math.log(1e-10)
    assert point_mass(narrow, wide)[3] > math.log(0.01)
    assert point_mass(np.r_[narrow, np.full(40, 0.5)], wide)[3] < math.log(1e-9)
    assert point_mass(np.r_[narrow, np.full(40, 0.5)], np.r_[wide, np.full(40, 0.5)])[3] == 0
    # both discrete: different counts are physics
    assert point_mass(rng.poisson(1, 500).astype(float), rng.poisson(5, 500).astype(float))[3] == 0


@pytest.mark.slow
def test_a_hundred_splits_of_real_events_show_nothing(shared_data: Path) -> None:
    sample = concatenate([real(shared_data, name) for name in SIGNALS])
    rng = np.random.default_rng(5)
    half = len(sample) // 2
    for _ in range(100):
        order = rng.permutation(len(sample))
        report = audit(sample.select(order[:half]), sample.select(order[half:]))
        assert report.clean, str(report)
