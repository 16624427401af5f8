"""Autoencoders, deep SVDD, DAGMM and sets: what their scores measure, and that each option does something."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from serendip.errors import InputError
from serendip.outliers import (
    Autoencoder,
    Dagmm,
    DeepSetVAE,
    DeepSVDD,
    PlanarFlowVAE,
    VariationalAutoencoder,
    load_score,
)
from serendip.outliers.vae import _Network

D = 20
MIXING = np.random.default_rng(99).normal(size=(4, D))


def plane(n, rng, off=0.2):
    """Background near a plane of four dimensions."""
    return rng.normal(size=(n, 4)) @ MIXING + off * rng.normal(size=(n, D))


def auc(score, background, signal):
    values = score.score_samples(np.concatenate([background, signal]))
    return roc_auc_score(np.repeat([0, 1], [len(background), len(signal)]), values)


@pytest.mark.parametrize(
    "score",
    [
        Autoencoder((32,), 4, steps=250),
        VariationalAutoencoder(
            4, 0.01, measure="reconstruction", hidden=(32,), steps=300, learning_rate=3e-3
        ),
        PlanarFlowVAE(4, flows=2, hidden=(32,), steps=300, learning_rate=3e-3),
    ],
    ids=lambda score: type(score).__name__,
)
def test_reconstruction_sees_what_leaves_the_plane(score):
    """Off the plane by 0.6 instead of 0.2: the distance to it, chi-squared with 16 dimensions, separates all but 1e-6."""
    rng = np.random.default_rng(1)
    score.fit(plane(2000, rng))
    assert auc(score, plane(1000, rng), plane(1000, rng, off=0.6)) > 0.95
    assert auc(score, plane(1000, rng), plane(1000, rng)) == pytest.approx(0.5, abs=0.04)


def test_radius_with_beta_one_sends_background_to_the_target():
    rng = np.random.default_rng(2)
    score = VariationalAutoencoder(5, hidden=(32,), steps=300).fit(plane(1500, rng))
    background, far = plane(500, rng), 4 * plane(500, rng)
    assert np.median(score.score_samples(background)) < 0.2
    assert auc(score, background, far) > 0.95
    mean, _, _ = score._network.encode(torch.as_tensor(score._standardiser.transform(far)))
    np.testing.assert_allclose(score.score_samples(far), np.linalg.norm(mean.detach(), axis=1))


def test_radius_with_small_beta_is_the_prior_of_the_latent_numbers():
    """The latent numbers of background follow the prior: the mean of |mu|^2 is near their number."""
    rng = np.random.default_rng(3)
    score = VariationalAutoencoder(4, 0.02, hidden=(32,), steps=400, learning_rate=5e-3).fit(plane(1500, rng))
    r = score.score_samples(plane(1000, rng))
    assert np.mean(r**2) == pytest.approx(4.0, rel=0.25)
    assert auc(score, plane(1000, rng), 2 * plane(1000, rng)) > 0.75


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_loss_is_reconstruction_and_divergence_in_shares_of_beta(beta):
    def normal(seed: int, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    z, w = 2 * normal(6, 40, 5), normal(7, 40).abs()
    models = (
        VariationalAutoencoder(3, beta, hidden=(8,)),
        PlanarFlowVAE(3, beta, flows=2, hidden=(8,), measure="radius"),
    )
    for score in models:
        network = score._network = score._build(5, seed=1)
        found = score._loss(z, w, torch.Generator().manual_seed(8))
        mean, log_variance, numbers = network.encode(z)
        q, prior = (
            torch.distributions.Normal(m, s)
            for m, s in ((mean, (0.5 * log_variance).exp()), (torch.tensor(0.0), torch.tensor(1.0)))
        )
        start = q.mean + q.stddev * normal(8, 40, 3)
        end, log_jacobian = network.flow(start, numbers)
        if isinstance(score, PlanarFlowVAE):
            divergence = (q.log_prob(start) - prior.log_prob(end)).sum(-1) - log_jacobian
        else:
            divergence = torch.distributions.kl_divergence(q, prior).sum(-1)
        squared = (network.decode(end) - z).square().mean(-1)
        expected = np.average((1 - beta) * squared.detach() + beta * divergence.detach(), weights=w)
        assert squared.mean() > 0.5
        assert found.item() == pytest.approx(expected, rel=1e-5)


def test_planar_flows_have_the_jacobian_of_their_map():
    network = _Network(3, (8,), 4, 3, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    start, numbers = (torch.randn(6, k, generator=generator, dtype=torch.float64) for k in (4, 3 * 9))
    _, log_jacobian = network.flow(start, 3 * numbers)
    for i in range(6):
        jacobian = torch.autograd.functional.jacobian(
            lambda s, i=i: network.flow(s[None], 3 * numbers[i : i + 1])[0][0], start[i]
        )
        sign, expected = torch.linalg.slogdet(jacobian)
        assert sign == 1
        assert log_jacobian[i].item() == pytest.approx(expected.item(), abs=1e-9)


def test_flows_change_the_planar_score():
    x = plane(300, np.random.default_rng(4))
    scores = [PlanarFlowVAE(3, flows=k, hidden=(16,), steps=60).fit(x).score_samples(x) for k in (1, 4)]
    assert not np.allclose(scores[0], scores[1])


def test_deep_svdd_separates_and_keeps_its_spread():
    rng = np.random.default_rng(5)
    score = DeepSVDD((0, 10), (5, 13), hidden=(32,), steps=600).fit(plane(2000, rng))
    background, signal = plane(1000, rng), plane(1000, rng, off=0.8)
    assert auc(score, background, signal) > 0.95
    members = score.member_scores(np.concatenate([background, signal]))
    y = np.repeat([0, 1], 1000)
    assert all(roc_auc_score(y, column) > 0.85 for column in members.T)
    assert [(m.target, m.dimensions) for m in score.members_] == [(c, d) for d in (5, 13) for c in (0, 10)]
    assert not any(m.collapsed for m in score.members_)
    assert all(m.spread > 0.03 for m in score.members_)


def test_combinations_of_members():
    rng = np.random.default_rng(6)
    x = plane(400, rng)
    found = {}
    for rule in ("min", "max", "mean", "product"):
        score = DeepSVDD((0, 3), (4, 6), hidden=(16,), steps=30, combine=rule).fit(x)
        found[rule] = score.score_samples(x)
        members = score.member_scores(x)
    np.testing.assert_allclose(members.max(axis=0), 1.0)
    np.testing.assert_allclose(found["min"], members.min(axis=1))
    np.testing.assert_allclose(found["max"], members.max(axis=1))
    np.testing.assert_allclose(found["mean"], members.mean(axis=1))
    np.testing.assert_allclose(np.exp(4 * found["product"]), members.prod(axis=1))
    for rule, values in score.rule_scores(x).items():
        np.testing.assert_array_equal(values, found[rule])


def test_a_member_does_not_feel_the_others():
    x = plane(300, np.random.default_rng(7))
    options = {"hidden": (16,), "steps": 40, "min_spread": 0, "patience": None}
    alone = DeepSVDD((2,), (6,), **options).fit(x).member_scores(x)
    beside = DeepSVDD((2, 25), (6,), **options).fit(x).member_scores(x)
    np.testing.assert_allclose(beside[:, :1], alone, rtol=1e-3)


def test_the_guard_finds_networks_that_collapsed(caplog):
    """With biases y = C for every event is the best solution; a long training gets there, and the guard says so."""
    x = np.random.default_rng(8).normal(size=(400, 4))
    options = {"hidden": (8,), "steps": 300, "learning_rate": 0.05, "batch_size": 64, "patience": None}
    with pytest.raises(InputError, match="all 2 deep SVDD networks collapsed"):
        DeepSVDD((1, 2), (3,), bias=True, min_spread=0.05, **options).fit(x)
    free = DeepSVDD((1, 2), (3,), bias=True, min_spread=0, **options).fit(x)
    safe = DeepSVDD((1, 2), (3,), bias=False, min_spread=0.05, **options).fit(x)
    assert max(m.spread for m in free.members_) < 0.05 < min(m.spread for m in safe.members_)
    with caplog.at_level(logging.WARNING):
        cut = float(np.mean([m.spread for m in safe.members_]))
        part = DeepSVDD((1, 2), (3,), bias=False, min_spread=cut, **options).fit(x)
    assert "1 of 2 deep SVDD networks collapsed and are left out: C=" in caplog.text
    good = [i for i, m in enumerate(part.members_) if not m.collapsed]
    assert len(good) == 1
    np.testing.assert_allclose(part.score_samples(x), part.member_scores(x)[:, good[0]])


def test_dagmm_separates_and_its_energy_is_a_density():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(9)
    score = Dagmm(4, 3, hidden=(32,), steps=300, batch_size=128).fit(plane(1500, rng))
    background = plane(500, rng)
    assert auc(score, background, plane(500, rng, off=2.0)) > 0.8
    z = torch.as_tensor(score._standardiser.transform(background))
    v = score._network.features(z)[0].detach().numpy()
    m = score._mixture
    assert m["phi"].sum() == pytest.approx(1.0)
    p = sum(
        f * multivariate_normal(mu, c).pdf(v)
        for f, mu, c in zip(m["phi"], m["mean"], m["covariance"], strict=True)
    )
    np.testing.assert_allclose(score.score_samples(background), -np.log(p), rtol=1e-8)


@pytest.mark.parametrize(
    ("score", "other"),
    [
        (Autoencoder((16,), 3), {"hidden": (8,)}),
        (Autoencoder((16,), 3), {"bottleneck": 2}),
        (Autoencoder((16,), 3), {"steps": 10}),
        (Autoencoder((16,), 3), {"batch_size": 16}),
        (Autoencoder((16,), 3), {"learning_rate": 1e-4}),
        (Autoencoder((16,), 3), {"validation_fraction": 0.5}),
        (VariationalAutoencoder(3, 0.1, hidden=(16,)), {"latent": 2}),
        (VariationalAutoencoder(3, 0.1, hidden=(16,)), {"beta": 0.2}),
        (VariationalAutoencoder(3, 0.1, hidden=(16,)), {"measure": "reconstruction"}),
        (VariationalAutoencoder(3, 0.1, hidden=(16,)), {"hidden": (16, 8)}),
        (DeepSVDD((1,), (3,), hidden=(16,)), {"bias": True}),
        (DeepSVDD((1,), (3,), hidden=(16,)), {"hidden": (8,)}),
        (DeepSVDD((1,), (3,), hidden=(16,)), {"targets": (2,)}),
        (Dagmm(2, 2, hidden=(16,)), {"components": 3}),
        (Dagmm(2, 2, hidden=(16,)), {"estimation": 4}),
        (Dagmm(2, 2, hidden=(16,)), {"energy_weight": 1.0}),
        (Dagmm(2, 2, hidden=(16,)), {"covariance_weight": 1.0}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else type(value).__name__,
)
def test_every_option_changes_the_scores(score, other):
    x = plane(200, np.random.default_rng(10))
    start = {**score.get_params(), "steps": 20, "evaluations": 4}
    a, b = (type(score)(**{**start, **o}).fit(x).score_samples(x) for o in ({}, other))
    assert not np.allclose(a, b, rtol=1e-3)


def test_training_stops_early_and_keeps_the_best():
    """With pure noise there is nothing to learn from; more steps must not make the held-out loss worse."""
    x = np.random.default_rng(11).normal(size=(150, 12))
    options = {"batch_size": 32, "learning_rate": 1e-2, "evaluations": 25}
    short = Autoencoder((64,), 6, steps=250, patience=2, **options).fit(x)
    long = Autoencoder((64,), 6, steps=250, patience=None, **options).fit(x)
    assert long.validation_loss_[0] <= short.validation_loss_[0] + 1e-9
    held_out_error = float(np.mean(long.score_samples(np.random.default_rng(12).normal(size=(2000, 12)))))
    assert held_out_error < 1.4


def sets(n, rng, *, pt=1.0, mean=3.0, slots=6):
    """Lists of objects of two kinds: numbers (ln pt, eta), then a flag for each kind."""
    count = np.clip(rng.poisson(mean, n), 1, slots)
    mask = np.arange(slots) < count[:, None]
    values = np.zeros((n, slots, 4))
    values[..., 0] = rng.normal(pt, 0.3, (n, slots))
    values[..., 1] = rng.normal(0.0, 1.0, (n, slots))
    kind = rng.integers(2, size=(n, slots))
    values[..., 2], values[..., 3] = kind == 0, kind == 1
    return np.where(mask[..., None], values, 0.0), mask


SETS = {"kinds": 2, "latent": 3, "width": 16, "steps": 40, "batch_size": 64, "evaluations": 4}


@pytest.mark.parametrize(("beta", "measure"), [(1.0, "loss"), (0.05, "reconstruction"), (0.05, "loss")])
def test_sets_with_other_objects_are_anomalous(beta, measure):
    rng = np.random.default_rng(13)
    model = DeepSetVAE(beta, measure=measure, **{**SETS, "steps": 120}).fit(sets(800, rng)[0])
    background = sets(500, rng)[0]
    assert auc(model, background, sets(500, rng, pt=4.0)[0]) > 0.8
    assert auc(model, background, sets(500, rng)[0]) == pytest.approx(0.5, abs=0.06)


def test_sets_have_no_order_and_empty_slots_no_effect():
    rng = np.random.default_rng(14)
    x, mask = sets(300, rng)
    for beta in (1.0, 0.1):
        model = DeepSetVAE(beta, **SETS).fit(x)
        shuffled = np.stack([event[rng.permutation(len(event))] for event in x])
        np.testing.assert_allclose(model.score_samples(shuffled), model.score_samples(x), rtol=1e-6)
    # numbers of objects without a kind are not looked at
    noisy = np.where(mask[..., None], x, [5.0, 5.0, 0.0, 0.0])
    np.testing.assert_array_equal(model.score_samples(noisy), model.score_samples(x))
    # a mask takes objects away
    leading = np.arange(6) < 2
    cut = np.where(leading[:, None], x, 0.0)
    some = np.broadcast_to(leading, mask.shape)
    np.testing.assert_array_equal(model.score_samples(x, mask=some), model.score_samples(cut))
    assert not np.allclose(model.score_samples(cut), model.score_samples(x))


def test_set_scores_are_what_they_say():
    x = sets(300, np.random.default_rng(15))[0]
    loss, reconstruction, divergence = (
        DeepSetVAE(0.3, measure=s, **SETS).fit(x).score_samples(x)
        for s in ("loss", "reconstruction", "divergence")
    )
    np.testing.assert_allclose(loss, 0.7 * reconstruction + 0.3 * divergence, rtol=1e-9)


def test_chamfer_of_a_perfect_list_is_its_kind_term():
    from serendip.outliers.set_vae import _Network as SetNetwork

    network = SetNetwork(slots=2, continuous=2, kinds=2, width=4, latent=1).double()
    objects = torch.tensor([[[1.0, 2.0, 1.0, 0.0], [-1.0, 0.5, 0.0, 1.0]]], dtype=torch.float64)
    last = network.decoder[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([1.0, 2.0, 50.0, 0.0, 0.0, -1.0, 0.5, 0.0, 50.0, 0.0]))
        assert network.chamfer(objects, torch.zeros(1, 1, dtype=torch.float64), 1.0).item() == pytest.approx(
            0, abs=1e-5
        )
        # the second slot moves away, and is empty with probability one half
        last.bias[5:].copy_(torch.tensor([2.0, 4.5, 0.0, 0.0, np.log(2.0)]))
        found = network.chamfer(objects, torch.zeros(1, 1, dtype=torch.float64), 2.0).item()
    # object 2 is nearest to slot 1, |(2, 1.5)| = 2.5 away, which says that its kind has p = exp(-50)
    there, kinds = 2.5 / 2, 50 / 2
    # slot 2, with half a weight, is nearest to object 1; half an object is missing
    back, missing = 0.5 * np.hypot(1, 2.5) / 1.5, 0.5**2 / 2
    assert found == pytest.approx(there + back + 2.0 * kinds + missing, rel=1e-6)


def test_sort_pooling_weights_objects_by_their_rank():
    from serendip.outliers.set_vae import _Network as SetNetwork

    network = SetNetwork(slots=5, continuous=1, kinds=1, width=4, latent=1).double()
    network.each = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    knots = np.arange(21.0) ** 2
    with torch.no_grad():
        network.each.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        network.pool.copy_(torch.tensor(np.stack([knots, knots])))

    def pooled(*values: float) -> float:
        objects = torch.zeros(1, 5, 2, dtype=torch.float64)
        for i, value in enumerate(values):
            objects[0, i] = torch.tensor([value, 1.0])
        return network.encode(objects)[0].item()

    assert pooled(3.0) == 0.0
    assert pooled(-2.0, 5.0) == -800.0
    # ranks 0, 1/3, 2/3 and 1 are pieces 0, 6 2/3, 13 1/3 and 20 of 20
    at = np.interp(20 * np.arange(4) / 3, np.arange(21), knots)
    assert pooled(1.0, 4.0, 3.0, -7.0) == pytest.approx(at @ [4.0, 3.0, 1.0, -7.0])


def test_weights_of_sets():
    rng = np.random.default_rng(16)
    x = np.concatenate([sets(300, rng)[0], sets(300, rng, pt=3.0)[0]])
    w = np.repeat([1.0, 0.01], 300)
    gaps = []
    for weights in (w, None):
        s = DeepSetVAE(0.05, measure="reconstruction", **SETS).fit(x, sample_weight=weights).score_samples(x)
        gaps.append(s[300:].mean() - s[:300].mean())
    assert gaps[0] > 2 * abs(gaps[1])


def test_sets_are_saved_and_read_again(tmp_path):
    x = sets(200, np.random.default_rng(17))[0]
    model = DeepSetVAE(0.1, **SETS).fit(np.insert(x, 0, 7.0 * x[..., -2:].sum(-1), axis=2))
    assert model.dropped_columns_ == 1
    model.save(tmp_path)
    new = np.insert(x, 0, 8.0 * x[..., -2:].sum(-1), axis=2)
    np.testing.assert_array_equal(load_score(tmp_path).score_samples(new), model.score_samples(new))


def test_bad_sets_are_refused():
    x, mask = sets(100, np.random.default_rng(18))
    model = DeepSetVAE(0.1, **{**SETS, "steps": 2, "evaluations": 1}).fit(x)
    bad = x.copy()
    bad[3, 0, 1] = np.nan
    two = x.copy()
    two[3, 0, 2:] = 1.0
    for call, match in (
        (lambda: model.score_samples(bad), "row 3, column 0, 1 is NaN"),
        (lambda: model.score_samples(two), "one kind"),
        (lambda: model.score_samples(x[:, :4]), "4 objects of 4 features"),
        (lambda: model.score_samples(x[..., 0]), "shape"),
        (lambda: model.score_samples(x, mask=mask[:5]), "mask"),
        (lambda: DeepSetVAE(1.0, kinds=2, measure="reconstruction").fit(x), "decoder is not trained"),
        (lambda: DeepSetVAE(2.0, kinds=2).fit(x), "beta"),
        (lambda: DeepSetVAE(kinds=2, measure="best").fit(x), "divergence"),
    ):
        with pytest.raises(InputError, match=match):
            call()
