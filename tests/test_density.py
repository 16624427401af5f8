"""Density models against known densities, integrals and automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import TINY_DENSITIES as TINY
from scipy.special import ndtr
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from serendip.density import load_density, make_density
from serendip.density.flow_matching import FlowMatching
from serendip.density.mlp import BatchedMLP, divergence
from serendip.errors import InputError

SMALL = {
    "flow-matching": {"hidden": 48, "layers": 2, "steps": 600, "batch_size": 512},
    "spline": {"hidden": 32, "layers": 2, "transforms": 2, "steps": 300, "batch_size": 512},
    "spline-coupling": {"hidden": 32, "layers": 2, "transforms": 3, "steps": 180, "batch_size": 512},
    "maf": {"hidden": 32, "layers": 1, "transforms": 5, "steps": 300, "batch_size": 512},
}
KINDS = list(SMALL)
FLOWS = KINDS[1:]


def masses(n: int, rng: np.random.Generator) -> np.ndarray:
    return 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25


def truth(m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two correlated features whose means and widths move with the mass, in a mixture of two components."""
    position = np.log(m / 1000)
    second = rng.random(len(m)) < 0.3
    a = rng.normal(size=len(m)) * (1 + 0.3 * position) + position + 2.5 * second
    b = 0.7 * a + 0.5 * rng.normal(size=len(m)) - 1.5 * position
    return np.stack([100 + 20 * a, 0.1 * b], axis=1)


