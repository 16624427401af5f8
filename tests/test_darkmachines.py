from __future__ import annotations

import gzip
import json
import math
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.events import darkmachines
from serendip.events.darkmachines import ReadReport, read_chunks, read_events
from serendip.events.darkmachines_lines import REASONS
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import KINDS, ObjectEvents, concatenate
from serendip.events.objects_parquet import read_parquet, write_parquet
from serendip.events.records import read_record

PAPER = (
    "94;ttbar;1;112288;1.74766;b,331927,147558,-1.44969,-1.76399;j,100406,85589,-0.568259,-1.17144;"
    "b,55808.8,54391.4,-0.198215,1.726"
)
LINES = [
    "7;njets;1;351709;-2.56781;j,672376,506951,0.784228,0.908651;b,1.11905e+06,190715,-2.19848,-1.30233;",
    "7;ww;8.17901e-07;1.26182e+06;1;e-,50000,40000,0.5,1;e+,50000.5,40000.5,-0.5,-1;m-,9e4,9e4,0,0;m+,1,1,1,1;g,3,2,1,0;",
    "8;njets;0;0;0;",
]
CHANNEL_1 = {
    "background_chan1_7.79_reduced.csv": 1000,
    "glgl1400_neutralino1100_chan1.csv": 4096,
    "monojet_Zp2000.0_DM_50.0_chan1.csv": 1130,
    "sqsq_sq1800_neut800_chan1.csv": 2822,
    "stop2b1000_neutralino300_chan1.csv": 5282,
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
SYMBOLS = {**{kind: i for i, kind in enumerate(KINDS)}, "a": 6, "mu-": 4, "mu+": 5}


def oracle(line: str, *, closed: bool = True) -> tuple | None:
    """One line with the means of the language: the event, or None for a malformed line."""
    fields = [field.strip(" ") for field in line.split(";")]
    head, objects = fields[:5], fields[5:]
    ended = bool(objects) and objects[-1] == ""
    if ended:
        objects = objects[:-1]
    if (closed and not ended) or len(head) < 5 or any("," in field for field in head):
        return None
    if any(not 32 <= ord(c) < 127 for c in line) or max(len(head[0]), len(head[1])) > 200:
        return None

    def number(text: str, low: float, high: float = 1e300) -> float:
        value = float(text) if NUMBER.fullmatch(text) else math.nan
        return value if low <= value <= high else math.nan

    numbers = [number(head[2], 0), number(head[3], 0) / 1000, number(head[4], -6.2833, 6.2833)]
    found = []
    for text in objects:
        symbol, *values = (part.strip(" ") for part in text.split(","))
        if symbol not in SYMBOLS or len(values) not in (3, 4):
            return None
        energy = [number(values[0], 0) / 1000] if len(values) == 4 else []
        rest = [
            number(values[-3], 0) / 1000,
            number(values[-2], -20, 20),
            number(values[-1], -6.2833, 6.2833),
        ]
        numbers += energy + rest
        found.append((SYMBOLS[symbol], *(energy or [None]), *rest))
    if any(math.isnan(value) for value in numbers):
        return None
    return (head[0], head[1], *numbers[:3], tuple(found))


def as_tuples(events: ObjectEvents) -> list[tuple]:
    rows = []
    for i in range(len(events)):
        part = slice(events.offsets[i], events.offsets[i + 1])
        energy = [None if math.isnan(e) else e for e in events.energy[part].tolist()]
        columns = (getattr(events, name)[part].tolist() for name in ("pt", "eta", "phi"))
        objects = tuple(zip(events.kind[part].tolist(), energy, *columns, strict=True))
        head = (getattr(events, name)[i] for name in ("event_id", "process", "weight", "met", "met_phi"))
        rows.append((*(x.item() if hasattr(x, "item") else x for x in head), objects))
    return rows


def text_file(folder: Path, text: str, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("latin-1"))
    return path


def sample() -> ObjectEvents:
    return ObjectEvents(
        event_id=np.array(["1", "22", "1"]),
        process=np.array(["njets", "%s ww", "njets"]),
        weight=np.array([1.0, 8.17901e-07, 0.0]),
        met=np.array([351.709, 1261.82, 0.0]),
        met_phi=np.array([-2.56781, 1.0, 0.0]),
        offsets=np.array([0, 2, 2, 5]),
        kind=np.array([0, 1, 4, 6, 3], dtype=np.int8),
        energy=np.array([672.376, 1119.05, np.nan, 50.0, 3.0]),
        pt=np.array([506.951, 190.715, 40.0, 30.0, 2.0]),
        eta=np.array([0.784228, -2.19848, 0.5, -0.5, 1e-05]),
        phi=np.array([0.908651, -1.30233, 1.0, -1.0, -0.0]),
    )


# reading


def test_the_example_of_the_paper(tmp_path: Path) -> None:
    events, report = read_events(text_file(tmp_path, PAPER))
    assert (report.lines, report.read, report.bad) == (1, 1, {})
    assert as_tuples(events) == [
        (
            "94",
            "ttbar",
            1.0,
            112.288,
            1.74766,
            (
                (1, 331.927, 147.558, -1.44969, -1.76399),
                (0, 100.406, 85.589, -0.568259, -1.17144),
                (1, 55808.8 / 1000, 54391.4 / 1000, -0.198215, 1.726),
            ),
        )
    ]


def test_all_kinds_exponents_and_events_without_objects(tmp_path: Path) -> None:
    events, _ = read_events(text_file(tmp_path, "\n".join(LINES) + "\n"))
    assert as_tuples(events) == [oracle(line) for line in LINES]
    assert events.weight[1] == 8.17901e-07
    assert events.energy[1] == 1119.05
    assert events.met[1] == 1261.82
    assert events.kind.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.diff(events.offsets).tolist() == [2, 5, 0]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t.replace(";", " ;\t ").replace(",", "  , "), id="blanks"),
        pytest.param(lambda t: t.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(lambda t: "\xef\xbb\xbf" + t, id="byte order mark"),
        pytest.param(
            lambda t: t.replace("m-", "mu-").replace("m+", "mu+").replace("g,", "a,"), id="old symbols"
        ),
        pytest.param(lambda t: t.removesuffix("\n"), id="no newline at the end"),
        pytest.param(lambda t: t.replace(";\n", "\n"), id="no last semicolon"),
        pytest.param(lambda t: t.replace(";1;", ";+1.;").replace(";0;", ";.0;"), id="plus and bare points"),
        pytest.param(lambda t: t.replace("\n", "   \n  "), id="blanks at the ends of lines"),
    ],
)
def test_other_spellings_give_the_same_events(tmp_path: Path, change) -> None:
    plain, _ = read_events(text_file(tmp_path, "\n".join(LINES) + "\n"))
    text = change("\n".join(LINES) + "\n").removesuffix("  ")
    other, report = read_events(text_file(tmp_path, text, "other.csv"))
    assert text != "\n".join(LINES) + "\n"
    assert other.equals(plain)
    assert report.lines == 3


