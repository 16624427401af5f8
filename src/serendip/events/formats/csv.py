"""Text tables with pyarrow: comma, semicolon, tab, ``|`` or blanks, also packed with gzip, zstd or bzip2."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.arrow import TWICE
from serendip.events.formats.arrow_types import to_numpy, usable
from serendip.events.formats.table import EMPTY, Table
from serendip.events.formats.text_layout import fields, is_comment, is_ruler, layout

__all__ = ["CsvTable"]

log = logging.getLogger(__name__)

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_HEAD = 1 << 20
_COMMENT = re.compile(rb"(?m)^[ \t]*#(?!N/A)[^\n]*\n?")
_RULER = re.compile(rb"(?m)^[ \t|+:=-]*-[ \t|+:=-]*\r?\n?$")


class CsvTable(Table):
    """A text table with one line of column names."""

    format = "CSV"
    in_memory = True

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path, tree)
        with path.open("rb") as file:
            start = file.read(4)
        self._packing = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
        self._repeated = 0
        try:
            head = self._head()
            self._mac = b"\r" in head and b"\n" not in head
            self._layout = layout(self._lines(head), self.name)
            self._offset = _offset(head, self._layout.first, b"\r" if self._mac else b"\n")
            self._table = self._read()
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else "it is empty"
            raise InputError(f"{self.name}: this is not a readable CSV table ({reason})") from error
        for note in self._layout.notes:
            log.warning("%s: %s", self.name, note)
        if self._repeated:
            log.warning(
                "%s: the header is repeated %d times; these lines are skipped", self.name, self._repeated
            )
        self.n_rows = self._table.num_rows
        self._describe()

    def _describe(self) -> None:
        self.units, self.aliases = self._layout.units, self._layout.long_names
        self._columns: dict[str, int] = {}
        names = self._layout.names
        counts = Counter(names)
        for i, name in enumerate(names):
            column = self._table.schema.field(i).type
            kind, reason = usable(column)
            if not name and kind == EMPTY:
                continue
            if counts[name] > 1:
                self.unreadable[name] = TWICE
            elif kind is None:
                self.unreadable[name] = reason
            else:
                self.types[name], self._columns[name] = kind, i

    def _stream(self) -> pa.NativeFile:
        return pa.input_stream(str(self.path), compression=self._packing)

    def _head(self) -> bytes:
        """Whole lines from the beginning, without byte order mark."""
        with self._stream() as stream:
            head: bytes = stream.read(_HEAD)
            while head.count(b"\n") < 2 and (more := stream.read(_HEAD)):
                head += more
            rest = stream.read(1)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(
                f"{self.name}: the text is UTF-16; save it as UTF-8: iconv -f utf-16 -t utf-8 FILE > NEW"
            )
        if b"\0" in head:
            raise InputError(
                f"{self.name}: this is not a text file, although its name says CSV; give it its true suffix"
            )
        self._mark = 3 if head.startswith(b"\xef\xbb\xbf") else 0
        end = head.rfind(b"\n") + 1 if rest and b"\n" in head else len(head)
        return head[self._mark : end]

    def _lines(self, head: bytes) -> list[str]:
        try:
            text = head.decode("utf-8")
        except UnicodeDecodeError as error:
            line = head.count(b"\n", 0, error.start) + 1
            raise InputError(
                f"{self.name}: line {line} is not UTF-8 text (byte 0x{head[error.start]:02x}); "
                "convert the file: iconv -f latin1 -t utf-8 FILE > NEW"
            ) from None
        return text.splitlines()

    def _read(self) -> pa.Table:
        names = [str(i) for i in range(len(self._layout.names))]
        separator = self._layout.separator
        parse = pa.csv.ParseOptions(delimiter=separator)

        def read(**convert: Any) -> pa.Table:
            with self._stream() as stream:
                stream.read(self._mark + self._offset)
                # a line must fit into a block
                size = max(1 << 20, 64 * (len(self._layout.header or "") + 24 * len(names)))
                return pa.csv.read_csv(
                    pa.PythonFile(_Clean(self._blocks(stream)), mode="r"),
                    read_options=pa.csv.ReadOptions(column_names=names, block_size=size),
                    parse_options=parse,
                    convert_options=pa.csv.ConvertOptions(**convert),
                )

        try:
            table = read()
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return pa.table({name: pa.nulls(0) for name in names})
            raise self._ragged() or error from error
        # Whole numbers above 2^63 are doubles for the library, which rounds them.
        large = [
            name
            for name in names
            if table[name].type == pa.float64() and 2**63 <= (pc.max(table[name]).as_py() or 0) <= 2**64
        ]
        for name in large:
            try:
                exact = read(include_columns=[name], column_types={name: pa.uint64()})[name]
            except pa.ArrowInvalid:
                continue
            table = table.set_column(int(name), name, exact)
        return table

    def _blocks(self, stream: pa.NativeFile) -> Iterator[bytes]:
        """Pieces of the text in whole lines, of which only those with events are left."""
        header = (self._layout.header or "").strip().encode()
        again = re.compile(rb"(?m)^[ \t]*" + re.escape(header) + rb"[ \t]*\r?(?:\n|\Z)") if header else None
        self._repeated = 0
        tail = b""
        while block := stream.read(1 << 20):
            if self._mac:
                block = block.replace(b"\r", b"\n")
            cut = block.rfind(b"\n") + 1
            if cut:
                yield self._clean(tail + block[:cut], header, again)
                tail = block[cut:]
            else:
                tail += block
        if tail:
            yield self._clean(tail, header, again)

    def _clean(self, block: bytes, header: bytes, again: re.Pattern[bytes] | None) -> bytes:
        if b"#" in block:
            block = _COMMENT.sub(b"", block)
        if again is not None and header in block:
            block, count = again.subn(b"", block)
            self._repeated += count
        if self._layout.separator == " ":
            block = _aligned(block)
        elif self._layout.separator == "|":
            block = _RULER.sub(b"", block)
        return block

    def _ragged(self) -> InputError | None:
        """Find the first line with another number of values."""
        wanted, separator = len(self._layout.names), self._layout.separator
        with self._stream() as stream:
            text = stream.read().decode("utf-8-sig", "replace")
        for i, line in enumerate(text.splitlines()[self._layout.first :], self._layout.first + 1):
            if not line.strip() or is_comment(line) or (separator == "|" and is_ruler(line)):
                continue
            found = len(fields(line, separator))
            if found != wanted:
                hint = ""
                if separator == "," and found > wanted:
                    hint = "; if numbers have decimal commas, write points"
                return InputError(
                    f"{self.name}: this is not a readable CSV table: line {i} has {found} "
                    f"value{'s' * (found != 1)}, expected {wanted} ({', '.join(self._layout.names[:4])}"
                    f"{', ...' if wanted > 4 else ''}): '{line.strip()[:60]}'{hint}"
                )
        return None

    def load(
        self, names: Collection[str], start: int = 0, stop: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """See :meth:`Table.load`."""
        self.require(names)
        stop = self.n_rows if stop is None else min(stop, self.n_rows)
        return {
            name: to_numpy(
                self._table.column(self._columns[name]).slice(start, stop - start), self.name, name
            )
            for name in names
        }


class _Clean:
    """A file made of blocks of bytes, with the interface that pyarrow needs."""

    closed = False

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Give at most ``size`` bytes; nothing at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = memoryview(block)
        given = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(given) :]
        return bytes(given)

    def close(self) -> None:
        """Nothing is held."""


def _aligned(block: bytes) -> bytes:
    """One blank for each run of blanks and tabs, and none at the ends of lines; by replacements, which are fast."""
    block = block.replace(b"\t", b" ")
    while b"  " in block:
        block = block.replace(b"  ", b" ")
    return (
        block.removeprefix(b" ")
        .replace(b"\n ", b"\n")
        .replace(b" \n", b"\n")
        .replace(b" \r\n", b"\r\n")
        .rstrip(b" ")
    )


def _offset(head: bytes, lines: int, end: bytes) -> int:
    offset = 0
    for _ in range(lines):
        position = head.find(end, offset)
        offset = len(head) if position < 0 else position + 1
    return offset
