"""The mixture likelihood against pyhf, closed forms and toys: estimates, intervals, limits, coverage."""

from __future__ import annotations

import numpy as np
import pyhf
import pytest
from samples import pyhf_q0
from scipy.stats import binomtest, chi2, norm

from serendip.errors import InputError
from serendip.statistics.mixture import MixtureLikelihood, bounded_quantile, maximise, upper_limit
from serendip.statistics.mixture_toys import BANDS, Templates, global_p, neyman

PLACE, WIDTH = np.array([1.8, -1.8]), 0.3
LOW, HIGH, SLOPE, PEAK = 1400.0, 1600.0, 200.0, (1470.0, 20.0)


def draw_background(n: int, rng: np.random.Generator) -> np.ndarray:
    """Two normal features, and a mass that falls exponentially in a window."""
    u = rng.random(n) * (1 - np.exp(-(HIGH - LOW) / SLOPE))
    return np.column_stack([rng.normal(size=(n, 2)), LOW - SLOPE * np.log1p(-u)])


def draw_signal(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([rng.normal(PLACE, WIDTH, (n, 2)), rng.normal(*PEAK, n)])


def log_ratio(y: np.ndarray) -> np.ndarray:
    """Exact ln p_S/p_B; the peak lies inside the window to within 3.5 widths."""
    falling = -(y[:, 2] - LOW) / SLOPE - np.log(SLOPE * (1 - np.exp(-(HIGH - LOW) / SLOPE)))
    background = norm.logpdf(y[:, :2]).sum(1) + falling
    return norm.logpdf(y[:, :2], PLACE, WIDTH).sum(1) + norm.logpdf(y[:, 2], *PEAK) - background


def experiment(b: float, s: float, rng: np.random.Generator) -> np.ndarray:
    return log_ratio(np.concatenate([draw_background(rng.poisson(b), rng), draw_signal(rng.poisson(s), rng)]))


@pytest.fixture
def minuit_backend():
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    yield
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())


@pytest.fixture(scope="module")
def templates() -> Templates:
    rng = np.random.default_rng(11)
    return Templates.from_draws(
        [log_ratio(draw_background(60_000, rng))], [log_ratio(draw_signal(20_000, rng))]
    )


# a histogram that pyhf can fit as well: shapes in three bins
F_B, F_S = np.array([0.7, 0.25, 0.05]), np.array([0.1, 0.3, 0.6])
COUNTS = np.array([700.0, 262.0, 71.0])


def binned(background=None, spurious=0.0, counts=COUNTS) -> MixtureLikelihood:
    return MixtureLikelihood(np.log(F_S / F_B), counts, background=background, spurious=spurious, scale=1.0)


def pyhf_model(expected: float, error: float | None):
    """One unit of mu is one signal event; the background has a Gaussian constraint, or none."""
    modifier = (
        {"name": "free", "type": "normfactor", "data": None}
        if error is None
        else {"name": "lumi", "type": "lumi", "data": None}
    )
    parameters = [{"name": "mu", "bounds": [[0.0, 500.0]], "inits": [1.0]}]
    if error is None:
        parameters.append({"name": "free", "bounds": [[0.1, 10.0]], "inits": [1.0]})
    else:
        sigma = error / expected
        parameters.append(
            {"name": "lumi", "auxdata": [1.0], "sigmas": [sigma], "bounds": [[0.1, 10.0]], "inits": [1.0]}
        )
    signal = {
        "name": "s",
        "data": F_S.tolist(),
        "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
    }
    background = {"name": "b", "data": (expected * F_B).tolist(), "modifiers": [modifier]}
    spec = {"channels": [{"name": "c", "samples": [signal, background]}], "parameters": parameters}
    return pyhf.Model(spec, poi_name="mu", validate=False)


@pytest.mark.parametrize("error", [None, 15.0])
def test_fit_and_test_statistics_agree_with_pyhf(error, minuit_backend):
    expected = 990.0
    model = pyhf_model(expected, error)
    data = COUNTS.tolist() + model.config.auxdata
    mine = binned(None if error is None else (expected, error))
    fit = mine.fit()
    best, two_nll = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    assert fit.count == pytest.approx(best[model.config.poi_index], rel=2e-3)
    q0 = pyhf_q0(data, model)
    assert fit.gain == pytest.approx(0.5 * q0, rel=1e-3)
    assert fit.z == pytest.approx(np.sqrt(q0), rel=1e-3)
    for mu in (5.0, 40.0, 90.0):
        _, fixed = pyhf.infer.mle.fixed_poi_fit(mu, data, model, return_fitted_val=True)
        assert mine.t(mu)[0] == pytest.approx(float(fixed - two_nll), rel=2e-3, abs=2e-3)


