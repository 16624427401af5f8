"""How a text table is laid out: comments, separator, column names. Guesses are announced and never take an event away."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from serendip.errors import InputError

__all__ = ["Layout", "fields", "is_comment", "is_number", "layout"]

SAMPLE = 50
# In this order if several would do: a blank is rather part of a text than any of the others.
SEPARATORS = ("\t", ";", "|", ",", " ")
_COMMENT = re.compile(r"\s*#(?!N/A)")
# Before the first line, the comment signs of other programs are accepted as well.
_REMARK = re.compile(r"\s*(#(?!N/A)|%|//|!)")
_RULER = re.compile(r"[\s|+:=-]*-[\s|+:=-]*$")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?$")
_UNIT = re.compile(r"(?P<name>.*\S)(?:\s*\[(?P<square>[^\[\]]+)\]|\s+\((?P<round>[^()]+)\))$")
_UNITS = {"eV", "keV", "MeV", "GeV", "TeV", "rad", "deg", "mm", "cm", "m", "ns", "ps", "s", "pb", "fb", "nb"}


@dataclass
class Layout:
    """Layout of a text table.

    Attributes
    ----------
    names
        Names of the columns; empty for one that is there only because each line ends with a separator.
    separator
        One character; a blank means any run of blanks and tabs.
    header
        The line with the names as it is in the file; None if a comment holds them.
    first
        Number of lines before the first event.
    units
        Units given with the names.
    long_names
        Name without unit for each name as it is in the file.
    notes
        Guesses, for the user.
    """

    names: list[str]
    separator: str
    header: str | None
    first: int
    units: dict[str, str] = field(default_factory=dict)
    long_names: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_comment(line: str) -> bool:
    """Whether a line among the events is a comment."""
    return _COMMENT.match(line) is not None


def is_ruler(line: str) -> bool:
    """Whether a line only draws a table, as ``|---|---|``."""
    return _RULER.match(line) is not None


def fields(line: str, separator: str) -> list[str]:
    """Values of a line."""
    if separator == " ":
        line = re.sub(r"[ \t]+", " ", line.strip())
    found = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [value.strip() for value in found]


def layout(lines: Sequence[str], name: str) -> Layout:
    """Find the layout of a table from its first lines.

    Parameters
    ----------
    lines
        The first lines of the file.
    name
        Of the file, for messages.

    Raises
    ------
    InputError
        If there is no line, the first line is an event, or numbers have decimal commas.
    """
    start = next((i for i, line in enumerate(lines) if line.strip() and not _REMARK.match(line)), None)
    if start is None:
        raise InputError(
            f"{name}: this is not a readable CSV table (it has no line that is not blank or a comment)"
        )
    head = lines[start]
    if set(head.strip()) == {"*"}:
        raise InputError(
            f"{name}: this is the listing of TTree::Scan, not a table; use the ROOT file itself, or write CSV"
        )
    body = [line for line in lines[start + 1 :] if line.strip() and not is_comment(line)][: SAMPLE + 1]
    separator = _separator(head, body)
    if separator == "|":
        body = [line for line in body if not is_ruler(line)]
    rows = [fields(line, separator) for line in body[:SAMPLE]]
    names = fields(head, separator)
    found = Layout(names, separator, head, start + 1)
    if _is_event(names, rows):
        found.names = _names_of_comment(lines[:start], names, separator, name)
        found.header, found.first = None, start
        rows.insert(0, names)
        found.notes.append(
            f"the column names are taken from the comment in line {_comment_line(lines[:start]) + 1}: "
            + ", ".join(found.names[:6])
        )
    elif all(is_number(one) for one in names):
        found.notes.append(f"the first line ({', '.join(names[:3])}, ...) is taken as names of the columns")
    _complete(found, rows)
    _refuse_decimal_commas(rows, separator, name)
    _take_units(found)
    return found


def _separator(head: str, body: Sequence[str]) -> str:
    """The separator with which most lines have as many values as there are names; else the one that splits them most."""
    best, choice = (0.0, 1), ","
    for separator in SEPARATORS:
        n = len(fields(head, separator))
        counts = [len(fields(line, separator)) for line in body] or [n]
        agree = counts.count(n) / len(counts) if n > 1 else 0.0
        # one value more than names: lines are numbered, or end with a separator
        more = 0.9 * counts.count(n + 1) / len(counts)
        score = max(agree, more), (1 if agree or more else max(counts))
        if score > best:
            best, choice = score, separator
    return choice


def _is_event(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line holds values; ``0, 1, 2`` are names if the columns below hold numbers only."""
    numbers = [one for one in names if is_number(one)]
    if not numbers:
        return False
    if numbers != [str(i) for i in range(len(numbers))]:
        return True
    texts = [i for i, one in enumerate(names) if not is_number(one)]
    return any(i < len(row) and row[i] and not is_number(row[i]) for row in rows for i in texts)


