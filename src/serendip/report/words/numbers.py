"""Numbers, cuts and windows as text."""

from __future__ import annotations

import math

from serendip.wording import noun

__all__ = ["NBSP", "counted", "cut", "interval", "number", "p_text", "percent", "with_error", "z_text"]

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NBSP = "\u00a0"


def p_text(p: float | None) -> str:
    """Write a p-value with two significant digits: ``0.31``, ``0.002``, ``3.1 × 10⁻⁶``; zero means below double precision."""
    if p is None or not math.isfinite(p):
        return "–"
    if p <= 0:
        return f"<{NBSP}10⁻³⁰⁰"
    if p >= 0.00095:
        return f"{p:.2g}"
    digits, power = f"{p:.1e}".split("e")
    return f"{digits}{NBSP}×{NBSP}10{str(int(power)).translate(SUPERSCRIPTS)}"


def z_text(z: float | None) -> str:
    """Write a significance: ``4.5 σ``."""
    return (
        "–"
        if z is None or not math.isfinite(z)
        else f"{z:.1f}{NBSP}σ".replace("-0.0", "0.0").replace("-", "−")
    )


def number(value: float | None) -> str:
    """Write a count, with thin spaces from 10 000 on; weighted counts keep one decimal."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.1f}"
    return text.replace(",", "\u202f") if abs(value) >= 10_000 else text.replace(",", "")


def counted(value: float, one: str, many: str | None = None) -> str:
    """Write a count with its noun: ``1 event``, ``12 345 events``."""
    return f"{number(value)} {noun(value, one, many)}"


def percent(fraction: float | None) -> str:
    """Write a fraction in per cent: 0.001 is ``0.1 %``; everything means no cut."""
    return "no cut" if fraction in (None, 1) else f"{100 * fraction:.3g}{NBSP}%"


def cut(working_point: float | None) -> str:
    """Write a working point: ``ε_B = 0.1 %`` or ``no cut``."""
    return percent(working_point) if working_point in (None, 1) else f"ε_B = {percent(working_point)}"


def with_error(value: float | None, error: float | None) -> str:
    """Write a value and its error, rounded as the Particle Data Group does: ``20.3 ± 2.1``."""
    if value is None or not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.3g}"
    leading = error / 10.0 ** math.floor(math.log10(error))
    digits = 1 if 3.545 <= leading < 9.495 else 2
    decimals = max(0, digits - 1 - math.floor(math.log10(error) + (leading >= 9.495)))
    return f"{value:,.{decimals}f}{NBSP}±{NBSP}{error:,.{decimals}f}".replace(
        ",", "\u202f" if value >= 10_000 else ""
    )


def interval(window: tuple[float, float], unit: str = "GeV") -> str:
    """Write a mass window to a per cent of its width: ``3300–3700 GeV``."""
    width = abs(window[1] - window[0])
    decimals = max(0, 2 - math.floor(math.log10(width))) if width > 0 else 0
    return f"{window[0]:.{decimals}f}–{window[1]:.{decimals}f} {unit}".strip()
