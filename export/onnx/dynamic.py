"""The deploy form for any batch, height and width: Hadamard gates made when the file is run.

Fixed sizes fold the gates to constants (deploy.py); here each is computed from its 8 x 8 or
8-long grid by a bilinear resize to the sides of the map that it multiplies, and the two
convolutions of the reference. All other resizes of the network are by 2.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from egeunet.export.deploy import Translator, as_array, new_builder
from egeunet.export.graph import Graph
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.layers import GHPA

Array = NDArray[np.float32]


def build_dynamic_graph(model: EGEUNet, contract: ModelContract) -> Graph:
    """Like :func:`egeunet.export.deploy.build_deploy_graph`, right for every size.

    Its shapes are those of the contract's size; ``emit_onnx(..., dynamic=True)`` writes them
    as symbols. Sides must be multiples of 32.

    Raises:
        InputError: a contract for RGB with a network of other input channels.
    """
    builder = new_builder(model, contract)
    with torch.no_grad():
        logits = _DynamicTranslator(builder, "size").network(model, builder.input)
    return builder.finish(builder.elementwise("sigmoid", logits))


class _DynamicTranslator(Translator):
    """Overrides where the fixed-size translation knows height and width."""

    def ghpa(self, module: GHPA, x: str) -> str:
        self.like = x
        return super().ghpa(module, x)

    def gates(self, module: GHPA, height: int, width: int, scale: Array) -> list[str]:
        scales = np.split(scale, 4)
        return [
            self._gate(module.params_xy, module.conv_xy, (height, width), scales[0]),
            self._gate(_column(module.params_zx), module.conv_zx, (height, 1), scales[1]),
            self._gate(_row(module.params_zy), module.conv_zy, (1, width), scales[2]),
        ]

    def _gate(
        self, grid: Tensor, convs: nn.Sequential, sides: tuple[int, int], scale: Array
    ) -> str:
        """``grid`` (1, C, h, w), h or w 1 where the gate has no such axis -> (1, H, W, C)."""
        b = self.b
        rows, columns = grid.shape[2] > 1, grid.shape[3] > 1
        source = b.constant(as_array(grid).transpose(0, 2, 3, 1).copy())
        shape = (1, *sides, grid.shape[1])
        x = b.add_node("resize_like", (source, self.like), shape, rows=rows, columns=columns)
        weight, bias = _kernel(convs[0], rows)  # (C, 1, kh, kw)
        x = b.depthwise_conv2d(x, weight.transpose(1, 2, 3, 0).copy(), bias)
        weight, bias = _kernel(convs[2], rows)  # (C, C, 1, 1)
        weight = weight.transpose(0, 2, 3, 1) * scale.reshape(-1, 1, 1, 1)
        return b.conv2d(b.elementwise("gelu", x), weight, bias * scale)


def _column(grid: Tensor) -> Tensor:
    return grid[0][..., None]  # (1, 1, C, 8) -> (1, C, 8, 1)


def _row(grid: Tensor) -> Tensor:
    return grid[0][:, :, None]  # (1, 1, C, 8) -> (1, C, 1, 8)


def _kernel(conv: nn.Module, rows: bool) -> tuple[Array, Array]:
    """(O, I, kh, kw) and bias of a 2-D convolution, or of a 1-D one down rows or along columns."""
    assert isinstance(conv, nn.Conv1d | nn.Conv2d) and conv.bias is not None
    weight = as_array(conv.weight)
    if weight.ndim == 3:
        weight = weight[..., None] if rows else weight[:, :, None]
    return weight, as_array(conv.bias)
