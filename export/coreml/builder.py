"""Appends operations of MIL, Core ML's program language; equal constants are one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.export.coreml.compression import Compression, linear, packed, palettized
from egeunet.export.graph import Graph
from egeunet.model.errors import InputError

Array = NDArray[Any]


class MilBuilder:
    """What a lowering writes with. Tensors are (1, C, H, W) of the precision's type.

    MIL writes every argument as a constant of its own, strides and modes too, which for
    a network of 53 thousand weights costs more than the weights; here they are shared.

    Attributes:
        graph: the graph being written, channels last.
        values: graph value -> MIL variable, for activations that exist already.
        dtype: float32 or float16, of activations and weights.
        compression: of kernels and gates; None = stored in ``dtype``.
    """

    def __init__(
        self,
        graph: Graph,
        dtype: type[np.floating[Any]],
        compression: Compression | None = None,
    ) -> None:
        from coremltools.converters.mil import Builder

        self.graph = graph
        self.values: dict[str, Any] = {}
        self.dtype = dtype
        self.compression = compression
        self._mil = Builder
        self._constants: dict[tuple[Any, ...], Any] = {}
        self._count = 0

    def add(self, operation: str, **arguments: Any) -> Any:
        """Append an operation; arguments are variables, lists of them, or what MIL takes
        as constants (numbers, strings, flags, integer arrays). Returns its variable(s)."""
        given = {
            key: value if _is_variable(value) else self.argument(value)
            for key, value in arguments.items()
        }
        append: Callable[..., Any] = getattr(self._mil, operation)
        return append(name=self._new_name(), **given)

    def argument(self, value: Any) -> Any:
        """A constant that is no weight: a mode, an axis, a size."""
        if isinstance(value, list):
            value = np.array(value, np.int32)
        return self._constant(value)

    def weight(self, data: Array) -> Any:
        """A constant in the precision's type.

        Raises:
            InputError: it is beyond that type's range.
        """
        with np.errstate(over="ignore"):  # checked in the next line
            rounded = data.astype(self.dtype)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"a weight of {np.abs(data).max():g} is beyond the range of {rounded.dtype}; "
                "export in float32"
            )
        return self._constant(rounded)

    def kernel(self, data: Array, axis: int) -> Any:
        """A weight that may be compressed, with a scale for each index of ``axis`` if linear.

        Raises:
            InputError: it is beyond the precision's range.
        """
        how = self.compression
        if how is None or data.size < how.smallest:
            return self.weight(data)
        if np.abs(data).max() > np.finfo(self.dtype).max:
            return self.weight(data)  # says what is wrong
        key = (axis, data.shape, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self._compressed(data, axis, how)
        return self._constants[key]

    def _compressed(self, data: Array, axis: int, how: Compression) -> Any:
        if how.palette:
            indices, table = palettized(data, how.bits)
            return self._mil.constexpr_lut_to_dense(
                indices=packed(indices, how.bits),
                lut=table,
                shape=np.array(data.shape, np.uint32),
                name=self._new_name(),
            )
        quantized, scale = linear(data, axis)
        return self._mil.constexpr_affine_dequantize(
            quantized_data=quantized,
            zero_point=np.int8(0),
            scale=scale,
            axis=axis,
            name=self._new_name(),
        )

    def operand(self, name: str) -> Any:
        """A value of the graph as an operand that broadcasts over (1, C, H, W)."""
        data = self.graph.values[name].data
        if data is None:
            return self.values[name]
        if data.ndim == 4:
            return self.kernel(data.transpose(0, 3, 1, 2), axis=1)
        if data.ndim == 1:
            return self.weight(data.reshape(1, -1, 1, 1))
        raise ValueError(f"constant {name} has shape {data.shape}, expected rank 1 or 4")

    def data(self, name: str) -> Array:
        """Content of a constant of the graph, channels last as it is there."""
        data = self.graph.values[name].data
        assert data is not None, f"value {name} is no constant"
        return data

    def _constant(self, value: Any) -> Any:
        array = np.asarray(value)
        key = (type(value), array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._mil.const(val=value, name=self._new_name())
        return self._constants[key]

    def _new_name(self) -> str:
        self._count += 1
        return "v" + np.base_repr(self._count, 36).lower()


def _is_variable(value: Any) -> bool:
    from coremltools.converters.mil.mil import Var

    return isinstance(value, Var) or (
        isinstance(value, list | tuple) and all(isinstance(item, Var) for item in value)
    )
