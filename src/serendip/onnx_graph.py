"""Writing ONNX graphs as arithmetic: values that know their graph, so that code reads like the formula it exports.

Needs the package ``onnx`` (extra ``[onnx]``). No framework is traced: an exported model holds exactly the nodes that
its exporter wrote, in the declared precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.version import __version__

__all__ = ["Graph", "Value", "require_onnx"]

_OPSET = 17
_TREES_OPSET = 3
_IR_VERSION = 9


def require_onnx() -> Any:
    """Return the module ``onnx``.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise InputError("ONNX export needs the package onnx: pip install 'serendip[onnx]'") from None
    return onnx


class Graph:
    """A graph that is being written; constants are stored once.

    Parameters
    ----------
    name
        Name of the graph.
    """

    def __init__(self, name: str) -> None:
        self._onnx = require_onnx()
        self._name = name
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], tuple[str, NDArray[Any]]] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Value:
        """Declare an input; a text in ``shape`` is a free length."""
        self._inputs.append(self._described(name, dtype, shape))
        return Value(self, name)

    def output(self, name: str, value: Value, dtype: Any, shape: Sequence[int | str]) -> None:
        """Declare ``value`` as an output."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(self._described(name, dtype, shape))

    def constant(self, array: ArrayLike, dtype: Any = np.float64) -> Value:
        """Numbers of the model; float64 unless requested otherwise."""
        values = np.array(array, dtype=dtype)
        key = (values.dtype.str, values.shape, values.tobytes())
        name, _ = self._constants.setdefault(key, (f"constant{len(self._constants)}", values))
        return Value(self, name)

    def call(self, operator: str, *inputs: Value | None, domain: str = "", **attributes: Any) -> Value:
        """Add one node with one output; None leaves out an optional input."""
        name = f"value{len(self._nodes)}"
        names = ["" if value is None else value.name for value in inputs]
        self._nodes.append(self._onnx.helper.make_node(operator, names, [name], domain=domain, **attributes))
        return Value(self, name)

    def concatenate(self, values: Sequence[Value], axis: int = -1) -> Value:
        """Join along an axis."""
        return self.call("Concat", *values, axis=axis)

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """Take elements of ``yes`` where the condition is true, of ``no`` elsewhere."""
        return self.call("Where", condition, yes, no)

    def write(self, path: Path, facts: dict[str, str]) -> None:
        """Check the graph and write it, with ``facts`` among its metadata."""
        helper = self._onnx.helper
        numbers = [
            self._onnx.numpy_helper.from_array(array, name) for name, array in self._constants.values()
        ]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, numbers)
        model = helper.make_model(
            graph,
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _TREES_OPSET)],
            producer_name="serendip",
            producer_version=__version__,
        )
        helper.set_model_props(model, facts)
        self._onnx.checker.check_model(model)
        with atomic_write(path) as temporary:
            temporary.write_bytes(model.SerializeToString())

    def _described(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))


@dataclass(frozen=True)
class Value:
    """A tensor in a graph; numbers that it meets become float64 constants."""

    graph: Graph
    name: str

    def __add__(self, other: Value | ArrayLike) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Value | ArrayLike) -> Value:
        return self._with("Sub", other)

    def __rsub__(self, other: ArrayLike) -> Value:
        return self.graph.constant(other) - self

    def __mul__(self, other: Value | ArrayLike) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Value | ArrayLike) -> Value:
        return self._with("Div", other)

    def __matmul__(self, other: Value | ArrayLike) -> Value:
        return self._with("MatMul", other)

    def __lt__(self, other: Value | ArrayLike) -> Value:
        return self._with("Less", other)

    def __gt__(self, other: Value | ArrayLike) -> Value:
        return self._with("Greater", other)

    def __ge__(self, other: Value | ArrayLike) -> Value:
        return self._with("GreaterOrEqual", other)

    def __and__(self, other: Value) -> Value:
        return self._with("And", other)

    def __neg__(self) -> Value:
        return self.graph.call("Neg", self)

    # without __hash__ a class with comparisons is fine, but arrays must not take over the operators
    __array_ufunc__ = None

    def apply(self, operator: str) -> Value:
        """Apply an operator without options, for example ``"Exp"``."""
        return self.graph.call(operator, self)

    def cast(self, dtype: Any) -> Value:
        """Convert to another type of number."""
        kind = self.graph._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.call("Cast", self, to=kind)

    def clip(self, low: float, high: float) -> Value:
        """Limit to an interval."""
        return self.graph.call("Clip", self, self.graph.constant(low), self.graph.constant(high))

    def sum(self, axis: int, *, keep: bool = False) -> Value:
        """Sum over an axis."""
        axes = self.graph.constant([axis], np.int64)
        return self.graph.call("ReduceSum", self, axes, keepdims=int(keep))

    def mean(self, axis: int) -> Value:
        """Mean over an axis, which goes away."""
        return self.graph.call("ReduceMean", self, axes=[axis], keepdims=0)

    def reshape(self, *shape: int) -> Value:
        """Give another shape; -1 is inferred, 0 keeps the size."""
        return self.graph.call("Reshape", self, self.graph.constant(shape, np.int64))

    def expand(self, axis: int) -> Value:
        """Insert an axis of length one."""
        return self.graph.call("Unsqueeze", self, self.graph.constant([axis], np.int64))

    def squeeze(self, axis: int) -> Value:
        """Remove an axis of length one."""
        return self.graph.call("Squeeze", self, self.graph.constant([axis], np.int64))

    def part(self, low: int, high: int, axis: int = -1) -> Value:
        """Slice along an axis."""
        low_, high_, axis_ = (self.graph.constant([i], np.int64) for i in (low, high, axis))
        return self.graph.call("Slice", self, low_, high_, axis_)

    def _with(self, operator: str, other: Value | ArrayLike) -> Value:
        value = other if isinstance(other, Value) else self.graph.constant(other)
        return self.graph.call(operator, self, value)
