from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samples import FEATURES, make_columns

from serendip.errors import InputError
from serendip.events.events import Events
from serendip.runs.folder import RunDirectory
from serendip.runs.training import TaskResult
from serendip.search.config import parse_config
from serendip.search.engine import start_run

BASE = {"file": "a.parquet", "mass": "mjj", "features": list(FEATURES), "window": [3300, 3700]}


def events(seed: int = 0) -> Events:
    return Events(make_columns(500, seed=seed), mass="mjj", features=FEATURES, id="event")


def result() -> TaskResult:
    return TaskResult(
        np.array([0.5, np.nan]),
        np.ones((2, 3), np.float32),
        np.ones(2),
        np.empty((0, 4)),
        np.empty(0),
        {"method": "cwola", "total_s": 1.0},
    )


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(parse_config(BASE).resolved())
    run.open(parse_config(BASE).resolved())
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(InputError, match="seed"):
        run.open(parse_config({**BASE, "seed": 7}).resolved())
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        RunDirectory(tmp_path).open(parse_config(BASE).resolved())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is a file"):
        RunDirectory(tmp_path / "thesis.tex").open(parse_config(BASE).resolved())


def test_what_may_change_is_said_and_kept_up_to_date(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    run = RunDirectory(tmp_path, "comparison", may_change=("method",))
    run.open({"seed": 1, "method": ["cwola"]})
    run.open({"seed": 1, "method": ["anode"], "new": None})
    assert run.settings() == {"seed": 1, "method": ["anode"], "new": None}
    with pytest.raises(InputError, match=r"a comparison .*\(seed differ\).* only method may change"):
        run.check({"seed": 2})
    (tmp_path / "config.yaml").write_text("- 1")
    with pytest.raises(InputError, match=r"config\.yaml: is damaged"):
        run.check({"seed": 1})


def test_other_events_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    run, config = RunDirectory(tmp_path / "run"), parse_config(BASE)
    run.open(config.resolved())
    start_run(run, config, events(), unblind=False)
    start_run(run, config, events(), unblind=False)
    with pytest.raises(InputError, match="has changed"):
        start_run(run, config, events(seed=1), unblind=False)


@pytest.mark.parametrize("content", ["[]", '{"input": 3}', "{"])
def test_a_damaged_manifest_is_not_taken_for_a_new_run(tmp_path: Path, content: str) -> None:
    run, config = RunDirectory(tmp_path / "run"), parse_config(BASE)
    run.open(config.resolved())
    (run.path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest.json: is damaged"):
        start_run(run, config, events(), unblind=False)


def test_unblinding_is_recorded_once_and_stays(tmp_path: Path) -> None:
    run, config = RunDirectory(tmp_path / "run"), parse_config(BASE)
    run.open(config.resolved())
    start_run(run, config, events(), unblind=False)
    assert not run.unblinded
    start_run(run, config, events(), unblind=True)
    first = run.manifest()["unblinding"]
    assert first[0]["config_hash"] == config.digest()
    start_run(run, config, events(), unblind=False)
    assert run.unblinded
    assert run.manifest()["unblinding"] == first


def test_tasks_are_whole_or_absent(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(parse_config(BASE).resolved())
    key = run.task_key("a", 1)
    assert key == run.task_key("a", 1)
    assert key != run.task_key("a", 2)
    run.write_task(key, result())
    back = run.read_task(key)
    assert np.array_equal(back.scores, result().scores, equal_nan=True)
    (run.task_folder(key) / "scores.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="damaged"):
        run.read_task(key)


def test_a_full_disk_leaves_no_half_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory(tmp_path / "run")
    run.open(parse_config(BASE).resolved())

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match="No space left"):
        run.write_task("abc", result())
    assert list((tmp_path / "run" / "tasks").iterdir()) == []
