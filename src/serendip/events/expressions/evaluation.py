"""Operators and functions of expressions on whole columns, and the evaluator that applies them."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simpleeval import InvalidExpression, SimpleEval

from serendip.errors import InputError
from serendip.events.expressions.lists import lifted, nth, ordered, pick, reduced, widened
from serendip.events.expressions.particles import KINEMATICS, Particles, kinematic
from serendip.events.expressions.values import (
    compared,
    conjunction,
    disjunction,
    exactly,
    missing,
    negation,
    plain,
    same_integers,
    truth,
)
from serendip.events.jagged import Column, Jagged

__all__ = ["FUNCTIONS", "TABLE", "Expression", "not_flat"]

MAX_EXPONENT = 100.0


def _float(values: Any) -> Any:
    return np.asarray(plain(values), dtype=np.float64)


def _power(base: Any, exponent: Any) -> Any:
    if np.ndim(exponent) == 0 and abs(float(exponent)) > MAX_EXPONENT:
        raise InputError(
            f"the exponent {float(exponent):g} is too large; at most {MAX_EXPONENT:g} is possible"
        )
    if (
        not np.ndim(base)
        and not np.ndim(exponent)
        and _is_whole(base)
        and _is_whole(exponent)
        and exponent >= 0
    ):
        return number(int(base) ** int(exponent))
    return np.power(_float(base), _float(exponent))


def _is_whole(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iu"


def number(value: float) -> Any:
    """A number as NumPy has it, whole ones exactly as far as 64 bits go."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return np.uint64(value) if 0 < value < 2**64 else np.float64(value)
    return np.asarray(value)[()]


def _whole(function: Any) -> Any:
    def divide(a: Any, b: Any) -> Any:
        # NumPy gives 0 for an integer divided by zero, which would look like a value.
        a, b = same_integers(a, b)
        return function(_float(a), _float(b)) if np.any(b == 0) else function(a, b)

    return divide


def _count(values: Any) -> Any:
    values = plain(values)
    return np.asarray(values, dtype=np.int64) if np.asarray(values).dtype == bool else values


def _where(condition: Any, a: Any, b: Any) -> Any:
    condition, unknown = truth(condition), missing(truth(condition))
    picked = np.where(np.ma.filled(condition, fill_value=False), *same_integers(a, b))
    return np.where(unknown, np.nan, picked) if unknown.any() else picked


def _integers_kept(function: Any) -> Any:
    """Rounding of whole numbers, which older versions of NumPy turn into floats."""
    return lambda a: _count(a) if np.asarray(plain(a)).dtype.kind in "biu" else function(plain(a))


def _of_numbers(function: Any) -> Any:
    return lambda *values: function(*map(plain, values))


def _in_one_type(function: Any) -> Any:
    return lambda a, b: function(*same_integers(a, b))


def _negative(a: Any) -> Any:
    return _subtract(0, a) if np.asarray(a).dtype.kind == "u" else np.negative(_count(a))


_subtract = exactly(np.subtract)


