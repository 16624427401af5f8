"""A number and what it counts agree in messages."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serendip.cli.main import run
from serendip.report import words
from serendip.wording import counted, noun


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (12345, "12345 events")]
)
def test_a_number_and_its_noun(n, text):
    assert counted(n, "event") == text


def test_nouns_and_verbs():
    assert noun(1.0, "mass", "masses") == "mass"
    assert noun(1.5, "mass", "masses") == "masses"
    assert counted(1, "row is", "rows are") == "1 row is"
    assert counted(3, "row is", "rows are") == "3 rows are"
    assert words.counted(12_345, "event") == "12\u202f345 events"
    assert words.counted(1.0, "event") == "1 event"


def test_a_bump_leaves_one_event_out(tmp_path, capfd):
    rng = np.random.default_rng(1)
    mass = 60.0 + rng.exponential(40.0, 3000)
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"m": np.append(mass[mass < 200], 350.0)}), table)
    assert run(["bump", str(table), "--mass", "m", "--window", "100:110", "--range", "60:200"]) == 0
    out = capfd.readouterr().out
    assert "left out: 1 event above 200 GeV (as asked for)" in out
    assert not re.search(r"\b1 \w+s (below|above|in|of)\b", out)
