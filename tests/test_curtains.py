"""CURTAINs on made-up events whose correlation turns with the mass: the template is background, the signal found."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from serendip.classify.separation import two_sample_auc
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.background import train_background
from serendip.methods.curtains import Curtains, CurtainsConfig
from serendip.methods.template_method import sidebands_within

WINDOW = Window(1400.0, 1600.0)
FAST = {"steps": 2, "transport_steps": 20, "batch_size": 64, "members": 1, "oversample": 1.0}


def correlation(m: np.ndarray | float) -> np.ndarray:
    """From -0.5 at 1070 GeV to 0.5 at 2100 GeV."""
    return 0.5 * np.sin(np.clip(4.6 * np.log(np.asarray(m) / 1500), -np.pi / 2, np.pi / 2))


def make_events(
    n: int = 8_000, n_signal: int = 0, seed: int = 0, weight: str | None = None, turn: float = 1.0
) -> Events:
    """Two features shift and widen with the mass, and their correlation turns, two do not; signal in a corner.

    All correlations are those of features that a coupling layer of two halves would keep together.
    """
    rng = np.random.default_rng(seed)
    m = 1000 * (1 - rng.random(n) * (1 - 2.2**-2)) ** -0.5
    t = np.log(m / 1500)
    rho = turn * correlation(m)
    x = rng.normal(size=(n, 4))
    x[:, 1] = rho * x[:, 0] + np.sqrt(1 - rho**2) * x[:, 1]
    heavy = np.concatenate([x[:, 0] > 0, np.ones(n_signal, dtype=bool)])
    x[:, :2] = x[:, :2] * np.exp(0.5 * t)[:, None] + 4.0 * t[:, None]
    m = np.concatenate([m, rng.normal(1500, 30, n_signal)])
    x = np.concatenate([x, rng.normal([2.0, -2.0, 0.0, 0.0], [0.2, 0.2, 1.0, 1.0], (n_signal, 4))])
    truth = np.repeat([0, 1], [n, n_signal])
    columns = dict(zip("abcd", x.T, strict=True))
    columns |= {"m": m, "truth": truth, "w": np.where(heavy, 3.0, 1.0)}
    return Events(columns, mass="m", features=tuple("abcd"), label="truth", weight=weight)


def fitted(events: Events, splits: np.ndarray | None = None, seed: int = 0, **options: object) -> Curtains:
    options = FAST | options
    if options.get("loss") == "sinkhorn":
        del options["steps"]
    return Curtains(CurtainsConfig(**options), seed=seed).fit(events.without_label(), WINDOW, splits)


def carried(method: Curtains, events: Events, masses: np.ndarray) -> np.ndarray:
    """Events that the map did not see, at other masses."""
    transform = method._transforms[0]
    z, _ = transform.forward(events.x.astype(np.float64), transform.context(events.m))
    z = method.transport.apply(z, np.log(events.m), np.log(masses), 0)
    return transform.inverse(z, transform.context(masses)).astype(np.float32)


def halves(events: Events) -> np.ndarray:
    first = np.arange(len(events)) % 2 == 0
    return np.stack([first, ~first])


def auc(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    weights = [np.ones(len(x)) for x in (first, second)]
    return two_sample_auc(first, weights[0], second, weights[1], np.random.default_rng(0))


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(20_000, n_signal=100)


@pytest.fixture(scope="module")
def most(events: Events) -> np.ndarray:
    return np.arange(len(events)) % 5 != 0


@pytest.fixture(scope="module", params=["likelihood", "sinkhorn"])
def method(request: pytest.FixtureRequest, events: Events, most: np.ndarray) -> Curtains:
    """One model whose map has the default options."""
    options = {"steps": 400} if request.param == "likelihood" else {}
    config = CurtainsConfig(loss=request.param, members=4, **options)
    return Curtains(config, seed=0).fit(events.without_label(), WINDOW, most[None])


def test_each_strip_is_carried_to_the_correlation_of_the_window(method):
    real = make_events(100_000, seed=9)
    inside = WINDOW.contains(real.m)
    window, masses = real.x[inside], real.m[inside]
    truth = np.corrcoef(window[:, :2].T)[0, 1]
    for low, high in ((1200, 1400), (1600, 1800)):
        strip = real.select((real.m >= low) & (real.m < high))
        x = carried(method, strip, np.random.default_rng(0).choice(masses, len(strip)))
        assert np.corrcoef(x[:, :2].T)[0, 1] == pytest.approx(truth, abs=0.05)
        closed, error = auc(x, window)
        untouched, _ = auc(strip.x, window)
        assert closed < min(untouched - 3 * error, 0.53)


def test_outer_bands_close(method):
    real = make_events(100_000, seed=9)
    strips = real.select(sidebands_within(real.m, WINDOW, 200.0))
    for low, high in ((1050, 1200), (1800, 1950)):
        band = real.select((real.m >= low) & (real.m < high))
        x = carried(method, strips, np.random.default_rng(0).choice(band.m, len(strips)))
        assert auc(x, band.x)[0] < 0.55


def test_template_is_background(method):
    real = make_events(60_000, seed=9)
    template = method.template(0)
    window = real.x[WINDOW.contains(real.m)]
    found, _ = two_sample_auc(
        template.x, template.weights, window, np.ones(len(window)), np.random.default_rng(0)
    )
    assert found < 0.54


def test_a_map_with_nothing_to_transport_adds_no_noise():
    nothing = make_events(20_000, turn=0.0)
    method = fitted(nothing, loss="sinkhorn", batch_size=512, transport_steps=300)
    real = make_events(100_000, seed=9, turn=0.0)
    inside = WINDOW.contains(real.m)
    strips = real.select(sidebands_within(real.m, WINDOW, 200.0))
    x = carried(method, strips, np.random.default_rng(0).choice(real.m[inside], len(strips)))
    found, error = auc(x, real.x[inside])
    assert found < 0.5 + 3 * error


def test_events_that_no_model_saw_are_ranked_signal_first(events, most, method):
    test = events.select(~most & WINDOW.contains(events.m))
    assert roc_auc_score(test.labels, method.score(test)) > 0.9


def test_predicted_background_follows_the_mass_and_its_correlation(method):
    rng = np.random.default_rng(0)
    for mass in (1220.0, 1500.0, 1780.0):
        t = np.log(mass / 1500)
        x = method.predict_background(np.full(4000, mass), 0, rng)[:, :2]
        assert x.dtype == np.float32
        np.testing.assert_allclose(x.mean(0), 4 * t, atol=0.1)
        np.testing.assert_allclose(x.std(0), np.exp(0.5 * t), atol=0.1)
        assert np.corrcoef(x.T)[0, 1] == pytest.approx(correlation(mass), abs=0.1)


def test_weights_are_carried_with_their_events():
    weighted = make_events(weight="w")
    splits = halves(weighted)
    method = fitted(weighted, splits, loss="sinkhorn", transport_steps=1, oversample=4.0)
    strips = ((weighted.m >= 1200) & (weighted.m < 1400)) | ((weighted.m >= 1600) & (weighted.m < 1800))
    for k in (0, 1):
        template = method.template(k)
        inside = splits[k] & WINDOW.contains(weighted.m)
        assert template.weights.sum() == pytest.approx(weighted.weights[inside].sum())
        # 3 : 1 within a strip, whatever its share
        assert len(np.unique(template.weights.round(9))) == 4
        low, high = np.sort(np.unique(template.weights.round(9)))[[0, -1]]
        assert high > 2.9 * low
        # without weights it would be a half
        expected = np.average(weighted.x[inside, 0] > 0, weights=weighted.weights[inside])
        assert expected > 0.68
        assert np.average(template.x[:, 0] > 0, weights=template.weights) == pytest.approx(expected, abs=0.09)
        assert np.count_nonzero(splits[k] & strips) == len(method._strips[k].z)
    zero = np.where(weighted["w"] > 1, 0.0, 1.0)
    half = Events({**weighted.columns, "w": zero}, mass="m", features=tuple("abcd"), weight="w")
    assert fitted(half, loss="sinkhorn").template().x[:, 0].mean() < -0.4


def test_a_model_depends_on_the_events_of_its_split_only():
    events = make_events(n_signal=60)
    splits = halves(events)
    changed = {name: events[name].copy() for name in events.columns}
    changed["a"][splits[1]] += 1.0
    other = Events(changed, mass="m", features=events.features)
    first, second = fitted(events, splits), fitted(other, splits)
    assert np.array_equal(first.score(events, 0), second.score(events, 0))
    assert np.array_equal(first.template(0).x, second.template(0).x)
    assert not np.array_equal(first.score(events, 1), second.score(events, 1))


def test_same_seed_same_scores_and_another_seed_others():
    events = make_events(2000, n_signal=60)
    scores = [fitted(events, seed=seed).score(events) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


@pytest.fixture(scope="module")
def plain() -> tuple[Events, np.ndarray, np.ndarray]:
    """Few events, their scores and template with the shortest training."""
    events = make_events(2000)
    method = fitted(events)
    return events, method.score(events), method.template().x


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "sinkhorn"),
        ("density", "maf"),
        ("background", "shared"),
        ("batch_size", 128),
        ("sideband_gev", 150.0),
        ("strip_width", 0.5),
        ("transport_steps", 60),
        ("spectrum", "exppoly:4"),
        ("spectrum_range", 1.0),
        ("oversample", 2.0),
        ("classifier", "network"),
        ("members", 2),
    ],
)
def test_every_option_changes_template_or_score(plain, name, value):
    events, score, template = plain
    after = fitted(events, **{name: value})
    assert np.all(np.isfinite(after.score(events)))
    same = np.array_equal(score, after.score(events))
    assert not (same and np.array_equal(template, after.template().x))


def test_density_is_asked_for_once_and_taken_if_given():
    likelihood, sinkhorn = (Curtains(CurtainsConfig(loss=loss)) for loss in ("likelihood", "sinkhorn"))
    assert sinkhorn.background_request(WINDOW) is None
    request = likelihood.background_request(WINDOW)
    assert (request.density, request.outside) == ("spline", WINDOW)
    short = Curtains(CurtainsConfig(steps=4)).background_request(WINDOW)
    assert (dict(request.options)["steps"], dict(short.options)["steps"]) == (1000, 4)
    events = make_events(2000)
    own = fitted(events)
    given = Curtains(CurtainsConfig(**FAST), background=own.density).fit(events.without_label(), WINDOW)
    assert given.density is own.density
    assert np.array_equal(given.template().x, own.template().x)


def test_one_shared_density_serves_every_window():
    events = make_events(8000).without_label()
    everything = np.ones((1, len(events)), dtype=bool)
    options = {"background": "shared", "steps": 150, "batch_size": 256, "transport_steps": 100}
    windows = (Window(1300.0, 1450.0), Window(1450.0, 1600.0))
    requests = [Curtains(CurtainsConfig(**options)).background_request(window) for window in windows]
    assert requests[0] == requests[1]
    assert (requests[0].density, requests[0].outside) == ("spline", None)
    density = train_background(requests[0], events, everything, seed=0, threads=1)
    for window in windows:
        method = Curtains(CurtainsConfig(**options), background=density)
        method.make_templates(events, window, everything)
        middle = 0.5 * (window.low + window.high)
        x = method.predict_background(np.full(4000, middle), 0, np.random.default_rng(0))
        assert np.corrcoef(x[:, :2].T)[0, 1] == pytest.approx(correlation(middle), abs=0.15)


def test_too_few_events_and_wrong_options_are_explained():
    events = make_events(2000)
    with pytest.raises(InputError, match="lower sideband of the window 1400-1600 GeV"):
        fitted(events.select(events.m > WINDOW.low))
    with pytest.raises(InputError, match="upper sideband of the window 1400-1600 GeV"):
        Curtains().check(
            events.select(events.m < 1600), WINDOW, np.ones((1, int((events.m < 1600).sum())), bool)
        )
    with pytest.raises(ValidationError):
        CurtainsConfig(density="flow-matching")


def test_options_that_would_do_nothing_are_refused():
    with pytest.raises(ValidationError, match="remove steps"):
        CurtainsConfig(loss="sinkhorn", steps=50)
    with pytest.raises(ValidationError, match="remove density"):
        CurtainsConfig(loss="sinkhorn", density="maf")
    with pytest.raises(ValidationError, match="remove background"):
        CurtainsConfig(loss="sinkhorn", background="shared")
    with pytest.raises(ValidationError, match="remove sideband_gev"):
        CurtainsConfig(background="shared", sideband_gev=400.0)
    assert CurtainsConfig(**CurtainsConfig(loss="sinkhorn").model_dump()).loss == "sinkhorn"
