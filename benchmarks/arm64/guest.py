"""Runs inside the emulated machine: one model, some invocations, each between two markers.

    python3.11 guest.py model.tflite|model.onnx INVOCATIONS

Prints one JSON line. Knows nothing of the project; needs numpy and the model's runtime.
The marker is the system call getppid(), which the plug-in watches for.
"""

import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Array = np.ndarray[Any, Any]
#: The runtime with its version, one inference, the outputs of the last one.
Opened = tuple[str, Callable[[], object], Callable[[], list[Array]]]


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


def open_tflite(path: str) -> Opened:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    inputs = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    for detail in inputs:
        interpreter.set_tensor(detail["index"], pattern(detail["shape"], detail["dtype"]))

    def results() -> list[Array]:
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    return "ai-edge-litert " + ai_edge_litert.__version__, interpreter.invoke, results


def open_onnx(path: str) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {"float": "float32", "float16": "float16", "double": "float64"}
    feed = {}
    for detail in session.get_inputs():
        name = detail.type[len("tensor(") : -1]
        shape = [side if isinstance(side, int) else 1 for side in detail.shape]
        feed[detail.name] = pattern(shape, np.dtype(types.get(name, name)))
    kept: list[Array] = []

    def invoke() -> None:
        kept[:] = session.run(None, feed)

    return "onnxruntime " + onnxruntime.__version__, invoke, lambda: kept


def main() -> None:
    path, invocations = sys.argv[1], int(sys.argv[2])
    stop_the_clock()
    opener = open_tflite if path.endswith(".tflite") else open_onnx
    runtime, invoke, results = opener(path)
    for _ in range(invocations):
        os.getppid()
        invoke()
        os.getppid()
    digest = hashlib.sha256()
    outputs = []
    for array in results():
        digest.update(np.ascontiguousarray(array).tobytes())
        mean = float(array.mean(dtype=np.float64))
        outputs.append({"shape": list(array.shape), "dtype": str(array.dtype), "mean": mean})
    maps = [line.split(None, 5) for line in Path("/proc/self/maps").read_text().splitlines()]
    code = [
        {"range": line[0], "offset": line[2], "file": line[5].strip()}
        for line in maps
        if len(line) == 6 and "x" in line[1] and line[5].startswith("/")
    ]
    report = {"runtime": runtime, "outputs": outputs, "sha256": digest.hexdigest(), "maps": code}
    print(json.dumps(report))


main()