def test_three_component_objects_have_no_energy(tmp_path: Path) -> None:
    line = "1;ww;1;50000;0.5;j,40000,0.5,1;b,60000,40000,0.25,-1;mu-,30000,-0.5,2;"
    events, _ = read_events(text_file(tmp_path, line))
    assert np.array_equal(events.energy, [np.nan, 60, np.nan], equal_nan=True)
    assert events.pt.tolist() == [40, 40, 30]
    assert events.eta.tolist() == [0.5, 0.25, -0.5]
    assert events.phi.tolist() == [1, -1, 2]


def test_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "events.csv.gz"
    path.write_bytes(gzip.compress("\n".join(LINES).encode()))
    plain, _ = read_events(text_file(tmp_path, "\n".join(LINES)))
    assert read_events(path)[0].equals(plain)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"events\.csv\.gz' cannot be read"):
        read_events(path)


BAD = {
    "empty line": ("", ""),
    "not plain text": ("1;nj\xe9ts;1;5;0;", "1;nj"),
    "too few event fields": ("1;njets;1;5", "1;njets;1;5"),
    "comma in an event field": ("1;j,5,4,1,1;1;5;0;", "j,5,4,1,1"),
    "name too long": ("1;" + "x" * 201 + ";1;5;0;", "x" * 80 + "..."),
    "object with too few fields": ("1;njets;1;5;0;j,5,4,1,1;j,5,4;", "j,5,4"),
    "object with too many fields": ("1;njets;1;5;0;j,5,4,1,1,9;", "j,5,4,1,1,9"),
    "unknown object": ("1;njets;1;5;0;j,5,4,1,1;t,5,4,1,1;", "t"),
    "cut line": ("1;njets;1;5;0;j,5,4,1,1;j,5,4,1,1.2", "j,5,4,1,1.2"),
    "not a number": ("1;njets;1;5;0;j,5,4x,1,1;", "4x"),
    "not finite": ("1;njets;1;5;0;j,5,4,nan,1;", "nan"),
    "negative weight": ("1;njets;-1;5;0;j,5,4,1,1;", "-1"),
    "negative MET": ("1;njets;1;-5;0;j,5,4,1,1;", "-5"),
    "negative energy": ("1;njets;1;5;0;j,-5,4,1,1;", "-5"),
    "negative pt": ("1;njets;1;5;0;j,5,-4,1,1;", "-4"),
    "impossible angle": ("1;njets;1;5;0;j,5,4,1,7;", "7"),
}


