"""The deploy form of a network with static norms: every affine folded into a convolution.

What is exact in real arithmetic, and what is not and therefore left to fine-tuning:

- GroupNorm, a GAB's last LayerNorm: into the convolution before, resp. behind (exact)
- a GHPA's first LayerNorm, scale * (x - centre): the subtraction stays, the scale goes into
  the gates and the 1x1 convolution (exact, but for channels whose scale is nearly zero)
- every other LayerNorm has zero padding behind it, which an offset does not commute with: the
  offset becomes a bias behind the convolution (exact but within the padding's reach)
- a Hadamard map larger than a grid of ``hadamard_side`` becomes the bilinear enlargement of
  one (least squares)
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
from egeunet.export.lean_bridge import layer_norm
from egeunet.model.contract import ModelContract
from egeunet.model.egeunet import EGEUNet
from egeunet.model.errors import InputError
from egeunet.model.layers import GAB, GHPA
from egeunet.quantize.small_maps import SmallMaps
from egeunet.quantize.static_bridge import static_bridge
from egeunet.quantize.static_folding import (
    absorbed,
    enlarged_from,
    is_static,
    scale_and_centre,
)
from egeunet.quantize.static_form import ReluBuilder, ScaledBuilder, StaticForm
from egeunet.quantize.static_norms import StaticNorm, is_dynamic, norm_names

Array = NDArray[np.float32]


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
    _check_attention(model, form)
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


def _check_attention(model: EGEUNet, form: StaticForm) -> None:
    known = [name for name, part in model.named_children() for one in part.children()
             if isinstance(one, GHPA)]  # fmt: skip
    for name in form.brief_attention:
        if name not in known:
            raise InputError(f"no GHPA is called {name!r}; there are {', '.join(known) or 'none'}")


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


class StaticTranslator(SmallMaps):
    """Folds static norms; leaves the others to :class:`LeanTranslator`."""

    large_gate = math.inf  # gates() stores a grid of its own

    def __init__(self, builder: GraphBuilder, form: StaticForm) -> None:
        super().__init__(builder, form)
        self.taps: dict[str, str] = {}

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
        if self.is_small(x) and self.has_groups_as_axis(x):
            return self.b.max_pool(self.normed(block, norm, x))
        assert isinstance(norm, nn.GroupNorm)
        return super().normed_and_pooled(block, norm, x)

    def up(self, block: nn.Module, norm: nn.Module, x: str, scale: int) -> str:
        b, x = self.b, self.tap(self.normed(block, norm, x))
        height, width = scale * b.shape(x)[1], scale * b.shape(x)[2]
        halved = self.form.halved_bridge and self.b.scope == "decoder5"
        if halved or self.form.gelu == "relu":  # before the resize it is the convolution's
            return b.resize(b.elementwise("gelu", x), height, width)
        return b.elementwise("gelu", b.resize(x, height, width))

    def normed(self, block: nn.Module, norm: nn.Module, x: str) -> str:
        if isinstance(norm, StaticNorm):
            return self.block(absorbed(block, norm), x)
        assert isinstance(norm, nn.GroupNorm)
        return super().normed(block, norm, x)

    def group_affine(
        self, norm: nn.GroupNorm, x: str, target: str, sign: Array, bias: Array | None = None
    ) -> str:
        """With ``brief_norms`` the statistics are those of the target itself."""
        if self.form.brief_norms:
            x = target
        brief = self.form.brief_norms or (x == target and self.is_small(x))
        if brief and bias is None and self.has_groups_as_axis(x):
            return self.grouped_affine(norm, x, sign)
        return super().group_affine(norm, x, target, sign, bias)

    def centres(self, x: str) -> bool:
        """Not where sums are float32 of integers: those have digits to spare."""
        return self.form.brief_norms or (not self.form.float_pixels and super().centres(x))

    def deviation(self, square: str, mean: str, eps: float) -> str:
        """Without a floor where sums are float32 of integers, as :meth:`centres`."""
        if not self.form.float_pixels:
            return super().deviation(square, mean, eps)
        return self.b.elementwise("rsqrt", self.b.sub(square, self.b.mul(mean, mean)))

    def row(self, vector: Array | str, like: str) -> str:
        """On small maps a call a pixel is less than what repeats the vector."""
        if isinstance(vector, str) and self.is_small(like):
            return vector
        return super().row(vector, like)

    def average(self, x: str) -> str:
        if self.form.brief_norms or self.is_small(x):
            return self.b.mean(x, (1, 2))
        return super().average(x)

    def ghpa(self, module: GHPA, x: str, sign: Array | None = None) -> str:
        if self.b.scope in self.form.brief_attention:
            return self.last_layers(module, x, sign)
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
        even = self.handed_on(weight)
        x = b.depthwise_conv2d(b.concat(mixed), weight / even, bias / even)
        return self.conv(module.ldw[2], b.elementwise("gelu", x), sign, input_scale=even)

    def last_layers(self, module: GHPA, x: str, sign: Array | None) -> str:
        """With ``brief_norms``, and on small maps, the second norm's offset is a bias behind the
        depthwise convolution, as a static norm's (exact but within the padding's reach). With
        the former it does not centre either."""
        small = self.is_small(x)
        if isinstance(module.norm2, StaticNorm) or not (small or self.form.brief_norms):
            return super().last_layers(module, x, sign)
        b, norm = self.b, layer_norm(module.norm2)
        gamma, beta = as_array(norm.weight), as_array(norm.bias)
        x = self.in_layer_norm(x) if small else self.divided(x, np.ones_like(gamma), norm.eps)
        kernel, bias, _ = convolution_arrays(module.ldw[0])
        bias, kernel = bias + beta * kernel.sum((0, 1, 2)), kernel * gamma
        even = self.handed_on(kernel)
        x = b.elementwise("gelu", b.depthwise_conv2d(x, kernel / even, bias / even))
        return self.conv(module.ldw[2], x, sign, input_scale=even)

    def handed_on(self, kernel: Array) -> Array:
        """:meth:`evening` where an activation follows: ReLU commutes with it, GELU does not."""
        relu = self.form.gelu == "relu"
        return self.evening(kernel) if relu else np.ones(kernel.shape[3], np.float32)

    def gates(self, module: GHPA, height: int, width: int, scale: Array) -> list[str]:
        names, side = super().gates(module, height, width, scale), self.form.hadamard_side
        full = self.b.values[names[0]].data
        if full is not None and full.shape[1] > side:
            names[0] = self.b.resize(self.b.constant(enlarged_from(full, side)), height, width)
        return names

    def scaled_norm(self, norm: nn.Module, x: str) -> tuple[str, Array]:
        if not isinstance(norm, StaticNorm):
            return super().scaled_norm(norm, x)
        scale, centre = scale_and_centre(norm)
        return self.b.sub(x, self.b.constant(centre * self.form.factor)), scale

    def bridge(self, module: GAB, deep: str, skip: str, x: str, mask: nn.Conv2d | None) -> str:
        if int(self.b.scope[-1]) in self.form.dropped_bridges:
            return self.tap(skip)
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
