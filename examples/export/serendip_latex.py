"""The looks of a search as a LaTeX table: a complete export in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import serendip
from serendip.errors import InputError
from serendip.io.files import atomic_write

__all__ = ["export_latex"]


def export_latex(
    run: Path,
    out: Path,
    *,
    digits: Annotated[int, typer.Option(min=1, help="Significant digits of p-values.")] = 2,
    cross_checks: Annotated[bool, typer.Option("--cross-checks", help="Include the cross-checks.")] = False,
) -> list[Path]:
    """Write a table with one row for each look: window, counts and local significance.

    As long as the run is blinded, counts and p-values of the window are dashes.

    Raises
    ------
    InputError
        If the folder holds no finished search, or the file exists already.
    """
    found = serendip.open_run(run)
    if out.exists():
        raise InputError(f"--out {out}: exists already; choose another name or remove it")
    rows = []
    for look in found.looks:
        if look.cross_check and not cross_checks:
            continue
        low, high = look.window
        significance = "--" if look.z_local is None else f"{look.z_local:.1f}"
        p_value = "--" if look.p_local is None else f"{look.p_local:.{digits}g}"
        observed = "--" if look.observed is None else f"{look.observed:.0f}"
        expected = rf"${look.expected:.1f} \pm {look.expected_error:.1f}$"
        rows.append(
            rf"{look.method} & {low:g}--{high:g} & {observed} & {expected} & {p_value} & {significance} \\"
        )
    head = rf"method & window [{found.unit}] & observed & expected & $p$ & $Z$ \\ \hline"
    with atomic_write(out) as temporary:
        temporary.write_text("\n".join([r"\begin{tabular}{lccccc}", head, *rows, r"\end{tabular}", ""]))
    return [out]
