"""Expressions of columns, such as ``tau2/(tau1+1e-5)`` or ``pt>200 & abs(eta)<2.5``, evaluated safely.

The text is read by a custom tokenizer that accepts only numbers, column names and a fixed list of functions and operators: no attributes, texts or unknown calls exist in this language. The result is evaluated by ``simpleeval`` on whole NumPy columns. Columns with a list of values for each event have subscripts
(``Jet_pt[:,0]``, ``Jet_pt[Jet_eta < 2.5]``) and functions that make one number of the list (``sum``, ``count``, ``any``, ...);
groups of columns that describe particles have ``mass(Muon, 0, 1)``, ``deltaR(Muon[:,0], Jet[:,0])`` and ``nJet``.

Operators bind as in C and ROOT: ``!`` first, then powers, products, sums, comparisons, ``&`` and last ``|``.
So
a cut needs no parentheses. ``&&``, ``and``, ``||``, ``or``, ``not`` and chained comparisons work too.
Sums and products are made in float64, so that small integer types cannot overflow, and in 64-bit integers where float64
would round whole numbers. Comparisons with missing values are unknown (:mod:`serendip.events.expressions.values`).
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions.evaluation import FUNCTIONS, TABLE, Expression
from serendip.events.expressions.particles import KINEMATICS, group_columns, in_group
from serendip.events.expressions.values import missing, truth

__all__ = ["columns_of", "cut", "decide", "evaluate", "parse", "split_expressions", "suggest"]

MAX_LENGTH = 2000
MAX_DEPTH = 100

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | `(?P<quoted>[^`]+)`
  | (?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
  | (?P<operator>\*\*|//|<=|>=|==|!=|&&|\|\||[-+*/%<>()\[\]:!&|~,])
    )""",
    re.VERBOSE,
)
_WORDS = {
    "and": "and",
    "or": "or",
    "not": "not",
    "True": "True",
    "False": "False",
    "true": "True",
    "false": "False",
}
# Python's ~ stands for the logical not of C because it binds as tightly.
_REWRITTEN = {"&": "and", "&&": "and", "|": "or", "||": "or", "!": "~"}
_HINTS = {
    "^": "write ** for a power",
    "=": "write == to compare",
    "'": "texts are not possible",
    '"': "texts are not possible",
}


def suggest(name: str, available: Collection[str]) -> str:
    """Return the tail of a message about a missing column: similar names, or what there is."""
    folded: dict[str, str] = {}
    for known in available:
        folded.setdefault(known.lower(), known)
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.6)]
    if near:
        return "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    shown = sorted(available)[:20]
    more = f" and {len(available) - len(shown)} more" if len(available) > len(shown) else ""
    return f"there are: {', '.join(shown)}{more}"


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip()
            hint = _HINTS.get(rest[0])
            raise InputError(
                f"expression '{text}': '{rest[0]}' at character {len(text) - len(rest) + 1} is not understood"
                + (
                    f"; {hint}"
                    if hint
                    else "; possible are columns, numbers, + - * / // % **, comparisons, & | ! and functions"
                )
            )
        kind = str(match.lastgroup)
        found.append((kind, match.group(kind)))
        position = match.end()
    return found


def parse(
    text: str, available: Collection[str] | None = None, other_names: Mapping[str, str] | None = None
) -> Expression:
    """Read an expression and check it against the columns that exist.

    Parameters
    ----------
    text
        The expression. If it equals the name of a column as a whole, whatever characters that has, it is that
        column. Inside expressions, names with special characters go in backticks: ```Jet pt` / 2``.
    available
        Names of all columns; None leaves out the check.
    other_names
        Other names of columns and the columns they stand for, such as the last part of a long name.

    Raises
    ------
    InputError
        If the text is not an expression, calls an unknown function or names a missing column.
    """
    text = text.strip()
    if available is not None and text in available:
        return Expression(text, frozenset({text}), plain=True)
    if not text:
        raise InputError("an expression is empty; expected a column or a formula of columns")
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"expression '{text[:40]}...' has {len(text)} characters; at most {MAX_LENGTH} are possible"
        )
    tokens = _tokens(text)
    aliases: dict[str, str] = {}
    code: list[str] = []
    for i, (kind, value) in enumerate(tokens):
        called = kind == "name" and i + 1 < len(tokens) and tokens[i + 1] == ("operator", "(")
        if kind == "name" and value in _WORDS:
            code.append(_WORDS[value])
        elif called and value not in TABLE:
            raise InputError(
                f"expression '{text}': unknown function '{value}'; available: {', '.join(FUNCTIONS)}"
            )
        elif called:
            code.append(value)
        elif kind in ("name", "quoted"):
            unknown = available is not None and value not in available
            name = (other_names or {}).get(value, value) if unknown else value
            code.append(aliases.setdefault(name, f"column_{len(aliases)}"))
        elif kind == "number":
            code.append(value.lstrip("0") if value.isdigit() and value.strip("0") else value)
        else:
            code.append(_REWRITTEN.get(value, value))
    if len(tokens) == 1 and aliases and (available is None or not _counted(text.strip("`"), available)):
        name = next(iter(aliases))
        _require(text, name, available)
        return Expression(name, frozenset({name}), plain=True)
    tree = _checked_tree(text, " ".join(code))
    if not aliases:
        raise InputError(
            f"expression '{text}' uses no column" + (f"; {suggest(text, available)}" if available else "")
        )
    groups = _Groups(text, {alias: name for name, alias in aliases.items()}, available)
    tree = groups.visit(tree)
    for name in groups.names.values():
        _require(text, name, available)
    return Expression(
        text,
        frozenset(
            {
                *groups.names.values(),
                *(name for parts in groups.particles.values() for name in parts.values()),
            }
        ),
        plain=False,
        _tree=tree,
        _names=tuple(groups.names.items()),
        _particles=tuple(
            (f"group_{name}", name, tuple(parts.items())) for name, parts in groups.particles.items()
        ),
    )


