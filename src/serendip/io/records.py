"""Files of results as typed records: a program writes what its model holds, pages and exports read the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from serendip.io.files import reading
from serendip.io.json import jsonable, load_json, write_json

__all__ = [
    "Edges",
    "Gaps",
    "Interval",
    "NotNegative",
    "Numbers",
    "Positive",
    "Probability",
    "Record",
    "Whole",
]


def _list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


# Bounds are in the schema, which tests hold every program to; a run is not lost to a p-value of 1 + 1e-16.
Probability = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
NotNegative = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0})]
Whole = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
Positive = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]

Interval = tuple[float, float]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_list)]
Gaps = Annotated[tuple[float | None, ...], BeforeValidator(_list)]  # None: hidden by blinding
Edges = Annotated[Numbers, Field(min_length=2)]


class Record(BaseModel):
    """A file of results, or a part of one.

    Other versions may write more keys, which are ignored, or fewer, for which there are defaults; known keys must be valid. Parts are
    also made from objects with attributes of the same names.

    Examples
    --------
    >>> class Count(Record):
    ...     observed: NotNegative | None = None
    >>> Count(observed=3).content()
    {'observed': 3.0}
    >>> Count.json_schema()["required"]
    ['observed']
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        from_attributes=True,
        populate_by_name=True,
        json_schema_serialization_defaults_required=True,
        json_schema_extra={"additionalProperties": False},
    )

    @classmethod
    def read(cls, path: Path, *, missing: str = "", damaged: str = "") -> Self:
        """Read a file.

        Parameters
        ----------
        path
            The file, JSON.
        missing, damaged
            For the message, as of :func:`~serendip.io.files.reading`.

        Raises
        ------
        InputError
            If it is missing, damaged, or not as this model says.
        """
        with reading(path, missing=missing, damaged=damaged):
            try:
                return cls.model_validate(load_json(path))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "top level"
                raise ValueError(
                    f"'{where}' is not as expected: {first['msg'].removeprefix('Value error, ')}"
                ) from None

    def content(self) -> dict[str, Any]:
        """The record as JSON has it, with the names of the file; NaN and infinity are None."""
        return dict(jsonable(self.model_dump(by_alias=True)))

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, self.content())

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON schema of the file as this version writes it, with all of its keys; :meth:`read` also takes those of older versions."""
        schema = cls.model_json_schema(mode="serialization")
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
