"""From the reference network to the deploy form (see graph.py).

Exact rewrites, each proved by tests/unit/test_deploy.py against the reference:

- the side outputs' resizes and sigmoids are dropped; their logits stay where they
  guide a GAB (bit-exact for the final map)
- the Hadamard gates are folded to constants for the fixed input size: they depend
  on parameters only (bit-exact); with ``optimize="size"`` a gate map that is larger than
  twice its grid is made from the grid when the file is run
- nothing but the final 1x1 convolution reads the sum of the last decoder map and GAB1: it is
  taken through the sum and multiplied into GAB1's own last convolution
- everything is NHWC, so that no runtime for phones needs a transpose
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from egeunet.export.graph import Graph, GraphBuilder
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.layers import DILATIONS, GAB, GHPA, ChannelLayerNorm, DepthwiseSeparable


def build_deploy_graph(
    model: EGEUNet, contract: ModelContract, optimize: str = "speed", batch: int = 1
) -> Graph:
    """The inference graph of ``model`` at the contract's size, float32.

    Input: (batch, H, W, input_channels) float32, normalized as the contract says.
    Output: (batch, H, W, num_classes) float32 probability.

    Args:
        model, contract: the reference and what its input is.
        optimize: ``speed`` or ``size``, where the two part.
        batch: images a run takes.

    Raises:
        InputError: a contract for RGB with a network of other input channels.
    """
    builder = new_builder(model, contract, batch)
    with torch.no_grad():
        logits = Translator(builder, optimize).network(model, builder.input)
    return builder.finish(builder.elementwise("sigmoid", logits))


def new_builder(model: EGEUNet, contract: ModelContract, batch: int = 1) -> GraphBuilder:
    """An empty graph with the input that the contract and the network agree on."""
    channels = model.config.input_channels
    if channels != 3:
        raise InputError(f"the contract is for RGB images, the network takes {channels} channels")
    return GraphBuilder((batch, contract.height, contract.width, channels))


class Translator:
    """Appends the reference's modules to a graph; methods take and return value names.

    Attributes:
        large_gate: a Hadamard map of so many values is not stored but made when the file is
            run, whatever is optimized.
    """

    large_gate: float = math.inf

    def __init__(self, builder: GraphBuilder, optimize: str) -> None:
        self.b = builder
        self.optimize = optimize

    def network(self, model: EGEUNet, x: str) -> str:
        """From the image to the final logits."""
        b, skips = self.b, []
        height, width = b.shape(x)[1:3]
        for level in range(1, 6):
            b.scope = f"encoder{level}"
            x = self.down(getattr(model, b.scope)[0], getattr(model, f"ebn{level}"), x)
            skips.append(x)
        b.scope = "encoder6"
        deep = x = b.elementwise("gelu", self.block(model.encoder6[0], x))
        for step in range(1, 6):
            b.scope = f"decoder{step}"
            norm = getattr(model, f"dbn{step}")
            x = self.up(getattr(model, b.scope)[0], norm, x, 1 if step == 1 else 2)
            skip = skips[5 - step]
            if model.config.bridge:
                mask = getattr(model, f"gt_conv{step}")[0] if model.config.guided else None
                b.scope = f"GAB{6 - step}"
                module = getattr(model, b.scope)
                if step == 5:
                    logits = self.bridge_logits(module, model.final, deep, skip, x, mask)
                    b.scope = "final"
                    return b.resize(self.head(model.final, x, logits), height, width)
                skip = self.bridge(module, deep, skip, x, mask)
            deep = skip
            x = b.add(x, skip)
        b.scope = "final"
        return b.resize(self.conv(model.final, x), height, width)

    def down(self, block: nn.Module, norm: nn.GroupNorm, x: str) -> str:
        """One encoder stage: block, GroupNorm, max-pool, GELU."""
        x = self.group_norm(norm, self.block(block, x))
        return self.b.elementwise("gelu", self.b.max_pool(x))

    def up(self, block: nn.Module, norm: nn.GroupNorm, x: str, scale: int) -> str:
        """One decoder stage: block, GroupNorm, resize by ``scale``, GELU."""
        b = self.b
        x = self.group_norm(norm, self.block(block, x))
        return b.elementwise("gelu", b.resize(x, scale * b.shape(x)[1], scale * b.shape(x)[2]))

    def block(self, module: nn.Module, x: str) -> str:
        """A GHPA, or what an ablation has in its place."""
        if isinstance(module, GHPA):
            return self.ghpa(module, x)
        if isinstance(module, DepthwiseSeparable):
            x = self.b.elementwise("gelu", self.conv(module.ldw[0], x))
            return self.conv(module.ldw[2], x)
        return self.conv(module, x)

    def conv(self, module: nn.Module, x: str) -> str:
        """A plain or depthwise convolution with bias."""
        weight, bias, dilation = convolution_arrays(module)
        if dilation is None:
            return self.b.conv2d(x, weight, bias)
        return self.b.depthwise_conv2d(x, weight, bias, dilation)

    def ghpa(self, module: GHPA, x: str) -> str:
        """Group multi-axis Hadamard Product Attention with its gates as constants."""
        b = self.b
        parts = b.split(self.layer_norm(module.norm1, x), 4)
        height, width, channels = b.shape(x)[1:]
        gates = self.gates(module, height, width, np.ones(channels, np.float32))
        mixed = [b.mul(part, gate) for part, gate in zip(parts[:3], gates, strict=True)]
        last = b.elementwise("gelu", self.conv(module.dw[0], parts[3]))
        x = self.layer_norm(module.norm2, b.concat([*mixed, self.conv(module.dw[2], last)]))
        x = b.elementwise("gelu", self.conv(module.ldw[0], x))
        return self.conv(module.ldw[2], x)

    def gates(self, module: GHPA, height: int, width: int, scale: NDArray[np.float32]) -> list[str]:
        """The three Hadamard factors, each times its run of ``scale`` (C,)."""
        b, group = self.b, module.params_xy.shape[1]
        folded = [as_array(gate).transpose(0, 2, 3, 1) for gate in module.gates(height, width)]
        names = [
            b.constant(gate * scale[index * group : (index + 1) * group])
            for index, gate in enumerate(folded)
        ]
        made = self.optimize == "size" or folded[0].size >= self.large_gate
        if made and folded[0].size > 2 * module.params_xy.numel():
            # A map much larger than the grid it is made from: make it when the file is run.
            first, last = module.conv_xy[0], module.conv_xy[2]
            grid = b.constant(as_array(module.params_xy).transpose(0, 2, 3, 1).copy())
            x = self.conv(first, b.resize(grid, height, width))
            weight, bias, _ = convolution_arrays(last)
            scaled = weight * scale[:group].reshape(-1, 1, 1, 1), bias * scale[:group]
            names[0] = b.conv2d(b.elementwise("gelu", x), *scaled)
        return names

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        """Group Aggregation Bridge; ``mask`` makes its guiding logits from ``x``."""
        return self.conv(module.tail_conv[1], self.tail_norm(module, deep, skip, x, mask))

    def bridge_logits(
        self, module: GAB, final: nn.Conv2d, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> str:
        """What ``final`` makes of the bridge's result, without its bias."""
        kernel, bias = behind(module.tail_conv[1], final)
        return self.b.conv2d(self.tail_norm(module, deep, skip, x, mask), kernel, bias)

    def head(self, final: nn.Conv2d, x: str, bridged: str) -> str:
        """Logits of the last decoder map and of what :meth:`bridge_logits` gave."""
        return self.b.add(self.conv(final, x), bridged)

    def tail_norm(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        """A bridge up to its last LayerNorm."""
        mixed = self.branches(module, deep, skip, x, mask)
        return self.layer_norm(module.tail_conv[0], self.b.concat(mixed))

    def branches(
        self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> list[str]:
        """The results of a bridge's four dilated convolutions."""
        b = self.b
        height, width = b.shape(skip)[1:3]
        guide = [] if mask is None else [self.conv(mask, x)]
        deep = b.resize(self.conv(module.pre_project, deep), height, width)
        groups, mixed = len(DILATIONS), []
        parts = zip(module.groups, b.split(deep, groups), b.split(skip, groups), strict=True)
        for branch, from_deep, from_skip in parts:
            joined = b.concat([from_deep, from_skip, *guide])
            mixed.append(self.conv(branch[1], self.layer_norm(branch[0], joined)))
        return mixed

    def layer_norm(self, module: nn.Module, x: str) -> str:
        """LayerNorm over channels, whole."""
        assert isinstance(module, ChannelLayerNorm)
        return self.b.layer_norm(x, as_array(module.weight), as_array(module.bias), module.eps)

    def group_norm(self, module: nn.GroupNorm, x: str) -> str:
        """GroupNorm, whole."""
        gamma, beta = as_array(module.weight), as_array(module.bias)
        return self.b.group_norm(x, gamma, beta, module.num_groups, module.eps)


def convolution_arrays(
    module: nn.Module,
) -> tuple[NDArray[np.float32], NDArray[np.float32], int | None]:
    """Kernel (O, kh, kw, I) and bias of a convolution, dilation None; of a depthwise one
    kernel (1, kh, kw, C), bias and dilation."""
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    weight, bias = as_array(module.weight), as_array(module.bias)
    if module.groups == 1:
        return weight.transpose(0, 2, 3, 1).copy(), bias, None
    return weight.transpose(1, 2, 3, 0).copy(), bias, int(module.dilation[0])


def behind(first: nn.Module, second: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel (O, 1, 1, I) and bias of two 1x1 convolutions in a row, the second's bias left out."""
    kernel, bias, _ = convolution_arrays(first)
    outer = convolution_arrays(second)[0][:, 0, 0]
    return np.tensordot(outer, kernel, 1).astype(np.float32), (outer @ bias).astype(np.float32)


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """A parameter as float32."""
    return tensor.detach().cpu().numpy().astype(np.float32)
