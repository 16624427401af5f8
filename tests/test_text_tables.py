"""Text tables as people write them: comments, headers, separators, and what must not be guessed."""

from __future__ import annotations

import bz2
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from serendip import read
from serendip.errors import InputError
from serendip.events.formats import open_table


def columns(text: str | bytes, folder: Path, name: str = "a.csv") -> dict[str, list[object]]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    table = open_table(path)
    return {name: values.tolist() for name, values in table.load(list(table.types)).items()}


MX = {"m": [1000.5, 1001.5], "x": [0.25, 7.0]}


@pytest.mark.parametrize(
    "text",
    [
        "# made by a program\n# units GeV\nm,x\n1000.5,0.25\n1001.5,7\n",
        "m,x\n1000.5,0.25\n# in between\n1001.5,7\n# 2 rows\n",
        "#\n\n  # indented\nm,x\n\n1000.5,0.25\n\n1001.5,7\n",
        "% remark\n// another\n! a third\nm,x\n1000.5,0.25\n1001.5,7\n",
        "# m x\n1.0005e+03 2.5e-01\n1001.5 7\n",
        "# produced today\n# m,x\n1000.5,0.25\n1001.5,7\n",
        "# m x\n1000.5,0.25\n1001.5,7\n",
        "#m,x\n1000.5 0.25\n1001.5 7\n",
        "      m     x\n1000.50  0.25\n1001.50  7.00\n",
        "m\tx\n1000.5\t0.25\n1001.5\t7\n",
        "m\t\tx\n1000.5  0.25\n1001.5 7\n",
        "m;x\n1000.5;0.25\n1001.5;7\n",
        "m|x\n1000.5|0.25\n1001.5|7\n",
        "| m      | x    |\n|--------|------|\n| 1000.5 | 0.25 |\n| 1001.5 | 7    |\n",
        "   m    |  x\n--------+------\n 1000.5 | 0.25\n 1001.5 | 7\n",
        '"m", "x"\n"1000.5", 0.25\n1001.5,7\n',
        "m [GeV], x (rad)\n1000.5,0.25\n1001.5,7\n",
        "m,x,\n1000.5,0.25,\n1001.5,7,\n",
        "m,x\n1000.5,0.25,\n1001.5,7,\n",
        "m,x\nm,x\n1000.5,0.25\nm,x\n1001.5,7\n",
        "m,x\r\n1000.5,0.25\r\n# comment\r\n1001.5,7\r\n",
        "m,x\r1000.5,0.25\r1001.5,7\r",
        "m,x\n1000.5,0.25\n1001.5,7",
        b"\xef\xbb\xbfm,x\n1000.5,0.25\n1001.5,7\n",
    ],
)
def test_layouts_of_the_same_table(text: str | bytes, tmp_path: Path) -> None:
    assert columns(text, tmp_path) == MX


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst", ".csv.bz2", ".txt.gz", ".csv"])
def test_packing_is_seen_in_the_content(suffix: str, tmp_path: Path) -> None:
    plain = b"m,x\n1000.5,0.25\n1001.5,7\n"
    packed = {"gz": lambda: pa.compress(plain, "gzip", asbytes=True), "zst": lambda: pa.compress(plain, "zstd", asbytes=True), "bz2": lambda: bz2.compress(plain)}  # fmt: skip
    content = packed.get(suffix.rsplit(".", 1)[1], lambda: plain)()
    assert columns(content, tmp_path, f"a{suffix}") == MX
    # a browser that unpacks on the way leaves the name
    assert columns(plain, tmp_path, f"b{suffix}") == MX


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1429.2,-1.4,bkg\n1001.5,0.3,sig\n",
            r"first line holds numbers \(1429.2, -1.4, bkg\).*is an event.*3 column",
        ),
        ("bkg,1429.2\nsig,1001.5\n", "is an event"),
        ("0,1,bkg\n5,3,sig\n", "is an event"),
        ("nan,inf\n5,3\n", "is an event"),
        ("# one two three\n1 2\n3 4\n", "comment before it does not hold 2 names"),
        ("# 1 2\n1 2\n3 4\n", "comment before it does not hold 2 names"),
        ("# only\n\n# comments\n", "no line that is not blank or a comment"),
        ("m;x\n1000,5;0,25\n1001,5;7,0\n", "decimal commas, such as '1000,5'.*decimal points"),
        ("m x\n1000,5 0,25\n1001,5 7,0\n", "decimal commas"),
        ("m,x\n1000,5,0,25\n", "line 2 has 4 values, expected 2.*decimal commas"),
        ("# c\nm,x\n1,2\n\n# c\n3\n5,6\n", r"line 6 has 1 value, expected 2 \(m, x\): '3'"),
        ("m,x\n1,2\n3,4,5\n", "line 3 has 3 values, expected 2"),
        ("m x\n7 1 2\n9 3 4\n", "line 2 has 3 values, expected 2"),
        ("m,x\n1,2\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("m,é\n1,2\n".encode("latin1"), "line 1 is not UTF-8 text"),
        ("*********\n* Row * m *\n*********\n* 0 * 5 *\n", "TTree::Scan"),
        ("m,x\n", "has no rows"),
        ("m,m\n1,2\n", "'m' is duplicated"),
    ],
)
def test_what_is_not_guessed(text: str | bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=rf"(?s)a.csv: .*{message}"):
        read(tmp_path / "a.csv", mass="m")