def test_upper_limit_agrees_with_pyhf(minuit_backend):
    expected, error = 990.0, 15.0
    model = pyhf_model(expected, error)
    for counts in (COUNTS, np.array([700.0, 240.0, 40.0])):
        data = counts.tolist() + model.config.auxdata
        limit, _ = pyhf.infer.intervals.upper_limits.upper_limit(
            data, model, scan=None, level=0.05, rtol=1e-4
        )
        mine = binned((expected, error), counts=counts)
        b = float(mine.profile(0.0)[1][0])
        asimov = MixtureLikelihood(np.log(F_S / F_B), b * F_B, background=(b, error), scale=1.0)
        assert upper_limit(mine, asimov) == pytest.approx(float(limit), rel=0.01)


def test_without_constraint_the_total_says_nothing():
    """The fraction is the one that maximises sum ln(1 - w + w R), whatever the total."""
    rng = np.random.default_rng(0)
    r = experiment(900, 50, rng)
    w = np.linspace(1e-4, 0.2, 4001)
    shape = np.log1p(w[:, None] * np.expm1(r)).sum(1)
    fit = MixtureLikelihood(r).fit()
    assert fit.fraction == pytest.approx(w[np.argmax(shape)], abs=1e-4)
    assert fit.gain == pytest.approx(shape.max(), abs=1e-3)
    assert fit.count + fit.background == pytest.approx(len(r))


def test_a_known_background_adds_what_the_total_knows():
    # R = 1: only the total can tell, and the count is that of a counting experiment
    fit = MixtureLikelihood(np.zeros(120), background=(100.0, 0.0)).fit()
    assert fit.count == pytest.approx(20.0, rel=1e-5)
    assert fit.error == pytest.approx(np.sqrt(120.0), rel=1e-5)
    assert fit.z == pytest.approx(np.sqrt(2 * (120 * np.log(1.2) - 20)), rel=1e-6)
    wide = MixtureLikelihood(np.zeros(120), background=(100.0, 10.0)).fit()
    assert wide.error == pytest.approx(np.sqrt(120.0 + 100.0), rel=1e-4)


def test_weights_scale_the_count_and_leave_the_significance():
    rng = np.random.default_rng(1)
    r = experiment(900, 40, rng)
    plain = MixtureLikelihood(r, background=(900.0, 20.0), spurious=4.0)
    double = MixtureLikelihood(r, np.full(len(r), 2.0), background=(1800.0, 40.0), spurious=8.0)
    assert double.fit().count == pytest.approx(2 * plain.fit().count)
    assert double.fit().error == pytest.approx(2 * plain.fit().error)
    assert double.fit().z == pytest.approx(plain.fit().z)
    np.testing.assert_allclose(double.interval(0.95), 2 * np.array(plain.interval(0.95)), rtol=1e-6)
    np.testing.assert_allclose(double.t([0.0, 60.0]), plain.t([0.0, 30.0]), rtol=1e-6)


def test_error_of_weighted_events_is_their_spread():
    rng = np.random.default_rng(2)
    found, errors = [], []
    for _ in range(150):
        r = experiment(600, 40, rng)
        w = np.where(rng.random(len(r)) < 0.5, 3.0, 1.0)
        fit = MixtureLikelihood(r, w).fit()
        found.append(fit.count)
        errors.append(fit.error)
    assert np.mean(found) == pytest.approx(80, abs=3 * np.std(found) / np.sqrt(150))
    # a standard deviation of 150 numbers is known to 6 %
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.18)


def test_spurious_signal_adds_in_quadrature_where_the_likelihood_is_gaussian():
    scaled = COUNTS * 100
    plain, wide = binned(counts=scaled), binned(counts=scaled, spurious=300.5)
    fit = plain.fit()
    assert wide.fit().count == pytest.approx(fit.count, rel=1e-6)
    assert wide.fit().error == pytest.approx(np.hypot(fit.error, 300.5), rel=1e-6)
    mu = fit.count + np.array([-400.0, 200.0, 600.0])
    np.testing.assert_allclose(wide.t(mu), ((mu - fit.count) / np.hypot(fit.error, 300.5)) ** 2, rtol=0.03)
    assert wide.fit().z < plain.fit().z


