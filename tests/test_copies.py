"""Events that depend on each other are found, independent ones never, and what is said leads to the remedy."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.audit import audit
from serendip.events.copies import find_dependence
from serendip.events.read import read
from serendip.search.config import parse_config
from serendip.search.engine import read_events

Columns = list[np.ndarray]


def spectrum(n: int, rng: np.random.Generator) -> np.ndarray:
    return 1500 * (1 - rng.random(n) * (1 - 6**-5.0)) ** -0.2


def used_again(n: int, times: int, fraction: float, noise: float, rng: np.random.Generator) -> Columns:
    """About n events; a fraction of the originals is there several times, smeared by ``noise``."""
    originals = int(n / (1 + fraction * (times - 1)))
    row = np.repeat(np.arange(originals), np.where(rng.random(originals) < fraction, times, 1))
    row = rng.permutation(row)
    mass, x = spectrum(originals, rng), rng.normal(size=(4, originals))
    mass = mass[row] * (1 + noise * rng.normal(size=len(row)))
    return [mass, *(x[:, row] + 3 * noise * rng.normal(size=(4, len(row))))]


@pytest.mark.parametrize("n", [600, 12_000])
@pytest.mark.parametrize(("times", "fraction"), [(2, 1.0), (2, 0.2), (3, 0.1), (50, 0.1)])
def test_exact_copies_are_counted(n: int, times: int, fraction: float) -> None:
    columns = used_again(n, times, fraction, 0.0, np.random.default_rng(1))
    truth = len(columns[0]) - len(np.unique(columns[0]))
    for looked in (columns, columns[:1]) if times < 50 else (columns,):
        (found,) = find_dependence(looked)
        assert (found.kind, found.count, found.size) == ("copies", truth, times)
        a, b = found.rows
        assert a < b
        assert all(values[a] == values[b] for values in columns)


def test_five_copies_among_many_events_are_found() -> None:
    rng = np.random.default_rng(10)
    row = np.r_[np.arange(20_000), np.arange(5)]
    assert find_dependence([spectrum(20_000, rng)[row], rng.normal(size=20_000)[row]])[0].count == 5


def test_bootstrapped_and_rounded_copies_are_found() -> None:
    rng = np.random.default_rng(2)
    row = rng.integers(0, 10_000, 10_000)
    mass, x = spectrum(10_000, rng), rng.normal(size=10_000)
    for columns in ([mass[row], x[row]], [mass[row]], [np.round(mass[row], 2), np.round(x[row], 1)]):
        assert [sign.kind for sign in find_dependence(columns)] == ["copies"]
    # on a coarse lattice, values that all come in pairs give themselves away
    whole = np.round(spectrum(5000, rng))
    assert find_dependence([whole]) == []
    assert find_dependence([np.repeat(whole, 2)])[0].size == 2


@pytest.mark.parametrize(
    ("n", "times", "fraction", "noise"),
    [(600, 2, 1.0, 0.01), (600, 4, 1.0, 0.02), (12_000, 4, 1.0, 0.02), (12_000, 2, 0.2, 0.01),
     (12_000, 2, 0.02, 1e-4), (12_000, 10, 0.1, 0.01), (12_000, 200, 1.0, 0.01)],
)  # fmt: skip
def test_near_copies_are_found(n: int, times: int, fraction: float, noise: float) -> None:
    columns = used_again(n, times, fraction, noise, np.random.default_rng(3))
    found = [sign for sign in find_dependence(columns) if sign.kind == "near"]
    assert len(found) == 1
    near = times * fraction / (1 + fraction * (times - 1)) * n
    assert 0 < found[0].count < 1.2 * near
    if times <= 10:
        assert found[0].size == times
    if noise < 0.02 and times == 2:
        assert found[0].count > 0.5 * near
    a, b = found[0].rows
    assert abs(columns[1][a] - columns[1][b]) < 20 * 3 * noise


def test_candidates_of_one_event_share_what_belongs_to_the_event() -> None:
    rng = np.random.default_rng(4)
    event = np.repeat(np.arange(3000), 2)
    columns = [spectrum(6000, rng), rng.normal(size=6000), rng.exponential(size=3000)[event]]
    (found,) = find_dependence(columns)
    assert (found.kind, found.column, found.count, found.size) == ("values", 2, 3000, 2)
    # some events with one candidate, some with two
    event = np.repeat(np.arange(3000), rng.integers(1, 3, 3000))
    columns = [spectrum(len(event), rng), rng.normal(size=len(event)), rng.exponential(size=3000)[event]]
    assert [sign.column for sign in find_dependence(columns)] == [2]


def independent(kind: int, n: int, rng: np.random.Generator) -> Columns:
    """Independent events with features as analyses have them."""
    m, x = spectrum(n, rng), rng.normal(size=(5, n))
    i, k = rng.poisson(30, n), rng.poisson(30, n)
    signal = np.arange(n) < n // 100
    return [
        [m, *x],
        [m, x[0]],
        [m, x[0], x[1], x[0] + x[1], x[0] * x[1]],
        [m, np.where(x[3] > 0.5, 0, x[0]), np.where(x[4] > 0.5, -1, x[1]), x[2]],
        [m, rng.standard_cauchy(n), rng.standard_cauchy(n) * x[0]],
        [np.where(signal, 3500 + x[0], m), *np.where(signal, 0.01 * x[1:4], x[1:4])],
        [m, *(x * np.exp(x[0]))],
        [np.round(m), np.round(3 * x[0]), rng.integers(0, 8, n)],
        [np.round(m, 1), np.round(100 * np.exp(x[0])), np.round(x[1], 1)],
        [m.astype(np.float32), x[0].astype(np.float16), rng.integers(0, 5, n) > 2],
        [np.minimum(m, 2500), np.where(x[3] > 0, 0, x[0]), np.where(x[4] > 0, -1, x[1])],
        [np.round(m, -1), np.hypot(i, k) / 10, np.arctan2(i, k), x[0]],
        [m, np.hypot(i // 10, k // 10), i // 10 - k // 10],
        [np.round(m, 2)],
        [m.astype(np.float32)],
        [np.round(m)],
        [25 * np.round(m / 25), rng.integers(0, 3, n)],
        [np.where(x[0] > 1, 91.1876, m)],
        [rng.choice([500.0, 750.0, 1000.0, 1500.0, 2000.0], n), *x[:2]],
        [rng.choice([500.0, 750.0, 1000.0, 1500.0, 2000.0], n), rng.integers(0, 4, n)],
    ][kind]


@pytest.mark.parametrize("kind", range(20))
def test_independent_events_raise_no_alarm(kind: int) -> None:
    """More of them in benchmarks/dependence.py."""
    rng = np.random.default_rng([5, kind])
    for n in (20, 100, 300, 1000, 1000, 5000):
        assert find_dependence(independent(kind, n, rng), seed=n) == []


def save(path: Path, columns: Columns, **more: np.ndarray) -> Path:
    names = {"m": columns[0]} | {f"x{i}": values for i, values in enumerate(columns[1:])}
    pq.write_table(pa.table(names | more), path)
    return path


def test_copies_are_refused_grouped_or_taken_as_independent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(6)
    row = np.repeat(np.arange(1000), 2)
    columns = [spectrum(1000, rng)[row], *rng.normal(size=(2, 1000))[:, row]]
    file = save(tmp_path / "e.parquet", columns, original=row)
    options = {"mass": "m", "features": ["x0", "x1"], "independent": True}
    with pytest.raises(
        InputError, match=r"1000 of 2000 rows are copies of others \(same mass and features; for example row "
    ):
        read(file, **options)
    with pytest.raises(InputError, match=r"--group COL\[,COL\]\).*--group duplicates.*--group none"):
        read(file, **options)
    for group in ("original", "duplicates"):
        groups = read(file, group=group, **options).groups
        np.testing.assert_array_equal(groups[:, None] == groups, row[:, None] == row)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        events = read(file, group="none", **options)
    assert events.groups is None
    assert events.provenance["group"] == "none"
    assert "1000 of 2000 rows are copies" in caplog.text
    assert "treated as independent because of --group none" in caplog.text

    assert run(["bump", str(file), "--window", "2000:2200", "--mass", "m"]) == 2
    assert "1000 of 2000 rows are copies of others (same m;" in capsys.readouterr().err
    assert run(["inspect", str(file), "--mass", "m", "--features", "x0,x1"]) == 0
    assert "Not independent: 1000 of 2000 rows are copies of others" in capsys.readouterr().out
    assert run(["inspect", str(file), "--mass", "m", "--features", "x0,x1", "--group", "original"]) == 0
    assert "Not independent" not in capsys.readouterr().out


def test_groups_that_leave_near_copies_alone_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = used_again(2000, 2, 1.0, 0.005, np.random.default_rng(7))
    file = save(tmp_path / "e.parquet", columns, lumi=np.arange(len(columns[0])))
    with caplog.at_level(logging.WARNING):
        events = read(file, mass="m", features=["x0", "x1", "x2", "x3"], group="lumi", independent=True)
    assert events.groups is not None
    assert "in one event of each group, at least" in caplog.text
    with pytest.raises(InputError, match=r"near copies of others, in groups of some 2: much closer"):
        read(file, mass="m", features=["x0", "x1", "x2", "x3"], independent=True)
    assert run(["inspect", str(file), "--mass", "m", "--features", "x0,x1,x2,x3"]) == 0
    assert "near copies of others, in groups of some 2" in capsys.readouterr().out


def test_inspect_finds_copies_without_any_role(tmp_path: Path) -> None:
    columns = used_again(2000, 2, 0.3, 0.0, np.random.default_rng(8))
    number = np.arange(len(columns[0]))
    file = save(tmp_path / "e.parquet", columns, event=number, njet=np.rint(columns[1]))
    count = len(columns[0]) - len(np.unique(columns[0]))
    assert audit(file).dependence[0].startswith(f"{count} of {len(number)} rows are copies")
    assert audit(file, mass="m", where="x0 > 0").dependence
    assert audit(read(file, mass="m", features=["x0", "x1"], group="none")).dependence
    assert (
        audit(save(tmp_path / "i.parquet", independent(0, 2000, np.random.default_rng(9)))).dependence == ()
    )


@pytest.mark.parametrize(
    "columns",
    [
        lambda x: [x, x.astype(np.float32), np.round(x, 2)],
        lambda x: [x, np.log(x), x**2],
        lambda x: [1000.0 + np.arange(len(x)), np.arange(len(x)) / 7.0],
    ],
)
def test_columns_that_are_functions_of_each_other_raise_no_alarm(columns) -> None:
    x = 1000.0 + np.random.default_rng(3).exponential(400.0, 1000)
    assert find_dependence(columns(x)) == []


def test_near_copies_are_found_beside_a_function_of_the_mass() -> None:
    rng = np.random.default_rng(4)
    mass = np.repeat(1000.0 + rng.exponential(400.0, 2000), 4) * (1.0 + 0.001 * rng.normal(size=8000))
    feature = np.repeat(rng.normal(size=2000), 4) + 0.001 * rng.normal(size=8000)
    found = find_dependence([mass, mass / 1000.0, feature])
    assert [sign.kind for sign in found] == ["near"]
    assert 0.3 < found[0].count / 8000 <= 1.0


COLUMNS = ["--mass", "m", "--features", "x0,x1,x2,x3"]
LOOK = [*COLUMNS, "--window", "2000:2400"]
PROGRAMS = {
    "search": ["search", "FILE", *LOOK, "--out", "OUT"],
    "compare": ["compare", "FILE", *LOOK, "--label", "y", "--out", "OUT"],
    "validate": ["validate", "null", "FILE", *LOOK, "--out", "OUT"],
    "infer": ["infer", "FILE", *LOOK, "--unblind", "--out", "OUT"],
    "tune": ["tune", "FILE", *LOOK, "--out", "OUT"],
    "limit": ["limit", "FILE", *COLUMNS, "--inject", "SIGNAL", "--masses", "2200", "--out", "OUT"],
    "abcd": ["abcd", "FILE", "--x", "x0", "--y", "x1", "--cut-x", "1", "--cut-y", "1"],
    "bump": ["bump", "FILE", "--mass", "m", "--window", "2000:2400"],
    "peaks": ["bump", "FILE", "--mass", "m", "--toys", "20"],
    "fit": ["fit", "FILE", "--mass", "m", "--signal", "gauss:2200:0.03"],
    "masses": ["fit", "FILE", "--mass", "m", "--scan", "1800:2600"],
}
"""Every program that makes folds, trainings or p-values of a table of data."""
MASS_ALONE = {"bump", "peaks", "fit", "masses"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(11)
    found = {"SIGNAL": save(folder / "signal.parquet", independent(0, 500, rng))}
    for name, noise in (("exact", 0.0), ("near", 0.003)):
        columns = used_again(3000, 2, 1.0, noise, rng)
        found[name] = save(folder / f"{name}.parquet", columns, y=np.arange(len(columns[0])) % 10 == 0)
    return found


@pytest.mark.parametrize(("program", "kind"), [
    (program, kind) for program in PROGRAMS for kind in ("exact", "near") if kind == "exact" or program not in MASS_ALONE
])  # fmt: skip
def test_every_program_that_makes_p_values_refuses_copies(
    program: str, kind: str, tables: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = tables | {"FILE": tables[kind], "OUT": tmp_path / "out"}
    command = [str(paths.get(part, part)) for part in PROGRAMS[program]]
    code = run(command)
    error = capsys.readouterr().err
    assert code == 2, error
    assert f"{kind}.parquet: " in error
    what = "1500 of 3000 rows are copies of others" if kind == "exact" else "events are near copies of others"
    assert what in error
    assert "--group COL[,COL]" in error


@pytest.mark.parametrize("program", ["abcd", "bump"])
def test_programs_take_copies_whose_groups_are_named(
    program: str, tables: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str((tables | {"FILE": tables["exact"]}).get(part, part)) for part in PROGRAMS[program]]
    assert run([*command, "--group", "duplicates"]) == 0, capsys.readouterr().err


def test_a_search_groups_copies(tables: dict[str, Path]) -> None:
    settings = {"file": str(tables["exact"]), "mass": "m", "features": ["x0", "x1", "x2", "x3"],
                "window": [2000, 2400]}  # fmt: skip
    with pytest.raises(InputError, match="1500 of 3000 rows are copies"):
        read_events(parse_config(settings))
    events = read_events(parse_config(settings | {"group": "duplicates"}))
    np.testing.assert_array_equal(events.groups[:, None] == events.groups, events.m[:, None] == events.m)


def test_reading_alone_looks_for_no_copies(tables: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def search(columns: object) -> None:
        raise AssertionError("copies are looked for")

    monkeypatch.setattr("serendip.events.dependence.find_dependence", search)
    for kind in ("exact", "near"):
        assert len(read(tables[kind], mass="m", features=["x0", "x1"])) == 3000
        assert len(read(tables[kind], mass="m", features=["x0", "x1"], for_training=False)) == 3000
        with pytest.raises(AssertionError, match="looked for"):
            read(tables[kind], mass="m", features=["x0", "x1"], independent=True)
