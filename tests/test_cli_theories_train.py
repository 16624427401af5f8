"""``serendip theories simulate``, ``train`` and ``evaluate``: what trains, what is tested, and what the numbers are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import ObjectEvents, concatenate
from serendip.events.objects_parquet import write_parquet
from serendip.theories.evaluate import evaluate
from serendip.theories.merits import read_results
from serendip.theories.mixture import BoostConfig, MixtureClassifier, MixtureConfig
from serendip.theories.samples import read_channel_samples, sample_name
from serendip.theories.split import hash_fold
from serendip.theories.training import (
    TrainingRecord,
    channel_files,
    choose_theories,
    train_channel,
)

pytest.importorskip("lightgbm")

FAST = MixtureConfig(boost=BoostConfig(rounds=30, leaves=8), events_per_theory=500)


def events(n: int, seed: int, *, met: float = 300.0, weight: float = 1.0, process: str = "") -> ObjectEvents:
    """Channel-1 events (channel 3 too) with five jets; MET is exponential above ``met``."""
    rng = np.random.default_rng(seed)
    pt = np.sort(60 + rng.exponential(60, (n, 5)), axis=1)[:, ::-1] + [400, 0, 0, 0, 0]
    eta, phi = rng.uniform(-2, 2, (n, 5)), rng.uniform(-3.1, 3.1, (n, 5))
    return ObjectEvents(
        event_id=np.arange(n).astype(str), process=np.full(n, process or f"p{seed}"), weight=np.full(n, weight),
        met=met + rng.exponential(100, n), met_phi=rng.uniform(-3.1, 3.1, n), offsets=5 * np.arange(n + 1),
        kind=np.zeros(5 * n, dtype=np.int8), energy=(pt * np.cosh(eta)).ravel(), pt=pt.ravel(), eta=eta.ravel(),
        phi=phi.ravel(),
    )  # fmt: skip


def write_folder(folder: Path, samples: dict[str, ObjectEvents]) -> Path:
    folder.mkdir()
    for name, sample in samples.items():
        write_parquet(sample, folder / f"{name}.parquet")
    record = {"schema": 1, "settings": {}, "samples": {name: {} for name in samples}}
    (folder / "settings.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("samples")
    standard = {"ttbar_a": events(3000, 1), "qcd_b": events(1000, 2, weight=0.5)}
    theories = {
        "glgl1600_neutralino800": events(600, 3, met=700),
        "glgl1000_neutralino1": events(600, 4, met=600),
        "sqsq_sq1400_neut200": events(600, 5, met=500),
        "slsl_sl200_neut50": events(60, 6),
    }
    return write_folder(top / "SM", standard), write_folder(top / "BSM", theories)


@pytest.fixture(scope="module")
def model(samples, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models") / "mot"
    trained, record = train_channel([samples[0]], [samples[1]], "1", FAST, without=["sqsq"])
    trained.save(out)
    record.save(out)
    return out


def test_the_record_counts_the_events_that_trained(samples, model):
    record = TrainingRecord.load(model)
    folds = {
        name: hash_fold(sample.event_id, sample.process, FAST.seed)
        for name, sample in (("ttbar_a", events(3000, 1)), ("qcd_b", events(1000, 2)))
    }
    assert record.background == {name: int(np.sum(fold >= 0.3)) for name, fold in folds.items()}
    gluinos = events(600, 3)
    trained = int(np.sum(hash_fold(gluinos.event_id, gluinos.process, FAST.seed) >= 0.3))
    assert record.theories["glgl1600_neutralino800"] == trained < 500
    assert record.families["glgl1600_neutralino800"] == "glgl"
    assert set(record.theories) == {"glgl1600_neutralino800", "glgl1000_neutralino1"}
    assert record.left_out == {
        "sqsq_sq1400_neut200": "left out as asked",
        "slsl_sl200_neut50": "60 events in the channel, too few",
    }
    assert MixtureClassifier.load(model).theories == tuple(record.theories)


def test_test_events_have_no_influence_on_the_training(samples, tmp_path):
    """Test events with another MET change nothing in the model; training events do."""
    sample = events(3000, 1)
    test = hash_fold(sample.event_id, sample.process, FAST.seed) < 0.3
    models = []
    for number, rows in enumerate((np.zeros(3000, dtype=bool), test, ~test)):
        met = np.where(rows, sample.met + 400, sample.met)
        folder = write_folder(tmp_path / f"SM{number}", {"ttbar_a": replace(sample, met=met)})
        models.append(train_channel([folder], [samples[1]], "1", FAST)[0].model)
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_evaluation_leaves_the_training_events_out(samples, model):
    rng = np.random.default_rng(1)
    found = evaluate([model], [samples[0]], [samples[1]], rng)
    record = TrainingRecord.load(model)
    channel = found.channels["1"]
    assert channel.trained == sum(record.background.values())
    assert channel.events == 4000 - channel.trained
    assert channel.generated == channel.events
    assert (
        found.merits["glgl1600_neutralino800", "1"].n_signal
        == 600 - record.theories["glgl1600_neutralino800"]
    )
    # did not train: all of its events
    assert found.merits["sqsq_sq1400_neut200", "1"].n_signal == 600
    assert [signal for (signal, _), yes in found.trained.items() if yes] == [
        "glgl1600_neutralino800",
        "glgl1000_neutralino1",
    ]
    # The samples differ in MET alone, exponential above 300 and above 600 and 700: the ratio of densities has three levels,
    # and what lies above 500 is judged by them.
    aucs = {signal: one.auc for (signal, _), one in found.merits.items()}
    standard = np.array([1 - np.exp(-3.0), np.exp(-3.0) - np.exp(-4.0), np.exp(-4.0)])
    for signal, above in (
        ("glgl1600_neutralino800", (0.0, 1.0)),
        ("sqsq_sq1400_neut200", (np.exp(-1), np.exp(-2))),
    ):
        levels = (
            np.array([1 - above[0], above[0] - above[1], above[1]]) if above[0] else np.array([0, 0, 1.0])
        )
        expected = levels @ (np.cumsum(standard) - 0.5 * standard)
        assert aucs[signal] == pytest.approx(expected, abs=0.02)
    # the same as background but for the statistics of 60 events
    assert found.merits["slsl_sl200_neut50", "1"].n_signal == 60
    assert aucs["slsl_sl200_neut50"] == pytest.approx(0.5, abs=0.12)


def test_weights_of_test_events_stand_for_the_whole_file(samples, model, tmp_path):
    """A file that trained keeps 30 % of its events, one that did not all: their shares must stay."""
    record = TrainingRecord.load(model)
    write_parquet(events(1000, 7), tmp_path / "fresh.parquet")
    sample = read_channel_samples(
        [samples[0] / "ttbar_a.parquet"], [], "1", split_seed=record.split_seed
    ).background
    kept = record.unseen(sample, "ttbar_a")
    assert len(kept.x) < 1000
    assert kept.weight.sum() == pytest.approx(3000, rel=0.05)
    assert record.unseen(sample, "fresh") is sample


def test_copies_of_a_generated_event_count_once(samples, model, tmp_path):
    """Eight copies of each event, one after the other: the same numbers and errors as without copies."""
    base = events(1500, 8, process="x")
    copies = base.select(np.repeat(np.arange(1500), 8))
    write_parquet(base, tmp_path / "base.parquet")
    write_parquet(copies, tmp_path / "copies.parquet")
    signal = [samples[1] / "sqsq_sq1400_neut200.parquet"]
    one, eight = (
        evaluate([model], [tmp_path / f"{name}.parquet"], signal, np.random.default_rng(1))
        for name in ("base", "copies")
    )
    assert (eight.channels["1"].events, eight.channels["1"].generated) == (12000, 1500)
    assert eight.channels["1"].effective == pytest.approx(1500)
    a, b = (found.merits["sqsq_sq1400_neut200", "1"] for found in (one, eight))
    assert (b.auc, b.auc_error) == pytest.approx((a.auc, a.auc_error))
    for mine, other in zip(b.points[:2], a.points[:2], strict=True):
        # up to the efficiency of one event, which the cut may or may not divide
        assert mine.background == pytest.approx(other.background, rel=0.1)
        assert (mine.eps_s, mine.si_error) == pytest.approx((other.eps_s, other.si_error), rel=0.1)
        assert mine.reliable == other.reliable


def test_unrelated_events_of_one_id_are_no_copies(samples, model, tmp_path):
    """In public files a few events of a process share an ID; they stand apart and all count."""
    base = events(1500, 8, process="x")
    write_parquet(replace(base, event_id=(np.arange(1500) % 300).astype(str)), tmp_path / "public.parquet")
    signal = [samples[1] / "sqsq_sq1400_neut200.parquet"]
    found = evaluate([model], [tmp_path / "public.parquet"], signal, np.random.default_rng(1))
    assert found.channels["1"].generated == 1500


def test_heavy_events_make_points_unreliable(samples, model, tmp_path):
    """Behind the cut are many light events, but 20 heavy ones of low MET carry most of the weight."""
    write_parquet(
        concatenate([events(3000, 9, met=500, weight=0.02), events(20, 10, weight=50.0)]),
        tmp_path / "heavy.parquet",
    )
    signal = [samples[1] / "sqsq_sq1400_neut200.parquet"]
    found = evaluate([model], [tmp_path / "heavy.parquet"], signal, np.random.default_rng(1))
    point = found.merits["sqsq_sq1400_neut200", "1"].points[0]
    assert point.background > 10
    assert not point.reliable
    assert "has 0.047 of the weight" in point.reason
    # the weight of all events is known to 1 / sqrt(20), and eps_B with it
    assert point.si_error > 0.5 * point.si / np.sqrt(20) > 0
    assert found.total is None


def test_theories_with_fewer_events_than_asked_for_are_named(samples, tmp_path, capsys):
    arguments = [
        "--background",
        str(samples[0]),
        "--theories",
        str(samples[1]),
        "--channel",
        "1",
        "--theory",
        "sqsq",
    ]
    command = ["theories", "train", *arguments, "--out", str(tmp_path / "one"), "--events-per-theory"]
    assert run([*command, "450"]) == 0
    assert (
        "fewer than the requested 450 events, with the weight of a full sample: sqsq_sq1400_neut200"
        in capsys.readouterr().out
    )
    assert run([*command, "300"]) == 0
    assert "fewer than" not in capsys.readouterr().out


def test_channels_are_joined_and_written_as_a_table(samples, model, tmp_path, capsys):
    sm, bsm = map(str, samples)
    common = ["--background", sm, "--theories", bsm, "--events-per-theory", "200"]
    arguments = ["theories", "train", *common, "--channel", "3", "--out", str(tmp_path / "m3")]
    assert run([*arguments, "--theory", "glgl", "--seed", "5", "--rotate", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["rotate"]
    assert "met_phi" not in record["gains"]
    assert record["theories"] == {"glgl1600_neutralino800": 200, "glgl1000_neutralino1": 200}
    assert record["left_out"]["sqsq_sq1400_neut200"] == "not asked for"
    assert next(iter(record["gains"])) == "met"
    out = tmp_path / "results.csv"
    arguments = [
        "theories",
        "evaluate",
        str(model),
        str(tmp_path / "m3"),
        "--background",
        sm,
        "--signals",
        bsm,
    ]
    assert run([*arguments, "--out", str(out), "--name", "mixture", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["channels"]) == ["1", "3"]
    assert out.read_text().splitlines()[0] == "Signal,Model,Chan,AUC,1e-2,1e-3,1e-4"
    table = read_results(out)
    assert table.models == ("mixture",)
    assert table.targets == (1e-2, 1e-3, 1e-4)
    assert [(e["signal"], e["channel"], e["auc"]) for e in found["signals"]] == list(
        zip(table.signal.tolist(), table.channel.tolist(), table.auc.tolist(), strict=True)
    )
    assert [[p["eps_s"] for p in e["points"]] for e in found["signals"]] == table.eps_s.tolist()
    best = max(
        p["si"]
        for e in found["signals"]
        if e["signal"] == "sqsq_sq1400_neut200"
        for p in e["points"]
        if p["reliable"]
    )
    assert {e["signal"]: e["value"] for e in found["total_improvement"]["signals"]}[
        "sqsq_sq1400_neut200"
    ] == best
    assert run([*arguments, "--convention", "challenge"]) == 0
    text = capsys.readouterr().out
    assert "left out as training events" in text
    assert (
        "used in training, so evaluated on their test events: glgl1000_neutralino1, glgl1600_neutralino800"
        in text
    )
    assert "left out: slsl_sl200_neut50 in channel 3" not in text
    assert "reliable points: total improvement of 4 signals" in text


def test_files_of_one_channel_serve_that_channel(samples, model, tmp_path):
    assert sample_name("pp23mt_50_chan2b") == ("pp23mt_50", "2b")
    assert sample_name("background_chan1_7.79") == ("background", "1")
    mine, others = channel_files([tmp_path / "a_chan1.csv", tmp_path / "a_chan3.csv", samples[1]], "1")
    assert [path.stem for path in mine][:2] == ["a_chan1", "glgl1600_neutralino800"]
    assert [path.stem for path in others] == ["a_chan3"]
    for name in ("made_up_chan1", "made_up_chan3"):
        write_events(events(100, 11), tmp_path / f"{name}.csv")
    found = evaluate(
        [model],
        [samples[0]],
        [tmp_path / "made_up_chan1.csv", tmp_path / "made_up_chan3.csv"],
        np.random.default_rng(1),
    )
    assert list(found.merits) == [("made_up", "1")]
    write_events(events(100, 11), tmp_path / "made_up.csv")
    with pytest.raises(InputError, match="duplicate signal 'made_up' in channel 1"):
        evaluate(
            [model],
            [samples[0]],
            [tmp_path / "made_up_chan1.csv", tmp_path / "made_up.csv"],
            np.random.default_rng(1),
        )


def test_theories_are_chosen_by_name_and_family():
    files = [Path(f"{name}.parquet") for name in ("glgl1600_neutralino800", "sqsq_sq1400_neut200", "mine")]
    assert choose_theories(files, [], [])[1] == {}
    chosen, left_out = choose_theories(files, ["glgl", "mine"], ["mine"])
    assert [path.stem for path in chosen] == ["glgl1600_neutralino800"]
    assert left_out == {"sqsq_sq1400_neut200": "not asked for", "mine": "left out as asked"}
    with pytest.raises(InputError, match=r"called stop; there are glgl, glgl1600_neutralino800"):
        choose_theories(files, [], ["stop"])
    with pytest.raises(InputError, match="no theory is left"):
        choose_theories(files, ["mine"], ["mine"])


def test_simulate_makes_both_folders_and_continues(tmp_path, capsys):
    pytest.importorskip("pythia8mc")
    pytest.importorskip("fastjet")
    arguments = [
        "theories",
        "simulate",
        "--out",
        str(tmp_path),
        "--process",
        "ttbar_lpqq_pt400,stop1000_t_neutralino300",
    ]
    arguments += ["--events", "20", "--background-events", "15", "--max-generated", "250"]
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert f"{tmp_path / 'SM'}: 1 file," in text
    assert f"{tmp_path / 'BSM'}: 1 file," in text
    standard, theory = (
        tmp_path / "SM" / "ttbar_lpqq_pt400.csv",
        tmp_path / "BSM" / "stop1000_t_neutralino300.csv",
    )
    assert [len(path.read_text().splitlines()) for path in (standard, theory)] == [15, 20]
    before = standard.read_bytes()
    assert run(arguments) == 0
    assert standard.read_bytes() == before


def test_wrong_options_and_damaged_models_are_explained(samples, model, tmp_path, capsys):
    sm, bsm = map(str, samples)
    common = ["--background", sm, "--theories", bsm, "--out", str(tmp_path / "m")]
    for arguments, text in (
        (["train", *common, "--channel", "7"], "channel '7' is not known"),
        (["train", *common, "--channel", "1", "--boost", "slow"], "--boost slow: expected fast or paper"),
        (["train", *common, "--channel", "1", "--weights", "x"], "--weights x"),
        (["train", *common, "--channel", "1", "--test-fraction", "1"], "test fraction is 1"),
        (["train", *common, "--channel", "2a"], "no background event is in channel 2a"),
        (["train", *common, "--channel", "1", "--theory", "nothing"], "called nothing"),
        (
            ["train", *common, "--channel", "1", "--theory", "slsl"],
            "60 events in the channel, too few",
        ),
        (["evaluate", bsm, "--background", sm, "--signals", bsm], "training.json: no such file"),
        (["evaluate", str(model), str(model), "--background", sm, "--signals", bsm], "both of channel 1"),
        (
            ["evaluate", str(model), "--background", sm, "--signals", bsm, "--min-events", "9999"],
            "no signal has 9999",
        ),
        (
            ["evaluate", str(model), "--background", sm, "--signals", bsm, "--convention", "x"],
            "--convention x",
        ),
    ):
        assert run(["theories", *arguments]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
    broken = tmp_path / "broken"
    broken.mkdir()
    for content in (
        "{",
        '{"schema": 2}',
        "[]",
        json.dumps(TrainingRecord.load(model).to_dict() | {"channel": "9"}),
    ):
        (broken / "training.json").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=r"training.json: is damaged"):
            TrainingRecord.load(broken)


def test_without_test_events_the_training_files_cannot_be_evaluated(samples, tmp_path):
    trained, record = train_channel([samples[0]], [samples[1]], "1", FAST, test_fraction=0.0)
    trained.save(tmp_path)
    record.save(tmp_path)
    with pytest.raises(InputError, match="0 of 4000 background events are held out from"):
        evaluate([tmp_path], [samples[0]], [samples[1]], np.random.default_rng(1))
