"""Collects ONNX nodes and constants; equal constants are one initializer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.graph import Graph, Value
from egeunet.model.errors import InputError

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

Array = NDArray[Any]
#: Smaller weights cost more as float16: a Cast takes about 33 bytes.
_SMALLEST_HALF = 17


class OnnxBuilder:
    """What a lowering writes with. Tensors are (N, C, H, W); values have short names.

    Attributes:
        graph: the graph being written, channels last.
        half: weights are stored as float16, each behind a Cast to float32.
        dynamic: N, H and W are those of the run, not the graph's.
        names: graph value -> ONNX value, for activations that exist already.
        nodes, initializers: what has been written.
    """

    def __init__(
        self, graph: Graph, input_name: str, *, half: bool = False, dynamic: bool = False
    ) -> None:
        self.graph = graph
        self.half, self.dynamic = half, dynamic
        self.names = {graph.input: input_name}
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._widened: dict[str, str] = {}
        self._count = 0

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(
        self, operator: str, inputs: list[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs; returns their names."""
        from onnx import helper

        names = [self._new_name() for _ in range(outputs)]
        # Nodes have no name of their own: it is optional, and as long as a small weight.
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def weight(self, data: Array) -> str:
        """Name of a float32 value with this content, rounded to float16 if weights are.

        Raises:
            InputError: it is beyond the range of float16.
        """
        if not self.half or data.size < _SMALLEST_HALF:
            return self.constant(data)
        with np.errstate(over="ignore"):  # checked in the next line
            rounded = data.astype(np.float16)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"a weight of {np.abs(data).max():g} is beyond the range of float16; "
                "export in float32"
            )
        stored = self.constant(rounded)
        if stored not in self._widened:
            from onnx import TensorProto

            self._widened[stored] = self.add("Cast", [stored], to=TensorProto.FLOAT)
        return self._widened[stored]

    def constant(self, data: Array) -> str:
        """Name of an initializer with exactly this content."""
        from onnx import numpy_helper

        data = np.array(data, order="C")  # keeps rank 0, which ascontiguousarray does not
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self._new_name()
            self.initializers.append(numpy_helper.from_array(data, self._constants[key]))
        return self._constants[key]

    def operand(self, name: str) -> str:
        """A value of the graph as an operand that broadcasts over (N, C, H, W)."""
        value = self.graph.values[name]
        return self.names[name] if value.data is None else self.weight(channels_first(value))

    def data(self, name: str) -> Array:
        """Content of a constant of the graph, channels last as it is there."""
        data = self.graph.values[name].data
        assert data is not None, f"value {name} is no constant"
        return data

    def _new_name(self) -> str:
        self._count += 1
        return np.base_repr(self._count, 36).lower()


def channels_first(value: Value) -> Array:
    """A constant that broadcast over (1, H, W, C) as one for (1, C, H, W).

    (1, H, W, C) -> (1, C, H, W), any side may be 1; (C,) -> (C, 1, 1).
    """
    assert value.data is not None
    if value.data.ndim == 4:
        return value.data.transpose(0, 3, 1, 2)
    if value.data.ndim == 1:
        return value.data.reshape(-1, 1, 1)
    raise ValueError(f"constant {value.name} has shape {value.shape}, expected rank 1 or 4")
