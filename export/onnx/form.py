"""The deploy form for ONNX Runtime, whose kernels work on planes: channels first.

There a split or a concatenation is one copy and a sum over channels is a matrix product, so
groups stay apart and a LayerNorm stays whole (operators.py); what pays is fewer passes over a
map. Exact in real arithmetic, as in lean.py: the GroupNorms of large encoder maps by moments,
their affine behind the max-pool; the last norm of a GAB by moments, behind the projection.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import Translator, as_array, convolution_arrays, new_builder
from egeunet.export.graph import Graph
from egeunet.export.lean import LeanTranslator
from egeunet.export.onnx.resizes import joined_resizes
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.layers import GAB, ChannelLayerNorm

Array = NDArray[np.float32]
#: Maps of so many pixels have moments taken; on smaller ones a dozen operators on vectors cost
#: more than the pass over the map that they save.
_MOMENT_PIXELS = 64 * 64


def build_onnx_graph(
    model: EGEUNet, contract: ModelContract, optimize: str = "speed", batch: int = 1
) -> Graph:
    """Like :func:`egeunet.export.deploy.build_deploy_graph`, of primitive operators, layer_norm
    and group_norm.

    With ``optimize="size"`` large gate maps are made from their grids: ONNX Runtime does that
    once, when it loads the file, so that it costs no time.
    """
    builder = new_builder(model, contract, batch)
    with torch.no_grad():
        logits = OnnxTranslator(builder, optimize).network(model, builder.input)
    return joined_resizes(builder.finish(builder.elementwise("sigmoid", logits)))


class OnnxTranslator(LeanTranslator):
    """Keeps of the lean form what pays on planes."""

    large_gate = math.inf  # ONNX Runtime makes it once, when it loads the file

    def down(self, block: nn.Module, norm: nn.GroupNorm, x: str) -> str:
        b = self.b
        if not self.large(x) or not isinstance(block, nn.Conv2d):
            return b.elementwise("gelu", b.max_pool(self.group_norm(norm, self.block(block, x))))
        gamma = as_array(norm.weight)
        sign = np.where(gamma < 0, -1, 1).astype(np.float32)
        weight, bias, _ = convolution_arrays(block)
        # A bias is a pass of its own over the map, so the norm takes it over.
        x = b.conv2d(x, weight * sign.reshape(-1, 1, 1, 1), np.zeros_like(bias))
        return b.elementwise("gelu", self.group_affine(norm, x, b.max_pool(x), sign, bias * sign))

    def up(self, block: nn.Module, norm: nn.GroupNorm, x: str, scale: int) -> str:
        return Translator.up(self, block, norm, x, scale)

    def scaled_norm(self, norm: nn.Module, x: str) -> tuple[str, Array]:
        return self.layer_norm(norm, x), np.ones(self.b.shape(x)[3], np.float32)

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        if self.large(skip):
            return super().bridge(module, deep, skip, x, mask)
        return Translator.bridge(self, module, deep, skip, x, mask)

    def mixed(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> tuple[list[str], Array]:
        mixed = self.branches(module, deep, skip, x, mask)
        return mixed, np.ones(self.b.shape(mixed[0])[3], np.float32)

    def summed_tail(
        self, norm: ChannelLayerNorm, parts: list[str], real: Array, weight: Array, bias: Array
    ) -> str:
        """With a concatenation: here it costs less than three sums."""
        return self.tail(norm, parts, np.tile(real, len(parts)), weight[None, None, None], bias)

    def row(self, vector: Array | str, like: str) -> str:
        """As it is: along a plane a channel's value is broadcast for nothing."""
        return vector if isinstance(vector, str) else self.b.constant(vector.reshape(1, 1, 1, -1))

    def affine(self, x: str, factor: str, offset: str) -> str:
        if self.b.shape(x)[0] > 1:  # each image has its own
            return super().affine(x, factor, offset)
        # One operator: a batch normalization takes vectors that are known only then.
        return self.b.add_node("affine", (x, factor, offset), self.b.shape(x))

    def large(self, x: str) -> bool:
        """Whether the map is one whose moments are taken."""
        return self.b.shape(x)[1] * self.b.shape(x)[2] >= _MOMENT_PIXELS