def test_every_reason_has_an_example() -> None:
    assert BAD.keys() == REASONS.keys()


@pytest.mark.parametrize("reason", REASONS)
def test_malformed_lines_are_named_and_counted(tmp_path: Path, reason: str) -> None:
    line, value = BAD[reason]
    path = text_file(tmp_path, "\n".join([LINES[0], LINES[1], line, LINES[2], line, *LINES]) + "\n")
    with pytest.raises(InputError) as error:
        read_events(path)
    assert f"events.csv, line 3: {reason}: '{value}" in str(error.value)
    assert REASONS[reason] in str(error.value)

    events, report = read_events(path, strict=False)
    good, _ = read_events(text_file(tmp_path, "\n".join([*LINES, *LINES]), "good.csv"))
    assert events.equals(good)
    assert (report.lines, report.read, report.skipped) == (8, 6, 2)
    assert list(report.bad) == [reason]
    assert report.bad[reason].count == 2
    assert [number for number, _ in report.bad[reason].first] == [3, 5]
    assert all(text.startswith(value) for _, text in report.bad[reason].first)
    assert f"{reason}: 2 (line 3: '{value}" in report.describe()
    assert json.loads(json.dumps(report.to_dict()))["bad"][reason]["first"][1]["line"] == 5


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1;njets;1;5;0;j,5,4,inf,1;", "not finite"),
        ("1;njets;1;5;0;j,1e999,4,1,1;", "not finite"),
        ("1;njets;1;5;NaN;j,5,4,1,1;", "not finite"),
        ("1;njets;one;5;0;j,5,4,1,1;", "not a number"),
        ("1;njets;1;;0;j,5,4,1,1;", "not a number"),
        ("1;njets;1;5;0;j,5,4,1 2,1;", "not a number"),
        ("1;njets;1;5;0;j,5,1_0,1,1;", "not a number"),
        ("1;njets;1;5;0;j,0x5,4,1,1;", "not a number"),
        ("1;njets;1;5;0;j,5,,1,1;", "not a number"),
        ("1;njets;1;5;0;;j,5,4,1,1;", "object with too few fields"),
        ("1;njets;1;5;0;j,5,4,1,1;;", "object with too few fields"),
        ("1;njets;1;5;0;tau-,5,4,1,1;", "unknown object"),
        ("1;njets;1;5;0;mux,5,4,1,1;", "unknown object"),
        ("1;njets;1;5;0;,5,4,1,1;", "unknown object"),
        ("1;njets;1;5;j,5,4,1,1;", "too few event fields"),
        (";;;;;", "not a number"),
        # pt and eta of a four-component object that lost its phi, read as eta and phi of a three-component one
        ("1;njets;1;5;0;j,50000,40000,1;", "object with too few fields"),
        ("1;njets;1;5;0;j,5,4,25,1;", "impossible angle"),
        # the end of one line and the start of the next
        ("1;njets;1;5;0;j,5,4,1,1.2179903555;njets;1;5;0;j,5,4,1,1;", "object with too few fields"),
        ("event ID; process ID; event weight; MET; METphi; obj1, E1, pt1, eta1, phi1;", "unknown object"),
        ("1;njets;1;5;0;j,5,4,1,1\x00;", "not plain text"),
    ],
)
def test_more_malformed_lines(tmp_path: Path, line: str, reason: str) -> None:
    path = text_file(tmp_path, "\n".join([*LINES, line]) + "\n")
    with pytest.raises(InputError, match=f"line 4: {reason}"):
        read_events(path)
    events, report = read_events(path, strict=False)
    assert {name: bad.count for name, bad in report.bad.items()} == {reason: 1}
    assert len(events) == 3