def _require(text: str, name: str, available: Collection[str] | None) -> None:
    if available is None or name in available:
        return
    members = in_group(name, available)
    if members:
        shown = ", ".join(members[:4]) + (", ..." if len(members) > 4 else "")
        raise InputError(
            f"expression '{text}': '{name}' is not a column but a group of columns ({shown}); take one, or {name} inside of "
            f"{', '.join(KINEMATICS)} or count"
        )
    raise InputError(f"expression '{text}': there is no column '{name}'; {suggest(name, available)}")


def _counted(name: str, available: Collection[str]) -> str | None:
    """A column of the group ``X`` if the name is ``nX`` and no column has it."""
    group = name[1:] if name.startswith("n") and name not in available else ""
    return _counting(group, available) if group else None


def _counting(group: str, available: Collection[str]) -> str | None:
    members = in_group(group, available)
    momenta = [name for name in members if name[len(group) + 1 :].lower() == "pt"]
    return next(iter(momenta + members), None)


class _Groups(ast.NodeTransformer):
    """Replaces the names of groups of columns by particles, or by a column whose objects are counted."""

    def __init__(self, text: str, aliases: Mapping[str, str], available: Collection[str] | None) -> None:
        self.text, self.aliases, self.available = text, aliases, available
        self.names: dict[str, str] = {}
        self.particles: dict[str, dict[str, str]] = {}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        assert isinstance(node.func, ast.Name)
        function = node.func.id
        if self.available is not None and function in (*KINEMATICS, "count"):
            for argument in node.args:
                self._replace(function, argument)
        # the name of the function is not a column
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def _replace(self, function: str, node: ast.expr) -> None:
        while isinstance(node, ast.Subscript):
            node = node.value
        if not isinstance(node, ast.Name) or self.available is None:
            return
        group = self.aliases[node.id]
        if group in self.available or not in_group(group, self.available):
            return
        if function == "count":
            node.id = f"counting_{group}"
            self.names[node.id] = str(_counting(group, self.available))
            return
        node.id = f"group_{group}"
        try:
            parts = group_columns(function, group, self.available)
        except InputError as error:
            raise InputError(f"expression '{self.text}': {error}") from None
        self.particles.setdefault(group, {}).update(parts)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        name = self.aliases.get(node.id)
        if name is None:
            return node
        counted = None if self.available is None else _counted(name, self.available)
        if counted is not None:
            self.names[node.id] = counted
            return ast.Call(func=ast.Name("count", ast.Load()), args=[node], keywords=[])
        self.names[node.id] = name
        return node


