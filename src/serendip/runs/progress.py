"""Progress of a program: bars in terminals and notebooks, lines in a log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Protocol

__all__ = ["LogProgress", "NotebookBars", "Progress", "TerminalBars", "show_progress"]

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives the progress of a program."""

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""

    def advance(self, done: str) -> None:
        """Report one finished step."""


class _Steps:
    """Counts the steps of a stage and estimates the time left."""

    _stage, _total, _done, _skipped, _started = "", 0, 0, 0, 0.0

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""
        self._stage, self._total, self._done, self._skipped = stage, total, 0, 0
        self._started = time.monotonic()

    def advance(self, done: str) -> None:
        """Report one finished step."""
        self._done += 1
        # steps of an earlier run carry no information about the time left
        self._skipped += "already there" in done

    def _time_left(self) -> str:
        worked, remaining = self._done - self._skipped, self._total - self._done
        if worked == 0 or remaining == 0:
            return ""
        seconds = (time.monotonic() - self._started) / worked * remaining
        return f"(about {seconds / 60:.0f} min left)" if seconds > 90 else f"(about {seconds:.0f} s left)"


class LogProgress(_Steps):
    """One line for each stage and each of its steps, if it has several.

    Parameters
    ----------
    write
        Takes a line; default: the log.
    """

    def __init__(self, write: Callable[[str], object] = log.info) -> None:
        self._write = write

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""
        super().start(stage, total)
        self._write(f"{stage} ...")

    def advance(self, done: str) -> None:
        """Report one finished step."""
        super().advance(done)
        if self._total > 1:
            elapsed = time.monotonic() - self._started
            self._write(
                f"  [{self._done}/{self._total}] {done}, {elapsed:.0f} s {self._time_left()}".rstrip()
            )


class TerminalBars(_Steps):
    """A bar for each stage on standard error, and a line for each of its steps, if it has several.

    Parameters
    ----------
    live
        The display of rich; its tasks have a field ``left``.
    """

    def __init__(self, live: Any) -> None:
        self._live = live

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""
        super().start(stage, total)
        self._bar = self._live.add_task(stage, total=total, left="")

    def advance(self, done: str) -> None:
        """Report one finished step."""
        super().advance(done)
        self._live.update(self._bar, advance=1, left=self._time_left())
        if self._total > 1:
            self._live.console.print(f"  done: {done}", highlight=False, markup=False)


class NotebookBars(_Steps):
    """A bar for each stage below the cell that runs; needs no widgets."""

    def start(self, stage: str, total: int) -> None:
        """Announce a stage of ``total`` steps."""
        from IPython.display import HTML, display

        super().start(stage, total)
        self._html = HTML
        self._shown = display(HTML(self._line("")), display_id=True)

    def advance(self, done: str) -> None:
        """Report one finished step."""
        super().advance(done)
        self._shown.update(self._html(self._line(done)))

    def _line(self, done: str) -> str:
        text = f"{self._stage}, {self._done} of {self._total} {self._time_left()}".rstrip()
        bar = f'<progress value="{self._done}" max="{self._total}"></progress>'
        return f"{bar} {escape(text)}<br><small>{escape(done)}</small>"


@contextmanager
def show_progress(
    progress: Progress | None = None, *, otherwise: Callable[[str], object] = log.info
) -> Iterator[Progress]:
    """Give ``progress`` or, if it is None, bars in a notebook or on a terminal and lines elsewhere.

    Parameters
    ----------
    progress
        What the caller wants.
    otherwise
        Takes the lines where there are no bars; default: the log.
    """
    if progress is not None:
        yield progress
    elif _in_notebook():
        yield NotebookBars()
    elif sys.stderr.isatty():
        with _display() as live:
            yield TerminalBars(live)
    else:
        yield LogProgress(otherwise)


def _in_notebook() -> bool:
    """Whether a kernel runs this: the shell of a terminal has none."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def _display() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    )