def test_maximum_is_that_of_a_brute_force_search():
    rng = np.random.default_rng(3)
    ratio, counts = np.exp(rng.normal(0, 2, 30)), rng.poisson(8.0, (5, 30)).astype(float)
    centre, sigma, target, width = np.full(5, 200.0), 12.0, np.full(5, 15.0), 6.0
    s, b, log_l = maximise(counts, ratio, (centre, sigma), target, width)
    ss, bb = np.meshgrid(np.linspace(0, 150, 301), np.linspace(100, 300, 401), indexing="ij")
    for k in range(5):
        grid = -(ss + bb) + (counts[k] * np.log(bb[..., None] + ss[..., None] * ratio)).sum(-1)
        grid += -0.5 * ((bb - 200) / sigma) ** 2 - 0.5 * ((ss - 15) / width) ** 2
        assert log_l[k] == pytest.approx(grid.max(), abs=0.01)
        assert log_l[k] >= grid.max()
        at = np.unravel_index(np.argmax(grid), grid.shape)
        assert (s[k], b[k]) == pytest.approx((ss[at], bb[at]), abs=0.8)


@pytest.mark.parametrize("mu", [0.0, 0.4, 1.5, 5.0])
def test_bounded_quantile_is_that_of_a_bounded_gaussian(mu):
    x = np.random.default_rng(4).normal(mu, 1.0, 400_000)
    t = (x - mu) ** 2 - (x - np.maximum(x, 0)) ** 2
    for level in (0.6827, 0.95):
        inside = np.mean(t <= bounded_quantile(mu, level))
        assert inside == pytest.approx(level, abs=0.004)
    assert bounded_quantile(50.0, 0.95) == pytest.approx(chi2.ppf(0.95, 1))
    assert bounded_quantile(0.0, 0.95) == pytest.approx(norm.isf(0.05) ** 2, rel=1e-6)


@pytest.mark.parametrize("s", [0.0, 15.0, pytest.param(45.0, marks=pytest.mark.slow)])
def test_asymptotic_intervals_cover(s):
    """220 pseudo-experiments: 68 and 95 % intervals hold the truth as often as they say, or more often."""
    rng = np.random.default_rng(int(s) + 5)
    n, covered, pulls = 220, {0.6827: 0, 0.95: 0}, []
    for _ in range(n):
        model = MixtureLikelihood(experiment(500, s, rng), background=(rng.normal(500, 15), 15.0))
        fit = model.fit()
        pulls.append((fit.count - s) / fit.error)
        for level in covered:
            low, high = model.interval(level)
            covered[level] += low <= s <= high
    for level, k in covered.items():
        assert binomtest(k, n, level, alternative="less").pvalue > 0.01
        assert k / n < level + 0.09
    if s:
        assert abs(np.mean(pulls)) < 0.2
        assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_neyman_intervals_cover_where_the_asymptotic_ones_do_not(templates):
    """12 background events and 3 signal events: an interval has to come from toys."""
    rng = np.random.default_rng(6)
    n, b, s = 120, 12.0, 3.0
    inside, asymptotic, excluded = 0, 0, 0
    for _ in range(n):
        model = MixtureLikelihood(experiment(b, s, rng), background=(b, 0.0))
        toys = neyman(model, templates, 200, rng, count=[s, 8.0, 16.0, 30.0])
        inside += toys.p[np.searchsorted(toys.count, s)] > 1 - 0.6827
        excluded += toys.p[np.searchsorted(toys.count, s)] <= 0.05
        low, high = model.interval(0.6827)
        asymptotic += low <= s <= high
        assert (
            toys.interval(0.95)[0]
            <= toys.interval(0.6827)[0]
            <= model.fit().count
            <= toys.interval(0.6827)[1]
        )
    assert binomtest(inside, n, 0.6827, alternative="less").pvalue > 0.01
    assert inside / n < 0.85
    assert binomtest(excluded, n, 0.05, alternative="greater").pvalue > 0.01


def test_neyman_agrees_with_wilks_for_many_events(templates):
    rng = np.random.default_rng(7)
    model = MixtureLikelihood(experiment(2000, 60, rng), background=(2000.0, 40.0), spurious=5.0)
    toys = neyman(model, templates, 400, rng)
    for level in (0.6827, 0.95):
        np.testing.assert_allclose(toys.interval(level), model.interval(level), atol=0.25 * model.fit().error)
    b = float(model.profile(0.0)[1][0])
    empty = templates.expected(b, constraint=40.0, spurious=5.0)
    assert toys.upper_limit() == pytest.approx(upper_limit(model, empty), rel=0.1)
    assert toys.p0 == 1 / 401
    # the median limit without signal is that of the expected sample
    nothing = templates.expected(2000.0, constraint=40.0, spurious=5.0)
    bands = neyman(nothing, templates, 400, rng).expected
    assert bands[2] == pytest.approx(upper_limit(nothing, nothing), rel=0.2)
    assert np.all(np.diff(bands) > 0)
    assert len(bands) == len(BANDS)


