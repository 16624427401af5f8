from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, poisson, spearmanr

from serendip.errors import InputError
from serendip.events.audit import distance_correlation
from serendip.events.events import Events
from serendip.search.compare import CompareConfig
from serendip.study.resonance.answer import INPUTS, ResonantAnswer, resonant_notes, resonant_rows
from serendip.study.resonance.looks import added_excess, cut_entries
from serendip.study.resonance.question import ResonantConfig, _open, resonant_question
from serendip.study.resonance.table import FEATURES, Flattening, one_per_group, resonant_table, unweight
from serendip.theories.encoding import feature_names
from serendip.theories.mixture import BoostConfig, MixtureConfig
from serendip.theories.training_sample import TheorySample

NAMES = feature_names()
PLACE = {name: i for i, name in enumerate(NAMES)}


def encoded(**columns: object) -> np.ndarray:
    n = max(np.size(values) for values in columns.values())
    x = np.zeros((n, len(NAMES)), dtype=np.float32)
    for name, values in columns.items():
        x[:, PLACE[name]] = values
    return x


def jet(name: str, pt: object, eta: object, phi: object, mass: object = 0.0) -> dict[str, object]:
    pt, eta = np.asarray(pt, dtype=float), np.asarray(eta, dtype=float)
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + np.square(mass))
    return {f"{name}_energy": energy, f"{name}_pt": pt, f"{name}_eta": eta, f"{name}_phi": phi}


def test_masses_and_features_of_one_event_by_hand() -> None:
    # 3-4-5: jets at phi 0 and pi/2 in the transverse plane, missing momentum opposite to their sum
    x = encoded(
        **jet("j1", 300.0, 0.0, 0.0), **jet("b1", 400.0, 0.0, np.pi / 2, mass=300.0), met=500.0,
        met_phi=np.arctan2(4, 3) - np.pi, n_j=1, n_b=1, n_em=1, n_mp=2,
    )  # fmt: skip
    columns, rows = resonant_table(x, NAMES, mass="m_jj")
    # E = 300 + 500, p = 500
    assert columns["mass"][0] == pytest.approx(np.sqrt(800**2 - 500**2), rel=1e-6)
    # all is at rest: MT = ET_jj + MET
    transverse, _ = resonant_table(x, NAMES)
    assert transverse["mass"][0] == pytest.approx(800 + 500, rel=1e-6)
    assert rows.tolist() == [0]
    assert transverse["met_over_mass"][0] == pytest.approx(500 / 1300, rel=1e-6)
    assert transverse["pt2_over_pt1"][0] == pytest.approx(0.75)
    # the b-jet is the harder one
    assert transverse["m1_over_pt1"][0] == pytest.approx(0.75, rel=1e-5)
    assert transverse["m2_over_pt2"][0] == pytest.approx(0.0, abs=2e-3)
    assert transverse["min_dphi_met"][0] == pytest.approx(np.pi - np.arctan2(4, 3), rel=1e-5)
    assert [transverse[name][0] for name in ("n_jets", "n_b", "n_leptons")] == [2, 1, 3]


def test_without_missing_momentum_both_masses_agree_and_feature_list_is_complete() -> None:
    rng = np.random.default_rng(1)
    n = 200
    x = encoded(
        **jet("j1", rng.uniform(300, 900, n), rng.uniform(-0.6, 0.6, n), rng.uniform(-3, 3, n)),
        **jet("j2", rng.uniform(100, 300, n), rng.uniform(-0.6, 0.6, n), rng.uniform(-3, 3, n)),
    )
    invariant, _ = resonant_table(x, NAMES, mass="m_jj")
    transverse, rows = resonant_table(x, NAMES, mass="mt_jj")
    np.testing.assert_allclose(invariant["mass"], transverse["mass"], rtol=1e-6)
    assert len(rows) == n
    assert tuple(transverse) == ("mass", *FEATURES)


