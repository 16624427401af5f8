"""Sinkhorn divergence against closed forms and a linear programme; maps that must find a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from serendip.density import make_density
from serendip.density.sinkhorn import transport_cost
from serendip.density.transport import Transport, frozen_log_density
from serendip.errors import InputError


def points(seed: int, *shape: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def divergence(x: torch.Tensor, y: torch.Tensor, blur: float) -> torch.Tensor:
    cost = [transport_cost(a, b, blur=blur) for a, b in ((x, y), (x, x), (y, y))]
    return cost[0] - 0.5 * cost[1] - 0.5 * cost[2]


@pytest.mark.parametrize("blur", [0.1, 1.0])
def test_divergence_of_a_translation_is_half_its_square(blur):
    x = points(0, 2, 60, 3)
    shift = torch.tensor([[1.0, -2.0, 0.5], [0.1, 0.0, 0.0]], dtype=torch.float64)[:, None]
    found = divergence(x, x + shift, blur)
    np.testing.assert_allclose(found, 0.5 * (shift**2).sum((1, 2)), rtol=1e-3, atol=5e-4)


def test_gradient_of_a_translation_is_the_translation():
    x = points(0, 1, 60, 2)
    shift = torch.tensor([0.7, -0.3], dtype=torch.float64, requires_grad=True)
    divergence(x + shift, x, 0.3).sum().backward()
    np.testing.assert_allclose(shift.grad, [0.7, -0.3], rtol=0.05)


def test_divergence_agrees_with_exact_optimal_transport():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 12, 2)), rng.normal(0.5, 1.0, size=(2, 15, 2))
    found = transport_cost(*map(torch.as_tensor, (x, y)), blur=0.02, scaling=0.98)
    for k in range(2):
        cost = 0.5 * ((x[k][:, None] - y[k][None]) ** 2).sum(-1)
        rows, columns = np.kron(np.eye(12), np.ones(15)), np.kron(np.ones(12), np.eye(15))
        marginals = np.repeat([1 / 12, 1 / 15], [12, 15])
        exact = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=marginals).fun
        assert float(found[k]) == pytest.approx(exact, rel=0.02)


def drifting(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four standard normal numbers; the correlation of the first two is 0.8 sin(u)."""
    rng = np.random.default_rng(seed)
    u, z = rng.uniform(-1.5, 1.5, n), rng.normal(size=(n, 4))
    rho = 0.8 * np.sin(u)
    z[:, 1] = rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
    return z, u, np.ones(n)


class Drifting:
    """The density of :func:`drifting`, exact."""

    def __call__(self, z: torch.Tensor, u: torch.Tensor, only: slice) -> torch.Tensor:
        rho = 0.8 * torch.sin(u)
        first, second = z[..., 0], z[..., 1]
        others = z[..., 2:].square().sum(-1)
        pull = (second - rho * first).square() / (1 - rho**2)
        return -0.5 * (first.square() + pull + others + torch.log(1 - rho**2)) - 2 * np.log(2 * np.pi)


@pytest.mark.parametrize("loss", ["likelihood", "sinkhorn"])
def test_events_carried_to_another_mass_have_its_correlation(loss):
    transport = Transport(between_masses=True, steps=150)
    transport.fit([drifting(4000, 0), drifting(2000, 1)], Drifting() if loss == "likelihood" else None)
    assert min(transport.gain) > 0.02
    fresh, u, _ = drifting(6000, 9)
    assert abs(np.corrcoef(fresh.T)[0, 1]) < 0.05
    for split in (0, 1):
        for target in (-1.2, 1.0):
            z = transport.apply(fresh, u, np.full(6000, target), split)
            assert np.corrcoef(z.T)[0, 1] == pytest.approx(0.8 * np.sin(target), abs=0.15)
            np.testing.assert_allclose(z.std(0), 1, atol=0.1)
        back = transport.invert(z, u, np.full(6000, target), split)
        assert np.quantile(np.abs(back - fresh), 0.999) < 1e-3