_UNARY = ["sqrt", "exp", "expm1", "log", "log1p", "log10", "log2", "cbrt", "sin", "cos", "tan", "arcsin",
"arccos",
          "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "sign"]  # fmt: skip
# name: (function of numbers, number of arguments)
_NUMBERS: dict[str, tuple[Any, int]] = {
    **{name: (_of_numbers(getattr(np, name)), 1) for name in _UNARY},
    **{
        name: (_of_numbers(getattr(np, f"arc{name[1:]}")), 1)
        for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")
    },
    **{name: (_integers_kept(getattr(np, name)), 1) for name in ("floor", "ceil", "round")},
    "abs": (lambda a: np.abs(_count(a)), 1),
    "fabs": (lambda a: np.abs(_count(a)), 1),
    "arctan2": (_of_numbers(np.arctan2), 2),
    "atan2": (_of_numbers(np.arctan2), 2),
    "hypot": (_of_numbers(np.hypot), 2),
    "pow": (_power, 2),
    "power": (_power, 2),
    "minimum": (_in_one_type(np.minimum), 2),
    "maximum": (_in_one_type(np.maximum), 2),
    "fmod": (_in_one_type(np.fmod), 2),
    "where": (_where, 3),
    "isfinite": (lambda a: np.isfinite(np.ma.getdata(a)) & ~missing(a), 1),
    "isnan": (missing, 1),
}


def _either(name: str, function: Any) -> Any:
    """Smallest or largest of the objects of an event with one argument, of two numbers with two."""
    return lambda *values: lifted(function)(*values) if len(values) == 2 else reduced(name, values[0])


def _every(name: str) -> Any:
    return lambda values: reduced(name, lifted(truth)(values))


# name: (function, smallest and largest number of arguments)
TABLE: dict[str, tuple[Any, int, int]] = {
    **{name: (lifted(function), n, n) for name, (function, n) in _NUMBERS.items()},
    "min": (_either("min", _in_one_type(np.minimum)), 1, 2),
    "max": (_either("max", _in_one_type(np.maximum)), 1, 2),
    **{name: (partial(reduced, name), 1, 1) for name in ("sum", "count", "mean")},
    **{name: (_every(name), 1, 1) for name in ("any", "all")},
    "ordered": (ordered, 1, 2),
    **{name: (kinematic(name), 1, 40) for name in KINEMATICS},
}
FUNCTIONS = tuple(sorted(TABLE))

_ARITHMETIC: dict[type, Any] = {
    ast.Add: exactly(np.add),
    ast.Sub: _subtract,
    ast.Mult: exactly(np.multiply),
    ast.Div: lambda a, b: _float(a) / _float(b),
    ast.FloorDiv: _whole(np.floor_divide),
    ast.Mod: _whole(np.mod),
    ast.Pow: _power,
    ast.USub: _negative,
    ast.UAdd: _count,
    ast.Invert: negation,
    ast.Not: negation,
    ast.Lt: compared(operator.lt),
    ast.LtE: compared(operator.le),
    ast.Gt: compared(operator.gt),
    ast.GtE: compared(operator.ge),
    ast.Eq: compared(operator.eq),
    ast.NotEq: compared(operator.ne),
}


class _Evaluator(SimpleEval):  # type: ignore[misc]
    """simpleeval on arrays, with the few kinds of syntax that the tokenizer lets through."""

    def __init__(self, names: dict[str, Any]) -> None:
        super().__init__(
            operators={kind: lifted(function) for kind, function in _ARITHMETIC.items()},
            functions={name: entry[0] for name, entry in TABLE.items()},
            names=names,
        )
        kept = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name)
        self.nodes: dict[type, Any] = {kind: handler for kind, handler in self.nodes.items() if kind in kept}
        self.nodes[ast.Constant] = self._eval_number
        self.nodes[ast.BoolOp] = self._eval_boolop
        self.nodes[ast.Compare] = self._eval_compare
        self.nodes[ast.Subscript] = self._eval_subscript

    def _eval_number(self, node: ast.Constant) -> Any:
        value: Any = node.value
        return number(value)

    def _eval_boolop(self, node: ast.BoolOp) -> Any:
        parts = [lifted(truth)(self._eval(value)) for value in node.values]
        join = lifted(conjunction if isinstance(node.op, ast.And) else disjunction)
        result = parts[0]
        for part in parts[1:]:
            result = join(result, part)
        return result

    def _eval_compare(self, node: ast.Compare) -> Any:
        result: Any = None
        left = self._eval(node.left)
        for operation, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._eval(right_node)
            step = self.operators[type(operation)](left, right)
            result = step if result is None else lifted(conjunction)(result, step)
            left = right
        return result

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        value = self._eval(node.value)
        if not isinstance(value, Jagged | Particles):
            raise InputError("[...] follows something that has one number for each event; leave it out")
        indices = node.slice.elts[1:] if isinstance(node.slice, ast.Tuple) else [node.slice]
        for index in indices:
            chosen = _index(index)
            if chosen is None:
                chosen = lifted(truth)(self._eval(index))
            if isinstance(chosen, int):
                value = value.nth(chosen) if isinstance(value, Particles) else nth(value, chosen)
            else:
                value = value.pick(chosen) if isinstance(value, Particles) else pick(value, chosen)
        return value


