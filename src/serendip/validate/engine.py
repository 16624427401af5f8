"""Run kinds of validation one after the other, skip finished ones, and write the input of the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from serendip.errors import InputError
from serendip.events.formats import shown
from serendip.io.files import make_folder
from serendip.io.json import read_json, write_json
from serendip.runs.folder import RunDirectory
from serendip.runs.progress import LogProgress, Progress
from serendip.runs.reuse import check_same, stored_record
from serendip.search.config import SearchConfig
from serendip.search.engine import read_events, read_simulation
from serendip.validate.base import Validation, read_validations, write_validation
from serendip.validate.registry import KINDS
from serendip.version import __version__

__all__ = ["STATE", "read_state", "run_validations"]

# settings of a validation in addition to those of the search
_NOT_OF_THE_SEARCH = (
    "label",
    "simulation",
    "simulation_weight",
    "simulation_where",
    "calibration",
    "tuned",
    "toys",
)

STATE = "validation.json"
"""File that lists the validations in a folder, with their input and settings."""


def run_validations(
    config: SearchConfig,
    options: Mapping[str, BaseModel],
    out: Path | str,
    *,
    strict: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> list[Validation]:
    """Run kinds of validation and write ``OUT/validation/KIND.json`` and ``OUT/validation.json``.

    A kind is skipped if it is finished with the same options, by the same version of the package.

    Parameters
    ----------
    config
        The search that is validated.
    options
        Options of each kind to run.
    out
        The folder: new, one of earlier validations of the same search and input, or the run directory of a search.
    strict
        A kind that cannot run stops everything. If False, it is left out and the reason is recorded.
    jobs
        Worker processes; default: one for each core.
    progress
        Receives progress messages.

    Returns
    -------
    All validations of the folder.

    Raises
    ------
    InputError
        If the input, the settings or the folder cannot be used, or nothing could be run.
    """
    out, progress = Path(out), progress or LogProgress()
    state = _open(out, config)
    inputs = _inputs(config)
    known = state.get("input") or inputs
    digests = {name: entry["digest"] for name, entry in inputs.items()}
    if {name: entry["digest"] for name, entry in known.items()} != digests:
        raise InputError(
            f"--out {out}: holds validations of other events: the content of {shown(config.file)} or of the simulation has changed "
            "since; choose another folder"
        )
    state |= {
        "schema": 1,
        "serendip": __version__,
        "config": config.resolved(),
        "input": inputs,
        "kinds": dict(state.get("kinds") or {}),
        "left_out": {kind: why for kind, why in (state.get("left_out") or {}).items() if kind not in options},
    }
    # first of all: after a kill, a folder without it would not be recognised as ours
    write_json(out / STATE, state)
    for kind, chosen in options.items():
        key = RunDirectory.task_key(config.resolved(), digests, kind, chosen.model_dump(mode="json"))
        path = out / "validation" / f"{kind}.json"
        if path.exists() and (state["kinds"].get(kind) or {}).get("key") == key:
            progress.start(kind, 1)
            progress.advance(f"{kind} (already there)")
            continue
        started = time.perf_counter()
        try:
            found = KINDS[kind].run(config, chosen, out, jobs=jobs, progress=progress)
        except InputError as error:
            if strict:
                raise InputError(f"{kind}: {error}") from None
            state["left_out"][kind] = str(error)
            state["kinds"].pop(kind, None)
            path.unlink(missing_ok=True)
            continue
        write_validation(out, replace(found, seconds=time.perf_counter() - started))
        state["kinds"][kind] = {
            "key": key,
            "options": chosen.model_dump(mode="json"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(out / STATE, state)
    write_json(out / STATE, state)
    validations = read_validations(out)
    if not validations:
        reasons = "; ".join(f"{kind}: {why}" for kind, why in state["left_out"].items())
        raise InputError(f"no kind of validation could run ({reasons})")
    order = list(KINDS)
    return sorted(
        validations, key=lambda found: order.index(found.kind) if found.kind in order else len(order)
    )


def read_state(out: Path) -> dict[str, Any]:
    """Read ``OUT/validation.json``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_json(
        out / STATE, missing="the folder contains no validation; run 'serendip validate'",
        damaged="choose another folder", schema=1,
    )  # fmt: skip


def _open(out: Path, config: SearchConfig) -> dict[str, Any]:
    """Stop if the folder cannot hold these validations; create it; return its record."""
    state: dict[str, Any] = {}
    wanted = config.resolved()
    if (out / STATE).exists():
        state = read_state(out)
        check_same(
            state.get("config") or {},
            wanted,
            f"--out {out}: holds validations of a search",
            advice="choose another folder; only options of the kinds of validation may change",
        )
    elif found := stored_record(out, "config.yaml", "validation and no run of a search"):
        check_same(
            {key: found[key] for key in found.keys() & wanted.keys()},
            wanted,
            f"--out {out}: is the run of a search",
            may_change=_NOT_OF_THE_SEARCH,
            advice=f"choose another folder, or validate {out / 'config.yaml'}",
        )
    make_folder(out / "validation")
    return state


def _inputs(config: SearchConfig) -> dict[str, dict[str, Any]]:
    events, simulation = read_events(config), read_simulation(config)
    found = {"input": {"file": shown(config.file), "digest": events.digest(), "rows_used": len(events)}}
    if simulation is not None:
        found["simulation"] = {
            "file": shown(config.simulation),
            "digest": simulation.digest(),
            "rows_used": len(simulation),
        }
    return found