def test_map_to_another_sample_finds_shift_and_its_mass_dependence():
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, 4000)
    z = rng.normal(size=(4000, 2)) + np.column_stack([0.5 * u, np.full(4000, -0.3)])

    def standard_normal(z: torch.Tensor, u: torch.Tensor, only: slice) -> torch.Tensor:
        return -0.5 * z.square().sum(-1)

    # heavy weights on one side of the second feature move its mean
    weight = np.where(z[:, 1] > -0.3, 3.0, 1.0)
    transport = Transport(between_masses=False, steps=150, batch_size=256, learning_rate=3e-3)
    transport.fit([(z, u, np.ones(4000)), (z, u, weight)], standard_normal)
    for at in (-0.8, 0.8):
        noise, where = rng.normal(size=(4000, 2)), np.full(4000, at)
        found = transport.invert(noise, where, where, 0)
        np.testing.assert_allclose(found.mean(0), [0.5 * at, -0.3], atol=0.12)
        heavy = transport.invert(noise, where, where, 1)
        assert heavy[:, 1].mean() == pytest.approx(-0.3 + 0.5 * np.sqrt(2 / np.pi), abs=0.12)


def test_untrained_map_is_the_identity_and_splits_are_independent():
    one = Transport(between_masses=True, steps=1, learning_rate=0.0)
    z, u, w = drifting(1000, 0)
    one.fit([(z, u, w)], Drifting())
    np.testing.assert_allclose(one.apply(z, u, u[::-1].copy()), z, atol=1e-5)
    options = {"between_masses": True, "steps": 60, "batch_size": 64, "learning_rate": 5e-3}
    both = [
        Transport(**options).fit([(z, u, w), other], Drifting())
        for other in (drifting(500, 1), drifting(1500, 2))
    ]
    target = u[::-1].copy()
    first, second = (t.apply(z, u, target, 0) for t in both)
    assert both[0].gain[0] > 0
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(both[0].apply(z, u, target, 1), both[1].apply(z, u, target, 1))
    # events that stay at their mass stay what they are
    np.testing.assert_allclose(both[0].apply(z, u, u, 0), z, atol=1e-5)


def test_a_map_with_nothing_to_learn_stays_at_the_identity():
    def standard_normal(z: torch.Tensor, t: torch.Tensor, only: slice) -> torch.Tensor:
        return -0.5 * z.square().sum(-1)

    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(4000, 4)), rng.uniform(-1, 1, 4000)
    transport = Transport(between_masses=True, steps=100)
    transport.fit([(z, t, np.ones(4000))], standard_normal)
    assert np.sqrt(np.mean((transport.apply(z, t, t[::-1].copy()) - z) ** 2)) < 0.05


def test_base_density_is_that_of_the_trained_flow():
    z, u, _ = drifting(400, 0)
    m = 1000 * np.exp(0.2 * u)
    halves = np.arange(400) % 2 == np.arange(2)[:, None]
    for splits in (halves, halves[:1]):
        density = make_density("spline", steps=3, transforms=1).fit(z, m, splits=splits)
        log_density, _ = frozen_log_density(density)
        tensors = [torch.as_tensor(np.stack([a, a]), dtype=torch.float32) for a in (z, np.log(m))]
        found = log_density(*tensors, slice(None))
        for k in range(2):
            expected = density._latent_log_prob(
                z, density.transforms[-1 if k else 0].context(m), min(k, len(splits) - 1)
            )
            np.testing.assert_allclose(found[k].detach(), expected, atol=1e-4)
        assert all(p.requires_grad for p in density.network.parameters())


def test_what_cannot_be_learnt_from_is_explained():
    with pytest.raises(InputError, match="choose the density 'spline'"):
        frozen_log_density(make_density("flow-matching"))
    z, u, _ = drifting(400, 0)
    averaged = make_density("maf", steps=1, transforms=1, ensemble=2).fit(z, 1000 * np.exp(0.2 * u))
    with pytest.raises(InputError, match="one density for each split"):
        frozen_log_density(averaged)
    with pytest.raises(TypeError, match="needs the density"):
        Transport(between_masses=False).fit([drifting(100, 0)])
