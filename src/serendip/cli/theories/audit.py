"""``serendip theories audit``: differences between two samples that are artefacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import AsJson
from serendip.errors import CheckFailedError

__all__ = ["audit"]


def audit(
    background: Annotated[
        Path, typer.Argument(help="Background: CSV of the Dark Machines format, or Parquet.")
    ],
    signal: Annotated[list[Path], typer.Argument(help="Signal files, each compared with the background.")],
    channel: Annotated[str, typer.Option(help="1, 2a, 2b or 3: to which both samples are harmonised.")] = "1",
    strict: Annotated[
        bool, typer.Option("--strict/--skip", help="Stop at a malformed line, or skip and count it.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Find differences between two samples that are artefacts and not physics, as published and harmonised.

    Every single number of an event is looked at: hard edges in one sample that the other does not have, numbers of
    digits, constants. Exit code 1 if something is left after harmonising.
    """
    from serendip.theories.harmonise import harmonise
    from serendip.theories.leaks import audit as compare

    events = _read(background, strict=strict)
    clean, report = harmonise(events, channel)
    found: dict[str, Any] = {
        "background": {"file": str(background), "harmonise": report.to_dict()},
        "signals": [],
    }
    left = []
    for path in signal:
        other = _read(path, strict=strict)
        cleaned, kept = harmonise(other, channel)
        reports = {"as published": compare(events, other), "harmonised": compare(clean, cleaned)}
        if not reports["harmonised"].clean:
            left.append(path.name)
        found["signals"].append(
            {"file": str(path), "harmonise": kept.to_dict()}
            | {name.replace(" ", "_"): one.to_dict() for name, one in reports.items()}
        )
        if not as_json:
            for name, one in reports.items():
                typer.echo(f"{path.name}, {name}\n{one}\n")
            typer.echo(f"{kept}\n")
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    if left:
        raise CheckFailedError(
            f"samples still differ by artefacts after harmonising: {', '.join(left)}; do not train on them before the cause is removed"
        )


def _read(path: Path, *, strict: bool) -> Any:
    from serendip.events.darkmachines import read_events
    from serendip.events.objects_parquet import read_parquet

    if path.suffix.lower() in {".parquet", ".pq"}:
        return read_parquet(path)
    events, report = read_events(path, strict=strict)
    if report.skipped:
        typer.echo(report.describe(), err=True)
    return events