def test_events_without_two_jets_or_far_apart_in_eta_are_left_out() -> None:
    x = encoded(
        **jet("j1", [500, 500, 500, 500.0], [0, 0, 0.7, 0.7], 0.0),
        **jet("j2", [400, 0, 400, 400.0], [0, 0, -0.65, -0.55], 3.0),
    )
    columns, rows = resonant_table(x, NAMES)
    assert rows.tolist() == [0, 3]
    assert len(columns["mass"]) == 2
    assert resonant_table(x, NAMES, max_delta_eta=2.0)[1].tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (NAMES, {"mass": "mjj"}, "'mt_jj' or 'm_jj', not 'mjj'"),
        (NAMES, {"max_delta_eta": 0.0}, "expected a positive number"),
        (tuple(name for name in NAMES if name != "n_b"), {}, "column 'n_b' is missing"),
    ],
)
def test_wrong_tables_are_refused(names: tuple[str, ...], options: dict[str, object], message: str) -> None:
    x = np.zeros((2, len(names)), dtype=np.float32)
    with pytest.raises(InputError, match=message):
        resonant_table(x, names, **options)  # type: ignore[arg-type]


def test_events_turned_to_met_have_the_same_masses() -> None:
    rng = np.random.default_rng(4)
    n = 100
    phi, met_phi = rng.uniform(-3, 3, (2, n)), rng.uniform(-3, 3, n)
    kinematics = {"met": rng.uniform(100, 500, n), "n_j": 2}

    def table(angle: object, names: tuple[str, ...], **more: object) -> dict[str, object]:
        x = encoded(
            **jet("j1", np.full(n, 500.0), np.zeros(n), phi[0] - angle), **jet("j2", np.full(n, 300.0), np.zeros(n), phi[1] - angle),
            **kinematics, **more,
        )  # fmt: skip
        return resonant_table(x[:, [PLACE[name] for name in names]], names)[0]

    plain = table(0.0, NAMES, met_phi=met_phi)
    turned = table(met_phi, tuple(name for name in NAMES if name != "met_phi"))
    for name, values in plain.items():
        np.testing.assert_allclose(turned[name], values, rtol=2e-4, atol=2e-4)


def test_one_event_stands_for_its_group() -> None:
    group = np.array([7, 7, 7, 9, 11, 11])
    weight = np.array([1.0, 2.0, 1.0, 5.0, 0.0, 3.0])
    rng = np.random.default_rng(2)
    counts = np.zeros(6)
    for _ in range(4000):
        rows, sums = one_per_group(group, weight, rng)
        assert group[rows].tolist() == sorted(set(group.tolist()))
        assert sums.tolist() == [4.0, 5.0, 3.0]
        counts[rows] += 1
    assert counts[3] == counts[5] == 4000
    assert counts[4] == 0
    # a member is drawn in proportion to its weight
    assert counts[1] / 4000 == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 4000))
    assert counts[0] / 4000 == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / 4000))
    with pytest.raises(InputError, match="not negative"):
        one_per_group(group, -weight, rng)


def test_accept_reject_leaves_expectations_as_they_are() -> None:
    rng = np.random.default_rng(3)
    n = 40_000
    value = rng.normal(size=n)
    weight = np.exp(value)  # weights that depend on what is measured
    taken = unweight(weight, rng, max_overweight=0.05)
    assert taken.overweight_share == pytest.approx(0.05, abs=1e-9)
    assert np.all(taken.weight >= 1)
    # of the normal times exp(x): mean 1, and the sum of weights is kept
    mean = np.average(value[taken.rows], weights=taken.weight)
    assert mean == pytest.approx(1.0, abs=4 / np.sqrt(taken.effective))
    total = taken.weight.sum() * taken.reference
    assert total == pytest.approx(weight.sum(), rel=4 / np.sqrt(len(taken.rows)))
    assert taken.overweight == np.count_nonzero(weight > taken.reference)
    assert np.count_nonzero(taken.weight > 1) == taken.overweight

    pure = unweight(weight, rng, max_overweight=0.0)
    assert pure.reference == weight.max()
    assert np.all(pure.weight == 1.0)
    assert len(pure.rows) < len(taken.rows) / 3