def test_names_are_guessed_aloud_and_no_event_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert columns("# m x\n1 2\n3 4\n5 6\n", tmp_path)["m"] == [1, 3, 5]
        assert "taken from the comment in line 1: m, x" in caplog.text
        # what pandas writes with sep=" ", and R
        assert columns(" m x\n0 7 2\n1 8 4\n", tmp_path) == {"index": [0, 1], "m": [7, 8], "x": [2, 4]}
        assert columns('"m","x"\n"1",7,2\n"2",8,4\n', tmp_path)["index"] == [1, 2]
        assert "taken as column 'index'" in caplog.text
        assert columns("0,1\n7,2\n8,4\n", tmp_path) == {"0": [7, 8], "1": [2, 4]}
        assert "(0, 1, ...) is taken as names" in caplog.text
        assert columns(",m,x\n0,7,2\n1,8,4\n", tmp_path)["m"] == [7, 8]
        columns("m,x\n7,2\nm,x\n8,4\n", tmp_path)
        assert "header is repeated 1 times" in caplog.text


def test_units_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "m [TeV],pt [GeV/c],sqrt(s),n\n"
        + "".join(f"{1 + i / 50},{i * 7 % 60},{i % 7},{i % 5}\n" for i in range(60))
    )
    events = read(path, mass="m", features=["pt", "sqrt(s)"], unit="TeV")
    np.testing.assert_allclose(events.m, 1000 * (1 + np.arange(60) / 50))
    np.testing.assert_array_equal(read(path, mass="`m [TeV]`", unit="TeV").m, events.m)
    with pytest.raises(InputError, match="header gives the mass 'm' in TeV, not in GeV; say so: --unit TeV"):
        read(path, mass="m")
    path.write_text("m [MeV]\n1000\n2000\n")
    with pytest.raises(InputError, match=r"'m' in MeV, not in GeV; convert it: --mass 'm\*0.001'"):
        read(path, mass="m")
    assert read(path, mass="m*0.001").m.tolist() == [1, 2]


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    large = [2**64 - 1, 2**63 + 1, 5]
    text = "e,k,f\n" + "".join(f"{n},{2**53 + 1 + i},{n}.5\n" for i, n in enumerate(large))
    found = columns(text, tmp_path)
    assert found["e"] == large
    assert found["k"] == [2**53 + 1, 2**53 + 2, 2**53 + 3]
    (tmp_path / "b.csv").write_text(f"m,e\n1,{2**62 + 1}\n2,\n3,{2**62 + 2}\n")
    events = read(tmp_path / "b.csv", mass="m", id="e", where="m != 2")
    assert events.ids.tolist() == [2**62 + 1, 2**62 + 2]
    with pytest.raises(InputError, match="id column 'e' is missing in 1 row, first in row 1"):
        read(tmp_path / "b.csv", mass="m", id="e")


def test_long_tables_are_cleaned_in_pieces(tmp_path: Path) -> None:
    # more than a megabyte, so that comments and blanks lie on the seams of blocks too
    n = 60_000
    lines = [f"  {1000 + i:12.3f}   {i % 17:4d}\n" + ("# break\n" if i % 997 == 0 else "") for i in range(n)]
    found = columns("   m   k\n" + "".join(lines), tmp_path, "a.dat")
    np.testing.assert_array_equal(found["m"], 1000.0 + np.arange(n))
    np.testing.assert_array_equal(found["k"], np.arange(n) % 17)


def test_missing_values_have_many_spellings(tmp_path: Path) -> None:
    found = columns("m,x\n1,-nan\n2,N/A\n#N/A,3\n4,\n5,1.#QNAN\n6,inf\n", tmp_path)
    assert np.isnan(found["x"]).tolist() == [True, True, False, True, True, False]
    assert np.isnan(found["m"]).tolist() == [False, False, True, False, False, False]
    assert found["x"][5] == np.inf