def test_a_cut_is_found_unless_it_leaves_a_complete_line(tmp_path: Path) -> None:
    line = LINES[0]
    for at in range(1, len(line)):
        path = text_file(tmp_path, "\n".join([*LINES, line[:at], *LINES]) + "\n")
        _, report = read_events(path, strict=False)
        # a whole event with fewer objects: nothing shows the cut
        complete = line[:at].count(";") >= 5 and line[at - 1] == ";"
        assert report.skipped == (not complete), line[:at]


def test_the_first_offending_value_is_shown(tmp_path: Path) -> None:
    path = text_file(tmp_path, f"{LINES[0]}\n1;njets;1;5;0;t,5,4,1,1;u,5,4,1,1;\n")
    with pytest.raises(InputError, match="unknown object: 't'"):
        read_events(path)
    # a word in one line does not change what is said of another
    lines = [LINES[0], "1;njets;1;5;0;j,5,x,1,1;", "1;njets;1;5;0;j,5,-NaN,1,1;", "1;njets;+1;5;0;j,5,4,1,1;"]
    events, report = read_events(text_file(tmp_path, "\n".join(lines) + "\n"), strict=False)
    assert {reason: bad.first for reason, bad in report.bad.items()} == {
        "not a number": ((2, "x"),),
        "not finite": ((3, "-NaN"),),
    }
    assert events.weight.tolist() == [1, 1]


def test_how_lines_end_is_settled_by_the_start_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darkmachines, "_BLOCK", 64)
    path = text_file(tmp_path, "\n".join([*LINES, LINES[0][:-1]]))
    with pytest.raises(InputError, match=r"line 4: cut line: 'b,1\.11905e"):
        read_events(path)


