"""``serendip inspect``: look a table over before a search."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from serendip.cli.options import Group, Table
from serendip.wording import counted

if TYPE_CHECKING:
    from serendip.events.audit import Audit, ColumnAudit

__all__ = ["inspect"]

HEADER = ("column", "role", "type", "min", "median", "max", "NaN", "inf", "mass corr.", "AUC")
REASONS = 6


def inspect(
    file: Table,
    mass: Annotated[
        str | None, typer.Option(help="Expression for the mass: shows which columns are correlated with it.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Expressions, separated by commas; default: all columns.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="Cut, for example 'pt>200 & abs(eta)<2.5'.")] = None,
    weight: Annotated[str | None, typer.Option(help="Expression for the event weight.")] = None,
    label: Annotated[str | None, typer.Option(help="Truth column: shows which columns reveal it.")] = None,
    id: Annotated[
        str | None, typer.Option("--id", help="Column with the event id, or several: counts repeated ones.")
    ] = None,
    group: Group = None,
    tree: Annotated[str | None, typer.Option(help="Table inside a ROOT or HDF5 file; A+B joins two.")] = None,
    preset: Annotated[str | None, typer.Option(help="Known kind of file: lhco.")] = None,
    unit: Annotated[str, typer.Option(help="Unit of the mass in the file: GeV or TeV.")] = "GeV",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Print columns, ranges, gaps, copies, and columns that follow the mass or give the label away."""
    from serendip.events.audit import audit
    from serendip.events.expressions import split_expressions

    found = audit(
        file,
        mass=mass,
        features=split_expressions(features) if features else (),
        weight=weight,
        label=label,
        id=id,
        group=group,
        where=where,
        tree=tree,
        unit=unit,
        preset=preset,
    )
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    cut = f" ({found.rows} pass the cut)" if where else ""
    place = f", table {found.tree}" if found.tree else ""
    print(
        f"{found.file}: {found.format}{place}, {counted(found.rows_in_file, 'row')}{cut}, "
        f"{counted(len(found.columns), 'column')}\n"
    )
    _print_table([_cells(column) for column in found.columns])
    for sentence in _findings(found):
        print(sentence)


def _number(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.5g}"


def _cells(column: ColumnAudit) -> tuple[str, ...]:
    correlation = ""
    if column.mass_correlation is not None:
        beyond = column.mass_correlation > (column.mass_correlation_null or 0.0)
        correlation = f"{column.mass_correlation:.3f}{'!' if beyond else ' '}"
    return (
        column.name,
        column.role,
        column.dtype,
        *(_number(value) for value in (column.minimum, column.median, column.maximum)),
        str(column.nan or ""),
        str(column.inf or ""),
        correlation,
        "" if column.auc is None else f"{column.auc:.3f}",
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    # Columns without any entry are not compared.
    kept = [i for i in range(len(HEADER)) if i in (0, 2) or any(row[i] for row in rows)]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for i in kept:
            table.add_column(HEADER[i], justify="left" if i < 3 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[i]) for i in kept))
        Console().print(table)
        return
    widths = {i: max(len(cells[i]) for cells in [HEADER, *rows]) for i in kept}
    for cells in [HEADER, *rows]:
        line = "  ".join(cells[i].ljust(widths[i]) if i < 3 else cells[i].rjust(widths[i]) for i in kept)
        print(line.rstrip())


def _refusal(column: ColumnAudit, rows: int) -> str:
    """Why a search could not use the column in its role; empty if it could."""
    if column.role and column.nan + column.inf >= rows:
        return "no finite value"
    if column.role == "id" and column.nan:
        return f"{column.nan} ids are missing"
    if column.role == "mass" and column.minimum is not None and column.minimum <= 0:
        return f"masses down to {column.minimum:g}"
    if column.role == "weight" and column.nan + column.inf:
        return "weights that are NaN or infinite"
    if column.role == "weight" and column.minimum is not None and column.minimum < 0:
        return f"weights down to {column.minimum:g}"
    return ""


def _findings(found: Audit) -> list[str]:
    from serendip.events.dependence import CONSEQUENCE, REMEDY

    sentences = [""]
    sentences += [
        f"Left out by the cut: {counted(count, 'row')} ({reason})."
        for reason, count in found.undecided.items()
    ]
    refused = [
        f"{column.name} ({reason})" for column in found.columns if (reason := _refusal(column, found.rows))
    ]
    if refused:
        sentences.append(f"A search stops at: {', '.join(refused)}.")
    gaps = [column.name for column in found.columns if 0 < column.nan + column.inf < found.rows]
    if gaps:
        sentences.append(
            f"NaN or infinite values: {', '.join(gaps)}. A search leaves such rows out and counts them."
        )
    constant = [column.name for column in found.columns if column.constant and column.role in ("", "feature")]
    if constant:
        sentences.append(f"Constant: {', '.join(constant)}. They cannot be features.")
    for group in found.duplicated_columns:
        sentences.append(f"Same values: {', '.join(group)}. Keep one of them as a feature.")
    if found.duplicated_ids is not None:
        count = found.duplicated_ids
        sentences.append(
            f"Repeated ids: {counted(count, 'row')}. A search refuses them: rows of one event depend on each other; name the column with "
            "--group in place of --id."
            if count
            else "All ids differ."
        )
    if found.dependence:
        sentences.append(
            f"Not independent: {'; '.join(found.dependence)}. {CONSEQUENCE}. A search refuses them. {REMEDY}."
        )
    if found.weights is not None:
        worth = found.weights
        grouped = any(column.role == "group" for column in found.columns)
        groups = f" in {counted(worth.n_events, 'group')}" if grouped else ""
        sentences.append(
            f"Effective number of events, (Σw)²/Σw²: {worth.effective:.5g} of {found.rows}{groups}."
        )
    if found.mass_correlated:
        sentences.append(
            f"Correlated with the mass (!): {', '.join(found.mass_correlated)}. As features they can "
            "sculpt the "
            "spectrum; the closure test of a search tells whether they do."
        )
    if found.giveaways:
        sentences.append(
            f"Reveal the label: {', '.join(found.giveaways)}. They are almost identical to the truth; "
            "real data do not have them."
        )
    if found.jagged:
        names = list(found.jagged)
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        sentences.append(
            f"Lists of values for each event: {', '.join(names[:8])}{more}. Use one number per event, for example {names[0]}[:,0] "
            f"(the first), max({names[0]}) or count({names[0]})."
        )
    reasons: dict[str, list[str]] = {}
    for name, why in found.unreadable.items():
        reasons.setdefault(why, []).append(name)
    for why, names in list(reasons.items())[:REASONS]:
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        which = f"Column '{names[0]}'" if len(names) == 1 else "Each"
        sentences.append(f"Not usable: {', '.join(names[:8])}{more}. {which} {why}.")
    if len(reasons) > REASONS:
        rest = sum(len(names) for names in list(reasons.values())[REASONS:])
        sentences.append(f"Not usable for other reasons: {counted(rest, 'column')}; --json lists all.")
    return sentences if len(sentences) > 1 else ["", "Nothing wrong was found."]
