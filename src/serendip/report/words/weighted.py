"""Looks with weighted events, and their cross-checks, as text."""

from __future__ import annotations

from serendip.report.words.numbers import NBSP, cut, number, p_text, percent, with_error, z_text
from serendip.search.results import Look, Results

__all__ = ["checks_sentence", "count_text", "orders_sentence", "selection", "short_selection"]


def selection(look: Look) -> str:
    """How a look selects its events: ``weighted events``, ``ε_B = 1 %`` or ``no cut``, and whether it is a cross-check."""
    return f"{'weighted events' if look.weighted else cut(look.working_point)}{_role(look)}"


def short_selection(look: Look) -> str:
    """The same for tables and lists: ``weighted``, ``1 %``, ``no cut``."""
    return f"{'weighted' if look.weighted else percent(look.working_point)}{_role(look)}"


def _role(look: Look) -> str:
    return " (cross-check)" if look.cross_check else ""


def count_text(value: float | None, error: float, look: Look) -> str:
    """Text of the observation: a number of events, or a sum of weights with the digits of the expectation's error."""
    if value is None or not look.weighted:
        return number(value)
    return with_error(value, error).split(NBSP)[0]


def orders_sentence(look: Look) -> str:
    """Spread of the single orders of the folds, and the definition of the quoted p-value; empty for one order or while blinded."""
    found = [order.z_local for order in look.orders]
    if not found or look.p_local is None:
        return ""
    known = [z for z in found if z is not None]
    if not known:
        return f"None of the {len(found)} orders of the folds has an excess."
    none = len(found) - len(known)
    low = "no excess" if none else z_text(min(known))
    spread = f"between {low} and {z_text(max(known))}" if len(found) > 1 else z_text(known[0])
    return (
        f"Single orders of the folds lie {spread} ({len(found)} orders, fixed before the training); p = {p_text(look.p_local)} is the Cauchy "
        "combination of their p-values, and the counts are means over them."
    )


def checks_sentence(results: Results, look: Look) -> str:
    """The cut-and-count cross-checks of a weighted look; empty if there are none or while blinded."""
    parts = []
    for other in results.cross_checks(look):
        if other.dead is None and other.p_local is not None:
            local = "no excess" if other.z_local is None else z_text(other.z_local)
            expected = with_error(other.expected, other.expected_error)
            parts.append(
                f"{cut(other.working_point)}: {local} ({number(other.observed)} observed, {expected} expected)"
            )
    if not parts:
        return ""
    first = ", in the first order alone" if look.orders else ""
    return f"Cross-check by cut and count{first}, no part of any p-value above: {'; '.join(parts)}."
