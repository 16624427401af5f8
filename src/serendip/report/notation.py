"""Symbols of the field in print (mathtext) and on the page (HTML), and the marks of series in both."""

from __future__ import annotations

import re

__all__ = ["MARKERS", "SYMBOLS", "hypertext", "mathtext", "no_html", "no_mathtext", "subscripts"]

MARKERS = "os^Dv<>P*X"
"""Marks of the series of a printed figure, in their order."""

SYMBOLS = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "triangle-left",
    "triangle-right",
    "cross",
)
"""The same for plotly."""


def no_mathtext(text: str) -> str:
    """Text as it is for matplotlib: the name of a column is not mathtext."""
    return text.replace("$", r"\$")


def no_html(text: str) -> str:
    """Text as it is for plotly, which reads a subset of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def mathtext(text: str) -> str:
    r"""Text for matplotlib with the symbols ``ε_B``, ``ε_S``, ``p_B``, ``p_S`` and ``σ_min`` as mathtext.

    Examples
    --------
    >>> mathtext("σ_min at ε_B = 1 %, x$y")
    '$\\sigma_\\mathrm{min}$ at $\\varepsilon_B$ = 1 %, x\\$y'
    """
    text = re.sub(r"ε_([BS])", r"$\\varepsilon_\1$", no_mathtext(text))
    text = re.sub(r"\bp_([BS])\b", r"$p_\1$", text)
    return text.replace("σ_min", r"$\sigma_\mathrm{min}$")


def hypertext(text: str) -> str:
    """Text for plotly with the symbols ``ε_B``, ``ε_S`` and ``σ_min``.

    Examples
    --------
    >>> hypertext("SIC > 1 at ε_B")
    'SIC &gt; 1 at ε<sub>B</sub>'
    """
    return subscripts(no_html(text))


def subscripts(text: str) -> str:
    """HTML with the indices of symbols as subscripts."""
    return re.sub(r"ε_([BS])", r"ε<sub>\1</sub>", text).replace("σ_min", "σ<sub>min</sub>")