def test_random_damage_is_judged_as_by_a_slow_reader(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    alphabet = list(";;,,,..--+eE0123456789 jbgamu\tx\n\x01\xe9")
    lines = []
    for _ in range(4000):
        line = LINES[int(rng.integers(3))]
        for _ in range(int(rng.integers(0, 3))):
            at, kind = int(rng.integers(len(line))), rng.integers(3)
            new = str(rng.choice(alphabet)) if kind < 2 else ""
            line = line[:at] + new + line[at + (kind != 1) :]
        lines += line.split("\n")
    expected = [oracle(line.replace("\t", " ")) if line.strip(" \t") else None for line in lines]
    path = text_file(tmp_path, "\n".join(lines) + "\n")
    events, report = read_events(path, strict=False)
    assert as_tuples(events) == [event for event in expected if event is not None]
    assert report.lines == len(lines)
    assert report.read == len(events)
    assert report.skipped == sum(bad.count for bad in report.bad.values()) == expected.count(None)
    # both sides of the verdict were exercised, and every kind of damage
    assert 1000 < report.read < 3500
    assert len(report.bad) >= 11
    # the first lines of a reason are malformed, the line number is that of the file
    for bad in report.bad.values():
        assert all(expected[number - 1] is None for number, _ in bad.first)


@pytest.mark.parametrize("block", [16, 100, 1000, 4 << 20])
def test_parts_and_blocks_do_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    lines = [LINES[i % 3] if i % 7 else "1;cut" for i in range(50)]
    path = text_file(tmp_path, "\n".join(lines))
    whole, report = read_events(path, strict=False)
    monkeypatch.setattr(darkmachines, "_BLOCK", block)
    for size in (1, 3, 10, 50, 1000):
        parts = list(read_chunks(path, lines=size, strict=False))
        assert [part.lines for _, part in parts] == [size] * (50 // size) + [50 % size] * (50 % size > 0)
        assert all(len(events) == part.read for events, part in parts)
        assert concatenate([events for events, _ in parts]).equals(whole)
        total = sum((part for _, part in parts[1:]), parts[0][1])
        assert total == report
    assert report.bad["too few event fields"].count == 8
    assert [number for number, _ in report.bad["too few event fields"].first] == [1, 8, 15, 22, 29]


def test_files_that_hold_no_events(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        read_events(text_file(tmp_path, ""))
    with pytest.raises(InputError, match=r"there is no file .*missing\.csv"):
        read_events(tmp_path / "missing.csv")
    with pytest.raises(InputError, match=r"no line of 'events\.csv' is an event"):
        read_events(text_file(tmp_path, "a,b\n1,2\n"), strict=False)
    with pytest.raises(InputError, match="lines=0"):
        read_chunks(tmp_path / "events.csv", lines=0)


def test_a_file_without_line_ends_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darkmachines, "_LONGEST_LINE", 1000)
    with pytest.raises(InputError, match="no line end"):
        read_events(text_file(tmp_path, "x" * 2000))


def test_reports_add_up() -> None:
    bad = darkmachines.BadLines(4, tuple((i, "x") for i in range(4)))
    a, b = ReadReport("a.csv", 10, 6, {"cut line": bad}), ReadReport("b.csv", 20, 16, {"cut line": bad})
    total = a + b
    assert (total.file, total.lines, total.read, total.skipped) == ("a.csv, b.csv", 30, 22, 8)
    assert total.bad["cut line"].count == 8
    assert total.bad["cut line"].first == ((0, "x"), (1, "x"), (2, "x"), (3, "x"), (0, "x"))


# writing


def test_written_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_events(sample(), path)
    assert path.read_text().splitlines() == [
        "1;njets;1;351709;-2.56781;j,672376,506951,0.784228,0.908651;b,1.11905e+06,190715,-2.19848,-1.30233;",
        "22;%s ww;8.17901e-07;1.26182e+06;1;",
        "1;njets;0;0;0;m-,40000,0.5,1;g,50000,30000,-0.5,-1;e+,3000,2000,1e-05,-0;",
    ]
    back, _ = read_events(path)
    assert back.equals(sample())
    assert np.signbit(back.phi[-1])


def test_parts_and_compression(tmp_path: Path) -> None:
    many = concatenate([sample()] * 15_000)
    write_events(many, tmp_path / "one.csv")
    write_events(
        (many.select(np.arange(i, i + 9000)) for i in range(0, 45_000, 9000)), tmp_path / "parts.csv"
    )
    write_events(many, tmp_path / "one.csv.gz")
    text = (tmp_path / "one.csv").read_bytes()
    assert text.count(b"\n") == 45_000
    assert (tmp_path / "parts.csv").read_bytes() == text
    assert gzip.decompress((tmp_path / "one.csv.gz").read_bytes()) == text
    first = (tmp_path / "one.csv.gz").read_bytes()
    write_events(many, tmp_path / "one.csv.gz")
    assert (tmp_path / "one.csv.gz").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("event_id", "1;2", "event ID '1;2' cannot be written"),
        ("process", "a,b", "process ID 'a,b' cannot be written"),
        ("process", " x", "process ID ' x' cannot be written"),
        ("process", "t\u0304", "cannot be written"),
        ("process", "a\nb", "cannot be written"),
        ("weight", -1.0, r"event 1 \(counted from 0\).*weight is -1"),
        ("met", np.nan, "MET is nan"),
        ("met_phi", 7.0, "azimuth of the MET is 7"),
        ("energy", -1.0, r"event 0 .*energy is -1"),
        ("pt", np.inf, "a pt is inf"),
        ("eta", 21.0, "an eta is 21"),
        ("phi", np.nan, "a phi is nan"),
    ],
)
def test_what_could_not_be_read_back_is_refused(tmp_path: Path, name: str, value, message: str) -> None:
    events = sample()
    changed = np.array(getattr(events, name), dtype=object if isinstance(value, str) else float)
    changed[1] = value
    changed = changed.astype(np.str_) if isinstance(value, str) else changed
    path = text_file(tmp_path, "old")
    fields = {field: getattr(events, field) for field in events.__dataclass_fields__}
    with pytest.raises(InputError, match=message):
        write_events(ObjectEvents(**(fields | {name: changed})), path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["events.csv"]


def test_the_refused_event_is_counted_over_all_parts(tmp_path: Path) -> None:
    fields = {field: getattr(sample(), field) for field in sample().__dataclass_fields__}
    wrong = ObjectEvents(**(fields | {"met": np.array([1.0, 1.0, -1.0])}))
    with pytest.raises(InputError, match="event 8 "):
        write_events([sample(), sample(), wrong], tmp_path / "events.csv")


# Parquet


def test_parquet_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    write_parquet(sample(), path)
    assert read_parquet(path).equals(sample())
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 3, 1000)
    parts = [sample().select(rows[:300]), sample().select(rows[300:300]), sample().select(rows[300:])]
    write_parquet(iter(parts), path)
    assert read_parquet(path).equals(sample().select(rows))
    write_parquet([], path)
    assert len(read_parquet(path)) == read_parquet(path).n_objects == 0