def test_equal_weights_are_all_kept_and_bad_ones_refused() -> None:
    rng = np.random.default_rng(4)
    taken = unweight(np.full(50, 2.5), rng, max_overweight=0.2)
    assert taken.rows.tolist() == list(range(50))
    assert taken.reference == 2.5
    assert taken.to_dict() == {
        "events": 50, "reference": 2.5, "overweight": 0, "overweight_share": 0.0, "effective": 50.0,
    }  # fmt: skip
    for weight, share in (([1.0, -1.0], 0.1), ([0.0, 0.0], 0.1), ([1.0, np.nan], 0.1), ([1.0], 1.0)):
        with pytest.raises(InputError):
            unweight(weight, rng, max_overweight=share)


def test_a_flattened_score_knows_no_mass() -> None:
    rng = np.random.default_rng(5)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mass = 1500 * np.exp(rng.exponential(0.3, n))
        # location and width move with the mass, the shape is skewed
        score = 2 * np.log(mass / 1500) + (0.5 + np.log(mass / 1500)) * (rng.gamma(3.0, size=n) - 3)
        return score, mass, rng.integers(1, 4, n).astype(float)

    flat = Flattening.fit(*sample(4000))
    score, mass, _ = sample(4000)
    before, _ = distance_correlation(score[:1500], mass[:1500])
    z = flat(score, mass)
    after, limit = distance_correlation(z[:1500], mass[:1500])
    assert before > 0.4
    assert after < 2 * limit
    # standard normal quantiles at all masses
    for part in (mass < np.median(mass), mass >= np.median(mass)):
        for level in (0.1, 0.5, 0.9):
            share = np.mean(z[part] < norm.ppf(level))
            # 3 % for the fit of the quantiles, which has 4000 events
            assert share == pytest.approx(level, abs=0.03)


def test_flattening_keeps_the_order_at_a_mass_beyond_all_quantiles() -> None:
    rng = np.random.default_rng(6)
    flat = Flattening.fit(rng.normal(size=500), rng.uniform(1000, 2000, 500), np.ones(500))
    score = np.linspace(-50, 50, 1001)
    for mass in (500.0, 1200.0, 5000.0):
        assert np.all(np.diff(flat(score, np.full(1001, mass))) > 0)
    assert len(flat.z) < 10  # no quantile is fitted with fewer than 25 events beyond it
    with pytest.raises(InputError, match="too few to take the mass out"):
        Flattening.fit(np.arange(50.0), np.arange(1000.0, 1050.0), np.ones(50))


def test_steps_of_a_score_tell_the_mass_after_the_flattening_unless_they_are_smeared() -> None:
    rng = np.random.default_rng(9)
    n = 3000
    mass = 1500 * np.exp(rng.exponential(0.3, n))
    step = 0.05
    score = step * np.round((np.log(mass / 1500) + rng.normal(size=n)) / step)
    block = score == np.median(score)
    plain = Flattening.fit(score, mass, np.ones(n))(score, mass)
    # at one score the flattened one is a function of the mass
    assert abs(spearmanr(plain[block], mass[block]).statistic) > 0.99
    smeared = score + rng.normal(0, 0.3, n)
    smooth = Flattening.fit(smeared, mass, np.ones(n))(smeared, mass)
    near = np.abs(smooth - np.median(smooth)) < 0.05
    assert abs(spearmanr(smooth[near], mass[near]).statistic) < 4 / np.sqrt(np.count_nonzero(near))


def toy(
    n: int,
    rng: np.random.Generator,
    *,
    name: str,
    family: str,
    photons: float,
    mass: tuple[float, float] | None,
) -> TheorySample:
    """Two jets back to back; photons, which only the classifier sees, mark what is new."""
    pt = rng.normal(*mass, n) / 2 if mass else 400 * np.exp(rng.exponential(0.18, n))
    phi = rng.uniform(-3, 3, n)
    x = encoded(
        **jet("j1", pt, 0.0, phi, rng.uniform(20, 80, n)), **jet("j2", pt * rng.uniform(0.98, 1.0, n), rng.uniform(-0.3, 0.3, n), phi + np.pi, rng.uniform(20, 80, n)), met=rng.uniform(100, 200, n),
        met_phi=rng.uniform(-3, 3, n), n_j=rng.integers(2, 6, n), n_g=rng.poisson(photons, n),
    )  # fmt: skip
    return TheorySample(name, family, x, np.ones(n), np.arange(n), rng.uniform(size=n))


