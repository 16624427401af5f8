"""How wrong an expectation would have to be to explain an excess."""

from dataclasses import replace

import numpy as np
import pytest

from serendip.events.events import Window
from serendip.statistics.calibration import CalibratedP
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges
from serendip.statistics.margin import expectation_margin
from serendip.statistics.orders import combine_orders
from serendip.statistics.pvalues import z_value

WINDOW, RANGE, FOLDS = Window(3300.0, 3700.0), (2640.0, 5920.0), 5
LOW = RANGE[0]


def look(signal: int, combination: str = "sequential", seed: int = 1, **options):
    """A look with a cut at 3 % and ``signal`` events in the window that all pass it."""
    rng = np.random.default_rng(seed)
    u = rng.random(20_000)
    mass = (LOW**-6 + u * (RANGE[1] ** -6 - LOW**-6)) ** (-1 / 6)
    mass = np.concatenate([mass, np.full(signal, 3500.0)])
    selected = rng.random(len(mass)) < 0.03
    selected[20_000:] = True
    fold = rng.integers(0, FOLDS, len(mass))
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(mass, WINDOW, edges, "dijet:3")
    if combination == "weighted":
        ranked = np.where(selected & (fold > 0), 1.0 + fold, 0.0)
        options |= {"ranked": ranked}
        selected = ranked > 0
    return analyse_look(
        mass, fold, selected, WINDOW, edges, inclusive, n_folds=FOLDS, combination=combination, **options
    )


def enlarged(one, factor: float):
    """Z of the look if its expectation and its error were larger."""
    unit = one.spectrum.scale
    counts = (one.observed / unit, factor * one.expected / unit, factor * one.expected_error / unit)
    return float(z_value(log_p=float(one.tail.log_p(*counts)[0])))


@pytest.mark.parametrize("combination", ["sequential", "weighted", "kfold-summed"])
def test_with_so_much_more_background_three_sigma_are_left(combination):
    one = look(150, combination)
    margin = expectation_margin(one)
    assert one.z_local > 4
    assert 0.05 < margin < 2
    assert enlarged(one, 1 + margin) == pytest.approx(3, abs=0.01)
    assert expectation_margin(one, z=4.0) < margin < expectation_margin(look(250, combination))


def test_orders_are_combined_as_their_p_values_are():
    orders = [look(150, "weighted", seed) for seed in (1, 2)]
    together = combine_orders(orders)
    margins = [expectation_margin(one) for one in orders]
    margin = expectation_margin(together)
    assert min(margins) < margin < max(margins)
    at_three = [replace(one, log_p_local=float(np.log(0.5))) for one in orders]
    assert expectation_margin(combine_orders(at_three)) is None


def test_where_it_means_nothing_it_is_none():
    assert expectation_margin(look(0)) is None
    assert expectation_margin(look(150, "kfold-bonferroni")) is None
    assert expectation_margin(look(150, blinded=True)) is None
    calibrated = CalibratedP(1e-5, 4.3, (4.0, 4.6), 5.0, 1, 100_000, extrapolated=False)
    assert expectation_margin(replace(look(150), calibration=calibrated)) is None
