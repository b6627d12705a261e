"""Runs inside the emulated machine: one model, counted or on given inputs.

    python3.11 guest.py MODEL HEIGHT WIDTH count INVOCATIONS    each between two markers
    python3.11 guest.py MODEL HEIGHT WIDTH run                  inputs.npy -> outputs.npy

MODEL is a .tflite or .onnx file; height and width are for one that leaves them open; the
arrays are (K, ...), a row for each inference. Prints one JSON line. Knows nothing of the
project; needs numpy and the model's runtime. The marker is the system call getppid(), which
the plug-in watches for.
"""

import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Array = np.ndarray[Any, Any]


@dataclass
class Opened:
    """A model in its runtime.

    Attributes:
        report: what the host is told of it.
        feed: set the inputs, in the model's order.
        invoke: one inference on them.
        results: the outputs of the last one.
    """

    report: dict[str, Any]
    feed: Callable[[list[Array]], None]
    invoke: Callable[[], object]
    results: Callable[[], list[Array]]


def stop_the_clock() -> None:
    """From here on it is always the same time.

    ONNX Runtime reads the clock in every run and now and then reports how long they took:
    with real time, a count would depend on the speed of the emulator. So the first
    instructions of libc's clock_gettime(clock, x1) become those of one that gives zero.
    """
    code = (0xA9007C3F, 0x52800000, 0xD65F03C0)  # stp xzr, xzr, [x1]; mov w0, #0; ret
    libc = ctypes.CDLL(None)
    target = ctypes.cast(libc.clock_gettime, ctypes.c_void_p).value or 0
    page = target & -4096
    every_access = 7  # PROT_READ | PROT_WRITE | PROT_EXEC
    if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(8192), every_access):
        raise OSError("cannot write to the code of libc")
    ctypes.memmove(target, np.array(code, dtype=np.uint32).tobytes(), 4 * len(code))


def pattern(shape: list[int], dtype: DTypeLike) -> Array:
    """The same input always: bytes that look random, or the same as fractions of 255."""
    count = int(np.prod(shape))
    integers = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) >> np.uint64(13)
    values = (integers & np.uint64(255)).astype(np.uint8)
    if np.issubdtype(dtype, np.floating):
        return (values.astype(np.float32) / 255).astype(dtype).reshape(shape)
    return values.astype(dtype).reshape(shape)  # int8: the upper half wraps to negative


def open_tflite(path: str, *_: int) -> Opened:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    inputs = interpreter.get_input_details()
    outputs = interpreter.get_output_details()

    def feed(arrays: list[Array]) -> None:
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)

    def results() -> list[Array]:
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    report = {
        "runtime": "ai-edge-litert " + ai_edge_litert.__version__,
        "inputs": [port(detail) for detail in inputs],
        "outputs": [port(detail) for detail in outputs],
        "operators": operators(interpreter),
    }
    return Opened(report, feed, interpreter.invoke, results)


def port(detail: dict[str, Any]) -> dict[str, Any]:
    """Shape, type and quantization of an input or output of LiteRT's."""
    scales = detail["quantization_parameters"]["scales"].tolist()
    zero_points = detail["quantization_parameters"]["zero_points"].tolist()
    shape, dtype = detail["shape"].tolist(), np.dtype(detail["dtype"]).name
    return {"shape": shape, "dtype": dtype, "scales": scales, "zero_points": zero_points}


def operators(interpreter: Any) -> list[dict[str, Any]]:
    """The nodes of the graph as LiteRT prepared it: the file's, then one for each delegate."""
    return [
        {
            "name": node["op_name"],
            "inputs": [int(index) for index in node["inputs"]],
            "outputs": [int(index) for index in node["outputs"]],
            "shape": interpreter._interpreter.TensorSize(int(node["outputs"][0]), 0).tolist(),
        }
        for node in interpreter._get_ops_details()
        if len(node["outputs"])
    ]


def open_onnx(path: str, height: int, width: int) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {"float": "float32", "double": "float64"}
    open_sides = (1, 1, height, width)  # (N, C, H, W)
    inputs = [
        {
            "shape": [
                side if isinstance(side, int) else open_sides[min(axis, 3)]
                for axis, side in enumerate(detail.shape)
            ],
            "dtype": types.get(name := detail.type[len("tensor(") : -1], name),
        }
        for detail in session.get_inputs()
    ]
    names = [detail.name for detail in session.get_inputs()]
    fed: dict[str, Array] = {}
    kept: list[Array] = []

    def feed(arrays: list[Array]) -> None:
        fed.update(zip(names, arrays, strict=True))

    def invoke() -> None:
        kept[:] = session.run(None, fed)

    report = {
        "runtime": "onnxruntime " + onnxruntime.__version__,
        "inputs": inputs,
        "metadata": session.get_modelmeta().custom_metadata_map,
    }
    return Opened(report, feed, invoke, lambda: kept)


def count(model: Opened, invocations: int) -> dict[str, Any]:
    """Run on the pattern, each invocation between two markers."""
    model.feed([pattern(port["shape"], np.dtype(port["dtype"])) for port in model.report["inputs"]])
    for _ in range(invocations):
        os.getppid()
        model.invoke()
        os.getppid()
    digest = hashlib.sha256()
    results = []
    for array in model.results():
        digest.update(np.ascontiguousarray(array).tobytes())
        mean = float(array.mean(dtype=np.float64))
        results.append({"shape": list(array.shape), "dtype": str(array.dtype), "mean": mean})
    maps = [line.split(None, 5) for line in Path("/proc/self/maps").read_text().splitlines()]
    code = [
        {"range": line[0], "offset": line[2], "file": line[5].strip()}
        for line in maps
        if len(line) == 6 and "x" in line[1] and line[5].startswith("/")
    ]
    return {"results": results, "sha256": digest.hexdigest(), "maps": code}


def run(model: Opened) -> dict[str, Any]:
    """One inference for each row of inputs.npy; the first output of each into outputs.npy."""
    outputs = []
    for row in np.load("inputs.npy", mmap_mode="r", allow_pickle=False):
        model.feed([np.ascontiguousarray(row)])
        model.invoke()
        outputs.append(np.array(model.results()[0]))
    np.save("outputs.npy", np.stack(outputs), allow_pickle=False)
    return {}


def main() -> None:
    path, task = sys.argv[1], sys.argv[4]
    stop_the_clock()
    opener = open_tflite if path.endswith(".tflite") else open_onnx
    model = opener(path, int(sys.argv[2]), int(sys.argv[3]))
    done = count(model, int(sys.argv[5])) if task == "count" else run(model)
    print(json.dumps({**model.report, **done}))


main()
