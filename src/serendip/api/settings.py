"""Input of a program: settings from keywords and YAML files, and events in memory kept for later calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.formats import is_path
from serendip.events.formats.memory import write_parquet
from serendip.events.identity import ALONE
from serendip.events.write import write
from serendip.search.config import load_config

__all__ = ["keep_events", "program_settings"]

# hidden, because a folder with other files is not taken for a run
_TABLE, _NEW = ".events.parquet", ".events-new.parquet"
_WINDOWS = ("window", "scan")


def program_settings(source: Any, out: Path | str, settings: dict[str, Any]) -> dict[str, Any]:
    """All settings under the names of the configurations: those of a YAML file below those that are given, and the file of the events.

    Raises
    ------
    InputError
        If two of them mean the same, or the events are given twice.
    """
    given = dict(settings)
    if "file" in given:
        raise InputError("the events are the first argument, not file=")
    if "methods" in given:
        if "method" in given:
            raise InputError("methods= and method= mean the same; give one of them")
        given["method"] = given.pop("methods")
    if isinstance(source, Events):
        given = _roles(source) | given
    if not is_path(source):
        return _with_windows({}, given) | {"file": str(Path(out) / _TABLE)}
    paths = [os.fspath(p) for p in ([source] if isinstance(source, str | os.PathLike) else source)]
    if len(paths) == 1 and Path(paths[0]).suffix.lower() in {".yaml", ".yml"}:
        return _with_windows(load_config(Path(paths[0])), given)
    return _with_windows({}, given) | {"file": paths}


def _with_windows(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Settings of a file below those that are given; ``windows`` is the window, or the range of a scan if windows have a width."""
    if "windows" in given:
        if double := {"window", "scan"} & set(given):
            raise InputError(f"windows= and {double.pop()}= mean the same; give one of them")
        windows = given.pop("windows")
        if isinstance(windows, list | tuple) and any(isinstance(x, list | tuple | Window) for x in windows):
            if len(windows) > 1:
                raise InputError(
                    "windows: several windows are those of a scan; give its range and their relative width, windows=(LO, HI), width=0.1"
                )
            (windows,) = windows
        stored = {name: value for name, value in stored.items() if name not in _WINDOWS}
        wide = any((stored | given).get(name) is not None for name in ("width", "signal_width"))
        given["scan" if wide else "window"] = windows
    return stored | {
        name: (value.low, value.high) if name in _WINDOWS and isinstance(value, Window) else value
        for name, value in given.items()
    }


def _roles(events: Events) -> dict[str, Any]:
    alone = ALONE if events.provenance.get("group") == ALONE else None
    roles: dict[str, Any] = {
        "mass": events.mass, "features": list(events.features), "weight": events.weight, "label": events.label, "id": events.id,
        "group": events.group or alone,
    }  # fmt: skip
    return {name: value for name, value in roles.items() if value is not None}


def keep_events(source: Any, out: Path) -> None:
    """Write a table in memory into the folder, so that the run can be continued and repeated."""
    if is_path(source):
        return
    path, new, started = out / _TABLE, out / _NEW, (out / "config.yaml").exists()
    if started and not path.exists():
        raise InputError(f"{out}: holds a run that was started from a file; choose another folder")
    if out.is_file():
        raise InputError(f"{out}: is a file, a folder is needed")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Events):
            write(source, new)
        else:
            write_parquet(source, new)
        if started and path.read_bytes() != new.read_bytes():
            raise InputError(f"{out}: was started on other events; choose another folder")
        new.replace(path)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from None
    finally:
        new.unlink(missing_ok=True)
