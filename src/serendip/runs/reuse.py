"""Whether a folder may hold a run: it is new, or holds the same run, which is then continued."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from serendip.errors import InputError
from serendip.io.json import read_json
from serendip.io.yaml import read_yaml

__all__ = ["check_same", "stored_record"]


def stored_record(folder: Path, name: str, holds: str) -> dict[str, Any] | None:
    """Read the file that describes the content of a folder; None for a folder that is new, or empty but for hidden files.

    Parameters
    ----------
    folder
        It need not exist.
    name
        The file, JSON or YAML.
    holds
        Content of such folders, for the message: "search", "comparison".

    Raises
    ------
    InputError
        If the folder is a file or holds something else, or the record is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file, a folder is needed")
    path = folder / name
    if path.exists():
        read = read_json if path.suffix == ".json" else read_yaml
        return read(path, damaged="choose another folder")
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise InputError(f"--out {folder}: is not empty and contains no {holds}; choose another folder")
    return None


def check_same(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    said: str,
    *,
    may_change: Collection[str] = (),
    advice: str = "choose another folder",
) -> None:
    """Stop unless two records of settings are the same.

    A setting that did not exist when the run was made is one that is not given (None).

    Parameters
    ----------
    found, wanted
        Those of the folder, and the requested ones.
    said
        Beginning of the message: ``--out RUN: holds a search``.
    may_change
        Settings that need not be the same.
    advice
        What to do about it.

    Raises
    ------
    InputError
        Naming the settings that differ.
    """
    changed = sorted(
        key
        for key in (wanted.keys() | found.keys()).difference(may_change)
        if found.get(key) != wanted.get(key)
    )
    if changed:
        raise InputError(f"{said} with other settings ({', '.join(changed)} differ); {advice}")
