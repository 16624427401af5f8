"""Bad input: exit code 2, one readable message that names what is wrong, and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FEATURES, make_columns, write_table

from serendip.cli.main import run

_EVENTS = 12_000  # enough to train on one of three folds


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "events.parquet", n_background=_EVENTS)


def arguments(file: Path, out: Path, **changes: str | None) -> list[str]:
    options = {"mass": "mjj", "features": ",".join(FEATURES), "window": "3300:3700", **changes}
    flags = [
        part
        for key, value in options.items()
        if value is not None
        for part in (f"--{key.replace('_', '-')}", value)
    ]
    return ["search", str(file), *flags, "--out", str(out)]


def refuse(capfd: pytest.CaptureFixture[str], out: Path, args: list[str], *words: str) -> None:
    before = sorted(out.rglob("*")) if out.exists() else None
    assert run(args) == 2
    output = capfd.readouterr()
    assert "Traceback" not in output.err
    for word in words:
        assert word in output.err, output.err
    assert (sorted(out.rglob("*")) if out.exists() else None) == before, "something was written"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mass": "mj"}, ["mj", "mjj"]),
        ({"features": "f1,f22"}, ["f22", "f2"]),
        ({"features": "f1,truth", "label": "truth"}, ["truth", "feature"]),
        ({"features": "f1,event", "id": "event"}, ["event", "feature"]),
        ({"features": "f1,truth+0", "label": "truth"}, ["truth"]),
        ({"window": "9000:9500"}, ["outside the data", "9000"]),
        ({"window": "3500:3500.0001"}, ["too few events", "signal region"]),
        ({"window": "3700:3300"}, ["3700:3300"]),
        ({"window": "3300"}, ["window"]),
        ({"window": "6500:6990"}, ["sideband"]),
        ({"range": "3250:3750"}, ["sideband"]),
        ({"where": "__import__('os').system('true')"}, ["__import__"]),
        ({"where": "mjj > 10000"}, ["mjj > 10000"]),
        ({"method": "cwla"}, ["cwla", "cwola"]),
        ({"method": "supervised"}, ["label"]),
        ({"set": "cwola.membres=3"}, ["membres", "members"]),
        ({"set": "nonsense"}, ["METHOD.OPTION=VALUE"]),
        ({"set": "cwola.members=[1"}, ["cannot be read"]),
        ({"seed": str(2**32)}, ["seed"]),
        ({"folds": "1"}, ["folds"]),
        ({"combination": "sum"}, ["combination"]),
        ({"working_points": "0.01,x"}, ["--working-points"]),
        ({"background": "spline"}, ["spline", "dijet"]),
        ({"weight": "f1"}, ["f1", "weight"]),
        ({"unit": "MeV"}, ["unit"]),
    ],
)
def test_bad_options(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, str], words: list[str]
) -> None:
    refuse(capfd, tmp_path / "run", arguments(table, tmp_path / "run", **changes), *words)


def broken(path: Path, kind: str) -> Path:
    columns = make_columns(_EVENTS)
    if kind == "some-nan":
        columns["f1"][:7] = np.nan
    elif kind == "all-nan":
        columns["f1"][:] = np.nan
    elif kind == "constant":
        columns["f2"][:] = 3.0
    elif kind == "negative-mass":
        columns["mjj"][17] = -5.0
    elif kind == "text":
        columns["f1"] = np.array([f"v{i}" for i in range(_EVENTS)])
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("all-nan", ["f1", "NaN"]),
        ("constant", ["f2", "constant"]),
        ("negative-mass", ["mjj", "-5"]),
        ("text", ["f1", "v0"]),
    ],
)
def test_bad_columns(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, words: list[str]) -> None:
    path = broken(tmp_path / "events.parquet", kind)
    refuse(capfd, tmp_path / "run", arguments(path, tmp_path / "run"), "events.parquet", *words)


def test_some_missing_values_are_counted_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out = broken(tmp_path / "events.parquet", "some-nan"), tmp_path / "run"
    quick = {"folds": "3", "set": "cwola.members=1", "working_points": "0.05", "jobs": "1"}
    assert run(arguments(path, out, **quick)) == 0
    assert "7 rows left out (f1 is NaN or infinite: 7)" in caplog.text
    facts = json.loads((out / "manifest.json").read_text())["input"]
    assert (facts["rows_read"], facts["rows_used"]) == (_EVENTS, _EVENTS - 7)
    assert sum(facts["left_out"].values()) == 7
    assert "f1 is NaN or infinite" in (out / "report.html").read_text()


def test_a_folder_that_cannot_be_written(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = Path("/proc/serendip-run")
    refuse(capfd, nowhere, arguments(table, nowhere, folds="3"), "/proc/serendip-run", "cannot be created")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".h5", ".root", ".yaml", ".docx"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 not what it says it is"])
def test_bad_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, content: bytes | None
) -> None:
    path = tmp_path / f"events{suffix}"
    if content is not None:
        path.write_bytes(content)
    refuse(capfd, tmp_path / "run", arguments(path, tmp_path / "run"), path.name)


def test_truncated_parquet(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.parquet"
    path.write_bytes(table.read_bytes()[:-2000])
    refuse(capfd, tmp_path / "run", arguments(path, tmp_path / "run"), "cut.parquet")


def test_unknown_yaml_key(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(f"file: {table}\nmass: mjj\nfeatures: f1\nwindow: 3300:3700\nfould: 3\n")
    refuse(
        capfd,
        tmp_path / "run",
        ["search", str(path), "--out", str(tmp_path / "run")],
        "fould",
        "folds",
        "search.yaml",
    )


@pytest.mark.parametrize("options", ["3", "{cwola: 3}"])
def test_yaml_options_of_the_wrong_form(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: str
) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(f"file: {table}\nmass: mjj\nfeatures: f1\nwindow: 3300:3700\noptions: {options}\n")
    out = tmp_path / "run"
    refuse(capfd, out, ["search", str(path), "--out", str(out)], "options")
    refuse(capfd, out, ["search", str(path), "--set", "cwola.members=2", "--out", str(out)], "options")


def test_a_flag_replaces_the_window_of_the_file(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(f"file: {table}\nmass: mjj\nfeatures: f1\nwindow: 3300:3700\n")
    flags = ["--scan", "20:30", "--width", "0.1", "--out", str(tmp_path / "run")]
    refuse(capfd, tmp_path / "run", ["search", str(path), *flags], "outside the data", "20")
    path.write_text(f"file: {table}\nmass: mjj\nfeatures: f1\nscan: 3000:4000\nwidth: 0.1\nstep: 0.5\n")
    flags = ["--window", "20:30", "--out", str(tmp_path / "run")]
    refuse(capfd, tmp_path / "run", ["search", str(path), *flags], "outside the data", "20")


def test_a_name_that_is_too_long(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refuse(capfd, tmp_path / "run", arguments(table, tmp_path / ("x" * 300)), "File name too long")


def test_folder_of_another_run(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    refuse(capfd, tmp_path / "run", arguments(table, tmp_path / "run"), "not empty")


def test_missing_command_and_option(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["serach"]) == 2
    assert "serach" in capfd.readouterr().err
    refuse(
        capfd,
        tmp_path / "run",
        ["search", "a.parquet", "--out", str(tmp_path / "run"), "--fods", "3"],
        "--fods",
    )


def test_version_and_list_of_commands_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from serendip.cli.main import run\n"
        "run(['--version'])\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'matplotlib', 'pydantic'}\n"
        "run(['--help'])\n"
        "print('loaded:', *sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.startswith("serendip 0.")
    assert "Compare search methods" in ran.stdout
    assert ran.stdout.rstrip().endswith("loaded:")
