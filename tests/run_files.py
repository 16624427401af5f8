"""Files of a run against their models and schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from serendip.search.compare.results import Comparison
from serendip.search.diagnostic_records import Diagnostics
from serendip.search.monitor.results import Monitored
from serendip.search.results import Results

KINDS = {
    "results.json": Results,
    "diagnostics.json": Diagnostics,
    "monitor.json": Monitored,
    "compare.json": Comparison,
}


def check_files(run: Path) -> None:
    """The schema has every key that a run wrote, and no number of it is lost where it is read."""
    found = {name: kind for name, kind in KINDS.items() if (run / name).exists()}
    assert found
    for name, kind in found.items():
        written = json.loads((run / name).read_text())
        jsonschema.Draft202012Validator(kind.json_schema()).validate(written)
        assert kind.read(run / name).content() == written, name
