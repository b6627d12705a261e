"""onnxsim: folds constants and removes nodes that do nothing, where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from egeunet.export.onnx.runtime import onnxruntime
from egeunet.model.errors import needs_extra

if TYPE_CHECKING:
    from onnx import ModelProto

#: Largest difference of two probabilities that only rounding has moved apart.
_SAME = 1e-5


def smallest(model: ModelProto) -> ModelProto:
    """``model`` or its simplification by onnxsim, whichever has fewer bytes.

    A simplification counts only if it gives the same output for a random image. In
    EGE-UNet as :mod:`egeunet.export.onnx.operators` writes it onnxsim finds no node to
    remove (and would add names and shapes: 22 KB); it does where norms were lowered before.

    Args:
        model: with one input and one output, both float32 and of fixed shape.

    Raises:
        MissingExtraError: onnxsim or onnxruntime is not installed.
    """
    with needs_extra("onnx"):
        import onnxsim

    simplified, _ = onnxsim.simplify(model)
    # Inferred shapes and node names are for readers; a runtime infers its own.
    del simplified.graph.value_info[:]
    for node in simplified.graph.node:
        node.ClearField("name")
    smaller = simplified.ByteSize() < model.ByteSize()
    return simplified if smaller and _agree(model, simplified) else model


def _agree(model: ModelProto, simplified: ModelProto) -> bool:
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(0).random(shape, np.float32)
    return bool(np.abs(_run(model, image) - _run(simplified, image)).max() <= _SAME)


def _run(model: ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    ort = onnxruntime()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]
