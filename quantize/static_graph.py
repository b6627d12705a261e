"""The deploy form of a network with static norms: every affine folded into a convolution.

What is exact in real arithmetic, and what is not and therefore left to fine-tuning:

- GroupNorm, a GAB's last LayerNorm: into the convolution before, resp. behind (exact)
- a GHPA's first LayerNorm, scale * (x - centre): the subtraction stays, the scale goes into
  the gates and the 1x1 convolution (exact, but for channels whose scale is nearly zero)
- every other LayerNorm has zero padding behind it, which an offset does not commute with: the
  offset becomes a bias behind the convolution (exact but within the padding's reach)
- a Hadamard map larger than its 8 x 8 grid becomes the bilinear enlargement of a grid
  (least squares)
- the GABs of large maps: see dense_bridge.py; GELU: see static_form.py

Norms that are not static are dissolved as export/lean.py does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from egeunet.export.deploy import as_array, convolution_arrays, new_builder
from egeunet.export.graph import Graph, GraphBuilder
from egeunet.export.groups import gather_groups, spread_groups
from egeunet.export.lean import LeanTranslator
from egeunet.export.lean_bridge import layer_norm
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.layers import GAB, GHPA, GRID
from egeunet.quantize.dense_bridge import DenseBridge, dense_bridge
from egeunet.quantize.static_bridge import StaticBridge, static_bridge
from egeunet.quantize.static_folding import (
    absorbed,
    enlarged_from,
    is_static,
    scale_and_centre,
)
from egeunet.quantize.static_form import ReluBuilder, ScaledBuilder, StaticForm
from egeunet.quantize.static_norms import StaticNorm, is_dynamic, norm_names

Array = NDArray[np.float32]
#: A channel's kernel is not enlarged by more than one over this.
_SMALLEST_EVENING = 0.05


@dataclass(frozen=True)
class StaticGraph:
    """A graph, and which of its values stands for which map of the network.

    Attributes:
        graph: of primitive operators, float32.
        taps: place in the network, as :mod:`egeunet.quantize.taps` names it -> value name;
            the value is ``form.factor`` times the map.
        form: the choices it was built by.
    """

    graph: Graph
    taps: dict[str, str]
    form: StaticForm


def build_static_graph(
    model: EGEUNet, contract: ModelContract, form: StaticForm | None = None
) -> StaticGraph:
    """The inference graph of a network some or all of whose norms are static.

    Its structure depends on the configuration, the contract's size and which norms are
    static, never on the values of the weights.
    Input (1, H, W, 3) float32 as the contract normalizes, output (1, H, W, classes).

    Raises:
        InputError: a form that the network's norms do not allow.
    """
    form = form or StaticForm()
    dynamic = [name for name, part in model.named_modules() if is_dynamic(part)]
    if form.gelu == "sigmoid" and dynamic:
        raise InputError(f"gelu {form.gelu!r} needs static norms throughout, {dynamic[0]} is not")
    builder = new_builder(model, contract)
    if form.gelu == "sigmoid":
        builder = ScaledBuilder(builder.shape(builder.input), form.factor)
    elif form.gelu == "relu":
        builder = ReluBuilder(builder.shape(builder.input))
    translator = StaticTranslator(builder, form)
    with torch.no_grad():
        logits = translator.network(model, builder.input)
    # The last decoder map's resize, where the bridge takes what is before it.
    graph = builder.finish(builder.elementwise("sigmoid", logits)).pruned()
    return StaticGraph(graph, translator.taps, form)


def static_names(model: EGEUNet, form: StaticForm) -> tuple[str, ...]:
    """The norms that a form makes static, in the order in which they run.

    Raises:
        InputError: it keeps a norm that there is not.
    """
    names = norm_names(model)
    kept = {
        wanted: [name for name in names if f"{name}.".startswith(f"{wanted}.")]
        for wanted in form.dynamic_norms
    }
    for wanted, found in kept.items():
        if not found:
            raise InputError(
                f"no norm is called {wanted!r}; there are {len(names)}, such as {names[0]}"
            )
    return tuple(name for name in names if not any(name in found for found in kept.values()))


class StaticTranslator(LeanTranslator):
    """Folds static norms; leaves the others to :class:`LeanTranslator`."""

    large_gate = math.inf  # gates() stores a grid of its own

    def __init__(self, builder: GraphBuilder, form: StaticForm) -> None:
        super().__init__(builder, "speed")
        self.form = form
        self.taps: dict[str, str] = {}
        self.pooled_logits: list[str] = []

    def tap(self, name: str) -> str:
        """Remember a value as the output of the scope."""
        self.taps[self.b.scope] = name
        return name

    def block(self, module: nn.Module, x: str, sign: Array | None = None) -> str:
        x = super().block(module, x, sign)
        return self.tap(x) if self.b.scope == "encoder6" else x

    def conv(
        self,
        module: nn.Module,
        x: str,
        sign: Array | None = None,
        input_scale: Array | None = None,
    ) -> str:
        if self.b.scope != "final":
            return super().conv(module, x, sign, input_scale)
        weight, bias, _ = convolution_arrays(module)
        return self.b.conv2d(x, weight / self.form.factor, bias / self.form.factor)

    def down(self, block: nn.Module, norm: nn.Module, x: str) -> str:
        return self.b.elementwise("gelu", self.tap(self.normed_and_pooled(block, norm, x)))

    def normed_and_pooled(self, block: nn.Module, norm: nn.Module, x: str) -> str:
        if isinstance(norm, StaticNorm):
            return self.b.max_pool(self.block(absorbed(block, norm), x))
        assert isinstance(norm, nn.GroupNorm)
        if not self.form.brief_norms:
            return super().normed_and_pooled(block, norm, x)
        sign = np.where(as_array(norm.weight) < 0, -1, 1).astype(np.float32)
        return self.brief_norm(norm, self.b.max_pool(self.block(block, x, sign)), sign)

    def up(self, block: nn.Module, norm: nn.Module, x: str, scale: int) -> str:
        b, x = self.b, self.tap(self.normed(block, norm, x))
        height, width = scale * b.shape(x)[1], scale * b.shape(x)[2]
        if self.form.gelu == "relu":  # before the resize it is the convolution's
            return b.resize(b.elementwise("gelu", x), height, width)
        return b.elementwise("gelu", b.resize(x, height, width))

    def normed(self, block: nn.Module, norm: nn.Module, x: str) -> str:
        if isinstance(norm, StaticNorm):
            return self.block(absorbed(block, norm), x)
        assert isinstance(norm, nn.GroupNorm)
        if not self.form.brief_norms:
            return super().normed(block, norm, x)
        return self.brief_norm(norm, self.block(block, x), np.ones(norm.num_channels, np.float32))

    def brief_norm(self, norm: nn.GroupNorm, x: str, sign: Array) -> str:
        """GroupNorm of a map flipped by ``sign`` with that map's own statistics."""
        b = self.b
        outer, b.scope = b.scope, f"{b.scope}/group_norm"
        channels, groups = norm.num_channels, norm.num_groups
        gather, spread = gather_groups(channels, groups), spread_groups(channels, groups)
        column, none = sign.reshape(-1, 1, 1, 1), np.zeros(channels, np.float32)
        mean = b.conv2d(b.mean(x, (1, 2)), gather * sign, none[:groups])
        centred = b.sub(x, self.row(b.conv2d(mean, spread * column, none), x))
        eps = np.full(groups, norm.eps, np.float32)
        variance = b.conv2d(b.mean(b.mul(centred, centred), (1, 2)), gather, eps)
        gamma = (as_array(norm.weight) * sign).reshape(-1, 1, 1, 1)
        factor = b.conv2d(b.elementwise("rsqrt", variance), spread * gamma, none)
        result = self.affine(centred, factor, b.constant(as_array(norm.bias).reshape(1, 1, 1, -1)))
        b.scope = outer
        return result

    def ghpa(self, module: GHPA, x: str, sign: Array | None = None) -> str:
        if not is_static(module):
            return super().ghpa(module, x, sign)
        b, quarter = self.b, module.params_xy.shape[1]
        height, width, _ = b.shape(x)[1:]
        first, second = module.norm1, module.norm2
        assert isinstance(first, StaticNorm) and isinstance(second, StaticNorm)
        scale, centre = scale_and_centre(first)
        scale2, offset2 = map(as_array, second.scale_and_offset())
        if not self.form.brief_norms:
            x = b.sub(x, b.constant(centre * self.form.factor))
        parts = b.split(x, 4)
        # The second norm's scale comes before the concatenation: channels of like ranges.
        gates = self.gates(module, height, width, scale * scale2)
        mixed = [b.mul(part, gate) for part, gate in zip(parts[:3], gates, strict=True)]
        last = self.conv(module.dw[0], parts[3], input_scale=scale[3 * quarter :])
        weight, bias, _ = convolution_arrays(module.dw[2])
        kept = scale2[3 * quarter :]
        mixed.append(b.depthwise_conv2d(b.elementwise("gelu", last), weight * kept, bias * kept))
        weight, bias, _ = convolution_arrays(module.ldw[0])
        bias = bias + offset2 * weight.sum((0, 1, 2))
        even = self.evening(weight)
        x = b.depthwise_conv2d(b.concat(mixed), weight / even, bias / even)
        return self.conv(module.ldw[2], b.elementwise("gelu", x), sign, input_scale=even)

    def last_layers(self, module: GHPA, x: str, sign: Array | None) -> str:
        """With ``brief_norms`` the second norm's offset is a bias behind the depthwise
        convolution, as a static norm's (exact but within the padding's reach)."""
        if not self.form.brief_norms:
            return super().last_layers(module, x, sign)
        b, norm = self.b, layer_norm(module.norm2)
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        x = self.unscaled_norm(norm, x, np.ones_like(gamma))
        kernel, bias, _ = convolution_arrays(module.ldw[0])
        bias, kernel = bias + beta * kernel.sum((0, 1, 2)), kernel * gamma
        even = self.evening(kernel)
        x = b.elementwise("gelu", b.depthwise_conv2d(x, kernel / even, bias / even))
        return self.conv(module.ldw[2], x, sign, input_scale=even)

    def evening(self, kernel: Array) -> Array:
        """(C,) factors to divide a depthwise kernel's channels by, so that one scale suits all
        (Nagel et al., arXiv:1906.04721); ReLU hands them on to the next convolution."""
        if self.form.kernel_scales != "all-tensor" or self.form.gelu != "relu":
            return np.ones(kernel.shape[3], np.float32)
        peaks = np.abs(kernel).max((0, 1, 2))
        return np.maximum(peaks / peaks.max(), _SMALLEST_EVENING).astype(np.float32)

    def gates(self, module: GHPA, height: int, width: int, scale: Array) -> list[str]:
        names = super().gates(module, height, width, scale)
        full = self.b.values[names[0]].data
        if full is not None and full.size > 2 * module.params_xy.numel():
            grid = self.b.constant(enlarged_from(full, GRID))
            names[0] = self.b.resize(grid, height, width)
        return names

    def scaled_norm(self, norm: nn.Module, x: str) -> tuple[str, Array]:
        if not isinstance(norm, StaticNorm):
            return super().scaled_norm(norm, x)
        scale, centre = scale_and_centre(norm)
        return self.b.sub(x, self.b.constant(centre * self.form.factor)), scale

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        if not is_static(module):
            return self.tap(super().bridge(module, deep, skip, x, mask))
        return self.tap(self.static_bridge(static_bridge(module, mask), deep, skip, x))

    def bridge_logits(
        self, module: GAB, final: nn.Conv2d, deep: str, skip: str, x: str, mask: nn.Conv2d | None
    ) -> str:
        if not is_static(module):
            return super().bridge_logits(module, final, deep, skip, x, mask)
        head = as_array(final.weight)[:, :, 0, 0] / self.form.factor
        return self.static_bridge(static_bridge(module, mask).behind(head), deep, skip, x)

    def static_bridge(self, parts: StaticBridge, deep: str, skip: str, x: str) -> str:
        """A GAB in the form that is asked for at its level."""
        level = int(self.b.scope[-1])
        if level == 1 and self.form.halved_bridge:
            return self.halved(dense_bridge(parts), deep, skip, x)
        if level in self.form.dense_bridges:
            return self.dense(dense_bridge(parts), deep, skip, x)
        if level in self.form.summed_bridges:
            return self.summed(parts, deep, skip, x)
        return self.sliced(parts, deep, skip, x)

    def sliced(self, parts: StaticBridge, deep: str, skip: str, x: str) -> str:
        """A GAB as the reference computes it."""
        b = self.b
        groups = len(parts.kernels)
        guide = [] if parts.guide is None else [self.mix(x, *parts.guide)]
        deep = b.resize(self.mix(deep, *parts.deep), *b.shape(skip)[1:3])
        mixed, evened = [], []
        pairs = zip(b.split(deep, groups), b.split(skip, groups), strict=True)
        for pair, kernel, dilation in zip(pairs, parts.kernels, parts.dilations, strict=True):
            joined, even = b.concat([*pair, *guide]), self.evening(kernel)
            evened.append(even)
            inputs = (joined, b.constant(kernel / even))  # without bias: the tail has it
            shape = b.shape(joined)
            mixed.append(b.add_node("depthwise_conv2d", inputs, shape, dilation=dilation))
        matrix, constant = parts.tail
        constant = constant + matrix @ np.concatenate(parts.biases)
        return self.mix(b.concat(mixed), matrix * np.concatenate(evened), constant)

    def dense(self, parts: DenseBridge, deep: str, skip: str, x: str) -> str:
        """A GAB as dilated convolutions of skip + lifted deep map + mask."""
        b = self.b
        source = b.add(skip, b.resize(self.mix(deep, *parts.deep), *b.shape(skip)[1:3]))
        if parts.guide is not None:
            source = b.add(source, self.mix(x, *parts.guide))
        return self.total(
            [self.dilated(source, parts, i, rate) for i, rate in enumerate(parts.dilations)]
        )

    def summed(self, parts: StaticBridge, deep: str, skip: str, x: str) -> str:
        """A GAB as the reference computes it, but of the sum of its inputs: half of the
        channels, the skip map's, stand for all, and the decoder map for its mask."""
        b, groups = self.b, len(parts.kernels)
        lifted = self.mix(deep, *dense_bridge(parts).deep)
        source = b.add(b.add(skip, b.resize(lifted, *b.shape(skip)[1:3])), x)
        run, slot = b.shape(skip)[3] // groups, parts.kernels[0].shape[3]
        matrix, constant = parts.tail
        constant = constant + matrix @ np.concatenate(parts.biases)
        mixed, columns = [], []
        for index, part in enumerate(b.split(source, groups)):
            kernel = parts.kernels[index][..., run : 2 * run]
            even, begin = self.evening(kernel), index * slot + run
            inputs, rate = (part, b.constant(kernel / even)), parts.dilations[index]
            mixed.append(b.add_node("depthwise_conv2d", inputs, b.shape(part), dilation=rate))
            columns.append(matrix[:, begin : begin + run] * even)
        return self.mix(b.concat(mixed), np.concatenate(columns, axis=1), constant)

    def dilated(self, source: str, parts: DenseBridge, index: int, dilation: int) -> str:
        """One of a dense GAB's convolutions, at a dilation that need not be its own."""
        kernel, bias = parts.kernels[index], parts.biases[index] * np.float32(self.form.factor)
        inputs = (source, self.b.constant(kernel), self.b.constant(bias))
        shape = (*self.b.shape(source)[:3], len(kernel))
        return self.b.add_node("conv2d", inputs, shape, dilation=dilation)

    def halved(self, parts: DenseBridge, deep: str, skip: str, x: str) -> str:
        """GAB1, dense: its undilated convolution; the others, at half their dilation on the
        pooled map, are left for :meth:`head`, which adds them where maps are still small."""
        b = self.b
        lifted = self.mix(deep, *parts.deep)
        if parts.guide is not None:
            lifted = b.add(lifted, self.mix(self.before_resize(x), *parts.guide))
        source = b.add(skip, b.resize(lifted, *b.shape(skip)[1:3]))
        pooled = b.max_pool(source)
        plain = [i for i, rate in enumerate(parts.dilations) if rate == 1]
        wide = [(i, rate // 2) for i, rate in enumerate(parts.dilations) if rate > 1]
        self.pooled_logits = [self.dilated(pooled, parts, i, rate) for i, rate in wide]
        return self.total([self.dilated(source, parts, i, 1) for i in plain])

    def head(self, final: nn.Conv2d, x: str, bridged: str) -> str:
        if not self.pooled_logits:
            return super().head(final, x, bridged)
        low = self.total([self.conv(final, self.before_resize(x)), *self.pooled_logits])
        return self.b.add(self.b.resize(low, *self.b.shape(bridged)[1:3]), bridged)

    def before_resize(self, x: str) -> str:
        """What a resize made ``x`` of."""
        (maker,) = [node for node in self.b.nodes if node.output == x]
        assert maker.op == "resize"
        return maker.inputs[0]
