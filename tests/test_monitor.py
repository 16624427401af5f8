"""A search that looks at the data after every period: numbers, blinding, resume, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_files import check_files
from samples import make_columns, search_settings

from serendip.cli.main import run as command_line
from serendip.errors import InputError
from serendip.report.monitor import evidence_text, write_monitor_page
from serendip.runs.folder import RunDirectory
from serendip.search.config import parse_settings
from serendip.search.folds import tie_breaker
from serendip.search.measure import prepare_window
from serendip.search.monitor import MonitorConfig, run_monitor
from serendip.search.monitor.periods import read_period, stored_periods, training_sets
from serendip.statistics.eprocess import HORIZONS, densities, make_transfer, period_evidence
from serendip.statistics.ranks import leave_one_out_rank

SIZE = 3000


def table(path: Path, number: int, n_signal: int = 40, first_id: int | None = None) -> Path:
    columns = make_columns(SIZE, n_signal, seed=number)
    columns["event"] = columns["event"] + (100_000 * number if first_id is None else first_id)
    pq.write_table(pa.table(columns), path)
    return path


def config(file: Path, **changes: object) -> MonitorConfig:
    settings = {
        **search_settings(file),
        "background": "exppoly:3",
        "options": {"cwola": {"members": 1}},
    }
    return parse_settings(MonitorConfig, settings | changes, "monitor")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("data")
    return [table(folder / f"p{number}.parquet", number) for number in range(3)]


@pytest.fixture(scope="module")
def whole(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    append = [str(file) for file in files[1:]]
    return run_monitor(
        config(files[0]), out, append=append, unblind=True, jobs=1, page=write_monitor_page
    ).path


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def results(run: Path) -> dict:
    return json.loads((run / "monitor.json").read_text())


def test_evidence_is_the_product_over_periods_of_models_of_the_past(whole: Path, files: list[Path]) -> None:
    """The numbers of monitor.json again, from the stored scores and the statistics alone."""
    settings = config(files[0])
    (window,) = settings.windows
    periods = [read_period(settings, str(file)) for file in files]
    keys = json.loads((whole / "manifest.json").read_text())["task_keys"]
    line, past, begin, lack = [np.zeros(len(HORIZONS))], 0.0, 0.0, None
    for t, period in enumerate(periods):
        events = period.events
        fit = prepare_window(events, window, settings)
        side = fit.sideband(events.m)
        n = float(side.sum())
        if t:
            score = RunDirectory(whole).read_task(keys[t - 1]["key"]).scores
            assert len(score) == len(events)
            rank = leave_one_out_rank(
                score,
                np.zeros(len(events), int),
                side,
                events.weights,
                tie_breaker(events.ids, settings.seed),
            )
            density = densities(rank, past, begin, n, make_transfer(fit.inclusive, 0).ratio)
            used = fit.in_range(events.m)
            found = period_evidence(
                events.m[used], events.weights[used], None, density[:, used], window, fit.inclusive, lack
            )
            lack = found.lack if lack is None else lack + found.lack
            line.append(line[-1] + found.log_e)
        else:
            begin = n
        past += n
    log_w = np.log(np.mean(np.exp(line), axis=1))
    (look,) = results(whole)["looks"]
    assert [entry["log_w"] for entry in look["periods"]] == pytest.approx(log_w[1:])
    assert [entry["log_e"] for entry in look["periods"]] == pytest.approx(np.diff(log_w))
    np.testing.assert_allclose([entry["log_w_horizons"] for entry in look["periods"]], line[1:], rtol=1e-9)
    best = np.maximum.accumulate(log_w)[1:]
    assert [entry["p"] for entry in look["periods"]] == pytest.approx(np.minimum(np.exp(-best), 1))
    # one look: the mean over looks is its own
    assert [entry["log_w"] for entry in results(whole)["global"]] == pytest.approx(log_w[1:])
    assert log_w[-1] > np.log(1000)


def test_a_period_is_scored_by_models_that_saw_only_the_past(files: list[Path]) -> None:
    periods = [read_period(config(file), str(file)) for file in files[:2]]
    from serendip.search.monitor.periods import together

    events = together(periods)
    start = len(periods[0].events)
    fold, splits = training_sets(events, start, 3, 1)
    assert (fold[:start] == -1).all()
    assert set(fold[start:]) == {0, 1, 2}
    assert splits[:, :start].all()
    for f in range(3):
        np.testing.assert_array_equal(splits[f, start:], fold[start:] < f)


def test_no_signal_no_evidence_and_the_mean_over_looks(tmp_path: Path) -> None:
    files = [table(tmp_path / f"b{number}.parquet", number, n_signal=0) for number in range(2)]
    settings = config(files[0], window=None, scan=[3000, 3700], width=0.11, folds=2)
    out = run_monitor(settings, tmp_path / "run", append=[str(files[1])], unblind=True, jobs=1).path
    content = results(out)
    assert len(content["looks"]) == 2
    (overall,) = content["global"]
    each = [look["periods"][0]["log_w"] for look in content["looks"]]
    assert overall["log_w"] == pytest.approx(np.log(np.mean(np.exp(each))))
    assert overall["p"] > 0.05
    assert overall["p"] == pytest.approx(min(1.0, np.exp(-overall["log_w"])))


def test_blind_until_unblinded_and_one_by_one_or_together(
    files: list[Path], whole: Path, tmp_path: Path
) -> None:
    """Blinded, nothing is written that says what lies in the window; the same bytes in the end."""
    out = tmp_path / "run"
    for append in ([], [str(files[1])], [str(files[2])]):
        content = run_monitor(config(files[0]), out, append=append, jobs=1, page=write_monitor_page).results
    assert content == results(out)
    assert content["blinded"]
    (look,) = content["looks"]
    for entry in [*look["periods"], *content["global"]]:
        for key in ("log_e", "log_w", "log_p", "p", "z", "observed", "log_w_horizons"):
            assert entry.get(key) is None, key
    assert [entry["expected"] for entry in look["periods"]] == [
        entry["expected"] for entry in results(whole)["looks"][0]["periods"]
    ]
    assert not (out / "figures" / "evidence.json").exists()
    assert json.loads((out / "manifest.json").read_text())["unblinding"] == []
    tasks = {name: state for name, state in snapshot(out).items() if name.startswith("tasks")}
    run_monitor(config(files[0]), out, unblind=True, jobs=1, page=write_monitor_page)
    assert tasks == {name: state for name, state in snapshot(out).items() if name.startswith("tasks")}
    assert (out / "monitor.json").read_bytes() == (whole / "monitor.json").read_bytes()
    assert (out / "figures/evidence.json").read_bytes() == (whole / "figures/evidence.json").read_bytes()
    assert len(json.loads((out / "manifest.json").read_text())["unblinding"]) == 1


@pytest.mark.parametrize("blind", [False, True])
def test_monitor_json_follows_its_schema(files: list[Path], whole: Path, tmp_path: Path, blind: bool) -> None:
    check_files(run_monitor(config(files[0]), tmp_path / "run", jobs=1).path if blind else whole)


def test_what_stopped_is_continued_by_the_same_call_to_the_same_bytes(
    files: list[Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, append = tmp_path / "run", [str(file) for file in files[1:]]
    write_task = RunDirectory.write_task

    def once(self: RunDirectory, *args: object) -> None:
        write_task(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "write_task", once)
        with pytest.raises(KeyboardInterrupt):
            run_monitor(config(files[0]), out, append=append, unblind=True, jobs=1)
    assert len(list((out / "tasks").glob("*/task.json"))) == 1
    assert not (out / "monitor.json").exists()
    other = table(tmp_path / "other.parquet", 9)
    with pytest.raises(InputError, match=r"period 2 .* is not finished yet"):
        run_monitor(config(files[0]), out, append=[str(other)], jobs=1)

    def broken(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_monitor(config(files[0]), out, append=append, unblind=True, jobs=1, page=broken)
    run_monitor(config(files[0]), out, append=append, unblind=True, jobs=1, page=write_monitor_page)
    assert (out / "monitor.json").read_bytes() == (whole / "monitor.json").read_bytes()
    assert [p.digest for p in stored_periods(out / "periods")] == [
        p.digest for p in stored_periods(whole / "periods")
    ]


@pytest.mark.slow
def test_kill_and_resume(files: list[Path], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = tmp_path / "run.yaml"
    settings.write_text(json.dumps(config(files[0]).resolved()))
    command = [sys.executable, "-m", "serendip", "monitor", str(settings), "--out", str(out), "--unblind"]
    command += ["--jobs", "1", "--append", str(files[1]), "--append", str(files[2])]
    for seconds in (3.0, 5.0, 7.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # the last one that was killed may have finished
    assert done.returncode == 0 or "already" in done.stderr
    assert (out / "monitor.json").read_bytes() == (whole / "monitor.json").read_bytes()


def test_what_cannot_be_appended_leaves_the_run_as_it_was(
    files: list[Path], whole: Path, tmp_path: Path
) -> None:
    before = snapshot(whole)
    again = tmp_path / "copy.parquet"
    again.write_bytes(files[1].read_bytes())
    some_again = table(tmp_path / "overlap.parquet", 7, first_id=100_000 + SIZE)
    renamed = tmp_path / "renamed.parquet"
    content = pq.read_table(table(tmp_path / "new.parquet", 8))
    pq.write_table(
        content.rename_columns(["g1" if name == "f1" else name for name in content.column_names]), renamed
    )
    copies = tmp_path / "copies.parquet"
    columns = make_columns(SIZE, 40, seed=1)
    columns["event"] = columns["event"] + 900_000
    pq.write_table(pa.table(columns), copies)
    few = tmp_path / "few.parquet"
    pq.write_table(content.slice(0, 150), few)
    cases = {
        again: r"are period 1 of the run already \(from .*p1.parquet\)",
        files[0]: "are period 0 of the run already",
        some_again: r"40 events of period 1 .* are in it again \(same id",
        renamed: "f1",
        copies: "copies of others",
        few: r"period 3 \(.*few.parquet\): too few sideband events",
    }
    for file, message in cases.items():
        with pytest.raises(InputError, match=message):
            run_monitor(config(files[0]), whole, append=[str(file)], jobs=1)
    new = table(tmp_path / "new.parquet", 8)
    with pytest.raises(InputError, match="already"):
        run_monitor(config(files[0]), whole, append=[str(new), str(new)], jobs=1)
    with pytest.raises(InputError, match=r"other settings \(seed differ\)"):
        run_monitor(config(files[0], seed=2), whole, append=[str(new)], jobs=1)
    with pytest.raises(InputError, match=r"other settings \(file differ\)"):
        run_monitor(config(files[1]), whole, jobs=1)
    with pytest.raises(InputError, match="ranks need 50 sideband events"):
        run_monitor(config(files[0], folds=20), tmp_path / "many", append=[str(few_enough(tmp_path))], jobs=1)
    assert not (tmp_path / "many").exists()
    assert snapshot(whole) == before


def few_enough(folder: Path) -> Path:
    path = folder / "small.parquet"
    columns = make_columns(1500, 0, seed=11)
    columns["event"] = columns["event"] + 1_100_000
    pq.write_table(pa.table(columns), path)
    return path


def test_settings_that_mean_nothing_are_refused(files: list[Path]) -> None:
    for name, value in (("toys", 500), ("combination", "kfold-bonferroni"), ("working_points", [0.02])):
        with pytest.raises(InputError, match=f"{name} is a setting of a search"):
            config(files[0], **{name: value})
    with pytest.raises(InputError, match=r"bump-hunt.*cannot be monitored"):
        config(files[0], method=["bump-hunt"], options={})


def test_a_damaged_period_is_named(files: list[Path], tmp_path: Path) -> None:
    out = run_monitor(config(files[0]), tmp_path / "run", jobs=1).path
    mass = out / "periods/0000/0.npy"
    mass.write_bytes(mass.read_bytes()[:-8] + b"\x00" * 8)
    with pytest.raises(InputError, match="0000: is damaged"):
        run_monitor(config(files[0]), out, jobs=1)


def test_the_command_says_what_it_found(
    files: list[Path], whole: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = tmp_path / "run.yaml"
    settings.write_text(json.dumps(config(files[0]).resolved()))
    command = ["monitor", str(settings), "--out", str(whole), "--jobs", "1"]
    assert command_line([*command, "--append", str(files[1])]) == 2
    assert "are period 1 of the run already" in capsys.readouterr().err
    assert command_line(command) == 0
    out = capsys.readouterr().out
    last = results(whole)["global"][-1]
    assert f"After 2 tested periods: evidence W = {evidence_text(last['log_w'])}" in out
    page = (whole / "monitor.html").read_text()
    assert evidence_text(last["log_w"]) in page
    line = json.loads((whole / "figures" / "evidence.json").read_text())[0]
    assert line["log10_w"] == pytest.approx(
        [0.0, *(e["log_w"] / np.log(10) for e in results(whole)["global"])]
    )
    assert command_line(["report", str(whole)]) == 0


def test_evidence_in_words() -> None:
    assert evidence_text(np.log(41.23)) == "41.2"
    assert evidence_text(np.log(2.44e7)) == "2.4\u00a0×\u00a010⁷"
    assert evidence_text(800.0) == "2.7\u00a0×\u00a010³⁴⁷"
    assert evidence_text(None) == "–"
