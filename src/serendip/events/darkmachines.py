"""Read Dark Machines files: one event per line, lists of objects of any length (arXiv:2105.14027).

A line is ``event ID; process ID; weight; MET; METphi; obj1, E1, pt1, eta1, phi1; obj2, ...`` in MeV and rad,
with or without a last ``;``. :func:`read_events` reads a whole file, :func:`read_chunks` a file of any size in
bounded memory. Numbers become GeV on reading.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from serendip.errors import InputError
from serendip.events.darkmachines_lines import (
    FIRST,
    REASONS,
    BadLine,
    ends_with_semicolon,
    parse_lines,
    tidy,
)
from serendip.events.objects import ObjectEvents, concatenate
from serendip.wording import counted

__all__ = ["BadLines", "ReadReport", "Source", "read_chunks", "read_events"]

log = logging.getLogger(__name__)

# small enough for the cache of a core, large enough to hide the cost of a call
_BLOCK = 4 << 20
_LONGEST_LINE = 64 << 20


class Source(Protocol):
    """Something that is read like a file, for example a file inside a tar archive."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    def open(self) -> BinaryIO:
        """Open it for reading from the start; the caller closes it."""


@dataclass(frozen=True)
class BadLines:
    """The lines that were left out for one reason.

    Parameters
    ----------
    count
        How many.
    first
        Line number (from 1) and offending text of the first few.
    """

    count: int
    first: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ReadReport:
    """Statistics of the lines of a file, or of a part of it; reports of parts can be added.

    Parameters
    ----------
    file
        Its name.
    lines
        Lines read.
    read
        Lines that became events.
    bad
        Reason to the lines that were left out for it; every line is counted once.
    """

    file: str
    lines: int
    read: int
    bad: Mapping[str, BadLines] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """Lines that were left out."""
        return self.lines - self.read

    def __add__(self, other: ReadReport) -> ReadReport:
        names = dict.fromkeys([*self.file.split(", "), *other.file.split(", ")])
        bad = dict(self.bad)
        for reason, lines in other.bad.items():
            before = bad.get(reason, BadLines(0, ()))
            bad[reason] = BadLines(before.count + lines.count, (*before.first, *lines.first)[:FIRST])
        return ReadReport(", ".join(names), self.lines + other.lines, self.read + other.read, bad)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        bad = {
            reason: {"count": lines.count, "first": [{"line": n, "value": text} for n, text in lines.first]}
            for reason, lines in self.bad.items()
        }
        return {"file": self.file, "lines": self.lines, "read": self.read, "bad": bad}

    def describe(self) -> str:
        """Text for people: the counts, and for each reason the first lines."""
        read, skipped = counted(self.read, "event"), counted(self.skipped, "line")
        words = [f"{self.file}: {counted(self.lines, 'line')}, {read} read, {skipped} skipped"]
        for reason, lines in self.bad.items():
            examples = "; ".join(f"line {number}: '{text}'" for number, text in lines.first)
            more = "; ..." if lines.count > len(lines.first) else ""
            words.append(f"  {reason}: {lines.count} ({examples}{more})")
        return "\n".join(words)


def read_events(
    source: str | os.PathLike[str] | Source, *, strict: bool = True
) -> tuple[ObjectEvents, ReadReport]:
    """Read a whole Dark Machines file (arXiv:2105.14027, section 2.3).

    Parameters
    ----------
    source
        A path (``.csv`` or ``.csv.gz``), or a file of :func:`serendip.events.records.read_record`.
    strict
        Stop at the first malformed line. Otherwise such lines are left out, counted in the report and logged.

    Returns
    -------
    events
        GeV and rad; NaN for the energy of three-component objects.
    report
        Lines, events, and malformed lines by reason.

    Raises
    ------
    InputError
        If the file is missing, empty or not text, if ``strict`` and a line is malformed, or if no line can
        be read.
    """
    parts = list(read_chunks(source, strict=strict))
    report = parts[0][1]
    for _, other in parts[1:]:
        report += other
    return concatenate([events for events, _ in parts]), report


