"""From the reference network to the deploy form (see graph.py).

Exact rewrites, each proved by tests/unit/test_deploy.py against the reference:

- the side outputs' resizes and sigmoids are dropped; their logits stay where they
  guide a GAB (bit-exact for the final map)
- the Hadamard gates are folded to constants for the fixed input size: they depend
  on parameters only (bit-exact)
- everything is NHWC, so that no runtime for phones needs a transpose
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.layers import DILATIONS, GAB, GHPA, ChannelLayerNorm


def build_deploy_graph(model: EGEUNet, contract: ModelContract) -> Graph:
    """The inference graph of ``model`` at the contract's size, batch 1, float32.

    Input: (1, H, W, input_channels) float32, normalized as the contract says.
    Output: (1, H, W, num_classes) float32 probability.

    Raises:
        InputError: a contract for RGB with a network of other input channels.
    """
    channels = model.config.input_channels
    if channels != 3:
        raise InputError(f"the contract is for RGB images, the network takes {channels} channels")
    builder = GraphBuilder((1, contract.height, contract.width, channels))
    with torch.no_grad():
        logits = _Translator(builder).network(model, builder.input)
    return builder.finish(builder.elementwise("sigmoid", logits))


class _Translator:
    """Appends the reference's modules to a graph; methods take and return value names."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.b = builder

    def network(self, model: EGEUNet, x: str) -> str:
        b, skips = self.b, []
        height, width = b.shape(x)[1:3]
        for level in range(1, 6):
            b.scope = f"encoder{level}"
            x = self.block(getattr(model, b.scope)[0], x)
            x = self.group_norm(getattr(model, f"ebn{level}"), x)
            x = b.elementwise("gelu", b.max_pool(x))
            skips.append(x)
        b.scope = "encoder6"
        deep = x = b.elementwise("gelu", self.block(model.encoder6[0], x))
        for step in range(1, 6):
            b.scope = f"decoder{step}"
            x = self.group_norm(
                getattr(model, f"dbn{step}"), self.block(getattr(model, b.scope)[0], x)
            )
            if step > 1:
                x = b.resize(x, 2 * b.shape(x)[1], 2 * b.shape(x)[2])
            x = b.elementwise("gelu", x)
            skip = skips[5 - step]
            if model.config.bridge:
                mask = None
                if model.config.deep_supervision:
                    b.scope = f"gt_conv{step}"
                    mask = self.conv(getattr(model, b.scope)[0], x)
                b.scope = f"GAB{6 - step}"
                skip = self.bridge(getattr(model, b.scope), deep, skip, mask)
            deep = skip
            x = b.add(x, skip)
        b.scope = "final"
        return b.resize(self.conv(model.final, x), height, width)

    def block(self, module: nn.Module, x: str) -> str:
        return self.ghpa(module, x) if isinstance(module, GHPA) else self.conv(module, x)

    def conv(self, module: nn.Module, x: str) -> str:
        assert isinstance(module, nn.Conv2d) and module.bias is not None
        weight, bias = _array(module.weight), _array(module.bias)
        if module.groups == 1:
            return self.b.conv2d(x, weight.transpose(0, 2, 3, 1).copy(), bias)
        dilation = int(module.dilation[0])
        return self.b.depthwise_conv2d(x, weight.transpose(1, 2, 3, 0).copy(), bias, dilation)

    def ghpa(self, module: GHPA, x: str) -> str:
        b = self.b
        height, width, channels = b.shape(x)[1:]
        group = channels // 4
        x = self.layer_norm(module.norm1, x)
        parts = [b.slice(x, i * group, group) for i in range(4)]
        mixed = [
            b.mul(part, b.constant(_array(gate).transpose(0, 2, 3, 1).copy()))
            for part, gate in zip(parts[:3], module.gates(height, width), strict=True)
        ]
        last = b.elementwise("gelu", self.conv(module.dw[0], parts[3]))
        x = self.layer_norm(module.norm2, b.concat([*mixed, self.conv(module.dw[2], last)]))
        x = b.elementwise("gelu", self.conv(module.ldw[0], x))
        return self.conv(module.ldw[2], x)

    def bridge(self, module: GAB, deep: str, skip: str, mask: str | None) -> str:
        b = self.b
        height, width, channels = b.shape(skip)[1:]
        deep = b.resize(self.conv(module.pre_project, deep), height, width)
        group = channels // len(DILATIONS)
        mixed = []
        for index, branch in enumerate(module.groups):
            parts = [b.slice(tensor, index * group, group) for tensor in (deep, skip)]
            joined = b.concat(parts if mask is None else [*parts, mask])
            mixed.append(self.conv(branch[1], self.layer_norm(branch[0], joined)))
        return self.conv(module.tail_conv[1], self.layer_norm(module.tail_conv[0], b.concat(mixed)))

    def layer_norm(self, module: nn.Module, x: str) -> str:
        assert isinstance(module, ChannelLayerNorm)
        return self.b.layer_norm(x, _array(module.weight), _array(module.bias), module.eps)

    def group_norm(self, module: nn.GroupNorm, x: str) -> str:
        gamma, beta = _array(module.weight), _array(module.bias)
        return self.b.group_norm(x, gamma, beta, module.num_groups, module.eps)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy().astype(np.float32)
