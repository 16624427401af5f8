"""Lines of a Dark Machines file to arrays, without a Python loop over lines.

The delimiters of a block of lines are located once. Whether a line is sound follows from their order, and
all numbers are converted in one call from where they stand in the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.events.darkmachines_fields import Fields, Ints
from serendip.events.objects import ObjectEvents

__all__ = [
    "FIRST",
    "LARGEST_ETA",
    "LARGEST_PHI",
    "LONGEST_NAME",
    "REASONS",
    "BadLine",
    "ends_with_semicolon",
    "parse_lines",
    "tidy",
]

REASONS = {
    "empty line": "expected one event",
    "not plain text": "expected ASCII text without control characters",
    "too few event fields": "expected 'event ID; process ID; weight; MET; METphi; objects'",
    "comma in an event field": "expected 'event ID; process ID; weight; MET; METphi; objects'",
    "name too long": "expected an event ID and a process ID of at most 200 characters",
    "object with too few fields": "expected 'object, E, pt, eta, phi' or 'object, pt, eta, phi'",
    "object with too many fields": "expected 'object, E, pt, eta, phi' or 'object, pt, eta, phi'",
    "unknown object": "expected j, b, e-, e+, m-, m+ (mu-, mu+) or g (a)",
    "cut line": "the lines of this file end with ';', this one does not; the event may be incomplete",
    "not a number": "expected a number",
    "not finite": "expected a finite number",
    "negative weight": "expected a weight of zero or more",
    "negative MET": "expected MeV, zero or more",
    "negative energy": "expected MeV, zero or more",
    "negative pt": "expected MeV, zero or more",
    "impossible angle": "expected |phi| up to 2 pi and |eta| up to 20; columns may be shifted",
}

# lines of each reason that are shown
FIRST = 5

_CODES = {reason: code for code, reason in enumerate(REASONS, start=1)}
_NEWLINE, _COMMA, _SEMICOLON = (ord(c) for c in "\n,;")
_PLAIN = bytes(range(32, 127)) + b"\n"
LONGEST_NAME = 200
# MET phi and phi may be written in (-pi, pi] or [0, 2 pi)
LARGEST_PHI = 2 * np.pi + 1e-5
# the rapidity of the beam protons at the LHC is 9.5; a three-component object beyond is a cut one
LARGEST_ETA = 20.0


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be read: its place in the block (from 0), the reason, the offending text, the line."""

    line: int
    reason: str
    value: str
    text: str


