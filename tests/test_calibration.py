"""False-positive rates of the whole statistics chain; the printed tables are those of docs/statistics.md.

``pytest -m slow -s tests/test_calibration.py``
"""

from __future__ import annotations

import numpy as np
import pytest

from serendip.events.events import Window
from serendip.search.folds import tie_breaker
from serendip.statistics.functions import efficiency_family, get_family
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges, window_bins
from serendip.statistics.many import fit_many
from serendip.statistics.pvalues import count_p_value
from serendip.statistics.ranks import cut_efficiency

pytestmark = pytest.mark.slow

WINDOW = Window(3300.0, 3700.0)
EDGES = make_edges((2640.0, 5920.0), WINDOW)
FOLDS = 10
ALPHAS = (0.05, 0.01)
COMBINATIONS = ("sequential", "sequential-stouffer", "kfold-bonferroni")

# working point, how the score depends on x = ln(m / 3500 GeV) and on the fold, whether events have weights
SCORES = {
    "flat, 1e-2": (0.01, lambda x, f: 0.0 * x, False),
    "flat, 1e-3": (0.001, lambda x, f: 0.0 * x, False),
    "flat, 1e-2, exponential weights": (0.01, lambda x, f: 0.0 * x, True),
    "flat, 1e-3, exponential weights": (0.001, lambda x, f: 0.0 * x, True),
    "peaked at the window, 1e-2": (0.01, lambda x, f: -1.5 * x**2, False),
    "peaked, more so in later folds, 1e-2": (0.01, lambda x, f: -0.4 * f * x**2, False),
    "rising with the mass, 1e-2": (0.01, lambda x, f: 0.8 * x, False),
}


def draw_masses(n: int, rng: np.random.Generator) -> np.ndarray:
    grid = np.geomspace(EDGES[0], EDGES[-1], 4001)
    density = get_family("dijet:4").value(grid, np.array([0.0, 10.0, 5.0, 0.5]))
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    return np.interp(rng.random(n) * cumulative[-1], cumulative, grid)


def chain(point, dependence, weighted, n_toys, seed, n_events=30_000):
    """Local p-values of background-only pseudo-experiments, thresholds per fold from its own sideband."""
    rng = np.random.default_rng(seed)
    p = {name: [] for name in COMBINATIONS}
    for _ in range(n_toys):
        mass = draw_masses(rng.poisson(n_events), rng)
        fold = rng.integers(0, FOLDS, len(mass))
        score = rng.normal(size=len(mass)) + dependence(np.log(mass / 3500.0), fold)
        weights = rng.exponential(size=len(mass)) if weighted else np.ones(len(mass))
        ties = tie_breaker(np.arange(len(mass)), seed)
        selected = cut_efficiency(score, fold, ~WINDOW.contains(mass), weights, ties) <= point
        inclusive = fit_inclusive(mass, WINDOW, EDGES, "dijet", weights=weights)
        for name, values in p.items():
            look = analyse_look(
                mass,
                fold,
                selected,
                WINDOW,
                EDGES,
                inclusive,
                n_folds=FOLDS,
                combination=name,
                weights=weights,
            )
            values.append(look.p_local)
    return {name: np.array(values) for name, values in p.items()}


def assert_nominal_or_below(p: np.ndarray, what: str) -> None:
    for alpha in ALPHAS:
        assert np.mean(p < alpha) < alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(p)), (what, alpha)


@pytest.mark.parametrize("name", SCORES)
def test_false_positive_rate_of_a_look(name):
    n_toys = 500
    for combination, p in chain(*SCORES[name], n_toys, seed=sum(name.encode())).items():
        rates = ", ".join(
            f"{np.mean(p < a):.3f} +- {np.sqrt(a * (1 - a) / n_toys):.3f} at {a:g}" for a in ALPHAS
        )
        print(f"\n| {name} | {combination} | {rates} |", end="")
        assert_nominal_or_below(p, f"{name} {combination}")


def test_false_positive_rate_by_the_orders_of_the_efficiency():
    """Why the curvature is always fitted: without it an undetected maximum in the window is an excess."""
    rng = np.random.default_rng(1)
    n_toys = 4000
    centre = np.sqrt(EDGES[1:] * EDGES[:-1])
    shape = get_family("dijet:4").value(centre, np.array([0.0, 10.0, 5.0, 0.0])) * np.diff(EDGES)
    mask = np.zeros(len(shape), dtype=bool)
    mask[slice(*window_bins(EDGES, WINDOW))] = True
    x = np.log(centre / 3500.0)
    families = {
        "0 to 2": efficiency_family(smallest=0, largest=2, prior_width=30.0),
        "1 to 2": efficiency_family(smallest=1, largest=2, prior_width=30.0),
        "2 to 3, no prior": efficiency_family(prior_width=30.0),
        "2 to 3 (used)": efficiency_family(),
    }
    for n_side in (8, 60, 400, 4000):
        for truth, log_efficiency in (("flat", 0 * x), ("x^2", 2 * x), ("exp(-4 ln^2)", -4 * x**2)):
            mean = shape * np.exp(log_efficiency)
            mean *= n_side / mean[~mask].sum()
            side = rng.poisson(np.where(mask, 0.0, mean), (n_toys, len(mean)))
            inside = rng.poisson(mean[mask].sum(), n_toys)
            for name, family in families.items():
                fits = fit_many(side, EDGES, family, mask=mask, offset=shape)
                p = count_p_value(inside, fits.window, fits.window_error)
                rates = " / ".join(f"{np.mean(p < a):.3f}" for a in ALPHAS)
                print(f"\n| {n_side} | {truth} | {name} | {rates} |", end="")
                if "used" in name:
                    assert_nominal_or_below(p, f"{n_side} {truth}")
