"""Reading the result tables of the Dark Machines challenge, and your own tables in the same format.

Per-signal results: ``Signal,Model,Chan,AUC,1e-2,1e-3,1e-4`` (signal efficiencies at these background efficiencies).
Total improvements: ``Model`` with minimum, median and maximum. Index columns, other spellings of the headings
(``Channel``, ``0.01``) and of the channels (``chan1``, ``2A``) are understood.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.theories.merits.published import CHANNELS, ModelImprovement, ResultTable

__all__ = ["SecretResult", "read_improvements", "read_results", "result_files", "secret_results"]

_ALIASES = {
    "signal": "signal",
    "model": "model",
    "chan": "channel",
    "channel": "channel",
    "auc": "auc",
    "shortname": "shortname",
    "mintotalimprovement": "minimum",
    "mediantotalimprovement": "median",
    "maxtotalimprovement": "maximum",
    "minsigi": "minimum",
    "mediansigi": "median",
    "maxsigi": "maximum",
}
_RESULT_NAMES = {"signal", "model", "channel", "auc"}
_INDEX = re.compile(r"(unnamed: ?\d+|index|)", re.IGNORECASE)

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class SecretResult:
    """A model on the hidden signals of the challenge.

    Attributes
    ----------
    name
        In the table of the hidden signals.
    secret
        Its TI there.
    open
        Its TI on the open signals; None where the model has none.
    """

    name: str
    secret: ModelImprovement
    open: ModelImprovement | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


def result_files(folder: PathLike) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Sort the CSV files of a folder.

    Returns
    -------
    results
        Those with per-signal results, by name.
    others
        The rest.

    Raises
    ------
    InputError
        If there is no such folder, or no per-signal results are in it.
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"there is no folder '{base}'")
    results: list[Path] = []
    others: list[Path] = []
    for path in sorted(base.glob("*.csv")):
        with _open(path) as file:
            heading = {_heading(name) for name in next(csv.reader(file), [])}
        (results if heading >= _RESULT_NAMES else others).append(path)
    if not results:
        raise InputError(
            f"folder '{base}' contains no result table; expected CSV files with columns Signal, Model, Chan, AUC and "
            "background efficiencies"
        )
    return tuple(results), tuple(others)


def read_results(paths: PathLike | Sequence[PathLike]) -> ResultTable:
    """Read per-signal results of one or more files into one table.

    Raises
    ------
    InputError
        If a column is missing or unknown, a number is not between 0 and 1, a channel is unknown, the background
        efficiencies of the files differ, or a model has two rows for a signal in a channel.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise InputError("give at least one result table")
    rows: list[tuple[str, int, str, str, str, float, list[float]]] = []
    seen: dict[tuple[str, str, str], str] = {}
    targets: tuple[float, ...] = ()
    for path in map(Path, files):
        found: tuple[float, ...] = ()
        for line, row in _rows(path, _RESULT_NAMES, numbers=True):
            found = tuple(sorted((key for key in row if isinstance(key, float)), reverse=True))
            where = f"{path.name}, line {line}"
            channel = _channel(row["channel"], where)
            names = (row["model"].strip(), row["signal"].strip(), channel)
            if not names[0] or not names[1]:
                raise InputError(f"{where}: model and signal must have names")
            if names in seen:
                raise InputError(
                    f"{where}: model '{names[0]}', signal '{names[1]}', channel {channel} is a duplicate of {seen[names]}"
                )
            seen[names] = where
            values = [
                _number(row[key], where, name, highest=1.0)
                for key, name in (("auc", "AUC"), *((t, f"{t:g}") for t in found))
            ]
            rows.append((path.name, line, *names, values[0], values[1:]))
        if targets and found != targets:
            raise InputError(
                f"{path.name}: background efficiencies {_list(found)}, but {_list(targets)} in the file before; read them "
                "apart"
            )
        targets = found
    columns = list(zip(*rows, strict=True))
    text = [np.array(columns[i], dtype=np.str_) for i in (0, 2, 3, 4)]
    return ResultTable(
        file=text[0],
        line=np.array(columns[1], dtype=np.int64),
        model=text[1],
        signal=text[2],
        channel=text[3],
        auc=np.array(columns[5], dtype=np.float64),
        eps_s=np.array(columns[6], dtype=np.float64),
        targets=targets,
    )


def read_improvements(path: PathLike) -> tuple[ModelImprovement, ...]:
    """Read a table of total improvements (open or hidden signals) in its order.

    Raises
    ------
    InputError
        If a column is missing or unknown, a number is negative, the three are not in order, or a model has two rows.
    """
    return tuple(entry for entry, _ in _improvements(Path(path)))