def tidy(block: bytes) -> bytes:
    """Remove blanks around delimiters and carriage returns at line ends; the number of lines stays."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\t" in block:
        block = block.replace(b"\t", b" ")
    if b" " in block:
        before = -1
        while len(block) != before:
            before = len(block)
            for delimiter in (b";", b",", b"\n"):
                block = block.replace(b" " + delimiter, delimiter).replace(delimiter + b" ", delimiter)
        block = block.lstrip(b" ")
    return block


def ends_with_semicolon(block: bytes) -> bool:
    """Whether most lines of a tidy block, each closed by a newline, end with ``;``."""
    return 2 * block.count(b";\n") > block.count(b"\n")


def parse_lines(block: bytes, *, closed: bool) -> tuple[ObjectEvents, list[BadLine], NDArray[np.int8]]:
    """Parse a tidy block of complete lines, each closed by a newline.

    Parameters
    ----------
    block
        At most 2 GB.
    closed
        A line that does not end with ``;`` is cut.

    Returns
    -------
    events
        The sound lines, in GeV.
    bad
        For every reason the first few lines, in the order of the block.
    codes
        Shape ``(n_lines,)``: 0 for a sound line, else the place of the reason in :data:`REASONS`, from 1.
    """
    scan = _Scan(block, closed=closed)
    scan.structure()
    events = scan.convert()
    return events, scan.bad(), scan.codes


class _Scan:
    """One block, its delimiters, and what is wrong with which line."""

    def __init__(self, block: bytes, *, closed: bool) -> None:
        self.block, self.closed = block, closed
        self.bytes = np.frombuffer(block, dtype=np.uint8)
        is_end = (self.bytes == _NEWLINE) | (self.bytes == _SEMICOLON)
        places = np.flatnonzero(is_end | (self.bytes == _COMMA))
        ends = np.flatnonzero(is_end[places])
        # fields: everything between two delimiters; blocks: everything between two of ; and newline
        self.field_stop = places
        self.field_start = np.concatenate([[0], places[:-1] + 1])
        self.fields = Fields(block, self.field_start, self.field_stop)
        self.block_first = np.concatenate([[0], ends[:-1] + 1])
        self.commas = ends - self.block_first
        last = np.flatnonzero(self.bytes[places[ends]] == _NEWLINE)
        self.line_last = last
        self.line_first = np.concatenate([[0], last[:-1] + 1])
        self.n_lines = len(last)
        self.codes = np.zeros(self.n_lines, dtype=np.int8)
        self.spans = np.zeros((self.n_lines, 2), dtype=np.int64)

    def mark(self, reason: str, lines: Ints, start: Ints, stop: Ints) -> None:
        """Note the first thing that is wrong with a line, and where it stands."""
        new = self.codes[lines] == 0
        lines, start, stop = lines[new], start[new], stop[new]
        # from the back, so that the first one stays
        self.spans[lines[::-1]] = np.stack([start, stop], axis=1)[::-1]
        self.codes[lines] = _CODES[reason]

    def mark_blocks(self, reason: str, blocks: Ints, lines: Ints) -> None:
        first = self.block_first[blocks]
        self.mark(reason, lines, self.field_start[first], self.field_stop[first + self.commas[blocks]])

    def structure(self) -> None:
        """Find the lines whose delimiters are not those of an event."""
        n_blocks = self.line_last - self.line_first + 1
        start = self.field_start[self.block_first[self.line_first]]
        stop = self.field_stop[self.block_first[self.line_last] + self.commas[self.line_last]]
        everything = np.arange(self.n_lines)

        def whole(reason: str, wrong: NDArray[np.bool_]) -> None:
            self.mark(reason, everything[wrong], start[wrong], stop[wrong])

        whole("empty line", start == stop)
        if self.block.translate(None, _PLAIN):
            odd = np.flatnonzero(~np.isin(self.bytes, np.frombuffer(_PLAIN, dtype=np.uint8)))
            lines = np.searchsorted(stop, odd)
            self.mark("not plain text", lines, start[lines], stop[lines])
        for place in range(5):
            there = everything[n_blocks > place]
            blocks = self.line_first[there] + place
            wrong = self.commas[blocks] > 0
            # an object in the place of an event field
            reason = "too few event fields" if place > 1 else "comma in an event field"
            self.mark_blocks(reason, blocks[wrong], there[wrong])
        whole("too few event fields", n_blocks < 5)
        for place in range(2):
            there = everything[n_blocks > place]
            first = self.block_first[self.line_first[there] + place]
            wrong = self.field_stop[first] - self.field_start[first] > LONGEST_NAME
            self.mark(
                "name too long", there[wrong], self.field_start[first[wrong]], self.field_stop[first[wrong]]
            )

        empty_last = (n_blocks > 5) & (self.field_start[self.block_first[self.line_last]] == stop)
        self.n_objects = np.maximum(n_blocks - 5 - empty_last, 0)
        self.object_line = np.repeat(everything, self.n_objects)
        self.object_block = _ranges(self.line_first + 5, self.n_objects)
        commas = self.commas[self.object_block]
        for reason, wrong in (
            ("object with too few fields", commas < 3),
            ("object with too many fields", commas > 4),
        ):
            if wrong.any():
                self.mark_blocks(reason, self.object_block[wrong], self.object_line[wrong])
        if self.closed:
            cut = (n_blocks >= 5) & (self.field_start[self.block_first[self.line_last]] != stop)
            self.mark_blocks("cut line", self.line_last[cut], everything[cut])

    def convert(self) -> ObjectEvents:
        """Numbers, kinds and names of the lines that are sound so far; values may show more bad lines."""
        good = self.codes == 0
        lines = np.flatnonzero(good)
        head = self.block_first[self.line_first[lines]]
        of_good = good[self.object_line]
        blocks, of_line = self.object_block[of_good], self.object_line[of_good]
        symbol = self.block_first[blocks]
        last = symbol + self.commas[blocks]
        full = self.commas[blocks] == 4
        with_energy, energy_line = symbol[full] + 1, of_line[full]

        wanted = [(head + 2, lines), (head + 3, lines), (head + 4, lines), (with_energy, energy_line)]
        wanted += [(last - 2, of_line), (last - 1, of_line), (last, of_line)]
        is_number = np.zeros(len(self.field_stop), dtype=np.bool_)
        for fields, _ in wanted:
            is_number[fields] = True
        numbers, is_text = self.fields.numbers(is_number)
        weight, met, met_phi, given, pt, eta, phi = (numbers[fields] for fields, _ in wanted)
        energy = np.full(len(blocks), np.nan)
        energy[full] = given
        kind = self.fields.kinds(symbol)

        def check(reason: str, wrong: NDArray[np.bool_], fields: Ints, of: Ints) -> None:
            if wrong.any():
                fields, of = fields[wrong], of[wrong]
                self.mark(reason, of, self.field_start[fields], self.field_stop[fields])

        check("unknown object", kind < 0, symbol, of_line)
        for fields, of in wanted:
            check("not a number", is_text[fields], fields, of)
        for (fields, of), values in zip(wanted, (weight, met, met_phi, given, pt, eta, phi), strict=True):
            check("not finite", ~np.isfinite(values), fields, of)
        check("negative weight", weight < 0, head + 2, lines)
        check("negative MET", met < 0, head + 3, lines)
        check("negative energy", given < 0, with_energy, energy_line)
        check("negative pt", pt < 0, last - 2, of_line)
        far = np.abs(eta) > LARGEST_ETA
        check("object with too few fields", far & ~full, last - 1, of_line)
        check("impossible angle", far, last - 1, of_line)
        check("impossible angle", np.abs(met_phi) > LARGEST_PHI, head + 4, lines)
        check("impossible angle", np.abs(phi) > LARGEST_PHI, last, of_line)
        events = ObjectEvents(
            event_id=self.fields.texts(head),
            process=self.fields.texts(head + 1),
            weight=weight,
            met=met / 1000,
            met_phi=met_phi,
            offsets=np.concatenate([[0], np.cumsum(self.n_objects[lines])]),
            kind=np.maximum(kind, 0),
            energy=energy / 1000,
            pt=pt / 1000,
            eta=eta,
            phi=phi,
        )
        still = self.codes[lines] == 0
        return events if still.all() else events.select(still)

    def bad(self) -> list[BadLine]:
        found = []
        for code, reason in enumerate(REASONS, start=1):
            for line in np.flatnonzero(self.codes == code)[:FIRST]:
                start, stop = self.spans[line]
                value = self.fields.show(int(start), int(stop))
                whole = self.fields.show(*self._line_span(int(line)))
                found.append(BadLine(int(line), reason, value, whole))
        return sorted(found, key=lambda bad: bad.line)

    def _line_span(self, line: int) -> tuple[int, int]:
        last = self.line_last[line]
        start = self.field_start[self.block_first[self.line_first[line]]]
        return int(start), int(self.field_stop[self.block_first[last] + self.commas[last]])


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """``start, start + 1, ...`` of each length, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    ranges: Ints = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return ranges
