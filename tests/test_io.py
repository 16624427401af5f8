from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.io.files import atomic_folder, make_folder, reading
from serendip.io.json import read_json, write_json
from serendip.io.models import read_arrays, read_model, write_model
from serendip.io.yaml import read_yaml, write_yaml


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = {"schema": 1, "edges": [1.5, None], "name": "μ"}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json", schema=1) == content
    write_yaml(tmp_path / "a.yaml", content, "# a note\n")
    assert read_yaml(tmp_path / "a.yaml") == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", r"Expecting property name .*"),
        ("[1]", "an object with names is expected"),
        ('{"schema": 2}', "schema 2; this version reads schema 1"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"a\.json: is damaged \({reason}\); make it again$"):
        read_json(path, damaged="make it again", schema=1)


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_settings_that_are_no_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml: is damaged \((no YAML: .*|expected lines .*)\)$"):
        read_yaml(tmp_path / "a.yaml")


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: no such file; expected a run$"):
        read_json(tmp_path / "a.json", missing="expected a run", damaged="make it again")
    with (
        pytest.raises(InputError, match=r"is damaged \(b.npy is missing\); make it again$"),
        reading(tmp_path, damaged="make it again"),
    ):
        (tmp_path / "b.npy").read_bytes()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out .*file/run: cannot be created \(Not a directory\)$"):
        make_folder(tmp_path / "file" / "run")


def test_a_model_is_two_files_under_one_name(tmp_path: Path) -> None:
    arrays = {"low": np.array([1.0, np.inf]), "count": np.array([3])}
    write_model(tmp_path / "new", {"kind": "a"}, arrays, "classifier")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "classifier.json",
        "classifier.safetensors",
    ]
    facts, found = read_model(tmp_path / "new", "classifier")
    assert facts == {"schema": 1, "kind": "a"}
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    path = tmp_path / "new" / "classifier.safetensors"
    with pytest.raises(InputError, match=r"is damaged \('low' holds a number that is not finite\)$"):
        read_arrays(path, finite=True)
    with pytest.raises(InputError, match=r"is damaged \('high' is missing\)$"):
        read_arrays(path, "high")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"classifier\.safetensors: is damaged"):
        read_arrays(path)
    with pytest.raises(InputError, match=r"density\.json: no such file; the folder contains no density$"):
        read_model(tmp_path / "new")


def test_a_folder_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "task"
    for content in ("old", "new"):
        with atomic_folder(folder) as temporary:
            (temporary / content).touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as temporary:
        raise ZeroDivisionError
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(folder.parent.iterdir()) == [folder]
    with (
        pytest.raises(InputError, match=r"cannot be written .*; free space"),
        atomic_folder(folder / "new" / "a"),
    ):
        pass
