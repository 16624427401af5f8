"""Preprocessing of densities: inverses, Jacobians, edges, and what it does to a density."""

from __future__ import annotations

import numpy as np
import pytest

from serendip.density import load_density, make_density
from serendip.density.logit import LogitTransform, StandardTransform
from serendip.density.transforms import FeatureTransform
from serendip.errors import InputError

ALL = {"quantile": FeatureTransform, "logit": LogitTransform, "standardise": StandardTransform}
NAMES = list(ALL)


def sample(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two correlated features, one skewed, whose means and widths move with the mass."""
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    position = np.log(m / 1000)
    a = rng.normal(size=n) * (1 + 0.3 * position) + position
    b = 0.7 * a + rng.exponential(size=n) - 1.5 * position
    return np.stack([100 + 20 * a, 0.1 * b], axis=1), m


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mass_dependence", [True, False])
def test_it_inverts_and_its_jacobian_is_exact(name, mass_dependence):
    rng = np.random.default_rng(0)
    x, m = sample(3000, rng)
    transform = ALL[name].fit(x, m, np.ones(3000), rng, mass_dependence=mass_dependence)
    # also the outermost training values and far outside
    x = np.concatenate([x, [[-500.0, 3.0], [900.0, -4.0], x.min(0), x.max(0)]])
    u = transform.context(np.append(m, [500.0, 9000.0, 1500.0, 1500.0]))
    z, log_jacobian = transform.forward(x, u)
    np.testing.assert_allclose(transform.inverse(z, u), x, rtol=1e-9)
    slopes = []
    for j, h in enumerate((1e-4, 1e-7)):
        step = h * np.eye(2)[j]
        up, down = transform.forward(x + step, u)[0], transform.forward(x - step, u)[0]
        slopes.append((up - down)[:, j] / (2 * h))
    numeric = np.log(np.prod(slopes, axis=0))
    # the curvature jumps at a knot of the spline or the end of the logit, so only there the two may differ
    difference = np.abs(log_jacobian - numeric)
    assert np.median(difference) < 1e-6
    assert np.quantile(difference, 0.995) < 1e-3
    assert difference.max() < 0.05
    inside = z[:3000]
    assert np.abs(inside.mean(0)).max() < 0.05
    assert np.abs(inside.std(0) - 1).max() < 0.05
    # with mass dependence the leading one is gone before any network sees it
    for j in range(2):
        left = abs(np.corrcoef(inside[:, j], u[:3000])[0, 1])
        assert (left < 0.03) if mass_dependence else (left > 0.1)


def test_only_the_choice_of_the_papers_leaves_the_mass_dependence_to_the_network():
    rng = np.random.default_rng(0)
    x, m = sample(3000, rng)
    for name in NAMES:
        transform = ALL[name].fit(x, m, np.ones(3000), rng)
        assert np.any(transform.mean[:, 1:] != 0) == (name != "logit")


def test_logit_is_the_formula_inside_the_training_range_and_a_straight_line_outside():
    rng = np.random.default_rng(0)
    x = np.concatenate([[[2.0], [12.0]], rng.uniform(2, 12, (998, 1))])
    transform = LogitTransform.fit(x, np.full(1000, 3e3), np.ones(1000), rng)
    u = np.zeros(1000)
    r = (x - 2 + 0.01) / 10.02
    logit = np.log(r / (1 - r))
    np.testing.assert_allclose(transform.forward(x, u)[0], (logit - logit.mean()) / logit.std(), atol=1e-9)
    line = transform.forward(np.linspace(12.0, 14.0, 1000)[:, None], u)[0][:, 0]
    np.testing.assert_allclose(np.diff(line), line[1] - line[0], rtol=1e-9)
    # 1 % of the range above the highest event: ten units of the logit
    outside = transform.forward(np.full((1000, 1), 12.1), u)[0][0, 0]
    assert (outside - line[0]) * logit.std() == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_weights_move_the_transform_and_spikes_come_back(name):
    rng = np.random.default_rng(0)
    x, m = sample(4000, rng)
    x[:800, 1] = 0.0
    weight = np.where(x[:, 0] > 120, 4.0, 1.0)
    transform = ALL[name].fit(x, m, weight, rng)
    u = transform.context(m)
    z, _ = transform.forward(transform.dequantise(x, rng), u)
    assert np.average(z[:, 0], weights=weight) == pytest.approx(0, abs=0.05)
    assert z[:, 0].mean() < -0.1
    assert len(np.unique(z[:800, 1])) > 790
    back = transform.inverse(z, u)
    assert np.all(back[:800, 1] == 0)
    np.testing.assert_allclose(back, x, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_density_uses_it_normalises_and_is_stored_with_it(name, tmp_path):
    rng = np.random.default_rng(0)
    m = 1000 + 500 * rng.random(3000)
    x = rng.exponential(30.0, (3000, 1))
    options = {"hidden": 16, "layers": 1, "transforms": 3, "steps": 150, "batch_size": 256}
    model = make_density("maf", seed=0, preprocessing=name, **options).fit(x, m)
    assert type(model.transforms[0]) is ALL[name]
    grid = np.linspace(-200, 900, 6001)
    density = np.exp(model.log_prob(grid[:, None], np.full(len(grid), 1300.0)))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=5e-3)
    model.save(tmp_path)
    again = load_density(tmp_path)
    assert type(again.transforms[0]) is ALL[name]
    assert np.array_equal(again.log_prob(x, m), model.log_prob(x, m))
    draws = [d.sample(m, rng=np.random.default_rng(1)) for d in (model, again)]
    assert np.array_equal(*draws)
    assert draws[0].mean() == pytest.approx(30.0, rel=0.1)
    other = make_density("maf", seed=0, preprocessing=name, mass_dependence=name == "logit", **options)
    assert np.abs(other.fit(x, m).log_prob(x, m) - model.log_prob(x, m)).max() > 1e-3


def test_an_unknown_one_is_named():
    with pytest.raises(InputError, match="choose one of: quantile, logit, standardise"):
        make_density("maf", preprocessing="whiten")
