"""The training of densities: early stopping, ensembles, bfloat16, checkpoints, epochs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import TINY_DENSITIES as TINY

from serendip.density import load_density, make_density
from serendip.density.samples import SplitSamples
from serendip.density.training import train
from serendip.errors import InputError

KINDS = list(TINY)


def sample(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 3.0**-4)) ** -0.25
    a = rng.normal(size=n) + np.log(m / 1000) + 2.5 * (rng.random(n) < 0.3)
    return np.stack([a, 0.7 * a + 0.5 * rng.normal(size=n)], axis=1), m


class Interrupted(Exception):
    pass


def interrupt_at(limit: int):
    def progress(step: int, steps: int, losses: list[float]) -> None:
        if step >= limit:
            raise Interrupted

    return progress


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_ends_with_the_same_bytes(kind, tmp_path):
    x, m = sample()
    splits = np.stack([np.arange(1000) < 600, np.arange(1000) > 300])
    weight = np.where(np.arange(1000) % 3 == 0, 2.0, 1.0)
    # past one chunk of 32 batches
    options = TINY[kind] | {"steps": 45, "evaluations": 9, "seed": 4}
    seen: list[int] = []

    def fit(weight=weight, **more):
        keywords = {k: more.pop(k) for k in ("checkpoint", "progress") if k in more}
        return make_density(kind, **options | more).fit(x, m, weight=weight, splits=splits, **keywords)

    whole = fit()
    folder = tmp_path / "state"
    with pytest.raises(Interrupted):
        fit(checkpoint=folder, progress=interrupt_at(35))
    assert [p.name for p in folder.iterdir()] == ["checkpoint.safetensors"]
    resumed = fit(checkpoint=folder, progress=lambda step, *_: seen.append(step))
    assert seen == [40, 45]
    assert resumed.validation_loss == whole.validation_loss
    for k in (0, 1):
        assert np.array_equal(resumed.log_prob(x, m, k), whole.log_prob(x, m, k))
    # a finished training is not repeated
    again = fit(checkpoint=folder, progress=interrupt_at(0))
    assert np.array_equal(again.log_prob(x, m), whole.log_prob(x, m))
    for changed in ({"learning_rate": 1e-3}, {"weight": np.ones(1000)}):
        with pytest.raises(InputError, match="other options or events"):
            fit(checkpoint=folder, **changed)
    (folder / "checkpoint.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        fit(checkpoint=folder)


def test_progress_tells_the_held_out_losses():
    x, m = sample()
    calls = []
    options = TINY["maf"] | {"steps": 100, "evaluations": 4}
    model = make_density("maf", **options).fit(x, m, progress=lambda *a: calls.append(a))
    assert [(step, steps) for step, steps, _ in calls] == [(25, 100), (50, 100), (75, 100), (100, 100)]
    losses = [values[0] for *_, values in calls]
    assert min(losses) == model.validation_loss[0]
    assert losses[-1] < losses[0]


def drifting(losses: dict[int, list[float]], patience: int | None) -> tuple[list[float], torch.Tensor, int]:
    """Train weights that count steps, with prescribed held-out losses: ``losses[k]`` of model k."""
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(len(losses), 1))
    done = []

    def validation() -> torch.Tensor:
        i = len(done)
        done.append(i)
        return torch.tensor([values[i] for values in losses.values()])

    best = train(
        module, lambda: -module.weight[:, 0] * 1.0, validation, stacked=True, steps=8, evaluations=8,
        learning_rate=1.0, average=0.0, patience=patience,
    )  # fmt: skip
    return best, module.weight.detach()[:, 0], len(done)


def test_each_model_stops_by_its_own_held_out_loss():
    first = [5.0, 4.0, 4.5, 4.6, 1.0, 1.0, 1.0, 1.0]
    second = [5.0, 4.0, 3.0, 2.0, 2.1, 2.2, 0.0, 0.0]
    never, weights, n = drifting({0: first, 1: second}, None)
    assert never == [1.0, 0.0]
    assert n == 8
    stopped, early, n = drifting({0: first, 1: second}, 2)
    # model 0 waited for two evaluations at step 4 and keeps step 2, though better ones came later
    assert stopped == [4.0, 2.0]
    assert n == 6
    assert early[0] < early[1] < weights[0]
    alone, weight, n = drifting({0: first}, 2)
    assert (alone, n) == ([4.0], 4)
    assert weight[0] == early[0]


def test_patience_reaches_every_kind():
    x, m = sample(300)
    for kind in KINDS:
        seen: list[int] = []
        options = TINY[kind] | {"steps": 400, "evaluations": 200, "patience": 2, "learning_rate": 0.05}
        make_density(kind, **options).fit(x, m, progress=lambda step, *_, seen=seen: seen.append(step))
        assert 4 <= seen[-1] < 400


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_is_the_mean_of_the_densities_of_its_members(kind, tmp_path):
    x, m = sample(600)
    splits = np.stack([np.arange(600) < 400, np.arange(600) > 100])
    model = make_density(kind, seed=1, ensemble=3, **TINY[kind]).fit(x, m, splits=splits)
    u = model.transforms[1].context(m)
    z, log_jacobian = model.transforms[1].forward(x, u)
    members = np.stack([np.exp(model._latent_log_prob(z, u, i)) for i in (3, 4, 5)])
    assert np.abs(np.log(members[0] / members[1])).max() > 1e-3
    np.testing.assert_allclose(np.exp(model.log_prob(x, m, 1) - log_jacobian), members.mean(0), rtol=1e-12)
    # each member draws a third of the samples
    noise = np.random.default_rng(5).standard_normal((600, 2))
    found = [model._generate(noise, u, i) for i in (3, 4, 5)]
    drawn = model.transforms[1].forward(model.sample(m, 1, rng=np.random.default_rng(5)), u)[0]
    owners = np.argmin([np.abs(drawn - f).max(1) for f in found], axis=0)
    assert np.abs(drawn - np.stack(found)[owners, np.arange(600)]).max() < 1e-4
    assert np.all(np.abs(np.bincount(owners, minlength=3) - 200) < 60)
    with pytest.raises(InputError, match="ensemble=1 for to_latent"):
        model.to_latent(x, m)
    model.save(tmp_path)
    for other in (load_density(tmp_path), model):
        alone = other.only(1)
        assert np.array_equal(alone.log_prob(x, m), model.log_prob(x, m, 1))
    # members hold out different events of the same split
    assert len(set(model.validation_loss[3:])) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_trains_to_the_same_loss(kind):
    x, m = sample(3000)
    options = TINY[kind] | {"steps": 60, "batch_size": 256}
    full, half = (make_density(kind, amp=amp, **options).fit(x, m) for amp in (None, "bf16"))
    assert half.validation_loss[0] == pytest.approx(full.validation_loss[0], abs=0.01)
    assert half.validation_loss != full.validation_loss


def test_epochs_count_passes_over_the_training_events():
    x, m = sample(1000)
    splits = np.stack([np.arange(1000) < 500, np.arange(1000) < 1000])
    steps = []
    options = TINY["maf"] | {"epochs": 3, "steps": 7, "validation_fraction": 0.2, "batch_size": 100}
    make_density("maf", **options).fit(x, m, splits=splits, progress=lambda _, n, __: steps.append(n))
    assert set(steps) == {3 * 800 // 100}


def test_the_configuration_of_the_cathode_paper():
    x, m = sample(1500)
    model = make_density(
        "maf", transforms=15, hidden=128, layers=1, batch_size=256, learning_rate=1e-4, epochs=4,
        preprocessing="logit", validation_fraction=0.5, ensemble=2,
    ).fit(x, m)  # fmt: skip
    weights = {tuple(p.shape[1:]) for p in model.network.stacked}
    # one hidden layer: 2 features and 3 functions of the mass to 128 to (shift, scale) of 2 features
    assert weights == {(128, 5), (128,), (4, 128), (4,)}
    assert sum(p.shape[1:] == (128, 5) for p in model.network.stacked) == 15
    assert np.all(np.isfinite(model.log_prob(x, m)))


def test_random_batches_go_on_where_their_state_was_taken():
    rng = np.random.default_rng(0)
    samples = [(rng.normal(size=(200, 2)), rng.normal(size=200), w) for w in (np.ones(200), rng.random(200))]

    def batches():
        data = SplitSamples.make(samples, seed=1, validation_fraction=0.1, device=torch.device("cpu"))
        return data.batches(16)

    for before in (0, 5, 32, 70):
        first, second = batches(), batches()
        for _ in range(before):
            next(first)
        second.restore(first.state())
        for _ in range(40):
            for a, b in zip(next(first), next(second), strict=True):
                assert torch.equal(a, b)


def test_events_are_drawn_by_weight():
    rng = np.random.default_rng(0)
    position = np.arange(400.0)
    for weight in (np.ones(400), np.arange(400) / 200):
        samples = [(position[:, None], rng.normal(size=400), weight)]
        data = SplitSamples.make(samples, seed=1, validation_fraction=0.1, device=torch.device("cpu"))
        # the held-out events are the last ones and never drawn
        drawn = np.concatenate([next(b)[0].numpy().ravel() for b in [data.batches(500)] for _ in range(60)])
        held_out = data.z[data.validation[0], 0].numpy()
        assert not np.isin(drawn, held_out).any()
        left = np.setdiff1d(position, held_out).astype(int)
        counts = np.bincount(drawn.astype(int), minlength=400)[left]
        expected = weight[left] / weight[left].sum() * len(drawn)
        used = expected > 0
        chi2 = np.sum((counts - expected)[used] ** 2 / expected[used])
        assert abs(chi2 - used.sum()) < 5 * np.sqrt(2 * used.sum())


def test_wrong_options_are_explained():
    for wrong, message in (
        ({"amp": "fp8"}, "amp must be"),
        ({"precision": "half"}, "precision must be one of"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"ensemble": 0}, "at least one member"),
    ):
        for kind in KINDS:
            with pytest.raises(InputError, match=message):
                make_density(kind, **wrong)
    for kind in KINDS:
        with pytest.raises(TypeError, match="depth"):
            make_density(kind, depth=3)