def secret_results(scores: PathLike, models: PathLike) -> tuple[SecretResult, ...]:
    r"""Join the results on the hidden signals with those on the open ones.

    Parameters
    ----------
    scores
        The official ``Metric_Scores.csv``.
    models
        The official ``ModelsToSecretResults.csv``, whose short names are those of ``scores``, but for the LaTeX
        ``$\_$`` and for ``DeepSVDD_MSE``, which is ``DeepSVDD`` there.

    Returns
    -------
    results
        In the order of ``scores``.

    Raises
    ------
    InputError
        If a table cannot be read.
    """
    known = {_short(name or entry.model): entry for entry, name in _improvements(Path(models))}
    return tuple(
        SecretResult(entry.model, entry, known.get(_short(entry.model)))
        for entry, _ in _improvements(Path(scores))
    )


def _short(name: str) -> str:
    return name.replace("$\\_$", "_").replace("DeepSVDD_MSE", "DeepSVDD")


def _improvements(path: Path) -> Iterator[tuple[ModelImprovement, str | None]]:
    seen: dict[str, int] = {}
    for line, row in _rows(path, {"model", "minimum", "median", "maximum"}, numbers=False):
        where = f"{path.name}, line {line}"
        model = row["model"].strip()
        if model in seen:
            raise InputError(f"{where}: duplicate model '{model}' (first in line {seen[model]})")
        seen[model] = line
        low, median, high = (_number(row[key], where, key) for key in ("minimum", "median", "maximum"))
        if not low <= median <= high:
            raise InputError(
                f"{where}: minimum {low:g}, median {median:g} and maximum {high:g} are not in this order"
            )
        yield ModelImprovement(model, low, median, high), row.get("shortname")


def _open(path: Path) -> Any:
    try:
        return path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from error


def _heading(name: str) -> str | float:
    plain = name.strip()
    try:
        value = float(plain)
    except ValueError:
        return _ALIASES.get(plain.lower(), plain)
    return value if 0 < value < 1 else plain


def _rows(path: Path, needed: set[str], *, numbers: bool) -> Iterator[tuple[int, dict[Any, str]]]:
    """Lines as dictionaries; the keys are plain names, or numbers for background efficiencies."""
    with _open(path) as file:
        reader = csv.reader(file)
        raw = next(reader, None)
        if raw is None:
            raise InputError(f"{path.name} is empty; expected a line of column names")
        names = [_heading(name) for name in raw]
        index = [i == 0 and bool(_INDEX.fullmatch(str(name))) for i, name in enumerate(names)]
        missing = needed - set(map(str, names))
        known = set(_ALIASES.values())
        for name, is_index in zip(names, index, strict=True):
            if not is_index and (name not in known if isinstance(name, str) else not numbers):
                raise InputError(
                    f"{path.name}: column '{name}' is not known; expected {_list(sorted(needed))}"
                    + (" and background efficiencies such as 1e-3" if numbers else "")
                )
        if missing:
            raise InputError(
                f"{path.name}: there is no column for {_list(sorted(missing))}; the columns are {_list(raw)}"
            )
        if len(set(names)) < len(names):
            raise InputError(f"{path.name}: duplicate column; the columns are {_list(raw)}")
        if numbers and not any(isinstance(name, float) for name in names):
            raise InputError(f"{path.name}: there is no column for a background efficiency, such as 1e-3")
        some = False
        try:
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    raise InputError(
                        f"{path.name}, line {reader.line_num}: {len(row)} columns, but the heading has {len(names)}"
                    )
                some = True
                yield reader.line_num, dict(zip(names, row, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"{path.name}, after line {reader.line_num}: not a CSV text file ({error})"
            ) from error
        if not some:
            raise InputError(f"{path.name} has a heading but no rows")


def _number(text: str, where: str, name: str, *, highest: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= highest):
        expected = (
            "a number of zero or more" if highest == math.inf else f"a number between 0 and {highest:g}"
        )
        raise InputError(f"{where}, column {name}: '{text}' is not {expected}")
    return value


def _channel(text: str, where: str) -> str:
    plain = re.sub(r"^(channel|chan|ch)[ _-]*|\.0$", "", text.strip().lower())
    if plain not in CHANNELS:
        raise InputError(f"{where}: channel '{text}' is not known; expected one of {_list(CHANNELS)}")
    return plain


def _list(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
