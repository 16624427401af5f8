"""``serendip fetch``: download the public data sets."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serendip.errors import InputError
from serendip.wording import counted

__all__ = ["fetch"]


class Dataset(StrEnum):
    """Available data sets."""

    darkmachines = "darkmachines"
    lhco_rd = "lhco-rd"
    lhco_blackboxes = "lhco-blackboxes"
    top_tagging = "top-tagging"


def fetch(
    dataset: Annotated[Dataset, typer.Argument(help="Data set.", show_default=False)],
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the files.")] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="darkmachines: hackathon (default; backgrounds and signals of all channels), sm (full SM generation), "
            "secret, bsm."
        ),
    ] = None,
    record: Annotated[
        str | None, typer.Option(help="Number of another Zenodo record, for example an older version.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only files that match, e.g. '*.tar'; may be repeated.")
    ] = None,
    list_files: Annotated[
        bool, typer.Option("--list", help="Print files and sizes; download nothing.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(envvar="SERENDIP_ZENODO_URL", help="A mirror with the API of Zenodo; default: Zenodo."),
    ] = None,
) -> None:
    """Download a public data set from Zenodo, checked against its checksums.

    An interrupted download is continued by the same command; what is complete is not fetched again.
    """
    from serendip.events.download import download, readable_size
    from serendip.events.zenodo import ZENODO, choose, find_record, record_number

    if record is not None and part is not None:
        raise InputError("--record and --part exclude each other")
    if out is None and not list_files:
        raise InputError("give --out FOLDER, or --list to see the files")
    found = find_record(record or record_number(dataset.value, part), url=url or ZENODO)
    files = choose(found.files, only or ())
    typer.echo(f"{found.title or dataset.value} (record {found.number}{_stated(found.doi, found.licence)})")
    if list_files:
        for file in files:
            typer.echo(f"{readable_size(file.size):>10}  {file.name}  {file.algorithm}:{file.checksum}")
        typer.echo(f"{readable_size(sum(file.size for file in files)):>10}  in {counted(len(files), 'file')}")
        return
    assert out is not None
    with _Bars() as bars:
        done = download(files, out, progress=bars.update)
    for file in files:
        typer.echo(
            f"{out / file.name}: {readable_size(file.size)}, {done[file.name]}, {file.algorithm} agrees"
        )


def _stated(doi: str, licence: str) -> str:
    return "".join(f", {text}" for text in (doi, licence) if text)


class _Bars:
    """Bars on a terminal; elsewhere one line for every tenth of a file."""

    def __enter__(self) -> _Bars:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._live = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._tasks: dict[str, int] = {}
        self._tenths: dict[str, int] = {}
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, name: str, done: int, total: int) -> None:
        from rich.progress import TaskID

        from serendip.events.download import readable_size

        if not self._live.disable:
            if name not in self._tasks:
                self._tasks[name] = self._live.add_task(name, total=total)
            self._live.update(TaskID(self._tasks[name]), completed=done)
            return
        tenth = 10 * done // max(total, 1)
        if tenth > self._tenths.get(name, 0):
            self._tenths[name] = tenth
            typer.echo(f"{name}: {10 * tenth} % of {readable_size(total)}", err=True)