def test_no_signal_has_no_significance_and_a_limit(templates):
    rng = np.random.default_rng(8)
    r = log_ratio(draw_background(1500, rng))
    model = MixtureLikelihood(r[r < np.sort(r)[-12]], background=(1500.0, 30.0))
    assert (model.fit().count, model.fit().p, model.fit().z) == (0.0, 0.5, 0.0)
    toys = neyman(model, templates, 200, rng)
    assert toys.p0 == 0.5
    assert toys.interval(0.95)[0] == 0.0
    assert 0 < toys.upper_limit() < 20


def test_neyman_refuses_a_range_that_is_not_excluded(templates):
    model = MixtureLikelihood(experiment(500, 40, np.random.default_rng(9)))
    with pytest.raises(InputError, match="not excluded at 95 %"):
        neyman(model, templates, 100, np.random.default_rng(0), count=[10.0, 42.0])


def test_templates_are_both_shapes_and_notice_a_wrong_density(templates):
    rng = np.random.default_rng(10)
    np.testing.assert_allclose(
        templates.signal, templates.background * np.exp(templates.log_ratio), rtol=0.01
    )
    assert templates.normalisation == pytest.approx(1.0, abs=4 * templates.normalisation_error)
    # far out there are draws of signal only, yet the background there is known
    cut = log_ratio(draw_background(400_000, rng)) > 4.0
    assert templates.background[templates.log_ratio > 4.0].sum() == pytest.approx(cut.mean(), rel=0.1)
    wrong = Templates.from_draws(
        [log_ratio(draw_background(40_000, rng)) + 0.5], [log_ratio(draw_signal(40_000, rng)) + 0.5]
    )
    assert wrong.normalisation == pytest.approx(np.exp(0.5), abs=4 * wrong.normalisation_error)
    assert wrong.normalisation > 1 + 5 * wrong.normalisation_error
    with pytest.raises(InputError, match="finite ln R"):
        Templates.from_draws([np.array([0.0, np.nan])], [np.zeros(3)])


def test_global_p_of_one_signal_is_the_local_one():
    rng = np.random.default_rng(12)
    r = experiment(700, 12, rng)
    pool = log_ratio(draw_background(40_000, rng))
    for constraint, spurious in ((None, 0.0), ((700.0, 20.0), 0.0), ((700.0, 20.0), 6.0)):
        q0, p, (low, high) = global_p(
            (r[None], np.ones(len(r))),
            (pool[None], np.ones(len(pool))),
            400,
            rng,
            background=constraint,
            spurious=spurious,
        )
        fit = MixtureLikelihood(r, background=constraint, spurious=spurious).fit()
        # the fractions of the grid are 25 % apart
        assert q0 == pytest.approx(2 * fit.gain, rel=0.05, abs=0.1)
        assert low * 0.3 < fit.p < 3 * high + 0.003
        assert low <= p <= high + 0.01


def test_toys_of_global_p_are_those_as_good_as_the_data():
    """One signal and many events: the p-value of the largest gain is half a chi-squared one."""
    rng = np.random.default_rng(14)
    x = rng.normal(size=5000)
    x = (x - x.mean()) / x.std() + 0.03
    pool = 0.3 * rng.normal(size=2000)
    ratio, draws = 0.3 * x - 0.045, pool - 0.045
    q0, p, _ = global_p((ratio[None], np.ones(5000)), (draws[None], np.ones(2000)), 2500, rng)
    expected = 0.5 * chi2.sf(q0, 1)
    assert 0.01 < expected < 0.03
    assert abs(p - expected) < 3 * np.sqrt(expected / 2500)


def test_global_p_pays_for_many_signals_and_is_valid():
    """Without signal p < 0.1 in no more than a tenth of the experiments, although the best of four places is taken."""
    rng = np.random.default_rng(13)
    places = [(-1.6, 0.0), (0.0, -1.6), (0.0, 1.6), (1.6, 0.0)]

    def table(x):
        return np.stack([norm.logpdf(x, place, 0.3).sum(1) for place in places]) - norm.logpdf(x).sum(1)

    pool = table(rng.normal(size=(8_000, 2)))
    n, local, found = 80, 0, 0
    for _ in range(n):
        data = table(rng.normal(size=(rng.poisson(300), 2)))
        q0, p, _ = global_p((data, np.ones(data.shape[1])), (pool, np.ones(pool.shape[1])), 99, rng)
        found += p <= 0.1
        local += norm.sf(np.sqrt(q0)) <= 0.1
    assert binomtest(found, n, 0.1, alternative="greater").pvalue > 0.01
    assert found > 1
    assert local > 16


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"log_ratio": [0.0, np.inf]}, "finite ln R"),
        ({"log_ratio": [0.0], "weights": [0.0]}, "positive weight"),
        ({"log_ratio": [0.0], "background": (0.0, 1.0)}, "must be positive"),
        ({"log_ratio": [0.0], "spurious": -1.0}, "not negative"),
    ],
)
def test_input_that_cannot_be_used_is_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        MixtureLikelihood(**arguments)