@pytest.fixture(scope="module")
def samples() -> dict[str, TheorySample]:
    rng = np.random.default_rng(7)
    return {
        "background": toy(9000, rng, name="background", family="Standard Model", photons=0.3, mass=None),
        "other": toy(1500, rng, name="other", family="other", photons=2.5, mass=(1600, 600)),
        "more": toy(300, rng, name="more", family="resonances", photons=2.5, mass=(1600, 600)),
        "peak": toy(800, rng, name="peak", family="resonances", photons=2.0, mass=(1200, 40)),
    }


CONFIG = ResonantConfig(
    mass="m_jj",
    seeds=1,
    injections=(0, 3),
    working_points=(0.1,),
    folds=2,
    options={"members": 2},
    data_fraction=0.5,
    flatten_fraction=0.2,
    min_background=5,
    mixture=MixtureConfig(boost=BoostConfig(rounds=60)),
)


@pytest.fixture(scope="module")
def answered(
    samples: dict[str, TheorySample], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ResonantAnswer, Path]:
    out = tmp_path_factory.mktemp("study") / "peak"
    return ask(samples, out), out


def ask(samples: dict[str, TheorySample], out: Path, config: ResonantConfig = CONFIG) -> ResonantAnswer:
    theories = [samples["other"], samples["more"]]
    return resonant_question(
        samples["background"], theories, samples["peak"], out, config, features=NAMES, jobs=1
    )


def row(answer: ResonantAnswer, inputs: str, size: float) -> object:
    return next(row for row in answer.rows if row.inputs == inputs and row.s_over_sqrt_b == size)


def test_the_family_of_the_resonance_never_trains(answered: tuple[ResonantAnswer, Path]) -> None:
    answer, out = answered
    assert answer.theories == ("other",)
    assert answer.left_out == ("resonances",)
    assert json.loads((out / "mixture" / "mixture.json").read_text())["theories"] == ["other"]


def test_pseudo_data_are_the_part_that_trained_nothing(
    answered: tuple[ResonantAnswer, Path], samples: dict[str, TheorySample]
) -> None:
    answer, out = answered
    background = samples["background"]
    held = background.x[background.fold < CONFIG.data_fraction]
    columns, _ = resonant_table(held, NAMES, mass="m_jj")
    low, high = answer.range
    wanted = np.sort(columns["mass"][(columns["mass"] >= low) & (columns["mass"] < high)])
    from serendip.events.read import read

    table = read(out / "events.parquet")
    np.testing.assert_allclose(np.sort(table.m[~table.labels]), wanted, rtol=1e-9)
    # half of the simulation stands for all of it
    assert answer.events["reference"] == pytest.approx(2.0)
    assert answer.events["luminosity_fb"] == pytest.approx(5.0)
    window = answer.window
    assert answer.events["background_in_window"] == np.count_nonzero(
        (wanted >= window[0]) & (wanted < window[1])
    )
    # 68 % of a normal distribution lie within one standard deviation
    assert 0.5 * sum(window) == pytest.approx(1200, abs=25)
    assert window[1] - window[0] == pytest.approx(2 * 40, abs=20)


