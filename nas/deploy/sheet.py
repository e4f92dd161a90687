"""An ONNX graph as it is being written: short names, no default attributes, equal constants and nodes only once.

What is written often with other inputs, such as the reading of a packed weight, is a `Part`: a function of the
model that is called where it is needed, which takes a third of the bytes.
"""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typing_extensions import override

OPSET = 21
"""The first with 4-bit tensors."""
IR_VERSION = 10
DOMAIN = "nas"
"""Of the functions that a model brings with it."""
INPUT, OUTPUT = "input", "logits"
_DIGITS = string.digits + string.ascii_lowercase


class Sheet(ABC):
    """Nodes in their order, and tensors. Values go by short names, which the methods give."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._done: dict[bytes, str] = {}
        self._count = 0

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of an operator, one that is there already where it has the same inputs and attributes.

        Attributes that are None are left to their default.
        """
        given = sorted((key, value) for key, value in attributes.items() if value is not None)
        proto = onnx.NodeProto(op_type=operator, domain=domain or None, input=inputs)
        proto.attribute.extend(helper.make_attribute(key, value) for key, value in given)
        key = proto.SerializeToString(deterministic=True)
        if key not in self._done:
            self._done[key] = self._name()
            proto.output.append(self._done[key])
            self._nodes.append(proto)
        return self._done[key]

    @abstractmethod
    def packed(self, data: bytes, kind: int, shape: Sequence[int]) -> str:
        """A constant by its bytes; `kind` is a type of `onnx.TensorProto`."""

    @abstractmethod
    def function(self, body: onnx.FunctionProto) -> str:
        """The name of a function that has none yet, one that is there already where it is the same."""

    def tensor(self, values: NDArray[Any]) -> str:
        """A constant of NumPy's types."""
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        return self.packed(little.tobytes(), helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)

    def ints(self, *values: int) -> str:
        """A constant of shape (n,): sizes, axes, places."""
        return self.tensor(np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A 32-bit constant without axes."""
        return self.tensor(np.array(value, dtype=np.float32))

    def _name(self) -> str:
        """The next number in base 36."""
        number, name = self._count, ""
        self._count += 1
        while number or not name:
            number, digit = divmod(number, 36)
            name = _DIGITS[digit] + name
        return name


class Page(Sheet):
    """The graph of a model."""

    def __init__(self) -> None:
        super().__init__()
        self._tensors: dict[tuple[object, ...], onnx.TensorProto] = {}
        self._functions: dict[bytes, onnx.FunctionProto] = {}

    @override
    def packed(self, data: bytes, kind: int, shape: Sequence[int]) -> str:
        key = (data, kind, tuple(shape))
        if key not in self._tensors:
            self._tensors[key] = TensorProto(name=self._name(), data_type=kind, dims=shape, raw_data=data)
        return self._tensors[key].name

    @override
    def function(self, body: onnx.FunctionProto) -> str:
        key = body.SerializeToString(deterministic=True)
        if key not in self._functions:
            body.name = f"F{len(self._functions)}"
            self._functions[key] = body
        return self._functions[key].name

    def model(self, kind: int, shape: Sequence[int], output: str, classes: int) -> onnx.ModelProto:
        """The model from `INPUT`, examples of some type and shape, to `OUTPUT`, which is `output`."""
        for node in self._nodes:
            node.input[:] = [OUTPUT if name == output else name for name in node.input]
            node.output[:] = [OUTPUT if name == output else name for name in node.output]
        graph = onnx.GraphProto(
            name="network",
            node=self._nodes,
            initializer=self._tensors.values(),
            input=[helper.make_tensor_value_info(INPUT, kind, ["batch", *shape])],
            output=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes])],
        )
        functions = list(self._functions.values())
        domains = _OPSETS + [_OWN] * bool(functions)
        return onnx.ModelProto(ir_version=IR_VERSION, opset_import=domains, graph=graph, functions=functions)


class Part(Sheet):
    """What becomes a function of a graph, or of another part; constants are inputs, unless they are `fixed`.

    Each constant is an input of its own, for two that are equal in one call may differ in the next.
    """

    def __init__(self, whole: Sheet) -> None:
        super().__init__()
        self._whole = whole
        self._inputs: list[str] = []
        """Names of the whole."""
        self._names: list[str] = []
        self._given: dict[str, str] = {}

    def given(self, value: str) -> str:
        """A value of the whole."""
        if value not in self._given:
            self._given[value] = self._input(value)
        return self._given[value]

    def fixed(self, *values: int) -> str:
        """A constant of shape (n,), the same in every call."""
        return self.node("Constant", value_ints=values)

    def fixed_tensor(self, values: NDArray[Any]) -> str:
        """A constant, the same in every call."""
        return self.node("Constant", value=numpy_helper.from_array(values))

    @override
    def packed(self, data: bytes, kind: int, shape: Sequence[int]) -> str:
        return self._input(self._whole.packed(data, kind, shape))

    def _input(self, value: str) -> str:
        self._inputs.append(value)
        self._names.append(self._name())
        return self._names[-1]

    @override
    def function(self, body: onnx.FunctionProto) -> str:
        return self._whole.function(body)

    def done(self, output: str) -> str:
        """What becomes of `output` in the whole."""
        opsets = _OPSETS + [_OWN] * any(node.domain for node in self._nodes)
        body = onnx.FunctionProto(
            domain=DOMAIN, input=self._names, output=[output], node=self._nodes, opset_import=opsets
        )
        return self._whole.node(self.function(body), *self._inputs, domain=DOMAIN)


_OPSETS = [helper.make_opsetid("", OPSET)]
_OWN = helper.make_opsetid(DOMAIN, 1)
