"""Fields of a block of text, given by where they start and stop, to numbers, kinds of objects and names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fields", "Ints"]

Ints = NDArray[np.int64]

_NUMBER = r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)$"
# characters of a value or line that a message shows
_SHOWN = 80
_ONE = np.full(256, -1, dtype=np.int8)
_TWO = np.full(65536, -1, dtype=np.int8)
for _symbol, _kind in {"j": 0, "b": 1, "g": 6, "a": 6}.items():
    _ONE[ord(_symbol)] = _kind
for _symbol, _kind in {"e-": 2, "e+": 3, "m-": 4, "m+": 5}.items():
    _TWO[ord(_symbol[0]) * 256 + ord(_symbol[1])] = _kind


class Fields:
    """All fields of a block of ASCII text.

    Parameters
    ----------
    block
        The text, at most 2 GB.
    start, stop
        Positions of the first character and of the delimiter after the last one, shape ``(n_fields,)``, increasing.
    """

    def __init__(self, block: bytes, start: Ints, stop: Ints) -> None:
        self.block, self.start, self.stop = block, start, stop
        self.bytes = np.frombuffer(block, dtype=np.uint8)

    def numbers(self, is_number: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Convert the fields of a mask ``(n_fields,)``.

        Returns
        -------
        values
            Shape ``(n_fields,)``, meaningless outside of the mask.
        is_text
            The fields of the mask that are not numbers, shape ``(n_fields,)``.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            return _floats(self._arrow(is_number)), np.zeros(len(self.stop), dtype=np.bool_)
        except pa.ArrowInvalid:
            pass
        matches = pc.match_substring_regex(self._arrow(is_number), _NUMBER, ignore_case=True)
        is_text = is_number & ~matches.fill_null(False).to_numpy(zero_copy_only=False)[::2]
        is_number = is_number & ~is_text
        try:
            return _floats(self._arrow(is_number)), is_text
        except pa.ArrowInvalid:
            # what Python reads and Arrow does not: a leading plus, numbers beyond double precision
            values = np.zeros(len(self.stop))
            texts = self._arrow(is_number).drop_null().to_pylist()
            values[is_number] = [float(text) for text in texts]
            return values, is_text

    def _arrow(self, valid: NDArray[np.bool_]) -> Any:
        """All fields as an Arrow array of text on the memory of the block; every second entry is a gap."""
        import pyarrow as pa

        n = len(self.stop)
        offsets = np.zeros(2 * n + 1, dtype=np.int32)
        offsets[:-1:2], offsets[1::2] = self.start, self.stop
        offsets[-1] = self.stop[-1]
        bits = np.zeros(2 * n, dtype=np.bool_)
        bits[::2] = valid
        validity = np.packbits(bits, bitorder="little")
        buffers = [pa.py_buffer(validity), pa.py_buffer(offsets), pa.py_buffer(self.block)]
        return pa.Array.from_buffers(pa.string(), 2 * n, buffers)

    def kinds(self, fields: Ints) -> NDArray[np.int8]:
        """Codes of some fields into :data:`serendip.events.objects.KINDS`; -1 for an unknown symbol."""
        start = self.start[fields]
        length = self.stop[fields] - start
        # a field is followed by its delimiter, so one more byte is always there
        first, second = self.bytes[start].astype(np.int64), self.bytes[start + 1].astype(np.int64)
        kind = np.where(length == 1, _ONE[first], np.where(length == 2, _TWO[256 * first + second], -1))
        muon = np.flatnonzero((length == 3) & (first == ord("m")) & (second == ord("u")))
        kind[muon] = _TWO[256 * ord("m") + self.bytes[start[muon] + 2].astype(np.int64)]
        return kind.astype(np.int8)

    def texts(self, fields: Ints) -> NDArray[np.str_]:
        """Text of some fields."""
        start = self.start[fields]
        length = self.stop[fields] - start
        width = max(int(length.max(initial=1)), 1)
        characters = np.zeros((len(fields), width), dtype=np.uint32)
        for place in range(width):
            rows = np.flatnonzero(length > place)
            characters[rows, place] = self.bytes[start[rows] + place]
        return characters.view(f"<U{width}").ravel()

    def show(self, start: int, stop: int) -> str:
        """A part of the block for a message: printable and not too long."""
        text = self.block[start : min(stop, start + 10 * _SHOWN)].decode("ascii", "backslashreplace")
        text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _floats(texts: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    values = texts.cast(pa.float64())
    return np.frombuffer(values.buffers()[1], dtype=np.float64)[: len(texts) : 2]
