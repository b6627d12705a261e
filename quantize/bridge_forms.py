"""The forms that a GAB with static norms can have in the graph; static_form.py names them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from egeunet.export.graph import GraphBuilder
from egeunet.export.lean import LeanTranslator
from egeunet.model.errors import InputError
from egeunet.quantize.dense_bridge import DenseBridge, dense_bridge
from egeunet.quantize.grids import ONE_SCALE
from egeunet.quantize.static_bridge import StaticBridge
from egeunet.quantize.static_form import StaticForm

Array = NDArray[np.float32]
#: A channel's kernel is not enlarged by more than one over this.
_SMALLEST_EVENING = 0.05


class BridgeForms(LeanTranslator):
    """Appends static GABs, each in the form that is asked for at its level."""

    def __init__(self, builder: GraphBuilder, form: StaticForm) -> None:
        super().__init__(builder, "speed")
        self.form = form
        self.pooled_logits: list[str] = []

    def evening(self, kernel: Array) -> Array:
        """(C,) factors to divide a depthwise kernel's channels by, so that one scale suits all
        (Nagel et al., arXiv:1906.04721); what follows must hand them on to the next convolution."""
        if self.form.kernel_scales not in ONE_SCALE:
            return np.ones(kernel.shape[3], np.float32)
        peaks = np.abs(kernel).max((0, 1, 2))
        return np.maximum(peaks / peaks.max(), _SMALLEST_EVENING).astype(np.float32)

    def static_bridge(self, parts: StaticBridge, deep: str, skip: str, x: str) -> str:
        """A GAB in the form that is asked for at its level.

        Raises:
            InputError: its last norm is dynamic, and the form has no place for it.
        """
        level = int(self.b.scope[-1])
        if parts.eps is not None and level in (*self.form.dense_bridges, *self.form.summed_bridges):
            raise InputError(
                f"GAB{level} is among dense_bridges or summed_bridges, which have no place for "
                "a dynamic norm, and its last one is dynamic"
            )
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
        guide = [] if parts.guide is None else [self.rectified(self.mix(x, *parts.guide))]
        deep = b.resize(self.rectified(self.mix(deep, *parts.deep)), *b.shape(skip)[1:3])
        mixed, evened = [], []
        pairs = zip(b.split(deep, groups), b.split(skip, groups), strict=True)
        for pair, kernel, dilation in zip(pairs, parts.kernels, parts.dilations, strict=True):
            joined, even = b.concat([*pair, *guide]), self.evening(kernel)
            evened.append(even)
            inputs = (joined, b.constant(kernel / even))  # without bias: the tail has it
            shape = b.shape(joined)
            mixed.append(b.add_node("depthwise_conv2d", inputs, shape, dilation=dilation))
        matrix, constant = parts.tail
        even, x = np.concatenate(evened), b.concat(mixed)
        # Behind a division this is not where they belong, but an affair of fine-tuning.
        constant = constant + matrix @ np.concatenate(parts.biases)
        if parts.eps is not None:
            x = self.divided(x, even, parts.eps)
        return self.mix(x, matrix * even, constant)

    def rectified(self, x: str) -> str:
        """The positive part, at the levels where the form says so."""
        level = int(self.b.scope[-1])
        return self.b.elementwise("relu", x) if level in self.form.rectified_bridges else x

    def divided(self, x: str, factors: Array, eps: float) -> str:
        """Channels over the root of the mean square of ``factors`` times them."""
        b = self.b
        with b.within("layer_norm"):
            gather = (factors**2 / len(factors)).astype(np.float32).reshape(1, 1, 1, -1)
            return b.mul(x, self.inverse_root(x, gather, eps))

    def dense(self, parts: DenseBridge, deep: str, skip: str, x: str) -> str:
        """A GAB as dilated convolutions of skip + lifted deep map + mask."""
        b = self.b
        source = b.add(skip, b.resize(self.mix(deep, *parts.deep), *b.shape(skip)[1:3]))
        if parts.guide is not None:
            source = b.add(source, self.mix(x, *parts.guide))
        source = self.rectified(source)
        return self.total(
            [self.dilated(source, parts, i, rate) for i, rate in enumerate(parts.dilations)]
        )

    def summed(self, parts: StaticBridge, deep: str, skip: str, x: str) -> str:
        """A GAB as the reference computes it, but of the sum of its inputs: half of the
        channels, the skip map's, stand for all, and the decoder map for its mask."""
        b, groups = self.b, len(parts.kernels)
        lifted = self.mix(deep, *dense_bridge(parts).deep)
        source = b.add(b.add(skip, b.resize(lifted, *b.shape(skip)[1:3])), x)
        source = self.rectified(source)
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
        source = self.rectified(b.add(skip, b.resize(lifted, *b.shape(skip)[1:3])))
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
