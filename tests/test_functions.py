"""Background functions: integrals against quadrature, derivatives, nesting, names."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from serendip.errors import InputError
from serendip.statistics.functions import efficiency_family, get_family, make_design

EDGES = np.geomspace(2000.0, 6000.0, 41)
SHAPES = {
    "dijet:3": [np.log(0.01), 8.0, 5.0],
    "dijet:4": [np.log(0.01), 8.0, 5.0, 0.3],
    "dijet:5": [np.log(0.01), 8.0, 5.0, 0.3, 0.1],
    "dijet:6": [np.log(0.01), 8.0, 5.0, 0.3, 0.1, 2.0],
    "turn-on:5": [np.log(0.01), -2300.0 / 200.0, 1000.0 / 200.0, 8.0, 5.0],
    "turn-on:7": [np.log(0.01), -2300.0 / 200.0, 1000.0 / 200.0, 8.0, 5.0, 0.3, 0.1],
    "altexp:3": [np.log(0.01), 6.0, 4.0],
    "altexp:5": [np.log(0.01), 6.0, 4.0, 0.4, 0.1],
    "altpower:4": [np.log(0.01), 4.0, 6.0, 3.0],
    "altpower:5": [np.log(0.01), 4.0, 6.0, 3.0, 5.0],
    "bernstein:1": [np.log(3000.0), np.log(200.0)],
    "bernstein:4": list(np.log([9000.0, 700.0, 900.0, 3.0, 40.0])),
    "exppoly:3": [1.0, -3.0, -0.5, 0.2],
    "exp:2": [1.0, -2.0, 0.4],
    "poly:2": [30.0, -7.0, 0.5],
}


def formula(spec: str, m: float, p: list[float], sqrt_s: float = 13000.0) -> float:
    """The functions as they are printed in the documentation."""
    x, low, high = m / sqrt_s, EDGES[0], EDGES[-1]
    if spec.partition(":")[0] in ("exppoly", "exp", "poly"):
        v = (2 * m - low - high) / (high - low)
        u = (2 * np.log(m) - np.log(low) - np.log(high)) / np.log(high / low) if "exppoly" in spec else v
        # T_k is the cosine of k times the angle
        series = sum(c * np.cos(k * np.arccos(u)) for k, c in enumerate(p))
        return float(series if spec.startswith("poly") else np.exp(series))
    if spec.startswith("bernstein"):
        # a Bernstein polynomial with its normalisation is a beta density
        n = len(p)
        t = (m - low) / (high - low)
        return sum(float(np.exp(c) * stats.beta.pdf(t, k + 1, n - k)) for k, c in enumerate(p)) / (high - low)
    if spec.startswith("altexp"):
        p = [*p, 0.0, 0.0]
        return float(np.exp(p[0] - p[1] * x) / x ** (p[2] + p[3] * np.log(x) + p[4] * np.log(x) ** 2))
    if spec.startswith("altpower"):
        p = [*p, 0.0, 0.0]
        return float(np.exp(p[0] - p[2] * x - p[3] * x**2 - p[4] * x**3) * x ** -p[1])
    if spec.startswith("turn-on"):
        width, place = 1000.0 / p[2], -1000.0 * p[1] / p[2]
        turn_on = 0.5 * (1.0 + np.tanh((m - place) / width))
        return turn_on * formula("dijet", m, [p[0], *p[3:]])
    p = [*p, 0.0, 0.0, 0.0]
    exponent = p[2] + p[3] * np.log(x) + p[4] * np.log(x) ** 2
    return float(np.exp(p[0]) * (1 - x) ** p[1] * x**-exponent * np.exp(-p[5] * x))


def coefficients(design, params):
    return np.linalg.solve(design.to_params, params)[None]


@pytest.mark.parametrize("spec", SHAPES)
def test_bin_integrals_agree_with_adaptive_quadrature(spec):
    params = SHAPES[spec]
    design = make_design(EDGES, get_family(spec))
    expected, _ = design.expected(coefficients(design, params))
    for i, (low, high) in enumerate(pairwise(EDGES)):
        assert expected[i, 0] == pytest.approx(
            quad(lambda m: formula(spec, m, params), low, high, epsrel=1e-12)[0], rel=1e-8
        )


@pytest.mark.parametrize("spec", SHAPES)
def test_value_is_the_documented_formula(spec):
    mass = np.array([2100.0, 3500.0, 5900.0])
    value = get_family(spec).on(EDGES).value(mass, np.array(SHAPES[spec]))
    assert value == pytest.approx([formula(spec, m, SHAPES[spec]) for m in mass], rel=1e-12)


def test_centre_of_bin_would_be_wrong_by_the_known_amount():
    # a power law m^-6 in a 20 % wide bin: the centre is low by about n (n+1) / 24 (w/m)^2
    low, high = 3000.0, 3000.0 * 1.1 / 0.9
    edges = np.array([low, high, 6000.0])
    family = get_family("exppoly:1").on(edges)
    design = make_design(edges, family)
    params = np.array([0.0, -6.0 * np.log(2.0) / 2.0])
    integral = design.expected(coefficients(design, params))[0][0, 0]
    centre = family.value(np.array(0.5 * (low + high)), params) * (high - low)
    assert 1 - centre / integral == pytest.approx(6 * 7 / 24 * 0.2**2, rel=0.05)


@pytest.mark.parametrize("spec", SHAPES)
def test_derivatives_agree_with_finite_differences(spec):
    design = make_design(EDGES, get_family(spec))
    theta = coefficients(design, SHAPES[spec])
    _, jacobian = design.expected(theta)
    for k in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, k] = 1e-5
        difference = (design.expected(theta + step)[0] - design.expected(theta - step)[0]) / 2e-5
        assert jacobian[:, 0, k] == pytest.approx(
            difference[:, 0], rel=1e-6, abs=1e-8 * np.abs(jacobian).max()
        )


@pytest.mark.parametrize("spec", ["turn-on:5", "turn-on:7", "bernstein:4"])
def test_second_derivatives_agree_with_finite_differences(spec):
    design = make_design(EDGES, get_family(spec))
    theta = coefficients(design, SHAPES[spec])
    factor = np.random.default_rng(1).normal(size=(40, 1))
    second = design.curvature(theta, factor)[0]
    for k in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, k] = 1e-5
        slope = (design.expected(theta + step)[1] - design.expected(theta - step)[1])[:, 0] / 2e-5
        assert second[k] == pytest.approx(factor[:, 0] @ slope, rel=1e-5, abs=1e-7 * np.abs(second).max())


def test_bernstein_factors_add_up_to_the_events_in_the_range():
    design = make_design(EDGES, get_family("bernstein:4"))
    expected = design.expected(coefficients(design, SHAPES["bernstein:4"]))[0]
    assert expected.sum() == pytest.approx(np.exp(SHAPES["bernstein:4"]).sum(), rel=1e-9)


def test_bernstein_without_a_range_is_a_programming_error():
    with pytest.raises(ValueError, match="fit range"):
        get_family("bernstein:2").value(np.array([3000.0]), np.zeros(3))


def test_turn_on_is_half_way_up_at_its_place():
    p = SHAPES["turn-on:5"]
    with_it = get_family("turn-on:5").value(np.array([2100.0, 2300.0, 2500.0, 5000.0]), np.array(p))
    without = get_family("dijet:3").value(
        np.array([2100.0, 2300.0, 2500.0, 5000.0]), np.array([p[0], *p[3:]])
    )
    assert with_it / without == pytest.approx([0.5 * (1 - np.tanh(1)), 0.5, 0.5 * (1 + np.tanh(1)), 1.0])


def test_smallest_alternatives_are_one_function():
    mass = np.linspace(2000.0, 6000.0, 9)
    one = get_family("altexp:3").value(mass, np.array([1.0, 6.0, 4.0]))
    assert get_family("altpower:3").value(mass, np.array([1.0, 4.0, 6.0])) == pytest.approx(one, rel=1e-12)


def test_start_values_are_near_the_truth():
    for spec, params in SHAPES.items():
        design = make_design(EDGES, get_family(spec))
        theta = coefficients(design, params)
        theta[0, 0] += 6.0 if design.log_linear else 0.0
        mu = design.expected(theta)[0]
        started = design.expected(design.start(mu))[0]
        assert np.abs(started - mu).sum() < 0.35 * mu.sum(), spec


def test_standardised_basis_is_orthonormal_and_nested():
    design = make_design(EDGES, get_family("dijet"))
    assert design.n_parameters == 6
    centre = design.basis[:, 2]  # the middle Gauss node is the bin centre
    assert centre.T @ centre / len(centre) == pytest.approx(np.eye(6), abs=1e-5)
    theta = np.array([[5.0, 1.0, -0.3]])
    padded = np.pad(theta, ((0, 0), (0, 3)))
    assert design.order(3).expected(theta)[0] == pytest.approx(design.expected(padded)[0], rel=1e-12)


def test_many_coefficient_vectors_are_evaluated_row_by_row():
    design = make_design(EDGES, get_family("dijet:4"))
    theta = np.random.default_rng(0).normal(0, 0.5, (7, 4))
    expected, jacobian = design.expected(theta)
    for t in range(7):
        one, slope = design.expected(theta[t : t + 1])
        assert expected[:, t] == pytest.approx(one[:, 0], rel=1e-13)
        assert jacobian[:, t] == pytest.approx(slope[:, 0], rel=1e-12)


def test_offset_multiplies_the_mean_of_the_function():
    offset = np.linspace(500.0, 10.0, 40)
    family = efficiency_family()
    design = make_design(EDGES, family, offset)
    params = np.array([-4.0, 0.5, -0.2, 0.0])
    expected = design.expected(coefficients(design, params))[0][:, 0]
    widths = np.diff(EDGES)
    plain = make_design(EDGES, family).expected(coefficients(make_design(EDGES, family), params))[0][:, 0]
    assert expected == pytest.approx(offset * plain / widths, rel=1e-12)


def test_too_few_bins_limit_the_order():
    assert make_design(np.array([3000.0, 3100.0, 3200.0, 3300.0]), get_family("dijet")).n_parameters == 3


@given(scale=st.floats(0.1, 10.0))
@settings(max_examples=25, deadline=None)
def test_dijet_depends_only_on_the_ratio_of_mass_and_collision_energy(scale):
    params = np.array([0.0, 8.0, 5.0, 0.3])
    mass = np.array([2500.0, 5000.0])
    reference = get_family("dijet:4", 13000.0).value(mass, params)
    assert get_family("dijet:4", 13000.0 * scale).value(mass * scale, params) == pytest.approx(
        reference, rel=1e-9
    )


def test_parameter_counts_include_the_normalisation():
    assert get_family("dijet").members == ("dijet-4", "dijet-5", "dijet-6")
    assert get_family("dijet").n_parameters == (4, 5, 6)
    assert get_family("dijet:5").n_parameters == (5,)
    assert get_family("poly:3").n_parameters == (4,)
    assert get_family("exppoly:2").n_parameters == (3,)
    assert get_family("exppoly").n_parameters == tuple(range(4, 10))
    assert len(get_family("dijet").parameter_names) == 6
    assert get_family("turn-on").n_parameters == (6, 7)
    assert get_family("turn-on:5").parameter_names == ("ln p0", "t0", "t1", "p1", "p2")
    assert get_family("altexp").members == ("altexp-4", "altexp-5")
    assert get_family("altpower:3").n_parameters == (3,)
    assert get_family("bernstein:3").n_parameters == (4,)
    assert get_family("exp").n_parameters == tuple(range(3, 10))


@pytest.mark.parametrize(
    ("low", "high", "highest"),
    [(9.0, 9.7, 2), (60.0, 120.0, 3), (60.0, 130.0, 4), (2000.0, 9000.0, 6), (0.2, 200.0, 8)],
)
def test_auto_bends_only_on_the_scale_of_a_background(low, high, highest):
    family = get_family("auto").on(np.linspace(low, high, 50))
    degrees = tuple(range(2, highest + 1))
    assert family.members == tuple(f"{name}-{d}" for name in ("exppoly", "exp") for d in degrees)
    assert family.on(np.linspace(low, high, 20)).members == family.members


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "cubic",
        "dijet:2",
        "dijet:7",
        "poly",
        "poly:9",
        "poly:-1",
        "exppoly:0",
        "dijet:x",
        "turn-on:4",
        "turn-on:8",
        "altexp:2",
        "altpower:6",
        "bernstein",
        "bernstein:0",
        "bernstein:9",
        "dijet:²",
    ],
)
def test_unknown_names_list_the_choices(spec):
    with pytest.raises(InputError, match="dijet:N") as error:
        get_family(spec)
    assert f"'{spec}'" in str(error.value)


def test_masses_beyond_the_collision_energy_are_refused_with_numbers():
    with pytest.raises(InputError, match=r"8000 GeV.*13000|13000.*8000"):
        make_design(np.geomspace(2000.0, 13000.0, 10), get_family("dijet", 8000.0))
    make_design(np.geomspace(2000.0, 13000.0, 10), get_family("exppoly", 8000.0))


@pytest.mark.parametrize("sqrt_s", [0.0, -1.0, float("nan")])
def test_collision_energy_must_be_positive(sqrt_s):
    with pytest.raises(InputError, match="positive"):
        get_family("dijet", sqrt_s)


@pytest.mark.parametrize("edges", [[2000.0, 1000.0], [1000.0, 1000.0], [1000.0, np.nan]])
def test_edges_must_rise(edges):
    with pytest.raises(InputError, match="rising"):
        make_design(np.array(edges), get_family("exppoly:1"))
