"""What a model computes on the phone, image by image, by benchmark_model's file flags.

``--input_layer_value_files`` reads the bytes of the input tensor and ``--output_filepath``
writes those of the output after the last inference (older builds have no second flag, LiteRT's
CompiledModel tool has neither).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egeunet.benchmarks.android.delegates import CPU, DELEGATES, applied, unknown_flags
from egeunet.benchmarks.android.remote_folder import RemoteFolder, died_of
from egeunet.export.runners.litert_runner import LiteRTRunner
from egeunet.export.runners.runner import Pixels, Probability, checked_probability
from egeunet.export.runners.tensor_port import TensorPort
from egeunet.model.errors import InputError
from egeunet.model.metrics import agreement, mask_iou

MODEL = "model.tflite"
TOOL = "benchmark_model"
#: The files' own name need not match (benchmark_model only warns).
_LAYER = "image"
_FLAGS = ("--input_layer_value_files", "--output_filepath", "--input_layer_shape")


def push_inputs(folder: RemoteFolder, runner: LiteRTRunner, pixels: Pixels) -> None:
    """Copy images to the phone in the form of the model's input tensor.

    Args:
        pixels: uint8 (N, H, W, 3) at the model's size.

    Raises:
        InputError: the storage is full, or the phone is gone.
    """
    stored = runner.input_port.quantize(runner.contract.normalize(pixels))  # (N, H, W, 3)
    folder.shell("rm -rf inputs outputs && mkdir outputs", "making folders on the phone")
    with tempfile.TemporaryDirectory() as name:
        local = Path(name) / "inputs"
        local.mkdir()
        for index, image in enumerate(stored):
            (local / f"{index}.raw").write_bytes(np.ascontiguousarray(image).tobytes())
        folder.push(local, "inputs", f"{len(stored)} images")


#: Of each image its probability, float32 (H, W), or in words why there is none.
Outputs = list[NDArray[np.float32] | str]


def device_outputs(
    folder: RemoteFolder,
    path: Path,
    runner: LiteRTRunner,
    ids: Sequence[str],
    delegate: str,
    seconds: int,
) -> Outputs | str:
    """Run the images of :func:`push_inputs` one after another.

    Args:
        runner: of the file that lies on the phone as ``model.tflite``.
        ids: names of the images, for messages.

    Returns:
        An entry for each image, or in words why this benchmark_model gives none at all.

    Raises:
        InputError: benchmark_model fails on the CPU, its output has a wrong size, or the
            phone is gone.
    """
    shape = ",".join(map(str, runner.input_port.shape))
    for index, id in enumerate(ids):
        arguments = [
            f"--graph={MODEL}",
            DELEGATES[delegate].flag,
            "--num_threads=1",
            "--num_runs=1",
            "--min_secs=0",
            "--warmup_runs=0",
            "--warmup_min_secs=0",
            f"--input_layer={_LAYER}",
            f"--input_layer_shape={shape}",
            f"--input_layer_value_files={_LAYER}:inputs/{index}.raw",
            f"--output_filepath=outputs/{index}.raw",
        ]
        doing = f"running {path.name} on image {id}"
        code, output = folder.execute(TOOL, arguments, affinity=None, doing=doing, seconds=seconds)
        missing = [flag for flag in unknown_flags(output) if flag in _FLAGS]
        if missing:
            return f"this benchmark_model does not know {', '.join(missing)}"
        if code:
            reason = f"{doing}: benchmark_model {died_of(code) or f'ended with {code}'}"
            if delegate == CPU:
                raise InputError(reason)
            return reason
        if delegate != CPU and applied(delegate, output).share in ("none", None):
            return applied(delegate, output).reason
    return _read(folder, path, runner.output_port, ids)


def _read(folder: RemoteFolder, path: Path, port: TensorPort, ids: Sequence[str]) -> Outputs | str:
    written = folder.shell("ls outputs | wc -l", "counting outputs on the phone").strip()
    if written != str(len(ids)):
        return f"this benchmark_model wrote {written} outputs for {len(ids)} images"
    with tempfile.TemporaryDirectory() as name:
        local = Path(name) / "outputs"
        folder.pull("outputs", local, "outputs")
        arrays = [_array(local / f"{i}.raw", port, id) for i, id in enumerate(ids)]
    blank = np.zeros((1, *port.shape[1:3], 3), np.uint8)
    outputs: Outputs = []
    for array in arrays:
        try:
            checked = checked_probability(path, port.dequantize(array), blank)
            outputs.append(checked[0, ..., 0])
        except InputError as error:  # half precision may overflow to NaN on some images
            outputs.append(str(error))
    return outputs


def _array(file: Path, port: TensorPort, id: str) -> NDArray[Any]:
    data = file.read_bytes()
    want = int(np.prod(port.shape)) * np.dtype(port.dtype).itemsize
    if len(data) != want:
        raise InputError(f"the output for image {id} has {len(data)} bytes, expected {want}")
    return np.frombuffer(data, port.dtype).reshape(port.shape)


def compare(outputs: Outputs, host: Probability, threshold: float) -> dict[str, Any]:
    """Masks and probabilities of the phone beside those of this machine, the same file.

    Args:
        outputs: of the phone; one that is missing counts as a mask without a lesion.
        host: float32 (N, H, W, 1), of this machine.
    """
    missing = [isinstance(each, str) for each in outputs]
    device = np.stack([np.zeros_like(h[..., 0]) if isinstance(d, str) else d
                       for d, h in zip(outputs, host, strict=True)])[..., None]  # fmt: skip
    a, b = device >= threshold, host >= threshold
    difference = np.abs(device - host)
    return {
        "images": len(device),
        "identical_masks": int((a == b).all(axis=(1, 2, 3)).sum()),
        "mask_agreement": agreement(a, b),
        "mask_iou": mask_iou(a, b),
        "max_abs_diff": float(difference.max()),
        "mean_abs_diff": float(difference.mean()),
        "non_finite": sum(missing),
    }