def test_toys_of_weighted_events_scale(templates):
    """Twice the weights, twice the interval: the toys are made of effective events."""
    r = experiment(300, 20, np.random.default_rng(20))
    intervals = []
    for weight in (1.0, 2.0):
        model = MixtureLikelihood(r, np.full(len(r), weight), background=(300 * weight, 10 * weight))
        toys = neyman(model, templates, 150, np.random.default_rng(1))
        intervals.append([*toys.interval(0.95), toys.upper_limit(), *toys.expected])
    np.testing.assert_allclose(intervals[1], 2 * np.array(intervals[0]), rtol=1e-6)


def test_global_p_of_weighted_events():
    rng = np.random.default_rng(21)
    r = experiment(400, 10, rng)
    pool = log_ratio(draw_background(10_000, rng))
    found = [
        global_p(
            (r[None], np.full(len(r), weight)),
            (pool[None], np.ones(len(pool))),
            200,
            np.random.default_rng(2),
            background=(400.0 * weight, 15.0 * weight),
            spurious=3.0 * weight,
        )
        for weight in (1.0, 3.0)
    ]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert found[0][1] == found[1][1]


def test_drawn_toys_have_the_expected_mean(templates):
    counts = templates.draw(300.0, 25.0, 2000, np.random.default_rng(22))
    total = counts.sum(1)
    assert total.mean() == pytest.approx(325.0, abs=4 * np.sqrt(325 / 2000))
    assert total.var() == pytest.approx(325.0, rel=0.15)
    high = templates.log_ratio > 4.0
    expected = 300 * templates.background[high].sum() + 25 * templates.signal[high].sum()
    assert counts[:, high].sum(1).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 2000))


def test_expected_sample_gives_back_what_was_put_in(templates):
    model = templates.expected(800.0, 30.0, constraint=20.0)
    fit = model.fit()
    assert (fit.count, fit.background) == (pytest.approx(30.0, rel=1e-3), pytest.approx(800.0, rel=1e-3))
    assert templates.expected(800.0, scale=2.0).fit().count == pytest.approx(0.0, abs=1e-3)


def test_intervals_and_limits_are_ordered():
    model = MixtureLikelihood(experiment(500, 25, np.random.default_rng(23)), background=(500.0, 15.0))
    (low_95, high_95), (low_68, high_68) = model.interval(0.95), model.interval(0.6827)
    assert low_95 < low_68 < model.fit().count < high_68 < high_95
    # the ends of an interval are where t is at its quantile
    for mu, level in ((low_68, 0.6827), (high_68, 0.6827), (high_95, 0.95)):
        assert model.t(mu)[0] == pytest.approx(bounded_quantile(mu / model.fit().error, level), rel=1e-4)
    assert upper_limit(model, model, 0.9) < upper_limit(model, model, 0.95)


def test_profile_follows_the_constraints():
    tight = MixtureLikelihood(np.log(F_S / F_B), COUNTS, background=(900.0, 1.0), scale=1.0)
    loose = binned((900.0, 100.0))
    (_, b_tight, _), (_, b_loose, _) = tight.profile([0.0]), loose.profile([0.0])
    assert b_tight[0] == pytest.approx(900, abs=1)
    # with a loose constraint the background takes all events
    assert b_loose[0] > 1015
    s, _, _ = binned((990.0, 15.0), spurious=10.0).profile([0.0, 80.0])
    # the spurious signal pulls towards the best count, from both sides
    best = binned((990.0, 15.0)).fit().count
    assert 0 < s[0] < best < s[1] < 80


def test_signal_where_there_is_no_background_at_all():
    """Draws of a signal with R = e^60: the limit without signal is the three events of a count without background."""
    rng = np.random.default_rng(24)
    clean = Templates.from_draws([rng.normal(-8, 1, 5000)], [np.full(5000, 60.0)])
    empty = clean.expected(400.0, constraint=0.0)
    assert empty.fit().count == 0
    # t = 2 s = 1
    assert empty.fit().error == pytest.approx(0.5, rel=0.01)
    assert neyman(empty, clean, 300, rng).expected[2] == pytest.approx(3.0, abs=0.5)
