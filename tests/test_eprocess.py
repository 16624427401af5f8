"""Evidence of a period: its mean without signal, what it grows to with one, and p-values at any time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.eprocess import (
    HORIZONS,
    MARGIN,
    anytime_log_p,
    average_log_e,
    densities,
    make_transfer,
    period_evidence,
)
from serendip.statistics.fit import SpectrumFit
from serendip.statistics.looks import fit_inclusive, make_edges
from serendip.statistics.ranks import leave_one_out_rank

WINDOW, RANGE = Window(3300.0, 3700.0), (2640.0, 5920.0)


def falling(n: int, rng: np.random.Generator) -> np.ndarray:
    low, high = RANGE
    return (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)


@pytest.fixture(scope="module")
def inclusive() -> SpectrumFit:
    m = falling(300_000, np.random.default_rng(0))
    return fit_inclusive(m, WINDOW, make_edges(RANGE, WINDOW), "exppoly:2")


def period(rng, n, efficiency=None, signal=0):
    """Masses and ranks of a period; scores of a tenth of the events are large, more often where the efficiency is."""
    m = np.concatenate([falling(rng.poisson(n), rng), rng.normal(3500.0, 60.0, signal)])
    score = rng.random(len(m))
    if efficiency is not None:
        score += rng.random(len(m)) < efficiency(np.log(m / 3500.0))
    score[len(m) - signal :] += 2.0
    side = ~WINDOW.contains(m)
    ties = rng.integers(0, 2**63, len(m)).astype(np.uint64)
    return m, leave_one_out_rank(score, np.zeros(len(m), dtype=int), side, np.ones(len(m)), ties)


def evidence(m, density, inclusive, weights=None, groups=None, lack=None):
    w = np.ones(len(m)) if weights is None else weights
    return period_evidence(m, w, groups, np.atleast_2d(density), WINDOW, inclusive, lack)


def modest(rank):
    return np.where(rank < 0.1, 0.001 / rank, 0.0)


@pytest.mark.parametrize("shape", [None, lambda x: 0.05 * (1.0 + 2.0 * x + 4.0 * x**2)])
def test_the_mean_of_the_evidence_is_one_without_signal(inclusive, shape):
    """Also where the efficiency is a polynomial in ln m; ranks that count an event with itself give 1.09 and 1.13.

    What is paid for errors that all periods share is left out.
    """
    rng = np.random.default_rng(1)
    e = []
    for _ in range(1000):
        m, rank = period(rng, 1500, shape)
        found = evidence(m, modest(rank), inclusive)
        e.append(np.exp(found.log_e[0] + MARGIN * found.expected[0]))
    error = np.std(e) / np.sqrt(len(e))
    assert np.std(e) > 0.3
    assert error < 0.017
    assert np.mean(e) == pytest.approx(1.0, abs=3.5 * error)


def test_an_error_of_the_spectrum_is_paid_for(inclusive):
    rng = np.random.default_rng(2)
    m, rank = period(rng, 20_000)
    found = evidence(m, modest(rank), inclusive)
    worse = replace(inclusive, coefficient_covariance=inclusive.coefficient_covariance * 1e4)
    error = make_transfer(worse, 2).error
    assert error == pytest.approx(100.0 * make_transfer(inclusive, 2).error)
    lost = found.log_e[0] - evidence(m, modest(rank), worse).log_e[0]
    assert lost == pytest.approx(0.5 * found.expected[0] ** 2 * error**2 * (1 - 1e-4), rel=1e-9)


def test_the_transfer_predicts_every_efficiency_of_its_degree(inclusive):
    x = np.log(0.5 * (inclusive.edges[1:] + inclusive.edges[:-1]) / 3500.0)
    for degree, efficiency in ((2, 1.0 + 3.0 * x - 5.0 * x**2), (3, 1.0 + 3.0 * x - 5.0 * x**2 + 9.0 * x**3)):
        transfer, f = make_transfer(inclusive, degree), inclusive.expected * efficiency
        # bins are centred in the mass here and in its logarithm there
        assert (transfer.kappa * f).sum() == pytest.approx(f[inclusive.mask].sum(), rel=1e-3)
    flat = make_transfer(inclusive, 0)
    side = ~inclusive.mask
    np.testing.assert_allclose(flat.kappa[side], flat.ratio)
    assert (flat.kappa[inclusive.mask] == 0).all()
    assert flat.noise == pytest.approx(flat.ratio)
    assert make_transfer(inclusive, 2).noise > 2 * flat.noise


def test_evidence_of_a_signal_grows_and_bets_in_the_window_win(inclusive):
    rng = np.random.default_rng(3)
    m, rank = period(rng, 20_000, signal=40)
    without = evidence(m[:-40], modest(rank[:-40]), inclusive)
    found = evidence(m, modest(rank), inclusive)
    assert found.log_e[0] > 20
    assert found.log_e[0] - without.log_e[0] > 20
    assert found.expected == pytest.approx(without.expected)
    # by hand: the bets are those of the on/off problem
    transfer = make_transfer(inclusive, 2)
    surplus = np.maximum((1.0 + modest(rank)) / (1.0 + MARGIN) - 1.0, 0.0)
    bet = surplus / (1.0 + transfer.noise * (1.0 + surplus))
    bet = np.minimum(bet, 0.9 / transfer.kappa.max())
    inside = WINDOW.contains(m)
    kappa = transfer.at(m)
    by_hand = np.log1p(bet[inside]).sum() + np.log1p(-(kappa * bet)[~inside]).sum()
    expected = (kappa * bet)[~inside].sum()
    assert found.log_e[0] == pytest.approx(
        by_hand - 0.5 * (expected * transfer.error) ** 2 - MARGIN * expected
    )
    assert found.observed[0] == pytest.approx(bet[inside].sum())


def test_weights_count_in_units_of_their_own_and_groups_as_one_event(inclusive):
    rng = np.random.default_rng(4)
    m, rank = period(rng, 5000)
    alone = evidence(m, modest(rank), inclusive).log_e[0]
    assert evidence(m, modest(rank), inclusive, weights=np.full(len(m), 7.0)).log_e[0] == pytest.approx(alone)
    twice = np.repeat(np.arange(len(m)), 2)
    assert evidence(m[twice], modest(rank)[twice], inclusive, groups=twice).log_e[0] == pytest.approx(alone)
    assert evidence(m[twice], modest(rank)[twice], inclusive).log_e[0] == pytest.approx(2 * alone)


def test_the_degree_follows_what_the_past_asks_for(inclusive):
    rng = np.random.default_rng(5)
    m, rank = period(rng, 20_000)
    assert evidence(m, modest(rank), inclusive).degree[0] == 2
    quiet, loud = (np.array([[[change, 1.0]]]) for change in (1.0, -3.0))
    assert evidence(m, modest(rank), inclusive, lack=quiet).degree[0] == 2
    assert evidence(m, modest(rank), inclusive, lack=loud).degree[0] == 3
    # a cubic efficiency is noticed
    m, rank = period(rng, 200_000, lambda x: np.clip(0.3 + 1.2 * (x - 0.1) ** 3 / 0.1, 0, 1) * 0.1)
    change, variance = evidence(m, modest(rank), inclusive).lack[0, 0]
    assert abs(change) > 3 * np.sqrt(variance)


def test_densities_grow_until_their_horizon():
    rank = np.array([0.001, 0.01, 0.2, np.nan])
    early, late, beyond = (densities(rank, n, 1000.0, 1000.0, 0.15) for n in (1000.0, 6000.0, 1e9))
    assert early.shape == (len(HORIZONS), 4)
    np.testing.assert_allclose(early[:, 0], 10 * early[:, 1])
    assert (early[:, 2:] == 0).all()
    np.testing.assert_allclose(early[:, 0] / beyond[:, 0], np.array(HORIZONS) ** -1.5)
    assert late[1, 0] == beyond[1, 0]
    assert late[2, 0] == pytest.approx(beyond[2, 0] * (6 / HORIZONS[2]) ** 1.5)
    # the longer one waits, the weaker a signal can be claimed
    assert (np.diff(beyond[:, 0]) < 0).all()
    with pytest.raises(InputError, match="50 sideband events"):
        densities(rank, 1000.0, 1000.0, 49.0, 0.15)


def test_nothing_beside_the_window_is_an_error(inclusive):
    rng = np.random.default_rng(6)
    m, rank = period(rng, 2000)
    for density, weights in ((np.zeros(len(m)), None), (modest(rank), np.zeros(len(m)))):
        with pytest.raises(InputError, match="no event outside the window"):
            evidence(m, density, inclusive, weights=weights)
    inside = WINDOW.contains(m)
    with pytest.raises(InputError, match="no event outside the window"):
        evidence(m[inside], modest(rank[inside]), inclusive)


def test_p_at_any_time_is_that_of_the_largest_evidence_so_far():
    log_w = np.log([[0.2, 4.0, 50.0, 2.0], [0.9, 0.5, 0.1, 0.01]])
    np.testing.assert_allclose(np.exp(anytime_log_p(log_w)), [[1, 0.25, 0.02, 0.02], [1, 1, 1, 1]])
    assert average_log_e(np.array([800.0, -np.inf])) == pytest.approx(800.0 - np.log(2))
    np.testing.assert_allclose(np.exp(average_log_e(log_w)), np.mean(np.exp(log_w), axis=0))
