"""Surprises of outside software that touch us: the right value where its own answer would be another one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import uproot
from matplotlib.container import ErrorbarContainer
from packaging.requirements import Requirement

from serendip import read
from serendip.density import make_density
from serendip.events.audit import distance_correlation
from serendip.features.jets import n_subjettiness
from serendip.report.figures import score_distribution
from serendip.search.diagnostic_records import Scores
from serendip.theories.encoding import object_feature_names
from serendip.theories.mixture import BoostConfig, MixtureConfig, TheorySample, train_mixture
from serendip.theories.sets.layers import build_network


def test_the_release_of_pythia_without_wheels_is_not_installed() -> None:
    path = Path(__file__).parents[1] / "pyproject.toml"
    if not path.is_file():
        pytest.skip("needs the source tree")
    extra = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]["simulate"]
    (pythia,) = [wanted for wanted in map(Requirement, extra) if wanted.name == "pythia8mc"]
    assert not pythia.specifier.contains("8.318.0")
    assert pythia.specifier.contains("8.317.2")


def test_a_cut_on_an_rntuple_selects(tmp_path) -> None:
    """uproot ignores ``cut=`` and expressions on an RNTuple without a word."""
    rng = np.random.default_rng(1)
    columns = {"m": rng.uniform(1, 9, 4000), "x": rng.normal(size=4000), "q": rng.integers(-2, 3, 4000)}
    with uproot.recreate(tmp_path / "events.root") as file:
        file.mkrntuple("events", columns)
    with uproot.open(tmp_path / "events.root") as file:
        assert "RNTuple" in file.classnames()["events;1"]
    found = read(tmp_path / "events.root", mass="m*2", features=["x", "x+q"], where="q >= 1 & x < 0.5")
    kept = (columns["q"] >= 1) & (columns["x"] < 0.5)
    assert 0 < kept.sum() < 2000
    assert found.m == pytest.approx(2 * columns["m"][kept])
    assert found["x+q"] == pytest.approx((columns["x"] + columns["q"])[kept])


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Distance correlation from its definition, in double precision."""

    def centred(values: np.ndarray) -> np.ndarray:
        distances = np.abs(np.subtract.outer(values, values).astype(np.float64))
        return distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean()

    a, b = centred(x.astype(np.float64)), centred(y.astype(np.float64))
    return float(np.sqrt(np.mean(a * b) / np.sqrt(np.mean(a * a) * np.mean(b * b))))


def test_distance_correlation_of_single_precision_masses() -> None:
    """In single precision the sums for masses near 3,000 cancel: other software then gives 0 or more than 1."""
    rng = np.random.default_rng(2)
    mass = (3000 + rng.normal(0, 30, 600)).astype(np.float32)
    score = (0.1 * (mass - 3000) / 30 + rng.normal(size=600)).astype(np.float32)
    found, limit = distance_correlation(score, mass)
    assert found == pytest.approx(by_hand(score, mass), rel=1e-9)
    assert 0.05 < found < 0.2
    assert distance_correlation(mass, mass)[0] == pytest.approx(1.0)
    # an offset changes nothing
    near_zero = mass.astype(np.float64) - 3000.0
    assert distance_correlation(score, near_zero) == pytest.approx((found, limit), rel=1e-9)


@pytest.mark.parametrize("kind", ["deepsets", "transformer"])
def test_empty_places_give_set_networks_finite_scores_and_gradients(kind) -> None:
    """Angles and logarithms of an object that is not there are no numbers; nor may their derivatives be."""
    rng = np.random.default_rng(3)
    names = object_feature_names()
    at = {name: i for i, name in enumerate(names)}
    phi = rng.uniform(-3, 3, (8, 5))
    x = np.zeros((8, 5, len(names)))
    x[..., at["log_pt"]] = rng.normal(4, 1, (8, 5))
    x[..., at["log_energy"]] = x[..., at["log_pt"]] + 0.5
    x[..., at["eta"]], x[..., at["is_j"]] = rng.normal(size=(8, 5)), 1.0
    x[..., at["sin_phi"]], x[..., at["cos_phi"]] = np.sin(phi), np.cos(phi)
    # no object at all, one object, one empty place
    x[0] = 0.0
    x[1, 1:] = 0.0
    x[2:, 4] = 0.0
    network = build_network(kind, names, width=8, layers=2, heads=2, seed=1)
    events = torch.as_tensor(x, dtype=torch.float32).requires_grad_()
    score = network(events)
    assert bool(torch.isfinite(score).all())
    score.square().sum().backward()
    assert bool(torch.isfinite(events.grad).all())
    assert all(bool(torch.isfinite(value.grad).all()) for value in network.parameters())


@pytest.mark.filterwarnings("ignore:.*:UserWarning:lightgbm")
def test_trees_score_single_and_double_precision_alike() -> None:
    """Features on a grid, on which the thresholds of the trees lie."""
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(4)
    background, signal = (np.round(rng.normal(mean, 1, (3000, 2)), 1) for mean in (0.0, 1.0))
    boost = BoostConfig(rounds=30, leaves=8, min_leaf=20)
    sample = TheorySample("theory", "family", signal.astype(np.float32))
    for dtype in (np.float32, np.float64):
        trained = train_mixture(
            background.astype(dtype), [sample], MixtureConfig(boost=boost), features=("a", "b")
        )
        single = background.astype(np.float32)
        score = trained.score(single)
        assert np.ptp(score) > 1
        assert np.array_equal(trained.score(single.astype(np.float64)), score)
        assert np.array_equal(trained.score(background), score)


def test_jets_with_few_particles_do_not_spoil_the_others() -> None:
    """In FastJet one jet of a single particle makes exclusive jets fail for a whole batch."""
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(5)
    eta, phi = rng.normal(0, 0.3, (2, 12))
    pt = rng.uniform(5, 50, 12)
    p4 = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)
    alone = n_subjettiness(*(values[2:] for values in p4), [10])
    mixed = n_subjettiness(*p4, [1, 0, 1, 10])
    assert mixed[3] == pytest.approx(alone[0])
    assert np.array_equal(mixed[:3], np.zeros((3, 3)))
    assert (alone > 0).all()


def test_the_tails_of_a_spline_density_are_where_the_data_are() -> None:
    """zuko's splines are the identity beyond 5: a width of 3 would have one in two million there instead of one in ten."""
    rng = np.random.default_rng(6)
    x, m = 3.0 * rng.normal(size=(4000, 1)), rng.uniform(2000, 5000, 4000)
    density = make_density(
        "spline", seed=0, hidden=16, layers=1, transforms=1, steps=120, batch_size=256
    ).fit(x.astype(np.float32), m)
    drawn = density.sample(m, rng=rng)
    beyond = float(np.mean(np.abs(drawn) > 5.0))
    assert beyond == pytest.approx(0.0956, abs=4 * np.sqrt(0.0956 / 4000) + 0.02)


def test_fractions_are_drawn_without_guessed_errors() -> None:
    """mplhep chooses error bars by a rule that it reads from the values, unless it is told."""
    edges = list(np.linspace(0, 4, 6))
    for values in ([0.5, 0.3, 0.1, 0.05, 0.05], [2.0, 3.0, 1.0, 4.0, 2.0]):
        figure = score_distribution(
            Scores(
                method="m",
                window=(1.0, 2.0),
                edges=edges,
                sideband=values,
                signal_region=values,
                truth_signal=values,
            )
        )
        assert not any(isinstance(c, ErrorbarContainer) for axes in figure.axes for c in axes.containers)
        plt.close(figure)