def _index(node: ast.expr) -> int | slice | None:
    """The number or slice that stands in a subscript; None for a condition."""
    if isinstance(node, ast.Slice):
        low, high = (None if end is None else _index(end) for end in (node.lower, node.upper))
        return slice(low, high)
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return sign * node.value
    return None


def not_flat(text: str) -> str:
    """Error message for an expression that gives a list for each event."""
    one = text if text.replace("_", "").replace(".", "").isalnum() else f"({text})"
    return (
        f"'{text}' has a list of values for each event, but one number is needed; take for example {one}[:,0] (the "
        "first, leading object), or count, sum, max, min, mean, any or all of them"
    )


@dataclass(frozen=True)
class Expression:
    """An expression that was read and understood.

    Attributes
    ----------
    text
        The user's input; for a plain column, its name.
    columns
        Names of the columns it needs.
    plain
        True if it is just one column.
    """

    text: str
    columns: frozenset[str]
    plain: bool
    _tree: ast.expr | None = None
    _names: tuple[tuple[str, str], ...] = ()
    # name in the tree: (name of the particles, component, column)
    _particles: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()

    def __call__(self, columns: Mapping[str, Column]) -> NDArray[Any]:
        """Value for each row, shape ``(n,)``; a plain column is returned as it is.

        Raises
        ------
        InputError
            If the expression gives a list for each row instead of one number, or cannot be evaluated.
        """
        if self.plain:
            return self._flat(columns[self.text])
        names: dict[str, Any] = {alias: _operand(name, columns[name]) for alias, name in self._names}
        self._check_missing(names)
        for alias, group, parts in self._particles:
            names[alias] = Particles(group, {part: _operand(name, columns[name]) for part, name in parts})
        evaluator = _Evaluator(names)
        evaluator.expr = self.text
        try:
            with np.errstate(all="ignore"):
                result = evaluator._eval(self._tree)
        except InputError as error:
            raise InputError(f"expression '{self.text}': {error}") from None
        except (InvalidExpression, ArithmeticError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"expression '{self.text}' cannot be evaluated: {error}") from error
        n = len(next(iter(columns[name] for name in self.columns)))
        return np.broadcast_to(np.asarray(plain(self._flat(result))), (n,))

    def _flat(self, values: Any) -> NDArray[Any]:
        if isinstance(values, Jagged):
            raise InputError(not_flat(self.text))
        flat: NDArray[Any] = values
        return flat

    def _check_missing(self, names: Mapping[str, Any]) -> None:
        """Integers beyond the precision of floats, some of them missing, can be compared but not be part of a formula."""
        masked = {alias for alias, values in names.items() if isinstance(values, np.ma.MaskedArray)}
        for node in ast.walk(self._tree) if masked and self._tree is not None else ():
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Compare) or called in _COMPARES:
                continue
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.Name) and child.id in masked:
                    column = dict(self._names)[child.id]
                    raise InputError(
                        f"expression '{self.text}': column '{column}' has missing values and whole numbers above 2^53, which "
                        f"no formula holds exactly; compare it directly, or fill or remove the missing rows of the file"
                    )


_COMPARES = ("isnan", "isfinite")


def _operand(name: str, values: Column) -> Column:
    if isinstance(values, Jagged):
        return values
    if values.dtype.kind not in "biuf":
        raise InputError(f"column '{name}' holds text; expressions need numbers")
    return widened(values)