def _comment_line(lines: Sequence[str]) -> int:
    return max((i for i, line in enumerate(lines) if line.strip()), default=-1)


def _names_of_comment(lines: Sequence[str], values: Sequence[str], separator: str, name: str) -> list[str]:
    """Names in the comment right before the events, as ``np.savetxt(header=...)`` writes them."""
    line = _comment_line(lines)
    reason = ""
    if line >= 0:
        text = re.sub(r"^\s*(#+|%+|//|!)\s*", "", lines[line])
        for one in (separator, *(other for other in SEPARATORS if other != separator)):
            names = fields(text, one)
            if len(names) == len(values) and not any(is_number(each) or not each for each in names):
                return names
        reason = f" (the comment before it does not hold {len(values)} names)"
    shown = ", ".join(values[:3]) + ("..." if len(values) > 3 else "")
    given = separator.join(f"name{i}" for i in range(1, min(len(values), 3) + 1))
    raise InputError(
        f"{name}: the first line holds numbers ({shown}), so it is an event and not the column names{reason}; "
        f"expected a line with {len(values)} column names; add one at the top: sed -i '1i {given}...' FILE"
    )


def _complete(found: Layout, rows: Sequence[Sequence[str]]) -> None:
    """Names for columns without one: the row names of pandas and R, and the column due to a separator at the end of lines."""
    names = found.names
    framed = found.separator == "|" and not names[0] and not names[-1]
    if names and not names[0] and len(names) > 1 and not framed:
        names[0] = "index" if "index" not in names else "index_"
    if rows and found.header is not None and all(len(row) == len(names) + 1 for row in rows):
        first = [row[0] for row in rows]
        if all(not row[-1] for row in rows):
            names.append("")
        elif any(first == [str(i + low) for i in range(len(rows))] for low in (0, 1)):
            names.insert(0, "index" if "index" not in names else "index_")
            found.notes.append(
                f"each line has one value more than the header has names; the first, which counts the lines, is "
                f"taken as column '{names[0]}'"
            )
    for i, one in enumerate(names[:-1]):
        if not one and not (framed and i == 0):
            names[i] = f"column{i + 1}"


def _refuse_decimal_commas(rows: Sequence[Sequence[str]], separator: str, name: str) -> None:
    if separator == ",":
        return
    for i in range(max((len(row) for row in rows), default=0)):
        values = [row[i] for row in rows if i < len(row) and row[i]]
        if values and all(_DECIMAL_COMMA.match(value) for value in values):
            raise InputError(
                f"{name}: the numbers have decimal commas, such as '{values[0]}'; expected decimal points; "
                "change them with: sed 's/,/./g' FILE > NEW"
            )


def _take_units(found: Layout) -> None:
    """Take ``[GeV]`` off the names, unless names would then be equal."""
    short = list(found.names)
    units: dict[str, str] = {}
    for i, name in enumerate(found.names):
        match = _UNIT.fullmatch(name)
        if match is None:
            continue
        unit = re.sub(r"/c(\^?2)?$", "", (match["square"] or match["round"]).strip())
        if unit in _UNITS:
            short[i], units[match["name"]] = match["name"], unit
    if len(set(short)) == len(set(found.names)):
        found.long_names = {old: new for old, new in zip(found.names, short, strict=True) if old != new}
        found.names, found.units = short, units
