"""torch.onnx (dynamo) and onnxsim: the usual way to ONNX, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from egeunet.benchmarks.peers.converted import ConvertedPeer, Package
from egeunet.benchmarks.peers.onnx_session import OnnxSession
from egeunet.benchmarks.runtimes import runtime
from egeunet.model.contract import ModelContract

#: Names in the file.
INPUT, OUTPUT = "image", "probability"


@runtime
class TorchOnnx(ConvertedPeer):
    """The reference as torch.onnx exports it and onnxsim simplifies it."""

    name = "torch-onnx"
    suffix = ".onnx"
    packages = (
        Package("onnx", "onnx"),
        Package("onnxscript", "onnxscript"),
        Package("onnxsim", "onnxsim"),
        Package("onnxruntime", "onnxruntime"),
    )

    def convert(self, source: Path, out: Path) -> ModelContract:
        import onnx
        import onnxsim
        import torch

        from egeunet.benchmarks.peers.reference import reference

        network, image, contract = reference(source)
        program = torch.onnx.export(
            network,
            (image,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamo=True,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export gave no program")
        simplified, same = onnxsim.simplify(program.model_proto)
        if not same:
            raise RuntimeError("onnxsim changed the result")
        # Exporter's notes on every node, 0.8 MB: nobody ships them.
        for node in simplified.graph.node:
            del node.metadata_props[:]
        onnx.save(simplified, str(out))
        return contract

    def session(self, path: Path, threads: int) -> OnnxSession:
        return OnnxSession(path, threads)