def test_parquet_says_what_it_holds(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "events.parquet"
    write_parquet(sample(), path)
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"serendip.objects"])
    assert about["schema"] == 1
    assert about["units"]["pt"] == "GeV"
    assert [about["kinds"][code] for code in table["kind"][2].as_py()] == ["m-", "g", "e+"]
    assert table["pt"].to_pylist() == [[506.951, 190.715], [], [40.0, 30.0, 2.0]]

    later = {b"serendip.objects": json.dumps(about | {"schema": 2}).encode()}
    pq.write_table(table.replace_schema_metadata(later), path)
    with pytest.raises(InputError, match="layout 2"):
        read_parquet(path)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(InputError, match="does not contain events with lists"):
        read_parquet(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_parquet(path)
    with pytest.raises(InputError, match="there is no file"):
        read_parquet(tmp_path / "missing.parquet")


# the structure


def test_sums_counts_and_selections() -> None:
    events = sample()
    assert len(events) == 3
    assert events.n_objects == 5
    assert events.event_of.tolist() == [0, 0, 2, 2, 2]
    assert events.count(events.of_kind("j", "b")).tolist() == [2, 0, 0]
    assert events.count(events.pt > 35).tolist() == [2, 0, 1]
    assert events.sum(events.pt, events.of_kind("j", "b")) == pytest.approx([697.666, 0, 0])
    picked = events.select(np.array([2, 0, 2]))
    assert picked.pt.tolist() == [40, 30, 2, 506.951, 190.715, 40, 30, 2]
    assert picked.event_id.tolist() == ["1", "1", "1"]
    assert events.select(np.array([True, False, True])).offsets.tolist() == [0, 2, 5]
    assert events.select(np.array([-1])).kind.tolist() == [4, 6, 3]
    kept = events.keep_objects(events.pt > 35)
    assert kept.offsets.tolist() == [0, 2, 2, 3]
    assert kept.kind.tolist() == [0, 1, 4]
    assert len(events.select(np.zeros(3, dtype=bool))) == 0
    joined = concatenate([events, picked])
    assert joined.offsets.tolist() == [0, 2, 2, 5, 8, 10, 13]
    assert joined.select(np.arange(3, 6)).equals(picked)
    with pytest.raises(ValueError, match="read-only"):
        events.pt[0] = 1


def test_arrays_that_do_not_fit_are_refused() -> None:
    events = sample()
    fields = {field: getattr(events, field) for field in events.__dataclass_fields__}
    for name, value, message in (
        ("offsets", np.array([0, 2, 1, 5]), "offsets"),
        ("offsets", np.array([0, 2, 5]), "'event_id' has shape"),
        ("pt", np.ones(4), "'pt' has shape"),
        ("kind", np.array([0, 1, 2, 3, 7]), "kinds of objects must be"),
    ):
        with pytest.raises(InputError, match=message):
            ObjectEvents(**(fields | {name: value}))
    with pytest.raises(InputError, match="not a kind"):
        events.of_kind("tau")
    with pytest.raises(InputError, match="mask"):
        events.count(np.ones(4, dtype=bool))
    with pytest.raises(InputError, match="boolean"):
        events.count(np.ones(5))
    with pytest.raises(InputError, match="rows 3 to 3 were requested, but there are 3 events"):
        events.select(np.array([3]))
    with pytest.raises(InputError, match="nothing to concatenate"):
        concatenate([])


def test_awkward_records() -> None:
    array = sample().to_awkward()
    assert array.objects.pt.tolist() == [[506.951, 190.715], [], [40.0, 30.0, 2.0]]
    assert array.objects.kind.tolist() == [["j", "b"], [], ["m-", "g", "e+"]]
    assert array.process.tolist() == ["njets", "%s ww", "njets"]
    assert array.met.tolist() == [351.709, 1261.82, 0.0]


# records


def write_record(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{i};p;1;50000;0;j,5,4,1,1;\n")


def test_records_in_a_folder_and_in_an_archive(tmp_path: Path) -> None:
    names = [
        "training_files/chan1/background_chan1_7.79.csv",
        "training_files/chan1/stlp_st1000_chan1.csv",
        "training_files/chan1/monojet_Zp2000.0_DM_50.0_chan1.csv",
        "training_files/chan1/._stlp_st1000_chan1.csv",
        "training_files/chan1/README.txt",
        "training_files/chan2a/background_chan2a_309.6.csv",
        "training_files/chan2a/pp23mt_50_chan2a.csv",
    ]
    write_record(tmp_path / "record", names)
    for mode, suffix in (("w", ".tar"), ("w:gz", ".tar.gz")):
        with tarfile.open(tmp_path / f"record{suffix}", mode) as archive:
            archive.add(tmp_path / "record" / "training_files", "training_files")
    for path in ("record", "record.tar", "record.tar.gz"):
        record = read_record(tmp_path / path, "1")
        assert record.background is not None
        assert record.background.name == "background_chan1_7.79.csv"
        assert record.background.luminosity == 7.79
        assert [signal.label for signal in record.signals] == ["monojet_Zp2000.0_DM_50.0", "stlp_st1000"]
        assert record.unlabelled == ()
        events = [read_events(file)[0] for file in (record.background, *record.signals)]
        assert [e.event_id.tolist() for e in events] == [["0"], ["2"], ["1"]]
        assert record.signals[1].size == len("1;p;1;50000;0;j,5,4,1,1;\n")
        other = read_record(tmp_path / path, "2a")
        assert other.background is not None
        assert other.background.luminosity == 309.6
        with pytest.raises(InputError, match=r"no CSV file of channel 3 \(channels found: 1, 2a\)"):
            read_record(tmp_path / path, "3")


def test_secret_data_have_no_labels(tmp_path: Path) -> None:
    write_record(tmp_path, ["chan1/unlabeled_combined_chan1.csv", "chan2b/data.csv"])
    record = read_record(tmp_path, "1")
    assert (record.background, record.signals) == (None, ())
    assert [file.label for file in record.unlabelled] == ["unlabelled"]
    assert [file.name for file in read_record(tmp_path, "2b").unlabelled] == ["data.csv"]


def test_records_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="channel '4'"):
        read_record(tmp_path, "4")
    with pytest.raises(InputError, match="there is no folder or tar archive"):
        read_record(tmp_path / "missing.tar", "1")
    write_record(tmp_path, ["chan1/background_chan1_7.79.csv", "chan1/background_chan1_7.79_reduced.csv"])
    with pytest.raises(InputError, match="several background files"):
        read_record(tmp_path, "1")
    (tmp_path / "chan1" / "background_chan1_7.79.csv").write_bytes(b"x" * 100_000)
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        archive.add(tmp_path / "chan1" / "background_chan1_7.79.csv", "chan1/background_chan1_7.79.csv")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:50_000])
    with pytest.raises(InputError, match="not a readable tar archive"):
        read_record(tmp_path / "cut.tar", "1")