def log_truth(x: np.ndarray, m: np.ndarray) -> np.ndarray:
    position = np.log(m / 1000)
    a, b = (x[:, 0] - 100) / 20, x[:, 1] / 0.1
    width = 1 + 0.3 * position

    def normal(value: np.ndarray, mean: np.ndarray, sd: np.ndarray | float) -> np.ndarray:
        return np.exp(-0.5 * ((value - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))

    p_a = 0.7 * normal(a, position, width) + 0.3 * normal(a, position + 2.5, width)
    return np.log(p_a * normal(b, 0.7 * a - 1.5 * position, 0.5) / (20 * 0.1))


def two_sample_auc(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    x, y = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    test = rng.random(len(y)) < 0.5
    trees = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=12, min_samples_leaf=50, random_state=0
    )
    scores = trees.fit(x[~test], y[~test]).decision_function(x[test])
    n0, n1 = (np.count_nonzero(y[test] == k) for k in (0, 1))
    return roc_auc_score(y[test], scores), np.sqrt((n0 + n1 + 1) / (12 * n0 * n1))


@pytest.fixture(scope="module")
def masked():
    """Densities trained outside the window 1400-1600, for all tests that only look at a good fit."""
    rng = np.random.default_rng(1)
    m = masses(24_000, rng)
    x = truth(m, rng)
    side = (m < 1400) | (m > 1600)
    return {kind: make_density(kind, seed=3, **SMALL[kind]).fit(x[side], m[side]) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_known_density_is_recovered_inside_a_masked_window(masked, kind):
    rng = np.random.default_rng(2)
    m = rng.uniform(1400, 1600, 20_000)
    real = truth(m, rng)
    auc, error = two_sample_auc(real, masked[kind].sample(m, rng=rng))
    assert abs(auc - 0.5) < 4 * error + 0.015
    # the mass matters: samples made at the wrong mass are told apart at once
    wrong, _ = two_sample_auc(real, masked[kind].sample(m * 0.75, rng=rng))
    assert wrong > 0.55
    # Kullback-Leibler distance to the truth, in nats per event
    distance = np.mean(log_truth(real, m) - masked[kind].log_prob(real, m))
    assert 0 <= distance < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_width_follow_the_mass_through_the_masked_window(masked, kind):
    n = 4000
    for mass in (1420.0, 1500.0, 1580.0):
        position = np.log(mass / 1000)
        drawn = (masked[kind].sample(np.full(n, mass), rng=np.random.default_rng(5))[:, 0] - 100) / 20
        width = np.sqrt((1 + 0.3 * position) ** 2 + 0.3 * 0.7 * 2.5**2)
        assert drawn.mean() == pytest.approx(position + 0.3 * 2.5, abs=4 * width / np.sqrt(n) + 0.03)
        assert drawn.std() == pytest.approx(width, rel=0.06)


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one_in_two_dimensions(masked, kind):
    a, b = np.linspace(20, 260, 100), np.linspace(-0.6, 0.8, 100)
    grid = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    for mass in (1100.0, 1500.0):
        density = np.exp(masked[kind].log_prob(grid, np.full(len(grid), mass)))
        assert density.dtype == np.float64
        assert density.sum() * (a[1] - a[0]) * (b[1] - b[0]) == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one_in_one_dimension(kind):
    rng = np.random.default_rng(0)
    m = masses(4000, rng)
    x = rng.exponential(30.0, (4000, 1))
    model = make_density(kind, seed=0, **TINY[kind]).fit(x, m)
    grid = np.linspace(-150, 900, 10_001)
    density = np.exp(model.log_prob(grid[:, None], np.full(len(grid), 1300.0)))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_latent_of_data_is_standard_normal_and_agrees_with_the_density(masked, kind):
    rng = np.random.default_rng(4)
    m = masses(8000, rng)
    x = truth(m, rng)
    z = masked[kind].to_latent(x, m)
    assert np.abs(z.mean(0)).max() < 0.06
    assert np.abs(np.cov(z.T) - np.eye(2)).max() < 0.06
    # p(x|m) = N(z) |dz/dx|, with the Jacobian by finite differences
    x, m = x[:50], m[:50]
    z = z[:50]
    step = np.array([1e-4, 1e-7])
    columns = [
        (
            masked[kind].to_latent(x + np.eye(2)[j] * step, m)
            - masked[kind].to_latent(x - np.eye(2)[j] * step, m)
        )
        / (2 * step[j])
        for j in range(2)
    ]
    jacobian = np.abs(np.linalg.det(np.stack(columns, axis=-1)))
    expected = -0.5 * (z**2).sum(1) - np.log(2 * np.pi) + np.log(jacobian)
    # the flow's density integrates the divergence with a finite number of steps
    np.testing.assert_allclose(
        masked[kind].log_prob(x, m), expected, atol=2e-2 if kind == "flow-matching" else 1e-4
    )


def test_samples_go_back_to_the_noise_they_came_from(masked):
    m = np.linspace(1000, 2900, 500)
    for kind in KINDS:
        noise = np.random.default_rng(7).standard_normal((500, 2))
        x = masked[kind].sample(m, rng=np.random.default_rng(7))
        # 16 midpoint steps of the flow-matching ODE; float32 rounding of the samples of flows
        np.testing.assert_allclose(
            masked[kind].to_latent(x, m), noise, atol=0.03 if kind == "flow-matching" else 2e-3
        )


def test_flow_matching_comes_back_more_closely_with_more_ode_steps(masked):
    model, m = masked["flow-matching"], np.linspace(1000, 2900, 200)
    noise = np.random.default_rng(7).standard_normal((200, 2))
    quick = model.sample(m, rng=np.random.default_rng(7))
    before = model.ode_steps, model.sample_steps
    model.ode_steps = model.sample_steps = 200
    x = model.sample(m, rng=np.random.default_rng(7))
    errors = np.abs(model.to_latent(x, m) - noise)
    model.ode_steps, model.sample_steps = before
    assert errors.max() < 2e-3
    assert 0 < np.sqrt(np.mean(((quick - x) / x.std(0)) ** 2)) < 5e-3


@pytest.mark.parametrize("kind", FLOWS)
def test_a_flow_is_inverted_and_its_determinant_is_that_of_the_jacobian(masked, kind):
    network = masked[kind].network
    generator = torch.Generator().manual_seed(0)
    z = 1.5 * torch.randn(1, 40, 2, generator=generator, dtype=torch.float64)
    z[0, 0] = 8.0  # outside the splines
    c = torch.randn(1, 40, 3, generator=generator, dtype=torch.float64)
    network.double()
    try:
        with torch.no_grad():
            noise, log_determinant = network.to_noise(z, c)
            back = network.from_noise(noise, c)
        np.testing.assert_allclose(back, z, rtol=1e-6, atol=1e-9)
        for i in range(0, 40, 8):
            jacobian = torch.autograd.functional.jacobian(
                lambda row, i=i: network.to_noise(row[None, None], c[:, i : i + 1])[0][0, 0], z[0, i]
            )
            assert float(log_determinant[0, i]) == pytest.approx(float(torch.logdet(jacobian)), abs=1e-8)
    finally:
        network.float()


def test_a_bridged_density_has_none_of_the_signal_in_the_window():
    rng = np.random.default_rng(3)
    m = masses(16_000, rng)
    x = rng.normal(size=(16_000, 1)) + np.log(m / 1000)[:, None]
    blob = rng.normal(4.0, 0.2, (700, 1)), rng.normal(1500, 25, 700)
    options = {"hidden": 48, "layers": 2, "steps": 900, "batch_size": 512, "learning_rate": 4e-3}
    model = FlowMatching(seed=0, frequencies=4, **options).fit(
        np.concatenate([x, blob[0]]), np.concatenate([m, blob[1]])
    )
    bridged = model.bridged(1350.0, 1650.0)
    grid = np.linspace(-8, 9, 801)
    at = np.full(801, 1500.0)
    inside = np.abs(grid - 4) < 0.6
    own, other = (np.exp(d.log_prob(grid[:, None], at)) for d in (model, bridged))
    step = grid[1] - grid[0]
    # background alone: N(ln 1.5, 1) has 0.0014 there; the blob is a third of all events at 1500 GeV
    assert own[inside].sum() * step > 0.1
    assert other[inside].sum() * step < 0.02
    assert other.sum() * step == pytest.approx(1, abs=0.01)
    assert np.sum(grid * other) * step == pytest.approx(np.log(1.5), abs=0.12)
    # samples too, and nothing changes outside
    assert np.mean(np.abs(bridged.sample(np.full(4000, 1500.0), rng=rng) - 4) < 0.6) < 0.02
    outside = np.array([1100.0, 1340.0, 1660.0])
    assert np.array_equal(model.log_prob(x[:3], outside), bridged.log_prob(x[:3], outside))


def test_only_flow_matching_can_be_bridged():
    with pytest.raises(InputError, match="use flow-matching"):
        make_density("maf").bridged(1.0, 2.0)


def test_more_ode_steps_change_the_density_less_and_less(masked):
    model = masked["flow-matching"]
    rng = np.random.default_rng(4)
    m = masses(500, rng)
    x = truth(m, rng)
    values, before = {}, model.ode_steps
    for n in (4, 16, 128):
        model.ode_steps = n
        values[n] = model.log_prob(x, m)
    model.ode_steps = before
    errors = [np.abs(values[n] - values[128]).mean() for n in (4, 16)]
    assert errors[1] < errors[0] / 8 < 0.05


def test_divergence_equals_automatic_differentiation():
    network = BatchedMLP(2, [5, 16, 16, 3], seed=1).double()
    with torch.no_grad():
        network.weights[-1].normal_(generator=torch.Generator().manual_seed(1))
    h = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layers = [(w[1], b[1]) for w, b in zip(network.weights, network.biases, strict=True)]
    output, trace = divergence(layers, h, torch.ones(7, 3, dtype=torch.float64))
    output, trace = output.detach(), trace.detach()
    for i in range(7):
        jacobian = torch.autograd.functional.jacobian(lambda row: network(row.expand(2, 1, 5))[1, 0], h[i])
        assert float(trace[i]) == pytest.approx(float(torch.trace(jacobian[:, :3])), abs=1e-12)
        np.testing.assert_allclose(
            output[i].detach(), network(h[i].expand(2, 1, 5))[1, 0].detach(), atol=1e-12
        )


def test_gradients_of_the_batched_network_are_exact():
    network = BatchedMLP(3, [4, 6, 5, 2], seed=1).double()
    with torch.no_grad():
        for p in (*network.weights, *network.biases):
            p.normal_(generator=torch.Generator().manual_seed(1))
    h = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameters = dict(network.named_parameters())

    def output(h, *values, only=slice(None)):
        return torch.func.functional_call(network, dict(zip(parameters, values, strict=True)), (h, only))

    inputs = [t.detach().clone().requires_grad_() for t in (h, *parameters.values())]
    assert torch.autograd.gradcheck(output, inputs)
    assert torch.autograd.gradcheck(lambda h, *v: output(h[:1], *v, only=slice(1, 2)), inputs)
    one_by_one = h
    for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        one_by_one = torch.einsum("kni,kio->kno", one_by_one, w) + b
        one_by_one = one_by_one * torch.sigmoid(one_by_one) if i < 2 else one_by_one
    np.testing.assert_allclose(network(h).detach(), one_by_one.detach(), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_events_outside_the_training_range_are_improbable_but_finite(masked, kind):
    x = np.array([[130.0, 0.05], [600.0, 0.05], [1e9, -1e9], [-300.0, 0.0]])
    m = np.array([1200.0, 1200.0, 1e6, 1.0])
    values = masked[kind].log_prob(x, m)
    assert np.all(np.isfinite(values))
    assert np.all(values[1:] < values[0] - 10)
    assert np.all(np.isfinite(masked[kind].to_latent(x, m)))


@pytest.mark.parametrize("kind", KINDS)
def test_heavy_tails_and_exact_zeros_stay_finite(kind):
    rng = np.random.default_rng(0)
    m = masses(2000, rng)
    x = np.stack(
        [rng.standard_cauchy(2000), np.where(rng.random(2000) < 0.4, 0.0, rng.exponential(size=2000))], 1
    )
    x[:3] = [[1e8, 0.0], [-1e8, 1e5], [0.0, 0.0]]
    for preprocessing in ("quantile", "logit", "standardise"):
        model = make_density(kind, seed=0, preprocessing=preprocessing, **TINY[kind]).fit(x, m)
        far = np.concatenate([x, [[1e12, -1e12], [-1e12, 1e12]]])
        at = np.append(m, [1e7, 1.0])
        assert np.all(np.isfinite(model.log_prob(far, at)))
        assert np.all(np.isfinite(model.to_latent(far, at)))
        assert np.all(np.isfinite(model.sample(m, rng=rng)))


def test_spikes_are_learnt_and_come_back_as_spikes():
    rng = np.random.default_rng(0)
    m = masses(6000, rng)
    x = np.stack(
        [np.where(rng.random(6000) < 0.2, 0.0, rng.exponential(1.0, 6000)), rng.poisson(4, 6000)], axis=1
    )
    x[:5, 0] = -1e-5
    model = FlowMatching(seed=0, **SMALL["flow-matching"]).fit(x, m)
    drawn = model.sample(m, rng=rng)
    assert np.mean(drawn[:, 0] == 0) == pytest.approx(0.2, abs=0.03)
    common = [2, 3, 4, 5, 6]
    assert np.isin(np.round(drawn[:, 1], 9), np.arange(20)).mean() > 0.98
    for value in common:
        assert np.mean(drawn[:, 1] == value) == pytest.approx(np.mean(x[:, 1] == value), abs=0.03)
    assert np.all(np.isfinite(model.log_prob(x, m)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_depends_on_the_events_of_its_split_only(kind):
    rng = np.random.default_rng(0)
    m = masses(1500, rng)
    x = truth(m, rng)
    splits = np.stack([np.arange(1500) < 500, np.arange(1500) < 1000, np.arange(1500) >= 300])
    first = make_density(kind, seed=1, **TINY[kind]).fit(x, m, splits=splits)
    other = x.copy()
    other[500:] *= 3.0
    weight = np.where(np.arange(1500) >= 500, 5.0, 1.0)
    second = make_density(kind, seed=1, **TINY[kind]).fit(other, m, weight=weight, splits=splits)
    grid, at = x[:100], m[:100]
    assert np.array_equal(first.log_prob(grid, at, 0), second.log_prob(grid, at, 0))
    for k in (1, 2):
        assert np.abs(first.log_prob(grid, at, k) - second.log_prob(grid, at, k)).max() > 0.1
    # models of the same events would differ by their seeds only: they are not copies of each other
    assert np.abs(first.log_prob(grid, at, 0) - first.log_prob(grid, at, 1)).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_models_can_be_arranged_anew_and_repeated(kind):
    rng = np.random.default_rng(0)
    m = masses(1000, rng)
    x = truth(m, rng)
    splits = np.stack([np.arange(1000) < 500, np.arange(1000) >= 500])
    options = TINY[kind] | {"ensemble": 2}
    model = make_density(kind, seed=1, **options).fit(x, m, splits=splits)
    arranged = model.arranged(np.array([1, 0, 1]))
    for new, old in enumerate((1, 0, 1)):
        np.testing.assert_array_equal(
            arranged.log_prob(x[:50], m[:50], new), model.log_prob(x[:50], m[:50], old)
        )
    np.testing.assert_array_equal(
        arranged.sample(m, 2, rng=np.random.default_rng(3)), model.sample(m, 1, rng=np.random.default_rng(3))
    )
    assert len(arranged.transforms) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_weights_change_the_density_as_copies_of_the_events_would(kind):
    rng = np.random.default_rng(0)
    m = masses(12_000, rng)
    x = rng.normal(size=(12_000, 1))
    weight = ndtr(3 * x[:, 0])
    model = make_density(kind, seed=1, **TINY[kind] | {"batch_size": 256}).fit(x, m, weight=weight)
    mean = np.average(x[:, 0], weights=weight)
    assert mean > 0.6
    assert model.sample(m, rng=rng).mean() == pytest.approx(mean, abs=0.03)
    none = make_density(kind, seed=1, **TINY[kind]).fit(
        x[:1000], m[:1000], weight=np.where(x[:1000, 0] > 0, 1.0, 0.0)
    )
    only = make_density(kind, seed=1, **TINY[kind]).fit(x[:1000][x[:1000, 0] > 0], m[:1000][x[:1000, 0] > 0])
    assert np.array_equal(none.log_prob(x[:50], m[:50]), only.log_prob(x[:50], m[:50]))


def test_weights_enter_the_batches_and_not_only_the_transform():
    # a conditional weight that leaves each marginal as it is but correlates the features
    rng = np.random.default_rng(0)
    m = masses(12_000, rng)
    x = rng.normal(size=(12_000, 2))
    weight = ndtr(4 * x[:, 0] * x[:, 1])
    # batches are common to all flows
    for kind in ("flow-matching", "maf"):
        model = make_density(kind, seed=1, **SMALL[kind] | {"steps": 150}).fit(x, m, weight=weight)
        expected = np.average(x[:, 0] * x[:, 1], weights=weight)
        assert expected > 0.5
        assert np.mean(np.prod(model.sample(m, rng=rng), axis=1)) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_everything_and_a_saved_model_is_the_same_model(kind, tmp_path):
    rng = np.random.default_rng(0)
    m = masses(1000, rng)
    x = truth(m, rng)
    splits = np.stack([np.arange(1000) < 600, np.arange(1000) > 300])
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    first = make_density(kind, seed=1, **TINY[kind]).fit(x, m, splits=splits)
    state = torch.get_rng_state()
    again = make_density(kind, seed=1, **TINY[kind]).fit(x, m, splits=splits)
    assert torch.equal(state, torch.get_rng_state())
    other = make_density(kind, seed=2, **TINY[kind]).fit(x, m, splits=splits)
    assert np.array_equal(first.log_prob(x, m, 1), again.log_prob(x, m, 1))
    assert not np.array_equal(first.log_prob(x, m, 1), other.log_prob(x, m, 1))
    first.save(tmp_path / "model")
    loaded = load_density(tmp_path / "model")
    assert type(loaded) is type(first)
    for k in (0, 1):
        assert np.array_equal(first.log_prob(x, m, k), loaded.log_prob(x, m, k))
        draws = [d.sample(m, k, rng=np.random.default_rng(9)) for d in (first, loaded)]
        assert np.array_equal(*draws)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["density.json", "density.safetensors"]
    with pytest.raises(InputError, match="contains no density"):
        load_density(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_weights_by_validation_are_kept(kind):
    # far too many steps on few events: the last weights are overtrained, the kept ones must not be
    rng = np.random.default_rng(0)
    m = masses(400, rng)
    x = truth(m, rng)
    options = SMALL[kind] | {"steps": 120, "batch_size": 200, "learning_rate": 1e-2}
    model = make_density(kind, seed=1, **options, validation_fraction=0.3).fit(x, m)
    m_new = masses(4000, rng)
    x_new = truth(m_new, rng)
    assert np.mean(log_truth(x_new, m_new) - model.log_prob(x_new, m_new)) < 0.25


def test_bad_input_is_explained():
    rng = np.random.default_rng(0)
    m = masses(200, rng)
    x = truth(m, rng)
    model = FlowMatching(**TINY["flow-matching"])
    broken = x.copy()
    broken[7, 1] = np.nan
    with pytest.raises(InputError, match="feature number 2 is not finite in row 7"):
        model.fit(broken, m)
    with pytest.raises(InputError, match="mass must be a positive number; row 3"):
        model.fit(x, np.where(np.arange(200) == 3, -1.0, m))
    with pytest.raises(InputError, match="row 5 has -1"):
        model.fit(x, m, weight=np.where(np.arange(200) == 5, -1.0, 1.0))
    with pytest.raises(InputError, match="split 1 has 10"):
        model.fit(x, m, splits=np.stack([np.ones(200, bool), np.arange(200) < 10]))
    with pytest.raises(InputError, match="feature number 1 is constant"):
        model.fit(x * [0, 1] + 2, m)
    with pytest.raises(InputError, match="choose one of: flow-matching, spline, spline-coupling, maf"):
        make_density("gmm")
    with pytest.raises(InputError, match="diverged"):
        FlowMatching(**TINY["flow-matching"] | {"learning_rate": 1e30}).fit(x, m)
