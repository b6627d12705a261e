"""Run a saved Core ML package in PyTorch, by the documentation of MIL's operations.

Core ML itself exists on Apple's systems only. This reads what was saved, program and
weight file, and so checks all that an emitter can get wrong; it says nothing about the
speed or the rounding of Apple's compiler. Every operation computes in float32 and its
result is rounded to the type that the program declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from egeunet.export.coreml.compression import unpacked
from egeunet.export.coreml.package import Package

_Arguments = dict[str, Any]
_Operation = Callable[[_Arguments], Any]
_OPERATIONS: dict[str, _Operation] = {}


def _operation(name: str) -> Callable[[_Operation], _Operation]:
    def register(function: _Operation) -> _Operation:
        _OPERATIONS[name] = function
        return function

    return register


@torch.inference_mode()
def run_package(path: Path, image_nchw: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    """The output of a package that :func:`emit_coreml` saved, (1, classes, H, W) float32.

    Args:
        path: the ``.mlpackage``.
        image_nchw: (1, 3, H, W) float32; pixels 0..255 where the package takes an image,
            else the normalized array that it takes.

    Raises:
        NotImplementedError: an operation that the emitter does not write.
    """
    return interpret(Package(path), image_nchw)


@torch.inference_mode()
def interpret(package: Package, image_nchw: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    """:func:`run_package` for a package that is read already."""
    values: dict[str, Any] = {package.input_name: torch.from_numpy(image_nchw)}
    for operation in package.operations():
        if operation.type == "const":
            values[operation.outputs[0].name] = package.constant(operation)
            continue
        if operation.type not in _OPERATIONS:
            raise NotImplementedError(f"no interpretation of operation {operation.type!r}")
        arguments = package.attributes(operation) if _is_constant(operation) else {}
        for key, argument in operation.inputs.items():
            given = [values[binding.name] for binding in argument.arguments]
            arguments[key] = given if key == "values" else given[0]
        results = _OPERATIONS[operation.type](arguments)
        if len(operation.outputs) == 1:
            results = [results]
        for output, result in zip(operation.outputs, results, strict=True):
            if tuple(result.shape) != package.shape(output):
                raise ValueError(f"{output.name} is {tuple(result.shape)}, not as declared")
            rounded = result.half().float() if package.is_float16(output) else result
            values[output.name] = rounded
    return values[package.output_name]


def _is_constant(operation: Any) -> bool:
    return str(operation.type).startswith("constexpr_")


@_operation("constexpr_affine_dequantize")
def _affine_dequantize(a: _Arguments) -> Tensor:
    axis, data = int(a["axis"]), torch.from_numpy(a["quantized_data"].astype(np.float32))
    along = [-1 if i == axis else 1 for i in range(data.ndim)]
    scale, zero = a["scale"], torch.from_numpy(a["zero_point"].astype(np.float32))
    return (scale.reshape(along) if scale.ndim else scale) * (
        data - (zero.reshape(along) if zero.ndim else zero)
    )


@_operation("constexpr_lut_to_dense")
def _lut_to_dense(a: _Arguments) -> Tensor:
    table, shape = a["lut"], _sides(a["shape"])
    bits = len(table).bit_length() - 1
    indices = unpacked(a["indices"], bits, math.prod(shape))
    return table[torch.from_numpy(indices.astype(np.int64))].reshape(shape)


def _sides(value: Any) -> list[int]:
    return [int(side) for side in value]


@_operation("conv")
def _conv(a: _Arguments) -> Tensor:
    if str(a["pad_type"]) != "custom":
        raise NotImplementedError(f"pad_type {a['pad_type']}")
    top, bottom, left, right = _sides(a["pad"])
    return F.conv2d(
        F.pad(a["x"], (left, right, top, bottom)), a["weight"], a["bias"],
        stride=_sides(a["strides"]), dilation=_sides(a["dilations"]), groups=int(a["groups"]),
    )  # fmt: skip


def _normalized(x: Tensor, axes: list[int], epsilon: Any) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + float(epsilon))


def _per_channel(vector: Tensor) -> Tensor:
    return vector[:, None, None]


@_operation("layer_norm")
def _layer_norm(a: _Arguments) -> Tensor:
    axes = _sides(a["axes"])
    shape = [side if axis in axes else 1 for axis, side in enumerate(a["x"].shape)]
    normed = _normalized(a["x"], axes, a["epsilon"])
    return normed * a["gamma"].reshape(shape) + a["beta"].reshape(shape)


@_operation("instance_norm")
def _instance_norm(a: _Arguments) -> Tensor:
    normed = _normalized(a["x"], [2, 3], a["epsilon"])
    return normed * _per_channel(a["gamma"]) + _per_channel(a["beta"])


@_operation("batch_norm")
def _batch_norm(a: _Arguments) -> Tensor:
    deviation = torch.sqrt(a["variance"] + float(a["epsilon"]))
    normed = (a["x"] - _per_channel(a["mean"])) / _per_channel(deviation)
    return normed * _per_channel(a["gamma"]) + _per_channel(a["beta"])


@_operation("split")
def _split(a: _Arguments) -> list[Tensor]:
    axis = int(a["axis"])
    if "split_sizes" in a:
        return list(a["x"].split(_sides(a["split_sizes"]), axis))
    return list(a["x"].chunk(int(a["num_splits"]), axis))


@_operation("slice_by_size")
def _slice_by_size(a: _Arguments) -> Tensor:
    pairs = zip(_sides(a["begin"]), _sides(a["size"]), strict=True)
    return a["x"][tuple(slice(begin, begin + size) for begin, size in pairs)]


@_operation("concat")
def _concat(a: _Arguments) -> Tensor:
    if bool(a["interleave"]):
        raise NotImplementedError("interleaved concat")
    return torch.cat(a["values"], int(a["axis"]))


@_operation("max_pool")
def _max_pool(a: _Arguments) -> Tensor:
    if str(a["pad_type"]) != "valid" or bool(a["ceil_mode"]):
        raise NotImplementedError("padded max_pool")
    return F.max_pool2d(a["x"], _sides(a["kernel_sizes"]), _sides(a["strides"]))


@_operation("upsample_bilinear")
def _upsample_bilinear(a: _Arguments) -> Tensor:
    factors = int(a["scale_factor_height"]), int(a["scale_factor_width"])
    size = [side * factor for side, factor in zip(a["x"].shape[2:], factors, strict=True)]
    return F.interpolate(a["x"], size, mode="bilinear", align_corners=bool(a["align_corners"]))


@_operation("resize_bilinear")
def _resize_bilinear(a: _Arguments) -> Tensor:
    if str(a["sampling_mode"]) != "STRICT_ALIGN_CORNERS":
        raise NotImplementedError(f"sampling_mode {a['sampling_mode']}")
    size = [int(a["target_size_height"]), int(a["target_size_width"])]
    return F.interpolate(a["x"], size, mode="bilinear", align_corners=True)


@_operation("gelu")
def _gelu(a: _Arguments) -> Tensor:
    if str(a["mode"]) != "EXACT":
        raise NotImplementedError(f"gelu mode {a['mode']}")
    return F.gelu(a["x"])


_operation("reduce_mean")(lambda a: a["x"].mean(_sides(a["axes"]), keepdim=bool(a["keep_dims"])))
_operation("reshape")(lambda a: a["x"].reshape(_sides(a["shape"])))
_operation("cast")(lambda a: a["x"])  # rounding to the declared type does it
_operation("sigmoid")(lambda a: torch.sigmoid(a["x"]))
_operation("rsqrt")(lambda a: torch.rsqrt(a["x"] + float(a["epsilon"])))
_operation("add")(lambda a: a["x"] + a["y"])
_operation("sub")(lambda a: a["x"] - a["y"])
_operation("mul")(lambda a: a["x"] * a["y"])