def test_neither_pseudo_data_nor_the_flattening_part_train(
    samples: dict[str, TheorySample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background, seen = samples["background"], []

    def spy(
        x: np.ndarray, theories: list[TheorySample], *_: object, background_group: np.ndarray, **__: object
    ) -> None:
        assert [theory.name for theory in theories] == ["other"]
        seen.append(background_group)
        raise InputError("stop")

    monkeypatch.setattr("serendip.study.resonance.question.train_mixture", spy)
    with pytest.raises(InputError, match="stop"):
        ask(samples, tmp_path / "out")
    rest = np.flatnonzero(background.fold >= CONFIG.data_fraction + CONFIG.flatten_fraction)
    np.testing.assert_array_equal(seen[0], background.group[rest])


def test_the_score_helps_where_only_the_score_can(answered: tuple[ResonantAnswer, Path]) -> None:
    answer, _ = answered
    plain, cut = row(answer, "features", 3), row(answer, "cut score", 3)
    # the best that the number of photons can do
    n = np.arange(30)
    background, signal = poisson.pmf(n, 0.3), poisson.pmf(n, 2.0)
    best = float(np.sum(signal * (np.cumsum(background) - 0.5 * background)))
    # trees lose a little to the columns that mean nothing; the error of the AUC is 0.01
    assert best - 0.07 < answer.score["mot_score"]["auc_in_window"] < best + 0.03
    assert plain.max_sic[0] < 1.5 < 2.0 < cut.sic[0]
    assert cut.better == (1, 1)
    assert row(answer, "none", 3).sic == (1.0, 1.0, 1.0)
    # a cut that keeps a tenth of the background and most of the signal
    assert cut.z_expected[0] > 1.3 * row(answer, "none", 3).z_expected[0]
    # 3 sigma without errors of the background, a little less with them
    assert 1.8 < row(answer, "none", 3).z_expected[0] < 3.0
    assert row(answer, "features", 0).sic is None
    assert {row.inputs for row in answer.rows} == set(INPUTS)


def test_injections_are_in_units_of_the_error_of_the_background(
    answered: tuple[ResonantAnswer, Path],
) -> None:
    answer, _ = answered
    expected = round(3 * np.sqrt(answer.events["background_in_window"]))
    assert row(answer, "features", 3).signal == expected


def test_the_answer_is_written_and_printed(answered: tuple[ResonantAnswer, Path]) -> None:
    answer, out = answered
    stored = json.loads((out / "resonant.json").read_text())
    assert stored["window"] == list(answer.window)
    assert len(stored["rows"]) == len(answer.rows) == 2 * len(INPUTS)
    assert "cut score" in str(answer)
    assert str(answer).count("\n") == 2 + len(answer.rows) + len(answer.notes)


def test_the_same_call_again_trains_nothing_and_answers_the_same(
    answered: tuple[ResonantAnswer, Path], samples: dict[str, TheorySample]
) -> None:
    answer, out = answered
    files = [out / "mixture" / "model.txt", out / "events.parquet", *out.glob("*/tasks/*/*.npz")]
    times = [path.stat().st_mtime_ns for path in files]
    assert ask(samples, out).to_dict() == answer.to_dict()
    assert [path.stat().st_mtime_ns for path in files] == times


def test_a_folder_of_other_input_is_refused(
    answered: tuple[ResonantAnswer, Path], samples: dict[str, TheorySample], tmp_path: Path
) -> None:
    _, out = answered
    with pytest.raises(InputError, match=r"other settings \(config differ\)"):
        ask(samples, out, CONFIG.model_copy(update={"seed": 2}))
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and contains no resonant question"):
        ask(samples, tmp_path)


@pytest.mark.parametrize("name", ["background", "peak", "other"])
@pytest.mark.parametrize("part", ["x", "weight", "group", "fold"])
def test_every_number_of_a_sample_is_input(
    answered: tuple[ResonantAnswer, Path], samples: dict[str, TheorySample], name: str, part: str
) -> None:
    _, out = answered
    values = np.array(getattr(samples[name], part))
    values[-1] += 1
    changed = {**samples, name: replace(samples[name], **{part: values})}
    what = {"background": "background", "peak": "resonance", "other": "theories"}[name]
    with pytest.raises(InputError, match=rf"other settings \({what} differ\)"):
        ask(changed, out)


def test_an_empty_folder_may_be_used_and_a_file_or_a_damaged_record_not(tmp_path: Path) -> None:
    folder, file = tmp_path / "empty", tmp_path / "file"
    folder.mkdir()
    file.touch()
    _open(folder, {"schema": 1})
    _open(folder, {"schema": 1})
    with pytest.raises(InputError, match="is a file"):
        _open(file, {"schema": 1})
    with pytest.raises(InputError, match=r"other settings \(schema differ\)"):
        _open(folder, {"schema": 2})
    (record,) = folder.iterdir()
    record.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        _open(folder, {"schema": 1})


@pytest.mark.parametrize(
    "option",
    [
        {"folds": 1}, {"folds": 101}, {"window_share": 1.0}, {"max_delta_eta": 0.0}, {"smear": -0.1},
        {"max_overweight": 1.0}, {"data_fraction": 0.0}, {"flatten_fraction": 0.0}, {"seed": 2**32},
    ],
)  # fmt: skip
def test_options_have_bounds(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        ResonantConfig(**option)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_events": 5000}, "accept-reject leaves"),
        ({"injections": (100.0,)}, "signal events in the window"),
        ({"without": ("others",)}, "no family 'others' to leave out; there are other, resonances"),
        ({"without": ("other",)}, "no theory is left"),
        ({"range": (9e5, 9.1e5), "window": (9.02e5, 9.03e5)}, "no background event has a mass"),
    ],
)
def test_what_cannot_be_done_is_said(
    samples: dict[str, TheorySample], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = CONFIG.model_copy(update={"mixture": MixtureConfig(boost=BoostConfig(rounds=2)), **changes})
    with pytest.raises(InputError, match=message):
        ask(samples, tmp_path / "out", config)


def test_samples_without_numbers_are_refused(samples: dict[str, TheorySample], tmp_path: Path) -> None:
    background = samples["background"]
    bare = TheorySample("background", "Standard Model", background.x)
    with pytest.raises(InputError, match="weights, groups and numbers"):
        resonant_question(bare, [samples["other"]], samples["peak"], tmp_path / "out", CONFIG, features=NAMES)
    with pytest.raises(ValueError, match="nothing to train on"):
        ResonantConfig(data_fraction=0.7, flatten_fraction=0.3)
    with pytest.raises(ValueError, match="sizes of the signal"):
        ResonantConfig(injections=(-1.0,))


def test_a_cut_counts_what_numpy_counts(answered: tuple[ResonantAnswer, Path]) -> None:
    answer, out = answered
    config = CompareConfig(
        file=str(out / "events.parquet"), mass="mass", features=("mot_flat",), label="signal", window=answer.window,
        range=answer.range, injections=(0,), repeats=1, working_points=(0.1,), method=("bump-hunt",),
    )  # fmt: skip
    (entry,) = cut_entries(config, "mot_flat")
    from serendip.events.read import read

    table = read(out / "events.parquet")
    background = ~table.labels
    score, mass = table["mot_flat"][background], table.m[background]
    inside = (mass >= answer.window[0]) & (mass < answer.window[1])
    # the threshold keeps a tenth of the sidebands
    threshold = np.sort(score[~inside])[::-1][int(0.1 * np.count_nonzero(~inside)) - 1]
    look = entry["looks"][0]
    ties = np.count_nonzero(inside & (score == threshold))
    assert abs(look["observed"] - np.count_nonzero(inside & (score > threshold))) <= ties
    assert look["true_signal"] == 0
    assert entry["max_sic"] is None
    # background alone: nothing is found
    assert abs(look["observed"] - look["expected"]) < 3 * np.hypot(
        np.sqrt(look["expected"]), look["expected_error"]
    )


def test_signal_beside_the_window_costs_what_it_adds_to_the_expectation() -> None:
    rng = np.random.default_rng(10)
    n = 20_000
    config = CompareConfig(
        file="events.parquet", mass="mass", features=("score",), label="signal", window=(1900, 2100),
        range=(1500, 4000), injections=(0,), repeats=1, working_points=(0.1,), method=("bump-hunt",),
    )  # fmt: skip

    def added(spread: float, score: float) -> float:
        mass = np.concatenate([1500 * np.exp(rng.exponential(0.25, n)), rng.normal(2000, spread, 300)])
        columns = {
            "mass": mass,
            "score": np.concatenate([rng.normal(size=n), rng.normal(score, 0.1, 300)]),
            "signal": np.repeat([0, 1], [n, 300]),
        }
        inside = (mass >= 1500) & (mass < 4000)
        events = Events(
            {k: v[inside] for k, v in columns.items()}, mass="mass", features=("score",), label="signal"
        )
        (value,) = added_excess(
            config, events, events["score"], np.zeros(len(events), dtype=np.int64), "single", [0.1]
        )
        return value

    # narrow, and far above the cut: nearly all of it is added
    assert added(30.0, 5.0) == pytest.approx(300, abs=40)
    # below the cut: nothing is
    assert abs(added(30.0, -1.0)) < 5
    # broad: 38 % are in the window, and the rest beside it
    assert added(200.0, 5.0) < 0.8 * 0.38 * 300


def test_rows_are_medians_and_ranges_over_repeats() -> None:
    def entry(repeat: int, sic: float, found: float) -> dict[str, object]:
        look = {
            "working_point": 0.1, "added": found, "expected": 100.0, "expected_error": 0.0, "z_local": sic,
            "mass_shape": {"p": 0.5},
        }  # fmt: skip
        return {
            "injection": 40, "repeat": repeat, "max_sic": {"sic": sic}, "sic_at": [{"working_point": 0.1, "sic": sic / 2}],
            "looks": [look], "distance_correlation": 0.1, "distance_correlation_null": 0.05,
        }  # fmt: skip

    found = {
        "features": [entry(0, 1.0, 10), entry(1, 2.0, 10), entry(2, 3.0, 10)],
        "score": [entry(0, 2.0, 30), entry(1, 1.5, 30), entry(2, 4.0, 30)],
    }
    (result,) = resonant_rows("score", 4.0, 40, found, 1.0)
    assert result.max_sic == (2.0, 1.5, 4.0)
    assert result.sic == (1.0, 0.75, 2.0)
    assert result.better == (2, 3)
    assert result.ratio == (4 / 3, 0.75, 2.0)
    # known background: sqrt(2 ((s + b) ln(1 + s/b) - s))
    asimov = np.sqrt(2 * (130 * np.log(1.3) - 30))
    assert result.z_expected[0] == pytest.approx(asimov, rel=1e-6)
    (scaled,) = resonant_rows("score", 4.0, 40, found, 2.0)
    assert scaled.z_expected[0] == pytest.approx(asimov / np.sqrt(2), rel=1e-6)
    (plain,) = resonant_rows("features", 4.0, 40, found, 1.0)
    assert plain.better is None
    # the same excess and a bad shape without signal are worth a note; with signal they are not
    found["score"] = [entry(0, 4.0, 0) | {"injection": 0}, entry(0, 4.0, 30)]
    found["score"][0]["looks"][0]["mass_shape"] = {"p": 1e-3}
    rows = [row for number in (0, 40) for row in resonant_rows("score", number / 10, number, found, 1.0)]
    assert [row.sic is None for row in rows] == [True, False]
    notes = resonant_notes(rows, {"largest_step": 0.0})
    assert len(notes) == 2
    assert notes[0].endswith("score")
    assert "above 3 sigma" in notes[1]
    twins = [replace(rows[0], inputs=name, signal=float("0.0")) for name in ("score", "features")]
    assert [note.rpartition(": ")[2] for note in resonant_notes(twins, {"largest_step": 0.0})] == [
        "features, score"
    ] * 2
    assert resonant_notes(rows[1:], {"largest_step": 0.0}) == ()
    assert "5.0 %" in resonant_notes(rows[1:], {"largest_step": 0.05})[0]


def test_flattening_and_score_agree_on_order_in_a_narrow_window(
    answered: tuple[ResonantAnswer, Path],
) -> None:
    _, out = answered
    from serendip.events.read import read

    table = read(out / "events.parquet")
    near = np.abs(table.m - 1200) < 20
    assert spearmanr(table["mot_score"][near], table["mot_flat"][near]).statistic > 0.95


def test_quantile_fits_agree_with_the_exact_linear_programme() -> None:
    from sklearn.linear_model import QuantileRegressor

    rng = np.random.default_rng(8)
    mass, score, weight = rng.uniform(1000, 3000, 300), rng.normal(size=300), rng.uniform(0.5, 2, 300)
    score += np.log(mass)
    flat = Flattening.fit(score, mass, weight)
    t = (np.log(mass) - flat.centre) / flat.spread
    design = np.stack([t, t**2], axis=1)

    def loss(line: np.ndarray, level: float) -> float:
        r = score - line
        return float(np.sum(weight * np.where(r > 0, level * r, (level - 1) * r)))

    for z, beta in zip(flat.z, flat.coefficients, strict=True):
        level = float(norm.cdf(z))
        exact = QuantileRegressor(quantile=level, alpha=0.0, solver="highs").fit(
            design, score, sample_weight=weight
        )
        mine = beta[0] + design @ beta[1:]
        assert loss(mine, level) == pytest.approx(loss(exact.predict(design), level), rel=1e-3)
