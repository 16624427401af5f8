"""Live progress on a terminal; one plain line for each finished step elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["TerminalProgress"]


class TerminalProgress:
    """Shows stages, finished steps and an estimate of the time left, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live: Progress | None = None
        self._bar: TaskID | None = None
        self._stage, self._total, self._done, self._skipped = "", 0, 0, 0
        self._started = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self._console,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""
        self._stage, self._total, self._done, self._skipped = stage, total, 0, 0
        self._started = time.monotonic()
        if self._live is not None:
            self._bar = self._live.add_task(stage, total=total, left="")
        else:
            self._console.print(f"{stage} ...", highlight=False)

    def advance(self, done: str) -> None:
        """Report one finished step."""
        self._done += 1
        if "already there" in done:
            self._skipped += 1
        left = self._time_left()
        if self._live is not None and self._bar is not None:
            self._live.update(self._bar, advance=1, left=left)
            if self._total > 1:
                self._live.console.print(f"  done: {done}", highlight=False)
        elif self._total > 1:
            elapsed = time.monotonic() - self._started
            self._console.print(
                f"  [{self._done}/{self._total}] {done}, {elapsed:.0f} s {left}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def _time_left(self) -> str:
        worked = self._done - self._skipped
        remaining = self._total - self._done
        if worked == 0 or remaining == 0:
            return ""
        seconds = (time.monotonic() - self._started) / worked * remaining
        return f"(about {seconds / 60:.0f} min left)" if seconds > 90 else f"(about {seconds:.0f} s left)"