def read_chunks(
    source: str | os.PathLike[str] | Source, *, lines: int = 100_000, strict: bool = True
) -> Iterator[tuple[ObjectEvents, ReadReport]]:
    """Read a Dark Machines file in parts of ``lines`` lines; memory is that of one part.

    The sum of the reports is the report of the file. Line numbers count from the start of the file.
    Parameters, results and errors are otherwise those of :func:`read_events`.

    Raises
    ------
    InputError
        As :func:`read_events`, and if ``lines`` is not positive.
    """
    if lines < 1:
        raise InputError(f"lines={lines}: expected the number of lines of a part, at least 1")
    return _chunks(source, lines, strict)


def _chunks(
    source: str | os.PathLike[str] | Source, lines: int, strict: bool
) -> Iterator[tuple[ObjectEvents, ReadReport]]:
    parts: list[ObjectEvents] = []
    name = Path(source).name if isinstance(source, str | os.PathLike) else source.name
    report = total = ReadReport(name, 0, 0)
    with _opened(source, name) as stream:
        for block, closed in _blocks(stream, name, lines):
            events, bad, codes = parse_lines(block, closed=closed)
            if strict and bad:
                raise _malformed(name, total.lines + bad[0].line + 1, bad[0])
            part = ReadReport(name, len(codes), len(events), _count(bad, codes, total.lines + 1))
            report, total = report + part, total + part
            parts.append(events)
            if report.lines == lines:
                yield concatenate(parts), report
                parts, report = [], ReadReport(name, 0, 0)
    if total.lines == 0:
        raise InputError(f"'{name}' is empty")
    if total.read == 0:
        raise InputError(
            f"no line of '{name}' is an event of a Dark Machines file; expected 'event ID; process ID; weight; "
            f"MET; METphi; obj1, E1, pt1, eta1, phi1; ...'\n{total.describe()}"
        )
    if total.skipped:
        log.warning("%s", total.describe())
    if parts:
        yield concatenate(parts), report


def _blocks(stream: BinaryIO, name: str, lines: int) -> Iterator[tuple[bytes, bool]]:
    """Complete lines, at most 4 MB (or one line) at a time, with a stop after every ``lines`` lines.

    The flag tells whether the lines of this file end with ``;``.
    """
    rest, left, ended = b"", lines, False
    closed: bool | None = None
    while not ended:
        data = stream.read(_BLOCK)
        if closed is None and not rest:
            data = data.removeprefix(b"\xef\xbb\xbf")
        ended = not data
        rest += data
        if ended and rest:
            rest += b"\n"
        if len(rest) > _LONGEST_LINE and b"\n" not in rest:
            raise InputError(
                f"'{name}' has no line end in {_LONGEST_LINE >> 20} MB: this is not a Dark Machines file"
            )
        stop = rest.rfind(b"\n") + 1
        block, rest = tidy(rest[:stop]), rest[stop:]
        if closed is None and block:
            closed = ends_with_semicolon(block)
        while block:
            n = block.count(b"\n")
            end = len(block)
            if n > left:
                n = left
                ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
                end = int(ends[left - 1]) + 1
            yield block[:end], bool(closed)
            block = block[end:]
            left = left - n or lines


@contextmanager
def _opened(source: str | os.PathLike[str] | Source, name: str) -> Iterator[BinaryIO]:
    import gzip

    try:
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            if not path.is_file():
                raise InputError(f"there is no file '{path}'")
            stream: BinaryIO = path.open("rb")
        else:
            stream = source.open()
        with stream:
            if name.endswith(".gz"):
                with gzip.open(stream) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"'{name}' cannot be read: {reason}") from error


def _count(bad: list[BadLine], codes: Any, start: int) -> dict[str, BadLines]:
    counts = np.bincount(codes, minlength=len(REASONS) + 1)[1:]
    return {
        reason: BadLines(
            int(n), tuple((start + line.line, line.value) for line in bad if line.reason == reason)
        )
        for reason, n in zip(REASONS, counts, strict=True)
        if n
    }


def _malformed(name: str, number: int, bad: BadLine) -> InputError:
    return InputError(
        f"{name}, line {number}: {bad.reason}: '{bad.value}'; {REASONS[bad.reason]}\n  {bad.text}\n"
        "Correct the file, or let such lines be skipped and counted (strict=False)."
    )