def _checked_tree(text: str, code: str) -> ast.expr:
    try:
        tree = ast.parse(code, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise InputError(f"expression '{text}' cannot be read: {reason}") from None
    level: list[ast.AST] = [tree]
    indices: set[int] = set()
    for _ in range(MAX_DEPTH):
        for node in level:
            if isinstance(node, ast.Call):
                # The tokenizer lets only known names be followed by a bracket; `(a)(b)` gets here.
                if not isinstance(node.func, ast.Name) or node.func.id not in TABLE:
                    raise InputError(
                        f"expression '{text}' cannot be read: an operator is missing before a bracket"
                    )
                _, least, most = TABLE[node.func.id]
                if not least <= len(node.args) <= most:
                    wanted = str(most) if least == most else f"{least} to {most}"
                    raise InputError(
                        f"expression '{text}': {node.func.id} takes {wanted} argument{'s' * (most > 1)}, "
                        f"not {len(node.args)}"
                    )
            elif isinstance(node, ast.Subscript):
                _check_subscript(text, node)
            elif isinstance(node, ast.List):
                raise InputError(f"expression '{text}' cannot be read: [...] must follow a column")
            elif isinstance(node, ast.Tuple) and id(node) not in indices:
                raise InputError(f"expression '{text}' cannot be read: a comma outside a function")
        indices = {id(node.slice) for node in level if isinstance(node, ast.Subscript)}
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    raise InputError(
        f"expression '{text[:40]}...' is nested too deeply; at most {MAX_DEPTH} levels are possible"
    )


def _check_subscript(text: str, node: ast.Subscript) -> None:
    """Let ``[N]``, ``[:,N]``, ``[:,:N]``, ``[:,N,M]`` and ``[condition]`` through."""

    def whole(end: ast.expr | None) -> bool:
        if isinstance(end, ast.UnaryOp) and isinstance(end.op, ast.USub):
            end = end.operand
        return end is None or (isinstance(end, ast.Constant) and type(end.value) is int)

    def everything(index: ast.expr) -> bool:
        return isinstance(index, ast.Slice) and index.lower is index.upper is index.step is None

    indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if isinstance(node.slice, ast.Tuple) and everything(indices[0]):
        indices = indices[1:]
        understood = all(whole(index) for index in indices[:-1])
    else:
        understood = len(indices) == 1 and not isinstance(indices[0], ast.Slice)
    last = indices[-1] if indices else None
    if isinstance(last, ast.Slice):
        understood &= whole(last.lower) and whole(last.upper) and last.step is None and not everything(last)
    if last is None or not understood:
        raise InputError(
            f"expression '{text}': [...] is not understood; possible are [:,N] for object N of each event (the first is 0, the "
            "last is -1), [:,:N] for the first N, and a condition on each object, such as [Jet_pt > 30]"
        )


def columns_of(expression: str, available: Collection[str] | None = None) -> set[str]:
    """Names of the columns that an expression needs.

    Examples
    --------
    >>> sorted(columns_of("pt>200 & abs(eta)<2.5"))
    ['eta', 'pt']
    """
    return set(parse(expression, available).columns)


def evaluate(expression: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Value of an expression for each row, shape ``(n,)``.

    Examples
    --------
    >>> evaluate("hypot(px, py) / 2", {"px": np.array([3.0]), "py": np.array([4.0])}).tolist()
    [2.5]
    """
    return parse(expression, columns)(columns)


def cut(expression: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Mask of the rows that pass a cut, shape ``(n,)``; rows for which :func:`decide` has no answer do not.

    Examples
    --------
    >>> cut("njet != 0", {"njet": np.array([0, 1, np.nan])}).tolist()
    [False, True, False]
    """
    return decide(expression, columns)[0]


def decide(
    expression: str | Expression, columns: Mapping[str, Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the rows that pass a cut, and of those for which a missing value leaves it open, shape ``(n,)`` each.

    A comparison with a missing value is neither true nor false. ``a & b`` is false if one side is false, and ``a | b`` true if
    one side is true, whatever the other is; ``!`` of the unknown is unknown. ``isnan(a)`` is known for each row.

    Raises
    ------
    InputError
        If the expression is a number and not a condition.
    """
    parsed = parse(expression, columns) if isinstance(expression, str) else expression
    try:
        condition = truth(parsed(columns))
        return np.ma.filled(condition, fill_value=False), missing(condition)
    except InputError as error:
        if str(error).startswith("expression"):
            raise
        raise InputError(
            f"the cut '{parsed.text}' is not a condition; expected for example 'pt > 200'"
        ) from None


def split_expressions(text: str) -> list[str]:
    """Split a comma-separated list of expressions; commas inside brackets or backticks stay.

    Examples
    --------
    >>> split_expressions("a,hypot(b,c)")
    ['a', 'hypot(b,c)']
    """
    parts, depth, quoted, start = [], 0, False, 0
    for i, character in enumerate(text):
        if character == "`":
            quoted = not quoted
        elif not quoted:
            depth += (character in "([") - (character in ")]")
            if depth < 0:
                break
            if character == "," and depth == 0:
                parts.append(text[start:i].strip())
                start = i + 1
    parts.append(text[start:].strip())
    if depth != 0 or quoted:
        raise InputError(f"brackets or backticks in '{text}' do not match")
    if not all(parts):
        raise InputError(f"the list '{text}' has an empty entry; expected expressions separated by commas")
    return parts
