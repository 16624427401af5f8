"""Files of results: their models, and the schemas that these make."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from serendip.cli.main import run
from serendip.cli.schema import KINDS
from serendip.errors import InputError
from serendip.search.results import Results

# what the first version wrote of a blinded look
FIRST = {
    "schema": 1, "seed": 1, "blinded": True, "global": None, "timing_s": {"total": 1.0},
    "looks": [{
        "method": "cwola", "window": [3300, 3700], "working_point": 0.01, "statistic": "bump-fit", "observed": None, "expected": 20.0,
        "expected_error": 2.0, "p_local": None, "z_local": None, "combination": "sequential", "warning": None,
        "folds": [{"fold": 1, "observed": None, "expected": 20.0, "expected_error": 2.0, "p": None}],
        "fit": {"function": "dijet-4", "n_parameters": 4, "gof_p": 0.4, "efficiency_order": 1, "efficiency_gof_p": 0.5},
    }],
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_command_prints_a_schema_of_all_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", name]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])


def test_an_unknown_schema_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "scores"]) == 2
    assert "no schema of 'scores'; expected one of: compare" in capsys.readouterr().err


def test_bounds_are_in_the_schema() -> None:
    look = Results.json_schema()["$defs"]["Look"]["properties"]
    assert look["expected"] == {"minimum": 0, "title": "Expected", "type": "number"}
    assert {"type": "number", "minimum": 0, "maximum": 1} in look["p_local"]["anyOf"]
    assert look["statistic"]["enum"] == ["bump-fit", "template-count"]


def test_files_of_the_first_version_are_read_and_others_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(FIRST))
    (look,) = Results.read(path).looks
    assert (look.window, look.dead, look.template, look.orders) == ((3300.0, 3700.0), None, None, ())
    for change, message in (
        ({"schema": 2}, "'schema' is not as expected"),
        ({"looks": [FIRST["looks"][0] | {"window": [1]}]}, r"'looks.0.window.1' is not as expected"),
    ):
        path.write_text(json.dumps(FIRST | change))
        with pytest.raises(InputError, match=message):
            Results.read(path)