# the real files


@pytest.mark.parametrize("name", CHANNEL_1)
def test_real_files_come_back_byte_for_byte(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "darkmachines" / "channel_1" / name
    events, report = read_events(path)
    assert (report.lines, report.read, report.bad) == (CHANNEL_1[name], CHANNEL_1[name], {})
    assert as_tuples(events) == [oracle(line) for line in path.read_text().splitlines()]
    write_events(events, tmp_path / name)
    assert (tmp_path / name).read_bytes() == path.read_bytes()
    assert read_events(tmp_path / name)[0].equals(events)
    write_parquet(events, tmp_path / "events.parquet")
    assert read_parquet(tmp_path / "events.parquet").equals(events)


def test_facts_of_the_real_background_and_a_signal(shared_data: Path) -> None:
    record = read_record(shared_data / "darkmachines" / "channel_1", "1")
    assert record.background is not None
    events, _ = read_events(record.background)
    assert np.unique(events.event_id).size == 953
    names, counts = np.unique(events.process, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True))["njets"] == 864
    jets = events.of_kind("j", "b")
    assert jets.sum() == 5271
    assert np.abs(events.eta[jets]).max() == pytest.approx(2.79953)
    assert record.signals[0].label == "glgl1400_neutralino1100"
    signal, _ = read_events(record.signals[0])
    forward = signal.count(signal.of_kind("j", "b") & (np.abs(signal.eta) > 2.8)) > 0
    assert forward.mean() == pytest.approx(0.291, abs=5e-4)
