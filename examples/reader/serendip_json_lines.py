"""JSON Lines, one event per line: a complete reader in one file.

A line is an object such as ``{"mjj": 3512.0, "n": 3}``. A key that is absent or ``null`` is a missing value (NaN).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.table import TEXT, Table

__all__ = ["JsonLines"]


class JsonLines(Table):
    """The events of a JSON Lines file."""

    format = "JSON Lines"
    in_memory = True  # opening the file reads it

    def __init__(self, path: Path, tree: str | None = None) -> None:
        super().__init__(path, tree)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line holds something else")
        except ValueError as error:
            raise InputError(
                f"{self.name}: is not JSON Lines ({error}); expected one object per line"
            ) from None
        self.n_rows = len(rows)
        self._columns: dict[str, NDArray[Any]] = {}
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row.get(name) for row in rows]
            kinds = {type(value) for value in values} - {type(None)}
            if kinds <= {bool, int, float}:
                self._columns[name] = np.array([np.nan if value is None else value for value in values])
                self.types[name] = str(self._columns[name].dtype)
            elif kinds == {str}:
                self._columns[name] = np.array([value or "" for value in values])
                self.types[name] = TEXT
            else:
                self.unreadable[name] = "holds neither numbers nor texts"

    def load(self, names: Collection[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Columns of the rows ``start:stop``."""
        self.require(names)
        return {name: self._columns[name][start:stop] for name in names}
